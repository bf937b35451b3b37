//! What Kueue, KAI and Volcano read of a job that is handed to them.
//!
//! Names are those of Kueue 0.17 (`pkg/controller/constants`, `pkg/controller/jobs/job`), of KAI's
//! pod grouper (`pkg/podgrouper`), and of Volcano's `scheduling.volcano.sh/v1beta1`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapKeySelector, EnvVar, EnvVarSource, PodSpec, PodTemplateSpec,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};
use trainyard_api::scalar::{Bytes, Millicores};

use super::{Context, JobRun, job_name};
use crate::job::{GANG, Handover, JobPlan, QueueSystem};
use crate::kubernetes::{Object, Settings};
use crate::workload::DeviceRequest;

const KUEUE_QUEUE: &str = "kueue.x-k8s.io/queue-name";
const KUEUE_PRIORITY: &str = "kueue.x-k8s.io/priority-class";
/// Kueue may lower a Job's parallelism to this.
const KUEUE_MIN: &str = "kueue.x-k8s.io/job-min-parallelism";
/// The completions of an Indexed Job follow its parallelism.
const KUEUE_COMPLETIONS: &str = "kueue.x-k8s.io/job-completions-equal-parallelism";
const KAI_SCHEDULER: &str = "kai-scheduler";
const KAI_QUEUE: &str = "kai.scheduler/queue";
/// How many pods of a Job are a gang. The pod grouper makes its PodGroup, with all annotations of the
/// Job; one of ours it would put aside. Known since KAI 0.14.1: older ones place pods one by one.
pub const KAI_GANG: &str = "kai.scheduler/batch-min-member";
const VOLCANO_SCHEDULER: &str = "volcano";
/// Which PodGroup a pod is of.
const VOLCANO_GROUP: &str = "scheduling.k8s.io/group-name";
const VOLCANO_API: &str = "scheduling.volcano.sh/v1beta1";
/// The key in the ConfigMap of [`gang_object`].
const GANG_KEY: &str = "gang";
const DISK: &str = "ephemeral-storage";

/// Marks the Job and its pods. Whether the Job is made suspended, for Kueue to start it.
pub(super) fn mark(
    ctx: &Context<'_>,
    job: &mut ObjectMeta,
    template: &mut PodTemplateSpec,
) -> bool {
    let Some(handover) = &ctx.plan.handover else { return false };
    let put = |all: &mut Option<BTreeMap<String, String>>, name: &str, value: String| {
        all.get_or_insert_default().insert(name.to_owned(), value);
    };
    let workers = ctx.plan.workers.to_string();
    let mut scheduler = None;
    match handover.system {
        QueueSystem::Kueue => {
            put(&mut job.labels, KUEUE_QUEUE, handover.queue.clone());
            if let Some(class) = &handover.priority_class {
                put(&mut job.labels, KUEUE_PRIORITY, class.clone());
            }
            if let Some(min) = learns_its_size(ctx) {
                put(&mut job.annotations, KUEUE_MIN, min.to_string());
                put(&mut job.annotations, KUEUE_COMPLETIONS, true.to_string());
            }
        }
        QueueSystem::Kai => {
            scheduler = Some(KAI_SCHEDULER);
            put(&mut job.labels, KAI_QUEUE, handover.queue.clone());
            put(&mut job.annotations, KAI_GANG, workers);
            let pods = template.metadata.get_or_insert_default();
            put(&mut pods.labels, KAI_QUEUE, handover.queue.clone());
        }
        QueueSystem::Volcano => {
            scheduler = Some(VOLCANO_SCHEDULER);
            let pods = template.metadata.get_or_insert_default();
            put(&mut pods.annotations, VOLCANO_GROUP, job_name(&ctx.plan.name, ctx.run));
        }
    }
    if let Some(pod) = &mut template.spec {
        pod.scheduler_name = scheduler.map(str::to_owned);
        if handover.system == QueueSystem::Kueue {
            ask_for_no_disk(pod);
        }
    }
    // Its webhook would do the same; where that does not see the Job, it waits and nobody runs it
    // beside the quota.
    handover.system == QueueSystem::Kueue
}

