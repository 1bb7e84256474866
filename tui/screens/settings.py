"""Every setting with its help; changed settings are marked, and each can be edited.

A change goes into config.toml at once, and `changed` is called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Input, Static

from tui.chat.formatting import sentence
from tui.chat.saved_states import SavedStates
from tui.clean import clean_line
from tui.client import EngineError
from tui.config import ConfigError, Generation, Settings, change_config, read_value, show_setting, show_value
from tui.config.last import NextStart
from tui.quantities import UNKNOWN
from tui.widgets.keyline import KeyLine, key_of
from tui.widgets.rows import Row, Rows

from .background import work_alone
from .line_input import LineScreen
from .list_screen import ListsScreen

LATER = {
    "models": "A change holds from the next start on; ctrl+l changes the models now.",
    "engine": "It holds from the next start on.",
    "history": "It holds from the next start on.",
    "cache": "It holds from the next load of models on.",
    "keys": "It holds from the next start on.",
    **dict.fromkeys(
        ("appearance.output", "appearance.mouse", "appearance.frames_per_second"),
        "It holds from the next start on.",
    ),
}
"""Sections and single settings that take effect later."""
PRESETS, MARK = "presets", " ●"
SAVED = ("cache", "disk")
"""The setting that shows the size of the saved caches."""
EMPTY = ("settings.empty",)


class SettingsScreen(ListsScreen[None]):
    """A line to filter by, the settings, and the meaning of the one under the cursor."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "edit", "Change", priority=True, id="settings.change",
                tooltip="Change it; of a few values, the next"),
        Binding("ctrl+d", "default", "Reset", priority=True, id="settings.default",
                tooltip="Reset to default: out of config.toml"),
        Binding("ctrl+x", "empty", "Empty", show=False, priority=True, id="settings.empty",
                tooltip="Remove the saved caches; the chats stay"),
        Binding("escape", "back", "Back", id="settings.back", tooltip="Back to the chat"),
    ]  # fmt: skip
    DEFAULT_CSS = """
    SettingsScreen {
        #settings { width: 3fr; }
        #help {
            width: 2fr;
            height: 1fr;
            padding: 1 2;
            border: round $line;
            border-title-color: $quiet;
        }
        &.-narrow .beside { layout: vertical; }
        &.-narrow #settings { width: 100%; }
        &.-narrow #help { width: 100%; height: 8; padding: 0 2; }
    }
    """

    def __init__(
        self,
        settings: Settings,
        path: Path,
        changed: Callable[[Settings], None],
        coming: Callable[[], NextStart],
        states: SavedStates,
    ) -> None:
        """`settings` are the present ones; `path` is the path of config.toml, which may not exist; `coming`
        reads the settings of the next start; `states` are the saved caches of chats."""
        self._rows = Rows("settings")
        super().__init__("filter", (self._rows,))
        self._settings = settings
        self._path = path
        self._changed = changed
        self._coming = coming
        self._states = states
        self._saved = UNKNOWN
        """The size of the saved caches in words."""
        self._help = Static(id="help", markup=False)

    def compose(self) -> ComposeResult:
        yield self.line
        with Horizontal(classes="beside"):
            yield self._rows
            yield self._help
        yield KeyLine()

    def on_mount(self) -> None:
        self.activate(self._rows)
        self._help.border_title = "config.toml"
        self._list()

    # The settings

    def _is_default(self, section: str, key: str) -> bool:
        return bool(value_of(self._settings, section, key) == value_of(Settings(), section, key))

    def _list(self) -> None:
        words = self.typed.lower().split()
        found = [
            (section, key)
            for section, key in every_setting(self._settings)
            if all(word in f"{section} {key} {about(section, key)}".lower() for word in words)
        ]
        named = [(PRESETS, each.name) for each in self._settings.presets]
        found += [each for each in named if all(word in " ".join(each).lower() for word in words)]
        self._rows.empty = "no setting has these words"
        self._rows.show([self._row(section, key) for section, key in found])
        changed = sum(not self._is_default(*each) for each in every_setting(self._settings))
        self._rows.border_title = f"Settings  {changed} changed" if changed else "Settings"
        self._tell()

    def _row(self, section: str, key: str) -> Row:
        name = f"{section}.{key}"
        if section == PRESETS:
            chosen = self._settings.generation.preset == key
            return Row(name, (name + MARK * chosen, "for new chats" * chosen), "good" if chosen else "plain")
        changed = not self._is_default(section, key)
        return Row(
            name,
            (name + MARK * changed, clean_line(shown_of(self._settings, section, key), 30)),
            "good" if changed else "plain",
        )

    def _current(self) -> tuple[str, str] | None:
        row = self._rows.current
        section, _, key = row.key.partition(".") if row else ("", "", "")
        return (section, key) if row else None

    @on(Rows.Moved)
    @on(Input.Changed)
    def _moved(self, event: Rows.Moved | Input.Changed) -> None:
        event.stop()
        if isinstance(event, Input.Changed):
            self._list()
        self._tell()
        if self._current() == SAVED:  # an engine may have saved another chat since the last look
            work_alone(self, "count", self._count)

    def _tell(self) -> None:
        """Show the meaning of the setting under the cursor."""
        if (current := self._current()) is None:
            self._help.update("")
            return
        if current[0] == PRESETS:
            self._help.update(self._preset(current[1]))
            return
        section, key = current
        default = shown_of(Settings(), section, key)
        lines = [
            Content.styled(f"[{section}] {key}", "bold $primary"),
            Content(sentence(about(section, key))),
            Content(""),
            Content.assemble(("now      ", "$quiet"), clean_line(shown_of(self._settings, *current))),
        ]
        if current == SAVED:  # before the default, which a small terminal cuts off
            key_to_press = key_of(self, EMPTY, "ctrl+x")
            lines.append(
                Content.assemble(("on disk  ", "$quiet"), f"{self._saved} · {key_to_press} empties them")
            )
        lines.append(Content.assemble(("default  ", "$quiet"), default))
        if choices := choices_of(section, key):
            lines.append(Content.assemble(("one of   ", "$quiet"), ", ".join(choices)))
        if later := LATER.get(section) or LATER.get(f"{section}.{key}"):
            lines += [Content(""), *self._next(section, key), Content.styled(later, "$warning")]
        self._help.update(Content("\n").join(lines))

    def _next(self, section: str, key: str) -> Iterator[Content]:
        """Return the value at the next start if it differs from now, and the source of a pair."""
        coming = self._coming()
        value = value_of(coming.settings, section, key)
        if value != value_of(self._settings, section, key):
            shown = shown_of(coming.settings, section, key)
            yield Content.assemble(("next start  ", "$quiet"), clean_line(shown))
        if section == "models" and coming.recalled and key != "folders":
            yield Content("The next start loads the pair you chose last with ctrl+l.")

    def _preset(self, name: str) -> Content:
        preset = self._settings.preset(name)
        lines = [Content.styled(f"[presets.{clean_line(name)}]", "bold $primary")]
        for key, value in preset.values if preset else ():
            lines.append(
                Content.assemble((f"{key}  ", "$quiet"), clean_line(show_setting(Generation, key, value)))
            )
        words = (
            "Enter: new chats begin with it, or not. In a chat, /preset takes one and /save-preset makes one."
        )
        return Content("\n").join([*lines, Content(""), Content(words)])

    # Keys

    def action_edit(self) -> None:
        if (current := self._current()) is None:
            return
        if current[0] == PRESETS:
            chosen = self._settings.generation.preset == current[1]
            self._set("generation", "preset", "" if chosen else current[1])
            return
        now = show_value(value_of(self._settings, *current))
        if choices := choices_of(*current):
            self._set(*current, choices[(choices.index(now) + 1) % len(choices)])
            return

        def typed(text: str | None) -> None:
            if text is not None:
                self._set(*current, text)

        self.app.push_screen(LineScreen(".".join(current), now), typed)

    def _set(self, section: str, key: str, text: str) -> None:
        """Write a typed value into the file and use it here."""
        try:
            value = read_value(type(getattr(self._settings, section)), key, text)
        except ConfigError as error:
            self.notify(clean_line(f"{key} must be {error}"), severity="error", markup=False)
            return
        self._keep(section, key, value, value)

    def action_default(self) -> None:
        if (current := self._current()) and current[0] != PRESETS:
            self._keep(*current, None, value_of(Settings(), *current))

    def _keep(self, section: str, key: str, written: Any, value: Any) -> None:
        try:
            change_config(self._path, (section, key), written)
        except (ConfigError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self.notify(clean_line(f"It is not saved: {reason}"), severity="error", markup=False)
        part = replace(getattr(self._settings, section), **{key: value})
        self._settings = replace(self._settings, **{section: part})
        self._changed(self._settings)
        self._list()

    def action_empty(self) -> None:
        """Remove the saved caches, where their size is shown."""
        if self._current() == SAVED:
            work_alone(self, "states", self._count, True)

    async def _count(self, empty: bool = False) -> None:
        """Show the size of the saved caches; with `empty`, remove them first."""
        try:
            if empty:
                self.notify(await self._states.forget_all(), markup=False)
            self._saved = await self._states.counted()
        except EngineError as error:
            self._saved = f"unknown: {error.line}"
        self._tell()


def every_setting(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield (section, key) of each setting."""
    for section in fields(settings):
        value = getattr(settings, section.name)
        if is_dataclass(value):
            yield from ((section.name, entry.name) for entry in fields(value) if entry.metadata)


def value_of(settings: Settings, section: str, key: str) -> Any:
    return getattr(getattr(settings, section), key)


def shown_of(settings: Settings, section: str, key: str) -> str:
    """Return the value of a setting as a person reads it."""
    part = getattr(settings, section)
    return show_setting(type(part), key, getattr(part, key))


def about(section: str, key: str) -> str:
    """Return the help of a setting."""
    entries = fields(getattr(Settings(), section))
    return str(next(entry for entry in entries if entry.name == key).metadata["about"])


def choices_of(section: str, key: str) -> Sequence[str]:
    """Return the values of a setting that has only a few."""
    hint = get_type_hints(type(getattr(Settings(), section)))[key]
    if hint is bool:
        return ("true", "false")
    return get_args(hint) if get_origin(hint) is Literal else ()
