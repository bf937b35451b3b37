//! Plans as Kubernetes objects: a snapshot for each runtime and profile, and the laws that hold for
//! every service.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};
use trainyard_api::ModelService;
use trainyard_api::manifest;
use trainyard_api::scalar::Bytes;
use trainyard_plan::kubernetes::{
    Object, ParentGateway, Peer, Profile, PullPolicy, Settings, Track, notes_without_operator,
    objects,
};
use trainyard_plan::{Facts, Plan, PoolFacts, Target, compile};

const STABLE: Track = Track::Stable { replicas: None };

fn service(name: &str, spec: &str) -> ModelService {
    let text = format!(
        "apiVersion: trainyard.dev/v1alpha1\nkind: ModelService\nmetadata: {{name: '{name}', namespace: models}}\nspec:\n{spec}"
    );
    let read = manifest::read("iris.yaml", &text).unwrap_or_else(|errors| panic!("{errors}"));
    read.services.into_iter().next().expect("a service").value
}

/// A cluster with a pool whose GPUs are cut in four.
fn facts() -> Facts {
    let pool = PoolFacts {
        node_selector: BTreeMap::from([("pool".to_owned(), "shared".to_owned())]),
        ..PoolFacts::of_shares(4, Some(Bytes(24 << 30)))
    };
    let image = "registry.example/trainyard:0.1.0".to_owned();
    let gpu_pools = BTreeMap::from([("default".to_owned(), Ok(pool))]);
    Facts { target: Target::Kubernetes { image, gpu_pools }, model: None }
}

fn plan(spec: &str) -> Plan {
    compile(&service("iris", spec), &facts()).unwrap_or_else(|error| panic!("{error}"))
}

fn settings() -> Settings {
    Settings::new("registry.example/trainyard:0.1.0")
}

fn rendered(spec: &str, settings: &Settings) -> Vec<Object> {
    objects(&plan(spec), STABLE, settings).unwrap_or_else(|error| panic!("{error}"))
}

/// The object of a kind; null if there is none.
fn find(objects: &[Object], kind: &str) -> Value {
    let object = objects.iter().find(|object| object.kind() == kind);
    object.map_or(Value::Null, |object| object.value().clone())
}

fn yaml(objects: &[Object]) -> String {
    let documents = objects.iter().map(|object| {
        serde_saphyr::to_string(object.value()).unwrap_or_else(|error| panic!("{error}"))
    });
    documents.collect::<Vec<_>>().join("---\n")
}

/// The whole of the main example, and of the others what differs: their Deployment and ConfigMap.
#[test]
fn onnx() {
    let spec = "  model: {uri: s3://models/iris, sha256: '0000000000000000000000000000000000000000000000000000000000000000', credentialsSecret: s3}
  scaling: {min: 2, max: 10, cpu: 70%, memory: 80%}\n";
    insta::assert_snapshot!(yaml(&rendered(spec, &settings())));
}

#[track_caller]
fn check_runtime(name: &str, spec: &str) {
    let objects = rendered(spec, &settings());
    let differs: Vec<Object> = objects
        .into_iter()
        .filter(|object| matches!(object.kind(), "Deployment" | "ConfigMap"))
        .collect();
    insta::assert_snapshot!(name, yaml(&differs));
}

#[test]
fn runtimes() {
    check_runtime(
        "tensorflow",
        "  model: {uri: gs://models/iris, version: 3}\n  runtime: {name: tensorflow}\n  batching: {maxSize: 32, maxDelay: 2ms, maxQueue: 100}\n  resources: {gpu: {share: 1/4}}\n",
    );
    check_runtime(
        "triton",
        "  model: {uri: pvc://models/repository}\n  runtime: {name: triton}\n  resources: {cpu: 4, memory: 8Gi, gpu: {memory: 6Gi}}\n",
    );
    check_runtime(
        "vllm",
        "  model: {uri: s3://models/llm}\n  runtime: {name: vllm}\n  batching: {maxSize: 64}\n  resources: {cpu: 8, memory: 64Gi, gpu: {count: 2, product: NVIDIA-L4}}\n  replicas: 4\n",
    );
    check_runtime(
        "torchserve",
        "  model: {uri: s3://models/iris.mar}\n  runtime: {name: torchserve}\n  batching: {maxQueue: 50}\n",
    );
    check_runtime(
        "custom",
        "  model: {uri: https://example.com:8443/m.bin}\n  runtime: {name: custom, image: 'registry.example/mine:1', command: [python3, server.py], args: ['--port=$(PORT)'], env: [{name: KEY, valueFrom: {secretKeyRef: {name: s, key: k}}}]}\n",
    );
}

