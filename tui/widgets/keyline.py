"""The line of keys at the bottom of a screen. It shows the keys of this moment, in the same frame as the
rest."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from textual.screen import Screen
from textual.widgets import Footer

from tui.chat.formatting import readable


class KeyLine(Footer):
    """Replaces Textual's footer. That one changes some frames after a key has lost its meaning, and not at
    all while the terminal's window has no focus."""

    def __init__(self) -> None:
        super().__init__(compact=True, show_command_palette=False)
        self._shown: list[tuple[str, str, str, bool]] = []

    def bindings_changed(self, screen: Screen[Any]) -> None:
        """Show the keys of `screen`, if they have changed."""
        self._bindings_ready = True
        if not self.is_attached or screen is not self.screen:
            return
        shown = [
            (each.binding.key, each.binding.description, each.binding.action, each.enabled)
            for each in screen.active_bindings.values()
            if each.binding.show
        ]
        if shown != self._shown:
            self._shown = shown
            self.call_next(self.recompose)

    async def recompose(self) -> None:
        await super().recompose()
        # Textual holds on to each key that was removed until this changes, or is said to have.
        self.mutate_reactive(Footer.compact)


def key_of(screen: Screen[Any], names: Container[str], otherwise: str) -> str:
    """Return the key of the first active action among `names`, as people write it; `otherwise` if none is."""
    keys = (key for key, each in screen.active_bindings.items() if each.binding.id in names)
    return readable(next(keys, otherwise))
