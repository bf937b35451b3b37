//! What this very process takes of GPUs, asked of NVIDIA's management library (NVML) whenever
//! `/metrics` is.
//!
//! The library comes with the driver and is loaded at run time. It names processes by number: where
//! a container has numbers of its own and the driver does not translate them, nothing is known, and
//! nothing is shown rather than what neighbours take.

use std::ffi::{c_char, c_int, c_uint, c_ulonglong, c_void};
use std::fmt;
use std::path::Path;

use libloading::Library;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

/// The library's name with NVIDIA's driver.
const LIBRARY: &str = "libnvidia-ml.so.1";
/// `NVML_SUCCESS`.
const SUCCESS: c_int = 0;
/// `NVML_ERROR_INSUFFICIENT_SIZE`: there are more processes than there was room for.
const INSUFFICIENT_SIZE: c_int = 7;
/// `NVML_VALUE_NOT_AVAILABLE`, such as under Windows' driver model.
const NOT_AVAILABLE: c_ulonglong = c_ulonglong::MAX;
/// Processes on one GPU: MPS serves 48 clients, and tools come and go.
const PROCESSES: usize = 256;
/// A UUID has 40 characters and may grow to 96 (`NVML_DEVICE_UUID_V2_BUFFER_SIZE`).
const UUID: usize = 96;

/// `nvmlDevice_t`.
type Device = *mut c_void;

/// `nvmlProcessInfo_t`, as `nvmlDeviceGetComputeRunningProcesses_v3` fills it.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Process {
    pid: c_uint,
    used: c_ulonglong,
    gpu_instance: c_uint,
    compute_instance: c_uint,
}

type Init = unsafe extern "C" fn() -> c_int;
type Count = unsafe extern "C" fn(*mut c_uint) -> c_int;
type ByIndex = unsafe extern "C" fn(c_uint, *mut Device) -> c_int;
type Uuid = unsafe extern "C" fn(Device, *mut c_char, c_uint) -> c_int;
type Processes = unsafe extern "C" fn(Device, *mut c_uint, *mut Process) -> c_int;

/// The library, ready to be asked.
pub(crate) struct Nvml {
    library: Library,
    pid: u32,
}

impl fmt::Debug for Nvml {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nvml").field("pid", &self.pid).finish_non_exhaustive()
    }
}

impl Nvml {
    /// Loads the driver's own; none where there is no driver.
    pub(crate) fn load() -> Option<Self> {
        Self::open(Path::new(LIBRARY), std::process::id())
    }

    fn open(path: &Path, pid: u32) -> Option<Self> {
        // SAFETY: the library's initialisers are NVIDIA's, which every CUDA program runs too.
        let library = unsafe { Library::new(path) }.ok()?;
        // SAFETY: the symbol has this type in every version of the library since 2013.
        let init = unsafe { library.get::<Init>(b"nvmlInit_v2\0") }.ok()?;
        // SAFETY: it takes nothing; calling it again only counts up.
        if unsafe { init() } != SUCCESS {
            return None;
        }
        Some(Self { library, pid })
    }

    /// Bytes by the GPU's UUID; none of a GPU on which this process is not known.
    fn used(&self) -> Vec<(String, u64)> {
        self.devices().into_iter().filter_map(|device| self.of(device)).collect()
    }

    fn devices(&self) -> Vec<Device> {
        // SAFETY: both symbols have these types in every version of the library.
        let (count, by_index) = unsafe {
            let count = self.library.get::<Count>(b"nvmlDeviceGetCount_v2\0");
            let by_index = self.library.get::<ByIndex>(b"nvmlDeviceGetHandleByIndex_v2\0");
            match (count, by_index) {
                (Ok(count), Ok(by_index)) => (count, by_index),
                _ => return Vec::new(),
            }
        };
        let mut devices = 0;
        // SAFETY: the library was initialised, and writes one number.
        if unsafe { count(&raw mut devices) } != SUCCESS {
            return Vec::new();
        }
        let handle = |index| {
            let mut device: Device = std::ptr::null_mut();
            // SAFETY: the library was initialised, and writes one handle.
            (unsafe { by_index(index, &raw mut device) } == SUCCESS).then_some(device)
        };
        (0..devices).filter_map(handle).collect()
    }

