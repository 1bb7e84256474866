"""Rewinds each kind of mlx-lm's caches: attention by entries, recurrent states by copies of them.

mlx-lm rewinds a sliding window without an error even if its entries are gone, and does not rewind a recurrent
state. So windows get our own cache, which keeps some entries before the window and knows when they are too
few. A state is copied before tokens that may be rejected. An unknown kind is never rewound. To go further
back, a copy of states and windows is restored (`save`, `restore`; see `checkpoints`).

A call only notes the computation, layer by layer. For a small model, that takes a few per cent of the time of
the computation itself. So some attention caches let MLX begin as soon as the call reaches them.

These classes change the caches and report the rest. They run no token: the caller runs the missing ones
again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import (
    ArraysCache,
    CacheList,
    ChunkedKVCache,
    KVCache,
    QuantizedKVCache,
    RotatingKVCache,
    create_causal_mask,
)

from .. import ModelError, Rewinds
from ..cached import Content
from .portable import content_of, fill, packed, unpacked

SPARE = 32
"""Entries kept before a window: for the 17 tokens of a round, and for those that it may run again."""
_STEP = 256
_APART = 4
"""Layers between two early beginnings. Each beginning takes some hundredths of a millisecond."""
_FEW = 17
"""Most tokens of a call with an early beginning. Noting a longer call takes no significant time."""
_GROUPS = (64, 32)
"""Possible numbers that share a scale in a cache of 8 bits; the first that fits is used."""


class PlainCache(KVCache):  # type: ignore[misc]
    """A cache of all entries."""

    begins = False
    """Whether MLX begins to compute when a call reaches this cache."""

    def update_and_fetch(self, keys: Any, values: Any) -> Any:
        _begin(self, keys)
        return super().update_and_fetch(keys, values)


class WindowCache:
    """Replaces `RotatingKVCache`: keeps the last entries in order, and rewinds exactly or not at all."""

    begins = False

    def __init__(self, window: int, spare: int = SPARE) -> None:
        """A token sees `window` entries, including its own. `spare` more are kept."""
        self.window = window
        self.spare = spare
        self.offset = 0
        self.keys: Any = None
        self.values: Any = None
        self._first = 0
        """Position of the first entry kept."""
        self._shown = slice(0, 0)

    def update_and_fetch(self, keys: Any, values: Any) -> tuple[Any, Any]:
        """Append entries. Return them with the earlier ones that the first of them sees."""
        _begin(self, keys)
        end: int = self.offset - self._first + keys.shape[2]
        if self.keys is None or end > self.keys.shape[2]:
            end = self._make_room(keys, values)
        begin = end - keys.shape[2]
        self.keys[..., begin:end, :] = keys
        self.values[..., begin:end, :] = values
        self.offset += keys.shape[2]
        self._shown = slice(max(0, begin - self.window + 1), end)
        return self.keys_and_values()

    def keys_and_values(self) -> tuple[Any, Any]:
        """Return the last result of `update_and_fetch`, for layers that share a cache."""
        return self.keys[..., self._shown, :], self.values[..., self._shown, :]

    def make_mask(self, N: int, window_size: int | None = None, return_array: bool = False) -> Any:  # noqa: N803
        """Return a mask of the entries that each of the next `N` tokens sees; None for all."""
        window = min(window_size or self.window, self.window)
        before = min(self.offset, self.window - 1)
        if N == 1:
            return None if before < window else mx.arange(before + 1) > before - window
        if before + N > window or return_array:
            return create_causal_mask(N, before, window_size=window)
        return "causal"

    def reaches(self, length: int) -> bool:
        """Return whether it can be rewound to `length` and still hold all that the next token sees."""
        return self._first <= max(0, length - self.window + 1)

    def cut(self, length: int) -> None:
        self.offset = length

    def seen(self) -> tuple[Any, Any]:
        """Return the entries that the next token sees."""
        shown = slice(max(0, self.offset - self.window + 1 - self._first), self.offset - self._first)
        return self.keys[..., shown, :], self.values[..., shown, :]

    def save(self) -> tuple[int, Any, Any]:
        """Return copies of the entries that the next token sees, after the position of the first one."""
        first = max(self._first, self.offset - self.window + 1)
        begin, end = first - self._first, self.offset - self._first
        return first, *(_moved(part, part, begin, end, end - begin) for part in (self.keys, self.values))

    def restore(self, saved: tuple[int, Any, Any], length: int) -> None:
        """Restore copied entries; the last of them is at `length`."""
        self._first, keys, values = saved
        self.keys, self.values, self.offset = _same(keys), _same(values), length

    def size(self) -> int:
        return min(self.offset, self.window)

    def empty(self) -> bool:
        return self.keys is None

    @property
    def state(self) -> Any:
        return self.keys, self.values

    @property
    def nbytes(self) -> int:
        return 0 if self.keys is None else int(self.keys.nbytes + self.values.nbytes)

    def _make_room(self, keys: Any, values: Any) -> int:
        """Drop unneeded entries and make room for `keys`. Return the coming number of entries."""
        held: int = self.offset - self._first
        kept = min(held, self.window - 1 + self.spare)
        end: int = kept + keys.shape[2]
        self.keys = _moved(self.keys, keys, held - kept, held, end)
        self.values = _moved(self.values, values, held - kept, held, end)
        self._first += held - kept
        return end


def _moved(old: Any, like: Any, begin: int, end: int, wanted: int) -> Any:
    """Return entries `begin` to `end` of `old`, with room after them for `wanted` in all."""
    length = -(-(wanted + 1) // _STEP) * _STEP
    new = mx.zeros((*like.shape[:2], length - (end - begin), like.shape[3]), like.dtype)
    return new if end == begin else mx.concatenate([old[..., begin:end, :], new], axis=2)


class Caches:
    """All caches of one model, rewound together."""

    def __init__(self, make: Callable[[], Sequence[Any]], *, spare: int = SPARE, bits: int = 0) -> None:
        """`make` makes mlx-lm's caches. `bits` is the precision of the attention caches; 0 for full."""
        self._make = make
        self.spare = spare
        self._bits = bits
        self._kept = 0
        self._states: list[list[Any]] = []
        self.clear()

    @property
    def rewinds(self) -> Rewinds:
        """The positions that a rewind reaches without running tokens again."""
        return "round" if self.unknown or any(map(_is_lost, self._leaves)) else "anywhere"

    @property
    def drops_from(self) -> int:
        """Number of tokens from which a window may have dropped the first ones; 0 for never."""
        lost = [leaf for leaf in self._leaves if _is_lost(leaf)]
        windows = [leaf.window + leaf.spare for leaf in lost if isinstance(leaf, WindowCache)]
        chunks = [leaf.chunk_size for leaf in lost if isinstance(leaf, ChunkedKVCache)]
        return max(windows + chunks, default=0)

    def state_bytes(self) -> int:
        """Return the bytes of a copy of states and windows; 0 if a rewind loses nothing."""
        return 0 if self.unknown else sum(map(_state_bytes, self._leaves))

    def save(self) -> list[Any]:
        """Return a copy of states and windows. All other entries stay in place."""
        saved = [_saved(leaf) for leaf in self._leaves]
        mx.eval(saved)  # an array that is only noted keeps larger arrays alive
        return saved

    def restore(self, saved: list[Any], length: int) -> bool:
        """Restore a copy made at `length` tokens, and rewind all other entries to that length."""
        for leaf, each in zip(self._leaves, saved, strict=True):
            _put_back(leaf, each, length)
        self._kept, self._states = 0, []
        return True

    def reaches(self, length: int) -> int:
        """Return how many tokens `cut(length)` would leave. Changes nothing."""
        left = length if not self._recurrent else self._kept if self._kept <= length else 0
        return 0 if self.unknown or not all(_reaches(leaf, left) for leaf in self._leaves) else left

    def content(self, length: int, back: int, most: int) -> Content | None:
        """Return all that the caches hold, as bytes; None for an unknown kind. Raises `MemoryError`."""
        if self.unknown:
            return None
        if sum(int(leaf.nbytes) for leaf in self._leaves) > most:
            raise MemoryError
        windows = [leaf.window for leaf in self._leaves if isinstance(leaf, WindowCache)]
        chunks = [leaf.chunk_size for leaf in self._leaves if isinstance(leaf, ChunkedKVCache)]
        fixed = self._recurrent or any(each <= length for each in windows + chunks)
        return Content(memoryview(packed(list(map(_whole, self._leaves)))), length if fixed else 0)

    def fill(self, content: Any, length: int) -> bool:
        """Replace all caches by those of `length` tokens whose content this is."""
        self.clear()
        try:
            for leaf, each in zip(self._leaves, unpacked(content), strict=True):
                if isinstance(leaf, WindowCache) and each is not None:
                    leaf.restore(each, length)
                else:
                    fill(leaf, each, length)
            mx.eval(self.state)
        except (ValueError, TypeError, RuntimeError):  # of MLX, which may lack memory
            return False
        return True

    pack, unpack = staticmethod(packed), staticmethod(unpacked)

    @property
    def unknown(self) -> str:
        """Name of the first kind of cache that cannot be rewound; empty if there is none."""
        return next((type(leaf).__name__ for leaf in self._leaves if type(leaf) not in _KNOWN), "")

    @property
    def state(self) -> list[Any]:
        """Every array, for `mx.eval`."""
        return [leaf.state for leaf in self._leaves]

    def clear(self) -> None:
        """Start with empty caches."""
        self._kept, self._states = 0, []
        self.all = [self._own(each) for each in self._make()]
        self._leaves = list(leaves(self.all))
        self._spread_beginnings()
        self._recurrent = [leaf for leaf in self._leaves if isinstance(leaf, ArraysCache)]

    def spare_all(self, capacity: int, most: int) -> None:
        """Let windows keep all entries if that takes at most `most` bytes. The caches must hold a token."""
        windows = [leaf for leaf in self._leaves if isinstance(leaf, WindowCache)]
        token = sum(leaf.nbytes // leaf.keys.shape[2] for leaf in windows if leaf.keys is not None)
        if windows and token * capacity <= most:
            self.spare = capacity
        self.clear()

    def keep(self, length: int) -> None:
        """Prepare for a `cut` to `length`, the present number of tokens, or to slightly more."""
        if self._recurrent:
            self._kept = length
            self._states = [[_same(array) for array in leaf.cache] for leaf in self._recurrent]

    def cut(self, length: int) -> int:
        """Rewind to the first `length` tokens, or fewer. Return the tokens left; 0 means: clear it.

        Raises `ModelError` for an unknown kind of cache.
        """
        if length and self.unknown:
            raise ModelError(f"this model's cache cannot be cut back ({self.unknown})")
        if not (left := self.reaches(length)):
            return 0
        for leaf in self._leaves:
            _cut(leaf, left)
        for leaf, states in zip(self._recurrent, self._states, strict=True):
            leaf.cache = [_same(array) for array in states]
        return left

    def _spread_beginnings(self) -> None:
        """Choose the layers at which MLX begins; not the first ones, where almost nothing is noted yet."""
        due = 1
        for place, leaf in enumerate(self._leaves):
            if place >= due and isinstance(leaf, PlainCache | WindowCache | EightBits):
                leaf.begins = True
                due = place + _APART

    def _own(self, cache: Any) -> Any:
        """Return our replacement for one of mlx-lm's caches."""
        if type(cache) is CacheList:
            return CacheList(*(self._own(each) for each in cache.caches))
        if type(cache) is RotatingKVCache and not cache.keep:
            return WindowCache(cache.max_size, self.spare)
        if type(cache) is KVCache:
            return EightBits(self._bits) if self._bits else PlainCache()
        return cache


class EightBits(QuantizedKVCache):  # type: ignore[misc]
    """A quantized cache whose groups fit the heads of the model."""

    begins = False
    group_size: int

    def __init__(self, bits: int) -> None:
        super().__init__(group_size=0, bits=bits)

    def update_and_fetch(self, keys: Any, values: Any) -> Any:
        _begin(self, keys)
        if not self.group_size:
            widths = keys.shape[-1], values.shape[-1]
            fitting = [group for group in _GROUPS if not any(width % group for width in widths)]
            if not fitting:
                raise ModelError(
                    f"heads of {max(widths)} numbers do not fit a KV cache of 8 bits",
                    "Load with a KV cache of 16 bits.",
                )
            self.group_size = fitting[0]
        return super().update_and_fetch(keys, values)


_KNOWN = (PlainCache, QuantizedKVCache, EightBits, WindowCache, ChunkedKVCache, ArraysCache)


def _begin(cache: PlainCache | WindowCache | EightBits, keys: Any) -> None:
    """Let MLX compute up to `keys` while the rest is still being noted."""
    if cache.begins and keys.shape[2] <= _FEW:
        mx.async_eval(keys)


def leaves(caches: Sequence[Any]) -> Iterator[Any]:
    for cache in caches:
        if type(cache) is CacheList:
            yield from leaves(cache.caches)
        else:
            yield cache


def _same(array: Any) -> Any:
    """Return a second name for an array. Writing into the first in place does not change it."""
    return None if array is None else array[...]


def _reaches(leaf: Any, length: int) -> bool:
    """Return whether a cache still holds all that the token after the first `length` sees."""
    if isinstance(leaf, WindowCache):
        return leaf.reaches(length)
    if isinstance(leaf, ChunkedKVCache):
        return bool(leaf.start_position <= length // leaf.chunk_size * leaf.chunk_size)
    return True


def _is_lost(leaf: Any) -> bool:
    """Return whether a rewind may lose the end of the cache."""
    bounded = isinstance(leaf, WindowCache) and leaf.spare <= SPARE
    return bounded or isinstance(leaf, ArraysCache | ChunkedKVCache)


def _whole(leaf: Any) -> Any:
    """Return all that a cache holds; of a window, the entries that the next token sees."""
    return leaf.save() if isinstance(leaf, WindowCache) and leaf.keys is not None else content_of(leaf)


def _state_bytes(leaf: Any) -> int:
    if not _is_lost(leaf):
        return 0
    if isinstance(leaf, ArraysCache):
        return sum(array.nbytes for array in leaf.cache if array is not None)
    if leaf.keys is None:
        return 0
    entries = leaf.size() if isinstance(leaf, WindowCache) else leaf.offset - leaf.start_position
    return int(leaf.nbytes) // int(leaf.keys.shape[2]) * int(entries)


def _saved(leaf: Any) -> Any:
    """Return a copy of the part of `leaf` that a rewind would lose."""
    if not _is_lost(leaf):
        return ()
    if isinstance(leaf, WindowCache):
        return leaf.save()
    if isinstance(leaf, ArraysCache):
        return [_same(array) for array in leaf.cache]
    return leaf.start_position, *map(mx.contiguous, leaf.keys_and_values())


def _put_back(leaf: Any, saved: Any, length: int) -> None:
    if not _is_lost(leaf):
        _cut(leaf, length)
    elif isinstance(leaf, WindowCache):
        leaf.restore(saved, length)
    elif isinstance(leaf, ArraysCache):
        leaf.cache = [_same(array) for array in saved]
    else:
        leaf.start_position, keys, values = saved
        leaf.keys, leaf.values, leaf.offset = _same(keys), _same(values), length


def _cut(leaf: Any, length: int) -> None:
    if isinstance(leaf, WindowCache):
        leaf.cut(length)
    elif not isinstance(leaf, ArraysCache) and leaf.offset > length:
        leaf.trim(leaf.offset - length)
