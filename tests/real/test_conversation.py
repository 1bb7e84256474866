"""Conversations with real models: their template, their ends, and what a longer chat need not read again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile

import llama_cpp
import numpy as np
import pytest

from tests.real.fetch import GEMMA, SMOLLM2
from tests.real.prompts import PROMPTS
from tests.real.session import Asked
from tui.engine.backends import LoadedModel
from tui.engine.speculation.loop import Pick, prefill
from tui.engine.speculation.sampling import Chain, Logits, Sampler
from tui.protocol import Message

SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
"""What SmolLM2's own template says where nobody else does."""
TURNS = (
    "What should I look at when I buy a used bicycle?",
    "And which of these can I see without a tool?",
    "Write that as a list with three points.",
    "Now only the first one, in ten words.",
    "Thank you. What would you ask the seller?",
)
LONG = 2 * PROMPTS[-1]
WINDOW = 512 + 512
"""Tokens that a cache holds which keeps no more than Gemma's window needs, and one call."""
ROUNDING = 0.2
"""In standard deviations of a row: batches of another size move the scores of quantized models by up to 0.08
(root mean square), one wrong token in the cache moves Gemma's by 0.33 and more."""
MOON = "The moon is the only natural satellite of the"


def chatml(*turns: tuple[str, str]) -> str:
    said = "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in turns)
    return f"{said}<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def vocabulary() -> Iterator[llama_cpp.Llama]:
    """SmolLM2's tokens as llama-cpp-python itself makes them."""
    opened = llama_cpp.Llama(str(SMOLLM2.main), vocab_only=True, verbose=False)
    yield opened
    opened.close()


# The template


def test_a_conversation_is_what_the_models_own_template_makes_of_it(
    smollm2: Asked, vocabulary: llama_cpp.Llama
) -> None:
    chat = [Message("user", "What is the capital of France?"), Message("assistant", "Paris, of course.")]
    chat.append(Message("user", "And of Spain?"))
    told = chatml(("system", SYSTEM), *((each.role, each.content) for each in chat))
    asked = smollm2.chat(chat, 0.8, fresh=True)
    tokens = vocabulary.tokenize(told.encode(), add_bos=False, special=True)
    assert list(smollm2.pair.main.tokens)[: len(tokens)] == tokens
    assert asked.statistics.prompt_tokens == len(tokens)


def test_a_system_prompt_of_ones_own_takes_the_place_of_the_templates(
    smollm2: Asked, vocabulary: llama_cpp.Llama
) -> None:
    told = chatml(("system", "Answer in rhymes."), ("user", "Good morning!"))
    smollm2.chat([Message("system", "Answer in rhymes."), Message("user", "Good morning!")], 0.8)
    tokens = vocabulary.tokenize(told.encode(), add_bos=False, special=True)
    assert list(smollm2.pair.main.tokens)[: len(tokens)] == tokens


def test_a_base_model_begins_with_its_first_token_and_the_text_as_it_is(gemma: Asked) -> None:
    told = gemma.ask(MOON, 0.0, raw=True)
    held, text = list(gemma.pair.main.tokens), gemma.pair.main.vocabulary.encode(MOON)
    assert held[: told.statistics.prompt_tokens] == [2, *text]
    assert "Earth" in told.text


def test_a_base_model_goes_on_with_the_text_of_the_chat(gemma: Asked) -> None:
    told = gemma.ask(MOON, 0.8, draft_length=4, max_tokens=40)
    assert told.tokens == gemma.ask(MOON, 0.8, draft_length=4, max_tokens=40, raw=True).tokens
    assert "<|im_" not in told.text


# The end


@pytest.mark.parametrize("draft_length", [0, 4])
def test_an_answer_ends_where_the_model_ends_it(smollm2: Asked, draft_length: int) -> None:
    told = smollm2.ask("What is 2 + 2?", 0.0, max_tokens=200, draft_length=draft_length)
    assert told.end.reason == "stop"
    assert told.tokens[-1] in smollm2.pair.main.vocabulary.end_tokens
    assert "4" in told.text
    assert "<|" not in told.text


@pytest.mark.parametrize("draft_length", [0, 4])
def test_an_answer_ends_before_a_stop_text(asked: Asked, draft_length: int) -> None:
    whole = asked.ask(TURNS[0], 0.0, draft_length=draft_length).text
    stop = whole[20:26]
    told = asked.ask(TURNS[0], 0.0, draft_length=draft_length, stop=(stop,))
    assert told.end.reason == "stop"
    assert told.text == whole[: whole.index(stop)]


