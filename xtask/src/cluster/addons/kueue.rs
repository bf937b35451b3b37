//! Kueue, as its own manifests have it: with Kubernetes' Jobs only, and without its visibility API.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};

use super::super::build::Build;
use super::super::images::ProgramImage;
use super::super::kubectl::Kubectl;
use super::super::layout::Layout;

const IMAGE: &str = "localhost/kueue:1";
/// Its certificates are made, and known to the API server, some seconds after it has started.
const FIRST_ANSWER: Duration = Duration::from_secs(120);

pub(crate) fn image() -> anyhow::Result<PathBuf> {
    ProgramImage { build: Build::kueue(), program: "kueue", name: IMAGE, shell: false }.archive()
}

/// Where its manifests are: in the module that it is built from.
pub(crate) fn manifests() -> anyhow::Result<PathBuf> {
    Ok(Build::kueue().module_folder("sigs.k8s.io/kueue")?.join("config/default"))
}

pub(crate) fn apply(kubectl: &Kubectl, manifests: &Path) -> anyhow::Result<()> {
    let text = kubectl.output([Path::new("kustomize"), manifests])?;
    let objects = kubectl.objects(&text).context("cannot read Kueue's manifests")?;
    let items: Vec<Value> = objects.into_iter().filter_map(adapt).collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    kubectl.apply(&list.to_string()).context("cannot apply Kueue's manifests")
}

/// Waits until its webhooks answer, without which nobody can make a Job.
pub(crate) fn wait(kubectl: &Kubectl, layout: &Layout) -> anyhow::Result<()> {
    kubectl.rolled_out("kueue-system", "deployment/kueue-controller-manager")?;
    let path = layout.folder().join("kueue-probe.json");
    let flavor = json!({
        "apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "ResourceFlavor",
        "metadata": {"name": "probe"},
    });
    fs::write(&path, flavor.to_string())
        .with_context(|| format!("cannot write {}", path.display()))?;
    let path = path.display().to_string();
    let create = ["create", "--dry-run=server", "-o", "name", "-f", &path];
    kubectl
        .until("an answer of Kueue's webhook", FIRST_ANSWER, &create, |text| text.contains("probe"))
}

/// One of its objects as this cluster has it; none for what it does without.
fn adapt(mut object: Value) -> Option<Value> {
    let kind = object["kind"].as_str().unwrap_or_default().to_owned();
    match kind.as_str() {
        // Were Kueue down, every client would be told that a part of the API is.
        "APIService" => return None,
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => {
            let webhooks = object["webhooks"].as_array_mut()?;
            webhooks.retain(is_about_jobs_or_queues);
        }
        "ConfigMap" => {
            let config = json!({
                "apiVersion": "config.kueue.x-k8s.io/v1beta2", "kind": "Configuration",
                "health": {"healthProbeBindAddress": ":8081"},
                "metrics": {"bindAddress": ":8443"},
                "webhook": {"port": 9443},
                "leaderElection": {"leaderElect": false},
                "clientConnection": {"qps": 50, "burst": 100},
                "integrations": {"frameworks": ["batch/job"]},
                "featureGates": {"VisibilityOnDemand": false},
            });
            object["data"]["controller_manager_config.yaml"] = json!(config.to_string());
        }
        "Deployment" => {
            let container = object.pointer_mut("/spec/template/spec/containers/0")?;
            container["command"] = json!(["/kueue"]);
            container["image"] = json!(IMAGE);
            container["imagePullPolicy"] = json!("Never");
            container["resources"] = json!({});
            container["readinessProbe"]["initialDelaySeconds"] = json!(1);
            container["readinessProbe"]["periodSeconds"] = json!(1);
            // Ours says nothing of a user, and the pod is to have none that is root.
            container["securityContext"]["runAsUser"] = json!(65532);
        }
        _ => {}
    }
    Some(object)
}

/// Others are about kinds that are not turned on: each pod of the cluster would wait for an answer.
fn is_about_jobs_or_queues(webhook: &Value) -> bool {
    let rules = webhook["rules"].as_array().into_iter().flatten();
    let mut groups = rules.flat_map(|rule| rule["apiGroups"].as_array().into_iter().flatten());
    groups.all(|group| group == "kueue.x-k8s.io" || group == "batch")
}

#[test]
fn only_what_is_turned_on_is_asked_about() {
    let webhook = |group: &str| json!({"rules": [{"apiGroups": [group]}]});
    assert!(is_about_jobs_or_queues(&webhook("batch")));
    assert!(is_about_jobs_or_queues(&webhook("kueue.x-k8s.io")));
    assert!(!is_about_jobs_or_queues(&webhook("")));
    assert!(!is_about_jobs_or_queues(&webhook("apps")));
    assert_eq!(adapt(json!({"kind": "APIService"})), None);
}
