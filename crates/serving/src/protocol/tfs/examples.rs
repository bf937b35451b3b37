//! From `tf.Example`s to the inputs of a model: each input is the feature of the same name, one row
//! an example.

use half::{bf16, f16};

use super::expansion::Expansion;
use crate::error::InferError;
use crate::protocol::grpc::tensorflow::serving::{Input, input};
use crate::protocol::grpc::tensorflow::{Example, Feature, feature::Kind};
use crate::signature::{Signature, TensorSpec};
use crate::tensor::{Data, DataType, Shape, Tensor};

/// The inputs of a model, and how many examples they hold.
#[derive(Debug)]
pub(crate) struct Stacked {
    pub(crate) examples: usize,
    pub(crate) inputs: Vec<(String, Tensor)>,
}

/// Stacks the features that the signature names; others are not looked at. A feature that an
/// example lacks is taken from the context.
pub(crate) fn stack(
    signature: &Signature,
    input: Option<Input>,
    expansion: &mut Expansion,
) -> Result<Stacked, InferError> {
    let (examples, context) = match input.and_then(|input| input.kind) {
        Some(input::Kind::ExampleList(list)) => (list.examples, None),
        Some(input::Kind::ExampleListWithContext(list)) => (list.examples, list.context),
        None => (Vec::new(), None),
    };
    if examples.is_empty() {
        return Err(InferError::Invalid(
            "Input is empty, expected at least one example".to_owned(),
        ));
    }
    let mut inputs = Vec::with_capacity(signature.inputs.len());
    for spec in &signature.inputs {
        let rows = examples.iter().map(|example| {
            let own = feature(example, &spec.name);
            own.or_else(|| context.as_ref().and_then(|context| feature(context, &spec.name)))
        });
        let rows: Vec<Option<Values<'_>>> = rows.collect();
        if spec.optional && rows.iter().all(Option::is_none) {
            continue;
        }
        let rows = complete(spec, rows, &examples)?;
        inputs.push((spec.name.clone(), column(spec, &rows, expansion)?));
    }
    Ok(Stacked { examples: examples.len(), inputs })
}

/// The values of one feature of one example.
#[derive(Clone, Copy)]
enum Values<'a> {
    Bytes(&'a [bytes::Bytes]),
    Floats(&'a [f32]),
    Integers(&'a [i64]),
}

impl Values<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Bytes(values) => values.len(),
            Self::Floats(values) => values.len(),
            Self::Integers(values) => values.len(),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Bytes(_) => "bytes_list",
            Self::Floats(_) => "float_list",
            Self::Integers(_) => "int64_list",
        }
    }
}

fn feature<'a>(example: &'a Example, name: &str) -> Option<Values<'a>> {
    let Feature { kind } = example.features.as_ref()?.feature.get(name)?;
    Some(match kind.as_ref()? {
        Kind::BytesList(list) => Values::Bytes(&list.value),
        Kind::FloatList(list) => Values::Floats(&list.value),
        Kind::Int64List(list) => Values::Integers(&list.value),
    })
}

/// Refuses a feature that some example lacks, and says what there is instead.
fn complete<'a>(
    spec: &TensorSpec,
    rows: Vec<Option<Values<'a>>>,
    examples: &[Example],
) -> Result<Vec<Values<'a>>, InferError> {
    let lacking = |index: usize| {
        let features = examples.get(index).and_then(|example| example.features.as_ref());
        let names: Vec<&str> = features
            .map(|features| features.feature.keys().map(String::as_str).collect())
            .unwrap_or_default();
        InferError::Invalid(format!(
            "example {index} has no feature '{}', which is an input of the model; its features: \
             {names:?}",
            spec.name
        ))
    };
    rows.into_iter().enumerate().map(|(index, row)| row.ok_or_else(|| lacking(index))).collect()
}

