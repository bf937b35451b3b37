//! What is answered to the API server about one object.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::{Value, json};
use trainyard_rules::alone::Alone;
use trainyard_rules::{Finding, Level};

/// What happens to an object that certainly will not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Mode {
    /// Who asks is warned.
    Audit,
    /// It is refused.
    Enforce,
}

impl Mode {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Enforce => "enforce",
        }
    }
}

/// What became of it, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Clean,
    Warned,
    Denied,
}

impl Outcome {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Warned => "warned",
            Self::Denied => "denied",
        }
    }
}

#[derive(Deserialize)]
struct AdmissionReview {
    request: Request,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    uid: String,
    #[serde(default)]
    object: Value,
    #[serde(default)]
    old_object: Value,
}

/// Warnings of one answer. The API server shows 4,096 characters of them in all.
const MOST_WARNINGS: usize = 12;
/// Characters of one; longer ones may be cut by the API server.
const LONGEST_WARNING: usize = 256;
/// Findings that a refusal names.
const MOST_REASONS: usize = 10;

/// The answer, an `AdmissionReview`.
///
/// An object that is changed is refused only for what the change brings: what was wrong before can
/// still be scaled, labelled and mended step by step.
pub(crate) fn review(
    body: &[u8],
    mode: Mode,
    linter: &Alone,
) -> Result<(Value, Outcome), serde_json::Error> {
    let AdmissionReview { request } = serde_json::from_slice(body)?;
    let findings = shown(linter.lint(&text(request.object)));
    let known: HashSet<_> = match request.old_object {
        Value::Null => HashSet::new(),
        old => shown(linter.lint(&text(old))).iter().map(key).collect(),
    };
    let is_reason = |finding: &&Finding| {
        mode == Mode::Enforce && finding.level == Level::Error && !known.contains(&key(finding))
    };
    let reasons: Vec<&Finding> = findings.iter().filter(is_reason).collect();
    let others = findings.iter().filter(|finding| !is_reason(finding));
    let mut warnings: Vec<String> =
        others.clone().take(MOST_WARNINGS).map(|finding| cut(&told(finding))).collect();
    let more = others.count().saturating_sub(MOST_WARNINGS);
    if more > 0 {
        warnings.push(format!("and {more} more; `trainyard lint` shows all"));
    }
    let outcome = match (reasons.is_empty(), warnings.is_empty()) {
        (false, _) => Outcome::Denied,
        (true, false) => Outcome::Warned,
        (true, true) => Outcome::Clean,
    };
    let mut response = json!({"uid": request.uid, "allowed": reasons.is_empty()});
    if !warnings.is_empty() {
        response["warnings"] = json!(warnings);
    }
    if !reasons.is_empty() {
        let told: Vec<String> = reasons.iter().take(MOST_REASONS).map(|it| told(it)).collect();
        let message = told.join("; ");
        // As the API server's own validation: the object is at fault, not who sent it.
        response["status"] = json!({"code": 422, "reason": "Invalid", "message": message});
    }
    if !findings.is_empty() {
        let mut ids: Vec<&str> = findings.iter().map(|finding| finding.rule.as_str()).collect();
        ids.dedup();
        response["auditAnnotations"] = json!({"findings": ids.join(",")});
    }
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response,
    });
    Ok((review, outcome))
}

/// The object as a manifest, without what the API server notes about it.
fn text(mut object: Value) -> String {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    object.to_string()
}

/// Hygiene is for those who ask for it.
fn shown(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.retain(|finding| finding.level > Level::Hygiene);
    findings.sort_by(|a, b| (b.level, &a.rule, &a.path).cmp(&(a.level, &b.rule, &b.path)));
    findings
}

/// What makes two findings the same, also where something was put before it in a list.
fn key(finding: &Finding) -> (String, String, String) {
    let mut in_brackets = false;
    let path = finding.path.chars().filter(|&c| {
        in_brackets = c == '[' || (in_brackets && c != ']');
        !in_brackets
    });
    (finding.rule.clone(), path.collect(), finding.message.clone())
}

fn told(finding: &Finding) -> String {
    let Finding { rule, path, message, fix, .. } = finding;
    let place = if path.is_empty() { String::new() } else { format!("{path}: ") };
    let fix = if fix.is_empty() { String::new() } else { format!(" ({fix})") };
    format!("{rule}: {place}{message}{fix}")
}

