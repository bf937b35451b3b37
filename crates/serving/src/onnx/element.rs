//! Element types as model files number them (`TensorProto.DataType` of onnx.proto).

use crate::tensor::DataType;

/// Number, name in ONNX's text form, and our type if we serve it.
const TABLE: [(i32, &str, Option<DataType>); 26] = [
    (1, "float", Some(DataType::Fp32)),
    (2, "uint8", Some(DataType::Uint8)),
    (3, "int8", Some(DataType::Int8)),
    (4, "uint16", Some(DataType::Uint16)),
    (5, "int16", Some(DataType::Int16)),
    (6, "int32", Some(DataType::Int32)),
    (7, "int64", Some(DataType::Int64)),
    (8, "string", Some(DataType::Bytes)),
    (9, "bool", Some(DataType::Bool)),
    (10, "float16", Some(DataType::Fp16)),
    (11, "double", Some(DataType::Fp64)),
    (12, "uint32", Some(DataType::Uint32)),
    (13, "uint64", Some(DataType::Uint64)),
    (14, "complex64", None),
    (15, "complex128", None),
    (16, "bfloat16", Some(DataType::Bf16)),
    (17, "float8e4m3fn", None),
    (18, "float8e4m3fnuz", None),
    (19, "float8e5m2", None),
    (20, "float8e5m2fnuz", None),
    (21, "uint4", None),
    (22, "int4", None),
    (23, "float4e2m1", None),
    (24, "float8e8m0", None),
    (25, "uint2", None),
    (26, "int2", None),
];

/// The type with this number, if requests can carry it.
pub fn from_number(number: i32) -> Option<DataType> {
    TABLE.iter().find(|(known, _, _)| *known == number).and_then(|(_, _, data_type)| *data_type)
}

/// ONNX's name of the type with this number, also where we do not serve it.
pub fn name(number: i32) -> &'static str {
    TABLE.iter().find(|(known, _, _)| *known == number).map_or("undefined", |(_, name, _)| name)
}
