//! What the editor has open, over what is on disk.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use lsp_types::{
    CodeActionOrCommand, CodeActionParams, DidChangeTextDocumentParams, DidOpenTextDocumentParams,
    Hover, HoverParams, InitializeParams, PublishDiagnosticsParams, Uri,
};
use trainyard_rules::{Documents, Finding, ReadError, Settings, Source};

use super::super::configuration::Configuration;
use super::super::{Lint, baseline, own, sources};
use super::{answers, lines, uri};

/// Of a workspace with more manifests than this, or larger ones, only folders of open texts are
/// checked: what is typed must be told within a moment.
const MOST_FILES: usize = 2_000;
const MOST_BYTES: u64 = 4 << 20;

/// A text that the editor has open.
struct Open {
    uri: Uri,
    version: i32,
    text: String,
}

/// A file on disk, as it was when it was read.
struct Kept {
    stamp: (u64, Option<SystemTime>),
    text: String,
}

/// What one check read and found.
#[derive(Default)]
pub(super) struct Checked {
    pub(super) documents: Documents,
    pub(super) findings: Vec<Finding>,
    pub(super) errors: Vec<ReadError>,
}

pub(super) struct Workspace {
    lint: Lint,
    folders: Vec<PathBuf>,
    /// Whether the editor takes edits with the version that they are about.
    takes_versions: bool,
    settings: Option<(Configuration, Settings)>,
    /// Manifests of the workspace; `None` if they are to be looked for.
    files: Option<Vec<PathBuf>>,
    kept: HashMap<PathBuf, Kept>,
    /// By the name that findings have: the path, or the address of what is not on disk.
    open: BTreeMap<String, Open>,
    checked: Checked,
}

impl Workspace {
    pub(super) fn new(lint: Lint, parameters: &InitializeParams) -> Self {
        let named = parameters.workspace_folders.iter().flatten();
        let mut folders: Vec<PathBuf> = named.filter_map(|folder| uri::path(&folder.uri)).collect();
        if folders.is_empty() {
            #[expect(deprecated, reason = "older editors name their folder in this way only")]
            let root = parameters.root_uri.as_ref();
            folders.extend(root.and_then(uri::path));
        }
        let takes_versions = parameters
            .capabilities
            .workspace
            .as_ref()
            .and_then(|workspace| workspace.workspace_edit.as_ref()?.document_changes);
        Self {
            lint,
            folders,
            takes_versions: takes_versions.unwrap_or(false),
            settings: None,
            files: None,
            kept: HashMap::new(),
            open: BTreeMap::new(),
            checked: Checked::default(),
        }
    }

    pub(super) fn open(&mut self, parameters: DidOpenTextDocumentParams) {
        let document = parameters.text_document;
        let open = Open { uri: document.uri, version: document.version, text: document.text };
        self.open.insert(name(&open.uri), open);
        self.files = None;
    }

    pub(super) fn change(&mut self, parameters: DidChangeTextDocumentParams) {
        let document = parameters.text_document;
        if let Some(open) = self.open.get_mut(&name(&document.uri)) {
            open.text = lines::changed(&open.text, parameters.content_changes);
            open.version = document.version;
        }
    }

    pub(super) fn close(&mut self, uri: &Uri) {
        self.open.remove(&name(uri));
        self.files = None;
    }

    /// Has settings and files looked for anew at the next check.
    pub(super) fn look_at_disk_again(&mut self) {
        self.settings = None;
        self.files = None;
    }

