"""The paths of all files on this machine, in one module. It opens and creates nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from platformdirs import (
    user_cache_path,
    user_config_path,
    user_data_path,
    user_log_path,
    user_state_path,
)


@dataclass(frozen=True)
class Paths:
    """The folders and files that the app reads and writes."""

    config: Path
    """config.toml. It need not exist."""
    themes: Path
    """The user's own themes. The folder need not exist."""
    log: Path
    """Log file of the engine's native libraries."""
    last: Path
    """The last pair from the load screen. The file need not exist."""
    chats: Path
    """The conversations. The file need not exist."""

    def of_host(self, name: str) -> Paths:
        """Return these paths with the last pair of the machine `name`; empty is this machine."""
        safe = re.sub(r"[^A-Za-z0-9.-]", "_", name)
        return replace(self, last=self.last.with_name(f"pair-{safe}.json" if name else "pair.json"))


def find_places() -> Paths:
    """Return the paths of this user, by the platform's rules."""
    config = user_config_path("outrider", appauthor=False)
    log = user_log_path("outrider", appauthor=False)
    last = user_state_path("outrider", appauthor=False) / "pair.json"
    chats = user_data_path("outrider", appauthor=False) / "chats.db"
    return Paths(config / "config.toml", config / "themes", log / "engine.log", last, chats)


def find_records() -> Path:
    """Return the folder of the measured speed-ups. Without it, only predictions are left."""
    return user_state_path("outrider", appauthor=False) / "measured"


def find_models() -> Path:
    """Return the folder for downloaded models."""
    return user_data_path("outrider", appauthor=False) / "models"


def find_copied() -> Path:
    """Return the file for a copy that no clipboard takes."""
    return user_state_path("outrider", appauthor=False) / "copied.txt"


def find_ssh_config() -> Path:
    """Return ssh's own configuration file, which lists other machines."""
    return Path.home() / ".ssh" / "config"


def find_index() -> Path:
    """Return the cache with the descriptions of the local models. It may be deleted."""
    return user_cache_path("outrider", appauthor=False) / "models.json"


def find_costs() -> Path:
    """Return the folder of the measured costs of pairs. It may be deleted."""
    return user_cache_path("outrider", appauthor=False) / "costs"


def find_starter() -> Path:
    """Return the folder of the demo pair in MLX's form, made when needed. It may be deleted."""
    return user_cache_path("outrider", appauthor=False) / "starter-mlx"


def shipped(name: str) -> Path:
    """Return a file or folder of the program: beside the package in a checkout, inside it in a wheel."""
    package = Path(__file__).resolve().parent
    inside = package / "data" / name
    return inside if inside.exists() else package.parent / name
