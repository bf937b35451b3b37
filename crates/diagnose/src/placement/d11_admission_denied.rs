use std::collections::BTreeSet;

use crate::answer::{Confidence, Finding};
use crate::diagnosis::diagnosis;
use crate::matching::{between, has_any};
use crate::report::Report;
use crate::view::{Event, Object, View, text};

diagnosis! {
    /// Admission refuses the pod
    ///
    /// ## Signature
    /// A controller cannot create a pod, and the API server's answer names a webhook, a policy, the
    /// namespace's Pod Security Standard, a LimitRange, or something that the pod needs and that is not
    /// there (RuntimeClass, ServiceAccount, PriorityClass).
    ///
    /// ## Cause
    /// The rule that is quoted. A webhook that cannot be called refuses everything if its
    /// `failurePolicy` is `Fail`.
    ///
    /// ## How to mend it
    /// Change what the rule objects to, or the rule; bring a webhook's server back.
    D11, Error,
    needs: [Events],
    rules: ["GPU17", "GPU23", "SEC05"],
    source: "kubernetes/kubernetes, admission plugins PodSecurity, ValidatingAdmissionPolicy, webhooks: their messages",
    check: check,
}

/// A controller that could not create a pod.
pub(super) struct Refusal<'v, 'a> {
    /// What a person wrote, and what was refused.
    pub(super) subject: Object<'a>,
    controller: Object<'a>,
    pub(super) message: &'a str,
    event: Option<&'v Event<'a>>,
    /// Where the message stands if there is no event.
    condition: Option<&'static str>,
}

impl Refusal<'_, '_> {
    pub(super) fn tell(&self, finding: &mut Finding) {
        match (self.event, self.condition) {
            (Some(event), _) => finding.event(event),
            (None, Some(name)) => finding.value(
                self.controller,
                &format!("status.conditions.{name}.message"),
                self.message,
            ),
            (None, None) => finding,
        };
    }
}

/// Objects that make pods.
const MAKERS: [&str; 6] =
    ["ReplicaSet", "Job", "StatefulSet", "DaemonSet", "ReplicationController", "Deployment"];

/// Refusals that stand: the maker is there and has fewer pods than it wants. One for each maker.
pub(super) fn refusals<'v, 'a>(view: &'v View<'a>) -> Vec<Refusal<'v, 'a>> {
    let mut refusals = Vec::new();
    let mut seen = BTreeSet::new();
    for event in view.events_about(&MAKERS).filter(|it| it.reason == "FailedCreate") {
        let Some(controller) = view.get(&event.about) else { continue };
        if is_satisfied(controller) || !seen.insert(event.about.clone()) {
            continue;
        }
        refusals.push(Refusal {
            subject: view.top(controller),
            controller,
            message: event.message,
            event: Some(event),
            condition: None,
        });
    }
    for kind in ["ReplicaSet", "Deployment"] {
        for controller in view.of_kind(kind) {
            let Some(condition) = controller.condition("ReplicaFailure") else { continue };
            let subject = view.top(*controller);
            let is_told = refusals
                .iter()
                .any(|it: &Refusal<'_, '_>| it.subject.reference() == subject.reference());
            if text(condition, "/status") == "True" && !is_told {
                refusals.push(Refusal {
                    subject,
                    controller: *controller,
                    message: text(condition, "/message"),
                    event: None,
                    condition: Some("ReplicaFailure"),
                });
            }
        }
    }
    refusals
}

fn is_satisfied(controller: Object<'_>) -> bool {
    let number = |at: &str| controller.number(at).unwrap_or(0);
    match controller.kind() {
        "Job" => {
            let wanted = controller.number("/spec/parallelism").unwrap_or(1);
            number("/status/active") >= wanted
                || !controller.text("/status/completionTime").is_empty()
        }
        "DaemonSet" => {
            number("/status/currentNumberScheduled") >= number("/status/desiredNumberScheduled")
        }
        _ => number("/status/replicas") >= controller.number("/spec/replicas").unwrap_or(1),
    }
}

fn check(view: &View<'_>, report: &mut Report) {
    for refusal in refusals(view) {
        let message = refusal.message;
        if super::d10_quota_exceeded::is_quota(message) {
            continue;
        }
        let Some((who, fix, sure)) = refuser(message) else { continue };
        let finding =
            report.at(refusal.subject.reference(), format!("no pod is made: {who} refuses it"));
        finding.sure(sure);
        refusal.tell(finding);
        if let Some(name) = between(message, "webhook \"", "\"")
            && let Some(configuration) = webhook(view, name)
        {
            finding.field(configuration, "/webhooks/0/clientConfig/service");
            finding.field(configuration, "/webhooks/0/failurePolicy");
        }
        finding.advise(fix);
    }
}

/// Who says no, and what to do.
fn refuser(message: &str) -> Option<(String, String, Confidence)> {
    let certain = |who: String, fix: &str| Some((who, fix.to_owned(), Confidence::Certain));
    if has_any(message, &["failed calling webhook"]) {
        let name = between(message, "webhook \"", "\"").unwrap_or("?");
        return certain(
            format!("the webhook `{name}` cannot be called, and so the API server"),
            "bring the webhook's Service and pods back, or set its `failurePolicy` to `Ignore`",
        );
    }
    if let Some(name) = between(message, "admission webhook \"", "\"") {
        return certain(
            format!("the webhook `{name}`"),
            "change what it objects to, or its policy",
        );
    }
    if let Some(name) = between(message, "ValidatingAdmissionPolicy '", "'") {
        return certain(
            format!("the policy `{name}`"),
            "change what it objects to, or the policy or its binding",
        );
    }
    if let Some(level) = between(message, "violates PodSecurity \"", "\"") {
        return certain(
            format!("the Pod Security Standard `{level}` of the namespace"),
            "set what the message asks for in the pod's securityContext",
        );
    }
    if let Some(name) = between(message, "RuntimeClass \"", "\"") {
        return certain(
            format!("the API server, for there is no RuntimeClass `{name}`,"),
            "make the RuntimeClass, or take `runtimeClassName` out",
        );
    }
    if let Some(name) = between(message, "serviceaccount \"", "\"") {
        return certain(
            format!("the API server, for there is no ServiceAccount `{name}`,"),
            "make the ServiceAccount, or correct `serviceAccountName`",
        );
    }
    if let Some(name) = between(message, "no PriorityClass with name ", " ") {
        return certain(
            format!("the API server, for there is no PriorityClass `{name}`,"),
            "make the PriorityClass, or correct `priorityClassName`",
        );
    }
    if has_any(message, &["usage per container", "usage per pod", "limit to request ratio"]) {
        return certain(
            "a LimitRange of the namespace".into(),
            "keep to the limits that the message names",
        );
    }
    // The API server finds the pod itself wrong, or something that is not known here says no.
    if has_any(message, &["forbidden", "is invalid", "denied"]) {
        return Some((
            "the API server".into(),
            "change what the message names".into(),
            Confidence::Likely,
        ));
    }
    None
}

fn webhook<'a>(view: &View<'a>, name: &str) -> Option<Object<'a>> {
    ["ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"].into_iter().find_map(
        |kind| {
            let has =
                |it: &&Object<'a>| it.list("/webhooks").iter().any(|it| text(it, "/name") == name);
            view.of_kind(kind).iter().find(has).copied()
        },
    )
}
