//! Rules of one's own, in CEL, from the settings file.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::context::Context;
use crate::registry;
use crate::report::Draft;
use crate::rule::Level;
use crate::settings::Settings;
use crate::yaml::Node;

/// A rule that people write for themselves: an expression that must hold.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Written")]
pub struct CustomRule {
    /// Capital letters and a number, and no built-in rule's.
    pub id: String,
    pub level: Level,
    /// Kinds of objects that it looks at; all if empty.
    kinds: Vec<String>,
    each: Each,
    program: Program,
    message: String,
    fix: String,
}

/// What an expression is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Each {
    /// Each object: `object`.
    #[default]
    Object,
    /// Each pod template: `object` and `pod`, the PodSpec.
    Pod,
    /// Each container: `object`, `pod` and `container`.
    Container,
}

#[derive(Clone)]
struct Program(Arc<cel::Program>);

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Program")
    }
}

/// A rule as it stands in the file.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    id: String,
    #[serde(default = "warning")]
    level: Level,
    #[serde(default)]
    kinds: Vec<String>,
    #[serde(default)]
    each: Each,
    expression: String,
    message: String,
    #[serde(default)]
    fix: String,
}

fn warning() -> Level {
    Level::Warning
}

/// Why a rule cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CustomRuleError {
    #[error("the id `{0}` is not capital letters and a number, such as `ORG01`")]
    Id(String),
    #[error("the id `{0}` is a built-in rule's, or in a built-in group")]
    Taken(String),
    #[error("the expression of `{id}` is not CEL: {problem}")]
    Expression { id: String, problem: String },
}

impl TryFrom<Written> for CustomRule {
    type Error = CustomRuleError;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let id = written.id;
        let letters = id.trim_end_matches(|c: char| c.is_ascii_digit());
        let is_letters = letters.bytes().all(|b| b.is_ascii_uppercase());
        if letters.is_empty() || letters.len() == id.len() || !is_letters {
            return Err(CustomRuleError::Id(id));
        }
        if letters == "LINT" || registry::all().iter().any(|rule| rule.group() == letters) {
            return Err(CustomRuleError::Taken(id));
        }
        let program = match cel::Program::compile(&written.expression) {
            Ok(program) => Program(Arc::new(program)),
            Err(error) => {
                return Err(CustomRuleError::Expression { id, problem: error.to_string() });
            }
        };
        Ok(Self {
            id,
            level: written.level,
            kinds: written.kinds,
            each: written.each,
            program,
            message: written.message,
            fix: written.fix,
        })
    }
}

impl CustomRule {
    fn wants(&self, kind: &str) -> bool {
        self.kinds.is_empty() || self.kinds.iter().any(|wanted| wanted == kind)
    }

