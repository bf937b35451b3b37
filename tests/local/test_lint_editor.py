"""`trainyard lint --lsp` with a real client of the Language Server Protocol (pygls)."""

import asyncio
import os
import re

import pytest
from conftest import BINARY
from lsprotocol import types as lsp
from pygls.lsp.client import BaseLanguageClient

# What stands before the finding counts as two in the protocol, one in Python and four in UTF-8.
POD = """\
# 🚂
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - {name: "🚂", image: "a:1", resources: {requests: {nvidia.com/gpu: 1}, limits: {nvidia.com/gpu: 2}}}
"""


class Editor:
    def __init__(self, folder):
        self.folder = folder
        self.texts = {}
        self.versions = {}
        self.published = {}
        self.messages = []
        self.changed = asyncio.Event()
        self.client = BaseLanguageClient("test-editor", "1")
        # Bound methods cannot be registered.
        self.client.feature(lsp.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)(lambda said: self._publish(said))
        self.client.feature(lsp.WINDOW_SHOW_MESSAGE)(lambda said: self._message(said))

    def _publish(self, parameters):
        self.published[parameters.uri] = parameters
        self.changed.set()

    def _message(self, parameters):
        self.messages.append(parameters.message)
        self.changed.set()

    async def start(self, versions=True):
        await self.client.start_io(BINARY, "lint", "--lsp")
        answer = await self.client.initialize_async(lsp.InitializeParams(
            process_id=os.getpid(),
            root_uri=self.folder.as_uri(),
            capabilities=lsp.ClientCapabilities(
                workspace=lsp.WorkspaceClientCapabilities(
                    workspace_edit=lsp.WorkspaceEditClientCapabilities(document_changes=versions),
                ),
            ),
        ))
        self.client.initialized(lsp.InitializedParams())
        return answer.capabilities

    async def stop(self):
        await self.client.shutdown_async(None)
        self.client.exit(None)
        await asyncio.wait_for(self.client._server.wait(), 10)
        assert self.client._server.returncode == 0
        await self.client.stop()

    def uri(self, name):
        return (self.folder / name).as_uri()

    def open(self, name, text):
        self.texts[name], self.versions[name] = text, 1
        self.client.text_document_did_open(lsp.DidOpenTextDocumentParams(
            lsp.TextDocumentItem(self.uri(name), "yaml", 1, text)))

    def change(self, name, start, end, new):
        """Replaces characters of a text, as an editor does it: by lines and UTF-16 units."""
        text = self.texts[name]
        edit = lsp.TextDocumentContentChangePartial(
            text=new, range=lsp.Range(position(text, start), position(text, end)))
        self.texts[name] = text[:start] + new + text[end:]
        self.versions[name] += 1
        self.client.text_document_did_change(lsp.DidChangeTextDocumentParams(
            lsp.VersionedTextDocumentIdentifier(self.versions[name], self.uri(name)), [edit]))

    async def until(self, holds):
        async with asyncio.timeout(30):
            while not (value := holds()):
                self.changed.clear()
                await self.changed.wait()
        return value

    async def diagnostics(self, name):
        """Those of the newest version."""
        def newest():
            found = self.published.get(self.uri(name))
            return found if found and found.version == self.versions[name] else None
        return {it.code: it for it in (await self.until(newest)).diagnostics}

    async def actions(self, name, range, only=None):
        return await self.client.text_document_code_action_async(lsp.CodeActionParams(
            lsp.TextDocumentIdentifier(self.uri(name)), range, lsp.CodeActionContext([], only)))

    def apply(self, edit):
        """Carries an edit out, from the end of the text to its start."""
        changes = {change.text_document.uri: change.edits for change in edit.document_changes or []}
        for uri, edits in (changes or edit.changes).items():
            name = next(name for name in self.texts if self.uri(name) == uri)
            text = self.texts[name]
            places = [(offset(text, it.range.start), offset(text, it.range.end), it.new_text) for it in edits]
            for start, end, new in sorted(places, reverse=True):
                self.change(name, start, end, new)


def units(text):
    return len(text.encode("utf-16-le")) // 2


def position(text, at):
    before = text[:at]
    line = before.count("\n")
    return lsp.Position(line, units(before[before.rfind("\n") + 1:]))


def offset(text, place):
    at = sum(len(line) for line in text.splitlines(keepends=True)[:place.line])
    while units(text[:at].rsplit("\n", 1)[-1]) < place.character:
        at += 1
    return at


def slice_of(text, range):
    return text[offset(text, range.start):offset(text, range.end)]


def whole(text):
    return lsp.Range(lsp.Position(0, 0), position(text, len(text)))


def edits(folder, work, **options):
    async def session():
        editor = Editor(folder)
        capabilities = await editor.start(**options)
        try:
            await work(editor, capabilities)
        finally:
            await editor.stop()
    asyncio.run(session())


