//! Values that a manifest writes as text and that mean a number, a time or a place.
//!
//! Each is parsed once, at the edge, into a type that cannot hold nonsense, and is printed back in
//! one canonical form: `parse(print(x)) == x`. A scalar's [`ScalarError`] says what was wrong and
//! how to write it; the manifest reader adds file, line and column.

mod duration;
mod percent;
mod price;
mod quantity;
mod share;
mod uri;

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value, json};

pub use duration::Period;
pub use percent::Percent;
pub use price::Price;
pub use quantity::{Bytes, CpuBudget, MemoryBudget, Millicores};
pub use share::Share;
pub use uri::{ModelUri, Scheme};

/// Why a text is not the scalar that a field needs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct ScalarError {
    /// What is wrong with the text, naming it.
    pub problem: String,
    /// How to write it.
    pub help: Cow<'static, str>,
}

impl ScalarError {
    pub(crate) fn new(problem: impl Into<String>, help: impl Into<Cow<'static, str>>) -> Self {
        Self { problem: problem.into(), help: help.into() }
    }
}

/// How the reader checks a scalar without knowing its type: by the name in the schema.
pub(crate) struct ScalarKind {
    /// Value of the schema's [`SCALAR_KEY`].
    pub(crate) name: &'static str,
    /// What the field holds, for "expected … ".
    pub(crate) expected: &'static str,
    pub(crate) check: fn(&str) -> Result<(), ScalarError>,
    /// Whether a bare integer is as good as text (Kubernetes' int-or-string).
    pub(crate) integer_too: bool,
    /// What an API server checks in place of `check`: a regular expression, ...
    pub(crate) pattern: &'static str,
    /// ... characters at most, without which it could not bound the cost of rules, ...
    pub(crate) longest: u64,
    /// ... and rules in CEL, each with its message. What they cannot say stands in
    /// `docs/operator.md`.
    pub(crate) rules: &'static [(&'static str, &'static str)],
}

impl ScalarKind {
    /// The schema of a field of this kind.
    pub(crate) fn schema(&self) -> schemars::Schema {
        let mut schema = schemars::json_schema!({
            "pattern": self.pattern,
            "maxLength": self.longest,
            (SCALAR_KEY): self.name,
        });
        if self.integer_too {
            schema.insert("x-kubernetes-int-or-string".to_owned(), true.into());
        } else {
            schema.insert("type".to_owned(), "string".into());
        }
        if !self.rules.is_empty() {
            let rule = |(rule, message): &(&str, &str)| json!({"rule": rule, "message": message});
            let rules: Vec<Value> = self.rules.iter().map(rule).collect();
            schema.insert("x-kubernetes-validations".to_owned(), rules.into());
        }
        schema
    }
}

/// The schema of a scalar in a list, without its rules, whose cost API servers before 1.30 find too
/// high there. What the pattern lets through, the operator tells of.
pub(crate) fn unruled<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = generator.subschema_for::<T>();
    schema.remove("x-kubernetes-validations");
    schema
}

/// Schema extension that names the scalar; it never leaves the process, since Kubernetes' own
/// schema type does not have it.
pub(crate) const SCALAR_KEY: &str = "x-trainyard-scalar";

/// Every scalar type there is.
pub(crate) const SCALARS: &[ScalarKind] = &[
    quantity::CPU_KIND,
    quantity::BYTES_KIND,
    quantity::CPU_BUDGET_KIND,
    quantity::MEMORY_BUDGET_KIND,
    duration::KIND,
    percent::KIND,
    price::KIND,
    share::KIND,
    uri::KIND,
];

/// Gives a type with `FromStr` and `Display` its serde and schema: a string of that kind.
macro_rules! string_scalar {
    ($type:ident, $kind:expr) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
                text.parse().map_err(|error: crate::scalar::ScalarError| {
                    serde::de::Error::custom(format!("{} ({})", error.problem, error.help))
                })
            }
        }

        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                $kind.schema()
            }
        }
    };
}
pub(crate) use string_scalar;

#[cfg(test)]
mod tests;
