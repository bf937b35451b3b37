//! `--cluster`: what is in a cluster, instead of files.

use miette::IntoDiagnostic;
use serde_json::Value;
use trainyard_operator::{ClusterChoice, RequestRate, client_of, snapshot};
use trainyard_rules::{Finding, Source};

use super::Lint;
use crate::commands::supervisor::block_on;
use crate::yaml;

/// Reads all objects, each as a text of its own in one folder. What may not be read is told on
/// standard error.
pub(super) fn read(lint: &Lint) -> miette::Result<Vec<Source>> {
    let choice =
        ClusterChoice { kubeconfig: lint.kubeconfig.clone(), context: lint.context.clone() };
    let snapshot = block_on(async {
        let client = client_of(&choice, RequestRate::default()).await.into_diagnostic()?.client;
        snapshot(&client, lint.namespace.as_deref()).await.into_diagnostic()
    })??;
    for (what, reason) in &snapshot.unread {
        eprintln!("note: not checked, {what} cannot be listed: {reason}");
    }
    snapshot
        .objects
        .iter()
        .map(|object| Ok(Source { name: name(object), text: yaml::document(object)? }))
        .collect()
}

/// `cluster/Deployment.web.server.yaml`.
fn name(object: &Value) -> String {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let parts = [text("/kind"), text("/metadata/namespace"), text("/metadata/name")];
    // Names of some kinds (RBAC's) may hold slashes, which would make folders.
    let parts: Vec<String> = parts
        .into_iter()
        .filter(|part| !part.is_empty())
        .map(|part| part.replace(['/', '\\'], "_"))
        .collect();
    format!("cluster/{}.yaml", parts.join("."))
}

/// Findings in a namespace; objects of none were read to know of them only.
pub(super) fn within(namespace: &str, findings: Vec<Finding>) -> Vec<Finding> {
    let is_in = |finding: &Finding| {
        let mut parts = finding.object.splitn(3, '/').skip(1);
        parts.next() == Some(namespace) && parts.next().is_some()
    };
    findings.into_iter().filter(is_in).collect()
}

#[test]
fn names_are_of_one_folder() {
    let object = serde_json::json!({
        "kind": "Role", "metadata": {"namespace": "web", "name": "system:a/b"},
    });
    assert_eq!(name(&object), "cluster/Role.web.system:a_b.yaml");
    let object = serde_json::json!({"kind": "Node", "metadata": {"name": "n"}});
    assert_eq!(name(&object), "cluster/Node.n.yaml");
}
