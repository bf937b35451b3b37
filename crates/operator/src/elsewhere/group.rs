//! What another system says of a Job: Kueue in a Workload, the schedulers in a PodGroup.

use serde_json::Value;
use trainyard_plan::QueueSystem;
use trainyard_plan::kubernetes::KAI_GANG;

/// A reason in one word, and what stands beside it for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) reason: Box<str>,
    pub(crate) message: Box<str>,
}

/// How it stands with one Job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Group {
    /// Why it waits; none for one that does not, and for one that nobody has looked at.
    pub(crate) waiting: Option<Said>,
    /// Why it has to end.
    pub(crate) evicted: Option<Said>,
    /// Somebody took it out of the queue: it starts when they put it back.
    pub(crate) is_deactivated: bool,
    /// Its pods are placed one by one, though they are to be together.
    pub(crate) is_no_gang: bool,
    /// Whose quota it has, if it has some.
    pub(crate) quota: Option<Box<str>>,
}

/// The Job that a group is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct JobRef {
    pub(super) namespace: Box<str>,
    pub(super) name: Box<str>,
    /// None where the group is called as its Job.
    pub(super) uid: Option<Box<str>>,
}

/// Whose group an object is; none if it is of no Job.
pub(super) fn job_of(system: QueueSystem, object: &Value) -> Option<JobRef> {
    let text = |value: &Value, at: &str| value.pointer(at).and_then(Value::as_str).map(Box::from);
    let namespace = text(object, "/metadata/namespace")?;
    // Of Volcano only those that are ours are read, which are called as their Job.
    if system == QueueSystem::Volcano {
        return Some(JobRef { namespace, name: text(object, "/metadata/name")?, uid: None });
    }
    let owners = object.pointer("/metadata/ownerReferences")?.as_array()?;
    let owner = owners.iter().find(|it| it["kind"] == "Job")?;
    Some(JobRef { namespace, name: text(owner, "/name")?, uid: Some(text(owner, "/uid")?) })
}

/// Reads an object; what is missing says nothing.
pub(super) fn read(system: QueueSystem, object: &Value) -> Group {
    match system {
        QueueSystem::Kueue => workload(object),
        QueueSystem::Volcano => volcano(object),
        QueueSystem::Kai => kai(object),
    }
}

fn list<'a>(object: &'a Value, at: &str) -> impl Iterator<Item = &'a Value> {
    object.pointer(at).and_then(Value::as_array).into_iter().flatten()
}

/// A reason as conditions may have it, which those of others need not be.
fn said(reason: &str, message: &str) -> Said {
    let is_fine = reason.starts_with(|it: char| it.is_ascii_alphabetic())
        && reason.bytes().all(|it| it.is_ascii_alphanumeric());
    let reason = if is_fine { reason } else { "Waiting" };
    Said { reason: reason.into(), message: message.trim().into() }
}

fn of_condition(condition: &Value) -> Said {
    let text = |name: &str| condition[name].as_str().unwrap_or_default();
    said(text("reason"), text("message"))
}

/// Conditions of Kueue's Workload are the same in `v1beta1` and `v1beta2`.
fn workload(object: &Value) -> Group {
    let condition = |name: &str| list(object, "/status/conditions").find(|it| it["type"] == name);
    let holds = |name: &str| condition(name).is_some_and(|it| it["status"] == "True");
    let waiting = match (holds("QuotaReserved"), holds("Admitted")) {
        // Such as one whose Job Kueue could not start.
        _ if holds("Finished") => condition("Finished").map(of_condition),
        (_, true) => None,
        (true, false) => Some(said("AdmissionChecks", &checks(object))),
        (false, false) => condition("QuotaReserved").map(of_condition),
    };
    let evicted = condition("Evicted").filter(|_| holds("Evicted")).map(of_condition);
    let quota = object.pointer("/status/admission/clusterQueue").and_then(Value::as_str);
    Group {
        waiting,
        evicted,
        is_deactivated: object.pointer("/spec/active") == Some(&Value::Bool(false)),
        is_no_gang: false,
        quota: quota.map(Box::from),
    }
}

