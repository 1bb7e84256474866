"""The draft length as a person chooses it: auto, fixed or off. It sends nothing."""

from __future__ import annotations

from dataclasses import dataclass

AUTO, NEVER, USUAL = -1, 0, 4


@dataclass(frozen=True)
class DraftLength:
    """A choice of three: as long as drafting pays, always the same number of tokens, or never."""

    length: int
    """The value of the setting `draft_length`; below 0 the engine decides."""
    fixed: int = USUAL
    """The number of tokens for "always"."""

    def __post_init__(self) -> None:
        if self.length > NEVER:
            object.__setattr__(self, "fixed", self.length)

    @property
    def words(self) -> str:
        if self.length > NEVER:
            return f"always {self.length}"
        return "never" if self.length == NEVER else "auto"

    def all(self) -> tuple[DraftLength, DraftLength, DraftLength]:
        return DraftLength(AUTO, self.fixed), DraftLength(self.fixed), DraftLength(NEVER, self.fixed)

    def next(self) -> DraftLength:
        """The next of the three choices, in a circle."""
        choices = self.all()
        return choices[(choices.index(self) + 1) % len(choices)]
