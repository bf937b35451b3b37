//! Reads manifests: YAML or JSON text becomes resources, or all the problems that it has.
//!
//! In: text and the name to call it by. Out: [`Manifests`], or [`ManifestErrors`]: plain
//! data with the place, what was expected, what came and how to mend it; drawing them is the
//! caller's. Opens no file.
//!
//! The text becomes a tree whose every part knows its place ([`parse`]); each document is compared
//! with the shape that the custom resource's schema describes ([`shape`], [`check`]); rules between
//! fields are the schema's, in CEL. So a manifest is accepted here if the API server accepts it,
//! and a field is described once, in its type.

mod check;
mod document;
mod errors;
mod located;
mod nearest;
mod node;
mod parse;
mod report;
mod shape;

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::core::ResourceExt;

pub use errors::{ManifestErrors, Mark, Problem, ProblemKind};
pub use located::{Located, Place, Source};
pub use nearest::nearest;

use crate::{GpuPool, ModelService, Queue, TrainingJob};
use document::Resource;
use node::Content;
use report::Report;

/// Bytes that a manifest may have. An object in Kubernetes has at most 1.5 MiB (etcd's limit), and
/// a `ModelService` less than one KiB.
pub const LARGEST: usize = 1 << 20;

/// The resources of one text, each kind in the order of the text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Manifests {
    pub services: Vec<Located<ModelService>>,
    pub jobs: Vec<Located<TrainingJob>>,
    pub gpu_pools: Vec<Located<GpuPool>>,
    pub queues: Vec<Located<Queue>>,
}

/// Reads every document of a text, which may be YAML or JSON.
///
/// Empty documents are skipped; a text that holds no other gives no resource. The problems of all
/// documents are collected, at most a hundred; a text that is no YAML ends at the place where it
/// stops to be. Takes time in proportion to the length of the text, whatever it holds.
pub fn read(source_name: &str, text: &str) -> Result<Manifests, ManifestErrors> {
    let source = Arc::new(Source { name: source_name.to_owned(), text: text.to_owned() });
    let mut report = Report::new(source.clone());
    if !is_readable(text, &mut report) {
        return report.into_result(Manifests::default());
    }
    let mut found = Manifests::default();
    for root in parse::parse(text, &mut report) {
        if root.is_null() {
            continue;
        }
        let start = match &root.content {
            Content::Mapping(entries) => entries.first().map(|entry| entry.key_span.clone()),
            Content::List(_) | Content::Scalar { .. } => None,
        };
        let at = report.place(start.unwrap_or(root.span.clone()));
        let source = source.clone();
        match document::resource(&mut report, &root) {
            Some(Resource::ModelService(value)) => {
                found.services.push(Located { value: *value, source, at });
            }
            Some(Resource::TrainingJob(value)) => {
                found.jobs.push(Located { value: *value, source, at });
            }
            Some(Resource::GpuPool(value)) => {
                found.gpu_pools.push(Located { value: *value, source, at });
            }
            Some(Resource::Queue(value)) => {
                found.queues.push(Located { value: *value, source, at });
            }
            None => {}
        }
    }
    names_are_unique(&found.services, "services", &mut report);
    names_are_unique(&found.jobs, "jobs", &mut report);
    names_are_unique(&found.gpu_pools, "pools", &mut report);
    names_are_unique(&found.queues, "queues", &mut report);
    report.into_result(found)
}

/// [`read`] for the bytes of a file; those that are not UTF-8 are a problem like any other.
pub fn read_bytes(source_name: &str, bytes: &[u8]) -> Result<Manifests, ManifestErrors> {
    let error = match std::str::from_utf8(bytes) {
        Ok(text) => return read(source_name, text),
        Err(error) => error,
    };
    // The start of a large file is enough to show the place.
    let at = error.valid_up_to();
    let shown = bytes.get(..at.saturating_add(200).min(bytes.len())).unwrap_or(bytes);
    let text = String::from_utf8_lossy(shown).into_owned();
    let mut report = Report::new(Arc::new(Source { name: source_name.to_owned(), text }));
    let byte = bytes.get(at).copied().unwrap_or_default();
    let help = match bytes {
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => "the file is UTF-16; save it as UTF-8",
        _ => "save the file as UTF-8",
    };
    report
        .problem(
            ProblemKind::Syntax,
            "",
            format!("the byte 0x{byte:02X} is not UTF-8"),
            at..at.saturating_add(char::REPLACEMENT_CHARACTER.len_utf8()),
        )
        .label("here")
        .help(Some(help.into()));
    report.into_result(Manifests::default())
}

/// What is wrong with a text before it is read at all.
fn is_readable(text: &str, report: &mut Report) -> bool {
    if text.len() > LARGEST {
        let message = format!("the manifest has {} bytes, and may have {LARGEST}", text.len());
        report
            .problem(ProblemKind::Syntax, "", message, 0..0)
            .label("too large")
            .help(Some("split it into several files".into()));
        return false;
    }
    // YAML 1.2, section 5.1; a parser that takes NUL for the end would not see what follows it.
    let is_allowed = |c: char| matches!(c, '\t' | '\n' | '\r' | '\u{85}') || !c.is_control();
    if let Some((at, bad)) = text.char_indices().find(|(_, c)| !is_allowed(*c)) {
        let message =
            format!("the control character U+{:04X} is not allowed in YAML", u32::from(bad));
        report
            .problem(ProblemKind::Syntax, "", message, at..at.saturating_add(bad.len_utf8()))
            .label("here")
            .help(Some("remove it, or write it as an escape in double quotes".into()));
        return false;
    }
    true
}

/// Two resources of one kind and name would replace each other.
fn names_are_unique<K: ResourceExt>(resources: &[Located<K>], called: &str, report: &mut Report) {
    let mut first: BTreeMap<_, &Place> = BTreeMap::new();
    for Located { value, at, .. } in resources {
        let metadata = value.meta();
        let name = (metadata.namespace.as_deref(), metadata.name.as_deref());
        let Some(earlier) = first.get(&name) else {
            first.insert(name, at);
            continue;
        };
        let name = name.1.unwrap_or_default();
        report
            .problem(
                ProblemKind::DuplicateKey,
                "metadata.name",
                format!("there are two {called} `{name}`"),
                at.span.clone(),
            )
            .label("the second")
            .also(earlier.span.clone(), "the first")
            .help(Some("give one of them another name".into()));
    }
}

#[cfg(test)]
mod tests;