/// A ClusterQueue lets nobody in who asks for a resource that it does not name, and hardly one names
/// disk. What pods may take of it stays limited.
fn ask_for_no_disk(pod: &mut PodSpec) {
    let init = pod.init_containers.iter_mut().flatten();
    for container in init.chain(&mut pod.containers) {
        let requests = container.resources.as_mut().and_then(|it| it.requests.as_mut());
        if let Some(disk) = requests.and_then(|it| it.get_mut(DISK)) {
            *disk = Quantity("0".to_owned());
        }
    }
}

/// How few workers will do for a gang that is told its size when it starts; none for one that always
/// has all. Nobody but an operator can tell it.
fn learns_its_size(ctx: &Context<'_>) -> Option<u32> {
    let Handover { system, min_workers, .. } = ctx.plan.handover.as_ref()?;
    let may_differ = *system == QueueSystem::Kueue && matches!(ctx.run, JobRun::Attempt(_));
    min_workers.filter(|min| may_differ && (1..ctx.plan.workers).contains(min))
}

/// The variable of the gang, where its size is not known yet when the Job is made: a container waits
/// for the ConfigMap that it names.
pub(super) fn gang_variable(ctx: &Context<'_>) -> Option<EnvVar> {
    learns_its_size(ctx)?;
    let key = ConfigMapKeySelector {
        name: job_name(&ctx.plan.name, ctx.run),
        key: GANG_KEY.to_owned(),
        optional: None,
    };
    let source = EnvVarSource { config_map_key_ref: Some(key), ..EnvVarSource::default() };
    Some(EnvVar { name: GANG.to_owned(), value: None, value_from: Some(source) })
}

/// What the workers of a start wait for whose number was not known before: `workers` were let in.
/// None for a start whose workers have it already.
pub fn gang_object(
    plan: &JobPlan,
    run: JobRun,
    settings: &Settings,
    workers: u32,
) -> Option<Object> {
    learns_its_size(&Context { plan, run, settings })?;
    let plan = JobPlan { workers, ..plan.clone() };
    let ctx = Context { plan: &plan, run, settings };
    Some(Object::new(&ConfigMap {
        metadata: ctx.metadata(job_name(&plan.name, run), ctx.run_labels()),
        data: Some(BTreeMap::from([(GANG_KEY.to_owned(), ctx.gang().to_text())])),
        ..ConfigMap::default()
    }))
}

/// Volcano's gang: all pods are placed, or none. Its own controller would make one for each Job, and
/// versions before 1.12 one that lets every pod go alone.
pub(super) fn pod_group(ctx: &Context<'_>) -> Option<Object> {
    let handover = ctx.plan.handover.as_ref()?;
    if handover.system != QueueSystem::Volcano {
        return None;
    }
    let mut spec = json!({
        "minMember": ctx.plan.workers, "queue": handover.queue, "minResources": all_workers(ctx.plan),
    });
    if let Some(class) = &ctx.plan.priority_class {
        spec["priorityClassName"] = json!(class);
    }
    let value = json!({
        "apiVersion": VOLCANO_API,
        "kind": "PodGroup",
        "metadata": ctx.metadata(job_name(&ctx.plan.name, ctx.run), ctx.run_labels()),
        "spec": spec,
    });
    Some(Object::custom(value, "podgroups"))
}

/// What all workers ask for together.
fn all_workers(plan: &JobPlan) -> Value {
    let workers = u64::from(plan.workers);
    let mut all = BTreeMap::new();
    if let Some(cpu) = plan.resources.cpu {
        all.insert("cpu".to_owned(), Millicores(cpu.0.saturating_mul(workers)).to_string());
    }
    if let Some(memory) = plan.resources.memory {
        all.insert("memory".to_owned(), Bytes(memory.0.saturating_mul(workers)).to_string());
    }
    let device = plan.resources.gpu.as_ref().and_then(|gpu| gpu.device.as_ref());
    if let Some(DeviceRequest::Resource { resource, units }) = device.map(|it| &it.request) {
        all.insert(resource.clone(), u64::from(*units).saturating_mul(workers).to_string());
    }
    json!(all)
}
