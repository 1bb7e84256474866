"""Writes the pictures of the README to docs/: the real app, real answers. Run as a script.

    python -m tools.screenshot [MAIN DRAFT [PROMPT]]

The pictures with figures, of an answer as it comes and of a race, are written only for a pair that is given:
the built-in one is too small for figures that say anything.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support.chat import ask, chat, origins, outrider, text, until
from tui.config import Generation
from tui.screens.history import HistoryScreen

DOCS = Path(__file__).parent.parent / "docs"
SIZE = (112, 34)
QUESTION = "In two sentences: what is a binary search?"
PROMPT = "Write binary search in Python, with tests."
ENOUGH = 160
"""Tokens of the answer that is still coming."""
CHATS = (
    "What is speculative decoding?",
    "Write quicksort in Python.",
    "What do the colors mean?",
    "Why is the same seed the same text?",
    "What is a KV cache?",
)


@asynccontextmanager
async def running(main: str, draft: str, **generation: Any) -> AsyncIterator[Any]:
    with tempfile.TemporaryDirectory() as folder:
        app = outrider(Path(folder), main, draft, generation=Generation(seed=7, **generation))
        async with app.run_test(size=SIZE) as pilot:
            await until(pilot, lambda: chat(app).phase == "ready", 120)
            yield pilot


async def answer(pilot: Any, prompt: str) -> None:
    await ask(pilot, prompt)
    await until(pilot, lambda: chat(pilot.app).phase == "ready", 120)


async def picture(pilot: Any, name: str) -> None:
    await pilot.pause(0.5)
    svg = pilot.app.export_screenshot(title="Outrider", simplify=True)
    DOCS.mkdir(exist_ok=True)
    (DOCS / f"{name}.svg").write_text(svg)


async def the_chat(main: str, draft: str, prompt: str) -> None:
    async with running(main, draft, temperature=0, lookup=False) as pilot:
        await answer(pilot, QUESTION)
        await ask(pilot, prompt)
        await until(pilot, lambda: len(origins(pilot.app)[-1][1]) >= ENOUGH, 120)
        chat(pilot.app).panel.composer.cursor_blink = False
        await picture(pilot, "outrider")


async def the_history() -> None:
    async with running("starter", "starter", temperature=0) as pilot:
        for prompt in CHATS:
            await answer(pilot, prompt)
            await pilot.press("ctrl+n")
        await pilot.press("ctrl+o")
        await until(pilot, lambda: isinstance(pilot.app.screen, HistoryScreen))
        pilot.app.screen.line.cursor_blink = False
        await pilot.press(*"seed")
        await picture(pilot, "history")


async def the_inside() -> None:
    """A place at which the main model said otherwise than the draft."""
    async with running("starter", "starter", temperature=0.8, lookup=False) as pilot:
        await answer(pilot, "Which keys are there?")
        await pilot.press("ctrl+g")
        await until(pilot, lambda: "by itself" in text(pilot.app))
        await pilot.press("n")
        await until(pilot, lambda: "the main model chose" in text(pilot.app))
        await picture(pilot, "inside")


async def the_race(main: str, draft: str, prompt: str) -> None:
    async with running(main, draft, temperature=0.8, lookup=False) as pilot:
        await answer(pilot, prompt)
        await pilot.press("ctrl+r")
        await until(pilot, lambda: "as fast" in text(pilot.app), 240)
        await asyncio.sleep(30)  # the replay
        await picture(pilot, "race")


def main() -> None:
    given = sys.argv[1:]
    prompt = given[2] if len(given) > 2 else PROMPT
    asyncio.run(the_history())
    asyncio.run(the_inside())
    if len(given) > 1:
        asyncio.run(the_chat(given[0], given[1], prompt))
        asyncio.run(the_race(given[0], given[1], prompt))


if __name__ == "__main__":
    main()
