"""How close a choice was, and when rounding explains that another text parts there."""

from __future__ import annotations

from math import inf, sqrt

import numpy as np
import pytest

from tools.bench.partings import chance, expected
from tui.client.parting import can_part, words
from tui.engine.pair.closeness import closeness
from tui.engine.speculation.sampling import Chain, InvalidLogits, Logits, Sampler
from tui.protocol import TextRound, TokenInspection

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


def place(lead: float, rounding: float, tipped: bool, rival: str = "a") -> TokenInspection:
    return TokenInspection(0.5, 0.5, True, (), rival=rival, lead=lead, rounding=rounding, tipped=tipped)


def test_a_parting_is_explained_or_is_a_fault() -> None:
    assert words(place(0.02, 0.08, True), "the", 37) == (
        'parted by rounding at token 38: "the" and "a" were 0.02 apart, rounding here is 0.08'
    )
    assert words(place(0.5, 0.08, True), "x", 0).startswith("parted by rounding at token 1:")  # at an edge
    assert words(place(0.3, 0.08, False), "x", 0).startswith("parted by rounding")
    fault = words(place(0.4, 0.08, False), "x", 1499)
    assert fault.startswith("parted at token 1,500, which rounding does not explain")
    assert fault.endswith("Please report this")


@pytest.mark.parametrize(
    ("chosen", "rival", "told"),
    [
        ("Company", " Company", '"Company" and " Company"'),
        ("Company ", "Company", '"Company " and "Company"'),
        ("\n", " ", '"↵" and " "'),
        ("\n", "\t", '"↵" and "→"'),
        ("a\u200b", "a\u200e", r'"\u200b" and "\u200e"'),
        ("-" * 30, "-" * 40, '"" and "----------"'),
        ("-" * 30 + "x", "-" * 40, '"x" and "----------"'),
        ("x", "x", 'two tokens that read "x"'),
        ("\x1b[31mred", "red", '"\ufffd[31mred" and "red"'),
    ],
)
def test_two_tokens_never_read_the_same(chosen: str, rival: str, told: str) -> None:
    assert f": {told} were 0.02 apart" in words(place(0.02, 0.08, True, rival), chosen, 0)


@pytest.mark.parametrize("lead", [0.0, 0.05, 0.2])
def test_the_chance_of_a_parting_is_how_often_a_rounding_of_that_size_tips_the_choice(lead: float) -> None:
    scores, deviation = row(6.0, 6.0 - lead), 0.05
    close = closeness(scores, 0, lambda given: int(given.argmax()), deviation, Chain(temperature=0))
    moved = np.random.default_rng(1).normal(0, deviation * float(scores.std()), (40_000, 2)) + scores[:2]
    tipped = float(np.mean(moved[:, 1] > moved[:, 0]))
    assert chance(place(close.lead, close.rounding, close.tipped)) == pytest.approx(tipped, abs=0.01)
    assert chance(place(lead, 0.0, tipped=False)) == chance(place(inf, 0.1, tipped=False)) == 0


def test_only_places_of_rounds_with_drafts_can_part() -> None:
    def a_round(tokens: int, drafted: int) -> TextRound:
        return TextRound((), tuple(range(tokens)), drafted, 0, 0, 0.1, 0.0, 0.1, 9)

    chances = [0.5, 0.5, 0.5, 0.25, 0.5]
    assert expected(chances, [a_round(1, 0), a_round(2, 4), a_round(1, 0)]) == pytest.approx(0.75)
    assert expected(chances, [a_round(1, 0)] * 5) == 0


def test_what_is_not_measured_cannot_part() -> None:
    assert can_part(place(0.3, 0.08, tipped=False)) and can_part(place(0.5, 0.08, tipped=True))
    assert not can_part(place(0.4, 0.08, tipped=False))
    assert not can_part(place(0.0, 0.0, tipped=False))
