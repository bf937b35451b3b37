use crate::context::Context;
use crate::model::{FrameworkKind, Manager, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// Knative's default of 100 requests at once for a language model
    ///
    /// ## What it does
    /// Looks at language models on a GPU that Knative scales (its own Services, and KServe's
    /// InferenceServices in that mode) without a target: no `autoscaling.knative.dev/target`, no
    /// `containerConcurrency`, no `scaleTarget`.
    ///
    /// Silent where the replicas are fixed, and where KServe does not use Knative or may not.
    ///
    /// ## Why it matters
    /// A second replica comes when 70 requests are in flight in the first (70 percent of 100).
    /// Answers of a language model are slow long before.
    ///
    /// ## How to fix it
    /// Measure how many requests one replica answers well, and set that as target.
    SCL14, Warning,
    evidence: "knative.dev docs, autoscaling: concurrency (container-concurrency-target-default 100, target utilisation 70); kserve docs, autoscaling: scaleTarget",
    check: Check::Pod(check),
    examples: [
        Example::bad("KServe without a target", "\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: llm
  annotations: {serving.kserve.io/deploymentMode: Serverless}
spec:
  predictor:
    maxReplicas: 4
    model:
      modelFormat: {name: huggingface}
      args: [--model_id=meta-llama/Llama-3.1-8B-Instruct]
      resources:
        limits: {nvidia.com/gpu: 1}
", &[7]),
        Example::bad("Knative's own", "\
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: llm}
spec:
  template:
    spec:
      containers:
        - image: vllm/vllm-openai:v0.12.0
          name: main
          resources:
            limits: {nvidia.com/gpu: 1}
", &[6]),
        Example::good("a target", "\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: llm
  annotations:
    serving.kserve.io/deploymentMode: Serverless
    autoscaling.knative.dev/target: '8'
spec:
  predictor:
    model:
      modelFormat: {name: huggingface}
      args: [--model_id=meta-llama/Llama-3.1-8B-Instruct]
      resources:
        limits: {nvidia.com/gpu: 1}
"),
        Example::good("another mode", "\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: llm
  annotations: {serving.kserve.io/deploymentMode: RawDeployment}
spec:
  predictor:
    model:
      modelFormat: {name: huggingface}
      resources:
        limits: {nvidia.com/gpu: 1}
"),
    ],
}

fn check(_: &Context<'_>, pod: &Pod<'_>, report: &mut Report) {
    let object = &pod.object;
    let annotation = |key: &str| {
        let own = pod.annotation(key);
        if own.is_set() { own } else { object.annotation(key) }
    };
    let annotations = || {
        let own = pod.metadata.get("annotations").entries();
        own.chain(object.metadata().get("annotations").entries())
    };
    let is_knative = match pod.manager {
        Manager::Knative => object.group() == "serving.knative.dev",
        Manager::InferenceService if object.group() == "serving.kserve.io" => {
            let mode = object.annotation("serving.kserve.io/deploymentMode");
            matches!(mode.str(), "Serverless" | "Knative")
                || !mode.is_set()
                    && annotations().any(|entry| entry.key.starts_with("autoscaling.knative.dev/"))
        }
        _ => false,
    };
    if !is_knative || !pod.has_accelerator() || !is_language_model(pod) {
        return;
    }
    let (least, most) = (pod.spec.get("minReplicas").int(), pod.spec.get("maxReplicas").int());
    let fixed = least.is_some() && least == most;
    let told = annotation("autoscaling.knative.dev/target").is_set()
        || annotation("autoscaling.knative.dev/metric").is_set()
        || matches!(annotation("autoscaling.knative.dev/class").str(), c if c.contains("hpa"))
        || matches!(
            object.annotation("serving.kserve.io/autoscalerClass").str(),
            "none" | "external" | "hpa" | "keda"
        )
        || pod.spec.get("containerConcurrency").int().is_some_and(|count| count > 0)
        || pod.spec.get("scaleTarget").is_set()
        || pod.spec.get("scaleMetric").is_set();
    if fixed || told {
        return;
    }
    report
        .at(
            pod.spec.get("containerConcurrency"),
            "a second replica comes at 70 requests in flight (Knative's default target of 100): a language model is slow long before",
        )
        .fix("set `autoscaling.knative.dev/target` (KServe: `scaleTarget`) to what one replica answers well");
}

fn is_language_model(pod: &Pod<'_>) -> bool {
    use FrameworkKind::{LlamaCpp, Lmdeploy, Nim, Ollama, Sglang, TensorrtLlm, Tgi, Vllm};
    pod.main_containers().any(|container| {
        let by_server = container.framework.is_some_and(|found| {
            matches!(
                found.kind,
                LlamaCpp | Lmdeploy | Nim | Ollama | Sglang | TensorrtLlm | Tgi | Vllm
            )
        });
        let format = container.node.path("modelFormat.name");
        // KServe's Hugging Face server runs other tasks too, of models that are small.
        let large = container
            .weights()
            .and_then(|weights| weights.parameters)
            .is_some_and(|parameters| parameters >= 1e9);
        by_server || format.is("vllm") || format.is("huggingface") && large
    })
}