#[test]
fn profiles() {
    for profile in Profile::ALL {
        let place = |spot: &str| {
            let spec = format!(
                "  model: {{uri: s3://models/llm}}\n  runtime: {{name: vllm}}\n  resources: {{gpu: {{count: 1, product: NVIDIA-L4}}}}\n  placement: {{spot: {spot}}}\n"
            );
            let settings = Settings { profile, ..settings() };
            let objects = rendered(&spec, &settings);
            let pod = &find(&objects, "Deployment")["spec"]["template"]["spec"];
            let policy = &find(&objects, "NetworkPolicy")["spec"]["egress"];
            json!({ "affinity": pod["affinity"], "tolerations": pod["tolerations"], "egress": policy })
        };
        let shown = json!({ "never": place("never"), "prefer": place("prefer")["affinity"], "only": place("only")["affinity"] });
        let shown = serde_saphyr::to_string(&shown).expect("plain data");
        insta::assert_snapshot!(format!("profile_{}", profile.as_str()), shown);
    }
}

#[test]
fn with_everything_installed() {
    let settings = Settings {
        gateway: Some(Peer {
            namespace: "trainyard-system".to_owned(),
            labels: BTreeMap::from([(
                "app.kubernetes.io/name".to_owned(),
                "trainyard-gateway".to_owned(),
            )]),
        }),
        apis: ["monitoring.coreos.com/v1", "gateway.networking.k8s.io/v1"]
            .map(str::to_owned)
            .into(),
        route: Some(ParentGateway { namespace: "infra".to_owned(), name: "public".to_owned() }),
        store_ports: vec![9000],
        image_pull_policy: PullPolicy::IfNotPresent,
        ..settings()
    };
    let objects = rendered("  model: {uri: s3://models/iris}\n", &settings);
    let kinds: Vec<&str> = objects.iter().map(Object::kind).collect();
    // One route to the gateway is for all services.
    assert_eq!(kinds, ["ServiceAccount", "NetworkPolicy", "Service", "Deployment", "PodMonitor"]);
    let differs: Vec<Object> = objects
        .into_iter()
        .filter(|object| matches!(object.kind(), "NetworkPolicy" | "PodMonitor"))
        .collect();
    insta::assert_snapshot!(yaml(&differs));

    let objects =
        rendered("  model: {uri: s3://models/iris}\n", &Settings { gateway: None, ..settings });
    let route = &find(&objects, "HTTPRoute")["spec"];
    assert_eq!(route["parentRefs"], json!([{ "namespace": "infra", "name": "public" }]));
    let rule = &route["rules"][0];
    assert_eq!(rule["matches"][0]["path"]["value"], "/models/iris");
    assert_eq!(rule["filters"][0]["urlRewrite"]["path"]["replacePrefixMatch"], "/");
    assert_eq!(rule["backendRefs"], json!([{ "name": "iris", "port": 80 }]));
    let policy = &find(&objects, "NetworkPolicy")["spec"]["ingress"][0]["from"];
    let namespace = |source: &serde_json::Value| {
        source["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"].clone()
    };
    let from: Vec<_> = policy.as_array().expect("sources").iter().map(namespace).collect();
    assert!(from.contains(&json!("infra")), "{from:?}");
}

#[test]
fn the_candidate_stands_beside() {
    let plan = plan(
        "  model: {uri: s3://models/iris}\n  runtime: {name: tensorflow}\n  scaling: {min: 2, max: 10, cpu: 70%}\n",
    );
    let objects = objects(&plan, Track::Candidate { replicas: 3 }, &settings()).expect("a plan");
    let named: Vec<String> =
        objects.iter().map(|object| format!("{} {}", object.plural(), object.name())).collect();
    assert_eq!(
        named,
        ["configmaps iris-candidate", "services iris-candidate", "deployments iris-candidate"]
    );
    let deployment = find(&objects, "Deployment");
    assert_eq!(deployment["spec"]["replicas"], 3);
    let selector = json!({ "trainyard.dev/service": "iris", "trainyard.dev/track": "candidate" });
    assert_eq!(deployment["spec"]["selector"]["matchLabels"], selector);
    assert_eq!(find(&objects, "Service")["spec"]["selector"], selector);
    let template = &deployment["spec"]["template"];
    assert_eq!(template["metadata"]["labels"]["trainyard.dev/revision"], plan.revision.as_str());
    assert_eq!(template["spec"]["volumes"][1]["configMap"]["name"], "iris-candidate");
    assert_eq!(template["spec"]["serviceAccountName"], "iris");
}

