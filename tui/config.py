"""config.toml -> one frozen `Settings`, and back.

A bad value costs that value only: it keeps its default and is reported with file, line and key. A file that
cannot be read costs nothing either: the defaults are used, it is reported, and it is never overwritten.
This module shows nothing and does not know where the file is.
"""

# ruff: noqa: RUF009 (`_setting` is `dataclasses.field`)

from __future__ import annotations

import difflib
import math
import os
import re
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from tui.protocol import BackendName, CacheType

MAX_SIZE = 1_000_000
"""Bytes. A longer file is not a config file."""

Highlight = Literal["quiet", "full", "off"]
Sidebar = Literal["auto", "shown", "hidden"]


class ConfigError(Exception):
    """The file cannot be read, or must not be written. The text says why, in one line."""


@dataclass(frozen=True)
class Problem:
    """Something in the file that is not used as it stands there."""

    path: Path
    line: int
    """0 where no line can be named."""
    message: str

    def __str__(self) -> str:
        return f"{self.path.name}, line {self.line}: {self.message}" if self.line else self.message


def _setting(default: Any, about: str, low: float = -math.inf, high: float = math.inf) -> Any:
    return field(default=default, metadata={"about": about, "low": low, "high": high})


@dataclass(frozen=True)
class Models:
    main: str = _setting("starter", 'a path or a name of `outrider models`; "starter" is the built-in demo')
    draft: str = _setting(
        "auto", 'a path or a name; "auto" is the best draft on this machine; "ngram" is no draft model'
    )
    folders: tuple[str, ...] = _setting((), "where your models lie, besides the places of other programs")
    context_length: int = _setting(0, "tokens; 0 takes the model's own, at most 8192", 0, 1 << 24)
    cache_type: CacheType = _setting("f16", 'of the main model\'s KV cache; "q8_0" takes half the memory')


@dataclass(frozen=True)
class Generation:
    temperature: float = _setting(0.8, "0 always takes the most probable token", 0, 5)
    top_k: int = _setting(40, "keep the k best tokens; 0 keeps all", 0, 1_000_000)
    top_p: float = _setting(0.95, "keep the smallest set whose probability reaches p; 1 keeps all", 0, 1)
    min_p: float = _setting(0.05, "drop tokens below this share of the best one's probability", 0, 1)
    repeat_penalty: float = _setting(1.0, "1 is off", 0.1, 10)
    presence_penalty: float = _setting(0.0, "0 is off", -10, 10)
    frequency_penalty: float = _setting(0.0, "0 is off", -10, 10)
    penalty_last_n: int = _setting(64, "how many of the latest tokens the penalties look at", 0, 1 << 24)
    max_tokens: int = _setting(0, "0 answers until the model stops or the context is full", 0, 1 << 24)
    seed: int = _setting(-1, "-1 draws a new one for each answer; the sidebar shows it", -1, (1 << 32) - 1)
    draft_length: int = _setting(
        -1, "tokens drafted in a round, 1 to 16; 0 never drafts; -1 measures and decides", -1, 16
    )
    lookup: bool = _setting(True, "also propose what followed the same words earlier in the chat")
    system_prompt: str = _setting("", "said to the model before each conversation")
    stop: tuple[str, ...] = _setting((), "texts that end an answer")


@dataclass(frozen=True)
class Appearance:
    theme: str = _setting("outrider-dark", "outrider-light, high-contrast, terminal, or a file in themes/")
    highlight: Highlight = _setting("quiet", '"quiet" marks what the draft did not supply; "full"; "off"')
    show_refused: bool = _setting(False, "show refused drafts, struck through")
    sidebar: Sidebar = _setting("auto", '"auto" folds it away in a narrow terminal; "shown"; "hidden"')
    frames_per_second: int = _setting(30, "how often the transcript is painted while an answer comes", 1, 60)


@dataclass(frozen=True)
class Engine:
    threads: int = _setting(0, "0 lets the engine choose", 0, 1024)
    gpu_layers: int = _setting(-1, "-1 puts every layer on the GPU, where there is one", -1, 10_000)
    backend: BackendName = _setting("auto", '"auto" goes by the model; "llama.cpp"; "mlx"')


@dataclass(frozen=True)
class History:
    keep: bool = _setting(True, "keep conversations on this machine, for you alone")


@dataclass(frozen=True)
class Settings:
    """All that a person can set. The defaults are what runs without a file."""

    models: Models = field(default_factory=Models)
    generation: Generation = field(default_factory=Generation)
    appearance: Appearance = field(default_factory=Appearance)
    engine: Engine = field(default_factory=Engine)
    history: History = field(default_factory=History)


