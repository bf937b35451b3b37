//! GPU requests, sharing and placement.

mod gpu01_request_differs_from_limit;
mod gpu07_unknown_label;
mod gpu08_no_toleration;

use crate::rule::Rule;

pub(crate) static RULES: [&Rule; 3] = [
    &gpu01_request_differs_from_limit::RULE,
    &gpu07_unknown_label::RULE,
    &gpu08_no_toleration::RULE,
];
