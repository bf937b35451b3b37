//! How a program ended, in a line for who sees nothing else: the kubelet shows it with the pod.

use std::path::Path;

use trainyard_agent::run::{Cause, Ended};

/// A kubelet keeps 4096 bytes; a status and an event are to hold it with more around it.
const LONGEST: usize = 1500;
/// Lines of the program's output that are quoted.
const QUOTED: usize = 5;
/// Shorter values are words that a log may hold by chance, and no secret.
const SHORTEST_SECRET: usize = 6;
/// Parts of the names of variables that hold secrets, of stores among others.
const SECRET_NAMES: [&str; 5] = ["SECRET", "TOKEN", "PASSWORD", "CREDENTIAL", "_KEY"];

/// The values that must not be told: of variables that come from a Secret, and of those whose names
/// say it.
pub(super) fn secrets(variables: &[String]) -> Vec<String> {
    let is_secret = |name: &str| {
        variables.iter().any(|variable| variable == name)
            || SECRET_NAMES.iter().any(|part| name.to_uppercase().contains(part))
    };
    let mut found: Vec<String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, value)| is_secret(name) && value.len() >= SHORTEST_SECRET)
        .map(|(_, value)| value)
        .collect();
    // One that holds another goes first, whole.
    found.sort_by_key(|value| std::cmp::Reverse(value.len()));
    found
}

/// Writes `CAUSE: TEXT`; nothing about a program that has finished.
pub(super) fn write(path: &Path, ended: &Ended, secrets: &[String]) {
    let Some(text) = text(ended, secrets) else { return };
    // In place: what is mounted cannot be replaced.
    if let Err(error) = std::fs::write(path, text) {
        eprintln!("trainyard: cannot write `{}`: {error}", path.display());
    }
}

fn text(ended: &Ended, secrets: &[String]) -> Option<String> {
    let word = match ended.cause {
        Cause::Finished => return None,
        Cause::Exited(_) | Cause::Signalled(_) => "Crashed",
        Cause::OutOfMemory => "OutOfMemory",
        Cause::Hung => "Hung",
        // By which the operator knows to keep the next start from that node.
        Cause::Interrupted if ended.machine_leaves => "MachineLeaves",
        Cause::Interrupted => "Interrupted",
        Cause::NotStarted(_) => "NotStarted",
    };
    let mut text = format!("{word}: {}", ended.message);
    let quoted = ended.last_lines.len().saturating_sub(QUOTED);
    let lines: Vec<&str> = ended
        .last_lines
        .iter()
        .skip(quoted)
        .map(|line| line.trim())
        .filter(|line| !line.is_empty())
        .collect();
    if !lines.is_empty() && ended.cause != Cause::Interrupted {
        text.push_str("; its last lines: ");
        text.push_str(&lines.join(" | "));
    }
    for secret in secrets {
        text = text.replace(secret.as_str(), "(hidden)");
    }
    if text.len() > LONGEST {
        // The end of a traceback is the cause.
        let head = text.find("; its last lines: ").unwrap_or(0).min(LONGEST / 2);
        let head = (0..=head).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let tail = text.len().saturating_sub(LONGEST - head);
        let tail = (tail..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
        text = format!(
            "{} … {}",
            text.get(..head).unwrap_or_default(),
            text.get(tail..).unwrap_or_default()
        );
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(cause: Cause, lines: &[&str]) -> Ended {
        let last_lines = lines.iter().map(|line| (*line).to_owned()).collect();
        let message = "rank 0 left with code 1".to_owned();
        Ended { cause, rank: Some(0), message, last_lines, machine_leaves: false }
    }

    #[test]
    fn cause_and_last_lines() {
        let of = |cause, lines: &[&str]| text(&ended(cause, lines), &["hunter22".to_owned()]);
        assert_eq!(of(Cause::Finished, &["done"]), None);
        let crashed = of(Cause::Exited(1), &["a", "", "password=hunter22"]);
        let expected = "Crashed: rank 0 left with code 1; its last lines: a | password=(hidden)";
        assert_eq!(crashed.as_deref(), Some(expected));
        let interrupted = of(Cause::Interrupted, &["a"]);
        assert_eq!(interrupted.as_deref(), Some("Interrupted: rank 0 left with code 1"));
    }

    #[test]
    fn it_is_bounded_and_ends_with_the_last_line() {
        let long = "ä".repeat(2000);
        let told = text(&ended(Cause::Hung, &[&long, "ValueError: the cause"]), &[]).unwrap();
        assert!(told.len() < LONGEST + 10, "{}", told.len());
        assert!(told.starts_with("Hung: rank 0") && told.ends_with("ValueError: the cause"));
    }
}
