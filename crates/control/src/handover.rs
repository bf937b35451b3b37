//! Decides who says when a job of a queue may start: Trainyard, or another system of the cluster.
//!
//! Where another system has a queue of the name that a job gives, it counts what others of the
//! cluster use, which Trainyard's own queues do not know of: so it goes first.

use trainyard_api::training_job::QueuedBy;
use trainyard_plan::QueueSystem;

/// Another system that is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Installed {
    pub system: QueueSystem,
    /// It has a queue of the job's name, as far as that can be seen.
    pub has_queue: bool,
}

/// A system that a job asks for and that the cluster does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the cluster did not serve `{}` when this operator started: install {} and restart the operator, or remove `spec.queuedBy`",
    .0.group(), .0.name()
)]
pub struct NotInstalled(pub QueueSystem);

/// Chooses for one job; none for Trainyard itself.
///
/// What the job asks for; else the first, in their own order, that is installed and has the queue;
/// else Trainyard.
pub fn choose(
    asked: Option<QueuedBy>,
    installed: &[Installed],
) -> Result<Option<QueueSystem>, NotInstalled> {
    match asked.map(QueueSystem::asked_for) {
        Some(None) => Ok(None),
        // Its queue may come later, and it says itself that there is none.
        Some(Some(system)) => match installed.iter().any(|it| it.system == system) {
            true => Ok(Some(system)),
            false => Err(NotInstalled(system)),
        },
        None => {
            let with_queue = installed.iter().filter(|it| it.has_queue);
            Ok(with_queue.map(|it| it.system).min())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(
        asked: Option<QueuedBy>,
        installed: &[(QueueSystem, bool)],
        expected: Result<Option<QueueSystem>, NotInstalled>,
    ) {
        let installed: Vec<Installed> = installed
            .iter()
            .map(|(system, has_queue)| Installed { system: *system, has_queue: *has_queue })
            .collect();
        assert_eq!(choose(asked, &installed), expected);
    }

    #[test]
    fn table() {
        use QueueSystem::{Kai, Kueue, Volcano};
        check(None, &[], Ok(None));
        check(None, &[(Kueue, false), (Volcano, false)], Ok(None));
        check(None, &[(Volcano, true)], Ok(Some(Volcano)));
        check(None, &[(Volcano, true), (Kai, true), (Kueue, true)], Ok(Some(Kueue)));
        check(None, &[(Volcano, true), (Kai, true), (Kueue, false)], Ok(Some(Kai)));
        check(Some(QueuedBy::Trainyard), &[(Kueue, true)], Ok(None));
        check(Some(QueuedBy::Volcano), &[(Kueue, true), (Volcano, false)], Ok(Some(Volcano)));
        check(Some(QueuedBy::Kai), &[(Kueue, true)], Err(NotInstalled(Kai)));
        let told = NotInstalled(Kueue).to_string();
        assert!(told.contains("`kueue.x-k8s.io`") && told.contains("install Kueue"), "{told}");
    }
}
