//! Nodes and what they have.

use std::collections::BTreeMap;

use serde_json::Value;
use trainyard_rules::Quantity;

use super::{Object, text};

#[derive(Clone)]
pub(crate) struct Node<'a> {
    pub(crate) object: Object<'a>,
    pub(crate) allocatable: BTreeMap<&'a str, Quantity>,
    pub(crate) capacity: BTreeMap<&'a str, Quantity>,
}

/// Extended resources that are GPUs or parts of them.
pub(crate) fn is_gpu_resource(name: &str) -> bool {
    name == "nvidia.com/gpu"
        || name == "nvidia.com/gpu.shared"
        || name.starts_with("nvidia.com/mig-")
        || name == "amd.com/gpu"
        || name.starts_with("gpu.intel.com/")
        || name == "habana.ai/gaudi"
}

fn quantities<'a>(object: Object<'a>, pointer: &str) -> BTreeMap<&'a str, Quantity> {
    let map = object.at(pointer).and_then(Value::as_object);
    map.into_iter()
        .flatten()
        .filter_map(|(name, it)| Some((name.as_str(), quantity(it)?)))
        .collect()
}

/// A quantity as JSON has it: a text, or a bare number.
pub(crate) fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => Quantity::parse(text),
        Value::Number(number) => Quantity::parse(&number.to_string()),
        _ => None,
    }
}

impl<'a> Node<'a> {
    pub(super) fn new(object: Object<'a>) -> Self {
        Self {
            object,
            allocatable: quantities(object, "/status/allocatable"),
            capacity: quantities(object, "/status/capacity"),
        }
    }

    pub(crate) fn name(&self) -> &'a str {
        self.object.name()
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.object.condition_status("Ready") == "True"
    }

    /// Taints that keep pods away.
    pub(crate) fn taints(&self) -> impl Iterator<Item = &'a Value> {
        self.object
            .list("/spec/taints")
            .iter()
            .filter(|taint| matches!(text(taint, "/effect"), "NoSchedule" | "NoExecute"))
    }

    /// GPU resources of which it has some.
    pub(crate) fn gpus(&self) -> impl Iterator<Item = (&'a str, Quantity)> + '_ {
        let gpus = self.allocatable.iter().filter(|(name, _)| is_gpu_resource(name));
        gpus.map(|(name, count)| (*name, *count)).filter(|(_, count)| !count.is_zero())
    }

    /// What says that NVIDIA GPUs are in it, whatever it advertises: a label and its value.
    pub(crate) fn gpu_sign(&self) -> Option<(&'a str, &'a str)> {
        self.object.labels().find(|(key, value)| {
            let is_set = !value.is_empty() && *value != "false" && *value != "0";
            let names_gpu = matches!(
                *key,
                "nvidia.com/gpu.present"
                    | "nvidia.com/gpu.count"
                    | "nvidia.com/gpu.product"
                    | "cloud.google.com/gke-accelerator"
                    | "k8s.amazonaws.com/accelerator"
                    | "eks.amazonaws.com/instance-gpu-count"
                    | "karpenter.k8s.aws/instance-gpu-count"
                    | "kubernetes.azure.com/accelerator"
            );
            // The PCI vendor NVIDIA, as node feature discovery labels it.
            let is_pci = key.starts_with("feature.node.kubernetes.io/pci-") && key.contains("10de");
            is_set && (names_gpu || is_pci)
        })
    }

    /// The version of NVIDIA's driver by GPU feature discovery, as `570.124.6`.
    pub(crate) fn driver_version(&self) -> Option<String> {
        if let Some(full) = self.object.label("nvidia.com/cuda.driver-version.full") {
            return Some(full.to_owned());
        }
        let part = |name: &str| {
            ["nvidia.com/cuda.driver.", "nvidia.com/cuda.driver-version."]
                .iter()
                .find_map(|prefix| self.object.label(&format!("{prefix}{name}")))
        };
        let major = part("major")?;
        let rest = [part("minor"), part("rev").or_else(|| part("revision"))];
        let rest: Vec<&str> = rest.into_iter().flatten().collect();
        Some(std::iter::once(major).chain(rest).collect::<Vec<_>>().join("."))
    }
}
