//! The library's helper threads, which take part in operators of the runs that our threads begin.

use std::ffi::c_void;
use std::thread::JoinHandle;

use ort::sys;

/// Starts one helper.
///
/// Helpers are of the scheduling policy `SCHED_BATCH`: one that is woken does not push a running
/// thread off its core. Where every core already runs a request, a helper could only take turns with
/// it; the caller takes back what no helper has begun. Two runs at once on two cores, with one
/// helper, answer 0.99 of what two sessions of one thread each do, and 0.95 with an ordinary one;
/// a single run has both cores either way.
///
/// # Safety
/// For the library to call, with its own function and parameter.
pub(super) unsafe extern "C" fn create(
    _options: *mut c_void,
    work: sys::OrtThreadWorkerFn,
    parameter: *mut c_void,
) -> sys::OrtCustomThreadHandle {
    let parameter = Parameter(parameter);
    let helper = std::thread::Builder::new().name("operators".to_owned()).spawn(move || {
        yield_to_runs();
        let parameter = parameter;
        // SAFETY: the library's own function with its own parameter, once, on a thread for it.
        unsafe { work(parameter.0) }
    });
    match helper {
        Ok(helper) => Box::into_raw(Box::new(helper)).cast(),
        // The library makes a failure of it.
        Err(_) => std::ptr::null(),
    }
}

/// Waits for a helper to end.
///
/// # Safety
/// `handle` is what [`create`] returned, and is given only once.
pub(super) unsafe extern "C" fn join(handle: sys::OrtCustomThreadHandle) {
    // SAFETY: the caller's promise.
    let helper = unsafe { Box::from_raw(handle.cast_mut().cast::<JoinHandle<()>>()) };
    // A helper that panicked has nothing left to end.
    let _ = helper.join();
}

struct Parameter(*mut c_void);

// SAFETY: the library hands it over to be used on the thread that it asks for.
unsafe impl Send for Parameter {}

fn yield_to_runs() {
    #[cfg(target_os = "linux")]
    {
        let parameter = libc::sched_param { sched_priority: 0 };
        // SAFETY: the parameter is alive; 0 is the calling thread. Where it is not allowed the
        // helper is an ordinary thread.
        unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &parameter) };
    }
}
