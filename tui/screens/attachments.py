"""Text files that a prompt names by @path: found, read, put behind it, and folded where it is shown.

Only text goes in, and not much of it: what cannot be attached is said and never sent silently.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tui.clean import clean
from tui.widgets.suggestions import Suggestion

MOST = 1_000_000
"""Bytes of a file."""
_LISTED = 2_000
"""Names of a folder that are looked at."""
_SHOWN = 200
_MARKS = ".,;:!?)"

_NAMED = re.compile(r'(?<!\S)@(?:"([^"\n]+)"|([^\s"]+))')
_BLOCK = re.compile(r"\n\nFile `([^`\n]+)`:\n(`{3,})[^\n]*\n(.*?)\n?\2(?=\n|\Z)", re.DOTALL)
_TYPED = re.compile(r'(?<!\S)@("?)([^"\n]*|[^\s"]*)\Z')


class NotAttached(Exception):
    """A file that cannot go with a prompt. The text says why, in one line."""


@dataclass(frozen=True)
class File:
    """A file that a prompt names."""

    name: str
    """As it was typed."""
    text: str


def named(prompt: str) -> list[str]:
    """The paths that stand behind an @, as they were typed, each once."""
    return list(dict.fromkeys(quoted or plain for quoted, plain in _NAMED.findall(prompt)))


def files_of(prompt: str, folder: Path) -> list[File]:
    """The files of `folder` that `prompt` names. Raises `NotAttached` for one that is there and no text.

    An @word that is no file is just a word.
    """
    found = [(name, _found(name, folder)) for name in named(prompt)]
    return [File(*_read(*there)) for _, there in found if there]


def missing(prompt: str, folder: Path) -> list[str]:
    """What looks like the path of a file, and is none."""
    found = [(name.rstrip(_MARKS), _found(name, folder)) for name in named(prompt)]
    return [name for name, there in found if not there and ("/" in name or re.search(r"\.\w{1,5}$", name))]


def _found(name: str, folder: Path) -> tuple[str, Path] | None:
    """What lies at a path that was typed, perhaps at the end of a sentence."""
    with suppress(OSError, RuntimeError, ValueError):  # too long for a name, nobody's home, or a NUL in it
        for typed in (name, name.rstrip(_MARKS)):
            if typed and (path := folder / Path(typed).expanduser()).exists():
                return typed, path
    return None


def _read(name: str, path: Path) -> tuple[str, str]:
    if path.is_dir():
        raise NotAttached(f"{name} is a folder: name a file in it")
    try:
        if not path.is_file():
            raise NotAttached(f"{name} is not a file")
        with path.open("rb") as file:
            data = file.read(MOST + 1)
    except OSError as error:
        raise NotAttached(f"{name} cannot be read: {error.strerror}") from None
    if len(data) > MOST:
        raise NotAttached(f"{name} is larger than 1 MB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise NotAttached(f"{name} is not text") from None
    if "\0" in text:
        raise NotAttached(f"{name} is not text")
    return name, text.replace("\r\n", "\n")


def with_files(prompt: str, files: list[File]) -> str:
    """`prompt` with the text of the files behind it."""
    return prompt + "".join(_block(file) for file in files)


def _block(file: File) -> str:
    longest = max((len(run) for run in re.findall(r"`{3,}", file.text)), default=2)
    fence = "`" * (longest + 1)
    kind = re.sub(r"\W", "", Path(file.name).suffix)
    return f"\n\nFile `{file.name.replace('`', '_')}`:\n{fence}{kind}\n{file.text.rstrip(chr(10))}\n{fence}"


def without_files(text: str) -> str:
    """A prompt as it was typed."""
    return _BLOCK.sub("", text)


def folded(text: str) -> str:
    """A prompt with each of its files in one line."""

    def line(block: re.Match[str]) -> str:
        lines = block[3].count("\n") + 1 if block[3] else 0
        return f"\n\n▤ {block[1]}  {lines:,} line{'s' if lines != 1 else ''}"

    return _BLOCK.sub(line, text)


def suggestions(before: str, folder: Path) -> list[Suggestion]:
    """What the path behind an @, just before the cursor, could become."""
    typed = _TYPED.search(before)
    if not typed or (not typed[1] and " " in typed[2]):
        return []
    head, _, start = typed[2].rpartition("/")
    try:
        place = folder / Path(head + "/").expanduser() if head or typed[2].startswith("/") else folder
    except RuntimeError:
        return []
    found = []
    for name, is_folder in _listed(place):
        if name.lower().startswith(start.lower()) and (start.startswith(".") or not name.startswith(".")):
            path = f"{head}/{name}" if "/" in typed[2] else name
            ending = "/" if is_folder else " "
            quoted = f'@"{path}"' if " " in path else f"@{path}"
            text = (f'@"{path}' if " " in path else quoted) + "/" if is_folder else quoted + ending
            found.append(Suggestion(text, "", len(typed[0]), shown=path + ("/" if is_folder else "")))
    return found[:_SHOWN]


def _listed(folder: Path) -> list[tuple[str, bool]]:
    """(name, is a folder) of what lies in `folder`, folders first; nothing if it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            found = [(entry.name, entry.is_dir()) for entry, _ in zip(entries, range(_LISTED), strict=False)]
    except OSError:
        return []
    safe = [(name, is_folder) for name, is_folder in found if clean(name) == name and '"' not in name]
    return sorted(safe, key=lambda each: (not each[1], each[0].lower()))
