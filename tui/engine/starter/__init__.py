"""The starter pair: a tiny main model and its draft, so that Outrider answers before anything is downloaded.

This package names the two files and nothing else. It loads no model and imports no training code.
"""

from pathlib import Path

MAIN: Path = Path(__file__).with_name("main.gguf")
"""The main model of the starter pair."""

DRAFT: Path = Path(__file__).with_name("draft.gguf")
"""The draft model of the starter pair."""
