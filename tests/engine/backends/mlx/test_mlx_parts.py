"""Calls of MLX that take long: computed in parts, with the same bits, and given up between two parts."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support.rows import some_tokens

pytest.importorskip("mlx_lm")

import mlx.core as mx
from mlx import nn

from tests.support import mlx_models
from tui.engine.backends import GivenUp, Options, asking
from tui.engine.backends.mlx import MlxBackend, output_layer, parts
from tui.engine.backends.mlx.caches import leaves
from tui.engine.backends.mlx.model import MlxModel
from tui.engine.pair.deviation import Watched, deviation
from tui.engine.pair.pair import load_pair
from tui.engine.pair.reading import ContextReader
from tui.engine.speculation.sampling import Chain, Sampler
from tui.protocol import Load

GREEDY = Chain(temperature=0)
KINDS = ("llama", "gemma3_text", "lfm2", "llama4", "qwen3_next")
LAYERS = 6

Open = Callable[[str, str], MlxModel]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    def make(kind: str, cache: str = "f16") -> MlxModel:
        settings = {"num_hidden_layers": LAYERS} if kind in ("llama", "gemma3_text") else {}
        folder = mlx_models.write_folder(tmp_path / kind, kind, settings=settings)
        options = Options("main", 4096, cache_type=cache)  # type: ignore[arg-type]
        return MlxBackend().load(str(folder), options, lambda _: True)

    yield make


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call counts as one that takes long, and every layer too."""
    monkeypatch.setattr(parts, "LONG", 0.0)
    monkeypatch.setattr(parts, "_TOGETHER", 0.0)