def read_config(path: Path) -> tuple[Settings, tuple[Problem, ...]]:
    """What `path` says, and what of it cannot be used. A missing file is no problem."""
    try:
        text, data = _load(path)
    except FileNotFoundError:
        return Settings(), ()
    except ConfigError as error:
        return Settings(), (Problem(path, 0, f"{error}; the defaults are used and the file is left alone"),)
    problems: list[Problem] = []
    sections: dict[str, Any] = {}
    known = get_type_hints(Settings)
    for name, table in data.items():
        line = _line_of(text, name, None)
        if name not in known:
            problems.append(Problem(path, line, f"{_short(name)} is not a section{_nearest(name, known)}"))
        elif not isinstance(table, dict):
            problems.append(Problem(path, line, f"{name} must be a section, [{name}]"))
        else:
            values, found = _read_section(known[name], table)
            sections[name] = known[name](**values)
            problems += [Problem(path, _line_of(text, name, key), f"{name}.{why}") for key, why in found]
    return Settings(**sections), tuple(problems)


def write_config(path: Path, settings: Settings) -> None:
    """Replace the file at once, or not at all. Keys that are not known are kept, comments are not.

    Raises `ConfigError` if what stands there cannot be read: it may hold something worth saving.
    Raises `OSError` if it cannot be written.
    """
    import tempfile

    import tomli_w

    try:
        _, data = _load(path)
    except FileNotFoundError:
        data = {}
    for section in fields(settings):
        value = getattr(settings, section.name)
        if not isinstance(table := data.setdefault(section.name, {}), dict):
            raise ConfigError(f"{path.name}: {section.name} is not a section")
        table.update({f.name: _plain(getattr(value, f.name)) for f in fields(value)})
    path.parent.mkdir(parents=True, exist_ok=True)
    for stray in path.parent.glob(f".{path.name}.*"):  # what a kill in the middle of a write left
        stray.unlink(missing_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            tomli_w.dump(data, file)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def example() -> str:
    """Every setting at its default with a comment: the text of config.example.toml."""
    import tomli_w

    lines = ["# Every setting of Outrider at its default. Copy what you want to change to config.toml;"]
    lines += ["# `outrider doctor` says where that is.", ""]
    for section in fields(Settings):
        lines.append(f"[{section.name}]")
        value = getattr(Settings(), section.name)
        for entry in fields(value):
            plain = tomli_w.dumps({entry.name: _plain(getattr(value, entry.name))}).strip()
            lines.append(f"{plain}  # {entry.metadata['about']}")
        lines.append("")
    return "\n".join(lines)


def _load(path: Path) -> tuple[str, dict[str, Any]]:
    """The file as text and as TOML. Raises `FileNotFoundError`, or `ConfigError` for all else."""
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


def _read_section(kind: Any, table: dict[str, Any]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """The usable values, and (key, what is wrong with it) for the others."""
    hints = get_type_hints(kind)
    entries = {entry.name: entry for entry in fields(kind)}
    values: dict[str, Any] = {}
    wrong: list[tuple[str, str]] = []
    for key, value in table.items():
        if key not in entries:
            wrong.append((key, f"{_short(key)} is not a setting{_nearest(key, entries)}"))
            continue
        entry = entries[key]
        try:
            values[key] = _check(hints[key], value, entry.metadata["low"], entry.metadata["high"])
        except ConfigError as error:
            kept = _short(_plain(entry.default))
            wrong.append((key, f"{key} must be {error}, not {_short(value)}; it stays {kept}"))
    return values, wrong


def _check(hint: Any, value: Any, low: float, high: float) -> Any:
    """`value` as `hint`. Raises `ConfigError` with what was expected."""
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
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int and number and isinstance(value, int) and low <= value <= high:
        return value
    if hint is float and number and low <= value <= high and math.isfinite(value):
        return float(value)
    kind = {bool: "true or false", str: "a text", int: "a whole number", float: "a number"}
    limits = f" from {low:,.10g} to {high:,.10g}" if math.isfinite(high) and hint in (int, float) else ""
    raise ConfigError(kind.get(hint, "a list of texts") + limits)


def _line_of(text: str, section: str, key: str | None) -> int:
    """The line of a section's head or of a key in it, counted from 1; 0 if the file spells it another way."""
    inside = None
    for number, line in enumerate(text.splitlines(), 1):
        if head := re.match(r"\s*\[\s*\"?([\w-]+)", line):
            inside = head[1]
            if key is None and inside == section:
                return number
        elif name := re.match(r"\s*\"?([\w-]+)\"?\s*=", line):
            wanted = (None, section) if key is None else (section, key)
            if (inside, name[1]) == wanted:
                return number
    return 0


def _nearest(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {close[0]}?" if close else ""


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _short(value: Any) -> str:
    text = repr(value) if not isinstance(value, bool) else str(value).lower()
    return text if len(text) <= 40 else text[:37] + "..."


def _sync_folder(folder: Path) -> None:
    """Make the new name outlast a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
