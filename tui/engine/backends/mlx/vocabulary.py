"""The vocabulary of an MLX folder: tokens to bytes, text to tokens, and a comparison of two vocabularies.

The `tokenizers` library reads tokenizer.json and runs no code of a folder. transformers is not used, because
it may. The caller joins the bytes to UTF-8 text, because a token may hold half a character.

The tokenizer takes seconds for a text of some megabytes, and nothing can stop it. So a long text is encoded
on a thread of its own, without the lock of the interpreter, and the caller asks meanwhile whether the tokens
are still wanted. If not, the thread ends later and its tokens are dropped. The text is never cut, so the
tokens are those of the whole text.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from functools import cached_property
from hashlib import blake2b
from typing import Any

from ....protocol.spans import any_of
from ...library.mlx_folder import TOKENIZER, Folder
from ...library.special import end_tokens, is_structure
from ...library.token_texts import Tokens
from .. import Asker, GivenUp, ModelError
from .tokenizer_file import open_tokenizer

_LONGEST = 2 << 20
"""Most bytes of a text, as with llama.cpp."""
_SHORT = 20_000
"""Characters. A shorter text is encoded at once, in about a hundredth of a second."""
_POLL = 0.05
"""Seconds between two questions whether the tokens of a long text are still wanted."""
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "▁"
_LOADS = "Choose another model, or download this one again."


class Encoder:
    """Encodes texts with one tokenizer, one text after the other."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._busy = threading.Lock()

    @cached_property
    def texts(self) -> dict[int, str]:
        """The text of every token, as the file spells it."""
        return {number: text for text, number in self.tokenizer.get_vocab().items()}

    def encode(self, text: str, asker: Asker, *, ordinary: bool = False) -> list[int]:
        """Return the tokens of `text`. If it is `ordinary`, the name of a control token is a usual text.

        Raises `GivenUp` if the tokens of a long text are no longer wanted, and the errors of the tokenizer.
        """
        found = Future[list[int]]()

        def work() -> None:
            try:
                found.set_result(self._encoded(text, ordinary))
            except BaseException as error:  # a foreign library: its panic is no `Exception`
                found.set_exception(error)

        if len(text) < _SHORT and not self._busy.locked():
            work()
        else:
            threading.Thread(target=work, name="tokenizer", daemon=True).start()
        while True:
            try:
                return found.result(_POLL)
            except TimeoutError:
                asker.ask(0.0)

    def _encoded(self, text: str, ordinary: bool) -> list[int]:
        with self._busy:  # the setting belongs to the whole tokenizer
            self.tokenizer.encode_special_tokens = ordinary
            # `encode` would keep the lock of the interpreter.
            return list(self.tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids)


