//! `trainyard plan simulate`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use miette::miette;
use serde_json::{Value, json};
use trainyard_diagnose::{Moving, occupancy};
use trainyard_packing::{
    Chart, Discipline, GpuRequest, Inflation, Models, Node, Pod, Policy, Request, Run, Series,
    Spread, Timed, TimedRun, read_nodes, read_pods, svg, timed_pods,
};

use super::{Output, csv, in_parallel, read, write};
use crate::commands::dump::Places;
use crate::commands::gpu::not_known;
use crate::failure::failure;
use crate::print::print_line;
use crate::table::table;

/// Simulate how policies pack a workload onto a cluster
///
/// `inflate` lets the pods of the trace come in random order, and more like them, until they ask
/// for LOAD times the cluster's GPUs; nothing leaves, and what fits nowhere is refused: the
/// experiment of the FGD paper (USENIX ATC 2023). `timed` plays the trace by its own times, with a
/// queue. Of a cluster (`--cluster` without a file, or `--from`) the nodes start with what runs on
/// them, the pods that wait come first, and then more like those that run and wait.
#[derive(Args)]
pub(super) struct Simulate {
    /// Nodes as CSV with columns sn, cpu_milli, memory_mib, gpu, model; without a file, the nodes and
    /// pods of the cluster of the kubeconfig's context
    #[arg(long, value_name = "NODES.csv", num_args = 0..=1, default_missing_value = "", value_parser = cluster, conflicts_with = "from")]
    cluster: Option<Cluster>,
    /// Pods as CSV with columns name, cpu_milli, memory_mib, num_gpu, gpu_milli, and perhaps
    /// gpu_spec, creation_time, scheduled_time, deletion_time; needed with --cluster NODES.csv
    #[arg(long, value_name = "TRACE.csv")]
    workload: Option<PathBuf>,
    #[command(flatten)]
    places: Places,
    /// Policies, with commas between them, or `all`
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_value = "fgd,least-stranding")]
    policy: Vec<String>,
    /// Whether to inflate the workload or to play it in time
    #[arg(long, value_enum, default_value_t)]
    mode: Mode,
    /// First seed; equal seeds give equal results
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Runs of each policy, with seeds that follow one another
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    runs: u64,
    /// Requests for GPUs at the end, as a part of the cluster's GPUs
    #[arg(long, default_value_t = 1.3, value_parser = load)]
    load: f64,
    /// Who may start while others wait, with `--mode timed`
    #[arg(long, value_enum, default_value_t)]
    queue: Queue,
    /// How to print the results
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// Draw the first run of each policy
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

/// Where nodes are.
#[derive(Clone)]
enum Cluster {
    Live,
    File(PathBuf),
}

fn cluster(text: &str) -> Result<Cluster, std::convert::Infallible> {
    Ok(if text.is_empty() { Cluster::Live } else { Cluster::File(PathBuf::from(text)) })
}

