//! One document: which resource it is, its metadata, and its spec.

use std::collections::BTreeMap;
use std::ops::Range;

use kube::core::ObjectMeta;

use super::check::{self, Spot, unknown_field};
use super::errors::ProblemKind;
use super::nearest::nearest;
use super::node::{Content, Entry, Meaning, Node, short};
use super::parse::join;
use super::report::Report;
use super::shape::{self, Shape};
use crate::model_service::{MODEL_NAME, wrong_model_name};
use crate::{
    GpuPool, GpuPoolSpec, ModelService, ModelServiceSpec, Queue, QueueSpec, TrainingJob,
    TrainingJobSpec,
};

/// The version of every resource that can be read.
const VERSION: &str = "trainyard.dev/v1alpha1";

/// Resources that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    ModelService,
    TrainingJob,
    GpuPool,
    Queue,
}

impl Kind {
    const ALL: [Self; 4] = [Self::ModelService, Self::TrainingJob, Self::GpuPool, Self::Queue];

    fn as_str(self) -> &'static str {
        match self {
            Self::ModelService => "ModelService",
            Self::TrainingJob => "TrainingJob",
            Self::GpuPool => "GpuPool",
            Self::Queue => "Queue",
        }
    }

    /// What people call one of them.
    fn noun(self) -> &'static str {
        match self {
            Self::ModelService => "service",
            Self::TrainingJob => "job",
            Self::GpuPool => "pool",
            Self::Queue => "queue",
        }
    }

    fn spec(self) -> &'static Shape {
        match self {
            Self::ModelService => shape::model_service(),
            Self::TrainingJob => shape::training_job(),
            Self::GpuPool => shape::gpu_pool(),
            Self::Queue => shape::queue(),
        }
    }

    /// The least that its `spec` must say.
    fn least(self) -> &'static str {
        match self {
            Self::ModelService => "write `spec: {model: {uri: …}}`: where the model is",
            Self::TrainingJob => {
                "write `spec: {framework: …, command: […]}`: what trains, and with what"
            }
            Self::GpuPool => "write `spec: {nodeSelector: {…}}`: labels of the pool's nodes",
            Self::Queue => {
                "write `spec: {quotas: [{pool: default, cpu: {nominal: …}}]}`: what its jobs may use"
            }
        }
    }

    fn name_help(self) -> &'static str {
        match self {
            Self::ModelService => "write `metadata: {name: iris}`: the name that requests use too",
            Self::TrainingJob => "write `metadata: {name: digits}`: the name of the job",
            Self::GpuPool => {
                "write `metadata: {name: default}`: services name the pool by it, and those that name none get `default`"
            }
            Self::Queue => "write `metadata: {name: research}`: jobs name the queue by it",
        }
    }
}

/// One resource.
pub(super) enum Resource {
    ModelService(Box<ModelService>),
    TrainingJob(Box<TrainingJob>),
    GpuPool(Box<GpuPool>),
    Queue(Box<Queue>),
}

const FIELDS: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];
/// Fields of `metadata` that people write.
const METADATA: [&str; 4] = ["name", "namespace", "labels", "annotations"];
/// Fields of `metadata` and what else `kubectl get -o yaml` prints: not ours to check.
const METADATA_OF_SERVER: [&str; 10] = [
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "uid",
];
/// The name becomes a Service's (63 characters), with a suffix for each revision.
const LONGEST_NAME: usize = 52;

