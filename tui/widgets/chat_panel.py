"""The chat's widgets in their places: conversation, status, composer, and the numbers beside them.

It shows the values that the session gives it, and owns the display of tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final, Literal, get_args

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.reactive import reactive

from tui import protocol
from tui.chat.draft_length import NOTHING_DRAFTS
from tui.chat.meter import MeterReading
from tui.chat.view import Severity
from tui.choices import AUTO
from tui.clean import clean_line
from tui.config import Appearance
from tui.quantities import number, percent

from .attached import AttachedFiles
from .banner import Banner
from .composer import MAX_PASTE, Composer
from .keyline import key_of
from .sidebar import Sidebar
from .status import StatusLine
from .suggestions import Suggestions
from .transcript import Highlight, Transcript
from .welcome import Welcome

ASK, CONTINUE = "Ask something", "Write the beginning of a text: the model continues it"
"""The text of an empty composer, for a model that answers and for one that continues text."""
FORMS: Final[dict[protocol.PromptForm, str]] = {
    "template": "", "chatml": "ChatML assumed", "text": "base model"
}  # fmt: skip
"""The way in which the main model takes prompts, for the status line."""
Part = Literal["colors", "rejected", "thoughts", "sidebar"]
"""A part of the screen whose display a key changes."""
SidebarMode = Literal["auto", "shown", "hidden"]
STOPS = ("chat.stop", "read.stop")
"""Names of the action that stops an answer, while a person writes and while they read."""
HIGHLIGHTS: Final[tuple[Highlight, ...]] = ("quiet", "full", "off")


class ChatPanel(Horizontal):
    """All of the chat screen but its footer."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "ctrl+t",
            "switch('colors')",
            "Colors",
            id="chat.highlight",
            tooltip="Where tokens come from: quiet, full, off",
        ),
        Binding("ctrl+s", "switch('rejected')", "Rejected", show=False, id="chat.rejected",
                tooltip="Show or hide rejected tokens"),
        Binding("f4", "switch('thoughts')", "Thoughts", show=False, id="chat.thoughts",
                tooltip="Open or fold the thoughts of models"),
        Binding("ctrl+b", "switch('sidebar')", "Sidebar", show=False, id="chat.sidebar",
                tooltip="Show or hide the sidebar"),
        Binding("pageup", "scroll(-1)", "Scroll up", show=False, priority=True, id="chat.up"),
        Binding("pagedown", "scroll(1)", "Scroll down", show=False, priority=True, id="chat.down"),
        Binding("ctrl+end", "scroll(0)", "Go to the end", show=False, priority=True, id="chat.end"),
    ]  # fmt: skip
    DEFAULT_CSS = """
    ChatPanel {
        height: 1fr;
        #column { width: 1fr; }
        Transcript { margin: 1 1 0 3; display: none; }
        &.-talking Transcript { display: block; }
        &.-talking Welcome { display: none; }
        Sidebar { display: block; }
        &.-hidden Sidebar { display: none; }
        #files { max-height: 6; margin: 0 3; color: $quiet; display: none; }
        &.-files #files { display: block; }
    }
    """

    sidebar_mode: reactive[SidebarMode] = reactive[SidebarMode]("auto")
    """When the sidebar shows: if there is room, always, never."""

    def __init__(
        self, interval: float, highlight: Highlight, show_rejected: bool, sidebar: SidebarMode
    ) -> None:
        """`interval` is the number of seconds between two paints of an answer."""
        super().__init__(id="panel", classes=f"-{sidebar}")
        self.transcript = Transcript(interval=interval, id="transcript")
        self.suggestions = Suggestions("suggestions")
        self.composer = Composer(ASK, self.suggestions, id="composer")
        self._banner = Banner(id="banner")
        self._welcome = Welcome(id="welcome")
        self._status = StatusLine(id="status")
        self._files = AttachedFiles(id="files")
        self._sidebar = Sidebar(id="sidebar")
        self._reading: tuple[MeterReading, Sequence[float]] = MeterReading(), ()
        self._drafting = ""
        self._exact = False
        self._form: protocol.PromptForm = "template"
        self.transcript.set_reactive(Transcript.highlight, highlight)
        self.transcript.set_reactive(Transcript.show_rejected, show_rejected)
        self.set_reactive(ChatPanel.sidebar_mode, sidebar)

    def compose(self) -> ComposeResult:
        self._show_mode()
        with Vertical(id="column"):
            yield from (self._banner, self._welcome, self.transcript, self._status)
            yield from (self.suggestions, self._files, self.composer)
        yield self._sidebar

    # What the screen has to say

    def say(self, words: str, tone: str, models: Sequence[str] = ()) -> None:
        """Show the state in words, and the names of its models; `tone` names a theme variable."""
        self._status.state = words
        self._status.models = tuple(models)
        self._status.tone = f"${tone}"

    def tell(self, words: str, *, severity: Severity = "information", seconds: float | None = None) -> None:
        """Show a message for some seconds. Foreign text."""
        self.notify(clean_line(words), severity=severity, timeout=seconds, markup=False)

    @property
    def stop_key(self) -> str:
        """The key that stops an answer, as people write it."""
        return key_of(self.screen, STOPS, "escape")

    def show_extras(self, words: str) -> None:
        """Show the additions to the next prompt at the edge of the composer. Foreign text."""
        self.composer.border_subtitle = Content(clean_line(words))

    def show_notices(self, notices: Sequence[str], *, error: bool = False) -> None:
        self._banner.show(notices, error=error)

    def show_unsaved(self, why: str) -> None:
        """Show the reason why nothing is saved; empty if all is saved."""
        self._banner.last(f"NOT SAVED: {why}. The chat goes on; saving is tried again." if why else "")

    def show_files(self, files: Sequence[tuple[str, str]]) -> None:
        """Show the names of the files for the next prompt above the composer, each with the doubt about
        it."""
        self.set_class(bool(files), "-files")
        self._files.show(files)

    def show_loaded(self, loaded: protocol.Loaded | None) -> None:
        self._sidebar.show_models(loaded)
        self._welcome.demo = loaded is not None and loaded.main.demo
        self._form = loaded.main.prompt_form if loaded else "template"
        self._exact = bool(loaded and loaded.rounding and loaded.rounding.exact)
        self.composer.placeholder = CONTINUE if self._form == "text" else ASK
        self._show_mode()

    def show_rounding(self, measured: protocol.Rounding | None) -> None:
        """Show the measured rounding."""
        self._sidebar.show_rounding(measured)

    def show_found(self, models: int) -> None:
        """Show the number of models on the engine's machine besides the demo."""
        self._welcome.found = models

    def show_link(self, words: str) -> None:
        """Show the engine's machine and the state of the link, if it is another machine. Foreign text."""
        self._sidebar.show_link(words)

    def show_drafting(self, words: str, limit: int | None, *, lookup: bool) -> None:
        """Show the draft length in a word or two, its limit where the words do not give it, and whether the
        lookup proposes too."""
        self._drafting = words
        self._sidebar.show_drafting(words if limit is None else f"{words} (limit {limit})", lookup=lookup)
        self._show_mode()

    def show_reading(self, reading: MeterReading, history: Sequence[float]) -> None:
        """Show the numbers of this moment in the sidebar or, without it, in the status line."""
        self._reading = reading, history
        if self._sidebar.display:
            self._sidebar.show_reading(reading, history)
            self._status.figures = ()
        else:
            self._status.figures = _summary(reading, self._drafting)

    @on(Sidebar.Toggled)
    def _move_figures(self) -> None:
        """Move the figures when the sidebar comes or goes, by a key or by a resize."""
        self.show_reading(*self._reading)

    def begin(self, prompt: str, key: str = "", note: str = "") -> None:
        """Begin a prompt: the conversation replaces the welcome."""
        self.add_class("-talking")
        self.transcript.writer.begin("user", prompt, key)
        if note:
            self.transcript.writer.finish(note)

    def clear(self) -> None:
        self.transcript.writer.clear()
        self.remove_class("-talking")

    @on(Composer.PasteShortened)
    def _paste_shortened(self, event: Composer.PasteShortened) -> None:
        event.stop()
        self.notify(
            f"{event.characters:,} characters were pasted; the first {MAX_PASTE:,} are kept.",
            severity="warning",
            markup=False,
        )

    # How it is shown

    def apply(self, before: Appearance, look: Appearance) -> None:
        """Take over the changed settings. The other parts stay as their keys have set them."""
        if look.highlight != before.highlight:
            self.set_highlight(look.highlight)
        if look.show_rejected != before.show_rejected:
            self.transcript.show_rejected = look.show_rejected
        if look.sidebar != before.sidebar:
            self.sidebar_mode = look.sidebar

    def action_switch(self, part: Part) -> None:
        """Change the display of a part: the next colors, or shown and hidden."""
        transcript = self.transcript
        match part:
            case "colors":
                at = HIGHLIGHTS.index(transcript.highlight)
                self.set_highlight(HIGHLIGHTS[(at + 1) % len(HIGHLIGHTS)])
            case "rejected":
                transcript.show_rejected = not transcript.show_rejected
                self._show_mode()
            case "thoughts":
                transcript.show_thoughts = not transcript.show_thoughts
            case "sidebar":
                self.sidebar_mode = "hidden" if self._sidebar.display else "shown"

    def set_highlight(self, mode: Highlight) -> None:
        self.transcript.highlight = mode
        self._show_mode()

    def watch_sidebar_mode(self, mode: SidebarMode) -> None:
        for name in get_args(SidebarMode):
            self.set_class(name == mode, f"-{name}")

    def action_scroll(self, pages: int) -> None:
        """Scroll by a page up or down; 0 goes to the end and stays there."""
        if pages:
            scroll = self.transcript.scroll_page_up if pages < 0 else self.transcript.scroll_page_down
            scroll(animate=False)
        else:
            self.transcript.following = True

    def _show_mode(self) -> None:
        drafting = f"drafting {self._drafting}" if self._drafting else ""
        right = (FORMS[self._form], "exact" if self._exact else "", drafting)
        self._status.display_mode = "  ".join(filter(None, right))
        rejected = "  rejected shown" if self.transcript.show_rejected else ""
        self._status.aside = f"colors {self.transcript.highlight}{rejected}"


def _summary(reading: MeterReading, drafting: str) -> tuple[str, ...]:
    """Return the figures of an answer. `drafting` is the draft length in words, which stand beside them."""
    if reading.speed is None:
        return ()
    speed = number(reading.speed_now or reading.speed, "tok/s")
    if reading.acceptance is not None:
        return speed, f"{percent(reading.acceptance)} accepted"
    if drafting in NOTHING_DRAFTS:
        return (speed,)
    why = reading.not_drafting if drafting == AUTO else ""
    return speed, f"no drafts: {why}" if why else "no drafts yet"
