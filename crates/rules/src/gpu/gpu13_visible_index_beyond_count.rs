use crate::admission::Policy;
use crate::context::Context;
use crate::model::{Container, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, Level, rule};

rule! {
    /// CUDA_VISIBLE_DEVICES beyond the GPUs granted
    ///
    /// ## What it does
    /// Compares indexes in `CUDA_VISIBLE_DEVICES`, as a variable or in front of a command, with the
    /// number of GPUs that the container asks for. Where the first index is there and a later one is
    /// not, the process runs, on fewer GPUs than were named: a warning.
    ///
    /// ## Why it matters
    /// Inside a container GPUs are numbered from 0, whatever they are on the node. CUDA stops at the
    /// first index that is not there, so the process sees fewer GPUs, or none: "no CUDA-capable device
    /// is detected".
    ///
    /// ## How to fix it
    /// Remove the variable, or number the GPUs from 0.
    GPU13, Error,
    evidence: "NVIDIA CUDA C++ programming guide, CUDA environment variables: devices behind an invalid index are invisible",
    check: Check::Container(check),
    policy: Policy {
        expression: "\
variables.all.all(c,
  !has(c.env) || !has(c.resources) || !has(c.resources.limits)
  || !('nvidia.com/gpu' in c.resources.limits)
  || quantity(c.resources.limits['nvidia.com/gpu']).asInteger() == 0
  || c.resources.limits.exists(r, r.startsWith('nvidia.com/') && r != 'nvidia.com/gpu')
  || (has(c.resources.claims) && size(c.resources.claims) > 0)
  || (has(c.securityContext) && has(c.securityContext.privileged) && c.securityContext.privileged)
  || c.env.exists(e, e.name == 'NVIDIA_VISIBLE_DEVICES')
  || c.env.all(e,
    e.name != 'CUDA_VISIBLE_DEVICES' || !has(e.value)
    || !e.value.matches('^ *[0-9]{1,4} *(, *[0-9]{1,4} *)*$')
    || int(e.value.split(',')[0].trim())
      < quantity(c.resources.limits['nvidia.com/gpu']).asInteger()))",
        message: "`CUDA_VISIBLE_DEVICES` starts with a GPU beyond those that the container is given, which are numbered from 0: the process sees no device. Remove the variable",
        misses: &["index 1 of one GPU, behind one that is there", "in a script"],
        of_daemons: true,
    },
    examples: [
        Example::bad("index 1 of one GPU", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      env:
        - name: CUDA_VISIBLE_DEVICES
          value: \"1\"
      resources: {limits: {nvidia.com/gpu: 1}}
", &[10]),
        Example::bad("index 1 of one GPU, behind one that is there", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      env:
        - name: CUDA_VISIBLE_DEVICES
          value: \"0,1\"
      resources: {limits: {nvidia.com/gpu: 1}}
", &[10]),
        Example::bad("in a script", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      command: [sh, -c]
      args:
        - |
          CUDA_VISIBLE_DEVICES=2 python train.py
      resources: {limits: {nvidia.com/gpu: 2}}
", &[11]),
        Example::good("indexes that are there", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      env:
        - name: CUDA_VISIBLE_DEVICES
          value: \"0,1\"
      resources: {limits: {nvidia.com/gpu: 2}}
"),
        Example::good("no device on purpose", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      env:
        - name: CUDA_VISIBLE_DEVICES
          value: \"\"
      resources: {limits: {cpu: 2}}
"),
    ],
}

fn check(_: &Context<'_>, _: &Pod<'_>, container: &Container<'_>, report: &mut Report) {
    // Claims and host devices may grant more than the limits say.
    let granted = container.gpus();
    let sees_all = container.node.path("securityContext.privileged").bool() == Some(true)
        || container.env("NVIDIA_VISIBLE_DEVICES").is_some();
    if granted == 0 || sees_all || !container.resources().get("claims").is_empty() {
        return;
    }
    let mut tell = |node, span, value: &str| {
        let Some(indexes) = indexes(value) else { return };
        let Some(missing) = indexes.iter().position(|index| *index >= granted) else { return };
        let index = indexes.get(missing).copied().unwrap_or_default();
        let last = granted - 1;
        let seen = if missing == 0 {
            "so the process sees no device".to_owned()
        } else {
            format!("so the process sees {missing} of the {} devices that are named", indexes.len())
        };
        let finding = report
            .at_span(
                node,
                span,
                format!(
                    "no CUDA device {index} is there: the container is given {granted}, numbered from 0 to {last}, {seen}"
                ),
            )
            .fix("remove `CUDA_VISIBLE_DEVICES`: the container sees its own devices only");
        if missing > 0 {
            finding.level(Level::Warning);
        }
    };
    if let Some(env) = container.env("CUDA_VISIBLE_DEVICES") {
        tell(env.value, env.value.place(), env.value.str());
    }
    for word in &container.words {
        if let Some(value) = word.text.strip_prefix("CUDA_VISIBLE_DEVICES=") {
            tell(word.node, word.node.find(&word.text), value);
        }
    }
}

/// A list of numbers; `None` if it holds anything else (UUIDs, MIG devices).
fn indexes(value: &str) -> Option<Vec<i64>> {
    value.split(',').map(|part| part.trim().parse().ok()).collect()
}
