"""Reads the facts about a model from its GGUF file, and checks that the file can be opened safely.

llama.cpp ends the whole process on some malformed files. So each number that it trusts is checked here first,
without native code. The library may still reject a file that passes, but only with an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from math import isfinite
from mmap import ACCESS_READ, mmap
from pathlib import Path

from msgspec import structs

from ...protocol import HeadKind, ModelFacts
from .forms import form_of
from .gguf import (
    Array,
    BadModelFile,
    Contents,
    GgufReader,
    Tensor,
    UnreadableModelFile,
    UnusableModelFile,
)
from .head_files import ALONE, WIDTHS, RowReader, check_kind, row_reader
from .heads import is_only_head, of_head, usable_heads
from .shared_cells import LayerCells, layer_cells
from .split_file import MOST, part_of
from .tensor_types import FILE_TYPES, commonest
from .token_texts import fingerprint

__all__ = ["BadModelFile", "Header", "read_header", "read_tokens", "read_words"]

MAX_TEXT = 200
"""Most characters of a tag, an architecture or a license."""
_TOKENS = "tokenizer.ggml.tokens"
_NO_TEXT = (2, 3, 5)
"""GGUF's kinds of tokens that are not text: unknown, control, unused."""
_MIN_TOKENS = 32
"""Fewest tokens of a vocabulary. Below it, llama.cpp uses special tokens with fixed ids."""
_MAX_LAYERS = 512
"""llama.cpp's own limit. Beyond it, it ends the process."""
_MAX_EXPERTS = 1024
_MAX_HEADS = 65_536
_MAX_EXTENT = 1 << 24
_SEEING = ("v.", "mm.", "a.")
"""First letters of the tensors of projectors (vision and audio). llama.cpp keeps these in files of their own,
and rejects a model whose file holds more than it reads."""
_SIZES = (
    "embedding_length",
    "context_length",
    "attention.key_length",
    "attention.value_length",
    "vocab_size",
)
_SPECIAL = tuple(f"{name}_token_id" for name in ("bos", "eos", "eot", "eom", "unknown", "padding"))
_TRAITS = {
    "recurrent": ("ssm.state_size", "wkv.head_size", "shortconv.l_cache"),
    "sliding window": ("attention.sliding_window",),
    "MTP heads": ("nextn_predict_layers",),
    "EAGLE-3 head": ("target_layers",),
    "mixture of experts": ("expert_count",),
}
"""Traits with their keys. A model has a trait if one of its keys is above zero."""


@dataclass(frozen=True)
class Header:
    """A model as its file describes it. The texts are not trusted."""

    facts: ModelFacts
    """Their name is the model's name in the file; the file's own name if there is none."""
    block_count: int
    table_bytes: int
    """Bytes of the token table, a part of the weights. It stays in the host's memory."""
    output_bytes: int
    """Bytes of the output layer; 0 if the token table serves as output layer."""
    cache_bytes: int
    """Bytes of KV cache for one token of context at 16 bits. Sliding windows count as full attention."""
    tokenizer: str = ""
    """Kind of vocabulary: "gpt2" is byte-level BPE, "llama" is SentencePiece."""
    fingerprint: str = ""
    """Hash of the tokens' texts and the special ids. Equal hashes mean equal vocabularies."""
    traits: tuple[str, ...] = ()
    """Properties that matter for drafting: see `FoundModel.traits`."""
    license: str = ""
    heads: int = 0
    """Number of heads that the file claims. They are its last blocks. `usable_heads` of them can run."""
    usable_heads: int = 0
    width: int = 0
    """Numbers in a hidden row."""
    reader: RowReader | None = None
    """The shape of an EAGLE-3 head; None for all else."""
    cells: tuple[LayerCells, ...] = ()
    """The cells of a Gemma 4 model by layer, or those that its assistant looks at; empty for all else."""
    tensors: tuple[Tensor, ...] = field(default=(), repr=False)

    @property
    def of_head(self) -> list[Tensor]:
        """The tensors of the heads."""
        return of_head(self.block_count, self.heads, self.tensors)


