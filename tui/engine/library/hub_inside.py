"""Looks into the header of a GGUF file on the hub: has the model its head inside?

Only the tensors in the header tell that (see `heads`). A header with a large vocabulary has some 10 MB. So
the beginning of the file is read first, and the rest of the header only if the beginning claims a head.
Nothing is written, and a name decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import accumulate
from typing import Any

from .gguf import BadModelFile, Contents, GgufReader
from .heads import usable_heads
from .hub import SECONDS, RemoteFile, listing
from .hub_access import HubToken, asked

_CLAIM = b".nextn_predict_layers"
"""The end of the key that claims a head."""
_BEGINNING, _MOST = 256 << 10, 48 << 20
"""Bytes: converters write the key into the first of them; no header that is read further has more."""
_TRIES = tuple(accumulate((_BEGINNING, 1 << 20, 3 << 20, 6 << 20, 12 << 20, 24 << 20)))
"""Bytes after which the header may be whole."""


def has_head_inside(repository: str, choice: str) -> bool:
    """Return whether a GGUF file, or a model in several, has a head that can draft for it. Raises `HubError`.

    `choice` is a `HubFile.name`.
    """
    files = listing(repository).parts(choice)
    first, last = files[-1], files[0]  # they come in the order of their download
    found = asked(lambda token: _header(first, token), repository)
    if found is None:
        return False
    names = {each.name for each in found.tensors}
    if last is not first:  # the head is the last block, so it is in the last file
        rest = asked(lambda token: _header(last, token, claims=False), repository)
        names |= {each.name for each in rest.tensors} if rest else set()
    architecture, blocks, heads = _claimed(found)
    return usable_heads(architecture, blocks, heads, names) > 0


def _claimed(found: Contents) -> tuple[str, int, int]:
    """Return the architecture, the number of blocks and the number of heads among them, by the metadata."""
    value = found.values.get("general.architecture", b"")
    architecture = value.decode("utf-8", "replace") if isinstance(value, bytes) else ""
    keys = (f"{architecture}.block_count", f"{architecture}{_CLAIM.decode()}")
    blocks, heads = (each if isinstance(each := found.values.get(key), int) else 0 for key in keys)
    return architecture, blocks, heads


def _header(file: RemoteFile, token: HubToken, *, claims: bool = True) -> Contents | None:
    """Return the header of a file; None if it is none, or too long. `claims` demands the claim of a head."""
    read, tries = bytearray(), iter(_TRIES)
    wanted = min(next(tries), file.size)
    for piece in _pieces(file, token):
        read += piece
        while len(read) >= wanted:
            if claims and _CLAIM not in read[:_BEGINNING]:
                return None
            with suppress(BadModelFile):  # it is cut off here, so far
                return GgufReader(bytes(read), keep=()).contents()
            if wanted == file.size or (more := next(tries, 0)) == 0:
                return None
            wanted = min(more, file.size)
    return None


def _pieces(file: RemoteFile, token: HubToken) -> Iterator[bytes]:
    """Yield the beginning of a file in pieces."""
    from huggingface_hub import get_session
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    headers = {**build_hf_headers(token=token.sent), "Accept-Encoding": "identity"}
    headers["Range"] = f"bytes=0-{min(_MOST, file.size) - 1}"
    session: Any = get_session()
    with session.stream("GET", file.url, headers=headers, timeout=SECONDS, follow_redirects=True) as response:
        response.raise_for_status()
        yield from response.iter_bytes()
