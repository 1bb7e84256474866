"""The corpus: facts on Outrider, drafting and small Python functions, and the many ways to ask for each.

All of it was written for this project. `texts/*.toml` builds questions from phrases and frames, which shows
every word in many places; `texts/asked/*.toml` holds whole questions, which shows how people put things.
The same seed draws the same questions. This module trains nothing; `generates` tells whether a question could
ever be drawn.
"""

from __future__ import annotations

import random
import re
import tomllib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from . import noise
from .grammar import SLOT, Grammar, Sequence, as_gerund, expand, regex

FOLDER = Path(__file__).with_name("texts")
KINDS = ("do", "doing", "what", "press", "code", "ask")
"""How a phrase is asked for: an action, a thing, the name of a key, a function, or a whole question."""
ASKED = "asked"
ASKED_SHARE = 0.6
"""How often a question that names no key comes whole from `texts/asked`."""

KEY_SHARE = 0.3
"""How often a fact that has a key is asked for by the key."""

PRESS = "(ctrl+|ctrl-|ctrl |ctrl + |control+|control-|control |^|c-)"

MADE_UP = 2000


@dataclass(frozen=True)
class Fact:
    """One thing the starter knows: the answer and every phrase that asks for it."""

    name: str
    key: str
    answer: str
    weight: float
    phrases: dict[str, list[Sequence]] = field(hash=False)


@dataclass(frozen=True)
class Drawn:
    """One question with its right answer."""

    question: str
    fact: Fact


def normalise(text: str) -> str:
    """Lower case, single spaces, no punctuation at the ends."""
    return " ".join(text.lower().replace(",", " ,").split()).strip(" .?!,:;")


class Corpus:
    """Every fact and every frame, ready to draw from."""

    def __init__(self, folder: Path = FOLDER) -> None:
        tables = [tomllib.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.toml"))]
        words = {name: _lines(text) for table in tables for name, text in table.get("words", {}).items()}
        words["pseudo"] = noise.made_up_words(MADE_UP, seed=5)
        self._grammar = Grammar(words)
        parse = self._grammar.parse
        self.frames = {
            kind: [parse(line) for table in tables for line in _lines(table.get("frames", {}).get(kind, ""))]
            for kind in KINDS
        }
        self.systems = [line for table in tables for line in _lines(table.get("systems", ""))]
        self.frames[ASKED] = [parse(SLOT)]
        asked: dict[str, str] = {}
        for path in sorted((folder / ASKED).glob("*.toml")):
            asked |= tomllib.loads(path.read_text(encoding="utf-8"))[ASKED]
        self.facts = [self._fact(entry, asked) for table in tables for entry in table.get("fact", [])]

    def _fact(self, entry: dict[str, Any], asked: dict[str, str]) -> Fact:
        parse = self._grammar.parse
        phrases = {kind: [parse(line) for line in _lines(entry.get(kind, ""))] for kind in KINDS}
        phrases["press"] += [parse(re.sub(r"^ctrl\+", PRESS, name)) for name in entry.get("keys", [])]
        phrases["doing"] += [as_gerund(phrase) for phrase in phrases["do"]]
        phrases[ASKED] = [parse(line) for line in _lines(asked.get(entry["name"], ""))]
        return Fact(
            name=entry["name"],
            key=entry.get("key", ""),
            answer=entry["answer"].strip("\n"),
            weight=entry.get("weight", 1.0),
            phrases={kind: found for kind, found in phrases.items() if found},
        )

    @cached_property
    def _weights(self) -> list[float]:
        return [fact.weight for fact in self.facts]

    def draw(self, rng: random.Random) -> Drawn:
        """One question on one fact; facts are drawn by weight, not by how many phrases they have."""
        fact = rng.choices(self.facts, self._weights)[0]
        return Drawn(noise.decorate(self.wording(fact, rng), rng), fact)

    def wording(self, fact: Fact, rng: random.Random) -> str:
        """One way to ask for a fact, before case, punctuation and slips are added."""
        kind = self._kind(fact, rng)
        phrase = expand(rng.choice(fact.phrases[kind]), rng)
        frame = expand(rng.choice(self.frames[kind]), rng)
        return frame.replace(SLOT, phrase)

    def _kind(self, fact: Fact, rng: random.Random) -> str:
        if "press" in fact.phrases and rng.random() < KEY_SHARE:
            return "press"
        if ASKED in fact.phrases and rng.random() < ASKED_SHARE:
            return ASKED
        kinds = [kind for kind in fact.phrases if kind not in (ASKED, "press")] or list(fact.phrases)
        shares = [min(len(fact.phrases[kind]), 40) * (0.3 if kind == "doing" else 1.0) for kind in kinds]
        return rng.choices(kinds, shares)[0]

    @cached_property
    def _recognisers(self) -> list[_Recogniser]:
        return [
            _Recogniser(
                self.frames[kind], [phrase for fact in self.facts for phrase in fact.phrases.get(kind, [])]
            )
            for kind in (*KINDS, ASKED)
        ]

    def generates(self, question: str) -> bool:
        """Whether the corpus could draw this question, slips of the keyboard aside."""
        words = normalise(question).split()
        return any(recogniser.recognises(words) for recogniser in self._recognisers)


class _Recogniser:
    """Recognises every wording of one kind: some frame around some phrase."""

    def __init__(self, frames: list[Sequence], phrases: list[Sequence]) -> None:
        halves = [(frame[: frame.index(SLOT)], frame[frame.index(SLOT) + 1 :]) for frame in frames]
        before = "|".join({regex(half) for half, _ in halves})
        after = "|".join({regex(half) for _, half in halves})
        self._before = re.compile(f"{noise.MAYBE_BEFORE}(?:{before})")
        self._after = re.compile(f"(?:{after}){noise.MAYBE_AFTER}")
        self._phrase = re.compile("|".join(regex(phrase) for phrase in phrases), re.IGNORECASE)
        whole = "|".join(f"{regex(first)}{re.escape(SLOT)}{regex(second)}" for first, second in halves)
        self._frame = re.compile(f"{noise.MAYBE_BEFORE}(?:{whole}){noise.MAYBE_AFTER}")

    def recognises(self, words: list[str]) -> bool:
        """Whether some span of the words is a phrase and the rest a frame around it."""
        count = len(words)
        starts = [at for at in range(count) if self._before.fullmatch(_padded(words[:at], True))]
        ends = [at for at in range(1, count + 1) if self._after.fullmatch(_padded(words[at:], False))]
        return any(
            self._frame.fullmatch(" ".join([*words[:start], SLOT, *words[end:]]))
            and self._phrase.fullmatch(" ".join(words[start:end]))
            for start in starts
            for end in ends
            if start < end
        )


def _padded(words: list[str], before: bool) -> str:
    """The words with the space that parts them from the slot."""
    if not words:
        return ""
    return " ".join(words) + " " if before else " " + " ".join(words)


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]
