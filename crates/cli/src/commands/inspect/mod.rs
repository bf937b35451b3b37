//! `trainyard inspect`: what a model takes, gives, needs and whether its format is safe.

mod onnx;
mod other;
mod target;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use trainyard_serving::engine::EnginePreference;

use self::target::Found;
use crate::failure::failure;
use crate::print::print_line;

/// Show what a model takes and gives, and whether the engine can run it
#[derive(Args)]
pub(crate) struct Inspect {
    /// An .onnx file, a folder with models, or any other model file
    #[arg(value_name = "MODEL")]
    path: PathBuf,
    /// The engine to compare the model's operators with
    #[arg(long, value_enum, default_value_t)]
    engine: Engine,
    /// Print JSON: a list with one object for each model
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Engine {
    /// ONNX Runtime if it is found, else the built-in one
    #[default]
    Auto,
    Onnxruntime,
    /// The built-in engine
    Tract,
}

impl Inspect {
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        let found = target::find(&self.path)?;
        let preference = match self.engine {
            Engine::Auto => EnginePreference::Auto,
            Engine::Onnxruntime => EnginePreference::OnnxRuntime,
            Engine::Tract => EnginePreference::Tract,
        };
        let mut engine = None;
        let mut incomplete = false;
        let mut texts = Vec::new();
        let mut objects = Vec::new();
        for found in &found {
            match found {
                Found::Onnx(path) => {
                    // Started at the first model that needs it: starting loads a library.
                    let engine = match &engine {
                        Some(engine) => engine,
                        None => {
                            let choice = trainyard_serving::engine::choose(preference);
                            engine.insert(choice.map_err(failure)?.engine)
                        }
                    };
                    let report = onnx::report(path, engine.as_ref())?;
                    incomplete |= !report.missing.is_empty();
                    texts.push(report.as_text());
                    objects.push(report.as_json());
                }
                Found::Other(path, format) => {
                    texts.push(other::as_text(path, format));
                    objects.push(other::as_json(path, format));
                }
            }
        }
        if self.json {
            print_line(&format!("{:#}", serde_json::Value::Array(objects)))?;
        } else {
            print_line(&texts.join("\n\n"))?;
        }
        Ok(if incomplete { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}
