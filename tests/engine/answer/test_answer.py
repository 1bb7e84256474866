"""One answer: its length, its text, what is evaluated for it, and what it leaves behind."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import asdict

from tests.support import models
from tests.support.answering import HELLO, Heard, ask, command
from tui.choices import AUTO, DraftLength
from tui.engine.answer.answer import Answer
from tui.engine.answer.templates import TemplateRenderer
from tui.engine.backends import Interruptible, LoadedModel, ModelError, Options
from tui.engine.backends.llama_cpp.model import LlamaModel
from tui.engine.backends.selection import open_backend
from tui.engine.pair.pair import Pair, load_pair, plain_speed
from tui.engine.pair.reading import ContextReader
from tui.engine.session import Session
from tui.engine.speculation.estimates import Costs
from tui.engine.speculation.lookup import Lookup
from tui.engine.speculation.loop import Pick
from tui.engine.speculation.policy import AdaptiveLength, FixedLength
from tui.engine.speculation.sampling import InvalidLogits, Sampler
from tui.protocol import (
    Event,
    Failed,
    Finished,
    Load,
    Loaded,
    Message,
    Notice,
    Origin,
    Prefill,
    Rounds,
    Sampling,
)

LENGTHS = [0, 1, 2, 4, 16]


class Counting:
    """A model that counts the tokens it evaluates, and fails when told to."""

    def __init__(self, model: LoadedModel) -> None:
        self.model = model
        self.evaluated = 0
        self.calls = 0
        self.fail: tuple[int, Exception] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def extend(self, tokens: Sequence[int], picks: int) -> list[Pick]:
        self.calls += 1
        if self.fail and self.calls >= self.fail[0]:
            raise self.fail[1]
        self.evaluated += len(tokens)
        return self.model.extend(tokens, picks)


Opened = tuple[Pair, Counting, Counting]


@pytest.fixture(scope="module")
def renderer() -> Iterator[TemplateRenderer]:
    made = TemplateRenderer()
    yield made
    made.close()


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A real main model and a real draft that agrees with it now and then."""
    folder = tmp_path_factory.mktemp("toys")
    toy = models.Toy(context_length=1024)
    main = models.write_model(folder / "main.gguf", toy)
    draft = models.write_model(folder / "draft.gguf", replace(toy, layers=1))
    return str(main), str(draft)


@pytest.fixture(params=["scripted", "llama.cpp"])
def opened(request: pytest.FixtureRequest, toys: tuple[str, str]) -> Iterator[Callable[..., Opened]]:
    """Opens pairs of both backends."""
    pairs: list[Pair] = []

    def open_pair(context_length: int = 512, draft_context: int = 0, script: str = "tokens=400") -> Opened:
        scripted = request.param == "scripted"
        main = f"scripted:sample?{script}" if scripted else toys[0]
        draft = "scripted:draft?acceptance=0.6" if scripted else toys[1]
        backend = open_backend(main)
        options = Options("main", context_length, threads=1)
        first = Counting(backend.load(main, options, lambda _: True))
        options = Options("draft", draft_context or context_length, threads=1)
        second = Counting(backend.load(draft, options, lambda _: True))
        pairs.append(
            Pair(backend, first, second, None, None, FixedLength(4), ContextReader(first), Lookup(()))
        )  # type: ignore[arg-type]
        return pairs[-1], first, second

    yield open_pair
    for pair in pairs:
        pair.close()


def prompt(model: Counting, count: int) -> tuple[Message]:
    """A raw prompt of `count` tokens."""
    tokens = model.vocabulary.encode(" a" * 2 * count)[:count]
    return (Message("user", b"".join(map(model.vocabulary.piece, tokens)).decode()),)


@pytest.mark.parametrize("length", LENGTHS)
def test_max_tokens_is_exact(opened: Callable[..., Opened], renderer: TemplateRenderer, length: int) -> None:
    pair, _, _ = opened()
    whole = ask(pair, renderer, draft_length=0, max_tokens=20).tokens
    for wanted in range(1, 21):
        heard = ask(pair, renderer, draft_length=length, max_tokens=wanted)
        assert heard.tokens == whole[:wanted]
        assert heard.end.reason == "length"
        assert heard.statistics.tokens == wanted


