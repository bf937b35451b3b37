use crate::admission::Policy;
use crate::context::Context;
use crate::model::{Container, Pod, Purpose};
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// NVIDIA_VISIBLE_DEVICES=all
    ///
    /// ## What it does
    /// Looks for `NVIDIA_VISIBLE_DEVICES=all` in containers, cluster components left out.
    ///
    /// ## Why it matters
    /// The container sees every GPU of its node, also those that belong to others, whatever it asked
    /// for. Nothing accounts for what it uses.
    ///
    /// ## How to fix it
    /// Remove the variable; the device plugin sets it to what the container was given.
    GPU12, Warning,
    evidence: "NVIDIA/k8s-device-plugin, deviceListStrategy and its security notes; NVIDIA container toolkit documentation, environment variables",
    check: Check::Container(check),
    policy: Policy {
        expression: "\
variables.all.all(c, !has(c.env) || c.env.all(e,
  e.name != 'NVIDIA_VISIBLE_DEVICES' || !has(e.value) || e.value != 'all'))",
        message: "a container sees every GPU of its node, others' too: `NVIDIA_VISIBLE_DEVICES` is set to `all` by hand. Remove the variable, and ask for the GPUs in limits",
        misses: &[],
        of_daemons: false,
    },
    examples: [
        Example::bad("all of them", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      env:
        - name: NVIDIA_VISIBLE_DEVICES
          value: all
      resources: {limits: {nvidia.com/gpu: 1}}
", &[10]),
        Example::good("none of them", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      env:
        - name: NVIDIA_VISIBLE_DEVICES
          value: void
"),
        Example::good("the operator's own check", "\
apiVersion: v1
kind: Pod
metadata: {generateName: nvidia-cuda-validator-}
spec:
  serviceAccountName: nvidia-operator-validator
  containers:
    - name: main
      image: TO_BE_FILLED_IN
      command: [sh, -c, vectorAdd]
      env:
        - name: NVIDIA_VISIBLE_DEVICES
          value: all
"),
    ],
}

fn check(_: &Context<'_>, pod: &Pod<'_>, container: &Container<'_>, report: &mut Report) {
    if pod.purpose == Purpose::System {
        return;
    }
    let Some(env) = container.env("NVIDIA_VISIBLE_DEVICES").filter(|env| env.value.is("all"))
    else {
        return;
    };
    let asked = container.gpus();
    let asked = if asked == 0 { "no GPU".to_owned() } else { format!("{asked}") };
    report
        .at(
            env.value,
            format!(
                "this container sees every GPU of its node, others' too, though it asks for {asked}: `NVIDIA_VISIBLE_DEVICES` is set by hand"
            ),
        )
        .fix("remove the variable, and ask for the GPUs in limits");
}
