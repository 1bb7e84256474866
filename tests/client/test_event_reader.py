"""The bytes of an engine as events: text of a login shell first, then a greeting, then events of any size."""

from __future__ import annotations

import pytest

from tui.client.event_reader import NOISE, EventReader
from tui.protocol import PROTOCOL, Hello, Pong, ProtocolError, encode

HELLO = Hello(PROTOCOL, "1.0", 7)


def test_text_before_the_greeting_is_skipped_also_on_its_line() -> None:
    reader = EventReader()
    assert list(reader.feed(b"Welcome to gpu2\nYou have mail\n")) == []
    assert list(reader.feed(b"\x1b[0m$ " + encode(HELLO) + encode(Pong()))) == [HELLO, Pong()]


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_events_in_pieces_of_any_size_are_the_same(size: int) -> None:
    reader, data = EventReader(), b"motd\n" + encode(HELLO) + encode(Pong()) * 3
    found = [event for at in range(0, len(data), size) for event in reader.feed(data[at : at + size])]
    assert found == [HELLO, *[Pong()] * 3]


def test_a_shell_that_never_ends_its_text_is_an_error() -> None:
    reader = EventReader()
    with pytest.raises(ProtocolError):
        for _ in range(NOISE // 100 + 2):
            assert list(reader.feed(b"x" * 99 + b"\n")) == []


def test_after_the_greeting_a_line_may_be_long_but_must_be_an_event() -> None:
    reader = EventReader()
    assert list(reader.feed(encode(HELLO))) == [HELLO]
    assert list(reader.feed(b" " * (2 * NOISE) + encode(Pong()))) == [Pong()]
    with pytest.raises(ProtocolError):
        list(reader.feed(b"Welcome back\n"))
