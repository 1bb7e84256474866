"""The notices about workers: which compute nothing, and, once on each machine, their risk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tui import files, protocol

RISK = (
    "Workers: until ssh is connected, other users of these machines could take the connection, and "
    "llama.cpp's RPC knows no password. Use machines whose users you trust. Shown once."
)
"""Short enough for a notice; docs/several-machines.md has the details."""


def worker_notices(workers: tuple[protocol.WorkerState, ...], told: Path) -> Iterator[str]:
    """Yield the notices about the workers of a loaded pair. Foreign text.

    The risk is told at the first use, which the file at `told` remembers.
    """
    for each in workers:
        if each.fault:
            yield f"{each.name} computes nothing: {each.fault}"
    if any(each.layers for each in workers) and not told.exists():
        yield RISK
        with suppress(OSError):  # else it is told again
            files.replace(told, "The risk of workers was shown.\n")
