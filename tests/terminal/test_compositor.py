"""The frugal compositor: each update has the cells of Textual's own, from fewer lines and widgets."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual._compositor import ChopsUpdate, Compositor
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from tests.support.chat import ask, chat, outrider, until
from tui.terminal.compositor import FrugalCompositor
from tui.terminal.lean import fits
from tui.widgets.transcript import Transcript

pytestmark = pytest.mark.skipif(not fits(), reason="this Textual's insides are not known")


class Compared(FrugalCompositor):
    """Renders each update in both ways, and notes where they differ."""

    def __init__(self) -> None:
        super().__init__(self.note)
        self.updates = 0
        self.differences: list[str] = []

    def note(self, widget: Widget, error: Exception) -> None:
        self.differences.append(f"{widget}: {error}")

    def render_partial_update(self) -> ChopsUpdate | None:
        regions = set(self._dirty_regions)
        frugal = super().render_partial_update()
        self._dirty_regions = regions
        stock = Compositor.render_partial_update(self)
        if frugal is None or stock is None:
            assert frugal is stock
            return frugal
        self.updates += 1
        assert frugal.spans == stock.spans
        for row, begin, end in frugal.spans:
            assert frugal.chop_ends[row] == stock.chop_ends[row]
            for x, until_ in zip(stock.chops[row], stock.chop_ends[row], strict=True):
                if x < end and until_ > begin and stock.chops[row][x] != frugal.chops[row][x]:
                    self.differences.append(f"{row},{x}: {stock.chops[row][x]} {frugal.chops[row][x]}")
        return frugal


async def test_every_update_has_the_cells_that_textual_would_paint(tmp_path: Path) -> None:
    app = outrider(tmp_path, main="scripted:sample?rate=40&tokens=4000", highlight="full")
    async with app.run_test(size=(110, 30)) as pilot:
        screen = chat(app)
        assert isinstance(screen._compositor, FrugalCompositor)
        compared = Compared()
        compared.__dict__.update({**screen._compositor.__dict__, **{"updates": 0, "differences": []}})
        screen._compositor = compared
        await until(pilot, lambda: screen.phase == "ready")
        await ask(pilot, "go")
        await until(pilot, lambda: screen.phase == "answering")
        screen.notify("on top of the numbers and the text")
        await pilot.press("/", "t")  # the suggestions open over the conversation
        await until(pilot, lambda: compared.updates > 30)
        await pilot.press("escape", "ctrl+t", "pageup", "ctrl+end")
        screen.panel.composer.insert("three\nlines\nof text")
        await pilot.pause()
        assert compared.differences == []


async def test_a_changed_line_is_all_that_is_rendered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = outrider(tmp_path)
    async with app.run_test(size=(110, 30)) as pilot:
        screen = chat(app)
        await until(pilot, lambda: screen.phase == "ready")
        rendered: list[tuple[str, int]] = []
        render = Widget.render_lines

        def noting(widget: Widget, crop: object) -> object:
            rendered.append((type(widget).__name__, crop.height))  # type: ignore[attr-defined]
            return render(widget, crop)  # type: ignore[arg-type]

        monkeypatch.setattr(Widget, "render_lines", noting)
        screen.panel.say("one line is another", "$primary")
        # Textual's own ends with the screen behind all, and asks for every line.
        await until(pilot, lambda: rendered[-1:] == [("StatusLine", 1)])
        assert max(height for _, height in rendered) < 30


async def test_what_cannot_be_painted_stays_empty_and_the_chat_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = outrider(tmp_path, main="scripted:sample?rate=400&tokens=40")
    async with app.run_test(size=(110, 30)) as pilot:
        screen = chat(app)
        await until(pilot, lambda: screen.phase == "ready")

        def broken(widget: Transcript, crop: Region) -> list[Strip]:
            raise KeyError("a word that no style knows")

        with monkeypatch.context() as patch:
            patch.setattr(Transcript, "render_lines", broken)
            await ask(pilot, "one")
            await until(pilot, lambda: screen.phase == "ready")
            app.refresh(layout=True)
            await until(pilot, lambda: len(app._notifications) > 0)
            await pilot.pause()
            said = [notice.message for notice in app._notifications]
            assert len(said) == 1, "once for each kind"
            assert "cannot be shown" in said[0] and str(app._places.log) in said[0]
        assert "a word that no style knows" in app._places.log.read_text()
        screen.panel.transcript.refresh()
        await ask(pilot, "two")
        await until(pilot, lambda: screen.phase == "ready")
        assert app.is_running
        text = "\n".join(strip.text for strip in screen._compositor.render_strips())
        assert "one" in text and "two" in text
