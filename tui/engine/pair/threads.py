"""Chooses the number of threads for a model on a machine that does other work too.

llama.cpp's threads wait for each other at every node of the graph. If another program takes the core of one
thread, all stand still until it runs again. On two cores, one of them taken, one thread is faster than two.
So the number follows the present speed, from one round to the next.

`Threads` decides. It reads no clock and knows no model. The times of rounds come in as plain numbers, and
only their ratios count, so it needs no facts about models or machine. `Crew` asks the system for these
numbers and sets the threads of a pair. Neither changes a round that is running.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf, log
from pathlib import Path
from time import perf_counter, sleep
from typing import NamedTuple, Protocol, runtime_checkable

_LOOK = 0.25
"""Seconds of rounds for one decision, unless a single round takes longer."""
_ROUNDS = 3
"""Rounds of one trial, unless they take longer than `_LOOK`."""
_TAKEN, _LOST = 10.0, 0.25
"""Other programs are in the way if they take a core from the threads this many times a second, and this many
cores in all. A program that only wakes now and then, as the app does to paint, takes less."""
_FREE = 0.7
"""Cores that are idle beside the threads, on average, from which one more thread is tried."""
_FASTER, _AS_FAST, _HOPELESS = 0.9, 1.05, 1.5
"""Times of rounds in a trial, as a share of the times before it. Up to the first, fewer threads are kept; up
to the second, more threads are. Above the third, the trial ends at once."""
_WAIT, _LONGEST_FEWER, _LONGEST_MORE = 1.0, 64.0, 3.0
"""Seconds to the next trial after a failed one. They double up to the second value for fewer threads, and to
the third for more, which is short so that a machine that becomes free is soon used."""
_PAUSE = 10.0
"""Pause after a failed trial, in multiples of the trial's time. So trials never take more than a tenth."""
_NEAR = 4.0
"""Factor between two numbers of rows. Within it, the usual time of one helps to judge the other."""
_LOOKS, _BETWEEN = 6, 0.004
"""Looks at the running threads of the machine before an answer, and seconds between two of them. A program
that computes is seen at each; one that only wakes, as the app does to paint a prompt, is not."""
_GAIN = 0.1
"""Share by which a new time on a quiet machine changes the usual time."""


class CallCost(NamedTuple):
    """The resources of one round, or of one chunk of a prompt."""

    rows: int
    """Rows that the main model computed."""
    seconds: float
    """Seconds of the main model."""
    elapsed: float
    """Seconds since the end of the round before."""
    cpu: float
    """Processor seconds of all threads of this process together."""
    preempted: int
    """Number of times that another program took the core of one of them."""
    idle: float | None
    """Core seconds that nobody used in that time; None if the system does not say."""


@dataclass
class _Stretch:
    """Consecutive rounds with the same number of threads."""

    seen: list[tuple[int, float]] = field(default_factory=list)
    """Rows and seconds of each round."""
    elapsed: float = 0.0
    cpu: float = 0.0
    preempted: int = 0
    idle: float | None = 0.0

    def add(self, spent: CallCost) -> None:
        self.seen.append((spent.rows, spent.seconds))
        self.elapsed += spent.elapsed
        self.cpu += spent.cpu
        self.preempted += spent.preempted
        self.idle = None if self.idle is None or spent.idle is None else self.idle + spent.idle


