use crate::context::Context;
use crate::facts;
use crate::model::{Container, Pod};
use crate::model::{glob, version};
use crate::report::Report;
use crate::rule::{Check, Example, rule};
use serde::Deserialize;
use std::sync::LazyLock;

rule! {
    /// Device plugin that is too old
    ///
    /// ## What it does
    /// Compares the version of NVIDIA's device plugin with the oldest that is still sensible
    /// (data/lint/image-floors.json).
    ///
    /// ## Why it matters
    /// Before v0.15 the plugin cannot share GPUs by MPS, and feature discovery is an image of its own
    /// whose versions drift apart. Older ones lack CDI and health checks for newer cards.
    ///
    /// ## How to fix it
    /// Update the image, best together with the GPU operator.
    GPU18, Warning,
    evidence: "NVIDIA/k8s-device-plugin releases: v0.15.0 added MPS and merged gpu-feature-discovery; its README names v0.17.1",
    check: Check::Container(check),
    examples: [
        Example::bad("v0.14.0", "\
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: p}
spec:
  selector: {matchLabels: {name: p}}
  template:
    metadata: {labels: {name: p}}
    spec:
      containers:
        - name: p
          image: nvcr.io/nvidia/k8s-device-plugin:v0.14.0
", &[11]),
        Example::good("a current one", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: nvcr.io/nvidia/k8s-device-plugin:v0.17.1
      args: [x]
"),
        Example::bad("versions before 0.1 were called 1.0.0-beta", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: nvidia/k8s-device-plugin:1.0.0-beta4
", &[7]),
    ],
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Floors {
    floors: Vec<Floor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Floor {
    /// Globs over repositories without registry.
    images: Vec<String>,
    /// The oldest version that is not reported.
    oldest: String,
    /// Tags that are older than any number says.
    ancient_prefixes: Vec<String>,
    /// What older ones lack.
    lack: String,
    /// What to take.
    take: String,
}

static FLOORS: LazyLock<Floors> =
    LazyLock::new(|| facts::parse(include_str!("../../../../data/lint/image-floors.json")));

fn check(_: &Context<'_>, _: &Pod<'_>, container: &Container<'_>, report: &mut Report) {
    let Some(image) = container.image else { return };
    let floor = FLOORS
        .floors
        .iter()
        .find(|floor| floor.images.iter().any(|pattern| glob(pattern, image.repository)));
    let (Some(floor), Some(tag)) = (floor, image.tag) else { return };
    let ancient = floor.ancient_prefixes.iter().any(|prefix| tag.starts_with(prefix));
    let older = match (image.version(), version(&floor.oldest)) {
        (Some(own), Some(oldest)) => own < oldest,
        _ => false,
    };
    if !ancient && !older {
        return;
    }
    report
        .at(
            container.image_node,
            format!(
                "{tag} of `{}` is older than {}: {}",
                image.short_name(),
                floor.oldest,
                floor.lack
            ),
        )
        .fix(format!("take {} or newer", floor.take));
}
