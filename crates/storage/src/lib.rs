//! Model transfer: object stores to a content-addressed cache.
//!
//! In: a URI (`file`, `https`, `s3`, `gs`, `az`). Out: a path on this machine that holds exactly
//! that content. Knows nothing of models: a file or a folder of files is all it sees.

mod cache;
mod credentials;
mod digest;
mod download;
mod error;
mod fault;
mod fetch;
mod key;
mod local;
mod location;
mod meter;
mod partial;
mod remote;
mod space;
mod update;

pub use credentials::Credentials;
pub use error::StorageError;
pub use fetch::{FetchOptions, Fetched, Progress, Source, Stage, fetch};
