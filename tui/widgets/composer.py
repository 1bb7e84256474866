"""Where a person writes. It sends nothing and forgets nothing: text goes only when its owner took it.

A paste is data: it names no file and gives no command. `typed_text.py` tells it from what was typed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.document._document import DocumentBase, EditResult, Location, Selection
from textual.document._edit import Edit
from textual.message import Message
from textual.widgets import TextArea

from tui.clean import without_sequences

from . import typed_text
from .sent_prompts import SentPrompts
from .suggestions import Suggestions

MAX_PASTE = 1_000_000
"""Characters of one paste that are taken."""
FOLDED_FROM = 10_000
"""A paste from this many characters on stands as one line: wrapping megabytes at each key would be felt."""
FOLDED_LINES = 30
"""So does one of this many lines: nobody edits it here, and it would push all else out of sight."""


class Composer(TextArea):
    """A few lines of text with the prompts that were sent before behind the Up key."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "Send", id="chat.send"),
        Binding(
            "ctrl+j,alt+enter,shift+enter",
            "newline",
            "Line",
            id="chat.newline",
            key_display="^j",
            tooltip="New line",
        ),
        Binding("up", "earlier", "Earlier prompt (when empty)", show=False, id="chat.earlier"),
        Binding("down", "later", "Later prompt", show=False, id="chat.later"),
        Binding("tab", "complete", "Complete", id="chat.complete",
                tooltip="Take the suggestion for /… or @…"),
        Binding("escape", "refuse", "Close", show=False, id="chat.refuse",
                tooltip="Close the suggestions"),
        Binding("ctrl+underscore,ctrl+slash,super+z", "undo", "Undo typing", show=False,
                id="chat.undo_typing", tooltip="Undo the last change of the text"),
    ]  # fmt: skip
    # The least width is one in which TextArea can wrap its placeholder: with none it raises.
    DEFAULT_CSS = """
    Composer {
        height: auto;
        min-height: 3;
        min-width: 12;
        max-height: 10;
        margin: 0 1;
        padding: 0 1;
        border: round $line;
        background: $background;
        &:focus { border: round $primary; }
        & .text-area--cursor-line { background: $background; }
        & .text-area--placeholder { color: $quiet; }
    }
    """

    @dataclass
    class Submitted(Message):
        """A person wants this sent. The text stays until `accept`."""

        composer: Composer
        text: str
        by_hand: str
        """The same as far as it was typed, as `Composer.by_hand` has it."""

        @property
        def control(self) -> Composer:
            return self.composer

    @dataclass
    class PasteShortened(Message):
        """More was pasted than is taken."""

        composer: Composer
        characters: int

    def __init__(
        self, placeholder: str, suggestions: Suggestions | None = None, *,
        id: str | None = None,  # noqa: A002 (Textual's own name)
    ) -> None:  # fmt: skip
        """`suggestions` stand beside it, and its keys move in them while they are open."""
        super().__init__(id=id, placeholder=placeholder, highlight_cursor_line=False, compact=False)
        self._bindings.key_to_bindings.pop("ctrl+z", None)  # Textual's undo: here that key suspends the app
        self._sent = SentPrompts()
        self._submitted = ""
        """The document as it was sent, until it is taken."""
        self._pasted: dict[str, str] = {}
        """What is folded, by its label. None is ever used again: earlier prompts hold theirs."""
        self._suggestions = suggestions or Suggestions("suggestions")

    @property
    def before(self) -> str:
        """The line with the cursor, up to it, as `by_hand`."""
        row, column = self.cursor_location
        line = self.document.get_line(row)[:column]
        return typed_text.by_hand(line) if row == 0 else typed_text.by_hand(" " + line)[1:]

    @property
    def text(self) -> str:
        """The text as it stands on the screen."""
        return typed_text.shown(self.document.text)

    @text.setter
    def text(self, text: str) -> None:
        self.load_text(text)

    @property
    def prompt(self) -> str:
        """The text as it is sent: every character as it was typed or pasted, and folded pastes in full."""
        return typed_text.said(self.document.text, self._pasted)

    @property
    def by_hand(self) -> str:
        """The text as far as it was typed: U+FFFC stands where a paste has an @ or begins with a slash."""
        return typed_text.by_hand(self.document.text)

    @property
    def selected_text(self) -> str:
        """What is selected, as it is sent."""
        return typed_text.said(super().selected_text, self._pasted)

    def load_text(self, text: str) -> None:
        """Let `text` stand here as if it was typed."""
        super().load_text(typed_text.standing(text))

    def accept(self) -> None:
        """What was sent was taken: remember it as a prompt and make room. What was typed behind it stays."""
        now = self.document.text
        taken, self._submitted = self._submitted or now, ""
        self._sent.add(taken)
        self._load(now.removeprefix(taken) if now.startswith(taken) else "")

    def take_up(self, text: str, names: Iterable[str] = ()) -> None:
        """As `write_again`; what stood here is behind the Up key."""
        self._submitted = ""
        if self.text.strip():
            self.accept()
        self.write_again(text, names)

    def write_again(self, text: str, names: Iterable[str] = (), *, command: bool = False) -> None:
        """Put a prompt here to be changed that was written before. Of its words only these name files, and
        only a `command` is one."""
        self._sent.leave()
        self._load(typed_text.recalled(text, names, command=command))

    def _load(self, document: str) -> None:
        self.load_text(document)
        self.move_cursor(self.document.end)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Tab and Esc are the screen's while nothing is suggested."""
        return self._suggestions.is_open_for(self.before) if action in ("complete", "refuse") else True

    def action_complete(self) -> None:
        """Take the suggestion."""
        if self._suggestions.is_open_for(self.before) and (chosen := self._suggestions.suggestion):
            row, column = self.cursor_location
            self.replace(chosen.text, (row, column - chosen.replaces), (row, column))
            self._suggestions.offer(())

    def action_refuse(self) -> None:
        self._suggestions.offer(())

    def action_submit(self) -> None:
        chosen = self._suggestions.suggestion if self._suggestions.is_open_for(self.before) else None
        if chosen and not self.before.endswith(chosen.text.rstrip()):
            self.action_complete()
            if not chosen.sends:
                return
        self._suggestions.offer(())
        if self.text.strip():
            self._submitted = self.document.text
            self.post_message(self.Submitted(self, self.prompt, self.by_hand))

    def action_newline(self) -> None:
        self.insert("\n")
        self.scroll_cursor_visible()

    def action_earlier(self) -> None:
        """Recall a prompt if nothing would be lost by it, move the cursor if not."""
        if self._suggestions.is_open_for(self.before):
            self._suggestions.move(-1)
            return
        position = self._sent.place(self.document.text) if self.text else len(self._sent)
        if position is None or not self.cursor_at_first_line:
            self.action_cursor_up()
        elif position > 0:
            self._load(self._sent.recall(position - 1))

    def action_later(self) -> None:
        if self._suggestions.is_open_for(self.before):
            self._suggestions.move(1)
            return
        position = self._sent.place(self.document.text)
        if position is None or not self.cursor_at_last_line:
            self.action_cursor_down()
        elif position + 1 < len(self._sent):
            self._load(self._sent.recall(position + 1))
        else:
            self._sent.leave()
            self.clear()

    async def _on_key(self, event: events.Key) -> None:
        """A key with a meaning has it here and now. Left to itself, Textual looks for it once the key has
        bubbled up, behind letters that were typed after it."""
        active = None if event.is_printable else self.screen.active_bindings.get(event.key)
        if active and active.enabled:
            event.prevent_default()
            event.stop()
            await self.app.run_action(active.binding.action, active.node)

    async def _on_paste(self, event: events.Paste) -> None:
        event.prevent_default()
        event.stop()
        self._paste(event.text)
        self.focus()

    def action_cut(self) -> None:
        """Textual's would copy the document, and not what it says."""
        if self.selection.is_empty:
            row, _ = self.cursor_location
            self.selection = Selection((row, 0), (row, len(self.document.get_line(row))))
        if text := self.selected_text:
            self._delete_via_keyboard(*self.selection)
            self.app.copy_to_clipboard(text)

    def action_paste(self) -> None:
        self._paste(self.app.clipboard)

    def _paste(self, text: str) -> None:
        """Take in `text` as data, and fold it if it is long."""
        if len(text) > MAX_PASTE:
            self.post_message(self.PasteShortened(self, len(text)))
        text = without_sequences(text[:MAX_PASTE])
        lines = text.count("\n") + (not text.endswith("\n"))
        if len(text) >= FOLDED_FROM or lines >= FOLDED_LINES:
            size = f"{lines:,} lines" if lines > 1 else f"{len(text):,} characters"
            label = f"paste {len(self._pasted) + 1}: {size}"
            self._pasted[label] = text
            document = typed_text.folded(label)
        else:
            document = typed_text.quoted(text)
        self.move_cursor(self.replace(document, *self.selection).end_location)

    # A folded paste is one unit

    def edit(self, edit: Edit) -> EditResult:
        """Textual's, with folded pastes left whole or taken out whole."""
        top, bottom = edit.top, edit.bottom
        edit.from_location = outside(self.document, top, forward=top == bottom)
        edit.to_location = outside(self.document, bottom, forward=True)
        row, column = edit.from_location
        edit.text = typed_text.standing(edit.text, self.document.get_line(row)[:column][-1:])
        return super().edit(edit)

    def validate_selection(self, selection: Selection) -> Selection:
        """The cursor steps over a folded paste, and a selection holds all of one or nothing."""
        start, end = selection
        forward = end >= self.selection.end
        moved = outside(self.document, end, forward=forward)
        if start == end:
            return Selection(moved, moved)
        return Selection(outside(self.document, start, forward=start > end), moved)

    def get_line(self, line_index: int) -> Text:
        return Text(typed_text.seen(self.document.get_line(line_index)), end="", no_wrap=True)


def outside(document: DocumentBase, location: Location, *, forward: bool) -> Location:
    """`location`, or the edge of the folded paste that it lies in."""
    row, column = location
    if row < document.line_count:
        for mark in typed_text.MARK.finditer(document.get_line(row)):
            if mark.start() < column < mark.end():
                return row, mark.end() if forward else mark.start()
    return location
