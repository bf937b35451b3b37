//! What rules about training ask of pods, and of the jobs that they belong to.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::context::Context;
use crate::facts;
use crate::model::{Container, Manager, Pod, Purpose, Volume, Word};
use crate::settings::Profile;
use crate::yaml::Node;

/// Words by which training and mere tests are known.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Words {
    /// Parts of names of programs and images that train.
    training: Vec<String>,
    /// Programs that show devices or wait: the whole of a test, or a line of a script that trains.
    idle_programs: Vec<String>,
    /// Programs that measure devices and then end.
    test_programs: Vec<String>,
    /// Parts of repositories of images that do the same.
    test_images: Vec<String>,
    /// Texts that show that something is copied to where it outlives the pod.
    stores: Vec<String>,
}

static WORDS: LazyLock<Words> =
    LazyLock::new(|| facts::parse(include_str!("../../../../data/lint/training-words.json")));

/// Whether a pod runs until its work is done, rather than for ever.
pub(crate) fn runs_to_end(pod: &Pod<'_>) -> bool {
    matches!(
        pod.manager,
        Manager::Job
            | Manager::CronJob
            | Manager::JobSet
            | Manager::TrainingOperator
            | Manager::Volcano
    ) || pod.object.kind == "RayJob"
}

/// Whether a pod trains a model: by its kind, its software, or the name of its program.
pub(crate) fn trains(pod: &Pod<'_>) -> bool {
    *pod.answers.trains.get_or_init(|| {
        if pod.trains() {
            return !is_test(pod);
        }
        let may = matches!(pod.purpose, Purpose::Batch | Purpose::Unknown)
            && (runs_to_end(pod) || pod.manager == Manager::Pod)
            && pod.has_accelerator();
        may && !is_test(pod) && pod.main_containers().any(is_named_after_training)
    })
}

fn is_named_after_training(container: &Container<'_>) -> bool {
    let is_program = |word: &Word<'_>| {
        let text = &*word.text;
        let script = text.ends_with(".py") || text.ends_with(".sh");
        !text.starts_with('-')
            && text.len() < 160
            && (script || word.starts_command && !text.contains([' ', '=']))
            && !text.contains("://")
    };
    let by_program = container
        .words
        .iter()
        .filter(|word| is_program(word))
        .filter_map(|word| word.text.rsplit('/').next())
        .any(tells_of_training);
    by_program || container.image.is_some_and(|image| tells_of_training(image.short_name()))
}

/// Whether a name has one of the words as a part of its own: `train_gpt.py`, not `constraint`.
fn tells_of_training(name: &str) -> bool {
    name.split(|c: char| !c.is_ascii_alphanumeric())
        .any(|part| WORDS.training.iter().any(|word| part.eq_ignore_ascii_case(word)))
}

/// Whether a program or image is called a server: a JobSet or RayJob may hold one that runs for ever.
pub(crate) fn is_named_server(pod: &Pod<'_>) -> bool {
    let is_server = |name: &str| {
        name.split(|c: char| !c.is_ascii_alphanumeric())
            .any(|part| matches!(part, "server" | "serve" | "serving"))
    };
    let entrypoint = pod.object.spec().get("entrypoint").str();
    entrypoint.split_whitespace().any(is_server)
        || pod.main_containers().any(|container| {
            container.image.is_some_and(|image| is_server(image.short_name()))
                || container.words.iter().any(|word| word.starts_command && is_server(&word.text))
        })
}

/// Whether a pod only tries whether devices work, or waits.
pub(crate) fn is_test(pod: &Pod<'_>) -> bool {
    let tests = |container: &Container<'_>| {
        measures(container)
            || container.framework.is_none()
                && !is_named_after_training(container)
                && WORDS.idle_programs.iter().any(|program| container.runs(program))
            || container.words.is_empty() && container.image.is_none()
    };
    *pod.answers.is_test.get_or_init(|| pod.main_containers().any(tests))
}

