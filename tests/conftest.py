"""No test reads or writes the files of the person who runs it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tui.engine.backends.llama_cpp.native import bindings

# As an engine loads it, before a test does so otherwise: how long threads spin while they wait for another is
# read at the first load. Where nothing is said they spin 300 times as long, beside other tests for nothing.
bindings()


@pytest.fixture(autouse=True, scope="session")
def own_places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Settings, logs and caches in a folder of this run, for child processes too."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for kind in ("CONFIG", "STATE", "CACHE", "DATA"):
            patch.setenv(f"XDG_{kind}_HOME", str(home / kind.lower()))
        yield
