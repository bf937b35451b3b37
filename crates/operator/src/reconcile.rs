//! One service brought to what its spec asks for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;
use trainyard_api::ModelService;
use trainyard_api::model_service::ModelServiceStatus;

use crate::announce::Announcer;
use crate::cluster::{CallError, Calls, Chain};
use crate::desired::{self, Desired, Wanted, desire, problems};
use crate::elsewhere::Elsewhere;
use crate::figures::Loads;
use crate::history;
use crate::key::ResourceKey;
use crate::kinds;
use crate::metrics::Metrics;
use crate::names::MANAGED_BY_LABEL;
use crate::pods::{PodFacts, Reason, Trouble, of_event};
use crate::queue::Ended;
use crate::queues::Queues;
use crate::rollout::{Contents, Course, sooner, steer};
use crate::scale::Scalers;
use crate::settings::Cluster;
use crate::status::{News, Problem, Seen, are_there, decide, news, stalled_only};
use crate::world::{
    Child, Entry, Resource, Source, Standing, World, may_be_ours, owner_uid, strip,
};

/// When warnings about a pod that is not ready are read for the first time; then after twice as
/// long each time, since a large model may load for an hour.
const FIRST_LOOK: Duration = Duration::from_secs(10);
const LONGEST_LOOK: Duration = Duration::from_secs(300);

/// Between two looks at an object that has a name of ours and is somebody else's.
pub(crate) const NAME_CONFLICT_PAUSE: Duration = Duration::from_secs(30);

/// What every reconcile works with.
pub(crate) struct Ctx {
    pub(crate) world: Arc<World>,
    pub(crate) calls: Calls,
    pub(crate) cluster: Cluster,
    pub(crate) announcer: Announcer,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) looks: Looks,
    pub(crate) loads: Arc<Loads>,
    pub(crate) scalers: Arc<Scalers>,
    pub(crate) contents: Contents,
    /// Which jobs may start.
    pub(crate) queues: Queues,
    pub(crate) elsewhere: Elsewhere,
}

impl Ctx {
    /// A service is gone, or going.
    fn forget(&self, key: &ResourceKey) {
        self.looks.forget(key);
        self.scalers.forget(key);
        self.contents.forget(key);
    }
}

/// What warnings said about pods that are not ready, and when to read them again.
#[derive(Debug, Default)]
pub(crate) struct Looks(Mutex<HashMap<ResourceKey, Look>>);

#[derive(Debug, Clone)]
struct Look {
    pod: Box<str>,
    /// Age of the pod at which warnings are read again.
    next_at: Duration,
    said: Option<Trouble>,
}

/// Brings one service to what its spec asks for, and writes what came of it into its status.
///
/// Safe to stop at any await and to run again: each write is a whole object or guarded by a version
/// or uid, and nothing is remembered that cannot be seen again.
pub(crate) async fn reconcile(ctx: &Ctx, key: &ResourceKey) -> Result<Ended, CallError> {
    let _visit = ctx.world.visit(key);
    let Some(entry) = ctx.world.entry(key) else {
        ctx.forget(key);
        return Ok(Ended::Settled);
    };
    let Some(Resource { content, .. }) = &entry.resource else {
        // Its objects go with it: the cluster's garbage collector follows their owner references.
        ctx.forget(key);
        return Ok(Ended::Settled);
    };
    let service: Result<ModelService, String> = match content {
        Ok(packed) => packed.unpack().map_err(|error| error.to_string()),
        Err(invalid) => Err(invalid.error.clone()),
    };
    match &service {
        Ok(service) if service.metadata.deletion_timestamp.is_some() => {
            ctx.forget(key);
            Ok(Ended::Settled)
        }
        Ok(service) => bring_about(ctx, key, service, &entry).await,
        Err(error) => tell_unreadable(ctx, key, error).await,
    }
}

