//! Whether a configuration is consistent in itself.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use super::model::{DynamicBatching, ModelConfig, Reshape, TensorConfig, VersionPolicy};
use super::place::Origin;

/// Says what is wrong, all of it.
pub(super) fn check(config: &ModelConfig, origin: &Origin, problems: &mut Vec<String>) {
    let mut say = |path: &str, message: &dyn std::fmt::Display| {
        problems.push(origin.field(path, message));
    };
    if !matches!(config.backend.as_str(), "" | "onnxruntime") {
        say(
            "backend",
            &format!(
                "the backend '{}' is not supported; this server runs ONNX models (\"onnxruntime\")",
                config.backend
            ),
        );
    }
    if !matches!(config.platform.as_str(), "" | "onnxruntime_onnx") {
        say(
            "platform",
            &format!(
                "the platform '{}' is not supported; this server runs ONNX models \
                 (\"onnxruntime_onnx\")",
                config.platform
            ),
        );
    }
    if config.max_batch_size.is_some_and(|size| size < 0) {
        say("max_batch_size", &"must be 0 or more");
    }
    tensors(config, &mut say);
    match &config.version_policy {
        Some(VersionPolicy::Latest { num_versions: 0 }) => {
            say("version_policy.latest.num_versions", &"must be above 0");
        }
        Some(VersionPolicy::Specific { versions }) => {
            if versions.is_empty() {
                say("version_policy.specific", &"names no versions");
            }
            if let Some(wrong) = versions.iter().find(|version| **version <= 0) {
                say("version_policy.specific.versions", &format!("{wrong} is no version"));
            }
        }
        _ => {}
    }
    for (index, group) in config.instance_group.iter().enumerate() {
        if group.count < 0 {
            say(&format!("instance_group[{index}].count"), &"must be above 0");
        }
    }
    if !config.default_model_filename.is_empty() && !is_inside(&config.default_model_filename) {
        say("default_model_filename", &"leaves the version's folder");
    }
    if let Some(batching) = &config.dynamic_batching {
        dynamic_batching(config, batching, &mut say);
    }
    for (index, sample) in config.model_warmup.iter().enumerate() {
        for (name, input) in &sample.inputs {
            let path = format!("model_warmup[{index}].inputs[{name}]");
            if input.data_type.is_none() {
                say(&path, &"lacks a data_type");
            }
            if let Some(wrong) = input.dims.iter().find(|extent| **extent < 0) {
                say(&path, &format!("the dims of a warm-up input are fixed, got {wrong}"));
            }
            if input.input_data_file.as_ref().is_some_and(|file| !is_inside(file)) {
                say(&format!("{path}.input_data_file"), &"leaves the folder 'warmup'");
            }
        }
    }
}

type Say<'a> = dyn FnMut(&str, &dyn std::fmt::Display) + 'a;

fn tensors(config: &ModelConfig, say: &mut Say<'_>) {
    let inputs = config.input.iter().map(|it| ("input", &it.tensor, ""));
    let outputs = config.output.iter().map(|it| ("output", &it.tensor, it.label_filename.as_str()));
    let mut seen = BTreeSet::new();
    let numbered = inputs.enumerate().chain(outputs.enumerate());
    for (index, (list, tensor, labels)) in numbered {
        let TensorConfig { name, dims, reshape, .. } = tensor;
        let path = format!("{list}[{index}]");
        if name.is_empty() {
            say(&path, &"lacks a name");
        } else if !seen.insert((list, name)) {
            say(&path, &format!("'{name}' is declared twice"));
        }
        // Triton refuses these too: a scalar is declared as [ 1 ] that is reshaped to [ ].
        if dims.is_empty() {
            say(&path, &"lacks dims; for a scalar use dims: [ 1 ] and reshape { shape: [ ] }");
        }
        if let Some(wrong) = dims.iter().find(|extent| **extent < 1 && **extent != -1) {
            say(&format!("{path}.dims"), &format!("expected extents above 0 or -1, got {wrong}"));
        }
        if let Some(Reshape { shape }) = reshape {
            let wrong = shape.iter().find(|extent| **extent < 1 && **extent != -1);
            if let Some(wrong) = wrong {
                let message = format!("expected extents above 0 or -1, got {wrong}");
                say(&format!("{path}.reshape"), &message);
            } else if summary(dims) != summary(shape) {
                let message = format!("{shape:?} has other elements than dims {dims:?}");
                say(&format!("{path}.reshape"), &message);
            }
        }
        if !labels.is_empty() && !is_inside(labels) {
            say(&format!("{path}.label_filename"), &"leaves the model's folder");
        }
    }
}

/// Number of variable extents and product of the fixed ones, which a reshape keeps.
fn summary(dims: &[i64]) -> (usize, Option<i64>) {
    let variable = dims.iter().filter(|extent| **extent == -1).count();
    let fixed = dims.iter().filter(|extent| **extent != -1);
    (variable, fixed.copied().try_fold(1i64, i64::checked_mul))
}

fn dynamic_batching(config: &ModelConfig, batching: &DynamicBatching, say: &mut Say<'_>) {
    let path = |name: &str| format!("dynamic_batching.{name}");
    for size in &batching.preferred_batch_size {
        if *size <= 0 {
            say(&path("preferred_batch_size"), &format!("must be above 0, got {size}"));
        } else if config.max_batch_size.is_some_and(|most| most < *size) {
            let most = config.max_batch_size.unwrap_or_default();
            let message = format!("must be at most max_batch_size {most}, got {size}");
            say(&path("preferred_batch_size"), &message);
        }
    }
    let levels = batching.priority_levels;
    if levels > 0 && !(1..=levels).contains(&batching.default_priority_level) {
        let message = format!("must be 1 to {levels}, got {}", batching.default_priority_level);
        say(&path("default_priority_level"), &message);
    }
    for level in batching.priority_queue_policy.keys() {
        if !(1..=levels).contains(level) {
            let message = format!("there are {levels} priority levels, from 1, got {level}");
            say(&path(&format!("priority_queue_policy[{level}]")), &message);
        }
    }
    if batching.preserve_ordering {
        if levels > 1 {
            say(&path("preserve_ordering"), &"excludes priority levels");
        }
        let mut policies =
            batching.default_queue_policy.iter().chain(batching.priority_queue_policy.values());
        if policies.any(|policy| policy.timeout_action == "DELAY") {
            say(&path("preserve_ordering"), &"excludes the timeout action DELAY");
        }
    }
}

/// Whether a relative path stays in its folder.
fn is_inside(path: &str) -> bool {
    !path.contains('\0')
        && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}
