"""What the engine asks of every loaded model, asked of each backend's alike."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import models
from tui.engine.backends import Backend, GivenUp, LoadedModel, ModelError, Options
from tui.engine.backends.selection import SCRIPTED, open_backend
from tui.engine.pair.cache_check import trial
from tui.engine.pair.costs import first_tokens
from tui.engine.pair.pair import plain_speed
from tui.engine.speculation.sampling import Chain, Sampler

CAPACITY = 256
BACKENDS = ["llama.cpp", "MLX", "scripted"]


@pytest.fixture(scope="module", params=BACKENDS)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models")
    if request.param == "MLX":
        pytest.importorskip("mlx_lm")
        from tests.support import mlx_models

        return str(mlx_models.write_folder(folder / "toy"))
    if request.param == "llama.cpp":
        return str(models.write_model(folder / "toy.gguf"))
    return "scripted:sample"


@pytest.fixture(scope="module")
def backend(place: str) -> Backend:
    return open_backend(place)


@pytest.fixture(scope="module", params=["main", "draft"])
def opened(request: pytest.FixtureRequest, backend: Backend, place: str) -> Iterator[LoadedModel]:
    role = request.param
    path = "scripted:draft?acceptance=1" if place.startswith("scripted:") and role == "draft" else place
    if path != place:
        backend.load(place, Options("main", CAPACITY), lambda _: True)  # whose script it recites
    model = backend.load(path, Options(role, CAPACITY, threads=1), lambda _: True)
    yield model
    model.close()
    model.close()


@pytest.fixture
def model(opened: LoadedModel) -> LoadedModel:
    opened.rewind(0)
    opened.start(Sampler(Chain(temperature=0), 0, 8))
    return opened


def text(model: LoadedModel) -> list[int]:
    return model.vocabulary.encode(
        "The quick brown fox jumps over the lazy dog, twice and then a third time."
    )[:16]


def written(model: LoadedModel, context: list[int], count: int) -> list[int]:
    """What the model writes behind `context`, token by token."""
    tokens = list(context)
    while len(tokens) < len(context) + count:
        tokens.append(model.extend(tokens[model.length :], picks=1)[0].token)
    return tokens[len(context) :]


def test_it_says_what_it_is(model: LoadedModel, place: str) -> None:
    assert model.facts.name
    assert model.facts.architecture
    assert model.vocabulary.size > 256
    assert model.capacity == CAPACITY
    assert model.rewinds in ("anywhere", "round")
    assert model.chunk >= 64
    assert Path(model.facts.path).exists() or model.facts.path.startswith("scripted:")


def test_it_holds_what_it_was_given(model: LoadedModel) -> None:
    tokens = text(model)
    assert model.extend(tokens[:5], picks=0) == []
    assert model.extend(tokens[5:8], picks=0) == []
    assert (list(model.tokens), model.length) == (tokens[:8], 8)
    assert len(model.extend(tokens[8:9], picks=1)) == 1
    model.rewind(6)
    assert list(model.tokens) == tokens[:6]
    model.rewind(6)
    assert model.length == 6
    model.rewind(0)
    assert (list(model.tokens), model.length) == ([], 0)


def test_the_choice_at_a_place_is_the_same_however_it_was_reached(model: LoadedModel) -> None:
    context = text(model)[:9]
    expected = written(model, context, 6)
    for _ in range(2):
        model.rewind(8)
        assert written(model, context, 6) == expected
    model.rewind(0)
    assert written(model, context, 6) == expected
    model.rewind(0)
    model.extend(context[:-1], picks=0)
    model.extend([*context[-1:], *expected[:2]], picks=1)
    model.rewind(8)
    assert written(model, context, 6) == expected


def test_a_batch_chooses_what_single_steps_choose_and_rejected_tokens_leave_no_trace(
    backend: Backend, place: str
) -> None:
    main = backend.load(place, Options("main", CAPACITY, threads=1), lambda _: True)
    main.start(Sampler(Chain(temperature=0), 0, 8))
    context = text(main)[:9]
    expected = written(main, context, 8)
    for right in range(8):
        main.rewind(0)
        main.extend(context[:-1], picks=0)
        drafted = [*expected[:right], *text(main)[: 7 - right]]
        picks = main.extend([*context[-1:], *drafted], picks=8)
        assert [pick.token for pick in picks[: right + 1]] == expected[: right + 1]
        main.rewind(8 + right)
        assert written(main, [*context, *expected[:right]], 8 - right) == expected[right:]
    main.close()


def test_what_cannot_be_is_rejected_and_changes_nothing(model: LoadedModel) -> None:
    tokens = text(model)
    model.extend(tokens, picks=0)
    for picks in (-1, 3):
        with pytest.raises(ValueError, match="picks"):
            model.extend(tokens[:2], picks=picks)
    for length in (-1, model.length + 1):
        with pytest.raises(ValueError, match="rewind"):
            model.rewind(length)
    with pytest.raises(ModelError, match="full"):
        model.extend(tokens[:1] * (CAPACITY - len(tokens) + 1), picks=0)
    assert list(model.tokens) == tokens
    model.extend(tokens[:1] * (CAPACITY - len(tokens)), picks=0)
    with pytest.raises(ModelError, match="full"):
        model.extend(tokens[:1], picks=1)


def test_a_token_that_is_none_is_rejected(model: LoadedModel) -> None:
    for token in (-1, model.vocabulary.size):
        with pytest.raises((ModelError, IndexError)):
            model.extend([token], picks=1)
        assert model.length == 0


def test_without_a_sampler_nothing_is_chosen(backend: Backend, place: str) -> None:
    main = backend.load(place, Options("main", CAPACITY, threads=1), lambda _: True)
    with pytest.raises((ValueError, AssertionError)):
        main.extend(text(main)[:1], picks=1)
    main.close()


def test_its_vocabulary(model: LoadedModel) -> None:
    vocabulary = model.vocabulary
    for said in ("Hello world", "naïve café 日本 🤖", "a\n\n b\t", "x"):
        assert b"".join(map(vocabulary.piece, vocabulary.encode(said))) == said.encode()
    assert vocabulary.encode("") == []
    assert vocabulary.end_tokens
    assert vocabulary.control_tokens >= vocabulary.end_tokens
    for control in vocabulary.control_texts:
        assert vocabulary.encode(f"a{control}b")[1:2][0] in vocabulary.control_tokens
        assert vocabulary.encode(control[:1]) + vocabulary.encode(control[1:]) != vocabulary.encode(control)
    names = {vocabulary.piece(token).decode() for token in vocabulary.control_tokens}
    assert names == set(vocabulary.control_texts)
    for token in (-1, model.vocabulary.size):
        with pytest.raises(IndexError):
            vocabulary.piece(token)


def test_the_engine_can_begin_with_it(model: LoadedModel, backend: Backend) -> None:
    assert backend.name in BACKENDS
    assert backend.device()
    assert len(first_tokens(model)) == 1
    speed = plain_speed(model)
    assert speed is not None
    assert speed > 0
    assert model.length == 0


def test_a_main_model_passes_the_trial(backend: Backend, place: str) -> None:
    main = backend.load(place, Options("main", CAPACITY, threads=1), lambda _: True)
    assert trial(main) is None
    assert main.length == 0
    main.close()


def test_a_draft_fits_its_own_main_model(backend: Backend, place: str) -> None:
    main = backend.load(place, Options("main", CAPACITY), lambda _: True)
    draft = backend.load(
        "scripted:draft" if place.startswith("scripted:") else place,
        Options("draft", CAPACITY),
        lambda _: True,
    )
    assert backend.mismatch(main, draft) is None
    for each in (main, draft):
        each.close()


def test_a_load_can_be_given_up(backend: Backend, place: str) -> None:
    with pytest.raises(GivenUp, match="given up"):
        backend.load(place, Options("main", CAPACITY), lambda _: False)


def test_scripted_models_are_no_part_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SCRIPTED)
    with pytest.raises(ModelError, match="scripted models are a part of the tests"):
        open_backend("scripted:sample")
