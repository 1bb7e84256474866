"""An engine without a model for the tests of `outrider bench`: exact speeds, and one prompt that goes wrong.

Run as a program. `--fail TEXT` and its like concern the prompts that begin with TEXT.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter

from tui import protocol
from tui.protocol import Generate, Load, ModelFacts, Statistics

TEXT = (1, 2, 3, 4)
OTHER = (1, 2, 9, 4)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--fail", help="these prompts fail")
    parser.add_argument("--die", help="these prompts end the process")
    parser.add_argument("--notice", help="these prompts lose their draft")
    parser.add_argument("--differ", help="these prompts have another text with a draft")
    parser.add_argument("--idle", help="nothing is drafted for these prompts, because it does not pay")
    parser.add_argument("--refuse", help="drafts that cannot be used")
    parser.add_argument("--after", type=int, default=0, help="first answers to each prompt that are right")
    return parser.parse_args()


class Engine:
    def __init__(self, how: argparse.Namespace) -> None:
        self.how = how
        self.asked: Counter[str] = Counter()

    def do(self, command: protocol.Command) -> None:
        match command:
            case protocol.Ping():
                send(protocol.Pong())
            case Load():
                self.load(command)
            case Generate():
                self.answer(command)
            case protocol.Inspect():
                close = protocol.TokenInspection(
                    0.4, 0.4, True, (), rival="b", lead=0.02, rounding=0.08, tipped=True
                )
                send(protocol.Inspected(command.id, places=(close,)))
            case protocol.Quit():
                sys.exit(0)

    def load(self, command: Load) -> None:
        rejected = self.how.refuse is not None and self.how.refuse in command.draft
        draft = model(command.draft) if command.draft and not rejected else None
        why = protocol.Obstacle("load", "it does not fit") if rejected else None
        send(protocol.Loaded(model(command.main), draft, why, "fake", "none", 100, None, 0.0))

    def answer(self, command: Generate) -> None:
        drafted = command.draft_length != 0
        self.asked[command.messages[0].content] += 1
        if self.goes("die", command):
            os._exit(3)
        if self.goes("fail", command):
            send(protocol.Failed(command.id, "It failed", "Do something"))
            return
        if self.goes("notice", command) and drafted:
            send(protocol.Notice(command.id, "It goes on without a draft."))
        tokens = OTHER if drafted and self.goes("differ", command) else TEXT
        idle = drafted and self.goes("idle", command)
        if idle:
            send(protocol.NotDrafting(command.id, protocol.Obstacle("policy", "does not pay")))
        proposed, accepted = (4, 3) if drafted and not idle else (0, 0)
        happened = protocol.TextRound((), tokens, proposed, 0, accepted, 0.1, 0.0, 0.1, 1)
        send(protocol.Rounds(command.id, (happened,)))
        speed = 20.0 if drafted else 10.0
        cost = Statistics(
            tokens=4, rounds=1, drafted=proposed, accepted=accepted,
            tokens_per_second=speed, time_to_first_token=0.1, peak_memory=1,
        )  # fmt: skip
        send(protocol.Finished(command.id, "length", cost))

    def goes(self, wrong: str, command: Generate) -> bool:
        start, prompt = getattr(self.how, wrong), command.messages[0].content
        return start is not None and prompt.startswith(start) and self.asked[prompt] > self.how.after


def model(name: str) -> ModelFacts:
    return ModelFacts(name, name, "none", 0, "none", 0, 0, 0)


def send(event: protocol.Event) -> None:
    sys.stdout.buffer.write(protocol.encode(event))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    send(protocol.Hello(protocol.PROTOCOL, "fake", os.getpid()))
    engine = Engine(arguments())
    for line in sys.stdin.buffer:
        engine.do(protocol.decode_command(line))
