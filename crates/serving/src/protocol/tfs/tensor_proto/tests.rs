use proptest::prelude::*;
use smallvec::smallvec;

use super::*;
use crate::protocol::grpc::tensorflow::DataType as TfType;

const LIMIT: usize = 1 << 20;

fn proto(dtype: TfType, extents: &[i64]) -> TensorProto {
    let dim = extents.iter().map(|size| Dim { size: *size, name: String::new() }).collect();
    TensorProto {
        dtype: dtype.into(),
        tensor_shape: Some(TensorShapeProto { dim, unknown_rank: false }),
        ..Default::default()
    }
}

fn tensor<T: bytemuck::Pod + Send + Sync>(
    data_type: DataType,
    shape: &[usize],
    elements: Vec<T>,
) -> Tensor {
    Tensor::from_vec(data_type, Shape::from_slice(shape), elements).expect("fits")
}

#[test]
fn reads() {
    use TfType::*;
    let content = Bytes::from_static(&[1, 0, 0, 0, 2, 0, 0, 0]);
    check(
        "raw contents",
        TensorProto { tensor_content: content, ..proto(DtInt32, &[2]) },
        tensor(DataType::Int32, &[2], vec![1i32, 2]),
    );
    check(
        "one value for all",
        TensorProto { int_val: vec![5], ..proto(DtInt32, &[2, 2]) },
        tensor(DataType::Int32, &[2, 2], vec![5i32; 4]),
    );
    check(
        "the last value for the rest",
        TensorProto { float_val: vec![1.0, 2.0], ..proto(DtFloat, &[4]) },
        tensor(DataType::Fp32, &[4], vec![1.0f32, 2.0, 2.0, 2.0]),
    );
    check("no value is zero", proto(DtDouble, &[2]), tensor(DataType::Fp64, &[2], vec![0.0f64; 2]));
    check(
        "a scalar",
        TensorProto { int64_val: vec![-7], ..proto(DtInt64, &[]) },
        tensor(DataType::Int64, &[], vec![-7i64]),
    );
    check(
        "no shape is a scalar",
        TensorProto { tensor_shape: None, uint64_val: vec![u64::MAX], ..proto(DtUint64, &[]) },
        tensor(DataType::Uint64, &[], vec![u64::MAX]),
    );
    check("nothing", proto(DtInt8, &[0, 3]), tensor(DataType::Int8, &[0, 3], Vec::<i8>::new()));
    check(
        "small integers",
        TensorProto { int_val: vec![-128, 127], ..proto(DtInt8, &[2]) },
        tensor(DataType::Int8, &[2], vec![-128i8, 127]),
    );
    check(
        "halves are bit patterns",
        TensorProto { half_val: vec![0x3c00, 0xc000], ..proto(DtHalf, &[2]) },
        tensor(DataType::Fp16, &[2], vec![half::f16::ONE, half::f16::from_f32(-2.0)]),
    );
    check(
        "bfloat16 too",
        TensorProto { half_val: vec![0x3f80], ..proto(DtBfloat16, &[2]) },
        tensor(DataType::Bf16, &[2], vec![half::bf16::ONE; 2]),
    );
    check(
        "booleans",
        TensorProto { bool_val: vec![true, false], ..proto(DtBool, &[2]) },
        tensor(DataType::Bool, &[2], vec![1u8, 0]),
    );
    let strings = Data::Bytes(vec![Bytes::from_static(b"\xff"), Bytes::from_static(b"\xff")]);
    check(
        "strings",
        TensorProto { string_val: vec![Bytes::from_static(b"\xff")], ..proto(DtString, &[1, 2]) },
        Tensor::new(DataType::Bytes, smallvec![1, 2], strings).expect("fits"),
    );
}

#[track_caller]
fn check(what: &str, message: TensorProto, expected: Tensor) {
    let mut expansion = Expansion::new(LIMIT);
    assert_eq!(decode("x", message, &mut expansion).expect(what), expected, "{what}");
}

