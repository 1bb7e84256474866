"""The bytes that one step of a head reads, for the prediction of its speed-up.

A step reads the head's own weights, and an output layer. Where the head has none, it uses that of its main
model. Of a token table it reads one row, which counts as nothing. This module reads headers alone.
"""

from __future__ import annotations

from contextlib import suppress

from ...protocol import FoundModel
from .gguf import BadModelFile
from .header import Header, read_header
from .mlx_folder import Folder, read_folder
from .mlx_heads import head_in

_OWN_OUTPUT = "shared_head_head"
"""A part of the name of an output layer among the tensors of an MTP head."""


def bytes_of_step(main: FoundModel, head: FoundModel | None = None) -> int | None:
    """Return the bytes that a step of `head` reads; None if a file cannot be read.

    Without `head` it is the head in the file or folder of `main`.
    """
    with suppress(BadModelFile):
        if main.backend == "mlx":
            return _of_folder(read_folder(main.path), read_folder(head.path) if head else None)
        return _of_file(read_header(main.path), read_header(head.path) if head else None)
    return None


def _of_file(main: Header, head: Header | None) -> int:
    output = main.output_bytes or main.table_bytes
    if head is None or head.facts.head == "mtp":
        own = (head or main).of_head
        return sum(each.bytes for each in own) + (
            0 if any(_OWN_OUTPUT in each.name for each in own) else output
        )
    if head.facts.head == "assistant":  # its token table is its output layer
        return head.facts.size
    return head.facts.size - head.table_bytes + (0 if head.output_bytes else output)


def _of_folder(main: Folder, head: Folder | None) -> int:
    found = head_in(head or main)
    if found is None:
        return 0
    outputs = [each for each in main.tensors if ".lm_head." in f".{each.name}"]
    tables = [each for each in main.tensors if ".embed_tokens." in f".{each.name}"]
    own = found.family == "gemma" or any("shared_head.head." in name for name in found.tensors)
    output = 0 if own else sum(each.end - each.begin for each in outputs or tables)
    return found.size + output
