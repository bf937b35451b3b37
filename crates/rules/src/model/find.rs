//! Finds pod templates in objects of any kind, by their shape.

use crate::yaml::Node;

use super::container::Container;
use super::framework::Sureness;
use super::object::Object;
use super::pod::{Answers, Manager, Pod, Purpose};

/// How deep templates are looked for; the deepest known (RayService in a template) is 9 deep.
const DEEPEST: usize = 24;

/// Kinds that hold no pod template, or patterns that look like one.
fn holds_none(object: &Object<'_>) -> bool {
    matches!(
        object.kind,
        "CustomResourceDefinition"
            | "ConfigMap"
            | "Secret"
            | "ServiceAccount"
            | "Role"
            | "ClusterRole"
            | "RoleBinding"
            | "ClusterRoleBinding"
            | "Kustomization"
            | "Namespace"
            | "PersistentVolumeClaim"
            | "PersistentVolume"
            | "NetworkPolicy"
    ) || object.kind.ends_with("Policy")
        || object.kind.ends_with("WebhookConfiguration")
        || object.group() == "kyverno.io"
        || object.group().ends_with("gatekeeper.sh")
        || (object.kind == "Service" && object.group().is_empty())
}

/// What runs the templates of an object.
fn manager(object: &Object<'_>) -> Manager {
    match (object.group(), object.kind) {
        ("", "Pod" | "PodTemplate") => Manager::Pod,
        ("apps" | "extensions", "Deployment") => Manager::Deployment,
        ("apps", "StatefulSet") => Manager::StatefulSet,
        ("apps" | "extensions", "DaemonSet") => Manager::DaemonSet,
        ("apps" | "extensions", "ReplicaSet") | ("", "ReplicationController") => {
            Manager::ReplicaSet
        }
        ("batch", "Job") => Manager::Job,
        ("batch", "CronJob") => Manager::CronJob,
        ("jobset.x-k8s.io", "JobSet") => Manager::JobSet,
        ("leaderworkerset.x-k8s.io", "LeaderWorkerSet") => Manager::LeaderWorkerSet,
        ("ray.io", _) => Manager::Ray,
        ("serving.kserve.io" | "ome.io", "InferenceService") => Manager::InferenceService,
        ("serving.kserve.io" | "ome.io", _) => Manager::Runtime,
        ("kubeflow.org", "Notebook") => Manager::Notebook,
        ("kubeflow.org", _) => Manager::TrainingOperator,
        ("trainer.kubeflow.org", _) => Manager::Trainer,
        ("batch.volcano.sh", "Job") => Manager::Volcano,
        ("machinelearning.seldon.io" | "mlops.seldon.io", _) => Manager::Seldon,
        ("argoproj.io", _) => Manager::Argo,
        ("serving.knative.dev", _) => Manager::Knative,
        _ => Manager::Unknown,
    }
}

/// All pod templates of an object.
pub(super) fn pods<'b>(object: &Object<'b>, into: &mut Vec<Pod<'b>>) {
    if holds_none(object) {
        return;
    }
    let manager = manager(object);
    if manager == Manager::Pod {
        let spec = object.spec();
        if !spec.get("containers").is_empty() {
            into.push(read(object, spec, manager, into.len()));
        }
        return;
    }
    search(object, object.root, manager, 0, into);
}

fn search<'b>(
    object: &Object<'b>,
    node: Node<'b>,
    manager: Manager,
    depth: usize,
    into: &mut Vec<Pod<'b>>,
) {
    if depth > DEEPEST {
        return;
    }
    if node.is_list() {
        for item in node.items() {
            search(object, item, manager, depth + 1, into);
        }
        return;
    }
    if is_pod_spec(node, manager) {
        into.push(read(object, node, manager, into.len()));
        // An InferenceService of OME has leaders and workers beside a runner.
        if !matches!(manager, Manager::InferenceService | Manager::Runtime) {
            return;
        }
    }
    for entry in node.entries() {
        // Neither text of other objects nor what a controller wrote.
        if matches!(entry.key, "metadata" | "status" | "containers" | "initContainers" | "env")
            && depth < 3
            || entry.value.is_scalar()
        {
            continue;
        }
        search(object, entry.value, manager, depth + 1, into);
    }
}

/// Whether a mapping is a PodSpec, or stands for one in kinds that are known.
fn is_pod_spec(node: Node<'_>, manager: Manager) -> bool {
    let containers = node.get("containers");
    if containers.is_list() {
        // Kinds that we know may leave the image to a runtime; elsewhere a list of that name could
        // be anything.
        let known = manager != Manager::Unknown;
        return containers
            .items()
            .any(|item| item.get("name").is_scalar() && (known || item.get("image").is_scalar()));
    }
    single(node, manager).is_some()
}

