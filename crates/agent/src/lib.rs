//! What runs beside the work: a look at a node for the doctor, and the first process of a training
//! worker.
//!
//! [`probe()`] looks at GPUs, driver and the kernel's log. In: [`ProbeSettings`]. Out: a [`Probe`],
//! which the doctor takes into its snapshot. Changes nothing, needs no network, and tells what it
//! could not read. [`run`] starts a training program and stays with it to its end.
//!
//! [`nvml`] is NVIDIA's management library, loaded at run time; [`kernel`] the kernel's log, with the
//! Xid errors in it; [`files`] what the driver and the kernel show as files; [`probe()`] puts them
//! together.

mod files;
mod kernel;
mod nvml;
mod probe;
pub mod run;

/// The UUIDs of this machine's NVIDIA GPUs that can be used, in NVML's order. Blocks: with a driver
/// it takes some tenths of a second.
#[must_use]
pub fn gpu_uuids() -> Vec<String> {
    nvml::uuids(std::path::Path::new("/"))
}

pub use files::Files;
pub use kernel::{Kernel, Xid};
pub use nvml::{Ecc, FabricState, Gpu, Link, MemoryMib, Mig, ProcessMib, RemappedRows};
pub use probe::{Driver, Nvml, NvmlState, Probe, ProbeSettings, Unread, probe};
