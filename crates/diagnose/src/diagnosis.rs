//! What a diagnosis is.

use trainyard_rules::Level;

use crate::report::Report;
use crate::view::View;

/// A diagnosis: its signature, what it needs to be looked for, and its page.
pub struct Diagnosis {
    /// `D03`.
    pub id: &'static str,
    pub level: Level,
    /// The doc comment of its file: the first line is its title, the rest its page.
    pub doc: &'static str,
    pub needs: &'static [Need],
    /// Lint rules that find the mistake in manifests.
    pub rules: &'static [&'static str],
    /// Diagnoses that explain the same object better: where one of them is found on an object, this
    /// one is not told.
    pub yields_to: &'static [&'static str],
    /// Where the knowledge comes from.
    pub source: &'static str,
    pub(crate) check: fn(&View<'_>, &mut Report),
}

/// What a diagnosis looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Pods,
    /// Pods of all namespaces: what they take of nodes.
    AllPods,
    Nodes,
    Events,
    Logs,
    Metrics,
    Probes,
    /// Objects of a resource, as in [`Unread::what`](crate::Unread::what).
    Resource(&'static str),
}

impl Need {
    /// As [`Unread::what`](crate::Unread::what) has it.
    #[must_use]
    pub fn what(self) -> &'static str {
        match self {
            Self::Pods => "pods",
            Self::AllPods => "pods of other namespaces",
            Self::Nodes => "nodes",
            Self::Events => "events",
            Self::Logs => "logs",
            Self::Metrics => "metrics",
            Self::Probes => "probes",
            Self::Resource(name) => name,
        }
    }
}

impl Diagnosis {
    /// The title: the first line of its documentation.
    #[must_use]
    pub fn title(&self) -> &'static str {
        self.doc.lines().next().unwrap_or_default().trim()
    }

    /// Its documentation without the title.
    #[must_use]
    pub fn body(&self) -> String {
        let lines = self.doc.lines().skip(1);
        // A doc comment's lines start with a blank.
        let lines = lines.map(|line| line.strip_prefix(' ').unwrap_or(line));
        lines.collect::<Vec<_>>().join("\n").trim().to_owned()
    }
}

/// Declares a diagnosis. Its doc comment becomes its documentation.
macro_rules! diagnosis {
    (
        $(#[doc = $doc:literal])+
        $id:ident, $level:ident,
        needs: [$($need:expr),+ $(,)?],
        $(rules: [$($rule:literal),+ $(,)?],)?
        $(yields_to: [$($other:literal),+ $(,)?],)?
        source: $source:expr,
        check: $check:expr $(,)?
    ) => {
        $(#[doc = $doc])+
        pub(super) static DIAGNOSIS: $crate::diagnosis::Diagnosis = $crate::diagnosis::Diagnosis {
            id: stringify!($id),
            level: trainyard_rules::Level::$level,
            doc: concat!($($doc, "\n"),+),
            needs: {
                #[allow(unused_imports, reason = "each diagnosis names some of them")]
                use $crate::diagnosis::Need::*;
                &[$($need),+]
            },
            rules: &[$($($rule),+)?],
            yields_to: &[$($($other),+)?],
            source: $source,
            check: $check,
        };
    };
}
pub(crate) use diagnosis;
