//! Where rules put what they find.

use std::borrow::Cow;

use crate::edit::Edit;
use crate::rule::{Level, Rule};
use crate::yaml::{Node, Span};

/// Collects what one rule finds.
pub struct Report {
    pub(crate) rule: &'static Rule,
    /// The pod template that is looked at, whose annotations may ask for silence.
    pub(crate) pod: Option<usize>,
    pub(crate) drafts: Vec<Draft>,
}

/// A finding before it is known in which line and object it lies.
#[derive(Debug, Clone)]
pub struct Draft {
    pub(crate) rule: Cow<'static, str>,
    pub(crate) file: usize,
    pub(crate) span: Span,
    pub(crate) path: String,
    pub(crate) message: String,
    pub(crate) fix: String,
    pub(crate) edits: Vec<Edit>,
    pub(crate) pod: Option<usize>,
    /// Another level than the rule's own.
    pub(crate) level: Option<Level>,
}

impl Report {
    pub(crate) fn new(rule: &'static Rule) -> Self {
        Self { rule, pod: None, drafts: Vec::new() }
    }

    /// Reports a node: a scalar itself, a collection's key, and for what is missing the key of
    /// what lacks it. The message says what will happen and why here; lower case, no full stop,
    /// names and values in backquotes.
    pub fn at(&mut self, node: Node<'_>, message: impl Into<String>) -> &mut Draft {
        self.at_span(node, node.place(), message)
    }

    /// Reports a part of a node, such as a flag within a script ([`Node::find`],
    /// [`Flag::place`](crate::model::Flag::place)).
    pub fn at_span(
        &mut self,
        node: Node<'_>,
        span: Span,
        message: impl Into<String>,
    ) -> &mut Draft {
        self.drafts.push(Draft {
            rule: Cow::Borrowed(self.rule.id),
            file: node.file().index,
            span,
            path: node.path_text(),
            message: message.into(),
            fix: String::new(),
            edits: Vec::new(),
            pod: self.pod,
            level: None,
        });
        let last = self.drafts.len() - 1;
        &mut self.drafts[last]
    }
}

impl Draft {
    /// Says how to mend it, as an order: "set `limits` to the same value".
    pub fn fix(&mut self, text: impl Into<String>) -> &mut Self {
        self.fix = text.into();
        self
    }

    /// Adds a change of the text that mends it and cannot do harm; see [`Edit`]. Several belong
    /// together: all are made, or none.
    pub fn edit(&mut self, edit: impl IntoIterator<Item = Edit>) -> &mut Self {
        self.edits.extend(edit);
        self
    }

    /// Gives this finding another level than the rule's own: a rule may find lesser cases too.
    pub fn level(&mut self, level: Level) -> &mut Self {
        self.level = Some(level);
        self
    }
}
