"""The library of this machine: the folders of its models, their names, and the measured gain of their drafts.

It joins the parts of this package, and alone of them knows the machine. It loads no model.
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

from ...choices import AUTO, LOOKUP, NONE, names_model
from ...errors import OutriderError
from ...files import typed
from ...paths import find_index, find_models, find_records
from ...protocol import DraftVerdict, FoundModel, Load, Obstacle, Skipped
from ..eligibility import no_room
from ..starter import MAIN, place
from ..starter import NAME as STARTER
from .describe import describe
from .find import ModelFolder, candidate, known_places
from .gguf import BadModelFile
from .index import list_models, name_in_list
from .names import UnknownName, resolve
from .pairing import Judge, Room, best_draft
from .records import Records

_SCRIPTED = "scripted:"
_GPU_ROW, _APPLE_ROW, _CPU_ROW = 0.03, 0.08, 0.3
"""Approximate cost of one more row in a batch, as a share of the first row, by kind of device."""


class LibraryError(OutriderError):
    """The requested model is not here. `hint` tells a person the remedy."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True)
class Library:
    places: tuple[ModelFolder, ...]
    """The folders of other programs, and our own."""
    index: Path
    records: Records
    row_cost: float
    memory: Callable[[], int] = lambda: 0
    """Bytes of memory for models on all devices together; 0 if unknown."""

    @classmethod
    def here(cls, memory: Callable[[], int]) -> Library:
        """Return the library of this machine and of the user of this process."""
        mac = sys.platform == "darwin"
        places = known_places(os.environ, Path.home(), find_models(), mac=mac)
        gpu = _APPLE_ROW if mac else _GPU_ROW if shutil.which("nvidia-smi") else _CPU_ROW
        return cls(tuple(places), find_index(), Records(find_records()), gpu, memory)

    def models(
        self, folders: tuple[str, ...], wanted: Callable[[], bool] = lambda: True
    ) -> Iterator[FoundModel | Skipped]:
        """Yield every model, the built-in pair first, and each file that looks like a model but is none.

        If two models have the same name, both come again with longer names.
        """
        own = (ModelFolder("folder", typed(each)) for each in folders)
        yield from self._listed((*own, *self.places), wanted)

    def _listed(
        self, places: Sequence[ModelFolder], wanted: Callable[[], bool]
    ) -> Iterator[FoundModel | Skipped]:  # fmt: skip
        for found in list_models([ModelFolder("built in", MAIN.parent, "flat"), *places], self.index, wanted):
            if isinstance(found, FoundModel) and found.source == "built in":
                found = replace(found, demo=True)
            yield found

    def described(self, load: Load, wanted: Callable[[], bool] = lambda: True) -> FoundModel:
        """Return the description of the main model of `load`. Raises `LibraryError`."""
        path = Path(place(self.resolved(replace(load, draft=NONE), wanted).main, "main"))
        try:
            return describe(candidate(path))
        except (BadModelFile, OSError) as error:
            reason = (error.strerror or error) if isinstance(error, OSError) else error
            raise LibraryError(f"{path.name}: {reason}", "Choose another main model.") from None

    def verdicts(
        self, load: Load, wanted: Callable[[], bool] = lambda: True
    ) -> tuple[DraftVerdict, ...]:  # fmt: skip
        """Return verdicts on all models as drafts for the main model of `load`. Raises `LibraryError`."""
        main = self.described(load, wanted)
        path = Path(main.path)
        beside = ModelFolder("folder", path.parent, "flat")
        own = (ModelFolder("folder", typed(each)) for each in load.folders)
        found = _last(self._listed((*own, *self.places, beside), wanted))
        models = [each for each in found if isinstance(each, FoundModel) and not _same(path, each.path)]
        useless = [
            each for each in found if isinstance(each, Skipped) and Path(each.path).parent == path.parent
        ]
        return Judge(main, self.records.measured, self.row_cost, self._room(main)).all(models, useless)

    def _room(self, main: FoundModel) -> Room:
        """Return a check whether the weights are too large. Free memory counts only when a pair is chosen."""

        def room(draft: FoundModel) -> Obstacle | None:
            both, memory = main.size + draft.size, self.memory()
            if not memory or both <= memory:
                return None
            return no_room(both, memory)

        return room

    def resolved(self, load: Load, wanted: Callable[[], bool] = lambda: True) -> Load:
        """Return `load` with paths for names. Raises `LibraryError` if a name fits no model, or several."""
        main = self._path(load.main, load.folders)
        draft = load.draft
        if draft == AUTO:
            draft = STARTER if main == STARTER else LOOKUP
            if main != STARTER and not main.startswith(_SCRIPTED):
                with suppress(LibraryError):  # loading the main model reports its fault
                    draft = best_draft(self.verdicts(replace(load, main=main), wanted))
        elif names_model(draft):
            draft = self._path(draft, load.folders)
        return replace(load, main=main, draft=draft)

    def name(self, path: str, name: str) -> str:
        """Return the list's name for the model at `path`, whose short name is `name`."""
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
            raise LibraryError(str(error), "`outrider models` lists the models here.") from None


def _last(found: Iterable[FoundModel | Skipped]) -> list[FoundModel | Skipped]:
    """Return each model once, under its last name."""
    return list({each.path: each for each in found}.values())


def _same(one: Path, other: str) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # the file is gone by now
        return False
