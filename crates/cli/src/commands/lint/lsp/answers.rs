//! What was found, as the protocol says it.

use std::collections::{BTreeMap, HashMap};

use lsp_types::{
    CodeAction, CodeActionKind, CodeActionOrCommand, CodeActionParams, CodeDescription, Diagnostic,
    DiagnosticSeverity, DocumentChanges, Hover, HoverContents, MarkupContent, MarkupKind,
    NumberOrString, OneOf, OptionalVersionedTextDocumentIdentifier, Position, Range,
    TextDocumentEdit, TextEdit, Uri, WorkspaceEdit,
};
use trainyard_rules::edit::{Edit, apply};
use trainyard_rules::yaml::File;
use trainyard_rules::{Finding, Level, Source, registry};

use super::super::page_address;
use super::lines::Lines;
use super::workspace::Checked;

const SOURCE: &str = "trainyard";

/// Everything in a text that can be mended safely, as editors do it on saving.
pub(super) const FIX_ALL: CodeActionKind = CodeActionKind::new("source.fixAll.trainyard");

fn file<'c>(checked: &'c Checked, name: &str) -> Option<&'c File> {
    checked.documents.files.iter().find(|file| file.name == name)
}

fn findings<'c>(checked: &'c Checked, file: &File) -> impl Iterator<Item = &'c Finding> {
    let index = file.index;
    checked.findings.iter().filter(move |finding| finding.file_index == index)
}

/// What was found in a text, and what in it could not be read.
pub(super) fn diagnostics(checked: &Checked, name: &str) -> Vec<Diagnostic> {
    let Some(file) = file(checked, name) else { return Vec::new() };
    let lines = Lines::new(&file.text);
    let unreadable = checked.errors.iter().filter(|error| error.file == name).map(|error| {
        let line = file.line_span(error.line);
        let text = file.slice(line);
        let at = text.char_indices().nth(error.column - 1).map_or(text.len(), |(at, _)| at);
        Diagnostic {
            range: lines.range(line.start + at as u32, line.end),
            severity: Some(DiagnosticSeverity::ERROR),
            source: Some(SOURCE.to_owned()),
            message: sentence(&error.message, &error.help),
            ..Diagnostic::default()
        }
    });
    unreadable.chain(findings(checked, file).map(|finding| diagnostic(&lines, finding))).collect()
}

fn diagnostic(lines: &Lines<'_>, finding: &Finding) -> Diagnostic {
    let href = page_address(&finding.rule).and_then(|address| address.parse().ok());
    Diagnostic {
        range: range(lines, finding),
        severity: Some(match finding.level {
            Level::Error => DiagnosticSeverity::ERROR,
            Level::Warning => DiagnosticSeverity::WARNING,
            Level::Hygiene => DiagnosticSeverity::INFORMATION,
        }),
        code: Some(NumberOrString::String(finding.rule.clone())),
        code_description: href.map(|href| CodeDescription { href }),
        source: Some(SOURCE.to_owned()),
        message: sentence(&finding.message, &finding.fix),
        ..Diagnostic::default()
    }
}

fn range(lines: &Lines<'_>, finding: &Finding) -> Range {
    lines.range(finding.span.start, finding.span.end)
}

fn sentence(message: &str, help: &str) -> String {
    if help.is_empty() { message.to_owned() } else { format!("{message}\nFix: {help}") }
}

/// Fixes for what is found in a range, and one for the whole text. `editable` answers the address
/// of a text, and its version if it is open.
pub(super) fn actions(
    checked: &Checked,
    name: &str,
    parameters: &CodeActionParams,
    takes_versions: bool,
    editable: impl Fn(&str) -> Option<(Uri, Option<i32>)>,
) -> Vec<CodeActionOrCommand> {
    let Some(file) = file(checked, name) else { return Vec::new() };
    let lines = Lines::new(&file.text);
    let wants = |kind: &CodeActionKind| {
        // `source` asks for `source.fixAll` and all that is below it.
        parameters.context.only.as_ref().is_none_or(|only| {
            only.iter().any(|wanted| {
                kind.as_str() == wanted.as_str()
                    || kind.as_str().starts_with(&format!("{}.", wanted.as_str()))
            })
        })
    };
    let mut actions = Vec::new();
    let with_edits = || findings(checked, file).filter(|finding| !finding.edits.is_empty());
    if wants(&CodeActionKind::QUICKFIX) {
        for finding in with_edits() {
            if !touch(range(&lines, finding), parameters.range) {
                continue;
            }
            let Some(edit) = changes(checked, &finding.edits, takes_versions, &editable) else {
                continue;
            };
            actions.push(CodeAction {
                title: format!("{}: {}", finding.rule, finding.fix),
                kind: Some(CodeActionKind::QUICKFIX),
                diagnostics: Some(vec![diagnostic(&lines, finding)]),
                edit: Some(edit),
                is_preferred: Some(true),
                ..CodeAction::default()
            });
        }
    }
    if wants(&FIX_ALL) {
        actions.extend(mend_all(file, with_edits(), takes_versions, &editable));
    }
    actions.into_iter().map(CodeActionOrCommand::CodeAction).collect()
}