/// At most as long as the API server shows, with three dots where something is missing.
fn cut(text: &str) -> String {
    if text.chars().count() <= LONGEST_WARNING {
        return text.to_owned();
    }
    let kept: String = text.chars().take(LONGEST_WARNING - 1).collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use trainyard_rules::Profile;

    use super::*;

    fn pod(gpus: &str, image: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a", "managedFields": [{"manager": "x"}]},
            "spec": {"containers": [{
                "name": "main", "image": image,
                "resources": {"limits": {"nvidia.com/gpu": gpus, "cpu": "4", "memory": "8Gi"}},
            }]},
        })
    }

    fn answer(mode: Mode, object: &Value, old: &Value) -> (Value, Outcome) {
        let review = json!({"request": {"uid": "u", "object": object, "oldObject": old}});
        let linter = Alone::new(Profile::Generic, None);
        let (review, outcome) = review_of(&review, mode, &linter);
        assert_eq!(review["kind"], "AdmissionReview");
        assert_eq!(review["response"]["uid"], "u");
        (review["response"].clone(), outcome)
    }

    fn review_of(review: &Value, mode: Mode, linter: &Alone) -> (Value, Outcome) {
        super::review(review.to_string().as_bytes(), mode, linter).expect("a review")
    }

    #[test]
    fn half_a_gpu_is_warned_of_or_refused() {
        let bad = pod("0.5", "a:1@sha256:0");
        let (response, outcome) = answer(Mode::Audit, &bad, &Value::Null);
        assert_eq!((&response["allowed"], outcome), (&json!(true), Outcome::Warned));
        let warned = response["warnings"].to_string();
        assert!(warned.contains("GPU03: spec.containers[0]"), "{warned}");
        assert!(response["auditAnnotations"]["findings"].to_string().contains("GPU03"));

        let (response, outcome) = answer(Mode::Enforce, &bad, &Value::Null);
        assert_eq!((&response["allowed"], outcome), (&json!(false), Outcome::Denied));
        assert!(response["status"]["message"].to_string().contains("GPU03"), "{response}");
        assert_eq!(response["status"]["code"], 422);
    }

    #[test]
    fn what_was_wrong_before_can_be_changed() {
        let bad = pod("0.5", "a:1@sha256:0");
        let mut labelled = bad.clone();
        labelled["metadata"]["labels"] = json!({"a": "b"});
        let (response, outcome) = answer(Mode::Enforce, &labelled, &bad);
        assert_eq!((&response["allowed"], outcome), (&json!(true), Outcome::Warned));
        let mut longer = bad.clone();
        let containers = longer["spec"]["containers"].as_array_mut().expect("containers");
        containers.insert(0, json!({"name": "first", "image": "b:1@sha256:0"}));
        let (response, _) = answer(Mode::Enforce, &longer, &bad);
        assert_eq!(response["allowed"], true, "{response}");
        let (response, _) = answer(Mode::Enforce, &bad, &pod("1", "a:1@sha256:0"));
        assert_eq!(response["allowed"], false);
    }

    #[test]
    fn what_is_ignored_with_a_reason_passes() {
        let mut bad = pod("0.5", "a:1@sha256:0");
        bad["metadata"]["annotations"] = json!({"trainyard.dev/ignore-gpu03": "a test"});
        assert_eq!(answer(Mode::Enforce, &bad, &Value::Null).0["allowed"], true);
    }

    #[test]
    fn deletions_and_nonsense() {
        let (response, outcome) = answer(Mode::Enforce, &Value::Null, &Value::Null);
        assert_eq!((&response["allowed"], outcome), (&json!(true), Outcome::Clean));
        let linter = Alone::new(Profile::Generic, None);
        for body in ["", "{}", "[]", "{\"request\": {}}", "\u{0}"] {
            assert!(super::review(body.as_bytes(), Mode::Audit, &linter).is_err(), "{body}");
        }
        let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
        let body = format!("{{\"request\": {{\"uid\": \"u\", \"object\": {deep}}}}}");
        assert!(super::review(body.as_bytes(), Mode::Audit, &linter).is_err());
    }

    #[test]
    fn long_warnings_are_cut_between_characters() {
        let long = "ß".repeat(400);
        assert_eq!(cut(&long).chars().count(), LONGEST_WARNING);
        assert!(cut(&long).ends_with('…'));
        assert_eq!(cut("short"), "short");
    }
}