async fn bring_about(
    ctx: &Ctx,
    key: &ResourceKey,
    service: &ModelService,
    entry: &Entry,
) -> Result<Ended, CallError> {
    let charted = chart(ctx, key, service, entry).await?;
    if let Ok((course, _)) = &charted {
        write_down(ctx, key, service, course).await?;
    }
    let (problem, applied) = match &charted {
        Ok((course, desired)) => {
            match apply_all(ctx, key, (service, entry), desired, &course.in_use).await {
                Ok(found) => (found, Ok(())),
                Err(CallError::Gone { what }) => {
                    tracing::debug!(what, "nothing to reconcile any more");
                    return Ok(Ended::Settled);
                }
                Err(CallError::Rejected { what, reason }) => {
                    let message = format!("the API server refuses to {what}: {reason}");
                    let problem = Problem { reason: Reason::ApplyRejected, message };
                    (Some(problem), Err(CallError::Rejected { what, reason }))
                }
                // Nobody could be told now; the next try tells what there is to tell.
                Err(error) => return Err(error),
            }
        }
        Err(found) => (Some(found.clone()), Ok(())),
    };
    // What was applied just now is seen already. The spec stays the one that was acted upon, lest the
    // status says of a newer one that it is in effect.
    let entry = ctx.world.entry(key).unwrap_or_default();
    let before = match readable(&entry) {
        Some(newest) => newest.status,
        None => service.status.clone(),
    };
    let service = ModelService { status: before, ..service.clone() };
    let (course, desired) = charted.ok().unzip();
    let look = ctx.looks.look(ctx, key, &entry, desired.as_ref()).await;
    let is_taken = problem.as_ref().is_some_and(|found| found.reason == Reason::NameConflict);
    let status = status(&service, &entry, (course.as_ref(), desired.as_ref()), problem, &look, key);
    tell(ctx, key, &service, status).await?;
    applied?;
    if let Some(news) = course.as_ref().and_then(|course| course.scaled.clone()) {
        ctx.announcer.announce(key, service.metadata.uid.as_deref().unwrap_or_default(), news);
    }
    // No watch tells what happens to objects of others.
    let again_in = if is_taken { Some(NAME_CONFLICT_PAUSE) } else { look.again_in };
    Ok(match sooner(again_in, course.and_then(|course| course.again_in)) {
        Some(delay) => Ended::LookAgain(delay),
        None => Ended::Settled,
    })
}

/// What should be; or why that cannot be said.
async fn chart(
    ctx: &Ctx,
    key: &ResourceKey,
    service: &ModelService,
    entry: &Entry,
) -> Result<Result<(Course, Desired), Problem>, CallError> {
    let plan = match desired::plan(key, service, &ctx.cluster) {
        Ok(plan) => plan,
        Err(problem) => return Ok(Err(problem)),
    };
    let course = match steer(ctx, key, service, entry, &plan).await? {
        Ok(course) => course,
        Err(problem) => return Ok(Err(problem)),
    };
    let desired = desire(key, service, &ctx.cluster, &plan, &course);
    Ok(desired.map(|desired| (course, desired)))
}

/// Writes down what was decided before it is done: a later operator goes on from there, and the
/// gateways go by it.
async fn write_down(
    ctx: &Ctx,
    key: &ResourceKey,
    service: &ModelService,
    course: &Course,
) -> Result<(), CallError> {
    let before = service.status.clone().unwrap_or_default();
    if before.rollout == course.rollout {
        return Ok(());
    }
    let status = ModelServiceStatus { rollout: course.rollout.clone(), ..before };
    tell(ctx, key, service, status).await
}

fn readable(entry: &Entry) -> Option<ModelService> {
    entry.resource.as_ref()?.content.as_ref().ok()?.unpack().ok()
}

