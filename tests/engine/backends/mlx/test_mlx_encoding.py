"""Long texts become tokens beside the engine's other threads, and the work can be given up."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.answering import ask, command

pytest.importorskip("mlx_lm")

from tests.support import mlx_models
from tui.engine.answer.inspection import inspect
from tui.engine.answer.templates import TemplateRenderer
from tui.engine.backends import GivenUp, Options, asking
from tui.engine.backends.mlx import MlxBackend, vocabulary
from tui.engine.backends.mlx.vocabulary import MlxVocabulary, Tokenizers
from tui.engine.library.mlx_folder import Folder, read_folder
from tui.engine.pair.pair import Pair
from tui.engine.pair.reading import ContextReader
from tui.engine.speculation.policy import FixedLength
from tui.protocol import Event, Inspect, Inspected

LONG = "A line, two  spaces\n\tand <|im_start|>12345 Ä 日本 👩\u200d👧. " * 20_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mlx_models.write_folder(tmp_path_factory.mktemp("models") / "toy")


@pytest.fixture
def opened(folder: Path) -> MlxVocabulary:
    return MlxVocabulary(read_folder(str(folder)), mlx_models.VOCABULARY)


class Stopped:
    """A tokenizer that encodes only while `going` is set."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.going = threading.Event()
        self.inside = threading.Event()
        self.ordinary: list[bool] = []
        """The setting at the beginning and at the end of each text."""

    @property
    def encode_special_tokens(self) -> bool:
        return bool(self._tokenizer.encode_special_tokens)

    @encode_special_tokens.setter
    def encode_special_tokens(self, value: bool) -> None:
        self._tokenizer.encode_special_tokens = value

    def encode_batch_fast(self, texts: list[str], *, add_special_tokens: bool) -> Any:
        self.ordinary.append(self.encode_special_tokens)
        self.inside.set()
        self.going.wait()
        found = self._tokenizer.encode_batch_fast(texts, add_special_tokens=add_special_tokens)
        self.ordinary.append(self.encode_special_tokens)
        return found


@contextmanager
def stopped(of: MlxVocabulary) -> Iterator[Stopped]:
    encoder = of._encoder
    whole, encoder.tokenizer = encoder.tokenizer, Stopped(encoder.tokenizer)
    try:
        yield encoder.tokenizer
    finally:
        encoder.tokenizer.going.set()
        encoder.tokenizer = whole


def test_a_long_text_has_the_tokens_of_the_tokenizer(opened: MlxVocabulary) -> None:
    for text in (LONG, LONG[: vocabulary._SHORT - 1], LONG[: vocabulary._SHORT]):
        expected = opened._tokenizer.encode(text, add_special_tokens=False).ids
        assert opened.encode(text) == expected
        assert len(expected) > 1000


def test_other_threads_run_while_a_long_text_is_encoded(
    opened: MlxVocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the lock of the interpreter, nothing could ask until all is done."""
    monkeypatch.setattr(vocabulary, "_POLL", 0.0005)
    asked = list[float]()
    with asking([opened], lambda tokens: asked.append(tokens) or True):  # type: ignore[func-returns-value]
        opened.encode(LONG)
    assert len(asked) > 5


def test_an_encoding_that_is_given_up_ends_before_its_tokenizer(opened: MlxVocabulary) -> None:
    asked = 0

    def wanted(tokens: float) -> bool:
        nonlocal asked
        asked += 1
        return asked < 3

    expected = opened._tokenizer.encode("Hello", add_special_tokens=False).ids
    with stopped(opened) as tokenizer:
        with asking([opened], wanted), pytest.raises(GivenUp):
            opened.encode(LONG)
        assert asked == 3 and not tokenizer.going.is_set()
        with asking([opened], lambda tokens: False), pytest.raises(GivenUp):
            opened.encode("Hello")  # waits for the first text, and can be given up too
        tokenizer.going.set()
        assert opened.encode("Hello") == expected


def test_a_setting_of_the_tokenizer_never_changes_within_a_text(opened: MlxVocabulary) -> None:
    """A text without control tokens is encoded with another setting, behind one that was given up."""
    with stopped(opened) as tokenizer:
        with asking([opened], lambda tokens: False), pytest.raises(GivenUp):
            opened.encode(LONG)
        tokenizer.inside.wait()
        waiting = threading.Thread(target=lambda: opened._one_kind("Hello"))
        waiting.start()
        tokenizer.going.set()
        waiting.join()
        assert tokenizer.ordinary[:2] == [False, False]
        assert [True, True] in (tokenizer.ordinary[2:4], tokenizer.ordinary[4:6])


def test_a_load_asks_between_the_steps_of_a_large_tokenizer(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file of a large tokenizer takes a second, and so do its tables."""
    told, steps = list[float](), list[int]()
    open_one, make = Tokenizers.open, MlxVocabulary.__init__

    def opening(self: Tokenizers, folder: Folder, ask: Any) -> Any:
        steps.append(len(told))
        return open_one(self, folder, ask)

    def making(self: MlxVocabulary, *given: Any) -> None:
        steps.append(len(told))
        make(self, *given)

    monkeypatch.setattr(Tokenizers, "open", opening)
    monkeypatch.setattr(MlxVocabulary, "__init__", making)

    def progress(share: float) -> bool:
        told.append(share)
        return True

    MlxBackend().load(str(folder), Options("main", 512), progress).close()
    first, second = steps
    assert 0 < first < second < len(told)


@pytest.fixture
def pair(folder: Path) -> Iterator[Pair]:
    backend = MlxBackend()
    main = backend.load(str(folder), Options("main", 512), lambda share: True)
    yield Pair(backend, main, None, None, None, FixedLength(0), ContextReader(main), None)
    main.close()


@pytest.fixture
def renderer() -> Iterator[TemplateRenderer]:
    renderer = TemplateRenderer()
    yield renderer
    renderer.close()


def test_a_cancel_ends_an_answer_while_its_prompt_is_encoded(
    pair: Pair, renderer: TemplateRenderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vocabulary, "_SHORT", 0)
    before = ask(pair, renderer, max_tokens=8)
    with stopped(pair.main.vocabulary) as tokenizer:  # type: ignore[arg-type]
        heard = ask(pair, renderer, cancelled=lambda events: tokenizer.inside.is_set())
        assert not tokenizer.going.is_set()
        assert heard.end.reason == "cancelled" and not heard.tokens
        events: list[Event] = []
        looked = Inspect(2, command(resume=tuple(before.tokens)), 0, 1)
        inspect(pair, looked, events.append, lambda: tokenizer.inside.is_set(), renderer)
        assert events == [Inspected(2, places=())]
    assert ask(pair, renderer, max_tokens=8).tokens == before.tokens
