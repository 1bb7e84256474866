"""Is a drafted answer the plain one? Counted over prompts or JSON schemas, piece by piece on a slow machine.

    python -m tools.bench.same_texts MAIN DRAFT --into FILE [--lengths 3,8,auto] [--prompts 2] [--tokens 40]
        [--text FILE --prompt-tokens 600 --raw] [--schemas] [--seconds 200]

Each prompt is answered plainly and with each draft length, with the same seed and from empty caches. FILE
gets a line for each answer, and the next call goes on behind them; after `--seconds` no further answer
begins. With `--text` the prompt is the beginning of a file, for instance one longer than a sliding window.
With `--schemas` each answer follows a JSON schema of its own, must parse and must not be cut. It takes no
times, so a busy machine does no harm.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any

from msgspec.structs import replace

from tools.bench.partings import tokens_of
from tui.choices import AUTO
from tui.commands.bench.plan import read_prompts
from tui.engine.session import Session
from tui.protocol import Event, Finished, Generate, Load, Loaded, Message, Origin, Rounds, Sampling

WORD = {"type": "string", "minLength": 1, "maxLength": 12}
YEAR = {"type": "integer", "minimum": 1900, "maximum": 2030}
SCHEMAS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("Name a fruit and its color.", {"type": "object", "properties": {"fruit": WORD, "color": WORD},
     "required": ["fruit", "color"]}),
    ("Is water wet?", {"type": "object", "properties": {"wet": {"type": "boolean"}, "reason": WORD},
     "required": ["wet"]}),
    ("Name three colors.", {"type": "array", "items": WORD, "minItems": 3, "maxItems": 3}),
    ("When was Python made?", {"type": "object", "properties": {"year": YEAR, "name": {"const": "Python"}},
     "required": ["name", "year"]}),
    ("Is a cat a plant, an animal or a stone?", {"enum": ["plant", "animal", "stone"]}),
    ("Describe a person.", {"type": "object", "properties": {"name": WORD, "age": {"type": "integer",
     "minimum": 0, "maximum": 120}, "home": {"type": "object", "properties": {"city": WORD, "country": WORD},
     "required": ["city", "country"]}}, "required": ["name", "age", "home"]}),
    ("List two books with their years.", {"type": "array", "minItems": 2, "maxItems": 2, "items":
     {"type": "object", "properties": {"title": {"type": "string", "maxLength": 24}, "year": YEAR},
      "required": ["title", "year"]}}),
    ("Give a date.", {"type": "string", "pattern": "^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9])$"}),
    ("Answer with a number or with nothing.", {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 999},
     {"type": "null"}]}),
    ("Build a small tree.", {"$ref": "#/$defs/node", "$defs": {"leaf": {"type": "object", "properties":
     {"value": WORD}, "required": ["value"]}, "node": {"type": "object", "properties": {"left":
      {"$ref": "#/$defs/leaf"}, "right": {"$ref": "#/$defs/leaf"}}, "required": ["left", "right"]}}}),
)  # fmt: skip
"""A question and the schema of its answer. All answers are short."""


class Engine:
    """One pair in a session of this process."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._events: list[Event] = []
        self._numbers = count(1)
        self.session = Session(self._events.append, lambda number: False)
        self.session.do(Load(str(options.main), str(options.draft), options.context))
        loaded = self._events[-1]
        if not isinstance(loaded, Loaded) or loaded.draft is None:
            raise SystemExit(f"Outrider does not draft: {loaded}")

    def beginning(self, text: str, tokens: int) -> str:
        """Return the beginning of `text`, of about so many tokens."""
        vocabulary = self.session._loaded.main.vocabulary
        pieces = map(vocabulary.piece, vocabulary.encode(text)[:tokens])
        return b"".join(pieces).decode(errors="ignore")

    def answer(self, question: Generate) -> dict[str, Any]:
        """Return an answer as it is kept in the file."""
        self._events.clear()
        self.session.do(replace(question, id=next(self._numbers)))
        if not isinstance(end := self._events[-1], Finished):
            raise SystemExit(str(end))
        rounds = [each for event in self._events if isinstance(event, Rounds) for each in event.rounds]
        text = "".join(part for r in rounds for part, origin in r.pieces if origin != Origin.REJECTED)
        figures = end.statistics
        return {
            "tokens": tokens_of(rounds), "text": text, "reason": end.reason, "drafted": figures.drafted,
            "accepted": figures.accepted, "rounds": figures.rounds, "prompt_tokens": figures.prompt_tokens,
        }  # fmt: skip


