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
from functools import cached_property
from pathlib import Path

from msgspec.structs import replace

from ...choices import AUTO, HEAD, LOOKUP, DraftChoice, is_scripted, names_model
from ...files import typed
from ...paths import find_index, find_models, find_records
from ...protocol import DraftVerdict, FoundModel, Load, Obstacle, Skipped
from ..eligibility import no_room
from ..starter import MAIN, place
from ..starter import NAME as STARTER
from .describe import describe
from .find import BUILT_IN, ModelFolder, candidate, known_places
from .gguf import BadModelFile
from .head_files import ITS_MAIN, ONLY_HEAD
from .index import list_models, name_in_list
from .names import LibraryError, resolve
from .pairing import Judge, best_draft
from .records import Records

Wanted = Callable[[], bool]
"""Whether the answer is still wanted."""
_GPU_ROW, _APPLE_ROW, _CPU_ROW = 0.03, 0.08, 0.3
"""Approximate cost of one more row in a batch, as a share of the first row, by kind of device."""


def always() -> bool:
    return True


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
        self, folders: Iterable[str], wanted: Wanted = always, beside: Sequence[ModelFolder] = ()
    ) -> Iterator[FoundModel | Skipped]:
        """Yield every model, the built-in pair first, and each file that looks like a model but is none.

        If two models have the same name, both come again with longer names. `beside` are more places.
        """
        own = (ModelFolder("folder", typed(each)) for each in folders)
        built_in = ModelFolder(BUILT_IN, MAIN.parent, "flat")
        return list_models([built_in, *own, *self.places, *beside], self.index, wanted)

    def described(self, load: Load, wanted: Wanted = always) -> FoundModel:
        """Return the description of the main model of `load`. Raises `LibraryError`."""
        return _Question(self, load, wanted).main

    def verdicts(self, load: Load, wanted: Wanted = always) -> tuple[DraftVerdict, ...]:
        """Return verdicts on all models as drafts for the main model of `load`. Raises `LibraryError`."""
        return _Question(self, replace(load, draft=AUTO), wanted).verdicts()

    def resolved(self, load: Load, wanted: Wanted = always) -> Load:
        """Return `load` with paths for names. Raises `LibraryError` if a name fits no model, or several."""
        question = _Question(self, load, wanted)
        main = question.path(load.main)
        if load.draft == AUTO:
            return replace(load, main=main, draft=question.best_draft(main))
        if load.draft == HEAD:
            return replace(load, main=main, draft=question.head(main))
        draft = question.path(load.draft) if names_model(load.draft) else load.draft
        return replace(load, main=main, draft=draft)

    def name(self, path: str, name: str) -> str:
        """Return the list's name for the model at `path`, whose short name is `name`."""
        return name_in_list(path, name, self.index)


class _Question:
    """One question about `load`. It lists the library once, and only if the answer needs the list."""

    def __init__(self, library: Library, load: Load, wanted: Wanted) -> None:
        self._library = library
        self._load = load
        self._wanted = wanted

    @cached_property
    def main(self) -> FoundModel:
        """The main model. Raises `LibraryError`."""
        main = self._described()
        if main.only_head:
            raise LibraryError(f"{main.name}: {ONLY_HEAD}", ITS_MAIN)
        return main

    def _described(self) -> FoundModel:
        if not _is_place(self._load.main):
            return self._named(self._load.main)
        path = Path(place(self._load.main, "main"))
        try:
            return describe(candidate(path))
        except (BadModelFile, OSError) as error:
            reason = (error.strerror or error) if isinstance(error, OSError) else error
            raise LibraryError(f"{path.name}: {reason}", "Choose another main model.") from None

    def path(self, name: str) -> str:
        """Return the path of a model; "starter" and scripted models have none. Raises `LibraryError`."""
        if not _is_place(name):
            return self._named(name).path
        return STARTER if name in (place(STARTER, "main"), place(STARTER, "draft")) else name

    def best_draft(self, main: str) -> DraftChoice:
        """Return the path of the best draft for the main model, whose path is `main`; else the lookup."""
        if main == STARTER:
            return STARTER
        if not is_scripted(main):
            with suppress(LibraryError):  # loading the main model reports its fault
                return best_draft(self.verdicts())
        return LOOKUP

    def head(self, main: str) -> DraftChoice:
        """Return `HEAD` if the file of the main model has a head or none fits; else the path of the best
        one."""
        if not is_scripted(main):
            with suppress(LibraryError):  # loading the main model reports its fault
                if self.main.head:
                    return HEAD
                fitting = [each.draft for each in self.verdicts() if each.judgement != "no"]
                files = {each.path for each in self._found if isinstance(each, FoundModel) and each.only_head}
                return next((draft for draft in fitting if draft in files), HEAD)
        return HEAD

    def verdicts(self) -> tuple[DraftVerdict, ...]:
        """Return the verdicts on all other models as drafts for the main model. Raises `LibraryError`."""
        main, path = self.main, Path(self.main.path)
        models = [each for each in self._found if isinstance(each, FoundModel) and not _same(path, each.path)]
        skipped = (each for each in self._found if isinstance(each, Skipped))
        useless = [each for each in skipped if Path(each.path).parent == path.parent]
        records, row_cost = self._library.records, self._library.row_cost
        return Judge(main, records.measured, row_cost, self._room, records.cost).all(models, useless)

    def _room(self, draft: FoundModel) -> Obstacle | None:
        """Return whether the weights are too large. Free memory counts only when a pair is chosen."""
        both, memory = self.main.size + draft.size, self._library.memory()
        return no_room(both, memory) if memory and both > memory else None

    def _named(self, name: str) -> FoundModel:
        return resolve(name, [each for each in self._found if isinstance(each, FoundModel)])

    @cached_property
    def _found(self) -> list[FoundModel | Skipped]:
        """Each model once, under its last name. Drafts may also lie beside a main model given by its path."""
        load, beside, wanted = self._load, [], always  # a name needs the whole list
        if load.draft in (AUTO, HEAD) and _is_place(load.main):
            beside.append(ModelFolder("folder", Path(place(load.main, "main")).parent, "flat"))
            wanted = self._wanted
        found = self._library.models(load.folders, wanted, beside)
        return list({each.path: each for each in found}.values())


def _is_place(name: str) -> bool:
    """Return whether `name` says where a model is, so that no list is needed."""
    return name == STARTER or is_scripted(name) or os.path.lexists(name) or os.sep in name


def _same(one: Path, other: str) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # the file is gone by now
        return False