@pytest.mark.parametrize("draft_length", [0, 4])
def test_an_answer_ends_after_as_many_tokens_as_were_wished(asked: Asked, draft_length: int) -> None:
    told = asked.ask(TURNS[0], 0.8, draft_length=draft_length, max_tokens=11)
    assert told.end.reason == "length"
    assert len(told.tokens) == told.statistics.tokens == 11


# What is reused


def shared(held: Sequence[int], context: Sequence[int]) -> int:
    """How many tokens of a cache can stay: those that a context begins with, but for its last one."""
    pairs = zip(held, context[:-1], strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


@contextmanager
def watched(model: LoadedModel) -> Iterator[list[int]]:
    """How many tokens a model holds whenever it is run."""
    found: list[int] = []
    run = model.extend

    def extend(tokens: Sequence[int], picks: int) -> list[Pick]:
        found.append(model.length)
        return run(tokens, picks)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "extend", extend)
        yield found


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_chat_of_five_turns_reads_only_what_is_new(asked: Asked, temperature: float) -> None:
    main, draft = asked.pair.main, asked.pair.draft
    assert draft is not None
    asked.pair.clear()
    chat: list[Message] = []
    reused: list[int] = []
    used: list[int] = []
    for prompt in TURNS:
        chat.append(Message("user", prompt))
        held = list(main.tokens), list(draft.tokens)
        with watched(draft) as lengths:
            answer = asked.chat(chat, temperature, draft_length=4)
        context = list(main.tokens)[: answer.statistics.prompt_tokens]
        assert answer.statistics.prompt_reused == shared(held[0], context)
        assert lengths[0] == shared(held[1], context)
        reused.append(answer.statistics.prompt_reused)
        used.append(answer.statistics.context_used)
        chat.append(Message("assistant", answer.text))
    assert sum(reused) > 0.9 * sum(used[:-1])


# The window of Gemma's cache


class Watching(Sampler):
    """Keeps the rows that it was shown."""

    def __init__(self) -> None:
        super().__init__(Chain(temperature=0), seed=0, start=0)
        self.rows: list[Logits] = []

    def pick(self, logits: Logits, tokens: Sequence[int], length: int) -> Pick:
        self.rows.append(logits.copy())
        return super().pick(logits, tokens, length)


def rows(model: LoadedModel, tokens: Sequence[int]) -> list[Logits]:
    """What a model thinks behind each of `tokens`, which come behind those that it holds."""
    model.start(watching := Watching())
    for token in tokens:
        model.extend([token], picks=1)
    return watching.rows


def test_nothing_is_missing_behind_a_rewind_of_more_than_the_window(gemma: Asked) -> None:
    main = gemma.pair.main
    text = main.vocabulary.encode(LONG)
    kept, other = text[:100], text[-12:]
    assert len(text) > len(kept) + WINDOW
    main.rewind(0)
    main.extend(kept, picks=0)
    expected = rows(main, other)
    main.rewind(0)
    prefill(main, text, end=lambda at: at + main.chunk, cancelled=lambda: False, progress=lambda *_: None)
    main.rewind(len(kept))
    for right, found in zip(expected, rows(main, other), strict=True):
        assert np.sqrt(np.mean((right - found) ** 2)) < ROUNDING * right.std()


@pytest.fixture(scope="module")
def exact() -> Iterator[Asked]:
    """With two threads, where llama.cpp computes a single row behind many tokens otherwise than a batch."""
    asked = Asked(GEMMA, exact=True, threads=2)
    yield asked
    asked.close()


@pytest.mark.parametrize(("temperature", "draft_length"), [(0.0, 3), (0.8, 0)])
def test_a_rewind_of_more_than_the_window_gives_the_text_of_a_fresh_cache(
    exact: Asked, temperature: float, draft_length: int
) -> None:
    read = exact.ask(LONG, temperature, max_tokens=1).statistics
    other = f"{LONG[:600]} And so on."
    reused = exact.ask(other, temperature, draft_length=draft_length)
    assert read.context_used - reused.statistics.prompt_tokens > WINDOW
    fresh = exact.ask(other, temperature, draft_length=draft_length, fresh=True)
    assert reused.tokens == fresh.tokens
