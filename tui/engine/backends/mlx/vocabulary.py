"""The vocabulary of an MLX folder: tokens to bytes, text to tokens, and a comparison of two vocabularies.

The `tokenizers` library reads tokenizer.json and runs no code of a folder. transformers is not used, because
it may. The caller joins the bytes to UTF-8 text, because a token may hold half a character.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from typing import Any

from tokenizers import Tokenizer

from ....protocol.spans import any_of
from ...library.mlx_folder import TOKENIZER, Folder
from ...library.special import end_tokens, is_structure
from ...library.token_texts import Tokens
from .. import ModelError

_LONGEST = 2 << 20
"""Most bytes of a text, as with llama.cpp."""
OpenTokenizer = Callable[[Folder], Any]
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "▁"
_LOADS = "Choose another model, or download this one again."


class MlxVocabulary:
    """Implements `backends.Vocabulary`."""

    def __init__(self, folder: Folder, size: int, open_one: OpenTokenizer | None = None) -> None:
        """`size` is the number of scores of the model; the tokens may be fewer. Raises `ModelError`."""
        self.size = size
        self._tokenizer = (open_one or Tokenizers().open)(folder)
        self._texts: dict[int, str] = {number: text for text, number in self._tokenizer.get_vocab().items()}
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
        """Return the tokens of `text`, control tokens included, no BOS. Raises `ModelError` past 2 MiB."""
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

    def words(self) -> Tokens:
        """Return the tokens by which two vocabularies are compared. Control tokens do not count."""
        return {
            number: text.encode("utf-8", "surrogatepass")
            for number, text in self._texts.items()
            if number not in self.control_tokens
        }

    def _encoded(self, text: str) -> list[int]:
        return list(_guarded(lambda: self._tokenizer.encode(text, add_special_tokens=False).ids))

    def _one_kind(self, part: str) -> list[int]:
        """Return the tokens of a control token's text, or of a text without control tokens."""
        if self._spelled.fullmatch(part):
            return [number for number, text in self._added.items() if text == part][:1]
        self._tokenizer.encode_special_tokens = True
        try:
            return [token for token in self._encoded(part) if token not in self._structure]
        finally:
            self._tokenizer.encode_special_tokens = False

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
    """Opens tokenizers, and the last one only once: a draft mostly has the file of its main model.

    A large file takes seconds, in which nothing else can run.
    """

    def __init__(self) -> None:
        self._last: tuple[bytes, Any] = (b"", None)

    def open(self, folder: Folder) -> Any:
        """Return the tokenizer of a folder. Raises `ModelError`."""
        data = (folder.path / TOKENIZER).read_bytes()
        digest = blake2b(data).digest()
        if self._last[0] != digest:
            tokenizer = _guarded(lambda: Tokenizer.from_buffer(data))
            # A file may tell the tokenizer to cut or to pad a text.
            tokenizer.no_truncation()
            tokenizer.no_padding()
            self._last = digest, tokenizer
        return self._last[1]


def _guarded(call: Any) -> Any:
    """Return the result of `call`. Every failure becomes a `ModelError`, also a panic of the library."""
    try:
        return call()
    except BaseException as error:  # a panic of the library is no `Exception`
        if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
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
