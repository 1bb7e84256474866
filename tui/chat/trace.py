"""How an answer came, by the record of its rounds: its tokens, how often drafts were right, JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from msgspec import to_builtins

from tui.protocol import Origin, TextRound, TokenInspection
from tui.protocol.pieces import origin_at
from tui.store.changes import Turn


@dataclass(frozen=True)
class Token:
    """One token of an answer, or one that was refused. Foreign text."""

    text: str
    origin: Origin
    round: int
    """Which round brought it, from 0."""
    place: int | None = None
    """Which token of the answer it is, from 0; None for a refused one, and where that is not known."""
    id: int | None = None
    """In the vocabulary."""


@dataclass(frozen=True)
class Tries:
    """Drafts at one place of their rounds."""

    reached: int
    """How many stood there with all before them accepted: of the others nothing is known."""
    accepted: int

    @property
    def rate(self) -> float:
        return self.accepted / self.reached if self.reached else 0.0


def tokens_of(rounds: Sequence[TextRound], texts: Sequence[str] = ()) -> list[Token]:
    """The tokens of an answer with what was refused between them.

    `texts` are those of its tokens; where they are not known, the pieces in which its text came stand for
    them, and nothing is said of single tokens.
    """
    known = len(texts) == sum(len(each.tokens) for each in rounds)
    found: list[Token] = []
    place = 0
    for number, each in enumerate(rounds):
        refused = [Token(text, Origin.REFUSED, number) for text, by in each.pieces if by == Origin.REFUSED]
        if not known:
            found += [Token(text, Origin(by), number) for text, by in each.pieces]
            continue
        for index, token in enumerate(each.tokens):
            if index == each.accepted:
                found += refused
            counts = {"drafted": each.drafted, "looked_up": each.looked_up, "accepted": each.accepted}
            found.append(Token(texts[place], origin_at(index, **counts), number, place, token))
            place += 1
        if len(each.tokens) <= each.accepted:
            found += refused
    return found


def acceptance(rounds: Sequence[TextRound]) -> list[Tries]:
    """How drafts did at the first, second, ... place of their rounds."""
    longest = max((each.drafted for each in rounds), default=0)
    return [
        Tries(
            sum(each.drafted > place and each.accepted >= place for each in rounds),
            sum(each.accepted > place for each in rounds),
        )
        for place in range(longest)
    ]


def gained(rounds: Sequence[TextRound], columns: int) -> list[float]:
    """Tokens per round over the answer, in at most so many stretches of about as many rounds."""
    columns = min(columns, len(rounds))
    bounds = [len(rounds) * number // columns for number in range(columns + 1)] if columns else []
    return [
        sum(len(each.tokens) for each in rounds[begin:end]) / (end - begin) for begin, end in pairwise(bounds)
    ]


def as_json_lines(
    turn: Turn, rounds: Sequence[TextRound], texts: Sequence[str], places: Mapping[int, TokenInspection]
) -> str:
    """All that is known: one line for the answer, then one for each round with its tokens."""
    head: dict[str, object] = {"type": "answer", "main": turn.main, "draft": turn.draft}
    head["ending"] = turn.ending
    head["settings"] = json.loads(turn.settings) if turn.settings else None
    head["statistics"] = to_builtins(turn.statistics) if turn.statistics else None
    head["speed_up"] = turn.statistics.speed_up if turn.statistics else None
    lines = [head, *_rounds(rounds, texts, places)]
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def _rounds(
    rounds: Sequence[TextRound], texts: Sequence[str], places: Mapping[int, TokenInspection]
) -> Iterator[dict[str, object]]:
    tokens = {number: list(own) for number, own in groupby(tokens_of(rounds, texts), lambda each: each.round)}
    begun = 0.0
    for number, each in enumerate(rounds):
        own = tokens.get(number, [])
        record: dict[str, object] = {"type": "round", "round": number, "begun": begun}
        names = ("drafted", "looked_up", "accepted", "seconds", "draft_seconds", "verify_seconds")
        record |= {name: getattr(each, name) for name in (*names, "plain_seconds", "context_used")}
        record["tokens"] = [_token(token, places) for token in own if token.origin != Origin.REFUSED]
        record["refused"] = [token.text for token in own if token.origin == Origin.REFUSED]
        begun += each.seconds
        yield record


def _token(token: Token, places: Mapping[int, TokenInspection]) -> dict[str, object]:
    record: dict[str, object] = {"text": token.text, "origin": token.origin.name.lower()}
    if token.place is not None:
        record |= {"place": token.place, "id": token.id}
        if place := places.get(token.place):
            record |= to_builtins(place)
    return record
