"""Folders that were made to do harm: each is rejected within a second, and nothing of one is ever run.

A child process opens them all. Its audit hook sees every import, every compilation and every file that is
opened, so that code which ran without a trace would be seen too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from struct import pack
from typing import Any

import pytest

from tests.support.paths import ROOT

pytest.importorskip("mlx_lm")

from tests.support import mlx_models

SECONDS = 1.0
CODE = "open({canary!r}, 'w').close()\nclass Model: pass\nclass ModelArgs: pass\n"
HEADER = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()


def test_the_plain_folder_is_opened(tmp_path: Path) -> None:
    found = visited(tmp_path, {"plain": (lambda folder: None, "")})
    assert found["plain"]["reason"] == "", "or the tests below would prove nothing"


def settings(name: str, **values: Any) -> Callable[[Path], None]:
    """Sets keys of one file of settings."""

    def change(folder: Path) -> None:
        path = folder / name
        before = json.loads(path.read_text()) if path.exists() else {}
        mlx_models.write_json(path, before | values)

    return change


def index(name: Any) -> Callable[[Path], None]:
    return settings("model.safetensors.index.json", weight_map={"a": name})


def link(name: str, target: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return change


def text(name: str, content: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_text(content)

    return change


def tensors(header: bytes, data: bytes = bytes(8), length: int | None = None) -> Callable[[Path], None]:
    """Other weights: a header, perhaps with a lie about its length, and data."""

    def change(folder: Path) -> None:
        stated = pack("<Q", len(header) if length is None else length)
        (folder / "model.safetensors").write_bytes(stated + header + data)

    return change


def tensor(**values: Any) -> bytes:
    return json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | values}).encode()


def escaped(folder: Path) -> None:
    """A key spelled with escapes, which only a reader of JSON sees."""
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text('{"\\u0061uto_\\u006dap": {"AutoModel": "evil.M"}, ' + config[1:])


def twice(folder: Path) -> None:
    """Two readers may take different ones."""
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text('{"model_type": "gemma", ' + config[1:])


def pipe(folder: Path) -> None:
    """Who opens it waits for ever."""
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    # Code of its own
    "model_file": (settings("config.json", model_file="evil.py"), "model_file"),
    "model_file elsewhere": (settings("config.json", model_file="/tmp/evil"), "model_file"),
    "model_file above": (settings("config.json", model_file="../evil.py"), "model_file"),
    "custom_generate": (settings("generation_config.json", custom_generate="evil.py"), "custom_generate"),
    "code within": (settings("config.json", text_config={"a": [{"b": "evil.py"}]}), "text_config.a.0.b"),
    "compiled code": (settings("config.json", impl="x/evil.pyc"), "impl"),
    "a library": (settings("config.json", impl="evil.SO"), "impl"),
    "code in special tokens": (settings("special_tokens_map.json", x="evil.py"), "special_tokens_map"),
    "code in hf_quant_config": (settings("hf_quant_config.json", x="evil.py"), "hf_quant_config"),
    # Names that become imports
    "no architecture": (settings("config.json", model_type=None), "model_type"),
    "an architecture elsewhere": (settings("config.json", model_type="..evil"), "model_type"),
    "an architecture with a path": (settings("config.json", model_type="/tmp/evil"), "model_type"),
    "an architecture within": (settings("config.json", model_type="llama.evil"), "model_type"),
    "an architecture of transformers": (
        settings("config.json", model_type="evil", auto_map={"A": "evil.C"}), "no architecture 'evil'"
    ),
    "a module that is no architecture": (settings("config.json", model_type="cache"), "architecture 'cache'"),
    "the package itself": (settings("config.json", model_type="__init__"), "model_type"),
    "an architecture of two files": (twice, "twice"),
    # Files elsewhere
    "a path from the root": (settings("config.json", weights_from="/etc/passwd"), "weights_from"),
    "a path above": (settings("config.json", adapter="../../other/adapter"), "adapter"),
    "an index that goes up": (index("../model.safetensors"), "weight_map.a"),
    "an index from the root": (index("/etc/model.safetensors"), "weight_map.a"),
    "an index of no name": (index(["model.safetensors"]), "weight_map.a"),
    "an index of other files": (index("evil.py"), "model.safetensors.index.json"),
    "a link to code": (link("weights.safetensors", "evil.py"), "weights.safetensors is a link to code"),
    "a link elsewhere": (link("generation_config.json", "/etc/hostname"), "generation_config.json is a link"),
    "a link above": (link("config.json", "../elsewhere.json"), "config.json is a link"),
    "a link to itself": (link("config.json", "config.json"), "config.json is missing"),
    "a link to a folder": (link("more", "/"), "more is a link"),
    # Bombs and lies
    "settings too long": (settings("config.json", x="x" * (9 << 20)), "config.json has"),
    "settings too deep": (text("config.json", '{"a":' * 100_000), "config.json"),
    "settings of millions": (text("config.json", '{"a":[' + "0," * 4_000_000 + "0]}"), "config.json holds"),
    "settings nested": (settings("config.json", x=json.loads("[" * 60 + "]" * 60)), "nested too deep"),
    "too many layers": (settings("config.json", num_hidden_layers=10**9), "num_hidden_layers"),
    "a header that never ends": (tensors(HEADER, length=1 << 62), "model.safetensors"),
    "a header of lists": (tensors(b"[" * 15_000_000), "model.safetensors"),
    "a header too deep": (tensors(b'{"a":' * 150_000), "model.safetensors"),
    "a name twice": (tensors(HEADER[:-1] + b"," + HEADER[1:]), "twice"),
    "an overlap": (
        tensors(HEADER[:-1] + b"," + HEADER[1:].replace(b'"a"', b'"b"')), "overlaps"
    ),
    "a gap": (tensors(tensor(data_offsets=[8, 16]), bytes(16)), "gap"),
    "bytes of no tensor": (tensors(HEADER, bytes(16)), "belong to no tensor"),
    "a shape that overflows": (tensors(tensor(shape=[1 << 33, 1 << 31])), "shape"),
    "a shape below nothing": (tensors(tensor(shape=[-2])), "shape of a"),
    "a shape of truth": (tensors(tensor(shape=[True, 2])), "shape of a"),
    "offsets that run backwards": (tensors(tensor(data_offsets=[8, 0])), "not as long"),
    "numbers of no type": (tensors(tensor(dtype="OBJECT")), "unknown type"),
    "weights that never come": (pipe, "model.safetensors is no file"),
    "data that is cut off": (tensors(HEADER, bytes(4)), "cut off"),
    "a tokenizer of nonsense": (text("tokenizer.json", '{"version": 1e999}'), "tokenizer.json"),
    "a tokenizer too deep": (text("tokenizer.json", '{"a":' * 100_000), "tokenizer.json"),
}  # fmt: skip

FOR_TRANSFORMERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "auto_map": (settings("config.json", auto_map={"AutoModelForCausalLM": "evil.Model"}), ""),
    "auto_map of another repository": (settings("config.json", auto_map={"AutoConfig": "o/r--evil.C"}), ""),
    "auto_map in escapes": (escaped, ""),
    "auto_map within": (settings("config.json", text_config={"auto_map": {"A": "evil.M"}}), ""),
    "auto_map of the tokenizer": (
        settings("tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.T", None]}), ""
    ),
    "auto_map of generation": (settings("generation_config.json", auto_map="evil.py"), ""),
    "custom_pipelines": (settings("config.json", custom_pipelines={"x": {"impl": "evil.P"}}), ""),
}  # fmt: skip
"""Folders that name code which only transformers would run."""

CHILD = """
import json, sys, time
from tui.engine.backends import ModelError, Options
from tui.engine.backends.mlx import MlxBackend
from tui.engine.backends.selection import open_backend

