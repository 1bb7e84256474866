"""The common parts of screens with lists: a line to type into, the lists, and the keys between them.

Letters go to the line, arrows to the active list; Tab changes the list. The module fills no list.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.screen import Screen, ScreenResultType
from textual.widgets import Input

from tui.widgets.rows import Rows


class Line(Input, inherit_bindings=False):
    """An input that edits with the arrows and erases. The screen gets every other key."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "cursor_left", show=False, id="line.left"),
        Binding("right", "cursor_right", show=False, id="line.right"),
        Binding("ctrl+left", "cursor_left_word", show=False, id="line.left_word"),
        Binding("ctrl+right", "cursor_right_word", show=False, id="line.right_word"),
        Binding("home", "home", show=False, id="line.home"),
        Binding("end", "end", show=False, id="line.end"),
        Binding("backspace", "delete_left", show=False, id="line.delete_left"),
        Binding("delete", "delete_right", show=False, id="line.delete_right"),
        Binding("ctrl+w", "delete_left_word", show=False, id="line.delete_word"),
        Binding("ctrl+u", "delete_left_all", show=False, id="line.delete_all"),
    ]


class ListsScreen(Screen[ScreenResultType]):
    """A line and some lists."""

    AUTO_FOCUS = "#line"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (90, "-wide")]  # noqa: RUF012 (as Textual declares it)
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "change(1)", "Next list", show=False, priority=True, id="lists.next"),
        Binding("shift+tab", "change(-1)", "List before", show=False, priority=True, id="lists.before"),
        Binding("up", "move(-1)", "Up", show=False, priority=True, id="lists.up"),
        Binding("down", "move(1)", "Down", show=False, priority=True, id="lists.down"),
        Binding("pageup", "page(-1)", "Page up", show=False, priority=True, id="lists.pageup"),
        Binding("pagedown", "page(1)", "Page down", show=False, priority=True, id="lists.pagedown"),
    ]
    DEFAULT_CSS = """
    ListsScreen {
        #line { height: 1; border: none; margin: 1 3 0 3; padding: 0; background: $background; }
        .beside { height: 1fr; margin: 1 2 0 2; }
        #about { margin: 0 4; color: $quiet; }
        &.-narrow .beside { margin: 1 0 0 0; }
        &.-narrow #about { margin: 0 2; }
    }
    """

    def __init__(self, hint: str, lists: Sequence[Rows]) -> None:
        """`hint` stands in the empty line. `lists` are in the order of Tab; the first is active."""
        super().__init__()
        self.line = Line(placeholder=hint, id="line")
        self._lists = list(lists)

    @property
    def active(self) -> Rows:
        """The list that the arrows move in."""
        return next((each for each in self._lists if each.has_class("-active")), self._lists[0])

    @property
    def typed(self) -> str:
        return self.line.value

    def empty_line(self) -> bool:
        """Empty the line. Returns False if it was empty, because Esc then has another meaning."""
        was = bool(self.typed)
        self.line.value = ""
        return was

    def action_back(self) -> None:
        """Empty the line, or leave the screen if it is empty."""
        if not self.empty_line():
            self.dismiss(None)

    def activate(self, rows: Rows) -> None:
        for each in self._lists:
            each.set_class(each is rows, "-active")

    def action_change(self, by: int) -> None:
        place = self._lists.index(self.active) + by
        self.activate(self._lists[place % len(self._lists)])

    def action_move(self, by: int) -> None:
        self.active.move(by)

    def action_page(self, pages: int) -> None:
        self.active.move(pages * max(1, self.active.scrollable_content_region.height - 1))
