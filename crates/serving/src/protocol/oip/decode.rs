//! From the body of an infer request to an [`InferRequest`].

use std::borrow::Cow;
use std::time::Instant;

use bytes::Bytes;

use super::output::OutputForm;
use super::parameters::{self, Parameter};
use crate::error::InferError;
use crate::protocol::json::{BytesForm, JsonError, Kind, Reader, TensorReader, excerpt};
use crate::protocol::raw;
use crate::request::{InferRequest, VersionChoice};
use crate::shared_memory::SharedMemory;
use crate::tensor::{DataType, Shape, Tensor};

/// A request, and what its answer needs to know of it.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) request: InferRequest,
    pub(super) id: Option<String>,
    pub(super) outputs: Vec<RequestedOutput>,
    /// How outputs are sent that the request does not list.
    pub(super) binary: bool,
}

/// An output as it was asked for.
#[derive(Debug)]
pub(super) struct RequestedOutput {
    pub(super) form: OutputForm,
    pub(super) binary: bool,
}

/// Where a request goes, and when its answer is due.
pub(super) struct Target {
    pub(super) model: String,
    pub(super) version: VersionChoice,
    pub(super) deadline: Option<Instant>,
}

/// Decodes a body whose JSON ends at `json_length`, or is all of it. Binary tensors stay slices of
/// the body.
pub(super) fn decode(
    body: &Bytes,
    json_length: Option<usize>,
    target: Target,
    shared_memory: &SharedMemory,
) -> Result<Decoded, InferError> {
    let json = body.get(..json_length.unwrap_or(body.len())).unwrap_or_default();
    let message = Message::read(json)?;
    let settings = parameters::request(&message.parameters)?;
    let Some(heads) = message.inputs else {
        return Err(InferError::Invalid(format!(
            "the request for model '{}' has no 'inputs', expected an array of tensors",
            target.model
        )));
    };

    let blobs = json_length.map(|length| body.slice(length.min(body.len())..));
    let mut source = Source { model: &target.model, blobs, shared_memory };
    let mut inputs = Vec::with_capacity(heads.len());
    for head in heads {
        let name = head.name.clone();
        inputs.push((name, source.tensor(head)?));
    }
    source.finish()?;

    let mut outputs = Vec::with_capacity(message.outputs.len());
    for (name, own) in message.outputs {
        let binary = parameters::flag(&own, "binary_data")?.unwrap_or(settings.binary_outputs);
        outputs.push(RequestedOutput { form: OutputForm::new(name, &own)?, binary });
    }
    let request = InferRequest {
        model: target.model,
        version: target.version,
        inputs,
        outputs: outputs.iter().map(|output| output.form.name.clone()).collect(),
        priority: settings.priority,
        queue_timeout: settings.queue_timeout,
        deadline: target.deadline,
    };
    Ok(Decoded { request, id: message.id, outputs, binary: settings.binary_outputs })
}

type Owned<'a> = Vec<(Cow<'a, str>, Parameter<'a>)>;

/// The JSON of a request.
#[derive(Default)]
struct Message<'a> {
    id: Option<String>,
    parameters: Owned<'a>,
    inputs: Option<Vec<InputHead<'a>>>,
    outputs: Vec<(String, Owned<'a>)>,
}

impl<'a> Message<'a> {
    fn read(json: &'a [u8]) -> Result<Self, JsonError> {
        let mut message = Self::default();
        let mut reader = Reader::new(json)?;
        reader.object(|reader, key| {
            match key {
                "id" => message.id = Some(reader.string()?.into_owned()),
                "parameters" => message.parameters = read_parameters(reader)?,
                "inputs" => {
                    let inputs = message.inputs.insert(Vec::new());
                    reader.array(|reader, _| {
                        inputs.push(InputHead::read(reader)?);
                        Ok(())
                    })?;
                }
                "outputs" => {
                    reader.array(|reader, _| {
                        message.outputs.push(read_output(reader)?);
                        Ok(())
                    })?;
                }
                _ => reader.skip()?,
            }
            Ok(())
        })?;
        reader.finish()?;
        Ok(message)
    }
}

