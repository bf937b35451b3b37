//! Load by `wrk` (Debian package `wrk`): closed loop, keep-alive, one process beside the server.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Deserialize;

/// One HTTP request, sent over and over.
pub(crate) struct Request<'a> {
    pub(crate) url: String,
    /// Name and value of each header.
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) body: &'a [u8],
}

/// What came out of one run. Latencies in microseconds.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Outcome {
    requests: f64,
    seconds: f64,
    errors: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

impl Outcome {
    /// Answered requests per second.
    pub(crate) fn rate(&self) -> f64 {
        self.requests / self.seconds
    }
}

/// Sends requests over `connections` for the given time; any answer but 2xx fails the run.
pub(crate) fn drive(
    scratch: &Path,
    request: &Request<'_>,
    connections: usize,
    threads: usize,
    time: Duration,
) -> anyhow::Result<Outcome> {
    let script = write_script(scratch, request)?;
    let output = Command::new("wrk")
        .args(["-t", &threads.min(connections).to_string(), "-c", &connections.to_string()])
        .args(["-d", &format!("{}s", time.as_secs()), "--timeout", "60s", "-s"])
        .arg(script)
        .arg(&request.url)
        .output()
        .context("cannot start wrk; on Debian and Ubuntu: apt-get install wrk")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let Some(line) = text.lines().find_map(|line| line.strip_prefix("outcome ")) else {
        bail!("wrk failed: {text}{}", String::from_utf8_lossy(&output.stderr));
    };
    let outcome: Outcome = serde_json::from_str(line)?;
    if outcome.errors > 0.0 || outcome.requests == 0.0 {
        bail!("{} of {} requests to {} failed", outcome.errors, outcome.requests, request.url);
    }
    Ok(outcome)
}

/// The middle one of several runs' figures.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn write_script(scratch: &Path, request: &Request<'_>) -> anyhow::Result<PathBuf> {
    let body = scratch.join("body.bin");
    std::fs::write(&body, request.body)?;
    let mut script = format!(
        "local file = io.open({:?}, 'rb')\nwrk.method = 'POST'\nwrk.body = file:read('*a')\n",
        body.display().to_string()
    );
    for (name, value) in request.headers {
        script.push_str(&format!("wrk.headers[{name:?}] = {value:?}\n"));
    }
    script.push_str(
        r#"
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    'outcome {"requests":%d,"seconds":%f,"errors":%d,"p50":%f,"p99":%f}\n',
    summary.requests, summary.duration / 1e6, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"#,
    );
    let path = scratch.join("load.lua");
    std::fs::write(&path, script)?;
    Ok(path)
}