/// Whether a pod only tries whether devices work, and is done then.
pub(crate) fn is_short_test(pod: &Pod<'_>) -> bool {
    let waits = |container: &Container<'_>| {
        ["sleep", "tail", "pause"].iter().any(|program| container.runs(program))
    };
    let is_unknown =
        |container: &Container<'_>| container.words.is_empty() && container.image.is_none();
    *pod.answers.is_short_test.get_or_init(|| {
        is_test(pod) && !pod.main_containers().any(|it| waits(it) || is_unknown(it))
    })
}

/// Whether a container measures devices and then ends.
fn measures(container: &Container<'_>) -> bool {
    WORDS.test_programs.iter().any(|program| container.runs(program))
        || container.image.is_some_and(|image| {
            WORDS.test_images.iter().any(|word| image.repository.contains(word.as_str()))
        })
}

/// Whether any pod of the object measures devices: the launcher of an MPI job starts that in all.
pub(crate) fn measures_devices(context: &Context<'_>, pod: &Pod<'_>) -> bool {
    context.bundle.pods_of(&pod.object).take(16).any(|other| {
        let answer = &other.answers.measures_devices;
        *answer.get_or_init(|| other.main_containers().any(measures))
    })
}

/// Pods of one object that work on one task, each of which waits for the others.
pub(crate) struct Team<'a, 'b> {
    /// The templates that hold accelerators; if none does, all of them.
    pub pods: Vec<&'a Pod<'b>>,
    /// How many pods they are together.
    pub size: i64,
}

/// The team that a pod belongs to. `None` where it is alone, where its peers do not wait for each
/// other, and where that cannot be known.
pub(crate) fn team<'a, 'b>(context: &'a Context<'b>, pod: &Pod<'_>) -> Option<Team<'a, 'b>> {
    let all: Vec<&Pod<'b>> = context.bundle.pods_of(&pod.object).take(64).collect();
    let with_devices: Vec<&Pod<'b>> =
        all.iter().copied().filter(|pod| pod.has_accelerator()).collect();
    let pods = if with_devices.is_empty() { all } else { with_devices };
    let size = pods
        .iter()
        .map(|pod| pod.replicas)
        .try_fold(0i64, |sum, replicas| Some(sum.saturating_add(replicas?)))?;
    let waits = match pod.manager {
        Manager::TrainingOperator => true,
        Manager::Job | Manager::CronJob | Manager::JobSet | Manager::Volcano => {
            pods.iter().any(|pod| pod.main_containers().any(names_peers))
        }
        _ => false,
    };
    (waits && size > 1 && !pods.iter().any(|pod| stands_alone(pod))).then_some(Team { pods, size })
}

/// Variables by which a program finds its peers.
const PEERS: [&str; 7] = [
    "MASTER_ADDR",
    "PET_MASTER_ADDR",
    "PET_RDZV_ENDPOINT",
    "WORLD_SIZE",
    "PET_NNODES",
    "JAX_COORDINATOR_ADDRESS",
    "TF_CONFIG",
];
/// Flags by which it does.
const PEER_FLAGS: [&[&str]; 5] = [
    &["--nnodes"],
    &["--rdzv-endpoint"],
    &["--master-addr"],
    &["--num-machines"],
    &["--main-process-ip"],
];

/// Whether a container is told where its peers are.
pub(crate) fn names_peers(container: &Container<'_>) -> bool {
    PEERS.iter().any(|name| container.env(name).is_some())
        || PEER_FLAGS.iter().any(|names| container.flag(names).is_some())
        || container.runs("mpirun")
        || container.runs("mpiexec")
}

/// Whether a pod is told that it has no peers (`--nnodes=1`), so that several are tries of one
/// thing.
fn stands_alone(pod: &Pod<'_>) -> bool {
    pod.main_containers().any(|container| {
        let one = |names: &[&str]| container.flag(names).is_some_and(|flag| flag.int() == Some(1));
        one(&["--nnodes"])
            || one(&["--num-machines"])
            || container.flag(&["--standalone"]).is_some()
            || container.env_value("PET_NNODES").is_some_and(|value| value == "1")
    })
}

