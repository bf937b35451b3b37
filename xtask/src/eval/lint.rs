//! `cargo xtask eval lint`: precision of each rule by hand-made labels, and recall of planted
//! mistakes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use trainyard_rules::{Documents, Level, Rule, Settings, Source, lint, registry};

use super::labels::{self, Key};
use super::mutation::{Notation, rewrite};
use crate::{bundle, paths};

/// Files of the corpus into which each example is planted, beside a generated bundle.
const HOSTS: usize = 6;
/// Least share of planted mistakes that a rule finds.
const RECALL: f64 = 0.95;

#[derive(Args)]
pub(crate) struct Lint {
    /// The folder with `manifests` and `plain`; relative to the repository
    #[arg(long, default_value = "../shared/corpus")]
    corpus: PathBuf,
    /// Rules and groups to look at; all if none is named
    rules: Vec<String>,
    /// Also list findings without a label, in the format of the label files
    #[arg(long)]
    unlabelled: bool,
    /// Also list the planted mistakes that were not found
    #[arg(long)]
    missed: bool,
}

/// Counts of one rule.
#[derive(Default)]
struct Counts {
    findings: usize,
    right: usize,
    wrong: usize,
    planted: usize,
    found: usize,
}

impl Lint {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let corpus = paths::root().join(&self.corpus);
        let settings = Settings { include: self.rules.clone(), ..Settings::default() };
        let labels = labels::read()?;
        let mut counts: BTreeMap<&str, Counts> = BTreeMap::new();
        for rule in registry::all().iter().filter(|rule| settings.runs(rule.id)) {
            counts.insert(rule.id, Counts::default());
        }
        let mut seen = BTreeSet::new();
        let mut hosts: Vec<(Source, BTreeSet<String>)> = Vec::new();
        for part in ["manifests", "plain"] {
            let sources = read(&corpus, part)?;
            let texts: BTreeMap<String, Source> =
                sources.iter().map(|source| (source.name.clone(), source.clone())).collect();
            let documents = Documents::read(sources);
            let mut by_file: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
            for finding in lint(&documents, &settings) {
                by_file.entry(finding.file.clone()).or_default().insert(finding.rule.clone());
                let Some(count) = counts.get_mut(finding.rule.as_str()) else { continue };
                count.findings += 1;
                let key = Key { rule: finding.rule, path: finding.file, line: finding.line };
                match labels.get(&key) {
                    Some(true) => count.right += 1,
                    Some(false) => count.wrong += 1,
                    None if self.unlabelled => println!(
                        "{}\t{}\t{}\t{}\t?\t{}",
                        key.rule, key.path, key.line, finding.object, finding.message
                    ),
                    None => {}
                }
                seen.insert(key);
            }
            let broken: BTreeSet<&str> =
                documents.errors.iter().map(|error| error.file.as_str()).collect();
            hosts.extend(
                texts
                    .into_iter()
                    .filter(|(name, _)| !broken.contains(name.as_str()))
                    .map(|(name, source)| (source, by_file.remove(&name).unwrap_or_default())),
            );
        }
        let lost: Vec<&Key> = labels
            .iter()
            .filter(|(key, right)| {
                **right && counts.contains_key(key.rule.as_str()) && !seen.contains(*key)
            })
            .map(|(key, _)| key)
            .collect();
        for rule in registry::all().iter().filter(|rule| settings.runs(rule.id)) {
            let count = counts.entry(rule.id).or_default();
            (count.planted, count.found) = plant(rule, &hosts, self.missed);
        }
        let bad = print(&counts);
        for key in &lost {
            println!(
                "no longer found, though it was called right: {} {}:{}",
                key.rule, key.path, key.line
            );
        }
        if !bad.is_empty() {
            bail!("below the goal: {}", bad.join(", "));
        }
        Ok(())
    }
}

