"""How much time does our own code take beside the native calls of a head?

    python -m tools.bench.head_cost MAIN.gguf [--head HEAD.gguf] [--lengths 1,3,8] [--turns 5]

Rounds of fixed draft lengths at temperatures 0 and 0.8, the lengths in turns. For each the table gives the
microseconds of a drafted token: inside `llama_decode` of the head, inside its other native calls, and in our
own code, which feeds the head, chooses its tokens and keeps the rows of the main model. All calls run in one
thread, and its processor time counts, so a busy machine does little harm. The smallest of several turns
stands for all. `python -m tools.bench.wide_head` makes a model to measure.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from time import thread_time
from typing import Any, NamedTuple

from tests.support.rows import some_tokens
from tui.engine.backends import Options
from tui.engine.backends.llama_cpp import LlamaBackend
from tui.engine.backends.llama_cpp.head import LlamaHead
from tui.engine.backends.llama_cpp.model import LlamaModel
from tui.engine.speculation.loop import generate, prefill
from tui.engine.speculation.policy import FixedLength
from tui.engine.speculation.proposers import DraftModel
from tui.engine.speculation.sampling import Chain, Sampler
from tui.protocol import Obstacle

TEMPERATURES = (0.0, 0.8)
_PROMPT = 100


class Clock:
    """Sums up the processor time inside some calls."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*given: Any, **named: Any) -> Any:
            began = thread_time()
            try:
                return function(*given, **named)
            finally:
                self.seconds += thread_time() - began

        return timed


class Timed:
    """A native library whose calls are timed: `llama_decode` by itself, and all others."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self.decode, self.rest = Clock(), Clock()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._library, name)
        if not callable(found):
            return found
        timed = (self.decode if name in ("llama_decode", "llama_encode") else self.rest).around(found)
        setattr(self, name, timed)
        return timed


class Cost(NamedTuple):
    """Seconds of a drafted token."""

    decode: float
    native: float
    ours: float

    @property
    def share(self) -> float:
        """Our own time beside that inside `llama_decode`."""
        return self.ours / self.decode


class Measured:
    """A pair whose head is timed."""

    def __init__(self, main: LlamaModel, head: LlamaHead) -> None:
        self._main, self._head = main, head
        self._library = head._library = Timed(head._library)
        self._rows, self._drafting = Clock(), Clock()
        hidden, own = head._hidden, head._own
        hidden.take = self._rows.around(hidden.take)  # type: ignore[method-assign]
        own._get = self._library.rest.around(own._get)

    def cost(self, length: int, temperature: float, tokens: int) -> Cost:
        """Return the costs in one answer."""
        text = some_tokens(_PROMPT)
        for model in (self._main, self._head):
            model.rewind(0)
            model.start(Sampler(Chain(temperature), 7, len(text)))
        prefill(self._main, text, end=lambda at: at + 512, cancelled=lambda: False, progress=lambda *_: None)
        proposer: Any = DraftModel(self._head, ())
        clocks = (self._library.decode, self._library.rest, self._rows, self._drafting)
        proposer.propose = self._drafting.around(proposer.propose)
        proposer.settle = self._drafting.around(proposer.settle)
        for clock in clocks:
            clock.seconds = 0.0
        how = FixedLength(length)
        rounds = list(generate(self._main, proposer, text, policy=how, end_tokens=(), max_tokens=tokens))
        drafted = sum(len(each.drafted) for each in rounds)
        decode, native, rows, drafting = (clock.seconds / drafted for clock in clocks)
        return Cost(decode, native, drafting - decode - native + rows)


def main() -> None:
    def whole(text: str) -> Sequence[int]:
        return [int(each) for each in text.split(",")]

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("main", type=Path)
    add("--head", default="", help="a head in a file of its own")
    add("--lengths", type=whole, default=[1, 3, 8])
    add("--turns", type=int, default=5)
    add("--tokens", type=int, default=48, help="of an answer")
    options = parser.parse_args()
    backend, how = LlamaBackend(), Options("main", 2048, threads=1, head=not options.head)
    model = backend.load(str(options.main), how, lambda _: True)
    head = backend.load_head(model, replace(how, role="draft"), options.head)
    if isinstance(head, Obstacle):
        raise SystemExit(head.text)
    measured, found = Measured(model, head), dict[tuple[int, float], list[Cost]]()
    for _ in range(options.turns):
        for length, temperature in product(options.lengths, TEMPERATURES):
            cost = measured.cost(length, temperature, options.tokens)
            found.setdefault((length, temperature), []).append(cost)
    print("| draft length | T | llama_decode | other native calls | our own code | share |")
    print("|---|---|---|---|---|---|")
    for (length, temperature), costs in found.items():
        best = Cost(*(min(each) for each in zip(*costs, strict=True)))
        parts = " | ".join(f"{1e6 * each:,.0f} µs" for each in best)
        print(f"| {length} | {temperature:g} | {parts} | {best.share:.1%} |")
    head.close()
    model.close()


if __name__ == "__main__":
    main()
