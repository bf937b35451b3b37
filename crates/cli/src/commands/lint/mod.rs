//! `trainyard lint`: what is wrong with manifests, before a cluster sees them.

mod baseline;
mod cluster;
mod configuration;
mod explain;
mod fix;
mod github;
mod human;
mod json;
mod lsp;
mod markdown;
mod own;
mod sarif;
mod sources;
mod watch;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use miette::miette;
use trainyard_rules::{
    Documents, Finding, Level, Profile, ReadError, Rule, Settings, admission, registry,
};

use self::configuration::Configuration;
use crate::failure::failure;
use crate::print::print;

/// Check manifests for mistakes before they reach a cluster
///
/// Exit code 0: nothing at or above --fail-on. 1: findings. 2: something could not be read or run.
#[derive(Args, Clone)]
pub(crate) struct Lint {
    /// Files or folders to check; `-` reads standard input
    #[arg(value_name = "PATH", default_value = ".")]
    paths: Vec<PathBuf>,
    /// The kind of cluster that manifests are for [default: generic, or what the settings say]
    #[arg(long, value_enum)]
    profile: Option<ProfileName>,
    /// How to print findings
    #[arg(long, value_enum, default_value_t, env = "TRAINYARD_LINT_FORMAT")]
    format: Format,
    /// Tell all about a rule, or list the rules with `all`
    #[arg(long, value_name = "RULE")]
    explain: Option<String>,
    /// Mend what can be mended safely, keeping comments and layout
    #[arg(long)]
    fix: bool,
    /// Print what --fix would change, and change nothing
    #[arg(long)]
    diff: bool,
    /// Leave out findings that are in this file
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Write all findings of now into this file, and end
    #[arg(long, value_name = "FILE", conflicts_with_all = ["baseline", "fix", "diff", "watch"])]
    write_baseline: Option<PathBuf>,
    /// Check again whenever a file changes, until Ctrl-C
    #[arg(long, conflicts_with_all = ["fix", "diff"])]
    watch: bool,
    /// Serve an editor: the Language Server Protocol on standard input and output
    #[arg(long, conflicts_with_all = ["fix", "diff", "watch", "write_baseline", "explain"])]
    lsp: bool,
    /// Print ValidatingAdmissionPolicies for the rules that the API server can check by itself
    #[arg(long, conflicts_with_all = ["fix", "diff", "watch", "write_baseline", "baseline", "explain", "lsp"])]
    emit_policy: bool,
    /// Check what is in the cluster of the current context; reads only, and Secrets never
    #[arg(long, conflicts_with_all = ["paths", "fix", "diff", "watch", "explain", "lsp", "emit_policy"])]
    cluster: bool,
    /// Cluster of this context of the kubeconfig [default: the current one]
    #[arg(long, value_name = "NAME", requires = "cluster")]
    context: Option<String>,
    /// Kubeconfig [default: KUBECONFIG, or ~/.kube/config]
    #[arg(long, value_name = "FILE", requires = "cluster")]
    kubeconfig: Option<PathBuf>,
    /// Tell what is found in this namespace only [default: all]
    #[arg(short, long, value_name = "NAMESPACE", requires = "cluster")]
    namespace: Option<String>,
    /// Settings [default: .trainyard-lint.yaml here or in a folder above]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Run these rules or groups only, such as GPU or SRV01
    #[arg(long, value_name = "RULE", value_delimiter = ',')]
    rules: Vec<String>,
    /// Leave these rules or groups out
    #[arg(long, value_name = "RULE", value_delimiter = ',')]
    skip: Vec<String>,
    /// The lowest level that makes the exit code 1
    #[arg(long, value_enum, default_value_t)]
    fail_on: FailOn,
}

#[derive(Clone, Copy, ValueEnum)]
enum ProfileName {
    Generic,
    Eks,
    Gke,
    Aks,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// With the lines of the text, for people
    #[default]
    Human,
    Json,
    /// SARIF 2.1.0, for code scanning
    Sarif,
    /// Annotations of GitHub Actions
    Github,
    Markdown,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum FailOn {
    Error,
    #[default]
    Warning,
    Hygiene,
}

/// What one run found.
struct Outcome {
    documents: Documents,
    findings: Vec<Finding>,
    /// Files that could not be opened, and documents that could not be read.
    errors: Vec<ReadError>,
}

impl Lint {
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        if let Some(name) = &self.explain {
            return explain::explain(name);
        }
        if self.lsp {
            return lsp::serve(&self);
        }
        let configuration = Configuration::load(self.config.as_deref(), None)?;
        let settings = self.settings(&configuration)?;
        if self.emit_policy {
            return self.print_policies(&settings);
        }
        if self.watch {
            return watch::watch(&self, &configuration, &settings);
        }
        let outcome = self.check(&configuration, &settings)?;
        if let Some(path) = &self.write_baseline {
            baseline::write(path, &outcome.findings)?;
            eprintln!("{} findings written to {}", outcome.findings.len(), path.display());
            return Ok(self.exit_code(&[], &outcome.errors));
        }
        if self.fix || self.diff {
            return fix::fix(&self, &settings, outcome);
        }
        self.report(&outcome)?;
        Ok(self.exit_code(&outcome.findings, &outcome.errors))
    }

