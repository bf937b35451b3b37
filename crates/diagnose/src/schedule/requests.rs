//! How much a pod asks for, as the scheduler counts it.

use std::collections::BTreeMap;

use serde_json::Value;
use trainyard_rules::Quantity;

use super::Amounts;
use crate::view::{list, quantity, text};

/// The sum of the containers and of init containers that go on running, or the largest init
/// container with those that started before it, if that is more; the pod's own requests in place of
/// both where it has some; the runtime's overhead; and one pod.
pub(crate) fn of_pod(spec: &Value) -> Amounts {
    let mut total: Amounts = BTreeMap::new();
    for container in list(spec, "/containers") {
        plus(&mut total, &of_resources(container.get("resources")));
    }
    let mut running: Amounts = BTreeMap::new();
    let mut largest: Amounts = BTreeMap::new();
    for container in list(spec, "/initContainers") {
        let own = of_resources(container.get("resources"));
        if text(container, "/restartPolicy") == "Always" {
            plus(&mut running, &own);
            max(&mut largest, &running);
        } else {
            let mut at_once = running.clone();
            plus(&mut at_once, &own);
            max(&mut largest, &at_once);
        }
    }
    plus(&mut total, &running);
    max(&mut total, &largest);
    for (name, amount) in of_resources(spec.get("resources")) {
        total.insert(name, amount);
    }
    plus(&mut total, &amounts(spec.get("overhead")));
    total.insert("pods".to_owned(), Quantity::whole(1));
    total
}

/// Requests; where only a limit is set, the request is the same.
fn of_resources(resources: Option<&Value>) -> Amounts {
    let of = |list: &str| amounts(resources.and_then(|it| it.get(list)));
    let mut all = of("limits");
    all.extend(of("requests"));
    all
}

fn amounts(map: Option<&Value>) -> Amounts {
    let map = map.and_then(Value::as_object).into_iter().flatten();
    map.filter_map(|(name, value)| Some((name.clone(), quantity(value)?))).collect()
}

fn plus(sum: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let entry = sum.entry(name.clone()).or_insert(Quantity::whole(0));
        *entry = entry.plus(*amount);
    }
}

fn max(largest: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let entry = largest.entry(name.clone()).or_insert(Quantity::whole(0));
        *entry = (*entry).max(*amount);
    }
}

#[test]
fn what_the_scheduler_counts() {
    let spec = serde_json::json!({
        "containers": [
            {"resources": {"requests": {"cpu": "500m"}, "limits": {"cpu": "2", "nvidia.com/gpu": 1}}},
            {"resources": {"requests": {"cpu": "1"}}},
        ],
        "initContainers": [
            {"restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}},
            {"resources": {"requests": {"cpu": "3", "memory": "1Gi"}}},
        ],
        "overhead": {"cpu": "50m"},
    });
    let sum = of_pod(&spec);
    assert_eq!(sum["cpu"], Quantity::parse("3150m").unwrap());
    assert_eq!(sum["memory"], Quantity::parse("1Gi").unwrap());
    assert_eq!(sum["nvidia.com/gpu"], Quantity::whole(1));
    assert_eq!(sum["pods"], Quantity::whole(1));
}