fn touch(a: Range, b: Range) -> bool {
    a.start <= b.end && b.start <= a.end
}

/// All fixes of one text that do not overlap.
fn mend_all<'c>(
    file: &File,
    findings: impl Iterator<Item = &'c Finding>,
    takes_versions: bool,
    editable: impl Fn(&str) -> Option<(Uri, Option<i32>)>,
) -> Option<CodeAction> {
    // A fix of several texts is for a person to look at.
    let groups: Vec<&[Edit]> = findings
        .map(|finding| finding.edits.as_slice())
        .filter(|edits| edits.iter().all(|edit| edit.file == file.index))
        .collect();
    let source = Source { name: file.name.clone(), text: file.text.clone() };
    let text = apply(&source, &groups)?;
    let whole = Lines::new(&file.text).range(0, file.text.len() as u32);
    let (uri, version) = editable(&file.name)?;
    let edits = vec![TextEdit::new(whole, text)];
    Some(CodeAction {
        title: "Mend all that can be mended safely".to_owned(),
        kind: Some(FIX_ALL),
        edit: Some(workspace_edit(vec![(uri, version, edits)], takes_versions)),
        ..CodeAction::default()
    })
}

/// Edits of a finding; `None` if one of the texts has no address.
fn changes(
    checked: &Checked,
    edits: &[Edit],
    takes_versions: bool,
    editable: impl Fn(&str) -> Option<(Uri, Option<i32>)>,
) -> Option<WorkspaceEdit> {
    let mut by_file: BTreeMap<usize, Vec<&Edit>> = BTreeMap::new();
    for edit in edits {
        by_file.entry(edit.file).or_default().push(edit);
    }
    let mut all = Vec::new();
    for (index, edits) in by_file {
        let file = checked.documents.files.get(index)?;
        let lines = Lines::new(&file.text);
        let edits = edits
            .into_iter()
            .map(|edit| {
                TextEdit::new(lines.range(edit.span.start, edit.span.end), edit.text.clone())
            })
            .collect();
        let (uri, version) = editable(&file.name)?;
        all.push((uri, version, edits));
    }
    Some(workspace_edit(all, takes_versions))
}

fn workspace_edit(
    all: Vec<(Uri, Option<i32>, Vec<TextEdit>)>,
    takes_versions: bool,
) -> WorkspaceEdit {
    if takes_versions {
        let edits = all.into_iter().map(|(uri, version, edits)| TextDocumentEdit {
            text_document: OptionalVersionedTextDocumentIdentifier { uri, version },
            edits: edits.into_iter().map(OneOf::Left).collect(),
        });
        let document_changes = Some(DocumentChanges::Edits(edits.collect()));
        return WorkspaceEdit { document_changes, ..WorkspaceEdit::default() };
    }
    #[expect(clippy::mutable_key_type, reason = "the protocol's type; addresses do not change")]
    let changes: HashMap<Uri, Vec<TextEdit>> =
        all.into_iter().map(|(uri, _, edits)| (uri, edits)).collect();
    WorkspaceEdit::new(changes)
}

/// The pages of the rules that found something at a place.
pub(super) fn hover(checked: &Checked, name: &str, position: Position) -> Option<Hover> {
    let file = file(checked, name)?;
    let lines = Lines::new(&file.text);
    let here: Vec<&Finding> = findings(checked, file)
        .filter(|finding| touch(range(&lines, finding), Range::new(position, position)))
        .collect();
    let first = here.first()?;
    let pages: Vec<String> = here
        .iter()
        .map(|finding| match registry::find(&finding.rule) {
            Some(rule) => {
                let link = page_address(rule.id)
                    .map_or_else(String::new, |address| format!(" ([page]({address}))"));
                format!("**{}** {}{link}\n\n{}", rule.id, rule.title(), rule.body())
            }
            None => format!("**{}** {}", finding.rule, sentence(&finding.message, &finding.fix)),
        })
        .collect();
    Some(Hover {
        contents: HoverContents::Markup(MarkupContent {
            kind: MarkupKind::Markdown,
            value: pages.join("\n\n---\n\n"),
        }),
        range: Some(range(&lines, first)),
    })
}
