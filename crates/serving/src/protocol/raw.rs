//! Raw tensors of the Open Inference Protocol, as gRPC messages, binary bodies and shared memory
//! carry them: little-endian elements without padding, and each BYTES element as a 32-bit length
//! followed by its bytes.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::tensor::{Data, DataType, Shape, Tensor, TensorError};

/// Bytes of the length in front of each BYTES element.
const LENGTH_PREFIX: usize = 4;

/// Why raw bytes are not a tensor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RawError {
    #[error(transparent)]
    Tensor(#[from] TensorError),
    #[error(
        "BYTES element {index} at offset {offset} says it has {length} bytes, but {left} are left"
    )]
    LyingLength { index: usize, offset: usize, length: usize, left: usize },
    #[error("{left} bytes after BYTES element {index} are too few for the length of another")]
    TornLength { index: usize, left: usize },
}

/// Reads a tensor. The elements stay slices of `raw`.
pub(crate) fn decode(data_type: DataType, shape: Shape, raw: Bytes) -> Result<Tensor, RawError> {
    let data = match data_type.size() {
        Some(_) => Data::Fixed(raw),
        None => Data::Bytes(decode_elements(raw)?),
    };
    Ok(Tensor::new(data_type, shape, data)?)
}

/// Number of bytes that [`encode`] gives.
pub(crate) fn encoded_len(tensor: &Tensor) -> usize {
    match tensor.data() {
        Data::Fixed(bytes) => bytes.len(),
        Data::Bytes(elements) => {
            elements.iter().map(|element| LENGTH_PREFIX.saturating_add(element.len())).sum()
        }
    }
}

/// Writes a tensor; fixed-size elements are shared, not copied.
pub(crate) fn encode(tensor: &Tensor) -> Bytes {
    match tensor.data() {
        Data::Fixed(bytes) => bytes.clone(),
        Data::Bytes(elements) => {
            let mut raw = BytesMut::with_capacity(encoded_len(tensor));
            for element in elements {
                // An element that is longer than 4 GiB cannot be written in this format; none can
                // arise, because a message and a model's output are both smaller.
                raw.put_u32_le(u32::try_from(element.len()).unwrap_or(u32::MAX));
                raw.put_slice(element);
            }
            raw.freeze()
        }
    }
}

fn decode_elements(mut raw: Bytes) -> Result<Vec<Bytes>, RawError> {
    let total = raw.len();
    let mut elements = Vec::new();
    while !raw.is_empty() {
        let index = elements.len();
        if raw.len() < LENGTH_PREFIX {
            return Err(RawError::TornLength { index, left: raw.len() });
        }
        let offset = total - raw.len();
        let length = raw.get_u32_le() as usize;
        if raw.len() < length {
            return Err(RawError::LyingLength { index, offset, length, left: raw.len() });
        }
        elements.push(raw.split_to(length));
    }
    Ok(elements)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use smallvec::smallvec;

    use super::*;

    #[test]
    fn table() {
        check("one string", &[1], b"\x02\0\0\0ab", Ok(vec!["ab"]));
        check("two, one empty", &[2], b"\0\0\0\0\x01\0\0\0x", Ok(vec!["", "x"]));
        check("no element", &[0], b"", Ok(vec![]));
        check("a length that lies", &[1], b"\xff\xff\xff\xffab", Err("says it has 4294967295"));
        check("a torn length", &[1], b"\x01\0\0\0x\x01\0", Err("2 bytes after BYTES element 1"));
        check("fewer than the shape says", &[2], b"\x01\0\0\0x", Err("needs 2 elements, got 1"));
    }

    #[track_caller]
    fn check(what: &str, shape: &[usize], raw: &'static [u8], expected: Result<Vec<&str>, &str>) {
        let decoded = decode(DataType::Bytes, Shape::from_slice(shape), Bytes::from_static(raw));
        match (decoded, expected) {
            (Ok(tensor), Ok(elements)) => {
                let expected =
                    elements.into_iter().map(|text| Bytes::from(text.to_owned())).collect();
                assert_eq!(tensor.data(), &Data::Bytes(expected), "{what}");
                assert_eq!(encode(&tensor), raw, "{what}: written again");
            }
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{what}: {error}"),
            (decoded, expected) => panic!("{what}: {decoded:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn fixed_elements_are_not_copied() {
        let raw = Bytes::from(vec![1u8; 32]);
        let tensor = decode(DataType::Fp32, smallvec![2, 4], raw.clone()).expect("fits");
        assert_eq!(encode(&tensor).as_ptr(), raw.as_ptr());
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_fail_without_panic(raw: Vec<u8>, extent in 0usize..5) {
            for data_type in DataType::ALL {
                let raw = Bytes::from(raw.clone());
                if let Ok(tensor) = decode(data_type, smallvec![extent], raw.clone()) {
                    prop_assert_eq!(encode(&tensor), raw);
                }
            }
        }
    }
}
