//! What is known of other systems.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use trainyard_control::handover::Installed;
use trainyard_plan::QueueSystem;

use super::group::{Group, JobRef};
use crate::key::{Declared, ResourceKey};

/// Cheap to clone: all clones are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Elsewhere {
    shared: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    installed: BTreeSet<QueueSystem>,
    /// Namespace, which is empty for those of the whole cluster, and name.
    queues: BTreeSet<(QueueSystem, String, String)>,
    /// Kueue's names of priorities, and their values.
    priorities: BTreeMap<String, i64>,
    groups: HashMap<JobRef, Group>,
    /// Which Job an object of theirs is about, by namespace and name.
    objects: HashMap<(QueueSystem, Box<str>, Box<str>), JobRef>,
}

impl Elsewhere {
    pub(super) fn set_installed(&self, system: QueueSystem) {
        self.lock().installed.insert(system);
    }

    /// Which systems there are, and which of them has a queue for jobs of that namespace.
    pub(crate) fn installed(&self, namespace: &str, queue: &str) -> Vec<Installed> {
        let state = self.lock();
        let has = |system: QueueSystem| {
            ["", namespace]
                .iter()
                .any(|it| state.queues.contains(&(system, (*it).to_owned(), queue.to_owned())))
        };
        let all = state.installed.iter();
        all.map(|system| Installed { system: *system, has_queue: has(*system) }).collect()
    }

    /// What Kueue calls a priority; of several names the first.
    pub(crate) fn priority_class(&self, priority: i32) -> Option<String> {
        let state = self.lock();
        let mut all = state.priorities.iter();
        all.find(|(_, value)| **value == i64::from(priority)).map(|(name, _)| name.clone())
    }

    /// What is said of a Job.
    pub(crate) fn group(&self, namespace: &str, name: &str, uid: &str) -> Option<Group> {
        let job = |uid: Option<&str>| JobRef {
            namespace: namespace.into(),
            name: name.into(),
            uid: uid.map(Box::from),
        };
        let state = self.lock();
        let found = state.groups.get(&job(Some(uid))).or_else(|| state.groups.get(&job(None)));
        found.cloned()
    }

    /// Takes in a queue, or that it is gone; true if that is news.
    pub(super) fn put_queue(
        &self,
        system: QueueSystem,
        (namespace, name): (&str, &str),
        is_there: bool,
    ) -> bool {
        let queue = (system, namespace.to_owned(), name.to_owned());
        let mut state = self.lock();
        if is_there { state.queues.insert(queue) } else { state.queues.remove(&queue) }
    }

    /// Forgets the queues that a complete list of a namespace, or of all, did not have.
    pub(super) fn keep_queues(
        &self,
        system: QueueSystem,
        namespace: Option<&str>,
        listed: &BTreeSet<(String, String)>,
    ) {
        let is_elsewhere = |of: &str| namespace.is_some_and(|namespace| namespace != of);
        self.lock().queues.retain(|(of, home, name)| {
            *of != system || is_elsewhere(home) || listed.contains(&(home.clone(), name.clone()))
        });
    }

    pub(super) fn put_priority(&self, name: &str, value: Option<i64>) {
        let mut state = self.lock();
        match value {
            Some(value) => state.priorities.insert(name.to_owned(), value),
            None => state.priorities.remove(name),
        };
    }

    pub(super) fn keep_priorities(&self, listed: &BTreeSet<(String, String)>) {
        let is_listed = |name: &str| listed.iter().any(|(_, it)| it == name);
        self.lock().priorities.retain(|name, _| is_listed(name));
    }

    /// Takes in what is said of a Job, or that nothing is any more. Returns the training job to wake,
    /// if it is news and may be of one.
    pub(super) fn put_group(
        &self,
        system: QueueSystem,
        (namespace, name): (&str, &str),
        said: Option<(JobRef, Group)>,
    ) -> Option<ResourceKey> {
        let mut state = self.lock();
        let object = (system, Box::from(namespace), Box::from(name));
        let job = match said {
            Some((job, group)) => {
                state.objects.insert(object, job.clone());
                if state.groups.insert(job.clone(), group.clone()) == Some(group) {
                    return None;
                }
                job
            }
            None => {
                let job = state.objects.remove(&object)?;
                state.groups.remove(&job);
                job
            }
        };
        training_job(&job)
    }

