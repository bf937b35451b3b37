//! `ZipMap`: the operator with which scikit-learn classifiers turn a row of probabilities into a
//! map from label to probability. No wire protocol has maps, so the tensor before it is served and
//! the labels travel in the metadata.

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message;

use super::proto::{Attribute, Graph, Node, OperatorSetId};
use super::proto::{TensorType, Type, TypeValue, ValueInfo};
use super::wire::{Malformed, fields, push};

/// A `ZipMap` whose result is an output of the model and is used nowhere else.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ZipMap {
    pub output: String,
    /// Class labels in the order of the tensor's columns.
    pub labels: Vec<String>,
}

const MODEL_GRAPH: u32 = 7;
const MODEL_OPSET: u32 = 8;
const GRAPH_NODE: u32 = 1;
const GRAPH_OUTPUT: u32 = 12;
/// TensorProto.DataType FLOAT: `ZipMap` takes nothing else.
const FLOAT: i32 = 1;
/// Any version of the default operator set that has `Identity` does; this one has it for all types.
const IDENTITY_SINCE: i64 = 13;

/// Finds the maps that can be replaced by their tensors.
pub(super) fn find(graph: &Graph) -> Vec<ZipMap> {
    let read_inside: BTreeSet<&str> =
        graph.node.iter().flat_map(|node| &node.input).map(String::as_str).collect();
    let is_output = |name: &str| graph.output.iter().any(|output| output.name == name);
    graph
        .node
        .iter()
        .filter_map(|node| {
            match (is_zip_map(node), node.input.as_slice(), node.output.as_slice()) {
                (true, [_], [output])
                    if is_output(output) && !read_inside.contains(output.as_str()) =>
                {
                    Some(ZipMap { output: output.clone(), labels: labels(&node.attribute) })
                }
                _ => None,
            }
        })
        .collect()
}

fn is_zip_map(node: &Node) -> bool {
    node.op_type == "ZipMap" && node.domain == "ai.onnx.ml"
}

fn labels(attributes: &[Attribute]) -> Vec<String> {
    let named = |name| attributes.iter().find(|attribute| attribute.name == name);
    if let Some(texts) = named("classlabels_strings").filter(|found| !found.strings.is_empty()) {
        return texts
            .strings
            .iter()
            .map(|text: &Bytes| String::from_utf8_lossy(text).into_owned())
            .collect();
    }
    named("classlabels_int64s")
        .map(|numbers| numbers.ints.iter().map(i64::to_string).collect())
        .unwrap_or_default()
}

/// Copies the model, with an `Identity` in place of each of these maps; all else stays byte for
/// byte, so that nothing we do not know of is lost.
pub(super) fn remove(model: &[u8], maps: &[ZipMap]) -> Result<Vec<u8>, Malformed> {
    let mut edited = Vec::with_capacity(model.len().saturating_add(64));
    let mut has_default_opset = false;
    for field in fields(model) {
        let field = field?;
        match field.tag {
            MODEL_GRAPH => push(&mut edited, MODEL_GRAPH, &edit_graph(field.content, maps)?),
            MODEL_OPSET => {
                let opset = OperatorSetId::decode(field.content).map_err(|_| Malformed)?;
                has_default_opset |= opset.domain.is_empty() || opset.domain == "ai.onnx";
                edited.extend_from_slice(field.whole);
            }
            _ => edited.extend_from_slice(field.whole),
        }
    }
    if !has_default_opset {
        let opset = OperatorSetId { domain: String::new(), version: IDENTITY_SINCE };
        push(&mut edited, MODEL_OPSET, &opset.encode_to_vec());
    }
    Ok(edited)
}

fn edit_graph(graph: &[u8], maps: &[ZipMap]) -> Result<Vec<u8>, Malformed> {
    let is_ours = |name: &str| maps.iter().any(|map| map.output == name);
    let mut edited = Vec::with_capacity(graph.len());
    for field in fields(graph) {
        let field = field?;
        match field.tag {
            GRAPH_NODE => {
                let node = Head::decode(field.content).map_err(|_| Malformed)?;
                match node.output.first() {
                    Some(output) if node.op_type == "ZipMap" && is_ours(output) => {
                        push(&mut edited, GRAPH_NODE, &identity(node).encode_to_vec());
                    }
                    _ => edited.extend_from_slice(field.whole),
                }
            }
            GRAPH_OUTPUT => {
                let output = ValueInfo::decode(field.content).map_err(|_| Malformed)?;
                if is_ours(&output.name) {
                    push(&mut edited, GRAPH_OUTPUT, &float_tensor(output.name).encode_to_vec());
                } else {
                    edited.extend_from_slice(field.whole);
                }
            }
            _ => edited.extend_from_slice(field.whole),
        }
    }
    Ok(edited)
}

/// The small fields of a node; attributes may hold a whole forest.
#[derive(Clone, PartialEq, prost::Message)]
struct Head {
    #[prost(string, repeated, tag = "1")]
    input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    output: Vec<String>,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, tag = "4")]
    op_type: String,
}

fn identity(node: Head) -> Node {
    Node {
        input: node.input,
        output: node.output,
        name: node.name,
        op_type: "Identity".to_owned(),
        ..Node::default()
    }
}

/// Without a shape: the engine infers it.
pub(super) fn float_tensor(name: String) -> ValueInfo {
    let tensor = TensorType { elem_type: FLOAT, shape: None };
    ValueInfo { name, r#type: Some(Type { value: Some(TypeValue::Tensor(tensor)) }) }
}
