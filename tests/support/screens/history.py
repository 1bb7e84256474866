"""The screen of earlier chats alone, on fixed chats."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from tests.support.alone import Themed
from tui.screens.history import HistoryScreen
from tui.store.changes import AddMessage, Change, PinConversation, StartConversation, Turn
from tui.store.keeper import Keeper

NOW = datetime(2026, 11, 28, 12, 0)

SAID = (
    ("What is speculative decoding?", "A **draft** proposes, the main model checks.", "2025-03-02"),
    ("Write a quicksort in Python", "```python\ndef quicksort(items):\n    ...\n```", "2026-11-12"),
    ("Plan a weekend in Lisbon", "On Saturday the Alfama, on Sunday Sintra.", "2026-11-26"),
    ("Why is the sky blue?", "Short waves are scattered more.", "2026-11-28"),
)


def said(number: int, title: str, answer: str, day: str) -> tuple[Change, ...]:
    when = f"{day}T09:30:00"
    return (
        StartConversation(f"c{number}", title),
        AddMessage(f"c{number}", Turn(f"{number}a", "", "user", title, written=when)),
        AddMessage(f"c{number}", Turn(f"{number}b", f"{number}a", "assistant", answer, written=when)),
    )


CHATS = (
    *(change for number, each in enumerate(SAID) for change in said(number, *each)),
    PinConversation("c0", True),
)


class Alone(Themed):
    """The screen and nothing else."""

    def __init__(self, folder: Path, changes: tuple[Change, ...] = CHATS) -> None:
        super().__init__()
        self.folder, self.changes = folder, changes
        self.keeper = Keeper(folder / "chats.db")
        self.ended: list[str | None] = []

    def on_mount(self) -> None:
        if self.changes:
            self.keeper.add(*self.changes)
        screen = HistoryScreen(self.keeper, "c3", lambda: self.folder, lambda: NOW)
        self.push_screen(screen, self.ended.append)

    async def on_unmount(self) -> None:
        await self.keeper.close()
