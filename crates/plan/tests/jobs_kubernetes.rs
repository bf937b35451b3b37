//! Jobs as Kubernetes objects.

use std::collections::BTreeMap;

use serde_json::Value;
use trainyard_api::{TrainingJob, manifest};
use trainyard_plan::kubernetes::{
    JobRun, Profile, Settings, gang_object, job_notes_without_operator, job_objects,
    preflight_objects,
};
use trainyard_plan::{GANG, Gang, Handover, JobPlan, PoolFacts, QueueSystem, Target, compile_job};

fn job(spec: &str) -> TrainingJob {
    let text = format!(
        "apiVersion: trainyard.dev/v1alpha1\nkind: TrainingJob\nmetadata: {{name: digits, namespace: team}}\nspec: {spec}"
    );
    let read = manifest::read("job.yaml", &text).unwrap_or_else(|errors| panic!("{errors}"));
    read.jobs.into_iter().next().expect("a job").value
}

fn target() -> Target {
    let pools = BTreeMap::from([("default".to_owned(), Ok(PoolFacts::of_shares(4, None)))]);
    Target::Kubernetes { image: "trainyard:1".to_owned(), gpu_pools: pools }
}

fn plan(spec: &str) -> JobPlan {
    compile_job(&job(spec), &target()).unwrap_or_else(|error| panic!("{error}"))
}

fn objects(spec: &str, run: JobRun, settings: &Settings) -> Vec<Value> {
    let objects = job_objects(&plan(spec), run, settings).unwrap_or_else(|error| panic!("{error}"));
    objects.into_iter().map(|object| object.into_value()).collect()
}

fn settings() -> Settings {
    Settings::new("trainyard:1")
}

fn shown(objects: &[Value]) -> String {
    objects
        .iter()
        .map(|object| format!("{}\n", serde_json::to_string_pretty(object).unwrap()))
        .collect()
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    objects.iter().find(|object| object["kind"] == kind).unwrap_or_else(|| panic!("a {kind}"))
}

const WHOLE: &str = "{framework: pytorch, image: 'example.com/train:1', command: [torchrun, train.py],
    args: [--name=$(NAME)], workers: {count: 2}, resources: {cpu: 4, memory: 16Gi, gpu: {count: 2}},
    env: [{name: NAME, value: a}, {name: TOKEN, valueFrom: {secretKeyRef: {name: hub, key: token}}}],
    checkpoint: {path: checkpoints, uri: 's3://bucket/digits', credentialsSecret: store, grace: 1m},
    progress: {timeout: 10m}, deadline: 12h, retries: 3, ttlAfterFinished: 24h, priorityClass: batch,
    placement: {spot: only, spread: zones, nodeSelector: {disk: ssd}}}";

#[test]
fn an_attempt_of_a_gang() {
    insta::assert_snapshot!(shown(&objects(WHOLE, JobRun::Attempt(2), &settings())));
}

/// What a Job can do by itself, for one worker and for several.
#[test]
fn nobody_but_kubernetes() {
    let limits = |spec: &str| {
        let objects = objects(spec, JobRun::Alone, &settings());
        let spec = of_kind(&objects, "Job")["spec"].clone();
        let fields = [
            "backoffLimit",
            "podFailurePolicy",
            "activeDeadlineSeconds",
            "ttlSecondsAfterFinished",
            "suspend",
        ];
        fields.map(|field| format!("{field}: {}\n", spec[field])).concat()
    };
    let one = "{framework: generic, image: i, command: [t], deadline: 1h, ttlAfterFinished: 1h, suspend: true}";
    insta::assert_snapshot!(format!("{}\n{}", limits(one), limits(WHOLE)));
    assert_eq!(job_notes_without_operator(&plan(one)), Vec::<String>::new());
    assert!(
        job_notes_without_operator(&plan(WHOLE))[0]
            .contains("`spec.retries` of `digits` needs the operator")
    );
}

