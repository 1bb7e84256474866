"""A transcript alone in an app."""

from __future__ import annotations

from typing import Any

from textual.app import App, ComposeResult

from tui.widgets.transcript import Transcript


class Host(App[None]):
    AUTO_FOCUS = None
    CSS = "Transcript { background: black; color: white; }"

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.transcript = Transcript(**options)

    def compose(self) -> ComposeResult:
        yield self.transcript
