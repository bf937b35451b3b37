//! What a manifest may hold, read once from the schema of the custom resource.
//!
//! The schema is the one that Kubernetes gets, with our scalars still marked: there is one place
//! that says what a field is, the type itself.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use kube::core::cel::{CompiledSchema, compile_schema};
use kube::core::schema::{OptionalEnum, OptionalIntOrString, StructuralSchemaRewriter};
use regex::Regex;
use schemars::JsonSchema;
use serde_json::{Map, Value};

use crate::scalar::{SCALAR_KEY, SCALARS, ScalarKind};

/// What a value has to be.
pub(super) enum Shape {
    Scalar(&'static ScalarKind),
    Enum(Vec<String>),
    Text { min: u64, max: u64, pattern: Option<Regex> },
    Integer { min: i128, max: i128 },
    Boolean,
    List { item: Box<Shape>, min: u64, max: u64 },
    Map { value: Box<Shape> },
    Object(Box<Object>),
}

/// A mapping with named fields.
pub(super) struct Object {
    pub(super) fields: BTreeMap<String, Field>,
    /// Rules between the fields, in CEL; none of its fields' own.
    pub(super) rules: CompiledSchema,
}

/// One field of an object.
pub(super) struct Field {
    pub(super) shape: Shape,
    pub(super) is_required: bool,
    pub(super) default: Option<Value>,
    /// The first sentence of its description.
    pub(super) summary: String,
}

/// The schema of a resource's `spec`, as the custom resource's but with [`SCALAR_KEY`].
fn spec_schema<T: JsonSchema>() -> Value {
    schemars::generate::SchemaSettings::openapi3()
        .with(|settings| {
            settings.inline_subschemas = true;
            settings.meta_schema = None;
        })
        .with_transform(schemars::transform::AddNullable::default())
        .with_transform(StructuralSchemaRewriter)
        .with_transform(OptionalEnum)
        .with_transform(OptionalIntOrString)
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value()
}

/// The shape of a service's `spec`.
pub(super) fn model_service() -> &'static Shape {
    static SPEC: OnceLock<Shape> = OnceLock::new();
    SPEC.get_or_init(Shape::of::<crate::ModelServiceSpec>)
}

/// The shape of a job's `spec`.
pub(super) fn training_job() -> &'static Shape {
    static SPEC: OnceLock<Shape> = OnceLock::new();
    SPEC.get_or_init(Shape::of::<crate::TrainingJobSpec>)
}

/// The shape of a pool's `spec`.
pub(super) fn gpu_pool() -> &'static Shape {
    static SPEC: OnceLock<Shape> = OnceLock::new();
    SPEC.get_or_init(Shape::of::<crate::GpuPoolSpec>)
}

/// The shape of a queue's `spec`.
pub(super) fn queue() -> &'static Shape {
    static SPEC: OnceLock<Shape> = OnceLock::new();
    SPEC.get_or_init(Shape::of::<crate::QueueSpec>)
}

/// The shape of labels and annotations.
pub(super) fn texts() -> &'static Shape {
    static TEXTS: OnceLock<Shape> = OnceLock::new();
    TEXTS.get_or_init(|| Shape::Map {
        value: Box::new(Shape::Text { min: 0, max: u64::MAX, pattern: None }),
    })
}

impl Shape {
    fn of<T: JsonSchema>() -> Self {
        Self::read(&spec_schema::<T>()).expect("a test reads every field of the schema")
    }

    /// Reads a schema; `None` if it holds something that no field of ours has.
    pub(super) fn read(schema: &Value) -> Option<Self> {
        if let Some(name) = schema.get(SCALAR_KEY) {
            let kind = SCALARS.iter().find(|kind| Some(kind.name) == name.as_str())?;
            return Some(Self::Scalar(kind));
        }
        if let Some(values) = schema.get("enum").and_then(Value::as_array) {
            let names = values.iter().filter_map(Value::as_str).map(str::to_owned);
            return Some(Self::Enum(names.collect()));
        }
        let count =
            |key: &str, default: u64| schema.get(key).and_then(Value::as_u64).unwrap_or(default);
        match schema.get("type")?.as_str()? {
            "string" => {
                let pattern = match schema.get("pattern") {
                    Some(pattern) => Some(Regex::new(pattern.as_str()?).ok()?),
                    None => None,
                };
                Some(Self::Text {
                    min: count("minLength", 0),
                    max: count("maxLength", u64::MAX),
                    pattern,
                })
            }
            "integer" => {
                // What the format allows, where nothing narrower is said.
                let (least, most) = match schema.get("format").and_then(Value::as_str) {
                    Some("uint8") => (0, i128::from(u8::MAX)),
                    Some("uint32") => (0, i128::from(u32::MAX)),
                    Some("uint64") => (0, i128::from(i64::MAX)),
                    _ => (i128::from(i64::MIN), i128::from(i64::MAX)),
                };
                let bound =
                    |key: &str| schema.get(key).and_then(Value::as_f64).map(|bound| bound as i128);
                Some(Self::Integer {
                    min: bound("minimum").unwrap_or(least).max(least),
                    max: bound("maximum").unwrap_or(most).min(most),
                })
            }
            "boolean" => Some(Self::Boolean),
            "array" => Some(Self::List {
                item: Box::new(Self::read(schema.get("items")?)?),
                min: count("minItems", 0),
                max: count("maxItems", u64::MAX),
            }),
            "object" => match schema.get("properties").and_then(Value::as_object) {
                Some(properties) => {
                    Object::read(schema, properties).map(|object| Self::Object(Box::new(object)))
                }
                None => {
                    let value = Self::read(schema.get("additionalProperties")?)?;
                    Some(Self::Map { value: Box::new(value) })
                }
            },
            _ => None,
        }
    }

