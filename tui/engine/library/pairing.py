"""Judges which models can draft for a main model, and predicts the speed-up: a verdict with its reason for
each.

A speed-up measured on this machine takes the place of a prediction, and a verdict tells which of them it is.
The prediction assumes that decoding is bound by the bytes of the weights, and that the acceptance rate
depends on the model family. It ranks drafts and promises nothing. A very small main model gets no prediction,
because its speed does not depend on the bytes. A head is ranked like any draft, by its own bytes. Only
headers are compared: no model is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ...choices import HEAD, LOOKUP, NONE, DraftChoice, drafts_with_model
from ...protocol import DraftVerdict, FoundModel, Judgement, Obstacle, Skipped
from ..eligibility import NOT_SMALLER, bad_file, other_backend, unfit_folder, unfit_head, vocabularies
from .describe import tokens_of
from .gguf import BadModelFile
from .head_bytes import bytes_of_step
from .header import read_header
from .mlx_folder import read_folder
from .records import Measured
from .token_texts import Tokens

WORTHWHILE = 1.05
"""Speed-up below which a draft is possible, but not recommended."""
LARGEST = 1 / 3
"""Largest size of a draft as a share of the main model. A larger one seldom pays."""
SMALLEST = 100 << 20
"""Bytes of a main model. In a step of a smaller one, the calls take longer than reading the weights."""
_LONGEST = 8
"""Drafted tokens: the longest draft length of a prediction."""
_SAME_FAMILY, _OTHER_FAMILY = 0.75, 0.6
"""Predicted chance that a drafted token is accepted. Published pairs have 0.6 to 0.9."""
_OF_HEAD = 0.8
"""The same for a token of a head. Published heads have 66 to 75 % of three tokens a round accepted, which is
a chance of 0.8 to 0.86 for each."""
_KINDS = {"mtp": "MTP", "eagle3": "EAGLE-3", "assistant": "Gemma 4 assistant"}
"""Names of the kinds of heads."""
_SLOW = "its tokens take longer than the main model's"
_ORDER = {"recommended": 0, "possible": 1, "no": 2}

Past = Callable[[str, DraftChoice], Measured | None]
"""Returns the measured speed-up of a draft (its path, `HEAD` or `LOOKUP`) for a main model."""
Cost = Callable[[str, DraftChoice], float | None]
"""Returns the measured time of a drafted token, as a share of a token of the main model."""
Room = Callable[[FoundModel], Obstacle | None]
"""Returns the reason why a draft does not fit into memory beside the main model; None if it fits."""


class Judge:
    """Judges drafts for one main model. It keeps the vocabularies that it has read."""

    def __init__(
        self, main: FoundModel, past: Past, row_cost: float, room: Room = lambda draft: None,
        cost: Cost = lambda main, draft: None,
    ) -> None:  # fmt: skip
        """`row_cost` is one more row in a batch, as a share of the first row; about 0.05 on a GPU."""
        self._main = main
        self._past = past
        self._row_cost = row_cost
        self._room = room
        self._cost = cost
        self._tokens: Tokens | None = None
        self._heads = {HEAD} if main.head == "mtp" else set()
        """The heads among the possible drafts."""
        self._known: dict[str, Obstacle | None] = {main.fingerprint: None}

    def all(self, models: Iterable[FoundModel], skipped: Sequence[Skipped] = ()) -> tuple[DraftVerdict, ...]:
        """Return a verdict on every model, on the head of the main model, on lookup alone and on no draft.

        The best comes first, then the smaller one.
        """
        drafts = [self._head()] if HEAD in self._heads else []
        drafts += [self.verdict(model) for model in sorted(models, key=lambda model: model.size)]
        drafts += [DraftVerdict(each.path, Path(each.path).name, "no", each.reason) for each in skipped]
        helped = any(each.judgement == "recommended" for each in drafts)
        return tuple(sorted([*drafts, self._lookup(helped), self._none()], key=self._rank))

    def verdict(self, draft: FoundModel) -> DraftVerdict:
        """Return the verdict on one model. Reads its vocabulary if necessary."""
        if obstacle := self._obstacle(draft):
            return DraftVerdict(draft.path, draft.name, "no", obstacle.text)
        if draft.only_head:
            self._heads.add(draft.path)
            return self._of_head(
                draft.path, draft.name, f"a head ({_KINDS[draft.head]}) that fits this model", draft
            )
        past, cost = self._past(self._main.path, draft.path), self._cost(self._main.path, draft.path)
        same = _family(draft) == _family(self._main)
        acceptance = _SAME_FAMILY if same else _OTHER_FAMILY
        gain = self._gain(past, cost, draft.size / self._main.size, acceptance)
        judgement, reason = self._judged(draft, past, cost, gain)
        return _verdict(draft.path, draft.name, judgement, f"same tokenizer, {reason}", gain, past)

    def _judged(
        self, draft: FoundModel, past: Measured | None, cost: float | None, gain: float | None
    ) -> tuple[Judgement, str]:
        """Return the judgment on a draft model that can draft, and its reason."""
        share = f"{_share(draft.size / self._main.size)} of the main model's size"
        worthwhile = gain is None or gain >= WORTHWHILE
        if past:
            return "recommended" if worthwhile else "possible", share
        if cost is not None and cost >= 1:
            return "possible", f"{share}; {_SLOW}"
        if draft.size > LARGEST * self._main.size:
            return "possible", f"but {share}: more than a third seldom pays"
        if "recurrent" in draft.traits:
            return "possible", f"{share}; recurrent: it reads again after each rejection"
        if not worthwhile:
            return "possible", f"{share}; verifying several tokens is slow here"
        return "recommended", share

    def _obstacle(self, draft: FoundModel) -> Obstacle | None:
        if draft.backend != self._main.backend:
            return other_backend(draft.backend, self._main.backend)
        if obstacle := (self._misfit(draft) if draft.only_head else None) or self._difference(draft):
            return obstacle
        if draft.size >= self._main.size:
            return NOT_SMALLER
        return self._room(draft)

    def _misfit(self, head: FoundModel) -> Obstacle | None:
        """Return why a head in a file of its own is the head of another model."""
        main, own = self._main.path, head.path
        try:
            if head.backend == "mlx":
                return unfit_folder(read_folder(main), read_folder(own), "headers")
            return unfit_head(read_header(main), read_header(own), "headers")
        except BadModelFile as error:
            return bad_file(error)

    def _difference(self, draft: FoundModel) -> Obstacle | None:
        """Return the difference of the vocabularies. Most models share one of a few, so each is read once."""
        if draft.fingerprint not in self._known:
            try:
                if self._tokens is None:
                    self._tokens = tokens_of(Path(self._main.path))
                theirs = tokens_of(Path(draft.path))
                self._known[draft.fingerprint] = vocabularies(self._tokens, theirs, "headers")
            except BadModelFile as error:
                return bad_file(error)
        return self._known[draft.fingerprint]

    def _gain(
        self, past: Measured | None, cost: float | None, share: float | None, acceptance: float
    ) -> float | None:
        """Return the measured speed-up, else the predicted one at the best fixed draft length; None if there
        is no prediction.

        Where the cost of a drafted token was not measured, it is `share`, that of the bytes. `acceptance` is
        the chance of a token.
        """
        cost = cost or share
        if past:
            return past.speed_up
        if self._main.size < SMALLEST or cost is None:
            return None
        best, expected = 1.0, 1.0
        for length in range(1, _LONGEST + 1):
            expected += acceptance**length
            best = max(best, expected / (1 + length * (cost + self._row_cost)))
        return best

    def _of_head(
        self, draft: DraftChoice, name: str, reason: str, head: FoundModel | None = None
    ) -> DraftVerdict:
        """Return the verdict on a head that can draft: that of the main model's file, or `head`."""
        past, cost = self._past(self._main.path, draft), self._cost(self._main.path, draft)
        read = bytes_of_step(self._main, head)
        gain = self._gain(past, cost, read and read / self._main.size, _OF_HEAD)
        slow = not past and cost is not None and cost >= 1
        worthwhile = not slow and (gain is None or gain >= WORTHWHILE)
        if slow:
            reason += f"; {_SLOW}"
        return _verdict(draft, name, "recommended" if worthwhile else "possible", reason, gain, past)

    def _head(self) -> DraftVerdict:
        return self._of_head(
            HEAD, "its own head (MTP)", "a part of the main model's file, trained to draft for it"
        )

    def _lookup(self, helped: bool) -> DraftVerdict:
        past = self._past(self._main.path, LOOKUP)
        reason = "repeats text already in the chat, no extra model"
        judgement: Judgement = "possible" if helped else "recommended"
        return _verdict(LOOKUP, "lookup", judgement, reason, past.speed_up if past else None, past)

    def _none(self) -> DraftVerdict:
        return DraftVerdict(NONE, "no draft", "possible", "plain decoding", 1.0)

    def _rank(self, verdict: DraftVerdict) -> tuple[int, bool, float, int]:
        """Within a judgement, put the larger speed-up first, an unknown one last, and no draft behind all.

        A head comes first only where its speed-up is at least that of the others. An unknown one is not.
        """
        is_head, known = verdict.draft in self._heads, verdict.speed_up is not None
        order = 2 if verdict.draft == LOOKUP else int(is_head is not known)
        return _ORDER[verdict.judgement], verdict.draft == NONE, -(verdict.speed_up or 0.0), order


def _verdict(
    draft: DraftChoice, name: str, judgement: Judgement, reason: str, gain: float | None,
    past: Measured | None,
) -> DraftVerdict:  # fmt: skip
    return DraftVerdict(draft, name, judgement, reason, gain, past.answers if past else 0)


def best_draft(verdicts: Iterable[DraftVerdict]) -> DraftChoice:
    """Return the best recommended draft model, by its path or as `HEAD`; `LOOKUP` if there is none."""
    good = (
        each.draft for each in verdicts if each.judgement == "recommended" and drafts_with_model(each.draft)
    )
    return next(good, LOOKUP)


def _family(model: FoundModel) -> str:
    """Return the first word of the name, such as "qwen": the versions of a family share much training."""
    name = "".join(c if c.isalpha() else " " for c in model.name).split()
    return name[0].lower() if name else model.architecture


def _share(part: float) -> str:
    return f"1/{1 / part:.0f}" if 0 < part <= 1 / 4 else f"{part * 100:.0f} %"
