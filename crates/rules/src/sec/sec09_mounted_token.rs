use crate::context::Context;
use crate::edit::Edit;
use crate::model::{Manager, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// Service account token in a model server
    ///
    /// ## What it does
    /// Looks at pods of known model servers that do not set `automountServiceAccountToken: false`,
    /// neither on the pod nor on their service account.
    ///
    /// Silent if the service account is not here (it may say so), has a role bound, or belongs to
    /// Ray, whose head asks the API server.
    ///
    /// ## Why it matters
    /// A model server never calls the API server. Code that gets into it (a model that runs code at
    /// load time, a flaw in the server) finds a token to start from.
    ///
    /// ## How to fix it
    /// Set `automountServiceAccountToken: false` in the pod's spec.
    SEC09, Hygiene,
    evidence: "kubernetes/website, concepts/security/rbac-good-practices: avoid mounting tokens that are not needed",
    check: Check::Pod(check),
    examples: [
        Example::bad("the default", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  restartPolicy: Always
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
", &[6]),
        Example::good("switched off", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  automountServiceAccountToken: false
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
"),
        Example::good("switched off on the service account", "\
apiVersion: v1
kind: ServiceAccount
metadata: {name: llm}
automountServiceAccountToken: false
---
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  serviceAccountName: llm
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
"),
        Example::good("an account from elsewhere", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  serviceAccountName: llm
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
"),
    ],
}

fn check(context: &Context<'_>, pod: &Pod<'_>, report: &mut Report) {
    if !pod.serves() || !pod.complete || pod.manager == Manager::Ray {
        return;
    }
    if pod.server().is_none() || pod.spec.get("automountServiceAccountToken").is_set() {
        return;
    }
    let name = pod.service_account();
    let account = context.bundle.find("ServiceAccount", pod.object.namespace, name, pod.spec);
    match account {
        Some(account) => {
            if account.root.get("automountServiceAccountToken").is_set()
                || context.bundle.is_bound(pod.object.namespace, name)
            {
                return;
            }
        }
        None if name != "default" => return,
        None => {
            if context.bundle.is_bound(pod.object.namespace, name) {
                return;
            }
        }
    }
    // Beside the server there may be one that calls the API server.
    let alone = pod.containers.len() == 1;
    let edit =
        if alone { Edit::insert(pod.spec, "automountServiceAccountToken", "false") } else { None };
    report
        .at(
            pod.spec.get("containers"),
            "code that gets into this server finds a token for the API server, which it never needs",
        )
        .fix("set `automountServiceAccountToken: false` in the pod's spec")
        .edit(edit);
}