def read_header(path: str | Path) -> Header:
    """Read and check a model's header. A model in several files is the sum of all.

    Takes a few hundredths of a second. Raises `BadModelFile`.
    """
    path = Path(path)
    header, parts = _read_file(path, first=True)
    for part in _other_parts(path, parts):
        other, _ = _read_file(part, first=False)
        whole, more = header.facts, other.facts
        header = replace(
            header,
            facts=structs.replace(
                whole, parameters=whole.parameters + more.parameters, size=whole.size + more.size
            ),
            table_bytes=header.table_bytes + other.table_bytes,
            output_bytes=max(header.output_bytes, other.output_bytes),
            tensors=header.tensors + other.tensors,
        )
    if not header.facts.size:
        raise UnusableModelFile("a vocabulary without a model: the file holds no weights")
    return _with_head(header)


def _with_head(header: Header) -> Header:
    """Return `header` with the head that its tensors show."""
    names, architecture = {tensor.name for tensor in header.tensors}, header.facts.architecture
    alone = is_only_head(architecture, header.block_count, header.heads, names)
    usable = usable_heads(architecture, header.block_count, header.heads, names)
    if alone and not usable:
        raise UnusableModelFile("only the head of a model, and it cannot be used")
    head: HeadKind = ALONE.get(architecture, "mtp" if usable else "")
    facts = structs.replace(header.facts, head=head, only_head=alone or architecture in ALONE)
    return replace(header, usable_heads=usable, facts=facts)


def read_tokens(path: str | Path) -> tuple[bytes, ...]:
    """Return the texts of a file's tokens by id; the file need not hold weights. Raises `BadModelFile`."""
    with _opened(Path(path)) as (_, contents):
        return _tokens(contents)


def read_words(path: str | Path) -> dict[int, bytes]:
    """Return the text tokens of a file by id. Raises `BadModelFile`."""
    with _opened(Path(path)) as (reader, contents):
        tokens, kinds = _tokens(contents), contents.values.get("tokenizer.ggml.token_type")
        numbers = reader.numbers(kinds) if isinstance(kinds, Array) and not kinds.of_text else ()
        none = {token for token, kind in enumerate(numbers) if kind in _NO_TEXT}
        return {token: text for token, text in enumerate(tokens) if token not in none}


def _tokens(contents: Contents) -> tuple[bytes, ...]:
    tokens = contents.values.get(_TOKENS)
    if not isinstance(tokens, Array) or not tokens.of_text:
        raise BadModelFile("the file holds no vocabulary")
    return tokens.texts


def _read_file(path: Path, *, first: bool) -> tuple[Header, int]:
    """Return one file's header, and the number of files of its model. Only the first holds the metadata."""
    with _opened(path) as (reader, contents):
        model = _Metadata(reader, contents)
        if first:
            model.check()
        return model.header(path), model.number("split.count", 1)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[GgufReader, Contents]]:
    """Open a file and check its tensors. The reader works only inside the block."""
    try:
        if not path.stat().st_size:
            raise BadModelFile("the file is empty")
        with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
            reader = GgufReader(content, keep={_TOKENS})
            contents = reader.contents()
            _check_tensors(contents, len(content))
            yield reader, contents
    except OSError as error:
        raise UnreadableModelFile(f"the file {path.name} cannot be read: {error.strerror}") from None


def _other_parts(path: Path, count: int) -> Iterator[Path]:
    if count <= 1:
        return
    part = part_of(path.name)
    if part is None or part.number != 1 or part.total != count or count > MOST:
        raise UnusableModelFile(
            f"this model comes in {count} files: choose the first, named ...-00001-of-..."
        )
    yield from map(path.with_name, part.names[1:])


def _check_tensors(contents: Contents, file_size: int) -> None:
    room = file_size - contents.data
    for tensor in contents.tensors:
        if tensor.offset + tensor.bytes > room:
            raise BadModelFile(f"the file is cut off: tensor {tensor.name} lies past its end")
    placed = sorted(contents.tensors, key=lambda tensor: tensor.offset)
    for before, after in pairwise(placed):
        if before.offset + before.bytes > after.offset:
            raise BadModelFile(f"damaged header: tensors {before.name} and {after.name} overlap")


