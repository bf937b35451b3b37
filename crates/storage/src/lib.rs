//! Transfer from and to object stores.
//!
//! [`fetch`]: a URI (`file`, `https`, `s3`, `gs`, `az`) in, a path on this machine that holds
//! exactly that content out, through a content-addressed cache; [`look()`]: whether there is anything
//! at it. [`objects`]: a folder of objects to
//! write to, where what was written is durable. Knows nothing of models and checkpoints: a file or
//! a folder of files is all it sees.

pub mod authorities;
mod cache;
mod credentials;
mod digest;
mod direct;
mod download;
mod error;
mod fault;
mod fetch;
mod key;
mod local;
mod location;
mod look;
mod meter;
pub mod objects;
mod part;
mod partial;
mod remote;
mod space;
mod update;

pub use credentials::Credentials;
pub use direct::write_past_the_cache;
pub use error::{StorageError, in_full, may_pass};
pub use fetch::{FetchOptions, Fetched, Progress, Source, Stage, fetch};
pub use key::check as check_path;
pub use look::{Found, look, reach};
pub use part::read_part;
pub use space::reserve;
