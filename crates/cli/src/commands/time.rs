//! Times for people.

use std::time::{Duration, SystemTime};

/// How long ago a moment was, given in milliseconds since the Unix epoch: `5s`, `12m`, `3h`, `8d`.
pub(crate) fn ago(unix_ms: i64) -> String {
    let then = Duration::from_millis(u64::try_from(unix_ms).unwrap_or(0));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    short(now.saturating_sub(then))
}

fn short(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..120 => format!("{seconds}s"),
        seconds @ 120..7200 => format!("{}m", seconds / 60),
        seconds @ 7200..172_800 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let check = |seconds, text: &str| assert_eq!(short(Duration::from_secs(seconds)), text);
        check(0, "0s");
        check(119, "119s");
        check(120, "2m");
        check(7199, "119m");
        check(7200, "2h");
        check(200_000, "2d");
    }
}