def test_an_answer_ends_with_the_context_and_without_an_error(
    opened: Callable[..., Opened], renderer: TemplateRenderer
) -> None:
    pair, main, _ = opened(context_length=256)
    plain = ask(pair, renderer, draft_length=0, max_tokens=0)
    assert plain.end.reason == "context"
    assert plain.statistics.context_used == main.capacity + 1, "the last token needs no place in the cache"
    for length in LENGTHS:
        assert ask(pair, renderer, draft_length=length, max_tokens=0).tokens == plain.tokens


def test_an_answer_longer_than_the_drafts_context_goes_on(
    opened: Callable[..., Opened], renderer: TemplateRenderer
) -> None:
    pair, main, draft = opened(context_length=512, draft_context=256)
    plain = ask(pair, renderer, draft_length=0, max_tokens=400)
    heard = ask(pair, renderer, draft_length=4, max_tokens=400)
    assert heard.tokens == plain.tokens
    assert draft.length <= draft.capacity
    question = prompt(main, 300)
    assert ask(pair, renderer, question, raw=True, max_tokens=3).tokens
    long = ask(pair, renderer, question, raw=True, max_tokens=3, draft_length=4)
    assert [event for event in long.events if isinstance(event, Notice)] == [
        Notice(
            1, f"This answer goes on without the draft model: its context holds only {draft.capacity} tokens."
        )
    ]


def test_only_what_is_new_in_a_conversation_is_evaluated(
    opened: Callable[..., Opened], renderer: TemplateRenderer
) -> None:
    pair, main, draft = opened()
    first = ask(pair, renderer, draft_length=4)
    before, drafted_before = main.evaluated, draft.evaluated
    assert first.statistics.prompt_reused == 0
    again = ask(pair, renderer, draft_length=4, max_tokens=1)
    assert again.statistics.prompt_reused == first.statistics.prompt_tokens - 1
    assert main.evaluated - before == 1
    assert draft.evaluated - drafted_before == 0, "one token needs no draft"

    before, drafted_before = main.evaluated, draft.evaluated
    talk = (*HELLO, Message("assistant", first.text), Message("user", "And now?"))
    second = ask(pair, renderer, talk, draft_length=4, max_tokens=1).statistics
    assert second.prompt_reused >= first.statistics.prompt_tokens - 1
    assert main.evaluated - before == second.prompt_tokens - second.prompt_reused
    assert draft.evaluated - drafted_before <= second.prompt_tokens - second.prompt_reused


def test_a_draft_model_reads_the_prompt_only_when_it_drafts(
    opened: Callable[..., Opened], renderer: TemplateRenderer
) -> None:
    pair, main, draft = opened(context_length=2048)
    question = prompt(main, 1500)
    ask(pair, renderer, question, raw=True, draft_length=0, max_tokens=3)
    assert draft.evaluated == 0
    heard = ask(pair, renderer, question, raw=True, draft_length=4, max_tokens=8)
    assert [r.drafted for r in heard.rounds[:2]] == [0, 0], "a slice a round"
    assert draft.length > 1500
    assert heard.tokens == ask(pair, renderer, question, raw=True, draft_length=0, max_tokens=8).tokens


@pytest.mark.parametrize("draft_length", [0, 1, 4, 16])
def test_a_lookup_gives_the_same_text_in_fewer_rounds(
    opened: Callable[..., Opened], renderer: TemplateRenderer, draft_length: int
) -> None:
    pair, main, draft = opened(context_length=2048, script="tokens=900")
    asked = Message("user", "Say again: " + "the quick brown fox jumps over the lazy dog. " * 4)
    plain = ask(pair, renderer, [asked], draft_length=0, max_tokens=300)
    alone = replace(pair, draft=None, lookup=Lookup(main.vocabulary.control_tokens))
    for one in (alone, replace(alone, draft=pair.draft)):
        heard = ask(one, renderer, [asked], draft_length=draft_length, lookup=True, max_tokens=300)
        assert heard.tokens == plain.tokens
        counted = heard.statistics
        assert counted.looked_up == sum(r.looked_up for r in heard.rounds)
        assert counted.lookup_accepted <= min(counted.looked_up, counted.accepted)
        origins = [origin for r in heard.rounds for _, origin in r.pieces]
        assert (Origin.LOOKUP in origins) == (counted.lookup_accepted > 0)
        assert (Origin.DRAFT in origins) == (counted.accepted > counted.lookup_accepted)
        if one is alone:
            assert counted.looked_up == counted.drafted
            assert counted.drafted == 0 or draft_length
    assert draft.evaluated == 0 or draft_length


