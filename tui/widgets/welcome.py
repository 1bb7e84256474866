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

KEYS = (
    ("Enter", "send"),
    ("Esc", "stop the answer"),
    ("Ctrl+T", "show where each token comes from"),
    ("F1", "every key"),
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
            Content.styled("outrider", "bold $primary"),
            Content.styled("A small model rides ahead, the main model checks. Same text, sooner.", "$quiet"),
            Content(""),
        ]
        if self.demo:
            lines += [
                Content.assemble(
                    ("demo", "$token-main"), ("  a tiny guide that knows Outrider only", "$quiet")
                ),
                Content(""),
                Content.styled("Ask it", "$quiet"),
                *(Content(question) for question in QUESTIONS),
                Content(""),
            ]
        lines.append(
            Content.styled("   ", "").join(
                Content.assemble((key, "bold"), (f" {what}", "$quiet")) for key, what in KEYS
            )
        )
        return Content("\n").join(lines)
