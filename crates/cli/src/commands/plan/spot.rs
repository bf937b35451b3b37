//! `trainyard plan spot`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use miette::miette;
use serde_json::{Value, json};
use trainyard_packing::{
    Availability, Chart, Series, SpotJob, SpotOutcome, SpotPolicy, Spread, svg,
};

use super::{Output, csv, in_parallel, read, write};
use crate::failure::failure;
use crate::print::print_line;
use crate::table::table;

/// Say what a job costs on spot machines, and whether it is in time, by traces of real ones
///
/// The job starts at many moments of each trace. Policies: `on-demand`; `spot-only` waits for spot
/// machines whatever the deadline; `fall-back` takes an on-demand machine whenever there is no spot
/// machine; `greedy`, `time-sliced` and `uniform-progress` wait and keep the deadline ("Can't Be
/// Late", NSDI 2024).
#[derive(Args)]
pub(super) struct Spot {
    /// Traces: JSON with `metadata.gap_seconds` and `data`, the number of machines at each point
    #[arg(long = "trace", value_name = "FILE.json", required = true, num_args = 1..)]
    traces: Vec<PathBuf>,
    /// Hours that the job takes without interruption
    #[arg(long, value_name = "HOURS", default_value_t = 48.0, value_parser = hours)]
    work: f64,
    /// Hours until it must be done, several with commas between them
    #[arg(
        long, value_name = "HOURS", value_delimiter = ',', value_parser = hours,
        default_values_t = [52.0, 56.0, 60.0, 72.0, 92.0]
    )]
    deadline: Vec<f64>,
    /// Minutes that are lost at each start on another machine
    #[arg(long, value_name = "MINUTES", default_value_t = 6.0, value_parser = minutes)]
    changeover: f64,
    /// Price of a spot machine as a part of an on-demand machine's
    #[arg(long, value_name = "PART", default_value_t = 0.3, value_parser = part)]
    spot_price: f64,
    /// Machines that the job needs at once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    machines: u32,
    /// Starts in each trace
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    starts: u32,
    /// How to print the results
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// Draw cost and time by deadline
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

fn number(text: &str, low: f64, high: f64) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (low..=high).contains(&number) => Ok(number),
        _ => Err(format!("a number from {low} to {high}")),
    }
}

fn hours(text: &str) -> Result<f64, String> {
    number(text, 0.1, 100_000.0)
}

fn minutes(text: &str) -> Result<f64, String> {
    number(text, 0.0, 10_000.0)
}

fn part(text: &str) -> Result<f64, String> {
    number(text, 0.01, 1.0)
}

/// One policy under one deadline, over all traces and starts.
struct Row {
    deadline: f64,
    policy: SpotPolicy,
    cost: Spread,
    /// Hours, of those that were done.
    finished: Spread,
    /// Parts of all starts.
    missed: f64,
    never: f64,
    changeovers: Spread,
}

impl Spot {
    pub(super) fn run(self) -> miette::Result<ExitCode> {
        let mut traces = Vec::new();
        for path in &self.traces {
            let text = read(path)?;
            let name = path.display().to_string();
            traces.push(Availability::read(&name, &text, self.machines).map_err(failure)?);
        }
        if let Some(short) = self.deadline.iter().find(|deadline| **deadline < self.least()) {
            return Err(miette!(
                "a deadline of {short} h cannot be kept: the work takes {} h and each of two starts \
                 {} min; give {:.1} h or more",
                self.work,
                self.changeover,
                self.least()
            ));
        }
        let jobs: Vec<(f64, SpotPolicy)> = self
            .deadline
            .iter()
            .flat_map(|deadline| SpotPolicy::ALL.map(|policy| (*deadline, policy)))
            .collect();
        let rows = in_parallel(&jobs, |(deadline, policy)| self.row(*deadline, *policy, &traces));
        if let Some(path) = &self.plot {
            write(path, &svg(&charts(&rows)))?;
        }
        let parts = Spread::of(traces.iter().map(Availability::part));
        print_line(&self.printed(&rows, &traces, parts)?)?;
        Ok(ExitCode::SUCCESS)
    }

    /// The least deadline that can be kept, in hours.
    fn least(&self) -> f64 {
        self.work + 2.0 * self.changeover / 60.0
    }

