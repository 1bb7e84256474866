"""What times things by hand is no part of the suite, but it must still start."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.paths import ROOT

TRAINS = {"copier", "learn"}
"""They need PyTorch, which nothing else here does."""
PROGRAMS = sorted(
    each.stem for each in (ROOT / "tools" / "bench").glob("[a-z]*.py") if each.stem not in TRAINS
)


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_can_be_imported(name: str) -> None:
    told = subprocess.run(
        [sys.executable, "-c", f"import tools.bench.{name}"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