def test_the_draft_length_can_be_changed_in_the_middle_of_an_answer(
    opened: Callable[..., Opened], renderer: TemplateRenderer
) -> None:
    pair, _, _ = opened()
    events: list[Event] = []
    length: list[DraftLength] = [0]

    def send(event: Event) -> None:
        events.append(event)
        if isinstance(event, Rounds):
            length[0] = {5: 3, 10: AUTO, 15: 0}.get(len(events), length[0])

    asked = command(draft_length=0, max_tokens=60)
    Answer(pair, asked, send, lambda: False, lambda: length[0]).run(renderer)
    drafted = [each.drafted for each in Heard(events).rounds]
    assert max(drafted[:3]) == 0
    assert 3 in drafted
    assert 4 in drafted, "the pair's own policy"
    assert max(drafted[-5:]) == 0
    assert Heard(events).tokens == ask(pair, renderer, draft_length=0, max_tokens=60).tokens


def test_a_fresh_answer_reuses_nothing_and_is_the_same(
    opened: Callable[..., Opened], renderer: TemplateRenderer
) -> None:
    pair, _, _ = opened()
    first = ask(pair, renderer, draft_length=4)
    again = ask(pair, renderer, draft_length=4, fresh=True)
    assert again.statistics.prompt_reused == 0
    assert again.tokens == first.tokens
    assert again.statistics.peak_memory is not None
    assert again.statistics.peak_memory > 10_000_000


def test_a_changed_message_is_evaluated_from_where_it_differs(
    opened: Callable[..., Opened], renderer: TemplateRenderer
) -> None:
    fresh, _, _ = opened()
    pair, _, _ = opened()
    question = (Message("user", "Hello there, who is that?"),)
    ask(pair, renderer, draft_length=4)
    edited = ask(pair, renderer, question, draft_length=4)
    assert 0 < edited.statistics.prompt_reused < edited.statistics.prompt_tokens
    assert edited.tokens == ask(fresh, renderer, question, draft_length=0).tokens


@pytest.mark.parametrize("length", [0, 4])
def test_after_a_cancel_the_next_answer_is_that_of_a_fresh_start(
    opened: Callable[..., Opened], renderer: TemplateRenderer, length: int
) -> None:
    for stop_after in (0, 1, 5):
        pair, _, _ = opened()
        fresh, _, _ = opened()
        cut = ask(
            pair, renderer, draft_length=length,
            cancelled=lambda events, n=stop_after: len(Heard(events).rounds) >= n,
        )  # fmt: skip
        assert cut.end.reason == "cancelled"
        assert cut.statistics.rounds == len(cut.rounds) == stop_after
        talk = (*HELLO, Message("assistant", cut.text), Message("user", "Go on"))
        assert ask(pair, renderer, talk, draft_length=length).tokens == ask(fresh, renderer, talk).tokens


@pytest.mark.parametrize("calls", [2, 5, 9])
def test_a_cancel_while_the_draft_works_ends_the_answer_before_the_next_call(
    opened: Callable[..., Opened], renderer: TemplateRenderer, calls: int
) -> None:
    pair, main, draft = opened()
    expected = ask(opened()[0], renderer).tokens
    seen: list[int] = []

    def cancelled(events: Sequence[Event]) -> bool:
        if draft.calls >= calls:
            seen.append(main.calls)
        return draft.calls >= calls

    cut = ask(pair, renderer, draft_length=4, cancelled=cancelled)
    assert cut.end.reason == "cancelled"
    if isinstance(main, Interruptible):
        assert main.calls <= seen[0] + 1 and draft.calls <= calls + 1
    assert not any(isinstance(event, Notice) for event in cut.events), "the draft has not failed"
    assert cut.tokens == expected[: len(cut.tokens)] != expected
    rest = ask(pair, renderer, draft_length=4, resume=tuple(cut.tokens), max_tokens=30 - len(cut.tokens))
    assert [*cut.tokens, *rest.tokens] == expected


