"""`outrider bench`: exact arithmetic, harmless reports, and whole benchmarks end to end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from xml.etree import ElementTree

import pytest
from msgspec import structs
from rich.cells import cell_len

from tests.support.imports import ENGINE_ONLY, loaded_after, modules
from tests.support.paths import SUPPORT
from tests.support.terminal import Terminal
from tui import commands
from tui.chat.trace import Tries
from tui.client.parting import first_difference
from tui.commands.bench import loads_of, plan_of
from tui.commands.bench.as_json import as_json
from tui.commands.bench.chart import chart
from tui.commands.bench.plan import SHIPPED, BenchPlan, Prompt, quick, read_prompts
from tui.commands.bench.progress import Progress
from tui.commands.bench.report import WIDTH, as_line, as_markdown, as_text
from tui.commands.bench.results import (
    Bench,
    BenchRun,
    geometric_mean,
    joined,
    mean_ratios,
    result_of,
    series_of,
)
from tui.commands.options import parser
from tui.commands.setup import UsageError
from tui.config import Settings
from tui.protocol import Loaded, ModelFacts, Statistics

HOSTILE = "a\x1b]52;c;QUFB\x07<b>&\"|`'\n\x00\u202e\ufffe\ud800 世界"
PROMPT = Prompt("code", "Write quicksort.")
FAKE = SUPPORT / "fake_bench_engine.py"


def answer(
    speed: float | None, *, drafted: bool, prompt: Prompt = PROMPT, temperature: float = 0.0,
    tokens: Sequence[int] = (1, 2, 3, 4), rounds: Sequence[tuple[int, int]] = (), wait: float = 0.1,
    memory: int | None = None,
) -> BenchRun:  # fmt: skip
    cost = Statistics(
        tokens=len(tokens),
        rounds=len(rounds),
        drafted=sum(proposed for proposed, _ in rounds),
        accepted=sum(kept for _, kept in rounds),
        tokens_per_second=speed,
        time_to_first_token=wait,
        peak_memory=memory,
    )
    return BenchRun(prompt, temperature, drafted, tuple(tokens), cost, tuple(rounds))


def loaded(name: str = "main", draft: str | None = "draft") -> Loaded:
    def model(name: str) -> ModelFacts:
        return ModelFacts(name, f"/models/{name}.gguf", "llama", 1, "Q4_K_M", 2**30, 4096, 100)

    return Loaded(model(name), model(draft) if draft else None, None, "llama.cpp", "a GPU", 4096, None, 1.0)


def benchmark(runs: Sequence[BenchRun], name: str = "main", draft: str | None = "draft") -> Bench:
    plan = BenchPlan((PROMPT,), (0.0, 0.8), 0, 128, 3, None, True)
    return Bench(
        "2025-01-02T03:04:05+00:00", "1.0", plan, (series_of(loaded(name, draft), runs),), complete=True
    )


def pair(plain: float, drafted: float, category: str = "code", temperature: float = 0.0) -> list[BenchRun]:
    prompt = Prompt(category, f"{category} {plain} {drafted}")
    return [
        answer(plain, drafted=False, prompt=prompt, temperature=temperature),
        answer(drafted, drafted=True, prompt=prompt, temperature=temperature, rounds=((3, 2), (2, 0))),
    ]


# Arithmetic


def test_a_result_compares_the_medians() -> None:
    plain = [answer(speed, drafted=False, wait=wait) for speed, wait in ((10, 0.1), (40, 0.3), (20, 0.2))]
    rounds = ((4, 4), (4, 1), (0, 0))
    drafted = [
        answer(speed, drafted=True, rounds=rounds, tokens=range(8), wait=0.5) for speed in (30, 50, 45)
    ]
    result = result_of([*plain, *drafted])
    assert (result.plain.tokens_per_second, result.drafted.tokens_per_second) == (20, 45)
    assert result.ratio == 2.25
    assert (result.plain.spread, result.drafted.spread) == (1.5, pytest.approx(20 / 45))
    assert (result.plain.time_to_first_token, result.drafted.time_to_first_token) == (0.2, 0.5)
    assert result.acceptance_rate == 5 / 8
    assert result.tokens_per_round == 8 / 3
    assert result.draft_length == 8 / 3
    assert (result.plain.runs, result.drafted.runs) == (3, 3)


def test_what_is_not_known_stays_unknown() -> None:
    result = result_of([answer(None, drafted=False), answer(10, drafted=True, rounds=((0, 0),))])
    assert (result.plain.tokens_per_second, result.plain.spread, result.ratio) == (None, None, None)
    assert (result.acceptance_rate, result.draft_length) == (None, 0)
    assert result.drafted.spread is None, "a single run has none"
    assert geometric_mean([None]) is None
    assert geometric_mean([2.0, None, 8.0]) == pytest.approx(4.0)


def test_a_position_is_counted_only_where_it_was_reached() -> None:
    # All four accepted; the third rejected; none drafted; the first rejected.
    rounds = ((4, 4), (4, 2), (0, 0), (2, 0))
    counted = result_of([answer(1, drafted=False), answer(1, drafted=True, rounds=rounds)])
    assert counted.positions == (Tries(3, 2), Tries(2, 2), Tries(2, 1), Tries(1, 1))
    short = result_of([answer(1, drafted=False), answer(1, drafted=True, rounds=((1, 1),))])
    long = result_of([answer(1, drafted=False), answer(1, drafted=True, rounds=((2, 1),))])
    assert joined([short, long]) == (Tries(2, 2), Tries(1, 0))


def test_a_difference_is_found_in_a_token_and_in_the_length() -> None:
    assert first_difference([(1, 2, 3), (1, 2, 3)]) is None
    assert first_difference([(1, 2, 3), (1, 2, 3), (1, 4, 3)]) == 1
    assert first_difference([(1, 2, 3), (1, 2)]) == 2


def test_ratios_are_averaged_geometrically_by_temperature_and_category() -> None:
    runs = [*pair(10, 20), *pair(10, 80), *pair(10, 10, "chat"), *pair(10, 30, temperature=0.8)]
    means = mean_ratios(series_of(loaded(), runs).results)
    assert list(means) == [0.0, 0.8]
    assert means[0.0] == pytest.approx({"code": 4.0, "chat": 1.0, "all": 16 ** (1 / 3)})
    assert means[0.8] == pytest.approx({"code": 3.0, "all": 3.0})


def test_half_a_case_gives_no_result_and_memory_is_the_highest() -> None:
    other = Prompt("chat", "Hello")
    runs = [
        *(answer(1, drafted=drafted, memory=memory) for drafted, memory in ((False, 5), (True, 9))),
        answer(1, drafted=False, prompt=other, memory=7),
    ]
    series = series_of(loaded(), runs)
    assert [result.prompt for result in series.results] == [PROMPT]
    assert series.peak_memory == 9
    assert series_of(loaded(), runs[:1]).peak_memory == 5


# The plan and its prompts


def test_the_built_in_prompts() -> None:
    prompts = read_prompts()
    assert len(prompts) == len(set(prompts)) == 27
    counts = {name: len(texts) for name, texts in tomllib.loads(SHIPPED.read_text()).items()}
    assert counts == {"lmstudio": 3} | dict.fromkeys(("code", "edit", "summary", "maths", "chat", "prose"), 4)
    assert prompts[0].text == "Write a quicksort algorithm in Python. Write code only."
    assert all(prompt.text == prompt.text.strip() and prompt.text.isascii() for prompt in prompts)
    assert [prompt.category for prompt in quick(prompts)] == list(counts)


@pytest.mark.parametrize(
    "text", ["chat = 'x'", "chat = [1]", "chat = ['']", "", "chat = [", "[chat]\nx = ['y']", "\xff"]
)
def test_a_file_without_usable_prompts_is_rejected_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "prompts.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError) as caught:
        read_prompts(path)
    assert "\n" not in str(caught.value)


def plan(*arguments: str) -> BenchPlan:
    return plan_of(parser().parse_args(["bench", *arguments]))


def test_every_option_reaches_the_plan(tmp_path: Path) -> None:
    path = tmp_path / "prompts.toml"
    path.write_text("a = ['x', 'y']\nb = ['z']")
    given = plan(
        *("--prompts", str(path), "--temperature", "1", "--temperature", "0.5", "--temperature", "1"),
        *("--seed", "7", "--max-tokens", "9", "--runs", "2", "--draft-length", "3", "--no-lookup", "--quick"),
    )
    assert given == BenchPlan((Prompt("a", "x"), Prompt("b", "z")), (1.0, 0.5), 7, 9, 2, 3, False)
    assert given.answers == 16
    usual = plan()
    assert (usual.temperatures, usual.seed, usual.max_tokens, usual.runs) == ((0, 0.8), 0, 128, 3)
    assert (usual.draft_length, usual.lookup, len(usual.prompts)) == ("auto", True, 27)


def test_plain_and_drafted_take_turns_and_neither_is_always_first() -> None:
    cases = list(replace(plan("--quick"), runs=3).cases())
    assert all(sorted(order) == [False] * 3 + [True] * 3 for _, _, order in cases)
    assert cases[0][2] == (False, True, True, False, False, True)
    assert cases[1][2] == (True, False, False, True, True, False)


def test_both_ways_ask_the_same_but_for_the_drafting() -> None:
    asked = plan("--draft-length", "3")
    plain, drafted = (asked.question(1, PROMPT, 0.5, way) for way in (False, True))
    assert (plain.draft_length, plain.lookup) == (0, False)
    assert (drafted.draft_length, drafted.lookup) == (3, True)
    assert structs.replace(plain, draft_length=3, lookup=True) == drafted
    assert plain.fresh
    assert (plain.seed, plain.sampling.temperature, plain.max_tokens) == (0, 0.5, 128)
    assert plan().question(1, PROMPT, 0, True).draft_length == "auto"


# Reports


def runs_of_everything() -> list[BenchRun]:
    long = Prompt("code", "Write a very long prompt that no table can hold in full. " * 9)
    return [
        *pair(10, 25),
        *pair(123456.7, 98765.4, "chat", 0.8),
        answer(10, drafted=False, prompt=long),
        answer(20, drafted=True, prompt=long, rounds=((3, 3),)),
    ]


def test_the_table_fits_and_says_what_was_measured() -> None:
    lines = list(as_text(benchmark(runs_of_everything())))
    assert all(cell_len(line) <= WIDTH for line in lines)
    row = next(line for line in lines if line.startswith("code 10 25"))
    figures = ["10.0", "25.0", "2.50", "-", "40%", "2.00", "2.5", "100", "100"]
    assert row.split() == ["code", "10", "25", "code", "0", *figures]
    text = "\n".join(lines)
    for part in ("main, 1.1 GB", "llama.cpp on a GPU", "lookup on", "3 of 3", "seed 0"):
        assert part in text
    means = [line.split() for line in lines[lines.index(next(x for x in lines if "geometric" in x)) :]]
    assert means[0][-4:] == ["at", "0", "at", "0.8"]
    assert ["code", "2.24", "-"] in means
    assert ["chat", "-", "0.80"] in means
    assert ["all", "2.24", "0.80"] in means


def test_the_columns_of_the_table_are_aligned() -> None:
    lines = list(as_text(benchmark([*runs_of_everything(), *pair(1, 2, "世界")])))
    start = next(i for i, line in enumerate(lines) if line.startswith("prompt"))
    table = lines[start : lines.index("", start)]
    assert len(table) == 5
    assert len({cell_len(line) for line in table}) == 1


def test_a_text_that_differs_is_named() -> None:
    runs = [answer(1, drafted=False), answer(1, drafted=True, tokens=(1, 2, 9, 4)), *pair(1, 2)]
    found = benchmark(runs)
    assert '1 of 2; not "Write quicksort." at 0 from token 2' in "\n".join(as_text(found))
    assert as_json(found)["same_text"] == 1
    assert [result["same_text"] for result in as_json(found)["results"]] == [False, True]
    assert as_json(found)["results"][0]["differs_at"] == 2


def test_hostile_text_is_harmless_in_every_report() -> None:
    prompt = Prompt(HOSTILE, HOSTILE)
    runs = [answer(1, drafted=drafted, prompt=prompt, rounds=((1, 1),)) for drafted in (False, True)]
    found = benchmark(runs, HOSTILE, HOSTILE)
    for lines in (list(as_text(found)), list(as_markdown(found))):
        assert not set("\x1b\x07\x00\u202e\ufffe\ud800\n") & set("".join(lines))
    rows = [line for line in as_markdown(found) if line.startswith("| a")]
    assert rows
    for row in rows:
        assert not re.search(r"(?<!\\)[<`*]", row)
    table = [len(re.findall(r"(?<!\\)\|", line)) for line in as_markdown(found) if line.startswith("|")]
    assert table == [13, 13, 13, 3, 3, 3, 3]
    drawn = ElementTree.fromstring(chart(found).encode())
    texts = [element.text or "" for element in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert any('<b>&"|' in text for text in texts)
    json.dumps(as_json(found), allow_nan=False)


def test_the_chart_has_a_pair_of_bars_for_each_result_and_a_point_for_each_position() -> None:
    found = benchmark([*pair(10, 20), *pair(20, 40)])
    drawn = ElementTree.fromstring(chart(found).encode())
    svg = "{http://www.w3.org/2000/svg}"
    bars = [float(bar.get("width", "")) for bar in drawn.iter(f"{svg}rect") if bar.get("x") == "270"]
    assert bars == [bars[3] / 4, bars[3] / 2, bars[3] / 2, bars[3]]
    tips = [tip.text for tip in drawn.iter(f"{svg}title")]
    assert tips == ["2 of 4", "2 of 2", "0 of 2"]
    assert float(drawn.get("height", "")) > max(float(text.get("y", "")) for text in drawn.iter(f"{svg}text"))


def test_json_names_every_figure() -> None:
    found = as_json(benchmark(pair(10, 25)))
    (result,) = found["results"]
    assert set(result) >= {
        *("prompt", "category", "temperature", "draft", "plain_tokens_per_second"),
        *("drafted_tokens_per_second", "ratio", "acceptance_rate", "tokens_per_round", "draft_length"),
        *("plain_time_to_first_token", "drafted_time_to_first_token", "plain_spread", "drafted_spread"),
    }
    assert (result["plain_tokens_per_second"], result["drafted_tokens_per_second"]) == (10, 25)
    assert (result["reached_by_position"], result["accepted_by_position"]) == ([2, 1, 1], [1, 1, 0])
    assert (found["main"], found["device"], found["runs"], found["complete"]) == ("main", "a GPU", 3, True)
    (draft,) = found["drafts"]
    assert draft["geometric_means"] == {"0": {"code": pytest.approx(2.5), "all": pytest.approx(2.5)}}
    assert draft["acceptance_by_position"] == [0.5, 1.0, 0.0]
    assert as_json(benchmark(pair(10, 25), draft=None))["results"][0]["draft"] is None


class Tty(StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_one_line_with_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    now = [0.0]
    target = Tty()
    progress = Progress(target, 4, lambda: now[0])
    progress.begin("plain at 0: " + HOSTILE * 9)
    now[0] += 60
    progress.end()
    progress.skip(1)
    progress.begin("drafted")
    shown = target.getvalue().split("\r\x1b[K")[1:]
    assert all(cell_len(line) < 60 and not set(line) & set("\n\x1b\r") for line in shown)
    assert shown[0].startswith("[----------------] 0 of 4, plain at 0")
    assert shown[1] == "[########--------] 2 of 4, 2 min left, drafted"


def test_progress_in_a_pipe_is_a_line_for_each_step_and_each_prompt() -> None:
    target = StringIO()
    progress = Progress(target, 2)
    for share in (None, 0.1, 0.9):
        progress.wait("Loading", share)
    progress.begin("x")
    progress.remark("no\x1b")
    progress.end()
    progress.report("brought\x1b")
    progress.clear()
    assert target.getvalue() == "[0 of 2] Loading\noutrider: no\ufffd\n[1 of 2] brought\ufffd\n"


def test_a_prompt_that_is_done_is_one_line() -> None:
    runs = [answer(20.0, drafted=False), answer(30.0, drafted=True)]
    words = "Write quicksort. at 0: 20.0 tok/s plain, 30.0 drafted: 1.50 ×"
    assert as_line(result_of(runs)) == words
    other = [answer(20.0, drafted=False), answer(30.0, drafted=True, tokens=(1, 9))]
    assert as_line(result_of(other)) == f"{words}, another text"
    hostile = replace(PROMPT, text=HOSTILE)
    shown = as_line(result_of([answer(None, drafted=each, prompt=hostile) for each in (False, True)]))
    assert "- tok/s plain" in shown and not set(shown) & set("\x1b\n\u202e")


# The command


def remarks(err: str) -> list[str]:
    """What was said of failures, without the progress."""
    return [line for line in err.splitlines() if not line.startswith("[")]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of somebody who has no settings."""
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    return tmp_path


