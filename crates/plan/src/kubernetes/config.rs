//! The ConfigMap with files that a server reads at its start.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use sha2::{Digest, Sha256};

use super::{Context, Object};
use crate::workload::VolumeSource;

/// The files of the workload; none where it has none.
fn files<'a>(ctx: &Context<'a>) -> Option<&'a BTreeMap<String, String>> {
    ctx.plan.workload.volumes.iter().find_map(|volume| match &volume.source {
        VolumeSource::Config(files) => Some(files),
        _ => None,
    })
}

pub(super) fn config_map(ctx: &Context<'_>) -> Option<Object> {
    let files = files(ctx)?;
    Some(Object::new(&ConfigMap {
        metadata: ctx.metadata(ctx.name(), ctx.labels()),
        data: Some(files.clone()),
        ..ConfigMap::default()
    }))
}

/// Changes when a file does. Pods carry it, because a changed ConfigMap alone restarts nobody.
pub(super) fn hash(ctx: &Context<'_>) -> Option<String> {
    let mut hasher = Sha256::new();
    for (name, text) in files(ctx)? {
        // Lengths keep a name's end apart from its text's start.
        hasher.update(name.len().to_le_bytes());
        hasher.update(name);
        hasher.update(text.len().to_le_bytes());
        hasher.update(text);
    }
    Some(hasher.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect())
}
