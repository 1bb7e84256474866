"""What stands where the conversation will be: what to press, what to ask."""

from __future__ import annotations

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

QUESTIONS = (
    "What is speculative decoding?",
    "What do the colours mean?",
    "How do I load my own model?",
)
"""What the demo model can answer."""
DEMO = "a tiny model that knows Outrider and a little Python. Ask it"
MORE = "Ctrl+L, then Ctrl+G fetches models that fit this machine"

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
    """Whether the built-in pair is loaded: then it says what that pair is for."""

    def render(self) -> Content:
        lines = [
            Content.styled("Outrider", "bold $primary"),
            Content.styled("A draft model rides ahead, the main model checks.", "$quiet"),
            Content(""),
            *(Content.assemble((key.ljust(9), "bold"), (what, "$quiet")) for key, what in KEYS),
        ]
        if self.demo:
            lines += [
                Content(""),
                Content.assemble(("Demo".ljust(9), "bold $token-main"), (DEMO, "$quiet")),
                *(Content(" " * 9 + question) for question in QUESTIONS),
                Content.assemble(("More".ljust(9), "bold $token-main"), (MORE, "$quiet")),
            ]
        return Content("\n").join(lines)
