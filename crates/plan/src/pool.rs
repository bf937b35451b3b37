//! What a `GpuPool` means to the services that use it.

use std::collections::BTreeMap;

use trainyard_api::GpuPoolSpec;
use trainyard_api::gpu_pool::{Capacity, SharingMode};
use trainyard_api::model_service::{Toleration, TolerationOperator};
use trainyard_api::scalar::Bytes;

use crate::gpu::PRODUCTS;

/// The pool of services that name none.
pub const DEFAULT_POOL: &str = "default";

/// The resource of whole NVIDIA GPUs, as NVIDIA's device plugin announces it.
pub const WHOLE: &str = "nvidia.com/gpu";
/// The resource of their shares, with the plugin's `renameByDefault`.
pub const SHARED: &str = "nvidia.com/gpu.shared";

/// Compute slices of a GPU that is cut into MIG instances (NVIDIA, MIG user guide).
const SLICES: u32 = 7;

/// Nodes with equal GPUs, shared in an equal way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolFacts {
    /// What a service can have of a GPU.
    pub units: Units,
    /// Memory of one whole GPU, where it is known.
    pub memory: Option<Bytes>,
    /// The product of its GPUs, where it is known.
    pub product: Option<String>,
    /// Labels that its nodes have, beyond what the cluster's profile knows.
    pub node_selector: BTreeMap<String, String>,
    /// Taints that its nodes have, beyond what the cluster's profile knows.
    pub tolerations: Vec<Toleration>,
    /// How its nodes are rented, where that is known.
    pub capacity: Option<Capacity>,
}

/// What a GPU of a pool is given out as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Units {
    /// Itself.
    Whole,
    /// So many equal shares.
    Shares { per_gpu: u32, kind: ShareKind },
    /// Instances in hardware, the smallest first.
    Instances(Vec<Instance>),
    /// What a claim for a device of this DeviceClass gets.
    Claims { device_class: String },
}

/// What keeps shares apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShareKind {
    /// NVIDIA's MPS: memory and compute.
    Mps,
    /// Nothing but turns.
    TimeSlices,
    /// Nobody said.
    Unknown,
}

/// A MIG instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Such as `1g.10gb`.
    pub profile: String,
    /// Compute slices of the GPU's seven.
    pub slices: u32,
    pub memory: Bytes,
}

impl Instance {
    /// The resource, as NVIDIA's device plugin announces it with `migStrategy: mixed`.
    pub fn resource(&self) -> String {
        mig_resource(&self.profile)
    }
}

/// The resource of a profile: `1g.10gb+me` is `nvidia.com/mig-1g.10gb.me`.
pub(crate) fn mig_resource(profile: &str) -> String {
    format!("nvidia.com/mig-{}", profile.replace('+', "."))
}

impl PoolFacts {
    /// Shares as a command line names them: how they are kept apart is not known.
    pub fn of_shares(per_gpu: u32, memory: Option<Bytes>) -> Self {
        let units = match per_gpu {
            0 | 1 => Units::Whole,
            per_gpu => Units::Shares { per_gpu, kind: ShareKind::Unknown },
        };
        Self {
            units,
            memory,
            product: None,
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            capacity: None,
        }
    }
}

/// What was seen of the cluster that a pool is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolSeen {
    /// It has `resource.k8s.io/v1`.
    pub has_dra: bool,
    /// Memory of one GPU, as the pool's nodes tell it: the least of them.
    pub memory: Option<Bytes>,
}

/// Why a pool cannot be used. Each is a person's to mend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    #[error(
        "`spec.sharing.mode: dra` of the pool `{pool}` needs Kubernetes 1.34 or newer with the API `resource.k8s.io/v1`; choose another mode, or upgrade the cluster"
    )]
    NoDra { pool: String },
    #[error(
        "`spec.sharing.profiles` of the pool `{pool}` take {slices} compute slices, and a GPU has {SLICES}; remove some"
    )]
    TooManySlices { pool: String, slices: u32 },
    #[error(
        "`spec.sharing.profiles` of the pool `{pool}` take {taken} of memory, and a GPU has {memory}; choose profiles of the pool's product"
    )]
    TooMuchMemory { pool: String, taken: Bytes, memory: Bytes },
}

/// What a pool means to services. Deterministic.
pub fn pool_facts(name: &str, spec: &GpuPoolSpec, seen: PoolSeen) -> Result<PoolFacts, PoolError> {
    let product = spec.product.as_deref().and_then(|product| PRODUCTS.get(product));
    let memory = spec.memory.or(product.map(|product| product.memory)).or(seen.memory);
    let shares = spec.sharing.as_ref().and_then(|sharing| sharing.shares).unwrap_or(1).max(1);
    let units = match spec.mode() {
        SharingMode::None => Units::Whole,
        SharingMode::Mps => Units::Shares { per_gpu: shares, kind: ShareKind::Mps },
        SharingMode::TimeSlicing => Units::Shares { per_gpu: shares, kind: ShareKind::TimeSlices },
        SharingMode::Mig => Units::Instances(instances(name, spec, memory)?),
        SharingMode::Dra if !seen.has_dra => {
            return Err(PoolError::NoDra { pool: name.to_owned() });
        }
        SharingMode::Dra => Units::Claims { device_class: device_class(name) },
    };
    Ok(PoolFacts {
        units,
        memory,
        product: spec.product.clone(),
        node_selector: spec.node_selector.clone(),
        tolerations: spec.taint.iter().map(toleration).collect(),
        capacity: spec.capacity,
    })
}

/// The DeviceClass of a pool.
pub(crate) fn device_class(pool: &str) -> String {
    format!("trainyard-{pool}")
}

