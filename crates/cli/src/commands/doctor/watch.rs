//! `--watch`: looks again and again, and tells what changes.

use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use trainyard_diagnose::{Answer, Finding};

use super::{Doctor, source};
use crate::print::print_line;

/// A look asks for tens of lists; what it finds changes over minutes.
const INTERVAL: Duration = Duration::from_secs(5);

/// Runs until the process is told to end.
pub(super) fn watch(doctor: &Doctor) -> miette::Result<ExitCode> {
    let mut before: Option<Answer> = None;
    loop {
        let looked = source::read(doctor)
            .and_then(|(snapshot, focus)| Ok((doctor.look(&snapshot, &focus)?, focus)));
        match looked {
            Ok((answer, focus)) => {
                let gone = before.as_ref().map_or_else(Vec::new, |it| without(it, &answer));
                let new = before.as_ref().map_or_else(Vec::new, |it| without(&answer, it));
                if before.is_none() || !gone.is_empty() || !new.is_empty() {
                    for finding in gone {
                        print_line(&format!(
                            "over: {} {}: {}",
                            finding.diagnosis, finding.object, finding.message
                        ))?;
                    }
                    doctor.report(&answer, &focus)?;
                }
                before = Some(answer);
            }
            // The first look says whether it can work at all.
            Err(error) if before.is_none() => return Err(error),
            Err(error) => eprintln!("{error:?}"),
        }
        sleep(INTERVAL);
    }
}

/// Findings of one answer that another lacks. Words such as "for 31 minutes" may differ.
fn without<'a>(answer: &'a Answer, other: &Answer) -> Vec<&'a Finding> {
    let same = |a: &Finding, b: &Finding| a.diagnosis == b.diagnosis && a.object == b.object;
    answer.findings.iter().filter(|a| !other.findings.iter().any(|b| same(a, b))).collect()
}
