"""Writes files that a person asks for. Only their owner can read them, and they replace no other file."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from tui.clean import clean_line, exact
from tui.protocol.thoughts import without_thought
from tui.store.changes import Turn

if TYPE_CHECKING:
    from tui.store.store import StoredConversation

_NAME = 60
"""Characters of a title in a file's name, at most."""


def as_markdown(chat: StoredConversation) -> str:
    """Return the branch that is shown, as Markdown."""
    turns = {turn.key: turn for turn in chat.turns}
    path: list[Turn] = []
    key = chat.shown
    while (turn := turns.pop(key, None)) is not None:
        path.append(turn)
        key = turn.parent
    parts = [f"# {clean_line(chat.title)}"]
    for turn in reversed(path):
        by = "You" if turn.role == "user" else clean_line(turn.main) or "Answer"
        parts += [f"## {by}", exact(without_thought(turn.text)).strip("\n")]
    return "\n\n".join(parts) + "\n"


def export(chat: StoredConversation, folder: Path) -> Path:
    """Write the chat into `folder`; its title gives the file's name. Returns the path. Raises `OSError`."""
    stem = re.sub(r"[^\w-]+", "-", clean_line(chat.title)[:_NAME].lower()).strip("-") or "chat"
    return new_file(folder, stem, ".md", as_markdown(chat))


def new_file(folder: Path, stem: str, ending: str, text: str) -> Path:
    """Write `text` to a new file of that name, with a number in the name if it is taken. Raises `OSError`."""
    number = 1
    while True:
        path = folder / (f"{stem}{ending}" if number == 1 else f"{stem}-{number}{ending}")
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            number += 1
            continue
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        return path
