"""How every screen looks in every theme, at two sizes: on fixed data, with nothing that moves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from textual.app import App
from textual.widgets import Input, TextArea

from tests.support.alone import Themed
from tests.support.chat import until
from tests.support.rest import at_rest
from tests.support.screens import history, hub, models, race
from tests.support.screens.inside import Engine, Screen
from tests.support.still import still
from tui.app import Outrider
from tui.protocol import Origin
from tui.screens.hosts import HostsScreen

THEMES = ("outrider-dark", "outrider-light", "high-contrast", "colour-blind", "terminal")
SIZES = ((120, 40), (80, 24))
THOUGHT = "The question is what a round is. I say it in two sentences and leave the arithmetic out."


@dataclass(frozen=True)
class Sight:
    """A screen: the app that shows it, and how to come to it."""

    app: Callable[[Path, str], App[Any]]
    come: Callable[[Any], Awaitable[object]]


def chat(folder: Path, theme: str) -> Outrider:
    return still(folder, True, theme=theme, highlight="full")


def with_thought(folder: Path, theme: str) -> Outrider:
    """The chat with a thought before its answer, opened by key."""
    app = still(folder, True, theme=theme)
    screen = app.get_default_screen

    def thinking() -> Any:
        made = screen()
        begin = made.panel.begin

        def asked(*arguments: Any) -> None:
            begin(*arguments)
            transcript = made.panel.transcript
            transcript.writer.begin("assistant", key="t")
            transcript.writer.think("thought · 214 tokens · 61.2 tok/s · 71 % of drafts accepted")
            transcript.writer.append([(THOUGHT[:30], Origin.DRAFT), (THOUGHT[30:], Origin.MAIN)])
            transcript.writer.finish()

        made.panel.begin = asked
        return made

    app.get_default_screen = thinking  # type: ignore[method-assign]
    return app


def inside(folder: Path, theme: str) -> Themed:
    return themed(Screen(Engine(), folder), theme)


def themed(app: Themed, theme: str) -> Themed:
    app.theme = theme
    return app


class Hosts(Themed):
    def __init__(self, shown: HostsScreen) -> None:
        super().__init__()
        self._first = shown

    def on_mount(self) -> None:
        self.push_screen(self._first)


def hosts(folder: Path, theme: str) -> Themed:
    known = (("gpu", "me@gpu.example.org", ""), ("lab", "lab.example.org", "/opt/outrider"))
    return themed(Hosts(HostsScreen(known, ("gpu2", "jump"), "gpu")), theme)


def keys(*names: str) -> Callable[[Any], Awaitable[object]]:
    async def come(pilot: Any) -> None:
        await pilot.press(*names)

    return come


async def read(pilot: Any) -> None:
    pilot.app.screen.panel.transcript.focus()


async def raced(pilot: Any) -> None:
    await until(pilot, lambda: "as fast" in pilot.app.shown)
    pilot.app.now = 99.0


async def seen_into(pilot: Any) -> None:
    await until(pilot, lambda: "75.0 %" in pilot.app.shown)
    await pilot.press("n")


async def figures(pilot: Any) -> None:
    await seen_into(pilot)
    await pilot.press("tab")


SIGHTS = {
    "chat": Sight(chat, keys()),
    "reading": Sight(chat, read),
    "thought": Sight(with_thought, keys("f4")),
    "commands": Sight(chat, keys(*"/pre")),
    "palette": Sight(chat, keys("ctrl+p")),
    "settings": Sight(chat, keys("f2", *"draft")),
    "themes": Sight(chat, keys("f9")),
    "help": Sight(chat, keys("f1")),
    "inside": Sight(inside, seen_into),
    "figures": Sight(inside, figures),
    "models": Sight(
        lambda folder, theme: themed(
            models.Alone(models.Library(*models.MANY)), theme
        ),
        keys(),
    ),
    "hosts": Sight(hosts, keys()),
    "hub": Sight(lambda folder, theme: themed(hub.Alone(), theme), keys()),
    "history": Sight(
        lambda folder, theme: themed(history.Alone(folder, history.CHATS), theme), keys("down")
    ),
    "race": Sight(
        lambda folder, theme: themed(race.Alone(race.Engine(), folder), theme), raced
    ),
}  # fmt: skip


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("sight", SIGHTS.values(), ids=SIGHTS.keys())
def test_every_screen_looks_as_it_should_in_every_theme(
    snap_compare: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    sight: Sight,
    theme: str,
    size: tuple[int, int],
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)

    async def settle(pilot: Any) -> None:
        await at_rest(pilot)
        await sight.come(pilot)
        await at_rest(pilot)
        for each in pilot.app.screen.query(Input):
            each.cursor_blink = False
        for each in pilot.app.screen.query(TextArea):
            each.cursor_blink = False
        await at_rest(pilot)

    assert snap_compare(sight.app(tmp_path, theme), terminal_size=size, run_before=settle)
