//! Compiles a resource and facts to a plan that both back ends run. Pure.
