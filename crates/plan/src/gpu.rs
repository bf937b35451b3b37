//! What a request for a GPU comes to in a cluster: which devices, and which part of one's memory.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;
use trainyard_api::gpu_pool::Capacity;
use trainyard_api::model_service::{self, Spot};
use trainyard_api::scalar::Bytes;

use crate::compile::PlanError;
use crate::facts::Target;
use crate::pool::{DEFAULT_POOL, PoolFacts, SHARED, ShareKind, Units, WHOLE};
use crate::workload::{Device, DeviceRequest, Gpu, GpuAmount};

/// What is known of one product, by the value of its `nvidia.com/gpu.product` label.
#[derive(Debug, Deserialize)]
pub(crate) struct Product {
    /// Of a whole GPU.
    pub(crate) memory: Bytes,
    /// Names of it in labels that clouds set before the label of NVIDIA exists.
    #[serde(flatten)]
    pub(crate) aliases: BTreeMap<String, String>,
}

/// Every product that `data/gpu-products.json` knows.
pub(crate) static PRODUCTS: LazyLock<BTreeMap<String, Product>> = LazyLock::new(|| {
    #[derive(Deserialize)]
    struct File {
        products: BTreeMap<String, Product>,
    }
    let text = include_str!("../../../data/gpu-products.json");
    let file: File = serde_json::from_str(text).expect("a test reads the file");
    file.products
});

/// The part of one GPU that a replica has, while others may have the rest of it.
///
/// Who has a device to himself (a whole GPU by `count`, a MIG instance, a claimed device) has no
/// part: the device itself is the bound, and frameworks see its real size.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Part {
    fraction: Option<f64>,
    bytes: Option<Bytes>,
    compute_percent: Option<u32>,
    pool: String,
    said: String,
}

impl Part {
    #[cfg(test)]
    pub(crate) fn new(fraction: Option<f64>, bytes: Option<Bytes>, percent: Option<u32>) -> Self {
        let (pool, said) = ("t4".to_owned(), "`spec.resources.gpu.share: 1/4`".to_owned());
        Self { fraction, bytes, compute_percent: percent, pool, said }
    }

    /// Of the whole GPU's memory; none where it is not known how much that is.
    pub(crate) fn fraction(&self) -> Option<f64> {
        self.fraction
    }

    /// Of memory; none where it is not known how much a GPU has.
    pub(crate) fn bytes(&self) -> Option<Bytes> {
        self.bytes
    }

    /// Of the GPU's compute, where something keeps to it.
    pub(crate) fn compute_percent(&self) -> Option<u32> {
        self.compute_percent
    }

    /// The pool that it is from.
    pub(crate) fn pool(&self) -> &str {
        &self.pool
    }

    /// What the manifest asks for, with its field.
    pub(crate) fn said(&self) -> &str {
        &self.said
    }

    /// That nothing says how large the GPU is of which this is a part.
    pub(crate) fn unknown_memory(&self, service: &str, runtime: &'static str) -> PlanError {
        PlanError::UnknownGpuMemory {
            service: service.to_owned(),
            runtime,
            asked: self.said.clone(),
        }
    }
}

/// The GPU of a service or of a job's worker, and the part of it; no part where it has devices to
/// itself.
///
/// On a machine nothing is asked for: its one GPU is there, and its user's.
pub(crate) fn gpu(
    service: &str,
    asked: Option<&model_service::Gpu>,
    spot: Spot,
    target: &Target,
) -> Result<(Option<Gpu>, Option<Part>), PlanError> {
    let Some(asked) = asked else { return Ok((None, None)) };
    let Some(amount) = amount(asked) else { return Ok((None, None)) };
    let gpu =
        |device| Gpu { amount, pool: asked.pool.clone(), product: asked.product.clone(), device };
    let Target::Kubernetes { gpu_pools, .. } = target else {
        return Ok((Some(gpu(None)), None));
    };
    let name = asked.pool.as_deref().unwrap_or(DEFAULT_POOL);
    let found = match gpu_pools.get(name) {
        Some(Ok(pool)) => Some(pool),
        Some(Err(error)) => {
            let (service, error) = (service.to_owned(), error.clone());
            return Err(PlanError::BrokenPool { service, error });
        }
        None => None,
    };
    let request = Ask { service, name, asked, amount };
    let (pool, device, part) = match (amount, found) {
        (GpuAmount::Count(count), pool) => {
            let (pool, device) = request.whole(count, pool)?;
            (pool, device, None)
        }
        (_, None) => return Err(request.no_pool()),
        (_, Some(pool)) => {
            let (device, part) = request.part(pool)?;
            (Some(pool), device, part)
        }
    };
    if let Some(pool) = pool {
        request.goes_with(pool, spot)?;
    }
    let device = Device {
        request: device,
        node_selector: pool.map(|pool| pool.node_selector.clone()).unwrap_or_default(),
        tolerations: pool.map(|pool| pool.tolerations.clone()).unwrap_or_default(),
    };
    Ok((Some(gpu(Some(device))), part))
}