fn status(
    service: &ModelService,
    entry: &Entry,
    (course, desired): (Option<&Course>, Option<&Desired>),
    problem: Option<Problem>,
    look: &Looked,
    key: &ResourceKey,
) -> ModelServiceStatus {
    let deployment = kinds::index_of("apps/v1", "Deployment")
        .and_then(|kind| entry.child(kind, &key.name))
        .and_then(|child| child.deployment.as_deref());
    decide(&Seen {
        generation: service.metadata.generation,
        target: desired.map(|desired| desired.revision.as_str()),
        problem,
        deployment,
        pods: entry.pods().collect(),
        from_events: look.said.as_ref(),
        not_in_effect: desired.map(|desired| desired.not_in_effect.clone()).unwrap_or_default(),
        rollout: match course {
            Some(course) => course.rollout.as_ref(),
            // Gateways go on by it.
            None => service.status.as_ref().and_then(|status| status.rollout.as_ref()),
        },
        is_stopped: desired::is_stopped(service),
        url: desired.and_then(|desired| desired.url.clone()),
        selector: desired.and_then(|desired| desired.selector.clone()),
        before: service.status.as_ref(),
        now: Timestamp::now(),
    })
}

/// Applies what is not as wanted and deletes what is not wanted any more. Returns what a person has
/// to mend although all requests went well.
async fn apply_all(
    ctx: &Ctx,
    key: &ResourceKey,
    (service, entry): (&ModelService, &Entry),
    desired: &Desired,
    in_use: &[String],
) -> Result<Option<Problem>, CallError> {
    let (of, revision) = ((service, entry), &desired.revision);
    history::keep(&ctx.calls, &ctx.world, &ctx.metrics, key, of, revision, in_use).await?;
    let uid = service.metadata.uid.as_deref().unwrap_or_default();
    let mut problem = None;
    for wanted in &desired.objects {
        if let Some(conflict) = ensure(ctx, key, uid, wanted).await? {
            problem.get_or_insert(conflict);
        }
    }
    for child in &entry.children {
        let is_wanted =
            desired.objects.iter().any(|w| w.kind == child.kind && w.name == *child.name);
        // Only what is ours: another owner's object with our label is its own affair.
        if is_wanted || child.is_ending || child.owner.as_deref() != Some(uid) {
            continue;
        }
        ctx.calls.delete(key, child.kind, &child.name, &child.uid).await?;
        let kind = kinds::owned(child.kind).kind;
        ctx.metrics.wrote(kind, "delete");
        tracing::info!(kind, name = &*child.name, "deleted what is not wanted any more");
        ctx.world.remove(key, Source::Children(child.kind), &child.name, child.resource_version);
    }
    Ok(problem)
}

/// Applies an object if it is not as wanted. A problem means that it is somebody else's.
pub(crate) async fn ensure(
    ctx: &Ctx,
    key: &ResourceKey,
    uid: &str,
    wanted: &Wanted,
) -> Result<Option<Problem>, CallError> {
    let content = (&wanted.body, &wanted.leaves, wanted.digest);
    let owned = kinds::owned(wanted.kind);
    let known = ctx.world.compare(key, (wanted.kind, &wanted.name), content);
    match &known {
        Some((_, child)) if !may_be_ours(child.owner.as_deref()) => {
            return Ok(Some(name_conflict(key, wanted)));
        }
        // It is on its way out, such as by a deletion in the foreground: its end wakes us.
        Some((_, child)) if child.is_ending => return Ok(None),
        Some((Standing::AsWanted, _)) => return Ok(None),
        Some((Standing::Drifted(paths), _)) => {
            tracing::info!(
                kind = owned.kind,
                name = wanted.name,
                ?paths,
                "repairs what was changed"
            );
            ctx.metrics.repaired(owned.plural);
            let paths = paths.iter().take(3).map(|path| format!("`{path}`")).collect::<Vec<_>>();
            let note = format!(
                "{} `{}` was changed at {}, and is as wanted again",
                owned.kind,
                wanted.name,
                paths.join(", ")
            );
            let news = News { is_warning: false, reason: "DriftRepaired".into(), note };
            ctx.announcer.announce(key, uid, news);
        }
        Some((Standing::Outdated, _)) => {}
        None => {
            // Not of ours as far as we can see. An apply would make it so, and delete it one day.
            if let Some(there) = ctx.calls.look_up(key, wanted.kind, &wanted.name).await? {
                let is_labelled =
                    there.labels.as_ref().is_some_and(|l| l.contains_key(MANAGED_BY_LABEL));
                let owner = owner_uid(&there, (key.kind, &key.name));
                let is_ours = may_be_ours(owner.as_deref()) && (owner.is_some() || is_labelled);
                if !is_ours {
                    return Ok(Some(name_conflict(key, wanted)));
                }
            }
        }
    }
    hand_over_replicas(ctx, key, wanted, known.as_ref().map(|(_, child)| child)).await?;
    let object = match ctx.calls.apply(key, wanted.kind, &wanted.name, &wanted.body).await {
        Err(CallError::Gone { .. }) if owned.is_custom => return Ok(Some(api_is_gone(wanted))),
        applied => applied?,
    };
    ctx.metrics.wrote(owned.kind, "apply");
    tracing::debug!(kind = owned.kind, name = wanted.name, "applied");
    let Some(child) = Child::of(wanted.kind, key, &object) else {
        return Ok(None);
    };
    let odd = ctx.world.settle(key, child, content);
    if !odd.is_empty() {
        tracing::debug!(kind = owned.kind, name = wanted.name, paths = ?odd, "the API server writes it differently");
    }
    Ok(None)
}

