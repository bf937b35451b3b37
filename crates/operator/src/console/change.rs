//! Changes that people make by hand.

use kube_client::api::{DeleteParams, Patch, PatchParams, PropagationPolicy};
use serde_json::{Value, json};

use super::failure::ask;
use super::{Console, ConsoleError};
use crate::history::rollback;

/// The field manager of what people change by hand, as `kubectl scale` has its own.
const MANAGER: &str = "trainyard-cli";

/// What becomes of a deleted service's objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cascade {
    /// They go after it.
    #[default]
    Background,
    /// They go before it.
    Foreground,
    /// They stay.
    Orphan,
}

/// How to delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deletion {
    pub cascade: Cascade,
    /// The API server only says whether it would.
    pub dry_run: bool,
}

impl Console {
    /// Keeps exactly so many replicas, by the scale subresource: whoever may scale may do this.
    pub async fn scale(&self, name: &str, replicas: u32) -> Result<(), ConsoleError> {
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        let (api, params) = (self.resource(), params());
        let scaled = ask(&format!("scale `{name}`"), api.patch_scale(name, &params, &patch)).await;
        self.changed(name, scaled).await
    }

    /// Lets `spec.scaling` decide again, between these bounds if there are any.
    pub async fn scale_by_itself(
        &self,
        name: &str,
        bounds: Option<(u32, u32)>,
    ) -> Result<(), ConsoleError> {
        let mut spec = json!({"replicas": null});
        if let Some((min, max)) = bounds {
            spec["scaling"] = json!({"min": min, "max": max});
        }
        let patch = Patch::Merge(json!({"spec": spec}));
        let (api, params) = (self.resource(), params());
        let patched = ask(&format!("scale `{name}`"), api.patch(name, &params, &patch)).await;
        self.changed(name, patched).await
    }

    /// Goes back to an earlier revision; returns its name.
    pub async fn rollback(&self, name: &str, to: Option<&str>) -> Result<String, ConsoleError> {
        use crate::history::RollbackError;
        match rollback(self.client.clone(), self.home(), name, to).await {
            Err(RollbackError::NoService { .. }) => Err(self.not_found(name).await),
            Err(RollbackError::Api { what, source }) => Err(ConsoleError::of(what, *source)),
            result => Ok(result?),
        }
    }

    /// Deletes a service. It is gone once a watch no longer has it.
    pub async fn delete(&self, service: &Value, how: Deletion) -> Result<(), ConsoleError> {
        let (namespace, name) = super::key(service);
        let policy = match how.cascade {
            Cascade::Background => PropagationPolicy::Background,
            Cascade::Foreground => PropagationPolicy::Foreground,
            Cascade::Orphan => PropagationPolicy::Orphan,
        };
        let params = DeleteParams {
            dry_run: how.dry_run,
            propagation_policy: Some(policy),
            // Not one that was made anew in the meantime.
            preconditions: service["metadata"]["uid"].as_str().map(|uid| {
                kube_client::api::Preconditions {
                    uid: Some(uid.to_owned()),
                    resource_version: None,
                }
            }),
            ..DeleteParams::default()
        };
        let console = Self { namespace: Some(namespace), ..self.clone() };
        let api = console.resource();
        let deleted = ask(&format!("delete `{name}`"), api.delete(&name, &params)).await;
        console.changed(&name, deleted).await
    }

    async fn changed<T>(
        &self,
        name: &str,
        result: Result<T, ConsoleError>,
    ) -> Result<(), ConsoleError> {
        match result {
            Err(ConsoleError::Refused { reason, .. }) if reason == "NotFound" => {
                Err(self.not_found(name).await)
            }
            result => result.map(drop),
        }
    }
}

fn params() -> PatchParams {
    PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() }
}
