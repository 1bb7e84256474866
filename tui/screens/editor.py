"""A text in the person's own editor, which has the terminal to itself meanwhile. The engine keeps working."""

from __future__ import annotations

import asyncio
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from textual.app import App, SuspendNotSupported

from tui.errors import OutriderError

MOST = 1_000_000
"""Characters of the edited text, at most."""


class EditorFailed(OutriderError):
    """The editor failed and the text is unchanged. The message gives the reason."""


def command(environ: Mapping[str, str]) -> list[str]:
    """Return the command in VISUAL or EDITOR, or else an installed editor. Raises `EditorFailed`."""
    said = environ.get("VISUAL") or environ.get("EDITOR") or ""
    try:
        words = shlex.split(said)
    except ValueError:
        raise EditorFailed(f"EDITOR cannot be read: {said}") from None
    found = words or [name for name in ("nano", "vim", "vi") if shutil.which(name)][:1]
    if not found:
        raise EditorFailed("no editor was found; name one in EDITOR")
    return found


async def edited(app: App[object], text: str, environ: Mapping[str, str]) -> str:
    """Return `text` as the editor leaves it. Raises `EditorFailed`."""
    words = command(environ)
    with tempfile.TemporaryDirectory(prefix="outrider-") as folder:
        path = Path(folder) / "text.md"
        path.write_text(text, "utf-8")
        try:
            # In a thread: an engine without pings for long ends itself. Nothing is drawn meanwhile.
            with app.batch_update(), app.suspend():
                status = await asyncio.to_thread(subprocess.call, [*words, str(path)])
        except SuspendNotSupported:
            raise EditorFailed("this terminal cannot be handed over") from None
        except OSError as error:
            raise EditorFailed(f"{words[0]}: {error.strerror}") from None
        if status:
            raise EditorFailed(f"{words[0]} ended with status {status}")
        return path.read_text("utf-8", "replace")[:MOST].removesuffix("\n")
