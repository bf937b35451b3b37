//! Runs a version before it serves, so that its first client does not pay for lazy set-up.

use std::path::Path;

use bytes::Bytes;

use crate::config::{ModelConfig, WarmUp, WarmUpInput};
use crate::engine::Session;
use crate::server::fit::Fit;
use crate::tensor::{Data, DataType, Shape, Tensor, element_count};

/// Largest tensor made for a warm-up, in elements: dims in a configuration are as large as one likes.
const MAX_ELEMENTS: usize = 1 << 28;

/// Runs the samples that a configuration gives. The error names the sample.
pub(super) fn run_samples(
    session: &dyn Session,
    config: &ModelConfig,
    fit: &Fit,
    folder: &Path,
) -> Result<(), String> {
    let has_batch = config.max_batch_size.is_some_and(|size| size > 0);
    for sample in &config.model_warmup {
        let named = |problem: String| format!("model_warmup '{}': {problem}", sample.name);
        let inputs = sample_inputs(sample, fit, has_batch, folder).map_err(named)?;
        for _ in 0..sample.count.max(1) {
            run(session, &inputs).map_err(named)?;
        }
    }
    Ok(())
}

fn run(session: &dyn Session, inputs: &[Option<Tensor>]) -> Result<(), String> {
    let inputs: Vec<Option<&Tensor>> = inputs.iter().map(Option::as_ref).collect();
    let outputs: Vec<usize> = (0..session.signature().outputs.len()).collect();
    session.run(&inputs, &outputs).map(drop).map_err(|error| error.to_string())
}

fn sample_inputs(
    sample: &WarmUp,
    fit: &Fit,
    has_batch: bool,
    folder: &Path,
) -> Result<Vec<Option<Tensor>>, String> {
    let specs = &fit.signature.inputs;
    if let Some(name) = sample.inputs.keys().find(|name| specs.iter().all(|it| it.name != **name)) {
        return Err(format!("the model has no input '{name}'"));
    }
    let mut inputs = Vec::with_capacity(specs.len());
    for (spec, reshaping) in specs.iter().zip(&fit.inputs) {
        let Some(input) = sample.inputs.get(&spec.name) else {
            if spec.optional {
                inputs.push(None);
                continue;
            }
            return Err(format!("lacks the input '{}'", spec.name));
        };
        if input.data_type != Some(spec.data_type) {
            return Err(format!("input '{}' is {}", spec.name, spec.data_type.oip_name()));
        }
        let rows = has_batch.then(|| usize::try_from(sample.batch_size.max(1)).unwrap_or(1));
        let extents = input.dims.iter().map(|extent| usize::try_from(*extent).unwrap_or(0));
        let shape: Shape = rows.into_iter().chain(extents).collect();
        let tensor = sample_tensor(input, spec.data_type, shape, folder)
            .map_err(|problem| format!("input '{}': {problem}", spec.name))?;
        inputs.push(Some(match reshaping {
            Some(reshaping) => reshaping.apply(tensor).map_err(|error| error.to_string())?,
            None => tensor,
        }));
    }
    Ok(inputs)
}

fn sample_tensor(
    input: &WarmUpInput,
    data_type: DataType,
    shape: Shape,
    folder: &Path,
) -> Result<Tensor, String> {
    let Some(file) = &input.input_data_file else {
        let mut generator =
            if input.random_data == Some(true) { Generator::Small(1) } else { Generator::Zeros };
        return made(data_type, shape, &mut generator);
    };
    let path = folder.join("warmup").join(file);
    let content = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let data = match data_type.size() {
        Some(_) => Data::Fixed(content.into()),
        None => Data::Bytes(
            elements(content.into())
                .ok_or_else(|| format!("{} holds no whole strings", path.display()))?,
        ),
    };
    Tensor::new(data_type, shape, data).map_err(|error| format!("{}: {error}", path.display()))
}

/// Strings, each behind its length in four bytes, least significant first.
fn elements(mut content: Bytes) -> Option<Vec<Bytes>> {
    let mut elements = Vec::new();
    while !content.is_empty() {
        let length = content.split_to_checked(4)?;
        let length = u32::from_le_bytes(length.as_ref().try_into().ok()?);
        elements.push(content.split_to_checked(usize::try_from(length).ok()?)?);
    }
    Some(elements)
}

trait SplitChecked: Sized {
    fn split_to_checked(&mut self, length: usize) -> Option<Self>;
}

impl SplitChecked for Bytes {
    fn split_to_checked(&mut self, length: usize) -> Option<Self> {
        (length <= self.len()).then(|| self.split_to(length))
    }
}

/// What the elements of a made tensor are.
enum Generator {
    Zeros,
    /// 0 or 1 in a fixed sequence: valid for every type, also as an index.
    Small(u32),
}

impl Generator {
    fn next_is_one(&mut self) -> bool {
        match self {
            Self::Zeros => false,
            Self::Small(state) => {
                // Marsaglia's xorshift.
                *state ^= *state << 13;
                *state ^= *state >> 17;
                *state ^= *state << 5;
                *state & 1 == 1
            }
        }
    }
}

fn made(data_type: DataType, shape: Shape, generator: &mut Generator) -> Result<Tensor, String> {
    let count = element_count(&shape)
        .filter(|count| *count <= MAX_ELEMENTS)
        .ok_or_else(|| format!("the shape {shape:?} is too large for a warm-up"))?;
    let Some(size) = data_type.size() else {
        let elements = (0..count)
            .map(|_| if generator.next_is_one() { Bytes::from_static(b"1") } else { Bytes::new() });
        let data = Data::Bytes(elements.collect());
        return Tensor::new(data_type, shape, data).map_err(|error| error.to_string());
    };
    let mut bytes = vec![0u8; count.saturating_mul(size)];
    for element in bytes.chunks_exact_mut(size) {
        if generator.next_is_one() {
            element.copy_from_slice(one(data_type).get(..size).unwrap_or_default());
        }
    }
    Tensor::new(data_type, shape, Data::Fixed(bytes.into())).map_err(|error| error.to_string())
}

/// The number 1 in a type's own bytes, padded with zeros.
fn one(data_type: DataType) -> [u8; 8] {
    let bits = match data_type {
        DataType::Fp16 => u64::from(half::f16::ONE.to_bits()),
        DataType::Bf16 => u64::from(half::bf16::ONE.to_bits()),
        DataType::Fp32 => u64::from(1f32.to_bits()),
        DataType::Fp64 => 1f64.to_bits(),
        _ => 1,
    };
    bits.to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_tensors_hold_zeros_and_ones() {
        for data_type in DataType::ALL {
            let shape = Shape::from_slice(&[2, 20]);
            let zeros = made(data_type, shape.clone(), &mut Generator::Zeros).expect("fits");
            let small = made(data_type, shape, &mut Generator::Small(1)).expect("fits");
            assert_eq!(zeros.shape(), small.shape());
            assert_ne!(zeros, small, "{data_type:?}");
        }
        let huge = Shape::from_slice(&[1 << 40]);
        assert!(made(DataType::Fp32, huge, &mut Generator::Zeros).is_err());
    }

    #[test]
    fn strings_from_a_file() {
        let two = Bytes::from_static(b"\x01\0\0\0a\x02\0\0\0bc");
        assert_eq!(elements(two).expect("whole"), ["a", "bc"]);
        assert_eq!(elements(Bytes::from_static(b"\x05\0\0\0a")), None);
        assert_eq!(elements(Bytes::from_static(b"\x05\0")), None);
    }
}
