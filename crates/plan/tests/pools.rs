//! GPU pools: what they mean to services, and what Kubernetes and NVIDIA's programs are told.

use std::collections::BTreeMap;

use trainyard_api::manifest::{self, Manifests};
use trainyard_api::{GpuPoolSpec, ModelService};
use trainyard_plan::kubernetes::{
    Object, PluginConfig, Settings, Track, node_marks, objects, pool_objects, pool_resources,
    quota_names,
};
use trainyard_plan::{Facts, GpuPools, Plan, PlanError, PoolSeen, Target, compile, pool_facts};

const POOLS: &str = "
apiVersion: trainyard.dev/v1alpha1
kind: GpuPool
metadata: {name: whole}
spec: {nodeSelector: {pool: whole}, product: NVIDIA-L4, pricePerHour: 0.7 USD}
---
apiVersion: trainyard.dev/v1alpha1
kind: GpuPool
metadata: {name: default}
spec:
  nodeSelector: {pool: shared}
  product: Tesla-T4
  sharing: {mode: mps, shares: 4}
  taint: {key: nvidia.com/gpu, value: present}
---
apiVersion: trainyard.dev/v1alpha1
kind: GpuPool
metadata: {name: slices}
spec:
  nodeSelector: {pool: slices}
  sharing: {mode: timeSlicing, shares: 2}
  capacity: spot
---
apiVersion: trainyard.dev/v1alpha1
kind: GpuPool
metadata: {name: a100}
spec:
  nodeSelector: {pool: a100}
  product: NVIDIA-A100-SXM4-80GB
  sharing: {mode: mig, profiles: [{name: 1g.10gb, count: 4}, {name: 3g.40gb, count: 1}]}
---
apiVersion: trainyard.dev/v1alpha1
kind: GpuPool
metadata: {name: claimed}
spec: {nodeSelector: {pool: claimed}, product: NVIDIA-H200, sharing: {mode: dra}}
";

fn read(text: &str) -> Manifests {
    manifest::read("pools.yaml", text).unwrap_or_else(|errors| panic!("{errors}"))
}

fn pools() -> BTreeMap<String, GpuPoolSpec> {
    let pools = read(POOLS).gpu_pools.into_iter();
    pools.map(|pool| (pool.value.metadata.name.unwrap_or_default(), pool.value.spec)).collect()
}

fn service(spec: &str) -> ModelService {
    let text = format!(
        "apiVersion: trainyard.dev/v1alpha1\nkind: ModelService\nmetadata: {{name: iris}}\nspec:\n  model: {{uri: s3://m/iris}}\n{spec}"
    );
    read(&text).services.remove(0).value
}

fn compiled(spec: &str, has_dra: bool) -> Result<Plan, PlanError> {
    let facts = |(name, spec): (String, GpuPoolSpec)| {
        let facts = pool_facts(&name, &spec, PoolSeen { has_dra, memory: None });
        (name, facts)
    };
    let gpu_pools: GpuPools = pools().into_iter().map(facts).collect();
    let target = Target::Kubernetes { image: "registry.example/trainyard:1".to_owned(), gpu_pools };
    compile(&service(spec), &Facts { target, model: None })
}

fn plan(spec: &str) -> Plan {
    compiled(spec, true).unwrap_or_else(|error| panic!("{error}"))
}

#[track_caller]
fn refused(spec: &str, part: &str) {
    let error = compiled(spec, true).expect_err("refused").to_string();
    assert!(error.contains(part), "{error}");
}

fn yaml(objects: &[Object]) -> String {
    let texts = objects.iter().map(|object| serde_saphyr::to_string(object.value()).expect("YAML"));
    texts.collect::<Vec<_>>().join("---\n")
}

fn config() -> PluginConfig {
    PluginConfig { namespace: "gpu-operator".to_owned(), name: "trainyard-gpus".to_owned() }
}

#[test]
fn what_nvidias_programs_and_the_scheduler_are_told() {
    insta::assert_snapshot!(yaml(&pool_objects(&pools(), &config())));
    assert!(pool_objects(&BTreeMap::new(), &config()).is_empty());
}

