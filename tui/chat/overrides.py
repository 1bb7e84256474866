"""The settings of one chat that replace those of the config: a preset, and single settings on top of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from typing import Any

from tui.config import ConfigError, Generation, Settings, read_value, show_setting, show_value

KEYS = tuple(entry.name for entry in fields(Generation) if entry.name not in ("preset", "draft_length"))
"""The settings that one chat can override. The draft length is not among them: it changes no text."""


@dataclass(frozen=True)
class ChatOverrides:
    """The overrides of one chat."""

    preset: str | None = None
    """The preset by name; empty for none, None for the preset of the settings."""
    values: tuple[tuple[str, Any], ...] = ()
    """(key of `Generation`, value), in the order in which they were set."""

    @classmethod
    def read(cls, text: str) -> ChatOverrides:
        """Read the text that `written` wrote. Keys that are no longer settings are left out."""
        try:
            data = json.loads(text or "{}")
            preset, given = data.get("preset"), data.get("values", {})
            usable = {key: _usable(key, str(value)) for key, value in given.items() if key in KEYS}
        except (ValueError, AttributeError):
            return cls()
        values = tuple((key, value) for key, value in usable.items() if value is not None)
        return cls(preset if isinstance(preset, str) else None, values)

    def written(self) -> str:
        """Return them as text; empty for no overrides."""
        data: dict[str, Any] = {} if self.preset is None else {"preset": self.preset}
        if self.values:
            data["values"] = {key: show_value(value) for key, value in self.values}
        return json.dumps(data) if data else ""

    def with_value(self, key: str, value: Any) -> ChatOverrides:
        """Return a copy with this override; with None as the value, without it."""
        values = {name: each for name, each in self.values if name != key}
        if value is not None:
            values[key] = value
        return replace(self, values=tuple(values.items()))

    def preset_of(self, settings: Settings) -> str:
        """Return the name of the preset in force; empty for none."""
        name = settings.generation.preset if self.preset is None else self.preset
        return name if settings.preset(name) else ""

    def applied(self, settings: Settings) -> Generation:
        """Return the settings of the next answer."""
        preset = settings.preset(self.preset_of(settings))
        generation = preset.applied(settings.generation) if preset else settings.generation
        return replace(generation, **dict(self.values))

    def words(self, settings: Settings) -> str:
        """Return the differences from the settings in a few words; empty for none."""
        preset = self.preset_of(settings)
        parts = [f"preset {preset}"] if preset else []
        for key, value in self.values:
            shown = show_setting(Generation, key, value).replace("\n", " ")
            parts.append(f"{key} {shown if len(shown) <= 16 else shown[:15] + '…'}")
        return " · ".join(parts)


def _usable(key: str, text: str) -> Any:
    try:
        return read_value(Generation, key, text)
    except ConfigError:
        return None
