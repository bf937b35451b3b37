//! Reads what a rollout is decided from, and has it decided.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use trainyard_api::ModelService;
use trainyard_control::autoscale;
use trainyard_control::rollout::Observed;
use trainyard_plan::kubernetes::Track;
use trainyard_plan::{Plan, RevisionName, Rollout, Strategy};

use super::course::{Asked, Charted, Course, Memory, Side, chart};
use super::tracks::Seen;
use crate::cluster::CallError;
use crate::desired::compiled;
use crate::figures::Health;
use crate::history;
use crate::key::{Declared, ResourceKey};
use crate::kinds;
use crate::names::{CANDIDATE_SUFFIX, ROLLBACK_ANNOTATION};
use crate::pods::Reason;
use crate::reconcile::Ctx;
use crate::status::Problem;
use crate::world::Entry;

/// What earlier revisions consist of, for as long as a rollout needs them.
#[derive(Debug, Default)]
pub(crate) struct Contents(Mutex<HashMap<ResourceKey, BTreeMap<String, Arc<Value>>>>);

impl Contents {
    pub(crate) fn forget(&self, key: &ResourceKey) {
        self.lock().remove(key);
    }

    async fn of(
        &self,
        ctx: &Ctx,
        key: &ResourceKey,
        revision: &str,
    ) -> Result<Option<Arc<Value>>, CallError> {
        let known = self.lock().get(key).and_then(|all| all.get(revision)).cloned();
        if known.is_some() {
            return Ok(known);
        }
        let Some(content) = ctx.calls.release_content(key, revision).await? else {
            return Ok(None);
        };
        let content = Arc::new(content);
        self.lock().entry(key.clone()).or_default().insert(revision.to_owned(), content.clone());
        Ok(Some(content))
    }