    /// Forgets the groups that a complete list did not have.
    pub(super) fn keep_groups(
        &self,
        system: QueueSystem,
        namespace: Option<&str>,
        listed: &BTreeSet<(String, String)>,
    ) -> Vec<ResourceKey> {
        let gone: Vec<(Box<str>, Box<str>)> = {
            let state = self.lock();
            let of = state.objects.keys().filter(|(of, home, _)| {
                *of == system && namespace.is_none_or(|namespace| *namespace == **home)
            });
            let is_listed =
                |home: &str, name: &str| listed.contains(&(home.to_owned(), name.to_owned()));
            let gone = of.filter(|(_, home, name)| !is_listed(home, name));
            gone.map(|(_, home, name)| (home.clone(), name.clone())).collect()
        };
        let gone = gone.iter();
        gone.filter_map(|(home, name)| self.put_group(system, (home, name), None)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The training job that a Job may be a start of, by its name `NAME-ATTEMPT`.
fn training_job(job: &JobRef) -> Option<ResourceKey> {
    let (name, attempt) = job.name.rsplit_once('-')?;
    attempt.parse::<u32>().ok()?;
    Some(ResourceKey::new(Declared::TrainingJob, &job.namespace, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elsewhere::Said;

    fn job(name: &str, uid: Option<&str>) -> JobRef {
        JobRef { namespace: "ml".into(), name: name.into(), uid: uid.map(Box::from) }
    }

    fn waits(message: &str) -> Group {
        let waiting = Said { reason: "Pending".into(), message: message.into() };
        Group { waiting: Some(waiting), ..Group::default() }
    }

    #[test]
    fn queues_of_a_namespace_and_of_all() {
        let all = Elsewhere::default();
        all.set_installed(QueueSystem::Kueue);
        all.set_installed(QueueSystem::Volcano);
        assert!(all.put_queue(QueueSystem::Kueue, ("ml", "a"), true));
        assert!(!all.put_queue(QueueSystem::Kueue, ("ml", "a"), true));
        all.put_queue(QueueSystem::Volcano, ("", "a"), true);
        let has = |namespace: &str| -> Vec<bool> {
            all.installed(namespace, "a").iter().map(|it| it.has_queue).collect()
        };
        assert_eq!((has("ml"), has("other")), (vec![true, true], vec![false, true]));
        all.keep_queues(QueueSystem::Kueue, Some("other"), &BTreeSet::new());
        assert_eq!(has("ml"), [true, true]);
        all.keep_queues(QueueSystem::Kueue, None, &BTreeSet::new());
        assert_eq!(has("ml"), [false, true]);
    }

    #[test]
    fn what_is_said_wakes_once() {
        let all = Elsewhere::default();
        let put = |group: Group| {
            let said = Some((job("digits-2", Some("u")), group));
            all.put_group(QueueSystem::Kueue, ("ml", "job-digits-2-x"), said)
        };
        let key = ResourceKey::new(Declared::TrainingJob, "ml", "digits");
        assert_eq!(put(waits("no room")), Some(key.clone()));
        assert_eq!(put(waits("no room")), None);
        assert_eq!(all.group("ml", "digits-2", "u"), Some(waits("no room")));
        // Another Job of that name is not what was spoken of.
        assert_eq!(all.group("ml", "digits-2", "v"), None);
        assert_eq!(all.keep_groups(QueueSystem::Kueue, None, &BTreeSet::new()), [key]);
        assert_eq!(all.group("ml", "digits-2", "u"), None);
        let said = Some((job("digits-2", None), waits("gang")));
        all.put_group(QueueSystem::Volcano, ("ml", "digits-2"), said);
        assert_eq!(all.group("ml", "digits-2", "v"), Some(waits("gang")));
        let strange = Some((job("whatever", Some("u")), waits("")));
        assert_eq!(all.put_group(QueueSystem::Kueue, ("ml", "w"), strange), None);
    }

    #[test]
    fn priorities_have_names() {
        let all = Elsewhere::default();
        for (name, value) in [("b", 10), ("a", 10), ("low", -1)] {
            all.put_priority(name, Some(value));
        }
        assert_eq!(all.priority_class(10).as_deref(), Some("a"));
        assert_eq!(all.priority_class(11), None);
        all.put_priority("a", None);
        assert_eq!(all.priority_class(10).as_deref(), Some("b"));
    }
}
