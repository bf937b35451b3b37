//! Each fixture is a snapshot that one diagnosis explains: it must be found, with the object and
//! words that the fixture expects, and no other diagnosis may be.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use trainyard_diagnose::{Answer, Fix, Focus, Snapshot, diagnose, registry};

/// What a fixture says beside its snapshot.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    /// Objects as findings write them.
    object: String,
    /// Parts of the message.
    message: Vec<String>,
    /// Parts of a fix, if that matters.
    #[serde(default)]
    fix: Vec<String>,
    /// Others that are found too, and why that is right.
    #[serde(default)]
    beside: BTreeMap<String, String>,
}

struct Fixture {
    name: String,
    /// `D03`.
    diagnosis: String,
    expected: Expected,
    snapshot: Snapshot,
}

fn fixtures() -> Vec<Fixture> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let mut paths: Vec<_> =
        folder.read_dir().expect("there").map(|it| it.expect("readable").path()).collect();
    paths.sort();
    let fixtures = paths.iter().map(|path| {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(path).expect("text");
        let value: Value =
            serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let expected = serde_json::from_value(value["expect"].clone())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let snapshot =
            Snapshot::read(vec![value]).unwrap_or_else(|error| panic!("{name}: {error}"));
        let diagnosis = name.split('-').next().expect("an id").to_owned();
        Fixture { name, diagnosis, expected, snapshot }
    });
    fixtures.collect()
}

#[test]
fn each_is_found_and_nothing_else() {
    let mut wrong = Vec::new();
    // Diagnosis: fixtures of its own in which it is found, and others'.
    let mut table: BTreeMap<&str, (usize, usize, usize)> = BTreeMap::new();
    let fixtures = fixtures();
    for fixture in &fixtures {
        let Fixture { name, diagnosis, expected, snapshot } = fixture;
        let answer = diagnose(snapshot, &Focus::default());
        let hit = answer.findings.iter().find(|it| {
            it.diagnosis == diagnosis
                && it.object.to_string() == expected.object
                && expected.message.iter().all(|part| it.message.contains(part))
                && expected
                    .fix
                    .iter()
                    .all(|part| it.fix.iter().any(|fix| fix.to_string().contains(part)))
        });
        match hit {
            None => wrong.push(format!("{name}: not found; found:\n{}", told(&answer))),
            Some(hit) if hit.evidence.is_empty() => wrong.push(format!("{name}: no evidence")),
            Some(hit) if hit.fix.is_empty() => wrong.push(format!("{name}: no fix")),
            Some(_) => {}
        }
        let own = table.entry(registry::find(diagnosis).expect("known").id).or_default();
        own.0 += 1;
        own.1 += usize::from(hit.is_some());
        let ids: BTreeSet<&str> = answer.findings.iter().map(|it| it.diagnosis).collect();
        for other in ids.into_iter().filter(|it| it != diagnosis) {
            if !expected.beside.contains_key(other) {
                table.entry(other).or_default().2 += 1;
                wrong.push(format!("{name}: {other} too:\n{}", told(&answer)));
            }
        }
        for other in expected.beside.keys() {
            if !answer.findings.iter().any(|it| it.diagnosis == other) {
                wrong.push(format!("{name}: {other} is expected beside it and not found"));
            }
        }
    }
    println!("diagnosis  fixtures  found  false  precision");
    for (id, (own, found, false_alarms)) in &table {
        let all = found + false_alarms;
        let precision = if all == 0 { 0.0 } else { *found as f64 / all as f64 };
        println!("{id:9}  {own:8}  {found:5}  {false_alarms:5}  {precision:.2}");
    }
    let missing: Vec<&str> =
        registry::all().iter().map(|it| it.id).filter(|id| !table.contains_key(id)).collect();
    assert!(missing.is_empty(), "no fixture for {missing:?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn told(answer: &Answer) -> String {
    let lines = answer.findings.iter().map(|it| {
        let fixes: Vec<String> = it.fix.iter().map(Fix::to_string).collect();
        format!("    {} {}: {} | {}", it.diagnosis, it.object, it.message, fixes.join(" | "))
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// What a whole answer looks like, for one fixture of each step.
#[test]
fn answers_in_full() {
    for name in
        ["D03-gpu-taint", "D06-split", "D18-no-such-tag", "D23-startup-probe", "D48-one-of-eight"]
    {
        let fixture = fixtures().into_iter().find(|it| it.name == name).expect(name);
        let answer = diagnose(&fixture.snapshot, &Focus::default());
        let text = serde_json::to_string_pretty(&answer.findings).expect("it is JSON");
        insta::assert_snapshot!(name, text);
    }
}

/// A check that could not run says so.
#[test]
fn what_was_not_read_is_unknown() {
    use trainyard_diagnose::Unread;
    let mut snapshot =
        fixtures().into_iter().find(|it| it.name == "D03-gpu-taint").expect("there").snapshot;
    snapshot.unread.push(Unread {
        what: "logs".into(),
        reason: "forbidden".into(),
        not_asked: false,
    });
    let answer = diagnose(&snapshot, &Focus::default());
    let unknown = answer.unknown.iter().find(|it| it.diagnosis == "D25").expect("needs logs");
    assert_eq!(unknown.reason, "logs: forbidden");
    assert!(!answer.unknown.iter().any(|it| it.diagnosis == "D43"), "D43 needs no logs");
}

/// A target finds what belongs to it, and nothing of others.
#[test]
fn a_focus_leaves_others_out() {
    let fixture = fixtures().into_iter().find(|it| it.name == "D03-gpu-taint").expect("there");
    let of = |namespace: Option<&str>, target: Option<&str>| {
        let focus = Focus {
            namespace: namespace.map(str::to_owned),
            target: target.map(|it| it.parse().expect("a target")),
        };
        diagnose(&fixture.snapshot, &focus).findings.len()
    };
    assert_eq!(of(None, None), 1);
    assert_eq!(of(Some("models"), None), 1);
    assert_eq!(of(Some("other"), None), 0);
    assert_eq!(of(Some("models"), Some("deploy/llm")), 1);
    assert_eq!(of(None, Some("llm")), 1);
    assert_eq!(of(None, Some("pod/other")), 0);
}
