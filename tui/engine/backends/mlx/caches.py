"""How each kind of mlx-lm's caches is cut back: attention by entries, recurrent states by copies of them.

mlx-lm cuts a sliding window without a word where its entries are gone, and does not cut a recurrent state.
So windows get a cache of our own, which keeps some entries behind the window and knows when they are too few;
and a state is kept as it was before the tokens that may be refused. A kind that is not known is never cut.
To go further back, a copy of states and windows is put back (`save`, `restore`; see `checkpoints`).

A call only notes what is to be computed, layer by layer, which takes a few per cent of the time that a small
model takes to compute it. Some caches of attention therefore have MLX begin as soon as they are reached.

These classes change the caches and say what is left in them. They run no token: what is missing the caller
runs again.
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

SPARE = 32
"""Entries behind a window that are kept: those of the 17 tokens of a round, and of what it may run again."""
_STEP = 256
_APART = 4
"""Layers from one beginning to the next: each costs some hundredths of a millisecond."""
_FEW = 17
"""Most tokens of a call that is begun early: the noting of a longer one takes no time to speak of."""
_GROUPS = (64, 32)
"""Numbers that share a scale in a cache of 8 bits; the first that fits."""


class PlainCache(KVCache):  # type: ignore[misc]
    """A cache of all entries."""

    begins = False
    """Whether MLX begins when a call gets here."""

    def update_and_fetch(self, keys: Any, values: Any) -> Any:
        _begin(self, keys)
        return super().update_and_fetch(keys, values)


class WindowCache:
    """Stands in for `RotatingKVCache`: the last entries in their order, cut back exactly or not at all."""

    begins = False

    def __init__(self, window: int, spare: int = SPARE) -> None:
        """A token sees `window` entries, its own included. `spare` more are kept."""
        self.window = window
        self.spare = spare
        self.offset = 0
        self.keys: Any = None
        self.values: Any = None
        self._first = 0
        """The position of the first entry that is held."""
        self._shown = slice(0, 0)

    def update_and_fetch(self, keys: Any, values: Any) -> tuple[Any, Any]:
        """Append entries; they, and those before them that the first of them sees."""
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
        """What the last `update_and_fetch` gave, for layers that share a cache."""
        return self.keys[..., self._shown, :], self.values[..., self._shown, :]

    def make_mask(self, N: int, window_size: int | None = None, return_array: bool = False) -> Any:  # noqa: N803
        """Which entries of the next `update_and_fetch` each of `N` tokens sees; None for all."""
        window = min(window_size or self.window, self.window)
        before = min(self.offset, self.window - 1)
        if N == 1:
            return None if before < window else mx.arange(before + 1) > before - window
        if before + N > window or return_array:
            return create_causal_mask(N, before, window_size=window)
        return "causal"

    def reaches(self, length: int) -> bool:
        """Whether it can be cut to `length` and hold all that the next token sees."""
        return self._first <= max(0, length - self.window + 1)

    def cut(self, length: int) -> None:
        self.offset = length

    def save(self) -> tuple[int, Any, Any]:
        """A copy of the entries that the next token sees, behind the position of the first of them."""
        first = max(self._first, self.offset - self.window + 1)
        begin, end = first - self._first, self.offset - self._first
        return first, *(_moved(part, part, begin, end, end - begin) for part in (self.keys, self.values))

    def restore(self, saved: tuple[int, Any, Any], length: int) -> None:
        """Hold the entries of a copy again, the last of them at `length`."""
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
        """Drop what lies too far behind and make space for `keys`. How many entries there will be."""
        held: int = self.offset - self._first
        kept = min(held, self.window - 1 + self.spare)
        end: int = kept + keys.shape[2]
        self.keys = _moved(self.keys, keys, held - kept, held, end)
        self.values = _moved(self.values, values, held - kept, held, end)
        self._first += held - kept
        return end


def _moved(old: Any, like: Any, begin: int, end: int, wanted: int) -> Any:
    """Entries `begin` to `end` of `old`, with space behind them for `wanted` in all."""
    length = -(-(wanted + 1) // _STEP) * _STEP
    new = mx.zeros((*like.shape[:2], length - (end - begin), like.shape[3]), like.dtype)
    return new if end == begin else mx.concatenate([old[..., begin:end, :], new], axis=2)


class Caches:
    """All caches of one model, cut back together."""

    def __init__(self, make: Callable[[], Sequence[Any]], *, spare: int = SPARE, bits: int = 0) -> None:
        """`make` gives the caches as mlx-lm makes them. With `bits`, attention is kept in so many."""
        self._make = make
        self.spare = spare
        self._bits = bits
        self._kept = 0
        self._states: list[list[Any]] = []
        self.clear()

    @property
    def rewinds(self) -> Rewinds:
        """How far back they can be cut without tokens that are run again."""
        return "round" if self.unknown or any(map(_is_lost, self._leaves)) else "anywhere"

    @property
    def drops_from(self) -> int:
        """With so many tokens, a window may have dropped its first ones; 0 for never."""
        lost = [leaf for leaf in self._leaves if _is_lost(leaf)]
        windows = [leaf.window + leaf.spare for leaf in lost if isinstance(leaf, WindowCache)]
        chunks = [leaf.chunk_size for leaf in lost if isinstance(leaf, ChunkedKVCache)]
        return max(windows + chunks, default=0)

    def state_bytes(self) -> int:
        """The size of a copy: of states and windows; 0 if a cut loses nothing."""
        return 0 if self.unknown else sum(map(_state_bytes, self._leaves))

    def save(self) -> list[Any]:
        """A copy of states and windows. All other entries stay where they are."""
        saved = [_saved(leaf) for leaf in self._leaves]
        mx.eval(saved)  # what is only noted holds on to larger arrays
        return saved

    def restore(self, saved: list[Any], length: int) -> bool:
        """Put back a copy that was made at `length` tokens, and cut all other entries to these."""
        for leaf, each in zip(self._leaves, saved, strict=True):
            _put_back(leaf, each, length)
        self._kept, self._states = 0, []
        return True

    def reaches(self, length: int) -> int:
        """How many tokens `cut` to `length` would leave. Changes nothing."""
        left = length if not self._recurrent else self._kept if self._kept <= length else 0
        return 0 if self.unknown or not all(_reaches(leaf, left) for leaf in self._leaves) else left

    @property
    def unknown(self) -> str:
        """The first kind among them that cannot be cut; empty if there is none."""
        return next((type(leaf).__name__ for leaf in self._leaves if type(leaf) not in _KNOWN), "")

    @property
    def state(self) -> list[Any]:
        """Every array, for `mx.eval`."""
        return [leaf.state for leaf in self._leaves]

    def clear(self) -> None:
        """Begin with empty caches."""
        self._kept, self._states = 0, []
        self.all = [self._own(each) for each in self._make()]
        self._leaves = list(_leaves(self.all))
        self._spread_beginnings()
        self._recurrent = [leaf for leaf in self._leaves if isinstance(leaf, ArraysCache)]

    def spare_all(self, capacity: int, most: int) -> None:
        """Let windows keep everything, where that takes at most `most` bytes. The caches hold a token."""
        windows = [leaf for leaf in self._leaves if isinstance(leaf, WindowCache)]
        token = sum(leaf.nbytes // leaf.keys.shape[2] for leaf in windows if leaf.keys is not None)
        if windows and token * capacity <= most:
            self.spare = capacity
        self.clear()

    def keep(self, length: int) -> None:
        """They hold `length` tokens, and `cut` may soon be asked for these and some behind them."""
        if self._recurrent:
            self._kept = length
            self._states = [[_same(array) for array in leaf.cache] for leaf in self._recurrent]

    def cut(self, length: int) -> int:
        """Cut to the first `length` tokens, or fewer. How many are left; all are gone if that is 0.

        Raises `ModelError` for a kind that is not known.
        """
        if self.unknown:
            raise ModelError(f"this model's cache cannot be cut back ({self.unknown})")
        left = self.reaches(length)
        if not left:
            self.clear()
            return 0
        for leaf in self._leaves:
            _cut(leaf, left)
        for leaf, states in zip(self._recurrent, self._states, strict=True):
            leaf.cache = [_same(array) for array in states]
        return left

    def _spread_beginnings(self) -> None:
        """Choose where MLX begins: not at the first layer, where next to nothing is noted yet."""
        due = 1
        for place, leaf in enumerate(self._leaves):
            if place >= due and isinstance(leaf, PlainCache | WindowCache | EightBits):
                leaf.begins = True
                due = place + _APART

    def _own(self, cache: Any) -> Any:
        """What takes the place of one of mlx-lm's caches."""
        if type(cache) is CacheList:
            return CacheList(*(self._own(each) for each in cache.caches))
        if type(cache) is RotatingKVCache and not cache.keep:
            return WindowCache(cache.max_size, self.spare)
        if type(cache) is KVCache:
            return EightBits(self._bits) if self._bits else PlainCache()
        return cache


