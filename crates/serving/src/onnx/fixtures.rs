//! Small models for tests, made without any other program.

use prost::Message;

use super::proto::{
    Dimension, DimensionValue, Graph, Model, Node, OperatorSetId, TensorShape, TensorType, Type,
    TypeValue, ValueInfo,
};

/// TensorProto.DataType FLOAT and INT32.
pub(crate) const FLOAT: i32 = 1;
pub(crate) const INT32: i32 = 6;

/// `y` is `x`, of any batch and any length.
pub(crate) fn identity(element: i32) -> Vec<u8> {
    model(Graph {
        node: vec![node("Identity", &["x"], "y")],
        name: "identity".to_owned(),
        input: vec![value("x", element, &[None, None])],
        output: vec![value("y", element, &[None, None])],
        ..Graph::default()
    })
}

/// Two inputs and two outputs, as the simple model of Triton's examples: `OUTPUT0` is the sum,
/// `OUTPUT1` the difference, each of any batch and length 4.
pub(crate) fn sum_and_difference() -> Vec<u8> {
    let tensor = |name: &str| value(name, INT32, &[None, Some(4)]);
    model(Graph {
        node: vec![
            node("Add", &["INPUT0", "INPUT1"], "OUTPUT0"),
            node("Sub", &["INPUT0", "INPUT1"], "OUTPUT1"),
        ],
        name: "simple".to_owned(),
        input: vec![tensor("INPUT0"), tensor("INPUT1")],
        output: vec![tensor("OUTPUT0"), tensor("OUTPUT1")],
        ..Graph::default()
    })
}

fn model(graph: Graph) -> Vec<u8> {
    let opset = OperatorSetId { domain: String::new(), version: 17 };
    let model =
        Model { ir_version: 8, graph: Some(graph), opset_import: vec![opset], ..Model::default() };
    model.encode_to_vec()
}

fn node(operator: &str, inputs: &[&str], output: &str) -> Node {
    Node {
        input: inputs.iter().map(|name| (*name).to_owned()).collect(),
        output: vec![output.to_owned()],
        name: format!("make_{output}"),
        op_type: operator.to_owned(),
        ..Node::default()
    }
}

fn value(name: &str, element: i32, extents: &[Option<i64>]) -> ValueInfo {
    let dimension = |(index, extent): (usize, &Option<i64>)| Dimension {
        value: Some(match extent {
            Some(extent) => DimensionValue::Extent(*extent),
            None => DimensionValue::Name(format!("d{index}")),
        }),
    };
    let shape = TensorShape { dim: extents.iter().enumerate().map(dimension).collect() };
    let tensor = TensorType { elem_type: element, shape: Some(shape) };
    ValueInfo {
        name: name.to_owned(),
        r#type: Some(Type { value: Some(TypeValue::Tensor(tensor)) }),
    }
}
