"""How the chat looks, on fixed data: no engine, no clock, no blinking."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.support.rest import at_rest
from tests.support.still import still

LOOKS = {
    f"{theme}-{columns}x{lines}-{highlight}": (
        (columns, lines),
        True,
        {"theme": f"outrider-{theme}", "highlight": highlight},
    )
    for theme, (columns, lines), highlight in product(
        ("dark", "light"), ((120, 40), (80, 24)), ("quiet", "off")
    )
}
LOOKS |= {
    "rejected": ((120, 40), True, {"theme": "outrider-light", "highlight": "full", "show_rejected": True}),
    "terminal-sidebar": ((80, 24), True, {"theme": "terminal", "sidebar": "shown"}),
    "roomy": ((200, 60), True, {"theme": "outrider-dark"}),
    "welcome": ((80, 24), False, {"theme": "outrider-dark"}),
}


@pytest.mark.parametrize(("size", "talking", "appearance"), LOOKS.values(), ids=LOOKS.keys())
def test_the_chat_looks_as_it_should(
    snap_compare: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    size: tuple[int, int],
    talking: bool,
    appearance: dict[str, Any],
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)

    async def settle(pilot: Any) -> None:
        await at_rest(pilot)

    assert snap_compare(still(tmp_path, talking, **appearance), terminal_size=size, run_before=settle)
