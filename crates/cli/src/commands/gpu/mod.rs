//! `trainyard gpu`.

mod bar;
mod defrag;
mod nodes;
mod pools;
mod who;

use std::process::ExitCode;

pub(super) use self::defrag::not_known;
use clap::{Args, Subcommand};
use serde::Serialize;
use trainyard_operator::console::Console;
use trainyard_operator::pools::inventory::Inventory;

use super::output::Format;
use super::place::PlaceError;
use super::supervisor::block_on;
use super::which_cluster::WhichCluster;
use crate::failure::failure;
use crate::print::print_line;
use crate::yaml;

/// Show a cluster's GPUs: what is where, who has it, and what is free
#[derive(Args)]
pub(crate) struct Gpu {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Show pools: how each shares its GPUs, and how much of it is in use
    Pools(Look),
    /// Show nodes with GPUs, and a picture of what is in use of each
    ///
    /// Kubernetes tells how many units of a node are in use, and not of which of its GPUs: units in
    /// use are drawn first.
    Nodes(Look),
    /// Show pods that have GPUs or parts of one, and those that wait for them
    Who(Who),
    Defrag(defrag::Defrag),
}

#[derive(Args)]
struct Who {
    #[command(flatten)]
    look: Look,
    /// Pods of this namespace only
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
}

#[derive(Args)]
struct Look {
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    cluster: WhichCluster,
}

impl Gpu {
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        match &self.what {
            What::Pools(look) => block_on(look.show(Shown::Pools, None))?,
            What::Nodes(look) => block_on(look.show(Shown::Nodes, None))?,
            What::Who(who) => block_on(who.look.show(Shown::Who, who.namespace.clone()))?,
            What::Defrag(defrag) => defrag.run(),
        }
    }
}

/// What a look shows.
#[derive(Clone, Copy)]
enum Shown {
    Pools,
    Nodes,
    Who,
}

