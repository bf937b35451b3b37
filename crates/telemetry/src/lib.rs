//! Logs, metrics and traces, set up once.
//!
//! In: [`Settings`] and the environment (`RUST_LOG`, `NO_COLOR`, the standard `OTEL_*` variables).
//! Out: a global `tracing` subscriber, spans to an OTLP collector, metrics of the process, and trace
//! context in and out of HTTP headers. Knows nothing of what is logged or served.

mod context;
mod init;
mod logs;
mod process;
mod secret;
mod traces;

pub use context::{inject, is_exporting, set_parent};
pub use init::{Guard, Settings, TelemetryError, init};
pub use logs::LogFormat;
pub use process::ProcessMetrics;
pub use secret::Secret;
