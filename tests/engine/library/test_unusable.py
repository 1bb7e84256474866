"""Files that are as they should be, but that no library opens: not listed, and not to be fetched again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from tests.support import models
from tests.support.mlx_models import write_folder
from tui.engine.backends import ModelError, Options
from tui.engine.backends.selection import open_backend
from tui.engine.library import describe as describe_module
from tui.engine.library import index as index_module
from tui.engine.library import supported
from tui.engine.library.describe import describe
from tui.engine.library.find import ModelFolder, candidate
from tui.engine.library.gguf import BadModelFile
from tui.engine.library.index import list_models
from tui.engine.library.supported import llama_cpp_knows, mlx_knows
from tui.protocol import FoundModel, Skipped

ANOTHER = "Choose another model, or another quantization of this one."
AGAIN = "Choose another model, or download this one again."


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return models.write_model(tmp_path_factory.mktemp("whole") / "toy.gguf").read_bytes()


def replaced(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(whole: bytes) -> bytes:
        assert old in whole
        assert len(old) == len(new)
        return whole.replace(old, new)

    return change


UNUSABLE = {
    "sees": (
        replaced(b"blk.0.attn_q.weight", b"v.k.0.attn_q.weight"),
        "a vision or audio part",
        ANOTHER,
    ),
    "projects": (replaced(b"blk.0.attn_q.weight", b"mm.0.attn_qx.weight"), "a vision or audio part", ANOTHER),
    "hears": (
        replaced(b"blk.0.attn_q.weight", b"a.k.0.attn_q.weight"),
        "a vision or audio part",
        ANOTHER,
    ),
    "a text twice": (replaced(b"\x02\0\0\0\0\0\0\0ab", b"\x02\0\0\0\0\0\0\0ac"), "two tokens have", ANOTHER),
    "a newer version": (lambda whole: b"GGUF\x09" + whole[5:], "GGUF version 9 is not supported", ANOTHER),
    "cut off": (lambda whole: whole[:-100], "cut off", AGAIN),
    "no model": (lambda whole: b"<html>" + whole, "does not begin with GGUF", AGAIN),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_what_to_do_goes_by_what_is_wrong(whole: bytes, tmp_path: Path, name: str) -> None:
    change, reason, hint = UNUSABLE[name]
    (path := tmp_path / "m.gguf").write_bytes(change(whole))
    with pytest.raises(BadModelFile, match=reason):
        describe(candidate(path))
    with pytest.raises(ModelError, match=reason) as error:
        open_backend(str(path)).load(str(path), Options("main", 256), lambda _: True)
    assert error.value.hint == hint


def test_a_folder_says_too_whether_another_download_would_help(tmp_path: Path) -> None:
    def hint(change: Callable[[Path], object], reason: str) -> str:
        folder = write_folder(tmp_path / reason)
        change(folder)
        with pytest.raises(ModelError, match=reason) as error:
            open_backend(str(folder))
        return error.value.hint

    def set_config(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"model_file": "own.py"}))

    assert hint(set_config, "code of the model's own") == ANOTHER
    assert (
        hint(lambda f: (f / "tokenizer.json").rename(f / "tokenizer.model"), "by tokenizer.model") == ANOTHER
    )
    assert hint(lambda f: (f / "tokenizer.json").unlink(), "tokenizer.json is missing") == AGAIN


def test_a_file_of_another_user_is_not_fetched_again(
    whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may read everything, so what the system would say is put in."""

    def denied(path: Path, *_: object) -> NoReturn:
        raise PermissionError(13, "Permission denied")

    (path := tmp_path / "m.gguf").write_bytes(whole)
    backend = open_backend(str(path))
    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(ModelError, match="cannot be read: Permission denied") as error:
        backend.load(str(path), Options("main", 256), lambda _: True)
    assert error.value.hint == "Look at its permissions, or choose another model."


def test_an_architecture_that_no_library_has_is_not_listed(whole: bytes, tmp_path: Path) -> None:
    """Ollama's own engine calls some architectures otherwise than llama.cpp."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "m.gguf").write_bytes(replaced(b"llama", b"llxma")(whole))
    folder = write_folder(tmp_path / "models" / "folder")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "hal9000"}))
    found = list(list_models([ModelFolder("folder", tmp_path / "models")], tmp_path / "index.json"))
    assert {each.reason for each in found if isinstance(each, Skipped)} == {
        "llama.cpp has no architecture 'llxma'",
        "mlx-lm has no architecture 'hal9000'",
    }
    assert len(found) == 2


def test_another_version_of_a_library_is_asked_anew(
    whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path := tmp_path / "m.gguf").write_bytes(whole)
    places, memory = [ModelFolder("folder", tmp_path)], tmp_path / "index.json"
    monkeypatch.setattr(describe_module, "llama_cpp_knows", lambda name: False)
    assert isinstance(next(list_models(places, memory)), Skipped)
    monkeypatch.undo()
    assert isinstance(next(list_models(places, memory)), Skipped), "as it is remembered"
    monkeypatch.setattr(index_module, "_VERSION", "newer")
    (model,) = list_models(places, memory)
    assert isinstance(model, FoundModel)
    assert model.path == str(path)


def test_the_libraries_here_know_what_they_can_load() -> None:
    for name in ("llama", "gemma3", "mamba", "lfm2", "gpt-oss", "qwen2", "phi3", "command-r", "bert"):
        assert llama_cpp_knows(name), name
    for name in ("gptoss", "mllama", "qwen25vl", "llama\0x"):
        assert not llama_cpp_knows(name), name
    for name in ("llama", "mistral", "qwen2", "kimi_k2"):
        assert mlx_knows(name), name
    assert not mlx_knows("hal9000")


def test_where_a_library_is_not_found_everything_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMA_CPP_LIB_PATH", str(tmp_path))
    monkeypatch.setattr(supported, "_folder", lambda package: tmp_path / "nowhere")
    assert llama_cpp_knows("hal9000")
    assert mlx_knows("hal9000")
