"""Heads of MLX models draft for them: they never change the text, and they read the right rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mlx_lm")

import mlx.core as mx

from tests.support import mlx_models
from tests.support.assistant_models import ASSISTANT, Gemma
from tests.support.head_checks import (
    check_an_end_between_rounds,
    check_cuts_to_older_places,
    check_penalties_and_grammars,
    check_rewinds,
    check_same_text,
    check_wherever_a_chat_goes,
)
from tests.support.head_models import WIDTH, Headed
from tests.support.mlx_assistant_models import write_assistant_folder, write_gemma_folder
from tests.support.mlx_head_models import write_head_folder, write_headed_folder
from tests.support.rows import CLOSE, GREEDY, Watching, some_tokens
from tests.support.talk import Talk
from tui.choices import HEAD
from tui.engine import eligibility
from tui.engine.backends import GivenUp, ModelError, Options, Wanted, asking
from tui.engine.backends.kept_rows import KEPT, WAITING
from tui.engine.backends.mlx import MlxBackend
from tui.engine.backends.mlx.head import HeadRunner, MlxHead
from tui.engine.backends.mlx.hidden import HiddenPieces
from tui.engine.backends.mlx.model import MlxModel
from tui.engine.backends.mlx.parts import Parts
from tui.engine.speculation.sampling import Chain, Sampler
from tui.protocol import Obstacle


@dataclass(frozen=True)
class Kind:
    """A kind of head, and how strongly a noise disturbs it."""

    headed: Headed | Gemma
    latent: str = ""
    form: str = "inside"
    norms: str = "whole"
    noise: float = 0.1
    cap: float | None = None
    """The bound of the scores of a Gemma; with one, two layers share keys and values."""

    def noisy(self, times: float = 1) -> Kind:
        noise = times * self.noise
        if isinstance(self.headed, Gemma):
            return replace(self, headed=replace(self.headed, noise=noise))
        return replace(self, headed=replace(self.headed, noise=noise, own_noise=noise))


KINDS = {
    "attention": Kind(Headed("glm4moe", layers=2), noise=0.08),
    "latent attention": Kind(Headed("glm4moe", layers=2), "deepseek_v3", "experts", noise=0.04),
    "latent attention, doubled": Kind(Headed("glm4moe", layers=2), "glm4_moe_lite", "doubled", noise=0.04),
    "latent attention, indexed": Kind(Headed("glm4moe", layers=2), "deepseek_v32", "experts", noise=0.04),
    "latent attention, indexed as in GLM": Kind(Headed("glm4moe", layers=2), "glm_moe_dsa", noise=0.04),
    "hybrid": Kind(Headed("qwen35", layers=2), norms="raw"),
    "hybrid with experts": Kind(Headed("qwen35moe", layers=2), form="parts", noise=0.08),
    "hybrid, head beside it": Kind(Headed("qwen3next", layers=2), form="beside"),
    "hybrid, head in a folder": Kind(Headed("qwen35", layers=2), form="none"),
    "windows, assistant": Kind(Gemma(), form="none", noise=0.05),
    "windows, assistant, bounded": Kind(Gemma(window=24, full=(1, 3)), form="none", noise=0.05, cap=200.0),
}
PLACED = ("latent attention, doubled", "latent attention, indexed as in GLM", "hybrid, head in a folder")
COMPUTED = [kind for kind in KINDS if kind not in PLACED]
"""Those of them that compute in different ways; the others only lie in other places."""
SURE = 0.9
"""Acceptance above which a perfect head must be: rounding and the first entry of all cost a little."""
BACKEND = MlxBackend()
OPTIONS = Options("main", 2048)


@dataclass
class Loaded:
    alone: MlxModel
    main: MlxModel
    head: MlxHead

    def close(self) -> None:
        self.head.close()
        self.main.close()
        self.alone.close()


def load(folder: Path, **options: Any) -> MlxModel:
    return BACKEND.load(str(folder), replace(OPTIONS, **options), lambda _: True)


def open_head(main: MlxModel, path: Path | None = None, **options: Any) -> MlxHead | Obstacle:
    given = replace(OPTIONS, role="draft", **options)
    return BACKEND.load_head(main, given, str(path) if path else "")


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Kind], Loaded]]:
    """Opens each kind once: a model alone, and one with its head."""
    known: dict[Kind, Loaded] = {}

    def opened(kind: Kind) -> Loaded:
        if kind in known:
            return known[kind]
        folder = tmp_path_factory.mktemp("headed")
        main = load(written(folder / "main", kind))
        head = open_head(main, written_head(folder / "head", kind) if kind.form == "none" else None)
        assert isinstance(head, MlxHead), head
        known[kind] = Loaded(load(folder / "main"), main, head)
        return known[kind]

    yield opened
    for each in known.values():
        each.close()


Opened = Callable[[Kind], Loaded]


def written(folder: Path, kind: Kind) -> Path:
    if isinstance(kind.headed, Gemma):
        bounded = kind.cap is not None
        return write_gemma_folder(
            folder, kind.headed, cap=kind.cap, nested=bounded, shared=2 if bounded else 0
        )
    return write_headed_folder(folder, kind.headed, form=kind.form, norms=kind.norms, latent=kind.latent)


def written_head(folder: Path, kind: Kind) -> Path:
    if isinstance(kind.headed, Gemma):
        noise, window = kind.headed.noise / 8, kind.headed.window
        return write_assistant_folder(folder, replace(ASSISTANT, noise=noise, window=window))
    return write_head_folder(folder, kind.headed)


@pytest.mark.parametrize(("kind", "temperature"), product(COMPUTED, (0.0, 0.8)))
def test_same_seed_same_text(opened: Opened, kind: str, temperature: float) -> None:
    """A window is left on the way, where there is one."""
    loaded = opened(KINDS[kind].noisy())
    alone, talk = Talk(loaded.alone), Talk(loaded.main, loaded.head)
    check_same_text(alone, talk, 20, temperatures=(temperature,), lengths=range(1, 9))


@pytest.mark.parametrize("kind", KINDS)
def test_a_perfect_head_is_right_nearly_always(opened: Opened, kind: str) -> None:
    loaded = opened(KINDS[kind])
    for temperature, length in ((0.0, 1), (0.8, 8)):
        talk, chain = Talk(loaded.main, loaded.head), Chain(temperature)
        found = talk.answer(some_tokens(20, seed=length), 40, length=length, chain=chain)
        assert found.acceptance > SURE, (temperature, length)


@pytest.mark.parametrize("kind", KINDS)
def test_it_reads_the_right_rows_wherever_a_chat_goes(opened: Opened, kind: str) -> None:
    loaded = opened(KINDS[kind])
    assert loaded.main.chunk < 300, "the prompt needs several calls"
    check_wherever_a_chat_goes(Talk(loaded.main, loaded.head), SURE, 300, 20)


def test_a_row_too_far_spoils_it(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = HiddenPieces.rows
    monkeypatch.setattr(HiddenPieces, "rows", lambda self, start, count: rows(self, start - 1, count))
    loaded = opened(KINDS["attention"])
    found = Talk(loaded.main, loaded.head).answer(some_tokens(31), 40, chain=GREEDY)
    assert found.acceptance < 0.5


@pytest.mark.parametrize("kind", ["attention", "hybrid"])
def test_it_keeps_up_while_nothing_is_drafted(opened: Opened, kind: str) -> None:
    loaded, prompt = opened(KINDS[kind]), some_tokens(20, seed=6)
    talk = Talk(loaded.main, loaded.head)
    silent = talk.answer(prompt, KEPT + WAITING + 40, length=0)
    assert loaded.main.length - loaded.head.length <= WAITING
    assert talk.answer([*prompt, *silent.tokens, 5], 30).acceptance > SURE


@pytest.mark.parametrize("kind", ["attention", "latent attention", "hybrid", "windows, assistant"])
def test_an_answer_may_end_between_two_rounds(opened: Opened, kind: str) -> None:
    loaded = opened(KINDS[kind].noisy())
    check_an_end_between_rounds(Talk(loaded.alone), Talk(loaded.main, loaded.head), 20)


@pytest.mark.parametrize("kind", ["attention", "hybrid"])
def test_penalties_and_grammars_hold_for_it_too(opened: Opened, kind: str) -> None:
    loaded = opened(KINDS[kind].noisy())
    check_penalties_and_grammars(Talk(loaded.alone), Talk(loaded.main, loaded.head), 40)


@pytest.mark.parametrize("kind", KINDS)
def test_its_presence_leaves_the_bits_of_the_main_models_scores(opened: Opened, kind: str) -> None:
    loaded, text = opened(KINDS[kind].noisy()), some_tokens(60)
    rows = []
    for model in (loaded.alone, loaded.main):
        model.rewind(0)
        model.start(watching := Watching())
        model.extend(text[:40], picks=0)
        model.extend(text[40:45], picks=5)
        for token in text[45:50]:
            model.extend([token], picks=1)
        rows.append(watching.rows)
    for place, row in rows[0].items():
        np.testing.assert_array_equal(rows[1][place], row)


@pytest.mark.parametrize("kind", KINDS)
def test_rewinds_leave_the_scores_of_a_fresh_head(opened: Opened, kind: str) -> None:
    loaded = opened(KINDS[kind].noisy(5))
    check_rewinds(loaded.main, loaded.head, rounds=8, close=CLOSE)


@pytest.mark.parametrize("kind", ["attention", "hybrid"])
def test_a_cut_to_an_older_place_leaves_the_scores_of_a_fresh_head(opened: Opened, kind: str) -> None:
    loaded = opened(KINDS[kind].noisy())
    main, anywhere = loaded.main, loaded.main.rewinds == "anywhere"
    check_cuts_to_older_places(main, loaded.head, main.chunk, anywhere=anywhere, long=400, close=CLOSE)


@pytest.mark.parametrize("kind", ["attention", "hybrid", "windows, assistant"])
def test_several_tokens_chosen_without_a_wait_are_those_chosen_one_by_one(opened: Opened, kind: str) -> None:
    loaded, text = opened(KINDS[kind].noisy()), some_tokens(50)
    main, head = loaded.main, loaded.head
    for model in (main, head):
        model.rewind(0)
        model.start(Sampler(GREEDY, 0, 30))
    main.extend(text, picks=0)
    at_once = [pick.token for pick in head.draft([7], 6)]
    head.rewind(50)
    one_by_one, token = [], 7
    for _ in range(6):
        token = head.extend([token], picks=1)[0].token
        one_by_one.append(token)
    assert at_once == one_by_one
    head.rewind(50)
    assert head.runner.sound == 50


@pytest.mark.parametrize("kind", ["attention", "hybrid", "windows, assistant"])
def test_tokens_of_the_lookup_before_its_own_run_one_by_one(opened: Opened, kind: str) -> None:
    """The main model has not run them, so each needs the head's own row of the one before."""
    loaded, text = opened(KINDS[kind].noisy(5)), some_tokens(60, seed=9)
    main, head = loaded.main, loaded.head
    rows = []
    for at_once in (True, False):
        for model in (main, head):
            model.rewind(0)
        main.start(Sampler(GREEDY, 0, 0))
        head.start(watching := Watching())
        main.extend(text[:50], picks=0)
        pieces = [text[50:54]] if at_once else [[token] for token in text[50:54]]
        for piece in pieces:
            head.extend(piece, picks=1)
        rows.append(watching.rows[54])
    np.testing.assert_allclose(*rows, atol=1e-3)


