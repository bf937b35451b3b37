//! Compares a document with the shape that it should have.

use std::ops::Range;

use kube::core::cel::validate_compiled;
use serde_json::{Map, Number, Value};

use super::errors::ProblemKind;
use super::nearest::nearest;
use super::node::{Content, Entry, Meaning, Node, short};
use super::parse::join;
use super::report::Report;
use super::shape::{Field, Object, Shape, listed};

/// Where a value stands and how it is called.
pub(super) struct Spot<'a> {
    pub(super) path: &'a str,
    /// Marked where the value itself has no text.
    pub(super) key: Range<usize>,
}

impl Spot<'_> {
    fn of(&self, node: &Node) -> Range<usize> {
        // A mapping or list in block style starts on the next line; its key says more.
        let is_block = matches!(&node.content, Content::Mapping(_) | Content::List(_));
        if node.span.is_empty() || is_block { self.key.clone() } else { node.span.clone() }
    }
}

/// The value of a node as JSON, with defaults; `None` if something is wrong with it.
pub(super) fn value(
    report: &mut Report,
    node: &Node,
    spot: &Spot<'_>,
    shape: &Shape,
) -> Option<Value> {
    if report.is_full() {
        return None;
    }
    match (shape, &node.content) {
        (Shape::Object(object), Content::Mapping(entries)) => {
            self::object(report, entries, spot, object)
        }
        (Shape::Map { value }, Content::Mapping(entries)) => map(report, entries, spot, value),
        (Shape::List { item, min, max }, Content::List(items)) => {
            let count = items.len() as u64;
            if count < *min || count > *max {
                wrong_length(report, spot.of(node), spot.path, "entries", count, *min, *max);
                return None;
            }
            let mut values = Vec::new();
            for (index, node) in items.iter().enumerate() {
                let path = format!("{}[{index}]", spot.path);
                let spot = Spot { path: &path, key: node.span.clone() };
                values.push(value(report, node, &spot, item));
            }
            values.into_iter().collect::<Option<Vec<_>>>().map(Value::Array)
        }
        (
            Shape::Scalar(_)
            | Shape::Enum(_)
            | Shape::Text { .. }
            | Shape::Integer { .. }
            | Shape::Boolean,
            Content::Scalar { text, plain },
        ) => {
            let meaning = if *plain { Meaning::of(text) } else { Meaning::Text };
            scalar(report, node, text, meaning, spot, shape)
        }
        _ => {
            wrong_type(report, node, spot, shape);
            None
        }
    }
}

fn object(
    report: &mut Report,
    entries: &[Entry],
    spot: &Spot<'_>,
    object: &Object,
) -> Option<Value> {
    let problems = report.len();
    let mut values = Map::new();
    for entry in entries {
        if report.is_full() {
            return None;
        }
        let path = join(spot.path, &entry.key);
        let Some(field) = object.fields.get(&entry.key) else {
            unknown_field(report, entry, spot.path, object.fields.keys().map(String::as_str));
            continue;
        };
        let spot = Spot { path: &path, key: entry.key_span.clone() };
        if entry.value.is_null() {
            if field.is_required {
                missing(report, spot.key.clone(), &path, &entry.key, field);
            }
            continue;
        }
        if let Some(value) = value(report, &entry.value, &spot, &field.shape) {
            values.insert(entry.key.clone(), value);
        }
    }
    for (name, field) in &object.fields {
        if entries.iter().any(|entry| entry.key == *name && !entry.value.is_null()) {
            continue;
        }
        if let Some(default) = &field.default {
            values.insert(name.clone(), default.clone());
        } else if field.is_required && !entries.iter().any(|entry| entry.key == *name) {
            missing(report, spot.key.clone(), &join(spot.path, name), name, field);
        }
    }
    if report.len() > problems {
        // A rule that looks at what is wrong would blame the wrong field.
        return None;
    }
    let values = Value::Object(values);
    rules(report, entries, spot, object, &values)?;
    Some(values)
}

