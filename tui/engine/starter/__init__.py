"""The starter pair: a tiny main model and its draft, so that Outrider answers before anything is downloaded.

This package names the two files and nothing else. It loads no model and imports no training code.
"""

from pathlib import Path
from typing import Literal

NAME = "starter"
"""What the pair goes by wherever a model is named."""

MAIN: Path = Path(__file__).with_name("main.gguf")
"""The main model of the starter pair."""

DRAFT: Path = Path(__file__).with_name("draft.gguf")
"""The draft model of the starter pair."""


def place(name: str, role: Literal["main", "draft"]) -> str:
    """Where the model is that goes by `name`: a path stays one."""
    return str({"main": MAIN, "draft": DRAFT}[role]) if name == NAME else name
