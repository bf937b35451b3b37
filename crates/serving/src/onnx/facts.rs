//! What a model file says about itself.

use std::collections::{BTreeMap, BTreeSet};

use super::element;
use super::external::ExternalFile;
use super::proto::{Attribute, Dimension, DimensionValue, Graph, Model, Node, Tensor};
use super::proto::{Type, TypeValue, ValueInfo};
use super::zip_map::{self, ZipMap};
use crate::tensor::DataType;

/// A model as its file describes it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Facts {
    pub ir_version: i64,
    pub producer: String,
    pub producer_version: String,
    pub model_version: i64,
    pub graph: String,
    pub description: String,
    /// Operator sets by domain; the default domain is `ai.onnx`.
    pub opsets: Vec<Opset>,
    pub inputs: Vec<Value>,
    pub outputs: Vec<Value>,
    /// Operators by domain and name, those of nested graphs and local functions included.
    pub operators: Vec<OperatorUse>,
    /// Functions that the file defines itself, as (domain, name).
    pub functions: Vec<(String, String)>,
    /// Elements of all weights.
    pub parameters: u64,
    /// Size of the file, without external data.
    pub file_bytes: u64,
    pub external: Vec<ExternalFile>,
    pub metadata: BTreeMap<String, String>,
    pub zip_maps: Vec<ZipMap>,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Opset {
    pub domain: String,
    pub version: i64,
}

/// How often an operator occurs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct OperatorUse {
    pub domain: String,
    pub name: String,
    pub count: u64,
}

/// An input or output as declared.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Value {
    pub name: String,
    /// ONNX's text form, such as `tensor(float)` or `seq(map(string, tensor(float)))`.
    #[serde(rename = "type")]
    pub type_name: String,
    /// Element type if it is a tensor that requests can carry.
    #[serde(skip)]
    pub data_type: Option<DataType>,
    /// `None` when the file does not even say the rank.
    pub dims: Option<Vec<Dim>>,
    /// Whether the file holds a default for this input.
    pub optional: bool,
}

/// Extent of one dimension.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(untagged)]
pub enum Dim {
    Fixed(u64),
    /// Any extent, the same wherever the name occurs.
    Named(String),
    Any,
}

impl Facts {
    /// Size of the model with its external data, in bytes.
    pub fn total_bytes(&self) -> u64 {
        self.external.iter().fold(self.file_bytes, |sum, file| sum.saturating_add(file.bytes))
    }

    /// Class labels of an output that a `ZipMap` made, in the order of the tensor's columns.
    pub fn labels(&self, output: &str) -> &[String] {
        self.zip_maps.iter().find(|map| map.output == output).map_or(&[], |map| &map.labels)
    }

    /// Version of a domain's operator set, if the model imports it.
    pub fn opset(&self, domain: &str) -> Option<i64> {
        self.opsets.iter().find(|opset| opset.domain == domain).map(|opset| opset.version)
    }
}

pub(super) fn facts(
    model: &Model,
    graph: &Graph,
    file_bytes: u64,
    external: Vec<ExternalFile>,
) -> Facts {
    let mut tally = Tally::default();
    tally.graph(graph);
    for function in &model.functions {
        function.node.iter().for_each(|node| tally.node(node));
    }
    let defaults: BTreeSet<&str> =
        graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let has_default = |name: &str| defaults.contains(name);
    Facts {
        ir_version: model.ir_version,
        producer: model.producer_name.clone(),
        producer_version: model.producer_version.clone(),
        model_version: model.model_version,
        graph: graph.name.clone(),
        description: model.doc_string.clone(),
        opsets: model
            .opset_import
            .iter()
            .map(|opset| Opset { domain: domain(&opset.domain), version: opset.version })
            .collect(),
        inputs: graph.input.iter().map(|input| value(input, has_default(&input.name))).collect(),
        outputs: graph.output.iter().map(|output| value(output, false)).collect(),
        operators: tally
            .operators
            .into_iter()
            .map(|((domain, name), count)| OperatorUse { domain, name, count })
            .collect(),
        functions: model
            .functions
            .iter()
            .map(|function| (domain(&function.domain), function.name.clone()))
            .collect(),
        parameters: tally.parameters,
        file_bytes,
        external,
        metadata: model
            .metadata_props
            .iter()
            .map(|entry| (entry.key.clone(), entry.value.clone()))
            .collect(),
        zip_maps: zip_map::find(graph),
    }
}

