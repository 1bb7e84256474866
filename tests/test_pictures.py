"""Every picture of a screen belongs to a test: where several workers run them, nobody else looks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import ITEMS

PICTURES = Path(__file__).parent / "__snapshots__"


def test_no_picture_is_left_over(pytestconfig: pytest.Config) -> None:
    if any("::" in each for each in pytestconfig.args):
        pytest.skip("some tests of a module were asked for")
    names: dict[str, set[str]] = {}
    for item in pytestconfig.stash[ITEMS]:
        names.setdefault(item.path.stem, set()).add(item.name)
    for folder in PICTURES.iterdir():
        assert Path(__file__).with_name(f"{folder.name}.py").exists()
        if folder.name in names:
            assert {each.stem for each in folder.iterdir()} <= names[folder.name]
