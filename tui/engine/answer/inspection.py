"""Inspects tokens of an existing answer: which other tokens were possible, and how probable each was.

The models run over its tokens once more, except for those in their caches. Nothing is chosen anew, so the
result is the same as during the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import zip_longest

import numpy as np

from ...choices import LONGEST_DRAFT
from ...protocol import Inspect, Inspected, Prefill, TokenCandidate, TokenInspection
from ..backends import GivenUp, LoadedModel, ModelError, Vocabulary
from ..pair.closeness import Closeness, closeness
from ..pair.pair import Pair
from ..pair.reading import cut, shared
from ..speculation.loop import Pick, prefill
from ..speculation.sampling import Chain, Logits, Sampler, gumbel
from .answer import Cancelled, Send
from .prompt import EncodedPrompt, encoded
from .request import bias_of, chain_of, check
from .templates import TemplateRenderer

BEST = 5
"""Candidates reported for each token."""


def inspect(
    pair: Pair, command: Inspect, send: Send, cancelled: Cancelled, templates: TemplateRenderer
) -> None:
    """Send the result of `command`. Raises the errors of an answer; the caches must be cleared then."""
    check(command.request, pair.main)
    answer = command.request.resume
    vocabulary = pair.main.vocabulary
    if not command.count:
        send(Inspected(command.id, texts=tuple(text_of(vocabulary, token) for token in answer)))
        return
    if not 0 <= command.begin < command.begin + command.count <= len(answer):
        raise ModelError("there is no such place in the answer")
    try:
        prompt = encoded(command.request, pair, templates, cancelled)
    except GivenUp:
        send(Inspected(command.id, places=()))
        return
    context = [*prompt.tokens, *answer]
    if len(context) > pair.main.capacity + 1:
        raise ModelError("the answer does not fit into the context", "Load with a longer context.")
    again = _Again(pair, command, prompt, context, cancelled)
    main = again.seen_by_main(lambda done, total: send(Prefill(command.id, done, total)))
    draft = again.seen_by_draft(pair.draft) if pair.draft and _fits(pair.draft, context) else []
    sights = [] if cancelled() else zip_longest(main, draft)
    send(Inspected(command.id, places=tuple(_place(each, other, vocabulary) for each, other in sights)))


class _Again:
    """The models of a pair, run once more over an answer that exists."""

    def __init__(
        self,
        pair: Pair,
        command: Inspect,
        prompt: EncodedPrompt,
        context: list[int],
        cancelled: Cancelled,
    ) -> None:
        """`context` are the tokens of the prompt and of the whole answer."""
        self._pair = pair
        self._request = command.request
        self._context = context
        self._prompt = prompt
        self._first = len(prompt.tokens)
        self._begin = self._first + command.begin
        self._end = self._begin + command.count
        self._cancelled = cancelled

    def seen_by_main(self, progress: Callable[[int, int], None]) -> list[_Sight]:
        """Return the sights of the main model, which chooses in the same rounds as in an answer."""
        pair, prompt = self._pair, self._prompt
        text = self._context[: self._begin]
        known = pair.rounding.deviation if pair.rounding and not pair.rounding.exact else 0.0
        onlooker = self._onlooker(pair.main, known)
        pair.reader.begin(text, prompt.answers, self._first, prompt.stays)
        pair.reader.read(text, self._cancelled, progress)
        self._choose(pair.main, pair.reader.rows or LONGEST_DRAFT + 1)
        return onlooker.seen

    def seen_by_draft(self, draft: LoadedModel) -> list[_Sight]:
        """Return the sights of the draft, which chooses one token after the other."""
        text = self._context[: self._begin]
        onlooker = self._onlooker(draft, 0.0)
        draft.checkpoint(self._prompt.stays)
        cut(draft, shared(draft, text))
        prefill(
            draft,
            text,
            end=lambda start: start + draft.chunk,
            cancelled=self._cancelled,
            progress=lambda *_: None,
        )
        self._choose(draft, 1)
        return onlooker.seen

    def _onlooker(self, model: LoadedModel, deviation: float) -> _Onlooker:
        """Return the sampler that `model` chooses by from now on. `deviation` is its measured rounding."""
        chain = chain_of(self._request, bias_of(self._request, self._pair.main), model)
        onlooker = _Onlooker(chain, self._request.seed, self._first, self._context, deviation)
        model.start(onlooker)
        return onlooker

    def _choose(self, model: LoadedModel, most: int) -> None:
        """Let `model`, which holds the text before them, choose at all places, at `most` in a call."""
        for place in range(self._begin, self._end, most):
            if self._cancelled():
                return
            until = min(self._end, place + most)
            model.extend(self._context[model.length : until - 1], picks=until - place)


def _fits(draft: LoadedModel, context: Sequence[int]) -> bool:
    """Return whether a draft can inspect: its context may be shorter, and its vocabulary smaller."""
    return len(context) <= draft.capacity and max(context) < draft.vocabulary.size


_FAR = 1e9
"""Lead over no rival at all, because a line of the protocol cannot hold infinity."""


class _Sight:
    """A model's view of the token at one position."""

    def __init__(self, scores: Logits, token: int, again: Pick, close: Closeness) -> None:
        """`scores` is a row of logits, and no part of it is kept. `again` is the model's choice now."""
        self.close = close
        weights = np.exp(scores.astype(np.float64) - scores.max())
        total = weights.sum()
        best = np.argpartition(-scores, min(BEST, scores.size) - 1)[:BEST]
        best = best[np.argsort(-scores[best], kind="stable")]
        self.probability = float(weights[token] / total)
        self.chosen = again.token == token
        self.sampled = again.probability if self.chosen else 0.0
        self.best = [(int(each), float(weights[each] / total)) for each in best]


class _Onlooker(Sampler):
    """A sampler that records each row."""

    def __init__(self, chain: Chain, seed: int, start: int, context: Sequence[int], deviation: float) -> None:
        """`context` has the tokens of the answer, which may differ from the choice now."""
        super().__init__(chain, seed, start)
        self._context = context
        self._deviation = deviation
        self.seen: list[_Sight] = []

    def pick(self, logits: Logits, tokens: Sequence[int], length: int) -> Pick:
        again = super().pick(logits, tokens, length)
        choose = partial(super().pick, tokens=tokens, length=length)
        close = closeness(logits, again.token, lambda row: choose(row).token, self._deviation, self.chain)
        noise = gumbel(self._seed, length - self._start, np.array([again.token, close.rival]))
        if self.chain.temperature:
            close = close._replace(lead=close.lead + float(noise[0] - noise[1]))
        self.seen.append(_Sight(logits, self._context[length], again, close))
        return again


def _place(main: _Sight, draft: _Sight | None, vocabulary: Vocabulary) -> TokenInspection:
    def told(sight: _Sight | None) -> tuple[TokenCandidate, ...]:
        best = sight.best if sight else ()
        return tuple(TokenCandidate(token, text_of(vocabulary, token), chance) for token, chance in best)

    rival, lead, rounding, tipped = main.close
    return TokenInspection(
        main.probability, main.sampled, main.chosen, told(main), told(draft),
        text_of(vocabulary, rival), min(lead, _FAR), rounding, tipped,
    )  # fmt: skip


def text_of(vocabulary: Vocabulary, token: int) -> str:
    """Return the text of a single token. Incomplete characters appear as bytes such as <0xE2>."""
    try:
        data = vocabulary.piece(token)
    except IndexError:
        return ""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(f"<0x{byte:02X}>" for byte in data)
