//! How a Deployment replaces its pods.

use crate::model::{Manager, Pod};
use crate::yaml::Node;

/// What a rolling update may do at a number of replicas, as the Deployment controller computes it.
pub(super) struct Rolling<'b> {
    pub(super) max_surge: i64,
    pub(super) max_unavailable: i64,
    /// `spec.strategy`, missing if unset.
    pub(super) strategy: Node<'b>,
}

/// `None` unless it is a Deployment with a rolling update whose numbers can be read.
pub(super) fn rolling<'b>(pod: &Pod<'b>, replicas: i64) -> Option<Rolling<'b>> {
    if pod.manager != Manager::Deployment {
        return None;
    }
    let strategy = pod.object.spec().get("strategy");
    if strategy.get("type").is_set() && !strategy.get("type").is("RollingUpdate") {
        return None;
    }
    let update = strategy.get("rollingUpdate");
    let max_surge = share(update.get("maxSurge"), replicas, true)?;
    let max_unavailable = share(update.get("maxUnavailable"), replicas, false)?;
    // Where rounding makes both 0, the controller takes one pod away.
    let max_unavailable = if max_surge == 0 { max_unavailable.max(1) } else { max_unavailable };
    Some(Rolling { max_surge, max_unavailable, strategy })
}

/// A number or a percentage of the replicas: surges are rounded up, absences down.
fn share(node: Node<'_>, replicas: i64, up: bool) -> Option<i64> {
    let text = if node.is_set() { node.text()? } else { "25%" };
    match text.strip_suffix('%') {
        Some(percent) => {
            let hundredths = percent.trim().parse::<i64>().ok()?.checked_mul(replicas)?;
            Some(if up { hundredths.saturating_add(99) / 100 } else { hundredths / 100 })
        }
        None => text.parse().ok(),
    }
}