    fn print_policies(&self, settings: &Settings) -> miette::Result<ExitCode> {
        let page = |rule: &Rule| page_address(rule.id).unwrap_or_default();
        let objects = admission::policies(settings, page);
        if objects.is_empty() {
            return Err(miette!(
                help = "each rule's page says whether it can be a policy",
                "none of the rules that were chosen can be checked by the API server alone"
            ));
        }
        print(crate::yaml::documents(objects)?.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }

    /// The settings of the file, with those of the command line over them.
    fn settings(&self, configuration: &Configuration) -> miette::Result<Settings> {
        let mut settings = configuration.settings.clone();
        if let Some(profile) = self.profile {
            settings.profile = Some(match profile {
                ProfileName::Generic => Profile::Generic,
                ProfileName::Eks => Profile::Eks,
                ProfileName::Gke => Profile::Gke,
                ProfileName::Aks => Profile::Aks,
            });
        }
        if !self.rules.is_empty() {
            settings.include.clone_from(&self.rules);
        }
        settings.exclude.extend(self.skip.iter().cloned());
        let unknown = settings.unknown_names();
        if let Some(name) = unknown.first() {
            return Err(miette!(
                help = "`trainyard lint --explain all` lists the rules",
                "there is no rule or group `{name}`"
            ));
        }
        Ok(settings)
    }

    /// Reads and checks everything once.
    fn check(&self, configuration: &Configuration, settings: &Settings) -> miette::Result<Outcome> {
        let (sources, mut errors) = if self.cluster {
            (cluster::read(self)?, Vec::new())
        } else {
            sources::read(&self.paths, configuration)?
        };
        let documents = Documents::read(sources);
        errors.extend(documents.errors.iter().cloned());
        if !self.cluster {
            errors.extend(own::problems(&documents));
        }
        let mut findings = trainyard_rules::lint(&documents, settings);
        if let Some(namespace) = &self.namespace {
            findings = cluster::within(namespace, findings);
        }
        if let Some(path) = &self.baseline {
            findings = baseline::leave_out(path, findings)?;
        }
        Ok(Outcome { documents, findings, errors })
    }

    fn report(&self, outcome: &Outcome) -> miette::Result<()> {
        let text = match self.format {
            Format::Human => {
                let colour = std::io::stdout().is_terminal()
                    && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
                human::render(&outcome.documents, &outcome.findings, &outcome.errors, colour)
            }
            Format::Json => json::render(&outcome.findings, &outcome.errors)?,
            Format::Sarif => sarif::render(&outcome.documents, &outcome.findings, &outcome.errors)?,
            Format::Github => github::render(&outcome.findings, &outcome.errors),
            Format::Markdown => markdown::render(&outcome.findings, &outcome.errors),
        };
        // Who reads data from standard output still sees what could not be read.
        if matches!(self.format, Format::Json | Format::Sarif) {
            for error in &outcome.errors {
                eprintln!("error: {error}");
            }
        }
        print(text.as_bytes())
    }

    fn exit_code(&self, findings: &[Finding], errors: &[ReadError]) -> ExitCode {
        let least = match self.fail_on {
            FailOn::Error => Level::Error,
            FailOn::Warning => Level::Warning,
            FailOn::Hygiene => Level::Hygiene,
        };
        if !errors.is_empty() {
            ExitCode::from(2)
        } else if findings.iter().any(|finding| finding.level >= least) {
            ExitCode::from(1)
        } else {
            ExitCode::SUCCESS
        }
    }
}

/// `1 error`, `2 warnings`.
fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 || what == "hygiene" { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// `1 error, 2 warnings, 3 hygiene`, of what there is.
fn summary(findings: &[Finding]) -> String {
    let levels = [Level::Error, Level::Warning, Level::Hygiene];
    let parts: Vec<String> = levels
        .into_iter()
        .map(|level| (findings.iter().filter(|f| f.level == level).count(), level))
        .filter(|(number, _)| *number > 0)
        .map(|(number, level)| count(number, level.name()))
        .collect();
    if parts.is_empty() { "nothing found".to_owned() } else { parts.join(", ") }
}

/// Where a built-in rule's page can be read.
pub(super) fn page_address(rule: &str) -> Option<String> {
    let rule = registry::find(rule)?;
    Some(format!("{}/blob/main/docs/rules/{}.md", env!("CARGO_PKG_REPOSITORY"), rule.id))
}

/// Reads a file that people named.
fn read_named(path: &std::path::Path) -> miette::Result<String> {
    std::fs::read_to_string(path)
        .map_err(|error| miette!("cannot read {}: {error}", path.display()))
}

fn to_json<T: serde::Serialize>(value: &T) -> miette::Result<String> {
    let mut text = serde_json::to_string_pretty(value).map_err(failure)?;
    text.push('\n');
    Ok(text)
}
