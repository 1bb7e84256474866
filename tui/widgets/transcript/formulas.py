"""Simple formulas in Unicode: Greek, sub- and superscripts, fractions, arrows, sums.

A formula is translated as a whole or not at all: an unknown command, or anything in two dimensions, leaves it
as it is written.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

Shown = list[tuple[str, int]]
"""Characters, each with its offset in the formula."""


class _NotSimpleError(Exception):
    pass


def _named(names: str, symbols: str) -> dict[str, str]:
    return dict(zip(names.split(), symbols.split(), strict=True))


_FUNCTIONS: Final = (
    "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln lg exp lim max min sup inf det dim"
    " ker gcd deg arg Pr"
)
_SYMBOLS: Final = {
    **_named(
        "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi pi rho"
        " sigma varsigma tau upsilon phi varphi chi psi omega",
        "α β γ δ ϵ ε ζ η θ ϑ ι κ λ μ ν ξ π ρ σ ς τ υ ϕ φ χ ψ ω",
    ),
    **_named("Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega", "Γ Δ Θ Λ Ξ Π Σ Υ Φ Ψ Ω"),
    **_named(
        "times cdot div pm mp ast star circ bullet oplus otimes setminus neg lnot land wedge lor vee",
        "× · ÷ ± ∓ ∗ ⋆ ∘ • ⊕ ⊗ ∖ ¬ ¬ ∧ ∧ ∨ ∨",
    ),
    **_named(
        "le leq ge geq ne neq approx equiv sim simeq cong propto ll gg mid parallel perp",
        "≤ ≤ ≥ ≥ ≠ ≠ ≈ ≡ ∼ ≃ ≅ ∝ ≪ ≫ | ∥ ⊥",
    ),
    **_named(
        "in notin ni subset subseteq supset supseteq cup cap emptyset varnothing forall exists angle",
        "∈ ∉ ∋ ⊂ ⊆ ⊃ ⊇ ∪ ∩ ∅ ∅ ∀ ∃ ∠",
    ),
    **_named(
        "to rightarrow leftarrow gets leftrightarrow Rightarrow Leftarrow Leftrightarrow implies iff mapsto",
        "→ → ← ← ↔ ⇒ ⇐ ⇔ ⇒ ⇔ ↦",
    ),
    **_named(
        "uparrow downarrow longrightarrow longleftarrow Longrightarrow rightleftharpoons",
        "↑ ↓ ⟶ ⟵ ⟹ ⇌",
    ),
    **_named("sum prod int iint oint infty partial nabla hbar ell Re Im aleph", "∑ ∏ ∫ ∬ ∮ ∞ ∂ ∇ ℏ ℓ ℜ ℑ ℵ"),
    **_named("prime degree dots ldots cdots vert colon therefore because", "′ ° … … ⋯ | : ∴ ∵"),
    **_named("langle rangle lfloor rfloor lceil rceil lbrace rbrace", "⟨ ⟩ ⌊ ⌋ ⌈ ⌉ { }"),
    **_named(_FUNCTIONS, _FUNCTIONS),
    **_named("{ } % $ & # _ |", "{ } % $ & # _ ‖"),
    **dict.fromkeys((" ", ",", ";", ":", "quad", "qquad"), " "),
    **dict.fromkeys(("!", "left", "right", "displaystyle", "textstyle", "limits"), ""),
    **dict.fromkeys(("big", "Big", "bigg", "Bigg", "bigl", "bigr", "Bigl", "Bigr"), ""),
}
_UPRIGHT: Final = frozenset(
    (
        *("text", "textbf", "textit", "operatorname", "boldsymbol"),
        *("mathrm", "mathbf", "mathit", "mathsf", "mathcal"),
    )
)
_DOUBLE: Final = dict(zip("CHNPQRZ", "ℂℍℕℙℚℝℤ", strict=True))
_HALVES: Final = _named("1/2 1/3 2/3 1/4 3/4 1/5 1/6 1/8", "½ ⅓ ⅔ ¼ ¾ ⅕ ⅙ ⅛")
_SCRIPTS: Final = {
    "_": dict(
        zip("0123456789+-−=()aehijklmnoprstuvxβγρφχ", "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓᵦᵧᵨᵩᵪ", strict=True)
    ),
    "^": dict(
        zip(
            "0123456789+-−=()abcdefghijklmnoprstuvwxyzABDEGHIJKLMNOPRTUVWβγδθφχ′°∘∗",
            "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻᴬᴮᴰᴱᴳᴴᴵᴶᴷᴸᴹᴺᴼᴾᴿᵀᵁⱽᵂᵝᵞᵟᶿᵠᵡ′°°*",
            strict=True,
        )
    ),
}
_SMALL: Final = "".join(letter for letters in _SCRIPTS.values() for letter in letters.values())
_MARKS: Final = {"\\(": "\\)", "\\[": "\\]", "$$": "$$"}
_PIECE: Final = re.compile(r"\\([A-Za-z]+|.)|\s+|.", re.DOTALL)
_PROSE: Final = re.compile(r"(?<![\\A-Za-z{])[A-Za-z]{4,}")
_MATHS: Final = re.compile(r"[\\^_=<>+*]|\A[A-Za-z]'*\Z")
DEEPEST: Final = 8


@lru_cache(maxsize=512)
def in_unicode(formula: str) -> Shown | None:
    """Return the Unicode text of a formula with its marks, or None if it stays as it is written."""
    closing = _MARKS.get(formula[:2], "$")
    mark = len(closing)
    end = len(formula) - mark
    if end <= mark or not formula.endswith(closing):
        return None
    inner = formula[mark:end]
    if mark == 1 and (_PROSE.search(inner) or not _MATHS.search(inner)):
        return None
    try:
        shown = _Reader(formula, mark, end).group(0)
    except _NotSimpleError:
        return None
    kept: Shown = []
    for char, place in shown:
        if char != " " or (kept and kept[-1][0] != " "):
            kept.append((char, place))
    return kept[: len(kept) - (kept[-1:] != [] and kept[-1][0] == " ")] or None


class _Reader:
    def __init__(self, text: str, at: int, end: int) -> None:
        self._text = text
        self._at = at
        self._end = end

    def group(self, depth: int) -> Shown:
        """Return everything up to the end, or up to the brace that closes the group."""
        shown: Shown = []
        while self._at < self._end and self._text[self._at] != "}":
            shown += self._atom(depth)
        if (self._at < self._end) != (depth > 0):
            raise _NotSimpleError
        return shown

    def _atom(self, depth: int) -> Shown:
        """Return the next letter, command, script or group."""
        piece = _PIECE.match(self._text, self._at, self._end)
        if piece is None or depth > DEEPEST:
            raise _NotSimpleError
        begin, self._at = self._at, piece.end()
        name, char = piece[1], piece[0]
        if name is not None:
            return self._command(name, begin, depth)
        if char == "{":
            self._at = begin
            return self._argument(depth)
        if char in _SCRIPTS:
            return self._script(char, begin, depth)
        if char in "&~#%}":
            raise _NotSimpleError
        return [(" " if char.isspace() else char, begin)]

    def _argument(self, depth: int) -> Shown:
        """Return the argument of a command or a script: a group, or one atom."""
        while self._text.startswith(" ", self._at):
            self._at += 1
        if not self._text.startswith("{", self._at):
            return self._atom(depth + 1)
        self._at += 1
        shown = self.group(depth + 1)
        self._at += 1
        return shown

    def _command(self, name: str, begin: int, depth: int) -> Shown:
        if name in ("frac", "dfrac", "tfrac"):
            return self._fraction(begin, depth)
        if name == "sqrt" and not self._text.startswith("[", self._at):
            return [("√", begin), *_bracketed(self._argument(depth), begin)]
        if name in _UPRIGHT:
            return self._argument(depth)
        if name == "mathbb":
            return [(_DOUBLE.get(char, char), place) for char, place in self._argument(depth)]
        if name not in _SYMBOLS:
            raise _NotSimpleError
        if name in ("left", "right") and self._text.startswith(".", self._at):
            self._at += 1
        return [(char, begin) for char in _SYMBOLS[name]]

    def _fraction(self, begin: int, depth: int) -> Shown:
        above = self._argument(depth)
        middle = self._at
        below = self._argument(depth)
        half = _HALVES.get("".join(char for char, _ in (*above, ("/", 0), *below)))
        if half:
            return [(half, begin)]
        return [*_bracketed(above, begin), ("/", middle), *_bracketed(below, middle)]

    def _script(self, kind: str, begin: int, depth: int) -> Shown:
        letters = _SCRIPTS[kind]
        inner = [(char, place) for char, place in self._argument(depth) if char != " "]
        if all(char in letters for char, _ in inner):
            return [(letters[char], place) for char, place in inner]
        return [(kind, begin), *_bracketed(inner, begin)]


def _bracketed(shown: Shown, begin: int) -> Shown:
    """Return it in brackets, unless it is one number or one name."""
    if not shown:
        raise _NotSimpleError
    text = "".join(char for char, _ in shown)
    if text.isdecimal() or not text[1:].strip(_SMALL):
        return shown
    return [("(", begin), *shown, (")", shown[-1][1])]
