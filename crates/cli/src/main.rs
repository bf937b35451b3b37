//! The `trainyard` binary: parses arguments, calls a library, prints.

mod commands;
mod failure;
mod print;
mod size;
mod table;
mod yaml;

use std::process::ExitCode;

use clap::Parser;

/// The ML platform in one binary: serve, train and share GPUs, on a laptop or on Kubernetes
#[derive(Parser)]
#[command(name = "trainyard", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: commands::Command,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // The one TLS provider of the process; nothing before this line could have installed another.
    let _ = rustls::crypto::ring::default_provider().install_default();
    if cli.command.only_prints() {
        end_with_the_reader();
    }
    match cli.command.run() {
        Ok(code) => code,
        Err(report) => {
            eprintln!("{report:?}");
            ExitCode::from(2)
        }
    }
}

/// Lets the process end where nobody reads its output any more, as in `trainyard status | head -1`.
///
/// Rust ignores SIGPIPE from the start of `main`; printing into a closed pipe is then an error, on
/// which `println!` panics.
fn end_with_the_reader() {
    // SAFETY: the default action of a signal runs no code of ours, and no other thread exists yet.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

#[test]
fn arguments_are_consistent() {
    use clap::CommandFactory;
    Cli::command().debug_assert();
}
