"""Thoughts told from answers: wherever the text is cut, whatever was refused between."""

from __future__ import annotations

import random

import pytest

from tui.protocol import Origin
from tui.protocol.thoughts import MARKS, Part, Thoughts, opened_by, without_thought


def split(pieces: list[tuple[str, int]]) -> tuple[str, str, list[Part]]:
    thoughts = Thoughts()
    parts = [part for piece in pieces for part in thoughts.feed([piece])] + thoughts.end()
    shown = [part for part in parts if part.origin != Origin.REFUSED]
    texts = ["".join(part.text for part in shown if part.thought is which) for which in (True, False)]
    return texts[0], texts[1], parts


CASES = [
    ("<think>\nFirst, why.\n</think>\n\nBecause.", "\nFirst, why.\n", "Because."),
    ("  \n<think>a</think>b", "a", "b"),
    ("no thought <think>here</think>", "", "no thought <think>here</think>"),
    ("<think>never closed", "never closed", ""),
    ("<think></think>\n\n", "", ""),
    ("<thin ice", "", "<thin ice"),
    ("<think>a < b </thin </think>c", "a < b </thin ", "c"),
    ("[THINK]x[/THINK]y", "x", "y"),
    (
        "<|channel|>analysis<|message|>x<|start|>assistant<|channel|>final<|message|>y",
        "x",
        "y",
    ),
    ("", "", ""),
    ("   ", "", "   "),
    ("<", "", "<"),
    ("<think>one</think>two<think>three</think>", "one", "two<think>three</think>"),
]


@pytest.mark.parametrize(("text", "thought", "answer"), CASES)
def test_a_thought_is_found_however_the_text_is_cut(text: str, thought: str, answer: str) -> None:
    chance = random.Random(3)
    for _ in range(40):
        cuts = sorted(chance.sample(range(len(text) + 1), chance.randint(0, len(text))))
        pieces: list[tuple[str, int]] = []
        for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
            pieces.append((text[begin:end], chance.choice((Origin.DRAFT, Origin.MAIN))))
            if chance.random() < 0.3:
                pieces.append((chance.choice(("</think>", "<think>", "no")), Origin.REFUSED))
        assert split(pieces)[:2] == (thought, answer)


def test_every_kind_of_mark_is_known_and_left_out() -> None:
    for opening, closing in MARKS.items():
        assert split([(f"{opening}in{closing}out", Origin.PLAIN)])[:2] == ("in", "out")
        assert opened_by(f"<|im_start|>assistant\n{opening}\n") == opening
    assert opened_by("assistant\n") == ""


def test_text_keeps_where_it_came_from_and_nothing_waits_that_is_certain() -> None:
    thoughts = Thoughts()
    assert thoughts.feed([("<thi", Origin.MAIN)]) == []
    assert thoughts.feed([("nk>so", Origin.DRAFT), ("far", Origin.REFUSED)]) == [
        Part(True, "so", Origin.DRAFT),
        Part(True, "far", Origin.REFUSED),
    ]
    assert thoughts.thinking
    assert thoughts.feed([(" good</thin", Origin.MAIN)]) == [Part(True, " good", Origin.MAIN)]
    assert thoughts.feed([("k>", Origin.DRAFT)]) == []
    assert not thoughts.thinking
    assert thoughts.feed([("\n\n", Origin.DRAFT)]) == []
    assert thoughts.feed([("Yes", Origin.MAIN)]) == [Part(False, "Yes", Origin.MAIN)]
    assert thoughts.feed([("<think>", Origin.MAIN)]) == [Part(False, "<think>", Origin.MAIN)]


def test_the_answer_alone() -> None:
    assert without_thought("<think>\nlong\n</think>\n\nshort") == "short"
    assert without_thought("plain") == "plain"
