//! What is known about clusters, labels and software, from `data/`: each file has source and date.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::settings::Profile;

/// What differs between kinds of clusters.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProfileFacts {
    /// Keys of taints that GPU nodes have, and how pods tolerate them.
    pub gpu_tolerations: Vec<TolerationFact>,
    /// Labels of spot nodes.
    pub spot_labels: Vec<LabelFact>,
    #[serde(skip)]
    pub lint: LintFacts,
}

/// A toleration as Kubernetes writes it.
#[derive(Debug, Deserialize)]
pub struct TolerationFact {
    pub key: String,
    pub operator: String,
    #[serde(default)]
    pub value: String,
    pub effect: String,
}

#[derive(Debug, Deserialize)]
pub struct LabelFact {
    pub key: String,
    pub value: String,
}

/// What only the linter needs to know of a profile.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LintFacts {
    /// Whether an admission plugin adds the toleration for every extended resource that a pod
    /// asks for (ExtendedResourceToleration).
    pub adds_gpu_tolerations: bool,
    /// Whether `nvidia` is the default container runtime of GPU nodes, so that no runtime class
    /// is needed. `None` if that depends on the installation.
    pub nvidia_is_default_runtime: Option<bool>,
}

#[derive(Deserialize)]
struct LintTable {
    profiles: std::collections::BTreeMap<String, LintFacts>,
}

static LINT: LazyLock<LintTable> =
    LazyLock::new(|| parse(include_str!("../../../data/lint/profiles.json")));
static GENERIC: LazyLock<ProfileFacts> =
    LazyLock::new(|| of("generic", include_str!("../../../data/profiles/generic.json")));
static EKS: LazyLock<ProfileFacts> =
    LazyLock::new(|| of("eks", include_str!("../../../data/profiles/eks.json")));
static GKE: LazyLock<ProfileFacts> =
    LazyLock::new(|| of("gke", include_str!("../../../data/profiles/gke.json")));
static AKS: LazyLock<ProfileFacts> =
    LazyLock::new(|| of("aks", include_str!("../../../data/profiles/aks.json")));

pub(crate) fn profile(profile: Profile) -> &'static ProfileFacts {
    match profile {
        Profile::Generic => &GENERIC,
        Profile::Eks => &EKS,
        Profile::Gke => &GKE,
        Profile::Aks => &AKS,
    }
}

fn of(name: &str, text: &str) -> ProfileFacts {
    let mut facts: ProfileFacts = parse(text);
    facts.lint = LINT.profiles.get(name).cloned().unwrap_or_default();
    facts
}

/// Reads a table that is compiled in.
pub(crate) fn parse<T: serde::de::DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).expect("a test reads the table")
}

#[test]
fn tables_can_be_read() {
    for kind in Profile::ALL {
        assert!(LINT.profiles.contains_key(kind.name()));
        assert!(!profile(kind).gpu_tolerations.is_empty());
    }
}