class EightBits(QuantizedKVCache):  # type: ignore[misc]
    """A quantised cache whose groups fit the heads of the model."""

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
    """Have MLX compute what leads to `keys`, while what follows is still being noted."""
    if cache.begins and keys.shape[2] <= _FEW:
        mx.async_eval(keys)


def _leaves(caches: Sequence[Any]) -> Iterator[Any]:
    for cache in caches:
        if type(cache) is CacheList:
            yield from _leaves(cache.caches)
        else:
            yield cache


def _same(array: Any) -> Any:
    """A second name for an array: writing into the first, in place, leaves it as it is."""
    return None if array is None else array[...]


def _reaches(leaf: Any, length: int) -> bool:
    """Whether a cache still holds all that the token behind the first `length` sees."""
    if isinstance(leaf, WindowCache):
        return leaf.reaches(length)
    if isinstance(leaf, ChunkedKVCache):
        return bool(leaf.start_position <= length // leaf.chunk_size * leaf.chunk_size)
    return True


def _is_lost(leaf: Any) -> bool:
    """Whether a cut may lose the place to go on from."""
    bounded = isinstance(leaf, WindowCache) and leaf.spare <= SPARE
    return bounded or isinstance(leaf, ArraysCache | ChunkedKVCache)


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
    """What a cut of `leaf` would lose."""
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
