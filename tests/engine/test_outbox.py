"""Events on their way out: rounds are joined, nothing else waits, and nobody waits for a reader."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tui.engine import outbox
from tui.engine.outbox import MOST, Outbox
from tui.protocol import Event, Finished, Notice, Pong, Prefill, Rounds, Statistics, TextRound, decode_event

pytestmark = pytest.mark.alone


def one(number: int) -> TextRound:
    return TextRound(((str(number), 0),), (number,), 0, 0, 0, 0.01, 0.0, 0.01, number)


def rounds(begin: int, end: int, answer: int = 1) -> list[Event]:
    return [Rounds(answer, (one(number),)) for number in range(begin, end)]


class Pipe:
    """An outbox and the other end of its pipe."""

    def __init__(self) -> None:
        self.source, self.sink = os.pipe()
        self.outbox = Outbox(self.sink)
        self._writer = threading.Thread(target=self._write, daemon=True)
        self._writer.start()
        self._file = os.fdopen(self.source, "rb")

    def _write(self) -> None:
        with suppress(OSError):
            self.outbox.write()

    def put(self, *events: Event) -> None:
        for event in events:
            self.outbox.put(event)

    def line(self) -> bytes:
        return self._file.readline()

    def next(self) -> Event:
        return decode_event(self.line())

    def close(self) -> None:
        self._file.close()
        self.put(Pong())  # at which it ends, as nobody reads
        self._writer.join(5)
        os.close(self.sink)


FRAME = 0.5
"""Seconds; longer than the real one, so that a busy machine is no fault."""


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipe]:
    monkeypatch.setattr(outbox, "FRAME", FRAME)
    made = Pipe()
    yield made
    made.close()


def test_the_first_round_does_not_wait_and_the_next_ones_come_as_one_line(pipe: Pipe) -> None:
    began = time.monotonic()
    pipe.put(Prefill(1, 9, 9), *rounds(0, 1))
    assert pipe.next() == Prefill(1, 9, 9)
    assert pipe.next() == Rounds(1, (one(0),))
    assert time.monotonic() - began < FRAME / 2
    pipe.put(*rounds(1, 5))
    assert pipe.next() == Rounds(1, tuple(map(one, range(1, 5))))
    assert FRAME / 2 < time.monotonic() - began < 10 * FRAME


def test_whoever_puts_a_round_that_is_due_writes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "FRAME", FRAME)
    source, sink = os.pipe()
    alone = Outbox(sink)  # without a thread that writes
    with os.fdopen(source, "rb") as lines:
        for place in (0, 2, 4):
            for event in rounds(place, place + 2):
                alone.put(event)
            time.sleep(FRAME)
        os.close(sink)
        came = [decode_event(line) for line in lines]
    wanted = [rounds(0, 1)[0], Rounds(1, (one(1), one(2))), Rounds(1, (one(3), one(4)))]
    assert came == wanted, "the last one waits for the next"


def test_nothing_else_waits_and_all_stays_in_order(pipe: Pipe) -> None:
    pipe.put(*rounds(0, 1))
    pipe.next()
    began = time.monotonic()
    finished = Finished(1, "stop", Statistics())
    pipe.put(*rounds(1, 3), Notice(1, "x"), *rounds(3, 4), *rounds(4, 6, answer=2), finished)
    came: list[Event] = []
    while not came or came[-1] != finished:
        came.append(pipe.next())
    assert time.monotonic() - began < FRAME / 2
    flat = [
        event
        for each in came
        for event in ([(each.id, told) for told in each.rounds] if isinstance(each, Rounds) else [each])
    ]
    wanted = [(1, one(1)), (1, one(2)), Notice(1, "x"), (1, one(3)), (2, one(4)), (2, one(5)), finished]
    assert flat == wanted


def test_who_puts_never_waits_for_a_reader_that_does_not_read(pipe: Pipe) -> None:
    began = time.monotonic()
    count = 20 * MOST
    pipe.put(*rounds(0, count))
    assert time.monotonic() - began < 2, "a pipe holds 64 KiB of this megabyte"
    pipe.put(Pong())
    seen: list[int] = []
    while not isinstance(event := pipe.next(), Pong):
        assert isinstance(event, Rounds)
        assert len(event.rounds) <= MOST
        seen += [each.context_used for each in event.rounds]
    assert seen == list(range(count))


def test_a_round_for_a_full_pipe_is_left_to_the_thread(pipe: Pipe) -> None:
    os.set_blocking(pipe.sink, False)
    with suppress(BlockingIOError):
        while True:
            os.write(pipe.sink, b" " * 4095 + b"\n")
    os.set_blocking(pipe.sink, True)
    putting = threading.Thread(target=pipe.put, args=rounds(0, 1), daemon=True)
    putting.start()
    putting.join(5)
    assert not putting.is_alive()
    while not (line := pipe.line().strip()):
        pass
    assert decode_event(line) == rounds(0, 1)[0]


def test_no_round_is_written_into_a_line_that_the_thread_is_at(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    halfway, go_on, write = threading.Event(), threading.Event(), os.write

    def slow(sink: int, data: memoryview) -> int:
        if halfway.is_set():
            return write(sink, data)
        written = write(sink, data[:5])
        halfway.set()
        go_on.wait(5)
        return written

    monkeypatch.setattr("tui.engine.outbox.os.write", slow)
    pipe.put(Notice(1, "x" * 100))
    halfway.wait(5)
    pipe.put(*rounds(0, 1))
    go_on.set()
    assert pipe.next() == Notice(1, "x" * 100)
    assert pipe.next() == rounds(0, 1)[0]


def test_last_words_are_written_before_the_end_unless_nobody_reads(pipe: Pipe) -> None:
    pipe.put(*rounds(0, 50), Pong())
    pipe.outbox.drain(5)
    os.set_blocking(pipe.source, False)
    came: list[Event] = []
    while not came or came[-1] != Pong():
        came.append(pipe.next())
    pipe.put(*rounds(0, 10_000))
    began = time.monotonic()
    pipe.outbox.drain(0.2)
    assert 0.1 < time.monotonic() - began < 2


def test_a_reader_that_is_gone_is_an_error() -> None:
    source, sink = os.pipe()
    os.close(source)
    nobody = Outbox(sink)
    nobody.put(Pong())
    with pytest.raises(OSError, match="Broken pipe"):
        nobody.write()
    os.close(sink)
