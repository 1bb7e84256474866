"""How much sooner a long chat goes on if its cache was saved, and how long the copy of the cache takes.

    python -m tools.bench.waking MAIN [--tokens 7600] [--draft none] [--times 3]

The same chat is continued by four ways in turns. In a session that has just loaded the models, everything is
read again, or the saved cache is loaded. In the second session, another question of the same length follows,
for which nothing is loaded. Then another chat is asked, and a question comes back to the first one, whose
cache is in memory. Time and processor time until the first token are printed, because other programs may run.
The saved caches go into a folder of their own, which is removed.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

from tui.engine.session import Session
from tui.paths import find_states
from tui.protocol import Event, Finished, Generate, Load, Loaded, Message, Rounds, Sampling

_TEXT = "The river rises in the hills, and the people of the valley say that it is older than the hills. "
_ROOM = 1 << 36


class Asked:
    """A session that has just loaded its models, and stops its clocks at the first token."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._began = self._first = (0.0, 0.0)
        self._last: Event | None = None
        self.session = Session(self._hear, lambda _: False)
        context = options.tokens + 512
        load = Load(str(options.main), options.draft, context, disk_cache=_ROOM, memory_cache=_ROOM)
        self.session.do(load)
        if not isinstance(self._last, Loaded):
            raise SystemExit(str(self._last))

    def _hear(self, event: Event) -> None:
        self._last = event
        if isinstance(event, Rounds) and self._first < self._began:
            self._first = (perf_counter(), process_time())

    def ask(self, messages: Sequence[Message], chat: str) -> tuple[float, float, Finished]:
        """Return the seconds and the processor seconds until the first token, and the last event."""
        self._began, self._first = (perf_counter(), process_time()), (0.0, 0.0)
        self.session.do(
            Generate(
                1, tuple(messages), 1, Sampling(temperature=0.0), max_tokens=8, chat=chat, draft_length=0
            )
        )
        if not isinstance(self._last, Finished):
            raise SystemExit(str(self._last))
        return self._first[0] - self._began[0], self._first[1] - self._began[1], self._last

    def save(self) -> float:
        """Save the chat. Return the seconds of the copy, for which a question would have waited."""
        began = perf_counter()
        self.session._chats.leave()
        copied = perf_counter() - began
        self.session.save()
        return copied


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("main", type=Path)
    parser.add_argument("--draft", default="none")
    parser.add_argument("--tokens", type=int, default=7600)
    parser.add_argument("--times", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        _measure(options)


def _measure(options: argparse.Namespace) -> None:
    first = Asked(options)
    encode = first.session._loaded.main.vocabulary.encode
    chat = [Message("user", _TEXT * (options.tokens // len(encode(_TEXT))))]
    first.ask(chat, "saved")
    copied = first.save()
    first.session.close()
    size = sum(path.stat().st_size for path in find_states().iterdir())
    print(f"{size / 1e6:.0f} MB saved, copied in {copied:.3f} s", flush=True)
    more = [*chat, Message("assistant", "Yes."), Message("user", "And then?")]
    other = [*chat, Message("assistant", "No."), Message("user", "And then?")]
    ways = ("read again", "woken", "in the session", "after another chat")
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    short = [Message("user", "Good morning! What does the river do?")]
    for _ in range(options.times):
        for way, name in (("read again", ""), ("woken", "saved")):
            asked = Asked(options)
            seconds, busy, end = asked.ask(more, name)
            assert bool(end.statistics.prompt_restored) == bool(name), way
            found[way].append((seconds, busy))
            if name:
                found["in the session"].append(asked.ask(other, name)[:2])
                asked.ask(short, "short")
                seconds, busy, end = asked.ask(more, name)
                assert end.statistics.prompt_restored, "from memory"
                found["after another chat"].append((seconds, busy))
            asked.session.close()
        for way, times in found.items():
            seconds, busy = (median(column) for column in zip(*times, strict=True))
            print(f"{way:18} {seconds:7.2f} s   processor {busy:7.2f} s", flush=True)


if __name__ == "__main__":
    main()
