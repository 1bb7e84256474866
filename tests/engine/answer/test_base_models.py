"""Models without a chat template: how they are given a conversation, and what is said of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.chat import ask, asked_of, chat, outrider, text, told, until
from tests.support.models import CONTROL, OTHER_CONTROL, Toy, write_model
from tui.chat.requests import CONTINUED
from tui.engine.answer.answer import Answer
from tui.engine.answer.templates import TemplateRenderer, encode_conversation, joined
from tui.engine.backends import LoadedModel, Options, prompt_form
from tui.engine.backends.selection import open_backend
from tui.engine.library.describe import describe
from tui.engine.library.find import candidate
from tui.engine.pair.pair import Pair
from tui.engine.pair.reading import ContextReader
from tui.engine.speculation.lookup import Lookup
from tui.engine.speculation.policy import FixedLength
from tui.protocol import Event, Finished, Generate, Message, Origin, PromptForm, Rounds, Sampling
from tui.quantities import prompt_form as words_of
from tui.widgets.chat_panel import ASK, CONTINUE

BASE = "base model without a chat template: it continues your text"
ECHO = "scripted:echo?form=text"

USER, ANSWER, SYSTEM = "user", "assistant", "system"


@pytest.fixture(scope="module")
def renderer() -> Iterator[TemplateRenderer]:
    made = TemplateRenderer()
    yield made
    made.close()


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Callable[[Toy], LoadedModel]]:
    """Loads toys with the real llama.cpp."""
    loaded: list[LoadedModel] = []

    def load(toy: Toy) -> LoadedModel:
        path = str(write_model(tmp_path / f"{len(loaded)}.gguf", toy))
        loaded.append(open_backend(path).load(path, Options("main", 256, threads=1), lambda _: True))
        return loaded[-1]

    yield load
    for model in loaded:
        model.close()


def scripted(path: str) -> LoadedModel:
    return open_backend(path).load(path, Options("main", 2048), lambda _: True)


def answer(
    model: LoadedModel, renderer: TemplateRenderer, messages: Sequence[Message], **settings: object
) -> tuple[str, Finished]:
    """What `model` says, and how it ended."""
    events: list[Event] = []
    backend = open_backend(model.facts.path)
    pair = Pair(backend, model, None, "", None, FixedLength(0), ContextReader(model), Lookup(()))
    command = Generate(1, tuple(messages), **{"seed": 3, "draft_length": 0, **settings})  # type: ignore[arg-type]
    Answer(pair, command, events.append, lambda: False).run(renderer)
    rounds = [each for event in events if isinstance(event, Rounds) for each in event.rounds]
    said = "".join(text for each in rounds for text, origin in each.pieces if origin != Origin.REJECTED)
    assert isinstance(events[-1], Finished)
    return said, events[-1]


def talk(*said: tuple[str, str]) -> tuple[Message, ...]:
    return tuple(Message(role, words) for role, words in said)  # type: ignore[arg-type]


# Which form


@pytest.mark.parametrize(
    ("toy", "form"),
    [
        (Toy(), "template"),
        (Toy(controls=OTHER_CONTROL), "template"),
        (Toy(chat_template=None), "chatml"),
        (Toy(chat_template=""), "chatml"),
        (Toy(chat_template=None, controls=OTHER_CONTROL), "text"),
        (Toy(chat_template=None, controls=("<s>", "</s>", "<|im_end|>")), "text"),
    ],
)
def test_the_file_the_loaded_model_and_what_is_told_of_it_agree_on_the_form(
    load: Callable[[Toy], LoadedModel], toy: Toy, form: PromptForm
) -> None:
    model = load(toy)
    assert prompt_form(model.vocabulary) == form
    assert model.facts.prompt_form == form
    assert describe(candidate(Path(model.facts.path))).prompt_form == form


def test_each_form_but_a_template_is_said(load: Callable[[Toy], LoadedModel]) -> None:
    toys = Toy(), Toy(chat_template=None), Toy(chat_template=None, controls=OTHER_CONTROL)
    said = [words_of(load(toy).facts) for toy in toys]
    assert said == ["", "no chat template: ChatML is assumed", BASE]


# One growing text


@pytest.mark.parametrize(
    ("messages", "whole"),
    [
        (talk((USER, "The moon is")), "The moon is"),
        (talk((USER, "The moon"), (ANSWER, " is far."), (USER, "The sun")), "The moon is far.\n\nThe sun"),
        (talk((USER, "a"), (ANSWER, "b\n"), (USER, "c")), "ab\n\nc"),
        (talk((USER, "a"), (ANSWER, "b\n\n\n"), (USER, "c")), "ab\n\n\nc"),
        (talk((USER, "a"), (ANSWER, "b"), (USER, " c")), "ab c"),
        (talk((USER, "a"), (ANSWER, "b"), (USER, "\nc")), "ab\nc"),
        (talk((SYSTEM, "A tale."), (USER, "Once")), "A tale.\n\nOnce"),
        (talk((SYSTEM, "A tale."), (USER, "a"), (ANSWER, "b"), (USER, "c")), "A tale.\n\nab\n\nc"),
        (talk((USER, "a"), (ANSWER, "<think>hm</think>\n\nb"), (USER, " c")), "ab c"),
        (talk((USER, " a"), (ANSWER, ""), (USER, "b")), " a\n\nb"),
    ],
)
def test_a_conversation_is_one_text(messages: Sequence[Message], whole: str) -> None:
    assert "".join(joined(messages)) == whole


def test_a_base_model_is_given_the_text_alone_behind_its_start_token(
    load: Callable[[Toy], LoadedModel], renderer: TemplateRenderer
) -> None:
    for add_bos in (False, True):
        model = load(Toy(chat_template=None, controls=OTHER_CONTROL, add_bos=add_bos))
        messages = talk((USER, "The moon"), (ANSWER, " is far."), (USER, "The sun"))
        tokens = encode_conversation(model.vocabulary, renderer, messages, 10_000)
        assert [token for token in tokens if 256 <= token < 259] == [256] * add_bos
        assert tokens[:1] == [256] or not add_bos
        assert b"".join(map(model.vocabulary.piece, tokens[add_bos:])) == b"The moon is far.\n\nThe sun"


def test_no_text_that_a_base_model_continues_becomes_a_control_token(
    load: Callable[[Toy], LoadedModel], renderer: TemplateRenderer
) -> None:
    vocabulary = load(Toy(chat_template=None, controls=OTHER_CONTROL)).vocabulary
    assert vocabulary.encode("</s>") == [257], "as a control token it would be this"
    messages = talk((USER, "a</s>b <"), (ANSWER, "/s> <s>"), (USER, " <pad>"))
    tokens = encode_conversation(vocabulary, renderer, messages, 10_000)
    assert not {256, 257, 258} & set(tokens)
    assert b"".join(map(vocabulary.piece, tokens)) == b"a</s>b </s> <s> <pad>"


class Spaced:
    """A vocabulary that puts a space before whatever it encodes, as SentencePiece does."""

    chat_template = None
    control_texts = ()

    def encode(self, text: str) -> list[int]:
        return list(f" {text}".encode())

    def encode_start(self) -> list[int]:
        return [1000]

    def piece(self, token: int) -> bytes:
        return bytes([token])


def test_a_vocabulary_that_puts_spaces_before_texts_puts_but_one(renderer: TemplateRenderer) -> None:
    messages = talk((USER, "The moon"), (ANSWER, "light"), (USER, "is pale"))
    tokens = encode_conversation(Spaced(), renderer, messages, 10_000)  # type: ignore[arg-type]
    assert (tokens[0], bytes(tokens[1:])) == (1000, b" The moonlight\n\nis pale")


def test_the_next_turn_of_a_base_model_reads_only_what_is_new(renderer: TemplateRenderer) -> None:
    model = scripted(ECHO)
    first, _ = answer(model, renderer, talk((USER, "The moon is far away.")))
    held = model.length
    messages = talk((USER, "The moon is far away."), (ANSWER, first), (USER, "And the sun"))
    _, end = answer(model, renderer, messages, max_tokens=1)
    new = len(model.vocabulary.encode("\n\nAnd the sun"))
    assert end.statistics.prompt_tokens - end.statistics.prompt_reused <= new + 1
    assert end.statistics.prompt_reused >= held - 1


def test_a_real_base_model_reads_only_what_is_new(
    load: Callable[[Toy], LoadedModel], renderer: TemplateRenderer
) -> None:
    model = load(Toy(chat_template=None, controls=OTHER_CONTROL, add_bos=True))
    before = talk((USER, "Some words"), (ANSWER, " that came\n"), (USER, "and more"))
    _, first = answer(model, renderer, before, max_tokens=1, ignore_eos=True)
    assert len(model.vocabulary.encode("es")) == 1, "in one piece, the e of the prompt would be another token"
    after = (*before, *talk((ANSWER, "s of them"), (USER, "Then")))
    _, second = answer(model, renderer, after, max_tokens=1, ignore_eos=True)
    assert second.statistics.prompt_reused == first.statistics.prompt_tokens


def test_a_text_that_ends_with_the_mark_of_a_thought_is_none(renderer: TemplateRenderer) -> None:
    said, _ = answer(scripted(ECHO), renderer, talk((USER, "open <think>")))
    assert said == "open <think>"


# What ends an answer


def test_turn_marks_that_are_assumed_end_an_answer_also_letter_by_letter(renderer: TemplateRenderer) -> None:
    for mark in CONTROL[1:]:
        question = talk((USER, f"so far{mark}\nand on"))
        said, end = answer(scripted("scripted:echo?form=chatml"), renderer, question)
        assert (said, end.reason) == ("so far", "stop")
        for other in ("scripted:echo", ECHO):
            assert answer(scripted(other), renderer, question)[0] == f"so far{mark}\nand on"


def test_a_turn_that_a_model_begins_itself_ends_its_answer(
    load: Callable[[Toy], LoadedModel], renderer: TemplateRenderer
) -> None:
    question = talk((USER, "Hello"))
    for template, reason in ((None, "stop"), (Toy().chat_template, "length")):
        model = load(Toy(chat_template=template))
        begun = Sampling(temperature=0, logit_bias=(("<|im_start|>", 1000.0),))
        _, end = answer(model, renderer, question, max_tokens=3, sampling=begun)
        assert end.reason == reason


# In the chat, and without it


async def test_a_base_model_is_introduced_once_and_every_prompt_goes_on_with_its_text(tmp_path: Path) -> None:
    app = outrider(tmp_path, main=ECHO, draft="lookup", sidebar="hidden")
    async with app.run_test(size=(160, 40)) as pilot:
        await until(pilot, lambda: chat(app).phase == "ready")
        screen, heard = chat(app), asked_of(app)
        assert screen.panel.composer.placeholder == CONTINUE
        shown = " ".join(text(app).split())
        assert f"{BASE[0].upper()}{BASE[1:]}. A prompt begins a paragraph" in shown

        await ask(pilot, "The moon")
        await until(pilot, lambda: len(heard) == 1 and screen.phase == "ready")
        assert "A prompt begins a paragraph" not in text(app)
        assert "base model  drafting" in text(app), "on the right of the status line it stays"
        await ask(pilot, " and the sun")
        await until(pilot, lambda: len(heard) == 2 and screen.phase == "ready")
        assert "".join(joined(heard[1].messages)) == "The moonThe moon and the sun"
        assert screen.panel.transcript.writer.text_of(3).strip() == "The moonThe moon and the sun"

        screen.session.connection.loaded = None
        await screen.session.connection.load()
        await until(pilot, lambda: screen.session.connection.loaded)
        assert "A prompt begins a paragraph" not in text(app), "it was said before"


async def test_a_base_model_in_the_chat_stops_after_some_tokens_and_can_go_on(tmp_path: Path) -> None:
    app = outrider(tmp_path, main="scripted:sample?form=text&tokens=2000", draft="lookup", sidebar="hidden")
    async with app.run_test(size=(160, 40)) as pilot:
        await until(pilot, lambda: chat(app).phase == "ready")
        heard = asked_of(app)
        await ask(pilot, "Once")
        await until(pilot, lambda: heard and chat(app).phase == "ready")
        assert "ended at the length limit: /continue goes on" in text(app)
        assert f"{CONTINUED} tokens" in text(app)
        await ask(pilot, "/continue")
        await until(pilot, lambda: len(heard) == 2 and chat(app).phase == "ready")
        assert f"{2 * CONTINUED} tokens" in text(app)
        await ask(pilot, "/max_tokens 3")
        await ask(pilot, "Twice")
        await until(pilot, lambda: len(heard) == 3 and chat(app).phase == "ready")
        assert [each.max_tokens for each in heard] == [CONTINUED, CONTINUED, 3]


async def test_chatml_that_is_assumed_is_said(tmp_path: Path) -> None:
    app = outrider(tmp_path, main="scripted:echo?form=chatml", draft="lookup", sidebar="hidden")
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: chat(app).phase == "ready")
        assert "No chat template: ChatML is assumed." in text(app)
        assert "ChatML assumed  drafting" in text(app)
        assert chat(app).panel.composer.placeholder == ASK


async def test_a_model_with_a_template_is_not_introduced(tmp_path: Path) -> None:
    app = outrider(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: chat(app).phase == "ready")
        assert chat(app).panel.composer.placeholder == ASK
        assert "base model" not in text(app)
        assert "template" not in text(app)


async def test_a_base_model_is_not_asked_for_a_summary(tmp_path: Path) -> None:
    app = outrider(tmp_path, main=ECHO, draft="lookup")
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: chat(app).phase == "ready")
        heard = asked_of(app)
        for prompt in ("one", "two"):
            await ask(pilot, prompt)
            await until(pilot, lambda prompt=prompt: heard and heard[-1].messages[-1].content == prompt)
            await until(pilot, lambda: chat(app).phase == "ready")
        await pilot.press("shift+f5")
        await until(pilot, lambda: told(app))
        assert "F5 leaves out" in told(app)
        assert len(heard) == 2


def run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    folders = {"HOME": str(home), "XDG_CONFIG_HOME": str(home), "XDG_STATE_HOME": str(home)}
    command = [sys.executable, "-m", "tui", *arguments]
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | folders,
    )


@pytest.mark.parametrize(
    ("arguments", "remark"),
    [
        (("--main", ECHO), f"outrider: {BASE}\n"),
        (("--main", "scripted:echo?form=chatml"), "outrider: no chat template: ChatML is assumed\n"),
        (("--main", "scripted:echo"), ""),
        (("--main", ECHO, "--raw"), ""),
    ],
)
def test_ask_says_it_in_one_line_beside_the_answer(
    tmp_path: Path, arguments: tuple[str, ...], remark: str
) -> None:
    told = run(tmp_path, "ask", *arguments, "--draft", "none", "The moon")
    assert (told.stdout, told.stderr, told.returncode) == ("The moon\n", remark, 0)


def test_a_system_prompt_is_the_first_paragraph(tmp_path: Path) -> None:
    told = run(tmp_path, "ask", "--main", ECHO, "--draft", "none", "--system", "A tale.", "Once")
    assert told.stdout == "A tale.\n\nOnce\n"


def test_doctor_says_it_of_the_model_in_the_settings_or_that_there_is_none(tmp_path: Path) -> None:
    config = tmp_path / "outrider" / "config.toml"
    config.parent.mkdir()
    path = write_model(tmp_path / "base.gguf", Toy(chat_template=None, controls=OTHER_CONTROL))
    config.write_text(f'[models]\nmain = "{path}"\n')
    assert BASE in run(tmp_path, "doctor").stdout
    write_model(path, Toy())
    assert "template" not in run(tmp_path, "doctor").stdout
    config.write_text('[models]\nmain = "nothing like it"\n')
    assert (
        "no model here is called 'nothing like it'"
        in " ".join(run(tmp_path, "doctor").stdout.split()).lower()
    )
