"""What is typed to change how a chat is answered: its own settings, presets, how far to draft; its title."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, get_args, get_type_hints

from tui.chat.draft_length import AUTO, NEVER, DraftLength
from tui.chat.overrides import KEYS, ChatOverrides
from tui.chat.requests import HERE
from tui.chat.slash import Choice, SlashCommand
from tui.chat.wording import sentence
from tui.clean import clean_line
from tui.client.host import known_to_ssh
from tui.config import ConfigError, Generation, read_value, show_setting, show_value
from tui.places import find_ssh_config

if TYPE_CHECKING:
    from .chat import ChatScreen

NONE = "none"


def commands(chat: ChatScreen) -> list[SlashCommand]:
    """Those of `chat`."""
    abouts = {entry.name: sentence(entry.metadata["about"]) for entry in fields(Generation)}
    return [
        *(
            SlashCommand(key, abouts[key], partial(_set, chat, key), "value", partial(_values, chat, key))
            for key in KEYS
        ),
        SlashCommand("reset", "Drop this chat's own settings", partial(_reset, chat)),
        SlashCommand("preset", "Take a preset in this chat", partial(_take, chat), "name",
                     partial(_presets, chat)),
        SlashCommand("save-preset", "Save this chat's settings as a preset", chat.save_preset, "name"),
        SlashCommand("drafting", "Draft length: auto, never, or 1 to 16 tokens", partial(_draft, chat),
                     "length", lambda: (("auto", "as far as it pays"), ("never", ""), ("4", "always 4"))),
        SlashCommand("exact", "Draft only so far that no text changes", partial(_exact, chat), "on or off",
                     lambda: (("on", "loads the models again"), ("off", ""))),
        SlashCommand("models", "Choose a main model and its draft", chat.action_models),
        SlashCommand("theme", "Choose the colors", lambda _: chat.app.run_action("app.themes")),
        SlashCommand("get-models", "Download from the Hugging Face hub",
                     lambda _: chat.app.run_action("app.hub")),
        SlashCommand("export", "Write this chat as Markdown", lambda _: chat.export()),
        SlashCommand("undo", "Bring back the messages that were deleted last", lambda _: chat.undo()),
        SlashCommand("host", "Let the engine run there, by ssh", chat.move, "name", partial(_hosts, chat)),
        SlashCommand("title", "Call this chat so", chat.rename, "words"),
    ]  # fmt: skip


def _set(chat: ChatScreen, key: str, text: str) -> None:
    now = dict(chat.adjustments.values).get(key)
    if not text:
        value = show_setting(Generation, key, getattr(chat.generation, key))
        own = "of this chat" if now is not None else "by the settings"
        chat.notify(clean_line(f"{key} is {value}, {own}."), markup=False)
        return
    try:
        value = read_value(Generation, key, text)
    except ConfigError as error:
        chat.notify(clean_line(f"{key} must be {error}"), severity="error", markup=False)
        return
    chat.adjust(chat.adjustments.with_value(key, value))


def _values(chat: ChatScreen, key: str) -> Sequence[Choice]:
    """Values that are worth a row: what it is now, and what it is elsewhere."""
    if isinstance(getattr(Generation(), key), bool):
        return (("true", ""), ("false", ""))
    if choices := [each for each in get_args(get_type_hints(Generation)[key]) if isinstance(each, str)]:
        return [(choice, "") for choice in choices]
    now = show_value(getattr(chat.generation, key))
    usual = show_value(getattr(chat.settings.generation, key))
    found = [(now, "now")] if now else []
    if usual and usual != now:
        found.append((usual, "by the settings"))
    words = next(entry for entry in fields(Generation) if entry.name == key).metadata["words"]
    return [*found, *((word, "") for word in words)]


def _reset(chat: ChatScreen, _: str) -> None:
    chat.adjust(ChatOverrides())
    chat.notify("This chat has no settings of its own any more.", timeout=4, markup=False)


def _presets(chat: ChatScreen) -> Sequence[Choice]:
    found = [(each.name, ", ".join(key for key, _ in each.values)) for each in chat.settings.presets]
    return [*found, (NONE, "no preset")]


def _take(chat: ChatScreen, name: str) -> None:
    if name and name != NONE and chat.settings.preset(name) is None:
        there = ", ".join(each.name for each in chat.settings.presets) or "there are none in config.toml"
        words = f"There is no preset {name}: {there}"
        chat.notify(clean_line(words), severity="error", markup=False)
        return
    chat.adjust(ChatOverrides("" if name in ("", NONE) else name, chat.adjustments.values))


def _hosts(chat: ChatScreen) -> Sequence[Choice]:
    named = {each.name: each.address for each in chat.settings.hosts}
    ssh = {name: "~/.ssh/config" for name in known_to_ssh(find_ssh_config()) if name not in named}
    return [*named.items(), (HERE, "this machine"), *ssh.items()]


async def _exact(chat: ChatScreen, text: str) -> None:
    now = chat.settings.models.exact
    if text in ("on", "off") and (text == "on") != now:
        await chat.set_exact(text == "on")
        return
    words = (
        "Exact is on: no draft can change the text." if now else "Exact is off: rounding may tip a choice."
    )
    chat.notify(words, timeout=4, markup=False)


def _draft(chat: ChatScreen, text: str) -> None:
    lengths = {"auto": AUTO, "never": NEVER, "": AUTO}
    try:
        length = lengths[text] if text in lengths else read_value(Generation, "draft_length", text)
    except ConfigError as error:
        chat.notify(clean_line(f"The draft length must be {error}"), severity="error", markup=False)
        return
    chat.set_drafting(DraftLength(length))
