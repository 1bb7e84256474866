"""The load screen: what it shows, and a pair chosen by keys alone answers the next prompt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from textual.widgets import Input, Static

from tests.support.chat import ask, chat, outrider, text, until
from tests.support.models import Toy, write_model
from tests.support.rest import at_rest
from tests.support.screens.models import FAMILIES, MANY, REASON, VERDICTS, Alone, Library, model
from tui.chat.draft_race import TOKENS, Lap, entrants, race
from tui.chat.requests import load_request
from tui.choices import LOOKUP, NONE
from tui.client import EngineError
from tui.config import Models, Settings
from tui.config.last import PairSettings, keep_last, with_last
from tui.protocol import (
    Finished,
    FoundModel,
    Generate,
    JudgeDrafts,
    Load,
    Loaded,
    MemoryPlanned,
    MemoryUse,
    ModelFacts,
    Obstacle,
    PlanMemory,
    Question,
    Reply,
    Skipped,
    Statistics,
    TextRound,
    WorkerState,
)
from tui.quantities import UNKNOWN, size
from tui.screens import model_rows as found_module
from tui.screens.hub import HubScreen
from tui.screens.models import ModelsScreen
from tui.widgets.memory_bars import _uses
from tui.widgets.rows import Row, Rows

INFO = ModelFacts("m", "/m", "llama", 1, "Q8_0", 1, 4096, 300)

DEMO = model(0, "Starter (demo)", 7_000_000, "built in", demo=True)


class Racing(Library):
    """A client that loads and answers whatever it is given, and remembers it."""

    state = "idle"

    def __init__(self, *models: FoundModel, rejected: str = "", policy: float = 0.0) -> None:
        super().__init__(*models)
        self.loads: list[Load] = []
        self.answers = 0
        self.rejected, self.policy = rejected, policy

    async def load(self, load: Load, on_progress: Any) -> Loaded:
        self.loads.append(load)
        fault = (
            Obstacle("load", "another tokenizer") if self.rejected and load.draft == self.rejected else None
        )
        return Loaded(INFO, None, fault, "llama.cpp", "CPU", 4096, 10.0, 0.1)

    async def generate(self, question: Generate) -> AsyncIterator[TextRound | Finished]:
        self.answers += 1
        await asyncio.sleep(self.policy)
        yield TextRound((), tuple(range(TOKENS)), 0, 0, 0, 0.1, 0, 0, 64)
        yield Finished(question.id, "length", Statistics())


def verdict_line(app: Alone) -> str:
    return str(app.screen.query_one("#verdict", Static).render())


async def judged(pilot: Any) -> None:
    await until(pilot, lambda: pilot.app.drafts.current)


STATES: dict[str, tuple[Library, tuple[str, ...]]] = {
    "many": (Library(*MANY, DEMO, skipped=(Skipped("/m/cut.gguf", "the file is cut off"),)), ()),
    "rejected": (Library(*MANY, DEMO), ("tab", *["down"] * 4)),
    "none": (Library(DEMO), ()),
    "filtered": (Library(*MANY), tuple("gemma")),
    "left-out": (Library(*MANY, skipped=(Skipped("/m/cut.gguf", "the file is cut off"),)), ("ctrl+o",)),
    "shorter": (Library(*MANY, room=8 * 10**9), ()),
    "racing": (Racing(*MANY, policy=60), ("ctrl+r",)),
    "copying": (Library(*MANY), ("tab", "f8")),
    "does-not-fit": (Library(*MANY, room=4 * 10**9), ("f5",)),
}


@pytest.mark.parametrize("size", [(120, 40), (80, 24)], ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize(("library", "keys"), STATES.values(), ids=STATES.keys())
def test_the_load_screen_looks_as_it_should(
    snap_compare: Any,
    monkeypatch: pytest.MonkeyPatch,
    library: Library,
    keys: tuple[str, ...],
    size: tuple[int, int],
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)

    async def settle(pilot: Any) -> None:
        pilot.app.screen.query_one(Input).cursor_blink = False
        await at_rest(pilot)
        await pilot.press(*keys)
        await at_rest(pilot, endless="copy" if "f8" in keys else "race")

    assert snap_compare(Alone(library), terminal_size=size, run_before=settle)


async def test_the_cursor_starts_on_what_is_loaded_and_its_drafts_are_judged() -> None:
    app = Alone(Library(*MANY))
    async with app.run_test(size=(120, 40)) as pilot:
        await judged(pilot)
        assert app.mains.current is not None
        assert app.mains.current.key == MANY[5].path
        assert app.library.judged[-1] == MANY[5].path


async def test_enter_ends_with_the_pair_under_the_cursors() -> None:
    app = Alone(Library(*MANY))
    async with app.run_test(size=(120, 40)) as pilot:
        await judged(pilot)
        await pilot.press("tab", "down", "down", "enter")
        await until(pilot, lambda: app.chosen)
    assert app.chosen == [PairSettings(MANY[5].path, LOOKUP)]


async def test_a_copy_of_a_draft_is_written_and_the_drafts_are_judged_again() -> None:
    app = Alone(Library(*MANY))
    async with app.run_test(size=(120, 40)) as pilot:
        await judged(pilot)
        before = len(app.library.judged)
        await pilot.press("tab", "f8")
        await until(pilot, lambda: "writing a copy in Q4_0" in verdict_line(app))
        assert "150 MB of about 360 MB" in verdict_line(app)
        await pilot.press("f8")
        app.library.copies_end = True
        await until(pilot, lambda: len(app.library.judged) > before)
        await until(pilot, lambda: "writing" not in verdict_line(app))
    assert [each.load.main for each in app.library.copied] == [VERDICTS[0].draft]
    assert app.library.copied[0].format == "Q4_0"


async def test_escape_ends_a_copy_and_stays_on_the_screen() -> None:
    app = Alone(Library(*MANY))
    async with app.run_test(size=(120, 40)) as pilot:
        await judged(pilot)
        await pilot.press("tab", "f8")
        await until(pilot, lambda: "writing a copy" in verdict_line(app))
        await pilot.press("escape")
        await until(pilot, lambda: "writing" not in verdict_line(app))
        assert not app.chosen
        await pilot.press("escape")
        await until(pilot, lambda: app.chosen == [None])


async def test_a_draft_without_a_file_cannot_be_copied() -> None:
    app = Alone(Library(*MANY))
    async with app.run_test(size=(120, 40)) as pilot:
        await judged(pilot)
        await pilot.press("tab", "down", "down", "f8")
        await until(pilot, lambda: any("Only a draft" in str(each.message) for each in app._notifications))
    assert not app.library.copied


@pytest.mark.parametrize(
    ("more", "named"),
    [({}, False), ({"size": 10**9}, True), ({"size": 10**9, "quantization": "Q4_0"}, False)],
    ids=["lean", "heavy", "a copy already"],
)
async def test_the_key_for_a_copy_is_named_where_a_copy_is_faster(more: dict[str, Any], named: bool) -> None:
    draft = replace(MANY[1], parameters=10**9, **({"size": 6 * 10**8} | more))
    app = Alone(Library(MANY[5], draft))
    async with app.run_test(size=(120, 40)) as pilot:
        await judged(pilot)
        await until(pilot, lambda: "recommended" in verdict_line(app))
        assert ("F8 writes a copy in Q4_0" in verdict_line(app)) is named


async def test_enter_before_a_verdict_lets_the_engine_choose() -> None:
    class Thinking(Library):
        """Judges the drafts of the first model, and never those of another."""

        async def ask(self, question: Question) -> AsyncGenerator[Reply, None]:
            if isinstance(question, JudgeDrafts) and question.load.main != MANY[5].path:
                await asyncio.Event().wait()
            async for reply in super().ask(question):
                yield reply

    app = Alone(Thinking(*MANY))
    async with app.run_test(size=(120, 40)) as pilot:
        await judged(pilot)
        await pilot.press("down", "enter")
        await until(pilot, lambda: app.chosen)
    assert app.chosen[0] is not None
    assert app.chosen[0].draft == "auto"


async def test_a_draft_that_cannot_be_is_not_loaded() -> None:
    app = Alone(Library(*MANY))
    async with app.run_test(size=(120, 40)) as pilot:
        await judged(pilot)
        await pilot.press("tab", *["down"] * 9, "enter")
        await pilot.pause()
        assert isinstance(app.screen, ModelsScreen)
        assert any(REASON in str(each.message) for each in app._notifications)
    assert app.chosen == []


async def test_only_the_model_on_which_the_cursor_rests_is_judged() -> None:
    app = Alone(Library(*MANY))
    async with app.run_test(size=(120, 40)) as pilot:
        await judged(pilot)
        before = len(app.library.judged)
        for _ in range(5):  # keys that come one at a time might be slower than the pause
            app.screen.action_move(1)  # type: ignore[attr-defined]
        await pilot.pause()
        await judged(pilot)
        assert len(app.library.judged) == before + 1


async def test_a_verdict_that_comes_late_is_not_shown_beside_another_model() -> None:
    class Slow(Library):
        """Judges the drafts of the first model when the second is under the cursor."""

        late = asyncio.Event()

        async def ask(self, question: Question) -> AsyncGenerator[Reply, None]:
            if isinstance(question, JudgeDrafts) and question.load.main == MANY[5].path:
                self.judged.append(question.load.main)
                await self.late.wait()
            async for reply in super().ask(question):
                yield reply

    app = Alone(Slow(*MANY))
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: app.library.judged)
        app.screen.action_move(1)  # type: ignore[attr-defined]
        await until(pilot, lambda: not app.drafts.current)
        await asyncio.sleep(0.02)
        app.library.late.set()  # type: ignore[attr-defined]
        await until(pilot, lambda: app.library.planned)
        assert app.mains.current is not None
        assert app.library.judged[-1] == app.mains.current.key != MANY[5].path


async def test_letters_filter_and_escape_empties_the_filter_first() -> None:
    app = Alone(Library(*MANY))
    async with app.run_test(size=(120, 40)) as pilot:
        await judged(pilot)
        await pilot.press(*"gemma ollama", "pause")
        assert app.mains.current is None  # Gemma is every third model, and those are LM Studio's
        await pilot.press("escape")
        assert app.mains.current is not None
        await pilot.press("escape")
        await until(pilot, lambda: app.chosen)
    assert app.chosen == [None]


async def test_hostile_names_are_cleaned() -> None:
    hostile = "\x1b]52;c;eA==\x07[bold red]evil[/]\n\u202e"
    evil = model(0, hostile, 10**9, path="/m/\x1b[2J.gguf", license=hostile, architecture=hostile)
    app = Alone(Library(evil, skipped=(Skipped(hostile, hostile),)))
    async with app.run_test(size=(120, 40)) as pilot:
        await judged(pilot)
        shown = app.shown
        assert "[bold red]evil[/]" in shown
        assert not any(sign in shown for sign in "\x1b\x07\u202e")


async def test_an_engine_that_is_gone_says_so() -> None:
    app = Alone(Library(fault="The engine died"))
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "The engine died" in app.shown)
        assert "looking for models" not in app.shown


async def test_the_cursor_stays_on_its_row_when_rows_come() -> None:
    app = Alone(Library())
    async with app.run_test(size=(120, 20)) as pilot:
        rows = app.mains
        rows.show([Row(str(n), (f"row {n}",)) for n in range(0, 1000, 2)])
        rows.move(100)
        rows.show([Row(str(n), (f"row {n}",)) for n in range(1000)])
        assert rows.current == Row("200", ("row 200",))
        await pilot.pause()
        assert "row 200" in app.shown
        rows.move(-5000)
        assert rows.current == Row("0", ("row 0",))


# The chat loads what was chosen


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toys")
    write_model(folder / "main.gguf", Toy(layers=6, width=128, name="Toy main"))
    write_model(folder / "draft.gguf", Toy(layers=1, width=32, name="Toy draft"))
    return folder


async def test_a_pair_chosen_by_keys_alone_answers(tmp_path: Path, toys: Path) -> None:
    app = outrider(tmp_path)
    app._settings = Settings(models=Models(folders=(str(toys),)))
    async with app.run_test(size=(120, 40)) as pilot:
        screen = chat(app)
        await until(pilot, lambda: screen.phase == "ready")
        await pilot.press("ctrl+l")
        await until(pilot, lambda: "Toy main" in text(app))
        await pilot.press(*"toy main")
        await until(pilot, lambda: "Toy draft" in text(app))
        await pilot.press("enter")
        await until(
            pilot,
            lambda: app.screen is screen and screen.phase == "ready" and screen.session.connection.loaded,
        )
        assert screen.session.connection.loaded is not None
        assert screen.session.connection.loaded.main.name == "Toy main F32"
        assert screen.session.connection.loaded.draft is not None
        assert screen.session.connection.loaded.draft.name == "Toy draft F32"
        await ask(pilot, "hello")
        await until(pilot, lambda: screen.phase == "ready" and len(screen.panel.transcript.messages) == 2)
        assert screen.panel.transcript.writer.text_of(1)


async def test_the_figures_of_the_pair_before_go_when_another_is_chosen(tmp_path: Path, toys: Path) -> None:
    app = outrider(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        screen = chat(app)
        await ask(pilot, "hello")
        await until(pilot, lambda: screen.phase == "ready" and screen.session.meter.read().tokens > 0)
        context = screen.panel.query_one("#context", Static)
        await until(pilot, lambda: UNKNOWN not in str(context.content).splitlines()[0])
        await screen.others.chosen(PairSettings(str(toys / "main.gguf"), NONE))
        await until(pilot, lambda: screen.phase == "ready" and screen.session.connection.loaded)
        assert str(context.content).splitlines()[0].split() == ["Context", "used", UNKNOWN]
        assert "tok/s" not in str(screen.panel.query_one("#speed", Static).content)


async def test_choosing_stops_an_answer_that_is_coming(tmp_path: Path, toys: Path) -> None:
    app = outrider(tmp_path, main="scripted:sample?rate=50&tokens=5000")
    async with app.run_test(size=(120, 40)) as pilot:
        screen = chat(app)
        await ask(pilot, "hello")
        await until(pilot, lambda: screen.phase == "answering")
        await screen.others.chosen(PairSettings(str(toys / "main.gguf"), NONE))
        await until(pilot, lambda: screen.phase == "ready" and screen.session.connection.loaded)
        assert screen.session.connection.loaded is not None
        assert screen.session.connection.loaded.main.name == "Toy main F32"
        assert screen.session.connection.loaded.draft is None


async def test_esc_gives_up_a_load(tmp_path: Path) -> None:
    app = outrider(tmp_path, main="scripted:sample?load=30")
    async with app.run_test(size=(120, 40)) as pilot:
        screen = chat(app)
        await until(pilot, lambda: app._client.state == "loading")
        await pilot.press("escape")
        await until(pilot, lambda: screen.phase == "ended")
        await until(pilot, lambda: "given up" in text(app))
        assert screen.session.connection.loaded is None


def test_what_was_chosen_becomes_the_settings() -> None:
    def chosen(draft: str) -> Settings:
        return PairSettings("/m.gguf", draft).applied(Settings())

    assert load_request(chosen("/d.gguf")).draft == "/d.gguf"
    assert load_request(chosen("auto")).draft == "auto"
    assert load_request(chosen(LOOKUP)).draft == LOOKUP
    assert load_request(chosen(NONE)).draft == NONE


def test_the_last_pair_comes_back_unless_the_config_names_one(tmp_path: Path) -> None:
    main = tmp_path / "m.gguf"
    main.touch()
    path = tmp_path / "state" / "pair.json"
    kept = PairSettings(str(main), NONE).applied(Settings())
    keep_last(kept, path)
    assert with_last(Settings(), path) == kept
    named = Settings(models=Models("other.gguf"))
    assert with_last(named, path) == named
    main.unlink()
    assert with_last(Settings(), path) == Settings()


@pytest.mark.parametrize(
    "kept", ["", "[]", '{"main": 3}', '{"main": "/", "draft": 1, "lookup": true}', "[" * 9999]
)
def test_a_broken_last_pair_is_none(tmp_path: Path, kept: str) -> None:
    path = tmp_path / "pair.json"
    path.write_text(kept)
    assert with_last(Settings(), path) == Settings()


async def test_the_palette_offers_models_and_downloads(tmp_path: Path) -> None:
    app = outrider(tmp_path, main="scripted:sample")
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: chat(app).phase == "ready")
        offered = {command.title: command.callback for command in app.get_system_commands(app.screen)}
        await offered["Models"]()  # type: ignore[misc]
        await until(pilot, lambda: isinstance(app.screen, ModelsScreen))
        offered["Get models"]()
        await until(pilot, lambda: isinstance(app.screen, HubScreen))
        await pilot.press("escape", "escape")
        await until(pilot, lambda: app.screen is chat(app))
        assert chat(app).session.settings.models.main == "scripted:sample"


# Whether it fits


async def test_what_fits_is_asked_for_the_pair_under_both_cursors() -> None:
    app = Alone(Library(*MANY))
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "8.6 GB of 22.0 GB free" in app.shown)
        assert (app.library.planned[-1].main, app.library.planned[-1].draft) == (MANY[5].path, MANY[1].path)
        await pilot.press("tab", "down")
        await until(pilot, lambda: app.library.planned[-1].draft == MANY[2].path)
        await pilot.press("down")
        await until(pilot, lambda: app.library.planned[-1].draft == LOOKUP)


async def test_until_a_pair_is_measured_no_figures_of_another_stand_there() -> None:
    class Slow(Library):
        """Plans the memory of the first pair at once, of others when it may."""

        may = asyncio.Event()

        async def ask(self, question: Question) -> AsyncGenerator[Reply, None]:
            if isinstance(question, PlanMemory) and self.planned:
                await self.may.wait()
            async for reply in super().ask(question):
                yield reply

    app = Alone(Slow(*MANY))
    first, second = MANY[5], MANY[9]
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "8.6 GB of 22.0 GB free" in app.shown)
        assert "F5 context 8k" in app.shown
        await pilot.press("down")
        await until(pilot, lambda: app.mains.current and app.mains.current.key == second.path)
        assert f"measuring …  main {size(second.size)}" in app.shown
        assert "free" not in app.shown and "8,192" not in app.shown
        await until(pilot, lambda: app.drafts.current)
        draft = size(MANY[1].size)
        await until(pilot, lambda: f"measuring …  main {size(second.size)}  draft {draft}" in app.shown)
        assert "free" not in app.shown and "8,192" not in app.shown
        await pilot.press("up")
        await until(pilot, lambda: f"measuring …  main {size(first.size)}" in app.shown)
        app.library.may.set()  # type: ignore[attr-defined]
        await until(pilot, lambda: "8.6 GB of 22.0 GB free" in app.shown)


async def test_what_is_proposed_is_what_is_loaded() -> None:
    app = Alone(Library(*MANY, room=8 * 10**9))
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "context 4k (shorter)" in app.shown)
        assert "cache 8 bits (not 16 bits)" in app.shown
        await pilot.press("enter")
        await until(pilot, lambda: app.chosen)
    assert app.chosen == [PairSettings(MANY[5].path, MANY[1].path, 4096, "q8_0", -1)]


async def test_what_does_not_fit_is_rejected_with_its_numbers_until_one_insists() -> None:
    app = Alone(Library(*MANY, room=4 * 10**9))
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "does not fit" in app.shown)
        await pilot.press("enter")
        await until(pilot, lambda: app._notifications)
        assert any("needs 8.6 GB, 4.0 GB are free" in str(each.message) for each in app._notifications)
        assert app.chosen == []
        await pilot.press("enter")
        await until(pilot, lambda: app.chosen)
    assert app.chosen == [PairSettings(MANY[5].path, MANY[1].path)]


async def test_settings_are_changed_by_keys_and_planned_again() -> None:
    app = Alone(Library(*MANY))
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: app.library.planned)
        await pilot.press("f5", "f6", "f7")
        await until(pilot, lambda: app.library.planned[-1].gpu_layers == 0)
        asked = app.library.planned[-1]
        assert (asked.context_length, asked.cache_type) == (2048, "q8_0")
        await until(pilot, lambda: "F7 GPU layers 0" in app.shown)
        await pilot.press(*["f5"] * 7)
        await until(pilot, lambda: app.library.planned[-1].context_length == 0)
        await pilot.press("enter")
        await until(pilot, lambda: app.chosen)
    assert app.chosen == [PairSettings(MANY[5].path, MANY[1].path, 0, "q8_0", 0)]


async def test_a_plan_that_cannot_be_made_is_said_and_does_not_stand_in_the_way() -> None:
    class Unplanned(Library):
        def plan(self, load: Load) -> MemoryPlanned:
            raise EngineError("The library refuses this context")

    app = Alone(Unplanned(*MANY))
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "refuses this context" in app.shown)
        await pilot.press("enter")
        await until(pilot, lambda: app.chosen)
    assert app.chosen == [PairSettings(MANY[5].path, MANY[1].path)]


# A scan


async def test_a_scan_makes_each_row_once_and_ends_complete_and_sorted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    many = [model(n, f"{FAMILIES[n % 4]} {n}", 10**9) for n in range(500)]
    made: list[str] = []
    row = found_module._row
    monkeypatch.setattr(found_module, "_row", lambda model: made.append(model.path) or row(model))
    shown: list[int] = []
    show = Rows.show
    monkeypatch.setattr(
        Rows, "show", lambda self, rows, **more: shown.append(len(rows)) or show(self, rows, **more)
    )
    app = Alone(Library(*many))
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: app.library.planned)
        rows = app.mains._rows
    # Once as it comes, and once for the list without what is gone.
    assert len(made) == 2 * len(many)
    assert len([count for count in shown if count]) < 30
    assert [each.key for each in rows] == [
        each.path for each in sorted(many, key=lambda each: (each.name.casefold(), -each.size, each.path))
    ]


async def test_a_model_that_is_gone_leaves_the_list_when_it_is_made_again(tmp_path: Path) -> None:
    app = Alone(Library(*MANY))
    async with app.run_test(size=(120, 40)) as pilot:
        await judged(pilot)
        app.library.models = MANY[:7]
        app.screen._mains.look(app.screen)  # type: ignore[attr-defined]
        await until(pilot, lambda: len(app.mains._rows) == 7)
        assert app.mains.current is not None
        assert app.mains.current.key == MANY[5].path


# The race


async def test_a_race_loads_each_draft_and_judges_again() -> None:
    app = Alone(Racing(*MANY))
    async with app.run_test(size=(120, 40)) as pilot:
        await judged(pilot)
        before = len(app.library.judged)
        await pilot.press("ctrl+r")
        await until(pilot, lambda: len(app.library.judged) > before)
        await pilot.press("escape")
        await until(pilot, lambda: app.chosen)
    library = app.library
    assert isinstance(library, Racing)
    assert [load.draft for load in library.loads] == [MANY[1].path, MANY[2].path, LOOKUP]
    assert {load.main for load in library.loads} == {MANY[5].path}
    assert library.answers == 9
    # What was loaded before the race is loaded again.
    assert app.chosen == [PairSettings(MANY[5].path, LOOKUP)]


async def test_esc_ends_a_race_and_stays() -> None:
    app = Alone(Racing(*MANY, policy=60))
    async with app.run_test(size=(120, 40)) as pilot:
        await judged(pilot)
        await pilot.press("ctrl+r")
        await until(pilot, lambda: "racing" in app.shown)
        await pilot.press("escape")
        await pilot.pause()
        assert "racing" not in app.shown
        assert isinstance(app.screen, ModelsScreen)


async def test_a_draft_that_cannot_be_loaded_is_out_of_the_race() -> None:
    library = Racing(rejected=MANY[1].path)
    laps: list[Lap] = []
    await race(library, Load("/m"), VERDICTS[:2], laps.append)  # type: ignore[arg-type]
    assert [lap.fault for lap in laps if lap.fault] == ["another tokenizer"]
    assert library.answers == 3
    assert [lap.done for lap in laps] == sorted(lap.done for lap in laps)
    assert (laps[-1].done, laps[-1].doing) == (1, "prompt 3 of 3")


async def test_a_race_shows_what_it_does_in_place_of_the_verdict() -> None:
    app = Alone(Racing(*MANY, policy=60))
    async with app.run_test(size=(80, 24)) as pilot:
        await judged(pilot)
        assert "● recommended, measured 2.1×" in app.shown
        await pilot.press("ctrl+r")
        await until(pilot, lambda: "8 %  Llama 3.2 1B: prompt 1 of 3" in app.shown)
        assert "recommended" not in app.shown
        await pilot.press("escape")
        await until(pilot, lambda: "● recommended, measured 2.1×" in app.shown)


def test_who_races() -> None:
    assert [each.draft for each in entrants(VERDICTS)] == [MANY[1].path, MANY[2].path, LOOKUP]


async def test_where_nothing_was_left_out_no_filter_is_blamed(tmp_path: Path) -> None:
    app = Alone(Library(*MANY))
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "Main model  40" in text(app))
        await pilot.press("ctrl+o")
        await until(pilot, lambda: "nothing was left out" in text(app))
        await pilot.press("ctrl+o", *"zz")
        await until(pilot, lambda: "no model has these words: shorten the filter" in text(app))
        assert "nothing was left out" not in text(app)


async def test_what_was_left_out_is_filtered_too(tmp_path: Path) -> None:
    skipped = (Skipped("/m/cut.gguf", "the file is cut off"), Skipped("/m/old.gguf", "an old format"))
    app = Alone(Library(*MANY, skipped=skipped))
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "Main model  40" in text(app))
        await pilot.press("ctrl+o", *"old")
        await until(pilot, lambda: "old.gguf" in text(app) and "cut.gguf" not in text(app))
        await pilot.press(*"zz")
        await until(pilot, lambda: "no file has these words: shorten the filter" in text(app))
        assert "old.gguf" not in text(app)


def test_the_bar_shows_the_room_for_chats_as_a_part() -> None:
    (line,) = _uses([MemoryUse("memory", 16 * 10**9, 16 * 10**9, 4 * 10**9, 0, 10**9, 0, 3 * 10**9)], 120, 6)
    assert line.plain == (
        "memory ████████░░░░░░░░  5.0 GB of 16.0 GB free  main 4.0 GB  caches 1.0 GB  chats up to 3.0 GB"
    )
    (line,) = _uses([MemoryUse("memory", 16 * 10**9, 16 * 10**9, 4 * 10**9, 0, 10**9, 0, 3 * 10**9)], 72, 6)
    assert line.plain == "memory ████████░░░░░░░░  5.0 GB of 16.0 GB free  chats up to 3.0 GB"


async def test_each_machine_has_a_bar_with_its_layers_and_its_round_trip() -> None:
    library = Library(*MANY)
    library.workers = (
        WorkerState("gpu2", 24, 0.0004),
        WorkerState("gpu3", 0, fault="gpu3 does not answer"),
    )
    app = Alone(library)
    async with app.run_test(size=(140, 40)) as pilot:
        await until(pilot, lambda: "24 layers" in text(app))
        lines = [line.strip() for line in text(app).splitlines()]
        (bar,) = [line for line in lines if line.startswith("gpu2")]
        assert "8.6 GB of 70.0 GB free" in bar and "24 layers, 0.4 ms there and back" in bar
        assert "caches 2.0 GB" in bar
        (missing,) = [line for line in lines if line.startswith("gpu3")]
        assert missing.index("gpu3 does not answer") == bar.index("█"), "names and words stand in columns"
        assert any(line.startswith("F5 context") for line in lines), "the settings stay in view"
