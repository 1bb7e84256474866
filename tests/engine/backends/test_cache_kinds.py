"""Every kind of cache: rejected tokens leave no trace, and the same seed gives the same text.

Attention with 16 and with 8 bits, sliding windows that keep everything and that drop, recurrent states, and
hybrids of both, with copies of the state and with a fork of it; each as a main model and as a draft.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from gguf import GGUFReader
from msgspec import structs

from tests.support import models
from tests.support.cut_back import GREEDY, CutBack
from tests.support.models import Toy
from tests.support.rows import Watching, assert_close, rows_of, some_tokens
from tests.support.same_text import Asked, SameText
from tests.support.scripted import ScriptedBackend
from tests.support.windows import no_room_for_full_windows
from tui.engine.backends import ModelError, Options, llama_cpp
from tui.engine.backends.llama_cpp import LlamaBackend, model, rollback
from tui.engine.backends.llama_cpp.model import LlamaModel
from tui.engine.backends.llama_cpp.rollback import Cells, Fork, NativeCache, Snapshots
from tui.engine.library.header import read_header
from tui.engine.pair.cache_check import trial
from tui.engine.speculation.lookup import Lookup
from tui.engine.speculation.loop import Proposer
from tui.engine.speculation.proposers import DraftModel, ProposersInTurn
from tui.engine.speculation.sampling import Sampler
from tui.protocol import CacheType

PROMPTS = 10


@dataclass(frozen=True)
class Kind:
    """A kind of cache, and what to try it with."""

    rollback: type[NativeCache]
    toy: Toy
    cache_type: CacheType = "f16"
    copies: bool = True
    """False for a hybrid that is too big for copies of its state."""
    batch: int = 512
    """Tokens in one native call; few leave a sliding window few cells."""
    prompts: int = PROMPTS
    tokens: int = 16


KINDS = {
    "attention": Kind(Cells, Toy()),
    "attention in 8 bits": Kind(Cells, Toy(heads=2), cache_type="q8_0"),
    "window": Kind(Cells, Toy("gemma3"), prompts=1, tokens=250),
    "window that drops": Kind(Cells, Toy("gemma3"), batch=32, prompts=1, tokens=250),
    "recurrent": Kind(Fork, Toy("mamba")),
    "hybrid": Kind(Snapshots, Toy("lfm2")),
    "hybrid without copies": Kind(Fork, Toy("lfm2"), copies=False),
}


class Loaded(NamedTuple):
    kind: Kind
    main: LlamaModel
    draft: LlamaModel
    """Of the same kind, and mostly of the main model's opinion."""
    stranger: LlamaModel
    """Another random model."""


@pytest.fixture(scope="module", params=KINDS)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    kind = KINDS[request.param]
    path = models.write_model(tmp_path_factory.mktemp("models") / "main.gguf", kind.toy)
    other = models.write_model(path.with_name("stranger.gguf"), Toy(seed=9, layers=1, width=32))
    with pytest.MonkeyPatch.context() as always:
        for module in (llama_cpp, model):
            always.setattr(module, "BATCH", kind.batch)
        with pytest.MonkeyPatch.context() as patch:
            if not kind.copies:
                patch.setattr(llama_cpp, "affordable_copies", lambda *_: 0)
            if kind.batch < 512:
                no_room_for_full_windows(patch)
            main = load(path, "main", kind.cache_type)
            draft = load(perturbed(path, path.with_name("draft.gguf")), "draft")
        yield Loaded(kind, main, draft, load(other, "draft"))


def load(path: Path, role: str, cache_type: CacheType = "f16", context_length: int = 512) -> LlamaModel:
    options = Options(role, context_length, threads=1, cache_type=cache_type)  # type: ignore[arg-type]
    return LlamaBackend().load(str(path), options, lambda _: True)


def perturbed(path: Path, target: Path) -> Path:
    """A copy of a model with a little noise on its output."""
    shutil.copy(path, target)
    random = np.random.default_rng(5)
    for tensor in GGUFReader(target, "r+").tensors:
        if tensor.name == "output.weight":
            tensor.data[:] += random.normal(0, 0.15 * tensor.data.std(), tensor.data.shape)
    return target


def run_lengths(patch: pytest.MonkeyPatch, loaded: LlamaModel) -> list[int]:
    """How many tokens each native call runs from now on."""
    calls: list[int] = []
    decode = loaded._library.llama_decode
    patch.setattr(
        loaded._library, "llama_decode", lambda *call: calls.append(call[1].n_tokens) or decode(*call)
    )
    return calls


# The same text


def asked(loaded: Loaded) -> Asked:
    return Asked((loaded.main, loaded.draft, loaded.stranger), loaded.kind.prompts, loaded.kind.tokens)


def proposers(loaded: Loaded) -> Iterator[Proposer]:
    end = loaded.main.vocabulary.control_tokens
    yield DraftModel(loaded.draft, end)
    yield DraftModel(loaded.stranger, end)
    yield Lookup(end)
    yield ProposersInTurn(Lookup(end), DraftModel(loaded.draft, end))


class TestSameText(SameText):
    asked = staticmethod(asked)
    proposers = staticmethod(proposers)


# Rejected tokens leave no trace


class TestCutBack(CutBack):
    run_lengths = staticmethod(run_lengths)


def test_each_kind_is_cut_back_in_its_own_way(loaded: Loaded) -> None:
    assert isinstance(loaded.main._cache, loaded.kind.rollback)
    assert loaded.main.rewinds == ("anywhere" if loaded.kind.rollback is Cells else "round")
    assert isinstance(loaded.draft._cache, Cells if loaded.kind.rollback is Cells else Fork)


