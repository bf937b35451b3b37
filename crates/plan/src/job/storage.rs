//! Where a worker's pod keeps files: checkpoints, their store where that is a volume, shared memory
//! and scratch space.

use trainyard_api::defaults::CompleteJob;
use trainyard_api::scalar::Bytes;

use super::compile::{Checkpoint, JobError};
use crate::runtime::scratch;
use crate::workload::{Mount, Volume, VolumeSource};

/// Of what Trainyard puts into a pod.
const OURS: &str = "/opt/trainyard";
/// Where the folder of checkpoints is whose path is not absolute.
const CHECKPOINTS: &str = "/opt/trainyard/checkpoints";
/// Where a store is that is a volume.
const STORE: &str = "/opt/trainyard/store";
/// Paths that a pod has for other things; a volume over one of them breaks it, or hides a program.
const TAKEN: [&str; 16] = [
    "/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/opt", "/proc", "/root",
    "/run", "/sbin", "/sys", "/usr", OURS,
];
/// Caches and temporary files of a program that nobody knows.
const SCRATCH: Bytes = Bytes(10 << 30);
/// Checkpoints of a model have some times the size of the memory that it is trained in: the weights,
/// the optimizer's state, and several of them.
const CHECKPOINTS_PER_MEMORY: u64 = 8;
const LEAST_CHECKPOINTS: u64 = 10 << 30;

/// The checkpoints as a pod sees them, and its volumes.
pub(super) fn of(
    job: &str,
    spec: &CompleteJob,
) -> Result<(Option<Checkpoint>, Vec<Volume>), JobError> {
    let mut volumes = vec![
        scratch(SCRATCH),
        // Workers of PyTorch's data loaders and NCCL exchange tensors through it, and a container
        // has 64 MiB. It counts as memory of the pod.
        Volume {
            name: "shared-memory".to_owned(),
            source: VolumeSource::Memory { limit: Bytes(spec.memory.0 / 2) },
            mount: Mount { path: "/dev/shm".to_owned(), read_only: false },
        },
    ];
    let Some(checkpoint) = &spec.checkpoint else { return Ok((None, volumes)) };
    let (path, mount) = folder(job, &checkpoint.path)?;
    let limit = spec.memory.0.saturating_mul(CHECKPOINTS_PER_MEMORY).max(LEAST_CHECKPOINTS);
    volumes.push(Volume {
        name: "checkpoints".to_owned(),
        source: VolumeSource::Scratch { limit: Bytes(limit) },
        mount: Mount { path: mount, read_only: false },
    });
    let mut uri = checkpoint.uri.clone();
    if let Some(rest) = uri.as_ref().and_then(|uri| uri.strip_prefix("pvc://")) {
        let (claim, path) = rest.split_once('/').unwrap_or((rest, ""));
        volumes.push(Volume {
            name: "store".to_owned(),
            source: VolumeSource::Claim { name: claim.to_owned(), path: String::new() },
            mount: Mount { path: STORE.to_owned(), read_only: false },
        });
        // The agent makes folders in the volume that are not there yet; a mount would not, or as
        // another user.
        uri = Some(format!("file://{STORE}/{}", path.trim_end_matches('/')));
    } else if let Some(uri) = uri.as_ref().filter(|uri| uri.starts_with("file:")) {
        let help = "in a cluster: it is on the disk of a node, and goes with it; name a store at `s3://`, `gs://` or `az://`, or a volume that all workers can mount as `pvc://CLAIM/PATH`";
        return Err(JobError::CheckpointUri { job: job.to_owned(), uri: uri.clone(), help });
    }
    let kept = Checkpoint {
        path,
        uri,
        writers: checkpoint.writers,
        credentials_secret: checkpoint.credentials_secret.clone(),
        keep: checkpoint.keep,
        interval: checkpoint.interval,
        signal: checkpoint.signal,
        grace: checkpoint.grace,
    };
    Ok((Some(kept), volumes))
}

/// The folder as the program is told of it, and where its volume is mounted.
fn folder(job: &str, written: &str) -> Result<(String, String), JobError> {
    let wrong =
        |why| JobError::CheckpointPath { job: job.to_owned(), path: written.to_owned(), why };
    let parts: Vec<&str> =
        written.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err(wrong("leaves its volume with `..`; write the path without it"));
    }
    if written.contains(':') {
        return Err(wrong("has a `:`, which no path of a mount may have; choose another name"));
    }
    let whole = format!("/{}", parts.join("/"));
    if !written.starts_with('/') {
        let path =
            if parts.is_empty() { CHECKPOINTS.to_owned() } else { format!("{CHECKPOINTS}{whole}") };
        return Ok((path, CHECKPOINTS.to_owned()));
    }
    if hides(&whole) {
        return Err(wrong(
            "would hide a folder that the container needs; choose one of its own, such as `/checkpoints`, or a relative one",
        ));
    }
    Ok((whole.clone(), whole))
}

/// Whether a volume at that path, which is absolute and plain, would hide what a container needs.
pub(super) fn hides(path: &str) -> bool {
    let is_below =
        |folder: &str| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
    TAKEN.contains(&path)
        || path == "/tmp"
        || ["/dev", "/proc", "/sys", OURS].into_iter().any(is_below)
}

#[test]
fn folders() {
    let of = |path: &str| folder("digits", path).map_err(|error| error.to_string());
    let both = |path: &str, mount: &str| Ok((path.to_owned(), mount.to_owned()));
    assert_eq!(of("checkpoints"), both("/opt/trainyard/checkpoints/checkpoints", CHECKPOINTS));
    assert_eq!(of("./a//b/"), both("/opt/trainyard/checkpoints/a/b", CHECKPOINTS));
    assert_eq!(of("."), both(CHECKPOINTS, CHECKPOINTS));
    assert_eq!(of("/out/run"), both("/out/run", "/out/run"));
    assert_eq!(of("/tmp/out"), both("/tmp/out", "/tmp/out"));
    for wrong in
        ["/", "/usr/", "/dev/shm", "/proc/1", "/opt/trainyard/bin", "a/../../b", "/a:b", "/tmp"]
    {
        assert!(of(wrong).is_err(), "{wrong}");
    }
}
