//! `cargo xtask bench serving`: the figures of the model server, each beside its yardstick.
//!
//! Everything runs on this machine's cores, the load generator included, which is how a small
//! deployment feels it. Peers answer with less (the label alone, where we send probabilities too).

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use serde::Deserialize;

use super::load::{Outcome, Request, drive, median};
use super::server::{Server, answers, free_address};
use crate::paths;
use crate::python::{Environment, onnxruntime_library};
use crate::run::{build_release, run};

const IRIS: &[u8] =
    br#"{"inputs":[{"name":"X","shape":[1,4],"datatype":"FP32","data":[5.1,3.5,1.4,0.2]}]}"#;

/// The same flower for `examples/iris`, whose input has another name.
const EXAMPLE: &[u8] =
    br#"{"inputs":[{"name":"input","shape":[1,4],"datatype":"FP32","data":[5.1,3.5,1.4,0.2]}]}"#;

#[derive(Args)]
pub(crate) struct Serving {
    /// Seconds of load for each figure
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Runs of the ResNet-50-shaped net and of raw ONNX Runtime, in turns; the medians are shown
    #[arg(long, default_value_t = 4)]
    rounds: usize,
    /// Measure only these
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Case>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Case {
    /// A ResNet-50-shaped net against raw ONNX Runtime
    Resnet,
    /// A tiny model over JSON against Python servers
    Iris,
    /// A small net with and without batching
    Batching,
    /// Resident memory
    Memory,
    /// From `up` to the first answer
    Start,
}

/// Folders and programs that every case needs.
struct Bench {
    time: Duration,
    scratch: PathBuf,
    models: PathBuf,
    trainyard: PathBuf,
    clients: PathBuf,
    library: PathBuf,
}

impl Serving {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let bench = Bench::prepare(Duration::from_secs(self.seconds))?;
        println!("| what | ours | yardstick | ratio | goal |\n|---|---|---|---|---|");
        let wants = |case| self.only.is_empty() || self.only.contains(&case);
        if wants(Case::Resnet) {
            bench.resnet(self.rounds.max(1)).context("resnet")?;
        }
        if wants(Case::Iris) {
            bench.iris().context("iris")?;
        }
        if wants(Case::Batching) {
            bench.batching().context("batching")?;
        }
        if wants(Case::Memory) {
            bench.memory().context("memory")?;
        }
        if wants(Case::Start) {
            bench.start().context("start")?;
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Raw {
    rate: f64,
    p50: f64,
}

impl Bench {
    fn prepare(time: Duration) -> anyhow::Result<Self> {
        build_release(&[])?;
        let clients = Environment::Clients.python()?;
        let zoo = Command::new(&clients)
            .arg(paths::root().join("tests/clients/zoo.py"))
            .arg(paths::cache())
            .stderr(Stdio::inherit())
            .output()?;
        let models = PathBuf::from(String::from_utf8(zoo.stdout)?.trim());
        if !models.join("resnet50.onnx").exists() {
            bail!("tests/clients/zoo.py made no models");
        }
        let scratch = std::env::temp_dir().join(format!("trainyard-bench-{}", std::process::id()));
        fs::create_dir_all(&scratch)?;
        Ok(Self {
            time,
            scratch,
            models,
            trainyard: paths::target().join("release/trainyard"),
            library: onnxruntime_library(&clients)?,
            clients,
        })
    }

    fn model(&self, name: &str) -> PathBuf {
        self.models.join(format!("{name}.onnx"))
    }

    /// `trainyard serve`, ready.
    fn ours(&self, arguments: &[&str]) -> anyhow::Result<Server> {
        let address = free_address()?;
        let mut command = Command::new(&self.trainyard);
        command.env("ORT_DYLIB_PATH", &self.library).arg("serve").args(arguments);
        command.args(["--port", &address.port().to_string()]);
        Server::start(&mut command, address, "/v2/health/ready", &self.scratch.join("ours.log"))
    }

    fn drive(
        &self,
        request: &Request<'_>,
        connections: usize,
        threads: usize,
    ) -> anyhow::Result<Outcome> {
        drive(&self.scratch, request, connections, threads, Duration::from_secs(2))?;
        drive(&self.scratch, request, connections, threads, self.time)
    }

    /// Raw ONNX Runtime in process.
    fn raw(
        &self,
        model: &str,
        input: &str,
        shape: &str,
        clients: usize,
        threads: usize,
    ) -> anyhow::Result<Raw> {
        let output = Command::new(&self.clients)
            .arg(paths::root().join("tests/peers/raw.py"))
            .arg(self.model(model))
            .args([input, shape, &self.time.as_secs().to_string()])
            .args([clients.to_string(), threads.to_string()])
            .stderr(Stdio::inherit())
            .output()?;
        serde_json::from_slice(&output.stdout).context("tests/peers/raw.py printed no result")
    }

    fn resnet(&self, rounds: usize) -> anyhow::Result<()> {
        let cores = std::thread::available_parallelism()?.get();
        let path = self.model("resnet50").display().to_string();
        let header = br#"{"inputs":[{"name":"image","shape":[1,3,224,224],"datatype":"FP32","parameters":{"binary_data_size":602112}}],"parameters":{"binary_data_output":true}}"#;
        let mut body = header.to_vec();
        for _ in 0..3 * 224 * 224 {
            body.extend_from_slice(&0.5f32.to_le_bytes());
        }
        let length = header.len().to_string();
        let (mut wide, mut many, mut ours) = (Vec::new(), Vec::new(), Vec::new());
        // In turns, and every other time backwards, so that whatever else the machine does falls on
        // all alike: one that lends cores gives less after half a minute of full load.
        for round in 0..rounds {
            let raw =
                |clients, threads| self.raw("resnet50", "image", "1x3x224x224", clients, threads);
            let served = || -> anyhow::Result<f64> {
                let server = self.ours(&[&path])?;
                let request = Request {
                    url: server.url("/v2/models/resnet50/infer"),
                    headers: &[("Inference-Header-Content-Length", &length)],
                    body: &body,
                };
                Ok(self.drive(&request, 8, 1)?.rate())
            };
            if round % 2 == 0 {
                ours.push(served()?);
            }
            many.push(raw(cores, 1)?.rate);
            wide.push(raw(1, cores)?.rate);
            if round % 2 == 1 {
                ours.push(served()?);
            }
        }
        eprintln!(
            "raw, one run on all cores: {wide:.1?}; one run a core: {many:.1?}; ours: {ours:.1?}"
        );
        // The better of both ways to use the cores.
        let raw = median(wide).max(median(many));
        let ours = median(ours);
        println!(
            "| ResNet-50-shaped net, concurrency 8 (images/s) | {ours:.1} | raw ONNX Runtime {raw:.1} | {:.2} | ≥ 0.95 |",
            ours / raw
        );
        Ok(())
    }

    fn iris(&self) -> anyhow::Result<()> {
        let path = self.model("iris_logistic").display().to_string();
        let raw = self.raw("iris_logistic", "X", "1x4", 1, 1)?;
        let json: &[(&str, &str)] = &[("Content-Type", "application/json")];
        let (one, many);
        {
            let server = self.ours(&[&path])?;
            let url = server.url("/v2/models/iris_logistic/infer");
            let request = Request { url, headers: json, body: IRIS };
            one = self.drive(&request, 1, 1)?;
            many = self.drive(&request, 32, 1)?;
        }
        let mut best: Option<(String, f64)> = None;
        for (name, rate) in self.python_peers(&path, json)? {
            eprintln!("{name}: {rate:.0}/s");
            if best.as_ref().is_none_or(|(_, most)| *most < rate) {
                best = Some((name, rate));
            }
        }
        let (peer, rate) = best.context("no peer ran")?;
        println!(
            "| iris, JSON, concurrency 32 (requests/s) | {:.0} | {peer} {rate:.0} | {:.1} | ≥ 20, aim 30 |",
            many.rate(),
            many.rate() / rate
        );
        println!(
            "| iris, p50 at concurrency 1 (µs) | {:.0} | raw run from Python {:.0} | +{:.0} µs | ≤ +100 µs |",
            one.p50,
            raw.p50,
            one.p50 - raw.p50
        );
        println!("| iris, p99 at concurrency 32 (ms) | {:.2} | | | < 2 |", many.p99 / 1e3);
        Ok(())
    }

    /// Requests per second of each Python server in each of its worker settings.
    fn python_peers(
        &self,
        model: &str,
        json: &[(&str, &str)],
    ) -> anyhow::Result<Vec<(String, f64)>> {
        let python = Environment::Peers.python()?;
        let scripts = paths::root().join("tests/peers");
        let mut rates = Vec::new();
        for workers in [1, 2] {
            let address = free_address()?;
            let mut command = Command::new(&python);
            command.arg(scripts.join("lit_server.py")).arg(model);
            command.args([address.port().to_string(), workers.to_string()]);
            let log = self.scratch.join("litserve.log");
            let server = Server::start(&mut command, address, "/health", &log)?;
            let body = br#"{"input":[[5.1,3.5,1.4,0.2]]}"#;
            let request = Request { url: server.url("/predict"), headers: json, body };
            rates.push((format!("LitServe ({workers})"), self.drive(&request, 32, 1)?.rate()));
        }
        for workers in [0, 2] {
            let address = free_address()?;
            let folder = mlserver_folder(&self.scratch, model, address, workers)?;
            let mut command = Command::new(python.with_file_name("mlserver"));
            command.arg("start").arg(&folder).env("PYTHONPATH", &scripts);
            command.current_dir(&self.scratch);
            let log = self.scratch.join("mlserver.log");
            let ready = "/v2/models/iris/ready";
            let server = Server::start(&mut command, address, ready, &log)?;
            let request =
                Request { url: server.url("/v2/models/iris/infer"), headers: json, body: IRIS };
            rates.push((format!("MLServer ({workers})"), self.drive(&request, 32, 1)?.rate()));
        }
        Ok(rates)
    }

    fn batching(&self) -> anyhow::Result<()> {
        for model in ["mlp", "mlp_wide"] {
            self.batching_of(model).with_context(|| model.to_owned())?;
        }
        Ok(())
    }

    fn batching_of(&self, model: &str) -> anyhow::Result<()> {
        let single = self.raw(model, "x", "1x64", 1, 1)?;
        let batch = self.raw(model, "x", "64x64", 1, 1)?;
        let gain = batch.rate * 64.0 / single.rate;
        let header = br#"{"inputs":[{"name":"x","shape":[1,64],"datatype":"FP32","parameters":{"binary_data_size":256}}],"parameters":{"binary_data_output":true}}"#;
        let mut body = header.to_vec();
        for _ in 0..64 {
            body.extend_from_slice(&0.5f32.to_le_bytes());
        }
        let length = header.len().to_string();
        let path = self.model(model).display().to_string();
        let mut rates = Vec::new();
        for batch in ["1", "64"] {
            let server = self.ours(&[&path, "--max-batch", batch])?;
            let request = Request {
                url: server.url(&format!("/v2/models/{model}/infer")),
                headers: &[("Inference-Header-Content-Length", &length)],
                body: &body,
            };
            rates.push(self.drive(&request, 64, 1)?.rate());
        }
        let [plain, batched] = rates.as_slice() else { bail!("two settings were measured") };
        println!(
            "| {model} (one run {:.0} µs), concurrency 64, batched (requests/s) | {batched:.0} | unbatched {plain:.0} | {:.2} | ≥ 3, or the raw engine's gain: {gain:.1} |",
            single.p50,
            batched / plain
        );
        Ok(())
    }

    fn memory(&self) -> anyhow::Result<()> {
        const MIB: f64 = 1024.0 * 1024.0;
        let empty = self.scratch.join("empty");
        fs::create_dir_all(&empty)?;
        let idle = {
            let folder = empty.display().to_string();
            let server = self.ours(&[&folder, "--model-control", "explicit"])?;
            server.resident()? as f64 / MIB
        };
        println!("| resident memory without a model (MiB) | {idle:.0} | | | ≤ 30 |");
        for name in ["iris_logistic", "ocr_rec", "resnet50"] {
            let path = self.model(name);
            let size = fs::metadata(&path)?.len() as f64 / MIB;
            let server = self.ours(&[&path.display().to_string()])?;
            let resident = server.resident()? as f64 / MIB;
            println!(
                "| resident memory with {name} (MiB) | {resident:.0} | file {size:.0} | +{:.0} | ≤ +60 |",
                resident - size
            );
        }
        Ok(())
    }

    fn start(&self) -> anyhow::Result<()> {
        let mut times = Vec::new();
        for turn in 0..5 {
            let state = self.scratch.join(format!("state-{turn}"));
            times.push(self.first_answer(&state)?);
        }
        times.sort();
        let median = times.get(times.len() / 2).context("no start was measured")?;
        println!(
            "| `up` to the first prediction of a tiny model, median of 5 (ms) | {} | | | < 1000 |",
            median.as_millis()
        );
        Ok(())
    }

    /// Time from starting `up` to the body of the first answer.
    fn first_answer(&self, state: &Path) -> anyhow::Result<Duration> {
        let address = free_address()?;
        let begin = Instant::now();
        let mut child = Command::new(&self.trainyard)
            .env("ORT_DYLIB_PATH", &self.library)
            .arg("up")
            .arg(paths::root().join("examples/iris"))
            .args(["--port", &address.port().to_string(), "--state-dir"])
            .arg(state)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let deadline = begin + Duration::from_secs(30);
        let taken = loop {
            if predicts(address) {
                break begin.elapsed();
            }
            if deadline < Instant::now() {
                bail!("`up` answered no prediction within 30 s");
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        run(Command::new("kill").args(["-INT", &child.id().to_string()]))?;
        child.wait()?;
        if answers(address, "/v2/health/live") {
            bail!("the gateway outlived `up`");
        }
        Ok(taken)
    }
}

/// Whether one prediction through the gateway is answered with 200.
fn predicts(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(100))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        write!(
            stream,
            "POST /v2/models/iris/infer HTTP/1.1\r\nHost: iris\r\nContent-Length: {}\r\n\r\n",
            EXAMPLE.len()
        )?;
        stream.write_all(EXAMPLE)?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        Ok(line.contains(" 200"))
    };
    ask().unwrap_or(false)
}

fn mlserver_folder(
    scratch: &Path,
    model: &str,
    address: SocketAddr,
    workers: usize,
) -> anyhow::Result<PathBuf> {
    let folder = scratch.join(format!("mlserver-{workers}"));
    fs::create_dir_all(folder.join("iris"))?;
    let (grpc, metrics) = (free_address()?.port(), free_address()?.port());
    let settings = serde_json::json!({
        "host": "127.0.0.1", "http_port": address.port(), "grpc_port": grpc, "metrics_port": metrics,
        "parallel_workers": workers, "debug": false, "use_structured_logging": false,
    });
    fs::write(folder.join("settings.json"), settings.to_string())?;
    let settings = serde_json::json!({
        "name": "iris", "implementation": "onnx_model.OnnxModel", "parameters": {"uri": model},
    });
    fs::write(folder.join("iris/model-settings.json"), settings.to_string())?;
    Ok(folder)
}
