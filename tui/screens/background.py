"""Background tasks of the screens, in Textual's workers: one of each group at a time."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from textual.dom import DOMNode


def work_alone(
    node: DOMNode, group: str, work: Callable[..., Coroutine[Any, Any, None]], *arguments: object
) -> None:
    """Run `work` of `arguments` in the background of `node`, in place of a running task of this group."""
    # A function, never a coroutine: a coroutine that is replaced before its start would never be awaited.
    begin: Callable[[], Any] = partial(work, *arguments)
    node.run_worker(begin, exclusive=True, group=group)
