"""The same model on two machines: a digest of its small parts, and the search for a copy."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("mlx_lm")

from tests.support import mlx_models
from tui.engine.library.find import ModelFolder
from tui.engine.library.folder_copies import copy_here, digest_of
from tui.engine.library.mlx_folder import read_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return mlx_models.write_folder(tmp_path / "engine" / "toy")


def digest(folder: Path) -> str:
    return digest_of(read_folder(folder))


CHANGES: dict[str, Callable[[Path], object]] = {
    "a setting": lambda folder: (folder / "config.json").write_text(
        (folder / "config.json").read_text().replace("1e-05", "1e-06")
    ),
    "the tokenizer": lambda folder: (folder / "tokenizer.json").write_text(
        (folder / "tokenizer.json").read_text() + " "
    ),
    "the number format of the weights": lambda folder: mlx_models.converted(folder, mlx_models.mx.float16),
    "a further file of weights": lambda folder: shutil.copy(
        folder / "model.safetensors", folder / "model-2.safetensors"
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_any_part_changes_the_digest(folder: Path, change: str) -> None:
    parsed, before = read_folder(folder), digest(folder)
    (folder / "README.md").write_text("read by nobody")
    assert digest(folder) == before
    CHANGES[change](folder)
    assert digest_of(parsed) != before


def test_the_same_path_is_tried_first_and_then_the_known_places(folder: Path, tmp_path: Path) -> None:
    wanted, other = digest(folder), tmp_path / "models" / "elsewhere"
    places = [ModelFolder("Outrider", tmp_path / "models")]
    assert copy_here("toy", str(folder), wanted, places) == (str(folder), "")
    shutil.copytree(folder, other)
    shutil.rmtree(folder)
    assert copy_here("toy", str(folder), wanted, places) == (str(other), "")
    shutil.rmtree(other)
    assert copy_here("toy", str(folder), wanted, places) == ("", "it has no copy of toy")


def test_a_folder_with_other_files_is_named(folder: Path, tmp_path: Path) -> None:
    wanted = digest(folder)
    CHANGES["a setting"](folder)
    path, fault = copy_here("toy", str(folder), wanted, [])
    assert not path and fault == f"its toy has other files ({folder})"


def test_a_damaged_folder_is_no_copy(folder: Path) -> None:
    wanted = digest(folder)
    (folder / "config.json").write_text("{")
    assert copy_here("toy", str(folder), wanted, [])[0] == ""