def test_a_long_prompt_is_read_in_chunks_and_can_be_cancelled_between_them(
    opened: Callable[..., Opened], renderer: TemplateRenderer
) -> None:
    pair, main, _ = opened(context_length=2048)
    question = prompt(main, 1400)
    heard = ask(pair, renderer, question, raw=True, max_tokens=1)
    total = heard.statistics.prompt_tokens - 1
    progress = [event for event in heard.events if isinstance(event, Prefill)]
    expected = [0, *(min(done + main.chunk, total) for done in range(0, total, main.chunk))]
    assert len(expected) > 3
    assert progress == [Prefill(1, done, total) for done in expected]
    pair.clear()
    main.evaluated = 0
    cut = ask(pair, renderer, question, raw=True, cancelled=lambda events: len(events) > 1)
    assert cut.end.reason == "cancelled"
    assert cut.tokens == []
    assert main.evaluated == main.chunk


def test_a_prompt_too_long_is_rejected_with_both_numbers_before_it_is_run(
    opened: Callable[..., Opened], renderer: TemplateRenderer
) -> None:
    pair, main, draft = opened(context_length=256)
    capacity = main.capacity
    for count in range(capacity - 2, capacity + 1):
        heard = ask(pair, renderer, prompt(main, count), raw=True, max_tokens=0, draft_length=4)
        assert (heard.statistics.prompt_tokens, heard.end.reason) == (count, "context")
        assert len(heard.tokens) == capacity + 1 - count
    main.evaluated = draft.evaluated = 0
    for count in (capacity + 1, capacity + 2, 2 * capacity):
        with pytest.raises(
            ModelError, match=f"^the prompt has {count} tokens; the context holds {capacity}$"
        ) as e:
            ask(pair, renderer, prompt(main, count), raw=True)
        assert "context" in e.value.hint
    with pytest.raises(ModelError, match="1000000 characters"):
        ask(pair, renderer, (Message("user", "a" * 1_000_000),))
    assert main.evaluated == draft.evaluated == 0


@pytest.mark.parametrize("fault", [ModelError("out of memory"), InvalidLogits(3)])
@pytest.mark.parametrize("at", [1, 2, 3, 9])
def test_a_draft_that_fails_costs_nothing_but_the_drafting(
    opened: Callable[..., Opened], renderer: TemplateRenderer, fault: Exception, at: int
) -> None:
    pair, _, draft = opened()
    plain = ask(pair, renderer, draft_length=0)
    draft.fail = (at, fault)
    heard = ask(pair, renderer, draft_length=4)
    assert heard.tokens == plain.tokens
    notices = [event for event in heard.events if isinstance(event, Notice)]
    assert notices == [Notice(1, f"This answer goes on without the draft model: {fault}.")]
    draft.fail = None
    assert ask(pair, renderer, draft_length=4).tokens == plain.tokens
    assert draft.evaluated > 0


def test_a_drafted_token_that_the_main_model_does_not_have_is_never_run(
    opened: Callable[..., Opened], renderer: TemplateRenderer
) -> None:
    pair, main, draft = opened()
    plain = ask(pair, renderer, draft_length=0)
    extend = draft.model.extend

    def foreign(tokens: Sequence[int], picks: int) -> list[Pick]:
        return [Pick(main.vocabulary.size, 1.0) for _ in extend(tokens, picks)]

    draft.model.extend = foreign  # type: ignore[method-assign]
    draft.fail = None
    heard = ask(pair, renderer, draft_length=1)
    assert heard.tokens == plain.tokens
    assert heard.statistics.drafted == 0


@pytest.mark.parametrize("length", LENGTHS)
def test_a_stop_string_ends_every_answer_at_the_same_token(
    opened: Callable[..., Opened], renderer: TemplateRenderer, length: int
) -> None:
    pair, _, _ = opened()
    plain = ask(pair, renderer, draft_length=0)
    ends = {len(plain.text[:i].encode()) for i in range(len(plain.text))}
    for begin in sorted(ends)[5 : len(ends) - 8 : 9]:
        stop = plain.text.encode()[begin : begin + 7].decode("utf-8", "ignore")
        if not stop or "\ufffd" in stop:
            continue
        heard = ask(pair, renderer, draft_length=length, stop=(stop, "never said"))
        expected = ask(pair, renderer, draft_length=0, stop=(stop, "never said"))
        assert heard.end.reason == "stop"
        assert heard.text == expected.text == plain.text[: plain.text.index(stop)]
        assert heard.tokens == expected.tokens
        assert heard.statistics.tokens == len(expected.tokens)


