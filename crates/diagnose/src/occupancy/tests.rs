use serde_json::{Value, json};
use trainyard_packing::GpuRequest;

use super::*;
use crate::snapshot::Unread;

fn node(name: &str, labels: Value, taints: Value, gpus: u32) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels},
        "spec": {"taints": taints},
        "status": {
            "allocatable": {"cpu": "15900m", "memory": "60Gi", "pods": "110", "nvidia.com/gpu": gpus.to_string()},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    })
}

/// A pod with one GPU of a Deployment; `change` merges into it at the top of its spec.
fn pod(name: &str, node: Option<&str>, change: Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": "ml", "labels": {"app": name},
            "ownerReferences": [{"kind": "ReplicaSet", "name": "r", "controller": true}],
        },
        "spec": {"containers": [{"resources": {
            "requests": {"cpu": "1500m", "memory": "1000M", "nvidia.com/gpu": 1},
            "limits": {"nvidia.com/gpu": 1},
        }}]},
        "status": {"phase": if node.is_some() { "Running" } else { "Pending" }},
    });
    if let Some(node) = node {
        pod["spec"]["nodeName"] = json!(node);
    }
    for (key, value) in change.as_object().expect("a map") {
        match key.split_once('.') {
            Some((part, key)) => pod[part][key] = value.clone(),
            None => pod[key] = value.clone(),
        }
    }
    pod
}

fn read(objects: Vec<Value>) -> Occupancy {
    let snapshot = Snapshot { objects, ..Snapshot::default() };
    occupancy(&snapshot, Moving::Services).expect("it was read")
}

fn two_nodes() -> Vec<Value> {
    vec![node("b", json!({}), json!([]), 4), node("a", json!({"zone": "x"}), json!([]), 2)]
}

#[test]
fn nodes_and_pods_are_amounts() {
    let mut objects = two_nodes();
    objects.push(pod("one", Some("b"), json!({})));
    objects.push(pod("ended", Some("b"), json!({"status": {"phase": "Succeeded"}})));
    objects.push(pod("waits", None, json!({"spec.priority": 7})));
    objects.push(pod("gated", None, json!({"spec.schedulingGates": [{"name": "g"}]})));
    let seen = read(objects);
    assert_eq!(seen.nodes, ["a", "b"]);
    let capacity = seen.sites[0].node.capacity();
    assert_eq!((capacity.cpu_milli, capacity.memory_mib, capacity.gpus), (15_900, 61_440, 2));
    assert_eq!(seen.sites[0].others, [110]);
    let [one] = seen.tenants.as_slice() else { panic!("{:?}", seen.occupants) };
    assert_eq!((one.site, one.request.gpu, &*one.others), (1, GpuRequest::Whole(1), &[1][..]));
    assert_eq!((one.request.cpu_milli, one.request.memory_mib), (1500, 954));
    assert_eq!(one.may_go.as_deref(), Some(&[true, true][..]));
    assert_eq!(seen.occupants[0].asks, "1 nvidia.com/gpu, 1.5 cores, 953.7 MiB");
    assert_eq!(seen.occupants[0].owner.to_string(), "ReplicaSet/ml/r");
    assert_eq!(seen.waiting.len(), 1);
    assert_eq!(seen.waiting[0].pod.to_string(), "Pod/ml/waits");
}

#[track_caller]
fn stays(change: Value, more: Vec<Value>, expected: &str) {
    let mut objects = two_nodes();
    objects.extend(more);
    objects.push(pod("p", Some("b"), change));
    let seen = read(objects);
    let at = seen.occupants.iter().position(|it| it.pod.name == "p").expect("it runs");
    assert!(seen.tenants[at].may_go.is_none());
    let why = seen.occupants[at].stays.clone().unwrap_or_default();
    assert!(why.contains(expected), "{why}");
}

