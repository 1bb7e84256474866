"""A head in a file of its own drafts for its main model: it changes no text, and reads the right rows."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from tests.support import models
from tests.support.eagle_models import Eagle, write_eagle
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
from tests.support.rows import Watching, some_tokens
from tests.support.talk import Talk
from tui.engine import eligibility
from tui.engine.backends import LoadedModel, ModelError, Options
from tui.engine.backends.kept_rows import WAITING
from tui.engine.backends.llama_cpp import LlamaBackend, native
from tui.engine.backends.llama_cpp.eagle import ROWS, EagleHead
from tui.engine.backends.llama_cpp.hidden import HiddenRows, JoinedRows
from tui.engine.backends.llama_cpp.model import LlamaModel
from tui.engine.speculation.sampling import Chain, Sampler
from tui.protocol import Obstacle


class Kind(NamedTuple):
    main: Headed
    eagle: Eagle


KINDS = {
    "attention": Kind(Headed("llama"), Eagle()),
    "tables of its own": Kind(Headed("llama"), Eagle(own_embeddings=True)),
    "hybrid": Kind(Headed("qwen35"), Eagle()),
    "output of the last layer": Kind(Headed("qwen35"), Eagle(layers=(0, 2, 4))),
}
REDUCED = Kind(Headed("llama"), Eagle(reduced=1800))
ALL = KINDS | {"reduced vocabulary": REDUCED}
GREEDY = Chain(temperature=0)
SURE = 0.95
"""Acceptance above which a perfect head must be: rounding alone costs a little."""

Open = Callable[..., tuple[LlamaModel, EagleHead]]


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Headed | Eagle], Path]:
    folder = tmp_path_factory.mktemp("eagles")

    def write(which: Headed | Eagle) -> Path:
        path = folder / f"{abs(hash(which))}.gguf"
        if path.exists():
            return path
        return write_headed(path, which) if isinstance(which, Headed) else write_eagle(path, which)

    return write


@pytest.fixture
def opened(write: Callable[[Headed | Eagle], Path]) -> Iterator[Open]:
    """Opens a model with its head; the strength of the parts that the other lacks can be given."""
    pairs: list[tuple[LlamaModel, EagleHead]] = []
    backend = LlamaBackend()

    def open_pair(
        kind: Kind, *, noise: float = 0, own_noise: float = 0, exact: bool = False
    ) -> tuple[LlamaModel, EagleHead]:
        options = Options("main", 2048, threads=1, exact=exact)
        main = backend.load(str(write(replace(kind.main, noise=noise))), options, lambda _: True)
        file = write(replace(kind.eagle, own_noise=own_noise))
        head = backend.load_head(main, replace(options, role="draft"), str(file))
        assert isinstance(head, EagleHead)
        pairs.append((main, head))
        return main, head

    yield open_pair
    for main, head in pairs:
        head.close()
        main.close()


@pytest.fixture
def plain(write: Callable[[Headed | Eagle], Path]) -> Iterator[Callable[..., LoadedModel]]:
    """Opens a model alone."""
    opened: list[LoadedModel] = []

    def open_main(kind: Kind, *, noise: float) -> LoadedModel:
        options = Options("main", 2048, threads=1)
        path = write(replace(kind.main, noise=noise))
        opened.append(LlamaBackend().load(str(path), options, lambda _: True))
        return opened[-1]

    yield open_main
    for each in opened:
        each.close()


@pytest.mark.parametrize("kind", ALL)
def test_same_seed_same_text(opened: Open, plain: Callable[..., LoadedModel], kind: str) -> None:
    talk = Talk(*opened(ALL[kind], noise=0.15, own_noise=0.1))
    check_same_text(Talk(plain(ALL[kind], noise=0.15)), talk, 50)


@pytest.mark.parametrize(("kind", "temperature"), product(KINDS, (0.0, 0.8)))
def test_a_perfect_head_is_right_nearly_always(opened: Open, kind: str, temperature: float) -> None:
    talk, chain = Talk(*opened(KINDS[kind])), Chain(temperature)
    for length in (1, 3, 8):
        found = talk.answer(some_tokens(20, seed=length), 100, length=length, chain=chain)
        assert found.acceptance > SURE, length


def test_a_reduced_vocabulary_drafts_its_own_tokens_alone(opened: Open) -> None:
    main, head = opened(REDUCED)
    head.start(sampler := Watching())
    head.extend(some_tokens(9), picks=1)
    assert np.isneginf(sampler.rows[9]).sum() == main.vocabulary.size - REDUCED.eagle.reduced


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_reduced_vocabulary_has_the_tokens_that_its_main_model_chooses(
    opened: Open, temperature: float
) -> None:
    talk, chain = Talk(*opened(REDUCED)), Chain(temperature)
    found = [
        talk.answer(some_tokens(20, seed=seed), 150, length=3, chain=chain, seed=seed) for seed in range(4)
    ]
    accepted = sum(each.accepted for each in found) / sum(each.drafted for each in found)
    assert 0.9 < accepted < 1, "a few of the main model's tokens are not among its own"


@pytest.mark.parametrize("kind", ["attention", "hybrid"])
def test_it_reads_the_right_rows_wherever_a_chat_goes(opened: Open, kind: str) -> None:
    main, head = opened(KINDS[kind])
    assert head.chunk == ROWS < main.chunk < 700, "the prompt needs several native calls"
    check_wherever_a_chat_goes(Talk(main, head), SURE)


@pytest.mark.parametrize("shift", [-1, 1])
def test_rows_of_another_place_spoil_it(opened: Open, monkeypatch: pytest.MonkeyPatch, shift: int) -> None:
    fill = HiddenRows.fill
    monkeypatch.setattr(HiddenRows, "fill", lambda self, target, start: fill(self, target, start + shift))
    found = Talk(*opened(KINDS["attention"])).answer(some_tokens(30), 80, chain=GREEDY)
    assert found.acceptance < 0.5


def test_layers_in_another_order_spoil_it(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    main, head = opened(KINDS["attention"])
    rows = head._hidden._native
    assert isinstance(rows, JoinedRows)
    monkeypatch.setattr(rows, "_sources", rows._sources[::-1])
    assert Talk(main, head).answer(some_tokens(30), 80, chain=GREEDY).acceptance < 0.8


@pytest.mark.parametrize("kind", ["attention", "hybrid"])
def test_it_keeps_up_while_nothing_is_drafted(opened: Open, kind: str) -> None:
    main, head = opened(KINDS[kind])
    talk, prompt = Talk(main, head), some_tokens(20)
    silent = talk.answer(prompt, 300, length=0)
    assert main.length - head.length <= WAITING
    found = talk.answer([*prompt, *silent.tokens, 5], 60)
    assert found.acceptance > SURE


@pytest.mark.parametrize("kind", ["attention", "hybrid"])
def test_an_answer_may_end_between_two_rounds(
    opened: Open, plain: Callable[..., LoadedModel], kind: str
) -> None:
    check_an_end_between_rounds(Talk(plain(KINDS[kind], noise=0.1)), Talk(*opened(KINDS[kind], noise=0.1)))


def test_penalties_and_grammars_hold_for_it_too(opened: Open, plain: Callable[..., LoadedModel]) -> None:
    check_penalties_and_grammars(Talk(plain(REDUCED, noise=0.1)), Talk(*opened(REDUCED, noise=0.1)))


@pytest.mark.parametrize("kind", ["attention", "hybrid", "output of the last layer"])
def test_rewinds_leave_the_logits_of_a_fresh_head(opened: Open, kind: str) -> None:
    check_rewinds(*opened(KINDS[kind], noise=0.1, own_noise=0.3))


@pytest.mark.parametrize("kind", ["attention", "hybrid"])
def test_a_cut_to_an_older_place_leaves_the_logits_of_a_fresh_head(opened: Open, kind: str) -> None:
    main, head = opened(KINDS[kind], noise=0.1, own_noise=0.3)
    check_cuts_to_older_places(main, head, main.chunk, anywhere=main.rewinds == "anywhere", long=1100)


@pytest.mark.parametrize("kind", ["attention", "hybrid"])
def test_a_saved_head_goes_on_with_the_rows_of_its_main_model(opened: Open, kind: str) -> None:
    pairs = [opened(KINDS[kind], noise=0.1, own_noise=0.3) for _ in range(2)]
    check_wakes(pairs[0], pairs[1])


def test_a_catch_up_and_the_first_choice_are_one_call(opened: Open) -> None:
    """The library returns the scores of the first token if only the last one has some."""
    main, head = opened(KINDS["attention"])
    text = some_tokens(40)
    main.start(Sampler(GREEDY, 0, 0))
    main.extend(text, picks=1)
    head.start(sampler := Watching())
    head.extend(text, picks=1)
    at_once = sampler.rows[40]
    head.rewind(0)
    for token in text:
        head.extend([token], picks=1)
    np.testing.assert_allclose(at_once, sampler.rows[40], atol=1e-4)


def test_the_first_token_of_all_has_no_cell(opened: Open) -> None:
    """A head was trained without one. Only to be measured does it choose behind a single token."""
    main, head = opened(KINDS["attention"])
    main.start(Sampler(GREEDY, 0, 0))
    head.start(Watching())

    def first() -> int:
        found: int = head._library.llama_memory_seq_pos_min(head._memory, 0)
        return found

    head.extend([1], picks=1)
    head.extend([2], picks=1)
    assert first() == 0
    head.rewind(1)
    assert head.reach(1) == 0, "that cell does not stay"
    main.extend([1, 2, 3], picks=0)
    assert (head.length, first()) == (3, 1)
    head.rewind(1)
    main.rewind(1)
    main.extend([4, 5], picks=0)
    assert (head.length, first()) == (3, 1)


def test_exact_mode_runs_no_token_again_for_the_head(opened: Open) -> None:
    for exact, held in ((True, 100), (False, 99)):
        main, head = opened(KINDS["attention"], exact=exact)
        Talk(main, head).answer(some_tokens(1500), 40)
        main.rewind(100)
        assert (main._held, main.length) == (held, 100)


@pytest.mark.parametrize("function", ["llama_encode", "llama_decode"])
def test_a_failing_head_leaves_the_main_model_alone(
    opened: Open, plain: Callable[..., LoadedModel], monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    main, head = opened(KINDS["attention"])
    prompt = some_tokens(50)
    expected = Talk(plain(KINDS["attention"], noise=0)).answer(prompt, 120, length=0).tokens

    class Failing:
        """The library, which fails for the head."""

        def __getattr__(self, name: str) -> Any:
            return (lambda *_: 3) if name == function else getattr(library, name)

    library = head._library
    with monkeypatch.context() as patch:
        patch.setattr(head, "_library", Failing())
        assert Talk(main).answer(prompt, 120, length=0).tokens == expected
        with pytest.raises(ModelError, match=function):
            head.extend(prompt, picks=0)
    main.rewind(0)
    assert Talk(main, head).answer(prompt, 120).acceptance > SURE, "it works again"
    head.close()
    main.rewind(0)
    assert Talk(main).answer(prompt, 120, length=0).tokens == expected


def test_a_head_that_does_not_fit_is_refused_by_its_numbers(
    write: Callable[[Headed | Eagle], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, options = LlamaBackend(), Options("main", 256, threads=1)
    main = backend.load(str(write(Headed("llama"))), options, lambda _: True)

    def reason(eagle: Eagle, beside: LoadedModel = main) -> str:
        found = backend.load_head(beside, options, str(write(eagle)))
        assert isinstance(found, Obstacle)
        return found.text

    assert "rows of 32 numbers, these have 64" in reason(Eagle(main_width=32))
    assert "reads layer 4, this one has 4" in reason(Eagle(layers=(0, 2, 4)))
    assert "knows 512 tokens, this one 2,048" in reason(Eagle(vocabulary=512, own_embeddings=True))
    gemma = models.write_model(tmp_path / "toy.gguf", models.Toy("gemma3"))
    other = backend.load(str(gemma), options, lambda _: True)
    assert "beside a model of the architecture 'gemma3'" in reason(Eagle(), other)
    head = write(Eagle())
    with pytest.raises(ModelError, match="only the head"):
        backend.load(str(head), options, lambda _: True)
    assert backend.load_head(main, options, str(write(Headed("llama")))) == eligibility.NO_HEAD
    monkeypatch.setattr(native, "layer_inputs", lambda _: None)
    assert backend.load_head(main, options, str(head)) == eligibility.NO_HEADS_HERE
    for each in (main, other):
        each.close()


BAD = {
    "another width": (Eagle(main_width=32), "rows of 32"),
    "a late layer": (Eagle(layers=(0, 2, 9)), "layer 9"),
    "a negative layer": (Eagle(layers=(-1, 2, 3)), "three layers"),
    "two layers": (Eagle(layers=(0, 2)), "three layers"),
    "two blocks": (Eagle(blocks=2), "2 layers"),
    "another vocabulary": (Eagle(vocabulary=512), "512 tokens"),
    "a short table": (Eagle(own_embeddings=True, table=100), "embeddings of shape"),
    "a token too large": (Eagle(reduced=1000, ids=(2048,)), "does not exist"),
    "a token below zero": (Eagle(reduced=1000, ids=(-1,)), "does not exist"),
    "tokens of another type": (Eagle(reduced=1000, id_type=np.int32), "d2t"),
    "tokens without an output layer": (Eagle(reduced=1000, without=("output.weight",)), "d2t"),
    "too many turned numbers": (Eagle(rope=20), "20 of 16"),
    "an odd number of turned numbers": (Eagle(rope=7), "7 of 16"),
    "no joining matrix": (Eagle(without=("fc",)), "fc.weight"),
    "half a block": (Eagle(without=("blk.0.attn_q",)), "attn_q"),
    "no list of tokens": (Eagle(reduced=1000, without=("d2t",)), "output.weight"),
}
_LOAD = """
import json, sys
from tui.engine.pair.pair import load_pair
from tui.protocol import Load
for path in sys.argv[2:]:
    pair = load_pair(Load(sys.argv[1], path, context_length=256, threads=1), lambda *_: True)
    print(json.dumps([pair.obstacle.text if pair.obstacle else "", bool(pair.draft)]), flush=True)
    pair.close()
"""


def test_a_bad_file_ends_in_a_line_and_not_in_the_end_of_the_process(
    write: Callable[[Headed | Eagle], Path], tmp_path: Path
) -> None:
    paths = [
        write_eagle(tmp_path / f"{number}.gguf", eagle) for number, (eagle, _) in enumerate(BAD.values())
    ]
    ran = subprocess.run(
        [sys.executable, "-c", _LOAD, str(write(Headed("llama"))), *map(str, paths)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = ran.stdout.splitlines()
    assert ran.returncode == 0, (list(BAD)[len(lines)], ran.stderr)
    for (fault, (_, word)), line in zip(BAD.items(), lines, strict=True):
        reason, drafts = json.loads(line)
        assert word in reason and "\n" not in reason, (fault, reason)
        assert not drafts
