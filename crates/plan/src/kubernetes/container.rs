//! The server's container.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EnvVar as PodEnvVar, EnvVarSource, ExecAction,
    HTTPGetAction, Lifecycle, LifecycleHandler, PodSecurityContext, Probe as PodProbe,
    ResourceRequirements, SeccompProfile, SecretKeySelector, SecurityContext, SleepAction,
    TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use trainyard_api::scalar::Bytes;

use super::autoscaler::count;
use super::{Context, ObjectsError, claim, model};
use crate::workload::{
    Check, DeviceRequest, Drain, EnvVar, PortNumber, Probe, Program, Resources, Value,
};

/// The user and group of every container: no image has it, so that it owns nothing in one. It is
/// "nonroot" of distroless images.
pub(super) const USER: i64 = 65532;

/// Logs and the writable layer, beside the volumes.
const OWN_STORAGE: Bytes = Bytes(1 << 30);
/// The pause before the end is an action of Kubernetes from there on, with no program in the image.
const SLEEP_ACTION_MINOR: u32 = 30;

pub(super) fn server(ctx: &Context<'_>) -> Result<Container, ObjectsError> {
    let workload = &ctx.plan.workload;
    let (image, command) = match &workload.program {
        Program::Trainyard { image: Some(image) } => (image, vec!["trainyard".to_owned()]),
        Program::Command { image: Some(image), command } | Program::Image { image, command } => {
            (image, ctx.texts("a part of the command", command)?)
        }
        Program::Trainyard { image: None } | Program::Command { image: None, .. } => {
            return Err(ctx.local("its program"));
        }
    };
    let ports = workload.ports.iter().map(|port| {
        Ok(ContainerPort {
            name: Some(port.name.clone()),
            container_port: ctx.port("`ports`", &port.name)?.into(),
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        })
    });
    let env: Result<Vec<_>, _> = workload.env.iter().map(|var| ctx.env(var)).collect();
    let env = env?;
    let probes = &workload.probes;
    Ok(Container {
        name: "server".to_owned(),
        image: Some(image.clone()),
        image_pull_policy: Some(ctx.pull_policy().to_owned()),
        command: (!command.is_empty()).then_some(command),
        args: Some(ctx.texts("an argument", &workload.args)?).filter(|args| !args.is_empty()),
        env: (!env.is_empty()).then_some(env),
        working_dir: workload.working_dir.clone(),
        ports: Some(ports.collect::<Result<_, ObjectsError>>()?),
        startup_probe: Some(probe(&probes.startup)),
        readiness_probe: Some(probe(&probes.readiness)),
        // One that asks the same as readiness would only restart a server that is busy; a process
        // that died is started again without a probe.
        liveness_probe: (probes.liveness.check != probes.readiness.check)
            .then(|| probe(&probes.liveness)),
        lifecycle: pause(workload.drain, ctx.settings.kubernetes_minor),
        resources: Some(requirements(&workload.resources, ctx.volumes_limit(), true)),
        security_context: Some(security_context()),
        // Where a server died without a word to the file, the end of its log is the cause.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(model::mounts(ctx)),
        ..Container::default()
    })
}

/// The restricted Pod Security Standard, and a root file system that nobody writes to.
pub fn security_context() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { add: None, drop: Some(vec!["ALL".to_owned()]) }),
        privileged: Some(false),
        read_only_root_filesystem: Some(true),
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            localhost_profile: None,
        }),
        ..SecurityContext::default()
    }
}

/// Of the pod: files of volumes belong to the containers' user.
pub fn pod_security_context() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
        fs_group_change_policy: Some("OnRootMismatch".to_owned()),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            localhost_profile: None,
        }),
        ..PodSecurityContext::default()
    }
}

/// What is asked for is also the limit: a pod whose neighbours cannot push it out of its memory.
/// `volumes` may take so much of the disk.
pub(super) fn requirements(
    resources: &Resources,
    volumes: Bytes,
    with_gpu: bool,
) -> ResourceRequirements {
    let mut amounts = BTreeMap::new();
    let mut amount = |name: &str, quantity: String| {
        amounts.insert(name.to_owned(), Quantity(quantity));
    };
    if let Some(cpu) = resources.cpu {
        amount("cpu", cpu.to_string());
    }
    if let Some(memory) = resources.memory {
        amount("memory", memory.to_string());
    }
    let device = resources.gpu.as_ref().and_then(|gpu| gpu.device.as_ref());
    if let (Some(DeviceRequest::Resource { resource, units }), true) =
        (device.map(|device| &device.request), with_gpu)
    {
        amount(resource, units.to_string());
    }
    let mut limits = amounts.clone();
    // A pod is held to the sum over its containers, so the server's limit has room for its volumes.
    let disk = Bytes(volumes.0.saturating_add(OWN_STORAGE.0));
    limits.insert("ephemeral-storage".to_owned(), Quantity(disk.to_string()));
    // The limit is for the worst case; asking for it would keep pods off nodes that have room.
    amounts.insert("ephemeral-storage".to_owned(), Quantity(OWN_STORAGE.to_string()));
    let claims = if with_gpu { claim::of_container(resources.gpu.as_ref()) } else { None };
    ResourceRequirements { requests: Some(amounts), limits: Some(limits), claims }
}

