"""The sampling chain against a plain reference, its distribution against exact probabilities."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chisquare

from tui.engine.speculation.sampling import Chain, InvalidLogits, Sampler, _best, gumbel


def row(width: int, seed: int = 0, spread: float = 3.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, spread, width).astype(np.float32)


def reference(logits: np.ndarray, chain: Chain) -> dict[int, float]:
    """Token id -> probability, one step of the chain after the other, over the sorted row."""
    ids = sorted(range(logits.size), key=lambda i: (-logits[i], i))
    if chain.top_k:
        ids = ids[: chain.top_k]
    p = np.exp(logits[ids].astype(np.float64) - float(logits[ids[0]]))
    p /= p.sum()
    if chain.top_p < 1:
        ids = ids[: int(np.argmax(p.cumsum() >= chain.top_p)) + 1]
    if chain.min_p > 0:
        ids = [i for i, weight in zip(ids, p, strict=False) if weight >= chain.min_p * p[0]]
    heated = np.exp((logits[ids].astype(np.float64) - float(logits[ids[0]])) / chain.temperature)
    return dict(zip(ids, heated / heated.sum(), strict=True))


CHAINS = [
    Chain(),
    Chain(top_k=0),
    Chain(top_k=0, top_p=1, min_p=0, temperature=1.3),
    Chain(top_k=5, top_p=0.7, min_p=0),
    Chain(top_k=1),
    Chain(top_k=60, top_p=1, min_p=0.3, temperature=0.3),
]


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("width", [3, 64, 700, 5000, 20_001])
def test_the_chain_keeps_what_the_reference_keeps(chain: Chain, width: int) -> None:
    logits = row(width)
    exact = reference(logits, chain)
    picker = Sampler(chain, seed=5, start=0)
    for length in range(60):
        pick = picker.pick(logits, [], length)
        assert pick.probability == pytest.approx(exact[pick.token], rel=1e-6)


def test_the_draws_follow_the_exact_probabilities() -> None:
    logits = row(300, spread=1.5)
    chain = Chain(top_k=40, top_p=0.95, min_p=0.05, temperature=0.8)
    exact = reference(logits, chain)
    picker = Sampler(chain, seed=11, start=0)
    draws = Counter(picker.pick(logits, [], length).token for length in range(100_000))
    assert set(draws) <= set(exact)
    observed = [draws[token] for token in exact]
    assert chisquare(observed, [100_000 * p for p in exact.values()]).pvalue > 1e-3


def test_the_draws_of_many_seeds_at_one_place_follow_the_exact_probabilities() -> None:
    logits = row(100, spread=1.0)
    exact = reference(logits, Chain())
    draws = Counter(Sampler(Chain(), seed, 0).pick(logits, [], 7).token for seed in range(30_000))
    assert chisquare([draws[t] for t in exact], [30_000 * p for p in exact.values()]).pvalue > 1e-3


def test_noise_is_fixed_by_seed_index_and_token() -> None:
    ids = np.arange(1000)
    noise = gumbel(7, 3, ids)
    assert np.array_equal(noise[::-1], gumbel(7, 3, ids[::-1]))
    assert not np.isclose(noise, gumbel(7, 4, ids)).any()
    assert not np.isclose(noise, gumbel(8, 3, ids)).any()
    assert np.isfinite(gumbel(-1, 2**40, np.array([0, 2**31 - 1]))).all()


def test_noise_is_the_same_in_every_version() -> None:
    expected = [0.8635963628317395, 1.0051587347812545, 1.848533672704026]
    assert gumbel(1, 0, np.array([0, 1, 150_000])) == pytest.approx(expected, abs=1e-12)


def test_the_noise_index_counts_from_the_answers_first_token() -> None:
    logits = row(500)
    first = [Sampler(Chain(), 9, start=10).pick(logits, [], 10 + i) for i in range(50)]
    second = [Sampler(Chain(), 9, start=999).pick(logits, [], 999 + i) for i in range(50)]
    assert first == second
    assert len({pick.token for pick in first}) > 1


def test_models_that_share_the_noise_agree_as_often_as_theory_says() -> None:
    p_row, q_row = row(200, 1, 1.0), row(200, 1, 1.0) + row(200, 2, 0.5)
    chain = Chain(top_k=0, top_p=1, min_p=0, temperature=1)
    p, q = reference(p_row, chain), reference(q_row, chain)
    distance = sum(abs(p[t] - q[t]) for t in p) / 2
    picker = Sampler(chain, 3, 0)
    agreed = [picker.pick(p_row, [], i).token == picker.pick(q_row, [], i).token for i in range(4000)]
    assert np.mean(agreed) > (1 - distance) / (1 + distance) - 0.03
    assert np.mean(agreed) > 3 * sum(p[t] * q[t] for t in p)


@pytest.mark.parametrize("width", [1, 5, 64, 1000, 2600, 64 * 41, 64 * 41 + 7, 152_000])
def test_best_is_exact_and_ties_go_to_the_lower_id(width: int) -> None:
    for logits in (row(width), np.round(row(width)), np.zeros(width, np.float32)):
        order = np.lexsort((np.arange(width), -logits))
        for k in (1, 40, width):
            assert np.array_equal(_best(logits, k), order[:k])


def test_temperature_zero_is_the_first_of_the_best() -> None:
    logits = np.array([0, 2, 1, 2], np.float32)
    assert Sampler(Chain(temperature=0), 1, 0).pick(logits, [], 0) == (1, 1.0)


@pytest.mark.parametrize("temperature", [1e-6, 1e-3, 2.0, 100.0])
def test_extreme_temperatures_are_numbers(temperature: float) -> None:
    pick = Sampler(Chain(temperature=temperature), 1, 0).pick(row(5000), [], 0)
    assert 0 < pick.probability <= 1
    if temperature < 1:
        assert pick.token == row(5000).argmax()


def test_penalties_are_llama_cpps() -> None:
    logits = np.array([2.0, -2.0, 1.0, 0.5], np.float32)
    chain = Chain(0, repeat_penalty=2.0, presence_penalty=0.25, frequency_penalty=0.5, penalty_last_n=4)
    adjusted = Sampler(chain, 1, 0)._adjusted(logits, [3, 3, 0, 1, 1, 2], 5)
    assert adjusted.tolist() == [2 / 2 - 0.75, -2 * 2 - 1.25, 1.0, 0.5 / 2 - 0.75]
    assert logits.tolist() == [2.0, -2.0, 1.0, 0.5]


@pytest.mark.parametrize(
    "penalty", [{"repeat_penalty": 4.0}, {"presence_penalty": 1.5}, {"frequency_penalty": 1.5}], ids=str
)
def test_each_penalty_does_without_the_others(penalty: dict[str, float]) -> None:
    logits = np.array([2.0, 1.0], np.float32)
    assert Sampler(Chain(0, **penalty), 1, 0).pick(logits, [0], 1).token == 1
    assert Sampler(Chain(0, **penalty, penalty_last_n=0), 1, 0).pick(logits, [0], 1).token == 0


@pytest.mark.parametrize("chain", [Chain(), Chain(temperature=0)])
def test_a_bias_can_ban_a_token(chain: Chain) -> None:
    logits = np.zeros(8, np.float32)
    logits[2] = 9
    banned = replace(chain, bias={2: -np.inf})
    assert Sampler(banned, 1, 0).pick(logits, [], 0).token != 2


@pytest.mark.parametrize("chain", [Chain(), Chain(temperature=0), Chain(top_k=0)])
@pytest.mark.parametrize("width", [100, 152_003])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_invalid_numbers_are_named_wherever_they_stand(chain: Chain, width: int, bad: float) -> None:
    for place in (0, 1, width // 2, width - 1):
        logits = row(width)
        logits[place] = bad
        with pytest.raises(InvalidLogits, match="token 4"):
            Sampler(chain, 1, start=5).pick(logits, [], 8)


def test_a_row_in_which_everything_is_banned_is_invalid() -> None:
    with pytest.raises(InvalidLogits):
        Sampler(Chain(), 1, 0).pick(np.full(5000, -np.inf, np.float32), [], 0)
