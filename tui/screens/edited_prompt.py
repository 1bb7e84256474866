"""The earlier prompt that a person edits in the composer. It sends nothing and changes no conversation."""

from __future__ import annotations

from tui import store
from tui.chat import attachments
from tui.widgets.composer import Composer

EDITING = "editing an earlier prompt: Enter sends it as a branch, Esc cancels"


class EditedPrompt:
    """At most one prompt, whose text stands in the composer."""

    def __init__(self, composer: Composer) -> None:
        self._composer = composer
        self._turn: store.Turn | None = None

    @property
    def is_open(self) -> bool:
        return self._turn is not None

    def open(self, prompt: store.Turn) -> None:
        """Put `prompt` into the composer."""
        self._turn = prompt
        self._composer.take_up(attachments.typed(prompt), attachments.names(prompt))
        self._composer.border_title = EDITING

    def close(self) -> store.Turn | None:
        """End the edit, and leave the text in the composer. Returns the prompt as it was, if one was
        edited."""
        turn, self._turn = self._turn, None
        self._composer.border_title = ""
        return turn

    def cancel(self) -> None:
        """End the edit, and leave the prompt as it was."""
        self.close()
        self._composer.clear()
