"""Answers the app's questions about the library, each on a thread of its own, beside loads and answers.

Every error becomes a `Failed` with the question's id. It loads nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from time import monotonic

from ..protocol import (
    DescribeModel,
    DraftsJudged,
    Event,
    FoundModel,
    JudgeDrafts,
    ListModels,
    MemoryPlanned,
    ModelDescribed,
    ModelsFound,
    ModelsListed,
    PairsProposed,
    PlanMemory,
    ProposePairs,
    Question,
    Reply,
    Skipped,
)
from .downloader import NOTHING, relay
from .library.catalogue import pairs_for
from .library.local import Library
from .machine.bandwidth import decoding_bound
from .machine.hardware import all_memory
from .pair.exactness import last_known
from .pair.memory_plan import plan
from .sentences import failure

_BATCH = 64
_PATIENCE = 0.1
"""Seconds after which found models are sent, even if they are few."""

Wanted = Callable[[], bool]


def answer(
    question: Question, send: Callable[[Event], None], wanted: Wanted, for_hub: Mapping[str, str] = NOTHING
) -> None:
    """Send the replies to `question` as long as it is wanted. Only downloaders see `for_hub`."""
    try:
        for reply in _replies(question, Library.here(all_memory), wanted, for_hub):
            if not wanted():
                return
            send(reply)
    except Exception as error:  # the process edge
        send(failure(question.id, error))


def _replies(
    question: Question, library: Library, wanted: Wanted, for_hub: Mapping[str, str]
) -> Iterator[Event]:
    match question:
        case ListModels():
            yield from _list(question, library, wanted)
        case DescribeModel():
            model = library.described(question.load, wanted)
            yield ModelDescribed(question.id, model, last_known(model.path))
        case JudgeDrafts():
            yield DraftsJudged(question.id, library.verdicts(question.load, wanted))
        case PlanMemory():
            load = library.resolved(question.load, wanted)
            loaded = question.loaded and library.resolved(question.loaded, wanted)
            yield MemoryPlanned(question.id, *plan(load, loaded))
        case ProposePairs():
            yield PairsProposed(question.id, pairs_for(all_memory(), decoding_bound()))
        case _:
            yield from relay(question, wanted, settings=for_hub)


def _list(question: ListModels, library: Library, wanted: Wanted) -> Iterator[Reply]:
    began = last = monotonic()
    skipped: list[Skipped] = []
    models: list[FoundModel] = []
    for found in library.models(question.folders, wanted):
        if isinstance(found, Skipped):
            skipped.append(found)
            continue
        models.append(found)
        if len(models) >= _BATCH or monotonic() > last + _PATIENCE:
            yield ModelsFound(question.id, tuple(models))
            models, last = [], monotonic()
    if models:
        yield ModelsFound(question.id, tuple(models))
    yield ModelsListed(question.id, tuple(skipped), monotonic() - began)