/// One input with a row for each example.
fn column(
    spec: &TensorSpec,
    rows: &[Values<'_>],
    expansion: &mut Expansion,
) -> Result<Tensor, InferError> {
    let wrap = |problem: String| InferError::Invalid(format!("feature '{}': {problem}", spec.name));
    let shape = shape(spec, rows).map_err(wrap)?;
    let count = rows.iter().try_fold(0usize, |sum, row| sum.checked_add(row.len()));
    expansion.add(count.unwrap_or(usize::MAX), spec.data_type)?;
    elements(spec.data_type, shape, rows).map_err(wrap)
}

/// The shape of an input: the number of examples, then what the model declares for one of them. The
/// values of an example decide an extent that the model leaves open.
fn shape(spec: &TensorSpec, rows: &[Values<'_>]) -> Result<Shape, String> {
    let Some((_, declared)) = spec.dims.split_first() else {
        return Err("the model declares a scalar, expected a batch dimension that takes one row \
                    for each example"
            .to_owned());
    };
    let open = declared.iter().filter(|extent| extent.is_none()).count();
    if open > 1 {
        return Err(format!(
            "the model leaves {open} extents of an example open, and a list of values decides one \
             at most: use Predict"
        ));
    }
    let length = rows.first().map_or(0, Values::len);
    if let Some((index, row)) = rows.iter().enumerate().find(|(_, row)| row.len() != length) {
        return Err(format!(
            "example {index} has {} values, but example 0 has {length}: all need the same number",
            row.len()
        ));
    }
    let known =
        declared.iter().flatten().try_fold(1usize, |product, extent| product.checked_mul(*extent));
    let known = known.ok_or("the model's shape is too large")?;
    let rest = length.checked_div(known).unwrap_or(0);
    let expected = if open == 0 { Some(known) } else { known.checked_mul(rest) };
    if expected != Some(length) {
        let each = if open == 0 { "" } else { "a multiple of " };
        return Err(format!("example 0 has {length} values, expected {each}{known}"));
    }
    let extents = declared.iter().map(|extent| extent.unwrap_or(rest));
    Ok(std::iter::once(rows.len()).chain(extents).collect())
}

fn elements(data_type: DataType, shape: Shape, rows: &[Values<'_>]) -> Result<Tensor, String> {
    macro_rules! integers {
        ($element:ty) => {
            Tensor::from_vec(data_type, shape, integers::<$element>(data_type, rows)?)
        };
    }
    macro_rules! reals {
        ($convert:expr) => {
            Tensor::from_vec(data_type, shape, reals(data_type, rows, $convert)?)
        };
    }
    let tensor = match data_type {
        DataType::Bool => {
            let bits = integers::<u8>(data_type, rows)?;
            if let Some(value) = bits.iter().find(|value| **value > 1) {
                return Err(unfit(data_type, value));
            }
            Tensor::from_vec(data_type, shape, bits)
        }
        DataType::Uint8 => integers!(u8),
        DataType::Uint16 => integers!(u16),
        DataType::Uint32 => integers!(u32),
        DataType::Uint64 => integers!(u64),
        DataType::Int8 => integers!(i8),
        DataType::Int16 => integers!(i16),
        DataType::Int32 => integers!(i32),
        DataType::Int64 => integers!(i64),
        DataType::Fp16 => reals!(f16::from_f64),
        DataType::Bf16 => reals!(bf16::from_f64),
        DataType::Fp32 => reals!(|value| value as f32),
        DataType::Fp64 => reals!(|value| value),
        DataType::Bytes => {
            let mut strings = Vec::new();
            for row in rows {
                let Values::Bytes(values) = row else { return Err(wrong_kind(data_type, row)) };
                strings.extend_from_slice(values);
            }
            Tensor::new(data_type, shape, Data::Bytes(strings))
        }
    };
    tensor.map_err(|error| error.to_string())
}

fn integers<T: TryFrom<i64>>(data_type: DataType, rows: &[Values<'_>]) -> Result<Vec<T>, String> {
    let mut elements = Vec::new();
    for row in rows {
        match row {
            Values::Integers(values) => {
                for value in *values {
                    elements.push(T::try_from(*value).map_err(|_| unfit(data_type, value))?);
                }
            }
            Values::Floats([first, ..]) => return Err(unfit(data_type, first)),
            Values::Floats([]) => {}
            Values::Bytes(_) => return Err(wrong_kind(data_type, row)),
        }
    }
    Ok(elements)
}

fn reals<T>(
    data_type: DataType,
    rows: &[Values<'_>],
    convert: impl Fn(f64) -> T,
) -> Result<Vec<T>, String> {
    let mut elements = Vec::new();
    for row in rows {
        match row {
            Values::Integers(values) => {
                elements.extend(values.iter().map(|value| convert(*value as f64)));
            }
            Values::Floats(values) => {
                elements.extend(values.iter().map(|value| convert(f64::from(*value))));
            }
            Values::Bytes(_) => return Err(wrong_kind(data_type, row)),
        }
    }
    Ok(elements)
}

fn unfit(data_type: DataType, value: &dyn std::fmt::Debug) -> String {
    format!("the model takes {}, which cannot hold {value:?}", data_type.oip_name())
}

fn wrong_kind(data_type: DataType, row: &Values<'_>) -> String {
    let expected =
        if data_type == DataType::Bytes { "bytes_list" } else { "int64_list or float_list" };
    format!(
        "it is a {}, but the model takes {}: send a {expected}",
        row.kind(),
        data_type.oip_name()
    )
}

#[cfg(test)]
mod tests;
