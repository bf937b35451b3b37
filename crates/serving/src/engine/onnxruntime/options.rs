//! Settings of a session.

use std::ffi::{CStr, CString};
use std::path::Path;

use ort::sys;

use super::api::{Failure, Handle, api, check};
use super::pool;
use crate::engine::SessionOptions;

/// Settings for one session, on the CPU or on CUDA.
pub(super) fn session_options(
    wanted: &SessionOptions,
    model_folder: Option<&Path>,
    cuda: bool,
) -> Result<Handle<sys::OrtSessionOptions>, Failure> {
    let api = api();
    // SAFETY: the options are alive, and every string is NUL-terminated and copied by the call.
    unsafe {
        let options = Handle::create(|out| (api.CreateSessionOptions)(out))?;
        match wanted.intra_op_threads {
            None => check((api.DisablePerSessionThreads)(options.as_ptr()))?,
            Some(threads) => {
                let threads = i32::try_from(threads.max(1)).unwrap_or(i32::MAX);
                check((api.SetIntraOpNumThreads)(options.as_ptr(), threads))?;
                set(&options, c"session.intra_op.allow_spinning", c"0")?;
                check((api.SessionOptionsSetCustomCreateThreadFn)(
                    options.as_ptr(),
                    Some(pool::create),
                ))?;
                check((api.SessionOptionsSetCustomJoinThreadFn)(
                    options.as_ptr(),
                    Some(pool::join),
                ))?;
            }
        }
        // Weights stay out of the arena, which would round their sum up to a power of two.
        set(&options, c"session.use_device_allocator_for_initializers", c"1")?;
        if let Some(folder) =
            model_folder.and_then(|folder| CString::new(folder.as_os_str().as_encoded_bytes()).ok())
        {
            // Where a model that comes from memory finds its external data.
            set(&options, c"session.model_external_initializers_file_folder_path", &folder)?;
        }
        if cuda {
            append_cuda(&options, wanted.gpu_memory_limit)?;
        }
        Ok(options)
    }
}

fn set(options: &Handle<sys::OrtSessionOptions>, key: &CStr, value: &CStr) -> Result<(), Failure> {
    // SAFETY: the options are alive and the strings are copied.
    check(unsafe { (api().AddSessionConfigEntry)(options.as_ptr(), key.as_ptr(), value.as_ptr()) })
}

fn append_cuda(
    options: &Handle<sys::OrtSessionOptions>,
    memory_limit: Option<u64>,
) -> Result<(), Failure> {
    let api = api();
    // SAFETY: options and strings are alive, and the library copies what it is given.
    unsafe {
        let cuda = Handle::create(|out| (api.CreateCUDAProviderOptions)(out))?;
        if let Some(limit) = memory_limit {
            let limit = CString::new(limit.to_string()).expect("digits hold no NUL");
            // The arena doubles by default, which overshoots a limit; it grows as asked instead.
            let keys = [c"gpu_mem_limit".as_ptr(), c"arena_extend_strategy".as_ptr()];
            let values = [limit.as_ptr(), c"kSameAsRequested".as_ptr()];
            check((api.UpdateCUDAProviderOptions)(
                cuda.as_ptr(),
                keys.as_ptr(),
                values.as_ptr(),
                keys.len(),
            ))?;
        }
        check((api.SessionOptionsAppendExecutionProvider_CUDA_V2)(options.as_ptr(), cuda.as_ptr()))
    }
}
