"""What a person can set, and the file that says it."""

from .file import (
    MAX_SIZE,
    ConfigError,
    Problem,
    change_config,
    example,
    read_config,
    read_value,
    show_value,
)
from .settings import (
    Appearance,
    Engine,
    Generation,
    Highlight,
    History,
    HostEntry,
    Keys,
    KeySet,
    Models,
    Preset,
    Settings,
    Sidebar,
)

__all__ = [
    "MAX_SIZE",
    "Appearance",
    "ConfigError",
    "Engine",
    "Generation",
    "Highlight",
    "History",
    "HostEntry",
    "KeySet",
    "Keys",
    "Models",
    "Preset",
    "Problem",
    "Settings",
    "Sidebar",
    "change_config",
    "example",
    "read_config",
    "read_value",
    "show_value",
]
