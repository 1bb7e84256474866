"""The chat for tests: the real app with a real engine in a child process, on scripted models."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

from tui.app import Outrider
from tui.config import Appearance, Generation, History, Models, Settings
from tui.paths import Paths
from tui.protocol import Generate
from tui.screens.chat import ChatScreen
from tui.store.store import Store, StoredConversation

SAMPLE = "scripted:sample?rate=400&tokens=120"
DRAFT = "scripted:draft?acceptance=0.7"


def places_in(folder: Path) -> Paths:
    """All of them in one folder."""
    return Paths(
        folder / "config.toml",
        folder / "themes",
        folder / "engine.log",
        folder / "pair.json",
        folder / "chats.db",
    )


def outrider(
    folder: Path,
    main: str = SAMPLE,
    draft: str = DRAFT,
    notices: tuple[str, ...] = (),
    generation: Generation | None = None,
    history: History | None = None,
    engine: tuple[str, ...] = (sys.executable, "-m", "tui", "engine"),
    **appearance: Any,
) -> Outrider:
    """An app that reads and writes nothing outside `folder`."""
    return Outrider(
        settings=Settings(
            models=Models(main, draft),
            generation=generation or Generation(seed=7),
            appearance=Appearance(**appearance),
            history=history or History(),
        ),
        places=places_in(folder),
        engine=engine,
        notices=notices,
    )


def chat(app: Outrider) -> ChatScreen:
    assert isinstance(app.screen, ChatScreen)
    return app.screen


async def until(pilot: Pilot[Any], true: Callable[[], object], seconds: float = 60) -> None:
    """Let the app run until `true()` is. Raises TimeoutError."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(f"phase {getattr(pilot.app.screen, 'phase', None)}")
        await asyncio.sleep(0.01)
    await pilot.pause()


async def ask(pilot: Pilot[Any], prompt: str) -> None:
    """Type a prompt and send it."""
    screen = chat(pilot.app)  # type: ignore[arg-type]
    screen.panel.composer.insert(prompt)
    await pilot.press("enter")


def text(app: Outrider) -> str:
    """The screen as plain text."""
    lines = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in line) for line in lines)


def told(app: Outrider) -> str:
    """What the app has said at its edge, however it was wrapped."""
    return " ".join(notification.message for notification in app._notifications)


def asked_of(app: Outrider) -> list[Generate]:
    """What the engine is asked from now on."""
    found: list[Generate] = []
    generate = app._client.generate

    def listening(request: Generate) -> Any:
        found.append(request)
        return generate(request)

    app._client.generate = listening  # type: ignore[method-assign]
    return found


async def answered(pilot: Any, prompt: str) -> None:
    """Ask, and wait for the whole answer."""
    screen = chat(pilot.app)
    before = len(screen.panel.transcript.messages)
    await until(pilot, lambda: screen.phase == "ready")
    await ask(pilot, prompt)
    await until(
        pilot, lambda: len(screen.panel.transcript.messages) == before + 2 and screen.phase == "ready"
    )


def stored(folder: Path) -> list[StoredConversation]:
    """The chats in `folder`, the latest first."""
    with closing(Store.open(places_in(folder).chats)) as store:
        return [found for each in store.listed() if (found := store.read(each.key))]


def parts_written(chats: Path) -> int:
    """The number of parts of answers in a file that an app writes to.

    It is no `Store` that reads them: that would complete the answer which is coming.
    """
    if not chats.exists():
        return 0
    with closing(sqlite3.connect(chats, timeout=60)) as connection:
        (count,) = connection.execute("SELECT COUNT(*) FROM rounds").fetchone()
    return int(count)


def finished_answers(chats: Path, title: str) -> int:
    """The number of answers of the chat with this title that have ended, in a file that an app writes to."""
    with closing(sqlite3.connect(chats, timeout=60)) as connection:
        (count,) = connection.execute(
            "SELECT COUNT(*) FROM messages JOIN conversations ON conversations.id = messages.conversation "
            "WHERE title = ? AND messages.ending != '' AND role = 'assistant'",
            (title,),
        ).fetchone()
    return int(count)


def origins(app: Outrider) -> list[tuple[str, bytes]]:
    return [(each.source, bytes(each.origins)) for each in chat(app).panel.transcript.messages]


async def read(pilot: Any, *keys: str) -> None:
    """Press keys over the messages, from the last one."""
    there = chat(pilot.app).panel.transcript.has_focus
    await pilot.press("G" if there else "tab", *keys)
    await pilot.pause()


async def ready(pilot: Any, messages: int) -> None:
    screen = chat(pilot.app)
    await until(pilot, lambda: screen.phase == "ready" and len(screen.panel.transcript.messages) == messages)
