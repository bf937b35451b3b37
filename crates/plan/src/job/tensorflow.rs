//! TensorFlow: `TF_CONFIG` (`tf.distribute.cluster_resolver.TFConfigClusterResolver`).

use std::collections::BTreeMap;

use serde_json::json;

use super::gang::{Address, Gang, Place, texts};

pub(super) const RESERVED: [&str; 1] = ["TF_CONFIG"];

pub(super) fn variables(gang: &Gang, place: &Place) -> BTreeMap<String, String> {
    let workers: Vec<String> = gang.workers.iter().map(Address::to_string).collect();
    // The first worker is the chief where there is no task of that name.
    let config = json!({
        "cluster": {"worker": workers},
        "task": {"type": "worker", "index": place.worker},
    });
    texts([("TF_CONFIG", config.to_string())])
}