#[test]
fn who_decides_on_the_count() {
    /// The Deployment's replicas, and the least and the most of the HorizontalPodAutoscaler.
    #[track_caller]
    fn check(spec: &str, replicas: Option<u32>, expected: (Option<u64>, Option<(u64, u64)>)) {
        let plan = plan(&format!("  model: {{uri: s3://m/iris}}\n{spec}"));
        let objects = objects(&plan, Track::Stable { replicas }, &settings()).expect("a plan");
        let hpa = &find(&objects, "HorizontalPodAutoscaler")["spec"];
        let bounds = hpa["minReplicas"].as_u64().zip(hpa["maxReplicas"].as_u64());
        let replicas = find(&objects, "Deployment")["spec"]["replicas"].as_u64();
        assert_eq!((replicas, bounds), expected, "{spec}");
    }
    check("", None, (Some(1), None));
    check("  scaling: {min: 3}\n", None, (Some(3), None));
    check("  scaling: {min: 2, max: 10}\n", None, (None, Some((2, 10))));
    check("  scaling: {min: 2, max: 10, rps: 5}\n", None, (Some(2), None));
    check("  scaling: {min: 2, max: 10, rps: 5}\n", Some(7), (Some(7), None));
    // The operator's metric raises the floor of the autoscaler.
    check("  scaling: {min: 2, max: 10, rps: 5, cpu: 70%}\n", Some(4), (None, Some((4, 10))));
    check("  scaling: {min: 2, max: 10, rps: 5, cpu: 70%}\n", Some(10), (None, Some((10, 10))));
    check("  scaling: {min: 0, max: 10, cpu: 70%}\n", None, (None, Some((1, 10))));
    check("  scaling: {min: 0, max: 10, cpu: 70%}\n", Some(0), (Some(0), Some((1, 10))));
    check("  scaling: {min: 0, max: 3, rps: 5}\n", None, (Some(1), None));
    check("  replicas: 5\n  scaling: {min: 1, max: 10}\n", None, (Some(5), None));
    check("  replicas: 0\n", None, (Some(0), None));
}

#[test]
fn pods_change_over_as_their_gpus_allow() {
    let strategy = |spec: &str| {
        let objects = rendered(&format!("  model: {{uri: s3://m/iris}}\n{spec}"), &settings());
        let rolling = &find(&objects, "Deployment")["spec"]["strategy"]["rollingUpdate"];
        (rolling["maxSurge"].clone(), rolling["maxUnavailable"].clone())
    };
    assert_eq!(strategy(""), (json!(1), json!(0)));
    assert_eq!(strategy("  scaling: {min: 12}\n"), (json!(3), json!(0)));
    assert_eq!(strategy("  resources: {gpu: {count: 1}}\n"), (json!(0), json!(1)));
    let many = "  resources: {gpu: {count: 1}}\n  scaling: {min: 8}\n";
    assert_eq!(strategy(many), (json!(0), json!(2)));
}

#[test]
fn budgets_never_block_a_drain() {
    let budget = |spec: &str| {
        let objects = rendered(&format!("  model: {{uri: s3://m/iris}}\n{spec}"), &settings());
        find(&objects, "PodDisruptionBudget")["spec"]["maxUnavailable"].clone()
    };
    assert_eq!(budget(""), Value::Null);
    assert_eq!(budget("  scaling: {min: 1, max: 2}\n"), json!(1));
    assert_eq!(budget("  scaling: {min: 8}\n"), json!("25%"));
    assert_eq!(budget("  replicas: 0\n"), Value::Null);
}

