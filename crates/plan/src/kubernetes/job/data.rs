//! What a worker's program reads: volumes that are there, and what init containers fetch.

use k8s_openapi::api::core::v1::{
    Container, EmptyDirVolumeSource, PersistentVolumeClaimVolumeSource, ResourceRequirements,
    Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use trainyard_api::scalar::{Bytes, ModelUri};

use super::Context;
use super::workers::disk;
use crate::job::DataSet;
use crate::kubernetes::container::requirements;
use crate::kubernetes::model::Fetch;

/// What the names of the init containers that fetch data begin with; the data's own follows.
pub const DATA_CONTAINER: &str = "fetch-data-";
/// The same of those that only look whether it is there.
pub const LOOK_CONTAINER: &str = "check-data-";

fn volume_name(set: &DataSet) -> String {
    format!("data-{}", set.name)
}

fn is_fetched(set: &DataSet) -> bool {
    !matches!(set.uri, ModelUri::Pvc { .. })
}

/// Fetch one data set after the other, each with no credentials but its own.
pub(super) fn containers(ctx: &Context<'_>) -> impl Iterator<Item = Container> {
    // As much as the program: a pod asks for the larger of the two, so it costs nothing.
    let resources = || requirements(&ctx.plan.resources, disk(ctx), false);
    fetches(ctx, DATA_CONTAINER).map(move |it| it.container(ctx.settings, resources()))
}

/// Look whether there is something to fetch, each with what the one that fetches it is given.
pub(super) fn looks(ctx: &Context<'_>, resources: &ResourceRequirements) -> Vec<Container> {
    fetches(ctx, LOOK_CONTAINER).map(|it| it.look(ctx.settings, resources.clone())).collect()
}

fn fetches<'a>(ctx: &Context<'a>, named: &str) -> impl Iterator<Item = Fetch<'a>> {
    ctx.plan.data.iter().filter(|set| is_fetched(set)).map(move |set| Fetch {
        container: format!("{named}{}", set.name),
        volume: volume_name(set),
        uri: &set.uri,
        sha256: set.sha256.as_deref(),
        credentials_secret: set.credentials_secret.as_deref(),
    })
}

/// Disk that fetched data may take.
pub(super) fn limit(ctx: &Context<'_>) -> Bytes {
    let sets = ctx.plan.data.iter().filter(|set| is_fetched(set));
    Bytes(sets.fold(0, |sum, set| sum.saturating_add(set.limit.0)))
}

pub(super) fn volumes(ctx: &Context<'_>) -> impl Iterator<Item = Volume> {
    ctx.plan.data.iter().map(|set| {
        let mut volume = Volume { name: volume_name(set), ..Volume::default() };
        match &set.uri {
            ModelUri::Pvc { claim, .. } => {
                volume.persistent_volume_claim = Some(PersistentVolumeClaimVolumeSource {
                    claim_name: claim.clone(),
                    read_only: Some(true),
                });
            }
            _ => {
                volume.empty_dir = Some(EmptyDirVolumeSource {
                    size_limit: Some(Quantity(set.limit.to_string())),
                    medium: None,
                });
            }
        }
        volume
    })
}

pub(super) fn mounts(ctx: &Context<'_>) -> impl Iterator<Item = VolumeMount> {
    ctx.plan.data.iter().map(|set| VolumeMount {
        name: volume_name(set),
        mount_path: set.mount.clone(),
        read_only: Some(true),
        sub_path: match &set.uri {
            ModelUri::Pvc { path, .. } => Some(path.clone()).filter(|path| !path.is_empty()),
            _ => Some(Fetch::FOLDER.to_owned()),
        },
        ..VolumeMount::default()
    })
}
