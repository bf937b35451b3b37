//! What people see: problems drawn as in a terminal, as snapshots.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

/// A small service; `spec` is the YAML below `spec:`, at two spaces.
fn service(spec: &str) -> String {
    format!(
        "apiVersion: trainyard.dev/v1alpha1\nkind: ModelService\nmetadata:\n  name: iris\nspec:\n{spec}"
    )
}

/// Draws problems with carets, so that snapshots show where they point.
fn drawn(errors: &ManifestErrors) -> String {
    let lines: Vec<&str> = errors.source.text.split('\n').collect();
    let caret = |mark: &Mark, text: &mut String| {
        let Place { line, column, span } = &mark.place;
        let source = lines.get(line - 1).copied().unwrap_or_default();
        let source: String = source.chars().take(100).collect();
        let width = errors.source.text[span.clone()].chars().count().max(1);
        text.push_str(&format!("{line:>5} | {}\n", source.trim_end()));
        let indent = " ".repeat(column - 1);
        text.push_str(&format!("      | {indent}{} {}\n", "^".repeat(width), mark.label));
    };
    let mut text = String::new();
    for problem in &errors.problems {
        let place = &problem.at.place;
        text.push_str(&format!(
            "{} {}:{}:{}: {}\n",
            problem.kind.as_str(),
            errors.source.name,
            place.line,
            place.column,
            problem.message
        ));
        caret(&problem.at, &mut text);
        if let Some(also) = &problem.also {
            caret(also, &mut text);
        }
        if let Some(help) = &problem.help {
            text.push_str(&format!("      = {help}\n"));
        }
        text.push('\n');
    }
    text
}

#[track_caller]
fn refused(text: &str) -> String {
    match read("iris.yaml", text) {
        Ok(found) => panic!("accepted: {found:?}"),
        Err(errors) => drawn(&errors),
    }
}

#[track_caller]
fn accepted(text: &str) -> Vec<ModelService> {
    match read("iris.yaml", text) {
        Ok(found) => found.services.into_iter().map(|service| service.value).collect(),
        Err(errors) => panic!("{}", drawn(&errors)),
    }
}

const WHOLE: &str = r#"
# Everything that there is.
apiVersion: trainyard.dev/v1alpha1
kind: ModelService
metadata:
  name: iris
  namespace: team-a
  labels: {app: iris, "tier": web}
  annotations: {note: "1", trainyard.dev/model-name: "Iris flowers"}
  uid: 1b2c
spec:
  model:
    uri: s3://models/iris
    format: onnx
    version: 3
    sha256: "0000000000000000000000000000000000000000000000000000000000000000"
    credentialsSecret: s3-reader
  runtime:
    name: onnx
    image: registry.example/trainyard:1
    args: ["--threads=2", '--name=x', plain]
    env:
    - name: A
      value: "1"
    - name: B
      valueFrom: {secretKeyRef: {name: secret, key: b}}
  resources: {cpu: 2, memory: 8Gi, gpu: {share: 1/4, pool: t4, product: Tesla-T4}}
  batching: {maxSize: 32, maxDelay: 2ms, maxQueue: 100}
  scaling: {min: 0, max: 4, concurrency: 8, maxConcurrency: 8, cpu: 70%, scaleToZeroAfter: 5m}
  rollout:
    strategy: canary
    steps: [5, 50]
    pause: 1m
    abort: {errorRate: 1%, p99: 200ms}
    mirror: 10%
    stickyHeader: x-user
  access: {apiKeysSecret: keys, fromWorkspaces: [a, b], rateLimit: {rps: 100, burst: 200}}
  placement:
    spot: prefer
    nodeSelector: {kubernetes.io/arch: amd64}
    tolerations: [{key: gpu, operator: Exists, effect: NoExecute, tolerationSeconds: 30}]
    spread: zones
status: {replicas: 1}
"#;

#[test]
fn the_whole_schema_is_read() {
    let services = accepted(WHOLE);
    assert_eq!(services.len(), 1);
    let printed = serde_json::to_string_pretty(&services.first()).expect("plain data");
    insta::assert_snapshot!(printed);
}

#[test]
fn json_is_read_too() {
    let text = r#"{"apiVersion": "trainyard.dev/v1alpha1", "kind": "ModelService",
        "metadata": {"name": "iris"}, "spec": {"model": {"uri": "file://./iris"}, "scaling": null}}"#;
    assert_eq!(accepted(text), accepted(&service("  model: {uri: file://./iris}")));
}