    /// Checks all.
    ///
    /// # Errors
    ///
    /// Settings or a baseline that cannot be used; what was found before stays.
    pub(super) fn check(&mut self) -> miette::Result<()> {
        if self.settings.is_none() {
            let folder = self.folders.first().map(PathBuf::as_path);
            let configuration = Configuration::load(self.lint.config.as_deref(), folder)?;
            let settings = self.lint.settings(&configuration)?;
            self.settings = Some((configuration, settings));
        }
        let Some((configuration, settings)) = &self.settings else { return Ok(()) };
        let open: HashSet<PathBuf> = self.open.keys().map(PathBuf::from).collect();
        let files =
            self.files.get_or_insert_with(|| manifests(&self.folders, &open, configuration));
        let mut texts: Vec<Source> = Vec::new();
        for path in files.iter().filter(|path| !open.contains(*path)) {
            let Some(text) = text_of(path, &mut self.kept) else { continue };
            texts.push(Source { name: path.to_string_lossy().into_owned(), text: text.to_owned() });
        }
        for (name, open) in &self.open {
            if !configuration.ignores(Path::new(name)) {
                texts.push(Source { name: name.clone(), text: open.text.clone() });
            }
        }
        // In the order that the command line has, so that it says the same.
        texts.sort_by(|a, b| Path::new(&a.name).cmp(Path::new(&b.name)));
        let documents = Documents::read(texts);
        let mut findings = trainyard_rules::lint(&documents, settings);
        if let Some(path) = &self.lint.baseline {
            findings = baseline::leave_out(path, findings)?;
        }
        let mut errors = documents.errors.clone();
        errors.extend(own::problems(&documents));
        self.checked = Checked { documents, findings, errors };
        Ok(())
    }

    /// What was found in each open text.
    pub(super) fn diagnostics(&self) -> Vec<PublishDiagnosticsParams> {
        self.open
            .iter()
            .map(|(name, open)| {
                let found = answers::diagnostics(&self.checked, name);
                PublishDiagnosticsParams::new(open.uri.clone(), found, Some(open.version))
            })
            .collect()
    }

    pub(super) fn actions(&self, parameters: &CodeActionParams) -> Vec<CodeActionOrCommand> {
        let name = name(&parameters.text_document.uri);
        let editable = |name: &str| {
            let open = self.open.get(name);
            let uri =
                open.map_or_else(|| uri::of(Path::new(name)), |open| Some(open.uri.clone()))?;
            Some((uri, open.map(|open| open.version)))
        };
        answers::actions(&self.checked, &name, parameters, self.takes_versions, editable)
    }

    pub(super) fn hover(&self, parameters: &HoverParams) -> Option<Hover> {
        let place = &parameters.text_document_position_params;
        answers::hover(&self.checked, &name(&place.text_document.uri), place.position)
    }
}

/// The name of a text in findings.
fn name(uri: &Uri) -> String {
    match uri::path(uri) {
        Some(path) => path.to_string_lossy().into_owned(),
        None => uri.as_str().to_owned(),
    }
}

/// Manifests on disk that are checked together with what is open.
fn manifests(
    folders: &[PathBuf],
    open: &HashSet<PathBuf>,
    configuration: &Configuration,
) -> Vec<PathBuf> {
    let all = sources::files(folders, configuration).unwrap_or_default();
    let size = |path: &PathBuf| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let in_folders = folders.iter().any(|folder| open.iter().all(|path| path.starts_with(folder)));
    if in_folders && all.len() <= MOST_FILES && all.iter().map(size).sum::<u64>() <= MOST_BYTES {
        return all;
    }
    let near: HashSet<&Path> = open.iter().filter_map(|path| path.parent()).collect();
    let beside = near.into_iter().flat_map(|folder| sources::beside(folder, configuration));
    let mut left = MOST_BYTES;
    beside
        .take(MOST_FILES)
        .take_while(|path| {
            let (rest, too_much) = left.overflowing_sub(size(path));
            left = rest;
            !too_much
        })
        .collect()
}

/// The text of a file, read again if it changed; `None` of what is no text or is gone.
fn text_of<'k>(path: &Path, kept: &'k mut HashMap<PathBuf, Kept>) -> Option<&'k str> {
    let metadata = std::fs::metadata(path).ok()?;
    let stamp = (metadata.len(), metadata.modified().ok());
    if kept.get(path).is_none_or(|kept| kept.stamp != stamp) {
        let text = std::fs::read_to_string(path).ok()?;
        kept.insert(path.to_owned(), Kept { stamp, text });
    }
    kept.get(path).map(|kept| kept.text.as_str())
}
