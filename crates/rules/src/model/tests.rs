use crate::model::{Bundle, Manager, Purpose, Selector};
use crate::yaml::{Documents, Source};

fn read(text: &str) -> Documents {
    let documents = Documents::read(vec![Source { name: "a.yaml".into(), text: text.into() }]);
    assert!(documents.errors.is_empty(), "{:?}", documents.errors);
    documents
}

/// What is known of a pod template: manager, role, replicas, purpose, whether it is complete, GPUs.
type PodFacts = (Manager, &'static str, Option<i64>, Purpose, bool, i64);

#[track_caller]
fn pods(text: &str, expected: &[PodFacts]) {
    let documents = read(text);
    let bundle = Bundle::new(&documents);
    let found: Vec<_> = bundle
        .pods
        .iter()
        .map(|p| (p.manager, p.role, p.replicas, p.purpose, p.complete, p.gpus()))
        .collect();
    assert_eq!(found, expected);
}

const CONTAINERS: &str =
    "containers: [{name: c, image: a, resources: {limits: {nvidia.com/gpu: 2}}}]";

#[test]
fn pod_templates_are_found_in_any_kind() {
    use Manager as M;
    use Purpose as P;
    let c = CONTAINERS;
    pods(
        &format!("{{apiVersion: v1, kind: Pod, metadata: {{name: a}}, spec: {{{c}}}}}"),
        &[(M::Pod, "", Some(1), P::Unknown, true, 2)],
    );
    pods(
        &format!(
            "{{apiVersion: apps/v1, kind: Deployment, spec: {{selector: {{matchLabels: {{a: b}}}}, template: {{spec: {{{c}}}}}}}}}"
        ),
        &[(M::Deployment, "", Some(1), P::Unknown, true, 2)],
    );
    pods(
        &format!(
            "{{apiVersion: batch/v1, kind: CronJob, spec: {{jobTemplate: {{spec: {{parallelism: 3, template: {{spec: {{{c}}}}}}}}}}}}}"
        ),
        &[(M::CronJob, "", Some(3), P::Batch, true, 2)],
    );
    pods(
        &format!(
            "{{apiVersion: ray.io/v1, kind: RayCluster, spec: {{headGroupSpec: {{template: {{spec: {{{c}}}}}}}, workerGroupSpecs: [{{groupName: w, replicas: 4, template: {{spec: {{{c}}}}}}}]}}}}"
        ),
        &[
            (M::Ray, "head", Some(1), P::Unknown, true, 2),
            (M::Ray, "w", Some(4), P::Unknown, true, 2),
        ],
    );
    pods(
        &format!(
            "{{apiVersion: jobset.x-k8s.io/v1alpha2, kind: JobSet, spec: {{replicatedJobs: [{{name: w, replicas: 2, template: {{spec: {{parallelism: 4, template: {{spec: {{{c}}}}}}}}}}}]}}}}"
        ),
        &[(M::JobSet, "w", Some(8), P::Batch, true, 2)],
    );
    pods(
        &format!(
            "{{apiVersion: leaderworkerset.x-k8s.io/v1, kind: LeaderWorkerSet, spec: {{replicas: 2, leaderWorkerTemplate: {{size: 4, leaderTemplate: {{spec: {{{c}}}}}, workerTemplate: {{spec: {{{c}}}}}}}}}}}"
        ),
        &[
            (M::LeaderWorkerSet, "leader", Some(2), P::Unknown, true, 2),
            (M::LeaderWorkerSet, "worker", Some(6), P::Unknown, true, 2),
        ],
    );
    pods(
        &format!(
            "{{apiVersion: kubeflow.org/v1, kind: PyTorchJob, spec: {{pytorchReplicaSpecs: {{Master: {{replicas: 1, template: {{spec: {{{c}}}}}}}, Worker: {{replicas: 3, template: {{spec: {{{c}}}}}}}}}}}}}"
        ),
        &[
            (M::TrainingOperator, "Master", Some(1), P::Training, true, 2),
            (M::TrainingOperator, "Worker", Some(3), P::Training, true, 2),
        ],
    );
    pods(
        &format!(
            "{{apiVersion: batch.volcano.sh/v1alpha1, kind: Job, spec: {{tasks: [{{name: w, replicas: 2, template: {{spec: {{{c}}}}}}}]}}}}"
        ),
        &[(M::Volcano, "w", Some(2), P::Batch, true, 2)],
    );
    pods(
        "{apiVersion: serving.kserve.io/v1beta1, kind: InferenceService, spec: {predictor: {model: {modelFormat: {name: onnx}, resources: {limits: {nvidia.com/gpu: 1}}}}}}",
        &[(M::InferenceService, "predictor", Some(1), P::Serving, false, 1)],
    );
    pods(
        "{apiVersion: ome.io/v1beta1, kind: ClusterServingRuntime, spec: {engineConfig: {runner: {name: r, image: 'lmsysorg/sglang:v1', resources: {limits: {nvidia.com/gpu: 8}}}}}}",
        &[(M::Runtime, "engineConfig", None, P::Serving, false, 8)],
    );
    pods(
        "{apiVersion: argoproj.io/v1alpha1, kind: Workflow, spec: {templates: [{name: t, container: {image: a}}, {name: u, script: {image: b}}]}}",
        &[(M::Argo, "t", None, P::Batch, false, 0), (M::Argo, "u", None, P::Batch, false, 0)],
    );
    pods(
        &format!(
            "{{apiVersion: x.example.com/v1, kind: Thing, spec: {{deep: [{{podSpec: {{{c}}}}}]}}}}"
        ),
        &[(M::Unknown, "", None, P::Unknown, false, 2)],
    );
    // Patterns and schemas are no pods.
    for kind in [
        "kyverno.io/v1, kind: ClusterPolicy",
        "apiextensions.k8s.io/v1, kind: CustomResourceDefinition",
    ] {
        pods(&format!("{{apiVersion: {kind}, spec: {{{c}}}}}"), &[]);
    }
    // Objects in a list are objects.
    pods(
        &format!(
            "{{apiVersion: v1, kind: List, items: [{{apiVersion: v1, kind: Pod, spec: {{{c}}}}}]}}"
        ),
        &[(M::Pod, "", Some(1), P::Unknown, true, 2)],
    );
}

#[track_caller]
fn flags(container: &str, names: &[&str], expected: Option<(Option<&str>, usize)>) {
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec:\n  containers:\n    - name: c\n      image: a\n{container}"
    );
    let documents = read(&text);
    let bundle = Bundle::new(&documents);
    let flag = bundle.pods[0].containers[0].flag(names);
    let line = |at| documents.files[0].place(at).line;
    let found = flag.as_ref().map(|flag| (flag.value.as_deref(), line(flag.place().start)));
    assert_eq!(found, expected);
}

