//! The functions of NVML that are called, looked up by name when they are.

use std::ffi::{CStr, c_char, c_int, c_uint, c_ulonglong, c_void};
use std::path::Path;

use libloading::Symbol;

/// NVML's return value; 0 is success.
pub(super) type Code = c_int;
/// A GPU, while the session lasts.
pub(super) type Device = *mut c_void;

pub(super) const NOT_SUPPORTED: Code = 3;
/// `NVML_ERROR_FUNCTION_NOT_FOUND`: what the driver's version does not have.
const FUNCTION_NOT_FOUND: Code = 13;
pub(super) const CORRUPTED_INFOROM: Code = 14;
/// `NVML_ERROR_GPU_IS_LOST`: fallen off the bus.
pub(super) const GPU_IS_LOST: Code = 15;

/// Room for any of NVML's texts: names have 96 bytes, versions 80.
const TEXT: usize = 128;

pub(super) struct Library(libloading::Library);

/// NVML between `nvmlInit` and `nvmlShutdown`.
pub(super) struct Session<'l>(&'l Library);

/// `nvmlPciInfo_t` of version 3.
#[repr(C)]
pub(super) struct PciInfo {
    bus_id_legacy: [c_char; 16],
    domain: c_uint,
    bus: c_uint,
    device: c_uint,
    pci_device_id: c_uint,
    pci_subsystem_id: c_uint,
    bus_id: [c_char; 32],
}

/// `nvmlMemory_t`, in bytes.
#[repr(C)]
#[derive(Default)]
pub(super) struct Memory {
    pub(super) total: c_ulonglong,
    free: c_ulonglong,
    pub(super) used: c_ulonglong,
}

/// `nvmlUtilization_t`, in percent.
#[repr(C)]
#[derive(Default)]
pub(super) struct Utilization {
    pub(super) gpu: c_uint,
    memory: c_uint,
}

/// `nvmlGpuFabricInfo_t`.
#[repr(C)]
#[derive(Default)]
pub(super) struct Fabric {
    cluster_uuid: [u8; 16],
    pub(super) status: Code,
    clique_id: c_uint,
    pub(super) state: u8,
}

/// `nvmlProcessInfo_t` of version 3.
#[repr(C)]
#[derive(Default, Clone, Copy)]
pub(super) struct Process {
    pub(super) pid: c_uint,
    pub(super) used: c_ulonglong,
    gpu_instance: c_uint,
    compute_instance: c_uint,
}

impl Library {
    pub(super) fn load(path: &Path) -> Result<Self, String> {
        // SAFETY: NVML has no initialisers that matter; a file that is not NVML but was named as such
        // by whoever runs this program runs with this program's rights, as that program itself would.
        unsafe { libloading::Library::new(path) }.map(Self).map_err(|error| error.to_string())
    }

    /// A function by name; the caller knows its type.
    ///
    /// # Safety
    ///
    /// `F` must be the function's type in NVML's header.
    unsafe fn function<F>(&self, name: &CStr) -> Result<Symbol<'_, F>, Code> {
        // SAFETY: the caller's promise.
        unsafe { self.0.get(name.to_bytes_with_nul()) }.map_err(|_| FUNCTION_NOT_FOUND)
    }

    pub(super) fn start(&self) -> Result<Session<'_>, Code> {
        // SAFETY: nvmlReturn_t nvmlInit_v2(void).
        let init: Symbol<'_, unsafe extern "C" fn() -> Code> =
            unsafe { self.function(c"nvmlInit_v2") }?;
        // SAFETY: as declared.
        check(unsafe { init() }).map(|()| Session(self))
    }

    /// NVML's words for a code.
    pub(super) fn words(&self, code: Code) -> String {
        type Words = unsafe extern "C" fn(Code) -> *const c_char;
        // SAFETY: const char *nvmlErrorString(nvmlReturn_t).
        let words = unsafe { self.function::<Words>(c"nvmlErrorString") };
        // SAFETY: it returns a text of static lifetime, for any code.
        let text = words.ok().map(|words| unsafe { words(code) }).filter(|text| !text.is_null());
        // SAFETY: a C string, as NVML promises.
        let text = text.map(|text| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned());
        text.unwrap_or_else(|| format!("NVML error {code}"))
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        type Shutdown = unsafe extern "C" fn() -> Code;
        // SAFETY: nvmlReturn_t nvmlShutdown(void).
        let shutdown = unsafe { self.0.function::<Shutdown>(c"nvmlShutdown") };
        if let Ok(shutdown) = shutdown {
            // SAFETY: as declared; no device is used after it. There is nothing to do about a failure.
            let _ = unsafe { shutdown() };
        }
    }
}

fn check(code: Code) -> Result<(), Code> {
    if code == 0 { Ok(()) } else { Err(code) }
}

