"""Searches the Hugging Face hub, and lists the files of a repository that may be downloaded.

The metadata comes from huggingface_hub. No text from the hub becomes a path before `places_for` has checked
it. Only weights and settings are offered: no code, no pickles. `fetch` downloads the bytes.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ...protocol import HubFile, HubRepository
from .find import whole_of
from .hub_access import HubError, HubToken, asked, endpoint
from .hub_heads import head_for, with_heads
from .mlx_folder import is_read, is_weights
from .short_name import quantization_in

SECONDS = 10.0
"""Seconds to wait for an answer of the hub."""
MOST = 40
"""Most repositories in one search result."""
_MOST_FILES = 5_000
_SUFFIXES = (".gguf", ".safetensors", ".json", ".jinja")
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf", re.IGNORECASE)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHA1 = re.compile(r"[0-9a-f]{40}")
_OTHER_GGUF = re.compile(r"(?:^|[-_/.])(?:mmproj|imatrix)", re.IGNORECASE)


@dataclass(frozen=True)
class RemoteFile:
    """One file of a repository at one commit."""

    repository: str
    name: str
    size: int
    url: str
    sha256: str
    """SHA-256 of the bytes; empty for a small file that git itself holds, which has a `sha1`."""
    sha1: str
    """SHA-1 of git's blob: git's header, then the bytes."""


@dataclass(frozen=True)
class Listing:
    """The files of a repository that can be used here."""

    repository: str
    files: dict[str, RemoteFile]
    license: str
    gated: bool
    cut: tuple[str, ...] = ()
    """Names of models in pieces that no program opens, because they are cut in an old way."""

    @property
    def note(self) -> str:
        """The reason why some files are not offered; may be empty."""
        names = ", ".join(each.rpartition("/")[2] for each in self.cut[:3])
        return f"split in an old way, which no program opens: {names}" if self.cut else ""

    def choices(self) -> tuple[HubFile, ...]:
        """Return the choices: GGUF files (parts as one) and the folder for MLX, the smallest first, and then
        the heads beside them."""
        found = [self._choice(group) for group in _grouped(name for name in self.files if _is_gguf(name))]
        if self._is_folder():
            names = self.folder()
            size = sum(self.files[name].size for name in names)
            found.append(HubFile("", size, len(names), "mlx", "MLX folder"))
        return with_heads(found)

    def head_beside(self, choice: str, *, inside: bool = False) -> str:
        """Return the name of the head to offer with a choice; empty if there is none.

        `inside` tells that the file of the choice has an MTP head.
        """
        choices = self.choices()
        chosen = next((each for each in choices if each.name == choice), None)
        head = head_for(chosen, choices, inside=inside) if chosen else None
        return head.name if head else ""

    def parts(self, choice: str) -> list[RemoteFile]:
        """Return the files of a choice, in the order of their download.

        The file that makes them a model comes last, so that an unfinished download does not look like a
        model. Raises `HubError`.
        """
        if choice == "" and self._is_folder():
            names = sorted(self.folder(), key=lambda name: name == "config.json")
            return [self.files[name] for name in names]
        for group in _grouped(name for name in self.files if _is_gguf(name)):
            if group[0] == choice:
                return [self.files[name] for name in reversed(group)]
        raise HubError(f"{self.repository} has no usable file {choice!r}", "Choose another file.")

    def named(self, wanted: str) -> str:
        """Return the choice for a file name or a quantization from the user. Raises `HubError`."""
        choices = self.choices()
        if not choices:
            reason = f"{self.repository} holds no GGUF file and no MLX folder"
            raise HubError(f"{reason}; {self.note}" if self.cut else reason, "Choose another repository.")
        words = wanted.casefold().removesuffix(".gguf")
        fitting = [
            each
            for each in choices
            if words in (each.quantization.casefold(), each.name.casefold().removesuffix(".gguf"))
        ] or [each for each in choices if words and words in each.name.casefold()]
        if not wanted:
            fitting = [each for each in choices if each.quantization.upper() == "Q4_K_M"] or list(choices)
        fitting = [each for each in fitting if not each.head] or fitting
        if len(fitting) == 1:
            return fitting[0].name
        names = ", ".join(each.name or "the folder" for each in (fitting or choices)[:12])
        what = f"{wanted!r} may be several files" if fitting else f"there is no file {wanted!r}"
        if not fitting and any(words in each.casefold() for each in self.cut):
            what = f"{what}; {self.note}"
        reason = f"{self.repository}: {what if wanted else 'there are several files'}"
        raise HubError(reason, f"Choose one of: {names}.")

    def folder(self) -> list[str]:
        """Return the files that MLX reads. All lie at the top of the repository."""
        return [name for name in self.files if is_read(name)]

    def _is_folder(self) -> bool:
        names = self.folder()
        settings = {"config.json", "tokenizer.json"} <= set(names)
        return settings and any(map(is_weights, names))

    def _choice(self, group: list[str]) -> HubFile:
        size = sum(self.files[name].size for name in group)
        return HubFile(group[0], size, len(group), "llama.cpp", quantization_of(group[0]))


def places_for(root: Path, repository: str, files: Iterable[RemoteFile]) -> list[Path]:
    """Return the paths below `root` for files of a repository. Raises `HubError` for unsafe names."""
    if not _REPOSITORY.fullmatch(repository) or ".." in repository:
        raise HubError("not a repository name", "Use owner/model.")
    return [root.joinpath(*repository.split("/"), *_parts(file.name)) for file in files]


def is_harmless(name: str) -> bool:
    """Return whether a file name is safe: it may be downloaded and cannot lead out of its folder."""
    try:
        return bool(_parts(name))
    except HubError:
        return False


def _parts(name: str) -> list[str]:
    parts = name.split("/")
    printable = name.isprintable() and unicodedata.normalize("NFC", name) == name
    if not printable or any(sign in name for sign in '\\:*?"<>|') or len(name.encode()) > 512:
        raise HubError("the hub names a file that cannot be written")
    for part in parts:
        if not part or part.startswith(".") or part != part.strip(" .") or len(part.encode()) > 200:
            raise HubError("the hub names a file that cannot be written")
    if not parts[-1].casefold().endswith(_SUFFIXES):
        raise HubError("the hub names a file that is no model")
    return parts


def quantization_of(name: str) -> str:
    """Return the quantization in the name of a GGUF file, such as "Q4_K_M"; empty if there is none."""
    return quantization_in(name.rpartition("/")[2])


def search(words: str) -> tuple[HubRepository, ...]:
    """Return repositories with models that run here, most downloaded first. Raises `HubError`."""
    return asked(lambda token: _found(words, token))


def _found(words: str, token: HubToken) -> tuple[HubRepository, ...]:
    # huggingface_hub's own search has no time limit, and without a network it tries for 20 seconds.
    from huggingface_hub import get_session
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    found: dict[str, HubRepository] = {}
    for form in ("gguf", *(["mlx"] if find_spec("mlx_lm") else [])):
        order = {"sort": "downloads", "direction": "-1", "limit": str(MOST)}
        asking = {"search": words, "filter": form, **order}
        address = f"{endpoint()}/api/models"
        headers = build_hf_headers(token=token.sent)
        said = get_session().get(address, params=asking, headers=headers, timeout=SECONDS)
        said.raise_for_status()
        for each in said.json():
            name = str(each["id"])
            if _REPOSITORY.fullmatch(name):
                counts = (int(each.get("downloads") or 0), int(each.get("likes") or 0))
                found.setdefault(name, HubRepository(name, *counts, bool(each.get("gated")), form.upper()))
    return tuple(sorted(found.values(), key=lambda each: -each.downloads)[:MOST])


def listing(repository: str) -> Listing:
    """Return the safe files of a repository at its newest commit. Raises `HubError`."""
    places_for(Path("/"), repository, ())
    return asked(lambda token: _listed(repository, token), repository)


def _listed(repository: str, token: HubToken) -> Listing:
    from huggingface_hub import HfApi, hf_hub_url

    hub = HfApi(endpoint(), token=token.sent)
    info = hub.model_info(repository, files_metadata=True, timeout=SECONDS)
    commit = str(info.sha)
    if not _SHA1.fullmatch(commit):
        raise HubError(f"the hub names no commit of {repository}", "Try again later.")
    files: dict[str, RemoteFile] = {}
    folded: set[str] = set()
    cut: set[str] = set()
    for each in (info.siblings or [])[:_MOST_FILES]:
        if (whole := whole_of(each.rfilename)) and is_harmless(whole):
            cut.add(whole)
        if not is_harmless(each.rfilename) or each.rfilename.casefold() in folded:
            continue
        url = hf_hub_url(repository, each.rfilename, revision=commit, endpoint=endpoint())
        if file := _remote(repository, each, url):
            files[file.name] = file
            folded.add(file.name.casefold())
    card = getattr(info, "card_data", None)
    terms = str(getattr(card, "license", "") or "")[:80]
    return Listing(repository, files, terms, bool(info.gated), tuple(sorted(cut)))


def _remote(repository: str, sibling: Any, url: str) -> RemoteFile | None:
    """Return the file, or None if the hub gives no size and hash to check it against."""
    lfs, size = sibling.lfs, sibling.size
    sha256 = str(lfs.sha256) if lfs else ""
    sha1 = "" if lfs else str(sibling.blob_id)
    if type(size) is not int or size < 0 or not (_SHA256.fullmatch(sha256) or _SHA1.fullmatch(sha1)):
        return None
    return RemoteFile(repository, sibling.rfilename, size, url, sha256, sha1)


def _is_gguf(name: str) -> bool:
    return name.casefold().endswith(".gguf") and not _OTHER_GGUF.search(name)


def _grouped(names: Iterable[str]) -> Iterator[list[str]]:
    """Yield the files in groups: the parts of one model in order. A model with a missing part is left out."""
    parted: dict[tuple[str, str], list[str]] = {}
    for name in names:
        if part := _PART.fullmatch(name):
            parted.setdefault((part[1], part[3]), []).append(name)
        else:
            yield [name]
    for (_, count), group in parted.items():
        if len(group) == int(count):
            yield sorted(group)