/// Keys under which KServe's first API put the container of a predictor.
const PREDICTORS: [&str; 11] = [
    "model",
    "sklearn",
    "xgboost",
    "tensorflow",
    "pytorch",
    "triton",
    "onnx",
    "huggingface",
    "pmml",
    "lightgbm",
    "paddle",
];

/// The one container of a mapping that has no list of them.
fn single<'b>(node: Node<'b>, manager: Manager) -> Option<Node<'b>> {
    let key = node.key();
    match manager {
        Manager::InferenceService if key == "predictor" || key == "canary" => PREDICTORS
            .iter()
            .map(|name| node.get(name))
            .find(|found| found.is_map())
            .or_else(|| Some(node.get("runner")).filter(|runner| runner.is_map())),
        Manager::InferenceService | Manager::Runtime => {
            Some(node.get("runner")).filter(|runner| runner.is_map())
        }
        Manager::Argo => ["container", "script"]
            .iter()
            .map(|name| node.get(name))
            .find(|found| found.get("image").is_scalar()),
        _ => None,
    }
}

fn read<'b>(object: &Object<'b>, spec: Node<'b>, manager: Manager, index: usize) -> Pod<'b> {
    let mut containers: Vec<Container<'b>> =
        spec.get("initContainers").items().map(|node| Container::read(node, true)).collect();
    containers.extend(spec.get("containers").items().map(|node| Container::read(node, false)));
    if let Some(node) = single(spec, manager) {
        containers.push(Container::read(node, false));
    }
    let template = spec.parent();
    let metadata = if manager == Manager::Pod && spec.key() == "spec" {
        object.metadata()
    } else if spec.key() == "spec" {
        template.get("metadata")
    } else {
        spec.get("metadata")
    };
    // Of InferenceServices, labels and annotations of the object go to its pods.
    let metadata = if manager == Manager::InferenceService { object.metadata() } else { metadata };
    let (replicas, replicas_node) = replicas(object, spec, manager);
    let complete = is_complete(object, manager, &containers);
    let mut pod = Pod {
        index,
        object: *object,
        spec,
        metadata,
        manager,
        role: role(spec, manager),
        containers,
        replicas,
        replicas_node,
        complete,
        purpose: Purpose::Unknown,
        purpose_sureness: Sureness::Likely,
        answers: Answers::default(),
    };
    (pod.purpose, pod.purpose_sureness) = purpose(&pod);
    pod
}

/// Whether nothing is merged into the template later, as far as its kind and shape tell.
fn is_complete(object: &Object<'_>, manager: Manager, containers: &[Container<'_>]) -> bool {
    // A patch, or a template whose image comes from a runtime or a program ("TO BE FILLED IN").
    let filled_later = |container: &Container<'_>| {
        container.image_node.text().is_none_or(|image| image.trim().contains(' '))
    };
    if containers.iter().any(filled_later) {
        return false;
    }
    match manager {
        Manager::Runtime
        | Manager::InferenceService
        | Manager::Trainer
        | Manager::Seldon
        // What a template lacks may stand at the workflow, or in its defaults and patches.
        | Manager::Argo
        | Manager::Unknown => false,
        Manager::Deployment | Manager::StatefulSet | Manager::DaemonSet => {
            object.api_version.ends_with("v1beta1") || object.spec().get("selector").is_set()
        }
        _ => true,
    }
}

/// How many pods of a template an object has.
fn replicas<'b>(object: &Object<'b>, spec: Node<'b>, manager: Manager) -> (Option<i64>, Node<'b>) {
    let own = object.spec();
    let or_one = |node: Node<'b>| (if node.is_set() { node.int() } else { Some(1) }, node);
    let nearest = |key: &str| {
        spec.ancestors()
            .map(|ancestor| ancestor.get(key))
            .find(|found| found.is_set())
            .unwrap_or_else(|| own.get(key))
    };
    match manager {
        Manager::Pod | Manager::Notebook => (Some(1), own.get("replicas")),
        Manager::Deployment | Manager::StatefulSet | Manager::ReplicaSet => {
            or_one(own.get("replicas"))
        }
        Manager::Job => or_one(own.get("parallelism")),
        Manager::CronJob => or_one(own.path("jobTemplate.spec.parallelism")),
        Manager::JobSet => {
            let (parallelism, at) = or_one(nearest("parallelism"));
            let jobs = nearest("replicas");
            let count = if jobs.is_set() { jobs.int() } else { Some(1) };
            let node = if jobs.is_set() { jobs } else { at };
            (parallelism.zip(count).map(|(a, b)| a.saturating_mul(b)), node)
        }
        Manager::LeaderWorkerSet => {
            let (groups, node) = or_one(own.get("replicas"));
            let size = own.path("leaderWorkerTemplate.size");
            let size = if size.is_set() { size.int() } else { Some(1) };
            let has_leader = own.path("leaderWorkerTemplate.leaderTemplate").is_set();
            let per_group = match (spec.parent().key(), has_leader) {
                ("leaderTemplate", _) => Some(1),
                (_, true) => size.map(|size| size - 1),
                (_, false) => size,
            };
            (groups.zip(per_group).map(|(a, b)| a.saturating_mul(b)), node)
        }
        Manager::Ray => {
            let in_head = spec.ancestors().any(|node| node.key() == "headGroupSpec");
            if in_head { (Some(1), own.get("\0")) } else { or_one(nearest("replicas")) }
        }
        Manager::TrainingOperator | Manager::Volcano => or_one(nearest("replicas")),
        Manager::InferenceService => {
            let least = spec.get("minReplicas");
            (if least.is_set() { least.int() } else { Some(1) }, least)
        }
        Manager::DaemonSet
        | Manager::Runtime
        | Manager::Trainer
        | Manager::Seldon
        | Manager::Argo
        | Manager::Knative
        | Manager::Unknown => (None, own.get("replicas")),
    }
}

