"""Exact mode put to the test: are the token ids of drafted answers those of plain decoding, in every case?

    python -m tools.bench.exact MAIN DRAFT RESULTS.jsonl [--threads 2] [--prompts 40] [--tokens 256]

Each prompt is answered plainly in one go, then with the policy's draft lengths with lookup, as in the chat.
The drafted answer is stopped after a third; another question is answered in its place, which branches the
chat; it goes on and is stopped again; every fourth time both models are loaded anew; it goes on to its end.
Every fourth prompt ends a chat of several turns: one of some 500 tokens, or of some 1,500.

RESULTS is added to, a line for each answer, and what it holds is not asked again. It takes no times, so a
busy machine does no harm.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import count
from math import inf
from pathlib import Path
from time import monotonic

from msgspec.structs import replace

from tools.bench.record import PROMPTS
from tui.choices import AUTO
from tui.client.parting import first_difference
from tui.commands.bench.plan import read_prompts
from tui.engine.session import Session
from tui.protocol import Event, Finished, Generate, Load, Loaded, Message, Rounds, Sampling, Unload

_EVERY = 4
"""Each time so many prompts: one in a longer chat, and one whose models are loaded anew."""
_CHATS = (500, 1500)
_WORDS = ("the red lamp", "a small boat", "two old maps", "the north gate", "one blue stone", "a tall clock")


@dataclass(frozen=True)
class Compared:
    """A drafted answer beside the plain one."""

    main: str
    prompt: str
    context: int
    """Tokens of the chat before the answer."""
    temperature: float
    threads: int
    tokens: int
    parted: int | None
    """The first place where they differ."""
    accepted: int
    """Drafted tokens that were accepted."""

    @property
    def case(self) -> tuple[object, ...]:
        return (self.main, self.prompt, self.temperature, self.threads)


class Asked:
    """A session in exact mode that can be stopped in the middle of an answer."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._load = Load(
            str(options.main), str(options.draft), options.context, threads=options.threads, exact=True
        )
        self._numbers = count(1)
        self._tokens: list[int] = []
        self._most = 0
        self.accepted = self.prompt = 0
        self._session = Session(self._hear, lambda number: number > 0 and len(self._tokens) >= self._most)
        self.load()

    def load(self) -> Loaded:
        """Both models, anew where they are loaded already."""
        self._tokens, self._most = [], sys.maxsize
        self._session.do(Unload())
        self._session.do(self._load)
        if not isinstance(self._last, Loaded):
            raise SystemExit(str(self._last))
        return self._last

    def _hear(self, event: Event) -> None:
        self._last = event
        if isinstance(event, Rounds):
            for each in event.rounds:
                self._tokens += each.tokens
                self.accepted += each.accepted

    def ask(self, question: Generate, most: int = sys.maxsize) -> list[int]:
        """The tokens that come, stopped behind about `most` of them."""
        self._tokens, self._most = [], most
        self._session.do(replace(question, id=next(self._numbers)))
        if not isinstance(self._last, Finished):
            raise SystemExit(str(self._last))
        self.prompt = max(self.prompt, self._last.statistics.prompt_tokens)
        return self._tokens

    def close(self) -> None:
        self._session.close()


def chats(options: argparse.Namespace) -> list[tuple[Message, ...]]:
    """The conversations, each up to the question that is asked."""
    texts = [each.text for each in read_prompts()] + list(PROMPTS.values())
    texts += [f"{text} Answer in other words than you would at first." for text in texts]
    found = []
    for number, text in enumerate(texts[: options.prompts]):
        before: tuple[Message, ...] = ()
        if number % _EVERY == _EVERY - 1:
            items = range(_CHATS[number // _EVERY % 2] // 13)
            listed = " ".join(f"Item {i} of list {number} is {_WORDS[i * 7 % len(_WORDS)]}." for i in items)
            before = (Message("user", f"Remember this list. {listed}"), Message("assistant", "I will."))
        found.append((*before, Message("user", text)))
    return found


def compared(
    asked: Asked, chat: Sequence[Message], temperature: float, number: int, options: argparse.Namespace
) -> Compared:
    """One prompt, answered plainly and then drafted, with all that may come between."""
    question = Generate(
        id=0,
        messages=tuple(chat),
        seed=number,
        sampling=Sampling(temperature=temperature),
        max_tokens=options.tokens,
        draft_length=0,
        lookup=False,
        fresh=True,
    )
    asked.prompt = 0
    plain = list(asked.ask(question))
    asked.accepted = 0
    drafting = replace(question, draft_length=AUTO, lookup=True, fresh=False)
    drafted = list(asked.ask(replace(drafting, fresh=True), most=len(plain) // 3))
    branch = replace(drafting, messages=(*chat[:-1], Message("user", "Say hello.")), max_tokens=8)
    asked.ask(branch)
    most = max(1, len(plain) // 3)
    while len(drafted) < len(plain):
        rest = options.tokens - len(drafted)
        going_on = replace(drafting, resume=tuple(drafted), max_tokens=rest)
        if not (more := asked.ask(going_on, most)):
            break
        drafted += more
        most = sys.maxsize
        if number % _EVERY == 1:
            asked.load()
    place = first_difference([tuple(plain), tuple(drafted)])
    return Compared(
        options.main.stem,
        chat[-1].content,
        asked.prompt,
        temperature,
        options.threads,
        len(plain),
        place,
        asked.accepted,
    )


def main() -> None:
    def floats(text: str) -> list[float]:
        return [float(part) for part in text.split(",")]

    parser = argparse.ArgumentParser(description="Whether exact mode keeps its word.")
    add = parser.add_argument
    add("main", type=Path)
    add("draft", type=Path)
    add("results", type=Path, help="a file of JSON lines, made or added to")
    add("--threads", type=int, default=os.cpu_count() or 1)
    add("--prompts", type=int, default=40)
    add("--temperatures", type=floats, default=[0.0, 0.8])
    add("--tokens", type=int, default=256, help="of an answer, at most")
    add("--context", type=int, default=4096)
    add("--minutes", type=float, default=inf, help="begin no answer after so many")
    options = parser.parse_args()
    until = monotonic() + 60 * options.minutes
    lines = options.results.read_text("utf-8").splitlines() if options.results.exists() else []
    results = [Compared(**json.loads(line)) for line in lines]
    done = {each.case for each in results}
    asked = Asked(options)
    for number, chat in enumerate(chats(options)):
        for temperature in options.temperatures:
            case = (options.main.stem, chat[-1].content, temperature, options.threads)
            if case in done or monotonic() > until:
                continue
            found = compared(asked, chat, temperature, number, options)
            results.append(found)
            with options.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(found)) + "\n")
            parted = "equal" if found.parted is None else f"PARTED at token {found.parted + 1}"
            print(
                f"{chat[-1].content[:40]!r} at {temperature:g}: {found.tokens} tokens, {parted}", flush=True
            )
    asked.close()
    partings = sum(each.parted is not None for each in results)
    tokens, accepted = (sum(getattr(each, name) for each in results) for name in ("tokens", "accepted"))
    print(f"{partings} of {len(results)} answers part; {tokens} tokens, {accepted} accepted from drafts")


if __name__ == "__main__":
    main()
