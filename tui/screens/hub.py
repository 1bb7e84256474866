"""Models on the Hugging Face hub: search, see the ones that fit, download, watch the downloads.

Downloads go to the engine's machine. They belong to the app: they continue when this screen closes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Input, Static

from tui.choices import HEAD, HEADS, OWN_HEAD
from tui.clean import clean_line
from tui.client import Downloads, EngineError, HubClient, last_reply
from tui.protocol import (
    HubFile,
    HubFound,
    HubInside,
    HubListed,
    HubPair,
    HubRepository,
    ListHub,
    LookInside,
    PairsProposed,
    ProposePairs,
    SearchHub,
)
from tui.quantities import number, size, slowness
from tui.widgets.keyline import KeyLine
from tui.widgets.rows import Row, Rows

from .download_list import DownloadList
from .list_screen import ListsScreen

PAUSE = 0.35
"""Seconds without a key before the hub is asked."""


class HubScreen(ListsScreen[None]):
    """Esc goes back."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "fetch", "Download", priority=True, id="hub.fetch",
                tooltip="Download it; on a download: pause, go on"),
        Binding("tab", "change(1)", "Next list", priority=True, id="hub.change",
                tooltip="Repositories, files, downloads"),
        Binding("ctrl+x", "remove", "Remove", priority=True, id="hub.remove",
                tooltip="Off the list; the part that has come stays"),
        Binding("escape", "back", "Back", id="hub.back", tooltip="Back to the models; downloads go on"),
    ]  # fmt: skip
    DEFAULT_CSS = """
    HubScreen {
        #repositories { width: 3fr; }
        #files { width: 2fr; }
        #downloads { height: 8; margin: 0 2; }
        #about { height: 2; }
        &.-narrow #downloads { height: 6; margin: 0; }
    }
    """

    def __init__(self, client: HubClient, downloads: Downloads) -> None:
        self._repositories = Rows("repositories", "looking for pairs that fit here …")
        self._files = Rows("files")
        self._queue = DownloadList(downloads, self._downloads_shown)
        super().__init__(
            "search the hub, or take a pair that fits here", (self._repositories, self._files, self._queue)
        )
        self._client = client
        self._pairs: dict[str, HubPair] = {}
        self._hits: dict[str, HubRepository] = {}
        self._listed: HubListed | None = None
        """The files of the repository under the cursor."""
        self._inside: dict[tuple[str, str], bool] = {}
        """Whether a file has its own head, for those that were looked into, by repository and name."""
        self._about = Static(id="about", markup=False)
        self._said = ""
        """The text of the description now."""

    def compose(self) -> ComposeResult:
        yield self.line
        with Horizontal(classes="beside"):
            yield self._repositories
            yield self._files
        yield self._queue
        yield self._about
        yield KeyLine()

    def on_mount(self) -> None:
        self._repositories.border_title, self._files.border_title = "Hugging Face", "Files"
        self.activate(self._repositories)
        self._search("")

    # Repositories and files

    @work(exclusive=True, group="search")
    async def _search(self, words: str) -> None:
        """Show the repositories for `words`; without words, pairs for this machine."""
        if words:
            await asyncio.sleep(PAUSE)
            self._repositories.border_title = "Hugging Face"
            self._repositories.show(())
            self._repositories.say("searching …")
        ask = self._client.ask
        try:
            if words:
                self._show_found((await last_reply(ask(SearchHub(0, words)), HubFound)).repositories)
            else:
                self._show_pairs((await last_reply(ask(ProposePairs(0)), PairsProposed)).pairs)
        except EngineError as error:
            self._repositories.say(error.line)

    def _show_found(self, found: tuple[HubRepository, ...]) -> None:
        self._hits = {each.name: each for each in found}
        self._pairs = {}
        self._repositories.border_title = f"Hugging Face  {len(found):,}"
        self._repositories.empty = "nothing on the hub has these words"
        self._repositories.show([_repository_row(each) for each in found], keep=False)

    def _show_pairs(self, pairs: tuple[HubPair, ...]) -> None:
        self._pairs = {each.main: each for each in pairs}
        self._repositories.empty = "no known pair fits this machine: type to search"
        self._hits = {}
        self._repositories.border_title = "Pairs that fit here"
        self._repositories.show([_pair_row(each) for each in pairs], keep=False)

    @on(Rows.Moved, "#repositories")
    def _repository_moved(self, event: Rows.Moved) -> None:
        event.stop()
        self.workers.cancel_group(self, "files")
        self._listed = None
        self._files.empty = ""
        self._files.show(())
        row = self._repositories.current
        if row and (pair := self._pairs.get(row.key)):
            self._files.show([Row(name, (name.partition("/")[2], role)) for name, role, _ in _parts(pair)])
        elif row:
            self._files.empty = "asking for its files …"
            self._list(row.key)
        self._describe()

    @work(exclusive=True, group="files")
    async def _list(self, repository: str) -> None:
        await asyncio.sleep(PAUSE)
        try:
            self._show_files(await last_reply(self._client.ask(ListHub(0, repository)), HubListed))
        except EngineError as error:
            self._files.say(error.line)

    def _show_files(self, listed: HubListed) -> None:
        self._listed = listed
        self._files.empty = clean_line(listed.note) or "no GGUF file and no MLX folder"
        rows = [_file_row(each, listed.memory) for each in listed.files]
        self._files.show(rows, keep=False)
        wanted = [each.name for each in listed.files if each.quantization == "Q4_K_M" and not each.head]
        if wanted:
            self._files.go_to(wanted[0])
        self._describe()

    @on(Rows.Moved, "#files")
    @on(Rows.Moved, "#downloads")
    def _other_moved(self, event: Rows.Moved) -> None:
        event.stop()
        self._describe()
        self.workers.cancel_group(self, "inside")
        row, listed = self._files.current, self._listed
        file = next((each for each in listed.files if row and each.name == row.key), None) if listed else None
        if listed and file and file.backend == "llama.cpp" and not file.head:
            self._look_inside(listed.repository, file.name)

    @work(exclusive=True, group="inside")
    async def _look_inside(self, repository: str, name: str) -> None:
        """Learn whether the file under the cursor has its own head, once the cursor has rested."""
        if (place := (repository, name)) in self._inside:
            return
        await asyncio.sleep(PAUSE)
        with suppress(EngineError):  # only a remark would be missing, and a download reports the fault
            asked = self._client.ask(LookInside(0, repository, name))
            self._inside[place] = (await last_reply(asked, HubInside)).head
            self._describe()

    def _describe(self) -> None:
        """Describe the row under the cursor of the active list."""
        words = ""
        row = self._repositories.current
        if self.active is self._queue:
            words = self._queue.description()
        elif row and (hit := self._hits.get(row.key)):
            terms = f" · {self._listed.license}" if self._listed and self._listed.license else ""
            gated = " · gated: its makers ask for your consent first" if hit.gated else ""
            note = f" · {self._listed.note}" if self._listed and self._listed.note else ""
            kinds = sorted({each.head for each in self._listed.files if each.head} if self._listed else ())
            heads = "".join(f" · with its own draft: {HEADS[each]}" for each in kinds)
            file, about = self._files.current, ""
            if file and self._inside.get((hit.name, file.key)):
                about, heads = OWN_HEAD, f" · {OWN_HEAD}"
            elif file and self._listed:
                about = _about_heads(file.key, self._listed.files)
            beside = f"huggingface.co/{hit.name}{terms}{gated}{heads}{note}"
            words = about if about and self.active is self._files else beside
        elif row and (pair := self._pairs.get(row.key)):
            slow = f"{slowness(pair).capitalize()} without a draft. " if pair.slow else ""
            words = f"{slow}{pair.main}, {_drafted_by(pair)}"
        if words != self._said:
            self._said = words
            self._about.update(Content(clean_line(words)), layout=False)

    def _downloads_shown(self) -> None:
        if self.active is self._queue:
            self._describe()

    # Keys

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self._search(event.value.strip())

    def action_change(self, by: int) -> None:
        super().action_change(by)
        self._describe()

    def action_fetch(self) -> None:
        row, file = self._repositories.current, self._files.current
        pair = self._pairs.get(row.key) if row else None
        if self.active is self._queue:
            self._queue.toggle()
        elif pair:
            whole = self.active is self._repositories
            for name, _, note in _parts(pair):
                if whole or (file and file.key == name):
                    repository, _, part = name.partition(":")
                    self._queue.add(repository, part, note)
        elif self.active is self._repositories:
            self.action_change(1)
        elif self._listed and file:
            self._queue.add(self._listed.repository, file.key)

    def action_remove(self) -> None:
        if self.active is self._queue:
            self._queue.remove_item()


