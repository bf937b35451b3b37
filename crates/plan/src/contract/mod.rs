//! The GPU memory contract: what a service was granted of a GPU becomes the knob of whatever runs,
//! and a knob that a person set against it is found.
//!
//! In: the [`Part`] that a service has, its runtime's arguments and variables, and which software
//! reads them. Out: the arguments and variables to add, or an error that names both sides.

mod detect;
mod table;
mod template;

use trainyard_api::defaults::CompleteRuntime;

use self::template::Taken;
use crate::compile::PlanError;
use crate::expand;
use crate::gpu::Part;
use crate::workload::{EnvVar, Value};

pub(crate) use table::Framework;

/// A knob that a person set and that takes more than what was granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{knob}` in `{at}` of `{service}` {takes}, and {asked} of the pool `{pool}` {grants}; change the one or the other, or remove the knob{ours}"
)]
pub struct KnobConflict {
    pub service: String,
    /// As it was written, such as `--gpu-memory-utilization 0.9`.
    pub knob: String,
    /// The field that it was written in.
    pub at: String,
    /// What the knob takes, in words.
    pub takes: String,
    /// What was asked for, with its field.
    pub asked: String,
    pub pool: String,
    /// What that grants, in words.
    pub grants: String,
    /// What would be set in the knob's place, in words; empty where nothing would.
    pub ours: String,
}

/// What is added to a workload.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Knobs {
    pub(crate) args: Vec<Value>,
    pub(crate) env: Vec<EnvVar>,
}

/// A program that has a part of a GPU.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Contract<'a> {
    pub(crate) service: &'a str,
    /// The field that holds the runtime's.
    pub(crate) field: &'static str,
    pub(crate) runtime: &'a CompleteRuntime,
    pub(crate) part: &'a Part,
}

/// A knob that a person set.
struct Found {
    /// As it was written.
    shown: String,
    /// The field.
    at: String,
    value: String,
}