class _Metadata:
    """The keys of one header, read with their expected types."""

    def __init__(self, reader: GgufReader, contents: Contents) -> None:
        self._reader = reader
        self._values = contents.values
        self.tensors = contents.tensors
        self.content = partial(reader.content, data=contents.data)
        self._architecture = self.text("general.architecture")

    def header(self, path: Path) -> Header:
        tokens = self._values.get(_TOKENS)
        texts = tokens.texts if isinstance(tokens, Array) else ()
        template = self.text("tokenizer.chat_template")
        special = [self.number(f"tokenizer.ggml.{name}", -1) for name in _SPECIAL]
        return Header(
            ModelFacts(
                name=self.text("general.name") or path.stem,
                path=str(path),
                architecture=self._architecture[:MAX_TEXT],
                parameters=sum(tensor.elements for tensor in self.tensors),
                quantization=self._quantization(),
                size=sum(tensor.bytes for tensor in self.tensors),
                context_length=self.number(self._key("context_length"), 0),
                vocabulary=len(texts),
                prompt_form=form_of(template, lambda mark: mark.encode() in texts),
            ),
            block_count=self.number(self._key("block_count"), 0),
            table_bytes=self._bytes_of("token_embd.weight"),
            output_bytes=self._bytes_of("output.weight"),
            cache_bytes=2 * self._cached_numbers(),
            tokenizer=self.text("tokenizer.ggml.model")[:MAX_TEXT],
            fingerprint=fingerprint(texts, special) if texts else "",
            traits=tuple(self._traits()),
            license=self.text("general.license")[:MAX_TEXT],
            heads=self.number(self._key("nextn_predict_layers"), 0),
            width=self.number(self._key(WIDTHS.get(self._architecture, "embedding_length")), 0),
            reader=row_reader(self._architecture, self, len(texts)),
            cells=layer_cells(self._architecture, self),
            tensors=self.tensors,
        )

    def _traits(self) -> Iterator[str]:
        yield from (trait for trait, keys in _TRAITS.items() if any(map(self._above_zero, keys)))
        named, most = self._quantization(), self._commonest_type()
        if "_K" in named and "_K" not in most:  # blocks of 256 numbers do not fit the model's width
            yield f"mostly {most}"

    def _above_zero(self, name: str) -> bool:
        value = self._values.get(self._key(name))
        return isinstance(value, Array) or (isinstance(value, int) and value > 0)

    def check(self) -> None:
        """Raise `BadModelFile` for values that llama.cpp cannot handle."""
        if not self._architecture:
            raise BadModelFile("not a language model: the file names no architecture")
        if "mmproj" in self.text("general.type") or self._architecture == "clip":
            raise UnusableModelFile("a vision projector, which is no model by itself")
        if seeing := next((each.name for each in self.tensors if each.name.startswith(_SEEING)), ""):
            reason = f"its file also holds a vision or audio part ({seeing}), which only Ollama reads"
            raise UnusableModelFile(reason)
        check_kind(self._architecture)
        if self.text("general.type") not in ("", "model"):
            raise UnusableModelFile(f"not a whole model: the file holds a {self.text('general.type')!r}")
        self._check_shape()
        self._check_experts()
        self._check_numbers()
        self._check_tokens()

    def text(self, key: str) -> str:
        """Return a text, or "" if it is missing. Bytes that are not UTF-8 are replaced."""
        value = self._values.get(key, b"")
        if not isinstance(value, bytes):
            raise BadModelFile(f"damaged header: {key} is not text")
        return value.decode("utf-8", "replace")

    def number(self, key: str, default: int) -> int:
        value = self._values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise BadModelFile(f"damaged header: {key} is not a whole number")
        return value

    def _key(self, name: str) -> str:
        return f"{self._architecture}.{name}"

    def _check_shape(self) -> None:
        layers = self.number(self._key("block_count"), 0)
        if not 0 < layers <= _MAX_LAYERS:
            raise BadModelFile(f"damaged header: {layers} layers")
        heads = self.number(self._key("nextn_predict_layers"), 0)
        if not 0 <= heads <= layers:
            raise BadModelFile(f"damaged header: {heads} heads in {layers} layers")
        for name in _SIZES:
            if not 0 < self.number(self._key(name), 1) <= _MAX_EXTENT:
                raise BadModelFile(f"damaged header: {self._key(name)} is {self.number(self._key(name), 1)}")
        width = self.number(self._key("embedding_length"), 0)
        table = next((tensor for tensor in self.tensors if tensor.name == "token_embd.weight"), None)
        if table is not None and table.shape[0] != width:
            raise BadModelFile(
                f"damaged header: embeddings of {table.shape[0]} numbers in a width of {width}"
            )
        self._check_heads()

    def _check_heads(self) -> None:
        queries = self._per_layer("attention.head_count")
        keys = self._per_layer("attention.head_count_kv") or queries
        longest = max(len(queries), len(keys))
        for q, k in zip(_spread(queries, longest), _spread(keys, longest), strict=True):
            if not 0 <= k <= q <= _MAX_HEADS or (k and q % k):
                raise BadModelFile(f"damaged header: {q} attention heads share {k} keys")

    def _per_layer(self, name: str) -> tuple[int, ...]:
        """Return the numbers of a key, which holds one for all layers or one for each; empty if missing."""
        key = self._key(name)
        value = self._values.get(key)
        if not isinstance(value, Array):
            return () if value is None else (self.number(key, 0),)
        whole = self.whole_numbers(key)
        if len(whole) != value.count or len(whole) != self.number(self._key("block_count"), 0):
            raise BadModelFile(f"damaged header: {key} does not hold a whole number for each layer")
        return whole

    def whole_numbers(self, key: str) -> tuple[int, ...]:
        """Return the whole numbers of an array, a truth value as 0 or 1; empty if it is missing."""
        value = self._values.get(key)
        items = self._reader.numbers(value) if isinstance(value, Array) and not value.of_text else ()
        return tuple(int(item) for item in items if isinstance(item, int))

    def _check_experts(self) -> None:
        experts = self.number(self._key("expert_count"), 0)
        used = max(self._per_layer("expert_used_count"), default=0)
        groups = self.number(self._key("expert_group_count"), 0)
        used_groups = self.number(self._key("expert_group_used_count"), 0)
        sound = 0 <= used <= experts <= _MAX_EXPERTS and (used > 0) == (experts > 0)
        if groups > 1:
            sound = sound and groups < experts and experts % groups == 0 and 0 < used_groups < groups
        elif groups:
            sound = sound and groups < experts
        if not sound:
            raise BadModelFile(f"damaged header: {used} of {experts} experts in {groups} groups")

    def _check_numbers(self) -> None:
        for key, value in self._values.items():
            if isinstance(value, float) and not isfinite(value):
                raise BadModelFile(f"damaged header: {key} is not a finite number")
            if key.endswith("_epsilon") and not (isinstance(value, float) and 0 <= value < 1):
                raise BadModelFile(f"damaged header: {key} is {repr(value)[:40]}")

    def _check_tokens(self) -> None:
        tokens = self._values.get(_TOKENS)
        if not isinstance(tokens, Array) or not tokens.of_text or tokens.count < _MIN_TOKENS:
            raise BadModelFile("the file holds no vocabulary")
        empty = tokens.texts.count(b"")  # llama.cpp invents a different name for each of these
        if len(set(tokens.texts)) < tokens.count - max(0, empty - 1):
            reason = "two tokens have one text, and llama.cpp opens no such vocabulary"
            raise UnusableModelFile(reason)
        for name in ("scores", "token_type"):
            array = self._values.get(f"tokenizer.ggml.{name}")
            if array is not None and not (isinstance(array, Array) and array.count >= tokens.count):
                raise BadModelFile(f"damaged vocabulary: tokenizer.ggml.{name} is too short")

    def _cached_numbers(self) -> int:
        """Return how many numbers attention keeps for each token, over all layers."""
        queries = self._per_layer("attention.head_count")
        keys = self._per_layer("attention.head_count_kv") or queries
        width = self.number(self._key("embedding_length"), 0) // max((1, *queries))
        key, value = (self.number(self._key(f"attention.{kind}_length"), width) for kind in ("key", "value"))
        return sum(_spread(keys, self.number(self._key("block_count"), 0))) * (key + value)

    def _bytes_of(self, name: str) -> int:
        return next((tensor.bytes for tensor in self.tensors if tensor.name == name), 0)

    def _quantization(self) -> str:
        """Return the quantization named by the file, else the type of most of its bytes."""
        if (named := FILE_TYPES.get(self.number("general.file_type", -1))) is not None:
            return named
        return self._commonest_type()

    def _commonest_type(self) -> str:
        return commonest((tensor.type.name, tensor.bytes) for tensor in self.tensors)


def _spread(numbers: tuple[int, ...], count: int) -> tuple[int, ...]:
    return numbers if len(numbers) > 1 else (numbers or (0,)) * count
