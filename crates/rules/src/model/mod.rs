//! What manifests mean, as far as rules need to know.
//!
//! In: [`Documents`](crate::yaml::Documents). Out: a [`Bundle`]: every Kubernetes object in them,
//! every pod template in those whatever their kind, and indexes to look both up. Facts that are
//! guesses say how sure they are; what cannot be known is `None`.

mod args;
mod bundle;
mod container;
mod device;
mod find;
mod framework;
mod image;
mod kustomize;
mod namespace_index;
mod object;
mod pod;
mod policy;
mod reference;
mod route;
mod selector;
mod selector_index;
mod weights;

#[cfg(test)]
mod tests;

pub use args::{Flag, Word};
pub use bundle::Bundle;
pub(crate) use container::is_below;
pub use container::{Container, Env, Port};
pub use device::{Device, DeviceKind, Vendor};
pub use framework::{Framework, FrameworkKind, Sureness};
pub use image::Image;
pub(crate) use image::{glob, version};
pub use object::Object;
pub use pod::{Manager, Pod, Purpose, Volume};
pub use policy::{Policy, allows_anybody, allows_port, may_be_public};
pub use reference::Autoscaler;
pub use route::{Backend, backends};
pub use selector::Selector;
pub use weights::{Precision, Weights};
