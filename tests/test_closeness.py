"""How close a choice was, and when rounding explains that another text parts there."""

from __future__ import annotations

from math import inf, sqrt

import numpy as np
import pytest

from tui.client.parting import words
from tui.engine.closeness import closeness
from tui.engine.speculation.sampling import Chain, InvalidLogits, Logits, Sampler
from tui.protocol import Place

WIDTH = 100


def row(*best: float) -> Logits:
    """A row with these scores in front of poor ones, of a standard deviation near 1."""
    scores = np.random.default_rng(0).normal(-4, 1, WIDTH).astype(np.float32)
    scores[: len(best)] = best
    return scores


def chooser(chain: Chain) -> tuple[Sampler, object]:
    sampler = Sampler(chain, seed=3, start=0)
    return sampler, lambda scores: sampler.pick(scores, [], 0).token


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_lead_and_rounding_are_in_the_scale_in_which_is_chosen(temperature: float) -> None:
    chain = Chain(temperature, top_k=0, top_p=1, min_p=0)
    scores = row(6.0, 5.5)
    found = closeness(scores, 0, lambda given: int(given.argmax()), 0.01, chain)
    heat = temperature or 1.0
    assert found.rival == 1
    assert found.lead == pytest.approx(0.5 / heat)
    assert found.rounding == pytest.approx(0.01 * float(scores.std()) * sqrt(2) / heat)


def test_a_choice_is_tipped_only_within_reach_of_the_rounding() -> None:
    greedy = Chain(temperature=0)
    best = lambda given: int(given.argmax())  # noqa: E731
    assert closeness(row(6.0, 5.99), 0, best, 0.01, greedy).tipped
    assert not closeness(row(6.0, 5.0), 0, best, 0.01, greedy).tipped
    assert not closeness(row(6.0, 5.99), 0, best, 0.0, greedy).tipped  # no rounding was measured


def test_an_edge_of_top_k_tips_a_choice_too() -> None:
    """The second best of two that may be chosen has a twin just outside, which would win with its noise."""
    chain = Chain(temperature=1, top_k=2, top_p=1, min_p=0)
    sampler = Sampler(chain, seed=0, start=0)
    for seed in range(200):
        sampler = Sampler(chain, seed=seed, start=0)
        choose = lambda given: sampler.pick(given, [], 0).token  # noqa: B023, E731
        scores = row(3.0, 2.0, 1.999)
        twin = row(3.0, 1.999, 2.0)
        if choose(scores) == 0 and choose(twin) == 2:
            found = closeness(scores, 0, choose, 0.01, chain)
            assert found.rival == 2
            assert found.tipped
            return
    raise AssertionError("no seed chooses the twin")


def test_without_another_token_nothing_is_close() -> None:
    def only(given: Logits) -> int:
        if not np.isfinite(given[0]):
            raise InvalidLogits(0)
        return 0

    found = closeness(row(1.0), 0, only, 0.1, Chain())
    assert (found.rival, found.lead, found.tipped) == (0, inf, False)


def place(lead: float, rounding: float, tipped: bool) -> Place:
    return Place(0.5, 0.5, True, (), rival=" a", lead=lead, rounding=rounding, tipped=tipped)


def test_a_parting_is_explained_or_is_a_fault() -> None:
    assert words(place(0.02, 0.08, True), "the", 37) == (
        'parted by rounding at token 38: "the" and "a" were 0.02 apart, rounding here is 0.08'
    )
    assert words(place(0.5, 0.08, True), "x", 0).startswith("parted by rounding at token 1:")  # at an edge
    assert words(place(0.3, 0.08, False), "x", 0).startswith("parted by rounding")
    fault = words(place(0.4, 0.08, False), "x", 1499)
    assert fault.startswith("parted at token 1,500, which rounding does not explain")
    assert fault.endswith("Please report this")
