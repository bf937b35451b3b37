//! What runs, beside the gateway's own metrics.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::sync::watch;
use trainyard_control::rollout::Phase;

use crate::status::{AutoscalerStatus, ServiceStatus, Status};

type Encoded = Result<(), fmt::Error>;

/// Reads the status that clients see, so that it cannot tell another story.
#[derive(Debug)]
pub(super) struct ServiceMetrics(pub(super) watch::Receiver<Status>);

impl Collector for ServiceMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Encoded {
        let status = self.0.borrow();
        let services = status.services.as_slice();
        replicas(services, &mut encoder)?;
        rollouts(services, &mut encoder)?;
        autoscaler(services, &mut encoder)
    }
}

fn replicas(services: &[ServiceStatus], encoder: &mut DescriptorEncoder<'_>) -> Encoded {
    let mut counts: BTreeMap<[&str; 3], u32> = BTreeMap::new();
    for service in services {
        for replica in &service.replicas {
            let key = [service.name.as_str(), &replica.revision, replica.phase.as_str()];
            let count = counts.entry(key).or_default();
            *count = count.saturating_add(1);
        }
    }
    let mut family = gauge(encoder, "trainyard_replicas", "Replicas by what they are doing")?;
    for ([service, revision, state], count) in counts {
        let labels = [("service", service), ("revision", revision), ("state", state)];
        ConstGauge::new(u64::from(count)).encode(family.encode_family(&labels)?)?;
    }
    let help = "Replicas that a service should have";
    let mut family = gauge(encoder, "trainyard_replicas_wanted", help)?;
    for service in services {
        let labels = [("service", service.name.as_str())];
        ConstGauge::new(u64::from(service.wanted)).encode(family.encode_family(&labels)?)?;
    }
    let help = "Times that a replica was started again";
    let name = "trainyard_replica_restarts";
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for service in services {
        for replica in &service.replicas {
            let labels = [("service", service.name.as_str()), ("replica", &replica.id)];
            let counter = ConstCounter::new(u64::from(replica.restarts));
            counter.encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

/// Each phase has a series, so that one that was left is seen to be 0.
fn rollouts(services: &[ServiceStatus], encoder: &mut DescriptorEncoder<'_>) -> Encoded {
    let help = "1 for the phase that a service's rollout is in, 0 for the others";
    let mut family = gauge(encoder, "trainyard_rollout_phase", help)?;
    for service in services {
        for phase in Phase::ALL.map(Phase::as_str) {
            let labels = [("service", service.name.as_str()), ("phase", phase)];
            let is_in = u64::from(service.phase == phase);
            ConstGauge::new(is_in).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn autoscaler(services: &[ServiceStatus], encoder: &mut DescriptorEncoder<'_>) -> Encoded {
    type Read = fn(&AutoscalerStatus) -> f64;
    let gauges: [(&str, &str, Read); 4] = [
        (
            "trainyard_autoscaler_desired_replicas",
            "Replicas that demand asks for, before the bounds of the manifest",
            |seen| f64::from(seen.desired),
        ),
        (
            "trainyard_autoscaler_stable_concurrency",
            "Mean of the requests in flight or held, over the stable window",
            |seen| seen.stable_concurrency,
        ),
        (
            "trainyard_autoscaler_panic_concurrency",
            "Mean of the requests in flight or held, over the panic window",
            |seen| seen.panic_concurrency,
        ),
        (
            "trainyard_autoscaler_panic_mode",
            "1 while a burst is followed and nothing is taken away, else 0",
            |seen| f64::from(u8::from(seen.panicking)),
        ),
    ];
    for (name, help, read) in gauges {
        let mut family = gauge(encoder, name, help)?;
        for service in services {
            let Some(seen) = &service.autoscaler else { continue };
            let labels = [("service", service.name.as_str())];
            ConstGauge::new(read(seen)).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn gauge<'a>(
    encoder: &'a mut DescriptorEncoder<'_>,
    name: &'a str,
    help: &str,
) -> Result<MetricEncoder<'a>, fmt::Error> {
    encoder.encode_descriptor(name, help, None, MetricType::Gauge)
}