    fn lock(
        &self,
    ) -> std::sync::MutexGuard<'_, HashMap<ResourceKey, BTreeMap<String, Arc<Value>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says what a service should have now. A problem is a person's to mend; until then nothing changes.
pub(crate) async fn steer(
    ctx: &Ctx,
    key: &ResourceKey,
    service: &ModelService,
    entry: &Entry,
    plan: &Plan,
) -> Result<Result<Course, Problem>, CallError> {
    let before = service.status.as_ref().and_then(|status| status.rollout.as_ref());
    let stored = before.and_then(Memory::read);
    let has_gateway = ctx.cluster.objects.gateway.is_some();
    let has_steps = !matches!(plan.rollout.strategy, Strategy::Rolling { .. });
    let is_under_way = stored.as_ref().is_some_and(Memory::is_under_way);
    let stable = see(entry, &key.name, false);
    let scales = has_gateway && is_scaled_by_requests(service, plan);
    if !scales {
        ctx.scalers.forget(key);
    }
    let impaired = impaired(ctx, scales || (has_gateway && has_steps));
    if !has_gateway || !(has_steps || is_under_way) {
        ctx.contents.forget(key);
        let followed =
            scales.then(|| ctx.scalers.follow(key, &plan.scaling, stable.ready, current(&stable)));
        let (replicas, scaled) = match followed {
            Some(followed) => (Some(followed.wanted), followed.news),
            None => (None, None),
        };
        let sides = vec![Side { plan: plan.clone(), track: Track::Stable { replicas } }];
        let (rollout, again_in, in_use) = (None, None, Vec::new());
        return Ok(Ok(Course { sides, rollout, again_in, in_use, scaled, impaired }));
    }

    let straight = Plan {
        rollout: Rollout {
            progress_deadline: plan.rollout.progress_deadline,
            sticky_header: plan.rollout.sticky_header.clone(),
            ..Rollout::straight()
        },
        ..plan.clone()
    };
    let plan = if is_way_back(service, plan) { &straight } else { plan };
    let mut memory = stored.unwrap_or_else(|| {
        let revision = template_revision(entry, &key.name).map(RevisionName::stored);
        Memory::starting(revision)
    });
    let mut plans = BTreeMap::from([(plan.revision.clone(), plan.clone())]);
    let asked_for = history::content_of(service);
    for name in memory.names() {
        if name == plan.revision {
            continue;
        }
        let content = ctx.contents.of(ctx, key, name.as_str()).await?;
        match content {
            // Only our own part of it differs, such as the image of a newer Trainyard. That is
            // rolled out replica by replica wherever the content is.
            Some(content) if *content == asked_for => memory.rename(&name, &plan.revision),
            Some(content) => match earlier(ctx, service, &content) {
                Ok(plan) => {
                    plans.insert(name, plan);
                }
                Err(why) => return Ok(Err(not_readable(&name, &why))),
            },
            None if memory.tracks.stable.as_ref() == Some(&name)
                || memory.tracks.candidate.as_ref() == Some(&name) =>
            {
                return Ok(Err(missing(&name)));
            }
            None => {}
        }
    }

    let mut stable = stable;
    if let Some(plan) = memory.tracks.stable.as_ref().and_then(|name| plans.get(name)) {
        // It changes over from the moment that it was decided, not only once it is applied.
        let template = template_revision(entry, &key.name);
        stable.is_whole &= template.as_deref() == Some(plan.revision.as_str());
    }
    let candidate = see(entry, &format!("{}{CANDIDATE_SUFFIX}", key.name), true);
    let evidence = |name: &RevisionName| ctx.loads.evidence(key, name.as_str());
    let revisions = memory.revisions(&stable, &candidate, evidence);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let keeps_stable = is_scaled_by_kubernetes(plan);
    let observed = |wanted: u32| Observed {
        rollout: &plan.rollout,
        target: &plan.revision,
        wanted,
        stable_stays: keeps_stable,
        revisions: &revisions,
        now,
    };
    let scaling = &plan.scaling;
    let least = scaling.min.max(u32::from(service.spec.replicas.is_none())).min(scaling.max);
    let (mut wanted, mut scaled) = (least, None);
    if scales {
        let before = memory.state.wanted().unwrap_or_else(|| current(&stable).unwrap_or(least));
        let autoscale::Replicas { ready, .. } = memory.state.replicas(&observed(before));
        let followed = ctx.scalers.follow(key, scaling, ready, Some(before));
        (wanted, scaled) = (followed.wanted, followed.news);
    }
    let floor = wanted;
    if keeps_stable && wanted > 0 {
        // What Kubernetes' autoscaler found is kept while the old revision's load falls.
        let kept = memory.state.wanted().filter(|_| memory.is_under_way()).unwrap_or(0);
        let seen = if stable.exists { stable.wanted } else { 0 };
        wanted = wanted.max(seen).max(kept).min(scaling.max.max(1));
    }
    let trouble = trouble(entry, &candidate);
    let Charted { memory, stable: of_stable, candidate: of_candidate, status, again_in } = chart(
        memory,
        &Asked {
            plan,
            stable: &stable,
            candidate: &candidate,
            revisions: &revisions,
            wanted,
            keeps_stable,
            trouble: trouble.as_deref(),
            before,
            now,
        },
    );

    let plan_of = |name: &RevisionName| plans.get(name).cloned();
    let mut sides = Vec::new();
    let on_stable = memory.tracks.stable.as_ref().unwrap_or(&plan.revision);
    let Some(side) = plan_of(on_stable) else { return Ok(Err(missing(on_stable))) };
    let replicas = match keeps_stable && !memory.is_under_way() {
        // Kubernetes' autoscaler is free again, above what requests need.
        true => (scales || floor == 0).then_some(floor),
        false => Some(of_stable),
    };
    sides.push(Side { plan: side, track: Track::Stable { replicas } });
    if let Some(name) = memory.tracks.candidate.as_ref().filter(|_| of_candidate > 0) {
        let Some(side) = plan_of(name) else { return Ok(Err(missing(name))) };
        sides.push(Side { plan: side, track: Track::Candidate { replicas: of_candidate } });
    }
    let in_use: Vec<String> = memory.names().iter().map(RevisionName::to_string).collect();
    ctx.loads.keep_revisions(key, &in_use);
    if !memory.is_under_way() && in_use.iter().all(|name| name == plan.revision.as_str()) {
        ctx.contents.forget(key);
    }
    Ok(Ok(Course { sides, rollout: Some(status), again_in, in_use, scaled, impaired }))
}

/// Whether a person went back to what the spec asks for now.
fn is_way_back(service: &ModelService, plan: &Plan) -> bool {
    let annotations = service.metadata.annotations.as_ref();
    annotations.and_then(|all| all.get(ROLLBACK_ANNOTATION)).map(String::as_str)
        == Some(plan.revision.as_str())
}

/// Whether requests decide how many replicas there are.
pub(crate) fn is_scaled_by_requests(service: &ModelService, plan: &Plan) -> bool {
    let scaling = &plan.scaling;
    let has_target = scaling.concurrency.is_some() || scaling.rps.is_some();
    service.spec.replicas.is_none() && (has_target || scaling.min == 0)
}

/// Whether a HorizontalPodAutoscaler has the stable Deployment's replicas.
fn is_scaled_by_kubernetes(plan: &Plan) -> bool {
    let scaling = &plan.scaling;
    (scaling.cpu.is_some() || scaling.memory.is_some()) && scaling.max > scaling.min.max(1)
}

fn current(stable: &Seen) -> Option<u32> {
    stable.exists.then_some(stable.wanted)
}

fn impaired(ctx: &Ctx, needs_figures: bool) -> Option<String> {
    if !needs_figures {
        return None;
    }
    match ctx.loads.health() {
        Health::Unreadable(why) => Some(format!(
            "what requests decide is not in effect, and nothing scales or is judged by them: {why}"
        )),
        Health::Whole | Health::Part | Health::Unknown => None,
    }
}

/// The plan of an earlier revision, by today's policies.
fn earlier(ctx: &Ctx, service: &ModelService, content: &Value) -> Result<Plan, String> {
    let service = history::with_content(service, content)?;
    compiled(&service, &ctx.cluster).map_err(|error| error.to_string())
}

fn not_readable(name: &RevisionName, why: &str) -> Problem {
    let message = format!(
        "revision `{name}`, whose replicas serve, has no plan any more: {why}; they stay as they are; set `spec.rollout.strategy: rolling` to replace them replica by replica"
    );
    Problem { reason: Reason::RevisionMissing, message }
}

fn missing(name: &RevisionName) -> Problem {
    let message = format!(
        "the ControllerRevision `{name}` is gone, which says what the replicas that serve consist of; they stay as they are; set `spec.rollout.strategy: rolling` to replace them replica by replica"
    );
    Problem { reason: Reason::RevisionMissing, message }
}

fn template_revision(entry: &Entry, name: &str) -> Option<String> {
    let kind = kinds::index_of("apps/v1", "Deployment")?;
    let deployment = entry.child(kind, name)?.deployment.as_deref()?;
    (!deployment.revision.is_empty()).then(|| deployment.revision.to_string())
}

/// What a track has.
fn see(entry: &Entry, deployment: &str, is_candidate: bool) -> Seen {
    let child =
        kinds::index_of("apps/v1", "Deployment").and_then(|kind| entry.child(kind, deployment));
    let facts =
        child.filter(|child| !child.is_ending).and_then(|child| child.deployment.as_deref());
    let mut seen = Seen {
        exists: child.is_some(),
        wanted: facts.map_or(0, |facts| facts.wanted),
        ..Seen::default()
    };
    for pod in entry.pods().filter(|pod| pod.is_candidate == is_candidate && !pod.ended) {
        if pod.ending {
            seen.ending += 1;
            continue;
        }
        seen.live += 1;
        seen.ready += u32::from(pod.ready);
        seen.crash_looping |=
            pod.trouble.as_ref().is_some_and(|trouble| trouble.reason == Reason::CrashLoop);
    }
    seen.is_whole = facts.is_some_and(|facts| {
        let is_new = facts.updated >= facts.wanted && facts.replicas <= facts.updated;
        facts.is_observed && is_new && facts.ready >= facts.wanted
    });
    seen
}

/// What is wrong with the candidate's replicas, for the record.
fn trouble(entry: &Entry, candidate: &Seen) -> Option<String> {
    if candidate.live == 0 {
        return None;
    }
    let found = entry
        .pods()
        .filter(|pod| pod.is_candidate && pod.is_replica())
        .filter_map(|pod| pod.trouble.as_deref())
        .min_by_key(|trouble| (trouble.reason, trouble.pod.clone()));
    found.map(|trouble| trouble.message(Declared::ModelService))
}

/// How long a reconcile may wait for the next look, of two wishes.
pub(crate) fn sooner(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    [one, other].into_iter().flatten().min()
}
