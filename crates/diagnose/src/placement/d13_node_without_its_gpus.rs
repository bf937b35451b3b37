use crate::answer::Confidence;
use crate::diagnosis::diagnosis;
use crate::report::Report;
use crate::view::{View, text};

diagnosis! {
    /// A GPU node has been up for more than 15 minutes without its GPUs
    ///
    /// ## Signature
    /// The node is ready, a label says that it has GPUs, it advertises none, it is older than 15
    /// minutes, and a startup taint still stands or a driver is still being installed.
    ///
    /// ## Cause
    /// Installing the driver takes longer than usual or has stopped; what should take the startup taint
    /// off did not.
    ///
    /// ## How to mend it
    /// Look at the driver's pod; D44 to D47 tell the cases in which something failed.
    D13, Warning,
    needs: [Nodes, Pods],
    yields_to: ["D44", "D45", "D46", "D47"],
    source: "NVIDIA/gpu-operator, states of a node; judgement for 15 minutes",
    check: check,
}

/// Seconds after which a node should have its driver.
const LATE: i64 = 15 * 60;

fn check(view: &View<'_>, report: &mut Report) {
    for node in view.nodes() {
        let Some((label, value)) = node.gpu_sign() else { continue };
        let age = view.age(node.object.created());
        if node.gpus().next().is_some() || !node.is_ready() || age.is_none_or(|age| age < LATE) {
            continue;
        }
        let startup: Vec<&str> = node
            .taints()
            .map(|taint| text(taint, "/key"))
            .filter(|key| {
                let key = key.to_ascii_lowercase();
                ["not-ready", "uninitialized", "startup", "not-initialized", "agent-not-ready"]
                    .iter()
                    .any(|word| key.contains(word))
                    && key != "node.kubernetes.io/not-ready"
            })
            .collect();
        let driver = view
            .pods_on(node.name())
            .iter()
            .find(|pod| crate::node::operand(pod) == Some("driver") && !pod.is_ready());
        if startup.is_empty() && driver.is_none() {
            continue;
        }
        let minutes = age.unwrap_or(0) / 60;
        let finding = report.at(
            node.object.reference(),
            format!("is up for {minutes} minutes and advertises no GPU, though it has some"),
        );
        finding.sure(Confidence::Likely);
        finding.value(node.object, &format!("metadata.labels.{label}"), value);
        finding.field(node.object, "/metadata/creationTimestamp");
        if let Some(taint) = startup.first() {
            finding.because(format!("the startup taint `{taint}` still stands"));
            finding.field(node.object, "/spec/taints");
        }
        if let Some(driver) = driver {
            let pod = driver.object.reference();
            finding.field(driver.object, "/status/phase");
            finding.run(format!(
                "kubectl -n {} logs {} --all-containers --tail 50",
                pod.namespace, pod.name
            ));
        } else {
            finding.run(format!("kubectl describe node {}", node.name()));
        }
    }
}
