"""The head in a model's own file drafts for it: it never changes the text, and it reads the right rows."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import product
from pathlib import Path
from random import Random

import pytest

from tests.support import models
from tests.support.head_checks import (
    check_an_end_between_rounds,
    check_cuts_to_older_places,
    check_penalties_and_grammars,
    check_rewinds,
    check_same_text,
    check_wakes,
    check_wherever_a_chat_goes,
)
from tests.support.head_models import Headed, write_headed
from tests.support.rows import some_tokens
from tests.support.talk import Talk
from tests.support.windows import no_room_for_full_windows
from tui.engine import eligibility
from tui.engine.backends import LoadedModel, ModelError, Options, llama_cpp
from tui.engine.backends.kept_rows import WAITING
from tui.engine.backends.llama_cpp import LlamaBackend, native
from tui.engine.backends.llama_cpp.head import LlamaHead
from tui.engine.backends.llama_cpp.hidden import HiddenRows
from tui.engine.backends.llama_cpp.model import LlamaModel
from tui.engine.backends.llama_cpp.rollback import HEAD_COPIES, Fork, Snapshots
from tui.engine.library.header import BadModelFile, read_header
from tui.engine.speculation.sampling import Chain
from tui.protocol import Obstacle

KINDS = {
    "attention": Headed("glm4moe"),
    "hybrid": Headed(),
    "hybrid with experts": Headed("qwen35moe"),
    "own rows of outputs only": Headed("qwen3next"),
    "several heads": Headed("hy_v3", heads=3),
    "several heads with a window": Headed("step35", heads=2),
    "several heads of fused weights": Headed("mimo2", heads=3),
}
GREEDY = Chain(temperature=0)
SURE = 0.9
"""Acceptance above which a perfect head must be: rounding and the first cell of all cost a little."""

Open = Callable[..., tuple[LlamaModel, LlamaHead]]


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Headed], Path]:
    folder = tmp_path_factory.mktemp("headed")

    def write(headed: Headed) -> Path:
        path = folder / f"{abs(hash(headed))}.gguf"
        return path if path.exists() else write_headed(path, headed)

    return write


@pytest.fixture
def opened(write: Callable[[Headed], Path]) -> Iterator[Open]:
    """Opens a model with its head."""
    pairs: list[tuple[LlamaModel, LlamaHead]] = []
    backend = LlamaBackend()

    def open_pair(headed: Headed, *, exact: bool = False) -> tuple[LlamaModel, LlamaHead]:
        options = Options("main", 2048, threads=1, head=True, exact=exact)
        main = backend.load(str(write(headed)), options, lambda _: True)
        head = backend.load_head(main, replace(options, role="draft"))
        assert isinstance(head, LlamaHead)
        pairs.append((main, head))
        return main, head

    yield open_pair
    for main, head in pairs:
        head.close()
        main.close()


@pytest.fixture
def plain(write: Callable[[Headed], Path]) -> Iterator[Callable[[Headed], LoadedModel]]:
    """Opens a model without its head."""
    opened: list[LoadedModel] = []

    def open_main(headed: Headed) -> LoadedModel:
        options = Options("main", 2048, threads=1)
        opened.append(LlamaBackend().load(str(write(headed)), options, lambda _: True))
        return opened[-1]

    yield open_main
    for each in opened:
        each.close()


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_same_text(opened: Open, plain: Callable[[Headed], LoadedModel], kind: str) -> None:
    headed = replace(KINDS[kind], noise=0.15, own_noise=0.1)
    check_same_text(Talk(plain(headed)), Talk(*opened(headed)), 100)


@pytest.mark.parametrize(("kind", "temperature"), product(KINDS, (0.0, 0.8)))
def test_a_perfect_head_is_right_nearly_always(opened: Open, kind: str, temperature: float) -> None:
    talk, chain = Talk(*opened(KINDS[kind])), Chain(temperature)
    for length in (1, 3, 8):
        found = talk.answer(some_tokens(20, seed=length), 120, length=length, chain=chain)
        assert found.acceptance > SURE, length


@pytest.mark.parametrize("kind", KINDS)
def test_it_reads_the_right_rows_wherever_a_chat_goes(opened: Open, kind: str) -> None:
    main, head = opened(KINDS[kind])
    assert main.chunk < 700, "the prompt needs several native calls"
    check_wherever_a_chat_goes(Talk(main, head), SURE)


def test_a_row_too_far_spoils_it(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    fill = HiddenRows.fill
    monkeypatch.setattr(HiddenRows, "fill", lambda self, target, start: fill(self, target, start - 1))
    found = Talk(*opened(KINDS["attention"])).answer(some_tokens(30), 80, chain=GREEDY)
    assert found.acceptance < 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_it_keeps_up_while_nothing_is_drafted(opened: Open, kind: str) -> None:
    main, head = opened(KINDS[kind])
    talk, prompt = Talk(main, head), some_tokens(20)
    silent = talk.answer(prompt, 600, length=0)
    assert main.length - head.length <= WAITING
    found = talk.answer([*prompt, *silent.tokens, 5], 60)
    assert found.acceptance > SURE


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_may_end_between_two_rounds(
    opened: Open, plain: Callable[[Headed], LoadedModel], kind: str
) -> None:
    headed = replace(KINDS[kind], noise=0.1)
    check_an_end_between_rounds(Talk(plain(headed)), Talk(*opened(headed)))


@pytest.mark.parametrize("kind", ["attention", "hybrid"])
def test_penalties_and_grammars_hold_for_it_too(
    opened: Open, plain: Callable[[Headed], LoadedModel], kind: str
) -> None:
    headed = replace(KINDS[kind], noise=0.1)
    check_penalties_and_grammars(Talk(plain(headed)), Talk(*opened(headed)))


@pytest.mark.parametrize("kind", KINDS)
def test_rewinds_leave_the_logits_of_a_fresh_head(opened: Open, kind: str) -> None:
    check_rewinds(*opened(replace(KINDS[kind], noise=0.1, own_noise=0.3)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_to_an_older_place_leaves_the_logits_of_a_fresh_head(opened: Open, kind: str) -> None:
    main, head = opened(replace(KINDS[kind], noise=0.1, own_noise=0.3))
    check_cuts_to_older_places(main, head, main.chunk, anywhere=main.rewinds == "anywhere")


def test_a_cut_beyond_a_dropped_window_leaves_the_logits_of_a_fresh_head(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_room_for_full_windows(monkeypatch)
    headed = replace(KINDS["several heads with a window"], noise=0.1, own_noise=0.3)
    main, head = opened(headed)
    assert 0 < main.drops_from < 1100
    check_cuts_to_older_places(main, head, main.chunk, anywhere=False)
    check_wakes((main, head), opened(headed), close=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_head_goes_on_with_the_rows_of_its_main_model(opened: Open, kind: str) -> None:
    headed = replace(KINDS[kind], noise=0.1, own_noise=0.3)
    check_wakes(opened(headed), opened(headed))


def test_a_hybrid_keeps_as_many_copies_as_a_draft_of_a_head_is_long(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    main, _ = opened(KINDS["hybrid"])
    assert isinstance(main._cache, Snapshots)
    assert main.longest_draft == HEAD_COPIES
    assert opened(KINDS["attention"])[0].longest_draft == 16
    monkeypatch.setattr(llama_cpp, "affordable_copies", lambda *_: 0)
    main, head = opened(KINDS["hybrid"])
    assert isinstance(main._cache, Fork)
    assert Talk(main, head).answer(some_tokens(30), 100, length=8).acceptance > SURE


def test_exact_mode_runs_no_token_again_for_the_head(opened: Open) -> None:
    main, head = opened(KINDS["attention"], exact=True)
    text = some_tokens(1500)
    Talk(main, head).answer(text, 40)
    main.rewind(100)
    assert main._held == main.length == 100
    free, own = opened(KINDS["attention"])
    Talk(free, own).answer(text, 40)
    free.rewind(100)
    assert free._held == 99


def broken(tokens: object, first_row: int) -> None:
    raise ModelError("the head is broken")


def test_a_failing_head_leaves_the_main_model_alone(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    main, head = opened(KINDS["attention"])
    talk = Talk(main)
    expected = talk.answer(some_tokens(50), 150, length=0).tokens
    main.rewind(0)
    monkeypatch.setattr(head, "_decode", broken)
    assert talk.answer(some_tokens(50), 150, length=0).tokens == expected
    head.close()
    main.rewind(0)
    assert talk.answer(some_tokens(50), 150, length=0).tokens == expected


def test_there_is_no_head_where_the_file_or_the_library_has_none(
    tmp_path: Path, write: Callable[[Headed], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, options = LlamaBackend(), Options("main", 256, threads=1, head=True)
    without = backend.load(str(models.write_model(tmp_path / "toy.gguf")), options, lambda _: True)
    assert backend.load_head(without, options) == eligibility.NO_HEAD
    path = str(write(KINDS["attention"]))
    unasked = backend.load(path, replace(options, head=False), lambda _: True)
    assert backend.load_head(unasked, options) == eligibility.NO_HEAD
    two = backend.load(str(write(Headed("glm4moe", heads=2))), options, lambda _: True)
    told = backend.load_head(two, options)
    assert isinstance(told, Obstacle) and "2 heads" in told.text and "glm4moe" in told.text
    monkeypatch.setattr(native, "extensions", lambda: None)
    main = backend.load(path, options, lambda _: True)
    assert backend.load_head(main, options) == eligibility.NO_HEADS_HERE
    for each in (without, unasked, two, main):
        each.close()


BAD = {
    "no tensors of a head": (Headed(without=("blk.4.nextn",)), "tensor"),
    "no tensors of its block": (Headed(without=("blk.4.",)), "tensor"),
    "half a head": (Headed(without=("blk.4.nextn.hnorm",)), "tensor"),
    "another width": (Headed(head_width=32), "tensor"),
    "only the head": (Headed(without=tuple(f"blk.{layer}." for layer in range(4))), "only the head"),
}
_LOAD = """
import json, sys
from tui.engine.backends import ModelError
from tui.engine.pair.pair import load_pair
from tui.protocol import Load
try:
    pair = load_pair(Load(sys.argv[1], "head", context_length=256, threads=1), lambda *_: True)
    print(json.dumps(["loaded", pair.obstacle.text if pair.obstacle else "", bool(pair.draft)]))
    pair.close()