def only(times: int) -> Wanted:
    """Want a result the first `times` times that one is asked."""
    left = iter([True] * times)
    return lambda tokens: next(left, False)


@pytest.mark.parametrize("name", ["attention", "hybrid", "windows, assistant"])
def test_a_prompt_may_be_given_up_at_any_part(opened: Opened, name: str) -> None:
    """The main model gives up between two layers, or the head where it reads along."""
    loaded, prompt = opened(KINDS[name]), some_tokens(300, seed=4)
    main, head = loaded.main, loaded.head
    expected, given_up = Talk(loaded.alone).answer(prompt, 12).tokens, 0
    for asked, model in product((1, 3, 4), (main, head)):
        for each in (main, head):
            each.rewind(0)
        with pytest.MonkeyPatch.context() as patched, asking([model], only(asked)):
            patched.setattr(Parts, "are_needed", lambda self, tokens: True)
            try:
                main.extend(prompt[:256], picks=0)
            except GivenUp:
                assert model is main and main.length < 256
                given_up += 1
        assert head.length <= main.length
        found = Talk(main, head).answer(prompt, 12)
        assert found.tokens == expected, (asked, model)
        assert model is head or found.acceptance > SURE
    assert given_up


@pytest.mark.parametrize("name", ["attention", "hybrid"])
def test_its_cache_outlives_its_process(opened: Opened, tmp_path: Path, name: str) -> None:
    kind = KINDS[name].noisy(3)
    loaded, prompt = opened(kind), some_tokens(60, seed=8)
    answer = Talk(loaded.main, loaded.head).answer(prompt, 20)
    states = [model.take_state(1 << 30) for model in (loaded.main, loaded.head)]
    main = load(written(tmp_path / "again", kind))
    head = open_head(main)
    assert isinstance(head, MlxHead)
    for model, state in zip((main, head), states, strict=True):
        assert state and model.put_state(state)
        assert head.runner.theirs.end == main.length, "the next rows are behind those that are gone"
    assert head.reach(head.length) == head.length > 60, "it need not read them again"
    head.rewind(min(head.length, main.length))
    again = [*prompt, *answer.tokens, 4]
    expected = Talk(loaded.main, loaded.head).answer(again, 20)
    assert Talk(main, head).answer(again, 20) == expected
    assert expected.tokens == Talk(loaded.alone).answer(again, 20).tokens
    head.close()
    main.close()


