//! How a request was executed, as metadata of its answer.

use tonic::metadata::{MetadataMap, MetadataValue};

use crate::request::Execution;

/// Adds queue and compute time in microseconds, batch size, and why the batch was closed.
pub(super) fn describe(execution: &Execution, metadata: &mut MetadataMap) {
    let microseconds = |duration: std::time::Duration| {
        MetadataValue::from(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
    };
    metadata.insert("x-trainyard-queue-us", microseconds(execution.queue));
    metadata.insert("x-trainyard-compute-us", microseconds(execution.compute));
    metadata.insert("x-trainyard-batch-size", MetadataValue::from(execution.batch_size));
    let close = MetadataValue::from_static(execution.close.as_str());
    metadata.insert("x-trainyard-batch-close", close);
}
