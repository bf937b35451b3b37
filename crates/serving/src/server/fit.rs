//! How a model's own inputs and outputs appear to clients under its configuration.

use std::collections::BTreeMap;

use crate::config::{Origin, ReadConfig, TensorConfig, did_you_mean};
use crate::error::InferError;
use crate::signature::{Signature, TensorSpec};
use crate::tensor::{Shape, Tensor};

/// Extents of a tensor; `None` is any.
type Dims = Vec<Option<usize>>;

/// A model's signature as clients see it, and how their tensors become the model's.
#[derive(Debug, PartialEq)]
pub(super) struct Fit {
    pub(super) signature: Signature,
    /// By index of the input, where clients' shape differs from the model's.
    pub(super) inputs: Vec<Option<Reshaping>>,
    pub(super) outputs: Vec<Option<Reshaping>>,
}

/// From one shape to another with as many elements; variable extents keep their order.
#[derive(Debug, PartialEq)]
pub(super) struct Reshaping {
    from: Dims,
    to: Dims,
}

impl Reshaping {
    pub(super) fn apply(&self, tensor: Tensor) -> Result<Tensor, InferError> {
        let mut variable = self
            .from
            .iter()
            .zip(tensor.shape())
            .filter_map(|(fixed, extent)| fixed.is_none().then_some(*extent));
        let shape: Option<Shape> =
            self.to.iter().map(|fixed| fixed.or_else(|| variable.next())).collect();
        let data_type = tensor.data_type();
        shape.and_then(|shape| Tensor::new(data_type, shape, tensor.into_data()).ok()).ok_or_else(
            || {
                InferError::Invalid(
                    "the configuration's reshape does not fit the tensor".to_owned(),
                )
            },
        )
    }
}

/// What one declaration says, whether of an input or an output.
struct Declared<'a> {
    list: &'static str,
    index: usize,
    tensor: &'a TensorConfig,
}

/// Checks a configuration's declarations against a model. What is not declared is as the model has
/// it. The errors are sentences that name the file.
pub(super) fn fit(
    model: &Signature,
    read: &ReadConfig,
    labels: BTreeMap<String, Vec<String>>,
) -> Result<Fit, Vec<String>> {
    let mut signature = model.clone();
    let mut inputs: Vec<_> = model.inputs.iter().map(|_| None).collect();
    let mut outputs: Vec<_> = model.outputs.iter().map(|_| None).collect();
    let mut problems = Vec::new();
    let has_batch = read.config.max_batch_size.is_some_and(|size| size > 0);
    for (index, input) in read.config.input.iter().enumerate() {
        let declared = Declared { list: "input", index, tensor: &input.tensor };
        let Some((position, spec)) =
            declared.find(&mut signature.inputs, &read.origin, &mut problems)
        else {
            continue;
        };
        if input.optional && !spec.optional {
            let message = "is optional, but the model has no default for it";
            problems.push(declared.problem(&read.origin, message));
        }
        match declared.apply(spec, has_batch) {
            Ok(shapes) => {
                let to_model = shapes.map(|(client, model)| Reshaping { from: client, to: model });
                put(&mut inputs, position, to_model);
            }
            Err(message) => problems.push(declared.problem(&read.origin, &message)),
        }
    }
    for (index, output) in read.config.output.iter().enumerate() {
        let declared = Declared { list: "output", index, tensor: &output.tensor };
        let Some((position, spec)) =
            declared.find(&mut signature.outputs, &read.origin, &mut problems)
        else {
            continue;
        };
        match declared.apply(spec, has_batch) {
            Ok(shapes) => {
                let to_client = shapes.map(|(client, model)| Reshaping { from: model, to: client });
                put(&mut outputs, position, to_client);
            }
            Err(message) => problems.push(declared.problem(&read.origin, &message)),
        }
    }
    for spec in &mut signature.outputs {
        if let Some(labels) = labels.get(&spec.name) {
            spec.labels.clone_from(labels);
        }
    }
    if problems.is_empty() { Ok(Fit { signature, inputs, outputs }) } else { Err(problems) }
}

fn put<T>(list: &mut [Option<T>], position: usize, value: Option<T>) {
    if let Some(slot) = list.get_mut(position) {
        *slot = value;
    }
}

