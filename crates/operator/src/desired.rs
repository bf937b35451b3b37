//! What a service should be made of in this cluster.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde::Serialize;
use serde_json::{Value, json};
use trainyard_api::model_service::MODEL_NAME;
use trainyard_api::{ModelService, manifest};
use trainyard_plan::kubernetes::Peer;
use trainyard_plan::{Facts, Plan, PlanError, Strategy, Target, compile};

use crate::compare::{Leaves, digest};
use crate::key::ResourceKey;
use crate::kinds::{self, KindIndex};
use crate::names::{APPLIED_ANNOTATION, MANAGED_BY, MANAGED_BY_LABEL};
use crate::pods::Reason;
use crate::rollout::Course;
use crate::settings::Cluster;
use crate::status::Problem;

/// Everything that one service asks for.
#[derive(Debug, Clone)]
pub(crate) struct Desired {
    pub(crate) revision: String,
    pub(crate) objects: Vec<Wanted>,
    pub(crate) url: Option<String>,
    /// Fields that nothing in this cluster acts on.
    pub(crate) not_in_effect: Vec<String>,
    /// Label selector of the replicas.
    pub(crate) selector: Option<String>,
}

/// One object as it is applied.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) kind: KindIndex,
    pub(crate) name: String,
    pub(crate) body: Value,
    pub(crate) leaves: Leaves,
    pub(crate) digest: u64,
}

/// Compiles a service.
///
/// The API server has checked the spec by the schema that it had at the time; it is checked again
/// by today's, since a stored object may be older.
pub(crate) fn plan(
    key: &ResourceKey,
    service: &ModelService,
    cluster: &Cluster,
) -> Result<Plan, Problem> {
    check(key, service)?;
    compiled(service, cluster)
        .map_err(|error| Problem { reason: Reason::InvalidSpec, message: error.to_string() })
}

/// Compiles a service that was checked.
pub(crate) fn compiled(service: &ModelService, cluster: &Cluster) -> Result<Plan, PlanError> {
    let target = Target::Kubernetes {
        image: cluster.objects.image.clone(),
        gpu_pools: cluster.gpu_pools.facts().as_ref().clone(),
    };
    compile(service, &Facts { target, model: None })
}

/// Renders what a service should be made of: the plan that its spec asks for, of which the sides may
/// be others.
pub(crate) fn desire(
    key: &ResourceKey,
    service: &ModelService,
    cluster: &Cluster,
    plan: &Plan,
    course: &Course,
) -> Result<Desired, Problem> {
    let not_supported = |message| Problem { reason: Reason::NotSupported, message };
    let owner = owner(key, service.metadata.uid.as_deref());
    let mut objects: Vec<Wanted> = Vec::new();
    for side in &course.sides {
        let rendered =
            trainyard_plan::kubernetes::objects(&side.plan, side.track, &cluster.objects)
                .map_err(|error| not_supported(error.to_string()))?;
        for object in rendered {
            objects.push(wanted(key, &owner, object.into_value()).map_err(not_supported)?);
        }
    }
    let has_gateway = cluster.objects.gateway.is_some();
    let mut not_in_effect = not_in_effect(plan, is_stopped(service), has_gateway);
    not_in_effect.extend(course.impaired.clone());
    Ok(Desired {
        revision: plan.revision.as_str().to_owned(),
        not_in_effect,
        url: url(key, &objects, cluster.objects.gateway.as_ref()),
        selector: selector(&objects),
        objects,
    })
}