#[test]
fn the_pause_before_the_end() {
    let hook = |runtime: &str, kubernetes_minor| {
        let spec = format!("  model: {{uri: s3://m/iris}}\n  runtime: {{name: {runtime}}}\n");
        let objects = rendered(&spec, &Settings { kubernetes_minor, ..settings() });
        let pod = find(&objects, "Deployment")["spec"]["template"]["spec"].clone();
        (pod["containers"][0]["lifecycle"].clone(), pod["terminationGracePeriodSeconds"].clone())
    };
    // Trainyard's own server goes on by itself.
    assert_eq!(hook("onnx", 29), (Value::Null, json!(45)));
    let exec = json!({ "preStop": { "exec": { "command": ["sleep", "10"] } } });
    assert_eq!(hook("triton", 29), (exec, json!(45)));
    assert_eq!(
        hook("triton", 30),
        (json!({ "preStop": { "sleep": { "seconds": 10 } } }), json!(45))
    );
}

#[test]
fn replicas_leave_a_lost_node_after_half_a_minute_unless_the_manifest_says_otherwise() {
    let waits = |placement: &str| -> Vec<(String, Option<i64>)> {
        let spec = format!("  model: {{uri: s3://models/iris}}\n  {placement}\n");
        let deployment = find(&rendered(&spec, &settings()), "Deployment");
        let tolerations = &deployment["spec"]["template"]["spec"]["tolerations"];
        let told = tolerations.as_array().into_iter().flatten().map(|it| {
            let key = it["key"].as_str().unwrap_or_default();
            (
                key.rsplit('/').next().unwrap_or_default().to_owned(),
                it["tolerationSeconds"].as_i64(),
            )
        });
        told.collect()
    };
    let (not_ready, unreachable) = ("not-ready".to_owned(), "unreachable".to_owned());
    assert_eq!(waits(""), [(not_ready.clone(), Some(30)), (unreachable.clone(), Some(30))]);
    let longer = "placement: {tolerations: [{key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 600}]}";
    assert_eq!(waits(longer), [(unreachable, Some(600)), (not_ready.clone(), Some(30))]);
    let all = "placement: {tolerations: [{operator: Exists}]}";
    assert_eq!(waits(all), [(String::new(), None)]);
    let another = "placement: {tolerations: [{operator: Exists, effect: NoSchedule}]}";
    assert_eq!(waits(another).len(), 3);
}

#[test]
fn a_cluster_says_how_long_demand_must_stay_low() {
    use std::time::Duration;
    let window = |after: Option<Duration>, gpu: &str| {
        let spec = format!(
            "  model: {{uri: s3://models/iris}}\n  scaling: {{min: 2, max: 4, cpu: 70%}}\n  {gpu}\n"
        );
        let settings = Settings { scale_down_after: after, ..settings() };
        let autoscaler = find(&rendered(&spec, &settings), "HorizontalPodAutoscaler");
        autoscaler["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"].clone()
    };
    assert_eq!(window(None, ""), 300);
    assert_eq!(window(None, "resources: {gpu: {count: 1}}"), 600);
    assert_eq!(window(Some(Duration::from_secs(15)), "resources: {gpu: {count: 1}}"), 15);
    assert_eq!(window(Some(Duration::from_secs(1 << 40)), ""), 3600);
}

#[test]
fn models_on_claims_are_mounted_and_not_fetched() {
    let mount = |uri: &str| {
        let spec =
            format!("  model: {{uri: '{uri}'}}\n  runtime: {{name: custom, image: 'i:1'}}\n");
        let objects = rendered(&spec, &settings());
        let pod = find(&objects, "Deployment")["spec"]["template"]["spec"].clone();
        assert_eq!(pod["initContainers"], Value::Null);
        assert_eq!(
            pod["volumes"][0]["persistentVolumeClaim"],
            json!({"claimName": "models", "readOnly": true})
        );
        let egress = find(&objects, "NetworkPolicy")["spec"]["egress"].clone();
        assert_eq!(egress.as_array().map(Vec::len), Some(1), "name servers only: {egress}");
        let server = &pod["containers"][0];
        let env = server["env"].as_array().cloned().unwrap_or_default();
        let path = env.iter().find(|var| var["name"] == "MODEL_PATH").cloned().unwrap_or_default();
        (server["volumeMounts"][0]["subPath"].clone(), path["value"].clone())
    };
    assert_eq!(mount("pvc://models/iris/1"), (json!("iris/1"), json!("/mnt/models")));
    assert_eq!(mount("pvc://models"), (Value::Null, json!("/mnt/models")));
    assert_eq!(mount("pvc://models/iris/m.onnx"), (json!("iris"), json!("/mnt/models/m.onnx")));
    assert_eq!(mount("pvc://models/m.onnx"), (Value::Null, json!("/mnt/models/m.onnx")));
}

