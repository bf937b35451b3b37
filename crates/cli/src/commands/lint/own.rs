//! Our own kinds, which are read here as `up`, `render` and the operator read them.

use trainyard_api::manifest;
use trainyard_api::scalar::{Bytes, Millicores};
use trainyard_plan::{JobError, Target, compile_job};
use trainyard_rules::yaml::Node;
use trainyard_rules::{Documents, ReadError};

/// A machine on which everything fits. Whether a cluster or a laptop is meant is not known, so only what
/// is wrong for both is told.
const ANYWHERE: Target =
    Target::Local { cpu: Millicores(u64::MAX), memory: Bytes(u64::MAX), gpus: u32::MAX };

/// What is wrong with the documents that Trainyard itself is to read.
pub(super) fn problems(documents: &Documents) -> Vec<ReadError> {
    let is_ours = |root: &Node<'_>| root.get("apiVersion").str().starts_with("trainyard.dev/");
    documents.roots().filter(is_ours).flat_map(problems_of).collect()
}

fn problems_of(root: Node<'_>) -> Vec<ReadError> {
    let (file, place) = (root.file(), root.file().place(root.span().start));
    // Its own lines and columns become those of the file.
    let error = |line: usize, column: usize, message, help: Option<String>| ReadError {
        file: file.name.clone(),
        line: place.line.saturating_add(line).saturating_sub(1),
        column: if line == 1 {
            place.column.saturating_add(column).saturating_sub(1)
        } else {
            column
        },
        message,
        help: help.unwrap_or_default(),
    };
    match manifest::read(&file.name, file.slice(root.span())) {
        Err(errors) => errors
            .problems
            .into_iter()
            .map(|it| error(it.at.place.line, it.at.place.column, it.message, it.help))
            .collect(),
        Ok(found) => found
            .jobs
            .iter()
            .filter_map(|job| compile_job(&job.value, &ANYWHERE).err())
            .filter_map(|it| Some((culprit(root.get("spec"), &it)?, it.to_string())))
            .map(|(culprit, message)| {
                let place = file.place(culprit.place().start);
                let (line, column) = (place.line, place.column);
                ReadError { file: file.name.clone(), line, column, message, help: String::new() }
            })
            .collect(),
    }
}

/// The field that a job has no plan for, of what is wrong wherever it is to run.
fn culprit<'a>(spec: Node<'a>, error: &JobError) -> Option<Node<'a>> {
    match error {
        JobError::ReservedVariable { name, .. } => {
            let names = |variable: &Node<'a>| variable.get("name").is(name);
            let env = spec.get("env");
            Some(env.items().find(names).map_or(env, |it| it.get("name")))
        }
        JobError::LogPattern { .. } => Some(spec.path("progress.logPattern")),
        _ => None,
    }
}
