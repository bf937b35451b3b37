//! The Kubernetes back end: watches resources, applies what their plans compile to, and reports
//! what came of it.
//!
//! In: the Kubernetes API. Out: server-side applied objects, status and events. Decides nothing
//! itself: objects come from `plan`, decisions from `control`.

pub mod ingress;
