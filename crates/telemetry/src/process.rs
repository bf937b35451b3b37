//! Memory, CPU and files of this process, under the names that Prometheus' own clients use.

use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

/// Reads `/proc/self` when metrics are scraped. What cannot be read is left out.
#[derive(Debug, Default)]
pub struct ProcessMetrics;

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut gauge = |name, help, unit: Option<&Unit>, value: Option<f64>| match value {
            None => Ok(()),
            Some(value) => {
                let gauge = ConstGauge::new(value);
                gauge.encode(encoder.encode_descriptor(name, help, unit, gauge.metric_type())?)
            }
        };
        let used = Used::now();
        let bytes = |value: fn(&Used) -> u64| used.as_ref().map(|used| value(used) as f64);
        let resident = bytes(|used| used.resident_bytes);
        gauge("process_resident_memory", "Memory in RAM", Some(&Unit::Bytes), resident)?;
        let reserved = bytes(|used| used.virtual_bytes);
        gauge("process_virtual_memory", "Address space", Some(&Unit::Bytes), reserved)?;
        let start = used.as_ref().and_then(|used| used.start_seconds);
        gauge("process_start_time", "Start, since the epoch", Some(&Unit::Seconds), start)?;
        gauge("process_open_fds", "Open file descriptors", None, open_files())?;
        if let Some(used) = used {
            let cpu = ConstCounter::new(used.cpu_seconds);
            let (name, help) = ("process_cpu", "CPU time, user and system");
            let unit = Some(&Unit::Seconds);
            cpu.encode(encoder.encode_descriptor(name, help, unit, cpu.metric_type())?)?;
        }
        Ok(())
    }
}

/// What the process has taken so far.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Used {
    resident_bytes: u64,
    virtual_bytes: u64,
    cpu_seconds: f64,
    /// Since the epoch.
    start_seconds: Option<f64>,
}

impl Used {
    fn now() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let boot = fs::read_to_string("/proc/stat").ok().and_then(|text| boot_seconds(&text));
        let ticks = rustix::param::clock_ticks_per_second();
        Self::parse(&stat, boot, ticks, rustix::param::page_size() as u64)
    }

    /// Fields of `/proc/PID/stat`, numbered as proc(5) does.
    fn parse(stat: &str, boot: Option<f64>, ticks: u64, page_bytes: u64) -> Option<Self> {
        // The name, field 2, stands in parentheses and may hold spaces and parentheses itself.
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let field = |number: usize| fields.get(number.checked_sub(3)?)?.parse::<u64>().ok();
        let seconds = |ticks_taken: u64| ticks_taken as f64 / ticks as f64;
        Some(Self {
            cpu_seconds: seconds(field(14)?.saturating_add(field(15)?)),
            start_seconds: boot.and_then(|boot| Some(boot + seconds(field(22)?))),
            virtual_bytes: field(23)?,
            resident_bytes: field(24)?.saturating_mul(page_bytes),
        })
    }
}

/// When the machine was started, from `/proc/stat`.
fn boot_seconds(stat: &str) -> Option<f64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn open_files() -> Option<f64> {
    // One of them is the folder that is being read.
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as f64)
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text;
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn fields_are_those_of_proc() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 9 0 0 0 250 50 0 0 20 0 4 0 1000 8192 3 18446";
        let used = Used::parse(stat, Some(5000.0), 100, 4096).unwrap();
        let expected = Used {
            resident_bytes: 3 * 4096,
            virtual_bytes: 8192,
            cpu_seconds: 3.0,
            start_seconds: Some(5010.0),
        };
        assert_eq!(used, expected);
        assert_eq!(Used::parse("nonsense", None, 100, 4096), None);
        assert_eq!(boot_seconds("cpu 1 2\nbtime 5000\n"), Some(5000.0));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn names_are_the_usual_ones() {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(ProcessMetrics));
        let mut out = String::new();
        text::encode(&mut out, &registry).unwrap();
        let names: Vec<&str> = out
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split(' ').next())
            .collect();
        insta::assert_snapshot!(names.join("\n"), @r"
        process_resident_memory_bytes
        process_virtual_memory_bytes
        process_start_time_seconds
        process_open_fds
        process_cpu_seconds_total
        ");
    }
}
