//! Gives freed memory back to the system.

/// Returns to the system what `free` has kept in the process.
///
/// ONNX Runtime reads a model to a tree, copies the weights out of it, and often lays them out once
/// more for its kernels: half of what was allocated is free when a session stands, in blocks that
/// glibc holds on to. For a ResNet-50 that is 145 MiB beside 100 MiB in use. It takes milliseconds,
/// which is nothing beside loading a model; it is not for the path of a request.
pub(super) fn give_back() {
    // SAFETY: may be called at any time from any thread.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Gives memory back when it is dropped: as the last field, after all that the others freed.
pub(super) struct GiveBack;

impl Drop for GiveBack {
    fn drop(&mut self) {
        give_back();
    }
}
