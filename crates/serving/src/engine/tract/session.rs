//! One loaded model.

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::DimLike;

use super::plans::{Plan, Plans};
use super::{catching, value};
use crate::engine::{EngineError, Session};
use crate::onnx::{Dim, Facts, Value};
use crate::signature::{Signature, TensorSpec};
use crate::tensor::{Shape, Tensor};

/// A model and its plans.
pub(super) struct TractSession {
    plans: Plans,
    signature: Signature,
}

impl TractSession {
    /// Checks that tract can run the model, and works out its signature.
    pub(super) fn create(model: InferenceModel, facts: &Facts) -> Result<Self, String> {
        // Inputs with a default are constants for tract.
        let inputs = facts
            .inputs
            .iter()
            .filter(|input| !input.optional)
            .map(input_spec)
            .collect::<Result<Vec<_>, _>>()?;
        let plans = Plans::new(model);
        // A model that can be followed for any shape surely runs. Else one run's shapes must do:
        // every unknown extent 1.
        let (plan, general) = match plans.general() {
            Some(plan) => (Plan::clone(plan), true),
            None => (plans.plan(inputs.iter().map(smallest_shape).collect())?, false),
        };
        let outputs = facts
            .outputs
            .iter()
            .enumerate()
            .map(|(index, output)| output_spec(index, output, &plan, general, facts))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self { plans, signature: Signature { inputs, outputs } })
    }
}

impl Session for TractSession {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(
        &self,
        inputs: &[Option<&Tensor>],
        outputs: &[usize],
    ) -> Result<Vec<Tensor>, EngineError> {
        let given: Vec<&Tensor> = inputs.iter().flatten().copied().collect();
        if given.len() != self.signature.inputs.len() {
            return Err(EngineError::Input(format!(
                "the model takes {} inputs, got {}",
                self.signature.inputs.len(),
                given.len()
            )));
        }
        let shapes = given.iter().map(|tensor| Shape::from_slice(tensor.shape())).collect();
        let values =
            given.iter().map(|tensor| value::to_tract(tensor)).collect::<Result<_, _>>()?;
        // Data types are checked by the caller, so only shapes can be at fault here.
        let plan = self.plans.plan(shapes).map_err(EngineError::Input)?;
        let results = catching(|| plan.run(values).map_err(|error| format!("{error:#}")))
            .map_err(EngineError::Run)?;
        outputs
            .iter()
            .map(|index| {
                let result = results.get(*index).cloned();
                value::from_tract(
                    result.ok_or_else(|| {
                        EngineError::Run(format!("the model has no output {index}"))
                    })?,
                )
            })
            .collect()
    }
}

fn input_spec(input: &Value) -> Result<TensorSpec, String> {
    let data_type = input
        .data_type
        .filter(|data_type| value::datum_type(*data_type).is_some())
        .ok_or_else(|| {
            format!(
                "the built-in engine (tract) does not take {} (input {:?}); ONNX Runtime may: \
                 install it with `trainyard engine install`",
                input.type_name, input.name
            )
        })?;
    let dims = input.dims.as_ref().map_or_else(|| vec![None], |dims| known(dims));
    let labels = Vec::new();
    Ok(TensorSpec { name: input.name.clone(), data_type, dims, optional: false, labels })
}

fn output_spec(
    index: usize,
    output: &Value,
    plan: &Plan,
    general: bool,
    facts: &Facts,
) -> Result<TensorSpec, String> {
    let fact = plan.model().output_fact(index).map_err(|error| format!("{error:#}"))?;
    let data_type = value::data_type(fact.datum_type).ok_or_else(|| {
        format!("output {:?} is of tract's type {:?}", output.name, fact.datum_type)
    })?;
    let dims = match &output.dims {
        Some(dims) => known(dims),
        // What a plan for one shape computed is no promise for others, but the rank is.
        None => fact.shape.iter().map(|dim| dim.to_usize().ok().filter(|_| general)).collect(),
    };
    let labels = facts.labels(&output.name).to_vec();
    Ok(TensorSpec { name: output.name.clone(), data_type, dims, optional: false, labels })
}

fn known(dims: &[Dim]) -> Vec<Option<usize>> {
    dims.iter()
        .map(|dim| match dim {
            Dim::Fixed(extent) => usize::try_from(*extent).ok(),
            Dim::Named(_) | Dim::Any => None,
        })
        .collect()
}

fn smallest_shape(input: &TensorSpec) -> Shape {
    input.dims.iter().map(|extent| extent.unwrap_or(1)).collect()
}