/// Rules between fields, as the API server applies them.
fn rules(
    report: &mut Report,
    entries: &[Entry],
    spot: &Spot<'_>,
    object: &Object,
    values: &Value,
) -> Option<()> {
    let Err(broken) = validate_compiled(&object.rules, values, None) else {
        return Some(());
    };
    for rule in broken.into_vec() {
        let field = rule.field_path.trim_start_matches('.');
        let path = if field.is_empty() { spot.path.to_owned() } else { join(spot.path, field) };
        let (message, help) = match rule.message.split_once("; ") {
            Some((message, help)) => (message.to_owned(), Some(help.to_owned().into())),
            None => (rule.message, None),
        };
        let (found, span) = find(entries, field, &spot.key);
        report
            .problem(ProblemKind::Rule, &path, format!("`{path}`: {message}"), span)
            .label(if found { "this one" } else { "here" })
            .help(help);
    }
    None
}

/// The value at a path of names below a mapping, or the innermost key on the way to it.
fn find(entries: &[Entry], path: &str, key: &Range<usize>) -> (bool, Range<usize>) {
    let mut span = key.clone();
    let mut entries = entries;
    if path.is_empty() {
        return (false, span);
    }
    for name in path.split('.') {
        let Some(entry) = entries.iter().find(|entry| entry.key == name) else {
            return (false, span);
        };
        span = Spot { path: name, key: entry.key_span.clone() }.of(&entry.value);
        entries = match &entry.value.content {
            Content::Mapping(inner) => inner,
            Content::Scalar { .. } | Content::List(_) => &[],
        };
    }
    (true, span)
}

fn map(report: &mut Report, entries: &[Entry], spot: &Spot<'_>, shape: &Shape) -> Option<Value> {
    let problems = report.len();
    let mut values = Map::new();
    for entry in entries {
        let path = format!("{}[{}]", spot.path, short(&entry.key));
        let spot = Spot { path: &path, key: entry.key_span.clone() };
        if let Some(value) = value(report, &entry.value, &spot, shape) {
            values.insert(entry.key.clone(), value);
        }
    }
    (report.len() == problems).then_some(Value::Object(values))
}

fn scalar(
    report: &mut Report,
    node: &Node,
    text: &str,
    meaning: Meaning,
    spot: &Spot<'_>,
    shape: &Shape,
) -> Option<Value> {
    let path = spot.path;
    let span = spot.of(node);
    match shape {
        Shape::Scalar(kind) => {
            let length = text.chars().count() as u64;
            if length > kind.longest {
                wrong_length(report, span, path, "characters", length, 1, kind.longest);
                return None;
            }
            let is_written_as_it_should = match meaning {
                Meaning::Text => true,
                Meaning::Integer => kind.integer_too,
                _ => false,
            };
            if let Err(error) = (kind.check)(text) {
                let message = format!("`{path}`: {}", error.problem);
                let label = format!("expected {}", kind.expected);
                report
                    .problem(ProblemKind::BadFormat, path, message, span)
                    .label(label)
                    .help(Some(error.help));
                return None;
            }
            if !is_written_as_it_should {
                // `cpu: 0.5` is a quantity to us and a number to the API server, which refuses it.
                let message = format!(
                    "`{path}` must be text or a whole number, and this is {}",
                    node.describe()
                );
                report
                    .problem(ProblemKind::WrongType, path, message, span)
                    .label(format!("expected {}", kind.expected))
                    .help(Some(format!("put it in quotes: `\"{}\"`", short(text)).into()));
                return None;
            }
            Some(Value::String(text.to_owned()))
        }
        Shape::Enum(names) => {
            if names.iter().any(|name| name == text) {
                return Some(Value::String(text.to_owned()));
            }
            let known = || names.iter().map(String::as_str);
            let help = match nearest(text, known()) {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!("write one of {}", listed(known())),
            };
            let message = format!(
                "`{path}` must be one of {}, and this is {}",
                listed(known()),
                node.describe()
            );
            report
                .problem(ProblemKind::UnknownValue, path, message, span)
                .label("no such value")
                .help(Some(help.into()));
            None
        }
        Shape::Text { min, max, pattern } => {
            if meaning != Meaning::Text {
                wrong_type(report, node, spot, shape);
                return None;
            }
            let length = text.chars().count() as u64;
            if length < *min || length > *max {
                wrong_length(report, span, path, "characters", length, *min, *max);
                return None;
            }
            if let Some(pattern) = pattern.as_ref().filter(|pattern| !pattern.is_match(text)) {
                let message =
                    format!("`{path}` must match `{pattern}`, and this is {}", node.describe());
                report.problem(ProblemKind::BadFormat, path, message, span).label("does not match");
                return None;
            }
            Some(Value::String(text.to_owned()))
        }
        Shape::Integer { min, max } => {
            if meaning != Meaning::Integer {
                wrong_type(report, node, spot, shape);
                return None;
            }
            // More digits than 128 bits hold are beyond every bound too.
            let number = text.parse::<i128>().ok().filter(|number| (min..=max).contains(&number));
            let number = number.and_then(|number| i64::try_from(number).ok());
            if number.is_none() {
                let message =
                    format!("`{path}` must be from {min} to {max}, and this is {}", short(text));
                report
                    .problem(ProblemKind::OutOfRange, path, message, span)
                    .label(format!("expected {min} to {max}"));
            }
            number.map(|number| Value::Number(Number::from(number)))
        }
        Shape::Boolean => match meaning {
            // `yes` and `on` are booleans to some readers of YAML and texts to others.
            Meaning::Boolean(value) if text == value.to_string() => Some(Value::Bool(value)),
            _ => {
                wrong_type(report, node, spot, shape);
                None
            }
        },
        Shape::List { .. } | Shape::Map { .. } | Shape::Object(_) => None,
    }
}

