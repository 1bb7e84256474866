"""Names as users type them: `llama 8b q4` means the one model whose name holds all of these words."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from ...errors import OutriderError
from ...protocol import FoundModel

_SHOWN = 4
_HINT = "`outrider models` lists the models here."
_WORDS = re.compile(r"[a-z]+|[0-9.]+")


class LibraryError(OutriderError):
    """The requested model is not here."""


def resolve(name: str, models: Sequence[FoundModel]) -> FoundModel:
    """Return the model that `name` means. Raises `LibraryError`, which lists the close ones in one line."""
    wanted = name.casefold().strip()
    exact = [model for model in models if wanted in (each.casefold() for each in _names(model))]
    found = exact or [model for model in models if _holds(model, wanted)]
    if len({model.path for model in found}) == 1:
        return found[0]
    if found:
        raise LibraryError(f"{len(found)} models are called {name!r}: {_listed(found)}", _HINT)
    near = difflib.get_close_matches(wanted, [model.name.casefold() for model in models], _SHOWN, 0.5)
    close = [model for model in models if model.name.casefold() in near]
    more = f"; similar: {_listed(close)}" if close else ""
    raise LibraryError(f"no model here is called {name!r}{more}", _HINT)


def _names(model: FoundModel) -> tuple[str, ...]:
    path = Path(model.path)
    return model.path, model.name, path.name, path.stem, model.tag or path.stem


def _holds(model: FoundModel, wanted: str) -> bool:
    """Return whether each word is in one of the model's names or its quantization, without punctuation."""
    text = " ".join((*_names(model)[1:], model.quantization)).casefold()
    words = wanted.split()
    return bool(words) and all(word in text or (_spelled(word) or " ") in _spelled(text) for word in words)


def _spelled(text: str) -> str:
    """Return the letters and numbers alone, so that "Qwen2.5-7B" and "qwen 2.5 7b" are equal."""
    return "".join(_WORDS.findall(text))


def _listed(models: Iterable[FoundModel]) -> str:
    names = [model.name for model in models]
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
