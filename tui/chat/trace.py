"""The history of an answer from the record of its rounds: tokens, acceptance, JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import NamedTuple

from msgspec import to_builtins

from tui.protocol import Origin, TextRound, TokenInspection
from tui.protocol.pieces import origin_at
from tui.store.changes import Turn


@dataclass(frozen=True)
class Token:
    """One token of an answer, or one rejected token. Foreign text."""

    text: str
    origin: Origin
    round: int
    """The number of its round, from 0."""
    place: int | None = None
    """Its number in the answer, from 0; None for a rejected token, and where it is unknown."""
    id: int | None = None
    """Its id in the vocabulary."""


class Tries(NamedTuple):
    """Drafts at one position of their rounds."""

    reached: int
    """Drafts here with all drafts before them accepted. The outcome of the others is unknown."""
    accepted: int

    @property
    def rate(self) -> float:
        return self.accepted / self.reached if self.reached else 0.0


def tokens_of(rounds: Sequence[TextRound], texts: Sequence[str] = ()) -> list[Token]:
    """Return the tokens of an answer with the rejected tokens between them.

    `texts` are the texts of the answer's tokens. Where they are unknown, each stored piece of text stands for
    one token, and single tokens have no figures.
    """
    known = len(texts) == sum(len(each.tokens) for each in rounds)
    by = Origin.HEAD if drafted_by_head(rounds) else Origin.DRAFT
    found: list[Token] = []
    place = 0
    for number, each in enumerate(rounds):
        rejected = [
            Token(text, Origin.REJECTED, number) for text, origin in each.pieces if origin == Origin.REJECTED
        ]
        if not known:
            found += [Token(text, Origin(origin), number) for text, origin in each.pieces]
            continue
        for index, token in enumerate(each.tokens):
            if index == each.accepted:
                found += rejected
            counts = {"drafted": each.drafted, "looked_up": each.looked_up, "accepted": each.accepted}
            found.append(Token(texts[place], origin_at(index, **counts, by=by), number, place, token))
            place += 1
        if len(each.tokens) <= each.accepted:
            found += rejected
    return found


def drafted_by_head(rounds: Iterable[TextRound]) -> bool:
    """Return whether a head drafted, and not a draft model: only the pieces of text tell that."""
    return any(origin == Origin.HEAD for each in rounds for _, origin in each.pieces)


def acceptance(rounds: Iterable[tuple[int, int]]) -> list[Tries]:
    """Return the acceptance at the first, second, ... position, from (drafted, accepted) of each round.

    A round tells nothing about the positions after its first rejection. So the estimate of P(accepted |
    reached) is that of Kaplan and Meier for censored data.
    """
    known = list(rounds)
    longest = max((drafted for drafted, _ in known), default=0)
    return [
        Tries(
            sum(drafted > place and accepted >= place for drafted, accepted in known),
            sum(accepted > place for _, accepted in known),
        )
        for place in range(longest)
    ]


def gained(rounds: Sequence[TextRound], columns: int) -> list[float]:
    """Return tokens per round in at most `columns` stretches of nearly equal numbers of rounds."""
    columns = min(columns, len(rounds))
    bounds = [len(rounds) * number // columns for number in range(columns + 1)] if columns else []
    return [
        sum(len(each.tokens) for each in rounds[begin:end]) / (end - begin) for begin, end in pairwise(bounds)
    ]


def as_json_lines(
    turn: Turn, rounds: Sequence[TextRound], texts: Sequence[str], places: Mapping[int, TokenInspection]
) -> str:
    """Return every known figure: one line for the answer, then one for each round with its tokens."""
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
        record["tokens"] = [_token(token, places) for token in own if token.origin != Origin.REJECTED]
        record["rejected"] = [token.text for token in own if token.origin == Origin.REJECTED]
        begun += each.seconds
        yield record


def _token(token: Token, places: Mapping[int, TokenInspection]) -> dict[str, object]:
    record: dict[str, object] = {"text": token.text, "origin": token.origin.name.lower()}
    if token.place is not None:
        record |= {"place": token.place, "id": token.id}
        if place := places.get(token.place):
            record |= to_builtins(place)
    return record
