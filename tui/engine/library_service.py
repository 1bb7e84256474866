"""Answers the app's questions about the library, each on a thread of its own, beside loads and answers.

Every error becomes a `Failed` with the question's id. It loads nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from time import monotonic

from .. import protocol
from ..paths import find_models, find_states
from .downloader import NOTHING, relay
from .library.catalogue import pairs_for
from .library.local import Library, Wanted
from .library.requantized import requantized
from .machine.bandwidth import decoding_bound
from .machine.hardware import all_memory
from .machine.worker_pool import WorkerPool
from .pair.distribution import planned_memory, present_library, surveyed
from .pair.exactness import last_known
from .sentences import failure
from .states.state_folder import StateFolder

_BATCH = 64
_PATIENCE = 0.1
"""Seconds after which found models are sent, even if they are few."""


def answer(
    question: protocol.Question,
    send: Callable[[protocol.Event], None],
    wanted: Wanted,
    for_hub: Mapping[str, str] = NOTHING,
    workers: WorkerPool | None = None,
) -> None:
    """Send the replies to `question` as long as it is wanted. Only downloaders see `for_hub`.

    `workers` are the workers that loads may use.
    """
    try:
        pool = workers or WorkerPool()
        for reply in _replies(question, Library.here(all_memory), wanted, for_hub, pool):
            if not wanted():
                return
            send(reply)
    except Exception as error:  # the process edge
        send(failure(question.id, error))


def _replies(
    question: protocol.Question,
    library: Library,
    wanted: Wanted,
    for_hub: Mapping[str, str],
    workers: WorkerPool,
) -> Iterator[protocol.Event]:
    match question:
        case protocol.ListModels():
            yield from _list(question, library, wanted)
        case protocol.DescribeModel():
            model = library.described(question.load, wanted)
            yield protocol.ModelDescribed(question.id, model, last_known(model.path))
        case protocol.JudgeDrafts():
            yield protocol.DraftsJudged(question.id, library.verdicts(question.load, wanted))
        case protocol.PlanMemory():
            load = library.resolved(question.load, wanted)
            loaded = question.loaded and library.resolved(question.loaded, wanted)
            yield planned_memory(question, load, loaded, workers)
        case protocol.SurveyWorkers():
            yield protocol.WorkersSurveyed(
                question.id, surveyed(workers.reach(question.workers, present_library()))
            )
        case protocol.ProposePairs():
            yield protocol.PairsProposed(question.id, pairs_for(all_memory(), decoding_bound()))
        case protocol.Requantize():
            model = library.described(question.load, wanted)
            yield from requantized(question, model, find_models(), wanted)
        case protocol.CountStates():
            yield protocol.StatesCounted(question.id, *StateFolder(find_states(), 0).usage())
        case protocol.ForgetStates():
            raise ValueError("the session answers this")
        case _:
            yield from relay(question, wanted, settings=for_hub)


def _list(question: protocol.ListModels, library: Library, wanted: Wanted) -> Iterator[protocol.Reply]:
    began = last = monotonic()
    skipped: list[protocol.Skipped] = []
    models: list[protocol.FoundModel] = []
    for found in library.models(question.folders, wanted):
        if isinstance(found, protocol.Skipped):
            skipped.append(found)
            continue
        models.append(found)
        if len(models) >= _BATCH or monotonic() > last + _PATIENCE:
            yield protocol.ModelsFound(question.id, tuple(models))
            models, last = [], monotonic()
    if models:
        yield protocol.ModelsFound(question.id, tuple(models))
    yield protocol.ModelsListed(question.id, tuple(skipped), monotonic() - began)
