"""An answer streams into a chat of 1,000 messages, in a real pty: CPU, key echo, the gaps between frames.

    python -m tools.bench.long_chat [--messages 1000] [--rate 200]

A busy machine spoils it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.terminal import Terminal
from tools.bench.screen import TOKENS_PER_ROUND, cpu_seconds, echo, median_ms
from tools.bench.transcript import tokens
from tui.protocol import TextRound
from tui.store.changes import AddMessage, AppendRounds, Change, FinishAnswer, StartConversation, Turn
from tui.store.store import Store

SECONDS = 10
PROSE = "the draft model rides ahead and proposes words while the main model checks them all in one pass. "


def fill(path: Path, messages: int) -> None:
    """A chat of so many messages, answers of about 100 tokens with their rounds."""
    store = Store.open(path)
    changes: list[Change] = [StartConversation("long", "A long chat")]
    parent = ""
    for number in range(messages // 2):
        asked, answered = f"q{number}", f"a{number}"
        pieces = tuple(tokens(100, number))
        text = "".join(piece for piece, _ in pieces)
        changes += [
            AddMessage("long", Turn(asked, parent, "user", f"Question {number}?")),
            AddMessage("long", Turn(answered, asked, "assistant")),
            AppendRounds(answered, 0, (TextRound(pieces, tuple(range(100)), 99, 0, 99, 1.0, 0.1, 0.8, 100),)),
            FinishAnswer(answered, text, "stop", None),
        ]
        parent = answered
    store.apply(changes)
    store.close()


def gaps(terminal: Terminal, seconds: float) -> list[float]:
    """Seconds between frames: what comes within 4 ms of the bytes before it is of the same."""
    found, last, size = [], 0.0, len(terminal.output)
    until = time.perf_counter() + seconds
    while (now := time.perf_counter()) < until:
        terminal.pump(0.001)
        if len(terminal.output) > size:
            size = len(terminal.output)
            if last and now - last > 0.004:
                found.append(now - last)
            last = now
    return sorted(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000)
    parser.add_argument("--rate", type=float, default=200)
    how = parser.parse_args()
    with streaming("sample", "go", how) as terminal:
        before, began = cpu_seconds(terminal.pid), time.perf_counter()
        terminal.pump(SECONDS)
        spent = (cpu_seconds(terminal.pid) - before) / (time.perf_counter() - began)
        taken = sorted(echo(terminal))
    # Prose, of which every token is seen: while a model writes a link or the rule of a table, nothing new is.
    with streaming("echo", PROSE, how) as terminal:
        frames = gaps(terminal, SECONDS)
    print(f"{spent * 100:8.1f}  % of a core, the app, at {how.rate:g} tokens/s")
    print(f"{median_ms(taken):8.1f}  ms from a key to the screen, median")
    print(f"{taken[int(len(taken) * 0.95)] * 1000:8.1f}  ms from a key to the screen, 95th percentile")
    print(f"{median_ms(frames):8.1f}  ms between frames, median of {len(frames):,}")
    print(f"{frames[int(len(frames) * 0.99)] * 1000:8.1f}  ms between frames, 99th percentile")


@contextmanager
def streaming(model: str, prompt: str, how: argparse.Namespace) -> Iterator[Terminal]:
    """The long chat, into which an answer streams."""
    last, rate = f"Question {how.messages // 2 - 1}", how.rate
    home = Path(tempfile.mkdtemp(prefix="outrider-bench-"))
    (home / "outrider").mkdir(mode=0o700)
    (home / "outrider" / "config.toml").write_text("[models]\ncontext_length = 500_000\n")
    fill(home / "outrider" / "chats.db", how.messages)
    env = {name: str(home) for name in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME")}
    main = f"scripted:{model}?rate={rate / TOKENS_PER_ROUND}&tokens={int(rate * 90)}"
    command = [str(Path(sys.executable).with_name("outrider")), "--main", main]
    command += ["--draft", "scripted:draft?acceptance=0.7", "--continue", "long"]
    began = time.perf_counter()
    with Terminal(command, rows=40, columns=120, env=env) as terminal:
        terminal.wait(last.encode(), 60)
        print(f"{(time.perf_counter() - began) * 1000:8.1f}  ms from the start to {last!r}")
        terminal.wait(b"ready", 30)
        terminal.pump(3)
        terminal.send(prompt.encode() + b"\r")
        terminal.pump(4)
        yield terminal


if __name__ == "__main__":
    main()
