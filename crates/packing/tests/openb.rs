//! The FGD paper's experiment on its own traces, where they are at hand: a folder
//! `shared/traces/openb` beside the repository's, of Alibaba's cluster-trace-gpu-v2023.

use std::path::Path;

use trainyard_packing::{
    Discipline, Inflation, Models, Node, Pod, Policy, Request, Spread, Timed, read_nodes,
    read_pods, timed_pods,
};

/// Nodes, pods, and how many GPU models there are.
fn trace(name: &str) -> Option<(Vec<Node>, Vec<Pod>, usize)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // A worktree lies a folder deeper.
    let beside = ["../../../shared/traces/openb", "../../../../shared/traces/openb"];
    let Some(folder) = beside.map(|it| root.join(it)).into_iter().find(|it| it.is_dir()) else {
        eprintln!("skipped: there are no traces beside the repository");
        return None;
    };
    let mut models = Models::default();
    let text = |name: &str| std::fs::read(folder.join(name)).expect("readable");
    let nodes = read_nodes("nodes", &text("openb_node_list_gpu_node.csv"), &mut models);
    let pods = text(&format!("openb_pod_list_{name}.csv"));
    let pods = read_pods("pods", &pods, &mut models).expect("right");
    let nodes = nodes.expect("right").into_iter().map(|it| it.node).collect();
    Some((nodes, pods, models.count()))
}

/// Mean of the allocated GPUs at the end, in percent.
fn allocated(nodes: &[Node], workload: &[Request], models: usize, policy: Policy) -> f64 {
    let inflation = Inflation { nodes, workload, more: workload, models, load: 1.3 };
    let runs = (42..46).map(|seed| inflation.run(policy, seed));
    Spread::of(runs.map(|run| 100.0 * run.last().allocated)).mean
}

#[test]
fn known_policies_do_as_published() {
    use Policy::{BestFit, DotProduct, Fgd, GpuClustering, GpuPacking, Random};
    // Means over ten seeds from the authors' result files (experiments/analysis/expected_results).
    let published = [
        ("default", [87.47, 90.85, 91.88, 92.00, 93.08, 95.39]),
        ("multigpu40", [90.09, 94.19, 95.50, 95.74, 95.23, 96.99]),
        ("gpuspec33", [86.46, 89.14, 92.12, 93.22, 93.09, 94.55]),
    ];
    for (name, figures) in published {
        let Some((nodes, pods, models)) = trace(name) else { return };
        let workload: Vec<Request> = pods.iter().map(|pod| pod.request).collect();
        let policies = [Random, DotProduct, GpuClustering, GpuPacking, BestFit, Fgd];
        for (policy, expected) in policies.into_iter().zip(figures) {
            let allocated = allocated(&nodes, &workload, models, policy);
            // Four seeds of ours, and a published deviation of up to 0.7.
            assert!((allocated - expected).abs() < 1.2, "{name} {policy}: {allocated}");
        }
    }
}

#[test]
fn least_stranding_leaves_less_than_fgd() {
    // Not on `gpushare100`, where FGD allocates half a percent more: docs/planner.md.
    for name in ["default", "cpu250", "gpuspec10", "multigpu50"] {
        let Some((nodes, pods, models)) = trace(name) else { return };
        let workload: Vec<Request> = pods.iter().map(|pod| pod.request).collect();
        let of = |policy| allocated(&nodes, &workload, models, policy);
        let (ours, fgd) = (of(Policy::LeastStranding), of(Policy::Fgd));
        assert!(ours > fgd + 0.3, "{name}: {ours} and {fgd}");
    }
}

#[test]
fn the_trace_is_played_in_time() {
    let Some((nodes, pods, models)) = trace("default") else { return };
    let pods = timed_pods(&pods).expect("all have times");
    // A tenth of the cluster, so that there is a queue.
    let nodes: Vec<Node> = nodes.into_iter().step_by(120).collect();
    let play = |discipline| {
        let timed = Timed { nodes: &nodes, pods: &pods, models, discipline, interruptions: None };
        timed.run(Policy::LeastStranding, 1)
    };
    let any = play(Discipline::Any);
    assert_eq!(any.waits.len() as u64 + any.impossible, pods.len() as u64);
    assert_eq!(any.unfinished, 0);
    let strict = play(Discipline::Strict);
    assert!(strict.mean_wait() >= any.mean_wait());
}
