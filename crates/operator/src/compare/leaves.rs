//! One number for each value of an object.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::quantity;

/// The values of an object, each with its path, as sorted hashes.
///
/// Lists follow server-side apply: items of a list with keys (containers, ports, volumes…) are
/// found by their key, wherever they stand, and may have others beside them; any other list is one
/// value, so that its length counts too. Empty maps and lists count as absent, since the API server
/// leaves most of them out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Leaves(Box<[u64]>);

impl Leaves {
    /// The leaves of an object, without its status and the API server's own bookkeeping.
    pub(crate) fn of(object: &Value) -> Self {
        let mut leaves = Vec::new();
        walk(object, Place::root(), &mut |leaf, _| leaves.push(leaf));
        leaves.sort_unstable();
        leaves.dedup();
        Self(leaves.into_boxed_slice())
    }

    /// The leaves of ours that are neither in `there` nor in `tolerated`.
    pub(crate) fn missing_from(&self, there: &Self, tolerated: &Self) -> Self {
        let is_there = |leaf: &u64| {
            there.0.binary_search(leaf).is_ok() || tolerated.0.binary_search(leaf).is_ok()
        };
        Self(self.0.iter().copied().filter(|leaf| !is_there(leaf)).collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The paths of these leaves in the object that they are of, for people.
    pub(crate) fn paths_in(&self, object: &Value) -> Vec<String> {
        let mut paths = Vec::new();
        walk(object, Place::root(), &mut |leaf, place| {
            if self.0.binary_search(&leaf).is_ok() {
                paths.push(place.path.clone());
            }
        });
        paths
    }
}

/// Eight bytes of the SHA-256 of an object, whatever the order of its keys: changes when anything
/// in the object does, and is the same in every release.
pub(crate) fn digest(object: &Value) -> u64 {
    let sorted = sorted(object);
    let digest = Sha256::digest(sorted.to_string().as_bytes());
    digest.iter().take(8).fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}

/// serde_json keeps the order of keys if any crate of the build asks for it.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<_, _> = fields.iter().collect();
            fields.into_iter().map(|(key, value)| (key.clone(), sorted(value))).collect()
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        scalar => scalar.clone(),
    }
}

/// Where a value stands.
#[derive(Clone)]
struct Place {
    hash: DefaultHasher,
    /// For people, and to tell the lists of one name apart.
    path: String,
    field: String,
    is_quantity: bool,
}

impl Place {
    fn root() -> Self {
        let hash = DefaultHasher::new();
        Self { hash, path: String::new(), field: String::new(), is_quantity: false }
    }

    fn field(&self, name: &str) -> Self {
        let mut place = self.step(name);
        place.is_quantity = matches!(self.field.as_str(), "requests" | "limits")
            || matches!(name, "sizeLimit" | "averageValue" | "storage");
        name.clone_into(&mut place.field);
        place.path =
            if self.path.is_empty() { name.into() } else { format!("{}.{name}", self.path) };
        place
    }

    fn item(&self, key: &str) -> Self {
        let mut place = self.step(key);
        place.path = format!("{}[{key}]", self.path);
        place
    }

    fn step(&self, name: &str) -> Self {
        let mut place = self.clone();
        // The length, which str's Hash ends with, keeps `a`,`b` apart from `ab`.
        name.hash(&mut place.hash);
        place
    }

    fn leaf(&self, value: &str) -> u64 {
        let mut hash = self.hash.clone();
        0xA5_u8.hash(&mut hash);
        value.hash(&mut hash);
        hash.finish()
    }
}

