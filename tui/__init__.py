"""Outrider: a chat for the terminal that makes local language models answer sooner."""

__version__ = "0.1.0"
