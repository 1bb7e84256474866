"""A grown model with a head computes the same as the toy that it was grown from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.head_models import DeltaNet, Headed, write_headed
from tests.support.rows import Watching, some_tokens
from tests.support.talk import Talk
from tools.bench.wide_head import write_wide
from tui.engine.backends import Options
from tui.engine.backends.llama_cpp import LlamaBackend
from tui.engine.backends.llama_cpp.head import LlamaHead
from tui.engine.backends.llama_cpp.model import LlamaModel


def opened(path: Path) -> tuple[LlamaModel, LlamaHead]:
    options = Options("main", 512, threads=1, head=True)
    main = LlamaBackend().load(str(path), options, lambda _: True)
    head = LlamaBackend().load_head(main, replace(options, role="draft"))
    assert isinstance(head, LlamaHead)
    return main, head


@pytest.mark.parametrize("net", [DeltaNet(), DeltaNet(keys=4, values=8, size=32)])
def test_the_scores_of_model_and_head_are_those_of_the_toy(tmp_path: Path, net: DeltaNet) -> None:
    headed, rows = Headed(noise=0.05, net=net), list[list[np.ndarray]]()
    files = (
        write_headed(tmp_path / "toy.gguf", headed),
        write_wide(tmp_path / "wide.gguf", replace(headed, layers=6), width=256, inner=512),
    )
    for path in files:
        main, head = opened(path)
        assert (main.header.width, main.header.block_count) == ((64, 5) if path == files[0] else (256, 7))
        seen: list[np.ndarray] = []
        for model in (main, head):
            model.start(watching := Watching())
            model.extend(some_tokens(30)[model.length :], picks=1)
            seen.append(watching.rows[30])
        rows.append(seen)
        assert Talk(main, head).answer(some_tokens(20), 60, length=3).acceptance > 0.4
        head.close()
        main.close()
    for toy, wide in zip(*rows, strict=True):
        assert np.corrcoef(toy, wide)[0, 1] > 0.99
