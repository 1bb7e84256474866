"""Reads the limits of Linux's control groups for this process: those of containers, services and batch jobs.

It reads both versions, for this process's group and every group above it, because the narrowest limit counts.
Files are read through a reader that gives an empty text for a missing one. Nothing here fails or knows the
machine.
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
"""Usual folder of a container's own groups, by controller of version 1. Version 2 has an empty name."""


class MemoryLimit(NamedTuple):
    """Memory of one group, in bytes."""

    limit: int
    free: int
    """Free bytes. Cached files count as free."""


def processors(read: Reader) -> float | None:
    """Return the processor seconds allowed per second; None without a limit.

    A program on more cores is stopped for the rest of each tenth of a second.
    """
    return min(_quotas(read), default=None)


def memory(read: Reader) -> MemoryLimit | None:
    """Return the lowest limit and the smallest free memory of all groups; None without a limit."""
    found = list(_memories(read))
    return MemoryLimit(min(each.limit for each in found), min(each.free for each in found)) if found else None


def _quotas(read: Reader) -> Iterator[float]:
    unified = (read(f"{group}/cpu.max") for group in _groups(read, ""))
    older = (
        f"{read(f'{group}/cpu.cfs_quota_us')} {read(f'{group}/cpu.cfs_period_us')}"
        for group in _groups(read, "cpu")
    )
    for text in chain(unified, older):
        with suppress(ValueError, ZeroDivisionError):  # "max", an empty text, or nonsense
            quota, period = map(int, text.split())
            if quota > 0 and period > 0:
                yield quota / period


def _memories(read: Reader) -> Iterator[MemoryLimit]:
    for group in _groups(read, ""):
        limits = [_number(read(f"{group}/{name}")) for name in ("memory.max", "memory.high")]
        used = _number(read(f"{group}/memory.current")) - _cached(read, group, "inactive_file")
        yield from _memory(min((limit for limit in limits if limit), default=0), used)
    for group in _groups(read, "memory"):
        used = _number(read(f"{group}/memory.usage_in_bytes")) - _cached(read, group, "total_inactive_file")
        yield from _memory(_number(read(f"{group}/memory.limit_in_bytes")), used)


def _memory(limit: int, used: int) -> Iterator[MemoryLimit]:
    if limit:
        yield MemoryLimit(limit, min(limit, max(0, limit - used)))


def _number(text: str) -> int:
    """Return the number; 0 for "max" or a missing file."""
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0


def _cached(read: Reader, group: Folder, name: str) -> int:
    facts = dict(line.split(maxsplit=1) for line in read(f"{group}/memory.stat").splitlines() if " " in line)
    return _number(facts.get(name, ""))


def _groups(read: Reader, controller: str) -> Iterator[Folder]:
    """Yield the visible folders of this process's group and of all above it, each once."""
    seen: set[Folder] = {Folder(_USUAL[controller])}
    path = _path(read, controller)
    for root, mount in _mounts(read, controller):
        seen.add(mount)
        if path.is_relative_to(root):  # else this container cannot see the group
            group = mount / path.relative_to(root)
            seen.update(above for above in (group, *group.parents) if above.is_relative_to(mount))
    return iter(seen)


def _path(read: Reader, controller: str) -> Folder:
    """Return the path of this process's group below the root of its hierarchy."""
    for line in read("/proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controller in controllers.split(",") and path.startswith("/"):
            return Folder(path)
    return Folder("/")


def _mounts(read: Reader, controller: str) -> Iterator[tuple[Folder, Folder]]:
    """Yield the mounted parts of the hierarchy: (root of the part, mount point)."""
    for line in read("/proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        place, kind = before.split(), after.split()
        if len(place) < 5 or len(kind) < 3:
            continue
        right = kind[0] == "cgroup2" if not controller else controller in kind[2].split(",")
        if right and kind[0] in ("cgroup", "cgroup2"):
            yield Folder(place[3]), Folder(place[4])
