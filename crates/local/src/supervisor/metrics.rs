//! What runs, beside the gateway's own metrics.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::sync::watch;

use crate::status::Status;

/// Reads the status that clients see, so that it cannot tell another story.
#[derive(Debug)]
pub(super) struct ReplicaMetrics(pub(super) watch::Receiver<Status>);

impl Collector for ReplicaMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let status = self.0.borrow();
        let mut counts: BTreeMap<[&str; 3], u32> = BTreeMap::new();
        for service in &status.services {
            for replica in &service.replicas {
                let key = [service.name.as_str(), &replica.revision, replica.phase.as_str()];
                let count = counts.entry(key).or_default();
                *count = count.saturating_add(1);
            }
        }
        let mut family = encoder.encode_descriptor(
            "trainyard_replicas",
            "Replicas by what they are doing",
            None,
            MetricType::Gauge,
        )?;
        for ([service, revision, state], count) in counts {
            let labels = [("service", service), ("revision", revision), ("state", state)];
            let gauge = ConstGauge::new(u64::from(count));
            gauge.encode(family.encode_family(&labels)?)?;
        }
        let mut family = encoder.encode_descriptor(
            "trainyard_replicas_wanted",
            "Replicas that a service should have",
            None,
            MetricType::Gauge,
        )?;
        for service in &status.services {
            let gauge = ConstGauge::new(u64::from(service.wanted));
            gauge.encode(family.encode_family(&[("service", service.name.as_str())])?)?;
        }
        let mut family = encoder.encode_descriptor(
            "trainyard_replica_restarts",
            "Times that a replica was started again",
            None,
            MetricType::Counter,
        )?;
        for service in &status.services {
            for replica in &service.replicas {
                let labels = [("service", service.name.as_str()), ("replica", &replica.id)];
                let counter = ConstCounter::new(u64::from(replica.restarts));
                counter.encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