place, canary = sys.argv[1:]
MlxBackend()
seen, watched = [], ""

def hook(event, arguments):
    if not watched:
        return
    shown = [str(getattr(each, "co_filename", each))[:300] for each in arguments]
    if event == "import" and arguments[1] and watched in str(arguments[1]):
        seen.append(["import", *shown])
    elif event in ("exec", "compile", "open") and any(watched in each for each in shown):
        if event != "open" or any(each.endswith((".py", ".pyc", ".so")) for each in shown):
            seen.append([event, *shown])
    elif event in ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "ctypes.dlopen"):
        seen.append([event, *shown])

sys.addaudithook(hook)
found = {}
import pathlib
for folder in sorted(pathlib.Path(place).iterdir()):
    seen.clear()
    watched = str(folder)
    began = time.monotonic(), time.process_time()
    reason = ""
    try:
        open_backend(str(folder)).load(str(folder), Options("main", 64), lambda _: True).close()
    except ModelError as error:
        reason = str(error)
    seconds = min(time.monotonic() - began[0], time.process_time() - began[1])
    watched = ""
    found[folder.name] = {"reason": reason, "seconds": seconds, "seen": list(seen)}
print(json.dumps(found))
"""


def visited(place: Path, folders: dict[str, tuple[Callable[[Path], object], str]]) -> dict[str, Any]:
    """What became of each folder when a process opened it."""
    canary = place / "canary"
    (place / "folders").mkdir()
    plain = mlx_models.write_folder(place / "plain")
    for name, (change, _) in folders.items():
        folder = place / "folders" / name
        folder.mkdir()
        for file in plain.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        (folder / "evil.py").write_text(CODE.format(canary=str(canary)))
        (folder / "__init__.py").write_text(CODE.format(canary=str(canary)))
        change(folder)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(place / "folders"), str(canary)],
        capture_output=True, text=True, timeout=120, cwd=ROOT,
        env=os.environ | {"MLX_LM_TRUST_REMOTE_CODE": "1", "PYTHONPATH": str(place / "folders")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert not canary.exists()
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return visited(tmp_path_factory.mktemp("hostile"), HOSTILE)


def test_there_are_enough() -> None:
    assert len(HOSTILE) >= 40


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_folder_is_rejected_by_name_at_once_and_nothing_of_it_runs(
    outcomes: dict[str, Any], name: str
) -> None:
    outcome, expected = outcomes[name], HOSTILE[name][1]
    assert expected in outcome["reason"], outcome["reason"]
    assert "\n" not in outcome["reason"]
    assert len(outcome["reason"]) < 400
    assert outcome["seconds"] < SECONDS
    assert outcome["seen"] == []


def test_code_for_transformers_is_passed_over_and_the_model_works(tmp_path: Path) -> None:
    for name, outcome in visited(tmp_path, FOR_TRANSFORMERS).items():
        assert (outcome["reason"], outcome["seen"]) == ("", []), name


def test_the_audit_sees_code_that_runs(tmp_path: Path) -> None:
    """The same child, with a loader that trusts: the canary must be written, or the tests prove nothing."""
    plain = mlx_models.write_folder(tmp_path / "trusted")
    canary = tmp_path / "canary"
    (plain / "evil.py").write_text(CODE.format(canary=str(canary)))
    settings("config.json", model_file="evil.py")(plain)
    program = (
        CHILD.partition("sys.addaudithook")[0]
        + f"""
sys.addaudithook(hook)
from mlx_lm import utils
watched = {str(plain)!r}
try:
    utils.load_model(__import__("pathlib").Path(watched), trust_remote_code=True)
except Exception:
    pass
watched = ""
print(json.dumps(seen))
"""
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "", ""], capture_output=True, text=True, timeout=60,
        cwd=ROOT,
    )  # fmt: skip
    assert canary.exists()
    assert any(event[0] == "exec" for event in json.loads(done.stdout.splitlines()[-1]))
