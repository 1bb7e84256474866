"""How far to draft, as a person chooses it. It sends nothing."""

from __future__ import annotations

from dataclasses import dataclass

from tui.choices import AUTO, DraftLength

NEVER, USUAL = 0, 4


@dataclass(frozen=True)
class Drafting:
    """One of three: as far as pays, always so many tokens, never."""

    length: DraftLength
    fixed: int = USUAL
    """The length that "always" stands for."""

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
        """The choice behind this one, round and round."""
        choices = self.all()
        return choices[(choices.index(self) + 1) % len(choices)]