#[test]
fn an_attempt_leaves_to_the_operator_what_is_its_own() {
    let objects = objects(WHOLE, JobRun::Attempt(1), &settings());
    let spec = &of_kind(&objects, "Job")["spec"];
    for field in ["activeDeadlineSeconds", "ttlSecondsAfterFinished", "suspend"] {
        assert_eq!(spec[field], Value::Null, "{field}");
    }
    assert_eq!(spec["backoffLimit"], 0);
}

/// Workers of one start are near to one another, and not to those of the start before.
#[test]
fn workers_are_together() {
    let affinity = |more: &str| {
        let spec = format!("{{framework: generic, image: i, command: [t], {more}}}");
        let objects = objects(&spec, JobRun::Attempt(2), &settings());
        of_kind(&objects, "Job")["spec"]["template"]["spec"]["affinity"]["podAffinity"].clone()
    };
    let all = affinity(
        "workers: {count: 2}, placement: {topology: {required: topology.kubernetes.io/zone, preferred: rack}}",
    );
    let required = &all["requiredDuringSchedulingIgnoredDuringExecution"][0];
    let preferred = &all["preferredDuringSchedulingIgnoredDuringExecution"][0];
    assert_eq!(required["topologyKey"], "topology.kubernetes.io/zone");
    assert_eq!(preferred["podAffinityTerm"]["topologyKey"], "rack");
    for term in [required, &preferred["podAffinityTerm"]] {
        let labels = &term["labelSelector"]["matchLabels"];
        assert_eq!(
            (&labels["trainyard.dev/job"], &labels["trainyard.dev/attempt"]),
            (&"digits".into(), &"2".into())
        );
    }
    let usual = affinity("workers: {count: 2}");
    let term = &usual["preferredDuringSchedulingIgnoredDuringExecution"][0]["podAffinityTerm"];
    assert_eq!(term["topologyKey"], "topology.kubernetes.io/zone");
    assert_eq!(affinity("workers: {count: 1}"), Value::Null);
    assert_eq!(affinity("workers: {count: 2}, placement: {spread: nodes}"), Value::Null);
}

#[test]
fn a_store_in_a_volume() {
    let spec = "{framework: generic, image: i, command: [t], checkpoint: {path: /out, uri: 'pvc://jobs/team/digits'}}";
    let objects = objects(spec, JobRun::Attempt(1), &settings());
    let pod = &of_kind(&objects, "Job")["spec"]["template"]["spec"];
    let args = pod["containers"][0]["args"].to_string();
    assert!(
        args.contains(
            r#""--checkpoint-path","/out","--checkpoint-uri","file:///opt/trainyard/store/team/digits""#
        ),
        "{args}"
    );
    insta::assert_snapshot!(
        serde_json::to_string_pretty(&serde_json::json!([
            pod["volumes"],
            pod["containers"][0]["volumeMounts"]
        ]))
        .unwrap()
    );
}

/// Data is fetched by containers that alone have its credentials, or lies in a volume.
#[test]
fn data() {
    let spec = "{framework: generic, image: i, command: [t, $(TRAINYARD_DATA_TRAIN_SET)], data: [
        {name: train-set, uri: 's3://bucket/a$b', credentialsSecret: store, size: 20Gi},
        {name: labels, uri: 'https://example.com/labels.csv', sha256: ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff, mount: /labels},
        {name: whole, uri: 'pvc://sets/team/whole'}]}";
    let objects = objects(spec, JobRun::Attempt(1), &settings());
    let spec = &of_kind(&objects, "Job")["spec"];
    let pod = &spec["template"]["spec"];
    let worker = &pod["containers"][0];
    let shown = serde_json::json!({
        "podFailurePolicy": spec["podFailurePolicy"],
        "initContainers": pod["initContainers"],
        "volumes": pod["volumes"],
        "volumeMounts": worker["volumeMounts"],
        "env": worker["env"],
        "resources": worker["resources"],
    });
    insta::assert_snapshot!(serde_json::to_string_pretty(&shown).unwrap());
    assert_eq!(worker["envFrom"], Value::Null);
}