/// Prints the table; answers the rules that miss a goal.
fn print(counts: &BTreeMap<&str, Counts>) -> Vec<String> {
    println!("| rule | level | findings | labelled | precision | planted | recall |");
    println!("|---|---|---|---|---|---|---|");
    let mut bad = Vec::new();
    let mut unlabelled = 0;
    for (id, count) in counts {
        let Some(rule) = registry::find(id) else { continue };
        let labelled = count.right + count.wrong;
        unlabelled += count.findings - labelled;
        let share = |part: usize, all: usize| part as f64 / all as f64;
        let precision = share(count.right, labelled);
        let recall = share(count.found, count.planted);
        let goal = match rule.level {
            Level::Error => 0.95,
            Level::Warning | Level::Hygiene => 0.90,
        };
        let shown = if labelled > 0 { format!("{precision:.2}") } else { "–".to_owned() };
        println!(
            "| {id} | {} | {} | {labelled} | {shown} | {} | {recall:.2} |",
            rule.level.name(),
            count.findings,
            count.planted
        );
        if labelled > 0 && precision < goal {
            bad.push(format!("{id} (precision {precision:.2})"));
        }
        if count.planted > 0 && recall < RECALL {
            bad.push(format!("{id} (recall {recall:.2})"));
        }
    }
    println!("\n{unlabelled} findings without a label");
    bad
}

/// Whether what is planted is no mistake in this file. A metric that servers have given up is there
/// where the file runs a server that may be older; which it is, is for the rule to say, not for us.
fn excuses(rule: &Rule, host: &Source) -> bool {
    rule.id == "SCL09" && host.text.contains("/vllm-openai:")
}

/// Plants a rule's examples into files in which it finds nothing: `(planted, found)`.
fn plant(rule: &Rule, hosts: &[(Source, BTreeSet<String>)], show_missed: bool) -> (usize, usize) {
    let settings = |profile| Settings {
        profile: Some(profile),
        include: vec![rule.id.to_owned()],
        ..Settings::default()
    };
    let clean: Vec<&Source> = hosts
        .iter()
        .filter(|(source, rules)| !rules.contains(rule.id) && source.text.contains("\n---"))
        .map(|(source, _)| source)
        .filter(|host| !excuses(rule, host))
        .collect();
    let generated = Source {
        name: "generated/bundle.yaml".to_owned(),
        text: bundle::generate(100, bundle::Shape::Teams),
    };
    let (mut planted, mut found) = (0, 0);
    for (at, example) in rule.examples.iter().enumerate().filter(|(_, it)| !it.lines.is_empty()) {
        // Spread over the corpus, other files for each rule and example.
        let start = (rule.id.bytes().map(usize::from).sum::<usize>() + 7 * at) * 31;
        let chosen = (0..HOSTS)
            .filter_map(|n| clean.get((start + n * clean.len() / HOSTS) % clean.len().max(1)));
        let generated = Some(&generated).filter(|host| !excuses(rule, host));
        for (number, host) in chosen.copied().chain(generated).enumerate() {
            for notation in [Notation::Block, Notation::Json] {
                let Some(text) = rewrite(example.manifest, number, notation) else { continue };
                let count = |text: String| {
                    let source = Source { name: host.name.clone(), text };
                    let documents = Documents::read(vec![source]);
                    let lines = lint(&documents, &settings(example.profile));
                    lines.iter().filter(|finding| finding.rule == rule.id).count()
                };
                let before = count(host.text.clone());
                let after = count(format!("{}\n---\n{text}\n", host.text.trim_end()));
                let new = after.saturating_sub(before).min(example.lines.len());
                planted += example.lines.len();
                found += new;
                if show_missed && new < example.lines.len() {
                    println!("missed: {} {:?} in {}", rule.id, example.name, host.name);
                }
            }
        }
    }
    (planted, found)
}

/// The files of a part of the corpus, with names from the corpus' folder.
fn read(corpus: &Path, part: &str) -> anyhow::Result<Vec<Source>> {
    let mut files = Vec::new();
    let mut folders = vec![corpus.join(part)];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).with_context(|| {
            format!("cannot read {}; --corpus says where it is", folder.display())
        })?;
        for entry in entries {
            let path = entry?.path();
            let is_manifest =
                path.extension().is_some_and(|it| it == "yaml" || it == "yml" || it == "json");
            if path.is_dir() {
                folders.push(path);
            } else if is_manifest {
                files.push(path);
            }
        }
    }
    files.sort();
    files
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(corpus).unwrap_or(&path).display().to_string();
            let bytes = fs::read(&path)?;
            Source::from_bytes(&name, bytes).map_err(|error| anyhow::anyhow!("{name}: {error}"))
        })
        .collect()
}
