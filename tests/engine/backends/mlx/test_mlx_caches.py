"""Every kind of MLX cache: rejected tokens leave no trace, and the same seed gives the same text.

Attention with full numbers and with 8 bits, sliding windows that keep everything and that drop, recurrent
states, and hybrids of both; each as a main model and as a draft.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from tests.support.cut_back import GREEDY, CutBack
from tests.support.rows import CLOSE, Watching, assert_close, rows_of, some_tokens
from tests.support.same_text import Asked, SameText, answer, prompt
from tests.support.starter import TIE, GapSampler

pytest.importorskip("mlx_lm")

import mlx.core as mx
from mlx_lm.models.cache import RotatingKVCache

from tests.support import mlx_models
from tui.engine.backends import ModelError, Options
from tui.engine.backends import mlx as backend
from tui.engine.backends.mlx import MlxBackend
from tui.engine.backends.mlx.caches import SPARE, Caches, WindowCache
from tui.engine.backends.mlx.model import MlxModel
from tui.engine.pair.cache_check import trial
from tui.engine.speculation.lookup import Lookup
from tui.engine.speculation.loop import Pick, Proposer
from tui.engine.speculation.proposers import DraftModel, NullProposer, ProposersInTurn
from tui.engine.speculation.sampling import Chain, Sampler
from tui.protocol import CacheType

WINDOW = mlx_models.WINDOW


@dataclass(frozen=True)
class Kind:
    """A kind of cache, and what to try it with."""

    architecture: str
    rewinds: str
    cache_type: CacheType = "f16"
    share: int = 4
    """Small for windows that keep everything."""
    prompts: int = 4
    tokens: int = 16
    close: float = CLOSE
    settings: dict[str, Any] = field(default_factory=dict)


KINDS = {
    "attention": Kind("llama", "anywhere", prompts=100, tokens=6),
    "attention in 8 bits": Kind("llama", "anywhere", "q8_0", prompts=12, tokens=10),
    "window": Kind("gemma3_text", "round", prompts=1, tokens=250),
    "window that keeps everything": Kind("gemma3_text", "anywhere", share=0, prompts=1, tokens=100),
    "recurrent": Kind("mamba", "round"),
    "hybrid": Kind("lfm2", "round", prompts=1, tokens=250),
    "hybrid, delta rule": Kind("qwen3_next", "round"),
    "hybrid in each layer": Kind("falcon_h1", "round"),
    "hybrid with a window": Kind("recurrent_gemma", "round", prompts=1, tokens=100),
}


class Loaded(NamedTuple):
    kind: Kind
    main: MlxModel
    draft: MlxModel
    """Of the same kind, and mostly of the main model's opinion."""


@pytest.fixture(scope="module", params=KINDS)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    kind = KINDS[request.param]
    place = tmp_path_factory.mktemp("models")
    main = mlx_models.write_folder(place / "main", kind.architecture, settings=kind.settings)
    draft = mlx_models.perturbed(main, place / "draft")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend, "WINDOWS_SHARE", kind.share or 1e-9)
        yield Loaded(kind, load(main, "main", kind.cache_type), load(draft, "draft"))


def load(path: Path, role: str, cache_type: CacheType = "f16") -> MlxModel:
    options = Options(role, 512, cache_type=cache_type)  # type: ignore[arg-type]
    return MlxBackend().load(str(path), options, lambda _: True)


def run_lengths(patch: pytest.MonkeyPatch, model: MlxModel) -> list[int]:
    """How many tokens each call runs from now on."""
    calls: list[int] = []
    network = model._network

    def counted(tokens: mx.array, cache: Any) -> mx.array:
        calls.append(tokens.shape[1])
        return network(tokens, cache=cache)

    patch.setattr(model, "_network", counted)
    return calls


# The same text


def asked(loaded: Loaded) -> Asked:
    return Asked((loaded.main, loaded.draft), loaded.kind.prompts, loaded.kind.tokens)


def proposers(loaded: Loaded) -> Iterator[Proposer]:
    end = loaded.main.vocabulary.control_tokens
    yield DraftModel(loaded.draft, end)
    if loaded.kind.prompts < 100:
        yield ProposersInTurn(Lookup(end), DraftModel(loaded.draft, end))


class TestSameText(SameText):
    asked = staticmethod(asked)
    proposers = staticmethod(proposers)


# Rejected tokens leave no trace


class TestCutBack(CutBack):
    run_lengths = staticmethod(run_lengths)


