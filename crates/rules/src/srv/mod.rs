//! Serving: probes, rollouts, images, models.

mod srv01_no_startup_probe;

use crate::rule::Rule;

pub(crate) static RULES: [&Rule; 1] = [&srv01_no_startup_probe::RULE];