#[test]
fn what_was_printed_is_read_back() {
    let services = accepted(WHOLE);
    let printed = serde_json::to_string(&services.first()).expect("plain data");
    assert_eq!(accepted(&printed), services);
}

#[test]
fn several_documents_and_empty_ones() {
    let one = service("  model: {uri: file://./iris}\n");
    let two = one.replace("name: iris", "name: digits");
    let text = format!("# nothing\n---\n{one}---\n---\n{two}...\n");
    let located = read("iris.yaml", &text).expect("valid").services;
    let places: Vec<_> = located
        .iter()
        .map(|service| (service.at.line, service.value.metadata.name.as_deref()))
        .collect();
    assert_eq!(places, [(3, Some("iris")), (11, Some("digits"))]);
    for nothing in ["", "\n", "---\n", "# only words\n", "null", "\u{FEFF}"] {
        assert!(accepted(nothing).is_empty(), "{nothing:?}");
    }
}

#[test]
fn anchors_stand_for_what_they_name() {
    let spec =
        "  model: {uri: file://./a}\n  runtime: {name: custom, command: &c [run, x], args: *c}\n";
    let services = accepted(&service(spec));
    let runtime = services.first().and_then(|s| s.spec.runtime.clone()).expect("there");
    assert_eq!(runtime.args, runtime.command);
}

#[test]
fn relative_uris_start_at_the_folder_of_the_manifest() {
    let located = read("x/iris.yaml", &service("  model: {uri: file://./iris.onnx}\n"));
    let service =
        located.expect("valid").services.remove(0).relative_to(std::path::Path::new("/home/x"));
    assert_eq!(service.spec.model.uri.to_string(), "file:///home/x/./iris.onnx");
}

#[test]
fn all_problems_of_a_file_at_once() {
    let text = r#"apiVersion: trainyard.dev/v1alpha1
kind: ModelService
metadata:
  name: My_Model
  lables: {a: b}
spec:
  model:
    uri: ./iris.onnx
    formt: onnx
  scaling:
    min: three
    max: 5000
    max: 3
    cpu: 70
    concurency: 4
  resources: {cpu: 0.5, memory: 8GB}
  rollout: {strategy: cannary, pause: 120}
  instances: 3
---
apiVersion: trainyard.dev/v1alpha1
kind: ModelServce
---
apiVersion: apps/v1
kind: Deployment
---
kind: ModelService
metadata: {}
"#;
    insta::assert_snapshot!(refused(text));
}

