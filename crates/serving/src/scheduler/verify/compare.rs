//! Tells whether two answers are the same, as far as arithmetic in another order allows.

use half::{bf16, f16};

use crate::tensor::{Data, DataType, Tensor};

/// The first difference between two tensors in words, if there is one.
///
/// Integers, booleans and strings must be equal; floats may differ by as much as summing in another
/// order makes of them, relative to their size and absolute. NaN equals NaN.
pub(super) fn difference(one: &Tensor, other: &Tensor) -> Option<String> {
    if one.data_type() != other.data_type() || one.shape() != other.shape() {
        return Some(format!("shape {:?} against {:?}", one.shape(), other.shape()));
    }
    let (Data::Fixed(left), Data::Fixed(right)) = (one.data(), other.data()) else {
        return (one.data() != other.data()).then(|| "strings differ".to_owned());
    };
    let (left, right) = (left.as_ref(), right.as_ref());
    match one.data_type() {
        // A step of the type's precision (2^-10, 2^-7) at a few sums.
        DataType::Fp16 => floats(left, right, 1e-2, |two| f16::from_le_bytes(two).to_f64()),
        DataType::Bf16 => floats(left, right, 5e-2, |two| bf16::from_le_bytes(two).to_f64()),
        DataType::Fp32 => floats(left, right, 1e-4, |four| f32::from_le_bytes(four).into()),
        DataType::Fp64 => floats(left, right, 1e-4, f64::from_le_bytes),
        _ => (left != right).then(|| "elements differ".to_owned()),
    }
}

fn floats<const N: usize>(
    left: &[u8],
    right: &[u8],
    tolerance: f64,
    read: impl Fn([u8; N]) -> f64,
) -> Option<String> {
    let values = |bytes: &[u8]| -> Vec<f64> {
        bytes.as_chunks::<N>().0.iter().map(|one| read(*one)).collect()
    };
    let same = |one: f64, other: f64| {
        one == other
            || (one.is_nan() && other.is_nan())
            || (one.is_finite()
                && other.is_finite()
                && (one - other).abs() <= tolerance * one.abs().max(other.abs()).max(1.0))
    };
    let (left, right) = (values(left), values(right));
    let (one, other) = left.iter().zip(&right).find(|(one, other)| !same(**one, **other))?;
    Some(format!("{one} against {other}"))
}

#[cfg(test)]
mod tests {
    use super::super::super::fixtures::{ints, strings};
    use super::*;

    fn float(elements: &[f32]) -> Tensor {
        let shape = [elements.len()].into_iter().collect();
        Tensor::from_vec(DataType::Fp32, shape, elements.to_vec()).expect("consistent")
    }

    #[test]
    fn table() {
        let same = |one: &Tensor, other: &Tensor| difference(one, other).is_none();
        assert!(same(&float(&[1.0, f32::NAN]), &float(&[1.00005, f32::NAN])));
        assert!(same(&float(&[1e6]), &float(&[1_000_050.0])));
        assert!(same(&float(&[0.0]), &float(&[5e-5])));
        assert!(same(&float(&[f32::INFINITY]), &float(&[f32::INFINITY])));
        assert!(!same(&float(&[1.0]), &float(&[1.001])));
        assert!(!same(&float(&[f32::NAN]), &float(&[1.0])));
        assert!(!same(&float(&[f32::INFINITY]), &float(&[1.0])));
        assert!(!same(&float(&[f32::INFINITY]), &float(&[f32::NEG_INFINITY])));
        assert!(!same(&float(&[1.0]), &float(&[1.0, 1.0])));
        assert!(same(&ints(&[1], &[7]), &ints(&[1], &[7])));
        assert!(!same(&ints(&[1], &[7]), &ints(&[1], &[8])));
        assert!(same(&strings(&[1], &["a"]), &strings(&[1], &["a"])));
        assert!(!same(&strings(&[1], &["a"]), &strings(&[1], &["b"])));
    }
}
