//! What a request for a GPU comes to in a cluster: which devices, and which part of one's memory.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;
use trainyard_api::defaults::Complete;
use trainyard_api::model_service;
use trainyard_api::scalar::Bytes;

use crate::compile::PlanError;
use crate::facts::{DEFAULT_POOL, Facts, GpuPool, Target};
use crate::workload::{Device, Gpu, GpuAmount};

/// The resource of whole NVIDIA GPUs.
const WHOLE: &str = "nvidia.com/gpu";

/// What is known of one product, by the value of its `nvidia.com/gpu.product` label.
#[derive(Debug, Deserialize)]
pub(crate) struct Product {
    /// Of a whole GPU.
    memory: Bytes,
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

/// The part of one GPU that a replica has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Part {
    fraction: Option<f64>,
    bytes: Option<Bytes>,
}

impl Part {
    /// Of the whole GPU's memory, rounded down to thousandths.
    pub(crate) fn fraction(self) -> Option<f64> {
        self.fraction.map(|fraction| (fraction * 1000.0).floor() / 1000.0)
    }

    pub(crate) fn bytes(self) -> Option<Bytes> {
        self.bytes
    }
}

/// The GPU of a service, and the part of it; no part where it has whole ones.
///
/// On a machine nothing is asked for: its one GPU is there, and its user's.
pub(crate) fn gpu(
    service: &str,
    spec: &Complete,
    facts: &Facts,
) -> Result<(Option<Gpu>, Option<Part>), PlanError> {
    let Some(asked) = &spec.asked.gpu else { return Ok((None, None)) };
    let Some(amount) = amount(asked) else { return Ok((None, None)) };
    let gpu =
        |device| Gpu { amount, pool: asked.pool.clone(), product: asked.product.clone(), device };
    let Target::Kubernetes { gpu_pools, .. } = &facts.target else {
        return Ok((Some(gpu(None)), None));
    };
    let name = asked.pool.as_deref().unwrap_or(DEFAULT_POOL);
    let pool = gpu_pools.get(name);
    let device = |resource: &str, units, pool: Option<&GpuPool>| Device {
        resource: resource.to_owned(),
        units,
        node_selector: pool.map(|pool| pool.node_selector.clone()).unwrap_or_default(),
        tolerations: pool.map(|pool| pool.tolerations.clone()).unwrap_or_default(),
    };
    if let GpuAmount::Count(count) = amount {
        // A default pool that shares its GPUs is for those who ask for a part.
        let pool = pool.filter(|pool| asked.pool.is_some() || pool.units_per_gpu <= 1);
        let resource = match pool {
            Some(pool) if pool.units_per_gpu > 1 => {
                let (service, pool_name) = (service.to_owned(), name.to_owned());
                let units = pool.units_per_gpu;
                return Err(PlanError::SharedPool { service, pool: pool_name, units });
            }
            Some(pool) => &pool.resource,
            None if asked.pool.is_some() => return Err(no_pool(service, name)),
            None => WHOLE,
        };
        return Ok((Some(gpu(Some(device(resource, count, pool)))), None));
    }
    let pool = pool.ok_or_else(|| no_pool(service, name))?;
    let product = asked.product.as_deref().and_then(|product| PRODUCTS.get(product));
    let memory = pool.memory.or(product.map(|product| product.memory));
    let part = part(service, name, pool, amount, memory)?;
    // One unit: more of them give more of a time slice or of the memory on no kind of sharing.
    Ok((Some(gpu(Some(device(&pool.resource, 1, Some(pool))))), Some(part)))
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

fn no_pool(service: &str, pool: &str) -> PlanError {
    PlanError::NoPool { service: service.to_owned(), pool: pool.to_owned() }
}

/// What was asked for, if a unit of the pool holds it.
fn part(
    service: &str,
    name: &str,
    pool: &GpuPool,
    amount: GpuAmount,
    memory: Option<Bytes>,
) -> Result<Part, PlanError> {
    let units = pool.units_per_gpu.max(1);
    let too_much = |asked: String, part: String| {
        let (service, pool) = (service.to_owned(), name.to_owned());
        Err(PlanError::TooMuchGpu { service, pool, asked, part })
    };
    match amount {
        GpuAmount::Share(share) => {
            // 1/3 of three units is one unit, whatever the last bit of a double says.
            if share.fraction() * f64::from(units) > 1.0 + 1e-9 {
                return too_much(share.to_string(), format!("1/{units}"));
            }
            // Truncation is right: a byte less is no less.
            let bytes = memory.map(|memory| Bytes((memory.0 as f64 * share.fraction()) as u64));
            Ok(Part { fraction: Some(share.fraction()), bytes })
        }
        GpuAmount::Memory(asked) => {
            if let Some(unit) = memory.map(|memory| Bytes(memory.0 / u64::from(units)))
                && asked > unit
            {
                return too_much(asked.to_string(), unit.to_string());
            }
            let fraction = memory.map(|memory| asked.0 as f64 / memory.0.max(1) as f64);
            Ok(Part { fraction, bytes: Some(asked) })
        }
        GpuAmount::Count(_) => Ok(Part { fraction: Some(1.0), bytes: memory }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_products_can_be_read() {
        assert_eq!(PRODUCTS["Tesla-T4"].memory, Bytes(15 << 30));
        assert_eq!(PRODUCTS["NVIDIA-L4"].aliases["gke"], "nvidia-l4");
    }

    #[test]
    fn parts() {
        let pool = |units_per_gpu| GpuPool {
            resource: "nvidia.com/gpu.shared".to_owned(),
            units_per_gpu,
            memory: None,
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
        };
        let share = |text: &str| GpuAmount::Share(text.parse().expect("a share"));
        let check = |amount, units, memory: Option<u64>| {
            part("iris", "t4", &pool(units), amount, memory.map(|gib| Bytes(gib << 30)))
                .map(|part| (part.fraction(), part.bytes().map(|bytes| bytes.0 >> 20)))
                .map_err(|error| error.to_string())
        };
        assert_eq!(check(share("1/4"), 4, None), Ok((Some(0.25), None)));
        assert_eq!(check(share("1/3"), 3, Some(24)), Ok((Some(0.333), Some(8192))));
        let error = check(share("1/2"), 4, None).expect_err("a unit is a quarter");
        assert!(error.contains("asks for 1/2 of a GPU") && error.contains("is 1/4"), "{error}");
        let memory = |gib: u64| GpuAmount::Memory(Bytes(gib << 30));
        assert_eq!(check(memory(6), 4, Some(24)), Ok((Some(0.25), Some(6144))));
        assert_eq!(check(memory(6), 4, None), Ok((None, Some(6144))));
        let error = check(memory(7), 4, Some(24)).expect_err("a unit has 6Gi");
        assert!(error.contains("is 6Gi"), "{error}");
    }
}
