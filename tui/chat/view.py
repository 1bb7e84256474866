"""The parts of a screen that a chat tells values and that draw them. Tests can replace them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Protocol

from tui import protocol, store

from .meter import MeterReading

if TYPE_CHECKING:
    from tui.store.store import StoredConversation as Stored

Severity = Literal["information", "warning", "error"]


class ChatView(Protocol):
    """The status line, the banner, the figures and short messages. All text may be foreign."""

    @property
    def stop_key(self) -> str:
        """Return the key that stops an answer now, as people write it."""

    def say(self, words: str, tone: str, models: Sequence[str] = ()) -> None:
        """Show the state, and the names of its models. `tone` is the name of a theme variable."""

    def tell(self, words: str, *, severity: Severity = "information", seconds: float | None = None) -> None:
        """Show a message for some seconds; None is the usual time."""

    def show_notices(self, notices: Sequence[str], *, error: bool = False) -> None:
        """Show these in the banner in place of the last ones."""

    def show_unsaved(self, why: str) -> None:
        """Show the reason why nothing is saved; empty if all is saved."""

    def show_loaded(self, loaded: protocol.Loaded | None) -> None:
        """Show the pair."""

    def show_rounding(self, measured: protocol.Rounding | None) -> None:
        """Show the measured rounding."""

    def show_found(self, models: int) -> None:
        """Show the number of models besides the demo."""

    def show_link(self, words: str) -> None:
        """Show the engine's machine and the state of the link."""

    def show_drafting(self, words: str, limit: int | None, *, lookup: bool) -> None:
        """Show the draft length."""

    def show_reading(self, reading: MeterReading, history: Sequence[float]) -> None:
        """Show the figures of this moment."""

    def show_extras(self, words: str) -> None:
        """Show the additions to the next prompt."""


class TranscriptView(Protocol):
    """The messages on the screen, and the box in which the next one is written."""

    @property
    def is_empty(self) -> bool:
        """Whether no message is shown."""

    def show_answer(self) -> None:
        """Begin, or continue, the last answer of the conversation."""

    def hear(self, event: protocol.TextRound) -> None:
        """Show more of the answer."""

    def end_answer(self, note: str | None = None) -> None:
        """End the answer. `note` stands under it in place of its figures."""

    def end_prompt(self, note: str) -> None:
        """Mark the last prompt as unanswered; `note` stands under it."""

    def fail(self, message: str, hint: str) -> None:
        """Show why the answer broke off."""

    def give_back(self, prompt: store.Turn | None = None) -> None:
        """Put `prompt`, or the last prompt that was sent, into an empty text box."""

    def leave_out(self, share: float, summary: str = "") -> int:
        """Leave out the oldest turns of the conversation, and mark the place."""

    async def show(self, stored: Stored | None = None) -> None:
        """Show the path of the conversation. Raises `Unreadable`."""

    def forget(self) -> None:
        """Show no conversation."""