/// Looks with what the workers have, on nodes where they may be, and takes no device.
#[test]
fn the_pod_that_looks_first() {
    let of = |spec: &str| {
        let objects = preflight_objects(&plan(spec), &settings()).expect("objects");
        objects.into_iter().map(|object| object.into_value()).collect::<Vec<_>>()
    };
    // It ends with the braces of `placement.nodeSelector` and those around.
    let whole = WHOLE.strip_suffix('}').unwrap();
    let seen = of(&format!(
        "{whole}, queue: research, data: [
            {{name: train-set, uri: 's3://bucket/a$b', credentialsSecret: store, size: 20Gi}},
            {{name: labels, uri: 'https://example.com/labels.csv', sha256: '{}'}},
            {{name: whole, uri: 'pvc://sets/team/whole', mount: /whole}}]}}",
        "0f".repeat(32)
    ));
    let kinds: Vec<&str> = seen.iter().filter_map(|it| it["kind"].as_str()).collect();
    assert_eq!(kinds, ["ServiceAccount", "NetworkPolicy", "Job"]);
    let job = of_kind(&seen, "Job");
    insta::assert_snapshot!(serde_json::to_string_pretty(job).unwrap());
    // The workers' policy is its policy, and it runs as they do.
    let labels = &job["spec"]["template"]["metadata"]["labels"];
    let policy = of_kind(&seen, "NetworkPolicy");
    for (name, value) in policy["spec"]["podSelector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(&labels[name], value);
    }
    let workers = objects(WHOLE, JobRun::Attempt(1), &settings());
    assert_eq!(of_kind(&workers, "NetworkPolicy")["metadata"], policy["metadata"]);
    let (pod, worker) = (&job["spec"]["template"]["spec"], &of_kind(&workers, "Job")["spec"]);
    for field in
        ["nodeSelector", "tolerations", "affinity", "serviceAccountName", "securityContext"]
    {
        assert_eq!(pod[field], worker["template"]["spec"][field], "{field}");
    }
    // What the store is asked from is as the worker's container, whose token is not made yet.
    let seen = of(WHOLE);
    let image = &of_kind(&seen, "Job")["spec"]["template"]["spec"]["containers"][0];
    let worker = &worker["template"]["spec"]["containers"][0];
    for field in ["image", "command", "env", "envFrom", "securityContext", "workingDir"] {
        assert_eq!(image[field], worker[field], "{field}");
    }
    let mounts = worker["volumeMounts"].as_array().unwrap();
    let shared: Vec<Value> = mounts.iter().filter(|it| it["name"] != "secret").cloned().collect();
    assert_eq!(image["volumeMounts"], Value::Array(shared));
    // Nothing in it waits for what is made with the workers.
    let mut handed = plan(WHOLE);
    handed.handover = Some(Handover {
        min_workers: Some(1),
        ..Handover::new(QueueSystem::Kueue, "q".to_owned())
    });
    let objects = preflight_objects(&handed, &settings()).expect("objects");
    let objects: Vec<_> = objects.into_iter().map(|object| object.into_value()).collect();
    assert_eq!(of_kind(&objects, "Job"), of_kind(&seen, "Job"));
    // A store in a volume is asked where it is mounted.
    let seen = of("{framework: generic, image: i, command: [t],
        checkpoint: {path: /out, uri: 'pvc://jobs/team/digits'}}");
    let pod = &of_kind(&seen, "Job")["spec"]["template"]["spec"];
    assert_eq!(pod["initContainers"].as_array().unwrap().len(), 1);
    let claims = pod["volumes"].as_array().unwrap().iter();
    let claims: Vec<_> = claims.filter_map(|it| it["persistentVolumeClaim"].as_object()).collect();
    assert_eq!(claims, [serde_json::json!({"claimName": "jobs"}).as_object().unwrap()]);
    let args = pod["containers"][0]["args"].as_array().unwrap();
    assert_eq!(args.last().unwrap(), "file:///opt/trainyard/store/team/digits");
}

