"""Why it does not draft: every reason has one text, and the reason of a running answer reaches the screen."""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any, get_args

import pytest
from msgspec.structs import replace
from textual.pilot import Pilot

from tests.support import models
from tests.support.chat import ask as ask_app
from tests.support.chat import chat, outrider, text, until
from tests.support.models import Toy
from tui import commands
from tui.chat import formatting
from tui.choices import AUTO, DraftLength
from tui.commands import ask as ask_command
from tui.commands.options import parser
from tui.config import Generation
from tui.engine import eligibility
from tui.engine.answer.answer import Answer
from tui.engine.answer.templates import TemplateRenderer
from tui.engine.backends import ModelError, Options
from tui.engine.backends.selection import open_backend
from tui.engine.eligibility import NOT_SMALLER, NOTHING_COPIED, OTHER_LIBRARY, POLICY, UNCUT
from tui.engine.library.describe import describe
from tui.engine.library.find import candidate
from tui.engine.library.pairing import Judge
from tui.engine.pair.exactness import _exact
from tui.engine.pair.pair import Pair, load_pair
from tui.engine.pair.reading import ContextReader
from tui.engine.pair.rounding import Exactness
from tui.engine.speculation.estimates import Costs
from tui.engine.speculation.lookup import Lookup
from tui.engine.speculation.loop import Pick, Round
from tui.engine.speculation.policy import AdaptiveLength, FixedLength, WhyNot
from tui.protocol import (
    Event,
    Finished,
    FoundModel,
    Generate,
    Load,
    Loaded,
    Message,
    ModelFacts,
    NotDrafting,
    Notice,
    Obstacle,
    Rounding,
    Rounds,
    Statistics,
)
from tui.widgets.sidebar import WIDTH

ROOT = Path(__file__).parents[2]
ENGINE = ROOT / "tui" / "engine"
WIDE, NARROW = (120, 40), (80, 24)

# One place


def test_every_reason_is_made_in_one_module() -> None:
    made = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "tui").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Obstacle")
    ]
    assert set(made) == {"tui/engine/eligibility.py"}


def test_every_reason_is_used() -> None:
    reasons = [
        name
        for name, value in vars(eligibility).items()
        if isinstance(value, Obstacle) or getattr(value, "__module__", "") == eligibility.__name__
    ]
    others = [path.read_text("utf-8") for path in ENGINE.rglob("*.py") if path.name != "eligibility.py"]
    used = {node.id for each in others for node in ast.walk(ast.parse(each)) if isinstance(node, ast.Name)}
    assert len(reasons) > 15
    assert {name for name in reasons if not name.startswith("_")} <= used


def test_each_reason_of_the_policy_has_a_text_that_fits_into_the_sidebar() -> None:
    assert set(POLICY) == set(get_args(WhyNot))
    stages = [Obstacle(stage, "long " * 20) for stage in ("load", "answer")]  # type: ignore[arg-type]
    for obstacle in (*POLICY.values(), NOTHING_COPIED, *stages):
        assert 0 < len(obstacle.brief) <= WIDTH - len("drafting auto: ")


# Headers


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toys")
    models.write_model(folder / "main.gguf", Toy(layers=6, width=64, context_length=512))
    models.write_model(folder / "draft.gguf", Toy(layers=1, width=64, context_length=512))
    models.write_model(folder / "other.gguf", Toy(layers=1, width=64, swapped=(300, 301)))
    models.write_model(folder / "mamba.gguf", Toy("mamba", layers=1))
    return folder


def described(path: Path) -> FoundModel:
    return describe(candidate(path))


@pytest.mark.parametrize(
    ("draft", "change", "reason"),
    [
        ("draft", {"backend": "mlx"}, "it runs with mlx, the main model with llama.cpp"),
        ("other", {}, "another tokenizer: only models of one family can draft (differs at id "),
        ("draft", {"size": 1 << 40}, NOT_SMALLER.text),
        ("draft", {}, "it does not fit beside the main model: 9.0 GB of 6.0 GB"),
        ("draft", {"fingerprint": "unknown", "path": "/dev/null"}, "the file is empty"),
    ],
    ids=["backend", "vocabulary", "size", "memory", "file"],
)
def test_the_load_screen_has_every_reason_of_the_headers(
    toys: Path, draft: str, change: dict[str, Any], reason: str
) -> None:
    found = replace(described(toys / f"{draft}.gguf"), **change)
    large = eligibility.no_room(9 * 10**9, 6 * 10**9)
    judge = Judge(described(toys / "main.gguf"), lambda main, draft: None, 0.05, lambda draft: large)
    verdict = judge.verdict(found)
    assert verdict.judgement == "no"
    assert verdict.reason.startswith(reason)