def fake(*arguments: str, how: Sequence[str] = ()) -> int:
    """The exit code of a benchmark with an engine that answers as `how` says."""
    options = parser().parse_args(["bench", "--quick", "--runs", "2", *arguments])
    engine = (sys.executable, str(FAKE), *how)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tui.commands.setup.engine_on", lambda words, known: (engine, None))
        return commands.run(options)


@pytest.mark.usefixtures("home")
def test_a_draft_that_changes_the_text_is_found_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert fake("--json", "--temperature", "0", how=["--differ", "Summarise"]) == 0
    found = json.loads(capsys.readouterr().out)
    wrong = [result for result in found["results"] if not result["same_text"]]
    assert (found["same_text"], len(found["results"])) == (6, 7)
    assert [(result["category"], result["differs_at"]) for result in wrong] == [("summary", 2)]
    assert wrong[0]["parting"].startswith("parted by rounding at token 3:")
    assert all(result["ratio"] == 2.0 for result in found["results"])


@pytest.mark.usefixtures("home")
def test_a_prompt_that_fails_is_one_line_and_the_others_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    for how in ("--fail", "--die", "--notice"):
        assert fake("--json", "--temperature", "0", how=[how, "Summarise"]) == 1
        out, err = capsys.readouterr()
        found = json.loads(out)
        assert [result["category"] for result in found["results"]].count("summary") == 0
        assert (len(found["results"]), found["complete"]) == (6, False)
        (remark,) = remarks(err)
        assert remark.startswith("outrider: Summarise this in two sentences.")


