//! How a model comes here, in a few words.

use std::time::{Duration, SystemTime};

use trainyard_local::status::{Fetch, Stage, Transfer};

use crate::size::size;

/// Such as `fetching, 12 of 80 MiB`, or `fetch failed, retrying in 8 s`.
pub(crate) fn words(fetch: &Fetch) -> String {
    match fetch {
        Fetch::Transferring(transfer) => transferring(transfer),
        Fetch::Retrying { at_ms, .. } => {
            let since =
                SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            retrying(*at_ms, since)
        }
    }
}

fn transferring(transfer: &Transfer) -> String {
    let stage = match transfer.stage {
        Stage::Waiting => return "another process fetches its model".to_owned(),
        Stage::Downloading => "fetching",
        Stage::Verifying => "verifying",
    };
    match transfer.total_bytes {
        Some(total) => format!("{stage}, {} of {}", size(transfer.done_bytes), size(total)),
        None => format!("{stage}, {}", size(transfer.done_bytes)),
    }
}

fn retrying(at_ms: i64, now: Duration) -> String {
    let at = Duration::from_millis(u64::try_from(at_ms).unwrap_or(0));
    match at.saturating_sub(now).as_secs_f64().ceil() as u64 {
        0 => "fetch failed, retrying".to_owned(),
        seconds => format!("fetch failed, retrying in {seconds} s"),
    }
}

#[test]
fn table() {
    let transfer =
        |stage, total_bytes| transferring(&Transfer { stage, done_bytes: 1 << 20, total_bytes });
    assert_eq!(transfer(Stage::Downloading, Some(8 << 20)), "fetching, 1.0 MiB of 8.0 MiB");
    assert_eq!(transfer(Stage::Verifying, None), "verifying, 1.0 MiB");
    assert_eq!(transfer(Stage::Waiting, None), "another process fetches its model");
    let now = Duration::from_millis(10_500);
    assert_eq!(retrying(18_000, now), "fetch failed, retrying in 8 s");
    assert_eq!(retrying(9_000, now), "fetch failed, retrying");
    assert_eq!(retrying(-1, now), "fetch failed, retrying");
}
