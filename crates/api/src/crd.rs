//! The definitions of the custom resources.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::CustomResourceExt;

use crate::{GpuPool, ModelService, Queue, TrainingJob};

/// The definitions that make a cluster know the resources that the operator acts on.
pub fn crds() -> [CustomResourceDefinition; 4] {
    [ModelService::crd(), TrainingJob::crd(), GpuPool::crd(), Queue::crd()]
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::scalar::SCALAR_KEY;

    fn schemas() -> [Value; 4] {
        crds().map(|crd| {
            let definition = serde_json::to_value(crd).expect("plain data");
            definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
        })
    }

    /// Visits each schema of a field or an entry, with its path.
    fn walk(schema: &Value, path: &str, visit: &mut impl FnMut(&Value, &str)) {
        visit(schema, path);
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            walk(property, &format!("{path}.{name}"), visit);
        }
        for (key, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
            if schema[key].is_object() {
                walk(&schema[key], &format!("{path}{mark}"), visit);
            }
        }
    }

    #[test]
    fn the_definition() {
        let crd = ModelService::crd();
        insta::assert_snapshot!(serde_json::to_string_pretty(&crd).expect("plain data"));
    }

    #[test]
    fn the_definition_of_jobs() {
        let crd = TrainingJob::crd();
        insta::assert_snapshot!(serde_json::to_string_pretty(&crd).expect("plain data"));
    }

    #[test]
    fn the_definition_of_pools() {
        let crd = GpuPool::crd();
        insta::assert_snapshot!(serde_json::to_string_pretty(&crd).expect("plain data"));
    }

    #[test]
    fn the_definition_of_queues() {
        let crd = Queue::crd();
        insta::assert_snapshot!(serde_json::to_string_pretty(&crd).expect("plain data"));
    }

    #[test]
    fn each_field_has_a_description() {
        let mut check = |schema: &Value, path: &str| {
            // Entries of lists and maps are described by their field; the status' condition by
            // Kubernetes.
            let is_entry = path.ends_with("[]") || path.ends_with("{}") || path == ".metadata";
            let described = schema["description"].as_str().is_some_and(|text| !text.is_empty());
            assert!(is_entry || described, "`{path}` has no description");
        };
        schemas().iter().for_each(|schema| walk(schema, "", &mut check));
    }

    /// What an API server demands of a structural schema (Kubernetes, "Specifying a structural
    /// schema"), and that nothing of ours leaks into it.
    #[test]
    fn the_schema_is_structural() {
        let mut check = |schema: &Value, path: &str| {
            let int_or_string = schema["x-kubernetes-int-or-string"] == true;
            let has_type = schema["type"].is_string();
            assert_ne!(has_type, int_or_string, "`{path}` needs a type: {schema}");
            for forbidden in
                ["$ref", "definitions", "anyOf", "oneOf", "allOf", "not", "uniqueItems"]
            {
                assert!(schema[forbidden].is_null(), "`{path}` has `{forbidden}`");
            }
            // API servers before 1.30 take any text of such a field for as long as a request may be,
            // and refuse a definition whose rules could cost too much: one for each item does.
            let rules = schema["x-kubernetes-validations"].to_string();
            assert!(
                !(int_or_string && path.contains("[]") && rules.contains("matches")),
                "`{path}` is in a list, and its rules look into a text of any length"
            );
            assert!(
                schema["properties"].is_null() || schema["additionalProperties"].is_null(),
                "`{path}` has both names and free keys"
            );
        };
        for schema in schemas() {
            assert!(!schema.to_string().contains(SCALAR_KEY));
            walk(&schema, "", &mut check);
        }
    }
}
