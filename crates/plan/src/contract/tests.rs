use trainyard_api::model_service::{EnvVar as Var, RuntimeName};
use trainyard_api::scalar::Bytes;

use super::*;

/// A quarter of a card with 24 GiB.
fn quarter() -> Part {
    Part::new(Some(0.25), Some(Bytes(6 << 30)), Some(25))
}

fn runtime(command: &[&str], args: &[&str], env: &[(&str, &str)]) -> CompleteRuntime {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    CompleteRuntime {
        name: RuntimeName::Custom,
        image: Some("a".to_owned()),
        command: texts(command),
        args: texts(args),
        env: env
            .iter()
            .map(|(name, value)| Var {
                name: (*name).to_owned(),
                value: Some((*value).to_owned()),
                value_from: None,
            })
            .collect(),
    }
}

fn set(framework: Framework, runtime: &CompleteRuntime, part: &Part) -> Result<String, String> {
    let contract = Contract { service: "iris", field: "spec.runtime", runtime, part };
    let knobs = contract.knobs(framework).map_err(|error| error.to_string())?;
    let args = knobs.args.iter().filter_map(Value::as_text).map(str::to_owned);
    let env = knobs
        .env
        .iter()
        .map(|var| format!("{}={}", var.name, var.value.as_text().unwrap_or_default()));
    Ok(args.chain(env).collect::<Vec<_>>().join(" "))
}

#[test]
fn each_framework_gets_its_knob() {
    #[track_caller]
    fn check(framework: Framework, expected: &str) {
        let seen = set(framework, &runtime(&[], &[], &[]), &quarter());
        assert_eq!(seen.as_deref(), Ok(expected), "{framework:?}");
    }
    check(Framework::Vllm, "--gpu-memory-utilization 0.225");
    check(Framework::Sglang, "--mem-fraction-static 0.225");
    check(Framework::Tgi, "--cuda-memory-fraction 0.225");
    check(Framework::TensorflowServing, "--per_process_gpu_memory_fraction=0.25");
    check(Framework::Tensorflow, "TF_FORCE_GPU_ALLOW_GROWTH=true");
    check(Framework::Jax, "XLA_PYTHON_CLIENT_MEM_FRACTION=0.25");
    check(Framework::Pytorch, "");
    check(
        Framework::Triton,
        "--cuda-memory-pool-byte-size=0:67108864 --backend-config=tensorflow,gpu-memory-fraction=0.25",
    );
    check(Framework::Trainyard, "--gpu-memory 6Gi");
    check(
        Framework::Mps,
        "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT=0=6144M CUDA_MPS_ACTIVE_THREAD_PERCENTAGE=25",
    );
}

#[test]
fn a_knob_that_must_be_set_needs_its_value() {
    let part = Part::new(None, Some(Bytes(6 << 30)), None);
    let nothing = runtime(&[], &[], &[]);
    let error = set(Framework::Vllm, &nothing, &part).expect_err("no fraction of the unknown");
    assert!(error.contains("how much memory the GPUs of `iris` have"), "{error}");
    assert_eq!(set(Framework::Jax, &nothing, &part).as_deref(), Ok(""));
    assert_eq!(
        set(Framework::Mps, &nothing, &part).as_deref(),
        Ok("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT=0=6144M")
    );
    // Who sets it by hand says what is not known here.
    let by_hand = runtime(&[], &["--gpu-memory-utilization=0.2"], &[]);
    assert_eq!(set(Framework::Vllm, &by_hand, &part).as_deref(), Ok(""));
}