/// Workers of an MPI program run commands for each other, and know each other by a Secret.
#[test]
fn mpi_of_several_workers() {
    let spec = "{framework: mpi, image: i, command: [python3, t.py], workers: {count: 3}, processesPerWorker: 2}";
    let rendered = objects(spec, JobRun::Attempt(2), &settings());
    let pod = &of_kind(&rendered, "Job")["spec"]["template"]["spec"];
    let worker = &pod["containers"][0];
    let of_secret = |list: &Value| -> Vec<Value> {
        list.as_array().unwrap().iter().filter(|it| it["name"] == "secret").cloned().collect()
    };
    let args: Vec<String> = serde_json::from_value(worker["args"].clone()).unwrap();
    let args = args.join(" ");
    assert!(args.contains("--token-file /opt/trainyard/secret/token"), "{args}");
    assert!(args.ends_with("-- mpirun -n 6 python3 t.py"), "{args}");
    assert_eq!(
        of_secret(&pod["volumes"]),
        [serde_json::json!({
            "name": "secret", "secret": {"secretName": "digits-workers", "defaultMode": 0o440},
        })]
    );
    assert_eq!(
        of_secret(&worker["volumeMounts"]),
        [serde_json::json!({
            "name": "secret", "mountPath": "/opt/trainyard/secret", "readOnly": true,
        })]
    );
    let gang = worker["env"].as_array().unwrap().iter().find(|it| it["name"] == "TRAINYARD_GANG");
    let gang = Gang::parse(gang.unwrap()["value"].as_str().unwrap()).unwrap();
    assert!(gang.is_mpi_of_several());
    let notes = job_notes_without_operator(&plan(spec));
    assert!(
        notes[1].contains("kubectl create secret generic digits-workers --from-literal=token=")
    );
    // Not that of an earlier job of the name.
    let mut named = job(spec);
    named.metadata.uid = Some("0A1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9".to_owned());
    let compiled = compile_job(&named, &target()).unwrap();
    assert_eq!(compiled.secret.as_deref(), Some("digits-workers-0a1b2c3d"));
    // Others need it to restore from each other, which they do without where nobody makes it.
    let spec = "{framework: pytorch, image: i, command: [t], workers: {count: 3},
        checkpoint: {path: c, uri: 's3://b/c'}}";
    assert_eq!(plan(spec).secret.as_deref(), Some("digits-workers"));
    let args = |run| {
        let rendered = objects(spec, run, &settings());
        let pod = &of_kind(&rendered, "Job")["spec"]["template"]["spec"];
        let args = pod["containers"][0]["args"].to_string().replace("\",\"", " ");
        (args, !of_secret(&pod["volumes"]).is_empty())
    };
    let (together, has_secret) = args(JobRun::Attempt(1));
    assert!(together.contains("--token-file /opt/trainyard/secret/token"), "{together}");
    assert!(together.contains("--checkpoint-peers 9096") && has_secret, "{together}");
    let (alone, has_secret) = args(JobRun::Alone);
    assert!(!alone.contains("--checkpoint-peers") && !has_secret, "{alone}");
    assert!(!job_notes_without_operator(&plan(spec)).concat().contains("Secret"));
    // A single worker, and one of another framework without a store, has none.
    for spec in [
        "{framework: mpi, image: i, command: [t], processesPerWorker: 4}",
        "{framework: pytorch, image: i, command: [t], workers: {count: 3}}",
        "{framework: jax, image: i, command: [t], checkpoint: {path: c, uri: 's3://b/c'}}",
    ] {
        assert_eq!(plan(spec).secret, None);
        assert!(!shown(&objects(spec, JobRun::Attempt(1), &settings())).contains("secret"));
    }
}