/// What is simulated.
struct Scene {
    /// With what runs on them.
    nodes: Vec<Node>,
    /// Those that come.
    pods: Vec<Pod>,
    /// Those of which more come.
    more: Vec<Request>,
    models: usize,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Mode {
    #[default]
    Inflate,
    Timed,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Queue {
    /// Any pod that fits, the longest waiting first
    #[default]
    Any,
    /// None before the one that waits longest
    Strict,
}

fn load(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(load) if (0.01..=100.0).contains(&load) => Ok(load),
        _ => Err("a number from 0.01 to 100, such as 1.3".to_owned()),
    }
}

/// The policies of the command line, each once.
fn policies(names: &[String]) -> miette::Result<Vec<Policy>> {
    if names.iter().any(|name| name == "all") {
        return Ok(Policy::ALL.to_vec());
    }
    let mut policies = Vec::new();
    for name in names {
        let policy = name.parse().map_err(|error| miette!("{error}, all"))?;
        if !policies.contains(&policy) {
            policies.push(policy);
        }
    }
    Ok(policies)
}

impl Simulate {
    pub(super) fn run(self) -> miette::Result<ExitCode> {
        let policies = policies(&self.policy)?;
        let Scene { nodes, pods, more, models } = self.scene()?;
        let jobs: Vec<(Policy, u64)> = policies
            .iter()
            .flat_map(|policy| (0..self.runs).map(|run| (*policy, self.seed.wrapping_add(run))))
            .collect();
        let (rows, charts): (Vec<Row>, Vec<Chart>) = match self.mode {
            Mode::Inflate => {
                let workload: Vec<Request> = pods.iter().map(|pod| pod.request).collect();
                let inflation = Inflation {
                    nodes: &nodes,
                    workload: &workload,
                    more: &more,
                    models,
                    load: self.load,
                };
                let runs = in_parallel(&jobs, |(policy, seed)| inflation.run(*policy, *seed));
                let runs = by_policy(&policies, runs);
                (runs.iter().map(inflated).collect(), inflation_charts(&runs))
            }
            Mode::Timed => {
                let pods = timed_pods(&pods).map_err(failure)?;
                let discipline = match self.queue {
                    Queue::Any => Discipline::Any,
                    Queue::Strict => Discipline::Strict,
                };
                let timed =
                    Timed { nodes: &nodes, pods: &pods, models, discipline, interruptions: None };
                let runs = in_parallel(&jobs, |(policy, seed)| timed.run(*policy, *seed));
                let runs = by_policy(&policies, runs);
                (runs.iter().map(played).collect(), timed_charts(&runs))
            }
        };
        if let Some(path) = &self.plot {
            write(path, &svg(&charts))?;
        }
        print_line(&self.printed(&rows)?)?;
        Ok(ExitCode::SUCCESS)
    }

    fn scene(&self) -> miette::Result<Scene> {
        match (&self.cluster, &self.workload) {
            (Some(Cluster::File(cluster)), Some(workload)) if !self.places.is_named() => {
                traces(cluster, workload)
            }
            (Some(Cluster::File(_)), Some(_)) => Err(miette!(
                "nodes are in a file, or in a cluster: leave out --cluster NODES.csv, or --from, --context and --kubeconfig"
            )),
            (Some(Cluster::File(_)), None) => {
                Err(miette!("which pods come? --workload TRACE.csv says it"))
            }
            (None, _) if !self.places.is_named() => Err(miette!(
                help = "--cluster NODES.csv --workload TRACE.csv reads traces; --cluster alone looks at the cluster of the kubeconfig's context; --from FILE at a snapshot of one",
                "which cluster?"
            )),
            (_, Some(_)) => Err(miette!(
                "pods of a trace and nodes of a cluster name GPUs otherwise: leave out --workload, and the cluster's own pods come, or give --cluster NODES.csv"
            )),
            (_, None) if self.mode == Mode::Timed => Err(miette!(
                "nobody knows when the pods of a cluster end: --mode timed needs traces, by --cluster NODES.csv --workload TRACE.csv"
            )),
            (_, None) => self.seen(),
        }
    }

    /// A cluster with what runs and waits there.
    fn seen(&self) -> miette::Result<Scene> {
        let seen = occupancy(&self.places.read()?, Moving::Services).map_err(not_known)?;
        for aside in &seen.aside {
            eprintln!("note: {} is left out: {}", aside.object, aside.why);
        }
        let asked = seen.defrag(Policy::FirstFit, 0);
        let running = seen.tenants.iter().map(|tenant| tenant.request);
        let waiting = || seen.newcomers.iter().map(|newcomer| newcomer.request);
        let more: Vec<Request> =
            running.chain(waiting()).filter(|it| it.gpu != GpuRequest::None).collect();
        let nodes = asked.nodes();
        let gpus: u32 = nodes.iter().map(|node| u32::from(node.capacity().gpus)).sum();
        if gpus == 0 {
            return Err(miette!(
                help = "`trainyard gpu nodes` shows what nodes announce",
                "no node that takes pods announces a GPU"
            ));
        }
        eprintln!(
            "{} nodes with {gpus} GPUs, {} pods that run and {} that wait",
            nodes.len(),
            seen.tenants.len(),
            seen.newcomers.len()
        );
        let pods = seen.waiting.iter().zip(waiting()).map(|(it, request)| Pod {
            name: it.pod.name.clone(),
            request,
            arrival: None,
            duration: None,
        });
        Ok(Scene { pods: pods.collect(), nodes, more, models: seen.fleet.models() })
    }

