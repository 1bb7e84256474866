"""Does a head leave the text of its main model alone? Counted over kinds of heads, acceptances and ways.

    python -m tools.bench.head_texts [--kinds dense/hybrid] [--accepted 0.1,0.5,0.96] [--tokens 40]

Toys of each kind get so much noise that a head is right about as often as wanted. Then answers are drafted
at three temperatures, at each draft length and at the measured one, in six ways: in one go; stopped after
three rounds and continued; canceled for another prompt and asked again; branched in the middle; with a
grammar; with penalties. Each text is compared, token by token, with that of the main model alone and the same
seed. Where two part, the plain row of scores tells whether rounding explains it. It takes no times, so a
busy machine does no harm.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from math import exp, log
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.assistant_models import ASSISTANT, Gemma, write_assistant, write_gemma
from tests.support.eagle_models import Eagle, write_eagle
from tests.support.head_models import Headed, write_headed
from tests.support.rows import CLOSE, Watching, some_tokens
from tests.support.talk import Answer, Talk
from tui.client.parting import first_difference
from tui.engine.backends import LoadedModel, Options
from tui.engine.backends.grammars import of_gbnf
from tui.engine.backends.llama_cpp import LlamaBackend
from tui.engine.speculation.estimates import Costs
from tui.engine.speculation.policy import AdaptiveLength
from tui.engine.speculation.sampling import Chain, Logits, Sampler
from tui.protocol import Obstacle

TEMPERATURES = (0.0, 0.8, 1.0)
AUTO = 0
"""Stands for the measured draft length."""
LENGTHS = (*range(1, 9), AUTO)
_QUIET, _LOUD = 0.002, 8.0
"""Strengths of noise between which the wanted acceptance lies."""
_STEPS = 9
_GRAMMAR = of_gbnf('root ::= ([a-z] | " ")*')


class Files(NamedTuple):
    main: Path
    head: str
    """The file of the head; empty if it is in that of the main model."""


def _inside(headed: Headed) -> Callable[[Path, float], Files]:
    def make(folder: Path, noise: float) -> Files:
        return Files(write_headed(folder / "main.gguf", replace(headed, noise=noise, own_noise=noise)), "")

    return make


def _assistant(folder: Path, noise: float) -> Files:
    main = write_gemma(folder / "main.gguf", Gemma(noise))
    return Files(main, str(write_assistant(folder / "head.gguf", replace(ASSISTANT, noise=noise))))


def _eagle(folder: Path, noise: float) -> Files:
    main = write_headed(folder / "main.gguf", Headed("llama", noise=noise))
    return Files(main, str(write_eagle(folder / "head.gguf", Eagle(reduced=1800, own_noise=noise))))


KINDS: dict[str, Callable[[Path, float], Files]] = {
    "dense": _inside(Headed("hy_v3")),
    "experts": _inside(Headed("glm4moe")),
    "hybrid": _inside(Headed("qwen35")),
    "hybrid with experts": _inside(Headed("qwen35moe")),
    "three heads": _inside(Headed("hy_v3", heads=3)),
    "three heads, window": _inside(Headed("step35", heads=3)),
    "Gemma 4 assistant": _assistant,
    "EAGLE-3, 1,800 of 2,048 tokens": _eagle,
}


class Models(NamedTuple):
    """A main model with its head, and the same main model alone."""

    main: LoadedModel
    head: LoadedModel
    plain: LoadedModel


@contextmanager
def opened(files: Files) -> Iterator[Models]:
    """Open the models, and close them in the end."""
    backend, options = LlamaBackend(), Options("main", 512, threads=1)
    path = str(files.main)
    main = backend.load(path, replace(options, head=not files.head), lambda _: True)
    head = backend.load_head(main, replace(options, role="draft"), files.head)
    if isinstance(head, Obstacle):
        raise SystemExit(head.text)
    models = Models(main, head, backend.load(path, options, lambda _: True))
    yield models
    for each in (models.head, models.main, models.plain):
        each.close()


def noise_for(make: Callable[[Path, float], Files], accepted: float, folder: Path) -> float:
    """Return the noise with which a head is right about so often at 0.8, with drafts of three tokens."""
    low, high = log(_QUIET), log(_LOUD)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        with opened(make(folder, exp(middle))) as models:
            talk = Talk(models.main, models.head)
            found = [talk.answer(some_tokens(20, seed=seed), 60, length=3) for seed in range(3)]
        share = sum(each.accepted for each in found) / sum(each.drafted for each in found)
        low, high = (middle, high) if share > accepted else (low, middle)
    return exp((low + high) / 2)


@dataclass(frozen=True)
class Case:
    """One answer: its way, its temperature and its draft length."""

    way: str
    temperature: float
    length: int
    number: int
    """Of the prompt and the seed."""

    @property
    def how(self) -> dict[str, Any]:
        chain = Chain(self.temperature)
        if self.way == "penalties":
            chain = replace(chain, repeat_penalty=1.3, presence_penalty=0.5, frequency_penalty=0.2)
        grammar = _GRAMMAR if self.way == "grammar" else ""
        return {"chain": chain, "seed": self.number, "grammar": grammar}


class Counted:
    """Cases of one pair, counted by their outcome: same, rounding, other."""

    def __init__(self, models: Models, tokens: int) -> None:
        self._models = models
        self._plain = Talk(models.plain)
        self._drafted = Talk(models.main, models.head)
        self._tokens = tokens
        self.outcomes: Counter[tuple[str, str]] = Counter()
        """By way and outcome."""
        self.lines: list[str] = []
        self.drafted = self.accepted = 0

    @property
    def acceptance(self) -> float:
        return self.accepted / max(1, self.drafted)

    def run(self, cases: Iterable[Case]) -> None:
        for case in cases:
            parted = [found for found in self._texts(case) if found]
            outcome = "other" if "other" in parted else "rounding" if parted else "same"
            self.outcomes[case.way, outcome] += 1
            if parted:
                self.lines.append(f"{case}: {', '.join(parted)}")

    def _texts(self, case: Case) -> Iterator[str]:
        """Yield for each text of a case how it differs from the plain one; empty for the same text."""
        prompt = some_tokens(20 + case.number % 9, seed=case.number)
        if case.way == "stopped and continued":
            begun = self._draft(case, prompt, rounds=3)
            rest = self._draft(case, prompt, resume=begun.tokens, count=self._tokens - len(begun.tokens))
            yield self._differs(case, prompt, [*begun.tokens, *rest.tokens])
            return
        if case.way == "canceled":
            begun = self._draft(case, prompt, rounds=2)
            yield self._differs(case, prompt, begun.tokens)
            other = some_tokens(15, seed=case.number + 1000)
            yield self._differs(case, other, self._draft(case, other).tokens)
        tokens = self._draft(case, prompt).tokens
        yield self._differs(case, prompt, tokens)
        if case.way == "branched":
            for place in (self._tokens // 2, 3):
                branch = [*prompt, *tokens[:place], 7]
                yield self._differs(case, branch, self._draft(case, branch).tokens)

    def _draft(self, case: Case, context: list[int], count: int = 0, **given: Any) -> Answer:
        policy = AdaptiveLength(_cheap()) if case.length == AUTO else None
        given |= {"policy": policy, "length": case.length, **case.how}
        answer = self._drafted.answer(context, count or self._tokens, **given)
        self.drafted, self.accepted = self.drafted + answer.drafted, self.accepted + answer.accepted
        return answer

    def _differs(self, case: Case, context: list[int], tokens: list[int]) -> str:
        expected = self._plain.answer(context, self._tokens, length=0, **case.how).tokens
        place = first_difference([expected[: len(tokens)], tokens])
        if place is None:
            return ""
        main, text = self._models.plain, [*context, *expected[:place]]
        main.rewind(0)
        main.start(watching := Watching())
        main.extend(text, picks=1)
        constraint = main.constraint(_GRAMMAR) if case.way == "grammar" else None
        sampler = Sampler(case.how["chain"], case.number, len(context), constraint=constraint)
        tipped = can_tip(sampler, watching.rows[len(text)], text, (expected[place], tokens[place]))
        return "rounding" if tipped else "other"


def can_tip(sampler: Sampler, row: Logits, text: Sequence[int], either: Sequence[int]) -> bool:
    """Return whether rounding can make the choice each of two tokens: by their scores, or by an edge of the
    sampling chain, where one of them is kept or not."""
    for token in either:
        raised = row.copy()
        raised[token] += CLOSE
        if sampler.pick(raised, text, len(text)).token != token:
            return False
    return True


def _cheap() -> Costs:
    """Return costs by which drafting pays: the toys are too small for that."""
    return Costs({1: 1e-2, 17: 1.2e-2}, draft=1e-4, read=1e-5)


WAYS = ("in one go", "stopped and continued", "canceled", "branched", "grammar", "penalties")


def cases(few: int = 1) -> Iterator[Case]:
    """Yield all cases, or one of every `few`, spread over ways, temperatures and lengths."""
    for number, (length, temperature, way) in enumerate(product(LENGTHS, TEMPERATURES, WAYS)):
        if number % few == 0:
            yield Case(way, temperature, length, number)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--kinds", type=lambda text: text.split("/"), default=[*KINDS], help="names with / between them")
    add("--accepted", type=lambda text: [float(each) for each in text.split(",")], default=[0.1, 0.5, 0.96])
    add("--tokens", type=int, default=40, help="of an answer")
    add("--few", type=int, default=1, help="only one of so many; 5 still meets all ways at all lengths")
    options = parser.parse_args()
    print("| head | accepted |" + "".join(f" {way} |" for way in WAYS), flush=True)
    print("|" + "---|" * (2 + len(WAYS)), flush=True)
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for name, accepted in product(options.kinds, options.accepted):
            noise = noise_for(KINDS[name], accepted, Path(folder))
            with opened(KINDS[name](Path(folder), noise)) as models:
                counted = Counted(models, options.tokens)
                counted.run(cases(options.few))
            cells = [[counted.outcomes[way, each] for each in ("same", "rounding", "other")] for way in WAYS]
            row = "".join(f" {'/'.join(map(str, cell))} |" for cell in cells)
            print(f"| {name} | {counted.acceptance:.0%} (noise {noise:.3f}) |{row}", flush=True)
            for line in counted.lines:
                print(f"    {line}", flush=True)
            for (_, outcome), count in counted.outcomes.items():
                outcomes[outcome] += count
    print(f"Each cell: same / rounding / other. In all: {dict(outcomes)}")


if __name__ == "__main__":
    main()
