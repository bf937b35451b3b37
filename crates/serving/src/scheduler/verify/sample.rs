//! Makes inputs that a model is likely to take.
//!
//! Equal signatures get equal inputs, so that a verdict does not change from start to start.

use std::time::Duration;

use bytes::Bytes;
use half::{bf16, f16};

use super::SingleRun;
use crate::signature::{Signature, TensorSpec};
use crate::tensor::{Data, DataType, Shape, Tensor, element_count};

/// Two different requests of one row, alike in shape.
pub(super) struct Sample {
    pub(super) one: Vec<Option<Tensor>>,
    pub(super) other: Vec<Option<Tensor>>,
}

impl Sample {
    pub(super) fn took(&self, time: Duration) -> SingleRun {
        let elements = self.one.iter().flatten().map(Tensor::len).fold(0, usize::saturating_add);
        SingleRun { time, elements }
    }
}

/// What dynamic dimensions and elements are filled with, one attempt each.
struct Fill {
    extent: usize,
    /// Integers are below it: small enough for an index into most vocabularies, and 2 for masks.
    integers: u64,
    /// Strings to choose from.
    words: [&'static str; 4],
}

/// 4 suits most; 32 and 64 are what convolutions over images of any size need; 1 is for dimensions
/// that are one in truth.
const FILLS: [Fill; 5] = [
    Fill { extent: 4, integers: 8, words: ["a", "is", "word", "yard"] },
    Fill { extent: 32, integers: 8, words: ["0", "1", "2", "3"] },
    Fill { extent: 1, integers: 2, words: ["0", "1", "2", "3"] },
    Fill { extent: 16, integers: 2, words: ["0.5", "1.5", "2.5", "3.5"] },
    Fill { extent: 64, integers: 2, words: ["a", "is", "word", "yard"] },
];

/// Most elements of one input: an image of 4096 by 4096 pixels in one colour.
const MOST_ELEMENTS: usize = 1 << 24;

/// The attempts for a model, each made when it is asked for. Optional inputs are left out.
pub(super) fn samples(signature: &Signature) -> impl Iterator<Item = Result<Sample, String>> {
    let has_dynamic =
        signature.inputs.iter().any(|spec| spec.dims.iter().skip(1).any(Option::is_none));
    // With fixed extents only what the elements are differs.
    let fills = FILLS.iter().filter(move |fill| has_dynamic || fill.extent != 64);
    fills.map(|fill| {
        let mut random = Random(0x7261_696e_7961_7264);
        let mut row = || {
            signature
                .inputs
                .iter()
                .map(|spec| {
                    if spec.optional { Ok(None) } else { tensor(spec, fill, &mut random).map(Some) }
                })
                .collect::<Result<Vec<_>, String>>()
        };
        Ok(Sample { one: row()?, other: row()? })
    })
}

fn tensor(spec: &TensorSpec, fill: &Fill, random: &mut Random) -> Result<Tensor, String> {
    let mut dims = spec.dims.iter();
    // The first dimension is the batch, if it is dynamic.
    let first = dims.next().map(|extent| extent.unwrap_or(1));
    let shape: Shape =
        first.into_iter().chain(dims.map(|extent| extent.unwrap_or(fill.extent))).collect();
    let count = element_count(&shape)
        .filter(|count| *count <= MOST_ELEMENTS)
        .ok_or_else(|| format!("input '{}' of shape {shape:?} is too large to try", spec.name))?;
    let data = match spec.data_type {
        DataType::Bytes => Data::Bytes((0..count).map(|_| random.word(fill)).collect()),
        DataType::Bool => fixed(count, || [u8::from(random.below(2) == 1)]),
        DataType::Uint8 | DataType::Int8 => fixed(count, || [random.integer(fill)]),
        DataType::Uint16 | DataType::Int16 => {
            fixed(count, || u16::from(random.integer(fill)).to_le_bytes())
        }
        DataType::Uint32 | DataType::Int32 => {
            fixed(count, || u32::from(random.integer(fill)).to_le_bytes())
        }
        DataType::Uint64 | DataType::Int64 => {
            fixed(count, || u64::from(random.integer(fill)).to_le_bytes())
        }
        DataType::Fp16 => fixed(count, || f16::from_f32(random.real()).to_le_bytes()),
        DataType::Bf16 => fixed(count, || bf16::from_f32(random.real()).to_le_bytes()),
        DataType::Fp32 => fixed(count, || random.real().to_le_bytes()),
        DataType::Fp64 => fixed(count, || f64::from(random.real()).to_le_bytes()),
    };
    Tensor::new(spec.data_type, shape, data).map_err(|error| error.to_string())
}

fn fixed<const N: usize>(count: usize, mut element: impl FnMut() -> [u8; N]) -> Data {
    let mut bytes = Vec::with_capacity(count * N);
    for _ in 0..count {
        bytes.extend_from_slice(&element());
    }
    Data::Fixed(Bytes::from(bytes))
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    fn integer(&mut self, fill: &Fill) -> u8 {
        u8::try_from(self.below(fill.integers)).unwrap_or(0)
    }

    /// In [-1, 1).
    fn real(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    fn word(&mut self, fill: &Fill) -> Bytes {
        let index = usize::try_from(self.below(4)).unwrap_or(0);
        Bytes::from_static(fill.words.get(index).copied().unwrap_or_default().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_different_rows_of_every_type() {
        for data_type in DataType::ALL {
            let spec = TensorSpec {
                name: "x".to_owned(),
                data_type,
                dims: vec![None, None, Some(3)],
                optional: false,
                labels: Vec::new(),
            };
            let optional = TensorSpec { optional: true, ..spec.clone() };
            let signature = Signature { inputs: vec![spec, optional], outputs: Vec::new() };
            let all: Vec<_> = samples(&signature).collect();
            assert_eq!(all.len(), FILLS.len());
            for (sample, fill) in all.into_iter().zip(&FILLS) {
                let sample = sample.expect("small");
                let [Some(one), None] = sample.one.as_slice() else { panic!("optional given") };
                assert_eq!(one.shape(), [1, fill.extent, 3]);
                if fill.extent > 1 {
                    assert_ne!(sample.one, sample.other, "{data_type:?}");
                }
            }
        }
    }

    #[test]
    fn huge_inputs_are_not_made() {
        let spec = TensorSpec {
            name: "x".to_owned(),
            data_type: DataType::Fp32,
            dims: vec![None, Some(1 << 40), Some(1 << 40)],
            optional: false,
            labels: Vec::new(),
        };
        let signature = Signature { inputs: vec![spec], outputs: Vec::new() };
        assert!(samples(&signature).all(|sample| sample.is_err()));
    }
}
