"""`outrider pull`: the real command, beside a real engine and a hub on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub import Hub, hub
from models import Toy, write_model

REPOSITORY = "maker/Toy-GGUF"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = tmp_path_factory.mktemp("toys")
    main = write_model(folder / "main.gguf", Toy(layers=6, width=128, name="Toy main")).read_bytes()
    draft = write_model(folder / "draft.gguf", Toy(layers=1, width=32, name="Toy draft")).read_bytes()
    with hub() as running:
        running.repositories = {
            REPOSITORY: {"Toy-Q4_K_M.gguf": main, "Toy-Q8_0.gguf": main + b"0"},
            "maker/Small-GGUF": {"Small-Q4_K_M.gguf": draft},
            "maker/Closed-GGUF": {"Closed-Q4_K_M.gguf": draft},
        }
        running.gated = {"maker/Closed-GGUF"}
        yield running


def outrider(home: Path, server: Hub, *words: str) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {"HOME": str(home), "HF_ENDPOINT": server.url}
    environ |= {f"XDG_{name}_HOME": str(home / name) for name in ("CONFIG", "CACHE", "STATE", "DATA")}
    command = [sys.executable, "-m", "tui", *words]
    return subprocess.run(command, capture_output=True, text=True, env=environ, check=False, timeout=60)


def test_what_was_pulled_is_in_the_list_and_pairs(tmp_path: Path, server: Hub) -> None:
    done = outrider(tmp_path, server, "pull", f"{REPOSITORY}:q4_k_m", "maker/Small-GGUF")
    assert done.returncode == 0
    main, draft = map(Path, done.stdout.splitlines())
    assert main.read_bytes() == server.repositories[REPOSITORY]["Toy-Q4_K_M.gguf"]
    assert draft.name == "Small-Q4_K_M.gguf"
    lines = outrider(tmp_path, server, "models").stdout.splitlines()
    assert any(line.startswith("Toy F32") and line.endswith("Outrider") for line in lines), lines
    lines = outrider(tmp_path, server, "models", "toy f32").stdout.splitlines()
    assert lines[1].startswith("Small F32"), lines
    assert "recommended" in lines[1]


def test_a_list_says_what_to_type(tmp_path: Path, server: Hub) -> None:
    lines = outrider(tmp_path, server, "pull", "--list", REPOSITORY).stdout.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [
        [f"{REPOSITORY}:Toy-Q4_K_M.gguf", "Q4_K_M"],
        [f"{REPOSITORY}:Toy-Q8_0.gguf", "Q8_0"],
    ]


def test_without_a_name_pairs_are_proposed(tmp_path: Path, server: Hub) -> None:
    done = outrider(tmp_path, server, "pull")
    assert done.returncode == 0
    assert "outrider pull bartowski/" in done.stdout


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("maker/Closed-GGUF", "hf auth login"),
        ("maker/None-GGUF", "The hub has no maker/None-GGUF"),
        (f"{REPOSITORY}:Q2", "Toy-Q4_K_M.gguf"),
        ("../../etc", "owner/model"),
        ("", "owner/model"),
    ],
)
def test_what_cannot_be_fetched_is_one_line(tmp_path: Path, server: Hub, name: str, said: str) -> None:
    done = outrider(tmp_path, server, "pull", name)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert said in line
    assert not list(tmp_path.rglob("*.gguf"))
