//! The pages of `docs/rules/`, made of the rules themselves.

use std::collections::BTreeMap;

use crate::registry;

/// File names and texts: a page for each rule and a list of all.
#[must_use]
pub fn pages() -> BTreeMap<String, String> {
    let mut pages = BTreeMap::new();
    let mut list = String::from(
        "# Rules\n\nMade by `cargo xtask generate` from `crates/rules`. `trainyard lint --explain RULE` prints a page.\n\n| rule | level | what |\n|---|---|---|\n",
    );
    for rule in registry::all() {
        let file = format!("{}.md", rule.id);
        list.push_str(&format!(
            "| [{}]({file}) | {} | {} |\n",
            rule.id,
            rule.level.name(),
            rule.title()
        ));
        pages.insert(file, rule.page());
    }
    pages.insert("README.md".to_owned(), list);
    pages
}
