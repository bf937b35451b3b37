//! NVML: which GPUs there are and how they are.
//!
//! The library comes with the driver and is loaded at run time. What a card or a driver does not
//! support is absent from the answer, as in NVML itself.

mod gpu;
mod library;

use std::path::{Path, PathBuf};

pub use gpu::{Ecc, FabricState, Gpu, Link, MemoryMib, Mig, ProcessMib, RemappedRows};
use library::{Code, Library};

use crate::probe::Driver;

/// What NVML says.
pub(crate) struct Look {
    pub(crate) driver: Driver,
    pub(crate) gpus: Vec<Gpu>,
}

/// Why NVML says nothing.
#[derive(Debug)]
pub(crate) struct Failure {
    /// There is no library.
    pub(crate) is_missing: bool,
    pub(crate) message: String,
}

/// Where drivers put it, below the node's root; the GPU operator's driver has a root of its own.
const PLACES: [&str; 6] = [
    "usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1",
    "usr/lib/aarch64-linux-gnu/libnvidia-ml.so.1",
    "usr/lib64/libnvidia-ml.so.1",
    "run/nvidia/driver/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1",
    "run/nvidia/driver/usr/lib64/libnvidia-ml.so.1",
    "home/kubernetes/bin/nvidia/lib64/libnvidia-ml.so.1",
];

/// More GPUs than any node has: a library that says more is not believed.
const MOST_GPUS: u32 = 256;

pub(crate) fn look(path: Option<&Path>, root: &Path) -> Result<Look, Failure> {
    let library = load(path, root)?;
    let session = library.start().map_err(|code| failed(&library, "nvmlInit", code))?;
    let driver = Driver {
        version: session.driver_version().unwrap_or_default(),
        cuda: session.cuda_version().map(cuda).unwrap_or_default(),
    };
    let count = session.count().map_err(|code| failed(&library, "nvmlDeviceGetCount", code))?;
    let gpus = (0..count.min(MOST_GPUS)).map(|index| gpu::look(&session, index)).collect();
    Ok(Look { driver, gpus })
}

/// The UUIDs of the GPUs that can be used, in NVML's order; none where there is no driver.
pub(crate) fn uuids(root: &Path) -> Vec<String> {
    let Ok(library) = load(None, root) else { return Vec::new() };
    let Ok(session) = library.start() else { return Vec::new() };
    let count = session.count().unwrap_or(0).min(MOST_GPUS);
    let uuid = |index| {
        let device = session.device(index).ok()?;
        session.text_of(c"nvmlDeviceGetUUID", device).ok()
    };
    (0..count).filter_map(uuid).collect()
}

/// 12080 is 12.8.
fn cuda(version: i32) -> String {
    format!("{}.{}", version / 1000, version % 1000 / 10)
}

fn failed(library: &Library, what: &str, code: Code) -> Failure {
    Failure { is_missing: false, message: format!("{what}: {}", library.words(code)) }
}

fn load(path: Option<&Path>, root: &Path) -> Result<Library, Failure> {
    let candidates: Vec<PathBuf> = match path {
        Some(path) => vec![path.to_owned()],
        None => {
            let below = PLACES.iter().map(|place| root.join(place)).filter(|path| path.exists());
            std::iter::once(PathBuf::from("libnvidia-ml.so.1")).chain(below).collect()
        }
    };
    let mut last = String::new();
    let mut is_there = false;
    for candidate in &candidates {
        match Library::load(candidate) {
            Ok(library) => return Ok(library),
            Err(error) => {
                // The loader's own search finds none on a node without a driver.
                is_there |= candidate.exists();
                last = error;
            }
        }
    }
    Err(Failure { is_missing: !is_there, message: last })
}

#[test]
fn versions_of_cuda() {
    assert_eq!(cuda(12080), "12.8");
    assert_eq!(cuda(13010), "13.1");
}
