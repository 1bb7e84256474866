"""A large tokenizer.json is opened in steps, and is the same tokenizer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mlx_lm")

from tokenizers import Tokenizer

from tests.support import mlx_models
from tui.engine.backends import GivenUp, Options
from tui.engine.backends.mlx import MlxBackend, tokenizer_file
from tui.engine.backends.mlx.tokenizer_file import open_tokenizer
from tui.engine.backends.mlx.vocabulary import MlxVocabulary, Tokenizers
from tui.engine.library.mlx_folder import read_folder

TEXT = "A line, two  spaces\n\tand <|im_start|>12345 Ä 日本 👩\u200d👧. "


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file counts as large."""
    monkeypatch.setattr(tokenizer_file, "_LARGE", 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return mlx_models.write_folder(tmp_path / "toy")


def content(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "tokenizer.json").read_bytes())
    return found


def opened(settings: dict[str, Any], steps: list[None]) -> Tokenizer:
    return open_tokenizer(json.dumps(settings).encode(), lambda: steps.append(None))


@pytest.mark.parametrize("split", [False, True], ids=["merges as texts", "merges as pairs"])
def test_a_file_that_is_opened_in_steps_gives_the_tokenizer_of_the_library(
    large: None, folder: Path, split: bool
) -> None:
    settings, steps = content(folder), list[None]()
    settings["added_tokens"][0] |= {"lstrip": True, "normalized": False}
    if split:
        settings["model"]["merges"] = [each.split(" ") for each in settings["model"]["merges"]]
    found, expected = opened(settings, steps), Tokenizer.from_buffer(json.dumps(settings).encode())
    assert len(steps) == 3
    assert found.to_str() == expected.to_str()
    for ordinary in (False, True):
        found.encode_special_tokens = expected.encode_special_tokens = ordinary
        assert found.encode(TEXT).ids == expected.encode(TEXT).ids
    assert str(found.get_added_tokens_decoder()) == str(expected.get_added_tokens_decoder())


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "a line that is no merge": lambda all_: all_["model"]["merges"].insert(0, "#version: 0.2"),
    "a merge of three": lambda all_: all_["model"]["merges"].append("a b c"),
    "merges of two forms": lambda all_: all_["model"]["merges"].append(["a", "b"]),
    "an unknown setting": lambda all_: all_["model"].update(other=1),
    "an added token with another setting": lambda all_: all_["added_tokens"][0].update(other=1),
    "no merges": lambda all_: all_["model"].pop("merges"),
    "another model": lambda all_: all_.update(
        model={"type": "WordLevel", "vocab": all_["model"]["vocab"], "unk_token": "a"}
    ),
    "an id that is none": lambda all_: all_["model"]["vocab"].update(zz=-1),
    "a merge of unknown tokens": lambda all_: all_["model"]["merges"].append("日 本"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_any_other_file_gives_the_result_of_the_library(large: None, folder: Path, change: str) -> None:
    settings = content(folder)
    CHANGES[change](settings)
    try:
        expected = Tokenizer.from_buffer(json.dumps(settings).encode()).to_str()
    except Exception:  # the library has one class for all its errors
        with pytest.raises(Exception, match=r"\w"):
            opened(settings, [])
    else:
        assert opened(settings, []).to_str() == expected


@pytest.mark.parametrize("at", range(3))
def test_the_opening_is_given_up_between_its_steps(large: None, folder: Path, at: int) -> None:
    asked = 0

    def ask() -> None:
        nonlocal asked
        asked += 1
        if asked > at:
            raise GivenUp("no longer")

    with pytest.raises(GivenUp):
        Tokenizers().open(read_folder(str(folder)), ask)
    assert asked == at + 1


def test_two_models_with_one_file_are_a_pair_without_a_look_at_their_words(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = MlxBackend()
    main, draft = (
        backend.load(str(each), Options("main", 64), lambda share: True)
        for each in (folder, mlx_models.perturbed(folder, tmp_path / "draft"))
    )
    monkeypatch.setattr(MlxVocabulary, "words", None)
    assert backend.mismatch(main, draft) is None
