//! `trainyard serve`: the model server.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use miette::{Context, IntoDiagnostic};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use trainyard_api::scalar::{Bytes, Period};
use trainyard_serving::Server;
use trainyard_serving::engine::EnginePreference;
use trainyard_serving::http::{self, HttpOptions};
use trainyard_serving::server::{ModelControl, ServerOptions, VersionState};
use trainyard_telemetry::ProcessMetrics;

use super::daemon::{self, Format};

/// Serve models over REST and gRPC on one port
#[derive(Args)]
#[command(disable_version_flag = true)]
pub(crate) struct Serve {
    /// Model files (.onnx), folders with one, Triton repositories, folders of numbered versions, or
    /// MLflow models
    #[arg(required = true, value_name = "TARGET")]
    targets: Vec<PathBuf>,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// Port to listen on; 0 takes any that is free
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// File to write the address to once the server listens, as {"address":"HOST:PORT"}
    #[arg(long, value_name = "FILE")]
    address_file: Option<PathBuf>,
    /// Name of the model, where there is one
    #[arg(long)]
    name: Option<String>,
    /// Who decides which models are loaded
    #[arg(long, value_enum, default_value_t = Control::None)]
    model_control: Control,
    /// How often to look for changes, with --model-control poll
    #[arg(long, default_value = "15s", value_name = "TIME")]
    poll_interval: Period,
    /// Model to load at start, with --model-control explicit; may be repeated
    #[arg(long, value_name = "NAME")]
    load_model: Vec<String>,
    /// What runs the models
    #[arg(long, value_enum, default_value_t = EngineName::Auto)]
    engine: EngineName,
    /// Compute threads [default: the CPUs that the process may use]
    #[arg(long)]
    threads: Option<usize>,
    /// Largest batch, in place of what the models' configurations say; 1 is none
    #[arg(long, value_name = "N")]
    max_batch: Option<usize>,
    /// How long a request may wait for others to join its batch, such as 2ms or 500us
    #[arg(long, value_name = "TIME")]
    max_delay: Option<Period>,
    /// Requests that may wait for one model; more are refused with 503
    #[arg(long, value_name = "N")]
    max_queue: Option<usize>,
    /// The one version to serve
    #[arg(long, value_name = "N")]
    version: Option<u64>,
    /// Largest request body
    #[arg(long, default_value = "64Mi", value_name = "SIZE")]
    max_body: Bytes,
    /// How long to go on as before once the server is told to stop, until those who send requests
    /// know; a second signal ends it
    #[arg(long, default_value = "0s", value_name = "TIME")]
    shutdown_delay: Period,
    /// How long requests in flight may take once the server is told to stop
    #[arg(long, default_value = "30s", value_name = "TIME")]
    drain_timeout: Period,
    /// How log lines look
    #[arg(long, value_enum, default_value_t = Format::Auto, env = "TRAINYARD_LOG_FORMAT")]
    log_format: Format,
    /// Log each request
    #[arg(long)]
    access_log: bool,
    /// GPU memory that the engine may take
    #[arg(long, value_name = "SIZE")]
    gpu_memory: Option<Bytes>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Control {
    /// All models are loaded at start
    None,
    /// Changes of the folders are followed
    Poll,
    /// Clients load and unload models
    Explicit,
}

#[derive(Clone, Copy, ValueEnum)]
enum EngineName {
    /// ONNX Runtime where its library is found, else the built-in engine
    Auto,
    /// ONNX Runtime
    Onnxruntime,
    /// The built-in engine
    Tract,
}

impl Serve {
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        let name = self.name.clone().unwrap_or_else(|| "trainyard-serve".to_owned());
        let (_telemetry, runtime) = daemon::start(name, self.log_format, "info")?;
        runtime.block_on(self.serve())
    }