/// One input, its elements read if they are in the JSON.
struct InputHead<'a> {
    name: String,
    data_type: DataType,
    shape: Shape,
    parameters: Owned<'a>,
    data: Option<Tensor>,
}

impl<'a> InputHead<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, JsonError> {
        let mut name = None;
        let result = Self::read_members(reader, &mut name);
        result.map_err(|error| match name {
            Some(name) => error.of(&format!("input tensor '{name}'")),
            None => error,
        })
    }

    fn read_members(reader: &mut Reader<'a>, name: &mut Option<String>) -> Result<Self, JsonError> {
        let start = reader.offset();
        let mut data_type = None;
        let mut shape = None;
        let mut parameters = Vec::new();
        let mut data = Data::None;
        reader.object(|reader, key| {
            match key {
                "name" => *name = Some(reader.string()?.into_owned()),
                "datatype" => data_type = Some(read_data_type(reader)?),
                "shape" => shape = Some(read_shape(reader)?),
                "parameters" => parameters = read_parameters(reader)?,
                "data" => match data_type {
                    Some(data_type) => data = Data::Read(read_elements(reader, data_type)?),
                    None => {
                        // The type comes later, so the elements are read later.
                        data = Data::At(reader.clone());
                        reader.skip()?;
                    }
                },
                _ => reader.skip()?,
            }
            Ok(())
        })?;

        let missing = |key: &str| JsonError::new(start, format!("an input without '{key}'"));
        let name = name.clone().ok_or_else(|| missing("name"))?;
        let data_type = data_type.ok_or_else(|| missing("datatype"))?;
        let shape: Shape = shape.ok_or_else(|| missing("shape"))?;
        let elements = match data {
            Data::None => None,
            Data::Read(elements) => Some(elements),
            Data::At(mut reader) => {
                let elements = read_elements(&mut reader, data_type);
                Some(elements.map_err(|error| error.in_member("data"))?)
            }
        };
        let data = elements.map(|elements| elements.finish(shape.clone())).transpose();
        let data = data.map_err(|error| JsonError::new(start, error.to_string()))?;
        Ok(Self { name, data_type, shape, parameters, data })
    }
}

/// What is known of `data` while an input is read.
enum Data<'a> {
    None,
    Read(TensorReader),
    At(Reader<'a>),
}

fn read_elements(reader: &mut Reader<'_>, data_type: DataType) -> Result<TensorReader, JsonError> {
    if matches!(data_type, DataType::Fp16 | DataType::Bf16) {
        let problem = format!(
            "receiving {} data via JSON is not supported. Please use the binary data format",
            data_type.oip_name()
        );
        return Err(JsonError::new(reader.offset(), problem));
    }
    if !reader.is_array() {
        return Err(reader.unexpected("an array of elements"));
    }
    let mut elements = TensorReader::new(data_type, BytesForm::Text);
    elements.read(reader)?;
    Ok(elements)
}

fn read_data_type(reader: &mut Reader<'_>) -> Result<DataType, JsonError> {
    let start = reader.offset();
    let name = reader.string()?;
    DataType::from_oip_name(&name).ok_or_else(|| {
        let known: Vec<&str> = DataType::ALL.into_iter().map(DataType::oip_name).collect();
        let known = known.join(", ");
        let name = excerpt(&name);
        JsonError::new(start, format!("datatype '{name}' is not known, expected {known}"))
    })
}

fn read_shape(reader: &mut Reader<'_>) -> Result<Shape, JsonError> {
    let mut shape = Shape::new();
    reader.array(|reader, _| {
        let extent = reader.number("an extent")?;
        match extent.text.parse() {
            Ok(extent) => shape.push(extent),
            Err(_) => {
                let found = excerpt(extent.text);
                let problem = format!("expected an extent >= 0, found {found}");
                return Err(JsonError::new(extent.offset, problem));
            }
        }
        Ok(())
    })?;
    Ok(shape)
}

