"""Real models draft: nothing refuses them, and a draft of the same weights in fewer bits is mostly right."""

from __future__ import annotations

import pytest

from tests.real.prompts import PROMPTS
from tests.real.session import Asked


def test_nothing_is_rejected(asked: Asked) -> None:
    assert asked.loaded.obstacle is None
    assert asked.loaded.draft is not None


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_more_than_half_of_the_drafts_are_accepted(asked: Asked, temperature: float) -> None:
    costs = [asked.ask(prompt, temperature, draft_length=2).statistics for prompt in PROMPTS[:4]]
    drafted, accepted = (sum(getattr(cost, name) for cost in costs) for name in ("drafted", "accepted"))
    assert drafted > 50
    assert accepted / drafted > 0.5
