//! `--explain`: a rule's page, or the list of rules.

use std::process::ExitCode;

use miette::miette;
use trainyard_rules::registry;

use crate::print::{print, print_line};
use crate::table::table;

pub(super) fn explain(name: &str) -> miette::Result<ExitCode> {
    let group = |id: &str| id.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned();
    let listed: Vec<_> = registry::all()
        .iter()
        .filter(|rule| {
            name.eq_ignore_ascii_case("all") || group(rule.id).eq_ignore_ascii_case(name)
        })
        .collect();
    if !listed.is_empty() {
        let rows = listed.into_iter().map(|rule| {
            vec![rule.id.to_owned(), rule.level.name().to_owned(), rule.title().to_owned()]
        });
        print_line(&table(&["RULE", "LEVEL", "WHAT"], rows))?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(rule) = registry::find(name) else {
        return Err(miette!(
            help = "`trainyard lint --explain all` lists the rules",
            "there is no rule `{name}`"
        ));
    };
    print(rule.page().as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
