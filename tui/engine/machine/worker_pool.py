"""All workers of an engine, started when they are first needed and kept until the engine ends.

A worker that is lost while llama.cpp uses it ends the engine, because llama.cpp would abort or wait for ever.
One that is lost before that is started again at the next wish.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from time import monotonic
from typing import NoReturn

from ...errors import OutriderError
from ...host import Host
from ...protocol import WorkerHost
from .worker_link import WorkerLink, WorkerLost
from .worker_messages import Library, Surveyed

LOST = 3
"""Exit status of an engine that has lost a worker."""
SIGN = "worker lost: "
"""Begins the line on stderr that explains this end: a sentence and the next step, with a tab between."""
_REMEMBERED = 30.0
"""Seconds for which a plan takes a worker for missing that could not be started: a try may take ten."""
_EXPLAINED = 2.0
"""Seconds that the reason for a broken connection may take to arrive."""


@dataclass(frozen=True)
class ReachedWorker:
    """A worker that can compute."""

    link: WorkerLink
    survey: Surveyed

    @property
    def name(self) -> str:
        return self.link.host.name


@dataclass(frozen=True)
class FormedRing:
    """The MLX ring of this process."""

    links: tuple[WorkerLink, ...]
    """Its workers, in their order."""
    lines: object
    """The lines of this machine, in the form of the backend."""


@dataclass(frozen=True)
class MissedWorker:
    """A worker that cannot be used now."""

    name: str
    reason: OutriderError


class WorkerPool:
    """The workers of one engine. Every method may be called from several threads."""

    def __init__(self, link: Callable[..., WorkerLink] = WorkerLink) -> None:
        self._link = link
        self._links: dict[tuple[WorkerHost, Library], WorkerLink] = {}
        self._missed: dict[tuple[WorkerHost, Library], tuple[float, MissedWorker]] = {}
        """The workers that could not be started, and when."""
        self._lock = Lock()
        self._ending = Lock()
        self.ring: FormedRing | None = None
        """Set once: MLX joins one ring in the life of a process."""

    def reach(
        self, wanted: Sequence[WorkerHost], library: Library = "llama.cpp", *, again: bool = True
    ) -> list[ReachedWorker | MissedWorker]:
        """Start the workers that do not run yet, all at once, and survey all of them. Keeps their order.

        `library` computes there; another one gets a process of its own. `again`: also try those that could
        not be started a moment ago.
        """
        if not wanted:
            return []
        if again:
            self._missed.clear()
        with self._lock, ThreadPoolExecutor(len(wanted)) as threads:
            return list(threads.map(lambda each: self._reach(each, library), wanted))

    def _reach(self, wanted: WorkerHost, library: Library) -> ReachedWorker | MissedWorker:
        key = wanted, library
        when, missed = self._missed.get(key, (0.0, None))
        if missed and monotonic() < when + _REMEMBERED:
            return missed
        try:
            link = self._links.get(key)
            if link is None or link.loss:
                host = Host(wanted.name, wanted.address, wanted.program)
                link = self._link(host, on_loss=self._lost, library=library)
                link.start()
                self._links[key] = link
            return ReachedWorker(link, link.survey())
        except OutriderError as error:
            missed = MissedWorker(wanted.name, error)
            self._missed[key] = monotonic(), missed
            return missed

    def aborted(self, words: str) -> None:
        """End the process with the reason if a lost worker is the reason for an abort of llama.cpp."""
        print(words, file=sys.stderr, flush=True)
        attached = [link for link in self._links.values() if link.port]
        if "rpc" not in words.lower() or not attached:
            return
        share = _EXPLAINED / len(attached)
        lost = next((link for link in attached if link.lost_within(share)), None)
        if lost is None:
            lost = attached[0]
            lost.loss = WorkerLost("The connection to a worker is broken", "Your next prompt tries again.")
        self._lost(lost)

    def failed(self, links: Sequence[WorkerLink], words: str, hint: str) -> NoReturn:
        """End the process: a model on these workers cannot go on. A lost worker is the better reason."""
        share = _EXPLAINED / len(links)
        lost = next((link for link in links if link.lost_within(share)), links[0])
        lost.loss = lost.loss or WorkerLost(words, hint)
        self._lost(lost)

    def _lost(self, link: WorkerLink) -> NoReturn:
        """End this process, because llama.cpp waits for a worker that is lost."""
        with self._ending:  # the abort of llama.cpp and the link may report the same loss
            if link.loss:
                line = f"\n{SIGN}{link.loss.message}\t{link.loss.hint}\n"
                print(line, end="", file=sys.stderr, flush=True)
            self.kill()
            os._exit(LOST)

    def close(self) -> None:
        """End all workers."""
        for link in self._links.values():
            link.close()

    def kill(self) -> None:
        """Cut all links without waiting: this process ends."""
        for link in self._links.values():
            link.kill()
