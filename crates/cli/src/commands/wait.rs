//! `trainyard wait`.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::str::FromStr;

use clap::Args;
use serde_json::Value;
use trainyard_api::scalar::Period;
use trainyard_operator::console::{Awaited, Key, Kind, Selection, Summary};

use super::output::{ServiceName, singular};
use super::place::{Intent, Place, PlaceArgs};
use super::supervisor::block_on;
use crate::print::print_line;

/// Wait until services are ready or jobs have finished, are gone, or have a condition
///
/// Ends with 1 if it does not come about in time.
#[derive(Args)]
pub(crate) struct Wait {
    /// The services and jobs
    #[arg(value_name = "NAME", required = true)]
    names: Vec<ServiceName>,
    /// `ready` (of a job: it has finished), `deleted`, or `condition=TYPE[=STATUS]`, such as `condition=Stalled=False`
    #[arg(long = "for", value_name = "WHAT", default_value = "ready")]
    awaited: Named,
    /// How long to wait; 0s looks once
    #[arg(long, default_value = "30s", value_name = "TIME")]
    timeout: Period,
    #[command(flatten)]
    place: PlaceArgs,
}

/// What is waited for, as it was written.
#[derive(Clone)]
struct Named {
    text: String,
    awaited: Awaited,
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let awaited = match text.split_once('=') {
            None if text.eq_ignore_ascii_case("ready") => Awaited::Ready,
            None if matches!(text, "deleted" | "delete") => Awaited::Deleted,
            Some(("condition", rest)) if !rest.is_empty() => {
                let (kind, status) = rest.split_once('=').unwrap_or((rest, "True"));
                Awaited::Condition { kind: kind.to_owned(), status: status.to_owned() }
            }
            _ => {
                return Err("expected `ready`, `deleted`, or `condition=TYPE[=STATUS]`".to_owned());
            }
        };
        Ok(Self { text: text.to_owned(), awaited })
    }
}

impl Wait {
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        block_on(self.wait())?
    }

    async fn wait(self) -> miette::Result<ExitCode> {
        let place = self.place.open(Intent::LOOK).await?;
        if self.awaited.awaited != Awaited::Deleted {
            // What is not there will not become ready: a misspelt name is told at once.
            place.find(&self.names).await?;
        }
        let (services, jobs) = place.by_kind(&self.names).await?;
        let what = &self.awaited;
        let deadline = tokio::time::Instant::now() + self.timeout.0;
        let mut all_met = true;
        for (kind, names) in [(Kind::ModelService, services), (Kind::TrainingJob, jobs)] {
            if names.is_empty() {
                continue;
            }
            let kind_name = singular(kind);
            let selection = Selection { names, labels: None };
            let left = Period(deadline.saturating_duration_since(tokio::time::Instant::now()));
            let missing = until(&place, kind, &selection, &what.awaited, left, |name| {
                print_line(&format!("{kind_name}/{name} condition met"))
            })
            .await?;
            for (name, seen) in &missing {
                let how = seen.as_ref().map(Summary::of).map_or_else(
                    || "it is not there".to_owned(),
                    |seen| format!("{}: {}: {}", seen.phase, seen.reason, seen.message),
                );
                eprintln!("timed out waiting for `{}` of {kind_name}/{name}: {how}", what.text);
            }
            all_met &= missing.is_empty();
        }
        Ok(if all_met { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}

/// Waits until it is so for each of the services named. Returns those for which it is not in time.
pub(super) async fn until(
    place: &Place,
    kind: Kind,
    selection: &Selection,
    awaited: &Awaited,
    timeout: Period,
    mut met: impl FnMut(&str) -> miette::Result<()>,
) -> miette::Result<BTreeMap<String, Option<Value>>> {
    let mut missing: BTreeMap<String, Option<Value>> =
        selection.names.iter().map(|name| (name.clone(), None)).collect();
    let mut watch = place.watch(kind, selection).await?;
    let deadline = tokio::time::sleep(timeout.0);
    let mut deadline = std::pin::pin!(deadline);
    let mut has_looked = false;
    while !missing.is_empty() {
        let now = tokio::select! {
            now = watch.next() => now?,
            // Whatever the time, it is looked once.
            () = &mut deadline, if has_looked => break,
        };
        has_looked = true;
        let found = |name: &String| find(now, name);
        let done: Vec<String> =
            missing.keys().filter(|name| awaited.holds(found(name))).cloned().collect();
        for name in done {
            missing.remove(&name);
            met(&name)?;
        }
        for (name, seen) in &mut missing {
            *seen = find(now, name).cloned();
        }
    }
    Ok(missing)
}

fn find<'a>(services: &'a BTreeMap<Key, Value>, name: &str) -> Option<&'a Value> {
    services.iter().find(|((_, known), _)| known == name).map(|(_, service)| service)
}

#[test]
fn what_can_be_waited_for() {
    let of = |text: &str| text.parse::<Named>().map(|named| named.awaited).ok();
    let condition = |kind: &str, status: &str| {
        Some(Awaited::Condition { kind: kind.to_owned(), status: status.to_owned() })
    };
    assert_eq!(of("ready"), Some(Awaited::Ready));
    assert_eq!(of("Ready"), Some(Awaited::Ready));
    assert_eq!(of("delete"), Some(Awaited::Deleted));
    assert_eq!(of("condition=Stalled"), condition("Stalled", "True"));
    assert_eq!(of("condition=Stalled=False"), condition("Stalled", "False"));
    for wrong in ["", "condition", "condition=", "jsonpath=x", "gone"] {
        assert_eq!(of(wrong), None, "{wrong}");
    }
}
