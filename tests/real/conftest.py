"""Both real pairs, loaded once. Where their files cannot be had, the run says so in a line and fails."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.real.fetch import GEMMA, SMOLLM2, Real, Unavailable, fetch
from tests.real.session import Asked


def opened(model: Real) -> Iterator[Asked]:
    try:
        fetch(model)
    except (Unavailable, OSError) as error:
        pytest.exit(f"real models: {error}", returncode=1)
    asked = Asked(model)
    yield asked
    asked.close()


@pytest.fixture(scope="session")
def smollm2() -> Iterator[Asked]:
    yield from opened(SMOLLM2)


@pytest.fixture(scope="session")
def gemma() -> Iterator[Asked]:
    yield from opened(GEMMA)


@pytest.fixture(params=["smollm2", "gemma"])
def asked(request: pytest.FixtureRequest) -> Asked:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Asked)
    return found
