//! What can be seen of what runs.

mod obs01_no_metrics;

use crate::rule::Rule;

pub(crate) static RULES: [&Rule; 1] = [&obs01_no_metrics::RULE];
