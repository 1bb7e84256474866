"""A chat with a real model wakes in another session with the text of one that never stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.real.fetch import GEMMA, SMOLLM2
from tests.real.session import Asked
from tui.paths import find_states
from tui.protocol import Message

TOLD = "The river rises in the hills, and the people of the valley say that it is older than the hills. "
TURNS = (TOLD * 30 + "What does the river do?", "And what do the people say?", "Is that true?")
"""Behind the first one, the window of Gemma (512 tokens) is full."""

Start = Callable[[], Asked]


@pytest.fixture(params=["smollm2", "gemma"])
def start(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start a session that saves chats; the shared session has the model's files at hand."""
    request.getfixturevalue(request.param)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    opened: list[Asked] = []

    def begin(disk: int = 1 << 32) -> Asked:
        opened.append(Asked(SMOLLM2 if request.param == "smollm2" else GEMMA, disk_cache=disk))
        return opened[-1]

    yield begin
    for each in opened:
        each.close()


def test_three_turns_in_three_sessions_have_the_text_of_one(start: Start) -> None:
    unbroken, chat = start(disk=-1), list[Message]()
    for turn, prompt in enumerate(TURNS):
        chat.append(Message("user", prompt))
        woken = start()
        expected = unbroken.chat(chat, 0.8, draft_length=4, chat="one")
        heard = woken.chat(chat, 0.8, draft_length=4, chat="one")
        assert heard.text == expected.text
        assert bool(heard.statistics.prompt_restored) == (turn > 0)
        assert turn == 0 or heard.statistics.prompt_reused == expected.statistics.prompt_reused > 500
        woken.close()
        assert len(list(find_states().glob("*.state"))) == 2, "of the main model and the draft"
        chat.append(Message("assistant", heard.text))


def test_half_an_answer_goes_on_in_another_session(start: Start) -> None:
    """Without drafts: where a round begins elsewhere, rounding may tip a close choice."""
    chat, how = [Message("user", TURNS[0])], {"draft_length": 0, "chat": "one"}
    first = start()
    whole = first.chat(chat, 0.8, max_tokens=40, **how, fresh=True)
    half = first.chat(chat, 0.8, max_tokens=20, **how, fresh=True)
    first.close()
    rest = start().chat(chat, 0.8, max_tokens=20, **how, resume=tuple(half.tokens))
    assert half.tokens + rest.tokens == whole.tokens
    assert rest.statistics.prompt_restored == rest.statistics.prompt_tokens - 1
