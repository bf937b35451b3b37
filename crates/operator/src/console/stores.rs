//! Where a job keeps its checkpoints, and how to look at those on a volume, which only pods reach.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube_client::api::{DeleteParams, ListParams, LogParams, PostParams};
use kube_client::{Api, ResourceExt};
use serde_json::{Value, json};
use trainyard_plan::kubernetes::{AGENT_CONTAINER, pod_security_context, security_context};

use super::failure::ask;
use super::{Console, ConsoleError, Kind};

/// The store of a job, and what opens it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct JobStore {
    /// `checkpoint.uri`.
    pub uri: String,
    /// Values of `env` and of the Secret `checkpoint.credentialsSecret`.
    pub variables: BTreeMap<String, String>,
}

/// What a program in a pod did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// What it printed, errors too.
    pub printed: String,
    pub exit_code: i32,
}

const VOLUME: &str = "store";
/// Where the volume is in the pod.
const MOUNT: &str = "/store";
const PROGRAM: &str = "trainyard";
/// Until the pod's program runs: nodes are found and images pulled in less.
const START: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The pod goes by itself if nobody is there to take it away.
const LONGEST_SECONDS: u32 = 6 * 3600;

impl Console {
    /// The store of a training job; none if it has none.
    pub async fn store(&self, job: &str) -> Result<Option<JobStore>, ConsoleError> {
        let found = self.of(Kind::TrainingJob).service(job).await?;
        let checkpoint = &found["spec"]["checkpoint"];
        let Some(uri) = checkpoint["uri"].as_str() else { return Ok(None) };
        let mut store = JobStore { uri: uri.to_owned(), ..JobStore::default() };
        if let Some(secret) = checkpoint["credentialsSecret"].as_str() {
            store.variables = self.secret(secret).await?;
        }
        for variable in found["spec"]["env"].as_array().into_iter().flatten() {
            let Some(name) = variable["name"].as_str() else { continue };
            let from = &variable["valueFrom"]["secretKeyRef"];
            let value = match (variable["value"].as_str(), from["name"].as_str()) {
                (Some(value), _) => Some(value.to_owned()),
                // Secrets of the program that have nothing to do with the store are not read.
                (None, Some(secret)) if is_of_a_store(name) => {
                    let key = from["key"].as_str().unwrap_or_default();
                    self.secret(secret).await?.remove(key)
                }
                (None, _) => None,
            };
            if let Some(value) = value.filter(|_| is_of_a_store(name)) {
                store.variables.insert(name.to_owned(), value);
            }
        }
        Ok(Some(store))
    }

    async fn secret(&self, name: &str) -> Result<BTreeMap<String, String>, ConsoleError> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), self.home());
        let secret = ask(&format!("get the Secret `{name}`"), api.get(name)).await?;
        let values = secret.data.unwrap_or_default().into_iter();
        let texts = values.filter_map(|(key, value)| Some((key, String::from_utf8(value.0).ok()?)));
        Ok(texts.filter(|(key, _)| is_of_a_store(key)).collect())
    }

    /// Runs `trainyard` with these words in a pod that has the claim, from the image that the job's
    /// workers have their agent from, or else `image`. `{}` in a word stands for the folder of the
    /// claim. The pod is gone afterwards.
    pub async fn run_on_claim(
        &self,
        job: &str,
        claim: &str,
        image: &str,
        words: &[String],
    ) -> Result<Ran, ConsoleError> {
        let owner = self.of(Kind::TrainingJob).service(job).await?;
        let image = self.image(job).await?.unwrap_or_else(|| image.to_owned());
        let words: Vec<String> = words.iter().map(|word| word.replace("{}", MOUNT)).collect();
        let pod = pod(job, &owner["metadata"], claim, &image, &words);
        let api: Api<Pod> = Api::namespaced(self.client.clone(), self.home());
        let what = "make a pod that looks at the volume";
        let made = ask(what, api.create(&PostParams::default(), &pod)).await?;
        let name = made.name_any();
        let ran = watch(&api, &name).await;
        let at_once = DeleteParams::default().grace_period(0);
        if let Err(error) = ask("delete the pod", api.delete(&name, &at_once)).await {
            tracing::warn!(pod = name, %error, "a pod that looked at a volume stays; delete it");
        }
        ran
    }

    /// Trainyard's image, as the newest start of a job had it.
    async fn image(&self, job: &str) -> Result<Option<String>, ConsoleError> {
        let api: Api<Job> = Api::namespaced(self.client.clone(), self.home());
        let label = format!("{}={job}", Kind::TrainingJob.label());
        let params = ListParams::default().labels(&label);
        let jobs = ask("list the job's starts", api.list(&params)).await?;
        let newest = jobs
            .items
            .into_iter()
            .max_by_key(|job| job.metadata.creation_timestamp.as_ref().map(|time| time.0));
        let pod = newest.and_then(|job| job.spec).and_then(|spec| spec.template.spec);
        let agents = pod.into_iter().flat_map(|pod| pod.init_containers.unwrap_or_default());
        Ok(agents.filter(|it| it.name == AGENT_CONTAINER).find_map(|it| it.image))
    }
}

