"""A main model and perhaps a draft, loaded, warmed up and timed.

An unusable draft is no failure: the pair then gives the reason why it has none. If nothing may draft for a
main model, it answers plainly. Answers are made elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from time import perf_counter

from ...choices import HEAD, NONE, drafts_with_model, is_scripted
from ...paths import find_costs, find_starter
from ...protocol import Load, Obstacle, Rounding
from ..backends import Backend, GivenUp, LimitsDrafts, LoadedModel, ModelError, Options, Role, asking
from ..backends.selection import open_backend
from ..eligibility import NOTHING_COPIED, POLICY, broken_draft
from ..library.describe import holds_only_head
from ..speculation.chances import LONGEST
from ..speculation.lookup import Lookup
from ..speculation.loop import DraftLengthPolicy, Round
from ..speculation.policy import AdaptiveLength, FixedLength
from ..speculation.sampling import Chain, InvalidLogits, Sampler
from ..starter import NAME as STARTER
from ..starter import place
from ..starter.mlx import starter_folder
from .costs import SECONDS, RememberedCosts, first_tokens, fresh_policy
from .distribution import HERE, Distributed
from .exactness import Judged, judge, keep_last
from .practice import Practice
from .reading import ContextReader
from .rounding import Going
from .stages import Progress, Stages
from .threads import Crew, Room

_SAMPLES = 12
_SECONDS = 0.5

_SHOWN = 4
"""The draft length of models that only demonstrate drafting: the demo pair, and scripted ones."""

PLAIN = "Measuring plain decoding"
PAYING = "Measuring how far drafting pays"
"""Stages of a load after the weights."""


@dataclass(frozen=True)
class Pair:
    """A loaded pair."""

    backend: Backend
    main: LoadedModel
    draft: LoadedModel | None
    obstacle: Obstacle | None
    """Why the wanted draft is not used, or why nothing may draft for the main model; None if all is well."""
    first_speed: float | None
    """Tokens per second of the main model alone at load; None if it could not be measured."""
    policy: DraftLengthPolicy
    """Chooses the draft length if the person leaves it to the engine."""
    reader: ContextReader
    """Reads contexts into the main model's cache."""
    lookup: Lookup | None
    """None if nothing may draft."""
    memory: RememberedCosts | None = None
    """Keeps the learned facts of `policy` on disk; None for a policy that learns nothing."""
    rounding: Rounding | None = None
    """None if it is unknown."""
    later: Callable[[Going], Rounding] | None = None
    """Measures more of the rounding while the engine is idle; see `exactness`."""
    practice: Practice | None = None
    """Improves the uncertain costs; None for a policy that learns nothing."""
    crew: Crew | None = None
    """Adapts the number of threads to a busy machine; None if the number is fixed."""

    @property
    def models(self) -> tuple[LoadedModel, ...]:
        """The main model, and the draft if there is one."""
        return (self.main, self.draft) if self.draft else (self.main,)

    @property
    def longest_draft(self) -> int:
        """Most tokens that may be drafted in a round."""
        kept = self.main.longest_draft if isinstance(self.main, LimitsDrafts) else LONGEST
        return min(kept, self.rounding.rows - 1) if self.rounding and self.rounding.exact else kept

    @property
    def plain_tokens_per_second(self) -> float | None:
        """Speed of the main model alone, by the latest figures: an adaptive policy keeps it up to date."""
        return self.policy.plain_rate if isinstance(self.policy, AdaptiveLength) else self.first_speed

    @property
    def draft_cost(self) -> float | None:
        """Time of a drafted token, as a share of a token of the main model; None if nothing was measured."""
        if self.draft is None or not isinstance(self.policy, AdaptiveLength):
            return None
        return float(self.policy.costs.draft / self.policy.costs.verify[0])

    @property
    def why_idle(self) -> Obstacle | None:
        """The reason why nobody proposes at this moment; None for a policy that always drafts."""
        if self.draft is None:
            return NOTHING_COPIED
        return POLICY[self.policy.why_not] if isinstance(self.policy, AdaptiveLength) else None

    def plain_seconds(self, happened: Round) -> float | None:
        """Return the seconds that plain decoding would have taken for a round; None for a policy that
        measures nothing."""
        return self.policy.costs.plain_seconds(happened) if isinstance(self.policy, AdaptiveLength) else None

    def clear(self) -> None:
        """Empty both caches."""
        for model in self.models:
            model.rewind(0)

    def practise(self, idle: Callable[[], bool]) -> None:
        """Measure the costs of rounds further, as long as the engine is idle.

        Raises `GivenUp` if a command comes during a call.
        """
        crew = self.crew
        if crew:
            crew.start()
        try:
            with asking(self.models, lambda tokens: idle()):
                if self.practice and self.practice.run(idle, crew.passed if crew else None):
                    self.remember()
        finally:
            if crew:
                crew.rest()

    def remember(self) -> None:
        """Keep the learned facts for the next load of this pair."""
        if self.memory and isinstance(self.policy, AdaptiveLength):
            self.memory.keep(self.policy)

    def close(self) -> None:
        """Free the models: the main model last, because a head is a part of it."""
        for model in reversed(self.models):
            model.close()


