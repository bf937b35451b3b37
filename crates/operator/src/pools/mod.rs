//! GPU pools: which nodes each has, what those announce and who has it, and what pools mean to
//! services.
//!
//! Watches ([`watch`]) put pools, nodes and pods with GPUs into [`Pools`]; what the pools mean to
//! services is read from there by every compilation, and a change of it wakes the services. While
//! this operator leads, [`act`] applies what pools are made of, marks nodes where it may, and writes
//! each pool's status, which the pure function in [`verdict`] decides. [`inventory`] is pure too, and
//! what `trainyard gpu` shows.

mod act;
pub mod inventory;
mod known;
mod marks;
mod verdict;
mod watch;

pub(crate) use act::{Acting, act};
pub use known::Pools;
pub(crate) use watch::{follow, is_served};
