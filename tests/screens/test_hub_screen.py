"""The screen of the hub: search, see what fits, download; and a fetched model answers, by keys alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Input

from tests.support.chat import ask, chat, outrider, text, until
from tests.support.hub import Hub, hub
from tests.support.models import Toy, write_model
from tests.support.rest import at_rest
from tests.support.screens.hub import GB, WITH_HEADS, Alone
from tui.protocol import HubFile, LookInside, SearchHub
from tui.screens.hub import HubScreen
from tui.widgets.rows import Rows

STATES: dict[str, tuple[str, ...]] = {
    "pairs": (),
    "found": tuple("model 7b"),
    "nothing": tuple("nothing"),
    "downloading": ("enter", "down", "enter", "tab", "tab"),
}


@pytest.mark.parametrize("size", [(120, 40), (80, 24)], ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("keys", STATES.values(), ids=STATES.keys())
def test_the_hub_looks_as_it_should(
    snap_compare: Any, monkeypatch: pytest.MonkeyPatch, keys: tuple[str, ...], size: tuple[int, int]
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)

    async def settle(pilot: Any) -> None:
        pilot.app.screen.query_one(Input).cursor_blink = False
        await at_rest(pilot)
        await pilot.press(*keys)
        await at_rest(pilot)

    assert snap_compare(Alone(), terminal_size=size, run_before=settle)


async def test_a_slow_pair_says_how_slow_it_would_be() -> None:
    app = Alone()
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: app.rows("repositories").current)
        assert app.shown.count("≤") == app.shown.count("≤ 1.4 tok/s") == 1
        await pilot.press("down", "down", "down")
        await until(pilot, lambda: "Slow here: at most 1.4 tok/s without a draft. maker/Model" in app.shown)


async def test_enter_on_a_pair_fetches_both() -> None:
    app = Alone()
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: app.rows("repositories").current)
        app.engine.go_on.set()
        await pilot.press("down", "enter")
        await until(pilot, lambda: len(app.downloads.items) == 2)
        await until(pilot, lambda: all(item.state == "done" for item in app.downloads.items))
    assert app.wanted == [("maker/Model-7B-GGUF", "Q4_K_M"), ("maker/Model-0.5B-GGUF", "Q4_K_M")]


@pytest.mark.parametrize("size", [(120, 40), (80, 24)])
async def test_a_pair_with_its_own_head_is_one_file(size: tuple[int, int]) -> None:
    app = Alone()
    app.engine.pairs = WITH_HEADS
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.rows("files").current)
        assert app.shown.count("with head") == 2
        assert (
            "Model-9B-MTP-GGUF:Q4_K_M, with its own head as its draft: Enter downloads this one file"
            in words(app)
        )
        await pilot.press("enter")
        await until(pilot, lambda: app.wanted)
        assert "main + head" in app.shown
        await pilot.press("tab", "tab")
        await until(pilot, lambda: "with its own head, which drafts once you load it" in words(app))
        app.engine.go_on.set()
        await until(pilot, lambda: "Model-Q4_K_M.gguf · with its own head" in words(app))
    assert app.wanted == [("maker/Model-9B-MTP-GGUF", "Q4_K_M")]


@pytest.mark.parametrize("size", [(120, 40), (80, 24)])
async def test_a_head_in_a_second_file_is_fetched_with_its_model(size: tuple[int, int]) -> None:
    app = Alone()
    app.engine.pairs = WITH_HEADS
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.rows("files").current)
        await pilot.press("down")
        await until(pilot, lambda: "Q4_K_M, with the head mtp-Model-5B.gguf as its draft" in words(app))
        first, second = app.shown.partition("Files")[2].splitlines()[1:3]
        assert first.rstrip(" │").endswith("main")
        assert second.rstrip(" │").endswith("head")
        app.engine.go_on.set()
        await pilot.press("enter", "tab", "tab", "down")
        await until(pilot, lambda: "a head: it drafts for Model 5B once you load that" in words(app))
    assert app.wanted == [("maker/Model-5B-GGUF", "Q4_K_M"), ("maker/Model-5B-GGUF", "mtp-Model-5B.gguf")]


async def test_enter_on_one_half_fetches_it_alone() -> None:
    app = Alone()
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: app.rows("files").current)
        await pilot.press("tab", "down", "enter")
        await until(pilot, lambda: app.wanted)
    assert app.wanted == [("maker/Model-0.5B-GGUF", "Q4_K_M")]


async def test_what_was_searched_for_is_listed_and_the_common_file_chosen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tui.screens.hub.PAUSE", 2.0)  # for keys that come slowly on a busy machine
    app = Alone()
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press(*"model")
        await until(pilot, lambda: "1,234,567" in app.shown)
        await until(pilot, lambda: app.rows("files").current)
        assert "F16 in 2 files" in app.shown
        assert "too large" in app.shown
        await pilot.press("enter", "enter")
        await until(pilot, lambda: app.wanted)
    assert [each.words for each in app.engine.asked if isinstance(each, SearchHub)] == ["model"]
    assert app.wanted == [("maker/Model-7B-GGUF", "Model-Q4_K_M.gguf")]


def words(app: Alone) -> str:
    """The screen, without the ends of its lines."""
    return " ".join(app.shown.split())


@pytest.mark.parametrize("size", [(120, 40), (80, 24)])
async def test_a_head_beside_a_model_is_offered_and_fetched_by_key(size: tuple[int, int]) -> None:
    app = Alone()
    app.engine.heads = (HubFile("mtp-Model-Q4_K_M.gguf", GB // 2, 1, "llama.cpp", "Q4_K_M", "mtp"),)
    async with app.run_test(size=size) as pilot:
        await pilot.press(*"model")
        await until(pilot, lambda: "Q4_K_M 500 MB MTP head" in words(app))
        assert "with its own draft: MTP head" in words(app)
        await pilot.press("enter")
        assert "Its MTP head is at the end of this list" in words(app)
        await pilot.press("enter")
        await until(pilot, lambda: app.wanted == [("maker/Model-7B-GGUF", "Model-Q4_K_M.gguf")])
        await pilot.press("down", "down")
        assert "mtp-Model-Q4_K_M.gguf drafts for a model beside it" in words(app)
        await pilot.press("enter")
        await until(pilot, lambda: len(app.downloads.items) == 2)
        assert app.downloads.items[1].file == "mtp-Model-Q4_K_M.gguf"


@pytest.mark.parametrize("size", [(120, 40), (80, 24)])
async def test_a_file_with_its_own_head_needs_no_other_file(size: tuple[int, int]) -> None:
    app = Alone()
    app.engine.inside = ("Model-Q4_K_M.gguf",)
    app.engine.heads = (HubFile("mtp-Model-Q4_K_M.gguf", GB // 2, 1, "llama.cpp", "Q4_K_M", "mtp"),)
    sentence = "Its own head is in this file and drafts for it: no further file is needed"
    async with app.run_test(size=size) as pilot:
        await pilot.press(*"model")
        await until(pilot, lambda: sentence in words(app))
        assert "with its own draft" not in words(app)
        await pilot.press("enter")
        await until(pilot, lambda: words(app).count(sentence) == 1 and "huggingface.co" not in words(app))
        await pilot.press("up")
        await until(pilot, lambda: "Its MTP head is at the end of this list" in words(app))
        await pilot.press("down")
        await until(pilot, lambda: sentence in words(app))
        looked = [each.file for each in app.engine.asked if isinstance(each, LookInside)]
        assert looked.count("Model-Q4_K_M.gguf") == 1
        assert "mtp-Model-Q4_K_M.gguf" not in looked


async def test_enter_on_a_download_pauses_it_and_goes_on() -> None:
    app = Alone()
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: app.rows("files").current)
        await pilot.press("tab", "enter")
        await until(pilot, lambda: "33 %" in app.shown)
        await pilot.press("tab", "enter")
        await until(pilot, lambda: "paused" in app.shown)
        app.engine.go_on.set()
        await pilot.press("enter")
        await until(pilot, lambda: "100 %" in app.shown and "done" in app.shown)
        await until(pilot, lambda: "/models/Model-Q4_K_M.gguf" in app.shown)
        await pilot.press("ctrl+x")
        await until(pilot, lambda: "nothing yet" in app.shown)
        assert app.downloads.items == []


@pytest.mark.parametrize("size", [(120, 40), (80, 24)])
async def test_a_wait_that_the_hub_asks_for_is_said_with_its_reason(size: tuple[int, int]) -> None:
    app = Alone()
    app.engine.reason = "the hub asks to wait 40 s: too many requests"
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.rows("files").current)
        await pilot.press("tab", "enter", "tab")
        await until(pilot, lambda: "Waiting: the hub asks to wait 40 s: too many requests." in app.shown)
        assert "Enter pauses it" in app.shown
        await until(pilot, lambda: app.shown.count("the hub asks to wait 40 s") == 2)  # in its row too
        assert "Model" in app.shown.partition("Downloads")[2]
        app.engine.go_on.set()
        await until(pilot, lambda: "/models/Model-Q4_K_M.gguf" in app.shown)
        assert "to wait" not in app.shown


async def test_a_repository_of_old_pieces_says_so_where_files_would_be() -> None:
    app = Alone()
    app.engine.note = "split in an old way: m.gguf"
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("m")
        await until(pilot, lambda: app.shown.count("split in an old way: m.gguf") == 2)
        assert "no GGUF file" not in app.shown


async def test_a_hub_that_cannot_be_reached_is_said_where_one_looks() -> None:
    app = Alone("The hub cannot be reached")
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "The hub cannot be reached" in app.shown)
        assert "looking for" not in app.shown


async def test_esc_empties_the_line_and_then_goes_back() -> None:
    app = Alone()
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("x", "escape")
        await until(pilot, lambda: "Pairs that fit here" in app.shown)
        assert app.left == []
        await pilot.press("escape")
        await until(pilot, lambda: app.left)


# The whole way


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = tmp_path_factory.mktemp("toys")
    main = write_model(folder / "main.gguf", Toy(layers=6, width=128, name="Fetched main"))
    draft = write_model(folder / "draft.gguf", Toy(layers=1, width=32, name="Fetched draft"))
    with hub() as running:
        running.repositories = {
            "maker/Main-GGUF": {"Main-Q4_K_M.gguf": main.read_bytes()},
            "maker/Draft-GGUF": {"Draft-Q4_K_M.gguf": draft.read_bytes()},
        }
        yield running


async def test_a_pair_is_searched_fetched_chosen_and_answers_by_keys_alone(
    tmp_path: Path, server: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    app = outrider(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        screen = chat(app)
        await until(pilot, lambda: screen.phase == "ready")
        await pilot.press("ctrl+l", "ctrl+g")
        await until(pilot, lambda: isinstance(app.screen, HubScreen))
        for repository, words in (("maker/Main-GGUF", "main"), ("maker/Draft-GGUF", "draft")):
            await pilot.press(*words)
            await until(pilot, lambda name=repository: name in text(app))  # type: ignore[misc]
            await until(pilot, lambda: app.screen.query_one("#files", Rows).current)
            await pilot.press("enter", "enter")
            await until(pilot, lambda: app._downloads.items[-1].state == "done")
            await pilot.press("escape", "tab", "tab")
            await until(pilot, lambda: "Pairs that fit here" in text(app))
        await pilot.press("escape")
        await until(pilot, lambda: "Fetched main" in text(app))
        await pilot.press(*"fetched main")
        await until(pilot, lambda: "● Fetched draft" in text(app))
        await pilot.press("enter")
        await until(pilot, lambda: screen.phase == "ready" and screen.session.connection.loaded)
        assert screen.session.connection.loaded is not None
        assert screen.session.connection.loaded.main.name == "Fetched main F32"
        await ask(pilot, "hello")
        await until(pilot, lambda: screen.phase == "ready" and len(screen.panel.transcript.messages) == 2)
