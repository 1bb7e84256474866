"""Starts the chat: the first frame, the environment, then everything that takes time to import.

The order matters. Textual reads its environment when it is imported, and a frame before that import appears
within 30 ms. This module decides nothing about the chat itself.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys

from ..terminal.handover import Terminal

# No import before the first frame may take a millisecond: not typing, and not signal, which imports enum.
TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    import signal
    from collections.abc import Callable, Mapping, MutableMapping

    from ..config import Appearance, Settings
else:
    import _signal as signal

GRACE = 3.0
"""Seconds that the app has to end after a signal."""

REMOTE_FRAMES = 20
"""Most paints of an answer in a second over ssh."""

TRUECOLOR = ("xterm-kitty", "xterm-ghostty", "alacritty", "foot", "wezterm", "iterm2", "contour", "rio")
"""Terminals with 24-bit color that announce it in COLORTERM, which ssh does not forward."""


def run(arguments: argparse.Namespace) -> int:
    """Run the chat until it ends and return its exit status. `arguments` has None for missing options."""
    if reason := rejection(os.environ, os.isatty(0) and os.isatty(2)):
        print(f"outrider: {reason}", file=sys.stderr)
        return 2
    gc.disable()  # until the first paint; the app turns it on again
    terminal = Terminal(0, 2)
    atexit.register(terminal.leave)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    terminal.enter()
    try:
        prepare_environment(os.environ)
        return _run_app(terminal, arguments)
    finally:
        terminal.leave()


def rejection(environ: Mapping[str, str], interactive: bool) -> str:
    """Return in one line why no chat is possible here; empty if one is."""
    if not interactive:
        return "the chat needs a terminal; `outrider ask` answers without one"
    if environ.get("TERM", "dumb") in ("", "dumb", "unknown"):
        return f"TERM={environ.get('TERM', '')} cannot show the chat; `outrider ask` answers in any terminal"
    return ""


def prepare_environment(environ: MutableMapping[str, str]) -> None:
    """Set the variables that Textual reads at its import. Values set by the user stay."""
    environ.setdefault("TEXTUAL_FPS", "120")  # how soon a key shows; the answer has its own frame rate
    if environ.get("SSH_CONNECTION"):
        environ.setdefault("TEXTUAL_ANIMATIONS", "none")
        environ.setdefault("TEXTUAL_SMOOTH_SCROLL", "0")
    if environ.get("TERM", "").startswith(TRUECOLOR) and not environ.get("COLORTERM"):
        environ.setdefault("TEXTUAL_COLOR_SYSTEM", "truecolor")
    if "NO_COLOR" in environ:
        # Textual chooses the filter for NO_COLOR by the theme at the creation of the app.
        environ.setdefault("TEXTUAL_THEME", "ansi-dark")


def _run_app(terminal: Terminal, arguments: argparse.Namespace) -> int:
    from ..app import Outrider
    from ..terminal.driver import driver_for
    from .setup import UsageError, set_up

    try:
        setup = set_up(arguments)
    except UsageError as error:
        terminal.leave()
        print(f"outrider: {error}", file=sys.stderr)
        return 2
    settings = with_arguments(setup.settings, arguments)
    app = Outrider(
        settings=paced(settings, os.environ),
        places=setup.places,
        engine=setup.engine,
        host=setup.host,
        recalled=setup.recalled and arguments.draft is None,
        notices=tuple(map(str, setup.problems)),
        go_on=arguments.go_on,
        driver_class=driver_for(terminal),
    )
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _ender(terminal, app.end))
    remote, look = bool(os.environ.get("SSH_CONNECTION")), settings.appearance
    app.lean = is_lean(look, os.environ)
    app.run(mouse=look.mouse == "on" or (look.mouse == "auto" and not remote))
    if app.unsaved:
        terminal.leave()
        print(f"outrider: the last chat is not saved: {app.unsaved}", file=sys.stderr)
    return app.return_code or int(bool(app.unsaved))


def is_lean(look: Appearance, environ: Mapping[str, str]) -> bool:
    """Return whether the app should save bytes to the terminal."""
    return look.output == "lean" or (look.output == "auto" and bool(environ.get("SSH_CONNECTION")))


def with_arguments(settings: Settings, arguments: argparse.Namespace) -> Settings:
    """Return `settings` with the options of the command line. None means not given."""
    from dataclasses import replace

    from .setup import with_models

    settings = with_models(settings, arguments.main, arguments.draft, arguments.backend, arguments.exact)
    said = {
        name: value for name in ("seed", "draft_length") if (value := getattr(arguments, name)) is not None
    }
    settings = replace(settings, generation=replace(settings.generation, **said))
    if arguments.theme is not None:
        settings = replace(settings, appearance=replace(settings.appearance, theme=arguments.theme))
    return settings


def paced(settings: Settings, environ: Mapping[str, str]) -> Settings:
    """Return `settings` with fewer frames if each one crosses a network."""
    from dataclasses import replace

    look = settings.appearance
    if not environ.get("SSH_CONNECTION") or look.frames_per_second <= REMOTE_FRAMES:
        return settings
    return replace(settings, appearance=replace(look, frames_per_second=REMOTE_FRAMES))


def _ender(terminal: Terminal, end: Callable[[int], None]) -> Callable[[int, object], None]:
    """Return a signal handler that ends the app properly, and after `GRACE` seconds by force."""

    def abandon(status: int) -> None:
        terminal.leave()
        os._exit(status)

    def handle(number: int, _: object) -> None:
        from threading import Timer

        deadline = Timer(GRACE, abandon, (128 + number,))
        deadline.daemon = True
        deadline.start()
        end(128 + number)

    return handle