def test_text_held_back_for_a_stop_string_is_shown_when_the_answer_ends(
    opened: Callable[..., Opened], renderer: TemplateRenderer
) -> None:
    pair, _, _ = opened()
    whole = ask(pair, renderer)
    stop = (whole.text[-3:] + "never",)
    assert ask(pair, renderer, stop=stop).text == whole.text
    cut = ask(
        pair, renderer, stop=stop, draft_length=0, max_tokens=60,
        cancelled=lambda events: len(Heard(events).tokens) == len(whole.tokens),
    )  # fmt: skip
    assert cut.end.reason == "cancelled"
    assert cut.text == whole.text[:-3], "what may still become a stop string is no text yet"


@pytest.mark.parametrize("length", [0, 1, 4, AUTO])
@pytest.mark.parametrize(
    "settings", [{}, {"repeat_penalty": 1.3}, {"stop": True}], ids=["plain", "penalty", "stop"]
)
def test_an_answer_that_was_broken_off_goes_on_as_if_it_had_not_been(
    opened: Callable[..., Opened], renderer: TemplateRenderer, length: DraftLength, settings: dict[str, Any]
) -> None:
    pair, _, _ = opened()
    asked: dict[str, Any] = {"draft_length": length, "max_tokens": 40}
    if "repeat_penalty" in settings:
        asked["sampling"] = Sampling(repeat_penalty=1.3)
    whole = ask(pair, renderer, **asked)
    if "stop" in settings:
        asked["stop"] = (whole.text[20:24], whole.text[-2:] + "never")
        whole = ask(pair, renderer, **asked)
    for count in (0, 1, 2, 7, 20, len(whole.tokens) - 1):
        cut = ask(
            pair, renderer, cancelled=lambda events, n=count: len(Heard(events).tokens) >= n, **asked
        )  # fmt: skip
        begun = tuple(cut.tokens)
        assert begun == tuple(whole.tokens[: len(begun)])
        if cut.end.reason != "cancelled":
            continue
        left = asked | {"max_tokens": 40 - len(begun), "resume": begun}
        rest = ask(pair, renderer, **left)
        assert [*begun, *rest.tokens] == whole.tokens
        assert cut.text + rest.text == whole.text
        assert rest.end.reason == whole.end.reason
        assert rest.statistics.tokens == len(rest.tokens)
        pair.clear()
        assert ask(pair, renderer, **left).tokens == rest.tokens, "from empty caches too"


def test_a_thought_that_the_template_opens_is_part_of_the_text(
    tmp_path: Path, renderer: TemplateRenderer
) -> None:
    template = models.CHATML.replace("assistant\n' }}{% endif %}", "assistant\n<think>\n' }}{% endif %}")
    assert template != models.CHATML
    path = models.write_model(tmp_path / "m.gguf", models.Toy(chat_template=template))
    backend = open_backend(str(path))
    model = Counting(backend.load(str(path), Options("main", 512, threads=1), lambda _: True))
    pair = Pair(backend, model, None, None, None, FixedLength(0), ContextReader(model), None)  # type: ignore[arg-type]
    heard = ask(pair, renderer)
    assert heard.text.startswith("<think>\n")
    assert heard.text.count("<think>") == 1
    again = ask(pair, renderer, resume=tuple(heard.tokens[:5]))
    assert heard.tokens[5:] == again.tokens[: len(heard.tokens) - 5]
    assert not again.text.startswith("<think>")
    pair.close()


def scripted_pair(script: str = "echo") -> Pair:
    backend = open_backend("scripted:echo")
    main = backend.load(f"scripted:{script}", Options("main", 2048), lambda _: True)
    return Pair(backend, main, None, None, None, FixedLength(0), ContextReader(main), Lookup(()))


