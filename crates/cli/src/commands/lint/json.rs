//! Findings as JSON: `{"findings": […]}`, and `"errors"` where something could not be read.

use serde::Serialize;
use trainyard_rules::{Finding, ReadError};

use super::to_json;

#[derive(Serialize)]
struct Output<'a> {
    findings: &'a [Finding],
    #[serde(skip_serializing_if = "<[ReadError]>::is_empty")]
    errors: &'a [ReadError],
}

pub(super) fn render(findings: &[Finding], errors: &[ReadError]) -> miette::Result<String> {
    to_json(&Output { findings, errors })
}
