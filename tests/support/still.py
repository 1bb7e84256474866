"""The chat on fixed data, with nothing that moves: for pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.chat import outrider
from tui.app import Outrider
from tui.chat.connection import Step
from tui.chat.meter import HISTORY, MeterReading
from tui.chat.session import ChatSession
from tui.protocol import Loaded, ModelFacts, Origin, Rounding
from tui.screens.chat import ChatScreen

ANSWER = """\
## One round

The draft model **proposes** a few tokens, the main model checks them *all in one pass*:

1. agreed: the token is kept
2. not agreed: the main model's own token stands

```python
def accepted(drafted, chosen):
    pairs = zip(drafted, chosen)
    return sum(1 for _ in takewhile(equal, pairs))
```

> Same seed, same text, with a draft or without.
"""

MODELS = tuple(
    ModelFacts(name, "", "llama", 1, "Q8_0", 1, 4096, 4096, demo=True) for name in ("Guide", "Guide draft")
)

LOADED = Loaded(
    MODELS[0], MODELS[1], None, "llama.cpp", "CPU, 2 threads", 4096, 30.0, 0.5, rounding=Rounding(0.038)
)

READING = MeterReading(
    speed_now=61.2,
    speed=54.6,
    first_token=0.21,
    speed_up=1.82,
    tokens=241,
    drafted=280,
    accepted=171,
    acceptance=171 / 280,
    tokens_per_round=3.4,
    drafted_per_round=3.9,
    draft_share=0.2,
    verify_share=0.72,
    context_used=1204,
    seed=7,
)

WAVE = [(20 + number * 7 % 40) * 1.0 for number in range(HISTORY)]


class Still(ChatScreen):
    """A chat in which nothing moves: loaded and, if `talking`, answered."""

    talking = True

    def on_mount(self) -> None:
        self.panel.composer.cursor_blink = False
        self.panel.show_loaded(LOADED)
        self.session.load = lambda: None  # type: ignore[method-assign]
        self.session.connection.take(Step.LOADED)
        if self.talking:
            self.panel.begin("What is a round?")
            self.panel.transcript.writer.begin("assistant")
            self.panel.transcript.writer.append(pieces())
            self.panel.transcript.writer.finish("241 tokens · 54.6 tok/s")
        self.call_after_refresh(self._show)

    def _show(self) -> None:
        self.panel.say("ready", "success")
        reading = READING if self.talking else MeterReading()
        self.panel.show_reading(reading, WAVE if self.talking else ())


def pieces() -> list[tuple[str, int]]:
    """The answer in pieces of four letters, of which every third is the main model's own."""
    found: list[tuple[str, int]] = []
    for number, at in enumerate(range(0, len(ANSWER), 4)):
        if number % 9 == 4:
            found.append((" maybe", Origin.REJECTED))
        found.append((ANSWER[at : at + 4], Origin.MAIN if number % 3 == 1 else Origin.DRAFT))
    return found


def still(folder: Path, talking: bool, **appearance: Any) -> Outrider:
    app = outrider(folder, **appearance)

    class Quiet(Still):
        pass

    Quiet.talking = talking

    def screen() -> Still:
        app._session = ChatSession(app._settings, app._client, app._keeper, lambda: 0.0, lambda: 7)
        app._chat = Quiet(app._session, folder / "config.toml")
        return app._chat

    app.get_default_screen = screen  # type: ignore[method-assign, assignment]
    return app