def _parts(pair: HubPair) -> tuple[tuple[str, str, str], ...]:
    """Return each model to download, with its role and the note about it in the list of downloads."""
    if pair.draft == HEAD:
        return ((pair.main, "main + head", "with its own head, which drafts once you load it"),)
    note = f"a head: it drafts for {pair.name} once you load that" if pair.head else ""
    return (pair.main, "main", ""), (pair.draft, "head" if pair.head else "draft", note)


def _drafted_by(pair: HubPair) -> str:
    if pair.draft == HEAD:
        return "with its own head as its draft: Enter downloads this one file"
    name = pair.draft.removeprefix(f"{pair.main.partition(':')[0]}:")
    return f"with {'the head ' if pair.head else ''}{name} as its draft"


def _pair_row(pair: HubPair) -> Row:
    remark = f"≤ {number(pair.at_most, 'tok/s')}" if pair.slow else "with head" if pair.head else ""
    return Row(pair.main, (pair.name, size(pair.size), remark), "faint" if pair.slow else "plain")


def _repository_row(found: HubRepository) -> Row:
    name = found.name + (" (gated)" if found.gated else "")
    return Row(found.name, (name, f"{found.downloads:,} ↓", found.format))


def _file_row(file: HubFile, memory: int) -> Row:
    fits = file.size <= memory
    name = file.quantization or file.name
    parts = f" in {file.parts} files" if file.parts > 1 else ""
    remark = HEADS[file.head] if file.head else ""
    return Row(
        file.name,
        (name + parts, size(file.size), remark if fits else "too large"),
        "plain" if fits else "faint",
    )


def _about_heads(name: str, files: Sequence[HubFile]) -> str:
    """Return the words about the file `name` if it is a head, or about the heads beside it; else nothing."""
    heads = [each for each in files if each.head]
    if not heads:
        return ""
    if any(each.name == name for each in heads):
        return f"{name} drafts for a model beside it. When both are here, it stands among the drafts."
    smallest = min(heads, key=lambda each: each.size)
    last = f"Its {HEADS[smallest.head]} is at the end of this list, {size(smallest.size)}"
    return f"{last}. Enter there downloads it too, and it drafts for this model."
