"""What a new user does first: `make run`, a question, the answer, the way out. Run as a script."""

from __future__ import annotations

import sys

import pyte

from tests.support.terminal import Terminal

QUESTION = b"What is a draft model?"


def shown(terminal: Terminal) -> str:
    """The screen as a person sees it."""
    screen = pyte.Screen(120, 40)
    pyte.ByteStream(screen).feed(bytes(terminal.output))
    return "\n".join(screen.display)


def main() -> int:
    with Terminal(["make", "run"], rows=40, columns=120) as terminal:
        terminal.wait(lambda: "ready" in shown(terminal), 60)
        terminal.send(QUESTION + b"\r")
        terminal.wait(lambda: "% of drafts accepted" in shown(terminal), 60)
        print(shown(terminal))
        terminal.send(b"\x11")
        return terminal.exit(10)


if __name__ == "__main__":
    sys.exit(main())
