//! Triton's model configuration (`config.pbtxt`), read without Triton.
//!
//! In: protocol buffer text, or the JSON of a load request. Out: a [`ModelConfig`], and a sentence
//! for each mistake and for each field that has no effect here, with its place in the file. Knows
//! nothing of models: whether a configuration fits one is for the repository to find out.

mod check;
mod fields;
mod json;
mod lexer;
mod model;
mod parameters;
mod pbtxt;
mod place;
mod suggest;
#[cfg(test)]
mod tests;
mod tree;

use std::path::Path;

pub(crate) use model::{
    DynamicBatching, InputConfig, InstanceGroup, ModelConfig, OutputConfig, QueuePolicyConfig,
    TensorConfig, VersionPolicy, WarmUp, WarmUpInput,
};
pub(crate) use parameters::Parameters;
pub(crate) use place::Origin;
pub(crate) use suggest::did_you_mean;

/// Name of the configuration's file in a model's folder.
pub(crate) const FILE_NAME: &str = "config.pbtxt";

/// A configuration is a page of text; what is larger is something else.
const MAX_BYTES: u64 = 1 << 20;

/// A configuration that was read and is consistent in itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReadConfig {
    pub(crate) config: ModelConfig,
    /// What [`ModelConfig::parameters`] says to this server.
    pub(crate) parameters: Parameters,
    /// Where each field was given.
    pub(crate) origin: Origin,
    /// One sentence for each field that has no effect.
    pub(crate) warnings: Vec<String>,
}

/// Reads a model's `config.pbtxt`. The errors are sentences that begin with the file's path.
pub(crate) fn read_file(path: &Path) -> Result<ReadConfig, Vec<String>> {
    let shown = path.display().to_string();
    let refused = |why: &dyn std::fmt::Display| vec![format!("{shown}: {why}")];
    let length = std::fs::metadata(path).map_err(|error| refused(&error))?.len();
    if length > MAX_BYTES {
        return Err(refused(&format!("has {length} bytes, above the limit of {MAX_BYTES}")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| refused(&error))?;
    read_pbtxt(&shown, &text)
}

/// Reads protocol buffer text; `file` is how messages call it.
pub(crate) fn read_pbtxt(file: &str, text: &str) -> Result<ReadConfig, Vec<String>> {
    let (origin, value, problems, warnings) = pbtxt::read(file, text);
    finish(origin, value, problems, warnings)
}

/// Reads the JSON form that the model repository API takes.
pub(crate) fn read_json(text: &str) -> Result<ReadConfig, Vec<String>> {
    let (origin, value, problems, warnings) = json::read(text);
    finish(origin, value, problems, warnings)
}

fn finish(
    origin: Origin,
    value: serde_json::Map<String, serde_json::Value>,
    mut problems: Vec<String>,
    mut warnings: Vec<String>,
) -> Result<ReadConfig, Vec<String>> {
    if !problems.is_empty() {
        return Err(problems);
    }
    let config = ModelConfig::from_json(value).map_err(|error| vec![origin.whole(&error)])?;
    check::check(&config, &origin, &mut problems);
    let parameters = Parameters::read(&config, &origin, &mut problems, &mut warnings);
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(ReadConfig { config, parameters, origin, warnings })
}