def test_a_stop_string_in_a_thought_ends_nothing_wherever_the_answer_goes_on_from(
    renderer: TemplateRenderer,
) -> None:
    pair = scripted_pair()
    messages = (Message("user", "<think>\nThe Stop: no.\n</think>\n\nIt is 42. Stop: more"),)
    asked: dict[str, Any] = {"stop": ("Stop:",), "ignore_eos": False, "max_tokens": 0}
    whole = ask(pair, renderer, messages, **asked)
    assert whole.text == "<think>\nThe Stop: no.\n</think>\n\nIt is 42. "
    assert whole.end.reason == "stop"
    for count in range(1, len(whole.tokens)):
        rest = ask(pair, renderer, messages, resume=tuple(whole.tokens[:count]), **asked)
        assert [*whole.tokens[:count], *rest.tokens] == whole.tokens
        assert whole.text.endswith(rest.text)


def toy_pair(folder: Path, **toy: Any) -> Pair:
    path = str(models.write_model(folder / "m.gguf", models.Toy(**toy)))
    backend = open_backend(path)
    main = backend.load(path, Options("main", 512, threads=1), lambda _: True)
    return Pair(backend, main, None, None, None, FixedLength(0), ContextReader(main), Lookup(()))


def test_a_control_token_ends_an_answer_that_a_stop_string_says_so_of(
    tmp_path: Path, renderer: TemplateRenderer
) -> None:
    pair = toy_pair(tmp_path)
    for text in ("<|im_start|>", "<|im_end|>"):
        said = Sampling(temperature=0, logit_bias=((text, 1000.0),))
        heard = ask(pair, renderer, sampling=said, stop=(text,), max_tokens=5)
        assert (heard.text, heard.end.reason, len(heard.tokens)) == ("", "stop", 1), "with ignore_eos too"
    pair.close()


def test_a_control_token_of_no_meaning_is_a_border(tmp_path: Path, renderer: TemplateRenderer) -> None:
    pair = toy_pair(tmp_path)
    said = Sampling(temperature=0, logit_bias=(("<|im_start|>", 1000.0),))
    assert ask(pair, renderer, sampling=said, max_tokens=3).text == "\n\n\n"
    pair.close()


def test_a_raw_prompt_may_open_a_thought_too(renderer: TemplateRenderer) -> None:
    heard = ask(scripted_pair(), renderer, (Message("user", "hm <think>\n"),), raw=True, max_tokens=3)
    assert heard.text.startswith("<think>\nhm")


def test_what_is_done_otherwise_than_was_asked_is_said_with_the_answer(
    tmp_path: Path, renderer: TemplateRenderer
) -> None:
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}" + models.CHATML
    pair = toy_pair(tmp_path, chat_template=refusing)
    for messages, said in (((Message("system", "Be brief."), *HELLO), 1), (HELLO, 0)):
        notices = [e for e in ask(pair, renderer, messages, max_tokens=1).events if isinstance(e, Notice)]
        assert len(notices) == said
        assert all("takes no system prompt" in notice.message for notice in notices)
    pair.close()


def test_tokens_of_another_model_are_not_gone_on_from(
    opened: Callable[..., Opened], renderer: TemplateRenderer
) -> None:
    pair, main, _ = opened()
    with pytest.raises(ModelError, match="another model"):
        ask(pair, renderer, resume=(main.vocabulary.size,))
    with pytest.raises(ModelError, match="no room"):
        ask(pair, renderer, resume=(1,) * 600)


def test_origins_tell_who_wrote_what(opened: Callable[..., Opened], renderer: TemplateRenderer) -> None:
    pair, _, _ = opened()
    plain = ask(pair, renderer, draft_length=0)
    assert {origin for r in plain.rounds for _, origin in r.pieces} == {Origin.PLAIN}
    for r in ask(pair, renderer, draft_length=4).rounds:
        assert r.accepted <= r.drafted <= 4
        assert len(r.tokens) == r.accepted + 1
        counts = [sum(o == origin for _, o in r.pieces) for origin in Origin]
        if not r.drafted:
            assert set(counts[1:]) == {0}
            continue
        assert counts[Origin.PLAIN] == 0
        assert counts[Origin.REJECTED] <= r.drafted - r.accepted
        if r.drafted > r.accepted and counts[Origin.REJECTED]:
            order = [origin for _, origin in r.pieces]
            assert order == sorted(order, key=[0, 1, 3, 2].index), "drafted, rejected, then the correction"


