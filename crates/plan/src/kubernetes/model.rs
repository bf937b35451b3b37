//! Volumes, and the init container that fetches the model.

use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, Container, EmptyDirVolumeSource, EnvFromSource,
    PersistentVolumeClaimVolumeSource, ResourceRequirements, SecretEnvSource, Volume as PodVolume,
    VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use trainyard_api::scalar::{Bytes, ModelUri};

use super::container::{requirements, security_context};
use super::{Context, ObjectsError, Settings};
use crate::workload::{GpuAmount, Volume, VolumeSource};

/// Where the init container sees the model's volume.
const FETCH_MOUNT: &str = "/models";
/// The folder of it that becomes the model, and the one that holds what is on its way. Both are in
/// one volume, so that a file is linked rather than copied.
const MODEL_FOLDER: &str = "model";
const CACHE_FOLDER: &str = "cache";
/// Where the kubelet reads how a container ended.
pub(super) const TERMINATION_LOG: &str = "/dev/termination-log";

impl Context<'_> {
    /// The most that a fetched model may have: models larger than the memory that they are loaded
    /// to cannot be served. Twice for formats that grow, and the largest GPU's memory for each.
    pub(super) fn model_limit(&self) -> Bytes {
        const LEAST: u64 = 10 << 30;
        const LARGEST_GPU: u64 = 192 << 30;
        let resources = &self.plan.workload.resources;
        let memory = resources.memory.map_or(0, |memory| memory.0.saturating_mul(2));
        let gpus = match resources.gpu.as_ref().map(|gpu| gpu.amount) {
            Some(GpuAmount::Count(count)) => u64::from(count),
            Some(GpuAmount::Memory(_) | GpuAmount::Share(_)) => 1,
            None => 0,
        };
        Bytes(memory.saturating_add(gpus.saturating_mul(LARGEST_GPU)).max(LEAST))
    }

    /// Disk that the pod's volumes may take.
    pub(super) fn volumes_limit(&self) -> Bytes {
        let of = |volume: &Volume| match &volume.source {
            VolumeSource::Model { .. } => self.model_limit().0,
            VolumeSource::Scratch { limit } => limit.0,
            _ => 0,
        };
        let volumes = self.plan.workload.volumes.iter();
        Bytes(volumes.fold(0, |sum, volume| sum.saturating_add(of(volume))))
    }
}

/// The volumes of the pod.
pub(super) fn volumes(ctx: &Context<'_>) -> Result<Vec<PodVolume>, ObjectsError> {
    ctx.plan.workload.volumes.iter().map(|volume| pod_volume(ctx, volume)).collect()
}

fn pod_volume(ctx: &Context<'_>, volume: &Volume) -> Result<PodVolume, ObjectsError> {
    let mut pod = PodVolume { name: volume.name.clone(), ..PodVolume::default() };
    let quantity = |bytes: Bytes| Some(Quantity(bytes.to_string()));
    match &volume.source {
        VolumeSource::Host(_) => {
            let service = ctx.plan.name.clone();
            return Err(ObjectsError::LocalPlan { service, what: "its model's path" });
        }
        VolumeSource::Model { .. } => {
            pod.empty_dir = Some(EmptyDirVolumeSource {
                size_limit: quantity(ctx.model_limit()),
                medium: None,
            });
        }
        VolumeSource::Claim { name, .. } => {
            // Read-only as a whole: several nodes may then mount what allows it (ROX, RWX), and
            // nobody changes owners of the files in it.
            pod.persistent_volume_claim = Some(PersistentVolumeClaimVolumeSource {
                claim_name: name.clone(),
                read_only: Some(true),
            });
        }
        VolumeSource::Config(_) => {
            pod.config_map = Some(ConfigMapVolumeSource {
                name: ctx.name(),
                ..ConfigMapVolumeSource::default()
            });
        }
        VolumeSource::Scratch { limit } => {
            pod.empty_dir =
                Some(EmptyDirVolumeSource { size_limit: quantity(*limit), medium: None });
        }
        VolumeSource::Memory { limit } => {
            pod.empty_dir = Some(EmptyDirVolumeSource {
                size_limit: quantity(*limit),
                medium: Some("Memory".to_owned()),
            });
        }
    }
    Ok(pod)
}

