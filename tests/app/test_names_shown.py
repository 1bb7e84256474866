"""Names of models where they are shown: whole where there is room, cut in their middle where there is not."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from rich.cells import cell_len
from textual.app import ComposeResult
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from tests.support.alone import Themed
from tests.support.names import FILES
from tui.chat import formatting
from tui.chat.draft_length import NEVER, Drafting
from tui.chat.meter import MeterReading
from tui.choices import AUTO, HEAD
from tui.config import Generation
from tui.engine.eligibility import NOT_RESTORED
from tui.protocol import FoundModel, Loaded, ModelFacts, Rounding
from tui.quantities import context, parameters, shortened
from tui.screens.model_rows import ModelRows, facts
from tui.widgets.chat_panel import ChatPanel, SidebarMode
from tui.widgets.rows import Rows
from tui.widgets.sidebar import WIDTH, Sidebar
from tui.widgets.status import StatusLine

CODER, SMALL = "Qwen2.5-Coder 1.5B Q4_K_M", "Qwen2.5-Coder 0.5B Q4_K_M"


def info(name: str, *, demo: bool = False) -> ModelFacts:
    return ModelFacts(name, "/m", "llama", 1, "Q4_K_M", 1, 4096, 300, demo)


PAIR = Loaded(info(CODER), info(SMALL), None, "llama.cpp", "CPU", 8192, 10.0, 0.1)
ALONE = replace(PAIR, draft=None)


@pytest.mark.parametrize(
    ("name", "room", "shown"),
    [
        (CODER, 25, CODER),
        (CODER, 23, "Qwen2.5-Cod…1.5B Q4_K_M"),
        (CODER, 19, "Qwen2.5…1.5B Q4_K_M"),
        (CODER, 16, "Qwen…1.5B Q4_K_M"),
        (CODER, 13, "Q…1.5B Q4_K_M"),
        (CODER, 12, "Qwen2…Q4_K_M"),
        ("Qwen2.5-Coder 0.5B Q4_K_M (LM Studio)", 25, "Q…0.5B Q4_K_M (LM Studio)"),
        ("DeepSeek-R1-Distill-Qwen 7B Q4_K_M", 23, "DeepSeek-R1-D…7B Q4_K_M"),
        ("Qwen3-Coder 30B-A3B Q4_K_M (Ollama)", 34, "Qwen3-Code…30B-A3B Q4_K_M (Ollama)"),
        ("Mixtral 8x7B v0.1 Q5_K_M", 22, "Mixtr…8x7B v0.1 Q5_K_M"),
        ("Phi-3-mini-128k-anything Q4_K_M", 20, "Phi-3-min…ing Q4_K_M"),
        ("模型模型模型模型 7B Q8_0", 14, "模型模…7B Q8_0"),
        (CODER, 1, "…"),
        (CODER, 0, ""),
    ],
)
def test_the_middle_of_a_name_gives_way(name: str, room: int, shown: str) -> None:
    assert shortened(name, room) == shown
    assert cell_len(shown) <= room


@pytest.mark.parametrize("room", range(60))
def test_a_name_never_takes_more_than_its_room(room: int) -> None:
    for *_, name in FILES:
        assert cell_len(shortened(name, room)) <= room


class Alone(Themed):
    """One widget and nothing else."""

    def __init__(self, widget: Widget) -> None:
        super().__init__()
        self.widget = widget

    def compose(self) -> ComposeResult:
        yield self.widget


def lines(widget: Static) -> list[str]:
    return str(widget.content).splitlines()


async def test_the_sidebar_shows_the_quantization_of_both_models() -> None:
    sidebar = Sidebar()
    async with Alone(sidebar).run_test(size=(34, 40)):
        sidebar.show_models(PAIR)
        _, main, draft, *_ = lines(sidebar.query_one("#models", Static))
        assert main == "main  Qwen2.5-Cod…1.5B Q4_K_M"
        assert draft == "draft Qwen2.5-Cod…0.5B Q4_K_M"
        sidebar.show_models(replace(PAIR, main=info("Starter (demo)", demo=True)))
        assert lines(sidebar.query_one("#models", Static))[1] == "main           Starter (demo)"


async def test_a_head_has_its_own_name_and_color_in_the_sidebar() -> None:
    sidebar = Sidebar()
    reading = MeterReading(drafted=8, accepted=4, acceptance=0.5, draft_share=0.2, verify_share=0.7)
    async with Alone(sidebar).run_test(size=(34, 40)):
        head = replace(PAIR.main, name="MTP head", path=HEAD)
        for pair, name in ((replace(PAIR, draft=head), "head"), (PAIR, "draft")):
            sidebar.show_models(pair)
            sidebar.show_reading(reading, ())
            assert lines(sidebar.query_one("#models", Static))[2].split()[0] == name
            assert f"{name} 20" in lines(sidebar.query_one("#time", Static))[2]
            for part in ("#drafts", "#time"):
                content = sidebar.query_one(part, Static).content
                assert isinstance(content, Content)
                assert f"$token-{name}" in {str(span.style) for span in content.spans}


async def test_the_lookup_stands_where_a_draft_model_would() -> None:
    sidebar = Sidebar()
    async with Alone(sidebar).run_test(size=(34, 40)):
        models = sidebar.query_one("#models", Static)
        sidebar.show_models(ALONE)
        sidebar.show_drafting("auto", lookup=True)
        assert lines(models)[2].split() == ["draft", "lookup"]
        sidebar.show_drafting("never", lookup=False)
        assert lines(models)[2].split() == ["draft", "none"]
        sidebar.show_drafting("auto", lookup=True)
        sidebar.show_models(PAIR)
        assert lines(models)[2].endswith("0.5B Q4_K_M")
        sidebar.show_models(None)
        assert lines(models)[2].split() == ["draft", "–"]


@pytest.mark.parametrize(
    ("wished", "loaded", "generation", "looks_up"),
    [
        (Drafting(AUTO), ALONE, Generation(), True),
        (Drafting(4), ALONE, Generation(), True),
        (Drafting(NEVER), ALONE, Generation(), False),
        (Drafting(AUTO), ALONE, Generation(lookup=False), False),
        (Drafting(AUTO), replace(ALONE, obstacle=NOT_RESTORED), Generation(), False),
    ],
)
def test_the_lookup_proposes_unless_nothing_may(
    wished: Drafting, loaded: Loaded, generation: Generation, looks_up: bool
) -> None:
    assert formatting.looks_up(wished, loaded, generation) is looks_up


@pytest.mark.parametrize(
    ("accepted", "drafted", "head"),
    [
        (57, 105, "Drafts accepted     57 of 105"),
        (985, 1_003, "Drafts accepted  985 of 1,003"),
        (1_779, 1_969, "Accepted       1,779 of 1,969"),
        (123_456, 234_567, "Accepted   123,456 of 234,567"),
    ],
)
async def test_a_label_and_its_number_never_run_together(accepted: int, drafted: int, head: str) -> None:
    sidebar = Sidebar()
    async with Alone(sidebar).run_test(size=(34, 40)):
        sidebar.show_models(replace(PAIR, context_length=131_072))
        sidebar.show_drafting("always 16", lookup=True)
        long = 12_345_678.9
        sidebar.show_reading(
            MeterReading(
                long, long, long, long, 1, drafted, accepted, 0.9, 4.6, 15.9, 0.1, 0.9, 123_456, 1 << 31
            ),
            (),
        )
        assert lines(sidebar.query_one("#drafts", Static))[0] == head
        assert lines(sidebar.query_one("#drafts", Static))[-2:] == [
            "drafted per round        15.9",
            "draft length        always 16",
        ]
        assert lines(sidebar.query_one("#context", Static))[0] == "Context    123,456 of 131,072"
        every = [line for each in sidebar.query(Static) for line in lines(each) if line]
        assert all(cell_len(line) <= WIDTH for line in every)


async def test_the_status_line_shortens_names_before_it_loses_one() -> None:
    status = StatusLine()
    async with Alone(status).run_test(size=(80, 24)) as pilot:
        status.state, status.models = "ready:", tuple(formatting.pair(PAIR))
        await pilot.pause()
        assert str(status.render()).rstrip() == f"● ready: {CODER} + {SMALL}"
        status.display_mode = "drafting auto  colors quiet"
        await pilot.pause()
        assert str(status.render()) == (
            "● ready: Qwen…1.5B Q4_K_M + Qwen…0.5B Q4_K_M   drafting auto  colors quiet"
        )
        status.state, status.models = "stopped", ()
        assert str(status.render()).startswith("● stopped  ")


async def test_in_the_status_line_how_tokens_are_shown_gives_way_to_numbers() -> None:
    status = StatusLine()
    async with Alone(status).run_test(size=(80, 24)) as pilot:
        status.state, status.figures = "answering", ("61.2 tok/s", "75 % accepted")
        status.display_mode, status.aside = "drafting auto", "colors quiet"
        await pilot.pause()
        left = "● answering  ·  61.2 tok/s  75 % accepted"
        assert str(status.render()) == f"{left}{'drafting auto  colors quiet':>{74 - len(left)}}"
        status.display_mode = "exact  drafting auto"
        assert str(status.render()) == f"{left}{'exact  drafting auto':>{74 - len(left)}}"
        for state in ("x" * 30, "x" * 45):
            status.state = state
            expected = ["●", state, *(["·", "61.2", "tok/s"] if len(state) == 30 else [])]
            assert str(status.render()).split() == [*expected, "exact", "drafting", "auto"]  # never "7…"
        status.state = "x" * 99
        assert str(status.render()).endswith("…  exact  drafting auto")


async def test_exact_mode_is_named_without_the_sidebar_too() -> None:
    exact = replace(PAIR, rounding=Rounding(0.04, exact=True, rows=3))
    sizes: list[tuple[tuple[int, int], SidebarMode]] = [((80, 24), "hidden"), ((120, 40), "shown")]
    for size, sidebar in sizes:
        panel = ChatPanel(0.03, "quiet", False, sidebar)
        async with Alone(panel).run_test(size=size):
            panel.show_drafting("auto", None, lookup=False)
            for loaded in (PAIR, replace(exact, rounding=Rounding(0.04)), exact, None):
                panel.show_loaded(loaded)
                assert ("exact" in str(panel.query_one(StatusLine).render())) is (loaded is exact)


def found(name: str, number: int) -> FoundModel:
    facts = (name, f"/m/{number}.gguf", "llama", 1_777_088_000, "Q4_K_M", 10**9, 32_768, 300)
    return FoundModel(
        *facts, source="LM Studio", backend="llama.cpp", tokenizer="gpt2", fingerprint="f", traits=()
    )


async def test_no_two_rows_of_a_narrow_list_read_alike() -> None:
    """The width that half of 80 columns leaves."""
    names = sorted(
        {name for *_, name in FILES} | {CODER, "Qwen2.5-Coder 1.5B Q8_0", "DeepSeek-R1-Distill-Qwen 7B Q8_0"}
    )
    models = ModelRows()
    models.add(found(name, number) for number, name in enumerate(names))
    rows = Rows("rows", models=True)
    async with Alone(rows).run_test(size=(40, len(names) + 4)) as pilot:
        rows.show(models.rows(""))
        await pilot.pause()
        width = rows.scrollable_content_region.width
        shown = [rows.render_line(y).text for y in range(len(names))]
        assert width < 40
        assert len(set(shown)) == len(names)
        assert any(line.startswith(f"{CODER}  ") for line in shown)


def test_a_count_of_parameters_never_contradicts_the_name() -> None:
    assert parameters(found(CODER, 0)) == "1.5B"
    assert parameters(found("Mixtral 8x7B v0.1 Q5_K_M", 0)) == "8x7B"
    assert parameters(found("Gemma-3n E4B Q8_0", 0)) == "E4B"
    assert parameters(found("Phi-4 Q4_K_M", 0)) == "1.8B"
    assert "parameters" not in facts(found(CODER, 0))
    assert "1.8B parameters" in facts(found("Phi-4 Q4_K_M", 0))


def test_contexts_have_one_form() -> None:
    assert [context(tokens) for tokens in (0, 2048, 8192, 32_768, 131_072, 1_000_000)] == [
        "–", "2k", "8k", "32k", "128k", "1,000,000",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("draft", "verify", "shown"),
    [
        (0.294, 0.604, "draft 29  verify 60  other 11"),  # 10.2 by itself would leave 1 % out
        (0.005, 0.995, "draft 0  verify 100  other 0"),
        (0.335, 0.665, "draft 34  verify 66  other 0"),
    ],
)
async def test_the_shares_of_the_time_add_up_to_a_hundred(draft: float, verify: float, shown: str) -> None:
    sidebar = Sidebar()
    async with Alone(sidebar).run_test(size=(120, 40)):
        sidebar.show_reading(MeterReading(draft_share=draft, verify_share=verify), ())
        assert lines(sidebar.query_one("#time", Static))[-1].strip() == shown