/// What a Workload waits for that has quota.
fn checks(object: &Value) -> String {
    let open = list(object, "/status/admissionChecks").filter(|it| it["state"] != "Ready");
    let told = open.map(|it| {
        let text = |name: &str| it[name].as_str().unwrap_or_default();
        match text("message") {
            "" => format!("`{}`", text("name")),
            message => format!("`{}` says: {message}", text("name")),
        }
    });
    let told: Vec<String> = told.collect();
    match told.is_empty() {
        true => "its quota is reserved".to_owned(),
        false => format!("its quota is reserved, and checks are open: {}", told.join("; ")),
    }
}

fn volcano(object: &Value) -> Group {
    // Its scheduler writes one as soon as it has looked.
    let Some(phase) = object.pointer("/status/phase").and_then(Value::as_str) else {
        return Group::default();
    };
    let held = |it: &&Value| it["type"] == "Unschedulable" && it["status"] == "True";
    let condition = list(object, "/status/conditions").filter(held).last().map(of_condition);
    let waiting = match (phase, condition) {
        ("Running" | "Completed", _) => None,
        // What keeps a gang out of its queue stands in events alone: the condition counts pods.
        ("Pending", Some(condition)) => Some(said(&condition.reason, &out_of_queue(object))),
        (_, Some(condition)) => Some(condition),
        (_, None) => Some(said(phase, "its PodGroup waits")),
    };
    Group { waiting, ..Group::default() }
}

fn out_of_queue(object: &Value) -> String {
    let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    format!(
        "there is no room in the queue for all of its workers together, by the queue's `capability` or by what the cluster has; events of its PodGroup `{name}` say of what"
    )
}

fn kai(object: &Value) -> Group {
    let held = list(object, "/status/schedulingConditions")
        .filter(|it| it["type"] == "UnschedulableOnNodePool" && it["status"] == "True");
    // Its pod grouper repeats the Job's annotations whether it knows them or not.
    let number = |at: &str| object.pointer(at).and_then(Value::as_u64);
    let asked = object.pointer(&format!("/metadata/annotations/{}", KAI_GANG.replace('/', "~1")));
    let asked = asked.and_then(Value::as_str).and_then(|it| it.parse::<u64>().ok());
    Group {
        waiting: held.last().map(of_kai_condition),
        is_no_gang: asked.is_some_and(|it| it > number("/spec/minMember").unwrap_or(1)),
        ..Group::default()
    }
}

