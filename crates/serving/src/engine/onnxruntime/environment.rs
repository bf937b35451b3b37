//! The one environment of the process: logging, the shared thread pool, the shared CPU arena.

use std::ffi::{CStr, c_char, c_void};
use std::sync::OnceLock;

use ort::sys;

use super::api::{Failure, Handle, api, check};
use super::pool;

/// What all sessions share. Never released: sessions and tensors may outlive any owner we could
/// give it, and the library cleans up after itself when the process ends.
pub(super) struct Environment {
    pointer: *mut sys::OrtEnv,
    /// Describes CPU memory; inputs are wrapped with it.
    cpu_memory: Handle<sys::OrtMemoryInfo>,
    allocator: *mut sys::OrtAllocator,
}

// SAFETY: the environment, the memory description and the default CPU allocator are immutable after
// creation and documented as usable from any thread.
unsafe impl Send for Environment {}
// SAFETY: see `Send`.
unsafe impl Sync for Environment {}

impl Environment {
    /// The environment, made on first use. The library must have been loaded before.
    pub(super) fn shared(threads: Option<usize>) -> Result<&'static Self, Failure> {
        static SHARED: OnceLock<Result<Environment, Failure>> = OnceLock::new();
        let create = || Self::create(self::threads(threads));
        SHARED.get_or_init(create).as_ref().map_err(Clone::clone)
    }

    pub(super) fn as_ptr(&self) -> *mut sys::OrtEnv {
        self.pointer
    }

    pub(super) fn cpu_memory(&self) -> *const sys::OrtMemoryInfo {
        self.cpu_memory.as_ptr()
    }

    /// The default CPU allocator: plain `malloc`, for strings and names.
    pub(super) fn allocator(&self) -> *mut sys::OrtAllocator {
        self.allocator
    }

    fn create(threads: usize) -> Result<Self, Failure> {
        let api = api();
        // SAFETY: every out pointer is valid for the call, the strings are NUL-terminated, and the
        // logging function may be called from any thread for the life of the process.
        unsafe {
            let pools = Handle::create(|out| (api.CreateThreadingOptions)(out))?;
            let intra = i32::try_from(threads).unwrap_or(i32::MAX);
            check((api.SetGlobalIntraOpNumThreads)(pools.as_ptr(), intra))?;
            // Graphs run node after node (requests are the parallelism), so one thread will do.
            check((api.SetGlobalInterOpNumThreads)(pools.as_ptr(), 1))?;
            check((api.SetGlobalSpinControl)(pools.as_ptr(), 0))?;
            check((api.SetGlobalCustomCreateThreadFn)(pools.as_ptr(), Some(pool::create)))?;
            check((api.SetGlobalCustomJoinThreadFn)(pools.as_ptr(), Some(pool::join)))?;

            let mut pointer = std::ptr::null_mut();
            check((api.CreateEnvWithCustomLoggerAndGlobalThreadPools)(
                log,
                std::ptr::null_mut(),
                sys::OrtLoggingLevel::ORT_LOGGING_LEVEL_WARNING,
                c"trainyard".as_ptr(),
                pools.as_ptr(),
                &mut pointer,
            ))?;
            // Microsoft's builds for some systems report model names and run counts home.
            check((api.DisableTelemetryEvents)(pointer))?;

            let cpu_memory = Handle::create(|out| {
                (api.CreateCpuMemoryInfo)(
                    sys::OrtAllocatorType::OrtArenaAllocator,
                    sys::OrtMemType::OrtMemTypeDefault,
                    out,
                )
            })?;
            let mut allocator = std::ptr::null_mut();
            check((api.GetAllocatorWithDefaultOptions)(&mut allocator))?;
            Ok(Self { pointer, cpu_memory, allocator })
        }
    }
}

/// Threads of the shared pool: as many as are wanted, else the CPUs this process may use, which is
/// the smallest of the host's, the affinity mask and the cgroup's quota.
///
/// The standard library reads all three (`sched_getaffinity`, `cpu.max` of version 2 and
/// `cpu.cfs_quota_us` of version 1 along the path to the root) and rounds a quota down, which is
/// what we want: one thread too many is throttled for the rest of each period.
pub(super) fn threads(wanted: Option<usize>) -> usize {
    wanted.map_or_else(
        || std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        |threads| threads.max(1),
    )
}

/// Passes the library's messages to `tracing`.
///
/// Errors are logged at `debug`: each also comes back as the failure of a call, whose caller knows
/// whether it matters, and clients could fill the log otherwise.
unsafe extern "system" fn log(
    _parameter: *mut c_void,
    severity: sys::OrtLoggingLevel,
    category: *const c_char,
    _session: *const c_char,
    location: *const c_char,
    message: *const c_char,
) {
    let text = |pointer: *const c_char| {
        if pointer.is_null() {
            return String::new();
        }
        // SAFETY: the library passes NUL-terminated strings that live for the length of the call.
        unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
    };
    let (category, location, message) = (text(category), text(location), text(message));
    if severity == sys::OrtLoggingLevel::ORT_LOGGING_LEVEL_FATAL {
        tracing::error!(target: "onnxruntime", category, location, "{message}");
    } else {
        tracing::debug!(target: "onnxruntime", category, location, "{message}");
    }
}
