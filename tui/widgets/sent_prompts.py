"""The prompts that were sent, behind the Up key, as documents of the composer (see `written.py`)."""

from __future__ import annotations


class SentPrompts:
    """The prompts in order, and the one that stands in the text box again."""

    def __init__(self) -> None:
        self._documents: list[str] = []
        self._recalled: int | None = None

    def __len__(self) -> int:
        return len(self._documents)

    def add(self, document: str) -> None:
        """`document` was sent."""
        if not self._documents or self._documents[-1] != document:
            self._documents.append(document)
        self.leave()

    def leave(self) -> None:
        """The text box holds another text."""
        self._recalled = None

    def place(self, document: str) -> int | None:
        """The place of the prompt that stands in the text box unchanged as `document`."""
        recalled = self._recalled
        return recalled if recalled is not None and self._documents[recalled] == document else None

    def recall(self, place: int) -> str:
        """The document at `place`, which stands in the text box from now on."""
        self._recalled = place
        return self._documents[place]
