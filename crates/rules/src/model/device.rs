//! Accelerators that containers ask for.

use crate::yaml::Node;

/// Who makes an accelerator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Vendor {
    Nvidia,
    Amd,
    Intel,
    Google,
    Aws,
    Other,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeviceKind {
    /// Whole GPUs, or whatever a node announces under the plain name.
    Gpu,
    /// A share of a GPU (`nvidia.com/gpu.shared`).
    SharedGpu,
    /// A MIG slice (`nvidia.com/mig-1g.5gb`).
    Mig,
    /// GPU memory, in MiB or percent, of schedulers that share GPUs by it (HAMi).
    GpuMemory,
    /// Percent of a GPU's cores (HAMi).
    GpuCores,
    /// Accelerators that are no GPUs: TPU, Gaudi, Neuron.
    Accelerator,
}

/// One extended resource that a container asks for.
#[derive(Debug, Clone, Copy)]
pub struct Device<'b> {
    /// `nvidia.com/gpu`.
    pub name: &'b str,
    pub kind: DeviceKind,
    pub vendor: Vendor,
    /// Missing if not given.
    pub request: Node<'b>,
    /// Missing if not given.
    pub limit: Node<'b>,
    /// How many, as the limit or else the request says; `None` if it is no whole number.
    pub count: Option<i64>,
}

impl<'b> Device<'b> {
    /// Where it is asked for.
    #[must_use]
    pub fn node(&self) -> Node<'b> {
        if self.limit.exists() { self.limit } else { self.request }
    }

    /// Whether its number is a number of GPUs (whole, shared or sliced).
    #[must_use]
    pub fn is_gpu(&self) -> bool {
        matches!(self.kind, DeviceKind::Gpu | DeviceKind::SharedGpu | DeviceKind::Mig)
    }
}

/// What a resource name stands for; `None` if it is no accelerator.
#[must_use]
pub(crate) fn classify(name: &str) -> Option<(DeviceKind, Vendor)> {
    use DeviceKind::{Accelerator, Gpu, GpuCores, GpuMemory, Mig, SharedGpu};
    let (domain, resource) = name.split_once('/')?;
    Some(match (domain, resource) {
        ("nvidia.com", "gpu" | "pgpu") => (Gpu, Vendor::Nvidia),
        ("nvidia.com", "gpu.shared") => (SharedGpu, Vendor::Nvidia),
        ("nvidia.com", "gpumem" | "gpumem-percentage") => (GpuMemory, Vendor::Nvidia),
        ("nvidia.com", "gpucores") => (GpuCores, Vendor::Nvidia),
        ("nvidia.com", mig) if mig.starts_with("mig-") && mig.ends_with(".shared") => {
            (SharedGpu, Vendor::Nvidia)
        }
        ("nvidia.com", mig) if mig.starts_with("mig-") => (Mig, Vendor::Nvidia),
        ("amd.com", "gpu") => (Gpu, Vendor::Amd),
        ("gpu.intel.com", "i915" | "xe") => (Gpu, Vendor::Intel),
        ("habana.ai", "gaudi") => (Accelerator, Vendor::Intel),
        ("google.com", "tpu") => (Accelerator, Vendor::Google),
        ("aws.amazon.com", "neuron" | "neuroncore" | "neurondevice") => (Accelerator, Vendor::Aws),
        _ => return None,
    })
}

/// Accelerators among a container's `resources`, sorted by name.
pub(super) fn read<'b>(resources: Node<'b>) -> Vec<Device<'b>> {
    let (requests, limits) = (resources.get("requests"), resources.get("limits"));
    let mut names: Vec<&'b str> = requests
        .entries()
        .chain(limits.entries())
        .map(|entry| entry.key)
        .filter(|key| key.contains('/') && classify(key).is_some())
        .collect();
    names.sort_unstable();
    names.dedup();
    names
        .into_iter()
        .filter_map(|name| {
            let (kind, vendor) = classify(name)?;
            let (request, limit) = (requests.get(name), limits.get(name));
            let asked = if limit.exists() { limit } else { request };
            let count = asked.quantity().filter(|q| q.is_whole()).map(|q| q.units());
            Some(Device { name, kind, vendor, request, limit, count })
        })
        .collect()
}