fn read_output<'a>(reader: &mut Reader<'a>) -> Result<(String, Owned<'a>), JsonError> {
    let start = reader.offset();
    let mut name = None;
    let mut parameters = Vec::new();
    reader.object(|reader, key| {
        match key {
            "name" => name = Some(reader.string()?.into_owned()),
            "parameters" => parameters = read_parameters(reader)?,
            _ => reader.skip()?,
        }
        Ok(())
    })?;
    let name = name.ok_or_else(|| JsonError::new(start, "an output without 'name'"))?;
    Ok((name, parameters))
}

fn read_parameters<'a>(reader: &mut Reader<'a>) -> Result<Owned<'a>, JsonError> {
    let mut parameters = Vec::new();
    reader.object(|reader, key| {
        let value = match reader.peek()? {
            Kind::Bool => Parameter::Bool(reader.bool()?),
            Kind::String => Parameter::Text(reader.string()?),
            Kind::Number => {
                let number = reader.number("a number")?;
                match number.text.parse() {
                    Ok(integer) if number.is_integer => Parameter::Integer(integer),
                    _ => Parameter::Float(number.text.parse().unwrap_or(f64::NAN)),
                }
            }
            Kind::Null | Kind::Array | Kind::Object => {
                return Err(reader.unexpected("a boolean, a number or a string"));
            }
        };
        parameters.push((Cow::Owned(key.to_owned()), value));
        Ok(())
    })?;
    Ok(parameters)
}

/// Where the elements of inputs come from that are not in the JSON.
struct Source<'a> {
    model: &'a str,
    /// What is left of the binary data; `None` if the request did not say where its JSON ends.
    blobs: Option<Bytes>,
    shared_memory: &'a SharedMemory,
}

