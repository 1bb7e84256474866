"""Answers of a model that continues several chats at once, recorded to train a head on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.starter import load
from tests.support.talk import Talk
from tools.training import record_answers
from tools.training.record_answers import AT_ONCE, all_questions
from tui.engine.starter import MAIN

ANSWERS, TOKENS = AT_ONCE + 4, 12
"""More than are answered at once, so that a chat takes the place of one that is complete."""


def test_the_questions_are_many_and_the_seed_decides_their_order() -> None:
    found = all_questions(1)
    assert found == all_questions(1) != all_questions(2)
    assert len(set(found)) == len(found) > 1500
    assert any("\n\n" in question for question in found), "some show a documentation"


def test_a_chat_among_others_is_answered_as_it_is_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "answers.jsonl"
    given = ["--answers", str(ANSWERS), "--tokens", str(TOKENS), "--room", "1024"]
    monkeypatch.setattr("sys.argv", ["record_answers", str(MAIN), str(file), *given])
    record_answers.main()
    chats = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(chats) == ANSWERS
    model = load(MAIN, "main")
    end, same = model.vocabulary.end_tokens, 0
    for chat in chats:
        prompt, answer = chat["tokens"][: chat["answer"]], chat["tokens"][chat["answer"] :]
        assert len(answer) == TOKENS or answer[-1] in end
        # The seed is the number of the question, which the file does not hold: one of them gives this answer.
        alone = (
            Talk(model).answer(prompt, len(answer), length=0, seed=seed).tokens for seed in range(ANSWERS)
        )
        same += any(tokens == answer for tokens in alone)
    model.close()
    assert same >= ANSWERS - 1, "rounding may tip one choice"


def test_a_recorded_answer_counts_once_and_its_question_never(tmp_path: Path) -> None:
    """Runs where PyTorch is installed, as for a training."""
    pytest.importorskip("torch")
    from tools.training.batches import IGNORED
    from tools.training.recorded import in_batches, recorded

    file = tmp_path / "answers.jsonl"
    chats = [{"answer": 3, "tokens": list(range(100 * n, 100 * n + 10 + n % 7))} for n in range(1, 30)]
    file.write_text("".join(json.dumps(chat) + "\n" for chat in chats))
    batches = in_batches(recorded(file), 64, seed=1)
    assert all(batch.tokens.numel() <= 64 for batch in batches)
    wanted = [token for batch in batches for token in batch.targets[batch.targets != IGNORED].tolist()]
    assert sorted(wanted) == sorted(token for chat in chats for token in chat["tokens"][3:])  # type: ignore[index]
