//! Training jobs as commands show them.

use serde_json::{Value, json};
use trainyard_local::history::JobRecord;
use trainyard_local::status::{JobStatus, Seen};
use trainyard_operator::console::{Replica, ReplicaState, time_text};

use super::output::Columns;
use super::time::ago;
use crate::table::table;

/// What kubectl prints before a name.
pub(crate) const SINGULAR: &str = "trainingjob.trainyard.dev";

/// How far a job is, in a few words; none before it has said anything.
fn progress(seen: &Seen) -> String {
    let mut words = Vec::new();
    words.extend(seen.step.map(|step| format!("step {step}")));
    words.extend(seen.loss.map(|loss| format!("loss {loss:.4}")));
    words.extend(seen.steps_per_second.map(|speed| format!("{speed:.1} steps/s")));
    words.extend(seen.goodput.map(|goodput| format!("goodput {:.0}%", goodput * 100.0)));
    if words.is_empty() { "alive".to_owned() } else { words.join(", ") }
}

/// One line about a job. Without `details` it stays the same while the job gets on.
pub(crate) fn line(job: &JobStatus, details: bool) -> String {
    let JobStatus { name, phase, reason, attempts, wanted, .. } = job;
    let mut line = format!(
        "{name}  {phase} ({reason})  {}/{wanted} workers  attempt {attempts}",
        job.running()
    );
    if let Some(seen) = job.seen.as_ref().filter(|_| details) {
        line.push_str("  ");
        line.push_str(&progress(seen));
    }
    if let Some(why) = why_waits(job) {
        line.push_str(": ");
        line.push_str(why);
    } else if let Some(problem) = &job.last_error {
        line.push_str(": ");
        line.push_str(problem.lines().next().unwrap_or_default());
    }
    line
}

/// Why a job waits for its queue; none if it does not.
fn why_waits(job: &JobStatus) -> Option<&str> {
    let quota = job.quota.as_ref().filter(|_| job.waits_in_queue())?;
    Some(&quota.message)
}

/// The tables of `trainyard status`.
pub(crate) fn show(jobs: &[JobStatus]) -> String {
    let header = ["JOB", "PHASE", "WORKERS", "ATTEMPTS", "FAILURES", "PROGRESS", "REASON", "AGE"];
    let rows = jobs.iter().map(|job| {
        vec![
            job.name.clone(),
            job.phase.clone(),
            format!("{}/{}", job.running(), job.wanted),
            job.attempts.to_string(),
            format!("{}/{}", job.failures, job.retries.saturating_add(1)),
            job.seen.as_ref().map(progress).unwrap_or_default(),
            job.reason.clone(),
            ago(job.created_ms),
        ]
    });
    let mut text = table(&header, rows);
    let running = jobs.iter().filter(|job| !job.is_over).flat_map(|job| &job.workers);
    let rows: Vec<Vec<String>> = running
        .map(|worker| {
            vec![
                worker.id.clone(),
                worker.state.clone(),
                worker.pid.map(|pid| pid.to_string()).unwrap_or_default(),
                worker.metrics.map(|at| format!("http://{at}/metrics")).unwrap_or_default(),
                ago(worker.since_ms),
                worker.message.clone().unwrap_or_default(),
            ]
        })
        .collect();
    if !rows.is_empty() {
        let header = ["WORKER", "STATE", "PID", "METRICS", "SINCE", ""];
        text.push_str("\n\n");
        text.push_str(&table(&header, rows));
    }
    for job in jobs {
        let why = why_waits(job);
        let remarks = job.last_error.iter().chain(&job.notes).map(String::as_str);
        for remark in why.into_iter().chain(remarks) {
            text.push_str(&format!("\n\n{}: {remark}", job.name));
        }
    }
    text
}

/// The columns that `kubectl get trainingjobs` prints.
pub(crate) fn list(jobs: &[Value], columns: Columns) -> String {
    let Columns { with_namespace, wide, headers } = columns;
    // Only this machine tells of steps.
    let has_steps = jobs.iter().any(|job| job["status"]["step"].is_number());
    let mut header: Vec<&str> = with_namespace.then_some("NAMESPACE").into_iter().collect();
    header.extend(["NAME", "PHASE", "REASON", "WORKERS", "ATTEMPTS"]);
    header.extend(has_steps.then_some("STEP"));
    header.extend(wide.then_some("FRAMEWORK"));
    header.push("AGE");
    let rows = jobs.iter().map(|job| {
        let status = &job["status"];
        let text = |value: &Value| match value {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        };
        let mut row: Vec<String> =
            with_namespace.then(|| text(&job["metadata"]["namespace"])).into_iter().collect();
        row.extend([
            text(&job["metadata"]["name"]),
            text(&status["phase"]),
            text(&status["reason"]),
            text(&status["activeWorkers"]),
            text(&status["attempts"]),
        ]);
        row.extend(has_steps.then(|| text(&status["step"])));
        row.extend(wide.then(|| text(&job["spec"]["framework"])));
        let created = job["metadata"]["creationTimestamp"].as_str();
        row.push(super::output::age(created.and_then(trainyard_operator::console::unix_ms)));
        row
    });
    table(if headers { &header } else { &[] }, rows)
}