impl Source<'_> {
    fn tensor(&mut self, head: InputHead<'_>) -> Result<Tensor, InferError> {
        let size = parameters::size(&head.parameters, "binary_data_size")?;
        let shared = parameters::shared_memory(&head.name, &head.parameters)?;
        match (head.data, size, shared) {
            (Some(tensor), None, None) => Ok(tensor),
            (None, Some(size), None) => {
                let blob = self.blob(&head.name, size)?;
                self.decode(&head.name, head.data_type, head.shape, blob)
            }
            (None, None, Some(slice)) => {
                let bytes = self.shared_memory.read(&slice)?;
                self.decode(&head.name, head.data_type, head.shape, bytes)
            }
            (None, None, None) => Err(self.error(
                &head.name,
                "unable to find data: expected 'data', or one of the parameters \
                 'binary_data_size' and 'shared_memory_region'",
            )),
            _ => Err(self.error(
                &head.name,
                "more than one of 'data', 'binary_data_size' and 'shared_memory_region' is given",
            )),
        }
    }

    fn blob(&mut self, name: &str, size: u64) -> Result<Bytes, InferError> {
        let Some(blobs) = &mut self.blobs else {
            return Err(self.error(
                name,
                "must specify valid 'Inference-Header-Content-Length' in request header and \
                 'binary_data_size' when providing inputs in binary tensor data format",
            ));
        };
        let left = blobs.len();
        match usize::try_from(size) {
            Ok(size) if size <= left => Ok(blobs.split_to(size)),
            _ => Err(InferError::Invalid(format!(
                "unexpected size for input '{name}', expecting {} additional bytes for model '{}'",
                size.saturating_sub(left as u64),
                self.model
            ))),
        }
    }

    fn decode(
        &self,
        name: &str,
        data_type: DataType,
        shape: Shape,
        bytes: Bytes,
    ) -> Result<Tensor, InferError> {
        raw::decode(data_type, shape, bytes).map_err(|error| self.error(name, error))
    }

    /// Checks that every byte was used.
    fn finish(self) -> Result<(), InferError> {
        match self.blobs {
            Some(left) if !left.is_empty() => Err(InferError::Invalid(format!(
                "unexpected additional input data for model '{}': {} bytes are left over",
                self.model,
                left.len()
            ))),
            _ => Ok(()),
        }
    }

    fn error(&self, input: &str, problem: impl std::fmt::Display) -> InferError {
        InferError::Invalid(format!("input tensor '{input}' for model '{}': {problem}", self.model))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tensor;

    fn read(body: &[u8], json_length: Option<usize>) -> Result<Decoded, InferError> {
        let target =
            Target { model: "m".to_owned(), version: VersionChoice::Latest, deadline: None };
        let body = Bytes::copy_from_slice(body);
        decode(&body, json_length, target, &SharedMemory::default())
    }

    #[test]
    fn one_tensor_in_each_form() {
        let floats: Vec<u8> = [1.5f32, 2.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        for text in [
            r#"{"name":"x","shape":[1,2],"datatype":"FP32","data":[1.5,2]}"#,
            r#"{"name":"x","shape":[1,2],"datatype":"FP32","data":[[1.5],[2]]}"#,
            r#"{"data":[1.5,2.0],"parameters":{},"shape":[1,2],"datatype":"FP32","name":"x"}"#,
        ] {
            let body = format!(r#"{{"id":"é","inputs":[{text}],"other":null}}"#);
            let decoded = read(body.as_bytes(), None).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(decoded.id.as_deref(), Some("é"));
            let (name, tensor) = &decoded.request.inputs[0];
            assert_eq!((name.as_str(), tensor.shape()), ("x", &[1, 2][..]));
            assert_eq!(tensor.data(), &tensor::Data::Fixed(Bytes::from(floats.clone())), "{text}");
        }
        let json = concat!(
            r#"{"inputs":[{"name":"a","shape":[1],"datatype":"UINT8","data":[7]},"#,
            r#"{"name":"x","shape":[2],"datatype":"FP32","parameters":{"binary_data_size":8}},"#,
            r#"{"name":"e","shape":[0],"datatype":"FP32","parameters":{"binary_data_size":0}}]}"#
        );
        let body = [json.as_bytes(), &floats].concat();
        let decoded = read(&body, Some(json.len())).expect("mixed");
        assert_eq!(decoded.request.inputs[1].1.fixed().expect("floats")[..], floats);
        assert!(decoded.request.inputs[2].1.is_empty());
    }

    #[test]
    fn outputs_and_parameters() {
        let body = concat!(
            r#"{"parameters":{"priority":3,"timeout":500,"binary_data_output":true},"inputs":[],"#,
            r#""outputs":[{"name":"b","parameters":{"binary_data":false}},"#,
            r#"{"name":"a"},{"name":"c","parameters":{"classification":2}}]}"#
        );
        let decoded = read(body.as_bytes(), None).expect("decodes");
        assert!(decoded.binary);
        assert_eq!(decoded.request.outputs, ["b", "a", "c"]);
        assert_eq!(decoded.request.priority, 3);
        let binary: Vec<bool> = decoded.outputs.iter().map(|output| output.binary).collect();
        assert_eq!(binary, [false, true, true]);
        assert_eq!(decoded.outputs[2].form.classes, Some(2));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let input = |members: &str| {
            format!(r#"{{"inputs":[{{"name":"x","shape":[1,2],"datatype":"FP32",{members}}}]}}"#)
        };
        check("{}", "has no 'inputs'");
        check("[]", "expected an object, found an array at byte 0");
        check(r#"{"inputs":{}}"#, "inputs: expected an array, found an object");
        check(r#"{"inputs":[{"shape":[]}]}"#, "inputs[0]: an input without 'name'");
        check(r#"{"inputs":[{"name":"x"}]}"#, "input tensor 'x': an input without 'datatype'");
        check(&input(r#""data":[1]"#), "input tensor 'x': shape [1, 2] needs 2 elements, got 1");
        check(
            &input(r#""data":[1,"b"]"#),
            "inputs[0].data[1]: input tensor 'x': expected a number",
        );
        check(&input(r#""data":7"#), "input tensor 'x': expected an array of elements, found 7");
        check(&input(r#""n":0"#), "unable to find data");
        check(&input(r#""parameters":{"binary_data_size":8}"#), "Inference-Header-Content-Length");
        check(
            &input(r#""data":[1,2],"parameters":{"binary_data_size":8}"#),
            "more than one of 'data'",
        );
        check(&input(r#""parameters":{"a":null}"#), "expected a boolean, a number or a string");
        let typed = |shape: &str, data_type: &str| {
            format!(
                r#"{{"inputs":[{{"name":"x","datatype":"{data_type}","shape":{shape},"data":[1]}}]}}"#
            )
        };
        check(
            &typed("[1]", "FP31"),
            "input tensor 'x': datatype 'FP31' is not known, expected BOOL",
        );
        check(&typed("[1]", "FP16"), "receiving FP16 data via JSON is not supported");
        check(&typed("[1,-2]", "FP32"), "input tensor 'x': expected an extent >= 0, found -2");
        check(&typed("[1.5]", "FP32"), "found 1.5");
        check(&typed("[4611686018427387904,4611686018427387904]", "FP32"), "more elements than");
        check(r#"{"inputs":[],"outputs":[{}]}"#, "outputs[0]: an output without 'name'");
        check(
            r#"{"inputs":[],"outputs":[{"name":"y","parameters":{"binary_data":1}}]}"#,
            "boolean",
        );
    }

    #[track_caller]
    fn check(body: &str, says: &str) {
        let error = read(body.as_bytes(), None).expect_err(body).to_string();
        assert!(error.contains(says), "{body}: {error}");
    }

    #[test]
    fn binary_data_must_fit_exactly() {
        let json = |size: u64| {
            format!(
                r#"{{"inputs":[{{"name":"x","shape":[2],"datatype":"FP32","parameters":{{"binary_data_size":{size}}}}}]}}"#
            )
        };
        for (size, given, says) in [
            (8, 7, "unexpected size for input 'x', expecting 1 additional bytes for model 'm'"),
            (8, 9, "unexpected additional input data for model 'm'"),
            (7, 7, "input tensor 'x' for model 'm': shape [2] of Fp32 needs 8 bytes, got 7"),
            (1 << 63, 8, "unexpected size for input 'x'"),
        ] {
            let json = json(size);
            let body = [json.as_bytes(), &vec![0; given]].concat();
            let error = read(&body, Some(json.len())).expect_err(says).to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_fail_without_panic(body: Vec<u8>, length in 0usize..64) {
            let _ = read(&body, Some(length.min(body.len())));
            let _ = read(&body, None);
        }

        #[test]
        fn binary_tensors_keep_their_bytes(
            lengths in proptest::collection::vec(0usize..9, 0..4), seed: u8
        ) {
            let mut inputs = Vec::new();
            let mut blobs = Vec::new();
            for (index, length) in lengths.iter().enumerate() {
                inputs.push(format!(
                    r#"{{"name":"i{index}","shape":[{length}],"datatype":"UINT8","parameters":{{"binary_data_size":{length}}}}}"#
                ));
                blobs.push(vec![seed.wrapping_add(index as u8); *length]);
            }
            let json = format!(r#"{{"inputs":[{}]}}"#, inputs.join(","));
            let body = [json.as_bytes(), &blobs.concat()].concat();
            let decoded = read(&body, Some(json.len())).expect("decodes");
            for ((_, tensor), blob) in decoded.request.inputs.iter().zip(&blobs) {
                prop_assert_eq!(&tensor.fixed().expect("bytes")[..], &blob[..]);
            }
        }
    }
}
