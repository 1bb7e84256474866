"""Exact mode, from a load to the text: the token ids are those of plain decoding, however an answer comes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import models
from tui.engine.eligibility import NO_TWO_ROWS, NOT_RESTORED
from tui.engine.pair import exactness
from tui.engine.pair.rounding import Exactness
from tui.engine.session import Session
from tui.protocol import Event, Finished, Generate, Load, Loaded, Message, Rounding, Rounds, Sampling

PROMPT = (Message("user", "Write about rain."),)
LONG = (Message("user", "Rain and wind. " * 20),)


class Talk:
    """A session with a made pair in exact mode, and what it says."""

    def __init__(self, folder: Path, exact: bool = True, threads: int = 2) -> None:
        self.events: list[Event] = []
        self.stop_after = 10_000
        self.session = Session(self.events.append, lambda _: len(self.tokens) >= self.stop_after)
        main = models.write_model(folder / "main.gguf", models.Toy(context_length=1024))
        draft = models.write_model(folder / "draft.gguf", models.Toy(seed=1, context_length=1024))
        self.session.do(Load(str(main), str(draft), 1024, threads=threads, exact=exact))

    @property
    def loaded(self) -> Loaded:
        return next(each for each in self.events if isinstance(each, Loaded))

    @property
    def tokens(self) -> list[int]:
        return [
            token
            for each in self.events
            if isinstance(each, Rounds)
            for r in each.rounds
            for token in r.tokens
        ]

    def answer(self, messages: tuple[Message, ...], length: int, **options: object) -> list[int]:
        stop = options.pop("stop_after", 10_000)
        kept, self.events[:] = self.loaded, []
        self.stop_after = stop  # type: ignore[assignment]
        sampling = Sampling(temperature=options.pop("temperature", 0.8))  # type: ignore[arg-type]
        count = 40 - len(options.get("resume", ()))  # type: ignore[arg-type]
        self.session.do(
            Generate(
                1, messages, 5, sampling, draft_length=length, max_tokens=count, ignore_eos=True, **options
            )  # type: ignore[arg-type]
        )
        assert isinstance(self.events[-1], Finished), self.events[-1]
        found = self.tokens
        self.events[:] = [kept]
        return found


@pytest.fixture
def sessions() -> Iterator[list[Session]]:
    """Those that end with the test."""
    opened: list[Session] = []
    yield opened
    for session in opened:
        session.close()


@pytest.fixture
def talk(tmp_path: Path, sessions: list[Session]) -> Talk:
    talk = Talk(tmp_path)
    sessions.append(talk.session)
    return talk


def test_a_load_says_how_exact_it_is(talk: Talk) -> None:
    rounding = talk.loaded.rounding
    assert rounding and rounding.exact and rounding.rows > 1
    assert talk.loaded.obstacle is None


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_no_draft_and_no_pause_changes_a_token(talk: Talk, temperature: float) -> None:
    chance = random.Random(1)
    for messages in (PROMPT, LONG):
        plain = talk.answer(messages, 0, temperature=temperature, lookup=False, fresh=True)
        for length in (1, 2, 5, 16):
            assert talk.answer(messages, length, temperature=temperature, fresh=True) == plain
            cut = chance.randrange(1, 39)
            begun = talk.answer(messages, length, temperature=temperature, fresh=True, stop_after=cut)
            ended = talk.answer(messages, length, temperature=temperature, resume=tuple(begun))
            assert begun + ended == plain
            again = talk.answer(
                messages, length, temperature=temperature, resume=tuple(plain[:cut]), fresh=True
            )
            assert plain[:cut] + again == plain


def test_a_second_turn_is_the_same_after_a_reload_and_after_a_branch(talk: Talk) -> None:
    first = talk.answer(LONG, 4)
    vocabulary = talk.session._loaded.main.vocabulary
    said = b"".join(map(vocabulary.piece, first)).decode("utf-8", "replace")
    chat = (*LONG, Message("assistant", said), Message("user", "And then?"))
    second = talk.answer(chat, 4)
    assert talk.answer(chat, 0, lookup=False, fresh=True) == second
    talk.answer((*LONG, Message("assistant", said[:20]), Message("user", "Another way?")), 3)
    assert talk.answer(chat, 2) == second


def test_no_round_verifies_more_rows_than_are_exact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sessions: list[Session]
) -> None:
    monkeypatch.setattr(exactness.StoredFact, "read", lambda _: None)
    monkeypatch.setattr(exactness, "exactness", lambda *_: Exactness(3, None))
    talk = Talk(tmp_path)
    sessions.append(talk.session)
    kept, talk.events[:] = talk.loaded, []
    talk.session.do(Generate(1, PROMPT, 5, draft_length=16, max_tokens=40))
    drafted = [r.drafted for each in talk.events if isinstance(each, Rounds) for r in each.rounds]
    assert kept.rounding == Rounding(kept.rounding.deviation, True, 3)  # type: ignore[union-attr]
    assert max(drafted) == 2


def test_where_no_two_rows_are_exact_nothing_drafts_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sessions: list[Session]
) -> None:
    monkeypatch.setattr(exactness.StoredFact, "read", lambda _: None)
    monkeypatch.setattr(exactness, "exactness", lambda *_: Exactness(1, None))
    talk = Talk(tmp_path)
    sessions.append(talk.session)
    assert talk.loaded.obstacle == NO_TWO_ROWS
    assert talk.loaded.draft is None
    assert len(talk.answer(PROMPT, 4)) == 40


def test_nothing_is_rejected_where_nobody_asked_for_a_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sessions: list[Session]
) -> None:
    monkeypatch.setattr(exactness, "trial", lambda _: NOT_RESTORED)
    path = str(models.write_model(tmp_path / "main.gguf", models.Toy(seed=5)))
    events: list[Event] = []
    session = Session(events.append, lambda _: False)
    sessions.append(session)
    session.do(Load(path, context_length=256, threads=1))
    session.do(Load(path, path, 256, threads=1))
    asked = [each.obstacle for each in events if isinstance(each, Loaded)]
    assert asked == [None, NOT_RESTORED]


def test_what_was_measured_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sessions: list[Session]
) -> None:
    path = str(models.write_model(tmp_path / "main.gguf", models.Toy(seed=6)))
    events: list[Event] = []
    session = Session(events.append, lambda _: False, idle=lambda: True)
    sessions.append(session)
    session.do(Load(path, context_length=512, threads=1))
    monkeypatch.setattr(exactness, "trial", lambda _: pytest.fail("it is tried again"))
    session.do(Load(path, context_length=512, threads=1))
    known = [each.rounding for each in events if isinstance(each, Loaded)]
    assert known[0] is not None and known[1] is not None
    assert known[1].deviation >= known[0].deviation  # that of a longer cache has come to it
    assert session._loaded.later is None
