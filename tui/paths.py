"""The paths of all files on this machine, in one module. It opens and creates nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from platformdirs import PlatformDirs

_DIRS = PlatformDirs("outrider", appauthor=False)
"""The folders of this user, by the platform's rules."""


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
    return Paths(
        config=_DIRS.user_config_path / "config.toml",
        themes=_DIRS.user_config_path / "themes",
        log=_DIRS.user_log_path / "engine.log",
        last=_DIRS.user_state_path / "pair.json",
        chats=_DIRS.user_data_path / "chats.db",
    )


def find_told() -> Path:
    """Return the file that remembers that the risk of workers was shown."""
    return _DIRS.user_state_path / "workers-told"


def find_records() -> Path:
    """Return the folder of the measured speed-ups. Without it, only predictions are left."""
    return _DIRS.user_state_path / "measured"


def find_models() -> Path:
    """Return the folder for downloaded models."""
    return _DIRS.user_data_path / "models"


def find_copied() -> Path:
    """Return the file for a copy that no clipboard takes."""
    return _DIRS.user_state_path / "copied.txt"


def find_ssh_config() -> Path:
    """Return ssh's own configuration file, which lists other machines."""
    return Path.home() / ".ssh" / "config"


def find_index() -> Path:
    """Return the cache with the descriptions of the local models. It may be deleted."""
    return _DIRS.user_cache_path / "models.json"


def find_costs() -> Path:
    """Return the folder of the measured costs of pairs. It may be deleted."""
    return _DIRS.user_cache_path / "costs"


def find_states() -> Path:
    """Return the folder of the saved caches of chats. It may be deleted."""
    return _DIRS.user_cache_path / "states"


def hashed(text: str) -> str:
    """Return 16 digits for a name of a file, which tell nothing about `text`."""
    from hashlib import sha256  # `outrider --help` waits for this module

    return sha256(text.encode("utf-8", "replace")).hexdigest()[:16]


def names_of_states(chat: str | None) -> tuple[str, str]:
    """Return the patterns of the complete and the unfinished files of `chat` in `find_states()`.

    None means those of all chats.
    """
    chats = "*" if chat is None else hashed(chat)
    return f"*-{chats}.state", f".*-{chats}.*.part"


def find_deleted() -> Path:
    """Return the file of the deleted chats whose caches hosts may still have. It need not exist."""
    return _DIRS.user_state_path / "deleted-chats.json"


def find_starter() -> Path:
    """Return the folder of the demo pair in MLX's form, made when needed. It may be deleted."""
    return _DIRS.user_cache_path / "starter-mlx"


def shipped(name: str) -> Path:
    """Return a file or folder of the program: beside the package in a checkout, inside it in a wheel."""
    package = Path(__file__).resolve().parent
    inside = package / "data" / name
    return inside if inside.exists() else package.parent / name
