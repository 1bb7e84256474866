"""The saved caches of deleted chats go from each machine that may have one."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, cast

import pytest

from tui.chat.deleted_chats import OLDEST, DeletedChats
from tui.chat.saved_states import SavedStates
from tui.client import EngineClient, EngineDied
from tui.engine.states.state_folder import hashed
from tui.host import Host
from tui.paths import find_states
from tui.protocol import ForgetStates, StatesForgotten


class Line:
    """A client whose engine notes the chats that it is told to forget, or which has none."""

    def __init__(self, host: str = "") -> None:
        self.host = Host(host, "address") if host else None
        self.runs = True
        self.told: list[str] = []

    async def ask(self, question: ForgetStates) -> AsyncGenerator[StatesForgotten, None]:
        if not self.runs:
            raise EngineDied("There is no engine running")
        self.told.append(question.chat)
        yield StatesForgotten(question.id, 1, 1)


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def states_on(line: Line, file: Path | None) -> SavedStates:
    return SavedStates(cast(EngineClient, cast(Any, line)), file)


async def settled(states: SavedStates) -> None:
    states.settle()
    if states._task:
        await states._task


def written(chat: str) -> list[Path]:
    """Files of the chat as engines leave them: of a main model, of a draft, and an unfinished one."""
    find_states().mkdir(parents=True, exist_ok=True)
    name = hashed(chat)
    paths = [find_states() / f"{hashed(model)}-{name}.state" for model in ("main", "draft")]
    paths.append(find_states() / f".{hashed('main')}-{name}.ab12.part")
    for path in paths:
        path.write_bytes(b"x")
    return paths


async def test_without_an_engine_the_files_on_this_machine_go_at_once(tmp_path: Path) -> None:
    line = Line()
    line.runs = False
    gone, others = written("one"), written("two")
    states = states_on(line, tmp_path / "deleted.json")
    states.forget("one")
    assert [path.exists() for path in gone + others] == [False] * 3 + [True] * 3
    await settled(states)
    assert line.told == []


async def test_a_host_is_told_at_its_next_connection_by_another_app(tmp_path: Path) -> None:
    """Each machine once, and the app of the deletion may have ended before."""
    file = tmp_path / "deleted.json"
    away = Line("gpu")
    away.runs = False
    first = states_on(away, file)
    for chat in ("one", "two"):
        first.forget(chat)
    await settled(first)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    both = ["one", "two"]
    for name, expected in (("gpu", both), ("other", both), ("gpu", []), ("", both)):
        line = Line(name)
        await settled(states_on(line, file))
        assert line.told == expected
    states = states_on(line := Line("gpu"), file)
    states.forget("one")
    await settled(states)
    assert line.told == ["one"], "more of it may have been saved since"


async def test_an_engine_that_ends_meanwhile_is_told_the_rest_later(tmp_path: Path) -> None:
    line = Line("gpu")
    states = states_on(line, None)
    ask = line.ask

    async def once(question: ForgetStates) -> AsyncGenerator[StatesForgotten, None]:
        async for reply in ask(question):
            line.runs = False
            yield reply

    line.ask = once  # type: ignore[method-assign]
    for chat in ("one", "two", "three"):
        states.forget(chat)
    await settled(states)
    assert line.told == ["one"]
    line.runs, line.ask = True, ask  # type: ignore[method-assign]
    await settled(states)
    assert line.told == ["one", "two", "three"]


def test_a_deleted_chat_is_forgotten_when_no_machine_can_have_its_cache(tmp_path: Path) -> None:
    now = 1e9
    file = tmp_path / "deleted.json"
    chats = DeletedChats(file, lambda: now)
    chats.add("old")
    now += OLDEST + 1
    assert chats.due("gpu") == ["old"]
    chats.add("new")
    assert chats.due("gpu") == DeletedChats(file).due("gpu") == ["new"]


@pytest.mark.parametrize("content", [b"", b"\xff", b"[1]", b'{"a": 1}', b"[" * 100_000])
def test_a_damaged_file_counts_as_empty(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "deleted.json"
    file.write_bytes(content)
    chats = DeletedChats(file)
    assert chats.due("") == []
    chats.add("one")
    assert DeletedChats(file).due("") == ["one"]


async def test_without_a_history_no_file_is_written_and_a_full_disk_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    for file in (None, tmp_path / "a file" / "deleted.json"):
        line = Line()
        states = states_on(line, file)
        states.forget("one")
        await asyncio.wait_for(settled(states), 60)
        assert line.told == ["one"]
    assert [path.name for path in tmp_path.iterdir()] == ["a file"]
