"""Chats that wake at once, as the person sees it: the sidebar, the keys that empty the disk, and deletion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support import models
from tests.support.chat import answered, ask, asked_of, chat, outrider, places_in, text, told, until
from tests.support.models import Toy
from tui.app import Outrider
from tui.config import Generation, History, read_config
from tui.paths import find_states
from tui.screens.history import HistoryScreen
from tui.screens.settings import SettingsScreen

TOLD = "Tell me about the rivers and the mountains of a country that you know. " * 3


def saved() -> list[Path]:
    return sorted(find_states().glob("*.state"))


@pytest.fixture
def main(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return str(models.write_model(tmp_path / "m.gguf", Toy(context_length=1024)))


def app_on(folder: Path, main: str, **options: Any) -> Outrider:
    return outrider(folder, main, "none", generation=Generation(seed=7, max_tokens=8), **options)


async def reopened(pilot: Any) -> None:
    """Open the latest chat."""
    await until(pilot, lambda: chat(pilot.app).phase == "ready")
    await pilot.press("ctrl+o")
    await until(pilot, lambda: isinstance(pilot.app.screen, HistoryScreen) and "Tell me" in text(pilot.app))
    await pilot.press("enter")
    await until(
        pilot, lambda: pilot.app.screen is pilot.app._chat and chat(pilot.app).panel.transcript.messages
    )


async def test_a_chat_of_yesterday_wakes_and_its_cache_goes_by_key(tmp_path: Path, main: str) -> None:
    app = app_on(tmp_path, main)
    async with app.run_test(size=(120, 40)) as pilot:
        await answered(pilot, TOLD)
        assert "restored" not in text(app)
        await until(pilot, saved)
    app = app_on(tmp_path, main)
    async with app.run_test(size=(120, 40)) as pilot:
        await reopened(pilot)
        await answered(pilot, "And then?")
        await until(pilot, lambda: "restored" in text(app))
        await pilot.press("f2")
        await until(pilot, lambda: isinstance(app.screen, SettingsScreen))
        app.screen.line.value = "disk space"  # type: ignore[attr-defined]
        await until(pilot, lambda: "1 saved cache, " in text(app))
        await pilot.press("ctrl+x")
        await until(pilot, lambda: "1 saved cache, " in told(app) and "removed. The chats stay." in told(app))
        await until(pilot, lambda: "nothing saved" in text(app))
        assert saved() == []
        await pilot.press("escape", "escape")
        await until(pilot, lambda: app.screen is app._chat)
        await ask(pilot, "/forget")
        await until(pilot, lambda: "No cache of a chat is saved." in told(app))


@pytest.mark.parametrize("words", ["cache disk", "go on without", "disk"])
async def test_in_a_small_terminal_the_size_and_the_key_are_there_while_one_filters(
    tmp_path: Path, main: str, words: str
) -> None:
    """The letters go to the filter line, which keeps the focus."""
    app = app_on(tmp_path, main)
    async with app.run_test(size=(80, 24)) as pilot:
        await answered(pilot, TOLD)
        await until(pilot, saved)
        for number in range(400):
            (find_states() / f"{number:016x}-{number:016x}.state").write_bytes(b"x" * 2500)
        await pilot.press("f2")
        await until(pilot, lambda: isinstance(app.screen, SettingsScreen))
        await pilot.press(*["space" if letter == " " else letter for letter in words])
        await until(pilot, lambda: "cache.disk" in text(app))
        await until(pilot, lambda: "401 saved caches, 1.1 MB · Ctrl+X empties them" in text(app))
        assert app.focused is app.screen.line  # type: ignore[attr-defined]
        await pilot.press("ctrl+x")
        await until(pilot, lambda: not saved() and "nothing saved" in text(app))
        assert app.screen.line.value == words  # type: ignore[attr-defined]


async def test_the_saved_caches_are_counted_each_time_that_one_comes_to_their_setting(
    tmp_path: Path, main: str
) -> None:
    """The engine may save a chat while the settings are open."""
    app = app_on(tmp_path, main)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: chat(app).phase == "ready")
        find_states().mkdir(parents=True)
        await pilot.press("f2")
        await until(pilot, lambda: isinstance(app.screen, SettingsScreen))
        app.screen.line.value = "cache"  # type: ignore[attr-defined]
        await until(pilot, lambda: "cache.disk" in text(app) and "generation" not in text(app))
        await pilot.press("down")
        for count in (1, 2):
            (find_states() / f"{count:016x}-{count:016x}.state").write_bytes(b"x" * 2500)
            await pilot.press("down", "up")
            await until(pilot, lambda: f"{count} saved cache" in text(app))  # noqa: B023


async def test_a_deleted_chat_and_a_deleted_message_take_the_cache_with_them(
    tmp_path: Path, main: str
) -> None:
    app = app_on(tmp_path, main)
    async with app.run_test(size=(120, 40)) as pilot:
        await answered(pilot, TOLD)
        await until(pilot, saved)
        await ask(pilot, "/delete")
        await until(pilot, lambda: not saved())
        await answered(pilot, TOLD + TOLD)
        await until(pilot, saved)
        await pilot.press("ctrl+o")
        await until(pilot, lambda: isinstance(app.screen, HistoryScreen) and "Tell me" in text(app))
        await pilot.press("ctrl+x")
        await until(pilot, lambda: not saved())
    assert not saved()


async def test_without_an_engine_a_deleted_chat_takes_its_cache_with_it(tmp_path: Path, main: str) -> None:
    app = app_on(tmp_path, main)
    async with app.run_test(size=(120, 40)) as pilot:
        await answered(pilot, TOLD)
        await until(pilot, saved)
    app = app_on(tmp_path, main, engine=("false",))
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: chat(app).phase == "ended")
        await pilot.press("ctrl+o")
        await until(pilot, lambda: isinstance(app.screen, HistoryScreen) and "Tell me" in text(app))
        assert saved()
        await pilot.press("ctrl+x")
        await until(pilot, lambda: not saved())


async def test_without_a_history_nothing_is_saved(tmp_path: Path, main: str) -> None:
    app = app_on(tmp_path, main, history=History(keep=False))
    async with app.run_test(size=(120, 40)) as pilot:
        requests = asked_of(app)
        await answered(pilot, TOLD)
    assert [request.chat for request in requests] == [""]
    assert not find_states().exists()


async def test_the_space_is_a_setting(tmp_path: Path) -> None:
    app = outrider(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("f2")
        await until(pilot, lambda: isinstance(app.screen, SettingsScreen))
        app.screen.line.value = "disk space"  # type: ignore[attr-defined]
        await until(pilot, lambda: "4 GiB" in text(app))
        await pilot.press("enter")
        await until(pilot, lambda: getattr(app.focused, "value", "") == "4 GiB")
        await pilot.press(*["backspace"] * 5, *"1.5 gb", "enter")
        await until(pilot, lambda: "1.5 GB" in text(app))
    assert read_config(places_in(tmp_path).config)[0].cache.disk == 1_500_000_000
