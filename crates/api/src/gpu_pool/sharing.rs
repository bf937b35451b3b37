//! `spec.sharing`.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How each GPU of a pool is shared.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(self.mode in ['mps', 'timeSlicing']) || has(self.shares)").message("`mps` and `timeSlicing` cut each GPU into equal shares; say into how many with `shares`").field_path(".shares"),
    validation = Rule::new("self.mode in ['mps', 'timeSlicing'] || !has(self.shares)").message("only `mps` and `timeSlicing` have equal shares; remove it, or choose one of them").field_path(".shares"),
    validation = Rule::new("self.mode != 'mps' || !has(self.shares) || self.shares <= 48").message("MPS serves at most 48 clients of a GPU; write at most 48").field_path(".shares"),
    validation = Rule::new("self.mode != 'mig' || has(self.profiles)").message("`mig` needs the instances that each GPU is cut into; write them as `profiles: [{name: 1g.10gb, count: 7}]`").field_path(".profiles"),
    validation = Rule::new("self.mode == 'mig' || !has(self.profiles)").message("only `mig` has profiles; remove them, or choose `mode: mig`").field_path(".profiles"),
    validation = Rule::new("!has(self.profiles) || self.profiles.all(a, self.profiles.exists_one(b, b.name == a.name))").message("a profile is named twice; write it once with the sum as its `count`").field_path(".profiles"),
)]
pub struct Sharing {
    /// `none` (whole GPUs), `mps` (equal shares of memory and of compute, kept apart by NVIDIA's
    /// MPS), `timeSlicing` (turns on the whole GPU, with nothing that keeps memory apart), `mig`
    /// (instances in hardware), or `dra` (whole GPUs and instances by dynamic resource allocation,
    /// Kubernetes 1.34 and newer).
    pub mode: SharingMode,
    /// With `mps` and `timeSlicing`: into how many equal shares each GPU is cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 256))]
    pub shares: Option<u32>,
    /// With `mig`: the instances that each GPU is cut into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 7))]
    pub profiles: Option<Vec<MigProfile>>,
}

/// Ways of sharing a GPU.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub enum SharingMode {
    #[default]
    None,
    Mps,
    TimeSlicing,
    Mig,
    Dra,
}

impl SharingMode {
    /// The mode as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Mps => "mps",
            Self::TimeSlicing => "timeSlicing",
            Self::Mig => "mig",
            Self::Dra => "dra",
        }
    }
}

/// Equal instances that each GPU has.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct MigProfile {
    /// The profile, such as `1g.10gb`.
    #[schemars(length(max = 24), regex(pattern = r"^[1-7]g\.[0-9]{1,3}gb(\+[a-z.]{1,8})?$"))]
    pub name: String,
    /// How many of them each GPU has.
    #[schemars(range(min = 1, max = 7))]
    pub count: u32,
}

impl MigProfile {
    /// Compute slices of one instance; a GPU has seven.
    pub fn slices(&self) -> u32 {
        self.name.split('g').next().and_then(|slices| slices.parse().ok()).unwrap_or(7)
    }
}
