"""`outrider doctor` finds what is there, and survives whatever is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import models
from tests.support.chat import places_in
from tests.support.models import Toy
from tui.commands import doctor
from tui.config import Appearance, Generation, Models, Settings
from tui.engine.machine import apple, hardware
from tui.engine.machine.apple import Mlx
from tui.engine.machine.hardware import Gpu, Hardware, LlamaLibrary
from tui.paths import Paths

MACHINE = Hardware(
    system="Linux",
    cpu="A processor",
    cores=8,
    usable_cores=8,
    features=("avx", "avx2"),
    memory=1 << 35,
    memory_available=1 << 34,
    gpus=(Gpu("NVIDIA H200", 141 << 30, "550.1"),),
    cuda_compiler=True,
    python="CPython 3.11",
    packages={"mlx-lm": ""},
    llama_cpp=LlamaLibrary("0.3", gpu_offload=True, devices=("NVIDIA H200",), threads=8, features="AVX2 = 1"),
)
WITHOUT_CUDA = replace(MACHINE.llama_cpp, gpu_offload=False, devices=())


def say(text: str) -> tuple[str, ...]:
    """A command that prints `text`."""
    return sys.executable, "-c", f"print({text!r})"


@pytest.fixture
def places(tmp_path: Path) -> Paths:
    return places_in(tmp_path)


def run(tmp_path: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    home = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)}
    return subprocess.run(
        [sys.executable, "-m", "tui", "doctor", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | home | more,
    )


def test_it_describes_this_machine(tmp_path: Path) -> None:
    told = run(tmp_path)
    assert (told.returncode, told.stderr) == (0, "")
    for word in ("llama.cpp", "processor", "textual", "What would help", str(tmp_path), "numpy"):
        assert word in told.stdout
    assert "\x1b" not in told.stdout


def test_json_is_one_object(tmp_path: Path) -> None:
    found = json.loads(run(tmp_path, "--json", COLORTERM="truecolor", TERM="xterm").stdout)
    assert found["hardware"]["backend"] == "llama.cpp"
    assert found["hardware"]["cores"] == os.cpu_count()
    assert found["hardware"]["llama_cpp"]["features"]
    assert found["terminal"]["colors"] == 1 << 24
    assert found["files"]["config"] == str(tmp_path / "outrider" / "config.toml")
    assert any("built-in demo" in tip for tip in found["advice"])


def test_it_works_without_tools_and_without_a_home(tmp_path: Path) -> None:
    told = run(
        tmp_path, PATH="", HOME="/nonexistent", TERM="", LANG="C", XDG_CONFIG_HOME="", XDG_STATE_HOME=""
    )
    assert told.returncode == 0
    assert "Traceback" not in told.stderr


@pytest.mark.parametrize(
    "command",
    [
        say(""),
        say("[1]"),
        say("{}"),
        say('{"gpus": [{}], "llama_cpp": null, "advice": 3, "memory": "x"}'),
        ("/nowhere",),
        (sys.executable, "-c", "import os; os.abort()"),
        (sys.executable, "-c", "raise SystemExit('\\x1b[2Jno')"),
    ],
)
def test_whatever_the_engine_side_says_there_is_a_report(places: Paths, command: tuple[str, ...]) -> None:
    found = doctor.examine({"TERM": "xterm"}, places, command)
    lines = list(doctor.report(found))
    assert "Terminal" in lines
    assert all(line.isprintable() for line in lines)
    json.dumps(found)


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        (MACHINE, ""),
        (replace(MACHINE, llama_cpp=WITHOUT_CUDA), "without CUDA: run `make clean run`"),
        (replace(MACHINE, llama_cpp=WITHOUT_CUDA, cuda_compiler=False), "install the CUDA toolkit"),
        (replace(MACHINE, llama_cpp=replace(MACHINE.llama_cpp, devices=())), "check the driver"),
        (replace(MACHINE, gpus=(), llama_cpp=WITHOUT_CUDA), "There is no GPU"),
        (replace(MACHINE, usable_cores=2), "Only 2 of 8 cores"),
        (replace(MACHINE, llama_cpp=LlamaLibrary("")), "No model can run"),
        (replace(MACHINE, llama_cpp=LlamaLibrary("0.3", "it crashed")), "No model can run"),
        (replace(MACHINE, gpus=(), llama_cpp=replace(WITHOUT_CUDA, features="AVX = 1")), "has avx2, but"),
        (replace(MACHINE, cpu="Apple M3", system="macOS 15 x86_64"), "arm64 Python"),
        (replace(MACHINE, cpu="Apple M3", system="macOS 15 arm64"), "MLX is not installed"),
        (replace(MACHINE, cpu="Apple M3 Max", system="macOS 15 arm64", mlx=Mlx("0.32")), ""),
        (replace(MACHINE, cpu="Apple M1", system="macOS 15 arm64", mlx=Mlx("0.32")), "a draft seldom pays"),
        (replace(MACHINE, cpu="Apple M2 Pro", system="macOS 15 arm64", mlx=Mlx("0.32")), "seldom pays"),
        (replace(MACHINE, cpu="Apple M12", system="macOS 19 arm64", mlx=Mlx("0.32")), ""),
        (replace(MACHINE, mlx=Mlx("0.32", "MLX does not answer")), "pip install mlx-lm"),
    ],
)
def test_the_advice_fits_the_machine(machine: Hardware, expected: str) -> None:
    assert any(expected in tip for tip in machine.advice) if expected else machine.advice == ()


def test_the_backend_and_its_device_are_named() -> None:
    assert MACHINE.backend == ("llama.cpp", "NVIDIA H200", "it can use the GPU")
    assert replace(MACHINE, llama_cpp=WITHOUT_CUDA).backend[1] == "CPU, 8 threads"
    assert replace(MACHINE, llama_cpp=LlamaLibrary("0.3", "it crashed")).backend == ("", "", "it crashed")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "another processor"),
        ("raise ImportError('libcuda.so is missing')", "libcuda.so is missing"),
        ("print('noise')", "cannot be loaded"),
        ('print(\'noise\\n{"gpu_offload": true, "devices": ["G"], "threads": 1, "features": ""}\')', ""),
    ],
)
def test_a_library_that_kills_its_process_is_reported(code: str, expected: str) -> None:
    asked = hardware._ask_library([sys.executable, "-c", code])
    assert expected in asked.error
    assert bool(asked.error) == bool(expected)


def test_nvidia_gpus_are_read_from_the_driver_s_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text('#!/bin/sh\necho "NVIDIA H200, 143771, 550.54.15"\necho "NVIDIA GB10, [N/A], 580.1"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert hardware._gpus("cpu", 0) == (
        Gpu("NVIDIA H200", 143771 << 20, "550.54.15"),
        Gpu("NVIDIA GB10", 0, "580.1"),
    )
    tool.write_text("#!/bin/sh\necho NVIDIA-SMI has failed, driver, missing\nexit 9\n")
    assert hardware._gpus("cpu", 0) == ()


def test_a_tool_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_TOOL_SECONDS", 0.1)
    assert hardware._output("sleep", "5") == ""


@pytest.mark.parametrize(
    ("environ", "colors"),
    [
        ({}, 0),
        ({"TERM": "dumb", "COLORTERM": "truecolor"}, 0),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, 0),
        ({"TERM": "linux"}, 16),
        ({"TERM": "tmux-256color"}, 256),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, 1 << 24),
        ({"TERM": "xterm-ghostty"}, 1 << 24),
    ],
)
def test_the_colors_of_a_terminal_are_known(environ: dict[str, str], colors: int) -> None:
    assert doctor.colors(environ) == colors


def test_settings_that_cost_speed_are_pointed_out() -> None:
    terminal = {"TERM": "xterm", "COLORTERM": "truecolor"}

    def tips(models: Models, draft_length: int = 4) -> str:
        return " ".join(
            doctor.advice(Settings(models=models, generation=Generation(draft_length=draft_length)), terminal)
        )

    assert "No draft model" in tips(Models("big.gguf", "lookup"))
    assert "No draft model" in tips(Models("big.gguf", "none"))
    assert tips(Models("big.gguf", "auto")) == "", "the best draft that is here"
    assert "Drafting is off" in tips(Models("big.gguf", "small.gguf"), draft_length=0)
    assert tips(Models("big.gguf", "small.gguf")) == ""


@pytest.mark.parametrize("there", [True, False])
def test_the_draft_that_auto_stands_for_is_named_or_wished_for(tmp_path: Path, there: bool) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    models.write_model(folder / "large.gguf", Toy(layers=9, width=128, name="Large"))
    if there:
        models.write_model(folder / "small.gguf", Toy(layers=1, width=32, name="Small"))
    config = tmp_path / "outrider" / "config.toml"
    config.parent.mkdir()
    config.write_text(f'[models]\nmain = "{folder / "large.gguf"}"\ndraft = "auto"\n')
    found = json.loads(run(tmp_path, "--json").stdout)
    assert found["models"]["best draft"].startswith("Small") is there
    assert any("No model here is a good draft" in tip for tip in found["advice"]) is not there
    assert "No draft model is set" not in json.dumps(found)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import os; os.abort()", "MLX cannot be loaded"),
        ("raise ImportError('libmlx.so is missing')", "libmlx.so is missing"),
        ("print('[]')", "MLX cannot be loaded"),
        ('print(\'noise\\n{"device": "G", "gpu": true}\')', ""),
    ],
)
def test_an_mlx_that_kills_its_process_is_reported(
    monkeypatch: pytest.MonkeyPatch, code: str, expected: str
) -> None:
    monkeypatch.setattr(apple.metadata, "version", lambda name: "0.32")
    asked = apple.ask_mlx([sys.executable, "-c", code])
    assert expected in asked.error if expected else (asked.error, asked.device, asked.gpu) == ("", "G", True)
    assert apple.ask_mlx(["/nowhere"]).error == "MLX does not answer"


@pytest.mark.parametrize(
    ("mlx", "expected"),
    [
        ({}, None),
        ({"version": ""}, None),
        (
            {
                "version": "0.32",
                "device": "Apple M3 Max",
                "gpu": True,
                "memory": 64 << 30,
                "working_set": 48 << 30,
            },
            "mlx-lm 0.32, Apple M3 Max, 68.7 GB shared, at most 51.5 GB for models",
        ),
        ({"version": "0.32", "device": "A processor"}, "mlx-lm 0.32, A processor, no GPU: only to try it"),
        ({"version": "0.32", "device": "NVIDIA", "gpu": True}, "mlx-lm 0.32, NVIDIA, experimental"),
        ({"version": "0.32", "error": "MLX does not answer"}, "mlx-lm 0.32, MLX does not answer"),
    ],
)
def test_mlx_is_described_where_it_is(mlx: dict[str, object], expected: str | None) -> None:
    assert doctor._engine({"mlx": mlx}).get("MLX") == expected


def test_this_machine_s_mlx_is_found() -> None:
    pytest.importorskip("mlx_lm")
    assert apple.ask_mlx().device
    assert apple.ask_mlx().error == ""


def test_how_the_chat_will_write_and_copy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    remote = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "SSH_CONNECTION": "1 2 3 4"}

    def facts(environ: dict[str, str], output: str = "auto") -> tuple[str, list[str]]:
        settings = Settings(appearance=Appearance(output=output))
        found = doctor.terminal_facts(settings, environ)
        return found["output"], found["copies_by"]

    assert facts({"TERM": "xterm"}) == ("stock", ["OSC 52"])
    assert facts({"TERM": "linux"}, "lean") == ("lean", ["a file"])
    assert facts(remote) == ("lean", ["OSC 52"])
    assert facts(remote, "stock") == ("stock", ["OSC 52"])
    assert not any("lean output" in tip for tip in doctor.advice(Settings(), remote))
    monkeypatch.setattr("tui.terminal.lean.fits", lambda: False)
    assert facts(remote) == ("stock", ["OSC 52"])
    assert any("lean output" in tip for tip in doctor.advice(Settings(), remote))
    assert not any("lean output" in tip for tip in doctor.advice(Settings(), {"TERM": "xterm"}))


def test_saved_caches_are_shown_and_removed(tmp_path: Path) -> None:
    folder = tmp_path / "outrider" / "states"
    folder.mkdir(parents=True)
    names = (f"{'0' * 16}-{'1' * 16}.state", f".{'0' * 16}.part", "mine.txt")
    for name in names:
        (folder / name).write_bytes(b"x" * 50_000)
    told = run(tmp_path, XDG_CACHE_HOME=str(tmp_path), XDG_DATA_HOME=str(tmp_path)).stdout
    assert f"chats {tmp_path / 'outrider' / 'chats.db'} caches" in " ".join(told.split())
    removes = "`outrider doctor --forget` removes them, and the chats stay"
    assert f"caches {folder} (2 saved caches, 100 kB; {removes})" in " ".join(told.split())
    told = run(tmp_path, "--forget", XDG_CACHE_HOME=str(tmp_path)).stdout
    assert "(no cache of a chat is saved)" in told
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]
