//! Where a server keeps its weights.

use crate::model::{Container, Pod, Volume};

/// Whether a container mounts a volume that outlives the pod: anything but what is made for it.
pub(super) fn outlives_pod(pod: &Pod<'_>, container: &Container<'_>) -> bool {
    let in_set = pod.object.spec().get("volumeClaimTemplates");
    container.node.get("volumeMounts").items().any(|mount| {
        let name = mount.get("name").str();
        match pod.volume(name) {
            Some(volume) => is_durable(&volume),
            None => in_set.items().any(|claim| claim.path("metadata.name").is(name)),
        }
    })
}

fn is_durable(volume: &Volume<'_>) -> bool {
    const MADE_FOR_POD: [&str; 6] =
        ["emptyDir", "configMap", "secret", "downwardAPI", "projected", "name"];
    volume.node.entries().any(|entry| !MADE_FOR_POD.contains(&entry.key))
}
