"""The vocabulary of a loaded GGUF: tokens to bytes, text to tokens, and a comparison of two vocabularies.

The caller joins the bytes to UTF-8 text, because a token may hold half a character.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterable
from itertools import repeat
from typing import Any

from ...library.special import end_tokens, is_structure
from ...library.token_texts import Tokens
from .. import ModelError

_UNKNOWN, _UNUSED, _CONTROL, _USER_DEFINED = 1, 2, 8, 16
"""LLAMA_TOKEN_ATTR_..."""
_NO_TEXT = _UNKNOWN | _UNUSED | _CONTROL
_SHALLOW = 2_000
_DEEP_STACK = 1 << 30
_LONGEST = 2 << 20
"""Most bytes of text, which the deep stack is known to hold."""


class LlamaVocabulary:
    """Implements `backends.Vocabulary`. Valid while its model is loaded."""

    def __init__(self, library: Any, model: int) -> None:
        self._library = library
        self.handle = library.llama_model_get_vocab(model)
        self.size: int = library.llama_vocab_n_tokens(self.handle)
        self._bos: int = library.llama_vocab_bos(self.handle)
        self.bos_text = self._text(self._bos).decode("utf-8", "replace")
        self.eos_text = self._text(library.llama_vocab_eos(self.handle)).decode("utf-8", "replace")
        self.chat_template = _metadata(library, model, b"tokenizer.chat_template")
        ends = self._of_all(library.llama_vocab_is_eog)
        named = (token for token, ends_answer in enumerate(ends) if ends_answer)
        self.end_tokens = end_tokens(named, (self.bos_text, self.eos_text), self._token)
        kinds = list(self._of_all(library.llama_vocab_get_attr))
        controls = {token for token, kind in enumerate(kinds) if kind & (_CONTROL | _UNKNOWN)}
        # The library makes this a control token even if it is HTML.
        self.control_tokens = frozenset(controls - ({self._token("</s>")} - self.end_tokens))
        self.control_texts = tuple(self._of_no_text(kinds))
        self._pieces: dict[int, bytes] = {}

    def encode(self, text: str) -> list[int]:
        """Return the tokens of `text`, control tokens included, no BOS. Raises `ModelError` past 2 MiB."""
        data = text.encode("utf-8", "replace")
        if len(data) > _LONGEST:
            raise ModelError("the text is too long", f"Shorten it to {_LONGEST >> 20} MiB or less.")
        if len(data) <= _SHALLOW:
            return self._tokens(data)
        return _on_deep_stack(lambda: self._tokens(data))

    def encode_start(self) -> list[int]:
        """Return [BOS] if the model needs it, else nothing."""
        wanted = self._library.llama_vocab_get_add_bos(self.handle) and 0 <= self._bos < self.size
        return [self._bos] if wanted else []

    def piece(self, token: int) -> bytes:
        """Return a token's bytes; for a control token its name. Raises IndexError for an unknown token."""
        try:
            return self._pieces[token]
        except KeyError:
            self._pieces[token] = piece = self._read_piece(token)
            return piece

    def words(self) -> Tokens:
        """Return the tokens by which two vocabularies are compared.

        Control tokens, unused tokens, kinds and end tokens do not count: models of one family differ in them,
        and an answer uses those of its main model.
        """
        kinds = self._of_all(self._library.llama_vocab_get_attr)
        texts = self._of_all(self._library.llama_vocab_get_text)
        both = enumerate(zip(kinds, texts, strict=True))
        return {token: text for token, (kind, text) in both if not kind & _NO_TEXT}

    def _of_no_text(self, kinds: Iterable[int]) -> Iterable[str]:
        """Yield the texts of tokens that form a conversation. Files declare some of them as user-defined."""
        for token, kind in enumerate(kinds):
            if kind & (_CONTROL | _UNKNOWN | _USER_DEFINED):
                text = self._text(token).decode("utf-8", "replace")
                if text and (token in self.control_tokens or is_structure(text, self.chat_template)):
                    yield text

    def _token(self, text: str) -> int | None:
        tokens = self.encode(text)
        return tokens[0] if len(tokens) == 1 else None

    def _of_all(self, function: Any) -> Any:
        """Return `function(vocabulary, token)` for every token, without a Python frame for each."""
        return map(function, repeat(self.handle), range(self.size))

    def _text(self, token: int) -> bytes:
        """Return a token as its file spells it; empty for an invalid id, such as a missing BOS."""
        text = self._library.llama_vocab_get_text(self.handle, token) if 0 <= token < self.size else b""
        return bytes(text or b"")

    def _tokens(self, data: bytes) -> list[int]:
        room = len(data) + 16
        while True:
            buffer = (ctypes.c_int32 * room)()
            found = self._library.llama_tokenize(self.handle, data, len(data), buffer, room, False, True)
            if found >= 0:
                return buffer[:found]
            room = -found

    def _read_piece(self, token: int) -> bytes:
        if not 0 <= token < self.size:
            raise IndexError(f"token {token} is not in a vocabulary of {self.size}")
        room = 256
        while True:
            buffer = ctypes.create_string_buffer(room)
            length = self._library.llama_token_to_piece(self.handle, token, buffer, room, 0, True)
            if length >= 0:
                return buffer.raw[:length]
            room = -length


def _metadata(library: Any, model: int, key: bytes) -> str | None:
    """Return a whole text of the file's metadata."""
    room = 4096
    while True:
        buffer = ctypes.create_string_buffer(room)
        length = library.llama_model_meta_val_str(model, key, buffer, room)
        if length < 0:
            return None
        if length < room:
            return buffer.raw[:length].decode("utf-8", "replace")
        room = length + 1


def _on_deep_stack(call: Callable[[], list[int]]) -> list[int]:
    """Run `call` on a deep stack: llama.cpp's std::regex recurses at least once for every character."""
    result: list[int] = []
    previous = threading.stack_size(_DEEP_STACK)
    try:
        thread = threading.Thread(target=lambda: result.extend(call()), name="tokenize")
        thread.start()
    except RuntimeError:
        raise ModelError("there is no memory to read a text this long", "Shorten the text.") from None
    finally:
        threading.stack_size(previous)
    thread.join()
    return result
