//! What nodes announce of GPUs, and into how many parts each is cut.

use trainyard_packing::Units;

use crate::view::Node;

/// Labels that say what the GPUs are.
const PRODUCTS: [&str; 6] = [
    "nvidia.com/gpu.product",
    "cloud.google.com/gke-accelerator",
    "k8s.amazonaws.com/accelerator",
    "karpenter.k8s.aws/instance-gpu-name",
    "kubernetes.azure.com/accelerator",
    "amd.com/gpu.product-name",
];

/// Of GPUs that work: broken ones are not allocatable.
pub(super) fn units(node: &Node<'_>) -> Vec<Units> {
    let product = PRODUCTS.iter().find_map(|label| node.object.label(label)).unwrap_or_default();
    let number = |label: &str| node.object.label(label).and_then(|text| text.parse::<u32>().ok());
    let gpus = number("nvidia.com/gpu.count").filter(|gpus| *gpus > 0);
    let replicas = number("nvidia.com/gpu.replicas").filter(|replicas| *replicas > 0);
    node.gpus()
        .map(|(resource, count)| {
            let count = u32::try_from(count.units()).unwrap_or(0);
            // One that is broken announces less than it was cut into.
            let by_gpus = || gpus.map_or(count, |gpus| count.div_ceil(gpus));
            let per_gpu = match resource {
                "nvidia.com/gpu.shared" => replicas.unwrap_or_else(by_gpus),
                // Time-slicing without a name of its own.
                "nvidia.com/gpu" => replicas.unwrap_or(1),
                _ if resource.starts_with("nvidia.com/mig-") => by_gpus(),
                _ => 1,
            };
            let (resource, product) = (resource.to_owned(), product.to_owned());
            Units { resource, product, count, per_gpu: per_gpu.max(1) }
        })
        .collect()
}
