"""The demo pair: a tiny main model with its draft and its head, so that Outrider answers before a download.

This package names the files and nothing else. It loads no model and imports no training code.
"""

from pathlib import Path
from typing import Literal

NAME = "starter"
"""The name of the pair wherever a model is named."""

MAIN: Path = Path(__file__).with_name("main.gguf")

DRAFT: Path = Path(__file__).with_name("draft.gguf")

HEAD: Path = Path(__file__).with_name("head.gguf")
"""An EAGLE-3 head of the main model, in a file of its own."""


def place(name: str, role: Literal["main", "draft"]) -> str:
    """Return the path of the model called `name`; a path stays as it is."""
    return str({"main": MAIN, "draft": DRAFT}[role]) if name == NAME else name