def test_statistics_are_the_sums_of_the_rounds(
    opened: Callable[..., Opened], renderer: TemplateRenderer
) -> None:
    pair, _, _ = opened()
    heard = ask(pair, renderer, draft_length=4)
    done = heard.statistics
    assert done.tokens == len(heard.tokens) == 30
    assert done.rounds == len(heard.rounds)
    assert done.drafted == sum(r.drafted for r in heard.rounds)
    assert done.accepted == sum(r.accepted for r in heard.rounds)
    rounding = 1e-5 * done.rounds
    assert done.seconds >= sum(r.seconds for r in heard.rounds) - rounding
    assert abs(done.verify_seconds - sum(r.verify_seconds for r in heard.rounds)) <= rounding
    assert done.tokens_per_second is not None
    assert math.isclose(done.tokens_per_second, 30 / done.seconds)
    assert done.time_to_first_token is not None
    assert done.context_used == done.prompt_tokens + 30 == heard.rounds[-1].context_used
    one = ask(pair, renderer, max_tokens=1).statistics
    assert one.tokens_per_second is None
    assert one.time_to_first_token is not None


@pytest.mark.parametrize(
    "settings",
    [
        {"draft_length": -1}, {"draft_length": 17}, {"max_tokens": -1}, {"messages": ()},
        *({"sampling": Sampling(**wrong)} for wrong in (
            {"temperature": -0.1}, {"temperature": math.nan}, {"temperature": math.inf}, {"top_k": -1},
            {"top_p": 1.1}, {"min_p": -1.0}, {"repeat_penalty": 0.0}, {"presence_penalty": math.nan},
            {"penalty_last_n": -1},
        )),
    ],
    ids=str,
)  # fmt: skip
def test_settings_that_make_no_sense_are_named(
    opened: Callable[..., Opened], renderer: TemplateRenderer, settings: dict[str, Any]
) -> None:
    pair, main, _ = opened()
    with pytest.raises(ModelError) as caught:
        ask(pair, renderer, **settings)
    name = next(iter(settings))
    if name == "sampling":
        name = next(n for n, v in asdict(settings[name]).items() if v != getattr(Sampling(), n))
    words = name.replace("messages", "message").replace("_", " ")
    assert words in str(caught.value).replace("_", " ").replace("-", " ")
    assert main.evaluated == 0


def test_an_end_token_ends_an_answer_unless_it_is_to_be_ignored(renderer: TemplateRenderer) -> None:
    pair = load_pair(Load("scripted:echo", "scripted:draft?acceptance=1"), lambda stage, fraction: True)
    for length in LENGTHS:
        heard = ask(pair, renderer, draft_length=length, ignore_eos=False, max_tokens=0)
        assert heard.text == HELLO[0].content
        assert heard.end.reason == "stop"
        assert heard.tokens[-1] in pair.main.vocabulary.end_tokens
        endless = ask(pair, renderer, draft_length=length, max_tokens=50)
        assert endless.text.startswith(2 * HELLO[0].content)


def test_an_empty_prompt_is_rejected(opened: Callable[..., Opened], renderer: TemplateRenderer) -> None:
    with pytest.raises(ModelError, match="empty"):
        ask(opened()[0], renderer, (Message("user", ""),), raw=True)


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Session, list[Event]]]:
    """A session and what it sends. It remembers no measurement of another test's models.

    Toys of one shape have the same size and the same ends, so they would be taken for one model.
    """
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    events: list[Event] = []
    session = Session(events.append, lambda answer: False)
    yield session, events
    session.close()


def test_invalid_numbers_of_the_main_model_end_the_answer_and_not_the_engine(
    served: tuple[Session, list[Event]], tmp_path: Path
) -> None:
    session, events = served
    broken = models.write_model(tmp_path / "nan.gguf", models.Toy(not_a_number="output"))
    sound = models.write_model(tmp_path / "sound.gguf", models.Toy())
    session.do(Load(str(broken), str(broken), 256, threads=1))
    assert isinstance(events[-1], Loaded)
    assert events[-1].plain_tokens_per_second is None
    assert events[-1].draft is None
    assert events[-1].obstacle and "invalid numbers" in events[-1].obstacle.text
    session.do(command(draft_length=4))
    failed = events[-1]
    assert isinstance(failed, Failed)
    assert (failed.id, failed.message) == (1, "The model produced invalid numbers at token 1.")
    assert failed.hint
    session.do(Load(str(sound), str(broken), 256, threads=1))
    session.do(command(draft_length=4))
    assert isinstance(events[-1], Finished)


