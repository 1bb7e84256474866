"""Thoughts told from answers: wherever the text is cut, whatever was rejected between."""

from __future__ import annotations

import random

import pytest

from tui.protocol import Origin
from tui.protocol.marks import ANALYSIS, CALLS, MARKS, PHRASES, is_part_of_a_mark
from tui.protocol.pieces import said, take
from tui.protocol.spans import SpanReader
from tui.protocol.thoughts import TURNED, Part, Thoughts, apart, opened_by, without_thought


def split(pieces: list[tuple[str, int]]) -> tuple[str, str, list[Part]]:
    thoughts = Thoughts()
    parts = [part for piece in pieces for part in thoughts.feed([piece])] + thoughts.end()
    shown = [part for part in parts if part.origin != Origin.REJECTED]
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
    ("<think></think><think>more</think>two", "more", "two"),
    ("<think>one</think>\n<think>more</think>two", "one\n\nmore", "two"),
    ("</think>\n\ntwo", "", "two"),
    # Answers with marks of their own
    ("<|START_THINKING|>x<|END_THINKING|><|START_RESPONSE|>y<|END_RESPONSE|>", "x", "y"),
    ("y<|END_TEXT|>", "", "y"),
    ("<think>x</think>\n<answer>\ny\n</answer>", "x", "y\n"),
    ("<answer>y</answer>", "", "<answer>y</answer>"),
    ("<|think|>x<|end|><|begin|>assistant<|content|>y<|end|>", "x", "y"),
    ("<|open|>think<|sep|>x<|close|>think<|sep|><|open|>response<|sep|>y<|close|>response<|sep|>", "x", "y"),
    ("Here is my thought process:x Here is my response:\n\ny", "x ", "y"),
    ("Here is my cat", "", "Here is my cat"),
    ("Here are my reasoning steps:\nx\n[BEGIN FINAL RESPONSE]\ny\n[END FINAL RESPONSE]", "\nx\n", "y\n"),
    # Harmony, and what is like it
    ("<|channel|>final<|message|>y", "", "y"),
    ("<|channel|>commentary<|message|>y<|return|>", "", "y"),
    (
        "<|start|>assistant<|channel|>analysis<|message|>x<|end|><|start|>assistant<|channel|>final<|message|>y",
        "x",
        "y",
    ),
    (
        "<|channel|>analysis<|message|>x<|end|><|start|>assistant<|channel|>analysis<|message|>z<|end|>"
        "<|start|>assistant<|channel|>final <|constrain|>json<|message|>{}",
        "x\n\nz",
        "{}",
    ),
    (
        "<|channel|>analysis<|message|>x<|end|><|start|>assistant<|channel|>commentary<|message|>z<|end|>"
        "<|start|>assistant<|channel|>final<|message|>y",
        "x\n\nz",
        "y",
    ),
    (
        "<|channel|>analysis<|message|>x<|end|><|start|>assistant<|channel|>commentary<|message|>y<|end|>",
        "x",
        "y",
    ),
    (" to=self<|message|>x<|eom|><|start|>assistant to=user<|message|>y<|eot|>", "x", "y"),
    ("<|start|>", "", "<|start|>"),
    ("to be or not to be", "", "to be or not to be"),
    (
        "Write `<|channel|>` or\n```\n</think>\n<tool_call>{}\n```",
        "",
        "Write `<|channel|>` or\n```\n</think>\n<tool_call>{}\n```",
    ),
    # Calls of tools
    (
        'Let me look.\n<tool_call>\n{"name": "x",\n "a": [1]}\n</tool_call>\n'
        "<tool_call>\n{}\n</tool_call>\nDone.",
        "",
        'Let me look.\nTool call: `` {"name": "x", "a": [1]} ``\n\nTool call: `` {} ``\n\nDone.',
    ),
    (
        "<|channel|>analysis<|message|>x<|end|><|start|>assistant<|channel|>commentary to=functions.go "
        '<|constrain|>json<|message|>{"a":\n1}<|call|>',
        "x",
        'Tool call: `` go {"a": 1} ``',
    ),
    ('[TOOL_CALLS]go{"a": 1}', "", 'Tool call: `` go{"a": 1} ``'),
    ("<tool_call>go\n<arg_key>a</arg_key>", "", "Tool call: `` go <arg_key>a</arg_key> ``"),
    ("Such a <tool_call> tag", "", "Such a <tool_call> tag"),
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
                pieces.append((chance.choice(("</think>", "<think>", "no")), Origin.REJECTED))
        assert split(pieces)[:2] == (thought, answer)


def test_every_kind_of_mark_is_known_and_left_out() -> None:
    for opening, closing in MARKS.items():
        assert split([(f"{opening}in{closing}out", Origin.PLAIN)])[:2] == ("in", "out")
    for opening in (*MARKS, *PHRASES, ANALYSIS):
        assert opened_by(f"<|im_start|>assistant\n{opening}\n") == opening
    assert opened_by("assistant\n") == ""
    assert all(map(is_part_of_a_mark, ("<think>", "<|channel|>", "<|constrain|>", "<|sep|>", "[TOOL_CALLS]")))
    assert not any(map(is_part_of_a_mark, ("<|im_start|>", "<s>", "")))


