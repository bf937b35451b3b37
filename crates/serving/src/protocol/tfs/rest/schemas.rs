//! Schemas of the bodies, for `/openapi.json`.

use utoipa::openapi::schema::{AdditionalProperties, SchemaType};
use utoipa::openapi::{ArrayBuilder, Object, ObjectBuilder, RefOr, Schema, Type};

pub(super) const PREDICT_REQUEST: &str = "PredictRequest";
pub(super) const PREDICT_RESPONSE: &str = "PredictResponse";
pub(super) const EXAMPLES_REQUEST: &str = "ExamplesRequest";
pub(super) const CLASSIFY_RESPONSE: &str = "ClassifyResponse";
pub(super) const REGRESS_RESPONSE: &str = "RegressResponse";
pub(super) const STATUS: &str = "ModelStatus";
pub(super) const METADATA: &str = "ModelMetadata";
/// What KServe and OpenAI call a model, with its status.
pub(super) const MODEL: &str = "Model";
pub(super) const MODELS: &str = "Models";

/// Every schema that the routes name.
pub(super) fn schemas() -> Vec<(&'static str, RefOr<Schema>)> {
    let string = || Object::with_type(Type::String);
    let any = || ObjectBuilder::new().schema_type(SchemaType::AnyValue);
    let array = |items: RefOr<Schema>| ArrayBuilder::new().items(items);
    let free =
        || ObjectBuilder::new().additional_properties(Some(AdditionalProperties::FreeForm(true)));
    let results = |items: RefOr<Schema>| ObjectBuilder::new().property("results", array(items));
    let status = || {
        ObjectBuilder::new()
            .property("version", string())
            .property("state", string())
            .property("status", free())
    };
    let statuses = || array(status().into());
    let model = || {
        ObjectBuilder::new()
            .property("id", string())
            .property("object", string())
            .property("created", Object::with_type(Type::Integer))
            .property("owned_by", string())
    };
    vec![
        (
            PREDICT_REQUEST,
            ObjectBuilder::new()
                .property("signature_name", string())
                .property(
                    "instances",
                    array(any().into()).description(Some(
                        "One entry a row: a value, nested lists of them, or an object with the \
                         inputs by name",
                    )),
                )
                .property(
                    "inputs",
                    any().description(Some(
                        "In place of instances: the whole input, or an object with the inputs by \
                         name",
                    )),
                )
                .into(),
        ),
        (
            PREDICT_RESPONSE,
            ObjectBuilder::new()
                .property("predictions", array(any().into()))
                .property("outputs", any())
                .into(),
        ),
        (
            EXAMPLES_REQUEST,
            ObjectBuilder::new()
                .property("signature_name", string())
                .property("context", free())
                .property("examples", array(free().into()))
                .required("examples")
                .into(),
        ),
        (
            CLASSIFY_RESPONSE,
            results(
                array(array(any().into()).description(Some("A label and its score")).into()).into(),
            )
            .into(),
        ),
        (REGRESS_RESPONSE, results(Object::with_type(Type::Number).into()).into()),
        (STATUS, ObjectBuilder::new().property("model_version_status", statuses()).into()),
        (
            METADATA,
            ObjectBuilder::new().property("model_spec", free()).property("metadata", free()).into(),
        ),
        (
            MODEL,
            model()
                .property("name", string())
                .property("ready", Object::with_type(Type::Boolean))
                .property("model_version_status", statuses())
                .into(),
        ),
        (
            MODELS,
            ObjectBuilder::new()
                .property("object", string())
                .property("data", array(model().into()))
                .property("models", array(string().into()))
                .into(),
        ),
    ]
}
