//! Keeps what the webhook needs fresh: its keys, what the API server knows of them, and the nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{Node, Secret};
use kube_client::api::{ListParams, Patch, PatchParams, PostParams};
use kube_client::{Api, Client, Error};
use serde_json::{Value, json};
use tokio::time::sleep;
use trainyard_rules::Profile;
use trainyard_rules::alone::Alone;

use super::keys::Keys;
use super::server::{Certificate, CertificateError};
use super::{LintWebhook, configuration_name, host_names};
use crate::cluster::Chain;
use crate::names::LINT;

/// How often keys are looked at, at most; certificates of a test do not live long.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// How often nodes are.
const NODES_EVERY: Duration = Duration::from_secs(60);
/// Nodes of one answer of the API server.
const PAGE: u32 = 500;
/// The entry of the Secret.
const ENTRY: &str = "keys.json";
/// Owns the authorities in the webhook's configuration.
const MANAGER: &str = "trainyard-lint";

#[derive(Debug, thiserror::Error)]
enum KeeperError {
    #[error("cannot {what}")]
    Call { what: &'static str, source: Box<Error> },
    #[error("cannot make a certificate")]
    Make(#[from] rcgen::Error),
    #[error("cannot serve with the certificate of the Secret `{LINT}`")]
    Use(#[from] CertificateError),
}

fn call(what: &'static str) -> impl FnOnce(Error) -> KeeperError {
    move |source| KeeperError::Call { what, source: Box::new(source) }
}

/// Keeps keys. Several may at once: who writes later sees that it was not the first.
pub(super) struct Keeper {
    secrets: Api<Secret>,
    configurations: Api<ValidatingWebhookConfiguration>,
    configuration: String,
    names: Vec<String>,
    lifetime: Duration,
    certificate: Arc<Certificate>,
}

impl Keeper {
    pub(super) fn new(
        client: Client,
        webhook: &LintWebhook,
        certificate: Arc<Certificate>,
    ) -> Self {
        Self {
            secrets: Api::namespaced(client.clone(), &webhook.namespace),
            configurations: Api::all(client),
            configuration: configuration_name(&webhook.namespace),
            names: host_names(&webhook.namespace),
            lifetime: webhook.certificate_lifetime,
            certificate,
        }
    }

    pub(super) async fn keep(&self) {
        let pause = LOOK_EVERY.min(self.lifetime / 20);
        loop {
            if let Err(error) = self.look().await {
                let error = Chain(&error);
                tracing::warn!(%error, "the lint webhook's keys could not be looked after");
            }
            sleep(pause).await;
        }
    }

    async fn look(&self) -> Result<(), KeeperError> {
        let secret = self.secrets.get(LINT).await.map_err(call("read the Secret"))?;
        let now = SystemTime::now();
        let Some(keys) = kept(&secret) else {
            // Nothing yet, or nothing that can be read.
            let keys = Keys::new(&self.names, self.lifetime, now)?;
            return self.write(secret, &keys).await;
        };
        self.certificate.set(&keys.serving.certificate, &keys.serving.key)?;
        // First what may be signed with next is told, then it is.
        self.tell(&keys.bundle()).await?;
        match keys.renewed(&self.names, self.lifetime, now)? {
            Some(next) => {
                tracing::info!("the lint webhook's certificates are renewed");
                self.write(secret, &next).await
            }
            None => Ok(()),
        }
    }

    async fn write(&self, mut secret: Secret, keys: &Keys) -> Result<(), KeeperError> {
        let text = serde_json::to_vec(keys).unwrap_or_default();
        secret.data = Some(BTreeMap::from([(ENTRY.to_owned(), ByteString(text))]));
        // The version that was read is in it: of two that write, one is refused.
        match self.secrets.replace(LINT, &PostParams::default(), &secret).await {
            Ok(_) => {}
            Err(Error::Api(status)) if status.code == 409 => return Ok(()),
            Err(error) => return Err(call("write the Secret")(error)),
        }
        self.certificate.set(&keys.serving.certificate, &keys.serving.key)?;
        self.tell(&keys.bundle()).await
    }

    /// Makes the API server believe these authorities.
    async fn tell(&self, bundle: &str) -> Result<(), KeeperError> {
        let name = &self.configuration;
        let found = self.configurations.get(name).await;
        let webhooks = found.map_err(call("read the webhook's configuration"))?.webhooks;
        let wanted = ByteString(bundle.as_bytes().to_vec());
        let webhooks = webhooks.unwrap_or_default();
        if webhooks.iter().all(|webhook| webhook.client_config.ca_bundle.as_ref() == Some(&wanted))
        {
            return Ok(());
        }
        let webhooks: Vec<Value> = webhooks
            .iter()
            .map(|webhook| json!({"name": webhook.name, "clientConfig": {"caBundle": wanted}}))
            .collect();
        let body = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": name},
            "webhooks": webhooks,
        });
        let params = PatchParams::apply(MANAGER).force();
        let patched = self.configurations.patch(name, &params, &Patch::Apply(body)).await;
        patched.map(drop).map_err(call("write the webhook's configuration"))
    }
}

fn kept(secret: &Secret) -> Option<Keys> {
    let ByteString(text) = secret.data.as_ref()?.get(ENTRY)?;
    serde_json::from_slice(text).ok()
}

/// Tells the linter which nodes there are.
pub(super) async fn keep_nodes(client: Client, profile: Profile, linter: Arc<ArcSwap<Alone>>) {
    let api: Api<Node> = Api::all(client);
    let mut known = None;
    loop {
        match list(&api).await {
            Ok(nodes) => {
                let nodes = manifests(&nodes);
                if known.as_ref() != Some(&nodes) {
                    linter.store(Arc::new(Alone::new(profile, Some(nodes.clone()))));
                    known = Some(nodes);
                }
            }
            Err(error) => {
                let error = Chain(&error);
                tracing::warn!(%error, "the lint webhook cannot read nodes");
            }
        }
        sleep(NODES_EVERY).await;
    }
}

async fn list(api: &Api<Node>) -> Result<Vec<Node>, Error> {
    let mut params = ListParams::default().limit(PAGE);
    let mut nodes = Vec::new();
    loop {
        let page = api.list(&params).await?;
        nodes.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => return Ok(nodes),
        }
    }
}

