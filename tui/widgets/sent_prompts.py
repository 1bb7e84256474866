"""The earlier prompts behind the Up key, as documents of the composer (see `typed_text.py`)."""

from __future__ import annotations


class SentPrompts:
    """The prompts in order, and the one that the text box shows again."""

    def __init__(self) -> None:
        self._documents: list[str] = []
        self._recalled: int | None = None

    def __len__(self) -> int:
        return len(self._documents)

    def add(self, document: str) -> None:
        """Add a `document` that was sent."""
        if not self._documents or self._documents[-1] != document:
            self._documents.append(document)
        self.leave()

    def leave(self) -> None:
        """Note that the text box holds another text."""
        self._recalled = None

    def place(self, document: str) -> int | None:
        """Return the place of the prompt that the text box shows unchanged as `document`."""
        recalled = self._recalled
        return recalled if recalled is not None and self._documents[recalled] == document else None

    def recall(self, place: int) -> str:
        """Return the document at `place`; the text box shows it from now on."""
        self._recalled = place
        return self._documents[place]