def test_exact_mode_runs_no_token_again_for_it(opened: Opened, tmp_path: Path) -> None:
    kind, text = KINDS["attention"], some_tokens(400)
    main = load(written(tmp_path / "main", kind), exact=True)
    head = open_head(main, exact=True)
    assert isinstance(head, MlxHead)
    Talk(main, head).answer(text, 10)
    main.rewind(100)
    assert main._held == main.length == 100
    loaded = opened(kind)
    Talk(loaded.main, loaded.head).answer(text, 10)
    loaded.main.rewind(100)
    assert loaded.main._held == 99
    head.close()
    main.close()


def test_a_failing_head_leaves_the_main_model_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    main = load(written(tmp_path / "main", KINDS["attention"]))
    talk, prompt = Talk(main), some_tokens(50)
    expected = talk.answer(prompt, 90, length=0).tokens
    head = open_head(main)
    assert isinstance(head, MlxHead)

    def broken(self: HeadRunner, tokens: Any, cache: Any) -> Any:
        raise RuntimeError("the head is broken")

    with monkeypatch.context() as patched:
        patched.setattr(HeadRunner, "__call__", broken)
        assert talk.answer(prompt, 90, length=0).tokens == expected
        with pytest.raises(ModelError, match="the head is broken"):
            Talk(main, head).answer(prompt, 20)
    assert Talk(main, head).answer(prompt, 20).acceptance > SURE, "it has recovered"
    head.close()
    head.close()
    main.rewind(0)
    assert talk.answer(prompt, 90, length=0).tokens == expected
    main.close()


