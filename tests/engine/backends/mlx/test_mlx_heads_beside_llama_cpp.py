"""The same weights in both formats: a head of MLX gives the scores that it gives in llama.cpp.

llama.cpp computes the same heads by code of its own. So this finds a wrong order of parts, a wrong position,
or keys of another layer, which a test with MLX alone would not see.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mlx_lm")


from tests.support.assistant_models import ASSISTANT, Gemma, write_assistant, write_gemma
from tests.support.head_models import Headed, write_headed
from tests.support.mlx_assistant_models import write_assistant_folder, write_gemma_folder
from tests.support.mlx_head_models import write_headed_folder
from tests.support.rows import GREEDY, Watching, some_tokens
from tui.engine.backends import Backend, LoadedModel, Options
from tui.engine.backends.llama_cpp import LlamaBackend
from tui.engine.backends.mlx import MlxBackend
from tui.engine.speculation.sampling import Logits, Sampler
from tui.protocol import Obstacle

ALIKE = 0.05
"""llama.cpp keeps keys and values in 16 bits."""

Pair = tuple[LoadedModel, LoadedModel]


@pytest.fixture
def pairs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[Pair]]:
    """A model with its head, in llama.cpp and in MLX."""
    kind: Headed | Gemma = request.param
    heads = "", ""
    if isinstance(kind, Headed):
        files = write_headed(tmp_path / "main.gguf", kind), write_headed_folder(tmp_path / "main", kind)
    else:
        own = replace(ASSISTANT, noise=1.0, window=kind.window)
        files = write_gemma(tmp_path / "main.gguf", kind), write_gemma_folder(tmp_path / "main", kind)
        heads = (
            str(write_assistant(tmp_path / "head.gguf", own)),
            str(write_assistant_folder(tmp_path / "head", own)),
        )
    backends: Sequence[Backend] = LlamaBackend(), MlxBackend()
    options, opened = Options("main", 512, threads=1, head=True), list[Pair]()
    for backend, file, head in zip(backends, files, heads, strict=True):
        main = backend.load(str(file), options, lambda _: True)
        draft = backend.load_head(main, replace(options, role="draft"), head)
        assert not isinstance(draft, Obstacle), draft
        opened.append((main, draft))
    yield opened
    for main, draft in opened:
        draft.close()
        main.close()


def drafted(main: LoadedModel, head: LoadedModel, text: list[int], place: int) -> dict[int, Logits]:
    """The head's scores of four tokens in a row behind the first `place` tokens of `text`."""
    for model in (main, head):
        model.rewind(0)
    main.start(Sampler(GREEDY, 0, 0))
    head.start(watching := Watching())
    main.extend(text[:place], picks=0)
    head.extend(text[head.length : place + 1], picks=1)
    for token in text[place + 1 : place + 4]:
        head.extend([token], picks=1)
    return watching.rows


@pytest.mark.parametrize(
    "pairs",
    [
        Headed("qwen35", own_noise=1.0, layers=2),
        Headed("qwen35moe", own_noise=1.0, layers=2),
        Headed("glm4moe", own_noise=1.0, layers=2),
        Gemma(noise=0.2),
        Gemma(noise=0.2, full=(1, 3), window=16),
    ],
    indirect=True,
    ids=["dense", "experts", "attention", "assistant", "assistant, another window"],
)
def test_both_libraries_give_the_same_scores(pairs: list[Pair]) -> None:
    text = some_tokens(90, seed=3)
    for place in (12, 70):
        one, other = (drafted(main, head, text, place) for main, head in pairs)
        assert one.keys() == other.keys() == {*range(place + 1, place + 5)}
        for length, row in one.items():
            np.testing.assert_allclose(other[length], row, atol=ALIKE)
            assert np.std(row) > 20 * ALIKE
