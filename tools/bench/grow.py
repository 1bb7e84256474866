"""Benchmark models: the starter's main model at the cost of a real one, and drafts of graded quality.

    python -m tools.bench.grow OUT --parameters 0.7e9 --types F16,Q4_K_M

A grown model computes the same function as the model it came from. It is wider, deeper and has more heads,
but nothing that was added reaches the residual stream: the columns of the output matrices that would carry
it are zero. RMS norm divides by the mean square over the width, so a stream of d values followed by D - d
zeros needs its weights times sqrt(d / D) and its epsilon times d / D (Zhang and Sennrich, arXiv 1910.07467).
Growing in this way is the function-preserving initialisation of Net2Net (Chen et al., arXiv 1511.05641)
with zeros in place of split weights.

A graded draft is the small model itself with Gaussian noise on its matrices, as much as brings its greedy
agreement with the main model to a wanted share; noise makes it less sure of its tokens as well. The starter
is far surer of each token than a model that knows the world: `--flatten T` divides all scores of the main
model by T, which changes nothing at temperature 0 and makes sampled text uncertain; `--source` takes a model
that is unsure by itself, such as `tools.bench.learn` trains. The vocabulary never
grows, so the cost of choosing among 100,000 tokens is not in these models. This module trains nothing and
measures no speed.
"""

from __future__ import annotations

import argparse
import json
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from math import ceil, prod, sqrt
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import llama_cpp
import numpy as np
from gguf.quants import dequantize, quantize
from numpy.typing import NDArray

from tui.engine.backends.llama_cpp.requantize import requantize
from tui.engine.starter import MAIN

Matrix = NDArray[np.float32]
Kind = gguf.GGMLQuantizationType

QUESTIONS = Path(__file__).parents[1] / "training" / "questions.toml"
_BLOCK = 256
"""K-quants store rows in blocks of so many weights."""
_LAYERS = 24
"""About how deep a grown model becomes; models of 0.5e9 to 1.5e9 parameters have 16 to 28 layers."""
_FILLER = 0.01
"""Standard deviation of added weights. Blocks of activations share a scale, which these must not dominate."""
_SMALL = 100e6
"""Bytes of a file below which a second thread costs more than it computes."""
_CHECKED = 6
"""Answers that a grown model is compared on; at 0.7e9 parameters each takes seconds."""
_MOST_NOISE = 2.0
"""Relative to the weights' standard deviation; it leaves nothing of the model."""
_FEEDS_NOTHING = ("attn_q", "attn_k", "attn_v", "ffn_gate", "ffn_up")
"""Matrices whose added rows may hold anything, because the next matrix has zero columns for them."""


