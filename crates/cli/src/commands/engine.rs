//! `trainyard engine`: which inference engine runs here, and installing one.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use trainyard_serving::engine::library::{self, Library, PINNED_VERSION, Progress, Search};

use crate::failure::failure;
use crate::print::print_line;
use crate::table::table;

/// List inference engines, or install one
#[derive(Args)]
pub(crate) struct Engine {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Show every ONNX Runtime library that is found, and which one is used
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Fetch ONNX Runtime once, with this machine's pip or uv
    Install {
        /// Do not fetch; succeed only if it is installed
        #[arg(long)]
        offline: bool,
    },
}

impl Engine {
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        match self.action {
            Action::List { json } => {
                let search = library::list();
                let text = if json { as_json(&search) } else { as_text(&search) };
                print_line(&text)?;
            }
            Action::Install { offline } => {
                let library = install(offline)?;
                print_line(&format!(
                    "ONNX Runtime {} is at {}",
                    library.version,
                    library.path.display()
                ))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn as_text(search: &Search) -> String {
    let usable = search.usable.iter().enumerate().map(|(at, library)| {
        let used = if at == 0 { "used" } else { "" };
        row(used, &library.version, library.origin.as_str(), &library.path)
    });
    let rejected =
        search.rejected.iter().map(|it| row("unusable", "", it.origin.as_str(), &it.path));
    let mut text = if search.usable.is_empty() && search.rejected.is_empty() {
        String::new()
    } else {
        let header = ["STATE", "VERSION", "FOUND BY", "LIBRARY"];
        format!("{}\n\n", table(&header, usable.chain(rejected)))
    };
    for rejected in &search.rejected {
        text.push_str(&format!("{}: {}\n\n", rejected.path.display(), rejected.reason));
    }
    text.push_str(if search.usable.is_empty() {
        "The built-in engine (tract) is used, which has fewer operators and is slower.\n\
         Install ONNX Runtime with `trainyard engine install`."
    } else {
        "Set ORT_DYLIB_PATH to use another library."
    });
    text
}

fn row(state: &str, version: &str, origin: &str, path: &std::path::Path) -> Vec<String> {
    vec![state.to_owned(), version.to_owned(), origin.to_owned(), path.display().to_string()]
}

fn as_json(search: &Search) -> String {
    let usable = search.usable.iter().enumerate().map(|(at, library)| {
        serde_json::json!({
            "path": library.path, "version": library.version,
            "origin": library.origin.as_str(), "used": at == 0,
        })
    });
    let rejected = search.rejected.iter().map(|rejected| {
        serde_json::json!({
            "path": rejected.path, "origin": rejected.origin.as_str(), "reason": rejected.reason,
        })
    });
    let engine = if search.usable.is_empty() { "tract" } else { "onnxruntime" };
    format!(
        "{:#}",
        serde_json::json!({
            "engine": engine,
            "libraries": usable.collect::<Vec<_>>(),
            "rejected": rejected.collect::<Vec<_>>(),
        })
    )
}

fn install(offline: bool) -> miette::Result<Library> {
    let bar = ProgressBar::no_length();
    let style = ProgressStyle::with_template("{msg} [{bar:30}] {bytes}/{total_bytes}");
    bar.set_style(style.expect("the template is right").progress_chars("=> "));
    let is_terminal = std::io::stderr().is_terminal();
    let mut told = String::new();
    let library = library::install(offline, &mut |progress: Progress| {
        bar.set_length(progress.total_bytes);
        bar.set_position(progress.done_bytes);
        if told != progress.stage {
            if !is_terminal {
                eprintln!("{}", progress.stage);
            }
            bar.set_message(progress.stage.clone());
            told = progress.stage;
        }
    });
    bar.finish_and_clear();
    let help = format!(
        "where this machine has no network, copy the library of ONNX Runtime {PINNED_VERSION} to \
         it and name it in ORT_DYLIB_PATH"
    );
    library.map_err(|error| miette::miette!(help = help, "{}", failure(error)))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use trainyard_serving::engine::library::{Origin, Rejected};

    use super::*;

    fn search() -> Search {
        let library = |origin, path, version: &str| Library {
            origin,
            path: PathBuf::from(path),
            version: version.to_owned(),
        };
        Search {
            usable: vec![
                library(Origin::Cache, "/c/libonnxruntime.so.1.31.1", "1.31.1"),
                library(Origin::System, "libonnxruntime.so", "1.20.0"),
            ],
            rejected: vec![Rejected {
                origin: Origin::Variable,
                path: PathBuf::from("/old.so"),
                reason: "it is version 1.9.0, and 1.17 or newer is needed".to_owned(),
            }],
        }
    }

    #[test]
    fn people_see_which_one_is_used() {
        insta::assert_snapshot!(as_text(&search()), @r"
        STATE     VERSION  FOUND BY                LIBRARY
        used      1.31.1   installed by trainyard  /c/libonnxruntime.so.1.31.1
                  1.20.0   the system's loader     libonnxruntime.so
        unusable           ORT_DYLIB_PATH          /old.so

        /old.so: it is version 1.9.0, and 1.17 or newer is needed

        Set ORT_DYLIB_PATH to use another library.
        ");
        insta::assert_snapshot!(as_text(&Search::default()), @r"
        The built-in engine (tract) is used, which has fewer operators and is slower.
        Install ONNX Runtime with `trainyard engine install`.
        ");
    }

    #[test]
    fn programs_see_it_too() {
        let json: serde_json::Value = serde_json::from_str(&as_json(&search())).unwrap();
        assert_eq!(json["engine"], "onnxruntime");
        assert_eq!(json["libraries"][0]["used"], true);
        assert_eq!(json["rejected"][0]["origin"], "ORT_DYLIB_PATH");
    }
}
