//! Model files in ONNX's format, read without running or trusting them.
//!
//! In: a path. Out: [`Facts`] for people and for the engines, and a copy of the model without the
//! maps that wire protocols cannot carry. Knows nothing of engines. Weights are never decoded.

pub mod element;
mod external;
mod facts;
#[cfg(test)]
pub(crate) mod fixtures;
mod proto;
mod wire;
mod zip_map;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message;

pub use external::ExternalFile;
pub use facts::{Dim, Facts, OperatorUse, Opset, Value};
pub use zip_map::ZipMap;

/// Protocol buffers, and with them ONNX Runtime, end here; larger models keep weights beside.
const MAX_FILE_BYTES: u64 = i32::MAX as u64;

/// A model file that was read and decoded.
#[derive(Debug, Clone)]
pub struct ModelFile {
    pub path: PathBuf,
    pub facts: Facts,
    bytes: Bytes,
}

/// Why a file is not a model that we load.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    #[error("cannot read {path}")]
    Read { path: String, source: std::io::Error },
    #[error("{path} is a folder; name the .onnx file in it")]
    Folder { path: String },
    #[error("{path} is empty")]
    Empty { path: String },
    #[error(
        "{path} has {bytes} bytes, above the 2 GiB of its format; save its weights as external data"
    )]
    TooLarge { path: String, bytes: u64 },
    #[error("{path} is not an ONNX model or is truncated: {reason}")]
    NotOnnx { path: String, reason: String },
    #[error("{path} refers to external data {location:?}, {reason}")]
    ExternalData { path: String, location: String, reason: String },
}

impl ModelFile {
    /// Reads and decodes a model file, and checks that its external data can be had.
    pub fn read(path: &Path) -> Result<Self, OnnxError> {
        let bytes = read_whole(path)?;
        Self::decode(path, bytes)
    }

    /// Decodes a model that is in memory already; `path` is where its external data lies.
    pub fn decode(path: &Path, bytes: Bytes) -> Result<Self, OnnxError> {
        let not_onnx =
            |reason: String| OnnxError::NotOnnx { path: path.display().to_string(), reason };
        let model =
            proto::Model::decode(bytes.clone()).map_err(|error| not_onnx(error.to_string()))?;
        let Some(graph) = &model.graph else {
            return Err(not_onnx("it holds no graph".to_owned()));
        };
        let external = external::collect(path, &model, graph)?;
        let facts = facts::facts(&model, graph, bytes.len() as u64, external);
        Ok(Self { path: path.to_owned(), facts, bytes })
    }

    /// The file's content.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Lets go of the file's content once only the facts are needed.
    #[must_use]
    pub fn without_bytes(self) -> Self {
        Self { bytes: Bytes::new(), ..self }
    }

    /// The model with each `ZipMap` that makes an output replaced by the tensor it takes, or `None`
    /// when there is none. The output keeps its name.
    pub fn without_zip_maps(&self) -> Option<Vec<u8>> {
        if self.facts.zip_maps.is_empty() {
            return None;
        }
        zip_map::remove(&self.bytes, &self.facts.zip_maps).ok()
    }
}

/// A model that consists of one operator with one float input `x` and one output `y`, for asking an
/// engine what it has.
pub(crate) fn one_node_model(domain: &str, operator: &str, opset: i64) -> Vec<u8> {
    use proto::{Graph, Model, Node, OperatorSetId};
    let node = Node {
        input: vec!["x".to_owned()],
        output: vec!["y".to_owned()],
        op_type: operator.to_owned(),
        domain: domain.to_owned(),
        ..Node::default()
    };
    let graph = Graph {
        node: vec![node],
        name: "probe".to_owned(),
        input: vec![zip_map::float_tensor("x".to_owned())],
        output: vec![zip_map::float_tensor("y".to_owned())],
        ..Graph::default()
    };
    let model = Model {
        // The first version in which initializers need not be inputs; every library reads it.
        ir_version: 4,
        graph: Some(graph),
        opset_import: vec![OperatorSetId { domain: domain.to_owned(), version: opset }],
        ..Model::default()
    };
    model.encode_to_vec()
}

fn read_whole(path: &Path) -> Result<Bytes, OnnxError> {
    let name = || path.display().to_string();
    let failed = |source| OnnxError::Read { path: name(), source };
    let mut file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(OnnxError::Folder { path: name() });
    }
    if metadata.len() > MAX_FILE_BYTES {
        return Err(OnnxError::TooLarge { path: name(), bytes: metadata.len() });
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    // Bounded, because a pipe or a growing file has no length to check beforehand.
    let read = Read::by_ref(&mut file)
        .take(MAX_FILE_BYTES.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(failed)? as u64;
    match read {
        0 => Err(OnnxError::Empty { path: name() }),
        _ if read > MAX_FILE_BYTES => Err(OnnxError::TooLarge { path: name(), bytes: read }),
        _ => Ok(bytes.into()),
    }
}
