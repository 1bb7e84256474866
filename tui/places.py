"""Where things are on this machine: the one authority on paths. It opens and creates nothing."""

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
class Places:
    """The folders and files that the app reads and writes."""

    config: Path
    """config.toml; it need not exist."""
    themes: Path
    """The user's own themes; it need not exist."""
    log: Path
    """Where the engine's native libraries may write what they have to say."""
    last: Path
    """The pair that was chosen last; it need not exist."""
    chats: Path
    """The conversations; it need not exist."""

    def of_host(self, name: str) -> Places:
        """These, with the pair that was chosen last on the machine of this name; empty is this one."""
        safe = re.sub(r"[^A-Za-z0-9.-]", "_", name)
        return replace(self, last=self.last.with_name(f"pair-{safe}.json" if name else "pair.json"))


def find_places() -> Places:
    """The places of this user, as the platform has them."""
    config = user_config_path("outrider", appauthor=False)
    log = user_log_path("outrider", appauthor=False)
    last = user_state_path("outrider", appauthor=False) / "pair.json"
    chats = user_data_path("outrider", appauthor=False) / "chats.db"
    return Places(config / "config.toml", config / "themes", log / "engine.log", last, chats)


def find_records() -> Path:
    """The folder of what drafts brought on this machine; without it only predictions are left."""
    return user_state_path("outrider", appauthor=False) / "measured"


def find_models() -> Path:
    """Where models that we download lie."""
    return user_data_path("outrider", appauthor=False) / "models"


def find_copied() -> Path:
    """Where a copy is left that nothing else takes."""
    return user_state_path("outrider", appauthor=False) / "copied.txt"


def find_ssh_config() -> Path:
    """What ssh itself knows of other machines."""
    return Path.home() / ".ssh" / "config"


def find_index() -> Path:
    """What was read of the models on this machine; it may be deleted."""
    return user_cache_path("outrider", appauthor=False) / "models.json"


def find_costs() -> Path:
    """The folder of what model pairs were found to cost on this machine; it may be deleted."""
    return user_cache_path("outrider", appauthor=False) / "costs"


def find_starter() -> Path:
    """The folder of the starter pair in the form that MLX reads, made when needed; it may be deleted."""
    return user_cache_path("outrider", appauthor=False) / "starter-mlx"


def shipped(name: str) -> Path:
    """A file or folder of the program: beside the package in a checkout, inside it in a wheel."""
    package = Path(__file__).resolve().parent
    inside = package / "data" / name
    return inside if inside.exists() else package.parent / name
