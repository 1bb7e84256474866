"""Cores and memory as the control groups of Linux allow them."""

from __future__ import annotations

import os

import pytest

from tui.engine.backends.llama_cpp import native
from tui.engine.machine import cgroups, hardware

GIB = 1 << 30
TWO = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
OLD = (
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
)
SERVICE = "/system.slice/chat.service"
UNDER = f"/sys/fs/cgroup{SERVICE}"
OLD_CPU, OLD_MEMORY = "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/memory"
NO_LIMIT = "9223372036854771712\n"
Files = dict[str, str]


def unified(**more: str) -> Files:
    return {"/proc/self/mountinfo": TWO, "/proc/self/cgroup": f"0::{SERVICE}\n"} | more


def older(path: str = "/docker/a/b", **more: str) -> Files:
    groups = f"4:memory:{path}\n3:cpu,cpuacct:{path}\n0::/\n"
    return {"/proc/self/mountinfo": OLD, "/proc/self/cgroup": groups} | more


CORES: list[tuple[str, Files, float | None]] = [
    ("nothing is known", {}, None),
    ("version 2, no limit", unified(**{f"{UNDER}/cpu.max": "max 100000\n"}), None),
    ("version 2, a container", {"/sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
    ("version 2, a service", unified(**{f"{UNDER}/cpu.max": "200000 100000\n"}), 2),
    (
        "version 2, the slice above is narrower",
        unified(
            **{f"{UNDER}/cpu.max": "400000 100000", "/sys/fs/cgroup/system.slice/cpu.max": "100000 100000"}
        ),
        1,
    ),
    (
        "version 2, the service is narrower",
        unified(**{f"{UNDER}/cpu.max": "100000 100000", "/sys/fs/cgroup/system.slice/cpu.max": "max 100000"}),
        1,
    ),
    (
        "version 1, a container",
        {
            "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000\n",
            "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
        3,
    ),
    (
        "version 1, nested",
        older(
            **{
                f"{OLD_CPU}/docker/a/b/cpu.cfs_quota_us": "-1\n",
                f"{OLD_CPU}/docker/a/b/cpu.cfs_period_us": "100000\n",
                f"{OLD_CPU}/docker/a/cpu.cfs_quota_us": "50000\n",
                f"{OLD_CPU}/docker/a/cpu.cfs_period_us": "100000\n",
            }
        ),
        0.5,
    ),
    ("nonsense", {"/sys/fs/cgroup/cpu.max": "a b c"}, None),
    ("a period of nothing", {"/sys/fs/cgroup/cpu.max": "200000 0"}, None),
    (
        "a torn list of mounts",
        unified(**{"/proc/self/mountinfo": "1 2 - \n-\n", f"{UNDER}/cpu.max": "1 1"}),
        None,
    ),
]
MEMORY: list[tuple[str, Files, tuple[int, int] | None]] = [
    ("nothing is known", {}, None),
    ("version 2, no limit", unified(**{f"{UNDER}/memory.max": "max\n"}), None),
    ("version 2, a container", {"/sys/fs/cgroup/memory.max": f"{2 * GIB}\n"}, (2 * GIB, 2 * GIB)),
    (
        "version 2, cached files are free",
        unified(
            **{
                f"{UNDER}/memory.max": str(4 * GIB),
                f"{UNDER}/memory.current": str(3 * GIB),
                f"{UNDER}/memory.stat": f"anon {GIB}\ninactive_file {2 * GIB}\n",
            }
        ),
        (4 * GIB, 3 * GIB),
    ),
    (
        "version 2, the brake comes before the limit",
        unified(**{f"{UNDER}/memory.max": str(4 * GIB), f"{UNDER}/memory.high": str(3 * GIB)}),
        (3 * GIB, 3 * GIB),
    ),
    (
        "version 2, neighbours took what the slice has",
        unified(
            **{
                f"{UNDER}/memory.max": str(2 * GIB),
                "/sys/fs/cgroup/system.slice/memory.max": str(8 * GIB),
                "/sys/fs/cgroup/system.slice/memory.current": str(7 * GIB),
            }
        ),
        (2 * GIB, GIB),
    ),
    (
        "version 1, nested",
        older(
            **{
                f"{OLD_MEMORY}/docker/a/b/memory.limit_in_bytes": NO_LIMIT,
                f"{OLD_MEMORY}/docker/a/memory.limit_in_bytes": str(GIB),
                f"{OLD_MEMORY}/docker/a/memory.usage_in_bytes": str(GIB // 2),
                f"{OLD_MEMORY}/docker/a/memory.stat": f"total_inactive_file {GIB // 4}\n",
            }
        ),
        (GIB, GIB // 4 * 3),
    ),
    (
        "more used than allowed",
        {"/sys/fs/cgroup/memory.max": "9", "/sys/fs/cgroup/memory.current": "11"},
        (9, 0),
    ),
]


@pytest.mark.parametrize(("files", "cores"), [each[1:] for each in CORES], ids=[each[0] for each in CORES])
def test_cores(files: Files, cores: float | None) -> None:
    assert cgroups.processors(lambda path: files.get(path, "")) == cores


@pytest.mark.parametrize(("files", "found"), [each[1:] for each in MEMORY], ids=[each[0] for each in MEMORY])
def test_memory(files: Files, found: tuple[int, int] | None) -> None:
    assert cgroups.memory(lambda path: files.get(path, "")) == found


def test_a_group_outside_of_what_is_mounted_is_not_looked_for() -> None:
    """A container without a name space of its own is told of a path that only its host has."""
    inside = TWO.replace("0:26 /", "0:26 /docker/a")
    files = {
        "/proc/self/mountinfo": inside,
        "/proc/self/cgroup": "0::/docker/a/job\n",
        "/sys/fs/cgroup/job/cpu.max": "200000 100000",
        "/sys/fs/cgroup/cpu.max": "300000 100000",
        "/sys/fs/cgroup/docker/a/job/cpu.max": "1 100000",
    }
    assert cgroups.processors(lambda path: files.get(path, "")) == 2
    files["/proc/self/cgroup"] = "0::/../other\n"
    assert cgroups.processors(lambda path: files.get(path, "")) == 3


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", 64), ("200000 100000", 2), ("150000 100000", 2), ("1000 100000", 1)]
)
def test_threads_and_the_survey_go_by_the_same_share(
    quota: str, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {f"/sys/devices/system/cpu/cpu{n}/topology/thread_siblings_list": str(n) for n in range(64)}
    files["/sys/fs/cgroup/cpu.max"] = quota
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    monkeypatch.setattr(native, "_allowed_cores", lambda: 64)
    monkeypatch.setattr(hardware, "_text", lambda path: files.get(path, ""))
    assert hardware.usable_cores() == native.physical_cores() == cores


def test_a_limit_of_memory_counts_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "/proc/meminfo": "MemAvailable: 4096 kB\n",
        "/sys/fs/cgroup/memory.max": "1000000",
        "/sys/fs/cgroup/memory.current": "400000",
    }
    monkeypatch.setattr(hardware, "_text", lambda path: files.get(path, ""))
    assert hardware.memory_bytes() == (1_000_000, 600_000)
    assert native.memory_bytes() == 1_000_000