    fn row(&self, deadline: f64, policy: SpotPolicy, traces: &[Availability]) -> Row {
        let job = SpotJob {
            work: self.work * 3600.0,
            deadline: deadline * 3600.0,
            changeover: self.changeover * 60.0,
            spot_price: self.spot_price,
        };
        let mut outcomes: Vec<SpotOutcome> = Vec::new();
        for trace in traces {
            // Starts that leave the trace room for the deadline, evenly spread.
            let needed = (job.deadline / f64::from(trace.gap)).ceil() as usize;
            let room = trace.is_there.len().saturating_sub(needed);
            let starts = self.starts as usize;
            outcomes.extend((0..starts).map(|at| job.run(policy, trace, room * at / starts)));
        }
        let count = outcomes.len().max(1) as f64;
        let part = |of: &dyn Fn(&SpotOutcome) -> bool| {
            outcomes.iter().filter(|outcome| of(outcome)).count() as f64 / count
        };
        let done = outcomes.iter().filter(|outcome| outcome.finished.is_some());
        Row {
            deadline,
            policy,
            cost: Spread::of(done.clone().map(|it| it.cost)),
            finished: Spread::of(done.filter_map(|it| it.finished).map(|time| time / 3600.0)),
            missed: part(&|it| it.finished.is_none_or(|time| time > job.deadline)),
            never: part(&|it| it.finished.is_none()),
            changeovers: Spread::of(outcomes.iter().map(|it| f64::from(it.changeovers))),
        }
    }

    fn printed(
        &self,
        rows: &[Row],
        traces: &[Availability],
        parts: Spread,
    ) -> miette::Result<String> {
        if self.output == Output::Json {
            let rows: Vec<Value> = rows
                .iter()
                .map(|row| {
                    json!({
                        "deadline_hours": row.deadline,
                        "policy": row.policy.name(),
                        "cost": {"mean": row.cost.mean, "deviation": row.cost.deviation},
                        "finished_hours":
                            {"mean": row.finished.mean, "deviation": row.finished.deviation},
                        "late": row.missed,
                        "never_done": row.never,
                        "changeovers": row.changeovers.mean,
                    })
                })
                .collect();
            let whole = json!({
                "traces": traces.len(), "availability": parts.mean, "work_hours": self.work,
                "changeover_minutes": self.changeover, "spot_price": self.spot_price,
                "outcomes": rows,
            });
            return serde_json::to_string_pretty(&whole).map_err(failure);
        }
        if self.output == Output::Csv {
            let header = [
                "deadline_hours",
                "policy",
                "cost",
                "cost_sd",
                "finished_hours",
                "finished_hours_sd",
                "late",
                "never_done",
                "changeovers",
            ];
            let rows: Vec<Vec<String>> = rows
                .iter()
                .map(|row| {
                    let numbers = [
                        row.cost.mean,
                        row.cost.deviation,
                        row.finished.mean,
                        row.finished.deviation,
                        row.missed,
                        row.never,
                        row.changeovers.mean,
                    ];
                    let names = [row.deadline.to_string(), row.policy.name().to_owned()];
                    names.into_iter().chain(numbers.map(|it| format!("{it:.4}"))).collect()
                })
                .collect();
            return Ok(csv(&header, &rows));
        }
        let header =
            ["DEADLINE h", "POLICY", "COST %", "DONE AFTER h", "LATE %", "NOT DONE %", "STARTS"];
        let lines = rows.iter().map(|row| {
            let spread = |it: Spread, by: f64| match it.mean {
                0.0 => "–".to_owned(),
                mean => format!("{:.1} ± {:.1}", by * mean, by * it.deviation),
            };
            vec![
                row.deadline.to_string(),
                row.policy.name().to_owned(),
                spread(row.cost, 100.0),
                spread(row.finished, 1.0),
                format!("{:.1}", 100.0 * row.missed),
                format!("{:.1}", 100.0 * row.never),
                format!("{:.1}", row.changeovers.mean),
            ]
        });
        Ok(format!(
            "{}\n\n{} traces, spot machines there {:.0} % of the time. Cost: of the work on demand \
             without interruption, of jobs that were done.",
            table(&header, lines),
            traces.len(),
            100.0 * parts.mean,
        ))
    }
}

fn charts(rows: &[Row]) -> Vec<Chart> {
    let chart = |title: &str, y: &str, value: fn(&Row) -> f64| Chart {
        title: title.to_owned(),
        x: "deadline, hours".to_owned(),
        y: y.to_owned(),
        series: SpotPolicy::ALL
            .into_iter()
            .map(|policy| {
                let mut points: Vec<(f64, f64)> = rows
                    .iter()
                    .filter(|row| row.policy == policy)
                    .map(|row| (row.deadline, value(row)))
                    .collect();
                points.sort_by(|a, b| a.0.total_cmp(&b.0));
                Series { name: policy.name().to_owned(), points }
            })
            .collect(),
    };
    vec![
        chart("Cost", "% of on demand", |row| 100.0 * row.cost.mean),
        chart("Time until done", "hours", |row| row.finished.mean),
        chart("Late", "% of jobs", |row| 100.0 * row.missed),
    ]
}
