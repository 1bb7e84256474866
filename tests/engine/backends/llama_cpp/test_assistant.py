"""The assistant of a Gemma 4 model drafts for it: it changes no text, and looks at the right cells."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.assistant_models import ASSISTANT, Gemma, write_assistant, write_gemma
from tests.support.head_checks import (
    check_an_end_between_rounds,
    check_penalties_and_grammars,
    check_rewinds,
    check_same_text,
)
from tests.support.head_models import Headed, write_headed
from tests.support.rows import Watching, some_tokens
from tests.support.talk import Talk
from tui.engine.backends import ModelError, Options
from tui.engine.backends.llama_cpp import LlamaBackend
from tui.engine.backends.llama_cpp.assistant import AssistantHead
from tui.engine.backends.llama_cpp.hidden import HiddenRows
from tui.engine.backends.llama_cpp.model import LlamaModel
from tui.engine.library.header import read_header
from tui.engine.pair.memory_plan import plan
from tui.engine.pair.pair import load_pair
from tui.engine.speculation.sampling import Chain, Logits
from tui.protocol import CacheType, Load

GREEDY = Chain(temperature=0)
SURE = 0.95

Open = Callable[..., tuple[LlamaModel, AssistantHead]]


@pytest.fixture(params=["full windows", "windows that drop cells"])
def opened(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Opens a main model and its assistant, each with parts of a strength that the other lacks."""
    if request.param != "full windows":
        plans = LlamaBackend._plans
        monkeypatch.setattr(LlamaBackend, "_plans", lambda *given: list(plans(*given))[-1:])
    pairs: list[tuple[LlamaModel, AssistantHead]] = []
    backend = LlamaBackend()

    def open_pair(
        noise: float = 0.0, own_noise: float = 0.0, *, size: int = 16, cache: CacheType = "f16"
    ) -> tuple[LlamaModel, AssistantHead]:
        options = Options("main", 2048, threads=1, cache_type=cache)
        files = tmp_path / f"main-{noise}-{size}.gguf", tmp_path / f"assistant-{own_noise}-{size}.gguf"
        main = backend.load(str(write_gemma(files[0], Gemma(noise, size=size))), options, lambda _: True)
        assert (main.drops_from == 0) == (request.param == "full windows")
        main.extend(some_tokens(9), picks=0)
        path = write_assistant(files[1], replace(ASSISTANT, noise=own_noise, size=size))
        head = backend.load_head(main, replace(options, role="draft"), str(path))
        assert isinstance(head, AssistantHead)
        assert (head.facts.head, head.facts.only_head) == ("assistant", True)
        assert main.length == 0, "its cells were forgotten"
        pairs.append((main, head))
        return main, head

    yield open_pair
    for main, head in pairs:
        head.close()
        main.close()


def test_same_seed_same_text(opened: Open) -> None:
    main, head = opened(0.03, 0.1)
    check_same_text(Talk(main), Talk(main, head), 70, temperatures=(0.0, 1.0), lengths=(1, 4, 8))


def test_a_perfect_assistant_is_right_wherever_a_chat_goes(opened: Open) -> None:
    talk = Talk(*opened())
    first = some_tokens(700)
    answer = talk.answer(first, 40)
    assert answer.acceptance > SURE
    second = [*first, *answer.tokens, *some_tokens(30, seed=2)]
    edited = [*first[:650], *some_tokens(50, seed=3)]
    far_back = [*first[:200], *some_tokens(40, seed=4)]
    for prompt in (second, edited, first, far_back, first[:2], second):
        for chain in (GREEDY, Chain(0.8)):
            assert talk.answer(prompt, 50, length=3, chain=chain).acceptance > 0.9, len(prompt)
    silent = talk.answer(second, 150, length=0)
    assert talk.answer([*second, *silent.tokens, 5], 60).acceptance > SURE


@pytest.mark.parametrize("shift", [-1, 1])
def test_rows_of_another_place_spoil_it(opened: Open, monkeypatch: pytest.MonkeyPatch, shift: int) -> None:
    fill = HiddenRows.fill
    monkeypatch.setattr(HiddenRows, "fill", lambda self, target, start: fill(self, target, start + shift))
    assert Talk(*opened()).answer(some_tokens(30), 80, chain=GREEDY).acceptance < 0.5


def test_rewinds_leave_the_logits_of_a_fresh_assistant(opened: Open) -> None:
    """Its attention looks at the main model's cells, which hold no drafted token after a round."""
    check_rewinds(*opened(0.03, 0.5))


def test_it_sees_the_text_of_the_main_model_in_every_form(opened: Open) -> None:
    before, other = some_tokens(30), some_tokens(30, seed=2)
    rows: list[Logits] = []
    caches: tuple[CacheType, ...] = ("f16", "q8_0")
    for cache, text in ((caches[0], before), (caches[0], other), (caches[1], before)):
        main, head = opened(0.0, 0.5, size=32, cache=cache)
        head.start(sampler := Watching())
        main.extend([*text, 7, 8], picks=0)
        head.extend([5], picks=1)
        rows.append(sampler.rows[33])
    far, near = abs(rows[0] - rows[1]).max(), abs(rows[0] - rows[2]).max()
    assert far > 0.3, "the last tokens alone are equal"
    assert near < far / 5


