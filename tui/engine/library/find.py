"""Finds models on this machine: in the folders of other programs, and in folders from the user.

It reads names, links and Ollama's small manifests, and opens no model. Only links can lead out of a folder.
They are followed, and each folder is searched once.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ...protocol import Skipped
from .mlx_folder import is_read
from .split_file import part_of

Kind = Literal["tree", "flat", "hub", "ollama"]
"""Layout of a folder: models at any depth, in the folder alone, in repositories, or as blobs with manifests.
"""

BUILT_IN = "built in"
"""The source of the demo pair."""
_MAX_DEPTH = 8
_MAX_ENTRIES = 200_000
"""Most files and folders searched in one place; a user's folder may be a whole disk."""
_MAX_MANIFEST = 1 << 20
_OLD_PART = re.compile(
    r"(?P<stem>.+\.gguf)[.-](?:split[-.]?\w{1,3}|part[-.]?\w{1,3}(?:of\w{1,3})?|\d{1,3}(?:of\d{1,3})?|a[a-z])",
    re.IGNORECASE,
)
"""Pieces from the time when llama.cpp could not read a model in parts, and users cut files themselves."""
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_BLOB = re.compile(r"sha256-[0-9a-f]{64}")
_REVISION = re.compile(r"[0-9a-f]{40}")
_SERVICES = Path("/etc/systemd/system")
_MODELS = re.compile(r"""^\s*Environment\s*=.*?\bOLLAMA_MODELS=(/[^"'\s]*)""", re.MULTILINE)
_OLLAMA_MODEL = "application/vnd.ollama.image.model"


@dataclass(frozen=True)
class ModelFolder:
    """A folder that may hold models. It need not exist."""

    source: str
    """The program that owns the folder, as in `FoundModel.source`."""
    path: Path
    kind: Kind = "tree"


@dataclass(frozen=True)
class ModelFile:
    """A possible model: a GGUF file, or a folder for MLX."""

    path: Path
    source: str
    files: tuple[Path, ...]
    """All files of the model, so that a change of any can be noticed."""
    tag: str = ""
    """Ollama's name for the model. Its file name is only a digest."""

    @property
    def demo(self) -> bool:
        return self.source == BUILT_IN


def known_places(
    environ: Mapping[str, str], home: Path, own: Path, *, mac: bool, services: Path = _SERVICES
) -> list[ModelFolder]:
    """Return the model folders of known programs, and `own`, our folder for downloads.

    `services` is the folder of the systemd units.
    """
    cache = Path(environ.get("XDG_CACHE_HOME") or home / ".cache")
    hub = environ.get("HF_HUB_CACHE") or Path(environ.get("HF_HOME") or cache / "huggingface") / "hub"
    llama = environ.get("LLAMA_CACHE") or (home / "Library" / "Caches" if mac else cache) / "llama.cpp"
    ollama = environ.get("OLLAMA_MODELS")
    served = [Path(ollama)] if ollama else [home / ".ollama" / "models", *_of_ollamas_service(services)]
    return [
        ModelFolder("Outrider", own),
        *(ModelFolder("LM Studio", each) for each in _of_lm_studio(home)),
        ModelFolder("Hugging Face", Path(hub), "hub"),
        *(ModelFolder("Ollama", each, "ollama") for each in served),
        ModelFolder("llama.cpp", Path(llama)),
    ]


def _of_lm_studio(home: Path) -> list[Path]:
    """Return the folder named in LM Studio's settings, and its default folders."""
    pointed = _read(home / ".lmstudio-home-pointer").strip()
    own = Path(pointed) if pointed.startswith("/") else home / ".lmstudio"
    folders = [own / "models", home / ".lmstudio" / "models", home / ".cache" / "lm-studio" / "models"]
    try:
        named = json.loads(_read(own / "settings.json"))["downloadsFolder"]
    except (ValueError, LookupError, TypeError, RecursionError):
        named = None
    if isinstance(named, str) and named.startswith("/"):
        folders.insert(0, Path(named))
    return list(dict.fromkeys(folders))


