use crate::context::Context;
use crate::model::{Container, Pod, Purpose};
use crate::report::Report;
use crate::rule::{Check, Example, rule};
use crate::yaml::{Node, Span};

rule! {
    /// Weights in a format that can run code
    ///
    /// ## What it does
    /// Looks at what servers load (`storageUri`, arguments, variables) for files of the pickle
    /// family: `.pt`, `.pth`, `.pkl`, `.pickle`, `.joblib`, `.ckpt`, `pytorch_model.bin`, and
    /// Keras' `.h5`. Training pods are left alone: they read what they wrote.
    ///
    /// ## Why it matters
    /// Loading a pickle runs whatever code the file says, with the server's rights: whoever can
    /// write to the store runs code in the cluster. Scanners that look for bad names have been
    /// got around again and again. Keras' `.h5` may hold layers made of code.
    ///
    /// ## How to fix it
    /// Convert to safetensors, ONNX or GGUF, which hold numbers only.
    SEC06, Warning,
    evidence: "huggingface.co/docs/hub/security-pickle; docs.python.org, pickle: never unpickle what is not trusted; CVE-2025-1716 (a scanner passed by)",
    check: Check::Container(check),
    examples: [
        Example::bad("joblib from a store", "\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: a}
spec:
  predictor:
    model:
      modelFormat: {name: sklearn}
      storageUri: s3://models/iris/model.joblib
", &[8]),
        Example::bad("a checkpoint of PyTorch", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: pytorch/torchserve:0.12.0
      args: [torchserve, --models, /models/net.pt]
", &[8]),
        Example::good("safetensors", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      args: [--model, /models/net/model.safetensors]
"),
        Example::good("training reads its own checkpoint", "\
apiVersion: kubeflow.org/v1
kind: PyTorchJob
metadata: {name: a}
spec:
  pytorchReplicaSpecs:
    Master:
      template:
        spec:
          containers:
            - name: pytorch
              image: a:1
              args: [torchrun, train.py, --resume, /data/last.pt]
"),
    ],
}

/// Endings of files that are pickles, or hold some, or hold code otherwise.
const ENDINGS: [&str; 8] = [".pt", ".pth", ".pkl", ".pickle", ".joblib", ".ckpt", ".h5", ".hdf5"];
/// Endings of `.bin` files that are pickles: other `.bin` files are of GGML, fastText and so on.
const BINARIES: [&str; 3] =
    ["pytorch_model.bin", "adapter_model.bin", "diffusion_pytorch_model.bin"];

fn check(_: &Context<'_>, pod: &Pod<'_>, container: &Container<'_>, report: &mut Report) {
    if !pod.serves() {
        return;
    }
    let storage = [container.node.get("storageUri"), container.node.path("storage.path")];
    for node in storage {
        if let Some(name) = pickle(node.str()) {
            tell(report, node, node.find(name), name);
        }
    }
    // Beside the server there may be what reads files that its neighbours wrote.
    let server = container.has_accelerator()
        || container.framework.is_some_and(|found| found.purpose() == Purpose::Serving);
    if !server {
        return;
    }
    for word in &container.words {
        let value = word.text.split_once('=').map_or(&*word.text, |(_, value)| value);
        if let Some(name) = pickle(value.trim_matches(['"', '\''])) {
            tell(report, word.node, word.node.find(name), name);
        }
    }
    for env in &container.env {
        if let Some(name) = pickle(env.value.str()) {
            tell(report, env.value, env.value.find(name), name);
        }
    }
}

fn tell(report: &mut Report, node: Node<'_>, span: Span, name: &str) {
    report
        .at_span(
            node,
            span,
            format!(
                "whoever can write this file runs code in the server: `{name}` is of a format that may hold code, which loading it executes"
            ),
        )
        .fix("convert the weights to safetensors, ONNX or GGUF");
}

/// The name of the file at the end of a path, if it is of the pickle family.
fn pickle(path: &str) -> Option<&str> {
    let name = path.split(['?', '#']).next()?.rsplit('/').next()?;
    let known = ENDINGS.iter().any(|ending| name.len() > ending.len() && name.ends_with(ending))
        || BINARIES.iter().any(|binary| name.ends_with(binary));
    // A word of a sentence or a pattern is no file.
    (known && !name.contains([' ', '*', '$', '{'])).then_some(name)
}
