use crate::context::Context;
use crate::model::Object;
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// A priority for which no node is added
    ///
    /// ## What it does
    /// Looks at PriorityClasses with a value below -10.
    ///
    /// ## Why it matters
    /// Cluster Autoscaler calls pods below -10 expendable: it neither adds nodes for them nor keeps
    /// nodes because of them. Jobs of this class stay Pending until somebody else's node has room.
    ///
    /// ## How to fix it
    /// Use a value from -10 to -1 for what shall yield to all others and still have nodes, or set
    /// `--expendable-pods-priority-cutoff`.
    SCL15, Warning,
    evidence: "kubernetes/autoscaler cluster-autoscaler/FAQ.md: how does Cluster Autoscaler work with Pod Priority and Preemption",
    check: Check::Objects(&["PriorityClass"], check),
    examples: [
        Example::bad("far below", "\
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: batch}
value: -100
", &[4]),
        Example::good("just above", "\
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: batch}
value: -10
"),
    ],
}

/// Cluster Autoscaler's `--expendable-pods-priority-cutoff`.
const CUTOFF: i64 = -10;

fn check(_: &Context<'_>, object: &Object<'_>, report: &mut Report) {
    let value = object.root.get("value");
    let Some(number) = value.int().filter(|number| *number < CUTOFF) else { return };
    if !object.is("scheduling.k8s.io", "PriorityClass") {
        return;
    }
    report
        .at(
            value,
            format!(
                "no node is added for pods of priority {number}: below {CUTOFF} Cluster Autoscaler calls them expendable, and they stay Pending"
            ),
        )
        .fix("use a value from -10 to -1");
}
