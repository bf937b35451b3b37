//! A job as Kubernetes objects: an Indexed Job whose pods are the workers, a headless Service that
//! gives each of them a name, and what they run as and may reach. [`handover`] has what other systems
//! of the cluster read who let the workers start, [`preflight`] the pod that looks before they do.

mod data;
mod handover;
mod network;
mod preflight;
mod workers;

use k8s_openapi::api::core::v1::{Service, ServiceAccount, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::json;
use trainyard_api::training_job::Framework;

pub use data::{DATA_CONTAINER, LOOK_CONTAINER};
pub use handover::{KAI_GANG, gang_object};
pub use preflight::{IMAGE_CONTAINER, preflight_name, preflight_objects};
pub use workers::{AGENT_CONTAINER, TOKEN, WORKER_CONTAINER};

use super::labels::{ATTEMPT, JOB, Texts, texts};
use super::{Object, ObjectsError, Settings, claim, monitoring};
use crate::job::{Address, Gang, JobPlan};

/// Where the first worker listens, or each of them: PyTorch's own default. With MPI the agents do,
/// for commands of mpirun.
const RENDEZVOUS: u16 = 29500;
/// Where an agent serves its metrics.
const METRICS: u16 = 9095;
const METRICS_NAME: &str = "metrics";
/// Where an agent gives the others what it has restored. Below the ports that systems choose
/// (32768 on Linux), and none of a framework's.
const PEERS: u16 = 9096;

/// Which start of all workers is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobRun {
    /// The only one: nobody but Kubernetes is there. A single worker is started again by its Job;
    /// several are not, since a Job starts pods again one by one, and the others would be half a
    /// gang.
    Alone,
    /// One of several, counted from 1, which somebody starts one after the other.
    Attempt(u32),
}

impl JobRun {
    fn number(self) -> u32 {
        match self {
            Self::Alone => 1,
            Self::Attempt(number) => number,
        }
    }
}

/// The name of the Job of one start. At most 63 characters with a pod's index behind it, as host
/// names have: a job's own has at most 52.
pub fn job_name(job: &str, run: JobRun) -> String {
    match run {
        JobRun::Alone => job.to_owned(),
        JobRun::Attempt(number) => format!("{job}-{number}"),
    }
}

/// One job while it is written.
struct Context<'a> {
    plan: &'a JobPlan,
    run: JobRun,
    settings: &'a Settings,
}

impl Context<'_> {
    /// What all starts share: account, policy and Service. Not the job's own name, which a
    /// ModelService of the same model may have.
    fn shared_name(&self) -> String {
        format!("{}-workers", self.plan.name)
    }

    fn labels(&self) -> Texts {
        texts([
            ("app.kubernetes.io/name", self.plan.framework.as_str()),
            ("app.kubernetes.io/instance", &self.plan.name),
            ("app.kubernetes.io/component", "training"),
            ("app.kubernetes.io/part-of", "trainyard"),
            ("app.kubernetes.io/managed-by", "trainyard"),
            (JOB, &self.plan.name),
        ])
    }

    /// Selects the workers of all starts.
    fn selector(&self) -> Texts {
        texts([(JOB, &self.plan.name)])
    }

    fn run_labels(&self) -> Texts {
        let mut labels = self.labels();
        labels.insert(ATTEMPT.to_owned(), self.run.number().to_string());
        labels
    }

    fn metadata(&self, name: String, labels: Texts) -> ObjectMeta {
        ObjectMeta {
            name: Some(name),
            namespace: self.plan.namespace.clone().or_else(|| self.settings.namespace.clone()),
            labels: Some(labels),
            owner_references: self.settings.owner.clone().map(|owner| vec![owner]),
            ..ObjectMeta::default()
        }
    }

    /// Where each worker is: `NAME-1-0.NAME-workers`, which resolvers complete with the namespace.
    fn gang(&self) -> Gang {
        let job = job_name(&self.plan.name, self.run);
        let service = self.shared_name();
        let address =
            |index| Address { host: format!("{job}-{index}.{service}"), port: RENDEZVOUS };
        let addresses = (0..self.plan.workers).map(address).collect();
        // Each pod has one interface beside loopback, which libraries find by themselves.
        self.plan.gang(self.run.number(), addresses, None)
    }

    /// The Secret by which workers know each other. Without somebody who makes it, pods do not wait for
    /// it only to restore faster; mpirun cannot do without.
    fn secret(&self) -> Option<&str> {
        let has_maker = self.run != JobRun::Alone;
        let secret = self.plan.secret.as_deref();
        secret.filter(|_| has_maker || self.plan.framework == Framework::Mpi)
    }

    /// Whether workers give each other what they restore.
    fn restores_together(&self) -> bool {
        let has_store = self.plan.checkpoint.as_ref().is_some_and(|it| it.uri.is_some());
        has_store && self.secret().is_some()
    }

    fn has_pod_monitors(&self) -> bool {
        self.settings.apis.contains(monitoring::API)
    }
}

