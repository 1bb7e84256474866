"""A chat that wakes goes on as if its engine had never stopped: token by token, with every kind of cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from tests.support import models
from tests.support.assistant_models import ASSISTANT, Gemma, write_assistant, write_gemma
from tests.support.eagle_models import Eagle, write_eagle
from tests.support.head_models import Headed, write_headed
from tests.support.models import Toy
from tests.support.rows import Watching, assert_close, rows_of, some_tokens
from tests.support.states import Desk
from tests.support.windows import no_room_for_full_windows
from tui.engine.answer.templates import TemplateRenderer
from tui.engine.backends import CacheState, LoadedModel, Options, Portable, llama_cpp
from tui.engine.backends.cached import CachedModel
from tui.engine.backends.llama_cpp import model as native_model
from tui.engine.backends.selection import open_backend
from tui.engine.speculation import proposals
from tui.protocol import Message, Sampling

TOLD = "Tell me about the rivers and the mountains of a country that you know. " * 3
SAMPLING = Sampling(temperature=0.7)


DRAFTS = ("none", "lookup", "model")


class Kind(NamedTuple):
    architecture: str
    cache_type: str = "f16"
    copies: bool = True
    drops: bool = False
    windowed: bool = False
    mlx: bool = False


KINDS = {
    "attention": Kind("llama"),
    "attention in 8 bits": Kind("llama", cache_type="q8_0"),
    "window": Kind("gemma3", windowed=True),
    "window that drops": Kind("gemma3", drops=True, windowed=True),
    "recurrent": Kind("mamba"),
    "hybrid": Kind("lfm2"),
    "hybrid without copies": Kind("lfm2", copies=False),
    "MLX attention in 8 bits": Kind("llama", cache_type="q8_0", mlx=True),
    "MLX window": Kind("gemma3_text", windowed=True, mlx=True),
    "MLX hybrid": Kind("lfm2", mlx=True),
}

LLAMA = [name for name, kind in KINDS.items() if not kind.mlx]
DRAFTED = [(name, drafts) for name in LLAMA for drafts in DRAFTS]
DRAFTED += zip((name for name in KINDS if name not in LLAMA), DRAFTS, strict=True)
"""Kinds of caches and of drafts together. MLX takes longer to start: each of its kinds has one of drafts."""

Start = Callable[..., Desk]


@pytest.fixture(scope="module")
def renderer() -> Iterator[TemplateRenderer]:
    made = TemplateRenderer()
    yield made
    made.close()


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture(scope="module")
def paths(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("models")
    if kind.mlx:
        pytest.importorskip("mlx_lm")
        from tests.support import mlx_models

        longer = {"max_position_embeddings": 1024}
        path = mlx_models.write_folder(folder / "main", kind.architecture, settings=longer)
        small = mlx_models.write_folder(folder / "draft", seed=3, settings=longer)
        return str(path), str(small)
    toy: Any = kind.architecture
    main = models.write_model(folder / "main.gguf", Toy(toy, heads=2, context_length=1024))
    draft = models.write_model(folder / "draft.gguf", Toy(seed=3, layers=1, width=32, context_length=1024))
    return str(main), str(draft)


@pytest.fixture
def start(
    kind: Kind, paths: tuple[str, str], renderer: TemplateRenderer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Start]:
    """Start an engine: load the models and open the folder."""
    desks: list[Desk] = []
    if kind.drops:
        for module in (llama_cpp, native_model):  # few tokens in a call leave a window few cells
            monkeypatch.setattr(module, "BATCH", 32)

    def load(role: str) -> LoadedModel:
        with monkeypatch.context() as patch:
            if not kind.copies:
                patch.setattr(llama_cpp, "affordable_copies", lambda *_: 0)
            if kind.drops:
                no_room_for_full_windows(patch)
            path = paths[role == "draft"]
            options = Options(role, 1024, threads=1, cache_type=kind.cache_type)  # type: ignore[arg-type]
            return open_backend(path).load(path, options, lambda _: True)

    def begin(folder: Path | None, drafts: str = "none", rows: int = 0) -> Desk:
        draft = load("draft") if drafts == "model" else None
        desks.append(Desk(load("main"), draft, folder, renderer, rows))
        return desks[-1]

    yield begin
    for desk in desks:
        desk.pair.close()


def settings(drafts: str, length: int = 30) -> dict[str, Any]:
    drafted = 0 if drafts == "none" else 3
    return {
        "sampling": SAMPLING, "max_tokens": length, "draft_length": drafted, "lookup": drafts == "lookup"
    }  # fmt: skip


@pytest.mark.parametrize(("kind", "drafts"), DRAFTED, indirect=["kind"])
def test_a_chat_goes_on_after_each_wake_token_by_token(
    start: Start, kind: Kind, tmp_path: Path, drafts: str
) -> None:
    """Half an answer, the other half, the next turn, and another answer to it: a branch.

    The answers of a toy are no text that is encoded as it was written, so the next turn cuts the cache. A
    window that drops cells has none for that.
    """
    unbroken, chat = start(None, drafts), [Message("user", TOLD)]
    whole = unbroken.ask(chat, **settings(drafts, 60))
    first = start(tmp_path, drafts)
    half = first.ask(chat, **settings(drafts))
    assert half.statistics.prompt_restored == 0
    first.end()
    second = start(tmp_path, drafts)
    rest = second.ask(chat, **settings(drafts), resume=tuple(half.tokens))
    assert half.tokens + rest.tokens == whole.tokens
    assert rest.statistics.prompt_restored == rest.statistics.prompt_tokens - 1
    second.end()
    assert second.folder and second.folder.usage().files == 1 + (drafts == "model")
    chat += [Message("assistant", whole.text), Message("user", "and then?")]
    third = start(tmp_path, drafts)
    heard, expected = third.ask(chat, **settings(drafts)), unbroken.ask(chat, **settings(drafts))
    assert heard.tokens == expected.tokens
    lost = expected.statistics.prompt_reused - heard.statistics.prompt_reused
    without = kind.drops or (kind.windowed and kind.mlx)
    assert without or 0 <= lost <= 16, "more than the tokens for which a session may still have a state"
    assert without or heard.statistics.prompt_restored > 0
    again = settings(drafts) | {"seed": 99}
    assert third.ask(chat, **again).tokens == unbroken.ask(chat, **again).tokens


def calls_of(desk: Desk, chat: list[Message], **how: Any) -> list[tuple[int, int]]:
    """The beginning and the size of each native call of the main model for an answer."""
    found: list[tuple[int, int]] = []
    main: Any = desk.pair.main
    run = main._decode

    def decode(tokens: list[int], first_row: int) -> None:
        found.append((main._held, len(tokens)))
        run(tokens, first_row)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(main, "_decode", decode)
        desk.ask(chat, **how)
    return found


@pytest.mark.parametrize("then", ["the answer goes on", "a prompt with another answer"])
@pytest.mark.parametrize("kind", ["attention", "attention in 8 bits", "window", "hybrid"], indirect=True)
def test_a_chat_that_wakes_runs_the_calls_of_an_unbroken_session(
    start: Start, kind: Kind, tmp_path: Path, then: str
) -> None:
    """Calls of other sizes round in other ways.

    The last tokens of the answer are too few for a save of their own, until the chat is left. A prompt with
    another answer is cut back to the prompt before it.
    """
    chat = [Message("user", TOLD)]
    unbroken, first = start(None), start(tmp_path)
    for desk in (unbroken, first):
        half = desk.ask(chat, **settings("none", 40))
        desk.chats.save(lambda: True)
        rest = desk.ask(chat, **settings("none", 3), resume=tuple(half.tokens))
        desk.chats.save(lambda: True)
    first.end()
    how = settings("none") | {"resume": (*half.tokens, *rest.tokens)}
    if then != "the answer goes on":
        chat += [Message("assistant", "So it is."), Message("user", "and then?")]
        del how["resume"]
    expected = calls_of(unbroken, chat, **how)
    assert calls_of(start(tmp_path), chat, **how) == expected
    assert expected[0][0] > 100


@pytest.mark.parametrize("kind", LLAMA, indirect=True)
def test_a_draft_wakes_after_the_first_token(
    start: Start, kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proposals, "SLICE", 16)
    chat, how = [Message("user", TOLD)], settings("model")
    first = start(tmp_path, "model")
    heard = first.ask(chat, **how)
    first.end()
    woken = start(tmp_path, "model")
    draft, read = woken.pair.draft, list[int]()
    assert draft
    run = draft.extend
    monkeypatch.setattr(draft, "extend", lambda tokens, picks: read.append(len(tokens)) or run(tokens, picks))
    again = woken.ask(chat, **how | {"resume": tuple(heard.tokens[:10]), "max_tokens": 20})
    assert heard.tokens == heard.tokens[:10] + again.tokens
    assert sum(read) < 120 < again.statistics.prompt_tokens
    assert read[0] == 16, "the first round reads its slice as ever"


@pytest.mark.parametrize("kind", LLAMA, indirect=True)
def test_an_earlier_branch_after_a_wake_is_cut_or_read_again(
    start: Start, kind: Kind, tmp_path: Path
) -> None:
    how = settings("none")
    unbroken, first = start(None), start(tmp_path)
    told = [Message("user", TOLD)]
    long = [*told, Message("assistant", "It is so."), Message("user", "And the lakes? " * 9)]
    other = [*told, Message("assistant", "It is so."), Message("user", "And the seas?")]
    assert first.ask(long, **how).tokens == unbroken.ask(long, **how).tokens
    first.end()
    woken = start(tmp_path)
    assert woken.ask(other, **how).tokens == unbroken.ask(other, **how).tokens
    assert woken.ask(long, **how).tokens == unbroken.ask(long, **how).tokens


def test_in_exact_mode_the_bits_after_a_wake_are_those_of_an_unbroken_session(
    start: Start, kind: Kind, tmp_path: Path
) -> None:
    """The answer before it was written in single rows, and the prompt read in calls of many."""
    chat, how = [Message("user", TOLD)], settings("none", 1 if kind.windowed else 30)
    seen = []
    for folder in (None, tmp_path):
        desk, turns = start(folder, rows=1), list(chat)
        heard = desk.ask(turns, **how)
        turns += [Message("assistant", heard.text), Message("user", "more?")]
        if folder:
            desk.end()
            desk = start(folder, rows=1)
        end = desk.ask(turns, **how)
        main = desk.pair.main
        main.start(watching := Watching())
        main.extend([5], picks=1)
        seen.append((end.tokens, list(main.tokens), next(iter(watching.rows.values()))))
    assert seen[0][:2] == seen[1][:2]
    np.testing.assert_array_equal(seen[0][2], seen[1][2])
    assert bool(end.statistics.prompt_restored) != kind.drops


@pytest.mark.parametrize("kind", [*LLAMA, "MLX hybrid"], indirect=True)
def test_a_cut_after_a_wake_leaves_what_a_fresh_cache_has(start: Start, tmp_path: Path) -> None:
    """By one token, by as many as a round rejects, and by more: what cannot be cut is read again."""
    main, text = start(None).pair.main, some_tokens(140)
    expected = rows_of(main, text, 20)
    main.rewind(0)
    main.extend(text[:100], picks=0)
    assert isinstance(main, Portable)
    state = main.take_state(1 << 30)
    assert state is not None
    for back in (0, 1, 2, 9, 60):
        assert main.put_state(state)
        main.rewind(100 - back)
        main.start(watching := Watching())
        main.extend(text[100 - back : 104 - back], picks=4)
        main.rewind(102 - back)
        main.extend(text[102 - back : 104 - back], picks=2)
        assert_close(watching.rows, {at: expected[at] for at in range(101 - back, 105 - back)})


@pytest.mark.parametrize("kind", [*LLAMA, "MLX window"], indirect=True)
def test_a_state_that_does_not_fit_leaves_an_empty_cache(start: Start, kind: Kind, tmp_path: Path) -> None:
    """Of another length, of another vocabulary, cut off, or of no cache at all."""
    desk = start(tmp_path)
    desk.ask([Message("user", TOLD)], **settings("none", 1 if kind.windowed else 30))
    main = desk.pair.main
    assert isinstance(main, Portable)
    state = main.take_state(1 << 30)
    assert state is not None
    cells = bytes(state.cells)
    with pytest.raises(MemoryError):  # a window may be saved with fewer cells
        main.take_state(len(cells) // 2)
    count = len(state.tokens)
    for tokens, bad in (
        (state.tokens if kind.mlx else state.tokens[:-1], cells[:-1] if kind.mlx else cells),
        ([*state.tokens[:-1], main.vocabulary.size], cells),
        ([1] * (main.capacity + 1), cells),
        (state.tokens, cells[: len(cells) // 2]),
        (state.tokens, b"\0" * len(cells)),
        ([], cells),
    ):
        assert not main.put_state(CacheState(tokens, bad))
        assert main.length == 0
        assert main.take_state(1 << 30) is None
    assert main.put_state(CacheState(state.tokens, cells, state.copies, state.cut_from))
    assert (main.length, main.reach(count)) == (count, count)
    again = desk.ask([Message("user", TOLD)], **settings("none", 1 if kind.windowed else 30))
    fresh = desk.ask([Message("user", TOLD)], **settings("none", 1 if kind.windowed else 30), fresh=True)
    assert again.tokens == fresh.tokens


def _with_its_head(which: str, folder: Path) -> tuple[Path, str]:
    """Write a main model and its head. Return the file, and the file of the head; empty for the same file."""
    if which.startswith("MLX "):
        pytest.importorskip("mlx_lm")
        from tests.support.mlx_head_models import write_headed_folder

        kind: Any = which.removeprefix("MLX ")
        headed = Headed(kind, noise=0.1, own_noise=0.3, layers=2)
        return write_headed_folder(folder / "main", headed), ""
    main, head = folder / "main.gguf", folder / "head.gguf"
    if which == "EAGLE-3":
        write_headed(main, Headed("llama", noise=0.1))
        return main, str(write_eagle(head, Eagle(own_noise=0.3)))
    if which == "assistant":
        write_gemma(main, Gemma(0.1, window=512))
        return main, str(write_assistant(head, replace(ASSISTANT, noise=0.1, window=512)))
    return write_headed(main, Headed(which, noise=0.1, own_noise=0.3)), ""  # type: ignore[arg-type]


@pytest.mark.parametrize("which", ["glm4moe", "qwen35", "EAGLE-3", "assistant", "MLX glm4moe", "MLX qwen35"])
def test_a_head_wakes_together_with_its_main_model(
    which: str, tmp_path: Path, renderer: TemplateRenderer
) -> None:
    path, file = _with_its_head(which, tmp_path)

    def started(folder: Path | None) -> Desk:
        backend, options = open_backend(str(path)), Options("main", 1024, threads=1, head=not file)
        main = backend.load(str(path), options, lambda share: True)
        head = backend.load_head(main, replace(options, role="draft"), file)
        assert isinstance(head, CachedModel)
        return Desk(main, head, folder, renderer)

    talk, settings = [Message("user", TOLD)], {"max_tokens": 80, "sampling": SAMPLING, "lookup": False}
    desk, unbroken = started(tmp_path / "states"), started(None)
    first = desk.ask(talk, **settings)
    desk.end()
    talk += [Message("assistant", first.text), Message("user", "And then?")]
    unbroken.ask(talk[:1], **settings)
    woken = started(tmp_path / "states")
    expected, heard = unbroken.ask(talk, **settings), woken.ask(talk, **settings)
    assert heard.tokens == expected.tokens
    assert heard.statistics.prompt_restored > 100
    for figure in ("drafted", "accepted"):
        assert getattr(heard.statistics, figure) == getattr(expected.statistics, figure) > 0
    unbroken.end()
    woken.end()
