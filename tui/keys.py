"""The keys of every action on every screen, with the changes from the config.

Screens are imported only when a caller asks for them, so that the first paint waits for none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from textual.app import App
from textual.binding import Binding, BindingType
from textual.keys import Keys as Named

from .choices import meant
from .clean import clean_line
from .config import Keys

Group = tuple[str, Sequence[Binding]]
"""A title, and its actions."""

VI: Final[Mapping[str, str]] = {
    "read.leave": "i,a,escape,tab",
    "read.inspect": "t",
    "read.delete": "x,delete",
    "read.history": "/",
    "lists.up": "up,ctrl+k",
    "lists.down": "down,ctrl+j",
    "lists.pageup": "pageup,ctrl+b",
    "lists.pagedown": "pagedown,ctrl+f",
}
"""Keys of the vi set that differ. Reading and inspecting use h, j, k and l in every set."""

SAME: Final[Mapping[str, str]] = {
    "read.stop": "chat.stop",
    "read.new": "chat.new",
    "read.history": "chat.history",
    "read.models": "chat.models",
}
"""Actions that exist twice, each with the action whose keys it uses."""

_MODIFIERS = frozenset(("ctrl", "alt", "shift", "super", "meta", "hyper"))
_NAMES = frozenset(
    {named.value for named in Named} | {"space", "plus", "minus", "comma", "full_stop", "slash"}
    | {"equals_sign", "question_mark", "colon", "semicolon", "left_square_bracket", "right_square_bracket"}
)  # fmt: skip


def groups(app: Iterable[BindingType]) -> list[Group]:
    """Return every action, screen by screen. `app` has the actions of all screens."""
    from .screens.chat import ChatScreen
    from .screens.history import HistoryScreen
    from .screens.hosts import HostsScreen
    from .screens.hub import HubScreen
    from .screens.inspection import InspectionScreen
    from .screens.models import ModelsScreen
    from .screens.race import RaceScreen
    from .screens.settings import SettingsScreen
    from .screens.theme_list import ThemesScreen
    from .widgets.chat_panel import ChatPanel
    from .widgets.composer import Composer
    from .widgets.transcript import Transcript

    return [
        ("Writing", _bindings(Composer.BINDINGS)),
        ("Chat", _bindings([*ChatScreen.BINDINGS, *ChatPanel.BINDINGS])),
        ("Messages", [each for each in _bindings(Transcript.BINDINGS) if each.description]),
        ("Inside an answer", _bindings(InspectionScreen.BINDINGS)),
        ("Race", _bindings(RaceScreen.BINDINGS)),
        ("Chats", _bindings(HistoryScreen.BINDINGS)),
        ("Models", _bindings(ModelsScreen.BINDINGS)),
        ("Hosts", _bindings(HostsScreen.BINDINGS)),
        ("Downloads", _bindings(HubScreen.BINDINGS)),
        ("Settings", _bindings(SettingsScreen.BINDINGS)),
        ("Themes", _bindings(ThemesScreen.BINDINGS)),
        ("Outrider", [*_bindings(app), Binding("ctrl+p", "", "Commands")]),
    ]


def _together(app: Iterable[BindingType]) -> list[list[Binding]]:
    """Return groups of actions whose keys work at the same time: of a screen, its widgets and the app."""
    from .screens.list_screen import Line, ListsScreen
    from .widgets.transcript import Transcript

    found = dict(groups(app))
    chat, everywhere = found["Chat"], found["Outrider"]
    lists = _bindings([*ListsScreen.BINDINGS, *Line.BINDINGS])
    screens = [found[name] for name in ("Chats", "Models", "Hosts", "Downloads", "Settings")]
    return [
        [*found["Writing"], *chat, *everywhere],
        [*_bindings(Transcript.BINDINGS), *chat, *everywhere],
        [*found["Inside an answer"], *everywhere],
        [*found["Race"], *everywhere],
        [*found["Themes"], *everywhere],
        *([*each, *lists, *everywhere] for each in screens),
    ]


def keymap(keys: Keys, app: Iterable[BindingType]) -> tuple[dict[str, str], list[str]]:
    """Return the changed keys by action id, and the faults in the config's keys.

    `app` is as in `groups`. An action keeps its default key if another action in the same group has the new
    key.
    """
    together = _together(list(app))
    own = {each.id: each.key for place in together for each in place if each.id}
    wanted = dict(VI) if keys.set == "vi" else {}
    problems = []
    for name, text in keys.bound:
        if name not in own:
            problems.append(f"keys.{name}: no action has this name{meant(name, own)}")
        elif bad := next((key for key in _split(text) if not _is_key(key)), None):
            problems.append(f"keys.{name}: {bad!r} is not a key; examples are ctrl+y, f9, alt+enter")
        elif rival := _rival(name, text, wanted, own, together):
            problems.append(f"keys.{name}: {rival} has that key already; give it another first")
        else:
            wanted[name] = ",".join(_split(text))
    for copy, other in SAME.items():
        if other in wanted and copy not in dict(keys.bound):
            wanted[copy] = wanted[other]
    return wanted, problems


def take_keys(app: App[Any], keys: Keys) -> None:
    """Give the app the keys of the config, and show those that cannot be used."""
    found, problems = keymap(keys, app.BINDINGS)
    app.set_keymap(found)
    for problem in problems:
        app.notify(clean_line(problem), severity="warning", timeout=12, markup=False)


def _rival(
    name: str, text: str, wanted: Mapping[str, str], own: Mapping[str, str], together: Iterable[list[Binding]]
) -> str:
    """Return the action that has one of the keys at the same time as `name`; empty if none has."""
    for place in together:
        ids = [each.id for each in place if each.id]
        if name not in ids:
            continue
        for other in ids:
            if name not in (other, SAME.get(other)) and SAME.get(name) != other:
                now = wanted.get(other) or wanted.get(SAME.get(other, ""), own[other])
                taken = set(_split(now))
                if taken & set(_split(text)) - set(_split(own[name])):
                    return other
    return ""


def _split(text: str) -> list[str]:
    return [key.strip() for key in text.split(",") if key.strip()]


def _is_key(key: str) -> bool:
    *modifiers, name = key.split("+") if key != "+" else [key]
    return set(modifiers) <= _MODIFIERS and (len(name) == 1 or name in _NAMES)


def _bindings(declared: Iterable[BindingType]) -> list[Binding]:
    return [binding for binding in declared if isinstance(binding, Binding)]
