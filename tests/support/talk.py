"""A chat with loaded models without an engine: each answer begins with the caches that the last one left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tui.engine.backends import LoadedModel
from tui.engine.pair.reading import ContextReader, cut, shared
from tui.engine.speculation.loop import DraftLengthPolicy, Round, generate
from tui.engine.speculation.policy import FixedLength
from tui.engine.speculation.proposers import DraftModel, NullProposer
from tui.engine.speculation.sampling import Chain, Sampler

USUAL = Chain()


class Answer(NamedTuple):
    tokens: list[int]
    drafted: int
    accepted: int

    @property
    def acceptance(self) -> float:
        return self.accepted / self.drafted


class Talk:
    """A chat with a main model and perhaps a draft."""

    def __init__(self, main: LoadedModel, draft: LoadedModel | None = None) -> None:
        self._main, self._draft = main, draft
        self._reader = ContextReader(main)

    def answer(
        self, context: Sequence[int], count: int = 60, *, length: int = 4, chain: Chain = USUAL,
        seed: int = 7, grammar: str = "", rounds: int = 0, resume: Sequence[int] = (),
        policy: DraftLengthPolicy | None = None,
    ) -> Answer:  # fmt: skip
        """An answer of `count` tokens to `context`; with `rounds` it is canceled after so many.

        It continues the tokens of `resume`. A `policy` takes the place of the `length`.
        """
        text = [*context, *resume]
        self._reader.begin(text, (), len(text), len(text) - 1)
        for model in filter(None, (self._main, self._draft)):
            constraint = self._main.constraint(grammar) if grammar else None
            model.start(Sampler(chain, seed, len(context), constraint=constraint))
        assert self._reader.read(text, lambda: False, lambda *_: None)
        proposer = DraftModel(self._draft, ()) if self._draft else NullProposer()
        if self._draft:
            cut(self._draft, shared(self._draft, text))
        happened: list[Round] = []
        how = policy or FixedLength(length)
        for each in generate(self._main, proposer, text, policy=how, end_tokens=(), max_tokens=count):
            happened.append(each)
            if len(happened) == rounds:
                break
        tokens = [token for each in happened for token in each.tokens]
        drafted = sum(len(each.drafted) for each in happened)
        return Answer(tokens, drafted, sum(each.accepted for each in happened))
