"""Where a person writes. It sends nothing and forgets nothing: text goes only when its owner took it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import TextArea

from tui.clean import clean

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
                tooltip="Take what is suggested for /… and @…"),
        Binding("escape", "refuse", "Close", show=False, id="chat.refuse",
                tooltip="Close what is suggested"),
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
        self._sent: list[str] = []
        self._submitted = ""
        """The text as it was sent, until it is taken."""
        self._recalled: int | None = None
        self._pasted: dict[str, str] = {}
        self._suggestions = suggestions or Suggestions("suggestions")

    @property
    def before(self) -> str:
        """The line with the cursor, up to it."""
        row, column = self.cursor_location
        return self.document.get_line(row)[:column]

    @property
    def prompt(self) -> str:
        """The text with every folded paste in full."""
        if not self._pasted:
            return self.text
        return re.sub("|".join(map(re.escape, self._pasted)), lambda mark: self._pasted[mark[0]], self.text)

    def accept(self) -> None:
        """What was sent was taken: remember it as a prompt and make room. What was typed behind it stays."""
        taken, self._submitted = self._submitted or self.text, ""
        if not self._sent or self._sent[-1] != taken:
            self._sent.append(taken)
        self._recalled = None
        rest = self.text.removeprefix(taken) if self.text.startswith(taken) else ""
        self.load_text(rest)
        self.move_cursor(self.document.end)

    def take_up(self, text: str) -> None:
        """Put `text` here to be changed; what stood here is behind the Up key."""
        self._submitted = ""
        if self.text.strip():
            self.accept()
        self._recalled = None
        self.load_text(text)
        self.move_cursor(self.document.end)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Tab and Esc are the screen's while nothing is suggested."""
        return self._suggests if action in ("complete", "refuse") else True

    @property
    def _suggests(self) -> bool:
        """Whether something is suggested for what stands before the cursor now."""
        return self._suggestions.is_open and self._suggestions.before == self.before

    def action_complete(self) -> None:
        """Take the suggestion."""
        if self._suggests and (chosen := self._suggestions.suggestion):
            row, column = self.cursor_location
            self.replace(chosen.text, (row, column - chosen.replaces), (row, column))
            self._suggestions.offer(())

    def action_refuse(self) -> None:
        self._suggestions.offer(())

    def action_submit(self) -> None:
        chosen = self._suggestions.suggestion if self._suggests else None
        if chosen and not self.before.endswith(chosen.text.rstrip()):
            self.action_complete()
            if not chosen.sends:
                return
        self._suggestions.offer(())
        if self.text.strip():
            self._submitted = self.text
            self.post_message(self.Submitted(self, self.prompt))

    def action_newline(self) -> None:
        self.insert("\n")
        self.scroll_cursor_visible()

    def action_earlier(self) -> None:
        """Recall a prompt if nothing would be lost by it, move the cursor if not."""
        if self._suggests:
            self._suggestions.move(-1)
            return
        position = len(self._sent) if not self.text else self._position()
        if position is None or not self.cursor_at_first_line:
            self.action_cursor_up()
        elif position > 0:
            self._recall(position - 1)

    def action_later(self) -> None:
        if self._suggests:
            self._suggestions.move(1)
            return
        position = self._position()
        if position is None or not self.cursor_at_last_line:
            self.action_cursor_down()
        elif position + 1 < len(self._sent):
            self._recall(position + 1)
        else:
            self._recalled = None
            self.clear()

    def _position(self) -> int | None:
        """Which recalled prompt stands here unchanged."""
        recalled = self._recalled
        return recalled if recalled is not None and self._sent[recalled] == self.text else None

    def _recall(self, position: int) -> None:
        self._recalled = position
        self.load_text(self._sent[position])
        self.move_cursor(self.document.end)

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
        if len(event.text) > MAX_PASTE:
            self.post_message(self.PasteShortened(self, len(event.text)))
        text = clean(event.text[:MAX_PASTE].replace("\r\n", "\n").replace("\r", "\n"))
        lines = text.count("\n") + 1
        if len(text) >= FOLDED_FROM or lines >= FOLDED_LINES:
            size = f"{lines:,} lines" if lines > 1 else f"{len(text):,} characters"
            mark = f"[paste {len(self._pasted) + 1}: {size}]"
            self._pasted[mark] = text
            text = mark
        self.move_cursor(self.replace(text, *self.selection).end_location)
        self.focus()
