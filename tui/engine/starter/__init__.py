"""The demo pair: a tiny main model and its draft, so that Outrider answers before anything is downloaded.

This package names the two files and nothing else. It loads no model and imports no training code.
"""

from pathlib import Path
from typing import Literal

NAME = "starter"
"""The name of the pair wherever a model is named."""

MAIN: Path = Path(__file__).with_name("main.gguf")

DRAFT: Path = Path(__file__).with_name("draft.gguf")


def place(name: str, role: Literal["main", "draft"]) -> str:
    """Return the path of the model called `name`; a path stays as it is."""
    return str({"main": MAIN, "draft": DRAFT}[role]) if name == NAME else name
