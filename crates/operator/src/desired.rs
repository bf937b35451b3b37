//! What a service should be made of in this cluster.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube_client::Resource as _;
use serde_json::{Value, json};
use trainyard_api::{ModelService, manifest};
use trainyard_plan::{Facts, Plan, Strategy, Target, compile};

use crate::compare::{Leaves, digest};
use crate::key::ServiceKey;
use crate::kinds::{self, KindIndex};
use crate::names::{APPLIED_ANNOTATION, MANAGED_BY, MANAGED_BY_LABEL, SERVICE_LABEL};
use crate::pods::Reason;
use crate::status::Problem;

/// Turns a plan into plain Kubernetes objects, in the order in which they are to be applied; or
/// says what of it a cluster cannot have.
pub type Render = Arc<dyn Fn(&Plan) -> Result<Vec<Value>, String> + Send + Sync>;

/// Everything that one service asks for.
#[derive(Debug, Clone)]
pub(crate) struct Desired {
    pub(crate) revision: String,
    /// Replica by replica; the other strategies need a candidate beside the Deployment.
    pub(crate) is_rolling: bool,
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

/// Compiles and renders a service.
///
/// The API server has checked the spec by the schema that it had at the time; it is checked again
/// by today's, since a stored object may be older.
pub(crate) fn desire(
    key: &ServiceKey,
    service: &ModelService,
    image: &str,
    render: &Render,
) -> Result<Desired, Problem> {
    check(key, service)?;
    let facts = Facts { target: Target::Kubernetes { image: image.to_owned() }, model: None };
    let plan = compile(service, &facts)
        .map_err(|error| Problem { reason: Reason::InvalidSpec, message: error.to_string() })?;
    let not_supported = |message| Problem { reason: Reason::NotSupported, message };
    let rendered = render(&plan).map_err(not_supported)?;
    let owner = owner(service);
    let objects: Result<Vec<Wanted>, Problem> = rendered
        .into_iter()
        .map(|object| wanted(key, &owner, object).map_err(not_supported))
        .collect();
    let objects = objects?;
    Ok(Desired {
        revision: plan.revision.as_str().to_owned(),
        is_rolling: matches!(plan.rollout.strategy, Strategy::Rolling { .. }),
        not_in_effect: not_in_effect(&plan),
        url: url(key, &objects),
        selector: selector(&objects),
        objects,
    })
}

/// What a person asked for and nothing in a cluster brings about, so that nobody relies on it.
fn not_in_effect(plan: &Plan) -> Vec<String> {
    let (scaling, access) = (&plan.scaling, &plan.access);
    let written = [
        ("spec.scaling.min: 0", scaling.min == 0 && scaling.max > 0),
        ("spec.scaling.concurrency", scaling.concurrency.is_some()),
        ("spec.scaling.maxConcurrency", scaling.max_concurrency.is_some()),
        ("spec.scaling.rps", scaling.rps.is_some()),
        ("spec.scaling.gpu", scaling.gpu.is_some()),
        ("spec.access.apiKeysSecret", access.api_keys_secret.is_some()),
        ("spec.access.rateLimit", access.rate_limit.is_some()),
        ("spec.rollout.mirror", plan.rollout.mirror.is_some()),
    ];
    let fields = written.into_iter().filter(|(_, is_written)| *is_written);
    fields.map(|(field, _)| format!("`{field}` is not in effect: this cluster has no gateway of Trainyard")).collect()
}

fn check(key: &ServiceKey, service: &ModelService) -> Result<(), Problem> {
    let invalid = |message| Problem { reason: Reason::InvalidSpec, message };
    let document = json!({
        "apiVersion": ModelService::api_version(&()),
        "kind": ModelService::kind(&()),
        "metadata": {"name": &*key.name, "namespace": &*key.namespace},
        "spec": &service.spec,
    });
    let errors = match manifest::read("the resource", &document.to_string()) {
        Ok(_) => return Ok(()),
        Err(errors) => errors,
    };
    let told = errors.problems.iter().map(|problem| {
        let help = problem.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
        match problem.path.as_str() {
            "" => format!("{}{help}", problem.message),
            path => format!("`{path}`: {}{help}", problem.message),
        }
    });
    Err(invalid(told.collect::<Vec<_>>().join("; ")))
}

/// The service as the controller of its objects: they go when it goes.
pub(crate) fn owner(service: &ModelService) -> OwnerReference {
    OwnerReference {
        api_version: ModelService::api_version(&()).into_owned(),
        kind: ModelService::kind(&()).into_owned(),
        name: service.metadata.name.clone().unwrap_or_default(),
        uid: service.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Makes a rendered object the service's own.
fn wanted(key: &ServiceKey, owner: &OwnerReference, mut object: Value) -> Result<Wanted, String> {
    let text = |object: &Value, pointer: &str| {
        object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let (api_version, kind) = (text(&object, "/apiVersion"), text(&object, "/kind"));
    let name = text(&object, "/metadata/name");
    let index = kinds::index_of(&api_version, &kind)
        .ok_or_else(|| format!("the plan renders to `{api_version}` `{kind}`, which the operator does not know"))?;
    if name.is_empty() {
        return Err(format!("the plan renders to a {kind} without a name"));
    }
    let metadata = &mut object["metadata"];
    metadata["namespace"] = json!(&*key.namespace);
    metadata["labels"][MANAGED_BY_LABEL] = json!(MANAGED_BY);
    metadata["labels"][SERVICE_LABEL] = json!(&*key.name);
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

/// The service's address inside the cluster.
fn url(key: &ServiceKey, objects: &[Wanted]) -> Option<String> {
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

    fn service(spec: Value) -> ModelService {
        let service = json!({
            "apiVersion": "trainyard.dev/v1alpha1", "kind": "ModelService",
            "metadata": {"name": "iris", "namespace": "default", "uid": "u"}, "spec": spec,
        });
        serde_json::from_value(service).expect("a service")
    }

    fn render() -> Render {
        Arc::new(|plan: &Plan| {
            let labels = json!({"trainyard.dev/service": plan.name});
            Ok(vec![
                json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": plan.name, "labels": null},
                    "spec": {"ports": [{"port": 80}]}}),
                json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": plan.name},
                    "spec": {"selector": {"matchLabels": labels}, "paused": null}}),
            ])
        })
    }

    fn desired(spec: Value, render: &Render) -> Result<Desired, Problem> {
        desire(&ServiceKey::new("default", "iris"), &service(spec), "trainyard:1", render)
    }

    #[test]
    fn objects_become_the_services_own() {
        let desired = desired(json!({"model": {"uri": "s3://m/iris"}}), &render()).expect("valid");
        assert_eq!(desired.url.as_deref(), Some("http://iris.default.svc"));
        assert_eq!(desired.selector.as_deref(), Some("trainyard.dev/service=iris"));
        assert!(desired.is_rolling);
        let body = &desired.objects[1].body;
        let metadata = &body["metadata"];
        assert_eq!(metadata["ownerReferences"][0]["uid"], "u");
        assert_eq!(metadata["ownerReferences"][0]["controller"], true);
        assert_eq!(metadata["labels"][MANAGED_BY_LABEL], MANAGED_BY);
        assert_eq!(metadata["namespace"], "default");
        assert_eq!(metadata["annotations"][APPLIED_ANNOTATION].as_str().map(str::len), Some(16));
        assert!(body["spec"].get("paused").is_none());
    }

    #[test]
    fn a_spec_that_breaks_a_rule_names_the_field() {
        let spec = json!({"model": {"uri": "s3://m/iris"}, "scaling": {"min": 4, "max": 2}});
        let problem = desired(spec, &render()).expect_err("invalid");
        assert_eq!(problem.reason, Reason::InvalidSpec);
        assert!(problem.message.starts_with("`spec.scaling.max`: "), "{}", problem.message);
    }

    #[test]
    fn what_cannot_be_rendered_is_said() {
        let spec = || json!({"model": {"uri": "s3://m/iris"}});
        let refuses: Render = Arc::new(|_: &Plan| Err("`spec.model.uri`: no".to_owned()));
        let problem = desired(spec(), &refuses).expect_err("refused");
        assert_eq!((problem.reason, problem.message.as_str()), (Reason::NotSupported, "`spec.model.uri`: no"));
        let odd: Render = Arc::new(|_: &Plan| Ok(vec![json!({"apiVersion": "v1", "kind": "Secret"})]));
        assert!(desired(spec(), &odd).expect_err("unknown").message.contains("`Secret`"));
    }
}