def fast(model: MlxModel, text: list[int]) -> list[int]:
    """The tokens that a model chooses behind a text, all its calls at once."""
    model.rewind(0)
    model.start(Sampler(GREEDY, 0, 0))
    return [pick.token for pick in model.extend(text, 8)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_in_parts_has_the_bits_of_a_whole_one(
    opened: Open, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, text = opened(kind, "f16"), some_tokens(40)
    rows = []
    for long in (1e9, 0.0):
        monkeypatch.setattr(parts, "LONG", long)
        watched = Watched(model)
        watched.begin(text[:20])
        rows.append([*watched.run(text[20:28]), *watched.run(text[28:29])])
    assert deviation(*rows) == 0.0


@pytest.mark.parametrize("tied", [True, False])
def test_the_output_layer_of_a_slow_call_is_computed_in_pieces_that_can_be_given_up(
    tmp_path: Path, slow: None, monkeypatch: pytest.MonkeyPatch, tied: bool
) -> None:
    """It took 1.5 seconds as one piece in a call of a model with a vocabulary of 262,144 tokens."""
    monkeypatch.setattr(output_layer, "_LEAST", 8)
    settings = {"num_hidden_layers": 1, "tie_word_embeddings": tied}
    folder = mlx_models.write_folder(tmp_path / "m", settings=settings)
    model = MlxBackend().load(str(folder), Options("main", 256), lambda _: True)
    text, told, size = some_tokens(20), list[float](), model.vocabulary.size
    model.start(Sampler(GREEDY, 0, 0))

    def wanted(tokens: float) -> bool:
        told.append(tokens)
        return len(told) < 6

    with asking([model], wanted), pytest.raises(GivenUp):
        model.extend(text, 8)
    assert len(told) == 6 and model.length == 0, "given up between two pieces, long after the only layer"
    told.clear()
    with asking([model], lambda tokens: told.append(tokens) or True):  # type: ignore[func-returns-value]
        chosen = [pick.token for pick in model.extend(text, 8)]
    assert len(told) > size // 8 // 2 and sum(told) == pytest.approx(20)
    monkeypatch.setattr(parts, "LONG", 1e9)
    assert fast(model, text) == chosen


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("rows", [1, 7])
def test_pieces_of_an_output_layer_give_its_bits(quantized: bool, rows: int) -> None:
    layer = nn.Linear(256, 20000)
    network = SimpleNamespace(lm_head=layer.to_quantized(64, 4) if quantized else layer)
    divided, entering = output_layer.OutputLayer(network), mx.random.normal((1, rows, 256))
    whole = network.lm_head(entering)
    with divided.divided(0.34) as pieces:
        found = network.lm_head(entering)
    assert len(pieces) == 3
    assert mx.array_equal(found, whole)


def test_the_parts_of_a_call_add_up_to_its_tokens(opened: Open, slow: None) -> None:
    model, told = opened("llama", "f16"), list[float]()
    with asking([model], lambda tokens: told.append(tokens) or True):  # type: ignore[func-returns-value]
        model.extend(some_tokens(24), 0)
    assert sum(told) == pytest.approx(24)
    assert sum(each > 0 for each in told) > LAYERS, "each layer tells"


@pytest.mark.parametrize(("kind", "cache"), [*((kind, "f16") for kind in KINDS), ("llama", "q8_0")])
def test_a_call_that_is_given_up_leaves_the_cache_as_it_was(
    opened: Open, slow: None, kind: str, cache: str
) -> None:
    model, text = opened(kind, cache), some_tokens(40)
    expected = fast(model, text)
    for place in range(1, 3):
        model.rewind(0)
        model.start(Sampler(GREEDY, 0, 0))
        model.extend(text[:30], 0)
        asked = 0

        def wanted(tokens: float, last: int = place) -> bool:
            nonlocal asked
            asked += 1
            return asked <= last

        with asking([model], wanted), pytest.raises(GivenUp):
            model.extend(some_tokens(10, 7), 8)
        assert asked == place + 1, "nothing more is computed"
        assert list(model.tokens) == text[: model.length]
        assert model.length > 0, "the tokens of earlier calls stay"
        assert [pick.token for pick in model.extend(text[model.length :], 8)] == expected


@pytest.mark.parametrize(("seconds", "expected"), [(0.0, 6), (0.2, 3), (0.3, 2), (10.0, 1)])
def test_layers_that_take_little_time_are_computed_together(
    opened: Open, slow: None, monkeypatch: pytest.MonkeyPatch, seconds: float, expected: int
) -> None:
    """Each wait for MLX takes time. A layer and the output layer take a tenth of a second each here."""
    model, told = opened("llama", "f16"), list[float]()
    monkeypatch.setattr(parts, "_TOGETHER", seconds + 0.001 * (seconds > 0))
    monkeypatch.setattr(model._parts, "_token", 0.1 * (LAYERS + 1) / 24)
    model._parts.compute(
        lambda: model.runner(mx.array([some_tokens(24)]), cache=model._cache.all), mx.eval, 24, told.append
    )
    assert len(told) == expected
    assert sum(told) == pytest.approx(24 * LAYERS / (LAYERS + 1))


@pytest.mark.parametrize("cache", ["f16", "q8_0"])
def test_a_call_in_parts_copies_no_cache(opened: Open, monkeypatch: pytest.MonkeyPatch, cache: str) -> None:
    """A long chat has a cache of gigabytes. A call of two tokens takes far less for its own numbers."""
    monkeypatch.setattr(parts, "LONG", 1e9)
    model, text = opened("llama", cache), some_tokens(3000)
    model.extend(text[:2990], 0)
    monkeypatch.setattr(parts, "LONG", 0.0)
    model.extend(text[2990:2992], 0)
    held = sum(leaf.nbytes for leaf in leaves(model._cache.all))
    gc.collect()
    mx.clear_cache()
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    model.extend(text[2992:2994], 0)
    needed = mx.get_peak_memory() - before
    assert needed < held / 2, (needed, held)


def test_a_layer_that_is_not_wanted_any_more_is_not_computed(
    opened: Open, slow: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLX must not begin with the layers behind: what it has begun would delay the next call."""
    model = opened("llama", "f16")
    monkeypatch.setattr(mx, "async_eval", None)  # an early beginning fails
    model.extend(some_tokens(3), 0)
    assert any(leaf.begins for leaf in leaves(model._cache.all)), "a short call begins early again"


@pytest.mark.parametrize("kind", KINDS)
def test_a_slow_chain_of_choices_asks_between_them(
    opened: Open, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chain whose choices take long together, but not each of them, is not made one by one by the host."""
    model, text = opened(kind, "f16"), some_tokens(30)
    model.start(Sampler(GREEDY, 0, 0))

    def chosen() -> list[int]:
        model.rewind(0)
        model.extend(text[:20], 0)
        return [pick.token for pick in model.draft(text[20:], 5)]

    monkeypatch.setattr(model._parts, "are_needed", lambda tokens: False)
    expected = chosen()
    assert len(expected) == 5
    monkeypatch.setattr(model._parts, "are_needed", lambda tokens: tokens > 1)
    monkeypatch.setattr(parts, "_TOGETHER", 0.0)
    asked = 0

    def wanted(tokens: float) -> bool:
        nonlocal asked
        asked += 1
        return asked <= last

    last = 10**9
    with asking([model], wanted):
        assert chosen() == expected
    assert list(model.tokens) == text + expected[:-1]
    most = asked
    for chosen_yet, last in enumerate(range(most - 4, most), 1):
        asked = 0
        with asking([model], wanted), pytest.raises(GivenUp):
            chosen()
        assert asked == last + 1
        assert list(model.tokens) == text + expected[:chosen_yet]
        model.start(Sampler(GREEDY, 0, 0))
        rest = [*expected[chosen_yet:4], 7]
        after = model.extend(rest, 1)
        model.rewind(0)
        model.extend(text[:20], 0)
        assert model.extend([*text[20:], *expected[:4], 7], 1) == after, "its cache holds these tokens"


def test_a_long_prompt_is_read_in_calls_that_the_time_of_a_token_limits(
    opened: Open, slow: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, text = opened("llama", "f16"), some_tokens(300)
    monkeypatch.setattr(model._parts, "_token", 0.2)
    assert model._parts.most(300) == int(parts._PART * (LAYERS + 1) / 0.2) == 14
    monkeypatch.setattr(model._parts, "_token", 100.0)
    assert model._parts.most(300) == 1
    told: list[tuple[int, int]] = []
    reader = ContextReader(model)
    assert reader.read(text, lambda: False, lambda *each: told.append(each))
    assert told == sorted(set(told)) and told[-1] == (299, 299)
    assert len(told) > len(text) // model.chunk + 2, "progress within the calls"
    whole = fast(model, text)
    model.rewind(0)
    model.extend(text[:250], 0)
    assert [pick.token for pick in model.extend(text[250:], 8)] == whole


def test_a_cancel_ends_a_reading_within_a_call(opened: Open, slow: None) -> None:
    model, text = opened("llama", "f16"), some_tokens(300)
    model.extend(text[:100], 0)
    polled = 0

    def cancelled() -> bool:
        nonlocal polled
        polled += 1
        return polled > 4

    assert not ContextReader(model).read(text, cancelled, lambda *_: None)
    assert polled == 5
    assert model.length == 100 and list(model.tokens) == text[:100]


@pytest.mark.parametrize("at", range(6))
def test_a_load_is_given_up_at_every_place_where_it_asks(tmp_path: Path, slow: None, at: int) -> None:
    folder = mlx_models.write_folder(tmp_path / "m", settings={"num_hidden_layers": LAYERS})
    told: list[float] = []

    def progress(share: float) -> bool:
        told.append(share)
        return len(told) <= at

    with pytest.raises(GivenUp, match="given up"):
        MlxBackend().load(str(folder), Options("main", 0), progress)
    assert len(told) == at + 1
    assert told == sorted(told)


@pytest.fixture
def pair_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """A main model and a draft; no load knows anything from earlier ones."""
    number = count()
    for module in ("exactness", "pair"):
        monkeypatch.setattr(f"tui.engine.pair.{module}.find_costs", lambda: tmp_path / f"costs{next(number)}")
    main = mlx_models.write_folder(tmp_path / "main", settings={"num_hidden_layers": LAYERS})
    return str(main), str(mlx_models.perturbed(main, tmp_path / "draft"))


def test_a_load_of_a_slow_pair_tells_its_progress_and_is_given_up_wherever_it_asks(
    pair_folders: tuple[str, str], slow: None
) -> None:
    command, told = Load(*pair_folders, context_length=256), list[tuple[str, float | None]]()

    def progress(stage: str, share: float | None) -> bool:
        told.append((stage, share))
        return len(told) <= last

    last = 10**9
    load_pair(command, progress).close()
    for stage in dict.fromkeys(stage for stage, _ in told):
        shares = [share for each, share in told if each == stage and share is not None]
        assert shares == sorted(shares) and shares[-1] <= 1, stage
        assert len(set(shares)) >= LAYERS or stage.startswith("Loading"), (stage, shares)
    whole = len(told)
    for last in [0, 1, 5, *range(20, whole // 2, whole // 12)]:
        told.clear()
        with pytest.raises(GivenUp):
            load_pair(command, progress)
        assert last < len(told) <= last + 2, "the end of a call tells too, and then the next one asks"


def test_practice_stops_within_a_call_when_a_command_comes(pair_folders: tuple[str, str], slow: None) -> None:
    pair = load_pair(Load(*pair_folders, context_length=256), lambda *_: True)
    text = some_tokens(20)
    pair.main.extend(text, 0)
    asked = 0

    def idle() -> bool:
        nonlocal asked
        asked += 1
        return asked <= 30

    with pytest.raises(GivenUp):
        pair.practise(idle)
    assert asked == 31
    assert list(pair.main.tokens) == text
    assert pair.draft and not pair.draft.length
    pair.close()