    /// What belongs there, for "must be …".
    pub(super) fn expected(&self) -> String {
        match self {
            Self::Scalar(kind) => kind.expected.to_owned(),
            Self::Enum(names) => format!("one of {}", listed(names.iter().map(String::as_str))),
            Self::Text { .. } => "text".to_owned(),
            Self::Integer { .. } => "a whole number".to_owned(),
            Self::Boolean => "`true` or `false`".to_owned(),
            Self::List { .. } => "a list".to_owned(),
            Self::Map { .. } => "a mapping of names to texts".to_owned(),
            Self::Object(object) => {
                format!("a mapping with {}", listed(object.fields.keys().map(String::as_str)))
            }
        }
    }

    /// Paths of objects below this one that have a field of that name.
    pub(super) fn owners(&self, field: &str, path: &str) -> Vec<String> {
        let mut owners = Vec::new();
        match self {
            Self::Object(object) => {
                if object.fields.contains_key(field) {
                    owners.push(path.to_owned());
                }
                for (name, inner) in &object.fields {
                    owners.extend(inner.shape.owners(field, &format!("{path}.{name}")));
                }
            }
            Self::List { item, .. } => owners.extend(item.owners(field, &format!("{path}[]"))),
            Self::Scalar(_)
            | Self::Enum(_)
            | Self::Text { .. }
            | Self::Integer { .. }
            | Self::Boolean
            | Self::Map { .. } => {}
        }
        owners
    }
}

impl Object {
    fn read(schema: &Value, properties: &Map<String, Value>) -> Option<Self> {
        let required: Vec<&str> = schema
            .get("required")
            .and_then(Value::as_array)
            .map(|names| names.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        let mut fields = BTreeMap::new();
        for (name, property) in properties {
            let description =
                property.get("description").and_then(Value::as_str).unwrap_or_default();
            let description = description.split_whitespace().collect::<Vec<_>>().join(" ");
            let summary = description.split_once(". ").map_or(&*description, |(first, _)| first);
            fields.insert(
                name.clone(),
                Field {
                    shape: Shape::read(property)?,
                    is_required: required.contains(&name.as_str()),
                    default: property.get("default").filter(|value| !value.is_null()).cloned(),
                    summary: summary.trim_end_matches('.').to_owned(),
                },
            );
        }
        Some(Self { fields, rules: compile_schema(&own_rules(schema)) })
    }
}

/// A schema with its own rules and without those of its fields, which have places of their own.
fn own_rules(schema: &Value) -> Value {
    let mut schema = schema.clone();
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(remove_rules);
    }
    schema
}

fn remove_rules(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.remove("x-kubernetes-validations");
            fields.values_mut().for_each(remove_rules);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_rules),
        _ => {}
    }
}

/// Words as `a`, `b` and `c`.
pub(super) fn listed<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        Some((last, _)) => last.clone(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schemas() -> [Value; 4] {
        [
            spec_schema::<crate::ModelServiceSpec>(),
            spec_schema::<crate::TrainingJobSpec>(),
            spec_schema::<crate::GpuPoolSpec>(),
            spec_schema::<crate::QueueSpec>(),
        ]
    }

    #[test]
    fn every_field_of_the_schema_has_a_shape_and_rules_that_compile() {
        fn walk(shape: &Shape, path: &str, rules: &mut usize) {
            match shape {
                Shape::Object(object) => {
                    assert!(
                        !object.rules.has_errors(),
                        "{path}: {:?}",
                        object.rules.compilation_errors()
                    );
                    *rules += object.rules.validations.len();
                    for (name, field) in &object.fields {
                        assert!(!field.summary.is_empty(), "{path}.{name} has no description");
                        walk(&field.shape, &format!("{path}.{name}"), rules);
                    }
                }
                Shape::List { item, .. } | Shape::Map { value: item } => walk(item, path, rules),
                _ => {}
            }
        }
        /// Rules but those of scalars, which the scalar's own check says.
        fn written(schema: &Value) -> usize {
            match schema {
                Value::Object(fields) if fields.contains_key(SCALAR_KEY) => 0,
                Value::Object(fields) => {
                    let own = usize::from(fields.get("rule").is_some_and(Value::is_string));
                    fields.values().map(written).sum::<usize>() + own
                }
                Value::Array(items) => items.iter().map(written).sum(),
                _ => 0,
            }
        }
        for schema in schemas() {
            let shape = Shape::read(&schema).expect("every part of it is known");
            let mut rules = 0;
            walk(&shape, "spec", &mut rules);
            assert_eq!(rules, written(&schema), "a rule is in the schema and in no shape");
        }
    }

    #[test]
    fn every_scalar_is_used() {
        let schema = schemas().map(|schema| schema.to_string()).concat();
        for kind in SCALARS {
            assert!(
                schema.contains(&format!("\"{SCALAR_KEY}\":\"{}\"", kind.name)),
                "{}",
                kind.name
            );
        }
    }
}
