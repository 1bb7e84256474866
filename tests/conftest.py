"""No test reads or writes the files of the person who runs it, and one that keeps time runs alone."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.rest import wait_for_rest
from tui.engine.backends.llama_cpp.native import bindings
from tui.engine.backends.selection import SCRIPTED

# As an engine loads it, before a test does so otherwise: how long threads spin while they wait for another is
# read at the first load. Where nothing is said they spin 300 times as long, beside other tests for nothing.
bindings()

os.environ[SCRIPTED] = "tests.support.scripted"

HERE = Path(__file__)
ITEMS = pytest.StashKey[tuple[pytest.Item, ...]]()
"""What was collected, before any of it was left out."""


@pytest.fixture(autouse=True, scope="session")
def own_places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Settings, logs and caches in a folder of this run, for child processes too."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for kind in ("CONFIG", "STATE", "CACHE", "DATA"):
            patch.setenv(f"XDG_{kind}_HOME", str(home / kind.lower()))
        yield


@pytest.fixture(autouse=True, scope="session")
def real_rest() -> Iterator[None]:
    """`pilot.pause()` and `pilot.press()` wait until the app is at rest, on a busy machine too."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("textual.app", "textual.pilot"):
            patch.setattr(f"{module}.wait_for_idle", wait_for_rest)
        yield


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    config.stash[ITEMS] = tuple(items)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[Any]:
    """Several workers run tests; while one of them runs a test that is marked `alone`, the others wait."""
    how = fcntl.LOCK_EX if item.get_closest_marker("alone") else fcntl.LOCK_SH
    # Who waits for the room keeps its door shut: others would enter one after the other for ever.
    with locked(HERE, fcntl.LOCK_EX) as door, locked(HERE.parent, how):
        fcntl.flock(door, fcntl.LOCK_UN)
        return (yield)


@contextmanager
def locked(path: Path, how: int) -> Iterator[int]:
    """`path`, which is only read, as a lock of all that run tests in this folder."""
    place = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(place, how)
        yield place
    finally:
        fcntl.flock(place, fcntl.LOCK_UN)  # for a child process that has it too
        os.close(place)
