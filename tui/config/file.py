"""Reads config.toml into one frozen `Settings`, and writes single settings back.

An invalid value keeps its default, and is reported with file, line and key; all other values count. A file
that cannot be read is reported too: the defaults apply, and the file is never overwritten. This module shows
nothing and does not know the file's path.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, fields
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ..choices import meant
from ..errors import OutriderError
from ..files import replace
from .byte_size import ByteSize
from .settings import Generation, HostEntry, Keys, Preset, Settings

MAX_SIZE = 1_000_000
"""Bytes. A longer file is not a config file."""

Wrong = tuple[tuple[str, ...], str]
"""The place of a value, and its fault."""

_YES_OR_NO = {"on": True, "yes": True, "true": True, "off": False, "no": False, "false": False}


class ConfigError(OutriderError):
    """The file cannot be read, or must not be written. The text gives the reason in one line."""


@dataclass(frozen=True)
class Problem:
    """A part of the file that is not used, and the reason."""

    path: Path
    line: int
    """Line number, from 1; 0 if unknown."""
    message: str

    def __str__(self) -> str:
        return f"{self.path.name}, line {self.line}: {self.message}" if self.line else self.message


def read_config(path: Path) -> tuple[Settings, tuple[Problem, ...]]:
    """Return the settings in `path`, and the problems found in it. A missing file is no problem."""
    try:
        text, data = _load(path)
    except FileNotFoundError:
        return Settings(), ()
    except ConfigError as error:
        return Settings(), (Problem(path, 0, f"{error}; the defaults are used and the file is left alone"),)
    wrong: list[Wrong] = []
    sections: dict[str, Any] = {}
    known = get_type_hints(Settings)
    for name, table in data.items():
        if name not in known:
            wrong.append(((name,), f"{_short(name)} is not a section{meant(name, known)}"))
        elif not isinstance(table, dict):
            wrong.append(((name,), f"{name} must be a section, [{name}]"))
        elif name == "presets":
            sections[name] = _read_presets(table, wrong)
        elif name == "hosts":
            sections[name] = _read_hosts(table, wrong)
        elif name == "keys":
            sections[name] = _read_keys(table, wrong)
        else:
            sections[name] = known[name](**_read_section(known[name], table, (name,), wrong))
    problems = (Problem(path, _line_of(text, place), why) for place, why in wrong)
    return Settings(**sections), tuple(problems)


def change_config(path: Path, place: Sequence[str], value: Any) -> None:
    """Set the value at `place`, such as ("generation", "seed"); None removes it.

    All else stays, also comments. The file is replaced as a whole, or not at all.

    Raises `ConfigError` if the present file cannot be read, because it may hold something worth saving.
    Raises `OSError` if the file cannot be written.
    """
    import tomlkit

    try:
        text, expected = _load(path)
    except FileNotFoundError:
        text, expected = "", {}
    document: Any = tomlkit.parse(text)
    for data in (document, expected):
        _put(data, place, _plain(value), path)
    changed = tomlkit.dumps(document)
    if tomllib.loads(changed) != expected:
        raise ConfigError(f"{path.name}: {'.'.join(place)} cannot be changed safely")
    _replace(path, changed)


def _put(data: Any, place: Sequence[str], value: Any, path: Path) -> None:
    *sections, key = place
    for name in sections:
        if value is None and name not in data:
            return
        data = data.setdefault(name, {})
        if not isinstance(data, dict):
            raise ConfigError(f"{path.name}: {name} is not a section")
    if value is None:
        data.pop(key, None)
    else:
        data[key] = value


def _replace(path: Path, text: str) -> None:
    """Replace a file. A link stays a link, and the file keeps its permissions."""
    path = Path(os.path.realpath(path))
    for stray in path.parent.glob(f".{path.name}.*"):  # left by a kill in the middle of a write
        stray.unlink(missing_ok=True)
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o600
    replace(path, text, mode=mode, durable=True)


def read_value(section: type, key: str, text: str) -> Any:
    """Return the value of a setting that a user typed. Raises `ConfigError` with the expected form."""
    hint = get_type_hints(section)[key]
    entry = next(entry for entry in fields(section) if entry.name == key)
    value: Any = entry.metadata["words"].get(text.strip().lower(), text)
    if value is not text:
        return _check(hint, value, entry.metadata)
    if hint is bool:
        value = _YES_OR_NO.get(text.strip().lower(), text)
    elif hint is not str and get_origin(hint) is not Literal:
        try:
            value = tomllib.loads(f"x = {text.strip().replace(chr(10), ' ')}")["x"]
        except (tomllib.TOMLDecodeError, RecursionError):
            value = [text.strip()] if get_origin(hint) is tuple and text.strip() else text
    elif get_origin(hint) is Literal:
        value = text.strip()
    return _check(hint, _present(entry, value), entry.metadata)


def show_value(value: Any) -> str:
    """Return a value as a user types it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(_plain(value), ensure_ascii=False) if isinstance(value, tuple) else str(value)


