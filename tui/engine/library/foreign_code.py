"""Settings files of an MLX folder that could make a library run code or open other files: rejected.

This module reads values, and opens nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from .gguf import UnusableModelFile

_MAX_DEPTH = 32
_MAX_VALUES = 300_000
_CODE_KEYS = ("model_file",)
"""Keys whose values name code that mlx-lm could be made to run."""
_NEVER_READ = ("auto_map", "custom_pipelines")
"""Keys that name code for transformers, which opens nothing here. A folder works without that code."""
CODE = re.compile(r"\S*\.(py[cdiowz]?|pyzw|so|dylib|dll)", re.IGNORECASE)
_OUTSIDE = re.compile(r"(/|~/|\\|[A-Za-z]:[\\/]|file:)\S*|(\S*[\\/])?\.\.([\\/]\S*)?", re.IGNORECASE)
_PROVENANCE = ("name_or_path", "tokenizer_file", "special_tokens_map_file", "vocab_file", "merges_file")
"""Keys, or ends of keys, that tell the origin of a file. Nothing opens the files that they name."""


def check_settings(name: str, values: Mapping[str, Any]) -> None:
    """Reject names of code, and of files outside the folder."""
    for count, (key, value, place) in enumerate(_walk(values, ())):
        if count >= _MAX_VALUES:
            raise UnusableModelFile(f"{name} holds more than {_MAX_VALUES} values")
        if key in _CODE_KEYS and value not in (None, False, {}, [], ""):
            raise UnusableModelFile(
                f"{_at(name, place)} asks for code of the model's own, which is never run"
            )
        if not isinstance(value, str) or "template" in key:
            continue
        if CODE.fullmatch(value.strip()):
            raise UnusableModelFile(f"{_at(name, place)} names code, which is never run: {value[:60]}")
        if name != "tokenizer_config.json" and not key.endswith(_PROVENANCE) and _OUTSIDE.fullmatch(value):
            raise UnusableModelFile(f"{_at(name, place)} names a file outside of the folder: {value[:60]}")


def _at(name: str, place: tuple[str, ...]) -> str:
    return f"{name}: {'.'.join(place)}"


def _walk(value: Any, place: tuple[str, ...]) -> Iterator[tuple[str, Any, tuple[str, ...]]]:
    """Yield every value that is read, with its key and the keys on the way; list items have the list's."""
    if len(place) > _MAX_DEPTH:
        raise UnusableModelFile(f"settings are nested too deep at {'.'.join(place[:3])}")
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        if isinstance(value, dict) and key in _NEVER_READ:
            continue
        steps = (*place, str(key)[:80])
        yield (str(key) if isinstance(value, dict) else place[-1]), item, steps
        if isinstance(item, dict | list):
            yield from _walk(item, steps)
