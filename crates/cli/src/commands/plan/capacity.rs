//! `trainyard plan capacity`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use miette::miette;
use serde_json::{Value, json};
use trainyard_packing::{
    CapacityPlan, Demand, Interruptions, Kind, Models, Policy, read_pods, read_prices, timed_pods,
};

use super::{Output, csv, in_parallel, read};
use crate::failure::failure;
use crate::print::print_line;
use crate::table::table;

/// The list that comes with the program.
const PRICES: &[u8] = include_bytes!("../../../../../data/gpu-prices.csv");

/// Say how many machines of which kind a workload needs, cheapest first
///
/// The job trace is played on sets of machines that can be rented, with counts searched by bisection
/// until pods start within the wait. Spot machines are taken away and given back at random; pods
/// then go on from their last checkpoint.
#[derive(Args)]
pub(super) struct Capacity {
    /// Pods with their times, as for `plan simulate --mode timed`
    #[arg(long, value_name = "TRACE.csv")]
    workload: PathBuf,
    /// The longest that a pod may wait in all, as `90s`, `30m`, `2h`
    #[arg(long, value_name = "TIME", value_parser = time)]
    max_wait: Duration,
    /// The part of the pods that must not wait longer
    #[arg(long, value_name = "PART", default_value_t = 0.99, value_parser = part)]
    part: f64,
    /// Region whose machines are looked at
    #[arg(long, value_name = "NAME", default_value = "us-east-2")]
    region: String,
    /// Kinds of machines that are looked at, with commas between them [default: all of the region]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    instance: Vec<String>,
    /// Look at spot machines too
    #[arg(long)]
    spot: bool,
    /// Mean time until a spot machine is taken
    #[arg(long, value_name = "TIME", default_value = "12h", value_parser = time)]
    spot_uptime: Duration,
    /// Mean time until there is another one in its place
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = time)]
    spot_outage: Duration,
    /// Time between two checkpoints of a pod
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = time)]
    checkpoint_every: Duration,
    /// A GPU model of the trace, and the one of the price list that is meant: `V100M16=V100`
    #[arg(long, value_name = "MODEL=GPU", value_parser = alias)]
    alias: Vec<(String, String)>,
    /// Prices as CSV, in the columns of the list that comes with the program
    #[arg(long, value_name = "FILE.csv")]
    prices: Option<PathBuf>,
    /// How pods are placed
    #[arg(long, value_name = "NAME", default_value = "least-stranding")]
    policy: String,
    /// Equal seeds give equal results
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Plans to print
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    plans: u32,
    /// How to print the results
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// A time with its unit.
fn time(text: &str) -> Result<Duration, String> {
    let wrong = || "a whole number and s, m, h or d, such as 30m".to_owned();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = text.trim_end_matches(unit).parse().map_err(|_| wrong())?;
    number
        .checked_mul(seconds)
        .filter(|it| *it <= 1 << 40)
        .map(Duration::from_secs)
        .ok_or_else(wrong)
}

fn part(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(part) if (0.01..=1.0).contains(&part) => Ok(part),
        _ => Err("a number from 0.01 to 1".to_owned()),
    }
}

fn alias(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((model, gpu)) if !model.is_empty() && !gpu.is_empty() => {
            Ok((model.to_owned(), gpu.to_owned()))
        }
        _ => Err("a model of the trace and one of the price list, such as V100M16=V100".to_owned()),
    }
}

impl Capacity {
    pub(super) fn run(self) -> miette::Result<ExitCode> {
        let policy: Policy = self.policy.parse().map_err(failure)?;
        let mut models = Models::default();
        for (model, gpu) in &self.alias {
            models.alias(model, gpu);
        }
        let kinds = self.kinds(&mut models)?;
        let workload = self.workload.display().to_string();
        let pods = read_pods(&workload, &read(&self.workload)?, &mut models).map_err(failure)?;
        let pods = timed_pods(&pods).map_err(failure)?;
        let demand = Demand {
            pods: &pods,
            models: models.count(),
            policy,
            max_wait: self.max_wait.as_secs(),
            part: self.part,
            interruptions: Interruptions {
                mean_uptime: self.spot_uptime.as_secs_f64().max(1.0),
                mean_outage: self.spot_outage.as_secs_f64().max(1.0),
                checkpoint_interval: self.checkpoint_every.as_secs().max(1),
            },
            seed: self.seed,
        };
        let candidates = demand.candidates(&kinds).map_err(failure)?;
        let searched = in_parallel(&candidates, |set| demand.search(&kinds, set));
        let mut plans: Vec<CapacityPlan> = searched.into_iter().flatten().collect();
        if plans.is_empty() {
            return Err(miette!(
                "no number of machines was enough: on spot machines, some pods make no progress \
                 between two interruptions; give a shorter --checkpoint-every or leave out --spot"
            ));
        }
        plans.sort_by(|a, b| a.price.total_cmp(&b.price).then_with(|| a.counts.cmp(&b.counts)));
        plans.dedup_by(|a, b| a.counts == b.counts);
        plans.truncate(self.plans as usize);
        print_line(&self.printed(&plans, &kinds)?)?;
        Ok(ExitCode::SUCCESS)
    }