fn text(buffer: &[c_char]) -> String {
    let bytes: Vec<u8> = buffer.iter().map(|c| c.cast_unsigned()).take_while(|c| *c != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Session<'_> {
    pub(super) fn words(&self, code: Code) -> String {
        self.0.words(code)
    }

    pub(super) fn driver_version(&self) -> Result<String, Code> {
        let mut buffer = [0; TEXT];
        type Version = unsafe extern "C" fn(*mut c_char, c_uint) -> Code;
        // SAFETY: nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned length).
        let version = unsafe { self.0.function::<Version>(c"nvmlSystemGetDriverVersion") }?;
        // SAFETY: it writes at most `TEXT` bytes.
        check(unsafe { version(buffer.as_mut_ptr(), TEXT as c_uint) })?;
        Ok(text(&buffer))
    }

    pub(super) fn cuda_version(&self) -> Result<i32, Code> {
        let mut version: c_int = 0;
        type Version = unsafe extern "C" fn(*mut c_int) -> Code;
        // SAFETY: nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *version).
        let get = unsafe { self.0.function::<Version>(c"nvmlSystemGetCudaDriverVersion_v2") }?;
        // SAFETY: it writes one number.
        check(unsafe { get(&raw mut version) })?;
        Ok(version)
    }

    pub(super) fn count(&self) -> Result<u32, Code> {
        let mut count: c_uint = 0;
        type Count = unsafe extern "C" fn(*mut c_uint) -> Code;
        // SAFETY: nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *count).
        let get = unsafe { self.0.function::<Count>(c"nvmlDeviceGetCount_v2") }?;
        // SAFETY: it writes one number.
        check(unsafe { get(&raw mut count) })?;
        Ok(count)
    }

    pub(super) fn device(&self, index: u32) -> Result<Device, Code> {
        let mut device: Device = std::ptr::null_mut();
        type Handle = unsafe extern "C" fn(c_uint, *mut Device) -> Code;
        // SAFETY: nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *device).
        let get = unsafe { self.0.function::<Handle>(c"nvmlDeviceGetHandleByIndex_v2") }?;
        // SAFETY: it writes one handle.
        check(unsafe { get(index, &raw mut device) })?;
        Ok(device)
    }

    /// A text of a device: `nvmlReturn_t NAME(nvmlDevice_t, char *, unsigned length)`.
    pub(super) fn text_of(&self, name: &CStr, device: Device) -> Result<String, Code> {
        let mut buffer = [0; TEXT];
        type Get = unsafe extern "C" fn(Device, *mut c_char, c_uint) -> Code;
        // SAFETY: all functions that are asked for by this one have that type.
        let get = unsafe { self.0.function::<Get>(name) }?;
        // SAFETY: the device is of this session; it writes at most `TEXT` bytes.
        check(unsafe { get(device, buffer.as_mut_ptr(), TEXT as c_uint) })?;
        Ok(text(&buffer))
    }

    /// Something that a device writes: `nvmlReturn_t NAME(nvmlDevice_t, T *)`.
    ///
    /// # Safety
    ///
    /// `T` must be what the function of that name writes.
    pub(super) unsafe fn value_of<T: Default>(
        &self,
        name: &CStr,
        device: Device,
    ) -> Result<T, Code> {
        let mut value = T::default();
        type Get<T> = unsafe extern "C" fn(Device, *mut T) -> Code;
        // SAFETY: the caller's promise.
        let get = unsafe { self.0.function::<Get<T>>(name) }?;
        // SAFETY: the device is of this session; it writes one `T`, by the caller's promise.
        check(unsafe { get(device, &raw mut value) })?;
        Ok(value)
    }

    pub(super) fn number_of(&self, name: &CStr, device: Device) -> Result<u32, Code> {
        // SAFETY: all functions that are asked for by this one write an unsigned.
        unsafe { self.value_of::<c_uint>(name, device) }
    }

    pub(super) fn bus_id(&self, device: Device) -> Result<String, Code> {
        let mut info = PciInfo {
            bus_id_legacy: [0; 16],
            domain: 0,
            bus: 0,
            device: 0,
            pci_device_id: 0,
            pci_subsystem_id: 0,
            bus_id: [0; 32],
        };
        type Get = unsafe extern "C" fn(Device, *mut PciInfo) -> Code;
        // SAFETY: nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t, nvmlPciInfo_t *).
        let get = unsafe { self.0.function::<Get>(c"nvmlDeviceGetPciInfo_v3") }?;
        // SAFETY: it writes one structure.
        check(unsafe { get(device, &raw mut info) })?;
        Ok(text(&info.bus_id))
    }

    pub(super) fn temperature(&self, device: Device) -> Result<u32, Code> {
        let mut degrees: c_uint = 0;
        type Get = unsafe extern "C" fn(Device, c_uint, *mut c_uint) -> Code;
        // SAFETY: nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t, sensor, unsigned *degrees).
        let get = unsafe { self.0.function::<Get>(c"nvmlDeviceGetTemperature") }?;
        // SAFETY: sensor 0 is the GPU; it writes one number.
        check(unsafe { get(device, 0, &raw mut degrees) })?;
        Ok(degrees)
    }

    /// ECC errors since the driver was loaded; `uncorrected` chooses which.
    pub(super) fn ecc_errors(&self, device: Device, uncorrected: bool) -> Result<u64, Code> {
        let mut count: c_ulonglong = 0;
        type Get = unsafe extern "C" fn(Device, c_uint, c_uint, *mut c_ulonglong) -> Code;
        // SAFETY: nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t, type, counter, unsigned long long *).
        let get = unsafe { self.0.function::<Get>(c"nvmlDeviceGetTotalEccErrors") }?;
        // SAFETY: counter 0 is the volatile one; it writes one number.
        check(unsafe { get(device, c_uint::from(uncorrected), 0, &raw mut count) })?;
        Ok(count)
    }

    /// Rows that were remapped (for correctable and uncorrectable errors), whether some wait for a
    /// reset, and whether remapping failed.
    pub(super) fn remapped_rows(&self, device: Device) -> Result<[u32; 4], Code> {
        let mut rows: [c_uint; 4] = [0; 4];
        type Get = unsafe extern "C" fn(
            Device,
            *mut c_uint,
            *mut c_uint,
            *mut c_uint,
            *mut c_uint,
        ) -> Code;
        // SAFETY: nvmlReturn_t nvmlDeviceGetRemappedRows(nvmlDevice_t, unsigned *, *, *, *).
        let get = unsafe { self.0.function::<Get>(c"nvmlDeviceGetRemappedRows") }?;
        let [correctable, uncorrectable, pending, failed] = &mut rows;
        // SAFETY: it writes four numbers.
        check(unsafe { get(device, correctable, uncorrectable, pending, failed) })?;
        Ok(rows)
    }

    /// Whether MIG is on, and whether it will be after a reset.
    pub(super) fn mig_mode(&self, device: Device) -> Result<(bool, bool), Code> {
        let (mut current, mut pending): (c_uint, c_uint) = (0, 0);
        type Get = unsafe extern "C" fn(Device, *mut c_uint, *mut c_uint) -> Code;
        // SAFETY: nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t, unsigned *, unsigned *).
        let get = unsafe { self.0.function::<Get>(c"nvmlDeviceGetMigMode") }?;
        // SAFETY: it writes two numbers.
        check(unsafe { get(device, &raw mut current, &raw mut pending) })?;
        Ok((current == 1, pending == 1))
    }

    pub(super) fn mig_device(&self, device: Device, index: u32) -> Result<Device, Code> {
        let mut instance: Device = std::ptr::null_mut();
        type Get = unsafe extern "C" fn(Device, c_uint, *mut Device) -> Code;
        // SAFETY: nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t, unsigned, nvmlDevice_t *).
        let get = unsafe { self.0.function::<Get>(c"nvmlDeviceGetMigDeviceHandleByIndex") }?;
        // SAFETY: it writes one handle.
        check(unsafe { get(device, index, &raw mut instance) })?;
        Ok(instance)
    }

    pub(super) fn link_is_active(&self, device: Device, link: u32) -> Result<bool, Code> {
        let mut active: c_uint = 0;
        type Get = unsafe extern "C" fn(Device, c_uint, *mut c_uint) -> Code;
        // SAFETY: nvmlReturn_t nvmlDeviceGetNvLinkState(nvmlDevice_t, unsigned, nvmlEnableState_t *).
        let get = unsafe { self.0.function::<Get>(c"nvmlDeviceGetNvLinkState") }?;
        // SAFETY: it writes one number.
        check(unsafe { get(device, link, &raw mut active) })?;
        Ok(active == 1)
    }

    pub(super) fn validate_inforom(&self, device: Device) -> Result<(), Code> {
        type Get = unsafe extern "C" fn(Device) -> Code;
        // SAFETY: nvmlReturn_t nvmlDeviceValidateInforom(nvmlDevice_t).
        let get = unsafe { self.0.function::<Get>(c"nvmlDeviceValidateInforom") }?;
        // SAFETY: the device is of this session.
        check(unsafe { get(device) })
    }

    /// Processes that compute on the device, at most `MOST`.
    pub(super) fn processes(&self, device: Device) -> Result<Vec<Process>, Code> {
        const MOST: usize = 256;
        let mut processes = vec![Process::default(); MOST];
        let mut count = MOST as c_uint;
        type Get = unsafe extern "C" fn(Device, *mut c_uint, *mut Process) -> Code;
        // SAFETY: nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t, unsigned *, nvmlProcessInfo_t *).
        let get = unsafe { self.0.function::<Get>(c"nvmlDeviceGetComputeRunningProcesses_v3") }?;
        // SAFETY: it writes at most `count` structures, and how many.
        check(unsafe { get(device, &raw mut count, processes.as_mut_ptr()) })?;
        processes.truncate(count as usize);
        Ok(processes)
    }
}