#[test]
fn a_changed_file_starts_new_pods() {
    let hash = |queue: u32| {
        let spec = format!(
            "  model: {{uri: s3://m/iris}}\n  runtime: {{name: torchserve}}\n  batching: {{maxQueue: {queue}}}\n"
        );
        let deployment = find(&rendered(&spec, &settings()), "Deployment");
        deployment["spec"]["template"]["metadata"]["annotations"]["trainyard.dev/config-hash"]
            .clone()
    };
    assert!(hash(1).is_string());
    assert_eq!(hash(1), hash(1));
    assert_ne!(hash(1), hash(2));
}

#[test]
fn workspaces_call_directly_only_where_there_is_no_gateway() {
    let from = |gateway: Option<Peer>| {
        let spec = "  model: {uri: s3://m/iris}\n  access: {fromWorkspaces: [a, b]}\n";
        let objects = rendered(spec, &Settings { gateway, ..settings() });
        find(&objects, "NetworkPolicy")["spec"]["ingress"][0]["from"].clone()
    };
    let workspaces = json!({ "namespaceSelector": { "matchExpressions": [
        { "key": "trainyard.dev/workspace", "operator": "In", "values": ["a", "b"] }] } });
    assert_eq!(from(None), json!([{ "podSelector": {} }, workspaces]));
    let gateway = Peer { namespace: "t".to_owned(), labels: BTreeMap::new() };
    let gateway_only =
        json!([{ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "t" } } }]);
    assert_eq!(from(Some(gateway)), gateway_only);
}

#[test]
fn what_cannot_be_had_is_refused_with_a_cure() {
    let refused = |spec: &str| {
        let error = compile(&service("iris", spec), &facts()).expect_err("refused");
        error.to_string()
    };
    let errors = [
        refused("  model: {uri: file:///models/iris}\n"),
        refused("  model: {uri: oci://registry.example/iris:1}\n"),
        refused("  model: {uri: mlflow://models/iris@champion}\n"),
        refused("  model: {uri: s3://m/i}\n  resources: {gpu: {count: 1, pool: nowhere}}\n"),
        refused("  model: {uri: s3://m/i}\n  resources: {gpu: {count: 1, pool: default}}\n"),
        refused("  model: {uri: s3://m/i}\n  resources: {gpu: {memory: 7Gi}}\n"),
        refused("  model: {uri: s3://m/i}\n  resources: {gpu: {share: 1/2}}\n"),
    ];
    insta::assert_snapshot!(errors.join("\n"));
}

#[test]
fn notes_say_what_is_left_out() {
    let notes = |spec: &str| {
        let plan = plan(&format!("  model: {{uri: s3://m/i, version: 3}}\n{spec}"));
        [plan.notes.clone(), notes_without_operator(&plan)].concat().join("\n")
    };
    insta::assert_snapshot!([
        notes("  runtime: {name: triton}\n  resources: {gpu: {share: 1/4}}\n"),
        notes("  scaling: {min: 0, max: 3, rps: 5}\n  rollout: {strategy: canary}\n  access: {apiKeysSecret: keys}\n"),
    ]
    .join("\n\n"));
}

/// Any text that can name a service.
fn names() -> impl Strategy<Value = String> {
    "[a-z]([a-z0-9-]{0,50}[a-z0-9])?"
}