except ModelError as error:
    print(json.dumps(["rejected", str(error), False]))
"""


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_file_ends_in_a_line_and_not_in_the_end_of_the_process(tmp_path: Path, fault: str) -> None:
    headed, word = BAD[fault]
    path = write_headed(tmp_path / "bad.gguf", headed)
    ran = subprocess.run(
        [sys.executable, "-c", _LOAD, str(path)], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    _, reason, drafts = json.loads(ran.stdout.splitlines()[-1])
    assert word in reason and "\n" not in reason
    assert not drafts


_OPEN_ALL = """
import sys
from dataclasses import replace
from tui.engine.backends import ModelError, Options
from tui.engine.backends.llama_cpp import LlamaBackend
from tui.engine.speculation.sampling import Chain, Sampler
from tui.protocol import Obstacle
backend, options = LlamaBackend(), Options("main", 256, threads=1, head=True)
for path in sys.argv[1:]:
    print(path, flush=True)
    try:
        main = backend.load(path, options, lambda _: True)
        head = backend.load_head(main, replace(options, role="draft"))
        main.extend([1, 2, 3], 0)
        if not isinstance(head, Obstacle):
            head.start(Sampler(Chain(0), 0, 0))
            head.extend([5], 1)
            head.extend([6], 1)
            head.close()
        main.close()
    except ModelError:
        pass
