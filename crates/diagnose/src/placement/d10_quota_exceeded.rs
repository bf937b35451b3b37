use crate::diagnosis::diagnosis;
use crate::matching::has_any;
use crate::report::Report;
use crate::view::View;

use super::d11_admission_denied::refusals;

diagnosis! {
    /// A ResourceQuota leaves no room for the pod
    ///
    /// ## Signature
    /// A controller cannot create a pod: `exceeded quota`, or `failed quota: … must specify`.
    ///
    /// ## Cause
    /// The namespace's pods use up the quota; or the quota counts a resource of which the pod does not
    /// say how much it needs.
    ///
    /// ## How to mend it
    /// End other pods, ask for less, raise the quota; or set the request that the quota counts.
    D10, Error,
    needs: [Events, Resource("resourcequotas")],
    rules: ["SCL06", "CST01"],
    source: "kubernetes/kubernetes, admission plugin ResourceQuota",
    check: check,
}

pub(super) fn is_quota(message: &str) -> bool {
    has_any(message, &["exceeded quota", "failed quota"])
}

fn check(view: &View<'_>, report: &mut Report) {
    for refusal in refusals(view).into_iter().filter(|it| is_quota(it.message)) {
        let quota = refusal
            .message
            .split_once("quota: ")
            .map_or("", |(_, rest)| rest.split([',', ':']).next().unwrap_or_default().trim());
        let unset = refusal.message.contains("must specify");
        let what = if unset {
            format!(
                "no pod is made: the quota `{quota}` counts a resource that the pod does not ask for"
            )
        } else {
            format!("no pod is made: the quota `{quota}` is used up")
        };
        let finding = report.at(refusal.subject.reference(), what);
        refusal.tell(finding);
        if let Some(quota) = view.find("ResourceQuota", refusal.subject.namespace(), quota) {
            finding.field(quota, "/status/used");
            finding.field(quota, "/status/hard");
        }
        let namespace = refusal.subject.namespace();
        if unset {
            finding.advise("set the requests (or limits) that the message names");
        } else {
            finding.run(format!("kubectl -n {namespace} describe resourcequota {quota}"));
            finding
                .advise("ask for less, end another pod of the namespace, or have the quota raised");
        }
    }
}
