"""The text box for prompts. It sends nothing and loses nothing: a text leaves only when its owner has taken
it.

A paste is data: it names no file and gives no command. `typed_text.py` tells pasted from typed text.
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
"""Characters of one paste, at most."""
FOLDED_FROM = 10_000
"""Characters of a paste that is folded into one line: wrapping megabytes at each key would be slow."""
FOLDED_LINES = 30
"""Lines of a paste that is folded too: nobody edits it here, and it would fill the screen."""


class Composer(TextArea):
    """A few lines of text, with the earlier prompts behind the Up key."""

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
        Binding("up", "recall(-1)", "Earlier prompt (when empty)", show=False, id="chat.earlier"),
        Binding("down", "recall(1)", "Later prompt", show=False, id="chat.later"),
        Binding("tab", "complete", "Complete", id="chat.complete",
                tooltip="Take the suggestion for /… or @…"),
        Binding("escape", "close_suggestions", "Close", show=False, id="chat.close_suggestions",
                tooltip="Close the suggestions"),
        Binding("ctrl+underscore,ctrl+slash,super+z", "undo", "Undo typing", show=False,
                id="chat.undo_typing", tooltip="Undo the last change of the text"),
    ]  # fmt: skip
    # The least width in which TextArea can wrap its placeholder: with less it raises.
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
        """A person wants to send the text. It stays until `accept`."""

        composer: Composer
        text: str
        by_hand: str
        """The typed part of it, as in `Composer.by_hand`."""

        @property
        def control(self) -> Composer:
            return self.composer

    @dataclass
    class PasteShortened(Message):
        """A paste was longer than `MAX_PASTE` and was cut."""

        composer: Composer
        characters: int

    def __init__(
        self, placeholder: str, suggestions: Suggestions | None = None, *,
        id: str | None = None,  # noqa: A002 (Textual's own name)
    ) -> None:  # fmt: skip
        """`suggestions` stand beside the text box, whose keys move in them while they are open."""
        super().__init__(id=id, placeholder=placeholder, highlight_cursor_line=False, compact=False)
        self._bindings.key_to_bindings.pop("ctrl+z", None)  # Textual's undo: here that key suspends the app
        self._sent = SentPrompts()
        self._submitted = ""
        """The document as it was sent, until the owner takes it."""
        self._pasted: dict[str, str] = {}
        """The folded pastes by label. A label is never used again, because earlier prompts hold theirs."""
        self._suggestions = suggestions or Suggestions("suggestions")

    @property
    def before(self) -> str:
        """The line up to the cursor, in the form of `by_hand`."""
        row, column = self.cursor_location
        line = self.document.get_line(row)[:column]
        return typed_text.by_hand(line) if row == 0 else typed_text.by_hand(" " + line)[1:]

    @property
    def text(self) -> str:
        """The text as the screen shows it."""
        return typed_text.shown(self.document.text)

    @text.setter
    def text(self, text: str) -> None:
        self.load_text(text)

    @property
    def prompt(self) -> str:
        """The text as it is sent: every character as typed or pasted, with folded pastes in full."""
        return typed_text.said(self.document.text, self._pasted)

    @property
    def by_hand(self) -> str:
        """The typed text: U+FFFC stands where a paste has an @ or begins with a slash."""
        return typed_text.by_hand(self.document.text)

    @property
    def selected_text(self) -> str:
        """The selected text as it would be sent."""
        return typed_text.said(super().selected_text, self._pasted)

    def load_text(self, text: str) -> None:
        """Replace the text by `text`, as if it was typed."""
        super().load_text(typed_text.standing(text))

    def accept(self) -> None:
        """Remember the text that was sent as a prompt, and remove it. Text typed behind it stays."""
        now = self.document.text
        taken, self._submitted = self._submitted or now, ""
        self._sent.add(taken)
        self._load(now.removeprefix(taken) if now.startswith(taken) else "")

    def take_up(self, text: str, names: Iterable[str] = ()) -> None:
        """Do `write_again`, and keep the present text behind the Up key."""
        self._submitted = ""
        if self.text.strip():
            self.accept()
        self.write_again(text, names)

    def write_again(self, text: str, names: Iterable[str] = (), *, command: bool = False) -> None:
        """Put an earlier prompt here for a change. Of its words, only `names` name files, and only a
        `command` is one."""
        self._sent.leave()
        self._load(typed_text.recalled(text, names, command=command))

    def _load(self, document: str) -> None:
        self.load_text(document)
        self.move_cursor(self.document.end)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Leave Tab and Esc to the screen while there is no suggestion."""
        return (
            self._suggestions.is_open_for(self.before)
            if action in ("complete", "close_suggestions")
            else True
        )

    def action_complete(self) -> None:
        """Take the suggestion."""
        if self._suggestions.is_open_for(self.before) and (chosen := self._suggestions.suggestion):
            row, column = self.cursor_location
            self.replace(chosen.text, (row, column - chosen.replaces), (row, column))
            self._suggestions.offer(())

    def action_close_suggestions(self) -> None:
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

    def action_recall(self, by: int) -> None:
        """Recall the prompt before (-1) or after (1) if no text would be lost; else move the cursor."""
        if self._suggestions.is_open_for(self.before):
            self._suggestions.move(by)
            return
        place = self._sent.place(self.document.text) if self.text or by > 0 else len(self._sent)
        at_edge = self.cursor_at_first_line if by < 0 else self.cursor_at_last_line
        if place is None or not at_edge:
            (self.action_cursor_up if by < 0 else self.action_cursor_down)()
        elif 0 <= place + by < len(self._sent):
            self._load(self._sent.recall(place + by))
        elif by > 0:
            self._sent.leave()
            self.clear()

    async def _on_key(self, event: events.Key) -> None:
        """Handle a key with a meaning at once. Textual would look for its meaning only after the key has
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
        """Cut the selection. Textual's own action would copy the document with its stand-ins."""
        if self.selection.is_empty:
            row, _ = self.cursor_location
            self.selection = Selection((row, 0), (row, len(self.document.get_line(row))))
        if text := self.selected_text:
            self._delete_via_keyboard(*self.selection)
            self.app.copy_to_clipboard(text)

    def action_paste(self) -> None:
        self._paste(self.app.clipboard)

    def _paste(self, text: str) -> None:
        """Insert `text` as data, and fold it if it is long."""
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
        """Edit as Textual does, but keep folded pastes whole or remove them whole."""
        top, bottom = edit.top, edit.bottom
        edit.from_location = outside(self.document, top, forward=top == bottom)
        edit.to_location = outside(self.document, bottom, forward=True)
        row, column = edit.from_location
        edit.text = typed_text.standing(edit.text, self.document.get_line(row)[:column][-1:])
        return super().edit(edit)

    def validate_selection(self, selection: Selection) -> Selection:
        """Move the cursor over a folded paste in one step; a selection holds all of a paste or nothing."""
        start, end = selection
        forward = end >= self.selection.end
        moved = outside(self.document, end, forward=forward)
        if start == end:
            return Selection(moved, moved)
        return Selection(outside(self.document, start, forward=start > end), moved)

    def get_line(self, line_index: int) -> Text:
        return Text(typed_text.seen(self.document.get_line(line_index)), end="", no_wrap=True)


def outside(document: DocumentBase, location: Location, *, forward: bool) -> Location:
    """Return `location`, or the edge of the folded paste around it."""
    row, column = location
    if row < document.line_count:
        for mark in typed_text.MARK.finditer(document.get_line(row)):
            if mark.start() < column < mark.end():
                return row, mark.end() if forward else mark.start()
    return location
