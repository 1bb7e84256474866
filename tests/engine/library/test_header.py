"""The check that every model file must pass before native code opens it."""

from __future__ import annotations

import struct
import subprocess
import sys
import time
from pathlib import Path

import gguf
import pytest

from tests.support import models
from tests.support.mutants import mutant
from tests.support.paths import ROOT
from tui.engine.library.header import BadModelFile, read_header

MUTANTS = 200
OPEN_ALL = """
import sys
from tui.engine.backends import ModelError, Options
from tui.engine.backends.llama_cpp import LlamaBackend
backend = LlamaBackend()
for path in sys.argv[1:]:
    print(path, flush=True)
    try:
        backend.load(path, Options("main", 256), lambda _: True).close()
    except ModelError:
        pass
print("done", flush=True)
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.write_model(tmp_path_factory.mktemp("header") / "toy.gguf")


def passes(path: Path) -> bool:
    try:
        read_header(path)
    except BadModelFile as error:
        assert "\n" not in str(error)
        return False
    return True


def deaths(paths: list[Path], program: str = OPEN_ALL) -> list[Path]:
    """Which of the files kill the process that opens them."""
    found: list[Path] = []
    while paths:
        child = subprocess.run(
            [sys.executable, "-c", program, *map(str, paths)],
            capture_output=True,
            text=True,
            timeout=120,
            env={"GGML_NO_BACKTRACE": "1", "PYTHONPATH": str(ROOT)},
        )
        if child.stdout.endswith("done\n"):
            return found
        last = Path(child.stdout.splitlines()[-1])
        found.append(last)
        paths = paths[paths.index(last) + 1 :]
    return found


def test_mutants_that_pass_the_check_do_not_kill_the_engine(model: Path, tmp_path: Path) -> None:
    whole = model.read_bytes()
    passed = []
    for seed in range(MUTANTS):
        path = tmp_path / f"{seed}.gguf"
        path.write_bytes(mutant(whole, seed))
        if passes(path):
            passed.append(path)
        else:
            path.unlink()
    assert len(passed) < MUTANTS * 0.3
    assert not deaths(passed)


def test_says_what_the_model_is(model: Path) -> None:
    header = read_header(model)
    facts = header.facts
    assert (facts.architecture, facts.name, facts.quantization) == ("llama", "toy", "F32")
    assert (facts.path, facts.context_length, facts.vocabulary) == (str(model), 512, 512)
    assert header.block_count == 2
    assert facts.parameters == sum(int(t.n_elements) for t in gguf.GGUFReader(model).tensors)
    assert facts.size == 4 * facts.parameters


def test_a_file_that_is_mostly_of_another_type_than_its_name_says_says_so(
    model: Path, tmp_path: Path
) -> None:
    key, path = b"general.file_type" + struct.pack("<I", 4), tmp_path / "m.gguf"
    for kind, name, traits in ((15, "Q4_K_M", ("mostly F32",)), (8, "Q5_0", ()), (0, "F32", ())):
        path.write_bytes(
            model.read_bytes().replace(key + struct.pack("<I", 0), key + struct.pack("<I", kind))
        )
        header = read_header(path)
        assert (header.facts.quantization, header.traits) == (name, traits)


def test_metadata_that_is_not_unicode_is_replaced(tmp_path: Path) -> None:
    path = models.write_model(tmp_path / "m.gguf", models.Toy(name=b"evil\xff\x1b]52;c;AA\x07"))
    assert read_header(path).facts.name == "evil\ufffd\x1b]52;c;AA\x07"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"#!/bin/sh\nexit 1\n", "does not begin with GGUF"),
        (b"GGUF", "cut off"),
        (b"GGUF" + struct.pack("<IQQ", 1, 1, 1), "version 1"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 1), "damaged header: 1152921504606846976 tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 1 << 60), "1152921504606846976 keys"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 1, 1, 1 << 63), "key of 9223372036854775808 bytes"),
        (b"GGUF" + struct.pack("<IQQQ3sIIQ", 3, 1, 1, 3, b"key", 9, 8, 15_000_000), "cut off inside key"),
        (b"GGUF" + struct.pack("<IQQQ3sIIQ", 3, 1, 1, 3, b"key", 9, 9, 1), "array of 1 values of type 9"),
        (b"GGUF" + struct.pack("<IQQQ3sI", 3, 1, 1, 3, b"key", 13), "unknown type 13"),
    ],
)
def test_what_is_no_model_is_rejected_with_a_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    with pytest.raises(BadModelFile, match=reason):
        read_header(path)


def test_a_file_cut_off_in_its_weights_is_rejected(model: Path, tmp_path: Path) -> None:
    (path := tmp_path / "m.gguf").write_bytes(model.read_bytes()[:-4096])
    with pytest.raises(BadModelFile, match=r"cut off: tensor blk\.1\.ffn_down\.weight lies"):
        read_header(path)


def test_a_vocabulary_without_weights_is_rejected(model: Path, tmp_path: Path) -> None:
    whole = model.read_bytes()
    head = whole[: whole.find(b"token_embd.weight") - 8]
    (path := tmp_path / "m.gguf").write_bytes(head[:8] + bytes(8) + head[16:])
    with pytest.raises(BadModelFile, match="no weights"):
        read_header(path)


def test_a_missing_file_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(BadModelFile, match="cannot be read"):
        read_header(tmp_path / "m.gguf")


def test_two_tokens_with_one_text_are_rejected(model: Path, tmp_path: Path) -> None:
    whole = model.read_bytes()
    token = struct.pack("<Q2s", 2, b"ab")
    assert whole.count(token) == 1
    (path := tmp_path / "m.gguf").write_bytes(whole.replace(token, struct.pack("<Q2s", 2, b"ac")))
    with pytest.raises(BadModelFile, match="two tokens have one text"):
        read_header(path)


def test_a_model_in_several_files_is_read_whole(model: Path, tmp_path: Path) -> None:
    _write_part(tmp_path / "m-00001-of-00002.gguf", model, 0)
    with pytest.raises(BadModelFile, match=r"m-00002-of-00002\.gguf cannot be read"):
        read_header(tmp_path / "m-00001-of-00002.gguf")
    _write_part(tmp_path / "m-00002-of-00002.gguf", model, 1)
    whole, part = read_header(tmp_path / "m-00001-of-00002.gguf").facts, read_header(model).facts
    assert (whole.parameters, whole.size) == (2 * part.parameters, 2 * part.size)
    with pytest.raises(BadModelFile, match="choose the first"):
        read_header(tmp_path / "m-00002-of-00002.gguf")


def _write_part(path: Path, model: Path, number: int) -> None:
    """`model` as one of two files; what it holds does not matter here."""
    whole = model.read_bytes()
    keys = b"".join(
        struct.pack(f"<Q{len(key)}sIH", len(key), key, 2, value)
        for key, value in ((b"split.no", number), (b"split.count", 2))
    )
    version, tensors, values = struct.unpack_from("<IQQ", whole, 4)
    start = whole.find(b"token_embd.weight") - 8
    data = int(gguf.GGUFReader(model).data_offset)
    table = whole[start : whole.rfind(b"ffn_down.weight") + 15 + 4 + 16 + 4 + 8]
    head = b"GGUF" + struct.pack("<IQQ", version, tensors, values + 2) + whole[24:start] + keys + table
    path.write_bytes(head + bytes(-len(head) % 32) + whole[data:])


def test_a_large_vocabulary_is_read_quickly(tmp_path: Path) -> None:
    path = models.write_model(tmp_path / "m.gguf", models.Toy(vocabulary=150_000, width=16, layers=1))
    seconds = []
    for _ in range(5):
        started = time.thread_time()
        read_header(path)
        seconds.append(time.thread_time() - started)
    assert min(seconds) < 0.25  # 0.03 on an idle core
