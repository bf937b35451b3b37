//! The HTTPRoute of the Gateway API.

use serde_json::json;

use super::service::HTTP;
use super::{Context, Object};

const API: &str = "gateway.networking.k8s.io/v1";

/// Routes `/NAMESPACE/NAME/…` of the cluster's Gateway to the service, where the Gateway API is
/// installed and a Gateway was named. The prefix is taken off, so that every protocol's own paths
/// stay what they are; clients take it as a part of the base address.
///
/// None where Trainyard's own gateway is: it alone may reach the replicas, and one route to it (made
/// by `trainyard install --route`) is for all services.
pub(super) fn http_route(ctx: &Context<'_>) -> Option<Object> {
    let parent = ctx.settings.route.as_ref()?;
    if !ctx.settings.apis.contains(API) || ctx.settings.gateway.is_some() {
        return None;
    }
    let name = &ctx.plan.name;
    let prefix = match ctx.namespace() {
        Some(namespace) => format!("/{namespace}/{name}"),
        None => format!("/{name}"),
    };
    let value = json!({
        "apiVersion": API,
        "kind": "HTTPRoute",
        "metadata": ctx.metadata(name.clone(), ctx.labels()),
        "spec": {
            "parentRefs": [{ "namespace": parent.namespace, "name": parent.name }],
            "rules": [{
                "matches": [{ "path": { "type": "PathPrefix", "value": prefix } }],
                "filters": [{
                    "type": "URLRewrite",
                    "urlRewrite": {
                        "path": { "type": "ReplacePrefixMatch", "replacePrefixMatch": "/" },
                    },
                }],
                "backendRefs": [{ "name": name, "port": HTTP }],
            }],
        },
    });
    Some(Object::custom(value, "httproutes"))
}
