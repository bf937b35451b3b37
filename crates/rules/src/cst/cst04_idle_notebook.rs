use crate::context::Context;
use crate::model::{Pod, Purpose};
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// Notebook with a GPU and nothing that stops it
    ///
    /// ## What it does
    /// Looks at notebooks that ask for GPUs: whether they stop when they are idle (flags of
    /// Jupyter, culling of the notebook controller) or after a time (`activeDeadlineSeconds`).
    ///
    /// Silent for stopped notebooks, and where the controller here has culling switched on.
    ///
    /// ## Why it matters
    /// Notebooks are left open. The GPU stays reserved over nights and weekends, three quarters of
    /// the week, and nobody else gets it.
    ///
    /// ## How to fix it
    /// Switch culling on in the notebook controller (`ENABLE_CULLING=true`), or start Jupyter with
    /// `--ServerApp.shutdown_no_activity_timeout` and `--MappingKernelManager.cull_idle_timeout`.
    CST04, Warning,
    evidence: "kubeflow/kubeflow, notebook-controller: ENABLE_CULLING is off by default; jupyter-server docs, config: shutdown_no_activity_timeout",
    check: Check::Pod(check),
    examples: [
        Example::bad("a notebook of Kubeflow", "\
apiVersion: kubeflow.org/v1
kind: Notebook
metadata: {name: a}
spec:
  template:
    spec:
      containers:
        - name: a
          image: jupyter/tensorflow-notebook:x
          resources: {limits: {nvidia.com/gpu: 1}}
", &[10]),
        Example::good("culling is on", "\
apiVersion: v1
kind: ConfigMap
metadata: {name: notebook-controller-config}
data: {ENABLE_CULLING: 'true'}
---
apiVersion: kubeflow.org/v1
kind: Notebook
metadata: {name: a}
spec:
  template:
    spec:
      containers:
        - name: a
          image: jupyter/tensorflow-notebook:x
          resources: {limits: {nvidia.com/gpu: 1}}
"),
        Example::good("it ends when nobody uses it", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: a
      image: jupyter/tensorflow-notebook:x
      args: [start-notebook.sh, --ServerApp.shutdown_no_activity_timeout=3600]
      resources: {limits: {nvidia.com/gpu: 1}}
"),
        Example::good("no GPU", "\
apiVersion: kubeflow.org/v1
kind: Notebook
metadata: {name: a}
spec:
  template:
    spec:
      containers:
        - name: a
          image: jupyter/tensorflow-notebook:x
"),
    ],
}

/// Parts of names of flags and variables by which notebooks stop.
const STOPS: [&str; 4] = ["shutdown_no_activity_timeout", "cull_idle", "cull-idle", "idle_timeout"];

fn check(context: &Context<'_>, pod: &Pod<'_>, report: &mut Report) {
    if pod.purpose != Purpose::Notebook {
        return;
    }
    let Some((_, device)) = pod.devices().next() else { return };
    let ends = pod.spec.ancestors().any(|node| node.get("activeDeadlineSeconds").is_set());
    let stopped =
        pod.object.annotation("kubeflow-resource-stopped").is_set() || pod.replicas == Some(0);
    let culled = pod.containers.iter().any(|container| {
        let stops = |text: &str| STOPS.iter().any(|stop| text.contains(stop));
        container.words.iter().any(|word| stops(&word.text))
            || container.env.iter().any(|env| stops(env.name) || stops(env.value.str()))
    });
    if ends || stopped || culled || context.bundle.culls_notebooks() {
        return;
    }
    report
        .at(
            device.node(),
            "this GPU stays reserved when nobody works: nothing here stops the notebook when it is idle",
        )
        .fix("switch culling on in the notebook controller (`ENABLE_CULLING`), or set Jupyter's `shutdown_no_activity_timeout`");
}
