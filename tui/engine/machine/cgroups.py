"""What Linux's control groups allow this process: containers, services and batch jobs are limited by them.

Both versions are read, and every group above this process's own, because the narrowest of them counts. Files
come in by a reader that gives an empty text for what is missing. Nothing here fails, or knows the machine.
https://docs.kernel.org/admin-guide/cgroup-v2.html, https://docs.kernel.org/admin-guide/cgroup-v1/
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import PurePosixPath as Folder
from typing import NamedTuple

Reader = Callable[[str], str]

_USUAL = {"": "/sys/fs/cgroup", "cpu": "/sys/fs/cgroup/cpu", "memory": "/sys/fs/cgroup/memory"}
"""Where a container sees its own groups, by controller of version 1; version 2 has none in its name."""


class Memory(NamedTuple):
    """Of one group, in bytes."""

    limit: int
    free: int
    """What is left of it; files that are only cached count as free."""


def processors(read: Reader) -> float | None:
    """Processor seconds that may be used in a second; None without a limit.

    A program that runs on more cores than that is stopped for the rest of every tenth of a second.
    """
    return min(_quotas(read), default=None)


def memory(read: Reader) -> Memory | None:
    """The lowest limit and the least that is left anywhere; None without a limit."""
    found = list(_memories(read))
    return Memory(min(each.limit for each in found), min(each.free for each in found)) if found else None


def _quotas(read: Reader) -> Iterator[float]:
    unified = (read(f"{group}/cpu.max") for group in _groups(read, ""))
    older = (
        f"{read(f'{group}/cpu.cfs_quota_us')} {read(f'{group}/cpu.cfs_period_us')}"
        for group in _groups(read, "cpu")
    )
    for text in chain(unified, older):
        with suppress(ValueError, ZeroDivisionError):  # "max", nothing at all, or nonsense
            quota, period = map(int, text.split())
            if quota > 0 and period > 0:
                yield quota / period


def _memories(read: Reader) -> Iterator[Memory]:
    for group in _groups(read, ""):
        limits = [_number(read(f"{group}/{name}")) for name in ("memory.max", "memory.high")]
        used = _number(read(f"{group}/memory.current")) - _cached(read, group, "inactive_file")
        yield from _memory(min((limit for limit in limits if limit), default=0), used)
    for group in _groups(read, "memory"):
        used = _number(read(f"{group}/memory.usage_in_bytes")) - _cached(read, group, "total_inactive_file")
        yield from _memory(_number(read(f"{group}/memory.limit_in_bytes")), used)


def _memory(limit: int, used: int) -> Iterator[Memory]:
    if limit:
        yield Memory(limit, min(limit, max(0, limit - used)))


def _number(text: str) -> int:
    """0 for what is none: "max", or a file that is missing."""
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0


def _cached(read: Reader, group: Folder, name: str) -> int:
    facts = dict(line.split(maxsplit=1) for line in read(f"{group}/memory.stat").splitlines() if " " in line)
    return _number(facts.get(name, ""))


def _groups(read: Reader, controller: str) -> Iterator[Folder]:
    """The folders of this process's group and of all above it that are seen from here, each once."""
    seen: set[Folder] = {Folder(_USUAL[controller])}
    path = _path(read, controller)
    for root, mount in _mounts(read, controller):
        seen.add(mount)
        if path.is_relative_to(root):  # else the group lies outside of what this container sees
            group = mount / path.relative_to(root)
            seen.update(above for above in (group, *group.parents) if above.is_relative_to(mount))
    return iter(seen)


def _path(read: Reader, controller: str) -> Folder:
    """Of this process's group, below the root of its hierarchy."""
    for line in read("/proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controller in controllers.split(",") and path.startswith("/"):
            return Folder(path)
    return Folder("/")


def _mounts(read: Reader, controller: str) -> Iterator[tuple[Folder, Folder]]:
    """What of the hierarchy is mounted, and where."""
    for line in read("/proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        place, kind = before.split(), after.split()
        if len(place) < 5 or len(kind) < 3:
            continue
        right = kind[0] == "cgroup2" if not controller else controller in kind[2].split(",")
        if right and kind[0] in ("cgroup", "cgroup2"):
            yield Folder(place[3]), Folder(place[4])