fn amount(gpu: &model_service::Gpu) -> Option<GpuAmount> {
    match (gpu.count, gpu.memory, gpu.share) {
        (Some(count), _, _) => Some(GpuAmount::Count(count)),
        (None, Some(memory), _) => Some(GpuAmount::Memory(memory)),
        (None, None, Some(share)) => Some(GpuAmount::Share(share)),
        // The API's rules do not let this through; asking for nothing gives nothing.
        (None, None, None) => None,
    }
}

/// What one service asks of one pool.
struct Ask<'a> {
    service: &'a str,
    /// The pool.
    name: &'a str,
    asked: &'a model_service::Gpu,
    amount: GpuAmount,
}

impl Ask<'_> {
    /// Whole GPUs, and the pool that they are from, if it is one.
    fn whole<'p>(
        &self,
        count: u32,
        pool: Option<&'p PoolFacts>,
    ) -> Result<(Option<&'p PoolFacts>, DeviceRequest), PlanError> {
        let whole = |units| DeviceRequest::Resource { resource: WHOLE.to_owned(), units };
        match pool.map(|pool| (pool, &pool.units)) {
            Some((pool, Units::Whole)) => Ok((Some(pool), whole(count))),
            Some((pool, Units::Claims { device_class })) => {
                let device_class = device_class.clone();
                Ok((Some(pool), DeviceRequest::Claim { device_class, count, memory: None }))
            }
            // A default pool that shares its GPUs is for those who ask for a part.
            Some((_, Units::Shares { .. } | Units::Instances(_))) if self.asked.pool.is_none() => {
                Ok((None, whole(count)))
            }
            Some((_, Units::Shares { per_gpu, .. })) => {
                Err(self.shared(format!("{per_gpu} parts each")))
            }
            Some((_, Units::Instances(_))) => Err(self.shared("MIG instances".to_owned())),
            None if self.asked.pool.is_some() => Err(self.no_pool()),
            None => Ok((None, whole(count))),
        }
    }

    /// A unit that holds what was asked for, and the part that it is.
    fn part(&self, pool: &PoolFacts) -> Result<(DeviceRequest, Option<Part>), PlanError> {
        let product = self.asked.product.as_deref().and_then(|product| PRODUCTS.get(product));
        let memory = pool.memory.or(product.map(|product| product.memory));
        // One unit: more of them give more of a time slice or of the memory on no kind of sharing.
        let one = |resource: String| DeviceRequest::Resource { resource, units: 1 };
        match &pool.units {
            Units::Whole => Ok((one(WHOLE.to_owned()), Some(self.of_shares(1, None, memory)?))),
            Units::Shares { per_gpu, kind } => {
                let part = self.of_shares(*per_gpu, Some(*kind), memory)?;
                Ok((one(SHARED.to_owned()), Some(part)))
            }
            Units::Instances(instances) => {
                let fits = |memory: Bytes, slices: u32| match self.amount {
                    GpuAmount::Share(share) => share.fraction() * 7.0 <= f64::from(slices) + 1e-9,
                    GpuAmount::Memory(asked) => asked <= memory,
                    GpuAmount::Count(_) => false,
                };
                let found = instances.iter().find(|it| fits(it.memory, it.slices));
                match (found, instances.last()) {
                    (Some(instance), _) => Ok((one(instance.resource()), None)),
                    (None, Some(largest)) => {
                        let part = match self.amount {
                            GpuAmount::Memory(_) => largest.memory.to_string(),
                            _ => format!("{}/7", largest.slices),
                        };
                        Err(self.too_much(part))
                    }
                    (None, None) => Err(self.no_pool()),
                }
            }
            Units::Claims { device_class } => {
                let memory = match self.amount {
                    GpuAmount::Memory(asked) => Some(asked),
                    GpuAmount::Share(share) => {
                        let memory = memory.ok_or_else(|| PlanError::UnknownGpuMemory {
                            service: self.service.to_owned(),
                            runtime: "dra",
                            asked: self.said(),
                        })?;
                        Some(scaled(memory, share.fraction()))
                    }
                    GpuAmount::Count(_) => None,
                };
                if let (Some(asked), Some(memory)) = (memory, pool.memory)
                    && asked > memory
                {
                    return Err(self.too_much(memory.to_string()));
                }
                let device_class = device_class.clone();
                Ok((DeviceRequest::Claim { device_class, count: 1, memory }, None))
            }
        }
    }

    /// What was asked for, if one of so many equal shares holds it.
    fn of_shares(
        &self,
        per_gpu: u32,
        kind: Option<ShareKind>,
        memory: Option<Bytes>,
    ) -> Result<Part, PlanError> {
        let per_gpu = per_gpu.max(1);
        let (fraction, bytes) = match self.amount {
            GpuAmount::Share(share) => {
                // 1/3 of three units is one unit, whatever the last bit of a double says.
                if share.fraction() * f64::from(per_gpu) > 1.0 + 1e-9 {
                    return Err(self.too_much(format!("1/{per_gpu}")));
                }
                (Some(share.fraction()), memory.map(|memory| scaled(memory, share.fraction())))
            }
            GpuAmount::Memory(asked) => {
                if let Some(unit) = memory.map(|memory| Bytes(memory.0 / u64::from(per_gpu)))
                    && asked > unit
                {
                    return Err(self.too_much(unit.to_string()));
                }
                (memory.map(|memory| asked.0 as f64 / memory.0.max(1) as f64), Some(asked))
            }
            GpuAmount::Count(_) => (Some(1.0), memory),
        };
        // The daemon gives a client this much; asking for it says so where a person looks.
        let compute_percent = (kind == Some(ShareKind::Mps)).then(|| (100 / per_gpu).max(1));
        let pool = self.name.to_owned();
        Ok(Part { fraction, bytes, compute_percent, pool, said: self.said() })
    }

    /// Whether the rest of the manifest can be had in this pool.
    fn goes_with(&self, pool: &PoolFacts, spot: Spot) -> Result<(), PlanError> {
        let (service, name) = (self.service.to_owned(), self.name.to_owned());
        if let (Some(asked), Some(has)) = (&self.asked.product, &pool.product)
            && asked != has
        {
            let (asked, has) = (asked.clone(), has.clone());
            return Err(PlanError::OtherProduct { service, pool: name, asked, has });
        }
        let (rented, spot) = match (pool.capacity, spot) {
            (Some(Capacity::Spot), Spot::Never) => ("spot", "never"),
            (Some(Capacity::OnDemand), Spot::Only) => ("on-demand", "only"),
            _ => return Ok(()),
        };
        Err(PlanError::OtherCapacity { service, pool: name, rented, spot })
    }

    fn said(&self) -> String {
        match self.amount {
            GpuAmount::Count(count) => format!("`spec.resources.gpu.count: {count}`"),
            GpuAmount::Memory(memory) => format!("`spec.resources.gpu.memory: {memory}`"),
            GpuAmount::Share(share) => format!("`spec.resources.gpu.share: {share}`"),
        }
    }

    fn no_pool(&self) -> PlanError {
        PlanError::NoPool { service: self.service.to_owned(), pool: self.name.to_owned() }
    }

    fn shared(&self, parts: String) -> PlanError {
        let (service, pool) = (self.service.to_owned(), self.name.to_owned());
        PlanError::SharedPool { service, pool, parts }
    }

    fn too_much(&self, part: String) -> PlanError {
        let asked = match self.amount {
            GpuAmount::Count(count) => count.to_string(),
            GpuAmount::Memory(memory) => memory.to_string(),
            GpuAmount::Share(share) => share.to_string(),
        };
        let (service, pool) = (self.service.to_owned(), self.name.to_owned());
        PlanError::TooMuchGpu { service, pool, asked, part }
    }
}

