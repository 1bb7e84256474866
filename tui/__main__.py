"""Runs one command of the command line and returns its exit code. The options are in `commands.options`.

Imports are in the branches, so that `--help` answers at once and the chat's first frame waits for nothing.
"""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace

from . import __version__, commands

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

DONE, FAILED, INTERRUPTED = 0, 1, 130
"""Exit codes. argparse adds 2 for an invalid command line."""

UNSAID = (
    "command",
    "main",
    "draft",
    "backend",
    "exact",
    "draft_length",
    "seed",
    "theme",
    "go_on",
    "host",
    "workers",
)
"""The chat's options."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Usage errors raise `SystemExit(2)`, as in argparse."""
    _open_what_is_closed()
    words = sys.argv[1:] if argv is None else argv
    try:
        status = _version() if list(words) == ["--version"] else _run(_arguments(words))
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        # Else Python would complain again when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if isinstance(error, BrokenPipeError):  # the reader has read enough
            return DONE
        print(f"outrider: {error.strerror}", file=sys.stderr)
        return FAILED
    except ModuleNotFoundError as error:
        print(
            f"outrider: {error.name} is not installed; `make run` installs what is missing", file=sys.stderr
        )
        return FAILED


def _open_what_is_closed() -> None:
    """Open standard streams that our parent has closed, as daemons do, on /dev/null.

    For a closed stream Python has None, and the next opened file would take its number.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            os.set_inheritable(number, True)
            stream = open(number, "w" if number else "r", encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    """Parse the command line. Without words argparse is not imported, which saves time."""
    if not words:
        return SimpleNamespace(**dict.fromkeys(UNSAID))  # type: ignore[return-value]
    from .commands.options import parser

    return parser().parse_args(words)


def _version() -> int:
    """Print the version as argparse would, which takes longer to import than all else here."""
    print(f"outrider {__version__}")
    return DONE


def _run(arguments: argparse.Namespace) -> int:
    if arguments.command == "engine":
        from .engine.server import main as serve

        serve()
    if arguments.command == "worker":
        from .engine.worker import main as work

        work()
    if arguments.command is not None:
        return commands.run(arguments)
    from .commands import chat

    return chat.run(arguments)


if __name__ == "__main__":
    sys.exit(main())
