//! A typical first attempt at serving a model on GPUs: all that is wrong with it, and nothing else.

use trainyard_rules::{Documents, Profile, Settings, Source, lint, registry};

/// Rules that must report in the sample, and in which line.
const EXPECTED: [(&str, usize); 16] = [
    ("GPU04", 53),
    ("GPU07", 37),
    ("GPU08", 47),
    ("GPU18", 16),
    ("NET01", 94),
    ("NET03", 85),
    ("SCL01", 73),
    ("SCL02", 77),
    ("SCL05", 23),
    ("SCL08", 63),
    ("SEC01", 108),
    ("SEC03", 111),
    ("SRV03", 39),
    ("SRV06", 27),
    ("SRV10", 21),
    ("SRV16", 40),
];

/// What holds for the sample as for nearly every first attempt; the sample's own list has no word
/// on it.
fn is_said_of_everything(id: &str) -> bool {
    matches!(id, "CST02" | "OBS01" | "SEC09" | "SRV11")
}

fn rules_that_report(profile: Profile) -> Vec<(String, usize)> {
    let text = include_str!("sample/manifests.yaml").to_owned();
    let documents = Documents::read(vec![Source { name: "manifests.yaml".into(), text }]);
    assert!(documents.errors.is_empty(), "{:?}", documents.errors);
    let settings = Settings { profile: Some(profile), ..Settings::default() };
    let found = lint(&documents, &settings);
    found.into_iter().map(|finding| (finding.rule, finding.line)).collect()
}

fn is_registered(id: &str) -> bool {
    registry::find(id).is_some()
}

#[test]
fn what_the_sample_lists_is_found_and_nothing_else() {
    let found = rules_that_report(Profile::Generic);
    let mut wrong = Vec::new();
    for (id, line) in EXPECTED.iter().filter(|(id, _)| is_registered(id)) {
        if !found.iter().any(|(rule, at)| rule == id && at == line) {
            wrong.push(format!("{id} does not report at line {line}"));
        }
    }
    for (id, line) in &found {
        if !is_said_of_everything(id) && !EXPECTED.contains(&(id.as_str(), *line)) {
            wrong.push(format!("{id} reports at line {line}"));
        }
    }
    assert!(wrong.is_empty(), "{}\nfound: {found:?}", wrong.join("\n"));
}

#[test]
fn gke_adds_tolerations_by_itself() {
    let found = rules_that_report(Profile::Gke);
    assert!(found.iter().all(|(rule, _)| rule != "GPU08"), "{found:?}");
}
