"""The app: settings, themes, engine and screens put together. Composition only; the chat is its screen's."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from traceback import format_exception
from typing import Any, ClassVar

from textual import on, work
from textual._node_list import DuplicateIds
from textual.app import SystemCommand
from textual.binding import Binding, BindingType
from textual.constants import TEXTUAL_ANIMATIONS
from textual.driver import Driver
from textual.events import DescendantFocus
from textual.screen import Screen
from textual.widget import Widget

from .chat.session import ChatSession
from .chat.wording import readable
from .clean import clean_line, exact
from .client import Downloads, EngineClient, EngineDied, HubClient, Item
from .client.child import EngineLog
from .client.host import Host
from .config import ConfigError, Keys, Settings, change_config
from .config.last import NextStart, keep_last, next_start
from .config.settings import understood
from .paths import Paths, find_copied, shipped
from .screens.chat import ChatScreen
from .store.keeper import Keeper
from .terminal.compositor import FrugalCompositor
from .terminal.keyboard import mend
from .terminal.lean import LeanOutput
from .terminal.output_filter import OutputFilter
from .themes import default_variables, load_themes

DEFAULT_THEME = "outrider-dark"
STRIDE, SELDOM = 10, 1.0
"""Where bytes are dear: lines by which an answer moves at once, seconds between two looks at the numbers."""
COLOURLESS_THEME = "terminal"
"""Where NO_COLOR is set: Textual's filter for it works on the terminal's own colours."""


def draw_seed() -> int:
    """A seed short enough to be typed again."""
    return int.from_bytes(os.urandom(8), "big") % 1_000_000_000


class Outrider(LeanOutput):
    """A chat with a local model and its draft."""

    TITLE = "Outrider"
    CSS_PATH = "app.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f1", "help", "Help", id="app.help", tooltip="Every key and color"),
        Binding(
            "f2",
            "settings",
            "Settings",
            show=False,
            id="app.settings",
            tooltip="Every setting, with its help",
        ),
        Binding("f9", "themes", "Theme", show=False, id="app.themes", tooltip="Choose the colors"),
        Binding("ctrl+q", "quit", "Quit", id="app.quit", priority=True, tooltip="Quit"),
        Binding("ctrl+c", "interrupt", "Copy or stop", show=False, id="app.interrupt", priority=True,
                tooltip="Copy the selection, or stop the answer"),
        Binding("ctrl+z", "suspend_process", "Suspend", show=False, id="app.suspend",
                tooltip="Back to the shell; fg comes back here"),
    ]  # fmt: skip

    def __init__(
        self,
        settings: Settings,
        places: Paths,
        engine: Sequence[str],
        notices: Sequence[str] = (),
        host: Host | None = None,
        go_on: str | None = None,
        recalled: bool = False,
        clock: Callable[[], float] = time.monotonic,
        draw_seed: Callable[[], int] = draw_seed,
        **options: Any,
    ) -> None:
        """`engine` is the command that runs it, on `host` if not here; `notices` are shown at first; the
        `options` are Textual's.

        `go_on` is the chat to go on with, by key or words; empty for the latest, None for a new one.
        `recalled` says that the pair of `settings` is the one that was chosen last.
        """
        super().__init__(**options)
        mend()
        self._filters.append(OutputFilter())
        self._settings = settings
        self._places = places
        self._clock = clock
        self._draw_seed = draw_seed
        self._client = EngineClient(engine, places.log, os.environ, on_death=self._engine_died, host=host)
        self._hub_client = HubClient(self._client, os.environ)
        self._downloads = Downloads(self._hub_client, clock)
        self._hub: Screen[None] | None = None
        self._downloads.on_change = self._download_changed
        kept = places.chats if settings.history.keep else None
        self._keeper = Keeper(kept, lambda: self._session.show_keeping())
        self._go_on = go_on
        self._recalled = recalled
        self._event_loop: asyncio.AbstractEventLoop | None = None
        self._unpainted: set[tuple[type, type]] = set()
        self._notices = [*notices, *self._install_themes(places)]

    def _install_themes(self, places: Paths) -> list[str]:
        """Register our themes and the user's, take the one that is set; what went wrong with that."""
        themes, failures = load_themes((shipped("themes"), places.themes))
        for theme in themes:
            self.register_theme(theme)
        wanted = COLOURLESS_THEME if self.no_color else self._settings.appearance.theme
        problems = [str(failure) for failure in failures]
        if self.get_theme(wanted) is None:
            problems.append(f"There is no theme {wanted!r}; {DEFAULT_THEME} is used")
            wanted = DEFAULT_THEME
        self.theme = wanted
        return problems

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return default_variables(self.current_theme)

    def get_default_screen(self) -> Screen[None]:
        self._session = ChatSession(
            self._settings, self._client, self._keeper, self._clock, self._draw_seed, self._keep_pair
        )
        self._chat = ChatScreen(self._session, self._places.config, self._notices, recalled=self._recalled)
        self._chat._compositor = FrugalCompositor(self._not_painted)
        if self.lean:
            self._session.turn.tick = SELDOM
            self._chat.desk.transcript.stride = STRIDE
        return self._chat

    def _not_painted(self, widget: Widget, error: Exception) -> None:
        """A part of the chat cannot be shown. That is said once for each kind, and kept for a report."""
        kind = (type(widget), type(error))
        if kind in self._unpainted:
            return
        self._unpainted.add(kind)
        log = EngineLog(self._places.log)
        log.write("".join(format_exception(error)).encode())
        log.close()
        words = (
            f"A part of the screen cannot be shown. The chat goes on. Please report it: {self._places.log}"
        )
        self.notify(clean_line(words), severity="error", timeout=20, markup=False)

    def _keep_pair(self, settings: Settings) -> bool:
        """Keep the pair for the next start; False if that will load another one all the same."""
        keep_last(settings, self._last)
        return self._next_start().recalled

    def _next_start(self) -> NextStart:
        return next_start(self._places.config, self._last, here=self._client.host is None)

    @property
    def _last(self) -> Path:
        """Where the pair that was chosen last is kept, for the machine that the engine is on now."""
        host = self._client.host
        return self._places.of_host(host.name if host else "").last

    def on_mount(self) -> None:
        self._event_loop = asyncio.get_running_loop()
        self._move(self._settings)
        if self._settings.keys != Keys():
            self.call_after_refresh(self._take_keys)
        self.call_after_refresh(self._keeper.open)
        if self._go_on is not None:
            self.call_after_refresh(self._chat.others.open_named, self._go_on)
        self.call_after_refresh(self._settle)

    def _settle(self) -> None:
        """After the first paint: what lives now lives on, so the collector need not look at it again."""
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        gc.enable()

    async def on_unmount(self) -> None:
        await self._keeper.close()
        await self._client.close()

    @property
    def unsaved(self) -> str:
        """Why something that was said is not on the disk; empty if all is."""
        return self._keeper.fault if self._keeper.unsaved else ""

    def end(self, status: int) -> None:
        """Exit with `status` from a signal handler."""
        if self._event_loop is None:
            raise SystemExit(status)
        self._event_loop.call_soon_threadsafe(self.exit, None, status)

    def _engine_died(self, error: EngineDied) -> None:
        """It died while nothing waited for it."""
        self._chat.call_later(self._session.connection.died, error)

    def _download_changed(self, item: Item) -> None:
        if item.state == "done":
            self.notify(clean_line(f"{item.name} is here: Ctrl+L chooses it."), timeout=8, markup=False)
        elif item.state == "failed" and item.fault and self.screen is not self._hub:
            self.notify(clean_line(item.fault.line), severity="error", timeout=12, markup=False)

    def copy_to_clipboard(self, text: str) -> None:
        """Copy by whatever works here, and say so."""
        text = exact(text)
        self._clipboard = text
        if not self.is_headless:
            self._copy(text)

    @work(exclusive=True, group="copy")
    async def _copy(self, text: str) -> None:
        from .terminal import clipboard

        words = f"Copied: {len(text):,} characters."
        if not await asyncio.to_thread(clipboard.give, text, clipboard.ways(os.environ)):
            if clipboard.takes_osc52(os.environ):
                super().copy_to_clipboard(text)
            else:
                words = await asyncio.to_thread(_left_in_file, text)
        self.notify(clean_line(words), timeout=4, markup=False)

    async def action_interrupt(self) -> None:
        """Copy what is selected; without a selection stop the answer; without an answer say how to quit."""
        marked = getattr(self.focused, "selected_text", "")
        if text := marked or self.screen.get_selected_text():
            self.copy_to_clipboard(text)
            if not marked:
                self.screen.clear_selection()  # the same key again stops the answer
        elif not await self._stop():
            words = f"{self._quit_key} quits. Ctrl+C copies the selection and stops an answer."
            self.notify(words, timeout=5, markup=False)

    @property
    def _quit_key(self) -> str:
        """As people write it."""
        keys = (key for key, each in self.active_bindings.items() if each.binding.id == "app.quit")
        return readable(next(keys, "/quit"))

    async def _stop(self) -> bool:
        """Stop what the engine does for the screen that is seen, or else the answer of the chat."""
        stop = getattr(self.screen, "interrupt", None)
        stopped = bool(stop and await stop()) or await self._chat.interrupt()
        if stopped and self.screen is not self._chat:
            self.notify("Stopped.", timeout=4, markup=False)
        return stopped

    def sleep(self) -> None:
        """An answer goes on meanwhile."""
        self._client.sleep()

    @on(Driver.SignalResume)
    def _came_back(self) -> None:
        """The shell has drawn on the terminal."""
        self.refresh(layout=True)

    def cannot_sleep(self) -> None:
        words = f"Nothing to go back to: this window has no shell. {self._quit_key} quits."
        self.notify(words, timeout=5, markup=False)

    def action_command_palette(self) -> None:
        with suppress(DuplicateIds):  # the last one is still being closed
            super().action_command_palette()

    def action_hub(self) -> None:
        """Models on the hub, and the downloads."""
        from .screens.hub import HubScreen

        if self._hub is None or self.screen is not self._hub:
            self._hub = HubScreen(self._hub_client, self._downloads)
            self.push_screen(self._hub)

    # Keys, looks and settings

    def _take_keys(self) -> None:
        """The keys that the config asks for; what cannot be had of them is said."""
        from .keys import keymap

        found, problems = keymap(self._settings.keys, self.BINDINGS)
        self.set_keymap(found)
        for problem in problems:
            self.notify(clean_line(problem), severity="warning", timeout=12, markup=False)

    def _move(self, settings: Settings) -> None:
        """As much motion as is wanted."""
        self.animation_level = "none" if settings.appearance.reduced_motion else TEXTUAL_ANIMATIONS

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        """No cursor blinks: while nobody does anything, nothing wakes this process."""
        if getattr(event.widget, "cursor_blink", False):
            event.widget.cursor_blink = False  # type: ignore[attr-defined]

    def action_settings(self) -> None:
        from .screens.settings import SettingsScreen

        if not isinstance(self.screen, SettingsScreen):
            self.push_screen(
                SettingsScreen(self._session.settings, self._places.config, self._apply, self._next_start)
            )

    def _apply(self, settings: Settings) -> None:
        """Go on by these, as far as they hold at once."""
        if settings.appearance.theme != self._session.settings.appearance.theme:
            self._take_theme(settings.appearance.theme)
        self._chat.apply(understood(settings))
        self._move(settings)

    def _take_theme(self, name: str) -> None:
        if self.get_theme(name):
            self.theme = name
        else:
            there = ", ".join(sorted(self.available_themes))
            self.notify(clean_line(f"There is no theme {name}: {there}"), severity="error", markup=False)

    def action_themes(self) -> None:
        from .screens.looks import ThemesScreen

        if not isinstance(self.screen, ThemesScreen):
            self.push_screen(ThemesScreen(self._keep_theme))

    def _keep_theme(self, name: str) -> None:
        """From the next start on it is this theme too."""
        settings = self._session.settings
        self._chat.apply(replace(settings, appearance=replace(settings.appearance, theme=name)))
        try:
            change_config(self._places.config, ("appearance", "theme"), name)
        except (ConfigError, OSError) as error:
            self.notify(clean_line(f"It is not saved: {error}"), severity="error", markup=False)

    def action_help(self) -> None:
        from .keys import groups, keymap
        from .screens.help import HelpScreen

        self.push_screen(HelpScreen(groups(self.BINDINGS), keymap(self._settings.keys, self.BINDINGS)[0]))

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """Every action that has a key on this screen, and what it offers besides."""
        if isinstance(screen, ChatScreen):
            yield from screen.slash.palette()
        for key, active in screen.active_bindings.items():
            binding = active.binding
            if active.enabled and binding.id and binding.description and binding.id not in KEYS_ONLY:
                about = f"{binding.tooltip or binding.description}  ({readable(key)})"
                run = partial(self.run_action, binding.action, active.node)
                yield SystemCommand(binding.description, about, run)
        yield SystemCommand("Get models", "Download from the Hugging Face hub", self.action_hub)


def _left_in_file(text: str) -> str:
    """Where a copy is that no clipboard takes, in words."""
    from .terminal.clipboard import write

    try:
        write(text, find_copied())
    except OSError as error:
        return f"It is not copied: {error}"
    return f"There is no clipboard here: it is in {find_copied()}"


KEYS_ONLY = frozenset(
    (
        *("chat.send", "chat.newline", "chat.earlier", "chat.later", "chat.complete", "chat.refuse"),
        *("chat.undo_typing", "app.interrupt"),
    )
)
"""Actions that mean something as a key alone."""