    /// The machines of the price list that are looked at.
    fn kinds(&self, models: &mut Models) -> miette::Result<Vec<Kind>> {
        let (file, text) = match &self.prices {
            Some(path) => (path.display().to_string(), read(path)?),
            None => ("gpu-prices.csv".to_owned(), PRICES.to_vec()),
        };
        let all = read_prices(&file, &text, models).map_err(failure)?;
        let here: Vec<_> = all.iter().filter(|it| it.region == self.region).collect();
        if here.is_empty() {
            let mut regions: Vec<&str> = all.iter().map(|it| it.region.as_str()).collect();
            regions.sort_unstable();
            regions.dedup();
            let regions = regions.join(", ");
            return Err(miette!(
                "no prices of region `{}` in {file}; there are {regions}",
                self.region
            ));
        }
        let names = || here.iter().map(|it| it.name.as_str()).collect::<Vec<_>>().join(", ");
        if let Some(unknown) =
            self.instance.iter().find(|name| here.iter().all(|it| it.name != **name))
        {
            return Err(miette!(
                "no price of `{unknown}` in {}; there are {}",
                self.region,
                names()
            ));
        }
        let chosen =
            here.iter().filter(|it| self.instance.is_empty() || self.instance.contains(&it.name));
        let mut kinds = Vec::new();
        for it in chosen {
            let of = |price: f64, is_spot: bool| Kind {
                name: it.name.clone(),
                capacity: it.capacity,
                price,
                is_spot,
            };
            kinds.push(of(it.on_demand, false));
            kinds.extend(it.spot.filter(|_| self.spot).map(|price| of(price, true)));
        }
        Ok(kinds)
    }

    fn printed(&self, plans: &[CapacityPlan], kinds: &[Kind]) -> miette::Result<String> {
        let machines = |plan: &CapacityPlan| {
            plan.counts
                .iter()
                .filter_map(|(kind, count)| {
                    let kind = kinds.get(*kind)?;
                    let spot = if kind.is_spot { " (spot)" } else { "" };
                    Some(format!("{count} × {}{spot}", kind.name))
                })
                .collect::<Vec<_>>()
        };
        let figures = |plan: &CapacityPlan| {
            [
                plan.price,
                100.0 * plan.run.mean_allocated,
                plan.run.wait_quantile(self.part) as f64,
                plan.run.interrupted as f64,
            ]
        };
        match self.output {
            Output::Json => {
                let plans: Vec<Value> = plans
                    .iter()
                    .map(|plan| {
                        let [price, allocated, wait, interrupted] = figures(plan);
                        let machines: Vec<Value> = plan
                            .counts
                            .iter()
                            .filter_map(|(kind, count)| {
                                let kind = kinds.get(*kind)?;
                                Some(json!({
                                    "instance": kind.name, "spot": kind.is_spot, "count": count,
                                    "dollars_per_hour_each": kind.price,
                                }))
                            })
                            .collect();
                        json!({
                            "machines": machines, "dollars_per_hour": price,
                            "mean_allocated_percent": allocated, "wait_seconds": wait,
                            "interrupted": interrupted,
                        })
                    })
                    .collect();
                let whole = json!({
                    "region": self.region, "part": self.part,
                    "max_wait_seconds": self.max_wait.as_secs(), "plans": plans,
                });
                serde_json::to_string_pretty(&whole).map_err(failure)
            }
            Output::Csv => {
                let header = [
                    "machines",
                    "dollars_per_hour",
                    "mean_allocated_percent",
                    "wait_seconds",
                    "interrupted",
                ];
                let rows: Vec<Vec<String>> = plans
                    .iter()
                    .map(|plan| {
                        let figures = figures(plan).map(|it| format!("{it:.2}"));
                        std::iter::once(machines(plan).join(" + ")).chain(figures).collect()
                    })
                    .collect();
                Ok(csv(&header, &rows))
            }
            Output::Table => {
                let wait = format!("P{} WAIT s", 100.0 * self.part);
                let header = ["MACHINES", "$/h", "ALLOCATED %", &wait, "INTERRUPTED"];
                let rows = plans.iter().map(|plan| {
                    let [price, allocated, wait, interrupted] = figures(plan);
                    vec![
                        machines(plan).join(" + "),
                        format!("{price:.2}"),
                        format!("{allocated:.1}"),
                        format!("{wait:.0}"),
                        format!("{interrupted:.0}"),
                    ]
                });
                Ok(table(&header, rows))
            }
        }
    }
}

#[test]
fn times_with_units() {
    let check = |text, expected: Option<u64>| {
        assert_eq!(time(text).ok(), expected.map(Duration::from_secs), "{text}");
    };
    check("90s", Some(90));
    check("30m", Some(1800));
    check("2h", Some(7200));
    check("1d", Some(86_400));
    check("5", None);
    check("", None);
    check("-1h", None);
    check("99999999999999999999h", None);
    check("5 µ", None);
}
