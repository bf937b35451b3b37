//! What manifests become: a snapshot for each runtime on each back end, and the laws of compiling.

use proptest::prelude::*;
use trainyard_api::ModelService;
use trainyard_api::manifest;
use trainyard_api::scalar::{Bytes, Millicores};
use trainyard_plan::{
    Facts, FetchedModel, Plan, PlanError, PoolFacts, Strategy as Steps, Target, compile,
};

fn service(spec: &str) -> ModelService {
    let text = format!(
        "apiVersion: trainyard.dev/v1alpha1\nkind: ModelService\nmetadata: {{name: iris}}\nspec:\n{spec}"
    );
    let read = manifest::read("iris.yaml", &text).unwrap_or_else(|errors| panic!("{errors}"));
    read.services.into_iter().next().expect("a service").value
}

fn local() -> Facts {
    Facts {
        target: Target::Local { cpu: Millicores(4000), memory: Bytes(8 << 30), gpus: 0 },
        model: Some(FetchedModel {
            path: "/models/iris".into(),
            fingerprint: Some("sha256:1".to_owned()),
        }),
    }
}

fn kubernetes() -> Facts {
    let pool = PoolFacts::of_shares(3, Some(Bytes(15 << 30)));
    Facts {
        target: Target::Kubernetes {
            image: "registry.example/trainyard:0.1.0".to_owned(),
            gpu_pools: [("t4".to_owned(), Ok(pool))].into(),
        },
        model: None,
    }
}

fn shown(plan: &Result<Plan, PlanError>) -> String {
    match plan {
        Ok(plan) => serde_json::to_string_pretty(plan).expect("plain data"),
        Err(error) => format!("refused: {error}"),
    }
}

/// Snapshots of one manifest on both back ends.
fn check(name: &str, spec: &str) {
    let service = service(spec);
    for (target, facts) in [("local", local()), ("kubernetes", kubernetes())] {
        insta::assert_snapshot!(format!("{name}_{target}"), shown(&compile(&service, &facts)));
    }
}

#[test]
fn onnx_with_nothing_said() {
    check("onnx", "  model: {uri: s3://models/iris}\n");
}

#[test]
fn onnx_with_everything_said() {
    check(
        "onnx_whole",
        "  model: {uri: s3://models/iris, version: 3, sha256: '0000000000000000000000000000000000000000000000000000000000000000', credentialsSecret: s3}
  runtime:
    name: onnx
    args: [--strict]
    env: [{name: A, value: $(B)}, {name: KEY, valueFrom: {secretKeyRef: {name: s, key: k}}}]
  resources: {cpu: 1500m, memory: 1Gi, gpu: {memory: 4Gi, pool: t4}}
  batching: {maxSize: 16, maxDelay: 2500us, maxQueue: 64}
  scaling: {min: 0, max: 4, concurrency: 8, maxConcurrency: 12, memory: 80%}
  rollout: {strategy: canary, abort: {errorRate: 1%, p99: 200ms}, mirror: 10%}
  access: {apiKeysSecret: keys, fromWorkspaces: [a], rateLimit: {rps: 10}}
  placement: {spot: prefer, nodeSelector: {a: b}}
",
    );
}

#[test]
fn tensorflow() {
    check("tensorflow", "  model: {uri: gs://models/iris}\n  runtime: {name: tensorflow}\n");
}

#[test]
fn triton() {
    check(
        "triton",
        "  model: {uri: pvc://models/repository}\n  runtime: {name: triton, args: [--log-verbose=1]}\n  resources: {gpu: {count: 1}}\n",
    );
}

#[test]
fn vllm_on_two_gpus() {
    check(
        "vllm",
        "  model: {uri: s3://models/llm}\n  runtime: {name: vllm}\n  resources: {cpu: 4, memory: 8Gi, gpu: {count: 2, product: NVIDIA-L4}}\n",
    );
}

#[test]
fn torchserve() {
    check("torchserve", "  model: {uri: s3://models/iris}\n  runtime: {name: torchserve}\n");
}

#[test]
fn custom_command_and_image() {
    check(
        "custom",
        "  model: {uri: https://example.com/m.bin}
  runtime: {name: custom, image: 'registry.example/mine:1', command: [python3, server.py], args: ['--port=$(PORT)']}
",
    );
}

