use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::protocol::grpc::tensorflow::serving::{ExampleList, ExampleListWithContext};
use crate::protocol::grpc::tensorflow::{BytesList, Features, FloatList, Int64List};

fn floats(values: &[f32]) -> Kind {
    Kind::FloatList(FloatList { value: values.to_vec() })
}

fn integers(values: &[i64]) -> Kind {
    Kind::Int64List(Int64List { value: values.to_vec() })
}

fn strings(values: &[&'static str]) -> Kind {
    let value = values.iter().map(|text| Bytes::from_static(text.as_bytes())).collect();
    Kind::BytesList(BytesList { value })
}

fn example(features: &[(&str, Kind)]) -> Example {
    let entry =
        |(name, kind): &(&str, Kind)| ((*name).to_owned(), Feature { kind: Some(kind.clone()) });
    Example { features: Some(Features { feature: features.iter().map(entry).collect() }) }
}

fn list(examples: Vec<Example>) -> Option<Input> {
    Some(Input { kind: Some(input::Kind::ExampleList(ExampleList { examples })) })
}

fn spec(data_type: DataType, dims: &[Option<usize>]) -> TensorSpec {
    TensorSpec {
        name: "x".to_owned(),
        data_type,
        dims: dims.to_vec(),
        optional: false,
        labels: Vec::new(),
    }
}

fn stacked(spec: TensorSpec, input: Option<Input>) -> Result<Stacked, InferError> {
    let signature = Signature { inputs: vec![spec], outputs: Vec::new() };
    stack(&signature, input, &mut Expansion::new(1 << 12))
}

/// Two examples whose feature `x` has these values.
#[track_caller]
fn check(spec: TensorSpec, rows: [Kind; 2], expected: Result<(&[usize], &str), &str>) {
    let examples = rows.iter().map(|kind| example(&[("x", kind.clone()), ("other", floats(&[]))]));
    match (stacked(spec, list(examples.collect())), expected) {
        (Ok(stacked), Ok((shape, elements))) => {
            assert_eq!(stacked.examples, 2);
            let (name, tensor) = &stacked.inputs[0];
            assert_eq!((name.as_str(), tensor.shape()), ("x", shape));
            assert_eq!(text(tensor), elements);
        }
        (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
        (found, expected) => panic!("{found:?}, expected {expected:?}"),
    }
}

/// Elements in words, floats as their values.
fn text(tensor: &Tensor) -> String {
    if let Some(values) = crate::protocol::tfs::floats::floats(tensor) {
        return format!("{values:?}");
    }
    match tensor.data() {
        Data::Fixed(raw) => format!("{:?}", raw.as_ref()),
        Data::Bytes(elements) => format!("{elements:?}"),
    }
}

#[test]
fn types() {
    use DataType::*;
    let rows = [Some(2)];
    let dims = [None, rows[0]];
    let whole = || [integers(&[1, 2]), integers(&[3, 4])];
    for data_type in [Fp16, Bf16, Fp32, Fp64] {
        let of =
            |kinds| check(spec(data_type, &dims), kinds, Ok((&[2, 2], "[1.0, 2.0, 3.0, 4.0]")));
        of(whole());
        of([floats(&[1.0, 2.0]), floats(&[3.0, 4.0])]);
        of([floats(&[1.0, 2.0]), integers(&[3, 4])]);
    }
    check(spec(Uint8, &dims), whole(), Ok((&[2, 2], "[1, 2, 3, 4]")));
    check(
        spec(Int8, &dims),
        [integers(&[-1, 0]), integers(&[1, 2])],
        Ok((&[2, 2], "[255, 0, 1, 2]")),
    );
    check(spec(Bool, &dims), [integers(&[0, 1]), integers(&[1, 0])], Ok((&[2, 2], "[0, 1, 1, 0]")));
    check(spec(Bytes, &[None]), [strings(&["a"]), strings(&["b"])], Ok((&[2], "[b\"a\", b\"b\"]")));

    check(spec(Bool, &dims), whole(), Err("BOOL, which cannot hold 2"));
    check(spec(Int8, &[None]), [integers(&[128]), integers(&[1])], Err("cannot hold 128"));
    check(
        spec(Int64, &[None]),
        [floats(&[0.5]), floats(&[1.0])],
        Err("INT64, which cannot hold 0.5"),
    );
    check(spec(Fp32, &[None]), [strings(&["1"]), strings(&["2"])], Err("it is a bytes_list"));
    check(spec(Bytes, &[None]), [floats(&[1.0]), floats(&[2.0])], Err("send a bytes_list"));
}

#[test]
fn shapes() {
    use DataType::Int8;
    let one = || [integers(&[1]), integers(&[2])];
    let six = || [integers(&[1, 2, 3, 4, 5, 6]), integers(&[6, 5, 4, 3, 2, 1])];
    let elements = "[1, 2, 3, 4, 5, 6, 6, 5, 4, 3, 2, 1]";
    check(spec(Int8, &[None]), one(), Ok((&[2], "[1, 2]")));
    check(spec(Int8, &[Some(2), Some(1)]), one(), Ok((&[2, 1], "[1, 2]")));
    check(spec(Int8, &[None, None]), six(), Ok((&[2, 6], elements)));
    check(spec(Int8, &[None, None, Some(2)]), six(), Ok((&[2, 3, 2], elements)));
    check(spec(Int8, &[None, None]), [integers(&[]), integers(&[])], Ok((&[2, 0], "[]")));

    check(spec(Int8, &[]), one(), Err("expected a batch dimension"));
    check(spec(Int8, &[None, None, None]), six(), Err("leaves 2 extents"));
    check(spec(Int8, &[None, Some(5)]), six(), Err("has 6 values, expected 5"));
    check(spec(Int8, &[None, None, Some(4)]), six(), Err("expected a multiple of 4"));
    check(spec(Int8, &[None, None, Some(0)]), six(), Err("expected a multiple of 0"));
    check(spec(Int8, &[None, None]), [integers(&[1]), integers(&[1, 2])], Err("example 1 has 2"));
    check(spec(Int8, &[None, Some(usize::MAX), Some(2)]), six(), Err("too large"));
}

#[test]
fn what_is_missing() {
    let error =
        |input| stacked(spec(DataType::Fp32, &[None]), input).expect_err("wrong").to_string();
    assert!(error(None).contains("Input is empty"));
    assert!(error(list(vec![])).contains("Input is empty"));
    let two = vec![example(&[("x", floats(&[1.0]))]), example(&[("y", floats(&[1.0]))])];
    assert!(error(list(two)).contains("example 1 has no feature 'x'"));

    let optional = TensorSpec { optional: true, ..spec(DataType::Fp32, &[None]) };
    let found = stacked(optional, list(vec![example(&[])])).expect("optional");
    assert!(found.inputs.is_empty() && found.examples == 1);
}

#[test]
fn context_fills_in() {
    let examples = vec![example(&[("x", floats(&[1.0]))]), example(&[])];
    let with = |context| {
        let list = ExampleListWithContext { examples: examples.clone(), context: Some(context) };
        Some(Input { kind: Some(input::Kind::ExampleListWithContext(list)) })
    };
    let found = stacked(spec(DataType::Fp32, &[None]), with(example(&[("x", floats(&[7.0]))])));
    assert_eq!(text(&found.expect("stacks").inputs[0].1), "[1.0, 7.0]");

    let large = example(&[("x", floats(&[0.0; 1000]))]);
    let list = ExampleListWithContext { examples: vec![example(&[]); 10], context: Some(large) };
    let input = Some(Input { kind: Some(input::Kind::ExampleListWithContext(list)) });
    let error = stacked(spec(DataType::Fp32, &[None, None]), input).expect_err("10,000 elements");
    assert!(error.to_string().contains("limit of 4096 bytes"), "{error}");
}

proptest! {
    #[test]
    fn any_feature_stacks_or_fails_without_panic(
        rows in prop::collection::vec(prop::collection::vec(any::<i64>(), 0..5), 0..4),
        dims in prop::collection::vec(prop::option::of(0usize..4), 0..4),
        index in 0usize..DataType::ALL.len(),
    ) {
        let examples = rows.iter().map(|row| example(&[("x", integers(row))])).collect();
        let _ = stacked(spec(DataType::ALL[index], &dims), list(examples));
    }
}