def load_pair(command: Load, progress: Progress, places: Distributed = HERE) -> Pair:
    """Load the models of `command`, which are paths. `places` has those of the main model's layers.

    Raises `ModelError` if the main model cannot be used.
    """
    path, room, stages = _path(command, command.main, "main"), Room(), Stages(progress)
    if not stages.reading("main model")(0.0):  # to import a backend takes a second
        raise GivenUp("the load was given up")
    backend = open_backend(path, command.backend)
    main, fault = _load_main(command, backend, path, stages, places)
    draft = None
    try:
        draft, obstacle = _load_draft(command, backend, main, stages) if fault is None else (None, fault)
        if command.exact:  # another number of threads rounds in another way
            return _paired(command, backend, main, draft, obstacle, stages)
        if crew := Crew.of(room, main, draft):
            crew.start()  # with one thread too many, measuring would take minutes on a busy machine
        pair = _paired(command, backend, main, draft, obstacle, stages)
        return replace(pair, crew=Crew.of(Room(), main, pair.draft))
    except BaseException:  # whatever ends the load: native memory is freed only here
        if draft:
            draft.close()
        main.close()
        raise


def _load_main(
    command: Load, backend: Backend, path: str, stages: Stages, places: Distributed
) -> tuple[LoadedModel, Obstacle | None]:
    """Return the main model, and the reason if it could be opened only without its head."""
    options = replace(Options.of(command, "main"), spread=places.spread, ring=places.ring)
    read = stages.reading("main model")
    try:
        return backend.load(path, options, read), None
    except ModelError as error:
        if not options.head:
            raise
        return backend.load(path, replace(options, head=False), read), broken_draft(error)


def _paired(
    command: Load,
    backend: Backend,
    main: LoadedModel,
    draft: LoadedModel | None,
    obstacle: Obstacle | None,
    stages: Stages,
) -> Pair:
    """Return the pair with a draft length policy that suits it."""
    scripted = is_scripted(command.main)
    judged = Judged() if scripted else judge(command, backend, main, stages)
    if judged.rounding:
        keep_last(main.facts.path, judged.rounding)
    with stages.measuring(PLAIN, _SECONDS, main):
        speed, rounding = plain_speed(main), judged.rounding
    plain = Pair(
        backend,
        main,
        None,
        None,
        speed,
        FixedLength(0),
        _reader(main, judged),
        None,
        rounding=rounding,
        later=judged.later,
    )
    if judged.obstacle or command.draft == NONE:
        if draft:
            draft.close()
        return replace(plain, obstacle=judged.obstacle if drafts_with_model(command.draft) else None)
    lookup = Lookup(main.vocabulary.control_tokens | main.vocabulary.end_tokens)
    pair = replace(
        plain, draft=draft, obstacle=obstacle, policy=FixedLength(_SHOWN), lookup=lookup, later=judged.later
    )
    return pair if scripted or command.main == STARTER else _measured(pair, command, stages)