/// The JobSpec (or what has its fields) that a template of a Job, CronJob or JobSet stands in.
pub(crate) fn job_spec<'b>(pod: &Pod<'b>) -> Option<Node<'b>> {
    match pod.manager {
        Manager::Job | Manager::CronJob | Manager::JobSet => {
            let spec = pod.spec.parent().parent();
            spec.get("template").is_map().then_some(spec)
        }
        _ => None,
    }
}

/// Whether a queue admits a job, so that it waits as a whole: Kueue's label.
pub(crate) fn queue<'b>(pod: &Pod<'b>) -> Node<'b> {
    let own = pod.object.label(QUEUE);
    if own.is_set() { own } else { pod.label(QUEUE) }
}

const QUEUE: &str = "kueue.x-k8s.io/queue-name";

/// Whether a pod asks for spot nodes, or tolerates their taint: the node that says so.
pub(crate) fn spot<'b>(pod: &Pod<'b>) -> Option<Node<'b>> {
    let labels = || Profile::ALL.iter().flat_map(|kind| &facts::profile(*kind).spot_labels);
    let required = pod.node_requirements().into_iter().find(|requirement| {
        // One of several values, or of several terms, need not be spot.
        requirement.alternatives == 1
            && labels().any(|label| {
                label.key == requirement.key && requirement.values == [label.value.as_str()]
            })
    });
    if let Some(requirement) = required {
        return Some(requirement.node);
    }
    pod.tolerations()
        .find(|toleration| {
            let (key, value) = (toleration.get("key").str(), toleration.get("value"));
            labels().any(|label| label.key == key && (!value.is_set() || value.is(&label.value)))
        })
        .map(|toleration| toleration.get("key"))
}

/// What becomes of the contents of a volume when its pod is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// They go with the pod.
    Lost,
    /// They stay, or may stay.
    Kept,
    /// Nothing can be written.
    ReadOnly,
}

pub(crate) fn fate(volume: &Volume<'_>) -> Fate {
    let has = |key: &str| volume.node.get(key).exists();
    if has("configMap") || has("secret") || has("projected") || has("downwardAPI") || has("image") {
        Fate::ReadOnly
    } else if has("emptyDir") || has("ephemeral") {
        Fate::Lost
    } else {
        Fate::Kept
    }
}

/// Whether a container mounts something that outlives its pod.
pub(crate) fn has_durable_mount(pod: &Pod<'_>, container: &Container<'_>) -> bool {
    container.node.get("volumeMounts").items().any(|mount| {
        // A name without a volume comes from a claim template. Shared memory is memory, be it the
        // node's own.
        mount.get("mountPath").str().trim_end_matches('/') != "/dev/shm"
            && pod.volume(mount.get("name").str()).is_none_or(|volume| fate(&volume) == Fate::Kept)
    })
}

/// Whether a pod copies something to a store outside of the cluster, or names one.
pub(crate) fn names_store(pod: &Pod<'_>) -> bool {
    pod.containers.iter().any(|container| {
        texts(container).any(|text| WORDS.stores.iter().any(|store| text.contains(store.as_str())))
    })
}

/// Texts of a container's command, arguments and variables.
pub(crate) fn texts<'b>(container: &Container<'b>) -> impl Iterator<Item = &'b str> {
    let list = |node: Node<'b>| node.items().chain(node.is_scalar().then_some(node));
    list(container.node.get("command"))
        .chain(list(container.node.get("args")))
        .chain(container.node.get("env").items().map(|env| env.get("value")))
        .filter_map(Node::text)
}

/// Whether a pod has to do with machine learning: accelerators, or software that is known.
pub(crate) fn is_ml(pod: &Pod<'_>) -> bool {
    pod.has_accelerator()
        || matches!(pod.purpose, Purpose::Serving | Purpose::Training | Purpose::Notebook)
        || pod.main_containers().any(|container| container.framework.is_some())
}

#[test]
fn words_of_training() {
    for name in ["train.py", "train_gpt2.py", "pretrain.py", "run-finetune.sh", "gemma-fine-tuning"]
    {
        assert!(tells_of_training(name), "{name}");
    }
    for name in ["constraint.py", "trained-model", "main.py", "restrain", ""] {
        assert!(!tells_of_training(name), "{name}");
    }
}
