//! Development chores: `cargo xtask --help`.

mod bench;
mod generate;
mod paths;
mod python;
mod run;
mod test;

use clap::Parser;

/// Development chores of Trainyard
#[derive(Parser)]
#[command(name = "cargo xtask")]
enum Xtask {
    /// Run every test: formatting, lints, Rust tests, and real clients against the real server
    Test(test::Test),
    /// Measure us beside our peers and print the ratios
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Generate the Rust side of the .proto files anew
    Generate,
    /// Pin the Python packages of the test environments anew (needs `uv` on the path)
    Lock,
}

fn main() -> anyhow::Result<()> {
    match Xtask::parse() {
        Xtask::Test(test) => test.run(),
        Xtask::Bench(bench) => bench.run(),
        Xtask::Generate => generate::run(),
        Xtask::Lock => python::lock(),
    }
}
