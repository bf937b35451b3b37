//! Pods and their containers, with what became of them.

use std::collections::BTreeMap;

use serde_json::Value;
use trainyard_rules::Quantity;

use super::{Object, is_gpu_resource, list, number, seconds, text};
use crate::schedule::requests;

#[derive(Clone)]
pub(crate) struct Pod<'a> {
    pub(crate) object: Object<'a>,
}

/// A container's spec and status.
#[derive(Clone, Copy)]
pub(crate) struct Container<'a> {
    pub(crate) spec: &'a Value,
    /// Null if there is none yet.
    pub(crate) status: &'a Value,
    /// Where its status stands in the pod, as a pointer.
    pub(crate) list: &'static str,
    pub(crate) index: usize,
}

impl<'a> Pod<'a> {
    pub(crate) fn new(object: Object<'a>) -> Self {
        Self { object }
    }

    pub(crate) fn node_name(&self) -> &'a str {
        self.object.text("/spec/nodeName")
    }

    pub(crate) fn phase(&self) -> &'a str {
        self.object.text("/status/phase")
    }

    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.phase(), "Succeeded" | "Failed")
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.object.condition_status("Ready") == "True"
    }

    pub(crate) fn is_gated(&self) -> bool {
        !self.object.list("/spec/schedulingGates").is_empty()
    }

    /// The scheduler has not found a node for it.
    pub(crate) fn is_waiting_for_node(&self) -> bool {
        self.node_name().is_empty()
            && !self.has_ended()
            && !self.object.is_ending()
            && !self.is_gated()
    }

    pub(crate) fn requests(&self) -> BTreeMap<String, Quantity> {
        requests::of_pod(self.object.at("/spec").unwrap_or(&Value::Null))
    }

    /// GPU resources that it asks for.
    pub(crate) fn gpus(&self) -> Vec<(String, Quantity)> {
        self.requests()
            .into_iter()
            .filter(|(name, count)| is_gpu_resource(name) && !count.is_zero())
            .collect()
    }

    /// Init containers and containers.
    pub(crate) fn containers(&self) -> Vec<Container<'a>> {
        let mut all = Vec::new();
        let lists = [
            ("/spec/initContainers", "/status/initContainerStatuses"),
            ("/spec/containers", "/status/containerStatuses"),
        ];
        for (specs, statuses) in lists {
            for spec in self.object.list(specs) {
                let found = self
                    .object
                    .list(statuses)
                    .iter()
                    .enumerate()
                    .find(|(_, status)| text(status, "/name") == text(spec, "/name"));
                let (index, status) = found.unwrap_or((0, &Value::Null));
                all.push(Container { spec, status, list: statuses, index });
            }
        }
        all
    }
}

impl<'a> Container<'a> {
    pub(crate) fn name(&self) -> &'a str {
        text(self.spec, "/name")
    }

    pub(crate) fn image(&self) -> &'a str {
        text(self.spec, "/image")
    }

    /// Why it waits, `CrashLoopBackOff` and the like; empty if it does not.
    pub(crate) fn waiting_reason(&self) -> &'a str {
        text(self.status, "/state/waiting/reason")
    }

    pub(crate) fn waiting_message(&self) -> &'a str {
        text(self.status, "/state/waiting/message")
    }

    pub(crate) fn restarts(&self) -> i64 {
        number(self.status, "/restartCount").unwrap_or(0)
    }

    /// How it ended last, and where that stands in its status.
    pub(crate) fn ended(&self) -> Option<(&'a Value, &'static str)> {
        ["/state/terminated", "/lastState/terminated"]
            .into_iter()
            .find_map(|at| Some((self.status.pointer(at)?, at)))
            .filter(|(ended, _)| ended.is_object())
    }

    pub(crate) fn exit_code(&self) -> Option<i64> {
        self.ended().and_then(|(ended, _)| number(ended, "/exitCode"))
    }

    /// It ended with an error, and is not up again.
    pub(crate) fn has_failed(&self) -> bool {
        let is_up = self.status.pointer("/ready") == Some(&Value::Bool(true));
        !is_up
            && (self.exit_code().is_some_and(|code| code != 0)
                || self.waiting_reason() == "CrashLoopBackOff")
    }

    /// It failed, or did so within the last ten minutes and is up again: without a readiness probe a
    /// container counts as ready while it works towards its next failure.
    pub(crate) fn failed_lately(&self, now: Option<i64>) -> bool {
        const LATELY: i64 = 600;
        let ended = self.status.pointer("/lastState/terminated");
        let code = ended.and_then(|it| number(it, "/exitCode")).unwrap_or(0);
        let when = ended.and_then(|it| seconds(text(it, "/finishedAt")));
        let is_recent = now.zip(when).is_some_and(|(now, when)| now.saturating_sub(when) < LATELY);
        self.has_failed() || code != 0 && is_recent
    }

    /// The pointer of its status in the pod.
    pub(crate) fn path(&self, rest: &str) -> String {
        format!("{}/{}{rest}", self.list, self.index)
    }

    /// Of its own limits and requests.
    pub(crate) fn resource(&self, list: &str, name: &str) -> Option<&'a Value> {
        self.spec.pointer("/resources")?.get(list)?.get(name)
    }

    pub(crate) fn env(&self, name: &str) -> Option<&'a str> {
        let found = list(self.spec, "/env").iter().find(|it| text(it, "/name") == name)?;
        found.get("value").and_then(Value::as_str)
    }
}
