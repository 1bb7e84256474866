"""One token, one round and the acceptance of an answer, in words and bars. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

from tui.chat.trace import Token, acceptance, drafted_by_head, gained
from tui.clean import clean_line
from tui.client.parting import can_part
from tui.protocol import Origin, TextRound, TokenCandidate, TokenInspection
from tui.quantities import cells, number, percent
from tui.widgets.tokens import visible

WIDTH = 40
"""Columns, at most."""
_NAME = 12
_BAR = 18
_PLACES = 8
_LEVELS = "▁▂▃▄▅▆▇█"

ORIGINS: dict[Origin, tuple[str, str]] = {
    Origin.PLAIN: ("the main model; nothing was drafted", "$foreground"),
    Origin.DRAFT: ("the draft model; accepted", "$token-draft"),
    Origin.MAIN: ("the main model's own", "$token-main underline"),
    Origin.REJECTED: ("proposed; the main model chose another", "$token-rejected strike"),
    Origin.LOOKUP: ("found earlier in the chat; accepted", "$token-lookup"),
    Origin.HEAD: ("the main model's head; accepted", "$token-head"),
}


def token(of: Token, total: int) -> Content:
    """Return the number of a token and its origin."""
    which = "rejected" if of.place is None else f"token {of.place + 1:,} of {total:,}"
    if of.place is None and of.origin != Origin.REJECTED:
        which = "part of the answer"
    number_of_it = f"id {of.id}" if of.id is not None else ""
    words, tone = ORIGINS[of.origin]
    return Content("\n").join(
        [
            Content.assemble((_named(of.text, 24), "bold"), (number_of_it.rjust(WIDTH - 24), "$quiet")),
            Content.assemble((which, "$quiet")),
            Content.styled(words, tone),
        ]
    )


def candidates(of: Token, place: TokenInspection, stands: Token, *, by_head: bool = False) -> Content:
    """Return the models' candidates at its place. `stands` is the token that stands there: itself, or the one
    that replaced it. `by_head` tells that a head drafted."""
    own = f"{percent(place.probability, 1)} by itself"
    if stands is not of:
        own = f"the main model chose {_named(stands.text, 9)} ({percent(place.probability, 1)})"
    sampled = f", {percent(place.sampled, 1)} as sampled" if place.chosen and stands is of else ""
    lines = [Content.styled(own + sampled, "bold")]
    if not place.chosen:
        lines.append(Content.styled("It would not choose it again: not the same prompt", "$warning"))
    half = WIDTH // 2
    drafter = "its head" if by_head else "draft model"
    lines.append(Content.assemble(("main model".ljust(half), "$quiet"), (drafter, "$quiet")))
    for row in range(max(len(place.main), len(place.draft))):
        pairs = [each[row] if row < len(each) else None for each in (place.main, place.draft)]
        lines.append(Content("").join([_candidate(each, of, stands, half) for each in pairs]))
    if can_part(place):
        lines.append(Content.styled(_close(place), "$quiet"))
    return Content("\n").join(lines)


def _close(place: TokenInspection) -> str:
    """Return how close the choice was where another text may part from this one. `client.parting` explains
    more."""
    return f"two best {abs(place.lead):.2g} apart, rounding {place.rounding:.2g}"


def _candidate(each: TokenCandidate | None, of: Token, stands: Token, width: int) -> Content:
    if each is None:
        return Content(" " * width)
    mark, style = " ", ""
    if each.token == stands.id:
        mark, style = "▸", "bold $primary"
    elif of.origin == Origin.REJECTED and each.text == of.text:
        mark, style = "✗", "$token-rejected"
    words = f"{_named(each.text, _NAME - 1):{_NAME - 1}}{percent(each.probability, 1):>7}"
    return Content.styled(f"{mark}{words}".ljust(width), style)


def round_of(happened: TextRound, place: int, total: int, rejected: Sequence[str]) -> Content:
    """Return the events of the round that a token came in."""
    if happened.drafted:
        words = f"{happened.drafted} drafted, {happened.accepted} accepted"
        if happened.looked_up:
            words += f", {happened.looked_up} looked up"
    else:
        words = "nothing was drafted"
    took, draft, verify = (
        f"{1_000 * seconds:,.1f}"
        for seconds in (happened.seconds, happened.draft_seconds, happened.verify_seconds)
    )
    lines = [
        Content.styled(f"round {place + 1:,} of {total:,}", "bold"),
        Content(words),
        Content.styled(f"{took} ms: draft {draft}, verify {verify}", "$quiet"),
    ]
    if rejected:
        words = " ".join(_named(each, 12) for each in rejected)
        lines.append(Content.assemble(("rejected ", "$quiet"), (clean_line(words, 32), "$token-rejected")))
    return Content("\n").join(lines)


def figures(rounds: Sequence[TextRound]) -> Content:
    """Return the acceptance by position in a round, and over the answer."""
    tries = acceptance((each.drafted, each.accepted) for each in rounds)
    tone = "$token-head" if drafted_by_head(rounds) else "$token-draft"
    if not tries:
        return Content.styled("Nothing was drafted in this answer.", "$quiet")
    lines = [Content.assemble(("Accepted by place in the round", "bold $primary"))]
    for place, each in enumerate(tries[:_PLACES]):
        full = cells(each.rate, _BAR)
        lines.append(
            Content.assemble(
                f"{place + 1:>2} ",
                ("━" * full, tone),
                ("─" * (_BAR - full), "$line"),
                f" {percent(each.rate, 1):>7}",
                (f" of {each.reached:,}", "$quiet"),
            )
        )
    if len(tries) > _PLACES:
        lines.append(Content.styled(f"   and {len(tries) - _PLACES} more places", "$quiet"))
    stretches = gained(rounds, WIDTH - 4)
    low, high = min(stretches), max(stretches)
    lines += [
        Content(""),
        Content.assemble(("Tokens per round, start to end", "bold $primary")),
        Content.styled("".join(_level(each, high) for each in stretches), tone),
        Content.styled(f"{number(low, '')} to {number(high, '')}", "$quiet"),
    ]
    return Content("\n").join(lines)


def _level(value: float, highest: float) -> str:
    return _LEVELS[min(len(_LEVELS) - 1, int(value / highest * len(_LEVELS)))] if highest else _LEVELS[0]


def _named(text: str, width: int) -> str:
    """Return a token's text in quotation marks, cut to `width`."""
    shown = visible(text)
    return f"“{shown if len(shown) <= width - 2 else shown[: width - 3] + '…'}”"