fn probe(probe: &Probe) -> PodProbe {
    let mut pod = PodProbe {
        period_seconds: Some(seconds(probe.period)),
        timeout_seconds: Some(seconds(probe.timeout)),
        failure_threshold: Some(count(probe.failures)),
        ..PodProbe::default()
    };
    match &probe.check {
        Check::Http { port, path } => {
            pod.http_get = Some(HTTPGetAction {
                path: Some(path.clone()),
                port: IntOrString::String(port.clone()),
                ..HTTPGetAction::default()
            });
        }
        Check::Tcp { port } => {
            pod.tcp_socket = Some(TCPSocketAction {
                port: IntOrString::String(port.clone()),
                ..TCPSocketAction::default()
            });
        }
    }
    pod
}

/// Whole seconds, and at least one: Kubernetes takes no other.
fn seconds(time: Duration) -> i32 {
    i32::try_from(time.as_secs()).unwrap_or(i32::MAX).max(1)
}

/// The pause between a pod's leaving of its endpoints and its signal to end, for programs that have
/// none of their own.
fn pause(drain: Drain, kubernetes_minor: u32) -> Option<Lifecycle> {
    let Drain::BackEnd(length) = drain else { return None };
    let handler = if kubernetes_minor >= SLEEP_ACTION_MINOR {
        LifecycleHandler {
            sleep: Some(SleepAction { seconds: seconds(length).into() }),
            ..LifecycleHandler::default()
        }
    } else {
        // Every preset's image has it. Where a custom one has not, Kubernetes writes an event and
        // gives the signal at once.
        let command = vec!["sleep".to_owned(), seconds(length).to_string()];
        LifecycleHandler {
            exec: Some(ExecAction { command: Some(command) }),
            ..LifecycleHandler::default()
        }
    };
    Some(Lifecycle { pre_stop: Some(handler), ..Lifecycle::default() })
}

/// A variable's value from a Secret.
pub(super) fn secret_source(secret: &str, key: &str) -> EnvVarSource {
    EnvVarSource {
        secret_key_ref: Some(SecretKeySelector {
            name: secret.to_owned(),
            key: key.to_owned(),
            optional: None,
        }),
        ..EnvVarSource::default()
    }
}

impl Context<'_> {
    pub(super) fn pull_policy(&self) -> &'static str {
        self.settings.image_pull_policy.as_str()
    }

    fn local(&self, what: &'static str) -> ObjectsError {
        ObjectsError::LocalPlan { service: self.plan.name.clone(), what }
    }

    /// The number of the port of that name; `what` names it.
    pub(super) fn port(&self, what: &str, port: &str) -> Result<u16, ObjectsError> {
        match self.plan.workload.port(port).map(|port| port.number) {
            Some(PortNumber::Fixed(number)) => Ok(number),
            Some(PortNumber::Assigned | PortNumber::Reported) => Err(self.local("a port's number")),
            None => Err(ObjectsError::NoSuchPort {
                service: self.plan.name.clone(),
                what: what.to_owned(),
                port: port.to_owned(),
            }),
        }
    }

    fn texts(&self, what: &str, values: &[Value]) -> Result<Vec<String>, ObjectsError> {
        values.iter().map(|value| self.text(what, value)).collect()
    }

    /// A value as a container's field has it: Kubernetes itself expands `$(NAME)`.
    fn text(&self, what: &str, value: &Value) -> Result<String, ObjectsError> {
        Ok(match value {
            Value::Text(text) => text.clone(),
            Value::Port(port) => self.port(what, port)?.to_string(),
            Value::Volume { name, path } => {
                let volume = self.plan.workload.volumes.iter().find(|volume| volume.name == *name);
                let Some(volume) = volume else {
                    return Err(ObjectsError::NoSuchVolume {
                        service: self.plan.name.clone(),
                        what: what.to_owned(),
                        volume: name.clone(),
                    });
                };
                let root = &volume.mount.path;
                let path = if path.is_empty() { root.clone() } else { format!("{root}/{path}") };
                path.replace('$', "$$")
            }
            Value::AddressFile => return Err(self.local("a file with its address")),
            Value::Secret { .. } => {
                return Err(ObjectsError::SecretArgument { service: self.plan.name.clone() });
            }
        })
    }

    fn env(&self, var: &EnvVar) -> Result<PodEnvVar, ObjectsError> {
        let mut pod = PodEnvVar { name: var.name.clone(), ..PodEnvVar::default() };
        match &var.value {
            Value::Secret { secret, key } => pod.value_from = Some(secret_source(secret, key)),
            value => {
                let what = format!("the variable `{}`", var.name);
                pod.value = Some(self.text(&what, value)?);
            }
        }
        Ok(pod)
    }
}
