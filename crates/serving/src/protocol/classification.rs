//! The classification extension: an output reduced to its highest values, with index and label.

use bytes::Bytes;
use half::{bf16, f16};

use crate::error::InferError;
use crate::tensor::{Data, DataType, Shape, Tensor};

/// Reduces a tensor to strings `VALUE:INDEX` or `VALUE:INDEX:LABEL`, highest value first.
///
/// With `batched` the first dimension stays and each of its rows is reduced on its own: `[n, k]`;
/// otherwise all elements are one row: `[k]`. `k` is `count` or the number of elements in a row,
/// whichever is less. Equal values keep the order of their indices; NaN comes last.
pub(crate) fn classify(
    tensor: &Tensor,
    count: usize,
    batched: bool,
    labels: &[String],
) -> Result<Tensor, InferError> {
    let values = values(tensor)?;
    let rows = match tensor.shape().first() {
        Some(extent) if batched => *extent,
        _ => 1,
    };
    let row_len = values.len().checked_div(rows).unwrap_or(0);
    let kept = count.min(row_len);

    let mut elements = Vec::with_capacity(rows.saturating_mul(kept));
    for row in values.chunks(row_len.max(1)) {
        let mut ranked: Vec<(usize, &Value)> = row.iter().enumerate().collect();
        ranked.sort_by(|(a, x), (b, y)| y.rank().total_cmp(&x.rank()).then(a.cmp(b)));
        for (index, value) in ranked.into_iter().take(kept) {
            let text = match labels.get(index) {
                Some(label) => format!("{value}:{index}:{label}"),
                None => format!("{value}:{index}"),
            };
            elements.push(Bytes::from(text));
        }
    }
    let mut shape = Shape::new();
    if batched && !tensor.shape().is_empty() {
        shape.push(rows);
    }
    shape.push(kept);
    Tensor::new(DataType::Bytes, shape, Data::Bytes(elements))
        .map_err(|error| InferError::Internal(format!("cannot classify an output: {error}")))
}

/// One element. Integers keep their text; floats have six decimals, as C's `%f` prints them.
enum Value {
    Integer(i128),
    Float(f64),
}

impl Value {
    /// For comparison: NaN ranks below everything.
    fn rank(&self) -> f64 {
        match self {
            // Exact to 2^53; beyond, neighbours rank as equal and keep their order.
            Self::Integer(value) => *value as f64,
            Self::Float(value) if value.is_nan() => f64::NEG_INFINITY,
            Self::Float(value) => *value,
        }
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Integer(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value:.6}"),
        }
    }
}

fn values(tensor: &Tensor) -> Result<Vec<Value>, InferError> {
    let Some(bytes) = tensor.fixed() else {
        return Err(InferError::Invalid(
            "classification is not supported for an output of type BYTES".to_owned(),
        ));
    };
    let integer = |value: i128| Value::Integer(value);
    Ok(match tensor.data_type() {
        DataType::Bool | DataType::Uint8 => read(bytes, |e: [u8; 1]| integer(e[0].into())),
        DataType::Int8 => read(bytes, |e| integer(i8::from_le_bytes(e).into())),
        DataType::Uint16 => read(bytes, |e| integer(u16::from_le_bytes(e).into())),
        DataType::Int16 => read(bytes, |e| integer(i16::from_le_bytes(e).into())),
        DataType::Uint32 => read(bytes, |e| integer(u32::from_le_bytes(e).into())),
        DataType::Int32 => read(bytes, |e| integer(i32::from_le_bytes(e).into())),
        DataType::Uint64 => read(bytes, |e| integer(u64::from_le_bytes(e).into())),
        DataType::Int64 => read(bytes, |e| integer(i64::from_le_bytes(e).into())),
        DataType::Fp16 => read(bytes, |e| Value::Float(f16::from_le_bytes(e).into())),
        DataType::Bf16 => read(bytes, |e| Value::Float(bf16::from_le_bytes(e).into())),
        DataType::Fp32 => read(bytes, |e| Value::Float(f32::from_le_bytes(e).into())),
        DataType::Fp64 => read(bytes, |e| Value::Float(f64::from_le_bytes(e))),
        DataType::Bytes => Vec::new(),
    })
}

fn read<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> Value) -> Vec<Value> {
    bytes.as_chunks::<N>().0.iter().map(|element| value(*element)).collect()
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;

    #[test]
    fn table() {
        let labels: Vec<String> = ["a", "b", "c"].map(str::to_owned).into();
        let scores = vec![0.1f32, 0.7, 0.2, 0.5, 0.0, 0.5];
        let tensor = Tensor::from_vec(DataType::Fp32, smallvec![2, 3], scores).expect("fits");
        check(
            "rows, with labels, a tie",
            classify(&tensor, 2, true, &labels),
            &[2, 2],
            &["0.700000:1:b", "0.200000:2:c", "0.500000:0:a", "0.500000:2:c"],
        );
        check(
            "not batched, more than there are",
            classify(&tensor, 9, false, &[]),
            &[6],
            &["0.700000:1", "0.500000:3", "0.500000:5", "0.200000:2", "0.100000:0", "0.000000:4"],
        );
        let tensor = Tensor::from_vec(DataType::Int64, smallvec![1, 2], vec![-5i64, i64::MAX]);
        check(
            "integers",
            classify(&tensor.expect("fits"), 1, true, &labels),
            &[1, 1],
            &["9223372036854775807:1:b"],
        );
        let tensor = Tensor::from_vec(DataType::Fp64, smallvec![3], vec![f64::NAN, -1.0, 2.0]);
        check(
            "NaN is last",
            classify(&tensor.expect("fits"), 3, false, &[]),
            &[3],
            &["2.000000:2", "-1.000000:1", "NaN:0"],
        );
        let tensor = Tensor::from_vec(DataType::Fp32, smallvec![0, 3], Vec::<f32>::new());
        check("no rows", classify(&tensor.expect("fits"), 2, true, &[]), &[0, 0], &[]);
    }

    #[track_caller]
    fn check(what: &str, result: Result<Tensor, InferError>, shape: &[usize], expected: &[&str]) {
        let tensor = result.expect(what);
        assert_eq!(tensor.shape(), shape, "{what}");
        let expected = expected.iter().map(|text| Bytes::from((*text).to_owned())).collect();
        assert_eq!(tensor.data(), &Data::Bytes(expected), "{what}");
    }

    #[test]
    fn strings_have_no_classes() {
        let data = Data::Bytes(vec![Bytes::from_static(b"x")]);
        let tensor = Tensor::new(DataType::Bytes, smallvec![1], data).expect("fits");
        assert!(classify(&tensor, 1, false, &[]).is_err());
    }
}
