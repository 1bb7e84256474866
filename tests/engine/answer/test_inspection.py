"""Looking again at an answer: what the models think there, without a token of it being another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from msgspec import structs
from numpy.typing import NDArray

from tui.engine.answer.answer import Answer
from tui.engine.answer.inspection import inspect
from tui.engine.answer.prompt import prompt_of
from tui.engine.answer.templates import TemplateRenderer
from tui.engine.pair.pair import Pair, load_pair
from tui.engine.speculation.loop import Pick
from tui.engine.speculation.sampling import Chain, Logits, Sampler
from tui.protocol import (
    Event,
    Generate,
    Inspect,
    Inspected,
    Load,
    Message,
    Prefill,
    Rounding,
    Rounds,
    Sampling,
    TokenInspection,
)

QUESTION = (Message("user", "What is a draft model?"),)


@pytest.fixture(scope="module", params=["llama.cpp", "mlx"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    load = Load("starter", "starter", context_length=512, threads=1, backend=request.param)
    made = load_pair(load, lambda stage, fraction: True)
    yield made
    made.close()


@pytest.fixture(scope="module")
def templates() -> Iterator[TemplateRenderer]:
    made = TemplateRenderer()
    yield made
    made.close()


def asked(temperature: float = 0.8, draft_length: int = 4) -> Generate:
    sampling = Sampling(temperature=temperature)
    return Generate(1, QUESTION, 5, sampling, draft_length, lookup=False, max_tokens=60)


def answered(pair: Pair, templates: TemplateRenderer, request: Generate) -> list[int]:
    events: list[Event] = []
    Answer(pair, request, events.append, lambda: False).run(templates)
    return [
        token for each in events if isinstance(each, Rounds) for told in each.rounds for token in told.tokens
    ]


def look(
    pair: Pair, templates: TemplateRenderer, request: Generate, begin: int = 0, count: int = 0
) -> tuple[Inspected, list[Event]]:
    events: list[Event] = []
    inspect(pair, Inspect(2, request, begin, count), events.append, lambda: False, templates)
    *before, last = events
    assert isinstance(last, Inspected)
    return last, before


class Watching(Sampler):
    rows: list[NDArray[np.float64]]

    def pick(self, logits: Logits, tokens: object, length: int) -> Pick:
        weights = np.exp(logits.astype(np.float64) - logits.max())
        self.rows.append(weights / weights.sum())
        return Pick(0, 1.0)


def truth(pair: Pair, templates: TemplateRenderer, request: Generate) -> list[NDArray[np.float64]]:
    """The probabilities at each place of an answer, one token at a time from an empty cache."""
    context = prompt_of(request, pair.main, templates)
    first = len(context)
    sampler = Watching(Chain(), 0, first)
    sampler.rows = []
    pair.clear()
    pair.main.start(sampler)
    context += request.resume
    pair.main.extend(context[: first - 1], 0)
    for place in range(first, len(context)):
        pair.main.extend(context[place - 1 : place], 1)
    pair.clear()
    return sampler.rows


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_every_place_is_told_as_the_models_see_it(
    pair: Pair, templates: TemplateRenderer, temperature: float
) -> None:
    request = asked(temperature)
    request = structs.replace(request, resume=tuple(answered(pair, templates, request)))
    rows = truth(pair, templates, request)
    places: list[TokenInspection] = []
    for begin in range(0, len(request.resume), 20):
        count = min(20, len(request.resume) - begin)
        found, _ = look(pair, templates, request, begin, count)
        assert len(found.places) == count
        places += found.places
    for token, row, place in zip(request.resume, rows, places, strict=True):
        assert place.probability == pytest.approx(row[token], rel=0.02, abs=1e-4)
        assert place.chosen and 0 < place.sampled <= 1
        best = [each.probability for each in place.main]
        assert best == pytest.approx(np.sort(row)[::-1][:5], rel=0.02, abs=1e-4)
        assert len(place.draft) == 5 and place.draft[0].probability >= place.draft[1].probability
        assert temperature or place.main[0].token == token


def test_after_a_look_the_answer_is_still_the_same(pair: Pair, templates: TemplateRenderer) -> None:
    request = asked()
    tokens = answered(pair, templates, request)
    look(pair, templates, structs.replace(request, resume=tuple(tokens)), 3, 4)
    assert answered(pair, templates, request) == tokens
    going_on = structs.replace(request, resume=tuple(tokens[:10]), max_tokens=len(tokens) - 10)
    look(pair, templates, structs.replace(request, resume=tuple(tokens)), 20, 4)
    assert tokens[:10] + answered(pair, templates, going_on) == tokens


def test_a_step_to_the_next_place_runs_no_prompt_again(pair: Pair, templates: TemplateRenderer) -> None:
    request = asked()
    request = structs.replace(request, resume=tuple(answered(pair, templates, request)))
    _, before = look(pair, templates, request, 8, 4)
    assert before == [], "it was in the cache"
    _, before = look(pair, templates, request, 12, 4)
    assert before == []
    pair.clear()
    _, before = look(pair, templates, request, 0, 4)
    assert any(isinstance(each, Prefill) for each in before)


def test_the_texts_of_the_tokens_are_those_of_the_answer(pair: Pair, templates: TemplateRenderer) -> None:
    request = asked()
    tokens = answered(pair, templates, request)
    found, _ = look(pair, templates, structs.replace(request, resume=tuple(tokens)))
    assert len(found.texts) == len(tokens) and not found.places
    assert "draft model" in "".join(found.texts)


def test_another_prompt_is_found_out(pair: Pair, templates: TemplateRenderer) -> None:
    request = asked()
    tokens = tuple(answered(pair, templates, request))
    other = (Message("user", "Write quicksort in Python."),)
    request = structs.replace(request, messages=other, resume=tokens)
    found, _ = look(pair, templates, request, 0, min(30, len(request.resume)))
    assert not all(place.chosen for place in found.places)
    assert all(place.sampled == 0 for place in found.places if not place.chosen)


def test_a_look_can_be_given_up(pair: Pair, templates: TemplateRenderer) -> None:
    request = structs.replace(asked(), resume=tuple(answered(pair, templates, asked())))
    events: list[Event] = []
    inspect(pair, Inspect(2, request, 0, 10), events.append, lambda: True, templates)
    assert events[-1] == Inspected(2)


def test_the_rounding_that_was_measured_stands_beside_each_lead_and_in_exact_mode_there_is_none(
    pair: Pair, templates: TemplateRenderer
) -> None:
    request = structs.replace(asked(), resume=tuple(answered(pair, templates, asked())))
    measured = {exact: replace(pair, rounding=Rounding(0.08, exact, 3)) for exact in (False, True)}
    for exact, known in measured.items():
        found, _ = look(known, templates, request, 0, 10)
        assert all((place.rounding == 0) is exact for place in found.places)
        assert not exact or not any(place.tipped for place in found.places)
