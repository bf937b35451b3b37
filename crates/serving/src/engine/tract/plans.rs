//! Optimised plans by input shape.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::TractErrorContext;

use super::catching;
use crate::tensor::Shape;

/// Plans kept for one model. Each has its own optimised weights at worst, so the bound is on memory;
/// batches up to 16 and a few more shapes fit.
const MAX_PLANS: usize = 24;

pub(super) type Plan = Arc<TypedRunnableModel>;

/// A model and the plans made from it so far.
///
/// tract optimises best when every dimension is known, and optimising takes milliseconds to seconds,
/// so each shape gets its plan when it is first seen. Once the cache is full, further shapes run on
/// the plan for any shape, if the model allows one, so that ever-changing shapes cost no
/// optimisation; else the plan that was unused longest gives way.
pub(super) struct Plans {
    model: InferenceModel,
    /// For any shape; `None` where tract cannot follow the shapes as symbols.
    general: Option<Plan>,
    by_shape: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    plans: HashMap<Vec<Shape>, (Plan, u64)>,
    /// Counts uses, as a clock for the least recent one.
    uses: u64,
}

impl Plans {
    pub(super) fn new(model: InferenceModel) -> Self {
        let general = catching(|| {
            let plan = model.clone().into_optimized().and_then(IntoRunnable::into_runnable);
            plan.map_err(|error| format!("{error:#}"))
        });
        Self { model, general: general.ok(), by_shape: Mutex::default() }
    }

    pub(super) fn general(&self) -> Option<&Plan> {
        self.general.as_ref()
    }

    /// The plan for these input shapes.
    pub(super) fn plan(&self, shapes: Vec<Shape>) -> Result<Plan, String> {
        if let Some(plan) = self.cached(&shapes) {
            return Ok(plan);
        }
        // Made outside the lock: others run meanwhile, and two that want the same both get one.
        let plan = catching(|| self.optimise(&shapes).map_err(|error| format!("{error:#}")))?;
        let mut cache = self.by_shape.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.plans.len() >= MAX_PLANS {
            let oldest = cache.plans.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(oldest) = oldest.map(|(shapes, _)| shapes.clone()) {
                cache.plans.remove(&oldest);
            }
        }
        let used = cache.uses;
        cache.plans.insert(shapes, (Arc::clone(&plan), used));
        Ok(plan)
    }

    fn cached(&self, shapes: &[Shape]) -> Option<Plan> {
        let mut cache = self.by_shape.lock().unwrap_or_else(PoisonError::into_inner);
        cache.uses = cache.uses.wrapping_add(1);
        let now = cache.uses;
        if let Some((plan, used)) = cache.plans.get_mut(shapes) {
            *used = now;
            return Some(Arc::clone(plan));
        }
        if cache.plans.len() >= MAX_PLANS { self.general.clone() } else { None }
    }

    fn optimise(&self, shapes: &[Shape]) -> TractResult<Plan> {
        let mut model = self.model.clone();
        for (index, shape) in shapes.iter().enumerate() {
            let outlet = *model.input_outlets()?.get(index).context("no such input")?;
            let fact = model.outlet_fact(outlet)?.clone().with_shape(shape.as_slice());
            model.set_input_fact(index, fact)?;
        }
        model.into_optimized()?.into_runnable()
    }
}
