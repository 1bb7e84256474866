"""Checkpoints: which copies of a cache are kept, whether they are trusted, and what a chat gains by them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support import models
from tests.support.answering import Heard, ask
from tests.support.models import CHATML, Toy
from tests.support.windows import no_room_for_full_windows
from tui.engine.answer.prompt import prompt_of, staying
from tui.engine.answer.templates import TemplateRenderer
from tui.engine.backends import LoadedModel, Options, RestoresEarly, llama_cpp
from tui.engine.backends.checkpoints import MOST, Checkpoints, most_bytes
from tui.engine.backends.llama_cpp import model as native_model
from tui.engine.backends.llama_cpp.rollback import Cells, NativeCache
from tui.engine.backends.selection import open_backend
from tui.engine.pair.cache_check import trial, trial_of_checkpoints
from tui.engine.pair.exactness import judge
from tui.engine.pair.pair import Pair
from tui.engine.pair.reading import ContextReader
from tui.engine.pair.stages import Stages
from tui.engine.speculation.lookup import Lookup
from tui.engine.speculation.policy import FixedLength
from tui.protocol import Generate, Load, Message, Sampling

# Which copies are kept


class Cache:
    """A cache whose copies are numbers."""

    def __init__(self, size: int = 10) -> None:
        self.size = size
        self.held = 0
        self.fails = False

    def state_bytes(self) -> int:
        return self.size

    def save(self) -> int | None:
        return None if self.fails else self.held

    def restore(self, state: int, length: int) -> bool:
        assert state == length
        self.held = length
        return not self.fails


def filled(lengths: list[int], room: int = 1000, size: int = 10) -> tuple[Checkpoints[int], Cache]:
    cache = Cache(size)
    checkpoints = Checkpoints(cache, 8 * room)
    for length in lengths:
        checkpoints.want(length)
        cache.held = length
        checkpoints.computed(length)
    return checkpoints, cache


def kept(checkpoints: Checkpoints[int]) -> list[int]:
    return [length for length in range(2000) if checkpoints.nearest(length) == length and length]


def test_a_call_ends_where_a_copy_is_wanted_and_nowhere_else() -> None:
    checkpoints, cache = filled([])
    assert checkpoints.stop(0, 100) == 100
    checkpoints.want(40)
    assert [checkpoints.stop(held, 100) for held in (0, 39, 40, 41)] == [40, 40, 100, 100]
    assert checkpoints.stop(0, 30) == 30
    checkpoints.computed(39)
    assert kept(checkpoints) == []
    cache.held = 40
    checkpoints.computed(40)
    assert kept(checkpoints) == [40]


def test_the_copy_that_spares_the_fewest_tokens_goes_first() -> None:
    checkpoints, _ = filled([500, 520, 900, 1000])
    assert len(kept(checkpoints)) == MOST
    assert kept(filled([500, 520, 900, 1000, 1400])[0]) == [500, 900, 1000, 1400]
    assert kept(filled([500, 520, 900, 1000, 1400, 1410])[0]) == [500, 900, 1400, 1410]


@pytest.mark.parametrize(("room", "expected"), [(40, 4), (39, 3), (10, 1), (9, 0)])
def test_copies_stay_within_their_memory(room: int, expected: int) -> None:
    checkpoints, _ = filled([100, 200, 300, 400, 500], room=room)
    assert len(kept(checkpoints)) == expected
    assert not expected or kept(checkpoints)[-1] == 500, "the newest is always kept"
    assert most_bytes(10, 8 * room) <= room


def test_a_cache_that_loses_nothing_is_not_copied() -> None:
    assert kept(filled([100], size=0)[0]) == []


def test_a_copy_is_forgotten_with_its_tokens() -> None:
    checkpoints, cache = filled([100, 200, 300])
    checkpoints.forget(200)
    assert kept(checkpoints) == [100, 200]
    assert (checkpoints.restore(250), cache.held) == (200, 200)
    checkpoints.forget(0)
    assert checkpoints.nearest(1000) == 0


def test_a_library_that_fails_is_not_asked_again() -> None:
    checkpoints, cache = filled([100, 200])
    cache.fails = True
    assert checkpoints.restore(150) == 0
    cache.fails = False
    checkpoints.want(50)
    checkpoints.computed(50)
    assert kept(checkpoints) == []


# Toys of every kind whose cache cannot be cut back far

THINKING = CHATML.replace(
    "message['content']",
    "(message['content'].split('</think>')[-1] | trim if message['role'] == 'assistant' else "
    "message['content'])",
).replace("assistant\n' }}{% endif %}", "assistant\n<think>\n' }}{% endif %}")
"""A template that opens a thought, and leaves it out of the next prompt."""
TOLD = "Tell me about the rivers and the mountains of a country that you know. " * 6

KINDS = {
    "recurrent": "mamba",
    "hybrid": "lfm2",
    "hybrid without copies": "lfm2",
    "window that drops": "gemma3",
    "MLX recurrent": "mamba",
    "MLX hybrid": "lfm2",
    "MLX hybrid, delta rule": "qwen3_next",
    "MLX window": "gemma3_text",
    "MLX hybrid with a window": "recurrent_gemma",
}

Open = Callable[[str], LoadedModel]


@pytest.fixture(scope="module")
def renderer() -> Iterator[TemplateRenderer]:
    made = TemplateRenderer()
    yield made
    made.close()


def written(folder: Path, kind: str) -> str:
    architecture: Any = KINDS[kind]
    if not kind.startswith("MLX"):
        toy = Toy(architecture, context_length=2048, chat_template=THINKING)
        return str(models.write_model(folder / "m.gguf", toy))
    pytest.importorskip("mlx_lm")
    from tests.support import mlx_models

    path = mlx_models.write_folder(folder / "m", architecture, settings={"max_position_embeddings": 2048})
    (path / "chat_template.jinja").write_text(THINKING)
    return str(path)


@pytest.fixture(params=KINDS)
def opened(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    kind = request.param
    path = written(tmp_path, kind)
    loaded: list[LoadedModel] = []

    def load(role: str) -> LoadedModel:
        with monkeypatch.context() as patch:
            if kind == "hybrid without copies":
                patch.setattr(llama_cpp, "affordable_copies", lambda *_: 0)
            if kind == "window that drops":
                no_room_for_full_windows(patch)
            options = Options(role, 1024, threads=1)  # type: ignore[arg-type]
            loaded.append(open_backend(path).load(path, options, lambda _: True))
        return loaded[-1]

    for module in (llama_cpp, native_model):  # few tokens in a call leave a window few cells
        monkeypatch.setattr(module, "BATCH", 32)
    yield load
    for each in loaded:
        each.close()


def pair_of(main: LoadedModel, draft: LoadedModel | None = None) -> Pair:
    backend = open_backend(main.facts.path)
    return Pair(backend, main, draft, None, None, FixedLength(3), ContextReader(main), Lookup(()))


def answered(pair: Pair, renderer: TemplateRenderer, chat: list[Message], **settings: Any) -> Heard:
    settings = {"draft_length": 0, "max_tokens": 40, "sampling": Sampling(temperature=0.7), **settings}
    return ask(pair, renderer, chat, **settings)


def test_another_answer_reads_only_the_end_of_the_prompt_and_is_the_same_text(
    opened: Open, renderer: TemplateRenderer
) -> None:
    pair = pair_of(opened("main"))
    chat = [Message("user", TOLD)]
    first = answered(pair, renderer, chat, max_tokens=300)
    for seed in (11, 12, 11):
        again = answered(pair, renderer, chat, seed=seed, max_tokens=300)
        assert again.statistics.prompt_tokens - again.statistics.prompt_reused < 30
        fresh = answered(pair, renderer, chat, seed=seed, fresh=True, max_tokens=300)
        assert fresh.statistics.prompt_reused == 0
        assert again.tokens == fresh.tokens
    assert first.tokens == fresh.tokens


def test_a_prompt_without_the_thought_before_reads_only_what_is_new(
    opened: Open, renderer: TemplateRenderer
) -> None:
    pair = pair_of(opened("main"))
    chat = [Message("user", TOLD)]
    for turn in range(3):
        heard = answered(pair, renderer, chat)
        assert heard.statistics.prompt_reused > (0.8 if turn else -1) * heard.statistics.prompt_tokens
        chat += [
            Message("assistant", "<think>\nSo it is.\n</think>\n\nRivers run. "),
            Message("user", "more"),
        ]
    fresh = answered(pair, renderer, chat[:-2], fresh=True)
    assert heard.tokens == fresh.tokens


def test_a_draft_goes_back_to_the_prompt_too(opened: Open, renderer: TemplateRenderer) -> None:
    pair = pair_of(opened("main"), opened("draft"))
    chat = [Message("user", TOLD)]
    assert pair.draft
    first = answered(pair, renderer, chat, draft_length=3)
    assert first.statistics.accepted > 0
    length = first.statistics.prompt_tokens
    assert pair.draft.reach(length) > length - 30
    again = answered(pair, renderer, chat, draft_length=3)
    assert again.tokens == first.tokens
    assert again.statistics.accepted == first.statistics.accepted


def test_a_prompt_says_how_much_of_it_stays(opened: Open, renderer: TemplateRenderer) -> None:
    main = opened("main")
    chat = (Message("user", "hi"),)
    command = Generate(1, chat, 1)
    context = prompt_of(command, main, renderer)
    stays = staying(context, command, [main], renderer)
    encode = main.vocabulary.encode
    assert context[:stays] == encode("<|im_start|>user\nhi<|im_end|>\n")
    assert context[stays:] == encode("<|im_start|>assistant\n<think>\n")
    assert staying(context, Generate(1, chat, 1, raw=True), [main], renderer) == len(context) - 1


def test_a_model_that_loses_nothing_asks_no_template(tmp_path: Path, renderer: TemplateRenderer) -> None:
    path = str(models.write_model(tmp_path / "m.gguf", Toy()))
    main = open_backend(path).load(path, Options("main", 512, threads=1), lambda _: True)
    assert staying([1, 2, 3], Generate(1, (Message("user", "hi"),), 1), [main], renderer) == 0
    main.checkpoint(10)
    main.extend([*range(20)], picks=0)
    assert main.reach(10) == 10
    main.close()


# Whether they are trusted


def test_copies_that_are_put_back_wrongly_are_found(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    main = opened("main")
    assert trial_of_checkpoints(main)
    if main.facts.path.endswith(".gguf"):
        spoil_native(monkeypatch)
    else:
        spoil_mlx(monkeypatch)
    assert not trial_of_checkpoints(main)
    assert trial(main) is None, "it may draft all the same"


def spoil_native(patch: pytest.MonkeyPatch) -> None:
    """A few numbers of the copy are lost."""
    restore = NativeCache.restore

    def spoiled(self: NativeCache, state: bytes, length: int) -> bool:
        return restore(self, state[:-64] + bytes(64), length)

    patch.setattr(NativeCache, "restore", spoiled)


def spoil_mlx(patch: pytest.MonkeyPatch) -> None:
    """States and windows stay as they are."""
    from tui.engine.backends.mlx import caches

    def nothing(leaf: Any, saved: Any, length: int) -> None:
        if caches._is_lost(leaf):
            leaf.offset = length
        else:
            caches._cut(leaf, length)

    patch.setattr(caches, "_put_back", nothing)


def test_a_reading_that_takes_long_is_no_proof(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui.engine.pair.cache_check._SECONDS", 0.0)
    main = opened("main")
    early = isinstance(main, RestoresEarly)
    assert trial_of_checkpoints(main) == (main.drops_from == 0 or early)
    if early and main.drops_from:
        spoil_copies(monkeypatch)
        assert not trial_of_checkpoints(main), "the copy is put back all the same, and its rows are compared"


def spoil_copies(patch: pytest.MonkeyPatch) -> None:
    """A window of MLX gets no entries back."""
    from tui.engine.backends.mlx.caches import WindowCache

    restore = WindowCache.restore

    def spoiled(self: WindowCache, saved: tuple[int, Any, Any], length: int) -> None:
        first, keys, values = saved
        restore(self, (first, keys * 0, values * 0), length)

    patch.setattr(WindowCache, "restore", spoiled)


def test_the_verdict_is_remembered_with_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(models.write_model(tmp_path / "m.gguf", Toy("lfm2", seed=77)))
    main = open_backend(path).load(path, Options("main", 512, threads=1), lambda _: True)
    backend, load = open_backend(main.facts.path), Load(main.facts.path)
    asked: list[LoadedModel] = []

    def distrusting(model: LoadedModel) -> bool:
        asked.append(model)
        return False

    monkeypatch.setattr("tui.engine.pair.exactness.trial_of_checkpoints", distrusting)
    for _ in range(2):
        assert judge(load, backend, main, Stages(lambda *_: True)).checkpoints is False
    assert asked == [main]
    main.close()


@pytest.mark.parametrize("failing", ["set", "cut", "end"])
def test_a_copy_that_the_library_did_not_put_back_is_no_cache(failing: str) -> None:
    """A window would agree to be cut all the same: each of the three answers decides."""
    library: Any = SimpleNamespace(
        LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY=1,
        llama_get_memory=lambda context: 5,
        llama_state_seq_set_data_ext=lambda *_: 0 if failing == "set" else 4,
        llama_memory_seq_rm=lambda *_: failing != "cut",
        llama_memory_seq_pos_max=lambda *_: 8 if failing == "end" else 9,
    )
    assert not Cells(library, 1, 512, drops=True).restore(b"copy", 10)
