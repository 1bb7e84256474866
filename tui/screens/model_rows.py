"""The models on the load screen in order, and the drafts for one of them, each as a row. It shows nothing."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
from dataclasses import dataclass

from textual.content import Content

from tui.chat.draft_race import PROMPTS, Lap
from tui.choices import COPY_FORMAT, NONE
from tui.clean import clean_line
from tui.protocol import DraftVerdict, FoundModel, Requantizing
from tui.quantities import UNKNOWN, cells, context, named, parameters, percent, size, speed_up
from tui.widgets.rows import Row

_MARKS = {"recommended": "●", "possible": "○", "no": "×"}
_TONES = {"recommended": "good", "possible": "plain", "no": "faint"}
_JUDGEMENTS = {"recommended": "recommended", "possible": "possible", "no": "cannot draft"}
_BAR = 16
"""Cells of the bar of a race."""
_COLORS = {"recommended": "$success", "possible": "$foreground", "no": "$warning"}


@dataclass(frozen=True)
class _Entry:
    """A model with its row and its search text, made once: a scan brings hundreds of models between two
    keys."""

    model: FoundModel
    row: Row
    text: str


class ModelRows:
    """The found models; it grows while the engine searches. Heads are in no row: they only draft."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._order: list[tuple[bool, str, int, str]] = []

    def __len__(self) -> int:
        return len(self._order)

    def add(self, models: Iterable[FoundModel]) -> None:
        for model in models:
            if model.path not in self._entries and not model.only_head:
                insort(self._order, (model.demo, model.name.casefold(), -model.size, model.path))
            self._entries[model.path] = _Entry(model, _row(model), _text(model))

    def clear(self) -> None:
        self._entries.clear()
        self._order.clear()

    def get(self, row: Row | None) -> FoundModel | None:
        return self.model(row.key) if row else None

    def model(self, path: str) -> FoundModel | None:
        entry = self._entries.get(path)
        return entry.model if entry else None

    def rows(self, words: str) -> list[Row]:
        """Return the rows of the models that contain all `words`: by name, the demo last."""
        wanted = words.casefold().split()
        entries = (self._entries[path] for *_, path in self._order)
        return [each.row for each in entries if all(word in each.text for word in wanted)]

    def models(self) -> Iterable[FoundModel]:
        return (each.model for each in self._entries.values())


def _row(model: FoundModel) -> Row:
    return Row(model.path, (named(model), size(model.size), model.source))


def _text(model: FoundModel) -> str:
    parts = (model.name, model.path, model.tag, model.quantization, model.architecture, model.source)
    return " ".join(parts).casefold()


def facts(model: FoundModel) -> str:
    """Return the facts in the model's file. Foreign text."""
    parts = [
        model.tag,
        model.architecture,
        "" if (count := parameters(model)) in (UNKNOWN, *model.name.split()) else f"{count} parameters",
        *model.traits,
        f"context {context(model.context_length)}",
        f"vocabulary {model.vocabulary:,}",
        model.license,
        "runs with MLX" if model.backend == "mlx" else "",
    ]
    return " · ".join(filter(None, parts))


def verdict_row(verdict: DraftVerdict) -> Row:
    """Return the row of a draft, with its measured or expected speed-up."""
    brought = _gain(verdict).replace("predicted ", "~").partition(" over ")[0]
    name = f"{_MARKS[verdict.judgement]} {verdict.name}"
    return Row(verdict.draft, (name, brought), _TONES[verdict.judgement])  # type: ignore[arg-type]


def judged(verdict: DraftVerdict, *, copy_pays: bool = False) -> Content:
    """Return the judgment, the measured or expected speed-up, and the reason.

    With `copy_pays`, name the key that writes a faster copy.
    """
    mark, judgement = _MARKS[verdict.judgement], _JUDGEMENTS[verdict.judgement]
    gain = ", ".join(filter(None, (judgement, _gain(verdict))))
    head = (f"{mark} {gain}: ", f"bold {_COLORS[verdict.judgement]}")
    hint = f"; F8 writes a copy in {COPY_FORMAT}, often faster" if copy_pays else ""
    return Content.assemble(head, (clean_line(verdict.reason), "$foreground"), (hint, "$quiet"))


def _gain(verdict: DraftVerdict) -> str:
    """Return the speed-up in words; empty for plain decoding, or if it is unknown."""
    return speed_up(verdict) if verdict.draft != NONE and verdict.speed_up else ""


def measuring(model: FoundModel | None, draft: FoundModel | None) -> str:
    """Return the words about a pair's memory before the plan is ready: the size of its files."""
    sizes = [f"main {size(model.size)}"] if model else []
    sizes += [f"draft {size(draft.size)}"] if draft else []
    return "  ".join(["measuring …", *sizes])


def progress(lap: Lap) -> Content:
    """Return the progress of the race in two lines."""
    doing = clean_line(f"{lap.draft}: {lap.doing}")
    return _progress("racing", lap.done, doing, f"{len(PROMPTS)} prompts for each draft; Esc ends the race")


def copying(copy: Requantizing) -> Content:
    """Return the progress of a copy in two lines."""
    done = min(copy.done / max(1, copy.total), 0.99)
    doing = f"{size(copy.done)} of about {size(copy.total)}"
    return _progress(f"writing a copy in {COPY_FORMAT}", done, doing, "the original stays; Esc ends the copy")


def _progress(what: str, done: float, doing: str, below: str) -> Content:
    full = cells(done, _BAR)
    return Content.assemble(
        (f"{what}  ", "bold $primary"),
        ("█" * full, "$primary"),
        ("░" * (_BAR - full), "$line"),
        (f"  {percent(done)}  ", "bold"),
        (doing, "$foreground"),
        (f"\n{below}", "$quiet"),
    )
