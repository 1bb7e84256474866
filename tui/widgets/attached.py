"""The names of files that go with a prompt, each in a line with what is doubtful of it."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content
from textual.widgets import Static

from tui.clean import clean_line


class AttachedFiles(Static):
    """Foreign names, made clean. It reads no file."""

    DEFAULT_CSS = "AttachedFiles { height: auto; }"

    def show(self, files: Sequence[tuple[str, str]]) -> None:
        """Name `files`, each with the doubt about it, in place of the last."""
        lines = [
            Content.assemble("▤ ", clean_line(name), (f"  {doubt}" if doubt else "", "$warning"))
            for name, doubt in files
        ]
        self.update(Content("\n").join(lines))