    async fn serve(self) -> miette::Result<ExitCode> {
        let mut terminate = signal(SignalKind::terminate()).into_diagnostic()?;
        let mut interrupt = signal(SignalKind::interrupt()).into_diagnostic()?;
        // Before the models are looked at, which may take long: a port that is taken is said at once.
        let listener = TcpListener::bind((self.host.as_str(), self.port))
            .into_diagnostic()
            .wrap_err_with(|| format!("cannot listen on {}:{}", self.host, self.port))?;
        let address = listener.local_addr().into_diagnostic()?;

        let server = match Server::start(self.server_options()) {
            Ok(server) => server,
            Err(error) => {
                for problem in error.problems {
                    eprintln!("error: {problem}");
                }
                return Ok(ExitCode::from(2));
            }
        };
        server.metrics().with_registry(|registry| {
            registry.register_collector(Box::new(ProcessMetrics));
        });
        introduce(&server, address);
        if let Some(file) = &self.address_file {
            write_address(file, address)
                .into_diagnostic()
                .wrap_err_with(|| format!("cannot write {}", file.display()))?;
        }

        let stop = CancellationToken::new();
        let serving = http::serve(server.clone(), listener, self.http_options(), stop.clone());
        let signals = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if !self.shutdown_delay.0.is_zero() {
                eprintln!("told to stop: going on for {}", self.shutdown_delay);
                tokio::select! {
                    () = tokio::time::sleep(self.shutdown_delay.0) => {}
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            }
            eprintln!("stopping: requests in flight are finished first");
            stop.cancel();
        };
        let loading = async {
            let is_loaded = tokio::select! {
                is_loaded = tell_when_loaded(&server) => is_loaded,
                () = stop.cancelled() => true,
            };
            if !is_loaded {
                // Whoever started it restarts it or rolls back; half a server would hide the fault.
                stop.cancel();
            }
            is_loaded
        };
        let signals = async {
            tokio::select! {
                () = signals => {}
                () = stop.cancelled() => {}
            }
        };
        let (result, (), is_loaded) = tokio::join!(serving, signals, loading);
        result.into_diagnostic().wrap_err("the listener failed")?;
        server.shutdown().await;
        Ok(if is_loaded { ExitCode::SUCCESS } else { ExitCode::from(2) })
    }

    fn server_options(&self) -> ServerOptions {
        ServerOptions {
            targets: self.targets.clone(),
            name: self.name.clone(),
            control: match self.model_control {
                Control::None => ModelControl::None,
                Control::Poll => ModelControl::Poll(self.poll_interval.0),
                Control::Explicit => ModelControl::Explicit { load: self.load_model.clone() },
            },
            engine: match self.engine {
                EngineName::Auto => EnginePreference::Auto,
                EngineName::Onnxruntime => EnginePreference::OnnxRuntime,
                EngineName::Tract => EnginePreference::Tract,
            },
            threads: self.threads,
            max_batch: self.max_batch,
            max_delay: self.max_delay.map(|delay| delay.0),
            max_queue: self.max_queue,
            version: self.version,
            gpu_memory_limit: self.gpu_memory.map(|bytes| bytes.0),
        }
    }

    fn http_options(&self) -> HttpOptions {
        HttpOptions {
            max_body_bytes: usize::try_from(self.max_body.0).unwrap_or(usize::MAX),
            drain_timeout: self.drain_timeout.0,
            access_log: self.access_log,
            trace: trainyard_telemetry::is_exporting().then_some(trainyard_telemetry::set_parent),
            ..HttpOptions::default()
        }
    }
}

/// Says what runs and where.
fn introduce(server: &Server, address: SocketAddr) {
    let engine = server.engine();
    let library = match &engine.library {
        Some(path) => format!(", from {}", path.display()),
        None => String::new(),
    };
    eprintln!(
        "trainyard {}: engine {} {} on {}, {} threads{library}",
        env!("CARGO_PKG_VERSION"),
        engine.name,
        engine.version,
        engine.device,
        engine.threads,
    );
    eprintln!("REST and gRPC on http://{address} (API: http://{address}/openapi.json)");
}

/// Says which models serve, and which do not and why; false if any does not that should.
async fn tell_when_loaded(server: &Server) -> bool {
    let started = std::time::Instant::now();
    let result = server.loaded().await;
    let took = Duration::from_millis(u64::try_from(started.elapsed().as_millis()).unwrap_or(0));
    for entry in server.index() {
        if let (VersionState::Ready, Some(version)) = (entry.state, entry.version) {
            eprintln!("model {} version {version} is ready", entry.name);
        }
    }
    match &result {
        Ok(()) => eprintln!("ready after {took:?}"),
        Err(error) => error.problems.iter().for_each(|problem| eprintln!("error: {problem}")),
    }
    result.is_ok()
}

/// Writes the file as a whole: who waits for it never reads half of it.
fn write_address(file: &Path, address: SocketAddr) -> std::io::Result<()> {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    let partial = PathBuf::from(name);
    let content = serde_json::json!({ "address": address.to_string() }).to_string();
    let mut out = fs::File::create(&partial)?;
    out.write_all(content.as_bytes())?;
    drop(out);
    fs::rename(&partial, file)
}
