"""Does a chat that wakes go on with the text of one that never stopped? Counted over many chats.

    python -m tools.bench.wakes [--kinds attention,window] [--main FILE --draft FILE] [--chats 100] [--exact]

A session that saves nothing answers half a question, continues the answer and takes a next question, without
a pause. The same happens with a wake before each step: in sessions that load the chat from the disk, and in
one that has other chats in between and takes it from memory. The texts are compared token by token. The first
column compares the continued answer of the unbroken session with an answer in one go: this is no wake, but
drafted rounds begin elsewhere, and other numbers of rows round differently. Where two texts part, the main
model is asked whether rounding explains it, as in the race of drafts. The models are toys, or `--main` with
`--draft`. It takes no times, so a busy machine does no harm.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import structs

from tests.support.assistant_models import ASSISTANT, Gemma, write_assistant, write_gemma
from tests.support.head_models import Headed, write_headed
from tests.support.models import Toy, write_model
from tui.choices import HEAD, NONE
from tui.client.parting import can_part, first_difference
from tui.engine.session import Session
from tui.protocol import (
    CacheType,
    Event,
    Failed,
    Finished,
    Generate,
    Inspect,
    Inspected,
    Load,
    Loaded,
    Message,
    Rounds,
    Sampling,
)

DRAFTS = ("none", "model", "head", "lookup")
WAYS = ("unbroken", "rest, disk", "rest, memory", "next turn, disk", "next turn, memory")
_ROOM = 1 << 34
_TOGETHER = 4
"""Chats that are in memory at a time."""
_STORY = "The river rises in the hills, and the people of the valley say that it is older than the hills. "


class Files(NamedTuple):
    main: str
    draft: str
    words: str
    """Text behind each question."""


@dataclass(frozen=True)
class Kind:
    """A kind of cache, and the models that have it."""

    make: Callable[[Path], Files]
    cache_type: CacheType = "f16"
    head: Callable[[Path], Files] | None = None
    """Makes a main model with a head; None if no toy of this kind has one."""


def _gguf(architecture: str) -> Callable[[Path], Files]:
    def make(folder: Path) -> Files:
        toy = Toy(architecture, heads=2, context_length=1024)  # type: ignore[arg-type]
        small = replace(toy, layers=1, architecture="gemma3" if architecture == "gemma3" else "llama")
        main = write_model(folder / "main.gguf", toy)
        return Files(str(main), str(write_model(folder / "draft.gguf", small)), "")

    return make


def _mlx(architecture: str) -> Callable[[Path], Files]:
    def make(folder: Path) -> Files:
        from tests.support import mlx_models

        longer = {"max_position_embeddings": 1024}
        main = mlx_models.write_folder(folder / "main", architecture, settings=longer)
        return Files(str(main), str(mlx_models.perturbed(main, folder / "draft")), "")

    return make


def _headed(architecture: str, *, mlx: bool = False) -> Callable[[Path], Files]:
    """Make a model with an MTP head."""

    def make(folder: Path) -> Files:
        headed = Headed(architecture, noise=0.1, own_noise=0.3)  # type: ignore[arg-type]
        if not mlx:
            return Files(str(write_headed(folder / "headed.gguf", headed)), HEAD, "")
        from tests.support.mlx_head_models import write_headed_folder

        return Files(str(write_headed_folder(folder / "headed", headed)), HEAD, "")

    return make


def _assisted(*, mlx: bool = False, size: int = 16) -> Callable[[Path], Files]:
    """Make a Gemma 4 and its assistant. A key has `size` numbers."""

    def make(folder: Path) -> Files:
        gemma = Gemma(0.1, size=size)
        assistant = replace(ASSISTANT, noise=0.1, size=size)
        if not mlx:
            main = write_gemma(folder / "main.gguf", gemma)
            return Files(str(main), str(write_assistant(folder / "head.gguf", assistant)), "")
        from tests.support.mlx_assistant_models import write_assistant_folder, write_gemma_folder

        main = write_gemma_folder(folder / "main", gemma)
        return Files(str(main), str(write_assistant_folder(folder / "head", assistant)), "")

    return make


KINDS = {
    "attention": Kind(_gguf("llama"), head=_headed("glm4moe")),
    "window": Kind(_gguf("gemma3"), head=_assisted()),
    "hybrid": Kind(_gguf("lfm2"), head=_headed("qwen35")),
    "quantized": Kind(_gguf("llama"), "q8_0", head=_assisted(size=32)),
    "MLX attention": Kind(_mlx("llama"), head=_headed("glm4moe", mlx=True)),
    "MLX window": Kind(_mlx("gemma3_text"), head=_assisted(mlx=True)),
    "MLX hybrid": Kind(_mlx("lfm2"), head=_headed("qwen35", mlx=True)),
    "MLX quantized": Kind(_mlx("llama"), "q8_0", head=_assisted(mlx=True, size=32)),
}


class Answered(NamedTuple):
    tokens: list[int]
    text: str
    restored: int
    drafted: int
    accepted: int


class Told(NamedTuple):
    """A chat without a wake."""

    number: int
    question: Generate
    half: Answered
    rest: Answered
    """The whole answer, continued after its half."""
    following: Answered


class Heard(NamedTuple):
    """An answer, and the one that it is compared with."""

    question: Generate
    answer: Answered
    expected: Answered
    part: str = ""


class Talk:
    """A session that has just loaded its models."""

    def __init__(self, load: Load) -> None:
        self._events: list[Event] = []
        self._numbers = count(1)
        self.session = Session(self._events.append, lambda _: False)
        self.session.do(load)
        if not any(isinstance(event, Loaded) for event in self._events):
            raise SystemExit(str(self._events[-1]))
        if rejected := next(each.obstacle for each in self._events if isinstance(each, Loaded)):
            raise SystemExit(f"it does not draft: {rejected.text}")
        # The number of threads follows the load of the machine, and another number rounds in another way.
        self.session._pair = replace(self.session._loaded, crew=None)

    def ask(self, question: Generate, **settings: Any) -> Answered:
        self._events.clear()
        self.session.do(structs.replace(question, id=next(self._numbers), **settings))
        end = self._events[-1]
        if not isinstance(end, Finished):
            raise SystemExit(str(end))
        rounds = [each for event in self._events if isinstance(event, Rounds) for each in event.rounds]
        tokens = [token for each in rounds for token in each.tokens]
        text = "".join(text for each in rounds for text, origin in each.pieces if origin != 3)
        done = end.statistics
        return Answered(tokens, text, done.prompt_restored, done.drafted, done.accepted)

    def explained(self, question: Generate, tokens: Sequence[int], at: int) -> bool:
        """Return whether rounding explains another token than that at the index `at`."""
        self._events.clear()
        asked = Inspect(next(self._numbers), structs.replace(question, resume=tuple(tokens), chat=""), at, 1)
        self.session.do(asked)
        found = [each for each in self._events if isinstance(each, Inspected)]
        if not found:
            raise SystemExit(str([each for each in self._events if isinstance(each, Failed)]))
        return bool(found[-1].places) and can_part(found[-1].places[0])

    def rest(self) -> None:
        self.session._chats.save(lambda: True)


class Case:
    """One kind of cache, one way to draft and one temperature."""

    def __init__(
        self, files: Files, drafts: str, load: Load, temperature: float, options: argparse.Namespace
    ):
        self._files = files
        self._load = load
        self._how = {"sampling": Sampling(temperature=temperature), **_drafting(drafts)}
        self._length = options.tokens
        self._chats = range(options.chats)
        self.found: Counter[tuple[str, str]] = Counter()
        """How often each way ended how: the same text, parted by rounding, parted otherwise, woken."""
        self.lines: list[str] = []
        self.drafted = self.accepted = 0

    def question(self, number: int) -> Generate:
        words = f"Question {number}: what do {number * 7 + 3} boats say to {number} birds? "
        text = words + self._files.words if self._files.words else words * 2  # chats begin differently
        return Generate(
            1, (Message("user", text),), number, ignore_eos=True, chat=f"chat {number}", **self._how
        )

    def run(self) -> None:
        """Compare all chats."""
        unbroken = Talk(structs.replace(self._load, disk_cache=-1))
        told = [self._unbroken(unbroken, number) for number in self._chats]
        for ask in (self._half, self._rest, self._next):  # each in a session of its own
            talk = Talk(self._load)
            for number in self._chats:
                self._compare(unbroken, "disk", told[number], ask(talk, told[number]))
                talk.rest()
            talk.session.close()
        talk = Talk(structs.replace(self._load, disk_cache=-1, memory_cache=_ROOM))
        for first in self._chats[::_TOGETHER]:
            for ask in (self._half, self._rest, self._next):
                for each in told[first : first + _TOGETHER]:
                    self._compare(unbroken, "memory", each, ask(talk, each))
        talk.session.close()
        unbroken.session.close()

    def _unbroken(self, talk: Talk, number: int) -> Told:
        """Return the answers of a chat without a wake."""
        question = self.question(number)
        whole = talk.ask(question, max_tokens=2 * self._length, fresh=True)
        self.drafted, self.accepted = self.drafted + whole.drafted, self.accepted + whole.accepted
        half = talk.ask(question, max_tokens=self._length, fresh=True)
        told = Told(number, question, half, whole, whole)
        told = told._replace(rest=self._rest(talk, told).answer)
        self._compare(unbroken=talk, way="unbroken", told=told, heard=Heard(question, told.rest, whole))
        return told._replace(following=self._next(talk, told).answer)

    def _half(self, talk: Talk, told: Told) -> Heard:
        half = talk.ask(told.question, max_tokens=self._length, fresh=True)
        return Heard(told.question, half, told.half, "half")

    def _rest(self, talk: Talk, told: Told) -> Heard:
        half = told.half.tokens
        rest = talk.ask(told.question, max_tokens=self._length, resume=tuple(half))
        return Heard(told.question, rest._replace(tokens=[*half, *rest.tokens]), told.rest, "rest")

    def _next(self, talk: Talk, told: Told) -> Heard:
        said = told.half.text + told.rest.text
        more = (Message("assistant", said), Message("user", "And then?"))
        following = structs.replace(told.question, messages=(*told.question.messages, *more))
        answer = talk.ask(following, max_tokens=self._length)
        return Heard(following, answer, told.following, "next turn")

    def _compare(self, unbroken: Talk, way: str, told: Told, heard: Heard) -> None:
        way = f"{heard.part}, {way}" if heard.part else way
        self.found[way, "woken"] += heard.answer.restored > 0
        at = first_difference([heard.expected.tokens, heard.answer.tokens])
        if at is None:
            self.found[way, "same"] += 1
            return
        rounding = unbroken.explained(heard.question, heard.expected.tokens, at)
        self.found[way, "rounding" if rounding else "unexplained"] += 1
        self.lines.append(f"{way}, chat {told.number}: parted at token {at + 1}, rounding {rounding}")


def _drafting(drafts: str) -> dict[str, Any]:
    return {"draft_length": 0 if drafts == "none" else 3, "lookup": drafts == "lookup"}


def _models(kind: Kind, drafts: str, folder: Path, options: argparse.Namespace) -> Files | None:
    """Return the models; None if there is no such pair."""
    if drafts == "head":
        return None if options.main or kind.head is None else kind.head(folder)
    if options.main:
        return Files(str(options.main), str(options.draft or NONE), _STORY * options.story)
    return kind.make(folder)


def cases(options: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Case]]:
    """Yield the name of each case and the case."""
    for name in options.kinds:
        kind = KINDS[name]
        for drafts in options.drafts:
            place = folder / f"{name} {drafts}"
            place.mkdir()
            if (files := _models(kind, drafts, place, options)) is None:
                continue
            draft = files.draft if drafts in ("model", "head") else NONE
            draft = "lookup" if drafts == "lookup" else draft
            cache_type = options.cache_type or kind.cache_type
            load = Load(
                files.main, draft, 2048 if options.main else 1024, threads=options.threads,
                cache_type=cache_type, exact=options.exact, disk_cache=_ROOM,
            )  # fmt: skip
            for temperature in options.temperatures:
                shown = options.main.stem if options.main else name
                title = f"{shown} {cache_type if options.cache_type else ''}| {drafts} | {temperature:g}"
                yield title, Case(files, drafts, load, temperature, options)


def main() -> None:
    def words(text: str) -> list[str]:
        return text.split(",")

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--kinds", type=words, default=[*KINDS])
    add("--drafts", type=words, default=[*DRAFTS])
    add("--temperatures", type=lambda text: [float(each) for each in text.split(",")], default=[0.0, 0.8])
    add("--chats", type=int, default=100)
    add("--tokens", type=int, default=16, help="of each half of an answer")
    add("--main", type=Path, help="a real model in place of the toys; --kinds then only names the table")
    add("--draft", type=Path)
    add("--story", type=int, default=28, help="sentences behind each question to a real model")
    add("--cache-type", choices=["f16", "q8_0"], default="")
    add("--threads", type=int, default=1, help="more of them divide the cells of a cache between them")
    add("--exact", action="store_true")
    options = parser.parse_args()
    outcomes = ("same", "rounding", "unexplained", "woken")
    print("| model | draft | T | accepted |" + "".join(f" {way} |" for way in WAYS), flush=True)
    print("|" + "---|" * (4 + len(WAYS)), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for number, (title, case) in enumerate(cases(options, Path(folder))):
            os.environ["XDG_CACHE_HOME"] = str(Path(folder) / f"states{number}")
            case.run()
            rows = ["/".join(str(case.found[way, each]) for each in outcomes) for way in WAYS]
            share = f"{case.accepted} of {case.drafted}"
            print(f"| {title} | {share} |" + "".join(f" {row} |" for row in rows), flush=True)
            for line in case.lines:
                print(f"    {line}", flush=True)
    print(f"Each cell: {' / '.join(outcomes)}, of {options.chats} chats.")


if __name__ == "__main__":
    main()