def test_a_main_model_that_fails_its_trial_answers_plainly_and_says_why(
    served: tuple[Session, list[Event]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, events = served
    path = str(models.write_model(tmp_path / "main.gguf", models.Toy(seed=77)))
    batches = LlamaModel._pick

    def one_row_late(self: LlamaModel, row: int, length: int) -> Pick:
        return batches(self, max(row - 1, 0), length)

    monkeypatch.setattr(LlamaModel, "_pick", one_row_late)
    session.do(Load(path, path, 256, threads=1))
    assert isinstance(events[-1], Loaded)
    assert events[-1].draft is None
    assert events[-1].obstacle and "for several tokens at once" in events[-1].obstacle.text
    session.do(command(draft_length=4, max_tokens=20))
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert (finished.statistics.tokens, finished.statistics.drafted) == (20, 0)
    monkeypatch.setattr(LlamaModel, "_pick", batches)
    session.do(Load(path, path, 256, threads=1))
    assert events[-1].draft is not None  # type: ignore[union-attr]
    assert events[-1].obstacle is None  # type: ignore[union-attr]


def test_a_fault_in_the_middle_of_an_answer_clears_the_caches(served: tuple[Session, list[Event]]) -> None:
    session, events = served
    session.do(Load("scripted:sample", "scripted:draft"))
    assert session._pair is not None
    main = Counting(session._pair.main)
    session._pair = replace(session._pair, main=main)  # type: ignore[arg-type]
    for fault, message in [
        (InvalidLogits(6), "The model produced invalid numbers at token 7."),
        (ModelError("the model could not be run", "Load it again."), "The model could not be run."),
        (RuntimeError("whatever"), "RuntimeError: whatever."),
    ]:
        main.calls, main.fail = 0, (4, fault)
        session.do(command(draft_length=4))
        failed = events[-1]
        assert isinstance(failed, Failed)
        assert (failed.id, failed.message) == (1, message)
        assert failed.hint
        assert main.length == session._pair.draft.length == 0  # type: ignore[union-attr]
        main.fail = None
        session.do(command(draft_length=4))
        assert isinstance(events[-1], Finished)


class Timed:
    """A model on which every token takes one second of a clock of its own."""

    capacity = 100

    def __init__(self, seconds: float) -> None:
        self.now = 0.0
        self.length = self.evaluated = 0
        self.vocabulary = open_backend("scripted:echo").load(
            "scripted:echo", Options("main", 100), lambda _: True
        ).vocabulary  # fmt: skip
        self._seconds = seconds

    def start(self, sampler: Sampler) -> None:
        pass

    def extend(self, tokens: Sequence[int], picks: int) -> list[Pick]:
        self.now += self._seconds
        self.length += len(tokens)
        self.evaluated += len(tokens)
        return [Pick(1, 1.0)] * picks

    def rewind(self, length: int) -> None:
        self.length = length


def test_the_plain_speed_is_what_the_pace_knows_by_now() -> None:
    policy = AdaptiveLength(Costs({1: 0.5, 4: 0.6}, draft=0.1, read=0.01))
    pair = Pair(None, None, None, None, 7.0, policy, None, None)  # type: ignore[arg-type]
    assert pair.plain_tokens_per_second == pytest.approx(2.0)
    assert replace(pair, policy=FixedLength(4)).plain_tokens_per_second == 7.0


@pytest.mark.parametrize(("seconds", "samples"), [(0.01, 12), (0.1, 5), (3.0, 2)])
def test_the_plain_speed_is_measured_in_half_a_second_but_at_least_twice(
    seconds: float, samples: int
) -> None:
    model = Timed(seconds)
    speed = plain_speed(model, clock=lambda: model.now)  # type: ignore[arg-type]
    assert speed == pytest.approx(1 / seconds)
    assert abs(model.evaluated - 1 - samples) <= 1
    assert model.length == 0
