"""Every key with its action, from the bindings themselves. It knows no screen and runs nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from tui.widgets.keyline import readable_key

KEYS_WIDTH = 31

Group = tuple[str, Sequence[Binding]]

COLORS = (
    ("$token-draft", "draft", "proposed by the draft model, accepted"),
    ("$token-head", "head", "proposed by the main model's own head, accepted"),
    ("$token-lookup", "lookup", "copied from earlier in the chat, accepted"),
    ("$token-main underline", "main", "the main model's own"),
    ("$token-rejected strike", "rejected", "proposed, not accepted"),
)


class HelpScreen(ModalScreen[None]):
    """A page over the chat; Esc or F1 goes back."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,f1,q,enter", "dismiss", "Back", id="help.back"),
        Binding("n", "names", "Names", id="help.names"),
    ]
    DEFAULT_CSS = """
    HelpScreen {
        align: center middle;
        VerticalScroll {
            width: 84;
            max-width: 100%;
            height: auto;
            max-height: 90%;
            padding: 1 2;
            border: round $line;
            background: $surface;
            border-title-color: $primary;
            border-subtitle-color: $quiet;
        }
        Static { height: auto; }
    }
    """

    def __init__(self, groups: Sequence[Group], keymap: Mapping[str, str]) -> None:
        """`keymap` has the keys of the actions whose keys were changed, by id."""
        super().__init__()
        self._groups = groups
        self._keymap = keymap
        self._names = False
        """Whether the names of actions for config.toml stand beside their keys."""
        self._text = Static()

    def compose(self) -> ComposeResult:
        with VerticalScroll() as page:
            page.border_title = "Keys"
            page.border_subtitle = "n shows the names for config.toml, Esc goes back"
            yield self._text

    def on_mount(self) -> None:
        self._text.update(self._page())

    def action_names(self) -> None:
        self._names = not self._names
        self._text.update(self._page())

    def _page(self) -> Content:
        lines: list[Content] = []
        for title, bindings in self._groups:
            lines.append(Content.styled(title, "bold $primary"))
            lines += [self._line(binding) for binding in bindings if binding.description]
            lines.append(Content(""))
        lines.append(Content.styled("Where tokens come from", "bold $primary"))
        for style, name, what in COLORS:
            lines.append(Content.assemble((name, style), " " * (KEYS_WIDTH - len(name)), (what, "$quiet")))
        return Content("\n").join(lines)

    def _line(self, binding: Binding) -> Content:
        wanted = self._keymap.get(binding.id or "", binding.key)
        keys = ", ".join(readable_key(key) for key in wanted.split(","))
        what = (binding.id if self._names else binding.tooltip) or binding.description
        return Content.assemble((f"{keys}  ".ljust(KEYS_WIDTH), "bold"), (what, "$quiet"))