#[test]
fn who_cannot_move_and_why() {
    let owner = |kind: &str| json!({"metadata.ownerReferences": [{"kind": kind, "name": "o", "controller": true}]});
    stays(json!({"metadata.ownerReferences": []}), vec![], "it has no controller");
    stays(json!({"metadata.deletionTimestamp": "2026-01-01T00:00:00Z"}), vec![], "it is ending");
    stays(owner("DaemonSet"), vec![], "DaemonSet/ml/o has one on each node");
    stays(owner("Node"), vec![], "static pod");
    stays(owner("Job"), vec![], "would lose what it did since its last checkpoint");
    let annotated = json!({"metadata.annotations": {"karpenter.sh/do-not-disrupt": "true"}});
    stays(annotated, vec![], "`karpenter.sh/do-not-disrupt` is `true`");
    let gang = json!({"metadata.annotations": {"scheduling.k8s.io/group-name": "g"}});
    stays(gang, vec![], "PodGroup/ml/g would start anew as a whole");
    stays(
        json!({"spec.volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}),
        vec![],
        "`v` is a folder",
    );
    stays(json!({"spec.resourceClaims": [{"name": "c"}]}), vec![], "claims devices");
    let rule = json!([{"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "p"}}}]);
    let affinity =
        json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": rule}});
    stays(json!({"spec.affinity": affinity}), vec![], "required affinity");
    let spread =
        json!([{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]);
    stays(json!({"spec.topologySpreadConstraints": spread}), vec![], "required spreading");
    let port = json!([{"ports": [{"containerPort": 80, "hostPort": 80}], "resources": {"limits": {"nvidia.com/gpu": 1}}}]);
    stays(json!({"spec.containers": port}), vec![], "a port of its node");
    stays(json!({"spec.nodeSelector": {"zone": "y"}}), vec![], "(`a`: no label `zone: y`)");
    let tied =
        json!({"spec.volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]});
    let claim = json!({"kind": "PersistentVolumeClaim", "metadata": {"name": "c", "namespace": "ml"}, "spec": {"volumeName": "pv"}});
    let volume = json!({"kind": "PersistentVolume", "metadata": {"name": "pv"}, "spec": {"nodeAffinity": {"required":
        {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["b"]}]}]}}}});
    stays(tied, vec![claim, volume], "(`a`: its volume `pv` is elsewhere)");
    let budget = |name: &str, allowed: u32| {
        json!({
            "kind": "PodDisruptionBudget", "metadata": {"name": name, "namespace": "ml"},
            "spec": {"selector": {"matchLabels": {"app": "p"}}}, "status": {"disruptionsAllowed": allowed},
        })
    };
    stays(json!({}), vec![budget("x", 0)], "PodDisruptionBudget/ml/x lets no pod go now");
    stays(json!({}), vec![budget("x", 1), budget("y", 1)], "several PodDisruptionBudgets");
    let mut objects = two_nodes();
    objects.extend([
        budget("x", 1),
        pod("p", Some("b"), json!({})),
        pod("q", Some("b"), json!({})),
    ]);
    let seen = read(objects);
    assert_eq!(seen.budgets, [1]);
    assert_eq!(
        seen.tenants.iter().map(|it| it.budgets.clone()).collect::<Vec<_>>(),
        [vec![0], vec![]]
    );
    assert!(seen.tenants.iter().all(|it| it.may_go.is_some()));
}

#[test]
fn lone_jobs_move_where_that_is_wanted() {
    let mut objects = two_nodes();
    let owner = json!([{"kind": "Job", "name": "j", "controller": true}]);
    objects.push(pod("p", Some("b"), json!({"metadata.ownerReferences": owner})));
    let snapshot = Snapshot { objects, ..Snapshot::default() };
    let seen = occupancy(&snapshot, Moving::Jobs).expect("it was read");
    assert!(seen.tenants[0].may_go.is_some());
}

#[test]
fn rules_of_nodes_hold() {
    let taints = json!([{"key": "k", "effect": "NoSchedule"}]);
    let mut objects = vec![
        node("a", json!({}), taints, 4),
        node("b", json!({}), json!([]), 4),
        node("c", json!({}), json!([]), 4),
    ];
    objects[2]["spec"]["unschedulable"] = json!(true);
    objects.push(pod("p", Some("b"), json!({})));
    objects.push(pod("q", Some("b"), json!({"spec.tolerations": [{"operator": "Exists"}]})));
    // Somebody who wants no pod of the app `r` beside him.
    let rule = json!([{"topologyKey": "host", "labelSelector": {"matchLabels": {"app": "r"}}}]);
    let affinity =
        json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": rule}});
    objects[0]["metadata"]["labels"]["host"] = json!("a");
    objects.push(pod("s", Some("a"), json!({"spec.affinity": affinity})));
    objects.push(pod("r", Some("b"), json!({"spec.tolerations": [{"operator": "Exists"}]})));
    let seen = read(objects);
    assert_eq!(seen.sites.iter().map(|it| it.is_open).collect::<Vec<_>>(), [true, true, false]);
    let may_go = |name: &str| {
        let at = seen.occupants.iter().position(|it| it.pod.name == name).expect("it runs");
        seen.tenants[at].may_go.as_deref().map(<[bool]>::to_vec)
    };
    // A node that takes no pods is no place to go.
    assert_eq!(may_go("p"), None);
    assert_eq!(may_go("q").as_deref(), Some(&[true, true, true][..]));
    assert_eq!(may_go("r"), None);
}

#[test]
fn gangs_wait_together() {
    let mut objects = two_nodes();
    let of = |name: &str, created: &str, gang: Option<&str>| {
        let mut pod = pod(name, None, json!({"metadata.creationTimestamp": created}));
        if let Some(gang) = gang {
            pod["metadata"]["annotations"] = json!({"scheduling.k8s.io/group-name": gang});
        }
        pod
    };
    objects.push(of("late", "2026-01-01T00:00:03Z", Some("g")));
    objects.push(of("between", "2026-01-01T00:00:02Z", None));
    objects.push(of("first", "2026-01-01T00:00:01Z", Some("g")));
    objects.push(of("last", "2026-01-01T00:00:04Z", Some("h")));
    let mut urgent = of("urgent", "2026-01-01T00:00:09Z", None);
    urgent["spec"]["priority"] = json!(5);
    objects.push(urgent);
    let seen = read(objects);
    let names: Vec<&str> = seen.waiting.iter().map(|it| it.pod.name.as_str()).collect();
    assert_eq!(names, ["urgent", "first", "late", "between", "last"]);
    let gangs: Vec<Option<usize>> = seen.newcomers.iter().map(|it| it.gang).collect();
    assert_eq!(gangs, [None, Some(0), Some(0), None, Some(1)]);
}

#[test]
fn what_is_not_modelled_is_left_aside() {
    let mut mixed = node("a", json!({}), json!([]), 0);
    mixed["status"]["allocatable"]["nvidia.com/mig-1g.5gb"] = json!("4");
    mixed["status"]["allocatable"]["nvidia.com/mig-3g.20gb"] = json!("1");
    let mut cut = node("b", json!({"nvidia.com/gpu.replicas": "4"}), json!([]), 0);
    cut["status"]["allocatable"]["nvidia.com/gpu.shared"] = json!("8");
    let asks = |units: u32| json!([{"resources": {"limits": {"nvidia.com/gpu.shared": units}}}]);
    let objects = vec![
        mixed,
        cut,
        pod("share", Some("b"), json!({"spec.containers": asks(1)})),
        pod("two", Some("b"), json!({"spec.containers": asks(2)})),
        pod("waits", None, json!({})),
    ];
    let seen = read(objects);
    let aside: Vec<String> =
        seen.aside.iter().map(|it| format!("{}: {}", it.object, it.why)).collect();
    assert_eq!(aside.len(), 3, "{aside:?}");
    assert!(aside[0].starts_with("Node/a: its GPUs are left out: it has `nvidia.com/mig-1g.5gb`"));
    assert!(aside[1].starts_with("Pod/ml/two: its node gets no other pods: 2 parts of GPUs"));
    assert!(aside[2].starts_with("Pod/ml/waits: no node has `nvidia.com/gpu`"));
    assert_eq!(seen.tenants[0].request.gpu, GpuRequest::Share(250));
    assert!(!seen.sites[1].is_open);
}

#[test]
fn without_nodes_or_pods_nothing_is_said() {
    let unread = |what: &str| Snapshot {
        unread: vec![Unread { what: what.into(), reason: "forbidden".into(), not_asked: false }],
        ..Snapshot::default()
    };
    for what in NEEDED {
        let error = occupancy(&unread(what), Moving::Services).expect_err("not read").to_string();
        assert_eq!(error, format!("{what} could not be read: forbidden"));
    }
    assert!(occupancy(&unread("logs"), Moving::Services).is_ok());
    // Nothing of what a file may hold makes it fail.
    let odd = vec![
        json!({"kind": "Node"}),
        json!({"kind": "Pod", "spec": []}),
        json!({"kind": "Pod", "spec": {"nodeName": 5}}),
    ];
    assert_eq!(read(odd).nodes, [""]);
}
