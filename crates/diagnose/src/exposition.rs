//! Prometheus' text format, as far as samples go.

use std::collections::BTreeMap;

use crate::snapshot::Sample;

/// Metrics that diagnoses look at; others are left where they are.
pub const METRICS: [&str; 15] = [
    "DCGM_FI_DEV_GPU_UTIL",
    "DCGM_FI_PROF_GR_ENGINE_ACTIVE",
    "DCGM_FI_DEV_XID_ERRORS",
    "DCGM_FI_DEV_ROW_REMAP_FAILURE",
    "DCGM_FI_DEV_ROW_REMAP_PENDING",
    "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS",
    "DCGM_FI_DEV_CLOCKS_EVENT_REASONS",
    "DCGM_EXP_CLOCK_EVENTS_COUNT",
    "vllm:num_requests_waiting",
    "vllm:kv_cache_usage_perc",
    "vllm:gpu_cache_usage_perc",
    "vllm:num_preemptions_total",
    "sglang:num_queue_reqs",
    "sglang:token_usage",
    "nv_inference_pending_request_count",
];

/// The samples of those metrics in a page of an exporter. `source` names the pod that gave it, for
/// samples that do not name one themselves. Lines that make no sense are left out.
#[must_use]
pub fn samples(page: &str, source: Option<(&str, &str)>) -> Vec<Sample> {
    let lines =
        page.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut samples: Vec<Sample> = lines
        .filter_map(sample)
        .filter(|sample| METRICS.contains(&sample.name.as_str()) && sample.value.is_finite())
        .collect();
    for sample in &mut samples {
        // An exporter names the pod that it measured.
        if let Some((namespace, pod)) = source.filter(|_| !sample.labels.contains_key("pod")) {
            sample.labels.insert("namespace".to_owned(), namespace.to_owned());
            sample.labels.insert("pod".to_owned(), pod.to_owned());
        }
    }
    samples
}

/// `name{label="value",…} value [time]`.
fn sample(line: &str) -> Option<Sample> {
    let end = line.find(['{', ' ', '\t'])?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, value })
}

/// Labels up to the closing brace, and what follows it.
fn labels(text: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    let mut rest = text.trim_start();
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (name, after) = rest.split_once('=')?;
        let mut value = String::new();
        let mut characters = after.trim_start().strip_prefix('"')?.char_indices();
        let quoted = after.trim_start().get(1..)?;
        let end = loop {
            match characters.next()? {
                (at, '"') => break at,
                (_, '\\') => match characters.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        labels.insert(name.trim().to_owned(), value);
        rest =
            quoted.get(end..)?.strip_prefix('"')?.trim_start().trim_start_matches(',').trim_start();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page() {
        let page = "# HELP x y\nDCGM_FI_DEV_GPU_UTIL{gpu=\"0\",Hostname=\"a b\",pod=\"p\",} 97 1700000000\n\
                    other 1\nvllm:num_requests_waiting{model_name=\"a\\\"}\\\\\"} 3.0\nvllm:kv_cache_usage_perc NaN\n\
                    vllm:kv_cache_usage_perc 0.5\nvllm:kv_cache_usage_perc{x=\"\nvllm:kv_cache_usage_perc{\n";
        let found = samples(page, Some(("n", "server")));
        let short: Vec<(&str, f64, &str)> = found
            .iter()
            .map(|it| (it.name.as_str(), it.value, it.labels["pod"].as_str()))
            .collect();
        assert_eq!(
            short,
            [
                ("DCGM_FI_DEV_GPU_UTIL", 97.0, "p"),
                ("vllm:num_requests_waiting", 3.0, "server"),
                ("vllm:kv_cache_usage_perc", 0.5, "server"),
            ]
        );
        assert_eq!(found[1].labels["model_name"], "a\"}\\");
    }

    proptest::proptest! {
        #[test]
        fn no_page_panics(page in "\\PC{0,60}|([a-z{}=\"\\\\, ]|\n){0,60}") {
            let _ = samples(&page, None);
        }
    }
}
