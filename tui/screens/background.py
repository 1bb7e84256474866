"""Work beside the keys: one worker of each group at a time."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from textual.dom import DOMNode


def work_alone(
    node: DOMNode, group: str, work: Callable[..., Coroutine[Any, Any, None]], *arguments: object
) -> None:
    """Run `work` of `arguments` in a worker of `node`, in place of a running worker of this group."""
    # A function, never a coroutine: a coroutine that is replaced before its start would never be awaited.
    begin: Callable[[], Any] = partial(work, *arguments)
    node.run_worker(begin, exclusive=True, group=group)
