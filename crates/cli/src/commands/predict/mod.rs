//! `trainyard predict`: sends data to a served model and shows what it answers, or measures it.

mod address;
mod bench;
mod client;
mod element;
mod input;
mod metadata;
mod output;
mod values;
mod wire;

use std::process::ExitCode;

use clap::Args;
use trainyard_api::scalar::Period;
use trainyard_telemetry::Secret;

use self::client::{Client, Target};
use self::input::{Format, Source};
use super::supervisor::State;

/// Ask a served model, or measure it with --bench
#[derive(Args)]
#[command(disable_version_flag = true)]
pub(crate) struct Predict {
    /// Name of the model
    #[arg(value_name = "NAME")]
    model: String,
    /// Data for all inputs or, as TENSOR=FILE, for one; `-` reads standard input. JSON (a request
    /// body, a list, or an object by input), CSV with a header, .npy or .npz
    #[arg(short, long = "input", value_name = "[TENSOR=]FILE", required = true)]
    inputs: Vec<Source>,
    /// What the data is, where neither its name nor its first bytes tell
    #[arg(long, value_enum, default_value_t)]
    input_format: Format,
    /// Where the model is served; by default the running `trainyard up` of this folder, else
    /// http://127.0.0.1:8080
    #[arg(long, env = "TRAINYARD_URL")]
    url: Option<String>,
    #[command(flatten)]
    state: State,
    /// Sent as bearer token
    #[arg(long, env = "TRAINYARD_API_KEY", hide_env_values = true)]
    api_key: Option<Secret>,
    /// Version of the model; the newest by default
    #[arg(long)]
    version: Option<String>,
    /// Outputs to ask for; all by default
    #[arg(long, value_name = "NAME")]
    select: Vec<String>,
    /// How to print the answer; by default a table on a terminal and JSON otherwise
    #[arg(short, long, value_enum)]
    output: Option<output::Style>,
    /// Longest wait for an answer
    #[arg(long, default_value = "60s")]
    timeout: Period,
    #[command(flatten)]
    bench: bench::Options,
}

impl Predict {
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        let url = address::find(self.url.as_deref(), &self.state)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(crate::failure::failure)?;
        runtime.block_on(self.predict(url))
    }

    async fn predict(self, url: String) -> miette::Result<ExitCode> {
        let target = Target {
            url,
            model: self.model,
            version: self.version,
            api_key: self.api_key,
            timeout: self.timeout.0,
        };
        let data = input::read(&self.inputs, self.input_format)?;
        let client = Client::new(&target)?;
        let metadata = client.metadata().await?;
        let tensors = input::bind(data, &metadata)?;
        metadata.check_outputs(&self.select)?;
        let request = wire::encode(&tensors, &self.select)?;
        if self.bench.bench {
            return bench::run(&self.bench, &target, &request).await;
        }
        let answer = client.infer(&request).await?;
        output::show(&answer, self.output)?;
        Ok(ExitCode::SUCCESS)
    }
}