#[test]
fn custom_with_one_of_the_two() {
    check(
        "custom_image_only",
        "  model: {uri: s3://m/iris}\n  runtime: {name: custom, image: 'mine:1'}\n",
    );
    check(
        "custom_command_only",
        "  model: {uri: s3://m/iris}\n  runtime: {name: custom, command: [serve]}\n",
    );
}

#[test]
fn strategies() {
    let steps = |rollout: &str| {
        let service = service(&format!("  model: {{uri: s3://m/iris}}\n  rollout: {rollout}\n"));
        compile(&service, &local()).expect("valid").rollout.strategy
    };
    let pause = std::time::Duration::from_secs(120);
    assert_eq!(steps("{}"), Steps::Rolling { max_surge: 1, max_unavailable: 0 });
    assert_eq!(steps("{strategy: canary}"), Steps::Canary { steps: vec![5, 20, 50], pause });
    assert_eq!(steps("{strategy: canary, steps: [10]}"), Steps::Canary { steps: vec![10], pause });
    assert_eq!(steps("{strategy: blueGreen}"), Steps::BlueGreen { pause });
}

#[test]
fn what_does_not_fit_is_refused_and_a_default_always_fits() {
    let small = Facts {
        target: Target::Local { cpu: Millicores(500), memory: Bytes(1 << 30), gpus: 0 },
        ..local()
    };
    let asked = |resources: &str| {
        let spec = format!("  model: {{uri: s3://m/iris}}\n  resources: {resources}\n");
        shown(&compile(&service(&spec), &small).map_err(|error| {
            assert!(matches!(
                error,
                PlanError::TooMuchCpu { .. } | PlanError::TooMuchMemory { .. }
            ));
            error
        }))
    };
    assert!(asked("{}").starts_with('{'));
    insta::assert_snapshot!([asked("{cpu: 1}"), asked("{memory: 2Gi}")].join("\n"));
}

#[test]
fn a_model_that_was_not_fetched_has_no_local_plan() {
    let facts = Facts { model: None, ..local() };
    let error = compile(&service("  model: {uri: s3://m/iris}\n"), &facts).expect_err("refused");
    insta::assert_snapshot!(error.to_string());
}

#[test]
fn the_revision_names_what_a_replica_is() {
    let base = "  model: {uri: s3://m/iris}\n";
    let revision =
        |spec: &str, facts: &Facts| compile(&service(spec), facts).expect("valid").revision;
    let same =
        |spec: &str| assert_eq!(revision(spec, &local()), revision(base, &local()), "{spec}");
    let other =
        |spec: &str| assert_ne!(revision(spec, &local()), revision(base, &local()), "{spec}");
    same(&format!("{base}  scaling: {{min: 2, max: 5}}\n"));
    same(&format!("{base}  scaling: {{maxConcurrency: 4}}\n"));
    same(&format!("{base}  rollout: {{strategy: canary}}\n"));
    same(&format!("{base}  access: {{rateLimit: {{rps: 5}}}}\n"));
    same(&format!("{base}  placement: {{spread: none}}\n"));
    other(&format!("{base}  batching: {{maxSize: 2}}\n"));
    other(&format!("{base}  resources: {{cpu: 1}}\n"));
    other(&format!("{base}  runtime: {{name: onnx, args: [--x]}}\n"));
    let mut changed = local();
    if let Some(model) = &mut changed.model {
        model.fingerprint = Some("sha256:2".to_owned());
    }
    assert_ne!(revision(base, &changed), revision(base, &local()));
}

proptest! {
    /// Equal inputs give equal plans, and the bounds of scaling never cross.
    #[test]
    fn compiling_is_a_function(min in 0u32..20, more in 0u32..20, set_max: bool, kubernetes_too: bool) {
        let max = if set_max { format!(", max: {}", (min + more).max(1)) } else { String::new() };
        let service = service(&format!(
            "  model: {{uri: s3://m/iris}}\n  scaling: {{min: {min}{max}}}\n"
        ));
        let facts = if kubernetes_too { kubernetes() } else { local() };
        let plan = compile(&service, &facts).expect("valid");
        prop_assert_eq!(&compile(&service, &facts).expect("valid"), &plan);
        prop_assert!(plan.scaling.max >= plan.scaling.min.max(1));
    }
}