impl Look {
    async fn show(&self, what: Shown, namespace: Option<String>) -> miette::Result<ExitCode> {
        let client = self.cluster.client().await.map_err(failure)?.client;
        let home = namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
        let console = Console::new(client, Some(home));
        let (mut seen, notes) = console.gpus().await.map_err(PlaceError::from)?;
        for note in notes {
            eprintln!("note: {note}");
        }
        if let Some(namespace) = &namespace {
            seen.pods.retain(|pod| pod.namespace == *namespace);
        }
        let output = self.output;
        let text = match what {
            Shown::Pools => match output {
                Format::Name => {
                    names("gpupool.trainyard.dev", seen.pools.iter().map(|it| &it.name))
                }
                Format::Json | Format::Yaml => for_machines(output, &seen.pools)?,
                Format::Table | Format::Wide => pools::text(&seen, output == Format::Wide),
            },
            Shown::Nodes => match output {
                Format::Name => names("node", seen.nodes.iter().map(|it| &it.name)),
                Format::Json | Format::Yaml => for_machines(output, &seen.nodes)?,
                Format::Table | Format::Wide => nodes::text(&seen, output == Format::Wide),
            },
            Shown::Who => match output {
                Format::Name => names("pod", seen.pods.iter().map(|it| &it.name)),
                Format::Json | Format::Yaml => for_machines(output, &seen.pods)?,
                Format::Table | Format::Wide => who::text(&seen),
            },
        };
        if text.is_empty() {
            if !output.is_for_machines() {
                eprintln!("{}", nothing(what, &seen));
            }
            return Ok(ExitCode::SUCCESS);
        }
        print_line(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Why there is nothing to show.
fn nothing(what: Shown, seen: &Inventory) -> &'static str {
    match what {
        Shown::Pools if !seen.nodes.is_empty() => {
            "no GpuPool is declared; `trainyard gpu nodes` shows the GPUs that there are"
        }
        Shown::Pools => "no GpuPool is declared",
        Shown::Nodes => "no node announces a GPU; NVIDIA's device plugin does it where it runs",
        Shown::Who => "no pod has or wants a GPU",
    }
}

fn names<'a>(kind: &str, names: impl Iterator<Item = &'a String>) -> String {
    names.map(|name| format!("{kind}/{name}")).collect::<Vec<_>>().join("\n")
}

fn for_machines<T: Serialize>(format: Format, items: &[T]) -> miette::Result<String> {
    match format {
        Format::Yaml => Ok(yaml::document(items)?.trim_end().to_owned()),
        _ => serde_json::to_string_pretty(items).map_err(failure),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};
    use trainyard_operator::pools::inventory::{GpuNode, GpuPod, inventory};

    use super::*;

    fn node(name: &str, labels: Value, capacity: Value, allocatable: Value) -> GpuNode {
        let ready = json!([{"type": "Ready", "status": "True"}]);
        GpuNode::of(
            &serde_json::from_value(json!({
                "metadata": {"name": name, "labels": labels},
                "status": {"capacity": capacity, "allocatable": allocatable, "conditions": ready},
            }))
            .expect("a node"),
        )
    }

    fn pod(name: &str, node: Option<&str>, limits: Value) -> GpuPod {
        let why = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.shared. preemption: none";
        let is_there = if node.is_some() { "True" } else { "False" };
        GpuPod::of(
            &serde_json::from_value(json!({
                "metadata": {"name": name, "namespace": "team-a", "labels": {"trainyard.dev/service": "iris"}},
                "spec": {"nodeName": node, "containers": [{"name": "c", "resources": {"limits": limits}}]},
                "status": {"conditions": [{"type": "PodScheduled", "status": is_there, "message": why}]},
            }))
            .expect("a pod"),
        )
        .expect("it wants a GPU")
    }

    fn seen() -> Inventory {
        let pool = |spec: Value| serde_json::from_value(spec).expect("a pool");
        let shared = json!({"mode": "mps", "shares": 4});
        let mig = json!({"mode": "mig", "profiles": [{"name": "1g.10gb", "count": 4}, {"name": "3g.40gb", "count": 1}]});
        let pools = BTreeMap::from([
            (
                "default".to_owned(),
                pool(
                    json!({"nodeSelector": {"p": "t4"}, "product": "Tesla-T4", "sharing": shared, "pricePerHour": "0.35 USD"}),
                ),
            ),
            (
                "a100".to_owned(),
                pool(json!({"nodeSelector": {"p": "a100"}, "sharing": mig, "capacity": "spot"})),
            ),
            (
                "claimed".to_owned(),
                pool(json!({"nodeSelector": {"p": "x"}, "sharing": {"mode": "dra"}})),
            ),
        ]);
        let labels = |pool: &str, product: &str, count: &str, memory: &str, replicas: &str| {
            json!({
                "p": pool, "nvidia.com/gpu.product": product, "nvidia.com/gpu.count": count,
                "nvidia.com/gpu.memory": memory, "nvidia.com/gpu.replicas": replicas,
            })
        };
        let shares = json!({"nvidia.com/gpu.shared": "8"});
        let parts = json!({"nvidia.com/mig-1g.10gb": "4", "nvidia.com/mig-3g.40gb": "1"});
        inventory(
            &pools,
            [
                node(
                    "node-1",
                    labels("t4", "Tesla-T4", "2", "15360", "4"),
                    shares,
                    json!({"nvidia.com/gpu.shared": "4"}),
                ),
                node(
                    "node-2",
                    labels("a100", "NVIDIA-A100-SXM4-80GB", "1", "81920", "1"),
                    parts.clone(),
                    parts,
                ),
                node(
                    "node-3",
                    labels("", "NVIDIA-L4", "1", "23034", "1"),
                    json!({"nvidia.com/gpu": "1"}),
                    json!({"nvidia.com/gpu": "1"}),
                ),
            ],
            [
                pod("iris-1", Some("node-1"), json!({"nvidia.com/gpu.shared": "1"})),
                pod("iris-2", Some("node-1"), json!({"nvidia.com/gpu.shared": "1"})),
                pod("llm-1", Some("node-2"), json!({"nvidia.com/mig-3g.40gb": "1"})),
                pod("iris-3", None, json!({"nvidia.com/gpu.shared": "1"})),
            ],
        )
    }

    #[test]
    fn what_people_see() {
        let seen = seen();
        // The pods are from the year 1970.
        let who = who::text(&seen).replace(&crate::commands::time::ago(0), "AGE");
        let all = [
            pools::text(&seen, false),
            pools::text(&seen, true),
            nodes::text(&seen, false),
            nodes::text(&seen, true),
            who,
        ];
        insta::assert_snapshot!(all.join("\n\n\n"));
    }

    #[test]
    fn what_programs_read() {
        let seen = seen();
        let json: Value =
            serde_json::from_str(&for_machines(Format::Json, &seen.nodes).unwrap()).unwrap();
        assert_eq!(json[0]["units"][0]["allocated"], 2);
        assert_eq!(json[0]["memory"], "15Gi");
        let json: Value =
            serde_json::from_str(&for_machines(Format::Json, &seen.pods).unwrap()).unwrap();
        assert_eq!(json[3]["waitsFor"].as_str().map(|it| it.starts_with("0/3 nodes")), Some(true));
        assert_eq!(
            names("node", seen.nodes.iter().map(|it| &it.name)),
            "node/node-1\nnode/node-2\nnode/node-3"
        );
    }
}
