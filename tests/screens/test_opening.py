"""What is said at a start: models that lie here, the pair that came back, a chat that had another model.

And one truth about what the next start loads: in the chat, in F2, for `doctor` and for `ask`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.chat import ask, chat, outrider, places_in, text, told, until
from tests.support.models import Toy, write_model
from tui.app import Outrider
from tui.choices import LOOKUP
from tui.commands.setup import set_up
from tui.config import Settings
from tui.config.last import PairSettings, keep_last
from tui.screens.settings import SettingsScreen

SIZE = (120, 40)


def toys(folder: Path) -> Path:
    """Two models that load, and one that does not."""
    folder.mkdir(parents=True)
    write_model(folder / "main.gguf", Toy(layers=6, width=128, name="Toy main"))
    write_model(folder / "draft.gguf", Toy(layers=1, width=32, name="Toy draft"))
    (folder / "broken.gguf").write_bytes(b"GGUF")
    return folder


def demo(folder: Path) -> Outrider:
    """The app of somebody who has chosen nothing yet."""
    return outrider(folder, main="starter", draft="auto")


def again(folder: Path, main: str) -> Outrider:
    """The app that goes on with the latest chat."""
    app = outrider(folder, main=main)
    app._go_on = ""
    return app


# Models that lie here


async def test_models_on_the_disk_are_counted_beside_the_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    toys(tmp_path / ".lmstudio" / "models" / "maker" / "toys")
    app = demo(tmp_path)
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: "2 models found here: Ctrl+L chooses" in text(app))
        assert "Ctrl+G fetches" not in text(app)


async def test_without_models_it_says_how_to_get_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    app = demo(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: chat(app).panel._welcome.found == 0)
        assert "Ctrl+L, then Ctrl+G fetches models that fit this machine" in text(app)
        assert "found here" not in text(app)


@pytest.mark.parametrize("columns", [60, 80, 92, 120])
async def test_no_line_of_the_welcome_begins_left_of_its_column(tmp_path: Path, columns: int) -> None:
    app = outrider(tmp_path)
    async with app.run_test(size=(columns, 40)) as pilot:
        panel = chat(app).panel
        panel._welcome.demo = True
        await until(pilot, lambda: "What do the colors mean?" in text(app))
        lines = text(app).splitlines()
        first = next(number for number, line in enumerate(lines) if "Outrider" in line)
        left = lines[first].index("Outrider")
        for line in lines[first : first + 20]:
            assert not line[:left].strip()
            assert line[left : left + 9].strip().split(" ")[0] in (
                *(
                    "",
                    "Outrider",
                    "A",
                    "Enter",
                    "Esc",
                    "Ctrl+T",
                    "Ctrl+G",
                    "Ctrl+L",
                    "/",
                    "F1",
                    "Demo",
                    "More",
                ),
            )


# The pair that came back


async def test_a_pair_that_came_back_is_named_until_the_first_prompt(tmp_path: Path) -> None:
    app = outrider(tmp_path, main="scripted:sample?load=1")
    app._recalled = True
    async with app.run_test(size=(200, 40)) as pilot:
        await until(pilot, lambda: "Loading the pair you chose last. Ctrl+L changes it." in text(app))
        named = "Loaded the pair you chose last: scripted:sample + scripted:draft. Ctrl+L changes it."
        await until(pilot, lambda: named in text(app))
        await ask(pilot, "hello")
        await until(pilot, lambda: "pair you chose last" not in text(app))
        chat(app).session.opening.show(chat(app).session.connection.loaded)
        await pilot.pause()
        assert "pair you chose last" not in text(app)


async def test_a_pair_that_the_config_names_is_not_said_to_have_come_back(tmp_path: Path) -> None:
    app = outrider(tmp_path)
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: chat(app).phase == "ready")
        assert "chose last" not in text(app)


# A chat that had another model


async def test_a_chat_that_goes_on_with_another_model_says_so(tmp_path: Path) -> None:
    app = outrider(tmp_path, main="scripted:echo")
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: chat(app).phase == "ready")
        await ask(pilot, "hello")
        await until(
            pilot, lambda: chat(app).phase == "ready" and len(chat(app).panel.transcript.messages) == 2
        )
    same = again(tmp_path, "scripted:echo")
    async with same.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: chat(same).phase == "ready" and "hello" in text(same))
        assert "gave the last answer" not in text(same)
    other = again(tmp_path, "scripted:sample")
    async with other.run_test(size=SIZE) as pilot:
        said = "scripted:echo gave the last answer of this chat; scripted:sample goes on."
        await until(pilot, lambda: said in text(other))
        await ask(pilot, "and now?")
        await until(pilot, lambda: said not in text(other))


# One truth


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user whose last choice was a toy without a draft model; its path."""
    for kind in ("CONFIG", "STATE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / kind.lower()))
    main = toys(tmp_path / "toys") / "main.gguf"
    choice = PairSettings(str(main), LOOKUP, context_length=512).applied(Settings())
    keep_last(choice, tmp_path / "state" / "outrider" / "pair.json")
    return main


def arguments(**given: str) -> argparse.Namespace:
    return argparse.Namespace(**{"host": None, "main": None, **given})


def run(*words: str) -> str:
    command = [sys.executable, "-m", "tui", *words]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=True, env=os.environ
    ).stdout


