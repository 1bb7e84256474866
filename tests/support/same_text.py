"""Same seed, same text: answers of loaded models, plain and drafted, compared token by token.

A test module takes it over with its own fixture `loaded`, its own prompts and its own proposers:

    class TestSameText(SameText):
        asked = staticmethod(asked)
        proposers = staticmethod(proposers)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import pytest

from tests.support.rows import some_tokens
from tests.support.starter import TIE, GapSampler
from tui.engine.backends import LoadedModel
from tui.engine.speculation.loop import Proposer, generate, prefill
from tui.engine.speculation.policy import FixedLength
from tui.engine.speculation.proposers import NullProposer
from tui.engine.speculation.sampling import Chain, Sampler

TEMPERATURES = (0.0, 0.8)


class Answer(NamedTuple):
    tokens: list[int]
    accepted: int
    rejected: int


class Asked(NamedTuple):
    """Models, the main model first, and how many prompts they are asked, for so many tokens each."""

    models: Sequence[LoadedModel]
    prompts: int
    tokens: int


PlainAnswers = dict[tuple[int, float], tuple[list[int], dict[int, float]]]
"""By prompt and temperature: an answer made token by token, and the lead of every choice."""


def prompt(number: int) -> list[int]:
    """Random, with a repetition for the lookup."""
    tokens = some_tokens(14, seed=number)
    return [*tokens, *tokens[:6]]


def answer(asked: Asked, proposer: Proposer, context: Sequence[int], length: int, sampler: Sampler) -> Answer:
    """An answer of models that hold nothing; a draft model reads the prompt when it is asked to draft."""
    text, main = list(context), asked.models[0]
    for each in asked.models:
        each.rewind(0)
        each.start(sampler)
    prefill(main, text, end=lambda at: at + 512, cancelled=lambda: False, progress=lambda *_: None)
    end = main.vocabulary.control_tokens
    rounds = list(
        generate(main, proposer, text, policy=FixedLength(length), end_tokens=end, max_tokens=asked.tokens)
    )
    accepted = sum(r.accepted for r in rounds)
    tokens = [token for r in rounds for token in r.tokens]
    return Answer(tokens, accepted, sum(len(r.drafted) for r in rounds) - accepted)


def plain_answers(asked: Asked) -> PlainAnswers:
    answers = {}
    for number in range(asked.prompts):
        for temperature in TEMPERATURES:
            sampler = GapSampler(Chain(temperature), number, len(prompt(number)))
            tokens = answer(asked, NullProposer(), prompt(number), 0, sampler).tokens
            answers[number, temperature] = tokens, sampler.gaps
    return answers


class SameText:
    asked: Callable[[Any], Asked]
    """The models and prompts of what the module has loaded."""
    proposers: Callable[[Any], Iterable[Proposer]]

    @pytest.fixture(scope="class")
    def plain(self, loaded: Any) -> PlainAnswers:
        return plain_answers(self.asked(loaded))

    @pytest.mark.parametrize("length", [0, 1, 3, 8])
    @pytest.mark.parametrize("temperature", TEMPERATURES)
    def test_same_seed_same_text(
        self, loaded: Any, plain: PlainAnswers, temperature: float, length: int
    ) -> None:
        """Every proposer's answers are the plain ones, but for at most two ties, proven to be such."""
        ties = accepted = rejected = 0
        for (number, heat), (expected, gaps) in plain.items():
            for proposer in self.proposers(loaded) if heat == temperature else ():
                sampler = Sampler(Chain(temperature), number, len(prompt(number)))
                found = answer(self.asked(loaded), proposer, prompt(number), length, sampler)
                accepted += found.accepted
                rejected += found.rejected
                if found.tokens != expected:
                    pairs = enumerate(zip(found.tokens, expected, strict=False))
                    place = next(i for i, (ours, theirs) in pairs if ours != theirs)
                    assert gaps[place] < TIE, (number, type(proposer), place, gaps[place])
                    ties += 1
        assert ties <= 2
        assert (accepted > 0, rejected > 0) == (length > 0, length > 0)
