//! Samples of GPU exporters, and whose GPU they are about.

use crate::snapshot::Sample;
use crate::view::{Pod, View};

/// The pod that has the sample's GPU: dcgm-exporter names it in one of two sets of labels.
pub(super) fn pod_of<'a>(view: &View<'a>, sample: &Sample) -> Option<Pod<'a>> {
    let label =
        |name: &str| sample.labels.get(name).map(String::as_str).filter(|it| !it.is_empty());
    // What Prometheus scraped has the exporter's own pod in `pod`, and the user's in `exported_pod`.
    let namespace = label("exported_namespace").or_else(|| label("namespace"))?;
    let name = label("exported_pod").or_else(|| label("pod"))?;
    view.pod(namespace, name)
}

/// The node that the GPU is in.
pub(crate) fn node_of(sample: &Sample) -> Option<&str> {
    ["Hostname", "hostname", "node", "exported_node"]
        .iter()
        .find_map(|name| sample.labels.get(*name).map(String::as_str))
        .filter(|it| !it.is_empty())
}

/// `GPU 3`, by whichever label says it.
pub(crate) fn gpu_of(sample: &Sample) -> String {
    let label = ["gpu", "UUID", "device"].iter().find_map(|name| sample.labels.get(*name));
    label.map_or_else(|| "a GPU".to_owned(), |it| format!("GPU {it}"))
}
