"""An app for tests of one screen: our looks, and nothing else of ours."""

from __future__ import annotations

from textual.app import App

from tests.support.paths import ROOT
from tui.paths import shipped
from tui.themes import default_variables, load_themes
from tui.widgets.rows import Rows


class Themed(App[None]):
    """Shows what `on_mount` pushes."""

    CSS_PATH = ROOT / "tui" / "app.tcss"

    def __init__(self, theme: str = "outrider-dark") -> None:
        super().__init__()
        for each in load_themes((shipped("themes"),))[0]:
            self.register_theme(each)
        self.theme = theme

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return default_variables(self.current_theme)

    def rows(self, name: str) -> Rows:
        return self.screen.query_one(f"#{name}", Rows)

    @property
    def shown(self) -> str:
        """The screen as plain text."""
        lines = self.screen._compositor.render_strips()
        return "\n".join("".join(segment.text for segment in line) for line in lines)