def show_setting(section: type, key: str, value: Any) -> str:
    """Return a value as a user reads it: some have a special meaning and become a word."""
    words = next(entry for entry in fields(section) if entry.name == key).metadata["words"]
    word = next((word for word, meant in words.items() if meant == value), "")
    return word or (show_value(value) if value not in ((), "") else "empty")


def example() -> str:
    """Return the text of config.example.toml: every setting at its default, with a comment."""
    import tomli_w

    lines = ["# Every setting of Outrider at its default. Copy what you want to change to config.toml;"]
    lines += ["# `outrider doctor` says where that is.", ""]
    for section in fields(Settings):
        value = getattr(Settings(), section.name)
        if section.name in ("presets", "hosts"):
            continue
        lines.append(f"[{section.name}]")
        for entry in fields(value):
            if entry.metadata:
                plain = tomli_w.dumps({entry.name: _plain(getattr(value, entry.name))}).strip()
                lines.append(f"{plain}  # {entry.metadata['about']}")
        lines.append("")
    return "\n".join([*lines[:-1], *_MORE, ""])


_MORE = (
    '# "chat.race" = "ctrl+y"  # other keys for an action; F1 shows the actions with their names',
    "",
    "# [presets.code]  # any settings of [generation] under a name: /preset code takes them in a chat",
    "# temperature = 0.2",
    '# system_prompt = "Answer with code and nothing else."',
    "",
    "# [hosts]  # machines with an engine, for `--host gpu` and `host` under [engine]",
    '# gpu = "me@gpu.example.org"  # or { address = "me@gpu.example.org", program = "/opt/bin/outrider" }',
)


