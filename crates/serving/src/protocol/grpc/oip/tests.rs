//! Decoding and encoding of messages, without a server. The services over a connection are tested
//! in `grpc/tests.rs`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;

use super::super::inference::infer_parameter::ParameterChoice;
use super::super::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use super::super::inference::{InferParameter, InferTensorContents, ModelInferRequest};
use super::decode::{Decoded, decode, version};
use crate::error::InferError;
use crate::request::VersionChoice;
use crate::shared_memory::{SharedMemory, Slice};
use crate::tensor::{Data, DataType, Tensor};

fn parameters(given: &[(&str, ParameterChoice)]) -> BTreeMap<String, InferParameter> {
    let entry = |(key, choice): &(&str, ParameterChoice)| {
        ((*key).to_owned(), InferParameter { parameter_choice: Some(choice.clone()) })
    };
    given.iter().map(entry).collect()
}

fn input(datatype: &str, shape: &[i64], contents: Option<InferTensorContents>) -> InferInputTensor {
    InferInputTensor {
        name: "x".to_owned(),
        datatype: datatype.to_owned(),
        shape: shape.to_vec(),
        contents,
        ..Default::default()
    }
}

fn request(inputs: Vec<InferInputTensor>, raw: &[&'static [u8]]) -> ModelInferRequest {
    ModelInferRequest {
        model_name: "m".to_owned(),
        inputs,
        raw_input_contents: raw.iter().map(|raw| Bytes::from_static(raw)).collect(),
        ..Default::default()
    }
}

fn decoded(message: ModelInferRequest) -> Result<Decoded, InferError> {
    decode(message, &SharedMemory::default(), None)
}

/// The elements of the only input, or part of the error.
#[track_caller]
fn check(what: &str, message: ModelInferRequest, expected: Result<&[u8], &str>) {
    match (decoded(message), expected) {
        (Ok(decoded), Ok(elements)) => {
            let [(name, tensor)] = decoded.request.inputs.as_slice() else { panic!("{what}") };
            assert_eq!(name, "x", "{what}");
            assert_eq!(raw(tensor), elements, "{what}");
        }
        (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{what}: {error}"),
        (decoded, expected) => panic!("{what}: {decoded:?}, expected {expected:?}"),
    }
}

fn raw(tensor: &Tensor) -> Bytes {
    crate::protocol::raw::encode(tensor)
}

#[test]
fn raw_contents() {
    let int16 = |shape: &[i64]| input("INT16", shape, None);
    check("as they are", request(vec![int16(&[2])], &[&[1, 0, 2, 0]]), Ok(&[1, 0, 2, 0]));
    check("nothing", request(vec![int16(&[0])], &[&[]]), Ok(&[]));
    let string: &[u8] = b"\x02\0\0\0ab";
    check("strings", request(vec![input("BYTES", &[1], None)], &[string]), Ok(string));
    check("too few", request(vec![int16(&[2])], &[&[1, 0]]), Err("needs 4 bytes, got 2"));
    check(
        "none left",
        request(vec![int16(&[1])], &[]),
        Err("unable to find data for input tensor 'x'"),
    );
    check(
        "a lying length",
        request(vec![input("BYTES", &[1], None)], &[b"\xff\0\0\0"]),
        Err("255 bytes"),
    );
    check("a negative extent", request(vec![int16(&[-1])], &[&[]]), Err("extent -1"));
    check("an overflow", request(vec![int16(&[i64::MAX, 4])], &[&[]]), Err("can be addressed"));
    check("an unknown type", request(vec![input("FP31", &[1], None)], &[&[]]), Err("'FP31'"));
    let both = vec![input("INT16", &[1], Some(InferTensorContents::default()))];
    check(
        "both forms",
        request(both, &[&[1, 0]]),
        Err(
            "contents field must not be specified when using raw_input_contents for 'x' for model 'm'",
        ),
    );
}

#[test]
fn typed_contents() {
    let with = |datatype: &str, count: i64, contents: InferTensorContents| {
        request(vec![input(datatype, &[count], Some(contents))], &[])
    };
    let none = InferTensorContents::default;
    let ints = |values: &[i32]| InferTensorContents { int_contents: values.to_vec(), ..none() };
    let uints = |values: &[u32]| InferTensorContents { uint_contents: values.to_vec(), ..none() };

    check(
        "BOOL",
        with("BOOL", 2, InferTensorContents { bool_contents: vec![true, false], ..none() }),
        Ok(&[1, 0]),
    );
    check("INT8", with("INT8", 2, ints(&[-1, 127])), Ok(&[255, 127]));
    check("INT16", with("INT16", 1, ints(&[-2])), Ok(&[254, 255]));
    check("INT32", with("INT32", 1, ints(&[1])), Ok(&[1, 0, 0, 0]));
    check("UINT8", with("UINT8", 1, uints(&[255])), Ok(&[255]));
    check("UINT16", with("UINT16", 1, uints(&[256])), Ok(&[0, 1]));
    check("UINT32", with("UINT32", 1, uints(&[1])), Ok(&[1, 0, 0, 0]));
    let wide = InferTensorContents { int64_contents: vec![-1], ..none() };
    check("INT64", with("INT64", 1, wide), Ok(&[255; 8]));
    let wide = InferTensorContents { uint64_contents: vec![u64::MAX], ..none() };
    check("UINT64", with("UINT64", 1, wide), Ok(&[255; 8]));
    let floats = InferTensorContents { fp32_contents: vec![1.0], ..none() };
    check("FP32", with("FP32", 1, floats.clone()), Ok(&1.0f32.to_le_bytes()));
    let doubles = InferTensorContents { fp64_contents: vec![1.0], ..none() };
    check("FP64", with("FP64", 1, doubles), Ok(&1.0f64.to_le_bytes()));
    let strings = InferTensorContents { bytes_contents: vec![Bytes::from_static(b"a")], ..none() };
    check("BYTES", with("BYTES", 1, strings), Ok(b"\x01\0\0\0a"));

    check(
        "out of range",
        with("INT8", 1, ints(&[128])),
        Err("element 0 is 128, which INT8 cannot hold"),
    );
    check(
        "the wrong field",
        with("INT32", 1, floats),
        Err("of type 'FP32', expected datatype 'INT32'"),
    );
    check("too few", with("INT32", 2, ints(&[1])), Err("needs 8 bytes, got 4"));
    check("no typed form", with("FP16", 1, none()), Err("send it in raw_input_contents"));
}

#[test]
fn raw_contents_map_to_inputs_in_order() {
    let named =
        |name: &str| InferInputTensor { name: name.to_owned(), ..input("UINT8", &[1], None) };
    let message = request(vec![named("b"), named("a")], &[&[1], &[2]]);
    let inputs = decoded(message).expect("decodes").request.inputs;
    let found: Vec<_> = inputs.iter().map(|(name, tensor)| (name.as_str(), raw(tensor))).collect();
    assert_eq!(found, [("b", Bytes::from_static(&[1])), ("a", Bytes::from_static(&[2]))]);
}

#[test]
fn versions() {
    assert_eq!(version(""), VersionChoice::Latest);
    assert_eq!(version("-1"), VersionChoice::Latest);
    assert_eq!(version("7"), VersionChoice::Number(7));
    assert_eq!(version("canary"), VersionChoice::Label("canary".to_owned()));
    assert_eq!(version("-2"), VersionChoice::Label("-2".to_owned()));
}

#[test]
fn settings_of_a_request() {
    use ParameterChoice::{Int64Param, StringParam, Uint64Param};
    let deadline = Instant::now();
    let mut message = request(vec![input("UINT8", &[0], None)], &[&[]]);
    message.model_version = "3".to_owned();
    message.parameters = parameters(&[("priority", Uint64Param(2)), ("timeout", Int64Param(500))]);
    message.outputs = vec![
        InferRequestedOutputTensor {
            name: "y".to_owned(),
            parameters: parameters(&[("classification", Int64Param(3))]),
        },
        InferRequestedOutputTensor {
            name: "z".to_owned(),
            parameters: parameters(&[
                ("shared_memory_region", StringParam("r".to_owned())),
                ("shared_memory_byte_size", Int64Param(8)),
            ]),
        },
    ];
    let Decoded { request, outputs } =
        decode(message, &SharedMemory::default(), Some(deadline)).expect("decodes");
    assert_eq!(request.version, VersionChoice::Number(3));
    assert_eq!(request.priority, 2);
    assert_eq!(request.queue_timeout, Some(Duration::from_micros(500)));
    assert_eq!(request.deadline, Some(deadline));
    assert_eq!(request.outputs, ["y", "z"]);
    assert_eq!(outputs[0].classes, Some(3));
    let slice = Slice { region: "r".to_owned(), offset: 0, byte_size: 8 };
    assert_eq!(outputs[1].shared_memory, Some(slice));
}

#[test]
fn an_output_is_either_shared_or_classified() {
    use ParameterChoice::{Int64Param, StringParam};
    let mut message = request(vec![], &[]);
    message.outputs = vec![InferRequestedOutputTensor {
        name: "y".to_owned(),
        parameters: parameters(&[
            ("classification", Int64Param(3)),
            ("shared_memory_region", StringParam("r".to_owned())),
            ("shared_memory_byte_size", Int64Param(8)),
        ]),
    }];
    let error = decoded(message).expect_err("both").to_string();
    assert!(error.contains("'y' has both"), "{error}");
}

#[test]
fn shared_memory_that_nobody_registered() {
    use ParameterChoice::{Int64Param, StringParam};
    let mut tensor = input("UINT8", &[1], None);
    tensor.parameters = parameters(&[
        ("shared_memory_region", StringParam("nosuch".to_owned())),
        ("shared_memory_byte_size", Int64Param(1)),
    ]);
    check("an unknown region", request(vec![tensor.clone()], &[]), Err("nosuch"));
    tensor.contents = Some(InferTensorContents::default());
    check("contents beside", request(vec![tensor], &[]), Err("unexpected 'content' provided"));
}

proptest! {
    #[test]
    fn any_bytes_decode_or_fail_without_panic(bytes: Vec<u8>) {
        if let Ok(message) = ModelInferRequest::decode(bytes.as_slice()) {
            let _ = decoded(message);
        }
    }

    #[test]
    fn raw_tensors_survive(
        data_type in prop::sample::select(DataType::ALL[..13].to_vec()),
        bits in prop::collection::vec(any::<u8>(), 48),
    ) {
        let size = data_type.size().expect("fixed");
        let content = Bytes::from(bits[..6 * size].to_vec());
        let mut message = request(vec![input(data_type.oip_name(), &[2, 3], None)], &[]);
        message.raw_input_contents.push(content.clone());
        // Over the wire, as a client sends it.
        let message = ModelInferRequest::decode(Bytes::from(message.encode_to_vec())).expect("own");
        let tensor = decoded(message).expect("fits").request.inputs.remove(0).1;
        prop_assert_eq!(tensor.data_type(), data_type);
        prop_assert_eq!(tensor.shape(), [2, 3]);
        prop_assert_eq!(tensor.data(), &Data::Fixed(content));
    }
}
