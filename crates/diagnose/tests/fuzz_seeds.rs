//! The fuzz target of the doctor on changed copies of its seeds, and changed fixtures.

#[path = "../../../fuzz/mutate.rs"]
mod mutate;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

#[test]
fn doctor() {
    mutate::run("doctor", trainyard_diagnose::fuzzing::doctor);
}

/// Any JSON, with the keys that diagnoses look for.
fn any_json() -> impl Strategy<Value = Value> {
    const KEYS: [&str; 24] = [
        "kind",
        "metadata",
        "name",
        "namespace",
        "spec",
        "status",
        "containers",
        "resources",
        "requests",
        "limits",
        "nvidia.com/gpu",
        "conditions",
        "type",
        "taints",
        "key",
        "effect",
        "labels",
        "ownerReferences",
        "controller",
        "nodeName",
        "allocatable",
        "env",
        "value",
        "containerStatuses",
    ];
    const TEXTS: [&str; 14] = [
        "Pod",
        "Node",
        "Event",
        "Pending",
        "True",
        "False",
        "8Gi",
        "-1",
        "PodScheduled",
        "a",
        "99999999999E",
        "NoSchedule",
        "2026-01-01T00:00:00Z",
        "CUDA out of memory",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop::sample::select(&TEXTS[..]).prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((prop::sample::select(&KEYS[..]), inner), 0..6).prop_map(
                |fields| {
                    Value::Object(
                        fields
                            .into_iter()
                            .map(|(key, value)| (key.to_owned(), value))
                            .collect::<Map<_, _>>(),
                    )
                }
            ),
        ]
    })
}

proptest! {
    #[test]
    fn no_objects_panic(objects in prop::collection::vec(any_json(), 0..6)) {
        let value = json!({"format": trainyard_diagnose::FORMAT, "takenAt": "2026-01-01T01:00:00Z", "objects": objects});
        trainyard_diagnose::fuzzing::any(value);
    }

    /// A part of a real object replaced by anything.
    #[test]
    fn no_changed_fixture_panics(which in 0usize..100, at in 0usize..4000, with in any_json()) {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
        let mut paths: Vec<_> = folder.read_dir().unwrap().map(|it| it.unwrap().path()).collect();
        paths.sort();
        let text = std::fs::read_to_string(&paths[which % paths.len()]).unwrap();
        let mut value: Value = serde_saphyr::from_str(&text).unwrap();
        let mut left = at;
        replace(&mut value, &mut left, &with);
        trainyard_diagnose::fuzzing::any(value);
    }
}

/// Replaces the value that is reached after so many steps.
fn replace(value: &mut Value, left: &mut usize, with: &Value) -> bool {
    if *left == 0 {
        *value = with.clone();
        return true;
    }
    *left -= 1;
    match value {
        Value::Array(items) => items.iter_mut().any(|item| replace(item, left, with)),
        Value::Object(fields) => fields.values_mut().any(|item| replace(item, left, with)),
        _ => false,
    }
}