@pytest.mark.parametrize(("kind", "bits"), [("attention", 8), ("hybrid with experts", 8)])
def test_a_quantized_head_drafts(tmp_path: Path, kind: str, bits: int) -> None:
    folder = written(tmp_path / "main", replace(KINDS[kind], form="inside"))
    path = folder / "model.safetensors"
    weights = dict(mx.load(str(path)))
    for name in [each for each in weights if each.startswith(("mtp.", "model.layers.2."))]:
        if weights[name].ndim > 1 and not name.endswith("gate.weight"):
            parts = mx.quantize(weights.pop(name), group_size=32, bits=bits)
            names = (name, name.replace(".weight", ".scales"), name.replace(".weight", ".biases"))
            weights |= dict(zip(names, parts, strict=True))
    mx.save_safetensors(str(path), weights, {"format": "mlx"})
    main = load(folder)
    head = open_head(main)
    assert isinstance(head, MlxHead)
    assert Talk(main, head).answer(some_tokens(30), 30).acceptance > SURE
    head.close()
    main.close()


def test_an_assistant_reads_a_cache_of_8_bits(tmp_path: Path) -> None:
    main = load(write_gemma_folder(tmp_path / "main", Gemma(size=32)), cache_type="q8_0")
    head = open_head(main, write_assistant_folder(tmp_path / "head", replace(ASSISTANT, size=32, noise=0.05)))
    assert isinstance(head, MlxHead)
    prompt = some_tokens(60)
    expected = Talk(main).answer(prompt, 24, length=0).tokens
    found = Talk(main, head).answer(prompt, 24, length=3)
    assert found.tokens == expected and found.acceptance > 0.2
    head.close()
    main.close()