print("done", flush=True)
"""


@pytest.mark.parametrize(
    "headed", [Headed("qwen35"), Headed("glm4moe"), Headed("mimo2", heads=2), Headed("step35", heads=2)]
)
def test_a_file_with_a_damaged_head_does_not_end_the_process(tmp_path: Path, headed: Headed) -> None:
    whole = write_headed(tmp_path / "whole.gguf", headed).read_bytes()
    table = range(whole.index(b"blk.4.") - 8, whole.rindex(b"blk.4.") + 40)
    count = whole.index(b"nextn_predict_layers") + len("nextn_predict_layers") + 4
    passed: list[str] = []
    for seed in range(100):
        damaged, random = bytearray(whole), Random(seed)
        if seed < 7:
            damaged[count] = seed
        else:
            damaged[random.choice(table)] ^= 1 << random.randrange(8)
        (path := tmp_path / f"{seed}.gguf").write_bytes(damaged)
        with suppress(BadModelFile):
            read_header(path)
            passed.append(str(path))
    assert 10 < len(passed) < 90
    ran = subprocess.run(
        [sys.executable, "-c", _OPEN_ALL, *passed], capture_output=True, text=True, check=False
    )
    assert ran.stdout.endswith("done\n"), ran.stdout.splitlines()[-1] + ran.stderr


def test_obstacles_are_values() -> None:
    for each in (eligibility.NO_HEAD, eligibility.NO_HEADS_HERE):
        assert isinstance(each, Obstacle) and not each.everything
