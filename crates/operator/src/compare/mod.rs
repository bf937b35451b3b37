//! Whether an object of the cluster has all that we want of it.
//!
//! An object is compared by its [`Leaves`]: one number for each value in it, made of the value and
//! the path to it. What is wanted is there if each of its leaves is; what else is there, defaults
//! and fields of others, does not matter. A Deployment is about a kilobyte that way, so that ten
//! thousand of them can wait for their comparison.

mod leaves;
mod quantity;

pub(crate) use leaves::{Leaves, digest};
