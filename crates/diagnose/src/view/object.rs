//! Any object, by pointers into its JSON.

use serde_json::Value;

use crate::answer::ObjectRef;

#[derive(Clone, Copy)]
pub(crate) struct Object<'a>(pub(crate) &'a Value);

/// A text in a value; empty if there is none.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// A list in a value; empty if there is none.
pub(crate) fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

pub(crate) fn number(value: &Value, pointer: &str) -> Option<i64> {
    value.pointer(pointer)?.as_i64()
}

/// A time as Kubernetes writes it, in seconds since the epoch.
pub(crate) fn seconds(time: &str) -> Option<i64> {
    time.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
}

impl<'a> Object<'a> {
    pub(crate) fn at(self, pointer: &str) -> Option<&'a Value> {
        self.0.pointer(pointer)
    }

    pub(crate) fn text(self, pointer: &str) -> &'a str {
        text(self.0, pointer)
    }

    pub(crate) fn list(self, pointer: &str) -> &'a [Value] {
        list(self.0, pointer)
    }

    pub(crate) fn number(self, pointer: &str) -> Option<i64> {
        number(self.0, pointer)
    }

    pub(crate) fn kind(self) -> &'a str {
        self.text("/kind")
    }

    pub(crate) fn name(self) -> &'a str {
        self.text("/metadata/name")
    }

    pub(crate) fn namespace(self) -> &'a str {
        self.text("/metadata/namespace")
    }

    pub(crate) fn uid(self) -> &'a str {
        self.text("/metadata/uid")
    }

    pub(crate) fn created(self) -> &'a str {
        self.text("/metadata/creationTimestamp")
    }

    pub(crate) fn is_ending(self) -> bool {
        self.at("/metadata/deletionTimestamp").is_some_and(|time| !time.is_null())
    }

    pub(crate) fn label(self, key: &str) -> Option<&'a str> {
        self.0.pointer("/metadata/labels")?.get(key)?.as_str()
    }

    pub(crate) fn labels(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let labels = self.at("/metadata/labels").and_then(Value::as_object);
        labels
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
    }

    pub(crate) fn annotation(self, key: &str) -> Option<&'a str> {
        self.0.pointer("/metadata/annotations")?.get(key)?.as_str()
    }

    pub(crate) fn condition(self, name: &str) -> Option<&'a Value> {
        self.list("/status/conditions").iter().find(|it| text(it, "/type") == name)
    }

    /// The condition's status; empty if there is no such condition.
    pub(crate) fn condition_status(self, name: &str) -> &'a str {
        self.condition(name).map_or("", |it| text(it, "/status"))
    }

    pub(crate) fn reference(self) -> ObjectRef {
        ObjectRef::new(self.kind(), self.namespace(), self.name())
    }

    /// All owners. One in the same namespace and one in none cannot be told apart; both are given.
    pub(crate) fn owners(self) -> impl Iterator<Item = ObjectRef> {
        self.list("/metadata/ownerReferences").iter().flat_map(move |owner| {
            let of =
                |namespace| ObjectRef::new(text(owner, "/kind"), namespace, text(owner, "/name"));
            let namespaces =
                if self.namespace().is_empty() { vec![""] } else { vec![self.namespace(), ""] };
            namespaces.into_iter().map(of).collect::<Vec<_>>()
        })
    }

    /// The owner that made it.
    pub(crate) fn controller(self) -> Option<ObjectRef> {
        let owners = self.list("/metadata/ownerReferences");
        let owner = owners.iter().find(|it| it.get("controller") == Some(&Value::Bool(true)))?;
        Some(ObjectRef::new(text(owner, "/kind"), self.namespace(), text(owner, "/name")))
    }
}
