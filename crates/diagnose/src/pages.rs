//! The table and the texts of `docs/doctor.md`, made of the diagnoses themselves.

use crate::registry;

/// What stands between the page's two marks.
#[must_use]
pub fn section() -> String {
    let mut text = String::from("| id | level | what | lint rules |\n|---|---|---|---|\n");
    for it in registry::all() {
        text.push_str(&format!(
            "| [{0}](#{anchor}) | {1} | {2} | {3} |\n",
            it.id,
            it.level.name(),
            it.title(),
            it.rules
                .iter()
                .map(|rule| format!("[{rule}](rules/{rule}.md)"))
                .collect::<Vec<_>>()
                .join(", "),
            anchor = it.id.to_ascii_lowercase(),
        ));
    }
    for it in registry::all() {
        text.push_str(&format!("\n### {}\n\n**{}** ({})\n\n", it.id, it.title(), it.level.name()));
        text.push_str(&it.body().replace("\n## ", "\n#### ").replacen("## ", "#### ", 1));
        text.push_str(&format!("\n\n#### Source\n{}\n", it.source));
    }
    text
}

/// The same as `trainyard doctor --explain` prints for one.
#[must_use]
pub fn page(id: &str) -> Option<String> {
    let it = registry::find(id)?;
    let rules = if it.rules.is_empty() {
        String::new()
    } else {
        format!("\n\n## Lint rules\n{}", it.rules.join(", "))
    };
    Some(format!(
        "# {}: {}\n\nLevel: {}\n\n{}{rules}\n\n## Source\n{}\n",
        it.id,
        it.title(),
        it.level.name(),
        it.body(),
        it.source
    ))
}

/// The marks between which the section stands in `docs/doctor.md`.
pub const MARKS: (&str, &str) = ("<!-- generated -->\n", "<!-- /generated -->");

/// The page with its section made anew; none if it lacks the marks.
#[must_use]
pub fn renew(page: &str) -> Option<String> {
    let (before, rest) = page.split_once(MARKS.0)?;
    let (_, after) = rest.split_once(MARKS.1)?;
    Some(format!("{before}{}{}{}{after}", MARKS.0, section(), MARKS.1))
}
