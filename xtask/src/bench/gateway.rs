//! `cargo xtask bench gateway`: the gateway against nginx as reverse proxy, to the same upstream.
//!
//! Each proxy has one thread: nginx one worker, our gateway one runtime thread. The upstream is
//! nginx too, with an answer from its configuration, so that the proxies are what holds the rate.
//! All of it, and wrk, shares this machine's cores.

use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::Args;

use super::load::{Outcome, Request, drive, median};
use super::server::{Server, free_address};
use crate::paths;
use crate::run::build_release;

/// Connections of the throughput runs.
const CONNECTIONS: usize = 64;
/// A prediction of a small model, in both directions.
const BODY: &[u8] =
    br#"{"inputs":[{"name":"X","shape":[1,4],"datatype":"FP32","data":[5.1,3.5,1.4,0.2]}]}"#;
const ANSWER: &str = r#"{"model_name":"bench","model_version":"1","outputs":[{"name":"label","shape":[1],"datatype":"INT64","data":[0]}]}"#;

#[derive(Args)]
pub(crate) struct Gateway {
    /// Seconds of load for each figure
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Runs of each proxy, in turns; the medians are shown
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// Medians of one way to the upstream.
struct Way {
    rate: f64,
    p50: f64,
    p99: f64,
}

impl Gateway {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        build_release(&["--package", "trainyard-gateway", "--example", "proxy"])?;
        let scratch =
            std::env::temp_dir().join(format!("trainyard-bench-gateway-{}", std::process::id()));
        fs::create_dir_all(&scratch)?;
        let measured = self.measure(&scratch);
        fs::remove_dir_all(&scratch)?;
        let [direct, nginx, ours] = measured?;
        println!("| what | ours | yardstick | ratio | goal |\n|---|---|---|---|---|");
        println!(
            "| gateway, one thread, {CONNECTIONS} connections (requests/s) | {:.0} | nginx {:.0} | {:.2} | ≥ 1 |",
            ours.rate,
            nginx.rate,
            ours.rate / nginx.rate
        );
        println!(
            "| gateway, p50 at concurrency 1 (µs) | {:.0} | direct {:.0} | +{:.0} µs | ≤ +100 µs |",
            ours.p50,
            direct.p50,
            ours.p50 - direct.p50
        );
        println!(
            "| nginx, p50 at concurrency 1 (µs) | {:.0} | direct {:.0} | +{:.0} µs | |",
            nginx.p50,
            direct.p50,
            nginx.p50 - direct.p50
        );
        println!(
            "| gateway, p99 with {CONNECTIONS} connections (ms) | {:.2} | nginx {:.2} | {:.2} | |",
            ours.p99 / 1e3,
            nginx.p99 / 1e3,
            ours.p99 / nginx.p99
        );
        println!(
            "| upstream itself, {CONNECTIONS} connections (requests/s) | {:.0} | | | |",
            direct.rate
        );
        Ok(())
    }

    fn measure(&self, scratch: &Path) -> anyhow::Result<[Way; 3]> {
        let upstream = nginx(scratch, "upstream", &format!("return 200 '{ANSWER}';"), "")?;
        let pass =
            "proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection \"\";";
        let pool = format!("upstream up {{ server {}; keepalive 64; }}", upstream.address);
        let nginx = nginx(scratch, "proxy", pass, &pool)?;
        let ours = ours(scratch, upstream.address)?;
        let ways = [&upstream, &nginx, &ours];
        let mut runs: [Vec<(Outcome, Outcome)>; 3] = Default::default();
        // In turns, so that whatever else the machine does falls on all alike.
        for _ in 0..self.rounds.max(1) {
            for (server, runs) in ways.iter().zip(&mut runs) {
                let request = Request {
                    url: server.url("/v2/models/bench/infer"),
                    headers: &[("Content-Type", "application/json")],
                    body: BODY,
                };
                drive(scratch, &request, CONNECTIONS, 1, Duration::from_secs(1))?;
                let time = Duration::from_secs(self.seconds);
                let many = drive(scratch, &request, CONNECTIONS, 1, time)?;
                let one = drive(scratch, &request, 1, 1, time)?;
                runs.push((many, one));
            }
        }
        Ok(runs.map(|runs| Way {
            rate: median(runs.iter().map(|(many, _)| many.rate()).collect()),
            p50: median(runs.iter().map(|(_, one)| one.p50).collect()),
            p99: median(runs.iter().map(|(many, _)| many.p99).collect()),
        }))
    }
}

/// One nginx worker with everything in a folder of its own.
fn nginx(scratch: &Path, name: &str, location: &str, outside: &str) -> anyhow::Result<Server> {
    let address = free_address()?;
    let folder = scratch.join(name);
    fs::create_dir_all(&folder)?;
    let mut config = String::from("daemon off;\nworker_processes 1;\n");
    let at = folder.display();
    writeln!(config, "pid {at}/pid;\nerror_log stderr warn;")?;
    writeln!(config, "events {{ worker_connections 1024; }}\nhttp {{\n  access_log off;")?;
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        writeln!(config, "  {kind}_temp_path {at}/{kind};")?;
    }
    // By default nginx closes a connection after 1000 requests.
    writeln!(config, "  keepalive_requests 100000000;\n  default_type application/json;")?;
    writeln!(
        config,
        "  {outside}\n  server {{ listen {address}; location / {{ {location} }} }}\n}}"
    )?;
    let file = folder.join("nginx.conf");
    fs::write(&file, config)?;
    let mut command = Command::new(program("nginx"));
    command.arg("-p").arg(&folder).arg("-c").arg(&file).args(["-e", "stderr"]);
    Server::start(&mut command, address, "/", &scratch.join(format!("{name}.log")))
}

/// Debian keeps nginx outside of a user's search path.
fn program(name: &str) -> PathBuf {
    let system = Path::new("/usr/sbin").join(name);
    if system.exists() { system } else { name.into() }
}

fn ours(scratch: &Path, upstream: SocketAddr) -> anyhow::Result<Server> {
    let address = free_address()?;
    let mut command = Command::new(paths::target().join("release/examples/proxy"));
    command.args(["1", &address.to_string(), &upstream.to_string()]);
    Server::start(&mut command, address, "/readyz", &scratch.join("ours.log"))
}
