"""A session on a real pair, asked as the app asks it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

import pytest

from tests.real.fetch import Real
from tests.support.answering import Heard
from tui.engine.pair.pair import Pair
from tui.engine.session import Session
from tui.protocol import Event, Generate, Load, Loaded, Message, Sampling


class Asked:
    """A model and its draft in one session.

    One thread, if nothing else is said: it waits for no other one on a busy machine.
    """

    def __init__(self, model: Real, **load: Any) -> None:
        self._events: list[Event] = []
        self._numbers = count(1)
        self._session = Session(self._events.append, lambda number: False)
        given = {"context_length": 2048, "threads": 1, **load}
        self._session.do(Load(str(model.main), str(model.draft), **given))
        loaded = self._events[-1]
        if not isinstance(loaded, Loaded):
            self.close()
            pytest.fail(str(loaded))
        self.loaded = loaded

    @property
    def pair(self) -> Pair:
        return self._session._loaded

    def chat(self, messages: Sequence[Message], temperature: float, **settings: Any) -> Heard:
        """The answer to a conversation: a short one without lookup, if nothing else is said."""
        given = {"seed": 7, "max_tokens": 24, "lookup": False, **settings}
        self._events.clear()
        self._session.do(
            Generate(
                next(self._numbers), tuple(messages), sampling=Sampling(temperature=temperature), **given
            )
        )
        return Heard(list(self._events))

    def ask(self, prompt: str, temperature: float, **settings: Any) -> Heard:
        return self.chat([Message("user", prompt)], temperature, **settings)

    def close(self) -> None:
        self._session.close()