fn name_conflict(key: &ResourceKey, wanted: &Wanted) -> Problem {
    let (kind, name) = (kinds::owned(wanted.kind).kind, &wanted.name);
    let message = format!(
        "a {kind} `{name}` exists that is not of this {of}; delete or rename it, or give the {of} another name",
        of = key.kind.kind()
    );
    Problem { reason: Reason::NameConflict, message }
}

/// The kind's definition was removed since the operator started.
fn api_is_gone(wanted: &Wanted) -> Problem {
    let owned = kinds::owned(wanted.kind);
    let message = format!(
        "the API `{}` of the {} `{}` is gone; install it again, or restart the operator to do without it",
        owned.api_version(),
        owned.kind,
        wanted.name
    );
    Problem { reason: Reason::NotSupported, message }
}

/// Before an apply that leaves `replicas` to an autoscaler: somebody must own them, or the API
/// server resets them to one.
async fn hand_over_replicas(
    ctx: &Ctx,
    key: &ResourceKey,
    wanted: &Wanted,
    known: Option<&Child>,
) -> Result<(), CallError> {
    let Some(deployment) = known.and_then(|child| child.deployment.as_deref()) else {
        return Ok(());
    };
    let leaves_them = wanted.body.pointer("/spec/replicas").is_none_or(Value::is_null);
    if !deployment.replicas_are_ours || !leaves_them || deployment.wanted == 0 {
        return Ok(());
    }
    ctx.calls.hand_over_replicas(key, wanted.kind, &wanted.name, deployment.wanted).await?;
    ctx.metrics.wrote(kinds::owned(wanted.kind).kind, "apply");
    Ok(())
}

