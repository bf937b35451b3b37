//! One object, whatever its kind.

use k8s_openapi::Metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde_json::Value;

/// A whole Kubernetes object. Serialises to itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Object {
    value: Value,
    #[serde(skip)]
    plural: &'static str,
}

impl Object {
    pub(super) fn new<T>(object: &T) -> Self
    where
        T: Serialize + Metadata<Ty = ObjectMeta>,
    {
        let value = serde_json::to_value(object).expect("types of Kubernetes are plain data");
        Self { value, plural: T::URL_PATH_SEGMENT }
    }

    /// One of a kind that Kubernetes itself does not have.
    pub(super) fn custom(value: Value, plural: &'static str) -> Self {
        Self { value, plural }
    }

    /// `apps/v1`.
    pub fn api_version(&self) -> &str {
        self.text("/apiVersion")
    }

    /// `Deployment`.
    pub fn kind(&self) -> &str {
        self.text("/kind")
    }

    /// `deployments`, as in the API's paths.
    pub fn plural(&self) -> &'static str {
        self.plural
    }

    pub fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    /// None where neither plan nor settings name one.
    pub fn namespace(&self) -> Option<&str> {
        self.value.pointer("/metadata/namespace").and_then(Value::as_str)
    }

    /// The object as JSON.
    pub fn value(&self) -> &Value {
        &self.value
    }

    pub fn into_value(self) -> Value {
        self.value
    }

    fn text(&self, path: &str) -> &str {
        self.value.pointer(path).and_then(Value::as_str).unwrap_or_default()
    }
}