def test_every_command_goes_by_the_pair_that_was_chosen_last(kept: Path) -> None:
    setup = set_up(arguments())
    assert setup.recalled
    assert (setup.settings.models.main, setup.settings.models.context_length) == (str(kept), 512)


def test_a_model_on_the_command_line_leaves_nothing_of_the_last_choice(kept: Path) -> None:
    setup = set_up(arguments(main="other.gguf"))
    assert not setup.recalled
    assert setup.settings == Settings()


def test_ask_answers_with_the_pair_that_was_chosen_last(kept: Path) -> None:
    answer = json.loads(run("ask", "--json", "--max-tokens", "2", "hello"))
    assert (answer["main"], answer["draft"]) == ("Toy main F32", None)


def test_doctor_names_the_pair_and_who_chose_it(kept: Path) -> None:
    found = json.loads(run("doctor", "--json"))["models"]
    found.pop("rounding", None)  # known where the model was loaded before
    assert found == {
        "main": str(kept),
        "draft": "lookup",
        "from": "the pair you chose last with ctrl+l",
    }


async def next_start(folder: Path, words: str) -> str:
    """What F2 says of the main model, in an app that has `words` as its config."""
    main = toys(folder / "toys") / "main.gguf"
    places_in(folder).config.write_text(words)
    app = outrider(folder)
    keep_last(PairSettings(str(main), LOOKUP).applied(Settings()), app._places.last)
    async with app.run_test(size=(200, 40)) as pilot:
        await until(pilot, lambda: chat(app).phase == "ready")
        await pilot.press("f2")
        await until(pilot, lambda: isinstance(app.screen, SettingsScreen))
        await until(pilot, lambda: "[models] main" in text(app))
        return text(app)


async def test_the_settings_say_what_the_next_start_loads(tmp_path: Path) -> None:
    said = await next_start(tmp_path, "")
    assert "The next start loads the pair you chose last with ctrl+l." in said
    assert "next start  " in said
    beside = "".join(line.split("│")[-2].strip() for line in said.splitlines() if line.count("│") > 2)
    assert str(tmp_path) in beside, "a long path goes over several lines"


async def test_the_settings_say_that_the_config_goes_first(tmp_path: Path) -> None:
    said = await next_start(tmp_path, '[models]\nmain = "named.gguf"\n')
    assert "next start  named.gguf" in said
    assert "chose last" not in said


async def test_a_choice_that_the_config_overrules_says_so(tmp_path: Path) -> None:
    main = str(toys(tmp_path / "toys") / "main.gguf")
    app = outrider(tmp_path)
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: chat(app).phase == "ready")
        await chat(app).others.chosen(PairSettings(main, LOOKUP))
        assert "config.toml" not in told(app)
        places_in(tmp_path).config.write_text('[models]\nmain = "named.gguf"\n')
        await chat(app).others.chosen(PairSettings(main, LOOKUP))
        assert "the next start loads what config.toml names" in told(app)


def test_each_machine_has_a_last_choice_of_its_own(tmp_path: Path) -> None:
    here = places_in(tmp_path)
    there = here.of_host("me@gpu")
    assert there.last != here.last
    assert there.of_host("") == here
