"""The wheel: it holds the files that run and no others, and the demo pair answers from it alone."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.support.paths import ROOT

DATA = {
    "tui/app.tcss",
    "tui/commands/bench/prompts.toml",
    "tui/engine/library/catalogue.toml",
    "tui/engine/starter/main.gguf",
    "tui/engine/starter/draft.gguf",
    "tui/engine/starter/head.gguf",
    "tui/data/config.example.toml",
    *(f"tui/data/themes/{theme.name}" for theme in (ROOT / "themes").glob("*.toml")),
}
"""All files of the package that are no Python."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel. It borrows the dependencies of this one, but not the checkout."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(folder)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    done = subprocess.run(
        [*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # Python reads no .pth files in a folder that a .pth file names: the editable install stays outside.
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def run(*command: str | Path, folder: Path) -> str:
    """The output of a command that knows nothing of the checkout."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        command, cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_the_files_that_run_and_no_others(wheel: Path) -> None:
    with ZipFile(wheel) as packed:
        names = set(packed.namelist())
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tui").rglob("*.py")}
    packaged = {name for name in names if name.startswith("tui/")}
    assert packaged == modules | DATA
    others = {name.partition("/")[2] for name in names - packaged}
    assert others == {"scripts/outrider", "METADATA", "WHEEL", "RECORD", "licenses/LICENSE"}


def test_the_demo_pair_answers_from_the_wheel_alone(installed: Path, tmp_path: Path) -> None:
    where = run(installed / "bin" / "python", "-c", "import tui; print(tui.__file__)", folder=tmp_path)
    assert Path(where).is_relative_to(installed)
    for draft in ("starter", "head"):
        question = ("--main", "starter", "--draft", draft, "--temperature", "0", "How do I stop the answer?")
        answer = run(installed / "bin" / "outrider", "ask", *question, folder=tmp_path)
        assert "**Esc**" in answer
