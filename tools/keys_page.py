"""Writes docs/keys.md from the bindings themselves. Run as a script."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from textual.binding import Binding

from tui.app import Outrider
from tui.keys import groups
from tui.widgets.keyline import readable_key

PATH = Path(__file__).parent.parent / "docs" / "keys.md"
HEAD = """# Keys

`F1` lists all keys in the app, with the changes of your `config.toml`. To give an action another key, write
its name, from the last column, and the key under `[keys]`. h, j, k and l move among messages and tokens.
`set = "vi"` adds i, a, x and / there, and ctrl+j, ctrl+k, ctrl+f and ctrl+b in lists.

In the composer, `/` begins a command, and `@` the name of a text file that goes along with the prompt. Both
suggest completions while you type.
"""


def page() -> str:
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield HEAD
    for title, bindings in groups(Outrider.BINDINGS):
        yield from (f"## {title}", "", "| key | | name |", "|---|---|---|")
        yield from (_row(binding) for binding in bindings)
        yield ""


def _row(binding: Binding) -> str:
    keys = " ".join(f"`{readable_key(key)}`" for key in binding.key.split(","))
    name = f"`{binding.id}`" if binding.id else ""
    return f"| {keys} | {binding.tooltip or binding.description} | {name} |"


if __name__ == "__main__":
    PATH.write_text(page(), encoding="utf-8")