fn specs() -> impl Strategy<Value = String> {
    let uri = prop_oneof![
        Just("s3://models/a$b/m.onnx"),
        Just("gs://models/llm"),
        Just("az://models"),
        Just("https://example.com:8443/m.bin?x=$(Y)"),
        Just("pvc://claim/a/b"),
    ];
    let runtime = prop_oneof![
        Just("{name: onnx}"),
        Just("{name: tensorflow, args: ['--x=$(Y)']}"),
        Just("{name: triton, env: [{name: HOME, value: /x}]}"),
        Just("{name: vllm}"),
        Just("{name: torchserve}"),
        Just("{name: custom, image: 'i:1', command: [a]}"),
    ];
    let resources = prop_oneof![
        Just("{}"),
        Just("{cpu: 1m, memory: 1}"),
        Just("{cpu: 250, memory: 12Ti, gpu: {count: 64}}"),
        Just("{gpu: {share: 1/4}}"),
        Just("{gpu: {memory: 6Gi, product: Tesla-T4}}"),
        Just("{gpu: {count: 1, product: unheard-of}}"),
    ];
    let scaling = prop_oneof![
        Just("scaling: {min: 0, max: 1000, cpu: 1%, memory: 100%}"),
        Just("scaling: {min: 1000}"),
        Just("scaling: {min: 0, max: 3, rps: 1, concurrency: 1}"),
        Just("replicas: 0"),
        Just("replicas: 1000"),
    ];
    let placement = prop_oneof![
        Just("{}"),
        Just("{spot: only, spread: zones, tolerations: [{operator: Exists}, {key: a}]}"),
        Just("{spot: prefer, spread: none, nodeSelector: {a: b}}"),
    ];
    (uri, runtime, resources, scaling, placement).prop_map(|(uri, runtime, resources, scaling, placement)| {
        format!("  model: {{uri: '{uri}'}}\n  runtime: {runtime}\n  resources: {resources}\n  {scaling}\n  placement: {placement}\n")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Any service renders, on any cluster, for any count; equal inputs give equal bytes; names and
    /// labels are what Kubernetes takes; selectors select the pods.
    #[test]
    fn any_service_renders(
        name in names(),
        spec in specs(),
        profile in 0_usize..4,
        minor in 29_u32..36,
        count in prop::option::of(0_u32..2000),
        candidate: bool,
        gateway: bool,
    ) {
        let plan = match compile(&service(&name, &spec), &facts()) {
            Ok(plan) => plan,
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        };
        let settings = Settings {
            profile: Profile::ALL[profile],
            kubernetes_minor: minor,
            gateway: gateway.then(|| Peer { namespace: "g".to_owned(), labels: BTreeMap::new() }),
            apis: ["monitoring.coreos.com/v1"].map(str::to_owned).into(),
            ..settings()
        };
        let track = match candidate {
            true => Track::Candidate { replicas: count.unwrap_or_default() },
            false => Track::Stable { replicas: count },
        };
        let rendered = objects(&plan, track, &settings).expect("renders");
        prop_assert_eq!(yaml(&rendered), yaml(&objects(&plan, track, &settings).expect("renders")));
        for object in &rendered {
            prop_assert!(object.name().len() <= 63, "{}", object.name());
            prop_assert!(!object.kind().is_empty() && !object.api_version().is_empty());
            prop_assert_eq!(object.namespace(), Some("models"));
            let labels = object.value()["metadata"]["labels"].as_object().expect("labels");
            prop_assert!(labels.values().all(|label| label.as_str().is_some_and(|it| it.len() <= 63)));
        }
        let deployment = find(&rendered, "Deployment");
        let template = &deployment["spec"]["template"];
        let labels = &template["metadata"]["labels"];
        for (key, value) in deployment["spec"]["selector"]["matchLabels"].as_object().expect("a selector") {
            prop_assert_eq!(&labels[key], value);
        }
        // The restricted Pod Security Standard, for each container.
        let pod = &template["spec"];
        let init = pod["initContainers"].as_array().cloned().unwrap_or_default();
        for container in init.iter().chain(pod["containers"].as_array().expect("containers")) {
            let context = &container["securityContext"];
            prop_assert_eq!(&context["runAsNonRoot"], true);
            prop_assert_eq!(&context["allowPrivilegeEscalation"], false);
            prop_assert_eq!(&context["capabilities"]["drop"], &json!(["ALL"]));
            prop_assert_eq!(&context["seccompProfile"]["type"], "RuntimeDefault");
        }
        // No variable is there twice.
        let env = pod["containers"][0]["env"].as_array().cloned().unwrap_or_default();
        let mut seen: Vec<&str> = env.iter().filter_map(|var| var["name"].as_str()).collect();
        seen.sort_unstable();
        let all = seen.len();
        seen.dedup();
        prop_assert_eq!(seen.len(), all);
        // Who scales writes the count, and nobody else does.
        let hpa = find(&rendered, "HorizontalPodAutoscaler");
        if !hpa.is_null() {
            let (least, most) = (&hpa["spec"]["minReplicas"], &hpa["spec"]["maxReplicas"]);
            prop_assert!(least.as_u64() >= Some(1) && least.as_u64() <= most.as_u64());
            let replicas = &deployment["spec"]["replicas"];
            prop_assert!(replicas.is_null() || *replicas == 0);
        }
    }
}