    fn of(&self, device: Device) -> Option<(String, u64)> {
        // SAFETY: the symbol has this type in every library that has it (driver 510 and newer).
        let processes = unsafe {
            self.library.get::<Processes>(b"nvmlDeviceGetComputeRunningProcesses_v3\0").ok()?
        };
        let mut found = [Process::default(); PROCESSES];
        let mut count = c_uint::try_from(PROCESSES).ok()?;
        // SAFETY: there is room for as many as `count` says.
        let code = unsafe { processes(device, &raw mut count, found.as_mut_ptr()) };
        if code != SUCCESS && code != INSUFFICIENT_SIZE {
            return None;
        }
        let known = found.iter().take(usize::try_from(count).ok()?);
        // A process may be there once for each MIG instance.
        let own: Vec<u64> = known
            .filter(|process| process.pid == self.pid && process.used != NOT_AVAILABLE)
            .map(|process| process.used)
            .collect();
        if own.is_empty() {
            return None;
        }
        Some((self.uuid(device)?, own.into_iter().fold(0, u64::saturating_add)))
    }

    fn uuid(&self, device: Device) -> Option<String> {
        // SAFETY: the symbol has this type in every version of the library.
        let uuid = unsafe { self.library.get::<Uuid>(b"nvmlDeviceGetUUID\0").ok()? };
        let mut text = [0_u8; UUID];
        // SAFETY: there is room for as many characters as is said, and the library ends them.
        let code = unsafe { uuid(device, text.as_mut_ptr().cast(), c_uint::try_from(UUID).ok()?) };
        let end = text.iter().position(|byte| *byte == 0)?;
        let text = String::from_utf8_lossy(text.get(..end)?).into_owned();
        (code == SUCCESS).then_some(text)
    }
}

impl Collector for Nvml {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let used = self.used();
        if used.is_empty() {
            return Ok(());
        }
        let mut metric = encoder.encode_descriptor(
            "trainyard_gpu_memory_used_bytes",
            "GPU memory that this process has, as the driver counts it.",
            None,
            MetricType::Gauge,
        )?;
        for (uuid, bytes) in used {
            let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
            ConstGauge::new(bytes).encode(metric.encode_family(&[("gpu", uuid.as_str())])?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    /// A library with NVML's symbols: two GPUs, on the first of which are processes 11 and 12, and on
    /// the second nobody whose memory is known.
    const FAKE: &str = r#"
#include <string.h>
typedef struct { unsigned pid; unsigned long long used; unsigned gi; unsigned ci; } process;
int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned at, void **device) { *device = (void *)(long)(at + 1); return 0; }
int nvmlDeviceGetUUID(void *device, char *text, unsigned size) {
  strncpy(text, device == (void *)1 ? "GPU-a" : "GPU-b", size); return 0;
}
int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, process *all) {
  if (device == (void *)2) { all[0] = (process){11, ~0ull, 0, 0}; *count = 1; return 0; }
  all[0] = (process){12, 4096, 0, 0};
  all[1] = (process){11, 1024, 0, 0};
  all[2] = (process){11, 1024, 1, 0};
  *count = 3;
  return 0;
}
"#;

    fn shown(pid: u32) -> String {
        let folder = tempfile::tempdir().expect("a folder");
        let (source, library) = (folder.path().join("nvml.c"), folder.path().join("libnvml.so"));
        std::fs::write(&source, FAKE).expect("written");
        let mut cc = Command::new("cc");
        let built = cc.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
        assert!(built.expect("a C compiler").success());
        let nvml = Nvml::open(&library, pid).expect("it loads");
        let mut registry = Registry::default();
        registry.register_collector(Box::new(nvml));
        let mut text = String::new();
        encode(&mut text, &registry).expect("text");
        text
    }

    #[test]
    fn only_the_own_process_counts() {
        let text = shown(11);
        assert!(text.contains("trainyard_gpu_memory_used_bytes{gpu=\"GPU-a\"} 2048\n"), "{text}");
        assert!(!text.contains("GPU-b"), "{text}");
        // In a container with numbers of its own.
        assert!(!shown(1).contains("gpu_memory"), "nothing is known of it");
    }

    #[test]
    fn without_a_driver_there_is_nothing_to_ask() {
        assert!(Nvml::open(Path::new("/nowhere/libnvidia-ml.so.1"), 1).is_none());
    }
}