#[test]
fn rules_between_fields_point_at_the_field() {
    let text = service(
        "  model: {uri: file:///m, credentialsSecret: s, format: savedmodel}
  runtime: {name: onnx, command: [x]}
  resources:
    gpu: {count: 1, share: 1/2}
  scaling: {min: 3, max: 2, scaleToZeroAfter: 1m, concurrency: 8, maxConcurrency: 4}
  rollout: {steps: [5], pause: 1m, abort: {}}
",
    );
    let runtimes = service(
        "  model: {uri: file:///m, format: savedmodel}
  runtime: {name: triton}
  batching: {maxSize: 2}
---
apiVersion: trainyard.dev/v1alpha1
kind: ModelService
metadata: {name: digits}
spec:
  model: {uri: file:///m, format: savedmodel}
  runtime:
    name: onnx
    env: [{name: A, value: b, valueFrom: {secretKeyRef: {name: a, key: b}}}]
---
apiVersion: trainyard.dev/v1alpha1
kind: ModelService
metadata: {name: more}
spec:
  model: {uri: file:///m, format: savedmodel}
  runtime: {name: onnx}
",
    );
    insta::assert_snapshot!(format!("{}{}", refused(&text), refused(&runtimes)));
}

#[test]
fn steps_must_grow() {
    let steps = |steps: &str| {
        let rollout = format!("  rollout: {{strategy: canary, steps: [{steps}]}}\n");
        service(&format!("  model: {{uri: file:///m}}\n{rollout}"))
    };
    for good in ["5", "1, 2, 99"] {
        accepted(&steps(good));
    }
    insta::assert_snapshot!(["5, 5", "1, 20, 10"].map(|bad| refused(&steps(bad))).concat());
}

#[test]
fn wrong_types_and_values() {
    let text = service(
        r#"  model: [file:///m]
  runtime:
    name: 5
    image: 1.5
    args: --one
    env:
    - A=b
    - {name: 1A, value: no}
    - {name: B, value: 12, valueFrom: {}}
  resources:
    cpu: -1
    memory: [1]
    gpu: {count: "2", share: 0.25}
  batching: {maxSize: 0, maxDelay: 5, maxQueue: 99999999999999999999999999999999999999999999}
  scaling:
    min: 017
    max: 3.0
    rps: -5
    memory:
  rollout: {strategy: canary, steps: [], pause: 1d}
  access: {apiKeysSecret: "", rateLimit: {burst: 5}}
  placement: {nodeSelector: {a: true}, spot: maybe, tolerations: {}}
"#,
    );
    insta::assert_snapshot!(refused(&text));
}

#[test]
fn what_is_no_yaml_or_no_manifest() {
    let texts = [
        "apiVersion: v1\n\tkind: x\n",
        "spec: {model: {uri: 'file:///m}}\n",
        "a: b: c\n",
        "a: [1, 2\n",
        "a: *nobody\n",
        "a: &a [*a]\n",
        "just words\n",
        "- a\n- b\n",
        "? [a, b]\n: c\n",
        "a: !python/object:os.system ls\n",
        "kind: ModelService\u{0}\n",
        "apiVersion: 1\nkind: [ModelService]\n",
        "apiVersion: trainyard.dev/v1\nkind: ModelService\n",
        "apiVersion: trainyard.dev/v1alpha1\nkind: ModelService\nmetadata: {name: true, namespace: A_b, labels: {a: 1}}\n",
    ];
    let all: Vec<String> = texts.into_iter().map(refused).collect();
    insta::assert_snapshot!(all.concat());
}

#[test]
fn merge_keys_and_fields_in_the_wrong_place() {
    let text = service(
        "  model: {uri: file:///m, <<: {version: 1}}\n  cpu: 2\n  maxSize: 3\n  maxReplicas: 2\n",
    );
    insta::assert_snapshot!(refused(&text));
}

#[test]
fn two_services_of_one_name() {
    let one = service("  model: {uri: file:///m}\n");
    insta::assert_snapshot!(refused(&format!("{one}---\n{one}")));
}

#[test]
fn bytes_that_are_no_text() {
    let show = |bytes: &[u8]| drawn(&read_bytes("iris.yaml", bytes).expect_err("refused"));
    let mut utf16 = vec![0xFF, 0xFE];
    utf16.extend("kind: x".encode_utf16().flat_map(u16::to_le_bytes));
    let texts = [show(b"kind: Model\nname: caf\xE9\n"), show(&utf16)];
    insta::assert_snapshot!(texts.concat());
}

#[test]
fn its_text_has_a_line_for_each_problem() {
    let errors = read("iris.yaml", &service("  modle: {}\n")).expect_err("refused");
    insta::assert_snapshot!(errors.to_string());
}

#[test]
fn the_name_has_the_rule_of_the_resource() {
    let names = [
        "iris",
        "a",
        "a-1",
        "Iris",
        "1a",
        "a-",
        "-a",
        "a_b",
        "a.b",
        "é",
        "a b",
        &"a".repeat(52),
        &"a".repeat(53),
    ];
    for name in names {
        let mut service = accepted(&service("  model: {uri: file:///m}\n")).remove(0);
        service.metadata.name = Some(name.to_owned());
        let by_rule = service.validate_cel().is_ok();
        assert_eq!(document::wrong_name(name).is_none(), by_rule, "{name}");
        if let (false, Some(proposal)) = (by_rule, document::proposal(name)) {
            assert_eq!(document::wrong_name(&proposal), None, "{name} -> {proposal}");
        }
    }
}

/// Hostile texts are refused, and soon. The bound is wide: it tells seconds from for ever.
#[test]
fn hostile_texts_end_soon() {
    let bomb = {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..40 {
            let alias = format!("*a{}", level - 1);
            text.push_str(&format!("a{level}: &a{level} [{}]\n", vec![alias; 10].join(", ")));
        }
        text
    };
    let args_bomb = service(&format!(
        "  model: {{uri: file:///m}}\n  runtime: {{name: onnx, args: &a [{}], env: [{}]}}\n",
        "x, ".repeat(100_000),
        "{name: *a}, ".repeat(1000)
    ));
    let texts = [
        bomb,
        args_bomb,
        "[".repeat(200_000),
        "{".repeat(200_000),
        "- ".repeat(200_000),
        "? ".repeat(200_000),
        "{a: ".repeat(200_000),
        "&a ".repeat(200_000),
        "\"".repeat(200_001),
        "'".repeat(1_000_001),
        "a:\n".repeat(200_000),
        "!".repeat(200_000),
        "---\n".repeat(200_000) + "x",
        "x: 1\n---\n".repeat(100_000),
        format!("a: {}", "9".repeat(1_000_000)),
        format!("{}: 1", "k".repeat(1_000_000)),
        (0..100_000).map(|n| format!("k{n}: 1\n")).collect(),
        service(&(0..60_000).map(|n| format!("  kind{n}: 1\n")).collect::<String>()),
        "x".repeat(LARGEST + 1),
        " ".repeat(1_000_000) + "x",
        "%".repeat(500_000),
        "#".repeat(500_000) + "\n]",
    ];
    for text in texts {
        let start = Instant::now();
        let errors = read("x", &text).expect_err("refused");
        assert!(!errors.problems.is_empty() && errors.problems.len() <= 100);
        let head: String = text.chars().take(20).collect();
        assert!(start.elapsed() < Duration::from_secs(60), "{head} took {:?}", start.elapsed());
    }
}

proptest! {
    /// Whatever comes: a result, and places that lie in the text.
    #[test]
    fn no_text_panics(text in "\\PC{0,80}|[a-z:\\[\\]{}\"'&*!|>%@,#? \n\t-]{0,120}") {
        check_places(&text)?;
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read_bytes("x", &bytes);
    }

    /// A valid manifest with a piece cut out or put in.
    #[test]
    fn no_damage_panics(at in 0usize..1800, cut in 0usize..12, put in "[a-z0-9:\\[{}\"'&*!|\n -]{0,6}") {
        let mut text: Vec<char> = WHOLE.chars().collect();
        let at = at.min(text.len());
        let end = (at + cut).min(text.len());
        text.splice(at..end, put.chars());
        check_places(&text.into_iter().collect::<String>())?;
    }
}

fn check_places(text: &str) -> Result<(), TestCaseError> {
    let Err(errors) = read("x", text) else { return Ok(()) };
    prop_assert!(!errors.problems.is_empty());
    for problem in &errors.problems {
        for mark in [Some(&problem.at), problem.also.as_ref()].into_iter().flatten() {
            let Place { line, column, span } = mark.place.clone();
            prop_assert!(errors.source.text.get(span.clone()).is_some(), "{problem:?}");
            prop_assert!(line >= 1 && line <= errors.source.text.split('\n').count());
            prop_assert!(column >= 1);
            prop_assert!(!mark.label.is_empty(), "{problem:?}");
        }
        prop_assert!(!problem.message.is_empty());
    }
    Ok(())
}

#[test]
fn the_models_own_name() {
    let named = |name: &str| {
        service("  model: {uri: file:///m}\n").replace(
            "  name: iris\n",
            &format!("  name: iris\n  annotations: {{trainyard.dev/model-name: {name}}}\n"),
        )
    };
    assert_eq!(accepted(&service("  model: {uri: file:///m}\n"))[0].model_name(), "iris");
    assert_eq!(accepted(&named("my_model"))[0].model_name(), "my_model");
    assert_eq!(accepted(&named("\"My Model\""))[0].model_name(), "My Model");
    let errors = read("iris.yaml", &named("a/b")).expect_err("refused");
    let problem = errors.problems.first().expect("one");
    assert_eq!(problem.path, "metadata.annotations[trainyard.dev/model-name]");
    assert!(problem.message.ends_with("the name `a/b` is a path"), "{}", problem.message);
    assert_eq!((problem.at.place.line, errors.problems.len()), (5, 1));
}

fn pool(spec: &str) -> String {
    format!(
        "apiVersion: trainyard.dev/v1alpha1\nkind: GpuPool\nmetadata: {{name: t4}}\nspec:\n{spec}"
    )
}

#[test]
fn pools_and_services_stand_in_one_file() {
    let whole = "  nodeSelector: {pool: t4}
  product: Tesla-T4
  memory: 15360Mi
  sharing: {mode: mps, shares: 4}
  taint: {key: nvidia.com/gpu, value: present, effect: NoSchedule}
  capacity: onDemand
  pricePerHour: 0.35 USD
";
    let text = format!("{}---\n{}", pool(whole), service("  model: {uri: s3://m/iris}\n"));
    let found = read("all.yaml", &text).expect("valid");
    assert_eq!((found.services.len(), found.gpu_pools.len()), (1, 1));
    let pool = &found.gpu_pools[0].value;
    let printed = serde_json::to_string(&pool).expect("plain data");
    let again = read("pool.json", &printed).expect("what is printed is read");
    assert_eq!(again.gpu_pools[0].value, *pool);
    insta::assert_snapshot!(serde_json::to_string_pretty(pool).expect("plain data"));
}

#[test]
fn mistakes_in_a_pool() {
    let check = |spec: &str| refused(&pool(spec));
    let all = [
        check("  nodeSelektor: {a: b}\n"),
        check("  nodeSelector: {}\n"),
        check("  nodeSelector: {a: b}\n  sharing: {mode: timeslicing, shares: 4}\n"),
        check("  nodeSelector: {a: b}\n  sharing: {mode: mps}\n"),
        check("  nodeSelector: {a: b}\n  sharing: {mode: mps, shares: 64}\n"),
        check("  nodeSelector: {a: b}\n  sharing: {mode: dra, shares: 4}\n"),
        check("  nodeSelector: {a: b}\n  sharing: {mode: mig}\n"),
        check(
            "  nodeSelector: {a: b}\n  sharing: {mode: mig, profiles: [{name: 1g10gb, count: 7}]}\n",
        ),
        check(
            "  nodeSelector: {a: b}\n  sharing: {mode: mig, profiles: [{name: 1g.10gb, count: 1}, {name: 1g.10gb, count: 2}]}\n",
        ),
        check(
            "  nodeSelector: {a: b}\n  pricePerHour: 0.35\n  capacity: preemptible\n  shares: 4\n",
        ),
        refused(&pool("  nodeSelector: {a: b}\n").replace("name: t4", "name: T4, namespace: a")),
    ];
    insta::assert_snapshot!(all.join(""));
}

/// A job; `spec` is the YAML below `spec:`, at two spaces.
fn job(spec: &str) -> String {
    format!(
        "apiVersion: trainyard.dev/v1alpha1\nkind: TrainingJob\nmetadata: {{name: digits}}\nspec:\n{spec}"
    )
}

#[test]
fn the_whole_schema_of_a_job_is_read_and_printed_back() {
    let text = job(r"  framework: pytorch
  launcher: agent
  image: registry.example/train:1
  command: [python3, train.py]
  args: [--epochs, '3']
  env: [{name: TOKEN, valueFrom: {secretKeyRef: {name: hub, key: token}}}]
  workers: {count: 4}
  processesPerWorker: 2
  resources: {cpu: 4, memory: 16Gi, gpu: {count: 2}}
  checkpoint: {path: checkpoints, uri: s3://bucket/jobs/digits, keep: 5, interval: 10m, signal: SIGUSR2, grace: 90s}
  progress: {timeout: 10m, logPattern: 'step (?P<step>\d+)'}
  deadline: 12h
  retries: 5
");
    let found = read("job.yaml", &text).expect("valid");
    let job = &found.jobs[0].value;
    let printed = serde_json::to_string(&job).expect("plain data");
    let again = read("job.json", &printed).expect("what is printed is read");
    assert_eq!(again.jobs[0].value, *job);
    insta::assert_snapshot!(serde_json::to_string_pretty(job).expect("plain data"));
}

#[test]
fn mistakes_in_a_job() {
    let check = |spec: &str| refused(&job(spec));
    let all = [
        check("  framework: torch\n  command: [a]\n"),
        check("  framework: generic\n"),
        check("  framework: generic\n  command: []\n"),
        check("  framework: generic\n  command: [a]\n  launcher: torchrun\n"),
        check("  framework: tensorflow\n  command: [a]\n  processesPerWorker: 2\n"),
        check(
            "  framework: pytorch\n  command: [a]\n  processesPerWorker: 4\n  resources: {gpu: {count: 2}}\n",
        ),
        check(
            "  framework: pytorch\n  command: [a]\n  processesPerWorker: 2\n  resources: {gpu: {share: 1/2}}\n",
        ),
        check("  framework: generic\n  command: [a]\n  workers: {count: 0}\n"),
        check("  framework: generic\n  command: [a]\n  workers: {count: 2, min: 1}\n"),
        check("  framework: generic\n  command: [a]\n  queue: q\n  workers: {count: 2, min: 3}\n"),
        check("  framework: generic\n  command: [a]\n  priority: 3\n"),
        check("  framework: generic\n  command: [a]\n  checkpoint: {signal: SIGKILL}\n"),
        check("  framework: generic\n  command: [a]\n  checkpoint: {path: a, keep: 2}\n"),
        check("  framework: generic\n  command: [a]\n  checkpoint: {path: a, interval: 10m}\n"),
        check(
            "  framework: generic\n  command: [a]\n  checkpoint: {path: a, uri: 's3://b/a', interval: 1s}\n",
        ),
        check("  framework: generic\n  command: [a]\n  checkpoint: {path: a, uri: bucket/a}\n"),
        check("  framework: generic\n  command: [a]\n  progress: {timeout: 10ms}\n"),
        check("  framework: generic\n  command: [a]\n  queue: research\n  spot: only\n"),
        check(
            "  framework: generic\n  command: [a]\n  checkpoint: {path: a}\n  placement: {spot: only}\n",
        ),
        check(
            "  framework: generic\n  command: [a]\n  checkpoint: {path: a, uri: 'pvc://a/../b'}\n",
        ),
        check(
            "  framework: generic\n  command: [a]\n  checkpoint: {path: a, uri: 'pvc://a/b', credentialsSecret: c}\n",
        ),
        check("  framework: generic\n  command: [a]\n  placement: {topology: {}}\n"),
        check("  framework: generic\n  command: [a]\n  placement: {topology: {required: a b}}\n"),
        check(
            "  framework: generic\n  command: [a]\n  placement: {spread: zones, topology: {preferred: rack}}\n",
        ),
        check("  framework: generic\n  command: [a]\n  suspend: yes\n"),
        check("  framework: generic\n  command: [a]\n  suspend: 'true'\n"),
    ];
    insta::assert_snapshot!(all.join(""));
}

fn queue(spec: &str) -> String {
    format!(
        "apiVersion: trainyard.dev/v1alpha1\nkind: Queue\nmetadata: {{name: research}}\nspec:\n{spec}"
    )
}

#[test]
fn the_whole_schema_of_a_queue_is_read_and_printed_back() {
    let text = queue(
        "  cohort: all
  quotas:
    - pool: default
      cpu: {nominal: 64, borrowingLimit: 500m, lendingLimit: 8}
      memory: {nominal: 256Gi, borrowingLimit: 1Gi, lendingLimit: 8Gi}
    - {pool: t4, gpu: {nominal: 8, borrowingLimit: 0, lendingLimit: 2}}
    - {pool: none, cpu: {nominal: 0}, memory: {nominal: 0Gi}}
  strategy: bestEffort
  preemption: {withinQueue: lowerOrNewerEqualPriority, reclaimWithinCohort: any, borrowWithinCohort: {maxPriority: -3}}
",
    );
    let found = read("queue.yaml", &text).expect("valid");
    let queue = &found.queues[0].value;
    let printed = serde_json::to_string(&queue).expect("plain data");
    let again = read("queue.json", &printed).expect("what is printed is read");
    assert_eq!(again.queues[0].value, *queue);
    insta::assert_snapshot!(serde_json::to_string_pretty(queue).expect("plain data"));
}

#[test]
fn mistakes_in_a_queue() {
    let check = |spec: &str| refused(&queue(spec));
    let quotas = "  quotas: [{pool: t4, gpu: {nominal: 1}}]\n";
    let all = [
        check("  cohort: all\n"),
        check("  quotas: []\n"),
        check("  quotas: [{gpu: {nominal: 1}}]\n"),
        check("  quotas: [{pool: a, gpu: {nominal: 1}}, {pool: a, cpu: {nominal: 1}}]\n"),
        check("  quotas: [{pool: a, gpu: {nominal: 1, lendingLimit: 1}}]\n"),
        check("  quotas: [{pool: a, cpu: {nominal: -1}}]\n"),
        check("  quotas: [{pool: a, gpu: {nominal: 0.5}}]\n"),
        check(&format!("{quotas}  fairSharing: {{weight: 1}}\n")),
        check(&format!("{quotas}  cohort: all\n  fairSharing: {{weight: 0}}\n")),
        check(&format!(
            "{quotas}  cohort: all\n  fairSharing: {{weight: 1}}\n  preemption: {{borrowWithinCohort: {{}}}}\n"
        )),
        check(&format!("{quotas}  strategy: FIFO\n  preemption: {{withinQueue: Always}}\n")),
        refused(&queue(quotas).replace("name: research", "name: Research, namespace: a")),
    ];
    insta::assert_snapshot!(all.join(""));
}
