"""Model files with single faults, drawn at random."""

from __future__ import annotations

import random

ODD_NUMBERS = (
    *(0, 1, 2, 3, 7, 9, 0x7F, 0xFF, 0x100, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF),
    *(1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 16, (1 << 64) - 1),
)

KEYS = (
    *(b"llama.context_length", b"llama.embedding_length", b"llama.block_count", b"llama.feed_forward_length"),
    *(b"llama.attention.head_count", b"llama.attention.head_count_kv", b"llama.rope.dimension_count"),
    *(b"llama.attention.layer_norm_rms_epsilon", b"general.architecture", b"general.file_type"),
    *(b"tokenizer.ggml.model", b"tokenizer.ggml.tokens", b"tokenizer.ggml.token_type"),
    *(b"tokenizer.ggml.merges", b"tokenizer.ggml.bos_token_id", b"tokenizer.ggml.eos_token_id"),
)


def mutant(whole: bytes, seed: int) -> bytes:
    """A copy with something wrong: numbers, bits, keys, counts, length."""
    r = random.Random(seed)
    data = bytearray(whole)
    table = data.find(b"token_embd.weight") - 8
    end = data.rfind(b"ffn_down.weight") + 60
    match r.choice(("bits", "value", "table", "cut", "key", "counts", "noise", "key value", "shift")):
        case "bits":
            for _ in range(r.randint(1, 8)):
                data[r.randrange(24, 900)] ^= 1 << r.randrange(8)
        case "value":
            _overwrite(data, r.randrange(24, 900), r.choice((4, 8)), r)
        case "table":
            _overwrite(data, r.randrange(table, end), r.choice((4, 8)), r)
        case "cut":
            del data[r.randrange(len(data)) :]
        case "key":
            key = r.choice(KEYS)
            data[data.find(key) + r.randrange(len(key))] = r.choice(b"abcxyz._0\x00\xff")
        case "counts":
            _overwrite(data, *r.choice(((4, 4), (8, 8), (16, 8))), r)
        case "noise":
            for _ in range(r.randint(1, 40)):
                data[r.randrange(end)] = r.randrange(256)
        case "key value":
            key = r.choice(KEYS)
            _overwrite(data, data.find(key) + len(key) + 4, 4, r)
        case "shift":
            place = r.randrange(table, end)
            data[place:place] = data[place : place + r.randrange(1, 64)]
    return bytes(data)


def _overwrite(data: bytearray, place: int, width: int, r: random.Random) -> None:
    data[place : place + width] = (r.choice(ODD_NUMBERS) & ((1 << 8 * width) - 1)).to_bytes(width, "little")
