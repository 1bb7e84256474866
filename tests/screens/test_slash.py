"""Commands that are typed: settings of one chat, presets, and every action by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.chat import answered, ask, asked_of, chat, outrider, places_in, stored, text, told, until
from tests.support.rest import at_rest
from tui.chat import slash
from tui.chat.overrides import ChatOverrides
from tui.chat.slash import SlashCommand
from tui.config import Generation, Preset, Settings, read_config
from tui.screens.list_screen import Line
from tui.screens.models import ModelsScreen
from tui.store.changes import SetOverrides

FAST = "scripted:sample?rate=2000&tokens=20"
CODE = Preset("code", (("temperature", 0.1), ("system_prompt", "Only code.")))


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("/race", ("race", "")),
        ("/seed 7 ", ("seed", "7")),
        ("/system_prompt Be brief.\nAnd kind.", ("system_prompt", "Be brief.\nAnd kind.")),
        (" /race", None),
        ("//comment", None),
        ("/home/x/log.txt what is it?", None),
        ("/usr/bin: what lies there", None),
        ("/", None),
        ("/a\nb", None),
        ("what is /race?", None),
    ],
)
def test_what_a_command_is(text: str, parsed: object) -> None:
    assert slash.parse(text) == parsed


def test_suggestions_begin_with_what_is_typed_and_go_on_with_its_values() -> None:
    commands = [
        SlashCommand("top_k", "about k", print, "value", lambda: (("40", "now"), ("7", ""))),
        SlashCommand("race", "about races", print),
        SlashCommand("stop", "", print),
    ]
    assert [each.text for each in slash.suggestions("/", commands)] == ["/top_k ", "/race", "/stop"]
    assert [each.text for each in slash.suggestions("/to", commands)] == ["/top_k ", "/stop"]
    assert [each.sends for each in slash.suggestions("/to", commands)] == [False, True]
    values = slash.suggestions("/top_k 4", commands)
    assert [(each.text, each.replaces) for each in values] == [("40", 1)]
    assert slash.suggestions("/nothing 4", commands) == []
    assert slash.suggestions("text /to", commands) == []


def test_adjustments_survive_the_file_and_damage_to_it() -> None:
    made = ChatOverrides("code").with_value("stop", ("a", "b")).with_value("seed", 7).with_value("seed", None)
    made = made.with_value("system_prompt", 'Say "hi".\nNow.').with_value("lookup", False)
    assert ChatOverrides.read(made.written()) == made
    assert ChatOverrides().written() == "" and ChatOverrides.read("") == ChatOverrides()
    for damaged in ("{", "[]", "3", '{"values": 3}', '{"preset": 3, "values": {"seed": "x", "gone": 1}}'):
        assert ChatOverrides.read(damaged) == ChatOverrides()


def test_a_chat_stands_over_its_preset_and_that_over_the_settings() -> None:
    settings = Settings(generation=Generation(temperature=0.5, top_k=9, preset="code"), presets=(CODE,))
    assert ChatOverrides().applied(settings).temperature == 0.1
    assert ChatOverrides("").applied(settings).temperature == 0.5
    assert ChatOverrides("gone").applied(settings).temperature == 0.5
    own = ChatOverrides().with_value("temperature", 0.9)
    assert (own.applied(settings).temperature, own.applied(settings).top_k) == (0.9, 9)
    assert own.words(settings) == "preset code · temperature 0.9"


async def command(pilot: Any, words: str) -> None:
    await ask(pilot, words)
    await pilot.pause()


async def test_settings_of_a_chat_hold_from_the_next_answer_on_and_come_back_with_it(tmp_path: Path) -> None:
    places_in(tmp_path).config.write_text("# mine\n")
    app = outrider(tmp_path, main=FAST)
    asked = asked_of(app)
    async with app.run_test(size=(120, 40)) as pilot:
        screen = chat(app)
        await command(pilot, "/temperature 0.2")
        await command(pilot, "/system_prompt Be brief.")
        await command(pilot, "/temperature 99")
        assert "temperature must be a number from 0 to 5" in told(app)
        assert "temperature 0.2 · system_prompt Be brief." in text(app)
        await answered(pilot, "one")
        assert asked[-1].sampling.temperature == 0.2
        assert asked[-1].messages[0].content == "Be brief."
        await command(pilot, "/save-preset brief")
        assert "preset brief" in text(app)
        await pilot.press("ctrl+n")
        await until(pilot, lambda: not screen.panel.transcript.messages)
        assert screen.session.generation.temperature == 0.8
        await answered(pilot, "two")
        assert asked[-1].messages[0].content == "two"
        await command(pilot, "/preset gone")
        assert "There is no preset gone: brief" in told(app)
        await command(pilot, "/preset brief")
        await command(pilot, "/top_k 5")
        await answered(pilot, "three")
        assert (asked[-1].sampling.temperature, asked[-1].sampling.top_k) == (0.2, 5)
        await command(pilot, "/reset")
        assert screen.session.overrides == ChatOverrides()
        await command(pilot, "/top_k")
        assert "top_k is 40, by the settings." in told(app)
    first = next(each for each in stored(tmp_path) if each.turns[0].text == "one")
    assert ChatOverrides.read(first.settings) == ChatOverrides("brief")
    config = places_in(tmp_path).config
    assert config.read_text().startswith("# mine\n")
    assert read_config(config)[0].presets[0].name == "brief"
    app = outrider(tmp_path, main=FAST)
    app._settings = read_config(config)[0]
    async with app.run_test(size=(120, 40)) as pilot:
        screen = chat(app)
        screen.others.open_chat(first.key)
        await until(pilot, lambda: screen.session.overrides == ChatOverrides("brief"))
        screen.session.keeper.add(SetOverrides(first.key, '{"preset": "brief", "tomorrow": 1}'))
        screen.others.open_chat(first.key)
        await at_rest(pilot)
        assert screen.session.generation.system_prompt == "Be brief."
    first = next(each for each in stored(tmp_path) if each.key == first.key)
    assert "tomorrow" in first.settings, "looking at a chat changes nothing of it"


async def test_keys_complete_and_send_a_command_and_an_unknown_one_is_not_lost(tmp_path: Path) -> None:
    app = outrider(tmp_path, main=FAST)
    async with app.run_test(size=(120, 40)) as pilot:
        screen = chat(app)
        composer, suggestions = screen.panel.composer, screen.panel.suggestions
        await until(pilot, lambda: screen.phase == "ready")
        await pilot.press(*"/drafting")
        await until(pilot, lambda: suggestions.is_open)
        await pilot.press("tab")
        assert composer.text == "/drafting "
        await until(pilot, lambda: suggestions.is_open)
        await pilot.press("down", "enter")
        await until(pilot, lambda: "drafting never" in text(app))
        assert composer.text == ""
        await pilot.press(*"/ne")
        await until(pilot, lambda: suggestions.is_open)
        await pilot.press("escape")
        assert not suggestions.is_open and composer.text == "/ne"
        await pilot.press("enter")
        await until(pilot, lambda: "There is no command /ne. Did you mean /new? Tab takes it." in told(app))
        assert composer.text == "/ne"
        await pilot.press("tab")
        assert composer.text == "/new"
        composer.clear()
        await command(pilot, " /ne")
        await until(pilot, lambda: len(screen.panel.transcript.messages) == 2)
        assert screen.panel.transcript.writer.text_of(0).strip() == "/ne"
        await until(pilot, lambda: screen.phase == "ready")
        await command(pilot, "/title About nothing")
        await command(pilot, "/history")
        await until(pilot, lambda: "About nothing" in text(app))
        await pilot.press("escape")
        await command(pilot, "/sidebar")
        await until(pilot, lambda: "Drafts accepted" not in text(app))


def commands() -> list[SlashCommand]:
    names = ("new", "quit", "again", "models", "summarize", "help", "settings", "export", "history")
    return [
        *(SlashCommand(name, "", print) for name in names),
        SlashCommand("system_prompt", "", print, "value", lambda: (("Be brief.", "now"),)),
        SlashCommand("temperature", "", print, "value"),
    ]


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("system", "system_prompt"), ("System-Prompt", "system_prompt"), ("temp", "temperature"),
        ("clear", "new"), ("exit", "quit"), ("retry", "again"), ("regen", "again"), ("model", "models"),
        ("NEW", "new"), ("compact", "summarize"),
    ],
)  # fmt: skip
def test_commands_of_other_programs_and_other_spellings_are_known(typed: str, name: str) -> None:
    found = slash.find(typed, commands())
    assert found is not None and found.name == name
    assert f"/{name}" in [each.text.strip() for each in slash.suggestions(f"/{typed}", commands())]


async def test_every_alias_is_of_a_command_that_is_there_and_is_none_itself(tmp_path: Path) -> None:
    app = outrider(tmp_path, main=FAST)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: chat(app).phase == "ready")
        names = {each.name for each in chat(app).slash.table()}
    assert set(slash.ALIASES.values()) <= names
    assert not names & slash.ALIASES.keys()


@pytest.mark.parametrize(
    ("typed", "name"),
    [("sytem", "system_prompt"), ("quti", "quit"), ("agian", "again"), ("temprature", "temperature"),
     ("claer", "new"), ("setings", "settings")],
)  # fmt: skip
def test_a_typing_error_is_near_one_command(typed: str, name: str) -> None:
    near = slash.nearest(typed, commands())
    assert near is not None and near.name == name
    assert slash.find(typed, commands()) is None


def test_what_is_like_no_command_is_near_none() -> None:
    assert slash.nearest("xyzzy", commands()) is None
    assert slash.nearest("", commands()) is None


def test_an_alias_offers_the_values_of_its_command() -> None:
    found = slash.suggestions("/system Be", commands())
    assert [each.text for each in found] == ["Be brief."]


async def test_commands_that_people_bring_along_do_what_they_did_there(tmp_path: Path) -> None:
    app = outrider(tmp_path, main=FAST)
    asked = asked_of(app)
    async with app.run_test(size=(120, 40)) as pilot:
        screen = chat(app)
        await until(pilot, lambda: screen.phase == "ready")
        await command(pilot, "/regen")
        await until(pilot, lambda: "Ask something first" in told(app))
        await command(pilot, "/system Be brief.")
        await answered(pilot, "one")
        assert asked[-1].messages[0].content == "Be brief."
        await command(pilot, "/retry")
        await until(pilot, lambda: len(asked) == 2 and screen.phase == "ready")
        assert "‹ 2 of 2 ›" in text(app)
        await command(pilot, "/model demo")
        await until(pilot, lambda: isinstance(app.screen, ModelsScreen))
        assert app.screen.query_one("#line", Line).value == "demo"
        await pilot.press("escape", "escape")
        await until(pilot, lambda: app.screen is screen)
        await command(pilot, "/clear")
        await until(pilot, lambda: not screen.panel.transcript.messages)
        await command(pilot, "/exit")
        await until(pilot, lambda: app._exit)


async def test_a_typing_error_in_front_of_a_value_keeps_the_value(tmp_path: Path) -> None:
    app = outrider(tmp_path, main=FAST)
    async with app.run_test(size=(120, 40)) as pilot:
        screen = chat(app)
        await until(pilot, lambda: screen.phase == "ready")
        await command(pilot, "/temprature 0.3")
        await until(pilot, lambda: "Did you mean /temperature?" in told(app))
        assert screen.panel.composer.text == "/temprature 0.3"
        await pilot.press("tab", "enter")
        await until(pilot, lambda: screen.session.generation.temperature == 0.3)


async def test_every_action_of_the_chat_is_a_command_and_in_the_palette(tmp_path: Path) -> None:
    app = outrider(tmp_path, main=FAST)
    async with app.run_test(size=(120, 40)) as pilot:
        await answered(pilot, "one")
        screen = chat(app)
        names = {each.name for each in screen.slash.table()}
        wanted = {"race", "inspect", "models", "history", "new", "read", "editor", "leave-out", "drafting"}
        wanted |= {"highlight", "rejected", "thoughts", "sidebar", "settings", "themes", "help", "quit"}
        assert wanted | {"again", "same", "copy", "code", "continue", "delete", "undo", "edit"} <= names
        titles = {each.title for each in app.get_system_commands(screen)}
        actions = {
            each.binding.description
            for each in screen.active_bindings.values()
            if each.enabled and each.binding.id and each.binding.id.startswith(("chat.", "app."))
        }
        typing = {"Send", "Line", "Earlier prompt (when empty)", "Later prompt", "Complete", "Close"}
        typing |= {"Undo typing", "Copy or stop"}
        assert actions - typing <= titles
