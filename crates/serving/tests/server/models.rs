//! Makes ONNX files without any tool: `y = x + offset` and `z = x - offset` on rows of two numbers.

use std::path::Path;

use prost::Message;

/// ONNX's number of the type of 32-bit floats.
const FLOAT: i32 = 1;

#[derive(Clone, PartialEq, Message)]
struct Model {
    #[prost(int64, tag = "1")]
    ir_version: i64,
    #[prost(message, optional, tag = "7")]
    graph: Option<Graph>,
    #[prost(message, repeated, tag = "8")]
    opset_import: Vec<Opset>,
}

#[derive(Clone, PartialEq, Message)]
struct Opset {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(int64, tag = "2")]
    version: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Graph {
    #[prost(message, repeated, tag = "1")]
    node: Vec<Node>,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    input: Vec<Value>,
    #[prost(message, repeated, tag = "12")]
    output: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(string, repeated, tag = "1")]
    input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    output: Vec<String>,
    #[prost(string, tag = "4")]
    op_type: String,
}

#[derive(Clone, PartialEq, Message)]
struct Tensor {
    #[prost(int64, repeated, tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(float, repeated, tag = "4")]
    float_data: Vec<f32>,
    #[prost(string, tag = "8")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, Message)]
struct Kind {
    #[prost(message, optional, tag = "1")]
    tensor: Option<TensorKind>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorKind {
    #[prost(int32, tag = "1")]
    element: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<Shape>,
}

#[derive(Clone, PartialEq, Message)]
struct Shape {
    #[prost(message, repeated, tag = "1")]
    dims: Vec<Dim>,
}

#[derive(Clone, PartialEq, Message)]
struct Dim {
    #[prost(int64, optional, tag = "1")]
    value: Option<i64>,
    #[prost(string, optional, tag = "2")]
    name: Option<String>,
}

/// Writes the model; `rows` fixes the first dimension.
pub(crate) fn write(path: &Path, offset: f32, rows: Option<i64>) {
    std::fs::create_dir_all(path.parent().expect("it has one")).expect("made");
    std::fs::write(path, bytes(offset, rows)).expect("written");
}

pub(crate) fn bytes(offset: f32, rows: Option<i64>) -> Vec<u8> {
    let value = |name: &str| {
        let rows = match rows {
            Some(rows) => Dim { value: Some(rows), name: None },
            None => Dim { value: None, name: Some("batch".to_owned()) },
        };
        let two = Dim { value: Some(2), name: None };
        let shape = Some(Shape { dims: vec![rows, two] });
        let tensor = Some(TensorKind { element: FLOAT, shape });
        Value { name: name.to_owned(), kind: Some(Kind { tensor }) }
    };
    let node = |op_type: &str, output: &str| Node {
        input: vec!["x".to_owned(), "offset".to_owned()],
        output: vec![output.to_owned()],
        op_type: op_type.to_owned(),
    };
    let offset = Tensor {
        dims: vec![1],
        data_type: FLOAT,
        float_data: vec![offset],
        name: "offset".to_owned(),
    };
    let graph = Graph {
        node: vec![node("Add", "y"), node("Sub", "z")],
        name: "shift".to_owned(),
        initializer: vec![offset],
        input: vec![value("x")],
        output: vec![value("y"), value("z")],
    };
    let opset = Opset { domain: String::new(), version: 17 };
    Model { ir_version: 8, graph: Some(graph), opset_import: vec![opset] }.encode_to_vec()
}