class MlxVocabulary:
    """Implements `backends.Vocabulary`."""

    def __init__(self, folder: Folder, size: int, encoder: Encoder | None = None) -> None:
        """`size` is the number of scores of the model; the tokens may be fewer. `encoder` is that of `folder`
        if it is open already. Raises `ModelError`.
        """
        self.size = size
        self.asker = Asker()
        self._encoder = encoder or Tokenizers().open(folder)
        self._tokenizer = self._encoder.tokenizer
        self._texts = self._encoder.texts
        added = self._tokenizer.get_added_tokens_decoder()
        self._added: dict[int, str] = {number: token.content for number, token in added.items()}
        self.chat_template = folder.chat_template
        self.control_tokens = frozenset(number for number, token in added.items() if token.special)
        self._structure = {
            number: text
            for number, text in self._added.items()
            if text and (number in self.control_tokens or is_structure(text, self.chat_template))
        }
        """Tokens that form a conversation. Files declare some of them as ordinary."""
        self.control_texts = tuple(self._structure.values())
        self._spelled = any_of(self.control_texts)
        self.bos_text = self._named(folder.tokenizer, "bos_token")
        self.eos_text = self._named(folder.tokenizer, "eos_token")
        self.end_tokens = end_tokens(
            self._ends(folder), (self.bos_text, self.eos_text), self._tokenizer.token_to_id
        )
        self._start = self._first_tokens(folder.tokenizer)
        self._spelling = _spelling(self._tokenizer)
        self._pieces: dict[int, bytes] = {}

    def encode(self, text: str) -> list[int]:
        """Return the tokens of `text`, control tokens included, no BOS.

        Raises `ModelError` past 2 MiB, and `GivenUp`.
        """
        text = text.encode("utf-8", "replace").decode()
        if len(text.encode()) > _LONGEST:
            raise ModelError("the text is too long", f"Shorten it to {_LONGEST >> 20} MiB or less.")
        tokens = self._encoded(text)
        # A rule that changes text before it is cut up, such as one for wide letters, must not spell a token.
        if sum(token in self._structure for token in tokens) > len(self._spelled.findall(text)):
            tokens = [token for part in _split(self._spelled, text) for token in self._one_kind(part)]
        return tokens

    def encode_start(self) -> list[int]:
        """Return [BOS] if the model needs it, else nothing."""
        return list(self._start)

    def piece(self, token: int) -> bytes:
        """Return the bytes of a token; for a control token its name, for an unused id nothing.

        Raises IndexError beyond the scores of the model.
        """
        try:
            return self._pieces[token]
        except KeyError:
            if not 0 <= token < self.size:
                raise IndexError(f"token {token} is not in a vocabulary of {self.size}") from None
            self._pieces[token] = piece = self._read_piece(token)
            return piece

    def shares_file(self, other: MlxVocabulary) -> bool:
        """Return whether both vocabularies come from equal files, so that their words need no comparison."""
        return self._encoder is other._encoder

    def words(self) -> Tokens:
        """Return the tokens by which two vocabularies are compared. Control tokens do not count."""
        return {
            number: text.encode("utf-8", "surrogatepass")
            for number, text in self._texts.items()
            if number not in self.control_tokens
        }

    def _encoded(self, text: str, *, ordinary: bool = False) -> list[int]:
        return list(_guarded(lambda: self._encoder.encode(text, self.asker, ordinary=ordinary)))

    def _one_kind(self, part: str) -> list[int]:
        """Return the tokens of a control token's text, or of a text without control tokens."""
        if self._spelled.fullmatch(part):
            return [number for number, text in self._added.items() if text == part][:1]
        return [token for token in self._encoded(part, ordinary=True) if token not in self._structure]

    def _named(self, settings: Mapping[str, Any], key: str) -> str:
        """Return the text of a token in the settings, which give either its text or its properties."""
        value = settings.get(key)
        text = value.get("content") if isinstance(value, dict) else value
        return text if isinstance(text, str) else ""

    def _ends(self, folder: Folder) -> Iterable[int]:
        """Yield every token that the settings name as an end."""
        inner = folder.config.get("text_config")
        for settings in (folder.generation, folder.config, inner if isinstance(inner, dict) else {}):
            given = settings.get("eos_token_id")
            for number in given if isinstance(given, list) else [given]:
                if type(number) is int and 0 <= number < self.size:
                    yield number
        number = self._tokenizer.token_to_id(self.eos_text) if self.eos_text else None
        if number is not None:
            yield number

    def _first_tokens(self, settings: Mapping[str, Any]) -> list[int]:
        """Return the tokens that the tokenizer puts before every text, unless the settings forbid it."""
        bare = self._encoded("a")
        whole = _guarded(lambda: list(self._tokenizer.encode("a").ids))
        length = next((i for i in range(len(whole)) if whole[i : i + len(bare)] == bare), 0)
        wanted = settings.get("add_bos_token")
        bos = self._tokenizer.token_to_id(self.bos_text) if self.bos_text else None
        if wanted is True and not length and bos is not None:
            return [bos]
        return [] if wanted is False else whole[:length]

    def _read_piece(self, token: int) -> bytes:
        if token not in self._texts:
            return b""
        if token in self._added:
            return self._added[token].encode()
        text = self._texts[token]
        if self._spelling == "bytes":
            return b"".join(bytes([_BYTES[c]]) if c in _BYTES else c.encode() for c in text)
        if self._spelling == "pieces":
            byte = _BYTE.fullmatch(text)
            return bytes([int(byte[1], 16)]) if byte else text.replace(_SPACE, " ").encode()
        return self._shown_behind(token).encode()

    def _shown_behind(self, token: int) -> str:
        """Return the decoder's text for `token` after another token. Alone, some tokens lose their space."""
        anchor = next((each for each in self._texts if each not in self._added), token)
        before = _guarded(lambda: self._tokenizer.decode([anchor], skip_special_tokens=False))
        both = _guarded(lambda: self._tokenizer.decode([anchor, token], skip_special_tokens=False))
        if both.startswith(before):
            return str(both[len(before) :])
        return str(_guarded(lambda: self._tokenizer.decode([token], skip_special_tokens=False)))