#[test]
fn what_nodes_carry_and_quotas_count() {
    let mut text = String::new();
    for (name, pool) in pools() {
        let commands = node_marks(&name, &pool).commands(&pool.node_selector);
        text.push_str(&format!("{name}\n  {}\n", commands.join("\n  ")));
        text.push_str(&format!("  asked for as {:?}\n", pool_resources(&pool)));
        text.push_str(&format!("  in quotas {:?}\n", quota_names(&name, &pool)));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn a_service_in_each_kind_of_pool() {
    let mut text = String::new();
    for gpu in [
        "{count: 1, pool: whole}",
        "{share: 1/4}",
        "{memory: 2Gi}",
        "{count: 1}",
        "{memory: 9Gi, pool: a100}",
        "{share: 1/3, pool: a100}",
        "{count: 2, pool: claimed}",
        "{memory: 16Gi, pool: claimed}",
    ] {
        let plan = plan(&format!("  resources: {{gpu: {gpu}}}\n"));
        let device = serde_json::to_string(&plan.workload.resources.gpu).expect("plain data");
        let env = plan.workload.env.iter().filter(|var| var.name.starts_with("CUDA"));
        let env = serde_json::to_string(&env.collect::<Vec<_>>()).expect("plain data");
        text.push_str(&format!("{gpu}\n  {device}\n  {env}\n"));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn a_claim_is_made_from_a_template_of_the_service() {
    let settings = Settings::new("registry.example/trainyard:1");
    let stable = Track::Stable { replicas: None };
    let rendered = |gpu: &str| {
        let plan = plan(&format!("  resources: {{gpu: {gpu}}}\n"));
        objects(&plan, stable, &settings).expect("objects")
    };
    let objects = rendered("{memory: 16Gi, pool: claimed}");
    let find = |kind: &str| objects.iter().find(|object| object.kind() == kind).expect("there");
    let template = find("ResourceClaimTemplate");
    let pod = &find("Deployment").value()["spec"]["template"]["spec"];
    assert_eq!(pod["resourceClaims"][0]["resourceClaimTemplateName"], template.name());
    assert_eq!(pod["containers"][0]["resources"]["claims"][0]["name"], "gpu");
    insta::assert_snapshot!(yaml(std::slice::from_ref(template)));
    // Another content is another template, since none can be changed.
    let other = rendered("{count: 1, pool: claimed}");
    assert!(other.iter().all(|object| object.name() != template.name()));
    let none = rendered("{share: 1/4}");
    assert!(none.iter().all(|object| object.kind() != "ResourceClaimTemplate"));
}

#[test]
fn what_does_not_go_together_is_refused() {
    let gpu = |gpu: &str| format!("  resources: {{gpu: {gpu}}}\n");
    refused(&gpu("{count: 1, pool: a100}"), "MIG instances");
    refused(&gpu("{count: 1, pool: default}"), "4 parts each");
    refused(&gpu("{share: 1/2}"), "a part of the pool `default` is 1/4");
    refused(
        &gpu("{share: 1/4, product: NVIDIA-L4}"),
        "not what the pool `default` has, `Tesla-T4`",
    );
    refused(
        &gpu("{share: 1/2, pool: slices}"),
        "has spot nodes, and `spec.placement.spot` is `never`",
    );
    let error = compiled(&gpu("{count: 1, pool: claimed}"), false).expect_err("no such API");
    assert!(error.to_string().contains("Kubernetes 1.34 or newer"), "{error}");
    let on_spot = "  resources: {gpu: {share: 1/2, pool: slices, product: Tesla-T4}}\n  placement: {spot: only}\n";
    plan(on_spot);
    refused(
        "  runtime: {name: vllm, args: [--gpu-memory-utilization=0.9]}\n  resources: {gpu: {share: 1/4}}\n",
        "`--gpu-memory-utilization=0.9` in `spec.runtime.args[0]` of `iris` takes 0.9 of a GPU's memory, and `spec.resources.gpu.share: 1/4` of the pool `default` grants 0.250 of it",
    );
    // Whole GPUs and instances are their owner's alone.
    plan(
        "  runtime: {name: vllm, args: [--gpu-memory-utilization=0.95]}\n  resources: {gpu: {count: 1, pool: whole}}\n",
    );
    plan(
        "  runtime: {name: vllm, args: [--gpu-memory-utilization=0.95]}\n  resources: {gpu: {memory: 9Gi, pool: a100}}\n",
    );
}

#[test]
fn a_custom_server_that_is_known_gets_its_knob() {
    let args = |runtime: &str| {
        let plan = plan(&format!(
            "  runtime: {{name: custom, {runtime}}}\n  resources: {{gpu: {{share: 1/4}}}}\n"
        ));
        let args = serde_json::to_string(&plan.workload.args).expect("plain data");
        let env = plan.workload.env.iter().map(|var| var.name.as_str());
        (args, env.filter(|name| name.contains("MEM_FRACTION")).count(), plan.notes)
    };
    let (vllm, env, _) = args("image: 'vllm/vllm-openai:v0.10.0', args: [--model, /mnt/models]");
    assert!(vllm.ends_with(r#"{"text":"--gpu-memory-utilization"},{"text":"0.225"}]"#), "{vllm}");
    assert_eq!(env, 1);
    let (sglang, ..) = args("image: a, command: [python3, -m, sglang.launch_server]");
    assert!(sglang.contains("--mem-fraction-static"), "{sglang}");
    let (script, _, notes) = args("image: a, command: [sh, -c, exec vllm serve /mnt/models]");
    assert_eq!(script, "[]");
    assert!(
        notes.iter().any(|note| note.contains("write `--gpu-memory-utilization 0.225`")),
        "{notes:?}"
    );
    let (unknown, env, notes) = args("image: mine");
    assert_eq!((unknown.as_str(), env), ("[]", 1));
    assert!(
        notes.iter().any(|note| note.contains("set_per_process_memory_fraction(0.25)")),
        "{notes:?}"
    );
}

/// A change of a pool is a change of what its services are: they roll out.
#[test]
fn another_mode_is_another_revision() {
    let spec = "  resources: {gpu: {memory: 2Gi}}\n";
    let of = |units| {
        let pools: GpuPools =
            [("default".to_owned(), Ok(trainyard_plan::PoolFacts::of_shares(units, None)))].into();
        let target = Target::Kubernetes { image: "i".to_owned(), gpu_pools: pools };
        compile(&service(spec), &Facts { target, model: None }).expect("valid").revision
    };
    assert_ne!(of(1), of(4));
    assert_eq!(of(4), of(4));
}
