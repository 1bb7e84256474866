"""An MTP head in a file of its own drafts like one in the file of its model."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.head_models import Headed, write_headed
from tests.support.rows import some_tokens
from tests.support.talk import Talk
from tui.engine.backends import LoadedModel, ModelError, Options
from tui.engine.backends.llama_cpp import LlamaBackend
from tui.engine.backends.llama_cpp.head import LlamaHead
from tui.engine.library.header import read_header
from tui.engine.pair.memory_plan import plan
from tui.engine.speculation.sampling import Chain
from tui.protocol import Load

KINDS = {
    "attention": Headed("glm4moe"),
    "hybrid": Headed(),
    "hybrid with experts": Headed("qwen35moe"),
    "own rows of outputs only": Headed("qwen3next"),
    "several heads": Headed("hy_v3", heads=3),
    "several heads with a window": Headed("step35", heads=2),
    "several heads of fused weights": Headed("mimo2", heads=3),
}
SURE = 0.9

Open = Callable[[Headed, Headed], tuple[LoadedModel, LlamaHead]]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Opens a main model and the head in another file."""
    pairs: list[tuple[LoadedModel, LlamaHead]] = []
    backend = LlamaBackend()

    def open_pair(main: Headed, head: Headed) -> tuple[LoadedModel, LlamaHead]:
        options = Options("main", 2048, threads=1)
        model = backend.load(str(write_headed(tmp_path / "main.gguf", main)), options, lambda _: True)
        path = str(write_headed(tmp_path / "head.gguf", replace(head, without=head.trunk)))
        found = backend.load_head(model, replace(options, role="draft"), path)
        assert isinstance(found, LlamaHead)
        assert (found.facts.head, found.facts.only_head, found.facts.path) == ("mtp", True, path)
        pairs.append((model, found))
        return model, found

    yield open_pair
    for model, head in pairs:
        head.close()
        model.close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("headless", [True, False])
def test_a_perfect_head_is_right_nearly_always(opened: Open, kind: str, headless: bool) -> None:
    """The file of the main model may lack a head, or hold one that is not used."""
    headed = KINDS[kind]
    talk = Talk(*opened(replace(headed, headless=headless), headed))
    prompt = some_tokens(600)
    for chain, context in ((Chain(0), prompt), (Chain(0.8), prompt[:90]), (Chain(0.8), [*prompt[:40], 5, 6])):
        assert talk.answer(context, 60, length=3, chain=chain).acceptance > SURE


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_same_text(opened: Open, kind: str) -> None:
    headed = replace(KINDS[kind], noise=0.15, own_noise=0.1)
    main, head = opened(replace(headed, headless=True), headed)
    talk, prompt = Talk(main, head), some_tokens(30)
    for temperature in (0.0, 1.0):
        chain = Chain(temperature)
        expected = Talk(main).answer(prompt, 60, chain=chain).tokens
        for length in (1, 4):
            found = talk.answer(prompt, 60, length=length, chain=chain)
            assert found.tokens == expected
            assert found.accepted


def test_it_is_a_head_and_no_model(tmp_path: Path) -> None:
    path = write_headed(tmp_path / "head.gguf", Headed(without=Headed().trunk))
    facts = read_header(path).facts
    assert (facts.head, facts.only_head) == ("mtp", True)
    with pytest.raises(ModelError, match="only the head"):
        LlamaBackend().load(str(path), Options("main", 256), lambda _: True)


def test_its_memory_is_planned(tmp_path: Path) -> None:
    main = write_headed(tmp_path / "main.gguf", Headed(headless=True))
    head = write_headed(tmp_path / "head.gguf", Headed(without=Headed().trunk))
    with_head = plan(Load(str(main), str(head), 4096)).uses[-1]
    alone = plan(Load(str(main), "none", 4096)).uses[-1]
    assert with_head.draft > 0 == alone.draft
    assert with_head.cache - alone.cache == 4096 * 2 * 2 * 16 * 2, "keys and values of one layer, in 16 bits"
    assert with_head.buffers > alone.buffers


def test_it_is_freed_once_also_if_it_cannot_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend: Any = LlamaBackend()
    options = Options("main", 256, threads=1)
    main = backend.load(str(write_headed(tmp_path / "main.gguf")), options, lambda _: True)
    path = str(write_headed(tmp_path / "head.gguf", Headed(without=Headed().trunk)))
    freed: list[int] = []
    free = backend._library.llama_model_free
    monkeypatch.setattr(
        backend._library, "llama_model_free", lambda model: (freed.append(model), free(model))
    )
    head = backend.load_head(main, options, path)
    head.close()
    head.close()
    assert len(freed) == 1

    def broken(*_: object) -> None:
        raise ModelError("the head is broken")

    for where in ("warm_up", "__init__"):
        freed.clear()
        with monkeypatch.context() as patch:
            patch.setattr(LlamaHead, where, broken)
            with pytest.raises(ModelError, match="broken"):
                backend.load_head(main, options, path)
        assert len(freed) == 1, where
    main.close()


OTHER = {
    "other layers": (Headed(layers=6), "6 layers; this one has 4"),
    "another architecture": (Headed("qwen3next"), "architecture 'qwen3next'"),
    "half a head": (Headed(without=("blk.4.nextn.enorm",)), "cannot be used"),
    "no attention": (Headed(without=("blk.4.attn_q",)), "attn_q"),
    "no embeddings": (Headed(without=("token_embd",)), "token_embd"),
    "another width of its rows": (Headed(head_width=32), "tensor"),
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


def test_the_head_of_another_model_ends_in_a_line(tmp_path: Path) -> None:
    main = write_headed(tmp_path / "main.gguf", Headed(headless=True))
    paths = [
        write_headed(tmp_path / f"{number}.gguf", replace(each, without=(*each.trunk, *each.without)))
        for number, (each, _) in enumerate(OTHER.values())
    ]
    ran = subprocess.run(
        [sys.executable, "-c", _LOAD, str(main), *map(str, paths)],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = ran.stdout.splitlines()
    assert ran.returncode == 0, (list(OTHER)[len(lines)], ran.stderr)
    for (fault, (_, word)), line in zip(OTHER.items(), lines, strict=True):
        reason, drafts = json.loads(line)
        assert word in reason and "\n" not in reason, (fault, reason)
        assert not drafts
