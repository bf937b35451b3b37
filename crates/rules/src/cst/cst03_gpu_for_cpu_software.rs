use std::sync::LazyLock;

use serde::Deserialize;

use crate::context::Context;
use crate::facts;
use crate::model::{Container, DeviceKind, Image, Pod, glob};
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// GPU for software that computes on the CPU
    ///
    /// ## What it does
    /// Looks at containers that ask for GPUs and run an image without GPU code (`tensorflow/serving`
    /// without `-gpu`, `text-embeddings-inference:cpu-…`), or a model of a format whose server
    /// computes on the CPU (scikit-learn, LightGBM, PMML).
    ///
    /// Silent for images that are not known, for models whose service names a runtime, and on TPUs and
    /// their like, whose code is installed into images for the CPU.
    ///
    /// ## Why it matters
    /// The GPU is paid for, is taken from others, and does nothing. The server runs at the speed
    /// of the CPU, and nobody is told.
    ///
    /// ## How to fix it
    /// Use the GPU variant of the image, or leave the GPU out.
    CST03, Warning,
    evidence: "the makers' lists of image variants, see data/lint/cpu-only.json",
    check: Check::Container(check),
    examples: [
        Example::bad("the CPU variant of an image", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: tensorflow/serving:2.16.1
      resources: {limits: {nvidia.com/gpu: 1}}
", &[8]),
        Example::bad("a model of scikit-learn", "\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: a}
spec:
  predictor:
    model:
      modelFormat: {name: sklearn}
      storageUri: s3://models/iris
      resources: {limits: {nvidia.com/gpu: 1}}
", &[9]),
        Example::good("the GPU variant", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: tensorflow/serving:2.16.1-gpu
      resources: {limits: {nvidia.com/gpu: 1}}
"),
        Example::good("no GPU", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: tensorflow/serving:2.16.1
"),
        Example::good("a TPU", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: tensorflow/tensorflow:2.14.0
      command: [bash, -c, pip3 install tensorflow-tpu; python3 train.py]
      resources: {limits: {google.com/tpu: 4}}
"),
    ],
}

#[derive(Deserialize)]
struct Table {
    images: Vec<Known>,
    /// Formats of models whose servers compute on the CPU.
    formats: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Known {
    /// A glob over repositories without registry.
    repository: String,
    /// Words in tags of variants with GPU code; without these all have none.
    #[serde(default)]
    gpu_tags: Vec<String>,
    /// Words in tags of variants without; if set, other tags are not known.
    #[serde(default)]
    cpu_tags: Vec<String>,
}

static TABLE: LazyLock<Table> =
    LazyLock::new(|| facts::parse(include_str!("../../../../data/lint/cpu-only.json")));

fn check(_: &Context<'_>, _: &Pod<'_>, container: &Container<'_>, report: &mut Report) {
    let Some(device) = container
        .devices
        .iter()
        .find(|device| device.kind != DeviceKind::Accelerator && device.count.unwrap_or(1) > 0)
    else {
        return;
    };
    let what = if let Some(image) = container.image.filter(is_cpu_only) {
        format!("`{}` holds no code for GPUs", image.text)
    } else if let Some(format) = cpu_format(container) {
        format!("the server of models of format `{format}` computes on the CPU")
    } else {
        return;
    };
    report
        .at(device.node(), format!("this accelerator is paid for and does nothing: {what}"))
        .fix("use a variant of the image for GPUs, or leave the accelerator out");
}

fn is_cpu_only(image: &Image<'_>) -> bool {
    // Without a tag, or with one that was made elsewhere, nothing is known.
    let tag = image.tag.unwrap_or("latest");
    let has = |words: &[String]| words.iter().any(|word| tag.contains(word.as_str()));
    TABLE.images.iter().any(|known| {
        glob(&known.repository, image.repository)
            && !has(&known.gpu_tags)
            && (known.cpu_tags.is_empty() || has(&known.cpu_tags))
            && (image.digest.is_none() || image.tag.is_some())
    })
}

fn cpu_format<'b>(container: &Container<'b>) -> Option<&'b str> {
    // The key is the format in KServe's older notation: `predictor.sklearn`.
    if container.node.get("runtime").is_set() || container.image_node.is_set() {
        return None;
    }
    let format = container.node.path("modelFormat.name");
    let format = format.text().unwrap_or_else(|| container.node.key());
    TABLE.formats.iter().any(|known| known == format).then_some(format)
}
