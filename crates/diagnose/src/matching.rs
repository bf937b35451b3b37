//! Signatures in logs.

use crate::answer::{Evidence, Finding};
use crate::report::shorten;
use crate::snapshot::LogTail;
use crate::view::{Container, Pod, View};

/// A line that says something, and whose it is.
pub(crate) struct Hit<'a> {
    pub(crate) pod: Pod<'a>,
    pub(crate) container: Container<'a>,
    pub(crate) tail: &'a LogTail,
    pub(crate) line: &'a str,
}

/// The last matching line of each container that has failed, of its run before or of now.
pub(crate) fn of_failed<'a>(view: &View<'a>, is: impl Fn(&str) -> bool) -> Vec<Hit<'a>> {
    find(view, is, |pod, container| container.failed_lately(view.now) || pod.phase() == "Failed")
}

/// The last matching line of each container, however it is.
pub(crate) fn of_any<'a>(view: &View<'a>, is: impl Fn(&str) -> bool) -> Vec<Hit<'a>> {
    find(view, is, |_, _| true)
}

fn find<'a>(
    view: &View<'a>,
    is: impl Fn(&str) -> bool,
    counts: impl Fn(&Pod<'a>, &Container<'a>) -> bool,
) -> Vec<Hit<'a>> {
    let mut hits = Vec::new();
    for pod in view.pods() {
        let logs = view.logs_of(pod);
        if logs.is_empty() {
            continue;
        }
        for container in pod.containers().into_iter().filter(|it| counts(pod, it)) {
            let own = logs.iter().filter(|tail| tail.container == container.name());
            let hit = own.filter_map(|tail| {
                let line = tail.lines.iter().rev().find(|line| is(line))?;
                Some((*tail, line.as_str()))
            });
            if let Some((tail, line)) = hit.last() {
                hits.push(Hit { pod: pod.clone(), container, tail, line });
            }
        }
    }
    hits
}

/// Whether a text has all of these parts, in any order and either case.
pub(crate) fn has_all(text: &str, parts: &[&str]) -> bool {
    let lower = text.to_ascii_lowercase();
    parts.iter().all(|part| lower.contains(part))
}

/// Whether a text has one of these parts, in either case.
pub(crate) fn has_any(text: &str, parts: &[&str]) -> bool {
    let lower = text.to_ascii_lowercase();
    parts.iter().any(|part| lower.contains(part))
}

/// The first word that stands between two texts.
pub(crate) fn between<'t>(text: &'t str, before: &str, after: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(before)?;
    Some(rest.split_once(after)?.0)
}

impl Finding {
    pub(crate) fn log(&mut self, tail: &LogTail, line: &str) -> &mut Self {
        self.evidence(Evidence::Log {
            namespace: tail.namespace.clone(),
            pod: tail.pod.clone(),
            container: tail.container.clone(),
            previous: tail.previous,
            line: shorten(line),
        })
    }

    pub(crate) fn hit(&mut self, hit: &Hit<'_>) -> &mut Self {
        self.log(hit.tail, hit.line)
    }

    /// How a container ended.
    pub(crate) fn ended(&mut self, pod: &Pod<'_>, container: &Container<'_>) -> &mut Self {
        let waiting = container.path("/state/waiting/reason");
        self.field(pod.object, &waiting);
        if let Some((_, at)) = container.ended() {
            let path = container.path(at);
            self.field(pod.object, &format!("{path}/exitCode"));
            self.field(pod.object, &format!("{path}/reason"));
        }
        self
    }
}
