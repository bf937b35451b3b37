//! One GPU.

use std::ffi::{CStr, c_ulonglong};

use serde::Serialize;

use super::library::{
    CORRUPTED_INFOROM, Code, Device, Fabric, GPU_IS_LOST, Memory, NOT_SUPPORTED, Session,
    Utilization,
};

/// What a GPU is and how it is; what it does not support is absent.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Gpu {
    pub index: u32,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uuid: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pci_bus_id: String,
    #[serde(rename = "memoryMiB", skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryMib>,
    /// Percent of the last second in which something ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub utilization: Option<u32>,
    #[serde(rename = "temperatureC", skip_serializing_if = "Option::is_none")]
    pub temperature: Option<u32>,
    /// In watts.
    #[serde(rename = "powerW", skip_serializing_if = "Option::is_none")]
    pub power: Option<u32>,
    #[serde(rename = "powerLimitW", skip_serializing_if = "Option::is_none")]
    pub power_limit: Option<u32>,
    #[serde(rename = "defaultPowerLimitW", skip_serializing_if = "Option::is_none")]
    pub default_power_limit: Option<u32>,
    /// Why its clocks are low; none while it is idle or at full speed.
    pub clocks_event_reasons: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ecc: Option<Ecc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remapped_rows: Option<RemappedRows>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mig: Option<Mig>,
    pub nvlinks: Vec<Link>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fabric: Option<FabricState>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inforom_valid: Option<bool>,
    /// `default`, `exclusiveProcess` (as MPS wants it), `prohibited`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compute_mode: Option<&'static str>,
    pub processes: Vec<ProcessMib>,
    /// It has fallen off the bus.
    pub lost: bool,
    /// What NVML says of a GPU that it cannot use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct MemoryMib {
    pub total: u64,
    pub used: u64,
}