@pytest.mark.usefixtures("home")
def test_an_engine_that_fails_at_everything_is_given_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert fake("--prompts", str(SHIPPED), how=["--fail", ""]) == 1
    out, err = capsys.readouterr()
    assert (out, len(remarks(err))) == ("", 1)
    assert fake(how=["--fail", "", "--after", "2"]) == 1
    out, err = capsys.readouterr()
    assert (out, len(remarks(err))) == ("", 4), "half a prompt is none"
    assert "given up" in err
    apart = ("--temperature", "0", "--temperature", "0.5", "--temperature", "1")
    assert fake("--json", *apart, how=["--fail", "Summarise"]) == 1
    out, err = capsys.readouterr()
    assert (len(json.loads(out)["results"]), len(remarks(err))) == (18, 3)


@pytest.mark.usefixtures("home")
def test_a_draft_that_is_rejected_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    drafts = ("--draft", "scripted:bad", "--draft", "scripted:good")
    assert fake("--json", *drafts, how=["--refuse", "bad"]) == 1
    out, err = capsys.readouterr()
    assert {result["draft"] for result in json.loads(out)["results"]} == {"scripted:good"}
    (remark,) = remarks(err)
    assert "scripted:bad cannot draft" in remark


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    "wrong",
    [
        ("--draft", "none"),
        ("--draft", "lookup", "--no-lookup"),
        ("--draft-length", "0"),
        ("--prompts", "/nowhere"),
        ("--svg", "/nowhere/bench.svg"),
        ("--svg", "/"),
    ],
)
def test_what_cannot_be_measured_is_said_at_once(
    wrong: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert fake(*wrong) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)


