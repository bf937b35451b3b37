//! All rules, one line for each group; each group's `mod.rs` has one line for each rule.

use std::sync::LazyLock;

use crate::rule::Rule;
use crate::{cst, gpu, net, obs, scl, sec, srv, trn};

static ALL: LazyLock<Vec<&'static Rule>> = LazyLock::new(|| {
    let mut rules: Vec<&'static Rule> = Vec::new();
    rules.extend(gpu::RULES);
    rules.extend(srv::RULES);
    rules.extend(trn::RULES);
    rules.extend(scl::RULES);
    rules.extend(net::RULES);
    rules.extend(sec::RULES);
    rules.extend(cst::RULES);
    rules.extend(obs::RULES);
    rules
});

/// Every rule, by group and number.
#[must_use]
pub fn all() -> &'static [&'static Rule] {
    &ALL
}

/// A rule by its identifier; case does not matter.
#[must_use]
pub fn find(id: &str) -> Option<&'static Rule> {
    ALL.iter().copied().find(|rule| rule.id.eq_ignore_ascii_case(id))
}