/// Whether the clients of stores read a variable of that name.
pub fn is_of_a_store(name: &str) -> bool {
    ["AWS_", "GOOGLE_", "AZURE_"].iter().any(|prefix| name.starts_with(prefix))
        || name == "STORAGE_EMULATOR_HOST"
}

/// As the workers' pods in all that decides what they may do with the volume.
fn pod(job: &str, owner: &Value, claim: &str, image: &str, words: &[String]) -> Pod {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            // A job's name has at most 52 characters; five are added.
            "generateName": format!("{job}-ckpt-"),
            "labels": {"app.kubernetes.io/managed-by": "trainyard", "app.kubernetes.io/component": "checkpoints"},
            "ownerReferences": [{
                "apiVersion": "trainyard.dev/v1alpha1", "kind": "TrainingJob",
                "name": owner["name"], "uid": owner["uid"],
            }],
        },
        "spec": {
            "restartPolicy": "Never", "automountServiceAccountToken": false, "enableServiceLinks": false,
            "activeDeadlineSeconds": LONGEST_SECONDS, "terminationGracePeriodSeconds": 5,
            "securityContext": pod_security_context(),
            "containers": [{
                "name": PROGRAM, "image": image, "imagePullPolicy": "IfNotPresent",
                "command": [PROGRAM], "args": words,
                "resources": {
                    "requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"},
                },
                "securityContext": security_context(),
                "volumeMounts": [{"name": VOLUME, "mountPath": MOUNT}],
            }],
            "volumes": [{"name": VOLUME, "persistentVolumeClaim": {"claimName": claim}}],
        },
    });
    serde_json::from_value(pod).expect("a pod of constants and texts")
}

/// Waits for the pod's end, and reads what it printed.
async fn watch(api: &Api<Pod>, name: &str) -> Result<Ran, ConsoleError> {
    let began = tokio::time::Instant::now();
    loop {
        let pod = ask("get the pod", api.get(name)).await?;
        let status = pod.status.unwrap_or_default();
        let container = status.container_statuses.into_iter().flatten().next();
        let state = container.and_then(|it| it.state).unwrap_or_default();
        if let Some(ended) = state.terminated {
            let log = ask("read the pod's log", api.logs(name, &LogParams::default())).await?;
            return Ok(Ran { printed: log, exit_code: ended.exit_code });
        }
        if matches!(status.phase.as_deref(), Some("Failed" | "Succeeded")) {
            let reason = status.message.or(status.reason).unwrap_or_default();
            return Err(ConsoleError::PodFailed { pod: name.to_owned(), reason });
        }
        if state.running.is_none() && began.elapsed() > START {
            let waiting = state.waiting.map(|it| {
                format!("{}: {}", it.reason.unwrap_or_default(), it.message.unwrap_or_default())
            });
            let unscheduled = status.conditions.into_iter().flatten();
            let unscheduled =
                unscheduled.filter(|it| it.status != "True").find_map(|it| it.message);
            let reason =
                waiting.or(unscheduled).unwrap_or_else(|| "no node has taken it".to_owned());
            return Err(ConsoleError::PodFailed { pod: name.to_owned(), reason });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[test]
fn a_pod_that_looks_is_a_worker_s_in_its_rights() {
    let owner = json!({"name": "job", "uid": "1"});
    let pod = pod("job", &owner, "claim", "image", &["checkpoints".to_owned()]);
    let spec = pod.spec.unwrap();
    assert_eq!(spec.security_context.unwrap().run_as_user, Some(65532));
    let container = spec.containers.first().unwrap();
    let security = container.security_context.as_ref().unwrap();
    assert_eq!(security.read_only_root_filesystem, Some(true));
    assert!(is_of_a_store("AWS_REGION") && !is_of_a_store("WANDB_API_KEY"));
}
