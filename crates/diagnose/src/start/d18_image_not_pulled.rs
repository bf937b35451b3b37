use crate::answer::Confidence;
use crate::diagnosis::diagnosis;
use crate::matching::has_any;
use crate::report::Report;
use crate::view::{Container, Pod, View};

diagnosis! {
    /// An image cannot be pulled, or is being pulled for very long
    ///
    /// ## Signature
    /// A container waits with `ErrImagePull`, `ImagePullBackOff`, `InvalidImageName` or
    /// `ErrImageNeverPull`; or an event `Pulling` is older than 10 minutes and nothing came after it.
    ///
    /// ## Cause
    /// By the registry's answer: no such tag, no login, no network, too many requests, no space on the
    /// node's disk, no image for the node's architecture.
    ///
    /// ## How to mend it
    /// By the cause. Images of ML frameworks have 5 to 20 GB: give nodes room for them, and keep them
    /// near.
    D18, Error,
    needs: [Pods, Events],
    rules: ["SRV16", "GPU26"],
    source: "kubernetes/kubernetes, kubelet images; containerd's messages",
    check: check,
}

/// Seconds after which a pull is long.
const LONG: i64 = 600;

const REASONS: [&str; 6] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
];

fn check(view: &View<'_>, report: &mut Report) {
    for pod in view.pods().iter().filter(|pod| !pod.has_ended() && !pod.object.is_ending()) {
        for container in pod.containers() {
            if REASONS.contains(&container.waiting_reason()) {
                cannot(view, pod, &container, report);
            } else if container.waiting_reason() == "ContainerCreating" {
                is_long(view, pod, &container, report);
            }
        }
    }
}

fn cannot<'a>(view: &View<'a>, pod: &Pod<'a>, container: &Container<'a>, report: &mut Report) {
    let events: Vec<_> = view
        .events_of(pod.object)
        .iter()
        .filter(|event| event.reason == "Failed" && event.message.contains(container.image()))
        .collect();
    // The back-off's message does not say why; the event does.
    let said: String = std::iter::once(container.waiting_message())
        .chain(events.iter().map(|event| event.message))
        .collect::<Vec<_>>()
        .join(" ");
    let (why, fix) = cause(container.waiting_reason(), &said);
    let image = container.image();
    let finding = report.at(
        pod.object.reference(),
        format!("the image `{image}` of container `{}` cannot be pulled: {why}", container.name()),
    );
    finding.field(pod.object, &container.path("/state/waiting/reason"));
    finding.field(pod.object, &container.path("/state/waiting/message"));
    if let Some(event) = events.iter().find(|event| !event.message.starts_with("Error: ")) {
        finding.event(event);
    }
    if why == OTHER {
        finding.sure(Confidence::Likely);
    }
    finding.field(pod.object, "/spec/imagePullSecrets");
    finding.advise(fix);
}

const OTHER: &str = "the registry or the runtime says no";

fn cause(reason: &str, said: &str) -> (&'static str, &'static str) {
    let says = |parts: &[&str]| has_any(said, parts);
    if reason == "InvalidImageName" {
        ("it is no valid name", "correct the image's name")
    } else if reason == "ErrImageNeverPull" {
        (
            "it is not on the node, and `imagePullPolicy` is `Never`",
            "load it into the node, or allow pulling",
        )
    } else if says(&["no space left"]) {
        ("the node's disk is full", "free the node's disk, or give nodes a larger one")
    } else if says(&["toomanyrequests", "too many requests", "rate limit"]) {
        ("the registry limits requests", "log in with `imagePullSecrets`, or mirror the image")
    } else if says(&["no match for platform"]) {
        (
            "it has no variant for the node's architecture",
            "use an image for the architecture, or select nodes with `kubernetes.io/arch`",
        )
    } else if says(&[
        "unauthorized",
        "authentication required",
        "access forbidden",
        "403 forbidden",
        "401 ",
        "pull access denied",
        "denied:",
        "insufficient_scope",
    ]) {
        (
            "the registry asks for a login, or there is no such repository",
            "name a Secret with the login in `imagePullSecrets`, or correct the repository",
        )
    } else if says(&["not found", "manifest unknown", "404"]) {
        ("there is no such image or tag", "correct the tag, or push the image")
    } else if says(&[
        "no such host",
        "i/o timeout",
        "connection refused",
        "connection reset",
        "deadline exceeded",
        "temporary failure in name resolution",
        "network is unreachable",
        "dial tcp",
        "failed to do request",
        "server misbehaving",
    ]) {
        (
            "the node does not reach the registry",
            "let nodes reach the registry (DNS, proxy, firewall), or mirror the image",
        )
    } else if says(&["x509", "certificate"]) {
        ("the registry's certificate is not trusted", "give the node's runtime the registry's CA")
    } else {
        (OTHER, "do what the message says")
    }
}

fn is_long<'a>(view: &View<'a>, pod: &Pod<'a>, container: &Container<'a>, report: &mut Report) {
    let events = view.events_of(pod.object);
    // The newest event about the container is the start of its pull.
    let newest = events.iter().find(|event| event.container() == container.name());
    let Some(event) = newest.filter(|event| event.reason == "Pulling") else { return };
    let Some(age) =
        view.now.map(|now| now.saturating_sub(event.last_seen)).filter(|age| *age > LONG)
    else {
        return;
    };
    let finding = report.at(
        pod.object.reference(),
        format!("the image `{}` is being pulled for {} minutes", container.image(), age / 60),
    );
    finding.sure(Confidence::Likely);
    finding.event(event);
    finding.field(pod.object, &container.path("/state/waiting/reason"));
    finding.advise("keep large images in a registry near the nodes, or on the nodes beforehand");
}