class Threads:
    """Decides the number of threads for the next round: at most `most`, as many as are useful."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.count = most
        """Threads for the next round."""
        self._usual: dict[int, float] = {}
        """Usual seconds by number of rows, with all threads on a quiet machine, as far as known."""
        self._slowness = 1.0
        self._stretch = _Stretch()
        self._before: tuple[int, float] | None = None
        """During a trial: the number of threads before it, and the slowness to beat."""
        self._since = _LONGEST_FEWER
        """Seconds of rounds since the last trial failed."""
        self._wait, self._pause = _WAIT, 0.0
        self._in_vain = inf
        """The slowness that the last trial with fewer threads did not improve."""

    @property
    def settled(self) -> int:
        """The chosen number of threads, also during a trial."""
        return self._before[0] if self._before else self.count

    def start(self, room: float | None = None) -> None:
        """Begin an answer. The machine may have changed, so more threads may be tried at once.

        `room` is the number of cores that other programs left before it, if known. Else the last number
        stays.
        """
        self.count, self._before = self.settled, None
        if room is not None:
            self.count = min(self.most, max(1, int(room + 1 - _FREE)))
        self._stretch = _Stretch()
        self._since, self._pause = max(self._since, _LONGEST_MORE), 0.0

    def observe(self, spent: CallCost) -> None:
        """Take in a finished round with `count` threads. An invalid duration is ignored."""
        if not (spent.seconds > 0 and spent.elapsed > 0):
            return
        self._stretch.add(spent)
        self._since += spent.elapsed
        if self._before:
            self._judge(*self._before)
        elif self._stretch.elapsed >= _LOOK:
            self._consider()

    def _slowness_of(self, seen: _Stretch) -> float:
        """Return its seconds divided by the usual ones, by known numbers of rows or similar ones."""
        known = [each for each in seen.seen if each[0] in self._usual] or seen.seen
        usual = [self._usual_of(rows) or seconds / self._slowness for rows, seconds in known]
        return sum(seconds for _, seconds in known) / sum(usual)

    def _usual_of(self, rows: int) -> float | None:
        near = min(self._usual, key=lambda known: abs(log(known / rows)), default=rows)
        return self._usual.get(near) if 1 / _NEAR <= near / rows <= _NEAR else None

    def _consider(self) -> None:
        """Decide at the end of a stretch whether to try another number of threads."""
        seen, self._stretch = self._stretch, _Stretch()
        self._settle(seen, self._slowness_of(seen))
        lost = self.count * seen.elapsed - seen.cpu
        crowded = seen.preempted > _TAKEN * seen.elapsed and lost > _LOST * seen.elapsed
        free = seen.idle is None or seen.idle > _FREE * seen.elapsed
        worse = self._slowness > _HOPELESS * self._in_vain
        soon = max(self._pause, min(self._wait, _LONGEST_MORE))
        if crowded and self.count > 1 and (worse or self._since >= max(self._pause, self._wait)):
            self._try(self._fewer(seen))
        elif free and self.count < self.most and self._since >= soon:
            self._try(self.count + 1)
        elif not crowded and self.count == self.most:
            for rows, seconds in seen.seen:
                self._usual[rows] += _GAIN * (seconds - self._usual[rows])

    def _fewer(self, seen: _Stretch) -> int:
        """Return how many threads have their own core, if each other one shares its core."""
        shared = round(2 * (self.count - seen.cpu / seen.elapsed))
        return min(self.count - 1, max(1, self.count - shared))

    def _settle(self, seen: _Stretch, slowness: float) -> None:
        """Keep the present number of threads, and note its slowness."""
        self._slowness = slowness
        for rows, seconds in seen.seen:
            self._usual.setdefault(rows, seconds / slowness)

    def _try(self, count: int) -> None:
        self._before = self.count, self._slowness
        self.count = count

    def _judge(self, count: int, slowness: float) -> None:
        """End the trial against `count` threads as soon as its result is clear."""
        seen, now = self._stretch, self._slowness_of(self._stretch)
        if now <= _HOPELESS * slowness and len(seen.seen) < _ROUNDS and seen.elapsed < _LOOK:
            return
        if now <= slowness * (_FASTER if self.count < count else _AS_FAST):
            self._settle(seen, now)
            self._wait, self._pause, self._in_vain = _WAIT, 0.0, inf
        else:
            if self.count < count:
                self._in_vain = slowness
            self.count, self._since, self._pause = count, 0.0, _PAUSE * seen.elapsed
            self._wait = min(_LONGEST_FEWER, 2 * self._wait)
        self._before, self._stretch = None, _Stretch()


@runtime_checkable
class Threaded(Protocol):
    """A model whose threads can be changed between two calls."""

    threads: int
    """Threads of the model on a quiet machine; 0 if it does not compute with threads of ours."""

    def set_threads(self, count: int) -> None: ...


class Usage(NamedTuple):
    """The counts so far; in seconds, except `preempted`."""

    clock: float
    cpu: float
    """Processor time of all threads of this process."""
    preempted: int
    """Number of times that one of them had to leave its core to another program."""


def usage_now() -> Usage:
    own = resource.getrusage(resource.RUSAGE_SELF)
    return Usage(perf_counter(), own.ru_utime + own.ru_stime, own.ru_nivcsw)


def idle_now() -> float | None:
    """Return the seconds that the cores of this process have been idle; None if the system does not say."""
    try:
        lines = Path("/proc/stat").read_bytes().splitlines()
        mine = {b"cpu%d" % core for core in os.sched_getaffinity(0)}
        times = [line.split() for line in lines if line.startswith(b"cpu")]
        return sum(int(each[4]) + int(each[5]) for each in times if each[0] in mine) / os.sysconf(
            "SC_CLK_TCK"
        )
    except (OSError, AttributeError, ValueError, IndexError):
        return None


def running_now() -> int | None:
    """Return the threads of this machine, this one included, that compute or wait for a core; None if the
    system does not say."""
    try:
        lines = Path("/proc/stat").read_bytes().splitlines()
        return next((int(line.split()[1]) for line in lines if line.startswith(b"procs_running")), None)
    except (OSError, ValueError, IndexError):
        return None


def free_now(cores: int, running: Callable[[], int | None] = running_now) -> int:
    """Return how many of `cores` no other program uses at this moment; 0 if unknown. Takes up to 20 ms."""
    free = 0
    for look in range(_LOOKS):
        if look:
            sleep(_BETWEEN)
        if (count := running()) is not None:
            free = max(free, min(cores, cores + 1 - count))
        if free == cores:
            break
    return free


class Room:
    """Measures how many cores other programs leave to this one, on average since its creation."""

    def __init__(
        self, usage: Callable[[], Usage] = usage_now, idle: Callable[[], float | None] = idle_now
    ) -> None:
        self._usage, self._idle = usage, idle
        self._since, self._idle_since = usage(), idle()

    def cores(self) -> float | None:
        """Return the number of cores; None if unknown, or not known yet."""
        now, idle = self._usage(), self._idle()
        seconds = now.clock - self._since.clock
        if idle is None or self._idle_since is None or seconds < _LOOK:
            return None
        return (idle - self._idle_since + now.cpu - self._since.cpu) / seconds


class Crew:
    """The threads of a pair, set anew between two rounds for all models, each within its own maximum."""

    def __init__(
        self,
        models: Sequence[Threaded],
        room: Room | None = None,
        usage: Callable[[], Usage] = usage_now,
        idle: Callable[[], float | None] = idle_now,
        free: Callable[[int], float] = free_now,
    ) -> None:
        """`models` has the main model first. `room` has measured the machine until now. `free` returns how
        many of some cores nobody uses at this moment."""
        self._models = models
        self._free = free
        self._threads = Threads(models[0].threads)
        self._usage, self._idle = usage, idle
        self._room = room or Room(usage, idle)
        self._last = usage()
        self._last_idle: float | None = None
        self._set_to = 0

    @classmethod
    def of(cls, room: Room, *models: object) -> Crew | None:
        """Return the threads of a pair, main model first; None if it uses no threads of ours, or only one."""
        ours = [model for model in models if isinstance(model, Threaded) and model.threads]
        return cls(ours, room) if ours and ours[0] is models[0] and ours[0].threads > 1 else None

    @property
    def most(self) -> int:
        return self._threads.most

    @property
    def count(self) -> int:
        """The chosen number of threads."""
        return self._threads.settled

    def start(self) -> None:
        """Begin an answer or a measurement.

        A program that took its cores until now may just have ended, so fewer threads need both signs: cores
        that were taken before, and cores that are taken at this moment.
        """
        room = self._room.cores()
        if room is not None and room < self.most:
            room = max(room, self._free(self.most))
        self._threads.start(room)
        self._last, self._last_idle, self._set_to = self._usage(), None, 0
        self._set()

    def rest(self) -> None:
        """End an answer. Until the next one, measure the cores that other programs leave."""
        self._room = Room(self._usage, self._idle)

    def passed(self, rows: int, seconds: float) -> bool:
        """Take in a round of `rows` rows with `seconds` of the main model. Return whether `count` changed."""
        last, self._last = self._last, self._usage()
        since = [now - then for now, then in zip(self._last, last, strict=True)]
        count = self.count
        self._threads.observe(CallCost(rows, seconds, since[0], since[1], int(since[2]), self._idled()))
        self._set()
        return self.count != count

    def _idled(self) -> float | None:
        """Return the idle core seconds since the last look. With all threads at work nobody looks."""
        if self._threads.count == self._threads.most:
            self._last_idle = None
            return 0.0
        last, self._last_idle = self._last_idle, self._idle()
        if self._last_idle is None:
            return None
        return 0.0 if last is None else self._last_idle - last

    def _set(self) -> None:
        if self._set_to != self._threads.count:
            self._set_to = self._threads.count
            for model in self._models:
                model.set_threads(min(model.threads, self._set_to))
