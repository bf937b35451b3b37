//! Log lines of workers of one job, told once for the job.

use std::collections::BTreeMap;

use crate::answer::ObjectRef;
use crate::matching::{Hit, of_any};
use crate::view::View;

/// Hits by what a person wrote: the job, or the pod if it is alone.
pub(super) fn by_job<'a>(
    view: &View<'a>,
    is: impl Fn(&str) -> bool,
) -> BTreeMap<ObjectRef, Vec<Hit<'a>>> {
    let mut jobs: BTreeMap<ObjectRef, Vec<Hit<'a>>> = BTreeMap::new();
    for hit in of_any(view, is) {
        // A line of long ago, in what is well now.
        if hit.pod.phase() == "Succeeded" || hit.pod.object.is_ending() {
            continue;
        }
        jobs.entry(view.top(hit.pod.object).reference()).or_default().push(hit);
    }
    jobs
}

/// The pods of hits, other than the object that is reported.
pub(super) fn pods(hits: &[Hit<'_>], object: &ObjectRef) -> Vec<ObjectRef> {
    let all = hits.iter().map(|hit| hit.pod.object.reference());
    all.filter(|pod| pod != object).collect()
}