/// Reads the resource that a document holds; `None` if something is wrong with it.
pub(super) fn resource(report: &mut Report, root: &Node) -> Option<Resource> {
    let problems = report.len();
    let Content::Mapping(entries) = &root.content else {
        report
            .problem(
                ProblemKind::WrongType,
                "",
                format!("a manifest must be a mapping, and this is {}", root.describe()),
                root.span.clone(),
            )
            .label("expected a mapping")
            .help(Some("start with `apiVersion: trainyard.dev/v1alpha1`".into()));
        return None;
    };
    let start = entries.first().map_or(root.span.clone(), |entry| entry.key_span.clone());
    let kind = kind(report, root, start.clone())?;
    report.reads(kind.spec());

    for entry in entries.iter().filter(|entry| !FIELDS.contains(&entry.key.as_str())) {
        unknown_field(report, entry, "", FIELDS.into_iter());
    }
    let metadata = metadata(report, kind, root, start.clone());
    let spec = match root.entry("spec") {
        Some(entry) => {
            let spot = Spot { path: "spec", key: entry.key_span.clone() };
            check::value(report, &entry.value, &spot, kind.spec())
        }
        None => {
            report
                .problem(ProblemKind::MissingField, "spec", "`spec` is missing", start.clone())
                .label("needs `spec`")
                .help(Some(kind.least().into()));
            None
        }
    };
    if report.len() > problems {
        return None;
    }
    let (metadata, spec) = (metadata?, spec?);
    let read = match kind {
        Kind::ModelService => serde_json::from_value::<ModelServiceSpec>(spec)
            .map(|spec| ModelService { metadata, spec, status: None })
            .map(|service| Resource::ModelService(Box::new(service))),
        Kind::TrainingJob => serde_json::from_value::<TrainingJobSpec>(spec)
            .map(|spec| TrainingJob { metadata, spec, status: None })
            .map(|job| Resource::TrainingJob(Box::new(job))),
        Kind::GpuPool => serde_json::from_value::<GpuPoolSpec>(spec)
            .map(|spec| GpuPool { metadata, spec, status: None })
            .map(|pool| Resource::GpuPool(Box::new(pool))),
        Kind::Queue => serde_json::from_value::<QueueSpec>(spec)
            .map(|spec| Queue { metadata, spec, status: None })
            .map(|queue| Resource::Queue(Box::new(queue))),
    };
    match read {
        Ok(resource) => Some(resource),
        Err(error) => {
            // The schema and the type come from the same source, so this is our mistake; the
            // person still learns what it was about.
            let message = format!("the spec cannot be read: {error}");
            report
                .problem(ProblemKind::WrongType, "spec", message, start)
                .label("in this document");
            None
        }
    }
}

/// Which of the resources that can be read the document says that it is.
fn kind(report: &mut Report, root: &Node, start: Range<usize>) -> Option<Kind> {
    let version = identity(report, root, "apiVersion", &start);
    let kind = identity(report, root, "kind", &start);
    let ((version, version_at), (kind, kind_at)) = (version?, kind?);
    let known = Kind::ALL.into_iter().find(|known| known.as_str() == kind);
    if known.is_some() && version == VERSION {
        return known;
    }
    let (field, what, at, names) = match known {
        Some(_) => ("apiVersion", version, version_at, vec![VERSION]),
        None => ("kind", kind, kind_at, Kind::ALL.map(Kind::as_str).to_vec()),
    };
    let known = Kind::ALL.map(|kind| format!("`{}` of `{VERSION}`", kind.as_str())).join(", ");
    let help = match nearest(what, names) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("known: {known}"),
    };
    let message = format!("there is no resource `{}` of `{}`", short(kind), short(version));
    report
        .problem(ProblemKind::UnknownResource, field, message, at)
        .label("not known")
        .help(Some(help.into()));
    None
}

/// `apiVersion` or `kind`, and its place.
fn identity<'a>(
    report: &mut Report,
    root: &'a Node,
    field: &str,
    start: &Range<usize>,
) -> Option<(&'a str, Range<usize>)> {
    let entry = root.entry(field).filter(|entry| !entry.value.is_null());
    let Some(entry) = entry else {
        let help = match field {
            "kind" => Kind::ALL.map(|kind| format!("write `kind: {}`", kind.as_str())).join(" or "),
            _ => format!("write `{field}: {VERSION}`"),
        };
        report
            .problem(
                ProblemKind::MissingField,
                field,
                format!("`{field}` is missing"),
                start.clone(),
            )
            .label(format!("needs `{field}`"))
            .help(Some(help.into()));
        return None;
    };
    text(report, &entry.value, field, &entry.key_span).map(|text| (text, entry.value.span.clone()))
}

