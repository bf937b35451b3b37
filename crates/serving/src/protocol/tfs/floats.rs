//! Elements of floating-point tensors, in the precision of TensorFlow's scores.

use half::{bf16, f16};

use crate::tensor::{DataType, Tensor};

/// Whether elements of the type can be scores.
pub(super) const fn is_float(data_type: DataType) -> bool {
    matches!(data_type, DataType::Fp16 | DataType::Bf16 | DataType::Fp32 | DataType::Fp64)
}

/// The elements, or `None` of a tensor that holds no floating-point numbers.
pub(super) fn floats(tensor: &Tensor) -> Option<Vec<f32>> {
    let raw = tensor.fixed()?;
    Some(match tensor.data_type() {
        DataType::Fp16 => read(raw, |e| f16::from_le_bytes(e).to_f32()),
        DataType::Bf16 => read(raw, |e| bf16::from_le_bytes(e).to_f32()),
        DataType::Fp32 => read(raw, f32::from_le_bytes),
        DataType::Fp64 => read(raw, |e| f64::from_le_bytes(e) as f32),
        _ => return None,
    })
}

fn read<const N: usize>(raw: &[u8], element: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    raw.as_chunks::<N>().0.iter().map(|bytes| element(*bytes)).collect()
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;

    #[test]
    fn table() {
        let fp64 = Tensor::from_vec(DataType::Fp64, smallvec![2], vec![0.5f64, -1.0]);
        assert_eq!(floats(&fp64.expect("fits")), Some(vec![0.5, -1.0]));
        let fp16 = Tensor::from_vec(DataType::Fp16, smallvec![1], vec![f16::from_f32(0.5)]);
        assert_eq!(floats(&fp16.expect("fits")), Some(vec![0.5]));
        let bf16 = Tensor::from_vec(DataType::Bf16, smallvec![1], vec![bf16::from_f32(0.5)]);
        assert_eq!(floats(&bf16.expect("fits")), Some(vec![0.5]));
        let int32 = Tensor::from_vec(DataType::Int32, smallvec![1], vec![1i32]);
        assert_eq!(floats(&int32.expect("fits")), None);
    }
}