/// Writes the status if it says something new, and announces what is news.
async fn tell(
    ctx: &Ctx,
    key: &ResourceKey,
    service: &ModelService,
    status: ModelServiceStatus,
) -> Result<(), CallError> {
    let uid = service.metadata.uid.as_deref().unwrap_or_default();
    let before = service.status.as_ref();
    let is_same = before.is_some_and(|before| {
        let rest = ModelServiceStatus { conditions: status.conditions.clone(), ..before.clone() };
        rest == status && are_there(&before.conditions, &status.conditions)
    });
    if is_same {
        return Ok(());
    }
    match ctx.calls.apply_status(key, uid, &status).await {
        Ok(written) => {
            ctx.metrics.wrote(key.kind.kind(), "status");
            let told = before.map(|status| status.conditions.as_slice()).unwrap_or_default();
            for news in news(told, &status.conditions) {
                ctx.announcer.announce(key, uid, news);
            }
            let mut written: ModelService = written;
            strip(&mut written.metadata);
            ctx.world.settle_resource(key, written);
            Ok(())
        }
        Err(CallError::Gone { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Says of a resource that cannot be read that it cannot be read.
pub(crate) async fn tell_unreadable(
    ctx: &Ctx,
    key: &ResourceKey,
    error: &str,
) -> Result<Ended, CallError> {
    let raw = match ctx.calls.raw(key).await {
        Ok(raw) => raw,
        Err(CallError::Gone { .. }) => return Ok(Ended::Settled),
        Err(error) => return Err(error),
    };
    // The reader of manifests says where; the type's own error does not.
    let found = problems(key, raw.metadata.annotations.as_ref(), &raw.data["spec"]);
    let error = found.as_deref().unwrap_or(error);
    let message = format!("the resource cannot be read: {error}; correct it with `kubectl edit`");
    let problem = Problem { reason: Reason::InvalidSpec, message };
    let before: Vec<_> = raw.data["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|condition| serde_json::from_value(condition.clone()).ok())
        .collect();
    let conditions = stalled_only(&before, &problem, raw.metadata.generation, Timestamp::now());
    if conditions == before {
        return Ok(Ended::Settled);
    }
    let conditions = serde_json::to_value(&conditions).unwrap_or_default();
    let (version, generation) = (raw.metadata.resource_version, raw.metadata.generation);
    ctx.calls.set_raw_conditions(key, version, &conditions, generation).await?;
    ctx.metrics.wrote(key.kind.kind(), "status");
    let news =
        News { is_warning: true, reason: problem.reason.as_str().into(), note: problem.message };
    ctx.announcer.announce(key, raw.metadata.uid.as_deref().unwrap_or_default(), news);
    Ok(Ended::Settled)
}

/// What warnings say now, and when to look again.
#[derive(Debug, Default)]
struct Looked {
    said: Option<Trouble>,
    again_in: Option<Duration>,
}

impl Looks {
    fn forget(&self, key: &ResourceKey) {
        self.lock().remove(key);
    }

    /// Reads the warnings about the oldest pod that is not ready and does not say why, if it is
    /// time to.
    async fn look(
        &self,
        ctx: &Ctx,
        key: &ResourceKey,
        entry: &Entry,
        desired: Option<&Desired>,
    ) -> Looked {
        let target = desired.map(|desired| desired.revision.as_str());
        let silent = |pod: &&PodFacts| {
            pod.is_replica()
                && !pod.ready
                && pod.trouble.is_none()
                && pod.revision.as_deref() == target
        };
        let Some(pod) = entry.pods().filter(silent).min_by_key(|pod| (pod.created, &pod.name))
        else {
            self.forget(key);
            return Looked::default();
        };
        let age = Timestamp::now().as_second().saturating_sub(pod.created);
        let age = Duration::from_secs(u64::try_from(age).unwrap_or(0));
        let before = self.lock().get(key).filter(|look| look.pod == pod.name).cloned();
        let mut look = before.unwrap_or_else(|| Look {
            pod: pod.name.clone(),
            next_at: FIRST_LOOK,
            said: None,
        });
        if age >= look.next_at {
            // The status must not wait for what only adds to it.
            let warnings = ctx.calls.warnings(key, ("Pod", &pod.name)).await.unwrap_or_else(|error| {
                tracing::debug!(error = %Chain(&error), "no warnings about a pod that does not serve");
                Vec::new()
            });
            look.said =
                warnings.iter().find_map(|(reason, note)| of_event(&pod.name, reason, note));
            look.next_at = age + age.clamp(FIRST_LOOK, LONGEST_LOOK);
        }
        let looked = Looked {
            said: look.said.clone(),
            again_in: Some(look.next_at.saturating_sub(age).max(Duration::from_secs(1))),
        };
        self.lock().insert(key.clone(), look);
        looked
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ResourceKey, Look>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
