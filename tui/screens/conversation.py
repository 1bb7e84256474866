"""What was said, in memory: what the next prompt is answered from. It shows and sends nothing."""

from __future__ import annotations

from collections.abc import Sequence

from tui.protocol import Message, Origin


class Conversation:
    """Questions and answers in turn. An answer is kept as far as it came; a question without one is not."""

    def __init__(self, system_prompt: str = "") -> None:
        self._opening = (Message("system", system_prompt),) if system_prompt else ()
        self._said: tuple[Message, ...] = ()
        self._question: str | None = None
        self._answer: list[str] = []

    def ask(self, question: str) -> tuple[Message, ...]:
        """Open a turn; the messages to answer."""
        self._question = question
        self._answer = []
        return (*self._opening, *self._said, Message("user", question))

    def hear(self, pieces: Sequence[tuple[str, int]]) -> None:
        """More of the answer; refused pieces are not part of it."""
        self._answer += [text for text, origin in pieces if origin != Origin.REFUSED]

    def close(self) -> bool:
        """End the turn; False if it left nothing behind."""
        answer = "".join(self._answer)
        kept = self._question is not None and bool(answer)
        if self._question is not None and kept:
            self._said += (Message("user", self._question), Message("assistant", answer))
        self._question = None
        self._answer = []
        return kept

    def forget(self) -> None:
        self._said = ()
        self._question = None
        self._answer = []

    @property
    def last_answer(self) -> str:
        return self._said[-1].content if self._said else ""
