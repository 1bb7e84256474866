"""When a summary is long enough, when it is kept, and what is said when it is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import structs

from tests.support.chat import answered, ask, chat, outrider, text, told, until
from tests.support.exchanges import round_of
from tui.chat.summary_check import LONGEST, Summary
from tui.config import Generation
from tui.protocol import Reason
from tui.screens.transcript_sync import SUMMED_UP

WORDS = "and they went on "


def heard(*texts: str, context_length: int = 1 << 20) -> Summary:
    summary = Summary(context_length)
    for each in texts:
        summary.hear(structs.replace(round_of(each), tokens=(1,)))
    return summary


def test_a_thought_does_not_count() -> None:
    summary = heard("<think>", *["hm "] * (LONGEST + 9))
    assert not summary.in_vain and summary.progress == f"thinking, {LONGEST + 10:,} tokens"
    summary = heard("<think>", *["hm "] * (LONGEST + 9), "</think>", "Anna is 34.")
    assert not summary.in_vain and summary.text == "Anna is 34."
    assert summary.failure("stop") == ""


def test_it_may_be_long_but_takes_no_more_than_its_part_of_the_context() -> None:
    assert not heard(*["a "] * LONGEST).in_vain
    assert heard(*["a "] * (LONGEST + 1)).in_vain
    assert not heard(*["a "] * 100, context_length=400).in_vain
    assert heard(*["a "] * 101, context_length=400).in_vain


@pytest.mark.parametrize(
    ("summary", "reason", "why"),
    [
        (heard("Anna."), "stop", ""),
        (heard("Anna."), "length", "longer than"),
        (heard(*["a "] * 101, context_length=400), "cancelled", "longer than 100 tokens"),
        (heard("Anna."), "cancelled", "stopped"),
        (heard("Anna."), "context", "context was full"),
        (heard("<think>", "hm"), "stop", "nothing else"),
        (heard(), "stop", "wrote nothing"),
    ],
)
def test_it_says_why_it_is_not_kept(summary: Summary, reason: Reason, why: str) -> None:
    assert why in summary.failure(reason) and bool(summary.failure(reason)) == bool(why)


@pytest.mark.parametrize(
    ("model_writes", "kept", "said"),
    [
        (f"<think>{WORDS * 400}</think>{WORDS * 120}The end.", "The end.", ""),
        (f"<think>{WORDS * 40}", "", "the model thought, and wrote nothing else"),
        (WORDS * 900, "", "the summary grew longer than"),
    ],
    ids=["a long thought before it", "nothing but a thought", "no end"],
)
async def test_a_chat_is_summed_up_whole_or_not_at_all(
    model_writes: str, kept: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui.screens.message_actions.LEAVE", 0.0)
    monkeypatch.setattr(
        "tui.screens.message_actions.SUM_UP", model_writes
    )  # the model repeats what it is asked
    app = outrider(tmp_path, main="scripted:echo", draft="lookup")
    async with app.run_test(size=(140, 40)) as pilot:
        screen = chat(app)
        for prompt in ("one", "two", "three"):
            await answered(pilot, prompt)
        before = screen.session.conversation.context.messages()
        await pilot.press("shift+f5")
        if kept:
            await until(pilot, lambda: SUMMED_UP in text(app))
            assert screen.session.conversation.context.summary.endswith(kept)
            return
        await until(pilot, lambda: "nothing is left out" in text(app))
        assert said in text(app) and said in told(app)
        assert screen.session.conversation.context.messages() == before
        await answered(pilot, "four")


async def test_a_summary_that_is_rejected_leaves_the_answer_that_is_coming_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui.screens.message_actions.LEAVE", 0.0)
    plain = Generation(seed=7, lookup=False)  # a lookup would make the second answer short
    app = outrider(tmp_path, main="scripted:sample?rate=15&tokens=60", draft="lookup", generation=plain)
    async with app.run_test(size=(140, 40)) as pilot:
        screen = chat(app)
        await answered(pilot, "one")
        await ask(pilot, "two")
        await until(pilot, lambda: screen.phase == "answering")
        await pilot.press("shift+f5")
        await until(pilot, lambda: "An answer is coming" in told(app))
        await until(pilot, lambda: screen.phase == "ready")
        last = screen.session.conversation.last
        assert last and last.ending == "stop" and last.statistics and last.statistics.tokens >= 60