fn wrong_type(report: &mut Report, node: &Node, spot: &Spot<'_>, shape: &Shape) {
    let path = spot.path;
    let expected = shape.expected();
    let message = format!("`{path}` must be {expected}, and this is {}", node.describe());
    let help = match (&node.content, shape) {
        (Content::Scalar { text, plain: true }, Shape::Text { .. }) => {
            Some(format!("put it in quotes: `\"{}\"`", short(text)).into())
        }
        (Content::Scalar { text, plain }, Shape::Integer { .. }) => match (Meaning::of(text), plain) {
            (Meaning::Integer, false) => Some(format!("remove the quotes: `{}`", short(text)).into()),
            (Meaning::OddInteger, _) => {
                Some("versions of YAML read it differently; write it in decimal, without leading zeros or `_`".into())
            }
            _ => None,
        },
        (Content::Scalar { .. }, Shape::List { item, .. }) => match &**item {
            Shape::Object(_) => None,
            _ => Some("write each entry on a line of its own after `- `, or all of them as `[a, b]`".into()),
        },
        _ => None,
    };
    let label = match shape {
        Shape::Object(_) => "expected a mapping".to_owned(),
        _ => format!("expected {expected}"),
    };
    report.problem(ProblemKind::WrongType, path, message, spot.of(node)).label(label).help(help);
}

fn wrong_length(
    report: &mut Report,
    span: Range<usize>,
    path: &str,
    of: &str,
    count: u64,
    min: u64,
    max: u64,
) {
    let expected = match (min, max) {
        (min, u64::MAX) => format!("at least {min}"),
        (min, max) => format!("{min} to {max}"),
    };
    let message = format!("`{path}` must have {expected} {of}, and this has {count}");
    report.problem(ProblemKind::OutOfRange, path, message, span).label(format!("has {count} {of}"));
}

fn missing(report: &mut Report, span: Range<usize>, path: &str, name: &str, field: &Field) {
    report
        .problem(ProblemKind::MissingField, path, format!("`{path}` is missing"), span)
        .label(format!("needs `{name}`"))
        .help(Some(format!("add `{name}`: {}", field.summary).into()));
}

/// Reports a field that nobody knows, with the one that may have been meant.
pub(super) fn unknown_field<'a>(
    report: &mut Report,
    entry: &Entry,
    owner: &str,
    known: impl Iterator<Item = &'a str> + Clone,
) {
    let path = join(owner, &short(&entry.key));
    let spec = report.spec();
    let elsewhere = || {
        let owners = spec.map(|spec| spec.owners(&entry.key, "spec")).unwrap_or_default();
        let owners: Vec<&str> = owners.iter().map(String::as_str).collect();
        (!owners.is_empty() && owners.len() < 4)
            .then(|| format!("`{}` is a field of {}", entry.key, listed(owners)))
    };
    let help = match nearest(&entry.key, known.clone()) {
        Some(name) => format!("did you mean `{name}`?"),
        None if entry.key == "<<" => "merge keys are not read; write the fields out".to_owned(),
        None => elsewhere().unwrap_or_else(|| format!("known here: {}", listed(known))),
    };
    report
        .problem(
            ProblemKind::UnknownField,
            &path,
            format!("unknown field `{path}`"),
            entry.key_span.clone(),
        )
        .label("no such field")
        .help(Some(help.into()));
}
