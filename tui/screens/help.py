"""Every key with what it does, from the bindings themselves. It knows no screen and runs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

KEYS_WIDTH = 32

Group = tuple[str, Sequence[Binding]]

COLOURS = (
    ("$token-draft", "draft", "proposed by the draft model, accepted"),
    ("$token-lookup", "lookup", "copied from earlier in the chat, accepted"),
    ("$token-main underline", "main", "the main model's own"),
    ("$token-refused strike", "refused", "proposed, not accepted"),
)


class HelpScreen(ModalScreen[None]):
    """A page over the chat; Esc or F1 goes back."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,f1,q,enter", "dismiss", "Back", id="help.back"),
    ]
    DEFAULT_CSS = """
    HelpScreen {
        align: center middle;
        VerticalScroll {
            width: 84;
            max-width: 100%;
            height: auto;
            max-height: 90%;
            padding: 1 3;
            border: round $line;
            background: $surface;
            border-title-color: $primary;
            border-subtitle-color: $quiet;
        }
        Static { height: auto; }
    }
    """

    def __init__(self, groups: Sequence[Group]) -> None:
        super().__init__()
        self._groups = groups

    def compose(self) -> ComposeResult:
        with VerticalScroll() as page:
            page.border_title = "Keys"
            page.border_subtitle = "Esc goes back"
            yield Static(self._page())

    def _page(self) -> Content:
        lines: list[Content] = []
        for title, bindings in self._groups:
            lines.append(Content.styled(title, "bold $primary"))
            lines += [self._line(binding) for binding in bindings if binding.description]
            lines.append(Content(""))
        lines.append(Content.styled("Where tokens come from", "bold $primary"))
        for style, name, what in COLOURS:
            lines.append(Content.assemble((name, style), " " * (KEYS_WIDTH - len(name)), (what, "$quiet")))
        return Content("\n").join(lines)

    def _line(self, binding: Binding) -> Content:
        keys = ", ".join(readable(key) for key in binding.key.split(","))
        what = binding.tooltip or binding.description
        return Content.assemble((keys.ljust(KEYS_WIDTH), "bold"), (what, "$quiet"))


def readable(key: str) -> str:
    """ "ctrl+j" as people write it: "Ctrl+J"."""
    names = {"escape": "Esc", "pageup": "PgUp", "pagedown": "PgDn"}
    return "+".join(names.get(part, part.capitalize()) for part in key.split("+"))
