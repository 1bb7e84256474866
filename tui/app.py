"""The app: settings, themes, engine and screens put together. Composition only: the chat is in its screen."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

from textual import on
from textual._node_list import DuplicateIds
from textual.app import SystemCommand
from textual.binding import Binding, BindingType
from textual.constants import TEXTUAL_ANIMATIONS
from textual.driver import Driver
from textual.events import DescendantFocus
from textual.screen import Screen
from textual.types import AnimationLevel

from .chat.session import ChatSession
from .clean import clean_line, exact
from .client import Downloads, EngineClient, EngineDied, HubClient, Item
from .config import Keys, Settings
from .config.last import LastPair
from .host import Host
from .keys import groups, keymap, take_keys
from .paths import Paths, shipped
from .screens.background import work_alone
from .screens.chat import ChatScreen
from .screens.chat_commands import KEYS_ONLY
from .store.keeper import Keeper
from .terminal.compositor import FrugalCompositor, PaintFaults
from .terminal.keyboard import mend
from .terminal.lean import LeanOutput
from .terminal.output_filter import OutputFilter
from .themes import ThemeChoice, default_variables
from .widgets.keyline import key_of, readable_key

QUIT = ("app.quit",)
STRIDE, SELDOM = 10, 1.0
"""For slow lines: lines by which an answer moves at once, and seconds between two updates of the figures."""


def settle() -> None:
    """Tell the garbage collector to ignore all objects of the first paint, because they stay."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    gc.enable()


def motion(settings: Settings) -> AnimationLevel:
    """Return the wanted amount of motion."""
    return "none" if settings.appearance.reduced_motion else TEXTUAL_ANIMATIONS


def draw_seed() -> int:
    """Return a seed that is short enough to type again."""
    return int.from_bytes(os.urandom(8), "big") % 1_000_000_000


