"""The history's times: search and list with many messages, and what a start and an answer wait for.

    python -m tools.bench.history [--messages 100000]

A busy machine spoils it.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from statistics import median

from tui.protocol import TextRound
from tui.store.changes import AddMessage, AppendRounds, Change, FinishAnswer, StartConversation, Turn
from tui.store.store import Store

CHAT = 40
"""Messages of a chat."""
WORDS = 60
"""Words of a message."""


def vocabulary(chance: random.Random) -> tuple[list[str], list[float]]:
    """20,000 words and how often each comes: the nth n times more seldom than the first."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(chance.choices(letters, k=chance.randint(2, 9))) for _ in range(20_000)]
    return words, [1 / rank for rank in range(1, len(words) + 1)]


def fill(store: Store, messages: int) -> list[str]:
    """Write them; the words, the most frequent first."""
    chance = random.Random(2)
    words, weights = vocabulary(chance)
    for chat in range(messages // CHAT):
        parent, changes = "", [StartConversation(f"c{chat}", " ".join(chance.choices(words, weights, k=6)))]
        added: list[Change] = []
        for number in range(CHAT):
            key, text = f"{chat}-{number}", " ".join(chance.choices(words, weights, k=WORDS))
            role = ("user", "assistant")[number % 2]
            added.append(AddMessage(f"c{chat}", Turn(key, parent, role, text, "stop")))  # type: ignore[arg-type]
            parent = key
        store.apply([*changes, *added])
    return words


def timed(work: Callable[[], object], times: int = 9) -> tuple[float, float]:
    """The median and the longest, in milliseconds."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        found.append((time.perf_counter() - began) * 1000)
    return median(found), max(found)


def part(store: Store, number: int) -> None:
    """A fifth of a second of an answer at 500 tokens a second, and its end."""
    rounds = tuple(
        TextRound(((" word", 1), (" more", 2)), (1, 2), 4, 0, 2, 0.004, 0.001, 0.003, 100) for _ in range(50)
    )
    if number == 0:
        store.apply([StartConversation("new", "new"), AddMessage("new", Turn("a", "", "assistant"))])
    store.apply([AppendRounds("a", number, rounds)])


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--messages", type=int, default=100_000)
    count = options.parse_args().messages
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chats.db"
        with closing(Store.open(path)) as store:
            words = fill(store, count)
            print(f"{count:,} messages, {path.stat().st_size / 1e6:.0f} MB; milliseconds, median and longest")
            rows = {
                "the newest chats": lambda: store.listed(),
                "the most frequent word": lambda: store.listed(words[0]),
                "the 100th": lambda: store.listed(words[99]),
                "the 10,000th": lambda: store.listed(words[9_999]),
                "one letter": lambda: store.listed("a"),
                "three words": lambda: store.listed(" ".join(words[3:6])),
                "a chat, looked into": lambda: store.preview("c7"),
                "a chat, opened": lambda: store.read("c7"),
            }
            for name, work in rows.items():
                print(f"  {name:28}{'{:8.1f}{:8.1f}'.format(*timed(work))}")
            numbers = iter(range(1000))
            spent = timed(lambda: part(store, next(numbers)), 50)
            print(f"  {'200 ms of an answer, written':28}{'{:8.1f}{:8.1f}'.format(*spent)}")
            store.apply([FinishAnswer("a", "text", "stop", None)])
        print(
            f"  {'the file, opened':28}{'{:8.1f}{:8.1f}'.format(*timed(lambda: Store.open(path).close(), 5))}"
        )


if __name__ == "__main__":
    main()