#[test]
fn what_a_person_set_within_the_contract_stays() {
    #[track_caller]
    fn check(framework: Framework, args: &[&str], env: &[(&str, &str)], expected: &str) {
        let seen = set(framework, &runtime(&[], args, env), &quarter());
        assert_eq!(seen.as_deref(), Ok(expected), "{args:?} {env:?}");
    }
    check(Framework::Vllm, &["--gpu-memory-utilization", "0.25"], &[], "");
    check(Framework::Vllm, &["--gpu_memory_utilization=0.1"], &[], "");
    check(Framework::Vllm, &["--gpu-memory-utilization=$(U)"], &[("U", "0.2")], "");
    check(Framework::Vllm, &["--max-num-seqs", "4"], &[], "--gpu-memory-utilization 0.225");
    check(Framework::Tgi, &[], &[("CUDA_MEMORY_FRACTION", "0.2")], "");
    check(Framework::Trainyard, &["--gpu-memory=4Gi"], &[], "");
    check(Framework::Jax, &[], &[("XLA_CLIENT_MEM_FRACTION", ".2")], "");
    check(Framework::Pytorch, &[], &[("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")], "");
    // Another back end's setting is no value for this one.
    check(
        Framework::Triton,
        &["--backend-config=python,shm-region-prefix-name=a", "--cuda-memory-pool-byte-size=0:1"],
        &[],
        "--backend-config=tensorflow,gpu-memory-fraction=0.25",
    );
    let mps =
        [("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT", "0=6G"), ("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", "10")];
    check(Framework::Mps, &[], &mps, "");
}

#[test]
fn a_contradiction_names_both_sides() {
    #[track_caller]
    fn check(framework: Framework, args: &[&str], env: &[(&str, &str)], knob: &str, at: &str) {
        let seen = set(framework, &runtime(&[], args, env), &quarter());
        let error = seen.expect_err("refused");
        for part in [knob, at, "`spec.resources.gpu.share: 1/4` of the pool `t4`"] {
            assert!(error.contains(part), "`{part}` is not in: {error}");
        }
    }
    check(
        Framework::Vllm,
        &["--max-num-seqs=4", "--gpu-memory-utilization", "0.9"],
        &[],
        "`--gpu-memory-utilization 0.9`",
        "spec.runtime.args[1]",
    );
    check(Framework::Sglang, &["--mem-fraction-static=0.5"], &[], "0.5", "spec.runtime.args[0]");
    check(
        Framework::Tgi,
        &[],
        &[("A", "1"), ("CUDA_MEMORY_FRACTION", "1.0")],
        "`CUDA_MEMORY_FRACTION=1.0`",
        "spec.runtime.env[1]",
    );
    check(Framework::Trainyard, &["--gpu-memory=8Gi"], &[], "takes 8Gi", "grants 6Gi");
    check(
        Framework::Tensorflow,
        &[],
        &[("TF_FORCE_GPU_ALLOW_GROWTH", "false")],
        "nearly the whole GPU",
        "spec.runtime.env[0]",
    );
    check(
        Framework::Mps,
        &[],
        &[("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT", "0=16G")],
        "takes 16Gi",
        "grants 6Gi",
    );
    check(
        Framework::Mps,
        &[],
        &[("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", "100")],
        "takes 100%",
        "grants 25%",
    );
    check(
        Framework::Pytorch,
        &[],
        &[("PYTORCH_ALLOC_CONF", "a:b,per_process_memory_fraction:0.95")],
        "takes 0.95",
        "spec.runtime.env[0]",
    );
    check(
        Framework::Triton,
        &["--backend-config=tensorflow,gpu-memory-fraction=0.9"],
        &[],
        "takes 0.9",
        "spec.runtime.args[0]",
    );
}

#[test]
fn a_shells_script_is_read_too() {
    let script = "exec vllm serve /m --gpu-memory-utilization 0.95";
    let error = set(Framework::Vllm, &runtime(&["sh", "-c", script], &[], &[]), &quarter());
    let error = error.expect_err("refused");
    assert!(error.contains("`spec.runtime.command[2]`"), "{error}");
}

#[test]
fn what_cannot_be_read_is_not_judged() {
    for value in ["$(UNKNOWN)", "auto", ""] {
        let args = ["--gpu-memory-utilization", value];
        assert!(set(Framework::Vllm, &runtime(&[], &args, &[]), &quarter()).is_ok(), "{value}");
    }
}

#[test]
fn what_only_a_person_can_set_is_told_with_its_value() {
    let (nothing, part) = (runtime(&[], &[], &[]), quarter());
    let contract =
        Contract { service: "iris", field: "spec.runtime", runtime: &nothing, part: &part };
    let told = contract.elsewhere(Framework::Triton).join("; ");
    assert!(told.contains("`gpu_mem_limit: 6442450944` in config.pbtxt"), "{told}");
    assert!(told.contains("`\"gpu_memory_utilization\": 0.225` in model.json"), "{told}");
}