class Tokenizers:
    """Opens tokenizers, and the last one only once: a draft mostly has the file of its main model."""

    def __init__(self) -> None:
        self._last: tuple[bytes, Encoder | None] = (b"", None)

    def open(self, folder: Folder, ask: Callable[[], object] = lambda: None) -> Encoder:
        """Return the tokenizer of a folder as an encoder. Raises `ModelError`.

        `ask` is called between the steps of opening a large file, and may raise `GivenUp`.
        """
        data = (folder.path / TOKENIZER).read_bytes()
        digest, (known, encoder) = blake2b(data).digest(), self._last
        if encoder is None or known != digest:
            tokenizer = _guarded(lambda: open_tokenizer(data, ask))
            # A file may tell the tokenizer to cut or to pad a text.
            tokenizer.no_truncation()
            tokenizer.no_padding()
            encoder = Encoder(tokenizer)
            self._last = digest, encoder
        return encoder


def _guarded(call: Any) -> Any:
    """Return the result of `call`. Every failure becomes a `ModelError`, also a panic of the library."""
    try:
        return call()
    except BaseException as error:  # a panic of the library is no `Exception`
        if isinstance(error, GivenUp | KeyboardInterrupt | SystemExit | GeneratorExit):
            raise
        reason = " ".join(str(error).split())[:160]
        raise ModelError(f"tokenizer.json cannot be used: {reason}", _LOADS) from None


def _split(pattern: re.Pattern[str], text: str) -> Iterable[str]:
    """Yield the parts of `text` that match, and the parts between them."""
    at = 0
    for match in pattern.finditer(text):
        yield from filter(None, (text[at : match.start()], match[0]))
        at = match.end()
    if text[at:]:
        yield text[at:]


def _spelling(tokenizer: Any) -> str:
    """Return how tokens stand for bytes: "bytes" by a letter each, "pieces" of SentencePiece, or neither."""
    if tokenizer.decoder is None:
        return ""
    decoder = json.loads(tokenizer.decoder.__getstate__())
    parts = decoder["decoders"] if decoder["type"] == "Sequence" else [decoder]
    kinds = {part["type"] for part in parts}
    if "ByteLevel" in kinds:
        return "bytes"
    spaces = any(part.get("pattern") == {"String": _SPACE} and part.get("content") == " " for part in parts)
    return "pieces" if "Metaspace" in kinds or spaces else ""


def _byte_letters() -> dict[str, int]:
    """Return GPT-2's letter for each byte: printable ones stand for themselves, the others for 256 and up."""
    shown = {*range(33, 127), *range(161, 173), *range(174, 256)}
    letters = {chr(byte): byte for byte in shown}
    hidden = [byte for byte in range(256) if byte not in shown]
    return letters | {chr(256 + place): byte for place, byte in enumerate(hidden)}


_BYTES = _byte_letters()
