"""Copies of drafts in another number format: real ones of toys, and every way in which one fails."""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from tests.support.models import Toy, write_model
from tests.support.screens.models import model
from tui.engine.library.describe import describe
from tui.engine.library.find import candidate
from tui.engine.library.header import read_header
from tui.engine.library.names import LibraryError
from tui.engine.library.requantized import FOLDER, requantized
from tui.protocol import FoundModel, Load, Reply, Requantize, Requantized, Requantizing

FAILS = (sys.executable, "-c", "import sys; sys.exit('no room in the dictionary')")
STALLS = (sys.executable, "-c", "import sys, time; open(sys.argv[2], 'wb').write(b'half'); time.sleep(600)")


@pytest.fixture(scope="module")
def draft(tmp_path_factory: pytest.TempPathFactory) -> FoundModel:
    path = tmp_path_factory.mktemp("models") / "toy.gguf"
    return describe(candidate(write_model(path, Toy(layers=2, width=64, name="Toy draft"))))


def asked(kind: str = "Q4_0") -> Requantize:
    return Requantize(-9, Load("a model"), kind)


def copied(replies: Iterator[Reply]) -> Requantized:
    *progress, last = replies
    assert all(isinstance(each, Requantizing) and 0 <= each.done <= each.total for each in progress)
    assert isinstance(last, Requantized)
    return last


def files(root: Path) -> list[Path]:
    return [each for each in root.rglob("*") if each.is_file()]


@pytest.mark.parametrize("kind", ["Q4_0", "Q8_0", "F16"])
def test_a_copy_is_the_same_model_in_the_format(draft: FoundModel, tmp_path: Path, kind: str) -> None:
    done = copied(requantized(asked(kind), draft, tmp_path, lambda: True))
    header = read_header(done.path)
    assert header.facts.quantization == kind
    assert header.facts.parameters == draft.parameters
    assert header.fingerprint == draft.fingerprint
    largest = max(header.tensors, key=lambda tensor: tensor.elements)
    assert largest.type.name == kind, "the largest tensor, the table of tokens, is in the format too"
    assert Path(done.path).stat().st_size == done.size
    assert files(tmp_path) == [Path(done.path)]


def test_a_copy_is_written_once(draft: FoundModel, tmp_path: Path) -> None:
    first = copied(requantized(asked(), draft, tmp_path, lambda: True))
    again = list(requantized(asked(), draft, tmp_path, lambda: True, FAILS))
    assert again == [first]


def test_a_file_of_the_same_name_gets_a_copy_of_its_own(draft: FoundModel, tmp_path: Path) -> None:
    other = write_model(tmp_path / "other.gguf", Toy(layers=1, width=64, name="Toy draft"))
    one = copied(requantized(asked(), draft, tmp_path, lambda: True))
    two = copied(requantized(asked(), replace(draft, path=str(other)), tmp_path, lambda: True))
    assert Path(one.path).name == Path(two.path).name
    assert one.path != two.path


def test_nothing_stays_of_a_copy_that_failed(draft: FoundModel, tmp_path: Path) -> None:
    with pytest.raises(LibraryError, match="the copy in Q4_0 failed: no room in the dictionary"):
        list(requantized(asked(), draft, tmp_path, lambda: True, FAILS))
    assert not files(tmp_path)


def test_a_copy_that_is_no_longer_wanted_ends_at_once(draft: FoundModel, tmp_path: Path) -> None:
    replies = requantized(asked(), draft, tmp_path, lambda: not files(tmp_path), STALLS)
    began = time.monotonic()
    assert not any(isinstance(each, Requantized) for each in replies)
    assert time.monotonic() - began < 60
    assert not files(tmp_path)


def test_a_reader_that_leaves_ends_the_copy(draft: FoundModel, tmp_path: Path) -> None:
    replies = requantized(asked(), draft, tmp_path, lambda: True, STALLS)
    while not files(tmp_path):
        assert isinstance(next(replies), Requantizing)
    replies.close()  # type: ignore[attr-defined]
    assert not files(tmp_path)


def test_two_processes_do_not_write_one_copy(draft: FoundModel, tmp_path: Path) -> None:
    path = Path(copied(requantized(asked(), draft, tmp_path, lambda: True)).path)
    holder = os.open(path.parent, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    try:
        with pytest.raises(LibraryError, match="another Outrider is writing this copy"):
            list(requantized(asked("Q8_0"), draft, tmp_path, lambda: True))
    finally:
        os.close(holder)


def test_a_full_disk_is_noticed_before(
    draft: FoundModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=10))
    with pytest.raises(LibraryError, match="0 MB of the disk are free"):
        list(requantized(asked(), draft, tmp_path, lambda: True))


@pytest.mark.parametrize(
    ("more", "kind", "said"),
    [
        ({}, "../Q4_0", "there is no format ../Q4_0"),
        ({"backend": "mlx"}, "Q4_0", "is no GGUF"),
        ({"only_head": True}, "Q4_0", "is a head"),
        ({"path": "/m/a-00001-of-00002.gguf"}, "Q4_0", "is in several files"),
    ],
    ids=["format", "MLX", "head", "parts"],
)
def test_an_impossible_copy_is_one_line(
    more: dict[str, object], kind: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(LibraryError, match=said):
        list(requantized(asked(kind), model(1, "Toy", 10**6, **more), tmp_path, lambda: True))
    assert not (tmp_path / FOLDER).exists()
