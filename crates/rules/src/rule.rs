//! What a rule is.

use crate::admission::Policy;
use crate::context::Context;
use crate::model::{Container, Object, Pod};
use crate::report::Report;
use crate::settings::Profile;

/// How bad a finding is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Good to have.
    Hygiene,
    /// It will hurt: slow, costly, fragile or open.
    Warning,
    /// It will not work.
    Error,
}

impl Level {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hygiene => "hygiene",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// A rule: what is checked, why, and examples, which are its tests.
pub struct Rule {
    /// `GPU07`. The letters are its group.
    pub id: &'static str,
    pub level: Level,
    /// The doc comment of its file: the first line is its title, the rest its page.
    pub doc: &'static str,
    /// Where the knowledge comes from: a document or source file of the project concerned, or
    /// "judgement" for experience that nobody wrote down.
    pub evidence: &'static str,
    pub check: Check,
    /// What of it the API server can check by itself; none or one.
    pub policies: &'static [Policy],
    pub examples: &'static [Example],
}

/// What a rule looks at. The engine calls it for each of these.
pub enum Check {
    /// Each pod template, whatever kind it stands in.
    Pod(fn(&Context<'_>, &Pod<'_>, &mut Report)),
    /// Each container of each pod template.
    Container(fn(&Context<'_>, &Pod<'_>, &Container<'_>, &mut Report)),
    /// Each object of these kinds (of any group: ask [`Object::is`]).
    Objects(&'static [&'static str], fn(&Context<'_>, &Object<'_>, &mut Report)),
    /// Everything at once, for what no single place can tell.
    Bundle(fn(&Context<'_>, &mut Report)),
}

/// Manifests, and the lines in which the rule must report.
pub struct Example {
    /// What it shows, in a few words: "a label that nobody sets".
    pub name: &'static str,
    pub profile: Profile,
    pub manifest: &'static str,
    /// Lines of findings of this rule, in order; none for a manifest that is fine.
    pub lines: &'static [usize],
}

impl Example {
    /// Manifests in which the rule reports at these lines, and nowhere else.
    #[must_use]
    pub const fn bad(name: &'static str, manifest: &'static str, lines: &'static [usize]) -> Self {
        Self { name, profile: Profile::Generic, manifest, lines }
    }

    /// Manifests in which the rule must stay silent.
    #[must_use]
    pub const fn good(name: &'static str, manifest: &'static str) -> Self {
        Self { name, profile: Profile::Generic, manifest, lines: &[] }
    }

    /// The same example on another kind of cluster.
    #[must_use]
    pub const fn on(self, profile: Profile) -> Self {
        Self { profile, ..self }
    }
}

impl Rule {
    /// The title: the first line of its documentation.
    #[must_use]
    pub fn title(&self) -> &'static str {
        self.doc.lines().next().unwrap_or_default().trim()
    }

    /// The letters of its identifier.
    #[must_use]
    pub fn group(&self) -> &'static str {
        self.id.trim_end_matches(|c: char| c.is_ascii_digit())
    }

    /// Its page, in Markdown.
    #[must_use]
    pub fn page(&self) -> String {
        let mut page = format!("# {}: {}\n\n", self.id, self.title());
        page.push_str(&format!("Level: {}\n\n{}\n", self.level.name(), self.body()));
        for example in self.examples {
            let on = match example.profile {
                Profile::Generic => String::new(),
                profile => format!(" (profile `{}`)", profile.name()),
            };
            let verdict = match example.lines {
                [] => "fine".to_owned(),
                lines => {
                    let lines: Vec<String> = lines.iter().map(usize::to_string).collect();
                    format!("reported in line {}", lines.join(", "))
                }
            };
            page.push_str(&format!("\n## Example: {}{on}\n", example.name));
            page.push_str(&format!("```yaml\n{}```\n{verdict}\n", example.manifest));
        }
        for policy in self.policies {
            page.push_str("\n## As an admission policy\n");
            page.push_str(&format!(
                "`trainyard lint --emit-policy --rules {}` prints a ValidatingAdmissionPolicy.",
                self.id
            ));
            if !policy.misses.is_empty() {
                let misses: Vec<String> =
                    policy.misses.iter().map(|name| format!("\"{name}\"")).collect();
                page.push_str(&format!(" It lets pass: {}.", misses.join(", ")));
            }
            page.push('\n');
        }
        page.push_str(&format!("\n## Evidence\n{}\n", self.evidence));
        page
    }

    /// Its page without the title.
    #[must_use]
    pub fn body(&self) -> String {
        let lines = self.doc.lines().skip(1);
        // A doc comment's lines start with a blank.
        let lines = lines.map(|line| line.strip_prefix(' ').unwrap_or(line));
        lines.collect::<Vec<_>>().join("\n").trim().to_owned()
    }
}

/// Declares a rule. Its doc comment becomes its page.
macro_rules! rule {
    (
        $(#[doc = $doc:literal])+
        $id:ident, $level:ident,
        evidence: $evidence:expr,
        check: $check:expr,
        $(policy: $policy:expr,)?
        examples: [$($example:expr),+ $(,)?] $(,)?
    ) => {
        $(#[doc = $doc])+
        pub(super) static RULE: $crate::rule::Rule = $crate::rule::Rule {
            id: stringify!($id),
            level: $crate::rule::Level::$level,
            doc: concat!($($doc, "\n"),+),
            evidence: $evidence,
            check: $check,
            policies: &[$($policy)?],
            examples: &[$($example),+],
        };
    };
}
pub(crate) use rule;
