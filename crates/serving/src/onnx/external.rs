//! Weights that a model keeps in files beside it.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::OnnxError;
use super::proto::{Graph, Model, StringEntry, Tensor};

/// One file beside the model that holds weights.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ExternalFile {
    /// Path relative to the model's folder, as the model gives it.
    pub location: String,
    /// Size of the whole file.
    pub bytes: u64,
}

/// Finds the external files of a model and checks that each lies in its folder and is long enough.
pub(super) fn collect(
    path: &Path,
    model: &Model,
    graph: &Graph,
) -> Result<Vec<ExternalFile>, OnnxError> {
    let mut needed = BTreeMap::new();
    visit_graph(graph, &mut |tensor| note(path, tensor, &mut needed))?;
    for node in model.functions.iter().flat_map(|function| &function.node) {
        visit_node(node, &mut |tensor| note(path, tensor, &mut needed))?;
    }
    needed.into_iter().map(|(location, end)| check(path, location, end)).collect()
}

/// Calls `visit` for every tensor of a graph: weights, constants, and those of nested graphs.
fn visit_graph<E>(
    graph: &Graph,
    visit: &mut impl FnMut(&Tensor) -> Result<(), E>,
) -> Result<(), E> {
    let sparse =
        graph.sparse_initializer.iter().flat_map(|tensor| [&tensor.values, &tensor.indices]);
    for tensor in graph.initializer.iter().chain(sparse.flatten()) {
        visit(tensor)?;
    }
    graph.node.iter().try_for_each(|node| visit_node(node, visit))
}

fn visit_node<E>(
    node: &super::proto::Node,
    visit: &mut impl FnMut(&Tensor) -> Result<(), E>,
) -> Result<(), E> {
    for attribute in &node.attribute {
        for tensor in attribute.t.iter().chain(&attribute.tensors) {
            visit(tensor)?;
        }
        for graph in attribute.g.iter().chain(&attribute.graphs) {
            visit_graph(graph, visit)?;
        }
    }
    Ok(())
}

/// Remembers how far into its file a tensor reaches.
fn note(path: &Path, tensor: &Tensor, needed: &mut BTreeMap<String, u64>) -> Result<(), OnnxError> {
    if tensor.data_location != 1 {
        return Ok(());
    }
    let location = entry(&tensor.external_data, "location").unwrap_or_default();
    let number = |key| match entry(&tensor.external_data, key) {
        None => Ok(0u64),
        Some(text) => text.parse().map_err(|_| {
            refused(path, location, format!("with the {key} {text:?}, which is not a size"))
        }),
    };
    let end = number("offset")?.checked_add(number("length")?).ok_or_else(|| {
        refused(path, location, "with an offset and length beyond any file".to_owned())
    })?;
    let known = needed.entry(location.to_owned()).or_default();
    *known = end.max(*known);
    Ok(())
}

fn entry<'a>(entries: &'a [StringEntry], key: &str) -> Option<&'a str> {
    entries.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
}

fn check(path: &Path, location: String, end: u64) -> Result<ExternalFile, OnnxError> {
    let Some(relative) = inside(&location) else {
        let reason = "which leaves the model's folder; external data must lie beside the model";
        return Err(refused(path, &location, reason.to_owned()));
    };
    let folder = path.parent().unwrap_or(Path::new(""));
    let file = folder.join(relative);
    let unreadable =
        |error: std::io::Error| refused(path, &location, format!("which cannot be read: {error}"));
    let real = file.canonicalize().map_err(unreadable)?;
    // A cache may hold model and data as links into one store, hence the second folder.
    let allowed = [folder_of(folder), path.canonicalize().ok().and_then(|real| parent(&real))];
    if !allowed.iter().flatten().any(|folder| real.starts_with(folder)) {
        let reason = format!("a link that leaves the model's folder (to {})", real.display());
        return Err(refused(path, &location, reason));
    }
    let bytes = real.metadata().map_err(unreadable)?.len();
    if bytes < end {
        let reason = format!("which has {bytes} bytes where {end} are needed (is it truncated?)");
        return Err(refused(path, &location, reason));
    }
    Ok(ExternalFile { location, bytes })
}

/// The location as a relative path without any step upwards.
fn inside(location: &str) -> Option<PathBuf> {
    let path = Path::new(location);
    let harmless = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    (!location.is_empty() && !location.contains('\0') && path.components().all(harmless))
        .then(|| path.to_owned())
}

fn folder_of(folder: &Path) -> Option<PathBuf> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    folder.canonicalize().ok()
}

fn parent(path: &Path) -> Option<PathBuf> {
    path.parent().map(Path::to_owned)
}

fn refused(path: &Path, location: &str, reason: String) -> OnnxError {
    OnnxError::ExternalData {
        path: path.display().to_string(),
        location: location.to_owned(),
        reason,
    }
}