    fn printed(&self, rows: &[Row]) -> miette::Result<String> {
        match self.output {
            Output::Json => {
                let policies: Vec<Value> = rows.iter().map(Row::json).collect();
                let mode = match self.mode {
                    Mode::Inflate => json!({"mode": "inflate", "load": self.load}),
                    Mode::Timed => json!({"mode": "timed"}),
                };
                let mut whole = json!({"seed": self.seed, "runs": self.runs, "policies": policies});
                if let (Some(whole), Some(mode)) = (whole.as_object_mut(), mode.as_object()) {
                    whole.extend(mode.clone());
                }
                serde_json::to_string_pretty(&whole).map_err(failure)
            }
            Output::Csv => {
                let mut header = vec!["policy"];
                for figure in rows.first().map(|row| row.figures.as_slice()).unwrap_or_default() {
                    header.extend([figure.key, figure.key_deviation]);
                }
                let rows: Vec<Vec<String>> = rows
                    .iter()
                    .map(|row| {
                        let figures = row.figures.iter();
                        let figures = figures
                            .flat_map(|it| [it.spread.mean, it.spread.deviation])
                            .map(|number| format!("{number:.4}"));
                        std::iter::once(row.policy.name().to_owned()).chain(figures).collect()
                    })
                    .collect();
                Ok(csv(&header, &rows))
            }
            Output::Table => {
                let mut header = vec!["POLICY"];
                header.extend(
                    rows.first().iter().flat_map(|row| row.figures.iter().map(|it| it.title)),
                );
                let rows = rows.iter().map(|row| {
                    let figures = row.figures.iter().map(Figure::shown);
                    std::iter::once(row.policy.name().to_owned()).chain(figures).collect()
                });
                Ok(table(&header, rows))
            }
        }
    }
}

/// Nodes and pods of traces.
fn traces(cluster: &Path, workload: &Path) -> miette::Result<Scene> {
    let mut models = Models::default();
    let name = cluster.display().to_string();
    let nodes = read_nodes(&name, &read(cluster)?, &mut models).map_err(failure)?;
    let name = workload.display().to_string();
    let pods = read_pods(&name, &read(workload)?, &mut models).map_err(failure)?;
    let nodes = nodes.into_iter().map(|it| it.node).collect();
    let more = pods.iter().map(|pod| pod.request).collect();
    Ok(Scene { nodes, pods, more, models: models.count() })
}

/// The results of each policy.
fn by_policy<R>(policies: &[Policy], results: Vec<R>) -> Vec<(Policy, Vec<R>)> {
    let each = results.len() / policies.len().max(1);
    let mut results = results.into_iter();
    policies.iter().map(|policy| (*policy, results.by_ref().take(each).collect())).collect()
}

/// One figure of a policy over its runs.
struct Figure {
    title: &'static str,
    key: &'static str,
    key_deviation: &'static str,
    decimals: usize,
    spread: Spread,
}

impl Figure {
    fn shown(&self) -> String {
        let Spread { mean, deviation } = self.spread;
        let decimals = self.decimals;
        format!("{mean:.decimals$} ± {deviation:.decimals$}")
    }
}

/// A policy and its figures.
struct Row {
    policy: Policy,
    figures: Vec<Figure>,
}

impl Row {
    fn json(&self) -> Value {
        let mut row = serde_json::Map::new();
        row.insert("policy".to_owned(), json!(self.policy.name()));
        for figure in &self.figures {
            let Spread { mean, deviation } = figure.spread;
            row.insert(figure.key.to_owned(), json!({"mean": mean, "deviation": deviation}));
        }
        Value::Object(row)
    }
}

fn inflated((policy, runs): &(Policy, Vec<Run>)) -> Row {
    let of = |value: fn(&Run) -> f64| Spread::of(runs.iter().map(value));
    let figures = vec![
        Figure {
            title: "ALLOCATED %",
            key: "allocated_percent",
            key_deviation: "allocated_percent_sd",
            decimals: 2,
            spread: of(|run| 100.0 * run.last().allocated),
        },
        Figure {
            title: "UNALLOCATED %",
            key: "unallocated_percent",
            key_deviation: "unallocated_percent_sd",
            decimals: 2,
            spread: of(|run| 100.0 * (1.0 - run.last().allocated)),
        },
        Figure {
            title: "FRAGMENTED %",
            key: "fragmented_percent",
            key_deviation: "fragmented_percent_sd",
            decimals: 2,
            spread: of(|run| 100.0 * run.last().fragmented),
        },
        Figure {
            title: "REFUSED",
            key: "refused",
            key_deviation: "refused_sd",
            decimals: 0,
            spread: of(|run| run.last().refused as f64),
        },
        Figure {
            title: "PODS",
            key: "pods",
            key_deviation: "pods_sd",
            decimals: 0,
            spread: of(|run| run.pods as f64),
        },
    ];
    Row { policy: *policy, figures }
}

fn played((policy, runs): &(Policy, Vec<TimedRun>)) -> Row {
    let of = |value: fn(&TimedRun) -> f64| Spread::of(runs.iter().map(value));
    let figures = vec![
        Figure {
            title: "ALLOCATED %",
            key: "mean_allocated_percent",
            key_deviation: "mean_allocated_percent_sd",
            decimals: 2,
            spread: of(|run| 100.0 * run.mean_allocated),
        },
        Figure {
            title: "MEAN WAIT s",
            key: "mean_wait_seconds",
            key_deviation: "mean_wait_seconds_sd",
            decimals: 0,
            spread: of(TimedRun::mean_wait),
        },
        Figure {
            title: "P95 WAIT s",
            key: "p95_wait_seconds",
            key_deviation: "p95_wait_seconds_sd",
            decimals: 0,
            spread: of(|run| run.wait_quantile(0.95) as f64),
        },
        Figure {
            title: "LONGEST WAIT s",
            key: "longest_wait_seconds",
            key_deviation: "longest_wait_seconds_sd",
            decimals: 0,
            spread: of(|run| run.wait_quantile(1.0) as f64),
        },
        Figure {
            title: "MAKESPAN s",
            key: "makespan_seconds",
            key_deviation: "makespan_seconds_sd",
            decimals: 0,
            spread: of(|run| run.makespan as f64),
        },
        Figure {
            title: "FIT NOWHERE",
            key: "impossible",
            key_deviation: "impossible_sd",
            decimals: 0,
            spread: of(|run| run.impossible as f64),
        },
    ];
    Row { policy: *policy, figures }
}

/// A chart with a line for the first run of each policy.
fn chart<R, S>(
    title: &str,
    (x, y): (&str, &str),
    runs: &[(Policy, Vec<R>)],
    samples: fn(&R) -> &[S],
    point: fn(&S) -> (f64, f64),
) -> Chart {
    let series = runs.iter().filter_map(|(policy, runs)| {
        let points = samples(runs.first()?).iter().map(point).collect();
        Some(Series { name: policy.name().to_owned(), points })
    });
    Chart { title: title.to_owned(), x: x.to_owned(), y: y.to_owned(), series: series.collect() }
}

fn inflation_charts(runs: &[(Policy, Vec<Run>)]) -> Vec<Chart> {
    let x = "GPUs asked for, % of the cluster's";
    let samples: fn(&Run) -> &[_] = |run| &run.samples;
    vec![
        chart("Allocation", (x, "allocated, %"), runs, samples, |it| {
            (100.0 * it.arrived, 100.0 * it.allocated)
        }),
        chart("Fragmentation", (x, "fragments, %"), runs, samples, |it| {
            (100.0 * it.arrived, 100.0 * it.fragmented)
        }),
        chart("Refused pods", (x, "pods"), runs, samples, |it| {
            (100.0 * it.arrived, it.refused as f64)
        }),
    ]
}

fn timed_charts(runs: &[(Policy, Vec<TimedRun>)]) -> Vec<Chart> {
    let x = "hours since the first pod";
    let samples: fn(&TimedRun) -> &[_] = |run| &run.samples;
    vec![
        chart("Allocation", (x, "allocated, %"), runs, samples, |it| {
            (it.time as f64 / 3600.0, 100.0 * it.allocated)
        }),
        chart("Fragmentation", (x, "fragments, %"), runs, samples, |it| {
            (it.time as f64 / 3600.0, 100.0 * it.fragmented)
        }),
        chart("Queue", (x, "pods that wait"), runs, samples, |it| {
            (it.time as f64 / 3600.0, it.queued as f64)
        }),
    ]
}