@dataclass(frozen=True)
class Shape:
    """The size of a Llama whose heads fill the width and share no keys or values."""

    width: int
    layers: int
    heads: int
    inner: int
    vocabulary: int

    @property
    def parameters(self) -> int:
        """Weights of all matrices and norms, the input and output tables being one."""
        layer = 4 * self.width**2 + 3 * self.width * self.inner + 2 * self.width
        return self.vocabulary * self.width + self.width + self.layers * layer

    def grown(self, parameters: float) -> Shape:
        """A shape of about so many parameters, and in no way smaller than this one."""
        width = _BLOCK * max(ceil(self.width / _BLOCK), round(sqrt(parameters / 12 / _LAYERS) / _BLOCK))
        inner = _BLOCK * max(ceil(self.inner / _BLOCK), 8 * width // 3 // _BLOCK)
        none = replace(self, width=width, inner=inner, heads=width * self.heads // self.width, layers=0)
        layer = replace(none, layers=1).parameters - none.parameters
        return replace(none, layers=max(self.layers, round((parameters - none.parameters) / layer)))


Metadata = dict[str, tuple[Any, ...]]
"""Under each name a value, its type and, for an array, the type of its elements."""


@dataclass(frozen=True)
class Checkpoint:
    """A model file, read: metadata, and weights in F32 with matrices as (rows, columns)."""

    metadata: Metadata
    weights: dict[str, Matrix]

    @property
    def name(self) -> str:
        return str(self.metadata["general.name"][0])

    @property
    def shape(self) -> Shape:
        """Raises `ValueError` for a model that cannot be grown here."""
        names = ("embedding_length", "block_count", "attention.head_count", "feed_forward_length")
        width, layers, heads, inner = (int(self.metadata[f"llama.{name}"][0]) for name in names)
        if self.metadata["llama.attention.head_count_kv"][0] != heads or _BLOCK * heads % width:
            raise ValueError(f"heads must not share keys, and their width must divide {_BLOCK}")
        return Shape(width, layers, heads, inner, len(self.weights["token_embd.weight"]))


class Weight(NamedTuple):
    """A weight to be written, computed when its turn comes."""

    name: str
    shape: tuple[int, ...]
    values: Callable[[], Matrix]


@dataclass(frozen=True)
class Answer:
    """What the main model wrote, greedily."""

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Made:
    """A file that was written."""

    file: str
    bytes: int
    parameters: int
    agreement: float
    """Share of the source's greedy tokens that it chooses too."""
    certainty: float
    """Mean probability of its likeliest token at temperature 0.8."""
    sigma: float
    """Noise put on its matrices, relative to their standard deviation."""
    seconds: float


def read(path: Path) -> Checkpoint:
    """Read a whole model into memory."""
    reader = gguf.GGUFReader(path)
    metadata = {
        name: (field.contents(), field.types[0], *field.types[1:][-1:])
        for name, field in reader.fields.items()
        if not name.startswith("GGUF.")
    }
    return Checkpoint(metadata, {t.name: dequantize(t.data, t.tensor_type) for t in reader.tensors})


def write(
    path: Path, metadata: Metadata, changed: dict[str, Any], weights: Iterable[Weight], kind: Kind
) -> None:
    """Write a model with its matrices in `kind` and its norms in F32, holding one weight at a time.

    The values of `changed` replace those of the metadata.
    """
    changed = changed | {"general.file_type": gguf.LlamaFileType[f"MOSTLY_{kind.name}"]}
    writer = gguf.GGUFWriter(path, metadata["general.architecture"][0])
    for name, (value, *types) in metadata.items():
        if name != "general.architecture":
            writer.add_key_value(name, changed.get(name, value), *types)
    kept = [(weight, kind if len(weight.shape) == 2 else Kind.F32) for weight in weights]
    for weight, stored in kept:
        block, size = gguf.GGML_QUANT_SIZES[stored]
        bytes_ = prod(weight.shape) // block * size
        writer.add_tensor_info(weight.name, weight.shape, np.dtype(np.float32), bytes_, stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for weight, stored in kept:
        writer.write_tensor_data(quantize(weight.values(), stored))
    writer.close()


def flatten(source: Checkpoint, by: float) -> Checkpoint:
    """`source` with all its scores divided by `by`."""
    weights = source.weights | {"output_norm.weight": source.weights["output_norm.weight"] / np.float32(by)}
    return replace(source, weights=weights)


def grow(source: Checkpoint, shape: Shape, path: Path) -> None:
    """Write `source` in F16 at a larger shape, its function unchanged.

    Raises `ValueError` for a model with weights that a plain Llama has not.
    """
    if unknown := [name for name in source.weights if name not in dict(_sizes(source, shape))]:
        raise ValueError(f"nothing is known of {unknown[0]}")
    share = source.shape.width / shape.width
    epsilon = "llama.attention.layer_norm_rms_epsilon"
    changed = {
        "general.name": "Benchmark main",
        "llama.embedding_length": shape.width,
        "llama.block_count": shape.layers,
        "llama.feed_forward_length": shape.inner,
        "llama.attention.head_count": shape.heads,
        "llama.attention.head_count_kv": shape.heads,
        epsilon: source.metadata[epsilon][0] * share,
    }
    write(path, source.metadata, changed, _grown_weights(source, shape, sqrt(share)), Kind.F16)


def _grown_weights(source: Checkpoint, shape: Shape, scale: float) -> Iterator[Weight]:
    rng = np.random.default_rng(0)
    filler = rng.standard_normal((shape.inner, shape.width), np.float32) * np.float32(_FILLER)
    for name, size in _sizes(source, shape):
        small = source.weights.get(name, np.zeros((0,) * len(size), np.float32))
        if len(size) == 1:
            values = partial(_placed, small, size, np.ones(size, np.float32), scale)
        else:
            values = partial(_placed, small, size, filler if name.split(".")[-2] in _FEEDS_NOTHING else None)
        yield Weight(name, size, values)


def _sizes(source: Checkpoint, shape: Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every weight of a grown model."""
    width, inner = shape.width, shape.inner
    for name, weight in source.weights.items():
        if not name.startswith("blk."):
            yield name, (*weight.shape[:-1], width)
    for layer in range(shape.layers):
        for part in ("attn_norm", "ffn_norm"):
            yield f"blk.{layer}.{part}.weight", (width,)
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            yield f"blk.{layer}.{part}.weight", (width, width)
        for part in ("ffn_gate", "ffn_up"):
            yield f"blk.{layer}.{part}.weight", (inner, width)
        yield f"blk.{layer}.ffn_down.weight", (width, inner)


def _placed(small: Matrix, size: tuple[int, ...], below: Matrix | None, scale: float = 1.0) -> Matrix:
    """`small` in the first corner of a new weight, zeros beside it, and under it rows of `below` or zeros."""
    grown = np.zeros(size, np.float32)
    grown[tuple(slice(count) for count in small.shape)] = small
    if below is not None:
        grown[len(small) :] = below[: len(grown) - len(small)]
    return grown * np.float32(scale)


def add_noise(source: Checkpoint, sigma: float, path: Path, seed: int = 1) -> None:
    """Write `source` in Q8_0 with Gaussian noise of `sigma` standard deviations on each matrix.

    The same seed gives the same noise, scaled: agreement then falls almost steadily as `sigma` grows.
    """
    rng = np.random.default_rng(seed)

    def noisy(weight: Matrix) -> Matrix:
        if weight.ndim == 1:
            return weight
        noise: Matrix = np.float32(sigma) * weight.std() * rng.standard_normal(weight.shape, np.float32)
        return weight + noise

    changed = {"general.name": "Benchmark draft"}
    weights = (Weight(name, w.shape, partial(noisy, w)) for name, w in source.weights.items())
    write(path, source.metadata, changed, weights, Kind.Q8_0)


def load(path: Path) -> llama_cpp.Llama:
    """A model that keeps the scores of every row, on the CPU; close it."""
    threads = 1 if path.stat().st_size < _SMALL else None
    return llama_cpp.Llama(
        str(path), n_ctx=512, n_gpu_layers=0, n_threads=threads, n_threads_batch=threads, logits_all=True,
        verbose=False,
    )  # fmt: skip


def questions(path: Path) -> list[str]:
    """The prompts in a TOML file."""
    return [str(question["ask"]) for question in tomllib.loads(path.read_text("utf-8"))["question"]]


def ask(path: Path, questions: Sequence[str], length: int) -> list[Answer]:
    """The model's greedy answers, each through its end token or `length` tokens long."""
    with closing(load(path)) as model:
        return [_answer(model, question, length) for question in questions]


def _answer(model: llama_cpp.Llama, question: str, length: int) -> Answer:
    text = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    prompt = model.tokenize(text.encode(), add_bos=False, special=True)
    tokens: list[int] = []
    model.reset()  # type: ignore[no-untyped-call]
    model.eval(prompt)
    while len(tokens) < length and model.token_eos() not in tokens:
        if tokens:
            model.eval(tokens[-1:])
        tokens.append(int(model.scores[model.n_tokens - 1].argmax()))
    return Answer(tuple(prompt), tuple(tokens))


def agreement(path: Path, answers: Sequence[Answer]) -> float:
    """Share of the answers' tokens that this model chooses greedily behind the same tokens; 1.0 is equality.

    For a greedy draft this is the chance that a token which it drafts behind accepted ones is accepted.
    """
    agreed = [rows.argmax(axis=1) == answer.tokens for answer, rows in scored(path, answers)]
    return float(np.concatenate(agreed).mean())


def certainty(path: Path, answers: Sequence[Answer], temperature: float = 0.8) -> float:
    """Mean probability of the likeliest token behind the answers' tokens."""
    heads = [
        np.exp((rows - rows.max(axis=1, keepdims=True)) / temperature) for _, rows in scored(path, answers)
    ]
    return float(np.concatenate([1 / each.sum(axis=1) for each in heads]).mean())


def scored(path: Path, answers: Sequence[Answer]) -> Iterator[tuple[Answer, Matrix]]:
    """The scores of this model where each answer's tokens were chosen; the next step overwrites them."""
    with closing(load(path)) as model:
        for answer in answers:
            model.reset()  # type: ignore[no-untyped-call]
            model.eval([*answer.prompt, *answer.tokens[:-1]])
            yield answer, model.scores[len(answer.prompt) - 1 : model.n_tokens]


def find_draft(
    source: Checkpoint, wanted: float, answers: Sequence[Answer], path: Path, tolerance: float = 0.01
) -> Made:
    """Write a draft of about the wanted agreement, by bisection over sigma."""
    started = time.perf_counter()
    low, high = 0.0, _MOST_NOISE
    for _ in range(12):
        sigma = (low + high) / 2
        add_noise(source, sigma, path)
        found = agreement(path, answers)
        if abs(found - wanted) <= tolerance:
            break
        low, high = (sigma, high) if found > wanted else (low, sigma)
    return _made(path, source.shape, found, certainty(path, answers[:_CHECKED]), sigma, started)


def make(options: argparse.Namespace) -> Iterator[Made]:
    """Write all files that the options ask for."""
    out, source = options.out, read(options.source)
    every = questions(options.questions)
    answers = ask(options.source, every[:: max(1, len(every) // 24)][:24], 80)
    grown = source.shape.grown(options.parameters)
    main = flatten(source, options.flatten)
    yield from grown_files(main, grown, options.types, out / "main", answers[:_CHECKED])
    for wanted in options.agreements:
        yield find_draft(source, wanted, answers, out / _draft_name(wanted))
    if options.slow_draft:
        quick = read(out / _draft_name(options.slow_draft))
        grown = source.shape.grown(options.parameters / 3)
        yield from grown_files(quick, grown, options.types, out / "draft-slow", answers)


def grown_files(
    source: Checkpoint, shape: Shape, kinds: Sequence[str], stem: Path, answers: Sequence[Answer]
) -> Iterator[Made]:
    """Write `source` at a larger shape in each of the formats."""
    started = time.perf_counter()
    full = stem.with_name(f"{stem.name}-F16.gguf")
    grow(source, shape, full)
    for kind in kinds:
        path = stem.with_name(f"{stem.name}-{kind}.gguf")
        if path != full:
            requantize(full, path, kind)
        yield _made(path, shape, agreement(path, answers), certainty(path, answers[:2]), 0.0, started)
        started = time.perf_counter()
    if "F16" not in kinds:
        full.unlink()


def _made(
    path: Path, shape: Shape, agreed: float, certain: float, sigma: float, started: float
) -> Made:  # fmt: skip
    seconds = time.perf_counter() - started
    return Made(path.name, path.stat().st_size, shape.parameters, agreed, certain, sigma, seconds)


def main() -> None:
    options = _options()
    options.out.mkdir(parents=True, exist_ok=True)
    files = []
    for file in make(options):
        size = f"{file.bytes / 1e6:8.1f} MB {file.parameters / 1e6:7.1f} M parameters"
        found = f"{file.agreement:6.3f} agreement {file.certainty:6.3f} certainty"
        print(f"{file.file:24} {size} {found} {file.seconds:6.1f} s", flush=True)
        files.append(asdict(file))
    if options.json:
        print(json.dumps(files))


def _options() -> argparse.Namespace:
    def listed(text: str) -> list[str]:
        return [part for part in text.split(",") if part]

    def shares(text: str) -> list[float]:
        return [float(part) for part in listed(text)]

    parser = argparse.ArgumentParser(description="Write benchmark models, grown from the starter pair.")
    add = parser.add_argument
    add("out", type=Path, help="the folder to write to")
    add("--source", type=Path, default=MAIN, help="the model to grow")
    add("--questions", type=Path, default=QUESTIONS, help="TOML with what it is asked")
    add("--parameters", type=float, default=0.7e9, help="of the main model, about")
    add("--types", type=listed, default=["F16", "Q4_K_M"], help="formats of the main model")
    add("--agreements", type=shares, default=[0.9, 0.8, 0.7, 0.5, 0.0], help="of the drafts")
    add("--flatten", type=float, default=1.0, help="divide the main model's scores by so much")
    add("--slow-draft", type=float, help="one of the agreements: also grow this draft, to a third")
    add("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    if options.slow_draft and options.slow_draft not in options.agreements:
        parser.error(f"--slow-draft must be one of {options.agreements}")
    return options


def _draft_name(wanted: float) -> str:
    return f"draft-{round(100 * wanted)}.gguf"


if __name__ == "__main__":
    main()