fn metadata(
    report: &mut Report,
    kind: Kind,
    root: &Node,
    start: Range<usize>,
) -> Option<ObjectMeta> {
    let entry = root.entry("metadata").filter(|entry| !entry.value.is_null());
    let Some(entry) = entry else {
        name_is_missing(report, kind, start);
        return None;
    };
    let Content::Mapping(entries) = &entry.value.content else {
        let message =
            format!("`metadata` must be a mapping, and this is {}", entry.value.describe());
        report
            .problem(ProblemKind::WrongType, "metadata", message, entry.key_span.clone())
            .label("expected a mapping")
            .help(Some("write `metadata: {name: …}`".into()));
        return None;
    };
    let mut metadata = ObjectMeta::default();
    for entry in entries {
        let path = join("metadata", &entry.key);
        if entry.value.is_null() {
            continue;
        }
        match entry.key.as_str() {
            "name" => {
                let text = text(report, &entry.value, &path, &entry.key_span);
                metadata.name = text
                    .filter(|name| check_name(report, kind, name, &entry.value))
                    .map(str::to_owned);
            }
            "namespace" if matches!(kind, Kind::GpuPool | Kind::Queue) => {
                let kind = kind.as_str();
                let message = format!("`metadata.namespace`: a {kind} is of the whole cluster");
                report
                    .problem(ProblemKind::Rule, &path, message, entry.key_span.clone())
                    .label("belongs to no namespace")
                    .help(Some("remove it".into()));
            }
            "namespace" => {
                let text = text(report, &entry.value, &path, &entry.key_span);
                metadata.namespace = text
                    .filter(|name| check_namespace(report, name, &entry.value))
                    .map(str::to_owned);
            }
            "labels" => metadata.labels = texts(report, entry, &path),
            "annotations" => {
                metadata.annotations = texts(report, entry, &path);
                check_model_name(report, entry);
            }
            other if METADATA_OF_SERVER.contains(&other) => {}
            _ => unknown_field(report, entry, "metadata", METADATA.into_iter()),
        }
    }
    if !entries.iter().any(|entry| entry.key == "name" && !entry.value.is_null()) {
        name_is_missing(report, kind, entry.key_span.clone());
    }
    Some(metadata)
}

fn name_is_missing(report: &mut Report, kind: Kind, span: Range<usize>) {
    report
        .problem(ProblemKind::MissingField, "metadata.name", "`metadata.name` is missing", span)
        .label("needs `metadata.name`")
        .help(Some(kind.name_help().into()));
}

/// The resource's own rule for its name, said with the name that would do.
fn check_name(report: &mut Report, kind: Kind, name: &str, node: &Node) -> bool {
    let Some(why) = wrong_name(name) else { return true };
    let proposal = proposal(name);
    let help = match &proposal {
        Some(proposal) => format!("write `{proposal}`"),
        None => "write lower-case letters, digits and `-`, starting with a letter".to_owned(),
    };
    let message = format!("`metadata.name`: `{}` {why}", short(name));
    let label = format!("not a name of a {}", kind.noun());
    no_name(report, "metadata.name", node.span.clone(), message, &label, help);
    false
}

/// Reports a text that cannot be the name of what it should name.
fn no_name(
    report: &mut Report,
    path: &str,
    span: Range<usize>,
    message: String,
    label: &str,
    help: String,
) {
    report
        .problem(ProblemKind::BadFormat, path, message, span)
        .label(label)
        .help(Some(help.into()));
}

