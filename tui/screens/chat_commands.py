"""The commands of a chat: the table of `/name value`, and the entries of the palette.

The table takes a `ChatSession`. `chat/slash.py` reads the typed text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from functools import partial
from inspect import isawaitable
from pathlib import Path
from typing import get_args, get_type_hints

from textual.app import SystemCommand
from textual.binding import Binding
from textual.dom import DOMNode
from textual.screen import Screen

from tui import store
from tui.chat import slash
from tui.chat.completion import Suggestion
from tui.chat.conversation import TITLE
from tui.chat.draft_length import Drafting
from tui.chat.formatting import sentence
from tui.chat.overrides import KEYS, ChatOverrides
from tui.chat.requests import HERE
from tui.chat.session import ChatSession
from tui.chat.slash import Choice, SlashCommand
from tui.choices import AUTO
from tui.clean import clean_line
from tui.client import EngineError
from tui.config import ConfigError, Generation, Preset, change_config, read_value, show_setting, show_value
from tui.host import known_to_ssh
from tui.paths import find_ssh_config
from tui.store.keeper import Unreadable
from tui.widgets.chat_panel import HIGHLIGHTS, ChatPanel, Part

from .background import work_alone
from .message_actions import OF_THE_LAST, MessageActions
from .other_screens import OtherScreens

NONE = "none"
SWITCHES: tuple[tuple[str, str, Part], ...] = (
    ("Rejected tokens", "Show or hide rejected tokens", "rejected"),
    ("Thoughts", "Open or fold the thoughts of models before their answers", "thoughts"),
    ("Sidebar", "Show or hide the numbers", "sidebar"),
)
"""Entries of the palette: title, explanation, part of the screen."""
KEYS_ONLY = frozenset(
    (
        *("chat.send", "chat.newline", "chat.earlier", "chat.later", "chat.complete"),
        *("chat.close_suggestions", "chat.undo_typing", "app.interrupt"),
    )
)
"""Actions that make sense only as a key."""
WITHOUT_SLASH = KEYS_ONLY | {"chat.stop", "chat.up", "chat.down", "chat.end"}
"""Actions that make no sense as a command."""


class ChatCommands:
    """The commands of one chat screen."""

    def __init__(
        self,
        screen: Screen[None],
        session: ChatSession,
        actions: MessageActions,
        others: OtherScreens,
        panel: ChatPanel,
        config: Path,
    ) -> None:
        """`screen` has the keys; each action with a key is also a command. `config` is the path of
        config.toml."""
        self._screen = screen
        self._session = session
        self._actions = actions
        self._others = others
        self._panel = panel
        self._config = config

    def palette(self) -> Iterable[SystemCommand]:
        """Yield the entries of the palette for this screen, beside its keys."""
        session = self._session
        if not session.connection.busy and (last := session.conversation.last):
            for want, _, title, about in OF_THE_LAST:
                yield SystemCommand(title, about, partial(self._actions.want, want, last))
        for length in session.drafting.all():
            about = "How many tokens are drafted in a round"
            yield SystemCommand(f"Drafting: {length.words}", about, partial(session.draft, length))
        for mode in HIGHLIGHTS:
            about = "How it shows where tokens come from"
            yield SystemCommand(f"Colors: {mode}", about, partial(self._panel.set_highlight, mode))
        for title, about, part in SWITCHES:
            yield SystemCommand(title, about, partial(self._panel.action_switch, part))

    def run(self, text: str, by_hand: str) -> bool:
        """Run the command in `text`. Returns False if it is none."""
        parsed = slash.parse(text) if by_hand.startswith("/") else None
        if parsed is None:
            return False
        name, value = parsed
        commands = self.table()
        if command := slash.find(name, commands):
            self._panel.composer.accept()
            work_alone(self._screen, "command", _run, command, value)
        else:
            self._suggest_nearest(name, slash.nearest(name, commands))
        return True

    def _suggest_nearest(self, name: str, near: SlashCommand | None) -> None:
        """Keep the typed text, and let Tab take the command that is most like it."""
        before, meant = self._panel.composer.before, ""
        if near and before.startswith(f"/{name}"):
            right = f"/{near.name}{before[len(name) + 1 :]}"
            self._panel.suggestions.offer([Suggestion(right, near.about, len(before))], before)
            meant = f"Did you mean /{near.name}? Tab takes it. "
        words = f"There is no command /{name}. {meant}With a space before it, it is sent as text."
        self._panel.tell(words, seconds=8)

    def table(self) -> list[SlashCommand]:
        """Return the commands that are possible now: the actions with a key, and the commands with a
        value."""
        own = [*settings_of(self._session, self._config), *self._ways()]
        for want, name, title, _ in OF_THE_LAST:
            own.append(SlashCommand(name, title, lambda _, want=want: self._actions.want_of_last(want)))  # type: ignore[misc]
        taken = {command.name for command in own}
        keyed = (
            self._of_key(active.binding, active.node)
            for active in self._screen.active_bindings.values()
            if _can_be_typed(active.binding)
        )
        return sorted([*own, *(each for each in keyed if each.name not in taken)], key=lambda each: each.name)

    def _of_key(self, binding: Binding, node: DOMNode) -> SlashCommand:
        """Return the command for an action that has a key."""
        name = (binding.id or "").partition(".")[2].replace("_", "-")
        run = partial(self._screen.app.run_action, binding.action, node)
        return SlashCommand(name, binding.tooltip or binding.description, lambda _: run())

    def _ways(self) -> list[SlashCommand]:
        """Return the commands that lead to another screen, and those about the conversation."""
        session, run_action = self._session, self._screen.app.run_action
        return [
            SlashCommand("models", "Choose a main model and its draft", self._others.models),
            SlashCommand("theme", "Choose the colors", lambda _: run_action("app.themes")),
            SlashCommand("get-models", "Download from the Hugging Face hub", lambda _: run_action("app.hub")),
            SlashCommand("export", "Write this chat as Markdown", partial(_export, session)),
            SlashCommand("undo", "Bring back the messages that were deleted last",
                         lambda _: self._actions.undo()),
            SlashCommand("forget", "Remove the saved caches of all chats", partial(_forget, session)),
            SlashCommand("host", "Let the engine run there, by ssh", self._others.move, "name",
                         partial(_hosts, session)),
            SlashCommand("title", "Call this chat so", partial(_rename, session), "words"),
        ]  # fmt: skip


async def _run(command: SlashCommand, value: str) -> None:
    outcome = command.run(value)
    if isawaitable(outcome):
        await outcome


def _can_be_typed(binding: Binding) -> bool:
    name = binding.id or ""
    return name.startswith(("chat.", "app.")) and name not in WITHOUT_SLASH


# Settings


_DRAFT_LENGTHS = (AUTO, "as far as it pays"), ("never", ""), ("4", "always 4")
_ON_OR_OFF = ("on", "loads the models again"), ("off", "")


def settings_of(session: ChatSession, config: Path) -> list[SlashCommand]:
    """Return the commands that change the settings of the chat of `session`."""
    abouts = {entry.name: sentence(entry.metadata["about"]) for entry in fields(Generation)}
    return [
        *(
            SlashCommand(
                key, abouts[key], partial(_set, session, key), "value", partial(_values, session, key)
            )
            for key in KEYS
        ),
        SlashCommand("reset", "Drop this chat's own settings", partial(_reset, session)),
        SlashCommand("preset", "Take a preset in this chat", partial(_take, session), "name",
                     partial(_presets, session)),
        SlashCommand("save-preset", "Save this chat's settings as a preset",
                     partial(_save_preset, config, session), "name"),
        SlashCommand("drafting", "Draft length: auto, never, or 1 to 16 tokens", partial(_draft, session),
                     "length", lambda: _DRAFT_LENGTHS),
        SlashCommand("exact", "Draft only so far that no text changes", partial(_exact, session),
                     "on or off", lambda: _ON_OR_OFF),
    ]  # fmt: skip


def _set(session: ChatSession, key: str, text: str) -> None:
    now = dict(session.overrides.values).get(key)
    if not text:
        value = show_setting(Generation, key, getattr(session.generation, key))
        own = "of this chat" if now is not None else "by the settings"
        session.view.tell(f"{key} is {value}, {own}.")
        return
    try:
        value = read_value(Generation, key, text)
    except ConfigError as error:
        session.view.tell(f"{key} must be {error}", severity="error")
        return
    session.override(session.overrides.with_value(key, value))


def _values(session: ChatSession, key: str) -> Sequence[Choice]:
    """Return useful values of a setting: the present one, and the one of the config."""
    if isinstance(getattr(Generation(), key), bool):
        return (("true", ""), ("false", ""))
    if choices := [each for each in get_args(get_type_hints(Generation)[key]) if isinstance(each, str)]:
        return [(choice, "") for choice in choices]
    now = show_value(getattr(session.generation, key))
    usual = show_value(getattr(session.settings.generation, key))
    found = [(now, "now")] if now else []
    if usual and usual != now:
        found.append((usual, "by the settings"))
    words = next(entry for entry in fields(Generation) if entry.name == key).metadata["words"]
    return [*found, *((word, "") for word in words)]


def _reset(session: ChatSession, _: str) -> None:
    session.override(ChatOverrides())
    session.view.tell("This chat has no settings of its own any more.", seconds=4)


def _presets(session: ChatSession) -> Sequence[Choice]:
    found = [(each.name, ", ".join(key for key, _ in each.values)) for each in session.settings.presets]
    return [*found, (NONE, "no preset")]


def _take(session: ChatSession, name: str) -> None:
    if name and name != NONE and session.settings.preset(name) is None:
        there = ", ".join(each.name for each in session.settings.presets) or "there are none in config.toml"
        session.view.tell(f"There is no preset {name}: {there}", severity="error")
        return
    session.override(ChatOverrides("" if name in ("", NONE) else name, session.overrides.values))


def _save_preset(config: Path, session: ChatSession, name: str) -> None:
    """Save the overrides of this chat as a preset in `config`, and use that."""
    before = session.settings.preset(session.overrides.preset_of(session.settings))
    values = dict(before.values if before else ()) | dict(session.overrides.values)
    if not name or not values:
        words = "Change something first, such as /temperature 0.2; then: /save-preset NAME"
        session.view.tell(words, seconds=6)
        return
    try:
        for key, value in values.items():
            change_config(config, ("presets", name, key), value)
    except (ConfigError, OSError) as error:
        session.view.tell(f"It is not saved: {error}", severity="error")
        return
    others = tuple(preset for preset in session.settings.presets if preset.name != name)
    session.settings = replace(session.settings, presets=(*others, Preset(name, tuple(values.items()))))
    session.override(ChatOverrides(name))
    session.view.tell(f"Saved: /preset {name} takes it in any chat.", seconds=5)


async def _exact(session: ChatSession, text: str) -> None:
    now = session.settings.models.exact
    if text in ("on", "off") and (text == "on") != now:
        await session.set_exact(text == "on")
        return
    words = (
        "Exact is on: no draft can change the text." if now else "Exact is off: rounding may tip a choice."
    )
    session.view.tell(words, seconds=4)


def _draft(session: ChatSession, text: str) -> None:
    try:
        length = read_value(Generation, "draft_length", text or AUTO)
    except ConfigError as error:
        session.view.tell(f"The draft length must be {error}", severity="error")
        return
    session.draft(Drafting(length))


# The conversation


def _hosts(session: ChatSession) -> Sequence[Choice]:
    named = {each.name: each.address for each in session.settings.hosts}
    ssh = {name: "~/.ssh/config" for name in known_to_ssh(find_ssh_config()) if name not in named}
    return [*named.items(), (HERE, "this machine"), *ssh.items()]


def _rename(session: ChatSession, title: str) -> None:
    if title and session.conversation.last:
        session.keeper.add(store.RenameConversation(session.conversation.key, clean_line(title, TITLE)))
        session.view.tell("Titled.", seconds=4)
    else:
        session.view.tell("Ask something first, then: /title WORDS", seconds=4)


async def _forget(session: ChatSession, _: str) -> None:
    """Remove the saved caches of all chats from the engine's disk. The chats stay."""
    if session.rejects():
        return
    try:
        session.view.tell(await session.states.forget_all(), seconds=6)
    except EngineError as error:
        session.view.tell(f"Nothing is removed: {error.line}", severity="error")


async def _export(session: ChatSession, _: str) -> None:
    """Write the chat as Markdown into the folder in which the app was started."""
    from tui.chat.export import export

    await session.keeper.settle()
    try:
        stored = await session.keeper.read(session.conversation.key)
        path = export(stored, session.folder()) if stored else None
    except (Unreadable, OSError) as error:
        session.view.tell(f"It is not written: {error}", severity="error")
        return
    session.view.tell(f"Written: {path.name}" if path else "There is nothing to write yet.")
