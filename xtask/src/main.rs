//! Development chores: `cargo xtask --help`.

mod bench;
mod bundle;
mod cluster;
mod eval;
mod generate;
mod image;
mod oci;
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
    /// Measure how good judgements are against labels made by hand
    #[command(subcommand)]
    Eval(eval::Eval),
    /// Run a real Kubernetes on this machine, for development and tests
    Cluster(cluster::Cluster),
    /// Make the product's container image, without a container engine
    Image(image::ImageArgs),
    /// Generate the Rust side of the .proto files and the rules' pages anew
    Generate,
    /// Pin the Python packages of the test environments anew (needs `uv` on the path)
    Lock,
}

fn main() -> anyhow::Result<()> {
    match Xtask::parse() {
        Xtask::Test(test) => test.run(),
        Xtask::Bench(bench) => bench.run(),
        Xtask::Eval(eval) => eval.run(),
        Xtask::Cluster(cluster) => cluster.run(),
        Xtask::Image(image) => image.run(),
        Xtask::Generate => generate::run(),
        Xtask::Lock => python::lock(),
    }
}
