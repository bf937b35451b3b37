//! What differs between clouds, from `data/profiles/`: adding one is a file and a line here.

use std::sync::LazyLock;

use serde::Deserialize;
use trainyard_api::model_service::Toleration;

/// Whose cluster it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    #[default]
    Generic,
    Eks,
    Gke,
    Aks,
}

impl Profile {
    pub const ALL: [Self; 4] = [Self::Generic, Self::Eks, Self::Gke, Self::Aks];

    /// The name as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Generic => "generic",
            Self::Eks => "eks",
            Self::Gke => "gke",
            Self::Aks => "aks",
        }
    }

    pub(super) fn facts(self) -> &'static Facts {
        match self {
            Self::Generic => &GENERIC,
            Self::Eks => &EKS,
            Self::Gke => &GKE,
            Self::Aks => &AKS,
        }
    }
}

static GENERIC: LazyLock<Facts> =
    LazyLock::new(|| parse(include_str!("../../../../data/profiles/generic.json")));
static EKS: LazyLock<Facts> =
    LazyLock::new(|| parse(include_str!("../../../../data/profiles/eks.json")));
static GKE: LazyLock<Facts> =
    LazyLock::new(|| parse(include_str!("../../../../data/profiles/gke.json")));
static AKS: LazyLock<Facts> =
    LazyLock::new(|| parse(include_str!("../../../../data/profiles/aks.json")));

fn parse(text: &str) -> Facts {
    serde_json::from_str(text).expect("a test reads every profile")
}

/// One file of `data/profiles/`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Facts {
    /// Where each fact was read.
    #[cfg_attr(not(test), expect(dead_code, reason = "for people; a test asks that it is there"))]
    source: Vec<String>,
    /// When.
    #[cfg_attr(not(test), expect(dead_code, reason = "for people; a test asks that it is there"))]
    date: String,
    /// Labels that tell a node's GPU; any of them will do.
    pub(super) product_labels: Vec<ProductLabel>,
    /// Taints of GPU nodes.
    pub(super) gpu_tolerations: Vec<Toleration>,
    /// Labels of spot nodes; any of them will do.
    pub(super) spot_labels: Vec<Label>,
    /// Taints of spot nodes.
    pub(super) spot_tolerations: Vec<Toleration>,
    /// Where pods get the cloud's credentials.
    pub(super) identity_endpoints: Vec<Endpoint>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProductLabel {
    pub(super) key: String,
    /// Whose name for the product the label has; none is NVIDIA's.
    pub(super) alias: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Label {
    pub(super) key: String,
    pub(super) value: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Endpoint {
    pub(super) cidr: String,
    pub(super) port: u16,
}

#[test]
fn every_profile_can_be_read() {
    for profile in Profile::ALL {
        let facts = profile.facts();
        assert!(!facts.source.is_empty() && facts.date.len() == 10, "{}", profile.as_str());
        assert!(!facts.spot_labels.is_empty() && !facts.gpu_tolerations.is_empty());
    }
}