def _reader(main: LoadedModel, judged: Judged) -> ContextReader:
    rows = judged.rounding.rows if judged.rounding and judged.rounding.exact else 0
    # A copy of a window lies in other cells: in exact mode each read would have to copy at the same places.
    return ContextReader(main, rows, checkpoints=judged.checkpoints and not (rows and main.drops_from))


def _measured(pair: Pair, command: Load, stages: Stages) -> Pair:
    """Return the pair with a policy that measures. Costs that an earlier load measured are used again."""
    backend, plain = pair.backend, 1 / pair.first_speed if pair.first_speed else None
    rest = [backend.name, backend.device(), command.cache_type, *(["exact"] if command.exact else [])]
    memory = RememberedCosts(find_costs(), pair.models, rest)
    if (policy := memory.recall(plain)) is None:
        with stages.measuring(PAYING, SECONDS, *pair.models):
            policy = fresh_policy(pair.main, pair.draft, plain)
    if policy is None:
        return replace(pair, memory=memory)
    practice = Practice(pair.main, pair.draft, policy.costs)
    return replace(pair, policy=policy, memory=memory, practice=practice)


def _path(command: Load, name: str, role: Role) -> str:
    """Return the path of the model, in the form that the wanted backend reads."""
    if name != STARTER or command.backend != "mlx":
        return place(name, role)
    try:
        return str(starter_folder(Path(place(name, role)), find_starter()))
    except OSError as error:
        reason = f"the starter pair cannot be written for MLX: {error}"
        raise ModelError(reason, "Make room for it.") from None


def _load_draft(
    command: Load, backend: Backend, main: LoadedModel, stages: Stages
) -> tuple[LoadedModel | None, Obstacle | None]:
    """Return the draft, or None and the reason; None alone if no model should draft."""
    if not drafts_with_model(command.draft):
        return None, None
    options = replace(Options.of(command, "draft"), context_length=main.capacity)
    try:
        path = "" if command.draft == HEAD else _path(command, command.draft, "draft")
        read = stages.reading("draft model")
        if not path or holds_only_head(path):
            draft = backend.load_head(main, options, path, read)
            if isinstance(draft, Obstacle):
                return None, draft
            obstacle = None
        else:
            draft = backend.load(path, options, read)
            obstacle = backend.mismatch(main, draft)
    except ModelError as error:
        return None, broken_draft(error)
    if obstacle := obstacle or _fault(draft, stages):
        draft.close()
        return None, obstacle
    return draft, None


def _fault(draft: LoadedModel, stages: Stages) -> Obstacle | None:
    """Return why `draft` cannot choose even one token; None if it can."""
    try:
        with stages.going_on("Preparing the draft model", draft):
            _first(draft)
        return None
    except GivenUp:
        draft.close()
        raise
    except (ModelError, InvalidLogits) as error:
        return broken_draft(error)
    finally:
        if draft.length:
            draft.rewind(0)


def plain_speed(model: LoadedModel, clock: Callable[[], float] = perf_counter) -> float | None:
    """Return the tokens per second, one token at a time, after one that warms up. Leaves the cache empty.

    Takes at most half a second, unless two tokens take longer. None if the model gives no valid numbers: an
    answer reports that.
    """
    taken: list[float] = []
    try:
        token = _first(model)
        until = clock() + _SECONDS
        while len(taken) < min(_SAMPLES, model.capacity - 1) and (len(taken) < 2 or clock() < until):
            began = clock()
            token = model.extend([token], picks=1)[0].token
            taken.append(clock() - began)
    except InvalidLogits:
        return None
    finally:
        model.rewind(0)
    return 1 / median(taken) if taken and min(taken) > 0 else None


def _first(model: LoadedModel) -> int:
    """Return the token that follows one other token."""
    model.start(Sampler(Chain(), seed=0, start=1))
    return model.extend(first_tokens(model), picks=1)[0].token