/// `reasons` say more than the words beside them, which older versions have alone.
fn of_kai_condition(condition: &Value) -> Said {
    let text = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let reasons = condition["reasons"].as_array().map(Vec::as_slice).unwrap_or_default();
    let Some(first) = reasons.first() else { return of_condition(condition) };
    let messages = reasons.iter().map(|it| text(it, "message")).filter(|it| !it.is_empty());
    match messages.collect::<Vec<_>>().join("; ") {
        message if message.is_empty() => of_condition(condition),
        message => said(&text(first, "reason"), &message),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn words(said: Option<&Said>) -> Option<(&str, &str)> {
        said.map(|it| (&*it.reason, &*it.message))
    }

    #[test]
    fn what_a_workload_says() {
        let of = |active: Value, conditions: Value| {
            read(
                QueueSystem::Kueue,
                &json!({
                    "spec": {"active": active},
                    "status": {
                        "conditions": conditions, "admission": {"clusterQueue": "all"},
                        "admissionChecks": [
                            {"name": "budget", "state": "Pending", "message": "asks for a node"},
                            {"name": "done", "state": "Ready"},
                        ],
                    },
                }),
            )
        };
        let is = |name: &str, status: &str, reason: &str, message: &str| json!({"type": name, "status": status, "reason": reason, "message": message});
        let pending = of(json!(true), json!([is("QuotaReserved", "False", "Pending", "no room ")]));
        assert_eq!(words(pending.waiting.as_ref()), Some(("Pending", "no room")));
        assert!(!pending.is_deactivated);
        let checked = of(json!(true), json!([is("QuotaReserved", "True", "QuotaReserved", "")]));
        let (reason, message) = words(checked.waiting.as_ref()).expect("it waits");
        assert_eq!(reason, "AdmissionChecks");
        assert!(message.ends_with("`budget` says: asks for a node"), "{message}");
        let runs = of(
            json!(true),
            json!([is("QuotaReserved", "True", "a", ""), is("Admitted", "True", "b", "")]),
        );
        assert_eq!((runs.waiting, runs.evicted), (None, None));
        assert_eq!(runs.quota.as_deref(), Some("all"));
        let out = of(json!(false), json!([is("Evicted", "True", "Deactivated", "by hand")]));
        assert_eq!(words(out.evicted.as_ref()), Some(("Deactivated", "by hand")));
        assert!(out.is_deactivated);
        assert_eq!(read(QueueSystem::Kueue, &json!({})), Group::default());
    }

    #[test]
    fn what_pod_groups_say() {
        let volcano = |phase: &str, conditions: Value| {
            let metadata = json!({"name": "line-1"});
            let status = json!({"phase": phase, "conditions": conditions});
            read(QueueSystem::Volcano, &json!({"metadata": metadata, "status": status}))
        };
        let condition = json!([{"type": "Unschedulable", "status": "True", "reason": "NotEnoughResources", "message": "1/2 tasks in gang unschedulable"}]);
        let waits = volcano("Inqueue", condition.clone());
        assert_eq!(
            words(waits.waiting.as_ref()),
            Some(("NotEnoughResources", "1/2 tasks in gang unschedulable"))
        );
        let out = volcano("Pending", condition.clone());
        let (reason, message) = words(out.waiting.as_ref()).expect("it waits");
        assert_eq!(reason, "NotEnoughResources");
        assert!(message.contains("`capability`") && message.contains("`line-1`"), "{message}");
        // The condition stays.
        assert_eq!(volcano("Running", condition), Group::default());
        let new = volcano("Inqueue", json!([]));
        assert_eq!(words(new.waiting.as_ref()), Some(("Inqueue", "its PodGroup waits")));
        assert_eq!(read(QueueSystem::Volcano, &json!({})), Group::default(), "nobody has looked");
        let condition = json!({"type": "UnschedulableOnNodePool", "status": "True", "reason": "OverLimit", "message": "over the limit of `a`"});
        let held = json!({"status": {"schedulingConditions": [condition]}});
        let waits = read(QueueSystem::Kai, &held);
        assert_eq!(words(waits.waiting.as_ref()), Some(("OverLimit", "over the limit of `a`")));
        // As 0.14.7 writes it.
        let reasons = json!([{"reason": "OverLimit", "message": "Limit is 0.4 cores"}, {"reason": "Other", "message": "and more"}]);
        let condition = json!({"type": "UnschedulableOnNodePool", "status": "True", "reason": "Unschedulable", "message": "OverLimit: Limit is 0.4 cores.", "reasons": reasons});
        let held = json!({"status": {"schedulingConditions": [condition]}});
        let waits = read(QueueSystem::Kai, &held);
        assert_eq!(
            words(waits.waiting.as_ref()),
            Some(("OverLimit", "Limit is 0.4 cores; and more"))
        );
    }

    #[test]
    fn whether_kai_knows_gangs_of_jobs() {
        let is_no_gang = |asked: Value, min: Value| {
            let metadata = json!({"annotations": {KAI_GANG: asked}});
            read(QueueSystem::Kai, &json!({"metadata": metadata, "spec": {"minMember": min}}))
                .is_no_gang
        };
        assert!(!is_no_gang(json!("2"), json!(2)));
        assert!(is_no_gang(json!("2"), json!(1)));
        assert!(is_no_gang(json!("2"), json!(null)));
        assert!(!is_no_gang(json!("1"), json!(null)), "one alone");
        assert!(!is_no_gang(json!(null), json!(1)), "nobody asked");
    }

    #[test]
    fn whose_group_it_is() {
        let owned = |kind: &str| json!({"metadata": {"name": "x", "namespace": "ml", "ownerReferences": [{"kind": kind, "name": "a-1", "uid": "u"}]}});
        let found = job_of(QueueSystem::Kueue, &owned("Job")).expect("a Job's");
        assert_eq!((&*found.name, found.uid.as_deref()), ("a-1", Some("u")));
        assert_eq!(job_of(QueueSystem::Kueue, &owned("RayJob")), None);
        let ours = job_of(QueueSystem::Volcano, &owned("TrainingJob")).expect("ours");
        assert_eq!((&*ours.name, ours.uid), ("x", None));
    }

    #[test]
    fn odd_reasons_become_one_that_a_condition_may_have() {
        assert_eq!(&*said("No room!", "m").reason, "Waiting");
        assert_eq!(&*said("", "m").reason, "Waiting");
    }
}
