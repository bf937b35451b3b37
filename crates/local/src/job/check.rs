//! Looks whether a job's data is there before anything is given to it: a process that fetches
//! nothing, with the variables of the job's own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use trainyard_plan::{EnvVar, Program, Resources, Value};

use crate::replica::{Exit, Shared, Spec, launch};

/// A store that keeps silent longer than this is asked again later.
const PATIENCE: Duration = Duration::from_secs(120);
/// What `trainyard fetch` leaves with where trying again may help.
const UNAVAILABLE: i32 = 7;

/// What is looked for.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    pub(crate) job: Arc<str>,
    pub(crate) run: u32,
    pub(crate) env: Vec<EnvVar>,
    /// Where relative paths begin.
    pub(crate) folder: PathBuf,
    pub(crate) sets: Vec<Wanted>,
}

/// One data set.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) uri: String,
    pub(crate) sha256: Option<String>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Looked {
    AllThere,
    /// A person has to mend it: why, for people.
    Wrong(String),
    /// The store does not answer, and may later.
    Unavailable(String),
}

/// Looks at one data set after the other; the first that is not there decides.
pub(crate) async fn look(look: Look, shared: Arc<Shared>, hurry: CancellationToken) -> Looked {
    for set in &look.sets {
        let found = look_at(&look, set, &shared, &hurry).await;
        if found != Looked::AllThere {
            return found;
        }
    }
    Looked::AllThere
}

async fn look_at(look: &Look, set: &Wanted, shared: &Shared, hurry: &CancellationToken) -> Looked {
    let id = format!("{}-{}-data", look.job, look.run);
    let words = shared.state.run().join(format!("{id}.why"));
    let _ = std::fs::remove_file(&words);
    let program = Program::Trainyard { image: None };
    let resources = Resources { cpu: None, memory: None, gpu: None };
    let args = arguments(set, &words);
    let spec = Spec {
        id: &id,
        owner: &look.job,
        folder: &look.folder,
        program: &program,
        args: &args,
        env: &look.env,
        ports: &[],
        volumes: &[],
        resources: &resources,
    };
    let wrong = |why: &str| format!("the data `{}` cannot be had: {why}", set.name);
    let number = shared.runs.fetch_add(1, Ordering::Relaxed).saturating_add(1);
    let mut process = match launch(&spec, number, shared) {
        Ok(launched) => launched.process,
        Err(error) => return Looked::Wrong(wrong(&error.to_string())),
    };
    let ended = tokio::select! {
        exit = process.wait() => Some(exit),
        () = tokio::time::sleep(PATIENCE) => None,
        () = hurry.cancelled() => None,
    };
    let Some(exit) = ended else {
        process.kill();
        process.wait_killed().await;
        return Looked::Unavailable(wrong("the store does not answer"));
    };
    let said = std::fs::read_to_string(&words).unwrap_or_default();
    let _ = std::fs::remove_file(&words);
    // `REASON: TEXT`
    let text = said.split_once(": ").map_or(said.as_str(), |(_, text)| text).trim();
    let text = shared.hide(&look.env, text.to_owned());
    match exit {
        Exit::Code(0) => Looked::AllThere,
        Exit::Code(code) if code == UNAVAILABLE => Looked::Unavailable(wrong(&text)),
        Exit::Code(_) => Looked::Wrong(wrong(&text)),
        Exit::Signal(_) | Exit::Unknown => Looked::Unavailable(wrong("the look at it was killed")),
    }
}

fn arguments(set: &Wanted, words: &Path) -> Vec<Value> {
    let words = words.display().to_string();
    let mut args = vec!["fetch", "--check", "--termination-log", words.as_str()];
    if let Some(sha256) = &set.sha256 {
        args.extend(["--sha256", sha256.as_str()]);
    }
    args.push(&set.uri);
    args.into_iter().map(Value::literal).collect()
}