# Load


@pytest.mark.parametrize(
    ("draft", "reason"),
    [
        ("other", "another tokenizer: only models of one family can draft"),
        ("missing", "missing.gguf cannot be read"),
    ],
)
def test_a_draft_that_a_load_rejects_gives_its_reason(toys: Path, draft: str, reason: str) -> None:
    path = toys / f"{draft}.gguf"
    pair = load_pair(Load(str(toys / "main.gguf"), str(path), 256, threads=1), lambda *_: True)
    assert pair.draft is None
    assert pair.obstacle
    assert (pair.obstacle.stage, pair.obstacle.everything) == ("load", False)
    assert reason in pair.obstacle.text
    pair.close()


def test_only_a_scripted_model_drafts_for_a_scripted_one(toys: Path) -> None:
    backend = open_backend("scripted:sample")
    main = backend.load("scripted:sample", Options("main", 256), lambda _: True)
    assert backend.mismatch(main, main) == OTHER_LIBRARY


def test_exact_mode_needs_a_cache_that_can_be_cut_anywhere(toys: Path) -> None:
    path = str(toys / "mamba.gguf")
    main = open_backend(path).load(path, Options("main", 256, threads=1), lambda _: True)
    assert main.rewinds == "round"
    judged = _exact(main, Exactness(4, None), 0.01)
    assert (judged.obstacle, judged.rounding) == (UNCUT, Rounding(0.01, True))
    main.close()


@pytest.mark.parametrize(
    ("obstacle", "words"),
    [
        (None, ""),
        (UNCUT, f"Drafting is off: {UNCUT.text}"),
        (OTHER_LIBRARY, f"Drafting without the draft model: {OTHER_LIBRARY.text}"),
    ],
)
def test_the_chat_says_what_a_reason_concerns(obstacle: Obstacle | None, words: str) -> None:
    info = ModelFacts("Main", "/m", "llama", 1, "Q4_K_M", 1, 4096, 300)
    loaded = Loaded(info, None, obstacle, "llama.cpp", "CPU", 4096, 10.0, 0.1)
    assert formatting.rejected(loaded) == words


# Policy


def round_of(seconds: float = 1.0) -> Round:
    return Round((), 0, 0, Pick(1, 1.0), 0.0, seconds, seconds)


def policy_behind_the_first_token(draft: float, read: float) -> AdaptiveLength:
    """A policy behind the first token of an answer, on a machine where rows cost nearly nothing."""
    rows = range(1, 18)
    policy = AdaptiveLength(
        Costs({m: 1 + 0.001 * m for m in rows}, draft, read, doubt=dict.fromkeys(rows, 0.0))
    )
    policy.start()
    policy.plan(9).may_read(1)
    policy.observe(round_of())
    return policy


@pytest.mark.parametrize(
    ("draft", "read", "unread", "why"),
    [
        (9.0, 0.001, 1, "does not pay"),
        (0.01, 0.5, 100_000, "too far behind"),
        (0.01, 0.001, 10_000, "reading"),
        (0.01, 0.001, 1, ""),
    ],
)
def test_the_policy_names_its_reason(draft: float, read: float, unread: int, why: WhyNot) -> None:
    policy = policy_behind_the_first_token(draft, read)
    policy.plan(9).may_read(unread)
    assert policy.why_not == why


def test_the_policy_says_when_it_has_not_started_and_when_it_tries() -> None:
    policy = policy_behind_the_first_token(0.9, 0.001)
    policy.start()
    assert policy.why_not == "first token"
    seen = set()
    for _ in range(40):
        plan = policy.plan(9)
        plan.may_read(1)
        seen.add(policy.why_not)
        plan.close()
        policy.observe(round_of())
    assert "trying" in seen


# An answer


class Stubborn(AdaptiveLength):
    """A policy that lets nobody draft for a while, and gives these reasons, one a round."""

    def __init__(self, *reasons: WhyNot) -> None:
        super().__init__(Costs(dict.fromkeys(range(1, 18), 1.0), 0.001, 0.001))
        self.reasons = list(reasons)

    def _reading(self, unread: int) -> tuple[WhyNot, int]:
        return (self.reasons.pop(0), 0) if self.reasons else ("", unread)


Ask = Callable[..., list[Event]]


