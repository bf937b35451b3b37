//! The look for what workers need, before they are made and hold what others could use: what is seen
//! of it, what follows, and the Job whose pod looks.

use std::time::Duration;

use trainyard_api::TrainingJob;
use trainyard_control::preflight::{Seen, Stage, decide, is_needed};
use trainyard_plan::JobPlan;
use trainyard_plan::kubernetes::{preflight_name, preflight_objects};

use super::memory::{Memory, Preflight};
use super::observe::Silent;
use super::status;
use crate::cluster::CallError;
use crate::desired::{owner, wanted};
use crate::key::ResourceKey;
use crate::kinds::KindIndex;
use crate::pods::{LookEnd, Reason, Trouble};
use crate::reconcile::{Ctx, ensure};
use crate::status::{News, Problem};
use crate::world::{Child, Entry};

/// What is seen of a look.
#[derive(Debug, PartialEq)]
pub(super) struct Look {
    seen: Seen,
    why: Option<String>,
    /// What keeps its pod from running.
    pub(super) trouble: Option<Trouble>,
    /// A pod that does not run, and nothing is known why.
    pub(super) silent: Option<Silent>,
}

impl Look {
    fn of(seen: Seen) -> Self {
        Self { seen, why: None, trouble: None, silent: None }
    }
}

/// Where a look stands.
pub(super) struct Scene<'a> {
    pub(super) entry: &'a Entry,
    /// That of Jobs.
    pub(super) kind: KindIndex,
    pub(super) key: &'a ResourceKey,
}

