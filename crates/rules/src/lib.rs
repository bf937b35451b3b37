//! The linter: rules over Kubernetes manifests that know machine learning.
//!
//! In: named texts and [`Settings`]. Out: [`Finding`]s and [`ReadError`](yaml::ReadError)s. Reads
//! no file, asks no cluster, knows no time.
//!
//! A run goes through these modules in order: [`yaml`] makes trees of texts, [`model`] makes
//! objects, pod templates and indexes of trees, [`registry`] has the rules, [`lint`] runs them and
//! leaves out what people asked to be silent about, [`edit`] mends texts.

pub mod admission;
pub mod alone;
pub mod edit;
pub mod facts;
#[doc(hidden)]
pub mod fuzzing;
pub mod lint;
pub mod model;
pub mod pages;
pub mod registry;
pub mod yaml;

mod context;
mod custom;
mod duration;
mod ignore;
mod parallel;
mod quantity;
mod report;
mod rule;
mod settings;

// One folder for each group of rules.
mod cst;
mod gpu;
mod net;
mod obs;
mod scl;
mod sec;
mod srv;
mod trn;

#[cfg(test)]
mod examples;

pub use context::Context;
pub use custom::{CustomRule, CustomRuleError};
pub use lint::{Finding, lint, lint_bundle};
pub use quantity::Quantity;
pub use report::{Draft, Report};
pub use rule::{Check, Example, Level, Rule};
pub use settings::{Profile, Settings};
pub use yaml::{Documents, ReadError, Source};