/// What a person asked for and nothing in this cluster brings about, so that nobody relies on it.
fn not_in_effect(plan: &Plan, is_stopped: bool, has_gateway: bool) -> Vec<String> {
    let (scaling, access, rollout) = (&plan.scaling, &plan.access, &plan.rollout);
    let of_the_gateway = [
        ("spec.scaling.maxConcurrency", scaling.max_concurrency.is_some()),
        ("spec.access.apiKeysSecret", access.api_keys_secret.is_some()),
        ("spec.access.rateLimit", access.rate_limit.is_some()),
        ("spec.scaling.min: 0", scaling.min == 0 && !is_stopped),
        ("spec.scaling.concurrency", scaling.concurrency.is_some()),
        ("spec.scaling.rps", scaling.rps.is_some()),
        ("spec.rollout.mirror", rollout.mirror.is_some()),
    ];
    let has_steps = !matches!(rollout.strategy, Strategy::Rolling { .. });
    let of_nobody = [("spec.scaling.gpu", scaling.gpu.is_some())];
    let told = |fields: &[(&str, bool)], why: &str| -> Vec<String> {
        let written = fields.iter().filter(|(_, is_written)| *is_written);
        written.map(|(field, _)| format!("`{field}` is not in effect: {why}")).collect()
    };
    let mut fields = told(&of_nobody, "nothing in a cluster tells Trainyard how busy its GPUs are");
    if !has_gateway {
        fields.extend(told(&of_the_gateway, NO_GATEWAY));
        if has_steps {
            fields.push(format!(
                "`spec.rollout.strategy` is not in effect: {NO_GATEWAY}; a new revision takes over replica by replica"
            ));
        }
    }
    fields
}

const NO_GATEWAY: &str = "this cluster has no gateway of Trainyard";

/// Whether a person stopped the service, so that no request starts it.
pub(crate) fn is_stopped(service: &ModelService) -> bool {
    service.spec.replicas == Some(0)
}

fn check(key: &ResourceKey, service: &ModelService) -> Result<(), Problem> {
    match problems(key, service.metadata.annotations.as_ref(), &service.spec) {
        None => Ok(()),
        Some(message) => Err(Problem { reason: Reason::InvalidSpec, message }),
    }
}

/// What is wrong with a resource, each problem with the path of the field.
pub(crate) fn problems(
    key: &ResourceKey,
    annotations: Option<&BTreeMap<String, String>>,
    spec: &impl Serialize,
) -> Option<String> {
    let mut metadata = json!({"name": &*key.name, "namespace": &*key.namespace});
    // Others' annotations are not ours to judge.
    if let Some(name) = annotations.and_then(|annotations| annotations.get(MODEL_NAME)) {
        metadata["annotations"] = json!({MODEL_NAME: name});
    }
    let document = json!({
        "apiVersion": key.kind.api_version(),
        "kind": key.kind.kind(),
        "metadata": metadata,
        "spec": spec,
    });
    let errors = manifest::read("the resource", &document.to_string()).err()?;
    let told = errors.problems.iter().map(|problem| {
        let help = problem.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
        match problem.path.as_str() {
            "" => format!("{}{help}", problem.message),
            path => format!("`{path}`: {}{help}", problem.message),
        }
    });
    Some(told.collect::<Vec<_>>().join("; "))
}