/// A job as a `TrainingJob` with the status that an operator would write.
pub(crate) fn resource(job: &JobStatus, spec: Option<Value>) -> Value {
    let mut metadata = json!({"name": job.name});
    if let Some(created) = time_text(job.created_ms) {
        metadata["creationTimestamp"] = json!(created);
    }
    let has_failed = job.has_failed();
    let counted =
        || format!("{} of {} workers run, attempt {}", job.running(), job.wanted, job.attempts);
    let message = match why_waits(job) {
        Some(why) => why.to_owned(),
        None if job.phase == "Succeeded" => "all workers have finished".to_owned(),
        None => job.last_error.clone().unwrap_or_else(counted),
    };
    let needs_a_person = job.needs_a_person();
    let condition = |kind: &str, holds: bool| {
        json!({
            "type": kind, "status": if holds { "True" } else { "False" },
            "reason": job.reason, "message": message,
        })
    };
    let mut status = json!({
        "conditions": [
            condition("Ready", job.phase == "Succeeded"),
            condition("Progressing", !job.is_over && !needs_a_person),
            condition("Degraded", !job.is_over && job.failures > 0),
            condition("Stalled", has_failed || needs_a_person),
        ],
        "phase": job.phase,
        "reason": job.reason,
        "failures": job.failures,
        "activeWorkers": job.running(),
        "attempts": job.attempts,
    });
    if let (Some(quota), Some(conditions)) = (&job.quota, status["conditions"].as_array_mut()) {
        conditions.push(json!({
            "type": "QuotaReserved", "status": if quota.is_reserved { "True" } else { "False" },
            "reason": quota.reason, "message": quota.message,
        }));
    }
    let mut add = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            status[name] = value;
        }
    };
    add("step", job.seen.as_ref().and_then(|seen| seen.step).map(|step| json!(step)));
    add("startTime", job.started_ms.and_then(time_text).map(|time| json!(time)));
    add("completionTime", job.ended_ms.and_then(time_text).map(|time| json!(time)));
    json!({
        "apiVersion": "trainyard.dev/v1alpha1", "kind": "TrainingJob", "metadata": metadata,
        "spec": spec.unwrap_or_else(|| json!({})),
        "status": status,
    })
}

/// The workers of a job as replicas are told of.
pub(crate) fn workers(job: &JobStatus) -> impl Iterator<Item = Replica> {
    job.workers.iter().map(|worker| Replica {
        namespace: String::new(),
        service: job.name.clone(),
        name: worker.id.clone(),
        revision: job.attempts.to_string(),
        state: match (worker.pid, worker.state.as_str()) {
            (Some(_), _) => ReplicaState::Ready,
            (None, "failed") => ReplicaState::Failed,
            (None, _) => ReplicaState::Ended,
        },
        place: worker.pid.map(|pid| format!("pid {pid}")).unwrap_or_default(),
        address: worker.metrics.map(|address| address.to_string()),
        restarts: i64::from(job.attempts.saturating_sub(1)),
        since_ms: worker.since_ms,
        trouble: worker.message.clone(),
    })
}

/// What a supervisor that is gone had written down, by the newest run of each job.
pub(crate) fn show_last(newest: &[JobRecord]) -> String {
    let newest: Vec<&JobRecord> = newest.iter().filter(|record| !record.forgotten).collect();
    if newest.is_empty() {
        return String::new();
    }
    let mut running = Vec::new();
    let header = ["JOB", "WAS", "ATTEMPTS", "LAST ERROR"];
    let rows = newest.iter().map(|record| {
        vec![
            record.name.clone(),
            record.state.phase_name().to_owned(),
            record.state.attempts.to_string(),
            record.last_error.clone().unwrap_or_default(),
        ]
    });
    let mut text = table(&header, rows);
    for record in &newest {
        running.extend(record.workers.iter().filter_map(|worker| {
            let pid = worker.running_pid()?;
            Some(format!(
                "worker {} of {} still runs as pid {pid}; `trainyard up` takes it over, `trainyard down` ends it",
                worker.index, record.name
            ))
        }));
    }
    for line in running {
        text.push('\n');
        text.push_str(&line);
    }
    text
}