def test_text_keeps_where_it_came_from_and_nothing_waits_that_is_certain() -> None:
    thoughts = Thoughts()
    assert thoughts.feed([("<thi", Origin.MAIN)]) == []
    assert thoughts.feed([("nk>so", Origin.DRAFT), ("far", Origin.REJECTED)]) == [
        Part(True, "so", Origin.DRAFT),
        Part(True, "far", Origin.REJECTED),
    ]
    assert thoughts.thinking
    assert thoughts.feed([(" good</thin", Origin.MAIN)]) == [Part(True, " good", Origin.MAIN)]
    assert thoughts.feed([("k>", Origin.DRAFT)]) == []
    assert not thoughts.thinking
    assert thoughts.feed([("\n\n", Origin.DRAFT)]) == []
    assert thoughts.feed([("Yes", Origin.MAIN)]) == [Part(False, "Yes", Origin.MAIN)]
    assert thoughts.feed([("<think>", Origin.MAIN)]) == [Part(False, "<think>", Origin.MAIN)]


def test_every_call_of_a_tool_is_one_line_without_its_marks() -> None:
    for opening, closing in CALLS.items():
        body = '\n{"name": "x",\n"y": "' + "long " * 200 + '"}\n'
        shown = without_thought(f"Look: {opening}{body}{closing}")
        assert shown.startswith('Look: \n\nTool call: `` {"name": "x", "y": "long long')
        assert shown.endswith("… ``")
        assert len(shown) < 250
        assert opening not in shown


@pytest.mark.parametrize("closing", dict.fromkeys(MARKS.values()))
def test_a_closing_mark_that_nothing_opened_makes_a_thought_of_what_stands_before_it(closing: str) -> None:
    text = f"ok so\n{closing}\n\nHi"
    thoughts = Thoughts()
    parts = [part for letter in text for part in thoughts.feed([(letter, Origin.MAIN)])] + thoughts.end()
    at = parts.index(TURNED)
    assert "".join(part.text for part in parts[:at]) == "ok so\n", "it is shown as it comes"
    assert "".join(part.text for part in parts[at:]) == without_thought(text) == "Hi"
    assert apart(text) == ("ok so", "Hi")
    assert without_thought(f"say `{closing}` so") == f"say `{closing}` so"


def test_only_the_first_thought_needs_no_opening_mark() -> None:
    for text in ("<think>x</think>a\n</think>\nb", "x\n</think>\na\n</think>\nb"):
        assert without_thought(text) == "a\n</think>\nb"
    assert without_thought("</think> is a mark\nhere: </think> too") == "is a mark\nhere: </think> too"


def test_thought_and_answer_apart_are_as_the_model_wrote_them() -> None:
    call = 'Look.\n<tool_call>\n{"a": 1}\n</tool_call>'
    assert apart(f"<think>\nhm\n</think>\n\n{call}") == ("hm", call)
    assert apart("<think>half") == ("half", "")
    assert apart(" plain\n") == ("", " plain\n")


def test_spans_cover_the_text_and_what_is_certain_stays_so() -> None:
    chance = random.Random(5)
    marks = [
        *MARKS,
        *MARKS.values(),
        *CALLS,
        *CALLS.values(),
        "<|start|>",
        "<|message|>",
        "<|channel|>final",
        "```\n",
    ]
    for _ in range(300):
        text = "".join(chance.choices([*marks, "a", " ", "\n", "<", "{"], k=chance.randrange(12)))
        whole = "".join(kind[0] * length for kind, length in SpanReader().feed(text, last=True))
        reading = SpanReader()
        spans = [span for letter in text for span in reading.feed(letter)] + [*reading.feed("", last=True)]
        assert sum(length for _, length in spans) == len(text)
        assert "".join(kind[0] * length for kind, length in spans) == whole, text


def test_the_answer_alone() -> None:
    assert without_thought("<think>\nlong\n</think>\n\nshort") == "short"
    assert without_thought("plain") == "plain"


@pytest.mark.parametrize(
    "begin",
    ["", "`", "a `b", "``` ", "  ~~~", " " * 300, " " * 300 + "``", "``", "`` `", "x```", "- a `` b `"],
    ids=ascii,
)
def test_a_long_line_is_kept_by_its_beginning_alone(begin: str) -> None:
    """Endless paragraphs would be copied with every word. Fences and open code count as before."""
    for middle in ("word " * 200, "`code` " * 101, "`" + "word " * 200, " " * 500):
        text = f"{begin}{middle}</think> `\n</think>\nb `</think>`"
        whole = Thoughts()
        expected = [*whole.feed([(f"Yes. {text}", 0)]), *whole.end()]
        parts, pieces = Thoughts(), []
        for at in range(0, len(text), 3):
            piece = ("Yes. " if not at else "") + text[at : at + 3]
            pieces += parts.feed([(piece, 0)])
            assert len(parts._reading._line) < 300
        pieces += parts.end()
        assert joined(pieces) == joined(expected)


def joined(parts: list[Part]) -> list[tuple[bool, int, str]]:
    """The parts, neighbors of one kind as one."""
    found: list[tuple[bool, int, str]] = []
    for part in parts:
        if found and found[-1][:2] == (part.thought, part.origin) and part is not TURNED:
            found[-1] = (*found[-1][:2], found[-1][2] + part.text)
        else:
            found.append((part.thought, part.origin, part.text))
    return found


def test_pieces_are_taken_in_order_and_rejected_ones_with_those_before() -> None:
    draw = random.Random(4)
    for _ in range(300):
        held = [
            ("x" * draw.randint(0, 3), draw.choice([Origin.PLAIN, Origin.DRAFT, Origin.REJECTED]))
            for _ in range(8)
        ]
        length, before = draw.randint(0, 12), list(held)
        taken = take(held, length)
        assert len(said(taken)) == min(length, len(said(before)))
        assert said(taken) + said(held) == said(before)
        rejected = [piece for piece in before if piece[1] == Origin.REJECTED]
        assert [piece for piece in (*taken, *held) if piece[1] == Origin.REJECTED] == rejected
        assert not held or held[0][1] != Origin.REJECTED
