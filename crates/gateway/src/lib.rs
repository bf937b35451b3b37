//! The inference proxy: one hop between clients and replicas.
//!
//! In: connections, and a [`Table`] of services, revisions and endpoints. Out: forwarded requests,
//! and per-service load for the autoscaler. It streams, buffers no bodies, and reads of a body only
//! what names the model.

mod eject;
mod gateway;
mod load;
mod settings;
mod state;
pub mod table;

pub use eject::Ejection;
pub use gateway::Gateway;
pub use load::ServiceLoad;
pub use settings::Settings;
pub use table::Table;
