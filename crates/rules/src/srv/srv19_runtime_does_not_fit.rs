use crate::context::Context;
use crate::model::Object;
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// InferenceService whose runtime is not there or does not know the format
    ///
    /// ## What it does
    /// Looks up the runtime that a KServe InferenceService names: in the bundle, or among those that
    /// KServe installs. Where the file defines runtimes and none has the name, and where the runtime's
    /// formats do not hold the model's, it is reported.
    ///
    /// ## Why it matters
    /// KServe refuses to deploy the model: the InferenceService stays not ready with "No runtime
    /// found" or "does not support".
    ///
    /// ## How to fix it
    /// Name a runtime that exists and lists the format in `supportedModelFormats`.
    SRV19, Error,
    evidence: "kserve/kserve pkg/controller/v1beta1/inferenceservice/utils and config/runtimes",
    check: Check::Objects(&["InferenceService"], check),
    examples: [
        Example::bad("another name", "\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: a}
spec:
  predictor:
    model:
      modelFormat: {name: sklearn}
      runtime: ours
---
apiVersion: serving.kserve.io/v1alpha1
kind: ServingRuntime
metadata: {name: theirs}
spec:
  supportedModelFormats:
    - {name: sklearn, version: \"1\"}
  containers: [{name: kserve-container, image: \"r:1@sha256:0\"}]
", &[8]),
        Example::bad("another format", "\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: a}
spec:
  predictor:
    model:
      modelFormat: {name: sklearn}
      runtime: ours
---
apiVersion: serving.kserve.io/v1alpha1
kind: ServingRuntime
metadata: {name: ours}
spec:
  supportedModelFormats:
    - {name: onnx, version: \"1\"}
  containers: [{name: kserve-container, image: \"r:1@sha256:0\"}]
", &[7]),
        Example::good("it fits", "\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: a}
spec:
  predictor:
    model:
      modelFormat: {name: sklearn}
      runtime: ours
---
apiVersion: serving.kserve.io/v1alpha1
kind: ServingRuntime
metadata: {name: ours}
spec:
  supportedModelFormats:
    - {name: sklearn, version: \"1\"}
  containers: [{name: kserve-container, image: \"r:1@sha256:0\"}]
"),
        Example::good("the cluster may have it", "\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: a}
spec:
  predictor:
    model:
      modelFormat: {name: sklearn}
      runtime: ours
"),
    ],
}

fn check(context: &Context<'_>, service: &Object<'_>, report: &mut Report) {
    // OME has formats of another shape.
    if service.group() != "serving.kserve.io" {
        return;
    }
    let bundle = context.bundle;
    for part in ["predictor", "transformer", "explainer"] {
        let model = service.spec().get(part).get("model");
        let wanted = model.get("runtime");
        let Some(name) = wanted.text() else { continue };
        let own = bundle.find("ServingRuntime", service.namespace, name, service.root);
        let runtime = own.or_else(|| bundle.find("ClusterServingRuntime", "", name, service.root));
        let Some(runtime) = runtime else {
            // The cluster may have others; a file that brings runtimes brings the one it means.
            let brings = bundle
                .in_file("ServingRuntime", service.root)
                .any(|other| other.may_share_namespace(service));
            if brings && !name.starts_with("kserve-") {
                report
                    .at(wanted, format!("the model is not deployed unless the cluster has it: no ServingRuntime of this file is called `{name}`"))
                    .fix("name a runtime that exists");
            }
            continue;
        };
        if bundle.distance(runtime.root, service.root) > 1 {
            continue;
        }
        let format = model.path("modelFormat.name");
        let formats = runtime.spec().get("supportedModelFormats");
        if formats.is_empty() || !format.is_set() {
            continue;
        }
        if formats.items().all(|known| known.get("name").str() != format.str()) {
            let known: Vec<&str> = formats.items().map(|known| known.get("name").str()).collect();
            report
                .at(
                    format,
                    format!(
                        "the model is not deployed: runtime `{name}` serves {}, not `{}`",
                        known.join(", "),
                        format.str()
                    ),
                )
                .fix("choose another runtime, or the format that it serves");
        }
    }
}
