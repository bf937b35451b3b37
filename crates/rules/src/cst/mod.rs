//! What costs money and gives nothing.

mod cst01_no_quota;
mod cst02_no_owner;
mod cst03_gpu_for_cpu_software;
mod cst04_idle_notebook;
mod cst05_default_cpu_limit;

use crate::rule::Rule;

pub(crate) static RULES: [&Rule; 5] = [
    &cst01_no_quota::RULE,
    &cst02_no_owner::RULE,
    &cst03_gpu_for_cpu_software::RULE,
    &cst04_idle_notebook::RULE,
    &cst05_default_cpu_limit::RULE,
];