@pytest.mark.parametrize("wrong", [("--json", "--markdown"), ("--max-tokens", "1"), ("--runs", "0")])
def test_wrong_options_are_rejected(wrong: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as caught:
        parser().parse_args(["bench", *wrong])
    assert caught.value.code == 2


def test_drafts_may_be_given_again_or_before_the_command() -> None:
    assert parser().parse_args(["bench", "--draft", "a", "--draft", "ngram"]).drafts == ["a", "lookup"]
    before = parser().parse_args(["--main", "m", "--draft", "d", "bench"])
    (load,) = loads_of(before, Settings())
    assert (Path(load.main).name, Path(load.draft).name) == ("m", "d")
    assert parser().parse_args(["ask", "--draft", "a", "--draft", "b", "?"]).draft == "b", "ask is unchanged"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "tui", "bench", *arguments]


def test_a_whole_benchmark_with_a_real_engine(home: Path) -> None:
    svg = home / "bench.svg"
    ran = subprocess.run(
        command(
            *("--main", "scripted:sample", "--draft", "scripted:draft", "--draft-length", "4"),
            *("--quick", "--runs", "1", "--max-tokens", "16", "--json", "--svg", str(svg)),
        ),
        capture_output=True,
        timeout=30,
        env=os.environ | {"XDG_STATE_HOME": str(home)},
    )
    assert (remarks(ran.stderr.decode()), ran.returncode) == ([], 0)
    assert ran.stderr.count(b" tok/s plain, ") == 14, "a line for each prompt at each temperature"
    found = json.loads(ran.stdout)
    assert found["same_text"] == len(found["results"]) == 14
    assert {result["temperature"] for result in found["results"]} == {0, 0.8}
    for result in found["results"]:
        assert 0 < result["acceptance_rate"] <= 1
        assert 1 < result["tokens_per_round"] <= 5
        assert 0 < result["draft_length"] <= 4
        assert result["ratio"] > 0
        assert result["plain_runs"] == result["drafted_runs"] == 1
    assert (found["main"], found["drafts"][0]["draft"]) == ("scripted:sample", "scripted:draft")
    ElementTree.parse(svg)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """In a script's background SIGINT is ignored, and so it would be in a child."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


COMMAND = "from tui.__main__ import main; sys.exit(main(sys.argv[1:]))"
SLOW = ("--main", "scripted:sample?rate=80", "--draft", "scripted:draft", "--runs", "1", "--max-tokens", "8")


@pytest.mark.usefixtures("home", "interruptible")
def test_ctrl_c_prints_what_was_measured() -> None:
    with Terminal(command(*SLOW, "--draft-length", "2")) as terminal:
        terminal.wait(b"] 4 of 108")
        os.kill(terminal.pid, signal.SIGINT)
        assert terminal.exit() == 130
        shown = terminal.output.decode().rpartition("\r\x1b[K")[2]
    assert "same text    2 of 2" in shown
    assert "Write a quicksort" in shown
    assert "Not complete" in shown


@pytest.mark.usefixtures("home", "interruptible")
def test_ctrl_c_before_anything_is_measured_prints_nothing() -> None:
    with Terminal(command("--main", "scripted:sample?load=20", *SLOW[2:])) as terminal:
        terminal.wait(b"\r\x1b[K")
        os.kill(terminal.pid, signal.SIGINT)
        assert terminal.exit() == 130
        last = terminal.output.decode().rpartition("\r\x1b[K")[2].strip()
        assert last == "outrider: ended before anything was measured"


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_what_ends_it_from_outside_loses_nothing_that_was_measured(tmp_path: Path, number: int) -> None:
    """As `timeout` does, and in the background, where SIGINT is ignored."""
    progress = tmp_path / "progress"
    ignoring = f"import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN)\n{COMMAND}"
    with progress.open("wb") as errors:
        bench = subprocess.Popen(
            [sys.executable, "-c", ignoring, "bench", *SLOW, "--json"], stdout=subprocess.PIPE, stderr=errors
        )
        deadline = time.monotonic() + 60
        while b"[4 of 108]" not in progress.read_bytes():
            assert time.monotonic() < deadline, progress.read_bytes()
            time.sleep(0.05)
        bench.send_signal(number)
        printed, _ = bench.communicate(timeout=60)
    assert bench.returncode == 128 + number
    told = json.loads(printed)
    assert told["complete"] is False
    assert [each["plain_runs"] for each in told["results"]][:2] == [1, 1]


def test_it_never_imports_the_engine() -> None:
    names = modules("commands/bench/*.py")
    assert {"tui.commands.bench", "tui.commands.bench.measure", "tui.commands.bench.chart"} <= set(names)
    assert not loaded_after("import " + ", ".join(names)) & (ENGINE_ONLY - {"jinja2"})