def test_an_emptied_assistant_leaves_the_cells_of_the_main_model(opened: Open) -> None:
    main, head = opened()
    text = some_tokens(40)
    main.start(sampler := Watching())
    main.extend([*text, 5], picks=1)
    expected = sampler.rows[41]
    main.rewind(40)
    head.extend(text, picks=0)
    head.rewind(0)
    main.extend([5], picks=1)
    np.testing.assert_allclose(sampler.rows[41], expected, atol=1e-4)


def test_an_answer_may_end_between_two_rounds_and_follow_a_grammar(opened: Open) -> None:
    main, head = opened(0.03)
    check_an_end_between_rounds(Talk(main), Talk(main, head), 40)
    check_penalties_and_grammars(Talk(main), Talk(main, head), 40)


def test_a_failing_assistant_leaves_the_main_model_alone(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    main, head = opened()
    prompt = some_tokens(50)
    expected = Talk(main).answer(prompt, 60, length=0).tokens
    library = head._library

    class Failing:
        """The library, which fails for the head."""

        def __getattr__(self, name: str) -> object:
            return (lambda *_: 1) if name == "llama_decode" else getattr(library, name)

    with monkeypatch.context() as patch:
        patch.setattr(head, "_library", Failing())
        with pytest.raises(ModelError, match="llama_decode: 1"):
            Talk(main, head).answer(prompt, 60)
    assert Talk(main, head).answer(prompt, 60).acceptance > SURE, "it works again"
    head.close()
    assert Talk(main).answer(prompt, 60, length=0).tokens == expected


def test_the_context_may_fill_up(tmp_path: Path) -> None:
    main, head = write_gemma(tmp_path / "main.gguf"), write_assistant(tmp_path / "assistant.gguf")
    pair = load_pair(Load(str(main), str(head), 256, threads=1), lambda *_: True)
    assert isinstance(pair.draft, AssistantHead), pair.obstacle
    found = Talk(pair.main, pair.draft).answer(some_tokens(pair.main.capacity - 60), 60, length=4)
    assert len(found.tokens) >= 59 and found.acceptance > SURE
    pair.close()


def test_its_memory_is_planned(tmp_path: Path) -> None:
    main, head = write_gemma(tmp_path / "main.gguf"), write_assistant(tmp_path / "assistant.gguf")
    with_head = plan(Load(str(main), str(head), 4096)).uses[-1]
    alone = plan(Load(str(main), "none", 4096)).uses[-1]
    assert with_head.draft > 0 == alone.draft
    assert with_head.cache == alone.cache and with_head.buffers > alone.buffers


BAD = {
    "another width": (replace(ASSISTANT, main_width=32), "rows of 32"),
    "other keys": (replace(ASSISTANT, keys=1), "1 keys of 16, this one has 2 keys of 16"),
    "shorter keys": (replace(ASSISTANT, size=8), "2 keys of 8, this one has 2 keys of 16"),
    "another vocabulary": (replace(ASSISTANT, vocabulary=512), "512 tokens"),
    "no window": (replace(ASSISTANT, full=(0, 1)), "no layer with a window"),
    "layers of a model": (replace(ASSISTANT, heads=1), "2 of 2 layers"),
    "too many turned numbers": (replace(ASSISTANT, turned=20), "20 of 16"),
    "no joining matrix": (replace(ASSISTANT, without=("nextn.pre",)), "nextn.pre_projection"),
    "half a layer": (replace(ASSISTANT, without=("blk.1.attn_q",)), "attn_q"),
}
_LOAD = """
import json, sys
from tui.engine.pair.pair import load_pair
from tui.protocol import CacheType, Load
for both in sys.argv[1:]:
    main, draft = both.split(":")
    pair = load_pair(Load(main, draft, context_length=256, threads=1), lambda *_: True)
    print(json.dumps([pair.obstacle.text if pair.obstacle else "", bool(pair.draft)]), flush=True)
    pair.close()
"""


def test_a_bad_file_ends_in_a_line_and_not_in_the_end_of_the_process(tmp_path: Path) -> None:
    main, good = write_gemma(tmp_path / "main.gguf"), write_assistant(tmp_path / "good.gguf")
    pairs = [
        f"{main}:{write_assistant(tmp_path / f'{number}.gguf', gemma)}"
        for number, (gemma, _) in enumerate(BAD.values())
    ]
    words = [word for _, word in BAD.values()]
    pairs.append(f"{write_headed(tmp_path / 'llama.gguf', Headed('llama'))}:{good}")
    words.append("only for a Gemma 4 model")
    pairs.append(f"{write_gemma(tmp_path / 'other.gguf', Gemma(full=(2,)))}:{good}")
    words.append("not those of a Gemma 4 model")
    ran = subprocess.run([sys.executable, "-c", _LOAD, *pairs], capture_output=True, text=True, check=False)
    lines = ran.stdout.splitlines()
    assert ran.returncode == 0, (words[len(lines)], ran.stderr)
    for word, line in zip(words, lines, strict=True):
        reason, drafts = json.loads(line)
        assert word in reason and "\n" not in reason, (word, reason)
        assert not drafts


def test_it_is_no_model(tmp_path: Path) -> None:
    path = write_assistant(tmp_path / "assistant.gguf")
    assert read_header(path).facts.only_head
    with pytest.raises(ModelError, match="only the head"):
        LlamaBackend().load(str(path), Options("main", 256), lambda _: True)