/// Truncation is right: a byte less is no less.
fn scaled(memory: Bytes, fraction: f64) -> Bytes {
    Bytes((memory.0 as f64 * fraction) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Instance;

    #[test]
    fn the_table_of_products_can_be_read() {
        assert_eq!(PRODUCTS["Tesla-T4"].memory, Bytes(15 << 30));
        assert_eq!(PRODUCTS["NVIDIA-L4"].aliases["gke"], "nvidia-l4");
    }

    fn share(text: &str) -> GpuAmount {
        GpuAmount::Share(text.parse().expect("a share"))
    }

    fn memory(gib: u64) -> GpuAmount {
        GpuAmount::Memory(Bytes(gib << 30))
    }

    fn pool(units: Units, gib: Option<u64>) -> PoolFacts {
        PoolFacts { units, ..PoolFacts::of_shares(1, gib.map(|gib| Bytes(gib << 30))) }
    }

    fn asked(amount: GpuAmount, pool: &PoolFacts) -> Result<(DeviceRequest, Option<Part>), String> {
        let gpu = model_service::Gpu { pool: Some("t4".to_owned()), ..Default::default() };
        let ask = Ask { service: "iris", name: "t4", asked: &gpu, amount };
        match amount {
            GpuAmount::Count(count) => {
                ask.whole(count, Some(pool)).map(|(_, device)| (device, None))
            }
            _ => ask.part(pool),
        }
        .map_err(|error| error.to_string())
    }

    #[test]
    fn parts() {
        let check = |amount, per_gpu, gib: Option<u64>| {
            let units = Units::Shares { per_gpu, kind: ShareKind::Mps };
            asked(amount, &pool(units, gib)).map(|(_, part)| {
                let part = part.expect("a part");
                let fraction = part.fraction().map(|it| (it * 1000.0).floor() / 1000.0);
                (fraction, part.bytes().map(|it| it.0 >> 20), part.compute_percent())
            })
        };
        assert_eq!(check(share("1/4"), 4, None), Ok((Some(0.25), None, Some(25))));
        assert_eq!(check(share("1/3"), 3, Some(24)), Ok((Some(0.333), Some(8192), Some(33))));
        let error = check(share("1/2"), 4, None).expect_err("a unit is a quarter");
        assert!(error.contains("asks for 1/2 of a GPU") && error.contains("is 1/4"), "{error}");
        assert_eq!(check(memory(6), 4, Some(24)), Ok((Some(0.25), Some(6144), Some(25))));
        assert_eq!(check(memory(6), 4, None), Ok((None, Some(6144), Some(25))));
        let error = check(memory(7), 4, Some(24)).expect_err("a unit has 6Gi");
        assert!(error.contains("is 6Gi"), "{error}");
    }

    #[test]
    fn instances() {
        let instance = |profile: &str, slices| Instance {
            profile: profile.to_owned(),
            slices,
            memory: crate::pool::instance_memory(profile),
        };
        let units = Units::Instances(vec![instance("1g.10gb", 1), instance("3g.40gb", 3)]);
        let pool = pool(units, Some(80));
        let resource = |amount| {
            asked(amount, &pool).map(|(device, part)| {
                assert!(part.is_none(), "an instance is its owner's alone");
                let DeviceRequest::Resource { resource, units: 1 } = device else {
                    panic!("{device:?}");
                };
                resource
            })
        };
        assert_eq!(resource(memory(9)).as_deref(), Ok("nvidia.com/mig-1g.10gb"));
        assert_eq!(resource(memory(10)).as_deref(), Ok("nvidia.com/mig-3g.40gb"));
        assert_eq!(resource(share("1/7")).as_deref(), Ok("nvidia.com/mig-1g.10gb"));
        assert_eq!(resource(share("1/4")).as_deref(), Ok("nvidia.com/mig-3g.40gb"));
        let error = resource(memory(60)).expect_err("too much");
        assert!(error.contains("a part of the pool `t4` is 38Gi"), "{error}");
        let error = resource(share("1/2")).expect_err("too much");
        assert!(error.contains("is 3/7"), "{error}");
        let error = resource(GpuAmount::Count(1)).expect_err("no whole ones");
        assert!(error.contains("MIG instances"), "{error}");
    }

    #[test]
    fn claims() {
        let pool = pool(Units::Claims { device_class: "c".to_owned() }, Some(24));
        let claim = |amount| {
            asked(amount, &pool).map(|(device, _)| match device {
                DeviceRequest::Claim { count, memory, .. } => (count, memory.map(|it| it.0 >> 30)),
                other => panic!("{other:?}"),
            })
        };
        assert_eq!(claim(GpuAmount::Count(2)), Ok((2, None)));
        assert_eq!(claim(memory(8)), Ok((1, Some(8))));
        assert_eq!(claim(share("1/4")), Ok((1, Some(6))));
        assert!(claim(memory(25)).is_err());
    }
}
