//! `trainyard scale`.

use std::process::ExitCode;

use clap::Args;
use trainyard_local::socket::Request;

use super::output::{SINGULAR, ServiceName};
use super::place::{Intent, Place, PlaceArgs, PlaceError};
use super::supervisor::block_on;
use crate::print::print_line;

/// Set how many replicas a service has
///
/// On this machine until `scaling` in its manifest changes; in a cluster through the scale
/// subresource, as `kubectl scale` does, until it is set anew or given back with --auto.
#[derive(Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true))]
pub(crate) struct Scale {
    /// The service
    name: ServiceName,
    /// So many replicas; 0 stops them, on this machine until the next request
    #[arg(group = "what", conflicts_with_all = ["named_replicas", "min", "max", "auto"])]
    replicas: Option<u32>,
    /// The same
    #[arg(long = "replicas", value_name = "N", group = "what", conflicts_with_all = ["min", "max", "auto"])]
    named_replicas: Option<u32>,
    /// Never fewer replicas
    #[arg(long, requires = "max", group = "what", conflicts_with = "auto")]
    min: Option<u32>,
    /// Never more replicas
    #[arg(long, requires = "min", group = "what")]
    max: Option<u32>,
    /// Let `spec.scaling` decide again, in a cluster
    #[arg(long, group = "what")]
    auto: bool,
    #[command(flatten)]
    place: PlaceArgs,
}

impl Scale {
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        block_on(self.scale())?
    }

    async fn scale(self) -> miette::Result<ExitCode> {
        let place = self.place.open(Intent::CHANGE).await?;
        let replicas = self.replicas.or(self.named_replicas);
        let bounds = self.min.zip(self.max);
        let name = self.name.0;
        if self.auto {
            place.refuse("--auto", "change `scaling` in the manifest")?;
        }
        let said = match &place {
            Place::Here(here) => {
                let (min, max) = bounds.or(replicas.map(|n| (n, n))).unwrap_or_default();
                here.find(&name)?;
                here.state.do_it(&Request::Scale { service: name, min, max }).await?
            }
            Place::Cluster(console) => {
                let done = match replicas {
                    Some(replicas) => console.scale(&name, replicas).await,
                    None => console.scale_by_itself(&name, bounds).await,
                };
                done.map_err(PlaceError::from)?;
                format!("{SINGULAR}/{name} scaled")
            }
        };
        print_line(&said)?;
        Ok(ExitCode::SUCCESS)
    }
}
