//! Every rule's examples are its tests.

use crate::edit::{Edit, apply};
use crate::registry;
use crate::rule::{Example, Rule};
use crate::settings::Settings;
use crate::yaml::{Documents, Source};
use crate::{Finding, lint};

fn findings(rule: &Rule, example: &Example, text: &str) -> Vec<Finding> {
    let source = Source { name: "example.yaml".into(), text: text.into() };
    let documents = Documents::read(vec![source]);
    let place = format!("{}, example `{}`", rule.id, example.name);
    assert!(documents.errors.is_empty(), "{place}: {:?}\n{text}", documents.errors);
    assert!(documents.roots().next().is_some(), "{place} holds no document");
    let settings = Settings {
        profile: Some(example.profile),
        include: vec![rule.id.to_owned()],
        ..Settings::default()
    };
    lint(&documents, &settings)
}

#[test]
fn rules_report_what_their_examples_say() {
    let mut wrong = Vec::new();
    for rule in registry::all() {
        for example in rule.examples {
            let found = findings(rule, example, example.manifest);
            let lines: Vec<usize> = found.iter().map(|finding| finding.line).collect();
            if lines != example.lines {
                let told: Vec<String> =
                    found.iter().map(|f| format!("  {}: {}", f.line, f.message)).collect();
                wrong.push(format!(
                    "{} `{}`: found at {lines:?}, not {:?}\n{}",
                    rule.id,
                    example.name,
                    example.lines,
                    told.join("\n")
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn fixes_leave_examples_clean() {
    let mut wrong = Vec::new();
    for rule in registry::all() {
        for example in rule.examples {
            let mut text = example.manifest.to_owned();
            let mut rounds = 0;
            loop {
                let found = findings(rule, example, &text);
                let groups: Vec<&[Edit]> = found
                    .iter()
                    .map(|finding| finding.edits.as_slice())
                    .filter(|edits| !edits.is_empty())
                    .collect();
                if groups.is_empty() {
                    break;
                }
                let source = Source { name: "example.yaml".into(), text: text.clone() };
                match apply(&source, &groups) {
                    Some(fixed) if rounds < 8 => text = fixed,
                    outcome => {
                        let name = example.name;
                        wrong.push(format!("{} `{name}`: {outcome:?} from\n{text}", rule.id));
                        break;
                    }
                }
                rounds += 1;
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn rules_are_told_in_full() {
    let mut identifiers: Vec<&str> = registry::all().iter().map(|rule| rule.id).collect();
    for rule in registry::all() {
        let id = rule.id;
        assert!(!rule.title().is_empty() && !rule.title().ends_with('.'), "{id}: title");
        assert!(rule.doc.contains("## What it does"), "{id} does not say what it does");
        assert!(rule.doc.contains("## Why it matters"), "{id} does not say why");
        assert!(rule.doc.contains("## How to fix it"), "{id} does not say how to fix it");
        assert!(!rule.evidence.is_empty(), "{id} has no evidence");
        assert!(rule.examples.iter().any(|e| !e.lines.is_empty()), "{id}: no example that fails");
        assert!(rule.examples.iter().any(|e| e.lines.is_empty()), "{id}: no example that passes");
        for example in rule.examples.iter().filter(|example| !example.lines.is_empty()) {
            for finding in findings(rule, example, example.manifest) {
                let message = &finding.message;
                // `GPUs wait` and `vLLM does` are fine, `The pod` is not.
                let mut letters = message.chars();
                let (first, second) = (letters.next(), letters.next());
                let sentence =
                    first.is_some_and(char::is_uppercase) && second.is_some_and(char::is_lowercase);
                assert!(!sentence, "{id}: {message}");
                assert!(!message.ends_with('.') && !finding.fix.ends_with('.'), "{id}: {message}");
                assert!(!finding.object.is_empty(), "{id}: no object");
            }
        }
    }
    identifiers.sort_unstable();
    let before = identifiers.len();
    identifiers.dedup();
    assert_eq!(before, identifiers.len(), "two rules share an identifier");
}