def test_its_facts_are_those_of_its_part_of_the_folder(opened: Opened) -> None:
    inside, own = opened(KINDS["hybrid"]), opened(KINDS["hybrid, head in a folder"])
    assert (inside.head.facts.name, inside.head.facts.path) == ("MTP head", HEAD)
    assert own.head.facts.path.endswith("head") and own.head.facts.name == "head"
    for each in (inside.head, own.head):
        assert each.facts.size == 4 * each.facts.parameters
        assert 0 < each.facts.size < inside.main.facts.size
    assert inside.main.facts.head == "mtp" and own.main.facts.head == ""


def test_there_is_no_head_where_the_folder_has_none(tmp_path: Path) -> None:
    without = load(mlx_models.write_folder(tmp_path / "llama"))
    assert open_head(without) == eligibility.NO_HEAD
    hybrid = Headed("qwen35", layers=2)
    for lacking in ("mtp.", "mtp.fc", "mtp.norm", "mtp.pre_fc_norm_hidden", "mtp.layers.0.self_attn.q"):
        folder = write_headed_folder(tmp_path / lacking, replace(hybrid, without=(lacking,)))
        main = load(folder)
        assert open_head(main) == eligibility.NO_HEAD, lacking
        main.close()


def test_half_a_head_is_an_error_in_one_line(tmp_path: Path) -> None:
    lacking = Headed("qwen35", layers=2, without=("mtp.layers.0.mlp.down_proj",))
    main = load(write_headed_folder(tmp_path / "main", lacking))
    with pytest.raises(ModelError, match=r"the head cannot be loaded: .*down_proj"):
        open_head(main)
    assert Talk(main).answer(some_tokens(20), 10, length=0).tokens
    main.close()


def test_the_head_of_another_model_is_turned_away(tmp_path: Path) -> None:
    own = write_head_folder(tmp_path / "head", Headed("qwen35", layers=2))
    others = {
        "does not draft for the architecture 'llama'": mlx_models.write_folder(tmp_path / "llama"),
        f"rows of {WIDTH} numbers, these have 128": mlx_models.write_folder(
            tmp_path / "wide", "qwen3_next", settings={"hidden_size": 128}
        ),
        "another tokenizer": mlx_models.write_folder(tmp_path / "small", "qwen3_next"),
    }
    for reason, folder in others.items():
        main = load(folder, context_length=256)
        found = open_head(main, own)
        assert isinstance(found, Obstacle) and reason in found.text, found
        main.close()
    with pytest.raises(ModelError, match="only the head of a model"):
        load(own)
