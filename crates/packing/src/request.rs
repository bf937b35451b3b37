//! What a pod asks for.

use serde::Serialize;

/// Thousandths of one GPU.
pub const WHOLE_GPU: u16 = 1000;

/// The most GPUs that one node may have: the largest instances that clouds sell have 16.
pub const MAX_GPUS: usize = 16;

/// What a pod asks of GPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum GpuRequest {
    /// No GPU.
    None,
    /// A part of one GPU, in thousandths: 1 to 999.
    Share(u16),
    /// So many GPUs for itself: 1 to [`MAX_GPUS`].
    Whole(u8),
}

impl GpuRequest {
    /// Thousandths of GPUs, of all of them together.
    pub fn milli(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Share(milli) => u32::from(milli),
            Self::Whole(count) => u32::from(count) * u32::from(WHOLE_GPU),
        }
    }

    /// The part that has to be free of each GPU that it takes, in thousandths.
    pub fn per_gpu(self) -> u16 {
        match self {
            Self::None => 0,
            Self::Share(milli) => milli,
            Self::Whole(_) => WHOLE_GPU,
        }
    }

    /// How many GPUs it takes a part of.
    pub fn count(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Share(_) => 1,
            Self::Whole(count) => count,
        }
    }
}

/// A GPU model: its place in the [`Models`](crate::Models) that names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Model(pub(crate) u8);

/// The GPU models that a pod accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelSet(u64);

impl ModelSet {
    /// Every model, and none at all.
    pub const ANY: Self = Self(u64::MAX);
    /// No model yet.
    pub const EMPTY: Self = Self(0);

    /// This set and one more model.
    pub fn with(self, model: Model) -> Self {
        Self(self.0 | 1 << model.0)
    }

    /// The models that are in both.
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether a node with GPUs of this model will do.
    pub fn allows(self, model: Option<Model>) -> bool {
        match model {
            _ if self == Self::ANY => true,
            Some(model) => self.0 & 1 << model.0 != 0,
            None => false,
        }
    }
}

/// What a pod asks of a node. Pods with equal requests are one *shape*.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Request {
    /// Thousandths of a core.
    pub cpu_milli: u32,
    /// MiB.
    pub memory_mib: u32,
    /// GPUs, or a share of one.
    pub gpu: GpuRequest,
    /// Which models will do. Asked of pods without GPU too, as a node selector is.
    pub models: ModelSet,
}