class Outrider(LeanOutput):
    """A chat with a local model and its draft."""

    TITLE = "Outrider"
    CSS_PATH = "app.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f1", "help", "Help", id="app.help", tooltip="Every key and color"),
        Binding("f2", "settings", "Settings", show=False, id="app.settings",
                tooltip="Every setting, with its help"),
        Binding("f9", "themes", "Theme", show=False, id="app.themes", tooltip="Choose the colors"),
        Binding("ctrl+q", "quit", "Quit", id="app.quit", priority=True, tooltip="Quit"),
        Binding("ctrl+c", "interrupt", "Copy or stop", show=False, id="app.interrupt", priority=True,
                tooltip="Copy the selection, or stop the answer"),
        Binding("ctrl+z", "suspend_process", "Suspend", show=False, id="app.suspend",
                tooltip="Back to the shell; fg comes back here"),
    ]  # fmt: skip

    _hub: Screen[None] | None = None
    _event_loop: asyncio.AbstractEventLoop | None = None

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

        `go_on` is the chat to continue, by key or words; empty for the latest, None for a new one.
        `recalled`: the pair of `settings` is the one that was chosen last.
        """
        super().__init__(**options)
        mend()
        self._filters.append(OutputFilter())
        self._settings = settings
        self._places = places
        self._clock = clock
        self._draw_seed = draw_seed
        agent = bool(settings.engine.workers)
        self._client = EngineClient(engine, places.log, on_death=self._engine_died, host=host, agent=agent)
        self._hub_client = HubClient(self._client, os.environ)
        self._downloads = Downloads(self._hub_client, clock)
        self._downloads.on_change = self._download_changed
        kept = places.chats if settings.history.keep else None
        self._keeper = Keeper(kept, lambda: self._session.show_keeping())
        self._go_on = go_on
        self._recalled = recalled
        self._last_pair = LastPair(places, lambda: self._client.host.name if self._client.host else "")
        self._themes = ThemeChoice(self, places.config)
        folders = shipped("themes"), places.themes
        self._notices = [*notices, *self._themes.install(folders, settings.appearance.theme)]

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return default_variables(self.current_theme)

    def get_default_screen(self) -> Screen[None]:
        self._session = ChatSession(
            self._settings, self._client, self._keeper, self._clock, self._draw_seed, self._last_pair.keep
        )
        self._chat = ChatScreen(self._session, self._places.config, self._notices, recalled=self._recalled)
        tell = partial(self.notify, severity="error", timeout=20, markup=False)
        self._chat._compositor = FrugalCompositor(PaintFaults(self._places.log, tell).report)
        if self.lean:
            self._session.turn.tick = SELDOM
            self._chat.panel.transcript.stride = STRIDE
        return self._chat

    def on_mount(self) -> None:
        self._event_loop = asyncio.get_running_loop()
        self.animation_level = motion(self._settings)
        if self._settings.keys != Keys():
            self.call_after_refresh(take_keys, self, self._settings.keys)
        self.call_after_refresh(self._keeper.open)
        if self._go_on is not None:
            self.call_after_refresh(self._chat.others.open_named, self._go_on)
        self.call_after_refresh(settle)

    async def on_unmount(self) -> None:
        await self._keeper.close()
        await self._client.close()

    @property
    def unsaved(self) -> str:
        """The reason why a part of the chat is not on the disk; empty if all is saved."""
        return self._keeper.fault if self._keeper.unsaved else ""

    def end(self, status: int) -> None:
        """Exit with `status` from a signal handler."""
        if self._event_loop is None:
            raise SystemExit(status)
        self._event_loop.call_soon_threadsafe(self.exit, None, status)

    def _engine_died(self, error: EngineDied) -> None:
        """Note a death while nothing waited for the engine."""
        self._chat.call_later(self._session.connection.died, error)

    def _download_changed(self, item: Item) -> None:
        if item.state == "done":
            self.notify(clean_line(f"{item.name} is here: Ctrl+L chooses it."), timeout=8, markup=False)
        elif item.state == "failed" and item.fault and self.screen is not self._hub:
            self.notify(clean_line(item.fault.line), severity="error", timeout=12, markup=False)

    def copy_to_clipboard(self, text: str) -> None:
        """Copy in a way that works here, and show it."""
        text = exact(text)
        self._clipboard = text
        osc52 = partial(self.call_from_thread, super().copy_to_clipboard)

        async def copied() -> None:
            from .terminal import clipboard

            words = await asyncio.to_thread(clipboard.copy, text, os.environ, osc52)
            self.notify(clean_line(words), timeout=4, markup=False)

        if not self.is_headless:
            work_alone(self, "copy", copied)

    async def action_interrupt(self) -> None:
        """Copy the selection. Without one, stop the answer; without an answer, show how to quit."""
        marked = getattr(self.focused, "selected_text", "")
        if text := marked or self.screen.get_selected_text():
            self.copy_to_clipboard(text)
            if not marked:
                self.screen.clear_selection()  # the same key again stops the answer
            return
        # Stop the engine's work for the visible screen, or else the answer of the chat.
        stop = getattr(self.screen, "interrupt", None)
        if not (stop and await stop()) and not await self._chat.interrupt():
            key = key_of(self.screen, QUIT, "/quit")
            words = f"{key} quits. Ctrl+C copies the selection and stops an answer."
            self.notify(words, timeout=5, markup=False)
        elif self.screen is not self._chat:
            self.notify("Stopped.", timeout=4, markup=False)

    def sleep(self) -> None:
        """Suspend the app. The answer continues."""
        self._client.sleep()

    @on(Driver.SignalResume)
    def _came_back(self) -> None:
        """Draw everything again: the shell has written on the terminal."""
        self.refresh(layout=True)

    def cannot_sleep(self) -> None:
        key = key_of(self.screen, QUIT, "/quit")
        words = f"Nothing to go back to: this window has no shell. {key} quits."
        self.notify(words, timeout=5, markup=False)

    def action_command_palette(self) -> None:
        with suppress(DuplicateIds):  # the last screen is still closing
            super().action_command_palette()

    def action_hub(self) -> None:
        """Show the models on the hub, and the downloads."""
        from .screens.hub import HubScreen

        if self._hub is None or self.screen is not self._hub:
            self._hub = HubScreen(self._hub_client, self._downloads)
            self.push_screen(self._hub)

    # Keys, looks and settings

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        """Stop the cursor from blinking, so that nothing wakes this process while nobody works."""
        if getattr(event.widget, "cursor_blink", False):
            event.widget.cursor_blink = False  # type: ignore[attr-defined]

    def action_settings(self) -> None:
        from .screens.settings import SettingsScreen

        if not isinstance(self.screen, SettingsScreen):
            settings, config = self._session.settings, self._places.config
            states = self._session.states
            screen = SettingsScreen(settings, config, self._apply, self._last_pair.next_start, states)
            self.push_screen(screen)

    def _apply(self, settings: Settings) -> None:
        """Use other settings, as far as they can change at once."""
        if settings.appearance.theme != self._session.settings.appearance.theme:
            self._themes.take(settings.appearance.theme)
        self._chat.apply(settings)
        self.animation_level = motion(settings)

    def action_themes(self) -> None:
        from .screens.theme_list import ThemesScreen

        def keep(name: str) -> None:
            settings = self._session.settings
            self._chat.apply(replace(settings, appearance=replace(settings.appearance, theme=name)))
            self._themes.save(name)

        if not isinstance(self.screen, ThemesScreen):
            self.push_screen(ThemesScreen(keep))

    def action_help(self) -> None:
        from .screens.help import HelpScreen

        self.push_screen(HelpScreen(groups(self.BINDINGS), keymap(self._settings.keys, self.BINDINGS)[0]))

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """Yield every action that has a key on this screen, and the further entries of the screen."""
        if isinstance(screen, ChatScreen):
            yield from screen.slash.palette()
        for key, active in screen.active_bindings.items():
            binding = active.binding
            if active.enabled and binding.id and binding.description and binding.id not in KEYS_ONLY:
                about = f"{binding.tooltip or binding.description}  ({readable_key(key)})"
                run = partial(self.run_action, binding.action, active.node)
                yield SystemCommand(binding.description, about, run)
        yield SystemCommand("Get models", "Download from the Hugging Face hub", self.action_hub)
