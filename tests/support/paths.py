"""The folders of the repository, so that no test counts its own parents."""

from __future__ import annotations

from pathlib import Path

SUPPORT = Path(__file__).parent
"""The folder of the helpers."""

TESTS = SUPPORT.parent

ROOT = TESTS.parent
"""The folder of the repository."""
