"""This machine's library: where its models lie, what they are called, and what drafts brought here so far.

It puts the parts of this package together, and is the only one that knows the machine. It loads nothing.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from ...files import typed
from ...places import find_index, find_models, find_records
from ...protocol import DraftVerdict, FoundModel, Load, Skipped
from ..starter import MAIN, place
from ..starter import NAME as STARTER
from .describe import describe
from .find import Place, candidate, known_places
from .gguf import BadModelFile
from .index import list_models, name_in_list
from .names import UnknownName, resolve
from .pairing import Judge, best_draft
from .records import Records

AUTO = "auto"
"""Stands for the best draft that there is."""
_SCRIPTED = "scripted:"
_GPU_ROW, _APPLE_ROW, _CPU_ROW = 0.03, 0.08, 0.3
"""What a further row of a batch costs beside the first, about."""


class LibraryError(ValueError):
    """What was asked for is not here. `hint` says what a person can do about it."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True)
class Library:
    places: tuple[Place, ...]
    """Of the other programs, and our own."""
    index: Path
    records: Records
    row_cost: float
    memory: Callable[[], int] = lambda: 0
    """Bytes that models may lie in, on all devices together; 0 is not known."""

    @classmethod
    def here(cls, memory: Callable[[], int]) -> Library:
        """The library of the machine and the user that this process runs for."""
        mac = sys.platform == "darwin"
        places = known_places(os.environ, Path.home(), find_models(), mac=mac)
        gpu = _APPLE_ROW if mac else _GPU_ROW if shutil.which("nvidia-smi") else _CPU_ROW
        return cls(tuple(places), find_index(), Records(find_records()), gpu, memory)

    def models(
        self, folders: tuple[str, ...], wanted: Callable[[], bool] = lambda: True
    ) -> Iterator[FoundModel | Skipped]:
        """Every model here, the built-in pair first, and what only looks like one.

        A model that would read like another one comes again, under a name of its own.
        """
        own = (Place("folder", typed(each)) for each in folders)
        yield from self._listed((*own, *self.places), wanted)

    def _listed(
        self, places: Sequence[Place], wanted: Callable[[], bool]
    ) -> Iterator[FoundModel | Skipped]:  # fmt: skip
        for found in list_models([Place("built in", MAIN.parent, "flat"), *places], self.index, wanted):
            if isinstance(found, FoundModel) and found.source == "built in":
                found = replace(found, demo=True)
            yield found

    def described(self, load: Load, wanted: Callable[[], bool] = lambda: True) -> FoundModel:
        """The main model of `load`. Raises `LibraryError`."""
        path = Path(place(self.resolved(replace(load, draft=None), wanted).main, "main"))
        try:
            return describe(candidate(path))
        except (BadModelFile, OSError) as error:
            reason = (error.strerror or error) if isinstance(error, OSError) else error
            raise LibraryError(f"{path.name}: {reason}", "Choose another main model.") from None

    def verdicts(
        self, load: Load, wanted: Callable[[], bool] = lambda: True
    ) -> tuple[DraftVerdict, ...]:  # fmt: skip
        """What every model here is worth as a draft for the main model of `load`. Raises `LibraryError`."""
        main = self.described(load, wanted)
        path = Path(main.path)
        beside = Place("folder", path.parent, "flat")
        own = (Place("folder", typed(each)) for each in load.folders)
        found = _last(self._listed((*own, *self.places, beside), wanted))
        models = [each for each in found if isinstance(each, FoundModel) and not _same(path, each.path)]
        useless = [
            each for each in found if isinstance(each, Skipped) and Path(each.path).parent == path.parent
        ]
        return Judge(main, self.records.measured, self.row_cost, self._room(main)).all(models, useless)

    def _room(self, main: FoundModel) -> Callable[[FoundModel], str]:
        """Why weights alone are too many. What is free now only counts where a pair is chosen."""

        def room(draft: FoundModel) -> str:
            both, memory = main.size + draft.size, self.memory()
            if not memory or both <= memory:
                return ""
            return f"it does not fit beside it: {both / 1e9:.1f} GB of {memory / 1e9:.1f} GB"

        return room

    def resolved(self, load: Load, wanted: Callable[[], bool] = lambda: True) -> Load:
        """`load` with paths in place of names. Raises `LibraryError` for one that means none, or several."""
        main = self._path(load.main, load.folders)
        draft = load.draft
        if draft == AUTO:
            draft = STARTER if main == STARTER else None
            if main != STARTER and not main.startswith(_SCRIPTED):
                with suppress(LibraryError):  # who loads the main model says what is wrong with it
                    draft = best_draft(self.verdicts(replace(load, main=main), wanted))
        elif draft:
            draft = self._path(draft, load.folders)
        return replace(load, main=main, draft=draft)

    def name(self, path: str, name: str) -> str:
        """What the list calls the model at `path`, whose short name is `name`."""
        return name_in_list(path, name, self.index)

    def _path(self, name: str, folders: tuple[str, ...]) -> str:
        if name == STARTER or name.startswith(_SCRIPTED):
            return name
        if os.path.lexists(name) or os.sep in name:
            return STARTER if name in (place(STARTER, "main"), place(STARTER, "draft")) else name
        models = [each for each in _last(self.models(folders)) if isinstance(each, FoundModel)]
        try:
            return resolve(name, models).path
        except UnknownName as error:
            raise LibraryError(str(error), "`outrider models` lists what is here.") from None


def _last(found: Iterable[FoundModel | Skipped]) -> list[FoundModel | Skipped]:
    """Each once, under its last name."""
    return list({each.path: each for each in found}.values())


def _same(one: Path, other: str) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # gone by now
        return False