/// Where the server sees them.
pub(super) fn mounts(ctx: &Context<'_>) -> Vec<VolumeMount> {
    let mount = |volume: &Volume| VolumeMount {
        name: volume.name.clone(),
        mount_path: volume.mount.path.clone(),
        read_only: volume.mount.read_only.then_some(true),
        sub_path: match &volume.source {
            VolumeSource::Model { .. } => Some(MODEL_FOLDER.to_owned()),
            VolumeSource::Claim { path, .. } => Some(path.clone()).filter(|path| !path.is_empty()),
            _ => None,
        },
        ..VolumeMount::default()
    };
    ctx.plan.workload.volumes.iter().map(mount).collect()
}

/// The container that fetches the model before the server starts; none where the model lies on a
/// claim.
///
/// It alone has the store's credentials. What it fetched outlives its own restarts, so that each
/// goes on where the last one stopped.
pub(super) fn fetch(ctx: &Context<'_>) -> Option<Container> {
    let (volume, uri, sha256, secret) =
        ctx.plan.workload.volumes.iter().find_map(|volume| match &volume.source {
            VolumeSource::Model { uri, sha256, credentials_secret } => {
                Some((volume, uri, sha256, credentials_secret))
            }
            _ => None,
        })?;
    let fetch = Fetch {
        container: "fetch-model".to_owned(),
        volume: volume.name.clone(),
        uri,
        sha256: sha256.as_deref(),
        credentials_secret: secret.as_deref(),
    };
    // As much as the server: a pod asks for the larger of the two, so it costs nothing.
    let resources = requirements(&ctx.plan.workload.resources, ctx.volumes_limit(), false);
    Some(fetch.container(ctx.settings, resources))
}

/// What an init container fetches.
pub(super) struct Fetch<'a> {
    /// The container's name.
    pub(super) container: String,
    /// The volume that it fills; what was fetched is in [`Fetch::FOLDER`] of it.
    pub(super) volume: String,
    pub(super) uri: &'a ModelUri,
    pub(super) sha256: Option<&'a str>,
    pub(super) credentials_secret: Option<&'a str>,
}

impl Fetch<'_> {
    /// The folder of the volume with what was fetched.
    pub(super) const FOLDER: &'static str = MODEL_FOLDER;

    pub(super) fn container(
        self,
        settings: &Settings,
        resources: ResourceRequirements,
    ) -> Container {
        let flags = [
            "--to".to_owned(),
            format!("{FETCH_MOUNT}/{MODEL_FOLDER}"),
            "--cache".to_owned(),
            format!("{FETCH_MOUNT}/{CACHE_FOLDER}"),
        ];
        let mount = VolumeMount {
            name: self.volume.clone(),
            mount_path: FETCH_MOUNT.to_owned(),
            ..VolumeMount::default()
        };
        let container = self.asking(settings, resources, &flags);
        Container { volume_mounts: Some(vec![mount]), ..container }
    }

    /// The container that fetches nothing: it looks whether there is something to fetch.
    pub(super) fn look(self, settings: &Settings, resources: ResourceRequirements) -> Container {
        self.asking(settings, resources, &["--check".to_owned()])
    }

    fn asking(
        self,
        settings: &Settings,
        resources: ResourceRequirements,
        flags: &[String],
    ) -> Container {
        let mut args = vec!["fetch".to_owned()];
        args.extend_from_slice(flags);
        args.extend(["--termination-log".to_owned(), TERMINATION_LOG.to_owned()]);
        if let Some(sha256) = self.sha256 {
            args.extend(["--sha256".to_owned(), sha256.to_owned()]);
        }
        // A dollar sign in an address stands for itself, not for a variable.
        args.extend(["--".to_owned(), self.uri.to_string().replace('$', "$$")]);
        Container {
            name: self.container,
            image: Some(settings.image.clone()),
            image_pull_policy: Some(settings.image_pull_policy.as_str().to_owned()),
            command: Some(vec!["trainyard".to_owned()]),
            args: Some(args),
            env_from: self.credentials_secret.map(|secret| {
                vec![EnvFromSource {
                    secret_ref: Some(SecretEnvSource { name: secret.to_owned(), optional: None }),
                    ..EnvFromSource::default()
                }]
            }),
            resources: Some(resources),
            security_context: Some(security_context()),
            termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
            ..Container::default()
        }
    }
}