def test_each_kind_says_how_far_it_can_be_cut(loaded: Loaded) -> None:
    assert loaded.main.rewinds == loaded.kind.rewinds
    assert loaded.main.cache_unknown == ""
    eight = [type(leaf).__name__ for leaf in loaded.main._cache._leaves].count("EightBits")
    assert (eight > 0) == (loaded.kind.cache_type == "q8_0")
    assert "EightBits" not in [type(leaf).__name__ for leaf in loaded.draft._cache._leaves]


def test_a_chain_of_choices_is_cut_back_like_single_ones(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft, text = loaded.draft, some_tokens(90)
    chosen, tokens = one_by_one(draft, text, 7)
    for kept in range(7):
        ready_to_draft(draft, text)
        with monkeypatch.context() as patch:
            calls = run_lengths(patch, draft)
            assert draft.draft(text[70:72], 7) == chosen
            assert list(draft.tokens) == tokens
            draft.rewind(72 + kept)
            draft.start(watching := Watching())
            draft.extend(text[72 + kept : 80], picks=1)
        assert sum(calls) <= 2 + 6 + 10
        assert_close(watching.rows, rows_of(draft, [*tokens[: 72 + kept], *text[72 + kept : 80]], 79))


def ready_to_draft(draft: MlxModel, text: list[int]) -> None:
    draft.rewind(0)
    draft.start(Sampler(GREEDY, 0, 0))
    draft.extend(text[:70], picks=0)
    draft.rewind(70)


def one_by_one(draft: MlxModel, text: list[int], count: int) -> tuple[list[Pick], list[int]]:
    """What a draft that read 72 tokens chooses then, and what it holds in the end."""
    ready_to_draft(draft, text)
    picks = draft.extend(text[70:72], picks=1)
    while len(picks) < count:
        picks += draft.extend([picks[-1].token], picks=1)
    return picks, list(draft.tokens)


def test_a_failing_call_empties_the_cache(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    main, text = loaded.main, some_tokens(60, seed=6)
    expected = rows_of(main, text, 50)
    network = main._network

    def out_of_memory(tokens: mx.array, cache: Any) -> mx.array:
        network(tokens, cache=cache)
        raise RuntimeError("[malloc] Unable to allocate\n 8 bytes.")

    main.start(watching := Watching())
    with monkeypatch.context() as patch:
        patch.setattr(main, "_network", out_of_memory)
        for picks in (0, 3):
            with pytest.raises(ModelError, match=r"could not be run: \[malloc\] Unable to allocate 8 bytes."):
                main.extend(text[:9], picks)
            assert main.length == 0
    main.extend(text[:50], picks=0)
    for token in text[50:]:
        main.extend([token], picks=1)
    assert_close(watching.rows, expected)


def test_a_cache_that_is_not_cut_back_fails_the_trial(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Caches, "cut", lambda _self, length: length)
    assert trial(loaded.main) is not None


OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama with a window": (
        "llama",
        {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]},
    ),
    "attention in chunks": ("llama4", {}),
    "a window with sinks": ("gpt_oss", {}),
    "compressed attention": ("deepseek_v3", {}),
    "attention with an indexer": ("deepseek_v32", {"index_topk": 24}),
    "a state of matrices": ("rwkv7", {}),
    "a state of scans": ("mamba2", {}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_architectures_give_the_same_text_too(tmp_path: Path, name: str) -> None:
    architecture, settings = OTHERS[name]
    folder = mlx_models.write_folder(tmp_path / "main", architecture, settings=settings)
    draft = load(mlx_models.perturbed(folder, tmp_path / "draft"), "draft")
    pair = Loaded(Kind(architecture, "", tokens=80), load(folder, "main"), draft)
    accepted = rejected = 0
    for temperature in (0.0, 0.8, 1.5):
        plain = GapSampler(Chain(temperature), 1, 20)
        expected = answer(asked(pair), NullProposer(), prompt(1), 0, plain).tokens
        drafting = DraftModel(draft, pair.main.vocabulary.control_tokens)
        found = answer(asked(pair), drafting, prompt(1), 3, Sampler(Chain(temperature), 1, 20))
        accepted += found.accepted
        rejected += found.rejected
        if found.tokens != expected:
            places = enumerate(zip(found.tokens, expected, strict=False))
            assert plain.gaps[next(i for i, (ours, theirs) in places if ours != theirs)] < TIE
    assert (accepted > 20, rejected > 20) == (True, True)


# Windows


@pytest.mark.parametrize("spare", [SPARE, 1000])
@pytest.mark.parametrize(
    "sizes", [[40] + [1] * 200, [100, 1, 5, 1, 9, 17, 1, 30, 1] + [1] * 100 + [3] * 20, [300, 2, 1]]
)
def test_a_window_gives_what_the_rotating_cache_of_mlx_lm_gives(spare: int, sizes: list[int]) -> None:
    ours, theirs = attended(WindowCache(WINDOW, spare), sizes), attended(RotatingKVCache(WINDOW), sizes)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("narrow", [WINDOW, 20])
def test_a_window_may_be_asked_for_less_than_it_shows(narrow: int) -> None:
    sizes = [30, 1, 50, 1, 1, 7]
    ours = attended(WindowCache(WINDOW), sizes, narrow)
    np.testing.assert_allclose(ours, attended(WindowCache(narrow), sizes), atol=1e-5)


def test_a_window_keeps_few_entries_and_knows_when_they_are_too_few() -> None:
    cache = WindowCache(WINDOW)
    for place in range(1500):
        attend(cache, place, 1)
        assert cache.reaches(cache.offset - SPARE)
    assert cache.keys.shape[2] <= WINDOW + SPARE + 256
    assert not cache.reaches(1000)
    assert not cache.reaches(0)


def attended(cache: Any, sizes: list[int], window: int | None = None) -> np.ndarray:
    places = np.cumsum([0, *sizes])
    parts = [attend(cache, int(at), size, window) for at, size in zip(places, sizes, strict=False)]
    return np.concatenate(parts, axis=2)


def attend(cache: Any, at: int, count: int, window: int | None = None) -> np.ndarray:
    """What attention gives for the `count` entries from the place `at` on of one fixed text."""
    rng = np.random.default_rng(0)
    query, key, value = (mx.array(rng.standard_normal((1, 2, 1600, 8), np.float32)) for _ in range(3))
    part = slice(at, at + count)
    mask = cache.make_mask(count, window_size=window)
    keys, values = cache.update_and_fetch(key[:, :, part], value[:, :, part])
    return np.array(
        mx.fast.scaled_dot_product_attention(query[:, :, part], keys, values, scale=1.0, mask=mask)
    )


# What cannot be cut, and what does not fit


def test_a_cache_of_an_unknown_kind_answers_plainly_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Odd(RotatingKVCache):  # type: ignore[misc]
        pass

    path = mlx_models.write_folder(tmp_path / "m", "llama")
    monkeypatch.setattr(backend, "make_prompt_cache", lambda network: [Odd(max_size=64) for _ in range(2)])
    main, draft = load(path, "main"), load(path, "draft")
    assert main.rewinds == "round", "a prompt that has changed is read again from its start"
    for obstacle in (trial(main), MlxBackend().mismatch(main, draft)):
        assert obstacle and "cannot be cut back (Odd)" in obstacle.text
    main.start(Sampler(GREEDY, 0, 0))
    main.extend(text := some_tokens(20), picks=0)
    token = main.extend([1], picks=1)[0].token
    main.rewind(21)
    assert main.extend([token], picks=1)
    main.rewind(0)
    main.extend(text, picks=0)
    assert main.extend([1], picks=1)[0].token == token


def test_heads_that_do_not_fit_8_bits_are_rejected_with_a_hint(tmp_path: Path) -> None:
    path = mlx_models.write_folder(
        tmp_path / "m", settings={"num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 16}
    )
    with pytest.raises(ModelError, match="heads of 16 numbers do not fit") as caught:
        load(path, "main", "q8_0")
    assert "16 bits" in caught.value.hint
    assert load(path, "draft", "q8_0").rewinds == "anywhere"


def test_a_cache_of_8_bits_is_smaller_and_never_the_drafts(tmp_path: Path) -> None:
    path = mlx_models.write_folder(tmp_path / "m")
    sizes = []
    for role, cache_type in (("main", "f16"), ("main", "q8_0"), ("draft", "q8_0")):
        each = load(path, role, cache_type)  # type: ignore[arg-type]
        each.extend(some_tokens(100), picks=0)
        sizes.append(sum(leaf.nbytes for leaf in each._cache._leaves))
    assert sizes[1] < 0.4 * sizes[0]  # of 32 bits in this toy
    assert sizes[2] == sizes[0]
