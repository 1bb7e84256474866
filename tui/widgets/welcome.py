"""The empty chat: the keys to press, and some questions to ask."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import wrap

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

QUESTIONS = (
    "What is speculative decoding?",
    "What do the colors mean?",
    "How do I load my own model?",
)
"""Questions that the demo model can answer."""
DEMO = "a tiny model that knows Outrider and a little Python. Ask it"
MORE = "Ctrl+L, then Ctrl+G fetches models that fit this machine"
_KEY = 9
"""Columns before the meaning of a key."""

KEYS = (
    ("Enter", "sends"),
    ("Esc", "stops the answer"),
    ("Ctrl+T", "shows where each token comes from"),
    ("Ctrl+G", "looks inside an answer, token by token"),
    ("Ctrl+L", "chooses a model and its draft"),
    ("/", "all commands, as you type"),
    ("F1", "all keys"),
)


class Welcome(Widget):
    """A calm page. It takes no focus and no keys."""

    DEFAULT_CSS = """
    Welcome {
        height: 1fr;
        padding: 0 4;
        content-align: center middle;
    }
    """

    demo = reactive(False)
    """Whether the demo pair is loaded, so that the page explains it."""

    found: reactive[int | None] = reactive[int | None](None)
    """The number of other models on the machine; None if nobody has looked."""

    def render(self) -> Content:
        lines = [
            Content.styled("Outrider", "bold $primary"),
            Content.styled("A draft model rides ahead, the main model checks.", "$quiet"),
            Content(""),
            *(line for key, what in KEYS for line in self._entry(key, what, "bold")),
        ]
        if self.demo:
            lines += [
                Content(""),
                *self._models(),
                *self._entry("Demo", DEMO, "bold $token-main"),
                *(Content(" " * _KEY + question) for question in QUESTIONS),
            ]
            if not self.found:
                lines += self._entry("More", MORE, "bold $token-main")
        return Content("\n").join(lines)

    def _models(self) -> Iterator[Content]:
        """Return the line that a better model than the demo is here already."""
        if self.found:
            models = "1 model" if self.found == 1 else f"{self.found:,} models"
            yield from self._entry("Models", f"{models} found here: Ctrl+L chooses", "bold $token-main", "")

    def _entry(self, key: str, what: str, style: str, tone: str = "$quiet") -> Iterator[Content]:
        """Return a key and its meaning. A long line continues below its own beginning."""
        for line in wrap(what, max(20, self.content_size.width - _KEY)):
            yield Content.assemble((key.ljust(_KEY), style), (line, tone))
            key = ""
