use crate::context::Context;
use crate::facts;
use crate::model::{Container, Image, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, rule};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::LazyLock;

rule! {
    /// Image that its node cannot run
    ///
    /// ## What it does
    /// Compares an image's CUDA version with the driver that the pod selects by label
    /// (`nvidia.com/cuda.driver.major`), and an image's architecture, where its name tells, with
    /// `kubernetes.io/arch` and with cards that exist on one architecture only (GH200, GB200).
    ///
    /// ## Why it matters
    /// CUDA of a newer major version than the driver knows fails with "CUDA driver version is
    /// insufficient"; an image of another architecture with "exec format error".
    ///
    /// ## How to fix it
    /// Take an image that fits, or select other nodes.
    GPU26, Warning,
    evidence: "docs.nvidia.com, CUDA compatibility: oldest driver for each major version (data/lint/cuda-drivers.json)",
    check: Check::Container(check),
    examples: [
        Example::bad("CUDA 13 on driver 535", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  nodeSelector: {nvidia.com/cuda.driver.major: \"535\"}
  containers:
    - name: main
      image: nvcr.io/nvidia/cuda:13.0.0-base-ubuntu24.04
      resources: {limits: {nvidia.com/gpu: 1}}
", &[8]),
        Example::bad("an amd64 image on arm64", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  nodeSelector: {kubernetes.io/arch: arm64}
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0-amd64
      resources: {limits: {nvidia.com/gpu: 1}}
", &[8]),
        Example::good("CUDA 12 on driver 535", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  nodeSelector: {nvidia.com/cuda.driver.major: \"535\"}
  containers:
    - name: main
      image: nvcr.io/nvidia/cuda:12.8.0-base-ubuntu24.04
      resources: {limits: {nvidia.com/gpu: 1}}
"),
    ],
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Drivers {
    /// The oldest driver's major version, by CUDA's major version.
    oldest_driver: BTreeMap<String, i64>,
}

static DRIVERS: LazyLock<Drivers> =
    LazyLock::new(|| facts::parse(include_str!("../../../../data/lint/cuda-drivers.json")));

fn check(_: &Context<'_>, pod: &Pod<'_>, container: &Container<'_>, report: &mut Report) {
    let Some(image) = container.image else { return };
    for wanted in pod.node_requirements() {
        let [value] = wanted.values.as_slice() else { continue };
        match wanted.key {
            "nvidia.com/cuda.driver.major" | "nvidia.com/cuda.driver-version.major" => {
                let (Some(cuda), Ok(driver)) = (cuda_major(&image), value.parse::<i64>()) else {
                    continue;
                };
                let Some(oldest) = DRIVERS.oldest_driver.get(&cuda.to_string()) else { continue };
                if driver < *oldest {
                    report
                        .at(
                            container.image_node,
                            format!("the container fails with \"CUDA driver version is insufficient\": CUDA {cuda} needs driver {oldest} or newer, and the pod selects nodes with {driver}"),
                        )
                        .fix("take an image with an older CUDA, or select nodes with a newer driver");
                }
            }
            "kubernetes.io/arch" => tell_architecture(container, &image, value, report),
            "nvidia.com/gpu.product" if value.contains("GH200") || value.contains("GB200") => {
                tell_architecture(container, &image, "arm64", report);
            }
            _ => {}
        }
    }
}

fn tell_architecture(
    container: &Container<'_>,
    image: &Image<'_>,
    node: &str,
    report: &mut Report,
) {
    let Some(own) = architecture(image).filter(|own| *own != node) else { return };
    report
        .at(
            container.image_node,
            format!("the container fails with \"exec format error\": the image is for {own} and the pod selects {node} nodes"),
        )
        .fix(format!("take the image for {node}, or one for both"));
}

/// The architecture that an image's name or tag tells.
fn architecture(image: &Image<'_>) -> Option<&'static str> {
    let text = format!("{}:{}", image.short_name(), image.tag.unwrap_or_default());
    let has = |words: &[&str]| {
        text.split(['-', '_', ':', '.']).any(|part| words.contains(&part))
            || words.iter().any(|w| w.contains('_') && text.contains(w))
    };
    let (arm, amd) = (has(&["arm64", "aarch64"]), has(&["amd64", "x86_64"]));
    match (arm, amd) {
        (true, false) => Some("arm64"),
        (false, true) => Some("amd64"),
        _ => None,
    }
}

/// CUDA's major version, where the tag is one of CUDA or names it (`cuda12.4`).
fn cuda_major(image: &Image<'_>) -> Option<u32> {
    let tag = image.tag?;
    if image.repository.ends_with("nvidia/cuda") {
        return image.version()?.first().copied();
    }
    let at = tag.find("cuda")?;
    let digits: String = tag.get(at + 4..)?.chars().take_while(char::is_ascii_digit).collect();
    // `cuda12.4` and `cuda124` both are in use.
    let digits = if digits.len() > 2 { digits.get(..2)? } else { &digits };
    digits.parse().ok()
}