#[test]
fn flags_are_read_however_they_are_written() {
    let name: &[&str] = &["--tensor-parallel-size", "-tp"];
    flags("      args: [--tensor-parallel-size, '4']\n", name, Some((Some("4"), 8)));
    flags("      args: [--tensor_parallel_size=4]\n", name, Some((Some("4"), 8)));
    flags("      args: ['-tp=4']\n", name, Some((Some("4"), 8)));
    flags("      args: ['--tensor-parallel-size 4']\n", name, Some((Some("4"), 8)));
    flags(
        "      command: [bash, -lc]\n      args:\n        - |\n          # --tensor-parallel-size 1\n          exec vllm serve x \\\n            --tensor-parallel-size \"4\" && echo\n",
        name,
        Some((Some("4"), 11)),
    );
    flags(
        "      command: [sh, -c, 'vllm serve --tensor-parallel-size $TP']\n      env: [{name: TP, value: '2'}]\n",
        name,
        Some((Some("2"), 8)),
    );
    flags(
        "      command: [sh, -c, 'vllm serve --tensor-parallel-size $TP']\n",
        name,
        Some((None, 8)),
    );
    flags("      args: [--tensor-parallel-size, --other]\n", name, Some((None, 8)));
    flags("      args: [--model, x]\n", name, None);
    flags("      args: [--n, '-1']\n", &["--n"], Some((Some("-1"), 8)));
}

