"""The names of files that go with a prompt, each on a line with the doubt about it."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content
from textual.widgets import Static

from tui.clean import clean_line


class AttachedFiles(Static):
    """File names, which are foreign text and are cleaned. It reads no file."""

    DEFAULT_CSS = "AttachedFiles { height: auto; }"

    def show(self, files: Sequence[tuple[str, str]]) -> None:
        """Show the names of `files`, each with the doubt about it, in place of the last ones."""
        lines = [
            Content.assemble("▤ ", clean_line(name), (f"  {doubt}" if doubt else "", "$warning"))
            for name, doubt in files
        ]
        self.update(Content("\n").join(lines))