fn toleration(taint: &trainyard_api::gpu_pool::Taint) -> Toleration {
    Toleration {
        key: Some(taint.key.clone()),
        operator: Some(TolerationOperator::Equal),
        value: taint.value.clone(),
        effect: Some(taint.effect.unwrap_or(trainyard_api::model_service::TaintEffect::NoSchedule)),
        toleration_seconds: None,
    }
}

fn instances(
    pool: &str,
    spec: &GpuPoolSpec,
    memory: Option<Bytes>,
) -> Result<Vec<Instance>, PoolError> {
    let profiles = spec.sharing.iter().flat_map(|sharing| sharing.profiles.iter().flatten());
    let (mut slices, mut taken) = (0_u32, 0_u64);
    let mut instances = Vec::new();
    for profile in profiles {
        let instance = Instance {
            profile: profile.name.clone(),
            slices: profile.slices(),
            memory: instance_memory(&profile.name),
        };
        slices = slices.saturating_add(instance.slices.saturating_mul(profile.count));
        taken = taken.saturating_add(instance.memory.0.saturating_mul(profile.count.into()));
        instances.push(instance);
    }
    if slices > SLICES {
        return Err(PoolError::TooManySlices { pool: pool.to_owned(), slices });
    }
    if let Some(memory) = memory.filter(|memory| taken > memory.0) {
        let (pool, taken) = (pool.to_owned(), Bytes(taken));
        return Err(PoolError::TooMuchMemory { pool, taken, memory });
    }
    instances
        .sort_by(|a, b| (a.memory, a.slices, &a.profile).cmp(&(b.memory, b.slices, &b.profile)));
    Ok(instances)
}

/// The memory of an instance by its profile's name: what the driver keeps for itself is at most 5%
/// (`nvidia-smi mig -lgip` says 4.75 GiB of `1g.5gb`, 9.50 of `1g.10gb`, 78.75 of `7g.80gb`).
pub fn instance_memory(profile: &str) -> Bytes {
    let size = profile.split_once('.').and_then(|(_, rest)| rest.split_once("gb"));
    let gib = size.and_then(|(gib, _)| gib.parse::<u64>().ok()).unwrap_or(0);
    Bytes((gib << 30) / 20 * 19)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> GpuPoolSpec {
        serde_json::from_value(serde_saphyr::from_str(text).expect("YAML")).expect("a pool")
    }

    #[track_caller]
    fn refused(text: &str, seen: PoolSeen, part: &str) {
        let error = pool_facts("a", &spec(text), seen).expect_err("refused").to_string();
        assert!(error.contains(part), "{error}");
    }

    #[test]
    fn units_by_mode() {
        #[track_caller]
        fn check(sharing: &str, expected: Units) {
            let text = format!("{{nodeSelector: {{a: b}}, product: Tesla-T4, sharing: {sharing}}}");
            let seen = PoolSeen { has_dra: true, memory: None };
            let facts = pool_facts("a", &spec(&text), seen).expect("usable");
            assert_eq!((facts.units, facts.memory), (expected, Some(Bytes(15 << 30))));
        }
        check("{mode: none}", Units::Whole);
        check("{mode: mps, shares: 4}", Units::Shares { per_gpu: 4, kind: ShareKind::Mps });
        check(
            "{mode: timeSlicing, shares: 2}",
            Units::Shares { per_gpu: 2, kind: ShareKind::TimeSlices },
        );
        check("{mode: dra}", Units::Claims { device_class: "trainyard-a".to_owned() });
    }

    #[test]
    fn instances_come_smallest_first() {
        let text = "{nodeSelector: {a: b}, product: NVIDIA-A100-SXM4-80GB, sharing: {mode: mig, profiles: [{name: 3g.40gb, count: 1}, {name: 1g.10gb+me, count: 1}, {name: 1g.10gb, count: 2}]}}";
        let facts = pool_facts("a", &spec(text), PoolSeen::default()).expect("usable");
        let Units::Instances(instances) = facts.units else { panic!("{:?}", facts.units) };
        let resources: Vec<_> = instances.iter().map(Instance::resource).collect();
        assert_eq!(
            resources,
            ["nvidia.com/mig-1g.10gb", "nvidia.com/mig-1g.10gb.me", "nvidia.com/mig-3g.40gb"]
        );
        assert_eq!(instances[0].memory.to_string(), "9728Mi");
    }

    #[test]
    fn what_a_cluster_or_a_card_cannot_do_is_refused() {
        let none = PoolSeen::default();
        refused("{nodeSelector: {a: b}, sharing: {mode: dra}}", none, "1.34 or newer");
        let profiles = |text: &str, product: &str| {
            format!(
                "{{nodeSelector: {{a: b}}, product: {product}, sharing: {{mode: mig, profiles: {text}}}}}"
            )
        };
        let text = profiles("[{name: 3g.40gb, count: 2}, {name: 2g.20gb, count: 1}]", "any");
        refused(&text, none, "take 8 compute slices");
        let text = profiles("[{name: 3g.40gb, count: 2}]", "NVIDIA-A100-SXM4-40GB");
        refused(&text, none, "a GPU has 40Gi");
    }

    #[test]
    fn memory_is_what_is_said_or_known_or_seen() {
        let seen = PoolSeen { has_dra: false, memory: Some(Bytes(1 << 30)) };
        let memory = |text: &str| pool_facts("a", &spec(text), seen).expect("usable").memory;
        assert_eq!(
            memory("{nodeSelector: {a: b}, memory: 2Gi, product: Tesla-T4}"),
            Some(Bytes(2 << 30))
        );
        assert_eq!(memory("{nodeSelector: {a: b}, product: Tesla-T4}"), Some(Bytes(15 << 30)));
        assert_eq!(memory("{nodeSelector: {a: b}, product: Unheard-Of}"), Some(Bytes(1 << 30)));
    }
}
