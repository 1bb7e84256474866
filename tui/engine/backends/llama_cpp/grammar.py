"""A grammar as a constraint: which tokens may follow an answer, by llama.cpp's own grammar sampler.

The sampler only ever moves forwards, and ends the process when it is given a token that it does not allow.
So every token is tried before it is given, and two states are kept: one that follows every token that is
asked about, drafted ones too, and one behind it that starts the next when a draft was refused. A text that
can be read in very many ways may take it for ever, and `gbnf` cannot foresee that: then the process ends
here, with a line that says why. This module reads no grammar and chooses no token.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import weakref
from codecs import utf_8_decode
from collections.abc import Callable, Sequence
from time import monotonic, sleep
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import ModelError
from . import gbnf
from .vocabulary import LlamaVocabulary

_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
"""llama_token_data"""
PATIENCE = 30.0
"""Seconds that a native call may take."""


class GrammarConstraint:
    """Implements `sampling.Constraint`. Frees its native states when it is collected."""

    def __init__(self, library: Any, vocabulary: LlamaVocabulary, grammar: str) -> None:
        """Raises `ModelError` for a GBNF grammar that cannot be used."""
        gbnf.check(grammar)
        start = library.llama_sampler_init_grammar(vocabulary.handle, grammar.encode(), b"root")
        if not start:
            raise ModelError("llama.cpp cannot read the grammar", "Change the grammar.")
        self._start = _State(library, start, vocabulary, _Watch())
        self._kept = self._start.copy()
        self._latest = self._start.copy()

    def allowed(self, answer: Sequence[int], ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of the tokens `ids` may follow the tokens of `answer`."""
        return self._state(list(answer)).allowed(ids)

    def _state(self, answer: list[int]) -> _State:
        """The state behind `answer`: the latest one moved on, or made anew where that has gone elsewhere."""
        if not self._latest.is_before(answer):
            if not self._kept.is_before(answer):
                self._kept = self._start.copy()
            self._kept.follow(answer)
            self._latest = self._kept.copy()
        self._latest.follow(answer)
        return self._latest


class _State:
    """A native grammar sampler behind some tokens."""

    def __init__(self, library: Any, handle: Any, vocabulary: LlamaVocabulary, watch: _Watch) -> None:
        """Takes over `handle`, a sampler that was given no token yet."""
        self._library = library
        self._handle = handle
        self._vocabulary = vocabulary
        self._watch = watch
        self._tokens: list[int] = []
        self._unfinished = b""
        """The bytes of a character that the last tokens have begun."""
        self._dead = False
        """Whether a token was not allowed; behind it everything is."""
        weakref.finalize(self, library.llama_sampler_free, handle)

    def copy(self) -> _State:
        with self._watch:
            handle = self._library.llama_sampler_clone(self._handle)
        copy = _State(self._library, handle, self._vocabulary, self._watch)
        copy._tokens = self._tokens.copy()
        copy._unfinished = self._unfinished
        copy._dead = self._dead
        return copy

    def is_before(self, answer: list[int]) -> bool:
        """Whether `answer` begins with the tokens that lie behind this state."""
        return answer[: len(self._tokens)] == self._tokens

    def follow(self, answer: list[int]) -> None:
        """Move on to the end of `answer`, which begins with the tokens so far."""
        for token in answer[len(self._tokens) :]:
            if not self._dead:
                self._give(token)
            self._tokens.append(token)

    def allowed(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        if self._dead:
            return np.ones(ids.size, np.bool_)
        found = self._admitted(ids)
        for place in found.nonzero()[0]:
            token = int(ids[place])
            found[place] = not self._unfinished if self._is_end(token) else self._rest(token) is not None
        return found

    def _give(self, token: int) -> None:
        rest = None if self._is_end(token) else self._rest(token)
        if rest is None or not self._admitted(np.array([token]))[0]:
            self._dead = True
            return
        with self._watch:
            self._library.llama_sampler_accept(self._handle, token)
        self._unfinished = rest

    def _admitted(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """What the native sampler says."""
        candidates = np.zeros(ids.size, _CANDIDATE)
        candidates["id"] = ids
        pointer = candidates.ctypes.data_as(ctypes.POINTER(self._library.llama_token_data))
        row = self._library.llama_token_data_array(pointer, ids.size, -1, False)
        with self._watch:
            self._library.llama_sampler_apply(self._handle, ctypes.byref(row))
        admitted: NDArray[np.bool_] = candidates["logit"] == 0
        return admitted

    def _is_end(self, token: int) -> bool:
        return token in self._vocabulary.end_tokens

    def _rest(self, token: int) -> bytes | None:
        """The bytes of a character that are left unfinished behind `token`; None if it adds no proper text.

        The native sampler counts the names of control tokens as text, and reads bytes that are not UTF-8.
        """
        if token in self._vocabulary.control_tokens:
            return None
        piece = self._vocabulary.piece(token)
        if not piece or 0 in piece:
            return None
        if piece.isascii() and not self._unfinished:
            return b""
        data = self._unfinished + piece
        try:
            return data[utf_8_decode(data, "strict", False)[1] :]
        except UnicodeDecodeError:
            return None


class _Watch:
    """Ends the process if what runs within it does not come back: a native call cannot be broken off."""

    def __init__(self) -> None:
        self.began: float | None = None
        threading.Thread(target=_patrol, args=(weakref.ref(self),), name="grammar", daemon=True).start()

    def __enter__(self) -> None:
        self.began = monotonic()

    def __exit__(self, *_: object) -> None:
        self.began = None


def _patrol(found: Callable[[], _Watch | None]) -> None:
    """Look at a watch now and then, until it is gone."""
    while (watch := found()) is not None:
        began = watch.began
        if began is not None and monotonic() - began > PATIENCE:
            print("the grammar can be read in too many ways; make it simpler", file=sys.stderr, flush=True)
            os._exit(1)
        del watch
        sleep(min(1.0, PATIENCE))