/// Each cloud tells of its spot machines' end in a way of its own, at one address.
#[test]
fn notices_of_clouds() {
    let spot = |profile, spot: &str| {
        let spec =
            format!("{{framework: generic, image: i, command: [t], placement: {{spot: {spot}}}}}");
        let objects = objects(&spec, JobRun::Attempt(1), &Settings { profile, ..settings() });
        let args =
            of_kind(&objects, "Job")["spec"]["template"]["spec"]["containers"][0]["args"].clone();
        let args: Vec<String> = serde_json::from_value(args).unwrap();
        let cloud = args.iter().position(|arg| arg == "--cloud").map(|at| args[at + 1].clone());
        let policy = of_kind(&objects, "NetworkPolicy").to_string();
        (cloud, policy.contains("169.254.169.254/32"))
    };
    assert_eq!(spot(Profile::Generic, "only"), (None, false));
    assert_eq!(spot(Profile::Eks, "prefer").0.as_deref(), Some("aws"));
    assert_eq!(spot(Profile::Gke, "only"), (Some("gcp".to_owned()), true));
    assert_eq!(spot(Profile::Aks, "only"), (Some("azure".to_owned()), true));
    assert_eq!(spot(Profile::Gke, "never").0, None);
}

#[test]
fn a_part_of_a_gpu() {
    let spec = "{framework: jax, image: i, command: [t], resources: {gpu: {share: 1/4}}}";
    let objects = objects(spec, JobRun::Attempt(1), &settings());
    let container = &of_kind(&objects, "Job")["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["resources"]["limits"]["nvidia.com/gpu.shared"], "1");
    assert!(container["env"].to_string().contains("XLA_PYTHON_CLIENT_MEM_FRACTION"));
}

#[test]
fn what_cannot_be_had_in_a_cluster_is_refused_with_a_cure() {
    let refused = |spec: &str| match compile_job(&job(spec), &target()) {
        Ok(plan) => panic!("accepted: {plan:?}"),
        Err(error) => format!("{error}\n"),
    };
    let all = [
        refused("{framework: generic, command: [t]}"),
        refused("{framework: generic, image: i, command: [t], checkpoint: {path: /usr}}"),
        refused("{framework: generic, image: i, command: [t], checkpoint: {path: ../a}}"),
        refused(
            "{framework: generic, image: i, command: [t], checkpoint: {path: a, uri: 'file:///mnt/a'}}",
        ),
        refused(
            "{framework: generic, image: i, command: [t], resources: {gpu: {count: 1, pool: none}}}",
        ),
        refused("{framework: generic, image: i, command: [t], env: [{name: RANK, value: '1'}]}"),
        refused(
            "{framework: jax, image: i, command: [t], resources: {gpu: {share: 1/4}}, env: [{name: XLA_PYTHON_CLIENT_MEM_FRACTION, value: '0.9'}]}",
        ),
        refused(
            "{framework: generic, image: i, command: [t], data: [{name: a, uri: 'file://./a'}]}",
        ),
        refused(
            "{framework: generic, image: i, command: [t], data: [{name: a, uri: 's3://b/a', mount: /usr}]}",
        ),
        refused(
            "{framework: generic, image: i, command: [t], data: [{name: a, uri: 's3://b/a', mount: /a/../b}]}",
        ),
        refused(
            "{framework: generic, image: i, command: [t], data: [{name: a, uri: 's3://b/a', mount: /d}, {name: b, uri: 'pvc://c/b', mount: /d//b/}]}",
        ),
        refused(
            "{framework: generic, image: i, command: [t], checkpoint: {path: /out}, data: [{name: a, uri: 's3://b/a', mount: /out/a}]}",
        ),
    ];
    insta::assert_snapshot!(all.concat());
}

const QUEUED: &str = "{framework: generic, image: i, command: [t], workers: {count: 4, min: 2},
    queue: team-a, resources: {cpu: 500m, memory: 1Gi, gpu: {count: 2}}, priorityClass: batch, ";

/// A job as an operator hands it over: with what it knows of the cluster.
fn handed(system: QueueSystem, run: JobRun) -> (JobPlan, Vec<Value>) {
    let mut plan = plan(&format!("{QUEUED}}}"));
    let is_kueue = system == QueueSystem::Kueue;
    plan.handover = Some(Handover {
        priority_class: is_kueue.then(|| "urgent".to_owned()),
        min_workers: Some(2),
        ..Handover::new(system, "team-a".to_owned())
    });
    let objects = job_objects(&plan, run, &settings()).expect("objects").into_iter();
    (plan, objects.map(|object| object.into_value()).collect())
}

/// What the other system reads, and nothing else that differs.
fn read_elsewhere(objects: &[Value]) -> Value {
    let job = of_kind(objects, "Job");
    let template = &job["spec"]["template"];
    let own = |all: &Value| -> BTreeMap<String, Value> {
        let all = all.as_object().cloned().unwrap_or_default().into_iter();
        let is_theirs = |name: &str| {
            ["kueue", "kai", "scheduling", "volcano"].iter().any(|it| name.starts_with(it))
        };
        all.filter(|(name, _)| is_theirs(name)).collect()
    };
    serde_json::json!({
        "job": {
            "labels": own(&job["metadata"]["labels"]),
            "annotations": own(&job["metadata"]["annotations"]),
            "suspend": job["spec"]["suspend"],
        },
        "pods": {
            "labels": own(&template["metadata"]["labels"]),
            "annotations": own(&template["metadata"]["annotations"]),
            "schedulerName": template["spec"]["schedulerName"],
            "requests": template["spec"]["containers"][0]["resources"]["requests"],
        },
        "podGroup": objects.iter().find(|it| it["kind"] == "PodGroup").map(|it| {
            serde_json::json!({"name": it["metadata"]["name"], "spec": it["spec"]})
        }),
    })
}

#[test]
fn what_other_systems_read() {
    let all = QueueSystem::ALL.map(|system| {
        let (_, objects) = handed(system, JobRun::Attempt(2));
        (system.name(), read_elsewhere(&objects))
    });
    let all: BTreeMap<&str, Value> = all.into_iter().collect();
    insta::assert_snapshot!(serde_json::to_string_pretty(&all).expect("plain data"));
}

/// Workers whose number Kueue says when it lets them in are told it by a ConfigMap.
#[test]
fn fewer_workers_are_told_their_number() {
    let gang = |objects: &[Value]| {
        let env = &of_kind(objects, "Job")["spec"]["template"]["spec"]["containers"][0]["env"];
        let found = env.as_array().expect("variables").iter().find(|it| it["name"] == GANG);
        found.expect("the gang").clone()
    };
    let (plan, objects) = handed(QueueSystem::Kueue, JobRun::Attempt(2));
    let source = &gang(&objects)["valueFrom"]["configMapKeyRef"];
    assert_eq!((&source["name"], &source["key"]), (&"digits-2".into(), &"gang".into()));
    let told = gang_object(&plan, JobRun::Attempt(2), &settings(), 3).expect("a ConfigMap");
    assert_eq!((told.kind(), told.name()), ("ConfigMap", "digits-2"));
    let text = told.value()["data"]["gang"].as_str().expect("a gang");
    let gang_of_three = Gang::parse(text).expect("a gang");
    assert_eq!(gang_of_three.workers.len(), 3);
    assert_eq!(gang_of_three.workers[2].host, "digits-2-2.digits-workers");
    // Without an operator, and with those who let all in or none, it is known from the start.
    for (system, run) in [
        (QueueSystem::Kueue, JobRun::Alone),
        (QueueSystem::Volcano, JobRun::Attempt(2)),
        (QueueSystem::Kai, JobRun::Attempt(2)),
    ] {
        let (plan, objects) = handed(system, run);
        assert!(gang(&objects)["value"].is_string(), "{system:?}");
        assert_eq!(gang_object(&plan, run, &settings(), 3), None);
    }
}

/// What a manifest says is enough where nobody but Kubernetes and the other system is there.
#[test]
fn a_manifest_may_say_whose_queue_it_is() {
    let objects_of =
        |by: &str| objects(&format!("{QUEUED} queuedBy: {by}}}"), JobRun::Alone, &settings());
    let kueue = objects_of("kueue");
    let job = of_kind(&kueue, "Job");
    assert_eq!(job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"], "team-a");
    assert_eq!(job["spec"]["suspend"], true);
    let ours = read_elsewhere(&objects_of("trainyard"));
    assert_eq!(ours["job"]["labels"], serde_json::json!({}));
    assert_eq!(ours["job"]["suspend"], Value::Null);
}