/// Whether the annotation that names the model, if it is there, can name one.
fn check_model_name(report: &mut Report, annotations: &Entry) {
    let Some(entry) = annotations.value.entry(MODEL_NAME) else { return };
    // What is no text was reported as such.
    let Content::Scalar { text, .. } = &entry.value.content else { return };
    let Some(why) = wrong_model_name(text) else { return };
    let path = format!("metadata.annotations[{MODEL_NAME}]");
    let message = format!("`{path}`: the name `{}` {why}", short(text));
    let span = if entry.value.span.is_empty() { &entry.key_span } else { &entry.value.span };
    let help = "write the name that requests use, as it stands in `/v2/models/NAME`".to_owned();
    no_name(report, &path, span.clone(), message, "not a name of a model", help);
}

/// Whether a DNS label may hold a character (RFC 1123, and lower case as Kubernetes wants it).
fn is_of_label(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
}

/// Why a text cannot name a service or a pool. A pool's name becomes a label's value and a part of
/// other names; that services have the shorter limit of both keeps one rule.
pub(super) fn wrong_name(name: &str) -> Option<String> {
    let (first, last) = (name.chars().next()?, name.chars().next_back()?);
    if let Some(bad) = name.chars().find(|c| !is_of_label(*c)) {
        return Some(format!("must hold lower-case letters, digits and `-` only, and not {bad:?}"));
    }
    if !first.is_ascii_lowercase() {
        return Some("must start with a letter".to_owned());
    }
    if last == '-' {
        return Some("must not end with `-`".to_owned());
    }
    let length = name.chars().count();
    (length > LONGEST_NAME)
        .then(|| format!("must have at most {LONGEST_NAME} characters, and has {length}"))
}

/// The nearest text that can name one.
pub(super) fn proposal(name: &str) -> Option<String> {
    let mut proposal = String::new();
    for c in name.chars() {
        match c.to_ascii_lowercase() {
            c if c.is_ascii_lowercase() => proposal.push(c),
            c if c.is_ascii_digit() && !proposal.is_empty() => proposal.push(c),
            _ if proposal.is_empty() || proposal.ends_with('-') => {}
            _ => proposal.push('-'),
        }
        if proposal.len() == LONGEST_NAME {
            break;
        }
    }
    let proposal = proposal.trim_end_matches('-');
    (!proposal.is_empty()).then(|| proposal.to_owned())
}

/// A namespace is a DNS label (RFC 1123).
fn check_namespace(report: &mut Report, name: &str, node: &Node) -> bool {
    let is_label = !name.is_empty()
        && name.len() <= 63
        && name.chars().all(is_of_label)
        && !name.starts_with('-')
        && !name.ends_with('-');
    if !is_label {
        let message = format!("`metadata.namespace`: `{}` cannot name a namespace", short(name));
        let help = "write at most 63 lower-case letters, digits and `-`, with no `-` at its ends";
        let at = node.span.clone();
        no_name(report, "metadata.namespace", at, message, "not a namespace", help.to_owned());
    }
    is_label
}

/// The text of a scalar.
fn text<'a>(
    report: &mut Report,
    node: &'a Node,
    path: &str,
    key: &Range<usize>,
) -> Option<&'a str> {
    match &node.content {
        Content::Scalar { text, plain }
            if (!plain || Meaning::of(text) == Meaning::Text) && !text.is_empty() =>
        {
            Some(text)
        }
        content => {
            let (span, help) = match content {
                Content::Scalar { text, plain: true } => {
                    (node.span.clone(), Some(format!("put it in quotes: `\"{}\"`", short(text))))
                }
                Content::Scalar { .. } => (node.span.clone(), None),
                Content::List(_) | Content::Mapping(_) => (key.clone(), None),
            };
            let message = format!("`{path}` must be a text, and this is {}", node.describe());
            report
                .problem(ProblemKind::WrongType, path, message, span)
                .label("expected a text")
                .help(help.map(Into::into));
            None
        }
    }
}

/// Labels or annotations.
fn texts(report: &mut Report, entry: &Entry, path: &str) -> Option<BTreeMap<String, String>> {
    let spot = Spot { path, key: entry.key_span.clone() };
    let texts = check::value(report, &entry.value, &spot, shape::texts())?;
    serde_json::from_value(texts).ok()
}
