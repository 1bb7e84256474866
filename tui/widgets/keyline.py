"""The line of keys at the bottom of a screen. It shows the keys of this moment, in the same frame as the
rest."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from textual.content import Content
from textual.events import MouseDown
from textual.screen import Screen
from textual.style import Style
from textual.widget import Widget

_KEY = "key"
"""Name of the key in the style of its place."""
_NAMES = {
    "escape": "Esc",
    "pageup": "PgUp",
    "pagedown": "PgDn",
    "comma": ",",
    "full_stop": ".",
    "plus": "+",
    "minus": "-",
    "equals_sign": "=",
    "slash": "/",
    "underscore": "_",
}
"""The keys that people write in another way than Textual."""


class KeyLine(Widget):
    """Replaces Textual's footer, which has a widget for each key. Those take a tenth of the time to the first
    paint, and they change some frames after a key has lost its meaning."""

    ALLOW_SELECT = False
    DEFAULT_CSS = "KeyLine { dock: bottom; height: 1; padding: 0 1; text-wrap: nowrap; color: $quiet; }"

    def __init__(self) -> None:
        super().__init__()
        self._keys: list[tuple[str, str, str]] = []
        """Key, its name on the screen, description: of each key that is shown."""

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, self._bindings_changed)

    def on_unmount(self) -> None:
        self.screen.bindings_updated_signal.unsubscribe(self)

    def _bindings_changed(self, screen: Screen[Any]) -> None:
        """Show the keys of `screen`, if they have changed."""
        if not self.is_attached or screen is not self.screen:
            return
        shown: dict[str, tuple[str, str, str]] = {}  # by action: of several keys for one, the first
        for each in (each.binding for each in screen.active_bindings.values() if each.binding.show):
            shown.setdefault(each.action, (each.key, self.app.get_key_display(each), each.description))
        if (keys := list(shown.values())) != self._keys:
            self._keys = keys
            self.refresh()

    def render(self) -> Content:
        return Content(" ").join(
            Content.assemble((name, "bold $primary"), f" {description}").stylize(Style.from_meta({_KEY: key}))
            for key, name, description in self._keys
        )

    def on_mouse_down(self, event: MouseDown) -> None:
        if key := event.style.meta.get(_KEY):
            self.app.simulate_key(key)


def key_of(screen: Screen[Any], names: Container[str], otherwise: str) -> str:
    """Return the key of the first active action among `names`, as people write it; `otherwise` if none is."""
    keys = (key for key, each in screen.active_bindings.items() if each.binding.id in names)
    return readable_key(next(keys, otherwise))


def readable_key(key: str) -> str:
    """Return "ctrl+j" as people write it: "Ctrl+J". A letter alone stays as it is: "g" is not "G"."""
    if len(key) == 1:
        return key
    return "+".join(_NAMES.get(part) or part.capitalize().replace("_", " ") for part in key.split("+"))
