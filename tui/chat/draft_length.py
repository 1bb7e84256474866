"""The draft length as a person chooses it: auto, fixed or off. It sends nothing."""

from __future__ import annotations

from dataclasses import dataclass

from tui.choices import AUTO, DraftLength

NEVER, USUAL = 0, 4
OFF = "off"
"""The word where nothing can draft for the loaded model."""
NOTHING_DRAFTS = (OFF, "never")
"""The words with which nothing is drafted."""


@dataclass(frozen=True)
class Drafting:
    """A choice of three: as long as drafting pays, always the same number of tokens, or never."""

    length: DraftLength
    fixed: int = USUAL
    """The number of tokens for "always"."""

    def __post_init__(self) -> None:
        if isinstance(self.length, int) and self.length > NEVER:
            object.__setattr__(self, "fixed", self.length)

    @property
    def words(self) -> str:
        if self.length == AUTO:
            return AUTO
        return "never" if self.length == NEVER else f"always {self.length}"

    def all(self) -> tuple[Drafting, Drafting, Drafting]:
        return Drafting(AUTO, self.fixed), Drafting(self.fixed), Drafting(NEVER, self.fixed)

    def next(self) -> Drafting:
        """The next of the three choices, in a circle."""
        choices = self.all()
        return choices[(choices.index(self) + 1) % len(choices)]