/// A resource as the controller of its objects: they go when it goes.
pub(crate) fn owner(key: &ResourceKey, uid: Option<&str>) -> OwnerReference {
    OwnerReference {
        api_version: key.kind.api_version(),
        kind: key.kind.kind().to_owned(),
        name: key.name.to_string(),
        uid: uid.unwrap_or_default().to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Makes a rendered object the resource's own.
pub(crate) fn wanted(
    key: &ResourceKey,
    owner: &OwnerReference,
    mut object: Value,
) -> Result<Wanted, String> {
    let text = |object: &Value, pointer: &str| {
        object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let (api_version, kind) = (text(&object, "/apiVersion"), text(&object, "/kind"));
    let name = text(&object, "/metadata/name");
    let index = kinds::index_of(&api_version, &kind).ok_or_else(|| {
        format!("the plan has a `{kind}` of `{api_version}`, which the operator does not know")
    })?;
    if name.is_empty() {
        return Err(format!("the plan has a {kind} without a name"));
    }
    let metadata = &mut object["metadata"];
    metadata["namespace"] = json!(&*key.namespace);
    metadata["labels"][MANAGED_BY_LABEL] = json!(MANAGED_BY);
    metadata["labels"][key.kind.label()] = json!(&*key.name);
    metadata["ownerReferences"] = json!([owner]);
    remove_nulls(&mut object);
    let digest = digest(&object);
    object["metadata"]["annotations"][APPLIED_ANNOTATION] = json!(applied_text(digest));
    Ok(Wanted { kind: index, name, leaves: Leaves::of(&object), body: object, digest })
}

/// The digest as the annotation has it.
fn applied_text(digest: u64) -> String {
    format!("{digest:016x}")
}

/// A null in an apply is a field that is owned and absent; we mean no field.
fn remove_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(remove_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn find<'a>(objects: &'a [Wanted], kind: &str) -> Option<&'a Wanted> {
    objects.iter().find(|object| kinds::owned(object.kind).kind == kind)
}

/// The service's address inside the cluster: its own, or that of the gateway, which alone may call
/// its replicas then.
fn url(key: &ResourceKey, objects: &[Wanted], gateway: Option<&Peer>) -> Option<String> {
    if let Some(gateway) = gateway {
        return Some(format!("http://{}.{}.svc", crate::names::GATEWAY, gateway.namespace));
    }
    let service = find(objects, "Service")?;
    let port = service.body.pointer("/spec/ports/0/port")?.as_u64()?;
    let host = format!("http://{}.{}.svc", service.name, key.namespace);
    Some(if port == 80 { host } else { format!("{host}:{port}") })
}

fn selector(objects: &[Wanted]) -> Option<String> {
    let deployment = find(objects, "Deployment")?;
    let labels = deployment.body.pointer("/spec/selector/matchLabels")?.as_object()?;
    let mut pairs: Vec<String> = labels
        .iter()
        .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()))
        .collect();
    pairs.sort();
    Some(pairs.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::SERVICE_LABEL;

    fn service(spec: Value) -> ModelService {
        let service = json!({
            "apiVersion": "trainyard.dev/v1alpha1", "kind": "ModelService",
            "metadata": {"name": "iris", "namespace": "default", "uid": "u"}, "spec": spec,
        });
        serde_json::from_value(service).expect("a service")
    }

    fn desired(spec: Value) -> Result<Desired, Problem> {
        let cluster = Cluster {
            objects: trainyard_plan::kubernetes::Settings::new("registry.example/trainyard:1"),
            gpu_pools: Default::default(),
            plugin_config: trainyard_plan::kubernetes::PluginConfig {
                namespace: "trainyard".to_owned(),
                name: "gpus".to_owned(),
            },
            manage_gpu_nodes: false,
            packing: None,
        };
        let (key, service) = (ResourceKey::service("default", "iris"), service(spec));
        let plan = plan(&key, &service, &cluster)?;
        let track = trainyard_plan::kubernetes::Track::Stable { replicas: None };
        let course = Course {
            sides: vec![crate::rollout::Side { plan: plan.clone(), track }],
            rollout: None,
            again_in: None,
            in_use: Vec::new(),
            scaled: None,
            impaired: None,
        };
        desire(&key, &service, &cluster, &plan, &course)
    }

    #[test]
    fn objects_become_the_services_own() {
        let desired = desired(json!({"model": {"uri": "s3://m/iris"}})).expect("valid");
        assert_eq!(desired.url.as_deref(), Some("http://iris.default.svc"));
        let selector = "trainyard.dev/service=iris,trainyard.dev/track=stable";
        assert_eq!(desired.selector.as_deref(), Some(selector));
        assert!(desired.not_in_effect.is_empty());
        assert!(desired.objects.len() > 3);
        for object in &desired.objects {
            let metadata = &object.body["metadata"];
            assert_eq!(metadata["ownerReferences"][0]["uid"], "u");
            assert_eq!(metadata["ownerReferences"][0]["controller"], true);
            assert_eq!(metadata["labels"][MANAGED_BY_LABEL], MANAGED_BY);
            assert_eq!(metadata["labels"][SERVICE_LABEL], "iris");
            assert_eq!(metadata["namespace"], "default");
            assert_eq!(
                metadata["annotations"][APPLIED_ANNOTATION].as_str().map(str::len),
                Some(16)
            );
            assert!(!object.body.to_string().contains(":null"));
        }
    }

    #[test]
    fn the_same_service_gives_the_same_digests() {
        let digests = |spec| -> Vec<u64> {
            desired(spec).expect("valid").objects.iter().map(|object| object.digest).collect()
        };
        let spec = || json!({"model": {"uri": "s3://m/iris"}});
        assert_eq!(digests(spec()), digests(spec()));
        assert_ne!(digests(spec()), digests(json!({"model": {"uri": "s3://m/other"}})));
    }

    #[test]
    fn a_spec_that_breaks_a_rule_names_the_field() {
        let spec = json!({"model": {"uri": "s3://m/iris"}, "scaling": {"min": 4, "max": 2}});
        let problem = desired(spec).expect_err("invalid");
        assert_eq!(problem.reason, Reason::InvalidSpec);
        assert!(problem.message.starts_with("`spec.scaling.max`: "), "{}", problem.message);
    }

    /// A cluster without our admission policy stores it, and it becomes an argument of the server.
    #[test]
    fn a_models_name_that_is_none_is_told() {
        let service: ModelService = serde_json::from_value(json!({
            "apiVersion": "trainyard.dev/v1alpha1", "kind": "ModelService",
            "metadata": {
                "name": "iris", "namespace": "default",
                "annotations": {MODEL_NAME: "--port=1", "example.com/other": "a:b"},
            },
            "spec": {"model": {"uri": "s3://m/iris"}},
        }))
        .expect("valid");
        let key = ResourceKey::service("default", "iris");
        let problem = check(&key, &service).expect_err("invalid");
        assert_eq!(problem.reason, Reason::InvalidSpec);
        assert!(problem.message.contains("begins with `-`"), "{}", problem.message);
        assert!(!problem.message.contains("example.com"), "{}", problem.message);
    }

    #[test]
    fn what_only_a_gateway_does_is_said() {
        let access = json!({"apiKeysSecret": "keys"});
        let spec = json!({"model": {"uri": "s3://m/iris"}, "access": access});
        let desired = desired(spec).expect("valid");
        assert!(desired.not_in_effect[0].starts_with("`spec.access.apiKeysSecret`"));
    }

    #[test]
    fn what_a_gateway_does_is_in_effect_where_there_is_one() {
        let service = serde_json::from_value::<ModelService>(json!({
            "apiVersion": "trainyard.dev/v1alpha1", "kind": "ModelService",
            "metadata": {"name": "iris", "namespace": "default"},
            "spec": {
                "model": {"uri": "s3://m/iris"}, "access": {"apiKeysSecret": "keys"},
                "scaling": {"min": 1, "max": 2, "rps": 5, "maxConcurrency": 3},
                "rollout": {"strategy": "blueGreen"},
            },
        }));
        let target = Target::Kubernetes { image: "i".to_owned(), gpu_pools: Default::default() };
        let plan =
            compile(&service.expect("valid"), &Facts { target, model: None }).expect("valid");
        let fields = |has_gateway| -> Vec<String> {
            let told = not_in_effect(&plan, false, has_gateway).into_iter();
            told.map(|text| text.split('`').nth(1).unwrap_or_default().to_owned()).collect()
        };
        assert!(fields(true).is_empty());
        let all = [
            "spec.scaling.maxConcurrency",
            "spec.access.apiKeysSecret",
            "spec.scaling.rps",
            "spec.rollout.strategy",
        ];
        assert_eq!(fields(false), all);
    }
}
