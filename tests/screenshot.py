"""Writes docs/outrider.svg, the picture in the README: the real app, a real answer. Run as a script.

Arguments are a main model, a draft and a prompt; without them the built-in pair is asked to explain itself.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from chat import ask, chat, outrider, until

from tui.config import Generation

TARGET = Path(__file__).parent.parent / "docs" / "outrider.svg"
SIZE = (112, 34)
DEFAULTS = ("starter", "starter", "Explain speculative decoding in detail")


async def picture(main: str, draft: str, prompt: str) -> str:
    """The chat after one answer, as SVG."""
    with tempfile.TemporaryDirectory() as folder:
        generation = Generation(seed=7, temperature=0)
        app = outrider(Path(folder), main, draft, generation=generation, highlight="quiet")
        async with app.run_test(size=SIZE) as pilot:
            await until(pilot, lambda: chat(app).phase == "ready", 60)
            await ask(pilot, prompt)
            await until(pilot, lambda: chat(app).phase == "ready", 60)
            chat(app).desk.composer.cursor_blink = False
            await pilot.pause(0.5)
            return app.export_screenshot(title="Outrider", simplify=True)


def main() -> None:
    given = sys.argv[1:]
    main_model, draft, prompt = [*given, *DEFAULTS[len(given) :]]
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(asyncio.run(picture(main_model, draft, prompt)))


if __name__ == "__main__":
    main()