/// Errors since the driver was loaded.
#[derive(Debug, Clone, Serialize)]
pub struct Ecc {
    pub corrected: u64,
    pub uncorrected: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct RemappedRows {
    pub correctable: u32,
    pub uncorrectable: u32,
    /// The next reset remaps some.
    pub pending: bool,
    /// Some could not be remapped.
    pub failed: bool,
}

#[derive(Debug, Clone, Serialize)]
pub struct Mig {
    pub enabled: bool,
    /// After the next reset.
    pub pending: bool,
    /// Names of its instances, such as `NVIDIA A100-SXM4-40GB MIG 1g.5gb`.
    pub instances: Vec<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Link {
    pub link: u32,
    pub active: bool,
}

#[derive(Debug, Clone, Serialize)]
pub struct FabricState {
    pub state: &'static str,
    /// Of a fabric that is complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct ProcessMib {
    pub pid: u32,
    #[serde(rename = "usedMiB")]
    pub used: u64,
}

/// Bits of NVML's reasons for low clocks. Idleness and application clocks are no trouble.
const REASONS: [(u64, &str); 5] = [
    (0x04, "swPowerCap"),
    (0x08, "hwSlowdown"),
    (0x20, "swThermalSlowdown"),
    (0x40, "hwThermalSlowdown"),
    (0x80, "hwPowerBrakeSlowdown"),
];

/// `NVML_NVLINK_MAX_LINKS`.
const MOST_LINKS: u32 = 18;
/// MIG instances of a GPU: 7 of the largest kind.
const MOST_INSTANCES: u32 = 16;

pub(super) fn look(session: &Session<'_>, index: u32) -> Gpu {
    let device = match session.device(index) {
        Ok(device) => device,
        Err(code) => {
            return Gpu {
                index,
                lost: code == GPU_IS_LOST,
                error: Some(session.words(code)),
                ..Gpu::default()
            };
        }
    };
    // A GPU may be lost between two questions; then each answers so.
    let mut lost = false;
    let mut note = |code: &Code| lost |= *code == GPU_IS_LOST;
    let name =
        session.text_of(c"nvmlDeviceGetName", device).inspect_err(&mut note).unwrap_or_default();
    // SAFETY: nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t, nvmlMemory_t *).
    let memory = unsafe { session.value_of::<Memory>(c"nvmlDeviceGetMemoryInfo", device) };
    let memory = memory.inspect_err(&mut note).ok();
    // SAFETY: nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t, nvmlUtilization_t *).
    let utilization =
        unsafe { session.value_of::<Utilization>(c"nvmlDeviceGetUtilizationRates", device) };
    let number = |name: &CStr| session.number_of(name, device).ok();
    let watts = |name: &CStr| number(name).map(|milliwatts| milliwatts / 1000);
    let temperature = session.temperature(device).inspect_err(&mut note).ok();
    Gpu {
        index,
        name,
        uuid: session.text_of(c"nvmlDeviceGetUUID", device).unwrap_or_default(),
        pci_bus_id: session.bus_id(device).unwrap_or_default(),
        memory: memory.map(|it| MemoryMib { total: it.total >> 20, used: it.used >> 20 }),
        utilization: utilization.ok().map(|it| it.gpu),
        temperature,
        power: watts(c"nvmlDeviceGetPowerUsage"),
        power_limit: watts(c"nvmlDeviceGetEnforcedPowerLimit"),
        default_power_limit: watts(c"nvmlDeviceGetPowerManagementDefaultLimit"),
        clocks_event_reasons: reasons(session, device),
        ecc: ecc(session, device),
        remapped_rows: session.remapped_rows(device).ok().map(
            |[correctable, uncorrectable, pending, failed]| RemappedRows {
                correctable,
                uncorrectable,
                pending: pending != 0,
                failed: failed != 0,
            },
        ),
        mig: mig(session, device),
        nvlinks: links(session, device),
        fabric: fabric(session, device),
        inforom_valid: match session.validate_inforom(device) {
            Ok(()) => Some(true),
            Err(CORRUPTED_INFOROM) => Some(false),
            Err(_) => None,
        },
        compute_mode: number(c"nvmlDeviceGetComputeMode").and_then(|mode| match mode {
            0 => Some("default"),
            2 => Some("prohibited"),
            3 => Some("exclusiveProcess"),
            _ => None,
        }),
        processes: session.processes(device).map_or_else(
            |_| Vec::new(),
            |all| all.iter().map(|it| ProcessMib { pid: it.pid, used: it.used >> 20 }).collect(),
        ),
        lost,
        error: lost.then(|| session.words(GPU_IS_LOST)),
    }
}

fn reasons(session: &Session<'_>, device: Device) -> Vec<&'static str> {
    // The name before driver 535 still works, and the new one is not everywhere.
    let bits =
        [c"nvmlDeviceGetCurrentClocksEventReasons", c"nvmlDeviceGetCurrentClocksThrottleReasons"]
            .iter()
            // SAFETY: nvmlReturn_t NAME(nvmlDevice_t, unsigned long long *), both.
            .find_map(|name| unsafe { session.value_of::<c_ulonglong>(name, device) }.ok())
            .unwrap_or(0);
    REASONS.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect()
}

fn ecc(session: &Session<'_>, device: Device) -> Option<Ecc> {
    Some(Ecc {
        corrected: session.ecc_errors(device, false).ok()?,
        uncorrected: session.ecc_errors(device, true).ok()?,
    })
}

fn mig(session: &Session<'_>, device: Device) -> Option<Mig> {
    let (enabled, pending) = session.mig_mode(device).ok()?;
    let instances = (0..MOST_INSTANCES)
        .filter(|_| enabled)
        .filter_map(|index| {
            let instance = session.mig_device(device, index).ok()?;
            session.text_of(c"nvmlDeviceGetName", instance).ok()
        })
        .collect();
    Some(Mig { enabled, pending, instances })
}

fn links(session: &Session<'_>, device: Device) -> Vec<Link> {
    (0..MOST_LINKS)
        .map_while(|link| Some(Link { link, active: session.link_is_active(device, link).ok()? }))
        .collect()
}

fn fabric(session: &Session<'_>, device: Device) -> Option<FabricState> {
    // SAFETY: nvmlReturn_t nvmlDeviceGetGpuFabricInfo(nvmlDevice_t, nvmlGpuFabricInfo_t *).
    let fabric =
        unsafe { session.value_of::<Fabric>(c"nvmlDeviceGetGpuFabricInfo", device) }.ok()?;
    let state = match fabric.state {
        1 => "not started",
        2 => "in progress",
        3 => "completed",
        // The card has none.
        _ => return None,
    };
    let failed = fabric.state == 3 && fabric.status != 0 && fabric.status != NOT_SUPPORTED;
    Some(FabricState { state, error: failed.then(|| session.words(fabric.status)) })
}