    /// Whether the expression holds; the words to add where it could not be evaluated.
    fn holds(&self, variables: &[(&str, &Value)]) -> Result<bool, String> {
        let mut context = cel::Context::default();
        for (name, value) in variables {
            context.add_variable(*name, *value).map_err(|error| error.to_string())?;
        }
        match self.program.0.execute(&context) {
            Ok(cel::Value::Bool(holds)) => Ok(holds),
            Ok(_) => Err("it is neither true nor false".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn tell(
        &self,
        node: Node<'_>,
        pod: Option<usize>,
        answer: Result<bool, String>,
    ) -> Option<Draft> {
        let message = match answer {
            Ok(true) => return None,
            Ok(false) => self.message.clone(),
            Err(problem) => {
                format!("{} (the expression could not be evaluated: {problem})", self.message)
            }
        };
        Some(Draft {
            rule: self.id.clone().into(),
            file: node.file().index,
            span: node.place(),
            path: node.path_text(),
            message,
            fix: self.fix.clone(),
            edits: Vec::new(),
            pod,
            level: Some(self.level),
        })
    }
}

/// Runs the rules of the settings.
pub(crate) fn run(context: &Context<'_>, settings: &Settings) -> Vec<Draft> {
    let rules: Vec<&CustomRule> =
        settings.rules.iter().filter(|rule| settings.runs(&rule.id)).collect();
    let mut drafts = Vec::new();
    if rules.is_empty() {
        return drafts;
    }
    for object in &context.bundle.objects {
        let rules: Vec<&&CustomRule> =
            rules.iter().filter(|rule| rule.wants(object.kind)).collect();
        if rules.is_empty() {
            continue;
        }
        let whole = json(object.root);
        for rule in rules.iter().filter(|rule| rule.each == Each::Object) {
            let answer = rule.holds(&[("object", &whole)]);
            drafts.extend(rule.tell(object.metadata().get("name"), None, answer));
        }
        if rules.iter().all(|rule| rule.each == Each::Object) {
            continue;
        }
        for pod in context.bundle.pods_of(object) {
            let spec = json(pod.spec);
            for rule in rules.iter().filter(|rule| rule.each == Each::Pod) {
                let answer = rule.holds(&[("object", &whole), ("pod", &spec)]);
                drafts.extend(rule.tell(pod.spec.get("\0"), Some(pod.index), answer));
            }
            for rule in rules.iter().filter(|rule| rule.each == Each::Container) {
                for container in &pod.containers {
                    let own = json(container.node);
                    let answer =
                        rule.holds(&[("object", &whole), ("pod", &spec), ("container", &own)]);
                    drafts.extend(rule.tell(container.node, Some(pod.index), answer));
                }
            }
        }
    }
    drafts
}

/// A node as JSON, scalars as Kubernetes' loader reads them.
fn json(node: Node<'_>) -> Value {
    if node.is_map() {
        let entries = node.entries().map(|entry| (entry.key.to_owned(), json(entry.value)));
        return Value::Object(entries.collect::<Map<_, _>>());
    }
    if node.is_list() {
        return Value::Array(node.items().map(json).collect());
    }
    let Some(text) = node.text() else { return Value::Null };
    if node.is_quoted() {
        return Value::String(text.to_owned());
    }
    if let Some(value) = node.bool() {
        return Value::Bool(value);
    }
    if let Some(value) = node.int() {
        return Value::from(value);
    }
    let is_number = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
    match text.parse::<f64>() {
        Ok(value) if is_number && value.is_finite() => Value::from(value),
        _ => Value::String(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::{Documents, Source};

    fn settings(rule: Value) -> Result<Settings, serde_json::Error> {
        serde_json::from_value(serde_json::json!({"rules": [rule], "include": ["ORG"]}))
    }

    #[track_caller]
    fn check(rule: Value, text: &str, expected: &[(usize, &str)]) {
        let settings = settings(rule).unwrap();
        let documents = Documents::read(vec![Source { name: "a".into(), text: text.into() }]);
        let found = crate::lint(&documents, &settings);
        let found: Vec<(usize, &str)> =
            found.iter().map(|finding| (finding.line, finding.message.as_str())).collect();
        assert_eq!(found, expected);
    }

    const POD: &str = "\
apiVersion: v1
kind: Pod
metadata:
  name: a
spec:
  containers:
    - name: main
      image: docker.io/a:1
";

    #[test]
    fn expressions_must_hold() {
        let rule = serde_json::json!({
            "id": "ORG01", "kinds": ["Pod"], "message": "no team",
            "expression": "has(object.metadata.labels) && has(object.metadata.labels.team)",
        });
        check(rule.clone(), POD, &[(4, "no team")]);
        check(rule, &POD.replace("name: a\n", "name: a\n  labels: {team: x}\n"), &[]);
        let rule = serde_json::json!({
            "id": "ORG02", "each": "container", "message": "not ours",
            "expression": "container.image.startsWith('registry.example.com/')",
        });
        check(rule.clone(), POD, &[(7, "not ours")]);
        check(rule.clone(), &POD.replace("docker.io", "registry.example.com"), &[]);
        let silenced = POD.replace(
            "  name: a\n",
            "  name: a\n  annotations: {trainyard.dev/ignore-org02: ours}\n",
        );
        check(rule, &silenced, &[]);
    }

    #[test]
    fn what_cannot_be_evaluated_is_told() {
        let rule = serde_json::json!({
            "id": "ORG01", "message": "no team", "expression": "object.metadata.labels.team == 'x'",
        });
        let settings = settings(rule).unwrap();
        let documents = Documents::read(vec![Source { name: "a".into(), text: POD.into() }]);
        let found = crate::lint(&documents, &settings);
        assert!(found[0].message.contains("could not be evaluated"), "{}", found[0].message);
    }

    #[test]
    fn rules_that_cannot_be_used_are_refused() {
        for (id, expression, part) in [
            ("org", "true", "not capital letters"),
            ("GPU99", "true", "built-in"),
            ("ORG01", "1 +", "not CEL"),
        ] {
            let rule = serde_json::json!({"id": id, "expression": expression, "message": "m"});
            let error = settings(rule).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
