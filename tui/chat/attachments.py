"""Text files that a prompt names by @path: find them, read them, add them to the prompt, fold them on the
screen.

Only text of moderate size goes in. A file that cannot be attached raises an error with the reason; it is
never left out silently. A file's part of a prompt is recorded when the file is attached, never guessed from
the text.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tui import store
from tui.clean import clean
from tui.errors import OutriderError

from .completion import Suggestion

MOST = 1_000_000
"""Bytes of a file, at most."""
OUTSIDE, HIDDEN = "outside this folder", "hidden"
_LISTED = 2_000
"""Names of one folder that are examined, at most."""
_SHOWN = 200
_MARKS = ".,;:!?)"

_NAMED = re.compile(r'(?<!\S)@(?:"([^"\n]+)"|([^\s"]+))')
_TYPED = re.compile(r'(?<!\S)@("?)([^"\n]*|[^\s"]*)\Z')


class NotAttached(OutriderError):
    """A file that cannot go with a prompt. The text gives the reason in one line."""


@dataclass(frozen=True)
class Named:
    """A file or folder that a prompt names."""

    name: str
    """The path as the person typed it."""
    path: Path
    """The real path, with all links followed."""
    doubt: str = ""
    """The reason to ask a person before it is sent; empty for none."""


@dataclass(frozen=True)
class File:
    """A file that a prompt names."""

    name: str
    text: str
    doubt: str = ""
    """As in `Named`."""


def named(prompt: str) -> list[str]:
    """Return the paths behind an @ as they were typed, each once."""
    return list(dict.fromkeys(quoted or plain for quoted, plain in _NAMED.findall(prompt)))


def found(prompt: str, folder: Path) -> list[Named]:
    """Return the files and folders that `prompt` names, seen from `folder`. An @word that is no file is only
    a word."""
    there = (_found(name, folder) for name in named(prompt))
    return [each for each in there if each]


def files_of(prompt: str, folder: Path) -> list[File]:
    """Read the files that `prompt` names. Raises `NotAttached` for a file that is not text."""
    return [_read(each) for each in found(prompt, folder)]


def missing(prompt: str, folder: Path) -> list[str]:
    """Return the words of `prompt` that look like the path of a file but lead to none."""
    looked = [(name.rstrip(_MARKS), _found(name, folder)) for name in named(prompt)]
    return [name for name, there in looked if not there and ("/" in name or re.search(r"\.\w{1,5}$", name))]


def _found(name: str, folder: Path) -> Named | None:
    """Return the file or folder at a typed path, which may stand at the end of a sentence."""
    # too long for a name, nobody's home, a NUL in it, or links in a circle
    with suppress(OSError, RuntimeError, ValueError):
        for typed in (name, name.rstrip(_MARKS)):
            if typed and (path := folder / Path(typed).expanduser()).exists():
                real = path.resolve(strict=True)
                return Named(typed, real, _doubt(typed, real, folder))
    return None


def _doubt(typed: str, real: Path, folder: Path) -> str:
    inside = real.is_relative_to(folder.resolve())
    parts = (real.relative_to(folder.resolve()) if inside else real).parts
    if not Path(typed).is_absolute():
        parts += Path(typed).parts
    hidden = any(part.startswith(".") and part not in (".", "..") for part in parts)
    return ", ".join([OUTSIDE] * (not inside) + [HIDDEN] * hidden)


def _read(named: Named) -> File:
    name, path = named.name, named.path
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
    return File(name, text.replace("\r\n", "\n"), named.doubt)


def with_files(prompt: str, files: Sequence[File]) -> tuple[str, tuple[store.Attached, ...]]:
    """Return `prompt` with the text of the files after it, and the place of each file."""
    attached = []
    for file in files:
        start = len(prompt)
        prompt += _block(file)
        attached.append(store.Attached(file.name, start, len(prompt)))
    return prompt, tuple(attached)


def _block(file: File) -> str:
    longest = max((len(run) for run in re.findall(r"`{3,}", file.text)), default=2)
    fence = "`" * (longest + 1)
    kind = re.sub(r"\W", "", Path(file.name).suffix)
    return f"\n\nFile `{file.name.replace('`', '_')}`:\n{fence}{kind}\n{file.text.rstrip(chr(10))}\n{fence}"


def typed(prompt: store.Turn) -> str:
    """Return a prompt as it was written, without its files."""
    return prompt.text[: prompt.files[0].start] if prompt.files else prompt.text


def names(prompt: store.Turn) -> list[str]:
    """Return the names of the files that went with a prompt."""
    return [file.name for file in prompt.files]


def folded(prompt: store.Turn) -> str:
    """Return a prompt in which each file takes one line."""
    return typed(prompt) + "".join(_line(file, prompt.text[file.start : file.end]) for file in prompt.files)


def _line(file: store.Attached, block: str) -> str:
    text = block.split("\n", 4)[-1].rpartition("\n")[0]  # between its fences
    lines = text.count("\n") + 1 if text else 0
    return f"\n\n▤ {file.name}  {lines:,} line{'s' if lines != 1 else ''}"


def suggestions(before: str, folder: Path) -> list[Suggestion]:
    """Return the paths that could complete the path behind an @ just before the cursor."""
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
    """Return (name, is a folder) for each entry of `folder`, folders first; nothing if it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            found = [(entry.name, entry.is_dir()) for entry, _ in zip(entries, range(_LISTED), strict=False)]
    except OSError:
        return []
    safe = [(name, is_folder) for name, is_folder in found if clean(name) == name and '"' not in name]
    return sorted(safe, key=lambda each: (not each[1], each[0].lower()))