@pytest.fixture
def ask(toys: Path) -> Iterator[Ask]:
    """Answers by a pair of toys, whose policy, draft and obstacle the caller chooses."""
    opened: list[Pair] = []
    renderer = TemplateRenderer()

    def ask(
        policy: AdaptiveLength | FixedLength, *, draft: str = "main", obstacle: Obstacle | None = None,
        length: Callable[[], DraftLength] = lambda: AUTO, spoil: Callable[[Pair], None] = lambda pair: None,
        **settings: Any,
    ) -> list[Event]:  # fmt: skip
        backend = open_backend(str(toys / "main.gguf"))
        first = backend.load(str(toys / "main.gguf"), Options("main", 256, threads=1), lambda _: True)
        second = None
        if draft:
            path = str(toys / f"{draft}.gguf")
            second = backend.load(path, Options("draft", 256, threads=1), lambda _: True)
        opened.append(Pair(backend, first, second, obstacle, None, policy, ContextReader(first), Lookup(())))
        spoil(opened[-1])
        given = {"lookup": False, "max_tokens": 8, "ignore_eos": True, **settings}
        command = Generate(1, (Message("user", "Hello there"),), seed=3, **given)
        events: list[Event] = []
        Answer(opened[-1], command, events.append, lambda: False, length).run(renderer)
        assert isinstance(events[-1], Finished)
        return events

    yield ask
    for pair in opened:
        pair.close()
    renderer.close()


def told(events: list[Event]) -> list[Obstacle | None]:
    return [event.obstacle for event in events if isinstance(event, NotDrafting)]


def test_the_reason_of_the_policy_is_sent_when_it_changes_and_not_with_every_token(ask: Ask) -> None:
    events = ask(Stubborn("first token", *["does not pay"] * 3, *["too far behind"] * 9))
    assert told(events) == [POLICY["first token"], POLICY["does not pay"], POLICY["too far behind"]]
    assert sum(isinstance(event, Rounds) for event in events) == 8
    assert events[-1].statistics.drafted == 0  # type: ignore[union-attr]


def test_the_reason_is_withdrawn_when_something_is_drafted(ask: Ask) -> None:
    events = ask(Stubborn("first token", "does not pay"))
    assert events[-1].statistics.drafted > 0  # type: ignore[union-attr]
    assert told(events) == [POLICY["first token"], POLICY["does not pay"], None]


@pytest.mark.parametrize("length", [0, 4])
def test_no_reason_is_given_where_a_person_has_set_the_draft_length(ask: Ask, length: int) -> None:
    assert told(ask(Stubborn(*["does not pay"] * 9), length=lambda: length)) == []


def test_a_reason_is_withdrawn_when_a_person_sets_the_draft_length_in_the_middle(ask: Ask) -> None:
    lengths = iter([AUTO] * 4)
    events = ask(Stubborn(*["does not pay"] * 9), length=lambda: next(lengths, 0))
    assert told(events) == [POLICY["does not pay"], None]


@pytest.mark.parametrize("lookup", [True, False])
def test_without_a_draft_model_the_lookup_alone_can_have_a_reason(ask: Ask, lookup: bool) -> None:
    """Without both, a person has set drafting off."""
    events = ask(FixedLength(4), draft="", lookup=lookup, max_tokens=1)
    assert told(events) == ([NOTHING_COPIED] if lookup else [])


def test_a_draft_that_was_rejected_at_the_load_is_the_reason(ask: Ask) -> None:
    rejected = eligibility.broken_draft(ModelError("no"))
    assert told(ask(FixedLength(4), draft="", obstacle=rejected, lookup=True, max_tokens=1)) == [rejected]


def test_a_policy_that_always_drafts_gives_no_reason(ask: Ask) -> None:
    assert told(ask(FixedLength(4))) == []


def test_a_draft_that_fails_in_an_answer_is_the_reason_of_that_answer(ask: Ask) -> None:
    def spoil(pair: Pair) -> None:
        def fail(tokens: object, picks: int) -> list[Pick]:
            raise ModelError("out of memory")

        pair.draft.extend = fail  # type: ignore[union-attr, method-assign]

    events = ask(Stubborn(), spoil=spoil)
    failed = Obstacle("answer", "out of memory")
    assert told(events)[-1] == failed
    notices = [event.message for event in events if isinstance(event, Notice)]
    assert notices == [f"This answer goes on without the draft model: {failed.text}."]


# The screen

SILENT = "scripted:sample?rate=10&tokens=4000"
NOBODY = Generation(seed=7, lookup=False)
"""With no draft model either, the engine has no reason of its own to send."""


async def answering(pilot: Pilot[None], app: Any) -> Any:
    await until(pilot, lambda: getattr(app.screen, "phase", "") == "ready")
    screen = chat(app)
    await ask_app(pilot, "hello")
    await until(pilot, lambda: screen.phase == "answering")
    return screen