def _load(path: Path) -> tuple[str, dict[str, Any]]:
    """Return the file as text and as TOML. Raises `FileNotFoundError`, else `ConfigError`."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SIZE + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ConfigError(f"{path.name} cannot be read: {error.strerror}") from None
    if len(content) > MAX_SIZE:
        raise ConfigError(f"{path.name} is larger than 1 MB")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path.name}, line {line}: not UTF-8") from None
    try:
        return text, tomllib.loads(text)
    except (tomllib.TOMLDecodeError, ValueError, RecursionError) as error:
        where = re.search(r"at line (\d+)", str(error))
        reason = str(error).partition(" (at ")[0] or type(error).__name__
        raise ConfigError(f"{path.name}{f', line {where[1]}' if where else ''}: {reason}") from None


def _read_section(
    kind: Any, table: dict[str, Any], place: Sequence[str], wrong: list[Wrong]
) -> dict[str, Any]:
    """Return the usable values of the section at `place`. Faults of the others are added to `wrong`."""
    hints = get_type_hints(kind)
    entries = {entry.name: entry for entry in fields(kind)}
    values: dict[str, Any] = {}
    for key, value in table.items():
        where = ".".join(place)
        if key not in entries:
            why = f"{_short(key)} is not a setting{meant(key, entries)}"
            wrong.append(((*place, key), f"{where}.{why}"))
            continue
        entry = entries[key]
        try:
            values[key] = _check(hints[key], _present(entry, value), entry.metadata)
        except ConfigError as error:
            kept = "is left out" if place[0] == "presets" else f"stays {_short(_plain(entry.default))}"
            why = f"{key} must be {error}, not {_short(value)}; it {kept}"
            wrong.append(((*place, key), f"{where}.{why}"))
    return values


def _read_presets(table: dict[str, Any], wrong: list[Wrong]) -> tuple[Preset, ...]:
    found = []
    for name, values in table.items():
        place = ("presets", name)
        if not isinstance(values, dict):
            wrong.append((place, f"presets.{_short(name)} must be a section, [presets.NAME]"))
            continue
        read = _read_section(Generation, values, place, wrong)
        if read.pop("preset", None) is not None:
            wrong.append(((*place, "preset"), f"presets.{name}.preset is left out: presets do not nest"))
        found.append(Preset(name, tuple(read.items())))
    return tuple(found)


def _read_hosts(table: dict[str, Any], wrong: list[Wrong]) -> tuple[HostEntry, ...]:
    found = []
    for name, value in table.items():
        given = value if isinstance(value, dict) else {"address": value}
        known = {"address", "program"}
        if given.keys() <= known and "address" in given and all(isinstance(v, str) for v in given.values()):
            found.append(HostEntry(name, **given))
        else:
            words = (
                f'hosts.{name} must be like "me@gpu", or {{ address = "me@gpu", program = "/opt/outrider" }}'
            )
            wrong.append((("hosts", name), words))
    return tuple(found)


def _read_keys(table: dict[str, Any], wrong: list[Wrong]) -> Keys:
    """Read the keys of actions. Their names are not checked, because only the screens know them."""
    bound = {name: keys for name, keys in table.items() if name != "set"}
    for name, keys in bound.items():
        if not isinstance(keys, str):
            wrong.append((("keys", name), f'keys.{name} must be keys in one text, such as "ctrl+y,f9"'))
    read = _read_section(Keys, {k: v for k, v in table.items() if k == "set"}, ("keys",), wrong)
    return Keys(**read, bound=tuple((name, keys) for name, keys in bound.items() if isinstance(keys, str)))


def _present(entry: Field[Any], value: Any) -> Any:
    """Return the present spelling of a value that an earlier version spelled differently."""
    old = entry.metadata["old"].items()
    return next((new for before, new in old if type(before) is type(value) and before == value), value)


def _check(hint: Any, value: Any, bounds: Mapping[str, Any]) -> Any:
    """Return `value` as the type `hint`, within `bounds`. Raises `ConfigError` with the expected form."""
    low, high = bounds["low"], bounds["high"]
    if get_origin(hint) is Union:
        return _check_one_of(get_args(hint), value, bounds)
    if get_origin(hint) is Literal:
        if isinstance(value, str) and value in get_args(hint):
            return value
        raise ConfigError(" or ".join(f'"{choice}"' for choice in get_args(hint)))
    if hint is bool and isinstance(value, bool):
        return value
    if hint is str and isinstance(value, str):
        return value
    if get_origin(hint) is tuple and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    if hint is ByteSize:
        return _check_size(value, bounds)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int and number and isinstance(value, int) and low <= value <= high:
        return value
    if hint is float and number and low <= value <= high and math.isfinite(value):
        return float(value)
    kind = {bool: "true or false", str: "a text", int: "a whole number", float: "a number"}
    limits = f" from {low:,.10g} to {high:,.10g}" if math.isfinite(high) and hint in (int, float) else ""
    raise ConfigError(kind.get(hint, "a list of texts") + limits)


def _check_size(value: Any, bounds: Mapping[str, Any]) -> ByteSize:
    """Return `value`, a text such as "4 GiB" or a number of bytes, as a size. Raises `ConfigError`."""
    try:
        size = ByteSize.read(value) if isinstance(value, str) else ByteSize(value)
        if bounds["low"] <= size <= bounds["high"] and not isinstance(value, bool | float):
            return size
    except (ValueError, TypeError, OverflowError):
        pass
    raise ConfigError('a size such as "4 GiB", or 0')


def _check_one_of(hints: Sequence[Any], value: Any, bounds: Mapping[str, Any]) -> Any:
    """Return `value` as the first of `hints` that fits. Raises `ConfigError` with all their forms."""
    expected = []
    for hint in hints:
        try:
            return _check(hint, value, bounds)
        except ConfigError as error:
            expected.append(str(error))
    raise ConfigError(" or ".join(expected))


def _line_of(text: str, place: Sequence[str]) -> int:
    """Return the line of a section's head or of a key in it, from 1; 0 if the file spells it another way."""
    inside: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if head := re.match(r"\s*\[([^\[\]]+)\]", line):
            inside = tuple(part.strip(" \t\"'") for part in head[1].split("."))
            if inside == tuple(place):
                return number
        name = re.match(r"\s*([\"']?)([^=#]+?)\1\s*=", line)
        if name and (*inside, name[2]) == tuple(place):
            return number
    return 0


def _plain(value: Any) -> Any:
    if isinstance(value, ByteSize):
        return str(value) if value else 0
    return list(value) if isinstance(value, tuple) else value


def _short(value: Any) -> str:
    text = repr(value) if not isinstance(value, bool) else str(value).lower()
    return text if len(text) <= 40 else text[:37] + "..."
