use crate::diagnosis::diagnosis;
use crate::matching::between;
use crate::report::Report;
use crate::view::View;

diagnosis! {
    /// A Secret, ConfigMap or key that a container needs is not there
    ///
    /// ## Signature
    /// A container waits with `CreateContainerConfigError`.
    ///
    /// ## Cause
    /// An environment variable comes from a Secret or ConfigMap, or a key of one, that does not exist
    /// in the pod's namespace. Often it is the token of a model hub.
    ///
    /// ## How to mend it
    /// Create what the message names, in the pod's namespace.
    D21, Error,
    needs: [Pods],
    rules: ["SRV13"],
    source: "kubernetes/kubernetes, kubelet: CreateContainerConfigError",
    check: check,
}

fn check(view: &View<'_>, report: &mut Report) {
    for pod in view.pods().iter().filter(|pod| !pod.has_ended()) {
        for container in pod.containers() {
            if container.waiting_reason() != "CreateContainerConfigError" {
                continue;
            }
            let message = container.waiting_message();
            let namespace = pod.object.namespace();
            let secret = between(message, "secret \"", "\"");
            let map = between(message, "configmap \"", "\"");
            // `couldn't find key token in Secret models/hf`.
            let key = between(message, "find key ", " in ");
            let (why, fix) = match (secret, map, key) {
                (Some(name), ..) => (
                    format!("there is no Secret `{name}`"),
                    Some(format!(
                        "kubectl -n {namespace} create secret generic {name} --from-literal=KEY=VALUE"
                    )),
                ),
                (_, Some(name), _) => (
                    format!("there is no ConfigMap `{name}`"),
                    Some(format!(
                        "kubectl -n {namespace} create configmap {name} --from-literal=KEY=VALUE"
                    )),
                ),
                (.., Some(key)) => {
                    let (_, of) = message.split_once(" in ").unwrap_or_default();
                    (format!("there is no key `{key}` in {of}"), None)
                }
                _ => ("its configuration cannot be made".to_owned(), None),
            };
            let finding = report.at(
                pod.object.reference(),
                format!("container `{}` cannot be set up: {why}", container.name()),
            );
            finding.field(pod.object, &container.path("/state/waiting/reason"));
            finding.field(pod.object, &container.path("/state/waiting/message"));
            match fix {
                Some(command) => finding.run(command),
                None => finding.advise("create what the message names"),
            };
        }
    }
}
