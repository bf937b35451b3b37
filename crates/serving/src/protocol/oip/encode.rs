//! From an [`InferResponse`] to the answer of an infer request.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};

use super::decode::RequestedOutput;
use super::headers::{self, HEADER_LENGTH};
use super::output;
use crate::Server;
use crate::error::InferError;
use crate::http::payload::{Answer, Payload, json};
use crate::protocol::json::{BytesForm, TensorText, Writer};
use crate::protocol::{offload, raw};
use crate::request::InferResponse;
use crate::shared_memory::SharedMemory;
use crate::tensor::{DataType, Tensor};

const BINARY: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// The JSON of a small answer fits without growing.
const CAPACITY: usize = 256;

/// What the request says of its answer.
pub(super) struct Form<'a> {
    pub(super) id: Option<&'a str>,
    pub(super) outputs: &'a [RequestedOutput],
    /// How outputs are sent that the request does not list.
    pub(super) binary: bool,
}

/// About how many bytes of JSON the answer will have.
pub(super) fn json_bytes(
    response: &InferResponse,
    outputs: &[RequestedOutput],
    binary: bool,
) -> usize {
    let is_json = |name: &str| {
        let wanted = outputs.iter().find(|output| output.form.name == *name);
        !wanted.map_or(binary, |wanted| wanted.binary)
    };
    let written = response.outputs.iter().filter(|(name, _)| is_json(name));
    offload::json_bytes(written.map(|(_, tensor)| tensor))
}

/// Encodes an answer. If any output is binary, the tensors follow the JSON; they are not copied.
pub(super) fn encode(
    response: &InferResponse,
    form: &Form<'_>,
    server: &Server,
    shared_memory: &SharedMemory,
) -> Result<Answer, InferError> {
    let mut writer = Writer::with_capacity(CAPACITY);
    let mut blobs = Payload::default();
    let mut any_binary = false;
    writer.begin_object();
    if let Some(id) = form.id {
        writer.key("id");
        writer.string(id);
    }
    writer.key("model_name");
    writer.string(&response.model);
    writer.key("model_version");
    writer.digits_in_quotes(response.version);
    writer.key("outputs");
    writer.begin_array();
    for (name, tensor) in &response.outputs {
        let wanted = form.outputs.iter().find(|output| output.form.name == **name);
        let classes = match wanted.and_then(|wanted| wanted.form.classes) {
            Some(count) => Some(output::classes(response, name, tensor, count, server)?),
            None => None,
        };
        let tensor = classes.as_ref().unwrap_or(tensor);
        writer.begin_object();
        write_head(&mut writer, name, tensor);
        if let Some(slice) = wanted.and_then(|wanted| wanted.form.shared_memory.as_ref()) {
            let written = output::share(name, tensor, slice, shared_memory)?;
            writer.key("parameters");
            writer.begin_object();
            writer.key("shared_memory_region");
            writer.string(&slice.region);
            writer.key("shared_memory_offset");
            writer.integer(slice.offset);
            writer.key("shared_memory_byte_size");
            writer.integer(written);
            writer.end_object();
        } else if wanted.map_or(form.binary, |wanted| wanted.binary) {
            let blob = raw::encode(tensor);
            writer.key("parameters");
            writer.begin_object();
            writer.key("binary_data_size");
            writer.integer(blob.len());
            writer.end_object();
            any_binary = true;
            blobs.push(blob);
        } else {
            write_data(&mut writer, name, tensor)?;
        }
        writer.end_object();
    }
    writer.end_array();
    writer.end_object();

    let header = Bytes::from(writer.finish());
    let mut answer = if any_binary { binary(header, blobs) } else { json(StatusCode::OK, header) };
    headers::describe(&response.execution, answer.headers_mut());
    Ok(answer)
}

fn binary(header: Bytes, blobs: Payload) -> Answer {
    let length = HeaderValue::from(header.len());
    let mut payload = Payload::from(header);
    blobs.pieces().for_each(|blob| payload.push(blob));
    let mut answer = Response::new(payload);
    answer.headers_mut().insert(CONTENT_TYPE, BINARY);
    answer.headers_mut().insert(HEADER_LENGTH, length);
    answer
}

fn write_head(writer: &mut Writer, name: &str, tensor: &Tensor) {
    writer.key("name");
    writer.string(name);
    writer.key("datatype");
    writer.string(tensor.data_type().oip_name());
    writer.key("shape");
    writer.begin_array();
    for extent in tensor.shape() {
        writer.integer(*extent);
    }
    writer.end_array();
}

/// Elements are flat whatever the shape, as in all servers of this protocol.
fn write_data(writer: &mut Writer, name: &str, tensor: &Tensor) -> Result<(), InferError> {
    if matches!(tensor.data_type(), DataType::Fp16 | DataType::Bf16) {
        return Err(InferError::Invalid(format!(
            "sending {} data via JSON is not supported. Please use the binary data format for \
             output '{name}'",
            tensor.data_type().oip_name()
        )));
    }
    let text = TensorText::new(tensor, BytesForm::Text).map_err(|error| {
        InferError::Invalid(format!("output '{name}': {error}. Please use the binary data format"))
    })?;
    writer.key("data");
    text.flat(writer);
    Ok(())
}
