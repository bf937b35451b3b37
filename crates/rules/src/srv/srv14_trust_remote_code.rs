use crate::context::Context;
use crate::model::{Container, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// Code of the model's repository may run
    ///
    /// ## What it does
    /// Looks for `--trust-remote-code` and the variables that stand for it. Silent where `--revision`
    /// or `--code-revision` is a commit.
    ///
    /// ## Why it matters
    /// Python files of the model's repository, if it holds any, run in your cluster, with the pod's
    /// network, tokens and GPUs. Whoever can write to the repository can run code in your pods at their next start.
    ///
    /// ## How to fix it
    /// Leave the flag out where the server knows the architecture; else pin the repository's revision
    /// (`--revision`, `--code-revision`) to a commit that you have read.
    SRV14, Warning,
    evidence: "huggingface.co/docs/transformers, custom models: trust_remote_code; docs.vllm.ai, security",
    check: Check::Container(check),
    examples: [
        Example::bad("the flag", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      args: [--model, a/b, --trust-remote-code]
", &[8]),
        Example::bad("the variable", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      env:
        - name: VLLM_TRUST_REMOTE_CODE
          value: \"true\"
", &[10]),
        Example::good("switched off", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      args: [--model, a/b, --trust-remote-code=false]
"),
        Example::good("code that was read", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      args: [--model, a/b, --trust-remote-code, --revision, a09a35458c702b33eeacc393d103063234e8bc28]
"),
    ],
}

fn check(_: &Context<'_>, _: &Pod<'_>, container: &Container<'_>, report: &mut Report) {
    let off = |value: &str| matches!(value.to_ascii_lowercase().as_str(), "false" | "0" | "no");
    let message = "whoever can write to the model's repository can run code in this pod, with its network and its secrets";
    let fix = "leave it out where the server knows the architecture, or pin the revision to a commit that was read";
    let is_commit = |value: &str| value.len() == 40 && value.bytes().all(|b| b.is_ascii_hexdigit());
    let revision = container.flag(&["--code-revision", "--revision"]).and_then(|flag| flag.value);
    if revision.is_some_and(|revision| is_commit(&revision)) {
        return;
    }
    if let Some(flag) = container.flag(&["--trust-remote-code"]) {
        if !flag.value.as_deref().is_some_and(off) {
            report.at_span(flag.node, flag.place(), message).fix(fix);
        }
        return;
    }
    for env in &container.env {
        let named = matches!(
            env.name,
            "TRUST_REMOTE_CODE" | "VLLM_TRUST_REMOTE_CODE" | "HF_TRUST_REMOTE_CODE"
        );
        if named && env.value.text().is_some_and(|value| !value.is_empty() && !off(value)) {
            report.at(env.value, message).fix(fix);
        }
    }
}
