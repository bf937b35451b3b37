//! The revisions of a service that can be gone back to.

use std::cmp::Reverse;

use k8s_openapi::api::apps::v1::ControllerRevision;
use kube_client::api::ListParams;

use super::failure::ask;
use super::{Console, ConsoleError};

/// One revision that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub name: String,
    /// Grows with each release.
    pub number: i64,
    /// Milliseconds since the Unix epoch.
    pub since_ms: Option<i64>,
    /// The model that it serves.
    pub model: String,
}

impl Console {
    /// The revisions of a service, the newest first.
    pub async fn revisions(&self, service: &str) -> Result<Vec<Kept>, ConsoleError> {
        let params = ListParams::default().labels(&self.selector(Some(service)));
        let list = self.api::<ControllerRevision>();
        let mut kept: Vec<Kept> =
            ask("list the revisions", list.list(&params)).await?.iter().map(of).collect();
        kept.sort_by_key(|revision| Reverse(revision.number));
        Ok(kept)
    }
}

fn of(revision: &ControllerRevision) -> Kept {
    let data = revision.data.as_ref().map(|data| &data.0);
    let model = data.and_then(|data| data["model"]["uri"].as_str()).unwrap_or_default();
    let created = revision.metadata.creation_timestamp.as_ref();
    Kept {
        name: revision.metadata.name.clone().unwrap_or_default(),
        number: revision.revision,
        since_ms: created.map(|time| time.0.as_millisecond()),
        model: model.to_owned(),
    }
}