#[test]
fn refuses() {
    use TfType::*;
    let raw = |length: usize| Bytes::from(vec![0; length]);
    refuse("a type we lack", proto(DtComplex64, &[1]), "DT_COMPLEX64");
    refuse("a negative extent", proto(DtFloat, &[2, -1]), "[2, -1] has the extent -1");
    refuse("an overflow", proto(DtFloat, &[i64::MAX, 3]), "more elements than can be addressed");
    refuse("a bomb", proto(DtFloat, &[1 << 40]), "limit of 1048576 bytes");
    refuse("a bomb of strings", proto(DtString, &[1 << 20]), "limit of 1048576 bytes");
    let unknown = TensorShapeProto { dim: Vec::new(), unknown_rank: true };
    refuse(
        "an unknown rank",
        TensorProto { tensor_shape: Some(unknown), ..proto(DtFloat, &[]) },
        "unknown rank",
    );
    refuse(
        "too few bytes",
        TensorProto { tensor_content: raw(7), ..proto(DtFloat, &[2]) },
        "needs 8 bytes, got 7",
    );
    refuse(
        "too many values",
        TensorProto { float_val: vec![0.0; 3], ..proto(DtFloat, &[2]) },
        "float_val has 3 values, but shape [2] has 2 elements",
    );
    refuse(
        "the wrong list",
        TensorProto { int_val: vec![1], ..proto(DtInt64, &[1]) },
        "elements of DT_INT64 belong in int64_val, not in int_val",
    );
    refuse(
        "a value out of range",
        TensorProto { int_val: vec![1, 256], ..proto(DtUint8, &[2]) },
        "value 1 is 256, which DT_UINT8 cannot hold",
    );
    refuse(
        "strings as bytes",
        TensorProto { tensor_content: raw(2), ..proto(DtString, &[1]) },
        "strings belong in string_val",
    );
    refuse(
        "both forms",
        TensorProto { tensor_content: raw(4), float_val: vec![1.0], ..proto(DtFloat, &[1]) },
        "tensor_content and float_val are both given",
    );
}

#[track_caller]
fn refuse(what: &str, message: TensorProto, part: &str) {
    let mut expansion = Expansion::new(LIMIT);
    let error = decode("x", message, &mut expansion).expect_err(what).to_string();
    assert!(error.contains(part), "{what}: {error}");
}

#[test]
fn every_type_survives_both_ways() {
    for data_type in DataType::ALL {
        let data = match data_type.size() {
            // Valid for every type, booleans included.
            Some(size) => {
                Data::Fixed(Bytes::from_iter((0..6 * size).map(|i| (i % size == 0).into())))
            }
            None => Data::Bytes((0..6u8).map(|i| Bytes::from(vec![i; i.into()])).collect()),
        };
        let tensor = Tensor::new(data_type, smallvec![2, 3], data).expect("fits");
        check("written and read", encode(&tensor), tensor);
    }
}

fn any_proto() -> impl Strategy<Value = TensorProto> {
    let shape = (prop::collection::vec(-1i64..5, 0..3), any::<bool>(), prop::num::i64::ANY);
    let small = || prop::collection::vec(any::<i32>(), 0..4);
    (
        -1i32..25,
        shape,
        (prop::collection::vec(any::<u8>(), 0..9), small(), small()),
        (prop::collection::vec(any::<f32>(), 0..4), prop::collection::vec(any::<i64>(), 0..4)),
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3), 0..4),
    )
        .prop_map(|(dtype, (mut extents, odd, extent), lists, numbers, strings)| {
            if odd {
                extents.push(extent);
            }
            TensorProto {
                dtype,
                tensor_content: lists.0.into(),
                int_val: lists.1,
                half_val: lists.2,
                float_val: numbers.0,
                int64_val: numbers.1,
                string_val: strings.into_iter().map(Bytes::from).collect(),
                ..proto(TfType::DtInvalid, &extents)
            }
        })
}

proptest! {
    #[test]
    fn any_message_decodes_or_fails_without_panic(message in any_proto()) {
        let _ = decode("x", message, &mut Expansion::new(LIMIT));
    }

    #[test]
    fn a_bare_list_survives_both_ways(values: Vec<f32>, whole in prop::collection::vec(any::<i16>(), 0..9)) {
        let floats = tensor(DataType::Fp32, &[values.len()], values);
        let mut expansion = Expansion::new(LIMIT);
        prop_assert_eq!(decode("x", encode(&floats), &mut expansion).expect("fits"), floats);
        let integers = tensor(DataType::Int16, &[whole.len()], whole);
        prop_assert_eq!(decode("x", encode(&integers), &mut expansion).expect("fits"), integers);
    }
}