def test_a_mistake_is_told_explained_and_mended(tmp_path):
    async def work(editor, capabilities):
        assert capabilities.text_document_sync.change == lsp.TextDocumentSyncKind.Incremental
        editor.open("a.yaml", POD)
        found = (await editor.diagnostics("a.yaml"))["GPU01"]
        assert slice_of(POD, found.range) in ("1", "2")
        assert found.severity == lsp.DiagnosticSeverity.Error and found.source == "trainyard"
        assert found.code_description.href.endswith("/docs/rules/GPU01.md")

        about = lsp.HoverParams(lsp.TextDocumentIdentifier(editor.uri("a.yaml")), found.range.start)
        hover = await editor.client.text_document_hover_async(about)
        assert hover.range == found.range and "Why it matters" in hover.contents.value
        about = lsp.HoverParams(lsp.TextDocumentIdentifier(editor.uri("a.yaml")), lsp.Position(1, 0))
        assert await editor.client.text_document_hover_async(about) is None

        (action,) = [it for it in await editor.actions("a.yaml", found.range) if it.title.startswith("GPU01")]
        assert action.kind == lsp.CodeActionKind.QuickFix and action.is_preferred
        assert list(action.diagnostics) == [found]
        assert action.edit.document_changes[0].text_document.version == 1
        editor.apply(action.edit)
        assert "GPU01" not in await editor.diagnostics("a.yaml")
        assert re.search(r"gpu: (\d)}, limits: {nvidia.com/gpu: \1}", editor.texts["a.yaml"])
    edits(tmp_path, work)


def test_what_is_typed_is_checked(tmp_path):
    async def work(editor, _):
        good = POD.replace("gpu: 1", "gpu: 2")
        editor.open("a.yaml", good)
        assert "GPU01" not in await editor.diagnostics("a.yaml")
        at = good.index("gpu: 2") + 5
        editor.change("a.yaml", at, at + 1, "4")
        # Another text in front moves the place, in lines and in units.
        editor.change("a.yaml", 0, 1, "# 🚂🚂\n#")
        found = (await editor.diagnostics("a.yaml"))["GPU01"]
        assert slice_of(editor.texts["a.yaml"], found.range) in ("2", "4")
        # Half a document is an error in its place, and the rest stays checked.
        editor.change("a.yaml", len(editor.texts["a.yaml"]), len(editor.texts["a.yaml"]), "---\na: [1\n")
        found = await editor.diagnostics("a.yaml")
        assert "GPU01" in found and found[None].severity == lsp.DiagnosticSeverity.Error
        # A whole text, as simple editors send it.
        editor.versions["a.yaml"] += 1
        editor.client.text_document_did_change(lsp.DidChangeTextDocumentParams(
            lsp.VersionedTextDocumentIdentifier(editor.versions["a.yaml"], editor.uri("a.yaml")),
            [lsp.TextDocumentContentChangeWholeDocument(good)]))
        assert not {"GPU01", None} & set(await editor.diagnostics("a.yaml"))
        editor.client.text_document_did_close(lsp.DidCloseTextDocumentParams(
            lsp.TextDocumentIdentifier(editor.uri("a.yaml"))))
        await editor.until(lambda: not editor.published[editor.uri("a.yaml")].diagnostics)
    edits(tmp_path, work)


def test_all_is_mended_at_once(tmp_path):
    async def work(editor, _):
        text = POD + "---\n" + POD.replace("name: a", "name: b")
        editor.open("a b ü.yaml", text)
        await editor.diagnostics("a b ü.yaml")
        only = [lsp.CodeActionKind.SourceFixAll]
        (action,) = await editor.actions("a b ü.yaml", whole(text), only)
        # This editor takes no versions.
        assert action.edit.document_changes is None and list(action.edit.changes) == [editor.uri("a b ü.yaml")]
        editor.apply(action.edit)
        assert "GPU01" not in await editor.diagnostics("a b ü.yaml")
        assert editor.texts["a b ü.yaml"].count("# 🚂") == 2
    edits(tmp_path, work, versions=False)


def test_files_of_the_workspace_count(tmp_path):
    """A class in another file on disk decides about a name in the open one, until it changes."""
    classes = "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {name: %s}\nhandler: x\n"
    (tmp_path / "class.yaml").write_text(classes % "gpu-class")
    (tmp_path / ".trainyard-lint.yaml").write_text("exclude: [GPU20]\n")
    pod = POD.replace("spec:\n", "spec:\n  runtimeClassName: gpu-class\n")

    async def work(editor, _):
        editor.open("a.yaml", pod)
        found = await editor.diagnostics("a.yaml")
        assert "GPU23" not in found and "GPU20" not in found
        (tmp_path / "class.yaml").write_text(classes % "other-class")
        (tmp_path / ".trainyard-lint.yaml").write_text("exclude: [GPU01]\n")
        editor.client.workspace_did_change_watched_files(lsp.DidChangeWatchedFilesParams([]))
        def now():
            codes = {it.code for it in editor.published[editor.uri("a.yaml")].diagnostics}
            return "GPU23" in codes and "GPU01" not in codes
        await editor.until(now)
        # Settings that cannot be used are told, and the server lives on.
        (tmp_path / ".trainyard-lint.yaml").write_text("exclude: 1\n")
        editor.client.workspace_did_change_watched_files(lsp.DidChangeWatchedFilesParams([]))
        await editor.until(lambda: editor.messages)
        assert ".trainyard-lint.yaml" in editor.messages[0]
    edits(tmp_path, work)


def test_what_is_not_offered_is_refused_and_costs_nothing(tmp_path):
    async def work(editor, _):
        editor.open("a.yaml", POD)
        with pytest.raises(Exception, match="not among the capabilities"):
            await editor.client.text_document_completion_async(lsp.CompletionParams(
                lsp.TextDocumentIdentifier(editor.uri("a.yaml")), lsp.Position(0, 0)))
        assert not await editor.actions("unknown.yaml", whole(""))
        assert "GPU01" in await editor.diagnostics("a.yaml")
    edits(tmp_path, work)
