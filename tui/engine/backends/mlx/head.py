"""The head of a model (MTP, multi-token prediction) as a draft model in MLX.

It works as the one of llama.cpp: at each position it gets the token and the hidden row of the main model at
the position before, and predicts the next token. Where the main model has not run that position, the head's
own row takes its place, and after the round these entries run again with the main model's rows. mlx-lm has no
heads, so the network comes from `mtp`. The embeddings, the output layer and the vocabulary are those of the
main model.

This module never changes the main model's text: a wrong row only costs acceptance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import mlx.core as mx

from ....protocol import ModelFacts
from .. import CacheState, GivenUp, ModelError, common_prefix
from ..cached import PICKS, WARM_UP
from .caches import Caches, leaves
from .hidden import HiddenPieces, Runner
from .model import MlxModel
from .mtp import HeadNetwork
from .portable import packed, unpacked

NAME = "MTP head"
_LENGTH = 4
"""Bytes of the length of the saved rows, which stand before the saved cache."""


def open_head(network: HeadNetwork, main: MlxModel, facts: ModelFacts, *, again: bool) -> MlxHead:
    """Return the head of `main`, which is emptied. Raises `ModelError`.

    `again` tells whether `main` may run a token again for its row.
    """
    caches = Caches(network.make_caches)
    return begun(main, HeadRunner(network, caches, main.runner, again=again), facts, MlxHead)


def begun(main: MlxModel, runner: HeadRunner, facts: ModelFacts, kind: type[MlxHead]) -> MlxHead:
    """Return a head of this kind that reads the rows of `main` from now on. Raises `ModelError`."""
    main.rewind(0)
    head = kind(main, runner, facts)
    head.warm_up(WARM_UP["draft"])
    main.runner.show(runner.theirs)
    runner.theirs.reader = head.read_along
    return head


class HeadRunner(Runner):
    """Runs the network of a head, with the rows of the main model or its own."""

    def __init__(self, network: HeadNetwork, caches: Caches, main: Runner, *, again: bool) -> None:
        """`main` runs the main model, and `again` tells whether that may run a token again for its row."""
        super().__init__(network, caches)
        self.parts = main.trunk
        kind = self.parts.embed(mx.array([[0]])).dtype
        self.theirs = HiddenPieces(self.parts.args.hidden_size, kind, again=again)
        """The rows of the main model."""
        self.sound = 0
        """Number of tokens, from the left, whose rows were the main model's: they need not run again."""
        self._last: tuple[int, Any] | None = None
        """The position of the last entry, and the head's own row there; None if that is not needed."""

    def end_of_call(self, held: int, end: int) -> int:
        """All tokens of a call but the first need the main model's rows. A main model that holds nothing is
        only measured. Then no row is known, and a call may be of any size."""
        return min(end, max(held, self.theirs.end) + 1) if self.theirs.end else end

    def __call__(self, tokens: Any, cache: Sequence[Any]) -> Any:
        """Return the scores of the last token alone."""
        start, count = int(next(leaves(cache)).offset), tokens.shape[1]
        last, end = start + count - 1, self.theirs.end
        if self._last and self._last[0] == start - 1 >= end:
            rows = self._last[1]
        else:
            rows = self.theirs.rows(start - 1, count)
        own = self.network(self.network.embed(tokens, self.parts), rows, cache)[:, -1:]
        self._last = (last, own) if last >= end else None
        if self.sound == start:
            self.sound = min(start + count, end + 1)
        return self.network.scores(own, self.parts)

    @property
    def rows(self) -> list[Any]:
        return [self._last[1]] if self._last else []

    def stand_at(self, length: int) -> None:
        self.sound, self._last = min(self.sound, length), None


class MlxHead(MlxModel):
    """The head of an `MlxModel`. Close it before that."""

    runner: HeadRunner

    def __init__(self, main: MlxModel, runner: HeadRunner, facts: ModelFacts) -> None:
        network, vocabulary, picks = runner.network, main.vocabulary, PICKS["draft"]
        caches, capacity = runner.caches, main.capacity
        super().__init__(network, caches, vocabulary, facts, capacity, picks, runner=runner)
        self._main = main
        self._hidden = runner.theirs

    def reach(self, length: int) -> int:
        return min(super().reach(length), self.runner.sound)

    def read_along(self, least: int) -> None:
        """Forget what the main model has forgotten, and read its tokens that wait, if at least `least` do.

        Raises nothing: a head that fails or is given up reads nothing, and its next call as a draft model
        reports a failure.
        """
        if self.runner.sound > self._main.length:
            self.rewind(self._main.length)
        stop = min(self._hidden.end, self.capacity)
        if stop - self.runner.sound < least:
            return
        tokens = list(self._main.tokens[:stop])
        try:
            self.rewind(common_prefix(self._tokens[: self.runner.sound], tokens))
            self.extend(tokens[self.length :], picks=0)
        except GivenUp:
            return
        except ModelError:
            self.rewind(0)

    def take_state(self, most: int) -> CacheState | None:
        self.read_along(1)
        self.rewind(min(self.length, self.runner.sound))
        if (state := super().take_state(most)) is None:
            return None
        rows = packed(self._hidden.kept())
        return replace(state, cells=b"".join((len(rows).to_bytes(_LENGTH, "little"), rows, state.cells)))

    def put_state(self, state: CacheState) -> bool:
        """Replace the content of the cache, after that of the main model: rows of it are in `state` too."""
        view = memoryview(state.cells)
        behind = _LENGTH + int.from_bytes(view[:_LENGTH], "little")
        done = super().put_state(replace(state, cells=view[behind:]))
        self.runner.sound = self._held
        if done:
            self._hidden.recall(unpacked(view[_LENGTH:behind]))
        return done

    def close(self) -> None:
        """Let go of the weights. Only a second `close` is allowed after this."""
        if self._network is not None:
            self._main.runner.show(None)
        super().close()

    def _begin(self, known: int, picks: int) -> None:
        super()._begin(known, picks)
        end = len(self._tokens)
        while (stop := self.runner.end_of_call(self._held, end)) < end:
            self._run(stop)

    def _trim(self, length: int) -> None:
        super()._trim(min(length, self.runner.sound))
