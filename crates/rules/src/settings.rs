//! What people choose: which rules run, how bad their findings are, and for which clusters.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::custom::CustomRule;
use crate::model::glob;
use crate::registry;
use crate::rule::Level;

/// The kind of cluster that manifests are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    #[default]
    Generic,
    Eks,
    Gke,
    Aks,
}

impl Profile {
    pub const ALL: [Self; 4] = [Self::Generic, Self::Eks, Self::Gke, Self::Aks];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Generic => "generic",
            Self::Eks => "eks",
            Self::Gke => "gke",
            Self::Aks => "aks",
        }
    }
}

/// Settings of a run. In a file: `.trainyard-lint.yaml`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// The kind of cluster.
    pub profile: Option<Profile>,
    /// Rules (`GPU07`) and groups (`GPU`) to run; all if empty.
    pub include: Vec<String>,
    /// Rules and groups to leave out.
    pub exclude: Vec<String>,
    /// Other levels than the rules' own, by rule or group; a rule's own entry wins.
    pub levels: BTreeMap<String, Level>,
    /// Globs of paths that are not read, from the folder of the settings file.
    pub ignore_paths: Vec<String>,
    /// Rules of one's own, in CEL.
    pub rules: Vec<CustomRule>,
}

impl Settings {
    /// Whether a rule runs.
    #[must_use]
    pub fn runs(&self, id: &str) -> bool {
        let named = |list: &[String]| list.iter().any(|name| names(name, id));
        (self.include.is_empty() || named(&self.include)) && !named(&self.exclude)
    }

    /// The level of a rule's findings.
    #[must_use]
    pub fn level(&self, id: &str, own: Level) -> Level {
        let exact = self.levels.iter().find(|(name, _)| name.eq_ignore_ascii_case(id));
        let group = || self.levels.iter().find(|(name, _)| names(name, id));
        exact.or_else(group).map_or(own, |(_, level)| *level)
    }

    /// Names in these settings that are neither a rule nor a group.
    #[must_use]
    pub fn unknown_names(&self) -> Vec<String> {
        let own = || self.rules.iter().map(|rule| rule.id.as_str());
        let known = |name: &str| {
            registry::all().iter().any(|rule| names(name, rule.id))
                || own().any(|id| names(name, id))
        };
        let all = self.include.iter().chain(&self.exclude).chain(self.levels.keys());
        all.filter(|name| !known(name)).cloned().collect()
    }

    /// Whether a path (from the settings file's folder) is left out.
    #[must_use]
    pub fn ignores(&self, path: &str) -> bool {
        self.ignore_paths.iter().any(|pattern| {
            let folder = pattern.trim_end_matches('/');
            glob(pattern, path) || glob(&format!("{folder}/*"), path)
        })
    }
}

/// Whether a name means a rule: its identifier, or its group's letters. Case does not matter.
pub(crate) fn names(name: &str, id: &str) -> bool {
    let group = id.trim_end_matches(|c: char| c.is_ascii_digit());
    name.eq_ignore_ascii_case(id) || name.eq_ignore_ascii_case(group)
}

#[test]
fn rules_are_chosen_by_identifier_or_group() {
    let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let all = Settings::default();
    assert!(all.runs("GPU07"));
    let some = Settings { include: list(&["gpu"]), exclude: list(&["GPU08"]), ..all.clone() };
    assert!(some.runs("GPU07") && !some.runs("GPU08") && !some.runs("SRV01"));
    let levels =
        BTreeMap::from([("GPU".to_owned(), Level::Hygiene), ("gpu07".to_owned(), Level::Error)]);
    let levels = Settings { levels, ..all };
    assert_eq!(levels.level("GPU07", Level::Warning), Level::Error);
    assert_eq!(levels.level("GPU08", Level::Warning), Level::Hygiene);
    assert_eq!(levels.level("SRV01", Level::Warning), Level::Warning);
    let odd = Settings { include: list(&["gpu", "XYZ"]), ..Settings::default() };
    assert_eq!(odd.unknown_names(), ["XYZ"]);
    let paths = Settings { ignore_paths: list(&["vendor/", "*.gen.yaml"]), ..Settings::default() };
    assert!(paths.ignores("vendor/a/b.yaml") && paths.ignores("x/a.gen.yaml"));
    assert!(!paths.ignores("a/vendored.yaml"));
}