def test_what_the_library_refuses_leaves_tokens_and_cache_in_step(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    main, text = loaded.main, some_tokens(60, seed=6)
    expected = rows_of(main, text, 5)
    decode = main._library.llama_decode
    for held in (True, False):
        main.rewind(0)
        main.start(Sampler(GREEDY, 0, 0))
        main.extend(text[:40], picks=0)
        with monkeypatch.context() as patch:
            # A call may fail before it changes the cache, or after.
            patch.setattr(
                main._library, "llama_decode", lambda *call, held=held: -3 if held else decode(*call) - 3
            )
            with pytest.raises(ModelError, match="llama_decode: -3"):
                main.extend(text[40:45], picks=5)
        assert main.tokens == text[: main.length]
        assert main.length <= 40
        main.start(watching := Watching())
        main.extend(text[main.length : 48], picks=3)
        assert_close(watching.rows, {place: expected[place] for place in (46, 47, 48)})


# What is chosen, and what is rejected


def test_a_hybrid_gets_copies_where_they_are_small_beside_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a fork where it is a draft, where the architecture has no copies, or where they are large."""
    hybrid = models.write_model(tmp_path / "hybrid.gguf", Toy("lfm2"))
    recurrent = models.write_model(tmp_path / "recurrent.gguf", Toy("mamba"))
    assert isinstance(load(hybrid, "main")._cache, Snapshots)
    assert isinstance(load(hybrid, "draft")._cache, Fork)
    header = read_header(recurrent)
    state = 4 * header.block_count * 128 * 8
    native = load(recurrent, "main")

    def copies(weights: int) -> int:
        weighed = replace(header, facts=structs.replace(header.facts, size=weights))
        return rollback.affordable_copies(native._library, native.model, weighed, rollback.COPIES)

    shares = (129 * 8, 128, 128 - 1 / state, 24, 24 - 1 / state)
    assert [copies(round(share * state)) for share in shares] == [16, 16, 15, 3, 0]
    monkeypatch.setattr(llama_cpp, "affordable_copies", lambda *_: rollback.COPIES)
    assert isinstance(load(recurrent, "main")._cache, Fork)


def test_a_cache_of_8_bits_is_half_as_large_and_never_the_drafts(tmp_path: Path) -> None:
    path = models.write_model(tmp_path / "m.gguf", Toy(heads=2))
    sizes = []
    for role, cache_type in (("main", "f16"), ("main", "q8_0"), ("draft", "q8_0")):
        each = load(path, role, cache_type)  # type: ignore[arg-type]
        each.extend(some_tokens(100), picks=0)
        sizes.append(each._library.llama_state_seq_get_size(each.context, 0))
    assert sizes[1] < 0.6 * sizes[0]
    assert sizes[2] == sizes[0]


def test_heads_that_do_not_fit_8_bits_are_rejected_with_a_hint(tmp_path: Path) -> None:
    path = models.write_model(tmp_path / "m.gguf", Toy(heads=4))
    with pytest.raises(ModelError) as caught:
        load(path, "main", "q8_0")
    assert "16" in str(caught.value)
    assert "16 bits" in caught.value.hint


def test_a_window_that_keeps_everything_is_given_up_where_memory_is_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = models.write_model(tmp_path / "m.gguf", Toy("gemma3", context_length=2048))
    text = some_tokens(1000)
    oldest = []
    for short in (False, True):
        with monkeypatch.context() as patch:
            if short:
                no_room_for_full_windows(patch)
            main = load(path, "main", context_length=2048)
        main.start(Sampler(GREEDY, 0, 0))
        main.extend(text, picks=0)
        oldest.append(main._library.llama_memory_seq_pos_min(main._memory, 0))
        calls = run_lengths(monkeypatch, main)
        main.rewind(100)
        main.start(watching := Watching())
        main.extend(text[100:110], picks=5)
        monkeypatch.undo()
        assert sum(calls) == (110 if short else 10)
        assert_close(watching.rows, rows_of(main, text[:110], 105))
    assert oldest[0] == 0
    assert oldest[1] > 100


# The trial


def test_a_trial_takes_few_calls(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    main = loaded.main
    calls = run_lengths(monkeypatch, main)
    trial(main)
    back = main.drops_from + main.chunk if main.drops_from else 0
    assert len(calls) <= 23 + (7 + back // main.chunk if back else 0), "a cut far back takes some more"
    assert sum(calls) <= 140 + (back + 40 if back else 0)


def test_a_cache_that_is_not_cut_back_fails_the_trial(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loaded.kind.rollback, "cut", lambda _self, length: length)
    # Positions that are there already would be rejected; a broken library would not notice.
    monkeypatch.setattr(LlamaModel, "_decode", decode_behind)
    assert trial(loaded.main) is not None
    monkeypatch.undo()
    assert trial(loaded.main) is None


def decode_behind(self: LlamaModel, tokens: Sequence[int], first_row: int) -> None:
    """Run `tokens` behind whatever the cache holds."""
    place = self._library.llama_memory_seq_pos_max(self._memory, 0) + 1
    assert self._library.llama_decode(self.context, self._batch.fill(tokens, place, first_row)) == 0
    self._held += len(tokens)


@pytest.mark.parametrize("where", ["output", "everywhere"])
def test_a_model_that_computes_nonsense_fails_the_trial(tmp_path: Path, where: str) -> None:
    toy = Toy(not_a_number=where)  # type: ignore[arg-type]
    obstacle = trial(load(models.write_model(tmp_path / "m.gguf", toy), "main"))
    assert obstacle and "invalid numbers" in obstacle.text


def test_a_scripted_model_passes_the_trial() -> None:
    scripted = ScriptedBackend().load("scripted:sample", Options("main", 512), lambda _: True)
    assert trial(scripted) is None
    assert scripted.length == 0