def _of_ollamas_service(units: Path) -> list[Path]:
    """Return the folder that systemd passes to Ollama, which no shell sees, and its default folder."""
    try:
        more = sorted((units / "ollama.service.d").glob("*.conf"))
    except OSError:
        more = []
    named = [
        found[1] for each in (units / "ollama.service", *more) for found in _MODELS.finditer(_read(each))
    ]
    return [*map(Path, named[-1:]), Path("/usr/share/ollama/.ollama/models")]


def _read(path: Path) -> str:
    """Return the text of a small file; empty if it cannot be read."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(_MAX_MANIFEST)
    except (OSError, ValueError):
        return ""


def whole_of(name: str) -> str:
    """Return the name of the file that `name` is a piece of; empty if it is no piece.

    Only the old way of cutting counts, which no program opens.
    """
    piece = _OLD_PART.fullmatch(name)
    return piece["stem"] if piece else ""


def find(places: Sequence[ModelFolder]) -> Iterator[ModelFile | Skipped]:
    """Yield every possible model once; if two places hold it, the first place counts."""
    seen: set[str] = set()
    for place in places:
        walk = _Walk(place.source, seen)
        if place.kind == "ollama":
            yield from walk.ollama(place.path)
        elif place.kind == "hub":
            yield from walk.hub(place.path)
        else:
            yield from walk.tree(place.path, _MAX_DEPTH if place.kind == "flat" else 0)


def candidate(path: Path) -> ModelFile:
    """Return the model at `path`, with all its files."""
    folder = path if path.is_dir() else path.parent
    blob = _BLOB.fullmatch(path.name) and folder.name == "blobs"
    beside = find(
        [ModelFolder("Ollama", folder.parent, "ollama") if blob else ModelFolder("folder", folder, "flat")]
    )
    alone = ModelFile(path, "folder", (path,))
    return next((each for each in beside if isinstance(each, ModelFile) and each.path == path), alone)


class _Walk:
    """One search through one place."""

    def __init__(self, source: str, seen: set[str]) -> None:
        """`seen` holds the real paths of the models found before."""
        self._source = source
        self._seen = seen
        self._folders: set[tuple[int, int]] = set()
        self._left = _MAX_ENTRIES

    def tree(self, folder: Path, depth: int = 0) -> Iterator[ModelFile | Skipped]:
        """Yield the models in `folder` and below it."""
        files: list[str] = []
        folders: list[str] = []
        try:
            if not self._enter(folder):
                return
            with os.scandir(folder) as entries:
                for entry in entries:
                    if self._left <= 0:
                        yield Skipped(str(folder), "there are too many files here: name a folder with models")
                        return
                    self._left -= 1
                    (folders if _is_folder(entry) else files).append(entry.name)
        except OSError as error:
            yield from _unreadable(folder, error)
            return
        yield from self._files(folder, sorted(files))
        if depth < _MAX_DEPTH:
            for name in sorted(folders):
                if not name.startswith("."):
                    yield from self.tree(folder / name, depth + 1)

    def hub(self, folder: Path) -> Iterator[ModelFile | Skipped]:
        """Yield the models of a huggingface_hub cache: models--OWNER--NAME/snapshots/REVISION."""
        try:
            repositories = sorted(each for each in folder.iterdir() if each.name.startswith("models--"))
        except OSError as error:
            yield from _unreadable(folder, error)
            return
        for repository in repositories:
            try:
                snapshot = _snapshot(repository)
            except OSError as error:
                yield from _unreadable(repository, error)
                continue
            if snapshot:
                yield from self.tree(snapshot)

    def ollama(self, folder: Path) -> Iterator[ModelFile | Skipped]:
        """Yield Ollama's models: each manifest REGISTRY/OWNER/MODEL/TAG names its blobs by their digests."""
        for manifest in self._manifests(folder / "manifests", 4):
            if isinstance(manifest, Skipped):
                yield manifest
                continue
            try:
                digest = _model_digest(manifest)
            except OSError as error:
                yield Skipped(str(manifest), f"Ollama's manifest cannot be read: {error.strerror}")
                continue
            if not _DIGEST.fullmatch(digest):
                yield Skipped(str(manifest), "Ollama's manifest names no model")
                continue
            *_, owner, model, tag = manifest.parts
            name = f"{model}:{tag}" if owner == "library" else f"{owner}/{model}:{tag}"
            yield from self._found((folder / "blobs" / digest.replace(":", "-"),), tag=name)

    def _manifests(self, folder: Path, depth: int) -> Iterator[Path | Skipped]:
        """Yield the files at depth `depth` in `folder`; its direct entries have depth 1."""
        try:
            entries = sorted(folder.iterdir())
        except OSError as error:
            yield from _unreadable(folder, error)
            return
        for entry in entries:
            self._left -= 1
            if self._left <= 0:
                return
            if depth > 1:
                yield from self._manifests(entry, depth - 1)
            elif not os.path.isdir(entry):  # noqa: PTH112 - never raises, unlike Path's
                yield entry

    def _files(self, folder: Path, names: Sequence[str]) -> Iterator[ModelFile | Skipped]:
        if "config.json" in names and any(name.endswith(".safetensors") for name in names):
            yield from self._found(tuple(folder / name for name in names if is_read(name)), folder)
        there = set(names)
        for whole in sorted({whole_of(name) for name in names} - {"", *names}):
            pieces = "its pieces are cut in an old way: join them in their order, cat PIECES > "
            yield Skipped(str(folder / whole), pieces + whole)
        for name in names:
            if not name.lower().endswith(".gguf"):
                continue
            part = part_of(name)
            if part is None:
                yield from self._found((folder / name,))
            elif part.number == 1:
                yield from self._found(tuple(folder / each for each in part.names if each in there))
            elif part.names[0] not in there:
                yield Skipped(str(folder / name), "the first file of this model is missing")

    def _found(
        self, files: tuple[Path, ...], folder: Path | None = None, tag: str = ""
    ) -> Iterator[ModelFile]:
        path = folder or files[0]
        if (real := os.path.realpath(path)) not in self._seen:
            self._seen.add(real)
            yield ModelFile(path, self._source, files, tag)

    def _enter(self, folder: Path) -> bool:
        """Return whether `folder` is new to this search. Raises `OSError`."""
        status = folder.stat()
        key = (status.st_dev, status.st_ino)
        if key in self._folders:
            return False
        self._folders.add(key)
        return True


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads in a circle
        return False


def _unreadable(folder: Path, error: OSError) -> Iterator[Skipped]:
    """Yield the reason why an existing folder cannot be read; nothing if there is no folder."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        yield Skipped(str(folder), f"the folder cannot be read: {error.strerror}")


def _snapshot(repository: Path) -> Path | None:
    """Return the revision named by "main", else the newest. Raises `OSError`."""
    snapshots = repository / "snapshots"
    there = {each.name: each for each in snapshots.iterdir() if each.is_dir()}
    try:
        name = (repository / "refs" / "main").read_text("ascii")[:64].strip()
        if _REVISION.fullmatch(name) and name in there:
            return there[name]
    except (OSError, ValueError):
        pass
    return max(there.values(), key=lambda each: each.stat().st_mtime, default=None)


def _model_digest(manifest: Path) -> str:
    """Return the digest of the layer with the model; empty if there is none. Raises `OSError`."""
    try:
        if manifest.stat().st_size > _MAX_MANIFEST:
            return ""
        layers = json.loads(manifest.read_bytes())["layers"]
        digests = [each["digest"] for each in layers if each["mediaType"] == _OLLAMA_MODEL]
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""
    return digests[0] if len(digests) == 1 and isinstance(digests[0], str) else ""