/// The default domain's name may be left out.
fn domain(name: &str) -> String {
    if name.is_empty() { "ai.onnx".to_owned() } else { name.to_owned() }
}

/// Counts of operators and weights.
#[derive(Default)]
struct Tally {
    operators: BTreeMap<(String, String), u64>,
    parameters: u64,
}

impl Tally {
    fn graph(&mut self, graph: &Graph) {
        let sparse = graph.sparse_initializer.iter().filter_map(|sparse| sparse.values.as_ref());
        graph.initializer.iter().chain(sparse).for_each(|tensor| self.weights(tensor));
        graph.node.iter().for_each(|node| self.node(node));
    }

    fn node(&mut self, node: &Node) {
        let count = self.operators.entry((domain(&node.domain), node.op_type.clone())).or_default();
        *count = count.saturating_add(1);
        node.attribute.iter().for_each(|attribute| self.attribute(attribute));
    }

    fn attribute(&mut self, attribute: &Attribute) {
        attribute.t.iter().chain(&attribute.tensors).for_each(|tensor| self.weights(tensor));
        attribute.g.iter().chain(&attribute.graphs).for_each(|graph| self.graph(graph));
    }

    fn weights(&mut self, tensor: &Tensor) {
        let elements = tensor.dims.iter().fold(1u64, |product, extent| {
            product.saturating_mul(u64::try_from(*extent).unwrap_or(0))
        });
        self.parameters = self.parameters.saturating_add(elements);
    }
}

fn value(info: &ValueInfo, optional: bool) -> Value {
    let dims = match info.r#type.as_ref().and_then(|r#type| r#type.value.as_ref()) {
        Some(TypeValue::Tensor(tensor) | TypeValue::Sparse(tensor)) => {
            tensor.shape.as_ref().map(|shape| shape.dim.iter().map(dim).collect())
        }
        _ => None,
    };
    let data_type = match info.r#type.as_ref().and_then(|r#type| r#type.value.as_ref()) {
        Some(TypeValue::Tensor(tensor)) => element::from_number(tensor.elem_type),
        _ => None,
    };
    let type_name = type_name(info.r#type.as_ref());
    Value { name: info.name.clone(), type_name, data_type, dims, optional }
}

fn dim(dimension: &Dimension) -> Dim {
    match &dimension.value {
        // Some exporters write -1 or 0 for "any".
        Some(DimensionValue::Extent(extent)) => match u64::try_from(*extent) {
            Ok(extent) => Dim::Fixed(extent),
            Err(_) => Dim::Any,
        },
        Some(DimensionValue::Name(name)) if !name.is_empty() => Dim::Named(name.clone()),
        _ => Dim::Any,
    }
}

fn type_name(r#type: Option<&Type>) -> String {
    use element::name;
    let inner = |element: &Option<Box<Type>>| type_name(element.as_deref());
    match r#type.and_then(|r#type| r#type.value.as_ref()) {
        None => "undefined".to_owned(),
        Some(TypeValue::Tensor(tensor)) => format!("tensor({})", name(tensor.elem_type)),
        Some(TypeValue::Sparse(tensor)) => format!("sparse_tensor({})", name(tensor.elem_type)),
        Some(TypeValue::Sequence(sequence)) => format!("seq({})", inner(&sequence.elem_type)),
        Some(TypeValue::Optional(optional)) => format!("optional({})", inner(&optional.elem_type)),
        Some(TypeValue::Map(map)) => {
            format!("map({}, {})", name(map.key_type), inner(&map.value_type))
        }
        Some(TypeValue::Opaque(opaque)) => format!("opaque({}, {})", opaque.domain, opaque.name),
    }
}
