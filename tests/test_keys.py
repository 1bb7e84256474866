"""Keys as the config wants them: every action can have another, and a wrong wish is named."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from textual.binding import Binding, BindingsMap

from tests.support.chat import answered, chat, outrider, text, told, until
from tools import keys_page
from tui.app import Outrider
from tui.config import Keys, Settings
from tui.keys import SAME, VI, groups, keymap
from tui.screens.help import HelpScreen
from tui.screens.history import HistoryScreen
from tui.widgets.keyline import readable_key

FAST = "scripted:sample?rate=2000&tokens=20"


def actions() -> list[Binding]:
    return [each for _, bindings in groups(Outrider.BINDINGS) for each in bindings if each.id]


def test_every_action_has_a_name_of_its_own_a_key_and_words() -> None:
    names = Counter(each.id for each in actions())
    assert max(names.values()) == 1
    assert all(each.key and (each.tooltip or each.description) for each in actions())


@pytest.mark.parametrize("action", actions(), ids=lambda each: each.id)
def test_every_action_can_have_another_key(action: Binding) -> None:
    found, problems = keymap(Keys(bound=((action.id or "", "f10,ctrl+f11"),)), Outrider.BINDINGS)
    assert problems == [] and found[action.id or ""] == "f10,ctrl+f11"


@pytest.mark.parametrize("group", groups(Outrider.BINDINGS), ids=lambda each: each[0])
def test_textual_binds_every_action_of_a_screen_as_the_config_says(group: tuple[str, list[Binding]]) -> None:
    named = [each for each in group[1] if each.id]
    wanted = {each.id or "": f"ctrl+alt+{chr(97 + number)}" for number, each in enumerate(named)}
    found, problems = keymap(Keys(bound=tuple(wanted.items())), Outrider.BINDINGS)
    bindings = BindingsMap(named)
    bindings.apply_keymap(found)
    assert problems == []
    assert {(each.id, key) for key, each in bindings} == set(wanted.items())


@pytest.mark.parametrize(
    ("bound", "words"),
    [
        (("chat.rase", "f10"), "keys.chat.rase: no action has this name; did you mean chat.race?"),
        (("chat.race", "ctrl+nothing"), "keys.chat.race: 'ctrl+nothing' is not a key"),
        (("chat.race", "ctrl+n"), "keys.chat.race: chat.new has that key already"),
        (("chat.race", "enter"), "keys.chat.race: chat.send has that key already"),
        (("history.pin", "ctrl+q"), "keys.history.pin: app.quit has that key already"),
    ],
)
def test_a_wrong_wish_is_named_and_the_action_keeps_its_key(bound: tuple[str, str], words: str) -> None:
    found, problems = keymap(Keys(bound=(bound,)), Outrider.BINDINGS)
    assert found == {}
    assert len(problems) == 1 and problems[0].startswith(words)


def test_keys_can_be_swapped_by_giving_the_first_another() -> None:
    bound = (("chat.new", "f10"), ("chat.race", "ctrl+n"), ("chat.history", "f9"))
    found, problems = keymap(Keys(bound=bound), Outrider.BINDINGS)
    assert found["chat.race"] == "ctrl+n" and found["read.new"] == "f10"
    assert [each.partition(":")[0] for each in problems] == ["keys.chat.history"], "f9 is the themes'"


def test_the_vi_set_names_actions_that_are_there_and_has_no_key_twice() -> None:
    found, problems = keymap(Keys(set="vi"), Outrider.BINDINGS)
    assert problems == [] and found.keys() == VI.keys()
    everything = {each.id for each in actions()} | {
        "lists.up",
        "lists.down",
        "lists.pageup",
        "lists.pagedown",
    }
    assert VI.keys() - everything <= SAME.keys()
    for name, keys in VI.items():
        _, clashes = keymap(Keys(set="vi", bound=((name, keys),)), Outrider.BINDINGS)
        assert clashes == [], name


async def test_the_keys_of_the_config_hold_in_the_app_and_stand_in_the_help(tmp_path: Path) -> None:
    app = outrider(tmp_path, main=FAST)
    app._settings = Settings(
        models=app._settings.models,
        keys=Keys(set="vi", bound=(("chat.history", "f10"), ("chat.new", "ctrl+o"), ("chat.rase", "f9"))),
    )
    async with app.run_test(size=(120, 160)) as pilot:
        await answered(pilot, "one")
        assert "did you mean chat.race?" in told(app)
        await pilot.press("f10")
        await until(pilot, lambda: isinstance(app.screen, HistoryScreen))
        await pilot.press("escape")
        await pilot.press("tab", "g")
        await pilot.pause()
        assert chat(app).panel.transcript.cursor == 0
        await pilot.press("G")
        assert chat(app).panel.transcript.cursor == 1
        await pilot.press("f10")
        await until(pilot, lambda: isinstance(app.screen, HistoryScreen))
        await pilot.press("escape", "i")
        await pilot.pause()
        assert chat(app).panel.composer.has_focus
        await pilot.press("f1")
        await until(pilot, lambda: isinstance(app.screen, HelpScreen))
        await pilot.pause()
        shown = text(app)
        line = next(each for each in shown.splitlines() if "Earlier chats" in each)
        assert readable_key("f10") in line
        await pilot.press("n")
        await pilot.pause()
        assert "chat.history" in text(app)
        await pilot.press("escape", "ctrl+o")
        await until(pilot, lambda: not chat(app).panel.transcript.messages)


async def test_every_action_of_the_chat_is_bound_as_the_config_says_listed_and_in_the_help(
    tmp_path: Path,
) -> None:
    chats = dict(groups(Outrider.BINDINGS))
    wanted = [each for each in [*chats["Chat"], *chats["Outrider"]] if each.id]
    letters = [letter for letter in "abcdefghijklmnopqrstuvwxyz" if letter not in "hijm"]
    keys = [f"{modifier}+{letter}" for modifier in ("alt", "ctrl+alt") for letter in letters]
    bound = tuple((each.id or "", key) for each, key in zip(wanted, keys, strict=False))
    app = outrider(tmp_path, main=FAST)
    app._settings = Settings(models=app._settings.models, keys=Keys(bound=bound))
    async with app.run_test(size=(120, 200)) as pilot:
        await answered(pilot, "one")
        now = {each.binding.id: key for key, each in app.screen.active_bindings.items()}
        palette = {each.title for each in app.get_system_commands(app.screen)}
        for action, (name, key) in zip(wanted, bound, strict=True):
            if name in ("chat.stop", "chat.cancel_edit"):  # there is nothing to stop, and nothing to cancel
                continue
            assert now[name] == key
            if name != "app.interrupt":  # whose meaning goes by what is selected
                assert action.description in palette
        await pilot.press(dict(bound)["app.help"])
        await until(pilot, lambda: isinstance(app.screen, HelpScreen))
        await pilot.pause()
        shown = text(app)
        for action, (_, key) in zip(wanted, bound, strict=True):
            line = next(each for each in shown.splitlines() if (action.tooltip or action.description) in each)
            assert readable_key(key) in line


async def test_the_actions_of_every_other_screen_are_bound_as_the_config_says_and_in_its_palette(
    tmp_path: Path,
) -> None:
    ways = {
        "Settings": "f2", "Themes": "f9", "Chats": "ctrl+o", "Models": "ctrl+l", "Downloads": "",
        "Inside an answer": "ctrl+g", "Race": "ctrl+r",
    }  # fmt: skip
    found = dict(groups(Outrider.BINDINGS))
    bound = {
        name: {each.id or "": f"ctrl+alt+{chr(97 + number)}" for number, each in enumerate(found[name])}
        for name in ways
    }
    app = outrider(tmp_path, main=FAST)
    everything = tuple(pair for each in bound.values() for pair in each.items())
    app._settings = Settings(models=app._settings.models, keys=Keys(bound=everything))
    async with app.run_test(size=(120, 40)) as pilot:
        await answered(pilot, "one")
        for name, way in ways.items():
            if way:
                await pilot.press(way)
            else:
                app.action_hub()
            await until(pilot, lambda: app.screen is not app._chat)
            now = {each.binding.id: key for key, each in app.screen.active_bindings.items()}
            palette = {each.title for each in app.get_system_commands(app.screen)}
            for action in found[name]:
                assert now[action.id] == bound[name][action.id or ""], (name, action.id)
                assert action.description in palette, (name, action.id)
            while app.screen is not app._chat:
                app.pop_screen()
            await pilot.pause()


def test_docs_keys_is_what_the_bindings_say() -> None:
    """`python -m tools.keys_page` writes it."""
    assert keys_page.PATH.read_text(encoding="utf-8") == keys_page.page()


@pytest.mark.parametrize(
    ("key", "written"),
    [
        ("ctrl+j", "Ctrl+J"),
        ("g", "g"),
        ("G", "G"),
        ("full_stop", "."),
        ("ctrl+underscore", "Ctrl+_"),
        ("ctrl+slash", "Ctrl+/"),
        ("escape", "Esc"),
        ("shift+f5", "Shift+F5"),
    ],
)
def test_keys_are_written_as_people_write_them(key: str, written: str) -> None:
    assert readable_key(key) == written


def test_in_the_help_the_keys_of_an_action_never_touch_its_words() -> None:
    long = "ctrl+alt+shift+f10,ctrl+alt+shift+f11"
    for changed in ({}, {"chat.new": long}):
        lines = str(HelpScreen(groups(Outrider.BINDINGS), changed)._page()).splitlines()
        for _, bindings in groups(Outrider.BINDINGS):
            for each in bindings:
                keys = ", ".join(readable_key(key) for key in changed.get(each.id or "", each.key).split(","))
                words = each.tooltip or each.description
                assert not words or any(
                    line.startswith(f"{keys}  ") and line.endswith(words) for line in lines
                )
