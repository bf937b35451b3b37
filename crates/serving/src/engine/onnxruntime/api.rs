//! ONNX Runtime's C interface with statuses as errors and handles that release themselves.

use std::ffi::{CStr, c_int};
use std::ptr::NonNull;

use ort::sys;

/// A failed call: ONNX Runtime's error code and its message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(super) struct Failure {
    /// `OrtErrorCode` as a number, because a newer library may know more codes than we do.
    pub(super) code: i32,
    pub(super) message: String,
}

impl Failure {
    /// Whether the library says that the caller's arguments are to blame.
    pub(super) fn is_invalid_argument(&self) -> bool {
        self.code == sys::OrtErrorCode::ORT_INVALID_ARGUMENT as i32
    }

    fn missing(what: &str) -> Self {
        Self {
            code: sys::OrtErrorCode::ORT_FAIL as i32,
            message: format!("ONNX Runtime returned no {what}"),
        }
    }
}

/// The table of functions of the library that is loaded.
#[inline]
pub(super) fn api() -> &'static sys::OrtApi {
    ort::api()
}

/// Turns a status into a result and releases it.
#[inline]
pub(super) fn check(status: sys::OrtStatusPtr) -> Result<(), Failure> {
    if status.0.is_null() { Ok(()) } else { Err(read(status)) }
}

#[cold]
fn read(status: sys::OrtStatusPtr) -> Failure {
    type ReadCode = unsafe extern "system" fn(*const sys::OrtStatus) -> c_int;
    let api = api();
    // SAFETY: the function returns a C enum, which has the representation of an int; reading it as
    // one keeps codes that our enum lacks from being undefined behaviour.
    let read_code = unsafe {
        std::mem::transmute::<
            unsafe extern "system" fn(*const sys::OrtStatus) -> sys::OrtErrorCode,
            ReadCode,
        >(api.GetErrorCode)
    };
    // SAFETY: the status is not null, is ours, and is released once, after its message was copied.
    unsafe {
        let failure = Failure {
            code: read_code(status.0),
            message: CStr::from_ptr((api.GetErrorMessage)(status.0)).to_string_lossy().into_owned(),
        };
        (api.ReleaseStatus)(status.0);
        failure
    }
}

/// An object of ONNX Runtime that we own.
pub(super) struct Handle<T: Release> {
    pointer: NonNull<T>,
}

/// How an object of this kind is given back.
pub(super) trait Release {
    /// Releases the object.
    ///
    /// # Safety
    /// The pointer is an object that the caller owns and no one uses afterwards.
    unsafe fn release(pointer: *mut Self);
}

impl<T: Release> Handle<T> {
    /// Calls a function that writes a new object to its last argument.
    ///
    /// # Safety
    /// On success, `create` must have written an object that the caller owns.
    #[inline]
    pub(super) unsafe fn create(
        create: impl FnOnce(*mut *mut T) -> sys::OrtStatusPtr,
    ) -> Result<Self, Failure> {
        let mut pointer = std::ptr::null_mut();
        check(create(&mut pointer))?;
        // SAFETY: the caller says that what was written is ours.
        unsafe { Self::from_raw(pointer) }
    }

    /// Takes ownership of an object that a call handed out.
    ///
    /// # Safety
    /// The pointer is null or an object that the caller owns.
    #[inline]
    pub(super) unsafe fn from_raw(pointer: *mut T) -> Result<Self, Failure> {
        let pointer =
            NonNull::new(pointer).ok_or_else(|| Failure::missing(std::any::type_name::<T>()))?;
        Ok(Self { pointer })
    }

    #[inline]
    pub(super) fn as_ptr(&self) -> *mut T {
        self.pointer.as_ptr()
    }
}

impl<T: Release> Drop for Handle<T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the handle owns its object and goes away.
        unsafe { T::release(self.pointer.as_ptr()) }
    }
}

macro_rules! releases {
    ($($object:ident by $function:ident),* $(,)?) => {$(
        impl Release for sys::$object {
            #[inline]
            unsafe fn release(pointer: *mut Self) {
                // SAFETY: promised by the caller.
                unsafe { (api().$function)(pointer) }
            }
        }
    )*};
}

releases! {
    OrtCUDAProviderOptionsV2 by ReleaseCUDAProviderOptions,
    OrtMemoryInfo by ReleaseMemoryInfo,
    OrtRunOptions by ReleaseRunOptions,
    OrtSession by ReleaseSession,
    OrtSessionOptions by ReleaseSessionOptions,
    OrtTensorTypeAndShapeInfo by ReleaseTensorTypeAndShapeInfo,
    OrtThreadingOptions by ReleaseThreadingOptions,
    OrtTypeInfo by ReleaseTypeInfo,
    OrtValue by ReleaseValue,
}

// SAFETY: ONNX Runtime's objects are not bound to the thread that made them. Sharing is not claimed
// here: `Sync` is stated where the functions called on a shared object allow it.
unsafe impl<T: Release> Send for Handle<T> {}
