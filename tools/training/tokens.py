"""The tokenizer that both models share, and the ChatML text that they are trained on.

Byte-level BPE with the GPT-2 splitting rule, which llama.cpp knows as `tokenizer.ggml.pre = gpt-2`, so
that training and running see the same token numbers. This module trains no model and writes no file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

PRE = "gpt-2"
END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CONTROL = (END_OF_TEXT, TURN_START, TURN_END)
"""The special tokens; their numbers are their places in this tuple."""

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def turn(role: str, content: str) -> str:
    """One turn as the chat template writes it."""
    return f"{TURN_START}{role}\n{content}{TURN_END}\n"


def opening() -> str:
    """What the chat template writes before the model's answer."""
    return f"{TURN_START}assistant\n"


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Learn the merges from the corpus."""
    tokenizer = _byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=_special_tokens(),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def known_tokenizer(tokens: Sequence[str], merges: Sequence[str]) -> Tokenizer:
    """The tokenizer with these tokens, in the order of their numbers, and these merges."""
    numbers = {token: number for number, token in enumerate(tokens)}
    pairs = [(left, right) for left, right in (merge.split(" ") for merge in merges)]
    tokenizer = _byte_level(models.BPE(numbers, pairs))
    tokenizer.add_special_tokens(_special_tokens())
    return tokenizer


def _byte_level(model: models.BPE) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _special_tokens() -> list[AddedToken]:
    return [AddedToken(token, special=True, normalized=False) for token in CONTROL]