/// Goes on looking for what a job needs that waits. Returns what is seen of it; none once the job may
/// ask for room.
pub(super) fn look_first(
    memory: &mut Memory,
    (job, plan): (&TrainingJob, &JobPlan),
    (scene, revision): (&Scene<'_>, &str),
    now: Duration,
    news: &mut Vec<News>,
) -> Option<Look> {
    if !is_needed(plan, job.spec.queue.is_some()) {
        memory.preflight = None;
        return None;
    }
    let known = memory.preflight.take().filter(|it| it.of == revision);
    let mut preflight = known.unwrap_or_else(|| Preflight::new(revision, now));
    let look = loop {
        let look = observe(&preflight, scene, now);
        let Some((state, reason)) = decide(&preflight.state, look.seen, now) else { break look };
        if let Some(reason) = reason {
            news.extend(status::looked(reason, &preflight.state, look.why.as_deref()));
            preflight.why =
                look.why.filter(|_| matches!(look.seen, Seen::Unavailable | Seen::Wrong));
        }
        // Each look is another Job's.
        preflight = Preflight { state, since: now, made: None, ..preflight };
    };
    let stage = preflight.state.stage;
    let why = preflight.why.clone();
    memory.preflight = Some(preflight);
    if stage == Stage::Passed {
        return None;
    }
    // It asks nobody for anything.
    (memory.handed, memory.held, memory.waiting) = (None, None, None);
    if stage == Stage::Refused {
        memory.last = why;
        // For something else it is looked anew.
        memory.revision = revision.to_owned();
    }
    Some(look)
}

/// Forgets a look that is under way: nobody asks for what it is made for.
pub(super) fn give_up(memory: &mut Memory) {
    memory.preflight = memory.preflight.take().filter(|it| !it.is_open());
}

fn observe(preflight: &Preflight, scene: &Scene<'_>, now: Duration) -> Look {
    let Some(uid) = preflight.made.as_deref() else { return Look::of(Seen::Pending) };
    if preflight.state.stage != Stage::Looking {
        return Look::of(Seen::Pending);
    }
    let mut pods = scene.entry.pods().filter_map(|pod| Some((pod, pod.look.as_deref()?)));
    let pod = pods.find(|(_, look)| *look.job == *uid);
    if let Some((_, LookEnd { seen, message })) =
        pod.and_then(|(pod, look)| Some((pod, look.end.as_ref()?)))
    {
        let why = Some(message.clone()).filter(|message| !message.is_empty());
        return Look { why, ..Look::of(*seen) };
    }
    let child = scene.entry.child(scene.kind, &preflight_name(&scene.key.name));
    let child = child.filter(|child| *child.uid == *uid && !child.is_ending);
    let Some(job) = child.and_then(|child| child.job.as_deref()) else {
        return Look::of(Seen::Lost);
    };
    match pod {
        // Its end will be told, or its deletion.
        Some((pod, _)) if !pod.ending => {
            let silent = Silent::Pod { name: pod.name.to_string(), created: pod.created };
            let trouble = pod.trouble.as_deref().cloned();
            let full = trouble.as_ref().filter(|it| it.is_for_want_of_room());
            let waited = now.saturating_sub(preflight.since);
            Look {
                seen: full.map_or(Seen::Pending, |_| Seen::NoRoom { waited }),
                why: full
                    .map(|trouble| format!("no node has room for its pod: {}", trouble.detail)),
                silent: Some(silent).filter(|_| trouble.is_none()),
                trouble,
            }
        }
        _ if job.is_complete => Look::of(Seen::Passed),
        _ if job.failed.is_some() => Look::of(Seen::Lost),
        Some(_) => Look::of(Seen::Pending),
        // Kueue does so where it is to manage Jobs without a queue, too.
        None if job.asked_to_suspend => {
            let why = "somebody suspends the Job that looks, such as Kueue with `manageJobsWithoutQueueName`";
            Look { why: Some(why.to_owned()), ..Look::of(Seen::Held) }
        }
        None => Look { silent: Some(Silent::NoPod), ..Look::of(Seen::Pending) },
    }
}

/// Whether an object is the Job of the look that is under way.
pub(super) fn is_of_look(child: &Child, memory: &Memory, key: &ResourceKey) -> bool {
    let made = memory.look().and_then(|look| look.made.as_deref());
    *child.name == *preflight_name(&key.name) && made == Some(&*child.uid)
}

/// Makes the Job of a look that is to begin. Returns what stands in the way.
pub(super) async fn make(
    ctx: &Ctx,
    (key, uid): (&ResourceKey, &str),
    kind: KindIndex,
    plan: &JobPlan,
    memory: &mut Memory,
) -> Result<Option<Problem>, CallError> {
    let is_due = |it: &&Preflight| it.state.stage == Stage::Looking && it.made.is_none();
    if memory.look().filter(is_due).is_none() {
        return Ok(None);
    }
    let not_supported = |message| Problem { reason: Reason::NotSupported, message };
    let objects = match preflight_objects(plan, &ctx.cluster.objects) {
        Ok(objects) => objects,
        Err(error) => return Ok(Some(not_supported(error.to_string()))),
    };
    let name = preflight_name(&key.name);
    let is_ours = |child: &Child| child.owner.as_deref() == Some(uid);
    let entry = ctx.world.entry(key).unwrap_or_default();
    if entry.child(kind, &name).is_some_and(is_ours) {
        // The one before has to go first; its end wakes us.
        return Ok(None);
    }
    let owner = owner(key, Some(uid));
    for object in objects {
        let wanted = match wanted(key, &owner, object.into_value()) {
            Ok(wanted) => wanted,
            Err(message) => return Ok(Some(not_supported(message))),
        };
        if let Some(conflict) = ensure(ctx, key, uid, &wanted).await? {
            return Ok(Some(conflict));
        }
    }
    let entry = ctx.world.entry(key).unwrap_or_default();
    let child = entry.child(kind, &name).filter(|child| !child.is_ending);
    if let (Some(child), Some(preflight)) = (child, &mut memory.preflight) {
        preflight.made = Some(child.uid.to_string());
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};
    use trainyard_control::job::Phase;
    use trainyard_plan::{Target, compile_job};

    use super::*;
    use crate::key::Declared;
    use crate::kinds::index_of;
    use crate::pods::PodFacts;

    const PREFLIGHT: &str = "line-preflight";

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A job that waits, and its objects.
    struct Fixture {
        job: TrainingJob,
        memory: Memory,
        entry: Entry,
    }

    impl Fixture {
        fn new(spec: Value) -> Self {
            let mut whole = json!({"framework": "generic", "image": "i", "command": ["t"]});
            for (field, value) in spec.as_object().into_iter().flatten() {
                whole[field] = value.clone();
            }
            let job = json!({
                "apiVersion": "trainyard.dev/v1alpha1", "kind": "TrainingJob",
                "metadata": {"name": "line", "namespace": "ml"}, "spec": whole,
            });
            Self {
                job: serde_json::from_value(job).expect("a job"),
                memory: Memory::new(at(0)),
                entry: Entry::default(),
            }
        }

        fn of_data() -> Self {
            Self::new(json!({"queue": "q", "data": [{"name": "words", "uri": "s3://b/a"}]}))
        }

        /// Looks at one moment; the reasons of what happened.
        fn look(&mut self, revision: &str, now: u64) -> (Option<Look>, Vec<String>) {
            let target =
                Target::Kubernetes { image: "t".to_owned(), gpu_pools: Default::default() };
            let plan = compile_job(&self.job, &target).expect("a plan");
            let key = ResourceKey::new(Declared::TrainingJob, "ml", "line");
            let kind = index_of("batch/v1", "Job").expect("it is in the table");
            let scene = Scene { entry: &self.entry, kind, key: &key };
            let mut news = Vec::new();
            let of = (&self.job, &plan);
            let look = look_first(&mut self.memory, of, (&scene, revision), at(now), &mut news);
            (look, news.into_iter().map(|news| news.reason).collect())
        }

        /// The Job of a look is made, and there, in this state.
        fn has_job(&mut self, uid: &str, spec: Value, status: Value) {
            let key = ResourceKey::new(Declared::TrainingJob, "ml", "line");
            let mut object = json!({"metadata": {"name": PREFLIGHT, "uid": uid}, "spec": spec, "status": status});
            object["spec"]["template"] = json!({});
            let kind = index_of("batch/v1", "Job").expect("it is in the table");
            self.entry.children = vec![Child::of(kind, &key, &object).expect("a Job")];
            self.memory.preflight.as_mut().expect("a look").made = Some(uid.to_owned());
        }

        fn has_pod(&mut self, of: &str, status: Value) {
            let pod: Pod = serde_json::from_value(json!({
                "metadata": {"name": format!("{PREFLIGHT}-x"), "labels": {
                    "trainyard.dev/job": "line", "trainyard.dev/preflight": "true",
                    "batch.kubernetes.io/controller-uid": of,
                }},
                "spec": {"containers": []}, "status": status,
            }))
            .expect("a pod");
            self.entry = std::mem::take(&mut self.entry).with_pod(PodFacts::of(&pod));
        }
    }

    fn not_there() -> Value {
        let state =
            json!({"terminated": {"exitCode": 3, "message": "NotFound: nothing at `s3://b/a`"}});
        json!({"phase": "Failed", "initContainerStatuses": [{
            "name": "check-data-words", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state,
        }]})
    }

    #[test]
    fn a_job_that_holds_nothing_is_not_looked_at() {
        let mut job = Fixture::new(json!({"data": [{"name": "words", "uri": "s3://b/a"}]}));
        assert_eq!(job.look("r", 0), (None, vec![]));
        assert_eq!(job.memory.preflight, None);
    }

    #[test]
    fn what_was_found_is_remembered_for_its_spec() {
        let mut job = Fixture::of_data();
        let (look, news) = job.look("r1", 0);
        assert_eq!((look.map(|it| it.seen), news), (Some(Seen::Pending), vec![]));
        job.has_job("u1", json!({}), json!({}));
        job.has_pod("u1", json!({"phase": "Pending"}));
        let (look, _) = job.look("r1", 1);
        assert!(matches!(look.and_then(|it| it.silent), Some(Silent::Pod { .. })));
        job.has_pod("u1", json!({"phase": "Succeeded"}));
        assert_eq!(job.look("r1", 2), (None, vec!["Checked".to_owned()]));
        // It goes, and nothing is looked at again.
        job.entry = Entry::default();
        assert_eq!(job.look("r1", 900), (None, vec![]));
        let (look, _) = job.look("r2", 901);
        assert_eq!(look.map(|it| it.seen), Some(Seen::Pending));
        assert_eq!(job.memory.preflight.as_ref().and_then(|it| it.made.clone()), None);
    }

    #[test]
    fn what_is_not_there_is_told_once_and_for_its_spec_only() {
        let mut job = Fixture::of_data();
        job.look("r1", 0);
        job.has_job("u1", json!({}), json!({}));
        job.has_pod("u1", not_there());
        let (look, news) = job.look("r1", 1);
        assert!(look.is_some());
        assert_eq!(news, ["DataNotThere"]);
        let why = job.memory.last.clone().expect("why");
        assert_eq!(why, "the data `words` cannot be had: NotFound: nothing at `s3://b/a`");
        assert!(job.memory.preflight.as_ref().is_some_and(Preflight::is_refused));
        assert_eq!(job.memory.revision, "r1", "a correction is seen as one");
        assert_eq!(job.look("r1", 2).1, Vec::<String>::new());
        // The pod of the look before says nothing about another spec.
        assert_eq!(job.look("r2", 3).0.map(|it| it.seen), Some(Seen::Pending));
    }

    #[test]
    fn a_look_that_is_lost_is_made_again() {
        let mut job = Fixture::of_data();
        job.look("r", 0);
        job.has_job("u1", json!({}), json!({}));
        // Its pod is another Job's.
        job.has_pod("u0", not_there());
        assert_eq!(job.look("r", 1).0.and_then(|it| it.silent), Some(Silent::NoPod));
        job.entry = Entry::default();
        let (look, news) = job.look("r", 2);
        assert_eq!((look.is_some(), news), (true, vec![]));
        let state = job.memory.preflight.clone().expect("a look").state;
        assert_eq!(state.look_again_at(), Some(at(4)));
        job.look("r", 4);
        let look = job.memory.look().expect("it goes on");
        assert_eq!((look.state.stage, &look.made), (Stage::Looking, &None));
        // Somebody keeps its Job from running: the job starts without.
        job.entry = Entry::default();
        job.has_job("u2", json!({"suspend": true}), json!({}));
        assert_eq!(job.look("r", 5), (None, vec!["NotChecked".to_owned()]));
    }

    /// Nodes may be full of what this job would push out, once it stands in its queue.
    #[test]
    fn full_nodes_keep_no_job_out_of_its_queue() {
        let mut job = Fixture::of_data();
        job.look("r", 0);
        job.has_job("u1", json!({}), json!({}));
        let unschedulable = |message: &str| json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "message": message}]});
        // A claim that is missing is waited for.
        let missing = "persistentvolumeclaim \"sets\" not found";
        job.has_pod("u1", unschedulable(missing));
        let (look, news) = job.look("r", 900);
        assert!(look.is_some_and(|it| it.trouble.is_some()) && news.is_empty());
        job.has_pod("u1", unschedulable("0/2 nodes are available: 2 Insufficient cpu."));
        assert!(job.look("r", 59).0.is_some());
        assert_eq!(job.look("r", 60), (None, vec!["NotChecked".to_owned()]));
    }

    #[test]
    fn who_stops_to_wait_is_looked_at_anew() {
        let mut job = Fixture::of_data();
        job.look("r", 0);
        give_up(&mut job.memory);
        assert_eq!(job.memory.preflight, None);
        job.look("r", 1);
        assert!(job.memory.look().is_some());
        job.memory.state.phase = Phase::Interrupted;
        assert_eq!(job.memory.look(), None);
    }
}
