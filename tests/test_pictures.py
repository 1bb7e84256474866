"""Every picture of a screen belongs to a test: where several workers run them, nobody else looks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import ITEMS
from tests.support.paths import TESTS


def test_no_picture_is_left_over(pytestconfig: pytest.Config) -> None:
    """`__snapshots__/test_NAME/` holds the pictures of the `test_NAME.py` beside `__snapshots__`."""
    if any("::" in each for each in pytestconfig.args):
        pytest.skip("some tests of a module were asked for")
    names: dict[Path, set[str]] = {}
    for item in pytestconfig.stash[ITEMS]:
        names.setdefault(item.path, set()).add(item.name)
    folders = sorted(TESTS.rglob("__snapshots__/*"))
    assert folders
    for folder in (each for each in folders if each.is_dir()):
        module = folder.parent.with_name(f"{folder.name}.py")
        assert module.exists()
        if module in names:
            assert {each.stem for each in folder.iterdir()} <= names[module]
