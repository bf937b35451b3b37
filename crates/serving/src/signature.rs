//! What a model takes and gives.

use crate::tensor::DataType;

/// One declared input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    pub name: String,
    pub data_type: DataType,
    /// Extents including the batch dimension, if the model has one; `None` is any extent.
    pub dims: Vec<Option<usize>>,
    /// Whether a request may leave this input out.
    pub optional: bool,
    /// Class labels in index order, for outputs that have them (empty otherwise).
    pub labels: Vec<String>,
}

/// Inputs and outputs in the model's own order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Signature {
    pub inputs: Vec<TensorSpec>,
    pub outputs: Vec<TensorSpec>,
}