def questions(engine: Engine, options: argparse.Namespace) -> Iterator[Generate]:
    """Yield each prompt at each temperature, without drafts."""
    schemas: Sequence[str] = ()
    if options.schemas:
        asked, schemas = [ask for ask, _ in SCHEMAS], [json.dumps(schema) for _, schema in SCHEMAS]
    elif options.text:
        asked = [engine.beginning(options.text.read_text(), options.prompt_tokens)]
    else:
        asked = [each.text for each in read_prompts()[::3]][: options.prompts]
    for seed, prompt in enumerate(asked):
        for temperature in options.temperatures:
            yield Generate(
                id=0, messages=(Message("user", prompt),), seed=seed, draft_length=0, lookup=False,
                sampling=Sampling(temperature=temperature), fresh=True, max_tokens=options.tokens,
                raw=options.raw, json_schema=schemas[seed] if schemas else "",
            )  # fmt: skip


def is_whole(answer: dict[str, Any]) -> bool:
    """Return whether an answer parses as JSON and was not cut."""
    try:
        json.loads(answer["text"])
    except ValueError:
        return False
    return bool(answer["reason"] != "length")


def compare(options: argparse.Namespace) -> None:
    """Make the missing answers, and print the number of those that equal the plain ones."""
    known: dict[str, dict[str, Any]] = {}
    if options.into.exists():
        known = {each["key"]: each for each in map(json.loads, options.into.read_text().splitlines())}
    engine, until = Engine(options), monotonic() + options.seconds
    compared = same = whole = 0
    for question in questions(engine, options):
        plain: dict[str, Any] = {}
        for length in [0, *options.lengths]:
            pair = f"{options.main.name} {options.draft.name}"
            key = f"{pair} {question.seed} {question.sampling.temperature:g} {options.context} {length}"
            if key not in known:
                if monotonic() > until:
                    print(f"not ready: {compared} compared, {same} the same, {whole} whole")
                    raise SystemExit(3)
                known[key] = {"key": key, **engine.answer(replace(question, draft_length=length))}
                with options.into.open("a") as file:
                    file.write(json.dumps(known[key]) + "\n")
            answer = known[key]
            if length == 0:
                plain = answer
                continue
            equal = answer["tokens"] == plain["tokens"]
            compared, same = compared + 1, same + equal
            whole += options.schemas and is_whole(answer) and is_whole(plain)
            share = f"{answer['accepted']} of {answer['drafted']} accepted, {len(answer['tokens'])} tokens"
            print(f"{key}: {'the same' if equal else 'ANOTHER TEXT'}, {share}", flush=True)
    print(f"{same} of {compared} drafted answers equal the plain ones")
    if options.schemas:
        print(f"{whole} of {compared} parse and were not cut")


def main() -> None:
    parser = argparse.ArgumentParser(description="Is a drafted answer the plain one?")
    add = parser.add_argument
    add("main", type=Path)
    add("draft", type=Path)
    add("--into", type=Path, required=True, help="a file that keeps the answers")
    add("--lengths", type=lambda text: [each if each == AUTO else int(each) for each in text.split(",")],
        default=[3, AUTO])  # fmt: skip
    add("--temperatures", type=lambda text: list(map(float, text.split(","))), default=[0.0, 0.8])
    add("--prompts", type=int, default=2)
    add("--tokens", type=int, default=40, help="of an answer, at most")
    add("--text", type=Path, help="a file whose beginning is the prompt")
    add("--prompt-tokens", type=int, default=600)
    add("--raw", action="store_true", help="without a chat template, for a base model")
    add("--schemas", action="store_true")
    add("--context", type=int, default=2048)
    add("--seconds", type=float, default=1e9)
    compare(parser.parse_args())


if __name__ == "__main__":
    main()
