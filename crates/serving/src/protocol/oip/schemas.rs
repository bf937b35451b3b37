//! Schemas of the JSON bodies, for `/openapi.json`.

use utoipa::openapi::schema::{AdditionalProperties, SchemaType};
use utoipa::openapi::{
    ArrayBuilder, Object, ObjectBuilder, OneOfBuilder, Ref, RefOr, Schema, Type,
};

use crate::tensor::DataType;

/// Every schema that the routes name, and those that these name.
pub(super) fn schemas() -> Vec<(&'static str, RefOr<Schema>)> {
    let string = || Object::with_type(Type::String);
    let integer = || Object::with_type(Type::Integer);
    let boolean = || Object::with_type(Type::Boolean);
    let array = |items: RefOr<Schema>| ArrayBuilder::new().items(items);
    let any = || Object::with_type(SchemaType::AnyValue);
    let free =
        || ObjectBuilder::new().additional_properties(Some(AdditionalProperties::FreeForm(true)));
    // In the document, names have the protocol's in front.
    let named = |name: &str| Ref::from_schema_name(format!("oip.{name}"));
    let data_type = || {
        let names = DataType::ALL.into_iter().map(DataType::oip_name);
        ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names))
    };
    let extents = || array(integer().into());
    let parameters = || {
        let value = OneOfBuilder::new()
            .item(string())
            .item(integer())
            .item(Object::with_type(Type::Number))
            .item(boolean());
        let value = RefOr::T(Schema::OneOf(value.build()));
        ObjectBuilder::new().additional_properties(Some(AdditionalProperties::RefOr(value)))
    };
    let tensor = || {
        ObjectBuilder::new()
            .property("name", string())
            .property("shape", extents())
            .property("datatype", data_type())
            .property("parameters", parameters())
            .property(
                "data",
                array(any().into())
                    .description(Some("Elements in row-major order, flat or nested")),
            )
            .required("name")
            .required("shape")
            .required("datatype")
    };
    let duration = || ObjectBuilder::new().property("count", integer()).property("ns", integer());
    let durations = |keys: &[&str]| {
        keys.iter().fold(ObjectBuilder::new(), |object, key| object.property(*key, duration()))
    };

    vec![
        ("Object", free().into()),
        ("Live", ObjectBuilder::new().property("live", boolean()).into()),
        ("Ready", ObjectBuilder::new().property("ready", boolean()).into()),
        (
            "ModelReady",
            ObjectBuilder::new().property("name", string()).property("ready", boolean()).into(),
        ),
        ("Models", ObjectBuilder::new().property("models", array(string().into())).into()),
        (
            "ServerMetadata",
            ObjectBuilder::new()
                .property("name", string())
                .property("version", string())
                .property("extensions", array(string().into()))
                .property("engine", free())
                .into(),
        ),
        (
            "TensorMetadata",
            ObjectBuilder::new()
                .property("name", string())
                .property("datatype", data_type())
                .property("shape", extents().description(Some("-1 is any extent")))
                .into(),
        ),
        (
            "ModelMetadata",
            ObjectBuilder::new()
                .property("name", string())
                .property("versions", array(string().into()))
                .property("platform", string())
                .property("inputs", array(named("TensorMetadata").into()))
                .property("outputs", array(named("TensorMetadata").into()))
                .property("properties", free())
                .into(),
        ),
        ("Tensor", tensor().into()),
        (
            "RequestedOutput",
            ObjectBuilder::new()
                .property("name", string())
                .property("parameters", parameters())
                .required("name")
                .into(),
        ),
        (
            "InferRequest",
            ObjectBuilder::new()
                .property("id", string())
                .property("parameters", parameters())
                .property("inputs", array(named("Tensor").into()))
                .property("outputs", array(named("RequestedOutput").into()))
                .required("inputs")
                .into(),
        ),
        (
            "InferResponse",
            ObjectBuilder::new()
                .property("id", string())
                .property("model_name", string())
                .property("model_version", string())
                .property("outputs", array(named("Tensor").into()))
                .into(),
        ),
        (
            "Statistics",
            ObjectBuilder::new()
                .property("model_stats", array(named("ModelStatistics").into()))
                .into(),
        ),
        (
            "ModelStatistics",
            ObjectBuilder::new()
                .property("name", string())
                .property("version", string())
                .property("last_inference", integer())
                .property("inference_count", integer())
                .property("execution_count", integer())
                .property(
                    "inference_stats",
                    durations(&[
                        "success",
                        "fail",
                        "queue",
                        "compute_input",
                        "compute_infer",
                        "compute_output",
                        "cache_hit",
                        "cache_miss",
                    ]),
                )
                .property(
                    "batch_stats",
                    array(
                        durations(&["compute_input", "compute_infer", "compute_output"])
                            .property("batch_size", integer())
                            .into(),
                    ),
                )
                .into(),
        ),
        ("Index", ObjectBuilder::new().property("ready", boolean()).into()),
        (
            "IndexEntries",
            array(
                ObjectBuilder::new()
                    .property("name", string())
                    .property("version", string())
                    .property("state", string())
                    .property("reason", string())
                    .into(),
            )
            .into(),
        ),
        (
            "Load",
            ObjectBuilder::new()
                .property(
                    "parameters",
                    free().description(Some(
                        "config: Triton's model configuration as JSON text; file:PATH: a file in \
                         base64",
                    )),
                )
                .into(),
        ),
        (
            "Region",
            ObjectBuilder::new()
                .property("key", string())
                .property("offset", integer())
                .property("byte_size", integer())
                .required("key")
                .required("byte_size")
                .into(),
        ),
        (
            "Regions",
            array(
                ObjectBuilder::new()
                    .property("name", string())
                    .property("key", string())
                    .property("offset", integer())
                    .property("byte_size", integer())
                    .into(),
            )
            .into(),
        ),
        ("Settings", free().into()),
    ]
}