/// Writes a job as the objects of one start of its workers.
pub fn job_objects(
    plan: &JobPlan,
    run: JobRun,
    settings: &Settings,
) -> Result<Vec<Object>, ObjectsError> {
    let ctx = Context { plan, run, settings };
    let mut objects = vec![account(&ctx), network::policy(&ctx)];
    let gpu = plan.resources.gpu.as_ref();
    let metadata = |name| ctx.metadata(name, ctx.labels());
    objects.extend(claim::template(&plan.name, gpu, metadata));
    objects.push(service(&ctx));
    objects.extend(handover::pod_group(&ctx));
    objects.push(workers::job(&ctx)?);
    objects.extend(pod_monitor(&ctx));
    Ok(objects)
}

fn account(ctx: &Context<'_>) -> Object {
    Object::new(&ServiceAccount {
        metadata: ctx.metadata(ctx.shared_name(), ctx.labels()),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    })
}

/// What the person should know of a job that is applied with nobody to act on it but Kubernetes.
pub fn job_notes_without_operator(plan: &JobPlan) -> Vec<String> {
    let mut notes = Vec::new();
    if plan.workers > 1 && plan.retries > 0 {
        notes.push(format!(
            "`spec.retries` of `{}` needs the operator: a Job starts pods again one by one, and the {} workers have to start together; plain objects run them once",
            plan.name, plan.workers
        ));
    }
    if let Some(secret) = plan.secret.as_ref().filter(|_| plan.framework == Framework::Mpi) {
        notes.push(format!(
            "the workers of `{}` wait for a Secret that the operator would make, by which they know each other; make it with `kubectl create secret generic {secret} --from-literal={TOKEN}=$(openssl rand -hex 32)`",
            plan.name
        ));
    }
    notes
}

/// Gives each worker a name, from its start on: who is to meet must not wait until all are ready.
fn service(ctx: &Context<'_>) -> Object {
    Object::new(&Service {
        metadata: ctx.metadata(ctx.shared_name(), ctx.labels()),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(ctx.selector()),
            ports: Some(vec![ServicePort {
                name: Some("rendezvous".to_owned()),
                port: RENDEZVOUS.into(),
                target_port: Some(IntOrString::Int(RENDEZVOUS.into())),
                protocol: Some("TCP".to_owned()),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    })
}

fn pod_monitor(ctx: &Context<'_>) -> Option<Object> {
    if !ctx.has_pod_monitors() {
        return None;
    }
    let value = json!({
        "apiVersion": monitoring::API,
        "kind": "PodMonitor",
        "metadata": ctx.metadata(ctx.shared_name(), ctx.labels()),
        "spec": {
            "selector": { "matchLabels": ctx.selector() },
            "podTargetLabels": [JOB, ATTEMPT],
            "podMetricsEndpoints": [{ "port": METRICS_NAME, "path": "/metrics" }],
        },
    });
    Some(Object::custom(value, "podmonitors"))
}
