"""Code to looks: pygments' tokens as one byte for every character. It knows no colors."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

from tui.widgets.transcript import style_codes

_LOOKS: Final = {
    "Keyword": style_codes.KEYWORD,
    "Keyword.Constant": style_codes.BUILTIN,
    "Keyword.Type": style_codes.TYPE,
    "Name.Function": style_codes.FUNCTION,
    "Name.Decorator": style_codes.FUNCTION,
    "Name.Class": style_codes.TYPE,
    "Name.Tag": style_codes.KEYWORD,
    "Name.Attribute": style_codes.FUNCTION,
    "Name.Builtin": style_codes.BUILTIN,
    "Literal.String": style_codes.STRING,
    "Literal.Number": style_codes.NUMBER,
    "Comment": style_codes.COMMENT,
    "Operator": style_codes.OPERATOR,
    "Generic.Inserted": style_codes.INSERTED,
    "Generic.Deleted": style_codes.DELETED,
    "Generic.Heading": style_codes.KEYWORD,
    "Generic.Subheading": style_codes.KEYWORD,
}


def highlight(code: str, language: str) -> bytes:
    """Return a look for every character of `code`; all `FENCE` if pygments does not know the language."""
    marks = bytearray((style_codes.FENCE,)) * len(code)
    lexer = _lexer(language.lower())
    if lexer is not None:
        tokens: Iterable[tuple[int, Any, str]] = lexer.get_tokens_unprocessed(code)
        for at, kind, text in tokens:
            look = _look(kind)
            if look != style_codes.FENCE:
                marks[at : at + len(text)] = bytes((look,)) * len(text)
    return bytes(marks)


@lru_cache(64)
def _lexer(language: str) -> Any:
    # After the first paint, because pygments is slow to import.
    from pygments.lexers import get_all_lexers, get_lexer_by_name

    # For an unknown name pygments would search all installed packages, for a tenth of a second.
    if any(language in names for _, names, _, _ in get_all_lexers(plugins=False)):
        return get_lexer_by_name(language, stripnl=False, ensurenl=False)
    return None


@lru_cache(512)
def _look(kind: Any) -> int:
    name = ".".join(kind)
    while name:
        if name in _LOOKS:
            return _LOOKS[name]
        name = name.rpartition(".")[0]
    return style_codes.FENCE
