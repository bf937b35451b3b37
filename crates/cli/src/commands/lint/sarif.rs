//! Findings as SARIF 2.1.0 (OASIS), which code scanning services read.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use trainyard_rules::{Documents, Finding, Level, ReadError, registry};

use super::{baseline, page_address, to_json};

pub(super) fn render(
    documents: &Documents,
    findings: &[Finding],
    errors: &[ReadError],
) -> miette::Result<String> {
    let mut used: BTreeMap<&str, Value> = BTreeMap::new();
    for finding in findings {
        used.entry(&finding.rule).or_insert_with(|| rule(finding));
    }
    let positions: BTreeMap<&str, usize> =
        used.keys().enumerate().map(|(index, id)| (*id, index)).collect();
    let results: Vec<Value> =
        findings.iter().map(|finding| result(documents, finding, &positions)).collect();
    let notifications: Vec<Value> = errors
        .iter()
        .map(|error| {
            let region = json!({"startLine": error.line, "startColumn": error.column});
            json!({
                "level": "error",
                "message": {"text": text(&error.message, &error.help)},
                "locations": [location(&error.file, region)],
            })
        })
        .collect();
    to_json(&json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "trainyard lint",
                "version": env!("CARGO_PKG_VERSION"),
                "informationUri": env!("CARGO_PKG_REPOSITORY"),
                "rules": used.into_values().collect::<Vec<_>>(),
            }},
            // Columns are counted in characters, not in UTF-16 units.
            "columnKind": "unicodeCodePoints",
            "invocations": [{
                "executionSuccessful": errors.is_empty(),
                "toolExecutionNotifications": notifications,
            }],
            "results": results,
        }],
    }))
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Hygiene => "note",
    }
}

fn rule(finding: &Finding) -> Value {
    match registry::find(&finding.rule) {
        Some(rule) => json!({
            "id": rule.id,
            "shortDescription": {"text": rule.title()},
            "fullDescription": {"text": rule.title()},
            "help": {"text": rule.body(), "markdown": rule.body()},
            "helpUri": page_address(rule.id),
            "defaultConfiguration": {"level": level(rule.level)},
        }),
        None => json!({"id": finding.rule}),
    }
}

fn result(documents: &Documents, finding: &Finding, positions: &BTreeMap<&str, usize>) -> Value {
    let region = json!({
        "startLine": finding.line,
        "startColumn": finding.column,
        "endLine": finding.end.line,
        "endColumn": finding.end.column.max(if finding.end.line == finding.line { finding.column + 1 } else { 1 }),
    });
    let mut result = json!({
        "ruleId": finding.rule,
        "level": level(finding.level),
        "message": {"text": text(&finding.message, &finding.fix)},
        "locations": [location(&finding.file, region)],
        "partialFingerprints": {"trainyard/v1": baseline::fingerprint(finding)},
    });
    if let (Some(object), Some(index)) =
        (result.as_object_mut(), positions.get(finding.rule.as_str()))
    {
        object.insert("ruleIndex".to_owned(), json!(index));
        if let Some(logical) = logical_location(finding)
            && let Some(first) = object.get_mut("locations").and_then(|all| all.get_mut(0))
        {
            first["logicalLocations"] = json!([logical]);
        }
        if let Some(fix) = fix(documents, finding) {
            object.insert("fixes".to_owned(), json!([fix]));
        }
    }
    result
}

fn logical_location(finding: &Finding) -> Option<Value> {
    let name = format!("{}/{}", finding.object, finding.path);
    (!finding.object.is_empty()).then(|| json!({"fullyQualifiedName": name, "kind": "object"}))
}

fn fix(documents: &Documents, finding: &Finding) -> Option<Value> {
    let file = documents.files.get(finding.file_index)?;
    let replacements: Vec<Value> = finding
        .edits
        .iter()
        .map(|edit| {
            let (start, end) = (file.place(edit.span.start), file.place(edit.span.end));
            json!({
                "deletedRegion": {
                    "startLine": start.line, "startColumn": start.column,
                    "endLine": end.line, "endColumn": end.column,
                },
                "insertedContent": {"text": edit.text},
            })
        })
        .collect();
    if replacements.is_empty() {
        return None;
    }
    Some(json!({
        "description": {"text": finding.fix},
        "artifactChanges": [{
            "artifactLocation": {"uri": uri(&finding.file)},
            "replacements": replacements,
        }],
    }))
}

fn location(file: &str, region: Value) -> Value {
    json!({"physicalLocation": {"artifactLocation": {"uri": uri(file)}, "region": region}})
}

/// A relative reference as RFC 3986 has it; characters that may not stand in it are escaped.
fn uri(file: &str) -> String {
    let mut uri = String::with_capacity(file.len());
    for byte in file.replace('\\', "/").bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri
}

fn text(message: &str, help: &str) -> String {
    if help.is_empty() { message.to_owned() } else { format!("{message}. Fix: {help}") }
}
