//! MLflow's model folders.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

/// The file that makes a folder an MLflow model.
pub(super) const FILE_NAME: &str = "MLmodel";

/// The part of an `MLmodel` that concerns us.
#[derive(Deserialize)]
struct MlModel {
    #[serde(default)]
    flavors: BTreeMap<String, Flavor>,
}

#[derive(Deserialize)]
struct Flavor {
    /// Path of the model relative to the folder.
    data: Option<String>,
}

/// The ONNX file of an MLflow model.
pub(super) fn onnx_file(folder: &Path) -> Result<PathBuf, String> {
    let path = folder.join(FILE_NAME);
    let refused = |why: String| format!("{}: {why}", path.display());
    let text = fs::read_to_string(&path).map_err(|error| refused(error.to_string()))?;
    let read: MlModel =
        serde_saphyr::from_str(&text).map_err(|error| refused(error.to_string()))?;
    let Some(flavor) = read.flavors.get("onnx") else {
        let names: Vec<&str> = read.flavors.keys().map(String::as_str).collect();
        return Err(refused(format!(
            "its flavors are {}, and 'onnx' is needed: save the model with mlflow.onnx",
            if names.is_empty() { "none".to_owned() } else { names.join(", ") }
        )));
    };
    let data = flavor.data.as_deref().unwrap_or("model.onnx");
    let inside = Path::new(data).components().all(|part| matches!(part, Component::Normal(_)));
    if !inside || data.is_empty() || data.contains('\0') {
        return Err(refused(format!("the data {data:?} of flavor 'onnx' leaves the folder")));
    }
    Ok(folder.join(data))
}
