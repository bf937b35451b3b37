//! Loading a candidate once to see that it is what it says.

use std::ffi::CStr;
use std::path::Path;

use ort::sys;

use super::elf;

/// A library that works.
pub(super) struct Verified {
    pub(super) version: String,
    /// Address of the library's interface: the same file found under two names has one.
    pub(super) interface: usize,
}

/// Loads the library and reads its version. It stays loaded: unloading ONNX Runtime is not safe,
/// and the chosen one is needed anyway.
pub(super) fn verify(path: &Path) -> Result<Verified, String> {
    // A bare name is looked up by the loader.
    if path.components().nth(1).is_some() {
        if !path.is_file() {
            return Err("there is no such file".to_owned());
        }
        elf::check_whole(path)?;
    }
    // SAFETY: loading runs the library's initialisers. Only places that the user controls are
    // searched, and a file that would crash the loader was refused above.
    let library = unsafe { libloading::Library::new(path) }
        .map_err(|error| format!("it does not load: {}", loader_message(&error)))?;
    let library = std::mem::ManuallyDrop::new(library);
    type GetApiBase = unsafe extern "C" fn() -> *const sys::OrtApiBase;
    // SAFETY: the symbol has this type in every release of ONNX Runtime.
    let base = unsafe { library.get::<GetApiBase>(b"OrtGetApiBase\0") }
        .map_err(|_| "it is not ONNX Runtime: it has no OrtGetApiBase".to_owned())?;
    // SAFETY: the base and the version string are static data of the library, which stays loaded.
    let (version, has_api, interface) = unsafe {
        let Some(base) = base().as_ref() else {
            return Err("it returns no interface".to_owned());
        };
        let version = CStr::from_ptr((base.GetVersionString)()).to_string_lossy().into_owned();
        let has_api = is_recent(&version) && !(base.GetApi)(sys::ORT_API_VERSION).is_null();
        (version, has_api, std::ptr::from_ref(base).addr())
    };
    if has_api {
        Ok(Verified { version, interface })
    } else {
        Err(format!("it is version {version}, and 1.{} or newer is needed", sys::ORT_API_VERSION))
    }
}

/// Asked before the interface is, because an older library prints to stderr when asked for one that
/// it lacks.
fn is_recent(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let (major, minor) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    major > 1 || major == 1 && minor >= sys::ORT_API_VERSION
}

fn loader_message(error: &libloading::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => cause.to_string(),
        None => error.to_string(),
    }
}
