"""Code to looks: pygments' tokens as one byte for every character. Knows no colours."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

from tui.widgets.transcript import looks

_LOOKS: Final = {
    "Keyword": looks.KEYWORD,
    "Keyword.Constant": looks.BUILTIN,
    "Keyword.Type": looks.TYPE,
    "Name.Function": looks.FUNCTION,
    "Name.Decorator": looks.FUNCTION,
    "Name.Class": looks.TYPE,
    "Name.Tag": looks.KEYWORD,
    "Name.Attribute": looks.FUNCTION,
    "Name.Builtin": looks.BUILTIN,
    "Literal.String": looks.STRING,
    "Literal.Number": looks.NUMBER,
    "Comment": looks.COMMENT,
    "Operator": looks.OPERATOR,
    "Generic.Inserted": looks.INSERTED,
    "Generic.Deleted": looks.DELETED,
    "Generic.Heading": looks.KEYWORD,
    "Generic.Subheading": looks.KEYWORD,
}


def highlight(code: str, language: str) -> bytes:
    """A look for every character of `code`; all `FENCE` if pygments knows no such language."""
    marks = bytearray((looks.FENCE,)) * len(code)
    lexer = _lexer(language.lower())
    if lexer is not None:
        tokens: Iterable[tuple[int, Any, str]] = lexer.get_tokens_unprocessed(code)
        for at, kind, text in tokens:
            look = _look(kind)
            if look != looks.FENCE:
                marks[at : at + len(text)] = bytes((look,)) * len(text)
    return bytes(marks)


@lru_cache(64)
def _lexer(language: str) -> Any:
    # Behind the first paint: pygments takes its time to import.
    from pygments.lexers import get_all_lexers, get_lexer_by_name

    # For a name that pygments lacks it would look through all that is installed, for a tenth of a second.
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
    return looks.FENCE
