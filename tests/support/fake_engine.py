"""An engine without a model, for the tests of its client: it dies, babbles or stays silent as it is told.

Run as a program. Only the first run misbehaves if `--once FILE` is given: the next one finds the file.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from tui import protocol
from tui.protocol import Event

WORDS = ("one ", "two ", "three ")
MODEL = protocol.ModelFacts("fake", "", "none", 0, "none", 0, 0, 0)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--die", default="")
    parser.add_argument("--at", default="")
    parser.add_argument("--once", type=Path)
    parser.add_argument("--before-hello", type=base64.b64decode, default=b"")
    parser.add_argument("--protocol", type=int, default=protocol.PROTOCOL)
    parser.add_argument("--in-answer", type=base64.b64decode, default=b"")
    parser.add_argument("--stderr", type=base64.b64decode, default=b"")
    parser.add_argument("--stderr-flood", type=int, default=0)
    parser.add_argument("--garbage", type=Path)
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--bytewise", action="store_true")
    parser.add_argument("--cancels", type=Path, help="where to write what was cancelled")
    parser.add_argument("--until-cancelled", action="store_true")
    parser.add_argument("--stubborn", action="store_true")
    parser.add_argument("--grandchild", action="store_true")
    return parser.parse_args()


def write(data: bytes, bytewise: bool = False) -> None:
    for piece in [data[i : i + 1] for i in range(len(data))] if bytewise else [data]:
        sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()


def round_of(text: str) -> protocol.TextRound:
    return protocol.TextRound(((text, protocol.Origin.PLAIN),), (1,), 0, 0, 0, 0.1, 0.0, 0.1, 1)


def rounds_of(answer: int, text: str) -> protocol.Rounds:
    return protocol.Rounds(answer, (round_of(text),))


class Engine:
    def __init__(self, how: argparse.Namespace) -> None:
        self.how = how
        self.waiting: list[int] = []
        """Questions that another one will have answered."""
        self.bad = how.once is None or not how.once.exists()
        if how.once is not None:
            how.once.touch()

    def serve(self, lines: Iterable[bytes]) -> None:
        how = self.how
        if how.grandchild:
            child = subprocess.Popen(["sleep", "60"])
            how.stderr = json.dumps({"grandchild": child.pid}).encode()
        if self.bad:
            sys.stderr.buffer.write(how.stderr + b"\x1b[2J" * (how.stderr_flood // 4))
            sys.stderr.flush()
            write(how.before_hello)
        self.die_at("handshake")
        self.send(protocol.Hello(how.protocol, "fake", os.getpid()))
        for line in lines:
            self.do(protocol.decode_command(line))

    def do(self, command: protocol.Command) -> None:
        match command:
            case protocol.Ping():
                self.send(protocol.Pong())
                self.die_at("idle")
            case protocol.Load():
                self.send(protocol.Loading("Reading", 0.5))
                self.die_at("load")
                if self.how.at == "loaded":
                    return
                self.send(protocol.Loaded(MODEL, None, None, "fake", "none", 100, None, 0.0))
            case protocol.Unload():
                self.send(protocol.Unloaded())
            case protocol.Generate(id=answer):
                self.answer(answer, command.messages[0].content)
            case protocol.ListHub():
                self.list(command.id, command.repository)
            case protocol.Cancel(id=answer) if self.how.cancels:
                self.how.cancels.write_text(str(answer))
            case protocol.Cancel(id=answer) if self.how.until_cancelled:
                self.send(protocol.Finished(answer, "cancelled", protocol.Statistics()))
            case protocol.Quit() if not self.how.stubborn:
                sys.exit(0)

    def answer(self, answer: int, prompt: str) -> None:
        if prompt == "fail":
            self.send(protocol.Failed(answer, "It\x1b[2J failed", "Do something"))
            return
        self.send(protocol.Prefill(answer, 1, 2))
        self.die_at("prefill")
        for text in [*WORDS, *map(str, range(self.how.rounds))]:
            self.send(rounds_of(answer, text))
        self.die_at("round")
        if self.bad:
            write(self.how.garbage.read_bytes() if self.how.garbage else self.how.in_answer)
        self.die_at("after")
        if not self.how.until_cancelled:
            self.send(protocol.Finished(answer, "stop", protocol.Statistics()))

    def list(self, question: int, repository: str) -> None:
        self.die_at("question")
        if repository == "fail":
            self.send(protocol.Failed(question, "No such thing", "Look again"))
        elif repository == "wait":
            self.waiting.append(question)
        else:
            for number in (question, *self.waiting):
                self.send(protocol.HubListed(number, str(number), (), "", 0))

    def send(self, event: Event) -> None:
        write(protocol.encode(event), self.how.bytewise)

    def die_at(self, place: str) -> None:
        if not self.bad or self.how.at != place or not self.how.die:
            return
        if self.how.die == "mute":
            os.close(1)
        if self.how.die in ("hang", "mute"):
            time.sleep(60)
        if self.how.die.startswith("exit"):
            os._exit(int(self.how.die.removeprefix("exit")))
        os.kill(os.getpid(), signal.Signals["SIG" + self.how.die.upper()])


if __name__ == "__main__":
    how = arguments()
    if how.stubborn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Engine(how).serve(iter(sys.stdin.buffer.readline, b""))
