use serde_json::json;

use crate::diagnosis::diagnosis;
use crate::matching::{has_all, has_any, of_failed};
use crate::patch;
use crate::report::Report;
use crate::view::{View, list, text};

diagnosis! {
    /// Shared memory is too small for data loader workers or NCCL
    ///
    /// ## Signature
    /// A container failed, and its log says `Bus error` of a DataLoader worker, or that NCCL or the
    /// program could not extend or map a file in `/dev/shm`.
    ///
    /// ## Cause
    /// Without a volume there, a container's `/dev/shm` has 64 MiB.
    ///
    /// ## How to mend it
    /// Mount an `emptyDir` of medium Memory at `/dev/shm`, with a size limit, and count it in the
    /// memory limit.
    D27, Error,
    needs: [Pods, Logs],
    rules: ["TRN01", "TRN02", "GPU22"],
    source: "pytorch/pytorch#5040, #16979, #108861; NCCL's troubleshooting",
    check: check,
}

fn is_shm(line: &str) -> bool {
    has_all(line, &["dataloader worker", "bus error"])
        || has_any(line, &["insufficient shared memory (shm)"])
        || has_all(line, &["/dev/shm", "no space left"])
        || has_all(line, &["error while creating shared memory segment", "/dev/shm"])
        || has_all(line, &["unable to write to file", "torch_"])
}

fn check(view: &View<'_>, report: &mut Report) {
    for hit in of_failed(view, is_shm) {
        let mount = list(hit.container.spec, "/volumeMounts")
            .iter()
            .find(|it| text(it, "/mountPath").trim_end_matches('/') == "/dev/shm");
        let volume = mount.and_then(|mount| {
            let volumes = hit.pod.object.list("/spec/volumes").iter();
            volumes.into_iter().find(|it| text(it, "/name") == text(mount, "/name"))
        });
        let state = match volume {
            Some(_) => "the volume at `/dev/shm` is full",
            None => "nothing is mounted at `/dev/shm`, so it has 64 MiB",
        };
        let finding = report.at(
            hit.pod.object.reference(),
            format!("container `{}` ran out of shared memory: {state}", hit.container.name()),
        );
        finding.ended(&hit.pod, &hit.container).hit(&hit);
        match volume {
            Some(volume) => {
                let name = text(volume, "/name");
                finding.value(hit.pod.object, &format!("spec.volumes[{name}]"), volume.clone());
                finding.advise(format!(
                    "raise `sizeLimit` of the volume `{name}`, and the memory limit with it"
                ));
            }
            None => {
                let change = json!({
                    "containers": [{"name": hit.container.name(), "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}]}],
                    "volumes": [{"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "8Gi"}}],
                });
                finding.mend(patch::pod_spec(view, &hit.pod, change));
            }
        }
    }
}
