"""The screen of settings: what is not as it comes, changed by key in a file with comments; themes, live."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from textual.widgets import Input

from tests.support.chat import chat, outrider, places_in, text, told, until
from tui.config import Generation, Preset, Settings, read_config
from tui.screens.settings import SettingsScreen
from tui.screens.theme_list import ThemesScreen

COMMENTED = "# my settings\n[generation]\nseed = 4  # a lucky one\n"


async def opened(pilot: Any, words: str = "") -> SettingsScreen:
    await pilot.press("f2")
    await until(pilot, lambda: isinstance(pilot.app.screen, SettingsScreen))
    screen = pilot.app.screen
    await filtered(pilot, words)
    assert isinstance(screen, SettingsScreen)
    return screen


async def filtered(pilot: Any, words: str) -> None:
    pilot.app.screen.line.value = words
    await pilot.pause()


async def test_a_setting_is_changed_in_the_file_and_at_once_and_back(tmp_path: Path) -> None:
    config = places_in(tmp_path).config
    config.write_text(COMMENTED)
    app = outrider(tmp_path, generation=Generation(seed=4))
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(pilot, "temperature")
        assert "0 always takes the most probable token" in text(app)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.focused, Input) and app.focused.value == "0.8")
        await pilot.press("end", "backspace", "3", "enter")
        await until(pilot, lambda: "generation.temperature ●" in text(app))
        assert chat_settings(app).generation.temperature == 0.3
        assert config.read_text() == COMMENTED + "temperature = 0.3\n"
        await pilot.press("enter")
        await pilot.pause()
        await pilot.press("home", "9", "enter")
        await until(pilot, lambda: "must be a number from 0 to 5" in told(app))
        assert config.read_text() == COMMENTED + "temperature = 0.3\n"
        await pilot.press("ctrl+d")
        await until(pilot, lambda: "generation.temperature ●" not in text(app))
        assert config.read_text() == COMMENTED
        await filtered(pilot, "highlight")
        await pilot.press("enter")
        await until(pilot, lambda: chat_settings(app).appearance.highlight == "full")
        await filtered(pilot, "reduced")
        await pilot.press("enter")
        await pilot.pause()
        assert app.animation_level == "none"
        await pilot.press("escape", "escape")
        await until(pilot, lambda: not isinstance(app.screen, SettingsScreen))
        assert chat(app).panel.transcript.highlight == "full"
        assert not chat(app).panel.composer.cursor_blink
    assert read_config(config)[1] == ()


def chat_settings(app: Any) -> Settings:
    settings = app._session.settings
    assert isinstance(settings, Settings)
    return settings


async def test_what_cannot_be_saved_holds_all_the_same_and_is_said(tmp_path: Path) -> None:
    config = places_in(tmp_path).config
    config.write_text("[generation\n")
    app = outrider(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot, "also propose")
        await pilot.press("enter")
        await until(pilot, lambda: "It is not saved" in told(app))
        assert chat_settings(app).generation.lookup is False
    assert config.read_text() == "[generation\n"


async def test_a_preset_becomes_what_new_chats_begin_with(tmp_path: Path) -> None:
    app = outrider(tmp_path)
    app._settings = Settings(models=app._settings.models, presets=(Preset("code", (("temperature", 0.1),)),))
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(pilot, "code")
        assert "temperature  0.1" in text(app)
        await pilot.press("enter")
        await until(pilot, lambda: "for new chats" in text(app))
        await pilot.press("escape", "escape")
        assert chat(app).session.generation.temperature == 0.1
    assert read_config(places_in(tmp_path).config)[0].generation.preset == "code"


async def test_a_theme_is_seen_before_it_is_taken(tmp_path: Path) -> None:
    app = outrider(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("f9")
        await until(pilot, lambda: isinstance(app.screen, ThemesScreen))
        await pilot.press("down")
        await pilot.pause()
        assert app.theme != "outrider-dark"
        await pilot.press("escape")
        await until(pilot, lambda: app.theme == "outrider-dark")
        assert not places_in(tmp_path).config.exists()
        await pilot.press("f9", "down", "enter")
        await until(pilot, lambda: not isinstance(app.screen, ThemesScreen))
        taken = app.theme
    assert read_config(places_in(tmp_path).config)[0].appearance.theme == taken != "outrider-dark"


async def test_a_theme_that_is_taken_changes_nothing_else(tmp_path: Path) -> None:
    app = outrider(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        panel = chat(app).panel
        await pilot.press("ctrl+t", "ctrl+s", "ctrl+b")
        await pilot.press("f9")
        await until(pilot, lambda: isinstance(app.screen, ThemesScreen))
        await pilot.press("down", "enter")
        await until(pilot, lambda: not isinstance(app.screen, ThemesScreen))
        assert app.theme != "outrider-dark"
        assert (panel.transcript.highlight, panel.transcript.show_rejected) == ("full", True)
        assert panel.sidebar_mode == "hidden"
