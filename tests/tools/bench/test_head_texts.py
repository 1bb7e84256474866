"""A fixed small sample of the counted answers with heads: same seed, same text, whatever the head."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.head_models import Headed, write_headed
from tools.bench.head_texts import AUTO, KINDS, TEMPERATURES, WAYS, Counted, can_tip, cases, opened
from tui.engine.backends import Options
from tui.engine.backends.llama_cpp import LlamaBackend
from tui.engine.speculation.sampling import Chain, Sampler, gumbel

NOISE = {
    "dense": 0.1,
    "experts": 0.07,
    "hybrid": 0.1,
    "hybrid with experts": 0.09,
    "three heads": 0.1,
    "three heads, window": 0.1,
    "Gemma 4 assistant": 0.05,
    "EAGLE-3, 1,800 of 2,048 tokens": 0.04,
}
FEW = 31
"""One of so many answers: six, of all ways."""


def test_the_sample_meets_all_ways_and_temperatures() -> None:
    sample = list(cases(FEW))
    assert {each.way for each in sample} == set(WAYS)
    assert {each.temperature for each in sample} == set(TEMPERATURES)
    assert {1, 2, AUTO} < {each.length for each in sample}
    assert NOISE.keys() == KINDS.keys()


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_same_text_in_every_way(tmp_path: Path, kind: str) -> None:
    with opened(KINDS[kind](tmp_path, NOISE[kind])) as models:
        counted = Counted(models, tokens=24)
        counted.run(cases(FEW))
    assert counted.lines == []
    assert sum(counted.outcomes.values()) == len(WAYS)
    assert 0.2 < counted.acceptance < 0.8, "tokens must be accepted and rejected, or this shows little"


def test_rounding_tips_a_choice_by_scores_or_at_an_edge_of_the_chain() -> None:
    row = np.full(300, -9.0, np.float32)
    row[[3, 5, 7]] = 4.0, 3.99, 2.0
    greedy = Sampler(Chain(0), 1, 0)
    assert can_tip(greedy, row, [1], (3, 5))
    assert not can_tip(greedy, row, [1], (3, 7))
    row[5] = row[3] + np.log(0.05) - 0.001  # just below the edge of min-p
    lead = gumbel_of(5) - gumbel_of(3)
    seed = int(np.argmax(lead > 5))
    assert lead[seed] > 5, "its noise outweighs the score"
    sampled = Sampler(Chain(1.0, top_p=1.0), seed, 0)
    assert sampled.pick(row, [1], 1).token == 3
    assert can_tip(sampled, row, [1], (3, 5))
    assert not can_tip(sampled, row, [1], (3, 7))


def gumbel_of(token: int) -> np.ndarray:
    """The noise of a token at the place 1, by seed."""
    return np.array([gumbel(seed, 1, np.array([token]))[0] for seed in range(2000)])


def test_another_text_is_counted_as_such(tmp_path: Path) -> None:
    other = write_headed(tmp_path / "other.gguf", Headed("glm4moe", seed=1))
    with opened(KINDS["experts"](tmp_path, 0.07)) as models:
        alone = LlamaBackend().load(str(other), Options("main", 512, threads=1), lambda _: True)
        counted = Counted(models._replace(plain=alone), tokens=24)
        counted.run(cases(FEW))
        alone.close()
    assert sum(count for (_, outcome), count in counted.outcomes.items() if outcome == "other") == len(WAYS)
    assert len(counted.lines) == len(WAYS)
