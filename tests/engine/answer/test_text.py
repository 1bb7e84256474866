"""Text as it comes: the same whoever drafts and wherever tokens cut it."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import pytest

from tui.engine.answer.text import Piece, TextStream, readable
from tui.protocol import Origin

SAMPLES = [
    "plain",
    "naïve café, 100 €",
    "👩‍👩‍👧‍👦 family, flag 🇩🇪, 👍🏽",
    "ภาษาไทย สวัสดี",
    "日本語と한국어",
    "e\u0301 combining",
]


def run(
    parts: Sequence[bytes], stop: Sequence[str] = (), origins: Sequence[Origin] = ()
) -> tuple[list[Piece], TextStream]:
    """Feed `parts` as tokens, one after the other, and flush."""
    stream = TextStream(lambda token: parts[token], stop)
    pieces: list[Piece] = []
    for token in range(len(parts)):
        pieces += stream.feed(token, origins[token] if origins else Origin.PLAIN)
        if stream.stopped:
            return pieces, stream
    return pieces + stream.flush(), stream


def joined(pieces: Sequence[Piece]) -> str:
    return "".join(piece.text for piece in pieces if piece.origin is not Origin.REJECTED)


def cuts(data: bytes, *places: int) -> list[bytes]:
    return [data[a:b] for a, b in itertools.pairwise([0, *places, len(data)])]


@pytest.mark.parametrize("text", SAMPLES)
def test_a_text_cut_at_any_two_bytes_is_the_same_text(text: str) -> None:
    data = text.encode()
    for places in itertools.combinations_with_replacement(range(len(data) + 1), 2):
        assert joined(run(cuts(data, *places))[0]) == text
    assert joined(run([bytes([byte]) for byte in data])[0]) == text


def test_bytes_that_are_no_text_are_replaced_as_in_one_piece() -> None:
    chance = random.Random(1)
    for _ in range(300):
        data = chance.randbytes(chance.randrange(1, 40))
        data = data if chance.random() < 0.5 else "é€🚀".encode()[: chance.randrange(9)] + data
        places = sorted(chance.choices(range(len(data) + 1), k=chance.randrange(8)))
        assert joined(run(cuts(data, *places))[0]) == data.decode("utf-8", "replace")


def test_no_piece_is_ever_half_a_character() -> None:
    for text in SAMPLES:
        for piece in run([bytes([byte]) for byte in text.encode()])[0]:
            assert "\ufffd" not in piece.text


def test_a_character_has_the_origin_of_its_last_byte() -> None:
    rocket = "🚀".encode()
    for at in (1, 2, 3):
        pieces, _ = run([b"a" + rocket[:at], rocket[at:] + b"b"], origins=[Origin.DRAFT, Origin.MAIN])
        assert pieces == [("a", Origin.DRAFT), ("🚀b", Origin.MAIN)]


def test_tokens_of_one_origin_stay_pieces_of_their_own() -> None:
    assert [piece.text for piece in run([b"one", b" two", b" three"])[0]] == ["one", " two", " three"]


def reference(text: str, stop: Sequence[str]) -> str:
    """What is left of `text`, read character by character."""
    for end in range(len(text) + 1):
        matches = [end - len(s) for s in stop if s and text[:end].endswith(s)]
        if matches:
            return text[: min(matches)]
    return text


STOPS = [["###"], ["\n\nUser:"], ["ab", "abc", "b"], ["aab"], ["é€🚀"], ["end", "nd."], ["x"], ["", "ab"]]


@pytest.mark.parametrize("stop", STOPS, ids=str)
def test_a_stop_string_is_found_wherever_tokens_cut_it(stop: list[str]) -> None:
    for text in ["Say aaab and é€🚀 end. ###", "\n\nUs\n\nUser: hi", "aaaab", "####", "b", "nothing here"]:
        data = text.encode()
        for places in itertools.combinations_with_replacement(range(len(data) + 1), 2):
            pieces, stream = run(cuts(data, *places), stop)
            assert joined(pieces) == reference(text, stop), places
            assert stream.stopped == (reference(text, stop) != text)


def test_random_streams_stop_as_read_character_by_character() -> None:
    chance = random.Random(2)
    for _ in range(2000):
        text = "".join(chance.choices("ab€", k=chance.randrange(12)))
        stop = [
            "".join(chance.choices("ab€", k=chance.randrange(1, 5))) for _ in range(chance.randrange(1, 4))
        ]
        data = text.encode()
        places = sorted(chance.choices(range(len(data) + 1), k=chance.randrange(6)))
        assert joined(run(cuts(data, *places), stop)[0]) == reference(text, stop), (text, stop, places)


def test_only_what_may_become_a_stop_string_is_held_back() -> None:
    stream = TextStream(lambda token: b"abcdSTOX."[token : token + 1], ["STOP"])
    shown = ["".join(piece.text for piece in stream.feed(token, Origin.PLAIN)) for token in range(9)]
    assert shown == ["a", "b", "c", "d", "", "", "", "STOX", "."]


def test_what_was_held_back_comes_out_at_the_end_with_its_origins() -> None:
    parts = [b"go S", b"TO"]
    pieces, stream = run(parts, ["STOP"], [Origin.DRAFT, Origin.MAIN])
    assert pieces == [("go ", Origin.DRAFT), ("S", Origin.DRAFT), ("TO", Origin.MAIN)]
    assert not stream.stopped


def test_nothing_comes_behind_a_stop_string_not_even_half_a_character() -> None:
    pieces, stream = run([b"a STOP" + "🚀".encode()[:2]], ["STOP"])
    assert pieces == [("a ", Origin.PLAIN)]
    assert stream.flush() == []


def drafted(parts: Sequence[bytes], length: int, stop: Sequence[str], seed: int) -> list[Piece]:
    """The tokens of `parts` in rounds in which a random number of `length` drafted ones is accepted."""
    chance, wrong = random.Random(seed), len(parts)
    stream = TextStream([*parts, "wröng".encode(), b"\xf0\x9f"].__getitem__, stop)
    pieces: list[Piece] = []
    at = 0
    while at < len(parts):
        accepted = min(chance.randint(0, length), len(parts) - at - 1)
        for token in range(at, at + accepted):
            pieces += stream.feed(token, Origin.DRAFT)
            if stream.stopped:
                return pieces
        pieces += stream.rejected([wrong, wrong + 1][: length - accepted])
        at += accepted
        pieces += stream.feed(at, Origin.MAIN if length else Origin.PLAIN)
        if stream.stopped:
            return pieces
        at += 1
    return pieces + stream.flush()


@pytest.mark.parametrize("length", [0, 1, 2, 4, 16])
def test_rejected_tokens_never_change_the_text(length: int) -> None:
    for seed, text, stop in itertools.product(range(10), SAMPLES, [[], ["cafe", "สวัส"], ["한국어!"], ["n"]]):
        data = text.encode()
        chance = random.Random(seed)
        places = sorted(chance.sample(range(1, len(data)), min(12, len(data) - 1)))
        assert joined(drafted(cuts(data, *places), length, stop, seed)) == reference(text, stop)


def test_rejected_text_stands_where_it_was_rejected() -> None:
    stream = TextStream([b"S", b"to", b"T", b"OP", b"x"].__getitem__, ["STOP"])
    assert stream.feed(0, Origin.DRAFT) == []
    assert stream.rejected([1]) == [], "behind text that is not shown yet"
    assert stream.feed(4, Origin.MAIN) == [("S", Origin.DRAFT), ("to", Origin.REJECTED), ("x", Origin.MAIN)]


def test_a_rejected_token_may_complete_the_character_that_the_answer_began() -> None:
    rocket, tent = "🚀".encode(), "⛺".encode()
    stream = TextStream([rocket[:3], rocket[3:], b"\x81", tent[:2]].__getitem__)
    assert stream.feed(0, Origin.DRAFT) == []
    assert stream.rejected([]) == [], "half a character is the answer's"
    assert stream.rejected([2]) == [("🚁", Origin.REJECTED)]
    assert stream.feed(1, Origin.MAIN) == [("🚀", Origin.MAIN)]
    assert stream.rejected([3]) == [("\ufffd", Origin.REJECTED)]
    assert stream.flush() == []


THOUGHTS = [
    ("<think>\nWhy? Stop: no.\n\nso\n</think>\n\n42", ["Stop:", "\n\n"], None),
    ("<think>\nhm\n</think>\n\n42\n\nStop: more", ["Stop:"], "42\n\n"),
    (
        "<|channel|>analysis<|message|>Stop:<|start|>assistant<|channel|>final<|message|>4Stop:2",
        ["Stop:"],
        "4",
    ),
    ("Stop: at once", ["Stop:"], ""),
    ("a <b> Stop:", ["<b>"], "a "),
]


@pytest.mark.parametrize(("text", "stop", "left"), THOUGHTS)
def test_a_stop_string_ends_an_answer_and_no_thought(text: str, stop: list[str], left: str | None) -> None:
    for size in (1, 2, 3, 7, 100):
        parts = [text.encode()[at : at + size] for at in range(0, len(text.encode()), size)]
        pieces, stream = run(parts, stop)
        shown = joined(pieces)
        assert stream.stopped == (left is not None)
        assert shown == (
            text if left is None else text[: text.rfind(left + next(s for s in stop if s in text))] + left
        )


def test_a_thought_that_the_template_opened_is_one() -> None:
    parts = [b"hm Stop: hm\n", b"</think>\n\n4", b"2Stop: x"]
    stream = TextStream(parts.__getitem__, ["Stop:"], opening="<think>\n")
    shown = joined([piece for token in range(3) for piece in stream.feed(token, Origin.PLAIN)])
    assert (shown, stream.stopped) == ("hm Stop: hm\n</think>\n\n42", True)


def test_what_ends_everywhere_ends_a_thought_too() -> None:
    parts = [b"<think>hm", b"<|im_", b"end|>x"]
    stream = TextStream(parts.__getitem__, ["never"], ["<|im_end|>"])
    shown = joined([piece for token in range(3) for piece in stream.feed(token, Origin.PLAIN)])
    assert (shown, stream.stopped) == ("<think>hm", True)


class Named:
    """A vocabulary of control tokens and letters."""

    control_tokens = frozenset(range(4))
    end_tokens = frozenset((3,))
    texts = ("<|START_THINKING|>", "<|no_such|>", "<|im_start|>", "<|im_end|>", "a")

    def piece(self, token: int) -> bytes:
        return self.texts[token].encode()


def test_control_tokens_stand_by_name_where_that_means_something_and_else_as_a_border() -> None:
    plain = readable(Named())  # type: ignore[arg-type]
    assert [plain(token) for token in range(5)] == [b"<|START_THINKING|>", b"\n", b"\n", b"", b"a"]
    stopping = readable(Named(), ["<|im_end|>", "x<|im_start|>"])  # type: ignore[arg-type]
    assert [stopping(token) for token in range(5)][1:4] == [b"\n", b"<|im_start|>", b"<|im_end|>"]


def test_the_space_of_the_tokenizer_goes_once() -> None:
    stream = TextStream([b"", b" Hi", b" you"].__getitem__, spaced=True)
    assert joined([piece for token in range(3) for piece in stream.feed(token, Origin.PLAIN)]) == "Hi you"


def test_a_token_outside_the_vocabulary_is_an_index_error() -> None:
    with pytest.raises(IndexError):
        TextStream([b"a"].__getitem__).feed(1, Origin.PLAIN)
