"""The commands behind `outrider`: a module for each, with a `run` that returns its exit code."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

FAILED, USAGE = 1, 2


def run(arguments: argparse.Namespace) -> int:
    """Run the command in `arguments` and return its exit code. A failure becomes one line on stderr."""
    # The chat imports this package before its first frame, and needs none of these.
    from importlib import import_module

    from ..errors import OutriderError
    from .setup import UsageError

    command = import_module(f".{arguments.command}", __package__)
    try:
        return int(command.run(arguments))
    except UsageError as error:
        status, line = USAGE, error.message
    except OutriderError as error:
        status, line = FAILED, error.line
    print(f"outrider: {line}", file=sys.stderr)
    return status
