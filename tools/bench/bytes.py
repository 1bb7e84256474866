"""What a streamed token costs on the way to the terminal: Textual's own output and ours.

python -m tools.bench.bytes
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from rich.color import ColorSystem

from tests.support.chat import ask, chat, outrider, until
from tests.support.two_outputs import Both

LOOKS = (
    ("outrider-dark", "quiet", ColorSystem.TRUECOLOR),
    ("outrider-dark", "full", ColorSystem.TRUECOLOR),
    ("outrider-dark", "quiet", ColorSystem.EIGHT_BIT),
    ("terminal", "quiet", ColorSystem.STANDARD),
)
SECONDS = 8


async def measure(theme: str, highlight: str, colors: ColorSystem, lean: bool) -> tuple[float, float]:
    """Bytes a token, and tokens per second."""
    folder = Path(tempfile.mkdtemp(prefix="outrider-bench-"))
    app = outrider(
        folder, "scripted:sample?rate=36&tokens=3000", theme=theme, highlight=highlight, frames_per_second=20
    )
    app.lean = lean
    app.console._color_system = colors
    both = Both(app, 120, 40, comparing=False)
    async with app.run_test(size=(120, 40)) as pilot:
        screen = chat(app)
        await until(pilot, lambda: screen.phase == "ready")
        await ask(pilot, "go")
        await until(pilot, lambda: screen.panel.transcript.max_scroll_y > 0, 60)
        before, tokens = both.bytes[lean], screen.session.meter.read().tokens
        await asyncio.sleep(SECONDS)
        count = screen.session.meter.read().tokens - tokens
        return (both.bytes[lean] - before) / count, count / SECONDS


def main() -> None:
    print("   stock     lean   bytes a token, with the sidebar, 120 x 40")
    for theme, highlight, colors in LOOKS:
        (stock, rate), (lean, _) = (
            asyncio.run(measure(theme, highlight, colors, way)) for way in (False, True)
        )
        look = f"{theme}, {highlight}, {colors.name.lower()}, {rate:.0f} tokens/s"
        print(f"{stock:8.0f} {lean:8.0f}   {look}", flush=True)


if __name__ == "__main__":
    main()