impl Declared<'_> {
    fn problem(&self, origin: &Origin, message: &str) -> String {
        let path = format!("{}[{}]", self.list, self.index);
        origin.field(&path, &format!("'{}' {message}", self.tensor.name))
    }

    fn find<'a>(
        &self,
        specs: &'a mut [TensorSpec],
        origin: &Origin,
        problems: &mut Vec<String>,
    ) -> Option<(usize, &'a mut TensorSpec)> {
        let Some(position) = specs.iter().position(|spec| spec.name == self.tensor.name) else {
            let names = specs.iter().map(|spec| spec.name.as_str());
            let hint = did_you_mean(&self.tensor.name, names.clone());
            let list = names.collect::<Vec<_>>().join(", ");
            let message = format!("is not in the model, whose {}s are {list}{hint}", self.list);
            problems.push(self.problem(origin, &message));
            return None;
        };
        specs.get_mut(position).map(|spec| (position, spec))
    }

    /// Gives the specification clients' dims; both shapes where they differ from the model's.
    fn apply(
        &self,
        spec: &mut TensorSpec,
        has_batch: bool,
    ) -> Result<Option<(Dims, Dims)>, String> {
        if let Some(declared) = self.tensor.data_type.filter(|declared| *declared != spec.data_type)
        {
            return Err(format!(
                "is {} in the model, not {}",
                spec.data_type.oip_name(),
                declared.oip_name()
            ));
        }
        let with_batch = |dims: &[i64]| -> Dims {
            let batch = has_batch.then_some(None);
            let extents = dims.iter().map(|extent| usize::try_from(*extent).ok());
            batch.into_iter().chain(extents).collect()
        };
        let client = with_batch(&self.tensor.dims);
        let configured =
            self.tensor.reshape.as_ref().map_or_else(|| client.clone(), |it| with_batch(&it.shape));
        let Some(model) = agree(&spec.dims, &configured) else {
            let batch = if has_batch { " with the batch dimension" } else { "" };
            return Err(format!(
                "has the shape {} in the model, not {}{batch}",
                show(&spec.dims),
                show(&configured)
            ));
        };
        if self.tensor.reshape.is_some() {
            spec.dims.clone_from(&client);
            return Ok(Some((client, model)));
        }
        spec.dims = model;
        Ok(None)
    }
}

/// The shape that meets both, if there is one.
fn agree(model: &[Option<usize>], configured: &[Option<usize>]) -> Option<Dims> {
    // How engines describe a tensor whose rank the model does not tell.
    if *model == [None] {
        return Some(configured.to_vec());
    }
    if model.len() != configured.len() {
        return None;
    }
    model
        .iter()
        .zip(configured)
        .map(|pair| match pair {
            (Some(a), Some(b)) if a != b => None,
            (a, b) => Some(a.or(*b)),
        })
        .collect()
}

/// Dims as protocols show them, -1 for any extent.
pub(super) fn show(dims: &[Option<usize>]) -> String {
    let extents: Vec<String> = dims
        .iter()
        .map(|extent| extent.map_or_else(|| "-1".to_owned(), |extent| extent.to_string()))
        .collect();
    format!("[{}]", extents.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::tensor::DataType;

    fn model() -> Signature {
        let spec = |name: &str, data_type, dims: &[Option<usize>]| TensorSpec {
            name: name.to_owned(),
            data_type,
            dims: dims.to_vec(),
            optional: false,
            labels: Vec::new(),
        };
        Signature {
            inputs: vec![spec("x", DataType::Fp32, &[None, Some(4)])],
            outputs: vec![
                spec("y", DataType::Int64, &[None]),
                spec("z", DataType::Fp32, &[None, None]),
            ],
        }
    }

    #[track_caller]
    fn check(config: &str, want: Result<(&str, &str), &str>) {
        let read = config::read_pbtxt("config.pbtxt", config).expect("a valid configuration");
        match (fit(&model(), &read, BTreeMap::new()), want) {
            (Ok(fit), Ok((x, z))) => {
                assert_eq!(show(&fit.signature.inputs[0].dims), x);
                assert_eq!(show(&fit.signature.outputs[1].dims), z);
            }
            (Err(problems), Err(part)) => {
                assert!(problems.join("\n").contains(part), "{problems:?}");
            }
            (got, _) => panic!("{got:?}"),
        }
    }

    #[test]
    fn table() {
        let with = |name, dims| format!("max_batch_size: 8 {name} {{ {dims} }}");
        check("", Ok(("[-1,4]", "[-1,-1]")));
        check(
            &with("input", r#"name: "x" data_type: TYPE_FP32 dims: [ 4 ]"#),
            Ok(("[-1,4]", "[-1,-1]")),
        );
        check(&with("output", r#"name: "z" dims: 3"#), Ok(("[-1,4]", "[-1,3]")));
        check(r#"output { name: "z" dims: [ -1, 3 ] }"#, Ok(("[-1,4]", "[-1,3]")));
        check(&with("input", r#"name: "X" dims: 4"#), Err("did you mean 'x'?"));
        check(&with("input", r#"name: "x" dims: 5"#), Err("[-1,4] in the model, not [-1,5]"));
        check(&with("input", r#"name: "x" dims: [ -1, 4 ]"#), Err("with the batch dimension"));
        check(
            &with("input", r#"name: "x" data_type: TYPE_INT64 dims: 4"#),
            Err("config.pbtxt:1:25: input[0]: 'x' is FP32 in the model, not INT64"),
        );
        check(&with("input", r#"name: "x" dims: 4 optional: true"#), Err("no default"));
        check(
            &with("input", r#"name: "x" dims: [ 2, 2 ] reshape { shape: 4 }"#),
            Ok(("[-1,2,2]", "[-1,-1]")),
        );
    }

    #[test]
    fn reshapes_keep_variable_extents() {
        let reshaping =
            Reshaping { from: vec![None, Some(2), None], to: vec![None, None, Some(1), Some(2)] };
        let shape = [3, 2, 5].into_iter().collect();
        let tensor = Tensor::from_vec(DataType::Uint8, shape, vec![0u8; 30]).expect("fits");
        assert_eq!(reshaping.apply(tensor).expect("fits").shape(), [3, 5, 1, 2]);
    }
}