impl Contract<'_> {
    /// The knobs of software that surely runs. One whose value cannot be known is an error.
    pub(crate) fn knobs(&self, framework: Framework) -> Result<Knobs, PlanError> {
        self.set(framework, true)
    }

    /// The variables of software that may run; whatever else runs ignores them.
    pub(crate) fn harmless(&self, framework: Framework) -> Result<Knobs, PlanError> {
        let knobs = self.set(framework, false)?;
        Ok(Knobs { args: Vec::new(), ..knobs })
    }

    /// The software that a `custom` runtime is known to be.
    pub(crate) fn detect(&self) -> Option<Framework> {
        let CompleteRuntime { image, command, args, .. } = self.runtime;
        detect::detect(image.as_deref(), command, args)
    }

    /// What a person has to set by hand, in words, for this software.
    pub(crate) fn elsewhere(&self, framework: Framework) -> Vec<String> {
        framework.known().elsewhere.iter().filter_map(|it| it.write(self.part)).collect()
    }

    fn set(&self, framework: Framework, surely: bool) -> Result<Knobs, PlanError> {
        let mut set = Knobs::default();
        for knob in &framework.known().knobs {
            let found = self.find(knob);
            let value = knob.value.write(self.part);
            for found in &found {
                self.check(knob, found, value.as_deref())?;
            }
            // Another entry of the same flag or list is no value for this one.
            let is_set = found.iter().any(|it| knob.value.read(&it.value, knob.list).is_some());
            if is_set || knob.checked_only {
                continue;
            }
            let Some(value) = value else {
                match knob.optional || !surely {
                    true => continue,
                    false => {
                        return Err(self
                            .part
                            .unknown_memory(self.service, self.runtime.name.as_str()));
                    }
                }
            };
            match (knob.flags.first(), knob.env.first()) {
                (Some(flag), _) if knob.joined => {
                    set.args.push(Value::literal(format!("{flag}={value}")));
                }
                (Some(flag), _) => {
                    set.args.extend([Value::literal(flag), Value::literal(value)]);
                }
                (None, Some(name)) => {
                    set.env.push(EnvVar { name: name.clone(), value: Value::literal(value) });
                }
                (None, None) => {}
            }
        }
        Ok(set)
    }

    /// Where a person set a knob, by any of its names.
    fn find(&self, knob: &table::Knob) -> Vec<Found> {
        let words = |field: &'static str, texts: &[String]| -> Vec<(String, String)> {
            let texts = texts.iter().enumerate();
            // A shell's script is one text with many words.
            texts
                .flat_map(|(index, text)| {
                    let text = self.expanded(text);
                    let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
                    words
                        .into_iter()
                        .map(move |word| (format!("{}.{field}[{index}]", self.field), word))
                })
                .collect()
        };
        let mut all = words("command", &self.runtime.command);
        all.extend(words("args", &self.runtime.args));
        let mut found = Vec::new();
        for (index, (at, word)) in all.iter().enumerate() {
            let (name, joined) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (word.as_str(), None),
            };
            if !knob.flags.iter().any(|flag| flag == name) {
                continue;
            }
            let (shown, value) = match joined {
                Some(value) => (word.clone(), value),
                None => {
                    let next = all.get(index.saturating_add(1));
                    let next = next.map(|(_, word)| word.clone()).unwrap_or_default();
                    (format!("{word} {next}"), next)
                }
            };
            found.push(Found { shown, at: at.clone(), value });
        }
        for (index, var) in self.runtime.env.iter().enumerate() {
            if !knob.env.contains(&var.name) {
                continue;
            }
            // What a Secret holds is not to be seen here.
            let Some(value) = &var.value else { continue };
            let value = self.expanded(value);
            let shown = format!("{}={value}", var.name);
            found.push(Found { shown, at: format!("{}.env[{index}]", self.field), value });
        }
        found
    }

    /// A text with the variables that the manifest itself gives.
    fn expanded(&self, text: &str) -> String {
        expand(text, |name| {
            let var = self.runtime.env.iter().rev().find(|var| var.name == name)?;
            var.value.clone()
        })
    }

    fn check(
        &self,
        knob: &table::Knob,
        found: &Found,
        ours: Option<&str>,
    ) -> Result<(), PlanError> {
        let Some(taken) = knob.value.read(&found.value, knob.list) else { return Ok(()) };
        let part = self.part;
        // Doubles that were written and read again.
        let fits = |taken: f64, granted: f64| taken <= granted * (1.0 + 1e-6) + 1e-9;
        let (takes, grants) = match taken {
            Taken::Fraction(taken) => match part.fraction() {
                Some(granted) if !fits(taken, granted) => (
                    format!("takes {taken} of a GPU's memory"),
                    format!("grants {:.3} of it", (granted * 1000.0).floor() / 1000.0),
                ),
                _ => return Ok(()),
            },
            Taken::Bytes(taken) => match part.bytes() {
                Some(granted) if taken > granted.0 => {
                    let taken = trainyard_api::scalar::Bytes(taken);
                    (format!("takes {taken} of GPU memory"), format!("grants {granted}"))
                }
                _ => return Ok(()),
            },
            Taken::Percent(taken) => match part.compute_percent() {
                Some(granted) if !fits(taken, f64::from(granted)) => {
                    (format!("takes {taken}% of a GPU's compute"), format!("grants {granted}%"))
                }
                _ => return Ok(()),
            },
            Taken::Equal(true) => return Ok(()),
            Taken::Equal(false) => (
                "lets the program take nearly the whole GPU at its start".to_owned(),
                "grants a part of it".to_owned(),
            ),
        };
        Err(PlanError::GpuKnob(Box::new(KnobConflict {
            service: self.service.to_owned(),
            knob: found.shown.clone(),
            at: found.at.clone(),
            takes,
            asked: part.said().to_owned(),
            pool: part.pool().to_owned(),
            grants,
            ours: match ours {
                Some(ours) if !knob.checked_only => {
                    format!(", which Trainyard then sets to {ours}")
                }
                _ => String::new(),
            },
        })))
    }
}

#[cfg(test)]
mod tests;
