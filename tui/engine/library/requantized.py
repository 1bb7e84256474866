"""Copies of models in another number format, in a folder of ours.

A draft never changes the text, only the time. So it may be as coarse as it likes: a copy with fewer bytes, or
in a format that this processor computes faster, drafts sooner and is accepted almost as often. The original
stays as it is.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import sleep

from ... import protocol
from ...files import make_folder
from .names import LibraryError
from .split_file import part_of
from .tensor_types import FILE_TYPES, TENSOR_TYPES

COMMAND = (sys.executable, "-m", "tui.engine.backends.llama_cpp.requantize")
FOLDER = "copies"
"""The folder of the copies, in our folder for models."""
_STEP = 0.25
"""Seconds between two reports of progress."""
_ROOM = 1.05
"""Required free space on the disk, as a multiple of the expected size."""
_BITS = {each.name: 8 * each.bytes / each.block for each in TENSOR_TYPES.values()}


def requantized(
    question: protocol.Requantize,
    model: protocol.FoundModel,
    root: Path,
    wanted: Callable[[], bool],
    command: tuple[str, ...] = COMMAND,
) -> Iterator[protocol.Reply]:
    """Write `model` in the format of `question` below `root`, and yield the progress and the path.

    A copy that is there already is not written again. Nothing stays of one that is no longer `wanted`, or
    that failed. Raises `LibraryError`.
    """
    _check(model, question.format)
    source = Path(model.path)
    target = root / FOLDER / _identity(source) / f"{_stem(model)}-{question.format}.gguf"
    make_folder(target.parent)
    with _alone_in(target.parent):
        if not target.exists():
            expected = _size(model, question.format)
            _check_room(target.parent, expected)
            part = target.with_name(f".{target.name}.part")
            try:
                words = (*command, str(source), str(part), question.format)
                yield from _written(question.id, words, expected, wanted)
                if not wanted():
                    return
                part.replace(target)
            finally:
                part.unlink(missing_ok=True)
    yield protocol.Requantized(question.id, str(target), target.stat().st_size)


def _written(
    id_: int, command: Sequence[str], expected: int, wanted: Callable[[], bool]
) -> Iterator[protocol.Reply]:
    """Run the process that writes a copy, and yield its progress as long as it is wanted."""
    *_, part, kind = command
    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(command, stdin=pipe, stdout=nowhere, stderr=pipe, text=True) as child:
        try:
            while wanted() and child.poll() is None:
                done = Path(part).stat().st_size if Path(part).exists() else 0
                yield protocol.Requantizing(id_, min(done, expected), expected)
                sleep(_STEP)
            ended = child.poll()
        finally:
            child.kill()
        assert child.stderr is not None
        said = child.stderr.read().strip()
    if ended:
        reason = said.rpartition("\n")[2] or "its process died"
        raise LibraryError(f"the copy in {kind} failed: {reason}", "The original is unharmed.")


def _check(model: protocol.FoundModel, kind: str) -> None:
    """Raise `LibraryError` for a copy that is impossible."""
    if kind not in FILE_TYPES.values():
        raise LibraryError(f"there is no format {kind}", "Q4_0 and Q8_0 are two.")
    if model.backend != "llama.cpp":
        raise LibraryError(f"{model.name} is no GGUF", "Only GGUF files can be written in another format.")
    if model.only_head:
        raise LibraryError(f"{model.name} is a head", "Heads are small already.")
    if part_of(Path(model.path).name):
        raise LibraryError(f"{model.name} is in several files", "Choose a model in one file.")


def _identity(source: Path) -> str:
    """Return the name of the folder of a file's copies: models of other files may have the same name."""
    found = source.stat()
    facts = f"{source.resolve()}\0{found.st_size}\0{found.st_mtime_ns}"
    return hashlib.sha256(facts.encode()).hexdigest()[:8]


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold the folder for this process. Raises `LibraryError` if another process holds it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise LibraryError("another Outrider is writing this copy", "Wait for it.") from None
    finally:
        os.close(descriptor)


def _stem(model: protocol.FoundModel) -> str:
    """Return the file name of a copy without its format: "Qwen2.5-Coder-0.5B"."""
    name = model.name.removesuffix(model.quantization).strip()
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-") or "model"


def _size(model: protocol.FoundModel, kind: str) -> int:
    """Return the expected bytes of a copy: all weights in the format that its name begins with."""
    name = next((each for each in (kind, kind.partition("_K")[0] + "_K") if each in _BITS), "Q8_0")
    return round(model.parameters * _BITS[name] / 8)


def _check_room(folder: Path, size: int) -> None:
    """Raise `LibraryError` if the disk has no room for a copy."""
    free = shutil.disk_usage(folder).free
    if free < _ROOM * size:
        raise LibraryError(
            f"a copy needs about {size / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB of the disk are free",
            "Remove something first.",
        )
