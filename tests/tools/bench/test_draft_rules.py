"""The chance that a drafted token is accepted, by three rules."""

from __future__ import annotations

import numpy as np
import pytest

from tools.bench import draft_rules
from tools.bench.draft_rules import Distribution, chances
from tui.engine.speculation.sampling import gumbel
from tui.engine.starter import DRAFT, MAIN

DRAWS = 4000


def distribution(**shares: float) -> Distribution:
    """Tokens are named by letters, the most likely first."""
    ids = np.array([ord(name) for name in shares])
    return Distribution(ids, np.array(list(shares.values())))


def test_alike_all_of_a_draft_is_accepted_unless_it_proposes_the_likeliest() -> None:
    p = distribution(a=0.5, b=0.3, c=0.2)
    assert chances(p, p) == pytest.approx((1, 1, 0.5))


def test_without_a_token_in_common_nothing_is_accepted() -> None:
    assert chances(distribution(a=0.6, b=0.4), distribution(c=1.0)) == (0, 0, 0)


@pytest.mark.parametrize(
    ("p", "q"),
    [
        (distribution(a=0.5, b=0.3, c=0.2), distribution(b=0.6, a=0.3, d=0.1)),
        (distribution(a=0.9, b=0.1), distribution(a=0.5, b=0.5)),
        (distribution(a=1.0), distribution(b=0.7, a=0.3)),
    ],
)
def test_the_shared_noise_accepts_as_often_as_computed(p: Distribution, q: Distribution) -> None:
    found = chances(p, q)

    def choice(each: Distribution, seed: int) -> int:
        return int(each.ids[(np.log(each.shares) + gumbel(seed, 0, each.ids)).argmax()])

    same = np.mean([choice(p, seed) == choice(q, seed) for seed in range(DRAWS)])
    assert found.shared == pytest.approx(same, abs=4 * 0.5 / DRAWS**0.5)
    assert 0 < found.shared <= found.best


def test_a_pair_gives_a_row_of_the_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--prompts", "2", "--tokens", "24", "--threads", "1", "--context", "512"]
    monkeypatch.setattr("sys.argv", ["draft_rules", str(MAIN), str(DRAFT), *few])
    draft_rules.main()
    *_, row = capsys.readouterr().out.splitlines()
    name, *cells, places = (cell.strip() for cell in row.strip("|").split("|"))
    best, shared, likeliest, *counted = map(float, cells)
    assert name == DRAFT.name and int(places) > 10
    assert 0.5 < shared <= best <= 1 and 0.5 < likeliest <= 1
    assert len(counted) == 4 and all(0.3 < share <= 1 for share in counted)
    assert counted[0] == pytest.approx(shared, abs=0.2), "the counted share is near the computed one"
