//! `spec.progress`.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::scalar::Period;

/// How to see that a program gets on.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("duration(self.timeout) >= duration('1s')").message("progress is looked for once a second; write at least `1s`").field_path(".timeout"),
)]
pub struct Progress {
    /// A program that shows no progress for so long hangs: it is asked for its stacks, ended and
    /// started again. It holds from the start on, so it must be longer than what comes before the
    /// first step.
    pub timeout: Period,
    /// A line that the program prints and that matches this regular expression is progress. Groups
    /// named `step` and `loss` are numbers of the report: `step (?P<step>\d+) loss (?P<loss>\S+)`.
    /// Default: progress is what the program writes to the file `$TRAINYARD_HEARTBEAT_FILE`, as
    /// `{"step": 3, "loss": 0.5}` or without content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub log_pattern: Option<String>,
}

/// Why a text is not a pattern that lines can be compared with; none if it is one.
pub fn wrong_log_pattern(pattern: &str) -> Option<String> {
    let error = regex::RegexBuilder::new(pattern).size_limit(PATTERN_SIZE).build().err()?;
    // The library draws a caret below the pattern; its last line says what is wrong.
    let text = error.to_string();
    let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it is not one");
    Some(last.trim().trim_start_matches("error: ").to_owned())
}

/// Bytes of a compiled pattern: a manifest must not make the agent take memory without bound.
pub const PATTERN_SIZE: usize = 1 << 20;

#[test]
fn patterns() {
    assert_eq!(wrong_log_pattern(r"step (?P<step>\d+)"), None);
    assert!(wrong_log_pattern("step (").is_some_and(|why| why.contains("unclosed group")));
    assert!(wrong_log_pattern(r"(\w{500}){500}").is_some());
}
