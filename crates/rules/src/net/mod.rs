//! Network policies, and what is open to the outside.

mod closed_egress;
mod net01_no_dns;
mod net02_egress_closed;
mod net03_selects_nothing;
mod net04_ingress_blocked;
mod net05_open_interface;

use crate::rule::Rule;

pub(crate) static RULES: [&Rule; 5] = [
    &net01_no_dns::RULE,
    &net02_egress_closed::RULE,
    &net03_selects_nothing::RULE,
    &net04_ingress_blocked::RULE,
    &net05_open_interface::RULE,
];
