//! `trainyard describe`.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;
use trainyard_operator::console::{Happened, Kept, Kind, Replica, Summary, key, unix_ms};

use super::output::{ServiceName, age};
use super::place::{Intent, Place, PlaceArgs, PlaceError};
use super::supervisor::block_on;
use super::time::ago;
use crate::print::print_line;
use crate::table::table;

/// Show everything about services and training jobs: conditions, revisions, replicas or workers with
/// what is wrong, events
#[derive(Args)]
pub(crate) struct Describe {
    /// The services and jobs
    #[arg(value_name = "NAME", required = true)]
    names: Vec<ServiceName>,
    #[command(flatten)]
    place: PlaceArgs,
}

/// So many of the newest events are shown.
const EVENTS: usize = 30;

impl Describe {
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        block_on(self.answer())?
    }

    async fn answer(self) -> miette::Result<ExitCode> {
        let place = self.place.open(Intent::LOOK).await?;
        let (services, jobs) = place.find(&self.names).await?;
        let mut texts = Vec::new();
        for service in &services {
            texts.push(describe(&place, service).await?);
        }
        for job in &jobs {
            texts.push(describe_job(&place, job).await?);
        }
        print_line(&texts.join("\n\n\n"))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A part of the description, or the right that is missing for it.
enum Part<T> {
    Shown(Vec<T>),
    Hidden(String),
}

impl<T> Part<T> {
    fn of(result: Result<Vec<T>, PlaceError>) -> miette::Result<Self> {
        match result {
            Ok(shown) => Ok(Self::Shown(shown)),
            // Who may see the service and not its pods still sees the service.
            Err(error) => match error.missing_right() {
                Some(right) => Ok(Self::Hidden(format!("  (not shown: you may not {right})"))),
                None => Err(error.into()),
            },
        }
    }

    fn map(self, show: impl FnOnce(Vec<T>) -> String) -> String {
        match self {
            Self::Hidden(why) => why,
            Self::Shown(shown) if shown.is_empty() => "  (none)".to_owned(),
            Self::Shown(shown) => show(shown),
        }
    }
}

async fn describe(place: &Place, service: &Value) -> miette::Result<String> {
    let (_, name) = key(service);
    let replicas = Part::of(place.replicas(Kind::ModelService, Some(&name)).await)?;
    let revisions = Part::of(place.revisions(&name).await)?;
    let events = Part::of(place.events(Kind::ModelService, Some(&name)).await)?;
    Ok(text(service, revisions, replicas, events))
}

async fn describe_job(place: &Place, job: &Value) -> miette::Result<String> {
    let (_, name) = key(job);
    let kind = Kind::TrainingJob;
    let workers = Part::of(place.replicas(kind, Some(&name)).await)?;
    let events = Part::of(place.events(kind, Some(&name)).await)?;
    let sections = [
        job_fields(job),
        format!("Conditions:\n{}", conditions(job)),
        format!("Workers:\n{}", workers.map(|all| workers_of(&all))),
        format!("Events:\n{}", events.map(|all| happened(&all))),
    ];
    Ok(sections.join("\n\n"))
}

fn job_fields(job: &Value) -> String {
    let summary = Summary::of(job);
    let (spec, status) = (&job["spec"], &job["status"]);
    let text = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let ago_of = |value: &Value| {
        value.as_str().and_then(unix_ms).map(|at| ago(at) + " ago").unwrap_or_default()
    };
    let words = |value: &Value| {
        let words = value.as_array().into_iter().flatten();
        words.map(text).collect::<Vec<_>>().join(" ")
    };
    let rows = [
        ("Name", summary.name),
        ("Namespace", summary.namespace),
        ("Created", age(summary.created_ms) + " ago"),
        ("Framework", text(&spec["framework"])),
        ("Image", text(&spec["image"])),
        (
            "Command",
            format!("{} {}", words(&spec["command"]), words(&spec["args"])).trim().to_owned(),
        ),
        ("Phase", text(&status["phase"])),
        ("Reason", text(&status["reason"])),
        (
            "Workers",
            format!(
                "{} of {} run",
                text(&status["activeWorkers"]),
                spec["workers"]["count"].as_u64().unwrap_or(1)
            ),
        ),
        ("Attempts", text(&status["attempts"])),
        ("Failures", text(&status["failures"])),
        ("Interruptions", text(&status["interruptions"])),
        ("Step", text(&status["step"])),
        ("Checkpoints", text(&spec["checkpoint"]["uri"])),
        ("Started", ago_of(&status["startTime"])),
        ("Ended", ago_of(&status["completionTime"])),
    ];
    let rows = rows.into_iter().filter(|(_, value)| !value.is_empty());
    table(&[], rows.map(|(name, value)| vec![format!("{name}:"), value]))
}

fn workers_of(workers: &[Replica]) -> String {
    let rows = workers.iter().map(|worker| {
        vec![
            worker.name.clone(),
            worker.revision.clone(),
            // A worker answers no requests: what is ready runs.
            match worker.state.as_str() {
                "ready" => "running".to_owned(),
                state => state.to_owned(),
            },
            worker.place.clone(),
            ago(worker.since_ms),
            worker.trouble.clone().unwrap_or_default(),
        ]
    });
    indented(&["NAME", "ATTEMPT", "STATE", "WHERE", "AGE", ""], rows)
}

fn text(
    service: &Value,
    revisions: Part<Kept>,
    replicas: Part<Replica>,
    events: Part<Happened>,
) -> String {
    let endpoints: Vec<String> = match &replicas {
        Part::Hidden(_) => Vec::new(),
        Part::Shown(all) => {
            let ready = all.iter().filter(|replica| replica.state.as_str() == "ready");
            ready.filter_map(|replica| replica.address.clone()).collect()
        }
    };
    let sections = [
        fields(service, &endpoints),
        format!("Conditions:\n{}", conditions(service)),
        format!("Revisions:\n{}", revisions.map(|all| kept(service, &all))),
        format!("Replicas:\n{}", replicas.map(|all| rows_of(&all))),
        format!("Events:\n{}", events.map(|all| happened(&all))),
    ];
    sections.join("\n\n")
}

fn fields(service: &Value, endpoints: &[String]) -> String {
    let summary = Summary::of(service);
    let text = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let pairs = |value: &Value| {
        let pairs = value.as_object().into_iter().flatten();
        let shown = pairs
            .filter(|(key, _)| !key.starts_with("kubectl.kubernetes.io/"))
            .map(|(key, value)| format!("{key}={}", text(value)));
        shown.collect::<Vec<_>>().join(", ")
    };
    let spec = &service["spec"];
    let runtime = &spec["runtime"]["name"];
    let rows = [
        ("Name", summary.name),
        ("Namespace", summary.namespace),
        ("Labels", pairs(&service["metadata"]["labels"])),
        ("Annotations", pairs(&service["metadata"]["annotations"])),
        ("Created", age(summary.created_ms) + " ago"),
        ("Model", summary.model),
        ("Runtime", if runtime.is_null() { "onnx".to_owned() } else { text(runtime) }),
        ("Resources", pairs(&spec["resources"])),
        ("Replicas", format!("{} of {} ready", summary.ready_replicas, summary.replicas)),
        ("Asked for", text(&spec["replicas"])),
        ("Scaling", pairs(&spec["scaling"])),
        ("Rollout", pairs(&spec["rollout"])),
        ("URL", summary.url),
        ("Endpoints", endpoints.join(", ")),
    ];
    let rows = rows.into_iter().filter(|(_, value)| !value.is_empty());
    table(&[], rows.map(|(name, value)| vec![format!("{name}:"), value]))
}

fn conditions(service: &Value) -> String {
    let conditions = service["status"]["conditions"].as_array();
    let rows: Vec<Vec<String>> = conditions
        .into_iter()
        .flatten()
        .map(|condition| {
            let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
            let since = unix_ms(&text("lastTransitionTime")).map(ago).unwrap_or_default();
            vec![text("type"), text("status"), text("reason"), since, text("message")]
        })
        .collect();
    if rows.is_empty() {
        return "  (none: no operator has seen it yet; `trainyard install` brings one)".to_owned();
    }
    indented(&["TYPE", "STATUS", "REASON", "SINCE", "MESSAGE"], rows)
}

fn kept(service: &Value, revisions: &[Kept]) -> String {
    let live = service["status"]["revisions"].as_array();
    let rows = revisions.iter().map(|revision| {
        let found = live.into_iter().flatten().find(|it| it["name"] == revision.name.as_str());
        let number = |field: &str| found.and_then(|it| it[field].as_u64()).unwrap_or(0);
        let is_live = found.is_some();
        vec![
            revision.number.to_string(),
            revision.name.clone(),
            if is_live { format!("{}%", number("traffic")) } else { "-".to_owned() },
            if is_live {
                format!("{}/{}", number("readyReplicas"), number("replicas"))
            } else {
                "-".to_owned()
            },
            age(revision.since_ms),
            revision.model.clone(),
        ]
    });
    indented(&["NUMBER", "NAME", "TRAFFIC", "READY", "AGE", "MODEL"], rows)
}

fn rows_of(replicas: &[Replica]) -> String {
    let rows = replicas.iter().map(|replica| {
        vec![
            replica.name.clone(),
            replica.state.as_str().to_owned(),
            replica.revision.clone(),
            replica.place.clone(),
            replica.restarts.to_string(),
            ago(replica.since_ms),
        ]
    });
    let header = ["NAME", "STATE", "REVISION", "WHERE", "RESTARTS", "AGE"];
    let mut text = indented(&header, rows);
    for replica in replicas {
        if let Some(trouble) = &replica.trouble {
            text.push_str(&format!("\n  {}: {trouble}", replica.name));
        }
    }
    text
}

fn happened(events: &[Happened]) -> String {
    let skipped = events.len().saturating_sub(EVENTS);
    super::events::rows(events.get(skipped..).unwrap_or_default(), false)
        .lines()
        .map(|line| format!("  {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

fn indented(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let lines = table(header, rows);
    lines.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use trainyard_operator::console::ReplicaState;

    use super::*;

    fn service() -> Value {
        json!({
            "metadata": {"name": "iris", "namespace": "a", "labels": {"team": "vision"}},
            "spec": {"model": {"uri": "s3://models/iris"}, "scaling": {"min": 1, "max": 4}},
            "status": {
                "url": "http://gateway", "replicas": 2, "readyReplicas": 1, "revision": "iris-1",
                "revisions": [{"name": "iris-1", "traffic": 100, "replicas": 1, "readyReplicas": 1}],
                "conditions": [{"type": "Ready", "status": "False", "reason": "CrashLoop", "message": "it ends"}],
            },
        })
    }

    fn replica(name: &str, state: ReplicaState, trouble: Option<&str>) -> Replica {
        Replica {
            namespace: "a".into(),
            service: "iris".into(),
            name: name.into(),
            revision: "iris-1".into(),
            state,
            place: "node-1".into(),
            address: Some("10.0.0.1:8080".into()),
            restarts: 3,
            since_ms: i64::MAX,
            trouble: trouble.map(str::to_owned),
        }
    }

    #[test]
    fn all_of_it() {
        let revisions = ["iris-2", "iris-1"].iter().zip([2, 1]).map(|(name, number)| Kept {
            name: (*name).to_owned(),
            number,
            since_ms: None,
            model: "s3://models/iris".to_owned(),
        });
        let replicas = vec![
            replica("iris-x", ReplicaState::Ready, None),
            replica("iris-y", ReplicaState::Starting, Some("the container ended with exit code 3")),
        ];
        let event = Happened {
            namespace: "a".into(),
            service: "iris".into(),
            object: "pod/iris-y".into(),
            is_warning: true,
            reason: "BackOff".into(),
            message: "restarting failed container".into(),
            first_ms: 0,
            last_ms: i64::MAX,
            count: 4,
        };
        insta::assert_snapshot!(text(
            &service(),
            Part::Shown(revisions.collect()),
            Part::Shown(replicas),
            Part::Shown(vec![event]),
        ));
    }

    #[test]
    fn what_may_not_be_seen_is_said() {
        let hidden = || "  (not shown: you may not list pods)".to_owned();
        let text = text(
            &service(),
            Part::Shown(Vec::new()),
            Part::Hidden(hidden()),
            Part::Hidden(hidden()),
        );
        assert!(text.contains("Replicas:\n  (not shown: you may not list pods)"), "{text}");
        assert!(text.contains("Revisions:\n  (none)"), "{text}");
    }
}