/// The part that a template plays in an object that has several.
fn role<'b>(spec: Node<'b>, manager: Manager) -> &'b str {
    match manager {
        Manager::Ray => spec.ancestors().find_map(|node| match node.key() {
            "headGroupSpec" => Some("head"),
            _ => node.get("groupName").text(),
        }),
        Manager::LeaderWorkerSet => match spec.parent().key() {
            "leaderTemplate" => Some("leader"),
            _ => Some("worker"),
        },
        Manager::TrainingOperator => spec
            .ancestors()
            .find(|node| node.parent().key().ends_with("ReplicaSpecs"))
            .map(|node| node.key()),
        Manager::JobSet | Manager::Volcano | Manager::Argo => spec
            .ancestors()
            .take(6)
            .find(|node| node.parent().is_list())
            .and_then(|node| node.get("name").text()),
        Manager::InferenceService | Manager::Runtime => {
            Some(spec.key()).filter(|key| !matches!(*key, "spec" | "template"))
        }
        _ => None,
    }
    .unwrap_or("")
}

/// What a pod is for, from its kind and its software.
fn purpose(pod: &Pod<'_>) -> (Purpose, Sureness) {
    use Purpose::{Batch, Notebook, Serving, System, Training, Unknown};
    use Sureness::{Likely, Sure};
    if is_system(pod) {
        return (System, Sure);
    }
    let framework = pod
        .main_containers()
        .filter_map(|container| container.framework)
        .max_by_key(|found| (found.purpose() == Serving, found.sureness));
    let found = framework.map(|found| (found.purpose(), found.sureness));
    match pod.manager {
        Manager::InferenceService | Manager::Seldon => (Serving, Sure),
        Manager::Runtime if pod.object.kind.ends_with("Runtime") => (Serving, Sure),
        Manager::Runtime if pod.object.kind.starts_with("LLMInferenceService") => (Serving, Sure),
        Manager::TrainingOperator | Manager::Trainer => (Training, Sure),
        Manager::Notebook => (Notebook, Sure),
        Manager::Ray if pod.object.kind == "RayService" => (Serving, Sure),
        Manager::Ray => (Unknown, Likely),
        Manager::Job | Manager::CronJob | Manager::JobSet | Manager::Volcano | Manager::Argo => {
            match found {
                Some((Training, sureness)) => (Training, sureness),
                _ => (Batch, Sure),
            }
        }
        Manager::DaemonSet => match found {
            Some((Serving, Sure)) => (Serving, Sure),
            _ => (System, Likely),
        },
        _ => found.unwrap_or((Unknown, Likely)),
    }
}

/// Words in images and service accounts of what belongs to a cluster rather than to its users.
const SYSTEM: [&str; 12] = [
    "device-plugin",
    "dcgm-exporter",
    "gpu-operator",
    "gpu-feature-discovery",
    "node-feature-discovery",
    "nvidia/driver",
    "container-toolkit",
    "mig-manager",
    "operator-validator",
    "nvidia-gpu-installer",
    "node-exporter",
    "k8s-dra-driver",
];

fn is_system(pod: &Pod<'_>) -> bool {
    matches!(pod.object.namespace, "kube-system" | "gpu-operator")
        || SYSTEM.iter().any(|word| pod.service_account().contains(word))
        || pod
            .containers
            .iter()
            .filter_map(|container| container.image)
            .any(|image| SYSTEM.iter().any(|word| image.repository.contains(word)))
}
