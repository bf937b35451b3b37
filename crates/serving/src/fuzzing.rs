//! Bodies of the fuzz targets in `fuzz/`: each reads any bytes as one kind of input, and must
//! neither panic nor take long. `cargo test` runs them on changed copies of the seeds, so that they
//! are exercised where there is no fuzzer.

use std::path::Path;

use bytes::Bytes;

use crate::config;
use crate::engine::{Engine as _, SessionOptions, Tract};
use crate::onnx::ModelFile;
use crate::protocol::{grpc, oip, raw, tfs};
use crate::tensor::{DataType, Shape};

/// JSON bodies of every REST protocol. The first byte chooses the type of the model's input.
pub fn json(data: &[u8]) {
    let Some((first, body)) = data.split_first() else { return };
    tfs::rest::fuzz(body, data_type(*first));
    oip::fuzz(&Bytes::copy_from_slice(body), None);
}

/// JSON followed by binary tensors. The first two bytes are the length of the JSON.
pub fn binary(data: &[u8]) {
    let Some((length, body)) = data.split_first_chunk() else { return };
    let body = Bytes::copy_from_slice(body);
    let length = usize::from(u16::from_le_bytes(*length)).min(body.len());
    oip::fuzz(&body, Some(length));

    // Of raw tensors we ask more: what was read is what is written.
    let data_type = data_type(body.first().copied().unwrap_or_default());
    let elements = body.len() / data_type.size().unwrap_or(5);
    if let Ok(tensor) = raw::decode(data_type, Shape::from_slice(&[elements]), body.clone()) {
        assert_eq!(raw::encode(&tensor), body);
    }
}

/// Messages of the gRPC services. The first byte chooses which.
pub fn protobuf(data: &[u8]) {
    let Some((first, message)) = data.split_first() else { return };
    grpc::fuzz::message(*first, Bytes::copy_from_slice(message));
}

/// Triton's model configuration, as text and as JSON.
pub fn pbtxt(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = config::read_pbtxt("config.pbtxt", text);
    let _ = config::read_json(text);
}

/// Model files, as far as we read them ourselves.
pub fn model(data: &[u8]) {
    // In a folder that does not exist, as external data is looked for beside the file.
    let path = Path::new("/nonexistent/model.onnx");
    let Ok(file) = ModelFile::decode(path, Bytes::copy_from_slice(data)) else { return };
    let edited = file.without_zip_maps();
    let again = edited.map(|edited| ModelFile::decode(path, edited.into()));
    assert!(again.is_none_or(|again| again.is_ok()), "an edited model can be read");
}

/// Model files, all the way into the built-in engine. Its panics on malformed models are caught, so
/// this is no target for a fuzzer that ends at the first.
pub fn load(data: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder for the model");
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, data).expect("the folder is ours");
    let _ = Tract::default().load(&path, &SessionOptions::default());
}

fn data_type(byte: u8) -> DataType {
    let index = usize::from(byte) % DataType::ALL.len();
    DataType::ALL.get(index).copied().unwrap_or(DataType::Fp32)
}