@pytest.mark.parametrize(
    ("size", "shown"), [(WIDE, "drafting   auto: does not pay"), (NARROW, "no drafts: does not pay")]
)
async def test_the_screen_shows_the_reason_of_the_policy_while_and_after_an_answer(
    tmp_path: Path, size: tuple[int, int], shown: str
) -> None:
    app = outrider(tmp_path, main=SILENT, draft="lookup", generation=NOBODY)
    async with app.run_test(size=size) as pilot:
        screen = await answering(pilot, app)
        screen.session.turn.take(NotDrafting(1, POLICY["does not pay"]))
        await until(pilot, lambda: shown in text(app))
        await pilot.press("escape")
        await until(pilot, lambda: screen.phase == "ready")
        assert shown in text(app)
        await pilot.press("f3", "f3")
        await until(pilot, lambda: "drafting never" in text(app))
        screen.session.turn.show_figures()
        await pilot.pause()
        assert "does not pay" not in text(app), "a person has set drafting off"


@pytest.mark.parametrize(("draft", "shown"), [("none", "drafting off"), ("lookup", "no drafts yet")])
async def test_the_status_line_says_once_that_nothing_drafts(tmp_path: Path, draft: str, shown: str) -> None:
    app = outrider(tmp_path, main=SILENT, draft=draft, generation=NOBODY)
    async with app.run_test(size=NARROW) as pilot:
        await answering(pilot, app)
        await until(pilot, lambda: "tok/s" in text(app))
        await until(pilot, lambda: shown in text(app))
        assert ("no drafts" in text(app)) is (draft == "lookup")
        assert ("drafting off" in text(app)) is (draft == "none")


async def test_a_reason_is_gone_once_something_was_drafted_and_in_the_next_answer(tmp_path: Path) -> None:
    app = outrider(tmp_path, main=SILENT, draft="lookup", generation=NOBODY)
    async with app.run_test(size=WIDE) as pilot:
        screen = await answering(pilot, app)
        screen.session.turn.take(NotDrafting(1, POLICY["too far behind"]))
        await until(pilot, lambda: "drafting auto: too far behind" in text(app))
        screen.session.turn.take(NotDrafting(1, None))
        await until(pilot, lambda: "too far behind" not in text(app))
        screen.session.turn.take(NotDrafting(1, POLICY["trying"]))
        await until(pilot, lambda: "auto: measuring" in text(app))
        await pilot.press("escape")
        await until(pilot, lambda: screen.phase == "ready")
        screen.session.turn._meter.begin(1)
        screen.session.turn.show_figures()
        await pilot.pause()
        assert "measuring" not in text(app)


# The commands


@pytest.mark.parametrize("drafted", [True, False])
def test_ask_shows_the_reason_beside_the_figures(drafted: bool) -> None:
    written = StringIO()
    output = ask_command._Json(written, ask_command._Status(StringIO()), 3)
    info = ModelFacts("Main", "/m", "llama", 1, "Q4_K_M", 1, 4096, 300)
    output.show(NotDrafting(1, POLICY["does not pay"]))
    if drafted:
        output.show(NotDrafting(1, None))
    output.show(Finished(1, "stop", Statistics(tokens=4, drafted=2 * drafted)))
    output.finish(Loaded(info, info, None, "llama.cpp", "CPU", 4096, 10.0, 0.1))
    assert json.loads(written.getvalue())["not_drafting"] == (None if drafted else "does not pay")
    figures = ask_command._figures(Statistics(tokens=4, drafted=2 * drafted), 3, output._obstacle)
    assert ("no drafts: does not pay" in figures) is not drafted


def test_bench_gives_the_reason_of_each_prompt_for_which_nothing_was_drafted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("CONFIG", "STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path))
    fake = ROOT / "tests" / "support" / "fake_bench_engine.py"
    monkeypatch.setattr("tui.host.HERE", (sys.executable, str(fake), "--idle", "Write"))
    prompts = tmp_path / "prompts.toml"
    prompts.write_text("code = ['Write quicksort.', 'Name a color.']")
    asked = ["bench", "--runs", "1", "--temperature", "0", "--prompts", str(prompts), "--draft", "d"]
    assert commands.run(parser().parse_args([*asked, "--json"])) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    assert [each["not_drafting"] for each in results] == ["does not pay", None]
    assert commands.run(parser().parse_args(asked)) == 0
    out = capsys.readouterr().out
    assert re.search(r"^no drafts +in 1 of 2: does not pay$", out, flags=re.M)