#[test]
fn references_prefer_what_is_near() {
    let one = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec:\n  replicas: 3\n  selector: {matchLabels: {app: a}}\n  template:\n    metadata: {labels: {app: a}}\n    spec: {containers: [{name: c, image: x}]}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {selector: {app: a}}\n";
    let hpa = "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {name: h}\nspec: {scaleTargetRef: {kind: Deployment, name: a}, minReplicas: 2, maxReplicas: 5}\n";
    let sources = [("x/a.yaml", one), ("y/a.yaml", one), ("y/h.yaml", hpa)]
        .map(|(name, text)| Source { name: name.into(), text: text.into() });
    let documents = Documents::read(sources.to_vec());
    let bundle = Bundle::new(&documents);
    let (first, second) = (&bundle.pods[0], &bundle.pods[1]);
    assert_eq!(bundle.services_of(first).count(), 1);
    let service = bundle.services_of(second).next().unwrap();
    assert_eq!(service.root.file().name, "y/a.yaml");
    let selector = Selector::plain(service.spec().get("selector"));
    let selected = bundle.pods_selected(&selector, "", service.root);
    assert_eq!(selected.len(), 1);
    assert_eq!(selected[0].index, second.index);
    // The only autoscaler is everybody's.
    assert_eq!(bundle.least_replicas(second), Some(2));
    assert_eq!(
        bundle.find("Deployment", "", "a", service.root).unwrap().index,
        second.object.index
    );
}

#[test]
fn selectors_match_as_kubernetes_does() {
    let documents = read(
        "labels: {app: a, tier: x}\none: {matchLabels: {app: a}, matchExpressions: [{key: tier, operator: In, values: [x, y]}]}\ntwo: {matchExpressions: [{key: tier, operator: NotIn, values: [x]}]}\nthree: {matchExpressions: [{key: none, operator: DoesNotExist}]}\nfour: {matchLabels: {none: ''}}\n",
    );
    let root = documents.roots().next().unwrap();
    let matches = |name| Selector::structured(root.get(name)).matches(root.get("labels"));
    assert!(matches("one") && !matches("two") && matches("three") && !matches("four"));
}

#[test]
fn bases_that_an_overlay_patches_are_not_whole() {
    let sources = |overlay: &str| {
        [
            ("base/kustomization.yaml", "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [pod.yaml, part]\n"),
            ("base/pod.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: c, image: a}]}\n"),
            ("base/part/pod.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: b}\nspec: {containers: [{name: c, image: a}]}\n"),
            ("other/pod.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: c}\nspec: {containers: [{name: c, image: a}]}\n"),
            ("overlay/kustomization.yaml", overlay),
        ]
        .map(|(name, text)| Source { name: name.into(), text: text.into() })
        .to_vec()
    };
    let complete = |overlay: &str| {
        let documents = Documents::read(sources(overlay));
        let bundle = Bundle::new(&documents);
        bundle
            .pods
            .iter()
            .map(|pod| (pod.complete, bundle.is_renamed(&pod.object)))
            .collect::<Vec<_>>()
    };
    let plain =
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [../base]\n";
    assert_eq!(complete(plain), [(true, false); 3]);
    let patched = complete(&format!("{plain}patches: [{{path: patch.yaml}}]\n"));
    assert_eq!(patched, [(false, false), (false, false), (true, false)]);
    let patches = complete(&format!("{plain}patchesStrategicMerge: [../other/pod.yaml]\n"));
    assert_eq!(patches.last(), Some(&(false, false)));
    let renamed = complete(&format!("{plain}nameSuffix: -l4\n"));
    assert_eq!(renamed, [(true, true), (true, true), (true, false)]);
}
