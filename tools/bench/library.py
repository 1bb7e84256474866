"""The library's times: 2,000 models in five layouts, listed cold and warm, and the cursor moved over them.

    python -m tools.bench.library [--models 2000]

The models are one small file under many names: its header has 512 tokens, where a real one has up to 260,000
and takes some hundredths of a second the first time that it is seen. A busy machine spoils it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles

from textual import events
from textual.app import App

from tests.support.models import Toy, write_model
from tui.engine.library.find import ModelFolder, known_places
from tui.engine.library.index import list_models
from tui.paths import shipped
from tui.protocol import FoundModel, ListModels, Load, ModelsFound, ModelsListed
from tui.screens.models import ModelsScreen
from tui.themes import default_variables, load_themes
from tui.widgets.rows import Rows


def make(home: Path, count: int) -> list[ModelFolder]:
    """A home folder with so many models, a fifth in each layout."""
    small = write_model(home / "small", Toy(layers=1, width=32))

    def put(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(small, path)

    for number in range(count // 5):
        put(home / ".lmstudio" / "models" / "maker" / f"repo{number}" / f"m{number}.gguf")
        put(home / "llama" / f"m{number}.gguf")
        put(home / "own" / f"m{number}.gguf")
        put(
            home
            / ".cache/huggingface/hub"
            / f"models--maker--m{number}"
            / "snapshots"
            / ("b" * 40)
            / "m.gguf"
        )
        put(home / ".ollama/models/blobs" / f"sha256-{number:064x}")
        manifest = home / ".ollama/models/manifests/registry/library" / f"m{number}" / "latest"
        manifest.parent.mkdir(parents=True)
        layer = {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{number:064x}"}
        manifest.write_text(json.dumps({"layers": [layer]}))
    return known_places({"LLAMA_CACHE": str(home / "llama")}, home, home / "own", mac=False)


def listing(places: list[ModelFolder], memory: Path) -> tuple[float, float, list[FoundModel]]:
    """Seconds to the first model and to the last, and the models."""
    began, first = time.perf_counter(), 0.0
    models: dict[str, FoundModel] = {}
    for found in list_models(places, memory):
        first = first or time.perf_counter() - began
        if isinstance(found, FoundModel):
            models[found.path] = found
    return first, time.perf_counter() - began, list(models.values())


class Scanning:
    """Stands for the client, in the middle of a scan that goes on and on."""

    host = None

    def __init__(self, models: list[FoundModel]) -> None:
        self.models = models

    async def ask(self, question: object):  # type: ignore[no-untyped-def]
        if not isinstance(question, ListModels):
            return
        for at in range(0, len(self.models), 8):
            yield ModelsFound(-1, tuple(self.models[at : at + 8]))
            await asyncio.sleep(0.05)
        yield ModelsListed(-1, (), 0.0)


class Host(App[None]):
    def __init__(self, models: list[FoundModel]) -> None:
        super().__init__()
        for theme in load_themes((shipped("themes"),))[0]:
            self.register_theme(theme)
        self.theme = "outrider-dark"
        self.library = Scanning(models)

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return default_variables(self.current_theme)

    def on_mount(self) -> None:
        self.push_screen(ModelsScreen(self.library, Load("starter")))  # type: ignore[arg-type]


async def presses(models: list[FoundModel], count: int = 100) -> list[float]:
    """Seconds from each press of an arrow to the frame that shows it, while the scan runs."""
    taken: list[float] = []
    app = Host(models)
    shown = asyncio.Event()
    pressed: tuple[float, int] | None = None

    def display(screen: object, renderable: object) -> None:
        nonlocal pressed
        paint(screen, renderable)  # type: ignore[arg-type]
        if pressed and pressed[1] != mains().cursor:
            taken.append(time.perf_counter() - pressed[0])
            pressed = None
            shown.set()

    def mains() -> Rows:
        return app.screen.query_one("#mains", Rows)

    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause(0.5)
        paint, app._display = app._display, display  # type: ignore[method-assign]
        for number in range(count):
            shown.clear()
            pressed = time.perf_counter(), mains().cursor
            app.post_message(events.Key("up" if number % 20 > 15 else "down", None))
            await asyncio.wait_for(shown.wait(), 5)
            await asyncio.sleep(0.03)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description="The library's times.")
    parser.add_argument("--models", type=int, default=2000)
    count = parser.parse_args().models
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        places, memory = make(home, count), home / "index.json"
        for state in ("cold", "warm"):
            first, all_, models = listing(places, memory)
            print(f"{len(models)} models, index {state}: first {first * 1e3:.0f} ms, all {all_:.2f} s")
        taken = asyncio.run(presses(models[:500]))
        worst = quantiles(taken, n=20)[-1]
        print(f"key press during a scan of 500: {median(taken) * 1e3:.0f} ms, p95 {worst * 1e3:.0f} ms")


if __name__ == "__main__":
    main()