fn walk(value: &Value, place: Place, visit: &mut impl FnMut(u64, &Place)) {
    match value {
        Value::Null => {}
        Value::Object(fields) => {
            for (name, value) in fields {
                let skipped = match place.path.as_str() {
                    // Items of a list have no type.
                    "" => matches!(name.as_str(), "status" | "apiVersion" | "kind"),
                    "metadata" => name == "managedFields",
                    _ => false,
                };
                if !skipped {
                    walk(value, place.field(name), visit);
                }
            }
        }
        Value::Array(items) => list(items, &place, visit),
        scalar => {
            let text = match scalar {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            let leaf = match place.is_quantity.then(|| quantity::parse(&text)).flatten() {
                Some(billionths) => place.leaf(&format!("{billionths}n")),
                None => place.leaf(&text),
            };
            visit(leaf, &place);
        }
    }
}

fn list(items: &[Value], place: &Place, visit: &mut impl FnMut(u64, &Place)) {
    if items.is_empty() {
        return;
    }
    for (index, item) in items.iter().enumerate() {
        let key = item_key(place, item);
        let item_place = match &key {
            Some(key) => place.item(key),
            None => place.item(&index.to_string()),
        };
        visit(item_place.leaf(""), &item_place);
        if key.is_none() && index == 0 {
            visit(place.leaf(&format!("{} items", items.len())), place);
        }
        walk(item, item_place, visit);
    }
}

/// The key of an item in a list whose items are merged by key, as the API's types say
/// (`x-kubernetes-list-map-keys` and `x-kubernetes-list-type: set` of Kubernetes 1.34).
fn item_key(place: &Place, item: &Value) -> Option<String> {
    let keys: &[&str] = match place.field.as_str() {
        "containers" | "initContainers" | "volumes" | "env" | "imagePullSecrets" | "secrets"
        | "resourceClaims" | "claims" => &["name"],
        "volumeMounts" => &["mountPath"],
        "topologySpreadConstraints" => &["topologyKey", "whenUnsatisfiable"],
        "ownerReferences" => &["uid"],
        "ports" if item.get("containerPort").is_some() => &["containerPort", "protocol"],
        // A Service's; a NetworkPolicy's lists are one value each.
        "ports" if place.path == "spec.ports" => &["port", "protocol"],
        "finalizers" => return item.as_str().map(str::to_owned),
        _ => return None,
    };
    let mut key = String::new();
    for name in keys {
        let part = match item.get(name) {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None if *name == "protocol" => "TCP".to_owned(),
            None => return None,
        };
        key.push_str(&format!("{name}={part},"));
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn missing(wanted: Value, live: Value) -> Vec<String> {
        let leaves = Leaves::of(&wanted).missing_from(&Leaves::of(&live), &Leaves::default());
        leaves.paths_in(&wanted)
    }

    #[track_caller]
    fn check_covered(wanted: Value, live: Value) {
        assert_eq!(missing(wanted, live), Vec::<String>::new());
    }

    #[test]
    fn what_the_api_server_and_others_add_does_not_matter() {
        check_covered(
            json!({"apiVersion": "v1", "kind": "K", "metadata": {"name": "a", "annotations": null}, "spec": {"x": 1, "list": [], "map": {}}}),
            json!({"metadata": {"name": "a", "uid": "u"}, "spec": {"x": 1, "y": "default"}, "status": {"x": 3}}),
        );
        check_covered(
            json!({"spec": {"template": {"spec": {"containers": [{"name": "model", "ports": [{"containerPort": 8080}]}]}}}}),
            json!({"spec": {"template": {"spec": {"containers": [
                {"name": "istio-proxy", "image": "i"},
                {"name": "model", "image": "x", "ports": [{"containerPort": 8080, "protocol": "TCP"}]},
            ]}}}}),
        );
        check_covered(
            json!({"spec": {"ports": [{"port": 80, "targetPort": "http"}]}}),
            json!({"spec": {"ports": [{"port": 80, "protocol": "TCP", "targetPort": "http"}]}}),
        );
    }

    #[test]
    fn quantities_are_compared_by_value_and_other_text_is_not() {
        let resources = |cpu: Value| json!({"resources": {"requests": {"cpu": cpu}}});
        check_covered(resources(json!("1000m")), resources(json!("1")));
        check_covered(resources(json!(2)), resources(json!("2")));
        let env = |value: &str| json!({"env": [{"name": "A", "value": value}]});
        assert_eq!(missing(env("1000m"), env("1")), ["env[name=A,].value"]);
    }

    #[test]
    fn a_list_without_keys_is_one_value() {
        let args = |args: Value| json!({"args": args});
        assert_eq!(missing(args(json!(["a"])), args(json!(["a", "b"]))), ["args"]);
        assert_eq!(missing(args(json!(["a", "b"])), args(json!(["b", "a"]))).len(), 2);
        let rule = |ports: Value| json!({"spec": {"ingress": [{"ports": ports}]}});
        let one = json!({"port": 80});
        check_covered(rule(json!([one])), rule(json!([{"port": 80, "protocol": "TCP"}])));
        let two = rule(json!([one, {"port": 81}]));
        assert_eq!(missing(rule(json!([one])), two), ["spec.ingress[0].ports"]);
    }

    #[test]
    fn drift_is_found_and_named() {
        let live = json!({"spec": {"template": {"spec": {"containers": [{"name": "model", "image": "other"}]}}}});
        let wanted = json!({"spec": {"template": {"spec": {"containers": [{"name": "model", "image": "ours"}]}}}});
        let path = "spec.template.spec.containers[name=model,].image";
        assert_eq!(missing(wanted.clone(), live.clone()), [path]);
        let tolerated = Leaves::of(&wanted).missing_from(&Leaves::of(&live), &Leaves::default());
        assert!(Leaves::of(&wanted).missing_from(&Leaves::of(&live), &tolerated).is_empty());
    }

    #[test]
    fn a_digest_does_not_depend_on_the_order_of_keys() {
        let one: Value =
            serde_json::from_str(r#"{"a": {"b": 1, "c": [1, 2]}, "d": 2}"#).expect("JSON");
        let two: Value =
            serde_json::from_str(r#"{"d": 2, "a": {"c": [1, 2], "b": 1}}"#).expect("JSON");
        assert_eq!(digest(&one), digest(&two));
        assert_ne!(digest(&one), digest(&json!({"a": {"b": 1, "c": [2, 1]}, "d": 2})));
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a-z0-9]{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("ports|containers|env|name|[a-c]", inner, 0..4)
                    .prop_map(|fields| fields.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn an_object_covers_itself(object in value()) {
            let leaves = Leaves::of(&object);
            prop_assert!(leaves.missing_from(&leaves, &Leaves::default()).is_empty());
        }
    }
}
