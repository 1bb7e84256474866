"""A composer alone in an app."""

from __future__ import annotations

from textual import events
from textual.app import App, ComposeResult

from tui.themes import default_variables
from tui.widgets.composer import Composer


class Desk(App[None]):
    """A composer and what it said."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[str] = []
        self.shortened: list[int] = []

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return default_variables(self.current_theme)

    def compose(self) -> ComposeResult:
        yield Composer("Ask something")

    def on_composer_submitted(self, event: Composer.Submitted) -> None:
        self.sent.append(event.text)
        event.composer.accept()

    def on_composer_paste_shortened(self, event: Composer.PasteShortened) -> None:
        self.shortened.append(event.characters)

    @property
    def composer(self) -> Composer:
        return self.query_one(Composer)


async def paste(pilot, text: str) -> None:
    pilot.app.composer.post_message(events.Paste(text))
    await pilot.pause()
