"""`outrider models`: the real command beside a real engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.support.models import Toy, write_model
from tui.protocol import DraftVerdict
from tui.quantities import UNKNOWN, speed_up


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A user with two models in LM Studio's folder, one that is broken, and one in a folder of their own."""
    folder = tmp_path / ".lmstudio" / "models" / "maker" / "repo"
    folder.mkdir(parents=True)
    write_model(folder / "large.gguf", Toy(layers=6, width=128, name="Large one"))
    write_model(folder / "small.gguf", Toy(layers=1, width=32, name="Small one"))
    (folder / "broken.gguf").write_bytes(b"GGUF")
    mine = tmp_path / "mine"
    mine.mkdir()
    write_model(mine / "other.gguf", Toy(layers=1, width=32, name="\x1b[2JOther\n", swapped=(300, 301)))
    config = tmp_path / "config" / "outrider"
    config.mkdir(parents=True)
    (config / "config.toml").write_text(f'[models]\nfolders = ["{mine}"]\n')
    return tmp_path


def models(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {"HOME": str(home), "XDG_CONFIG_HOME": str(home / "config")}
    environ |= {"XDG_CACHE_HOME": str(home / "cache"), "XDG_STATE_HOME": str(home / "state")}
    command = [sys.executable, "-m", "tui", "models", *words]
    return subprocess.run(command, capture_output=True, text=True, env=environ, check=False, timeout=60)


def test_every_model_is_a_line(home: Path) -> None:
    done = models(home)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0].startswith("model")
    assert sum("other" in line.casefold() for line in lines) == 1
    assert any(line.startswith("Small one") and line.endswith("LM Studio") for line in lines)
    assert "1 left out (--json gives the reasons)" in lines
    assert "\x1b" not in done.stdout


def test_json_says_all(home: Path) -> None:
    found = json.loads(models(home, "--json").stdout)
    assert {model["source"] for model in found["models"]} == {"built in", "LM Studio", "folder"}
    assert [Path(each["path"]).name for each in found["skipped"]] == ["broken.gguf"]
    assert found["skipped"][0]["reason"]


def test_drafts_are_judged_for_a_name(home: Path) -> None:
    lines = models(home, "large").stdout.splitlines()
    assert lines[1].startswith("Small one")
    assert "recommended" in lines[1]
    assert any("differs at id 300" in line for line in lines)
    found = json.loads(models(home, "large", "--json").stdout)["drafts"]
    assert found[0]["judgement"] == "recommended"
    assert {"lookup", "none"} < {each["draft"] for each in found}


def test_a_speed_up_says_whether_it_was_measured() -> None:
    verdict = DraftVerdict("/d.gguf", "D", "recommended", "same tokenizer", 1.62)
    assert speed_up(verdict) == "predicted 1.6×"
    assert speed_up(replace(verdict, answers=3)) == "measured 1.6× over 3 answers"
    assert speed_up(replace(verdict, speed_up=None)) == UNKNOWN


def test_an_unknown_name_ends_in_a_line(home: Path) -> None:
    done = models(home, "mixtral")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("outrider: No model here is called 'mixtral'.")
    assert len(done.stderr.splitlines()) == 1
    assert models(home, "--drafts").returncode == 2


def test_a_name_answers_in_ask(home: Path) -> None:
    """With the draft that the library recommends."""
    environ = os.environ | {"HOME": str(home), "XDG_CONFIG_HOME": str(home / "config")}
    words = ("ask", "--main", "large", "--max-tokens", "3", "--json", "hi")
    done = subprocess.run(
        [sys.executable, "-m", "tui", *words], capture_output=True, text=True, env=environ, check=True
    )
    answer = json.loads(done.stdout)
    assert (answer["main"], answer["draft"]) == ("Large one F32", "Small one F32")


def test_words_that_several_models_have_list_these(home: Path) -> None:
    done = models(home, "one")
    assert done.returncode == 1
    names = [line.split("  ")[0] for line in done.stdout.splitlines()[1:]]
    assert [name.rpartition(" one")[0] for name in names] == ["Large", "Small"]
    assert "Give more of the name." in done.stderr and done.stderr.count("\n") == 1
    assert models(home, "small one").returncode == 0
    none = models(home, "nothing")
    assert (none.returncode, none.stdout) == (1, "")
    assert models(home, "one", "--json").stdout == "", "a script gets one object or none"