/// Nodes as rules see them: labels, taints, and which resources there are. Of those that differ in
/// names and amounts only, one.
fn manifests(nodes: &[Node]) -> String {
    let seen: BTreeSet<String> = nodes
        .iter()
        .map(|node| {
            let mut labels = node.metadata.labels.clone().unwrap_or_default();
            labels.remove("kubernetes.io/hostname");
            let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
            let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
            let resources: BTreeMap<&str, &str> =
                allocatable.into_iter().flatten().map(|(name, _)| (name.as_str(), "1")).collect();
            json!({
                "apiVersion": "v1", "kind": "Node",
                "metadata": {"name": "node", "labels": labels}, "spec": {"taints": taints},
                "status": {"allocatable": resources},
            })
            .to_string()
        })
        .collect();
    seen.into_iter().collect::<Vec<_>>().join("\n---\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, product: &str) -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {
                "kubernetes.io/hostname": name, "nvidia.com/gpu.product": product,
            }},
            "spec": {"taints": [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}]},
            "status": {"allocatable": {"memory": format!("{}Ki", name.len())}},
        }))
        .expect("a node")
    }

    #[test]
    fn equal_nodes_are_one() {
        let nodes = [node("a", "Tesla-T4"), node("b", "Tesla-T4"), node("c", "NVIDIA-L4")];
        let text = manifests(&nodes);
        assert_eq!(text.matches("kind\":\"Node").count(), 2, "{text}");
        assert!(text.contains("taints") && !text.contains("hostname"));
    }

    #[test]
    fn a_secret_with_anything_in_it_is_read_or_not() {
        assert_eq!(kept(&Secret::default()), None);
        let data = Some(BTreeMap::from([(ENTRY.to_owned(), ByteString(b"{}".to_vec()))]));
        assert_eq!(kept(&Secret { data, ..Secret::default() }), None);
    }
}
