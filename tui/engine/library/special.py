"""Tokens that are not text: those that end an answer, and those that nobody may spell in a message.

The texts of the tokens decide, so that a model behaves the same with any library. This module reads no file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from ...protocol.marks import SWITCHES

_END_TEXTS = """
<|im_end|> <|eot_id|> <|eom_id|> <|eot|> <|end|> <|return|> <|call|> <|calls|> <|flush|>
<end_of_turn> <turn|> <|tool_response> <|endoftext|> <|end_of_text|> </s> <eos> <EOT> _<EOT> [EOT]
[EOS] <end_of_utterance> <｜end▁of▁sentence｜> [e~[
"""
"""Tokens that end an answer of any model that has them. Settings often name only one of several. The list is
llama.cpp's (`llama-vocab.cpp`), and Llama 4's `<|eot|>`."""
_ENDS = tuple(_END_TEXTS.split())

_HTML = """
a abbr article aside b blockquote body br button caption center cite code dd del details div dl dt
em figcaption figure footer form h1 h2 h3 h4 h5 h6 head header hr html i iframe img input ins kbd
label li link main mark meta nav ol option p pre q s script section select small span strong style
sub summary sup svg table tbody td textarea tfoot th thead title tr u ul
"""
"""Tags that some vocabularies have as tokens. They are text like any other."""
_TAGS = frozenset(_HTML.split())
_TAG = re.compile(r"</?([a-z]+[1-6]?)>")


def end_tokens(
    named: Iterable[int], own: tuple[str, str], token: Callable[[str], int | None]
) -> frozenset[int]:
    """Return every token that ends an answer. `named` are those named by the model's files and library.

    `own` are the texts of its BOS and EOS. `token` gives the token with a text, if it is one.
    """
    found = {text: number for text in _ENDS if (number := token(text)) is not None}
    ends = frozenset(named).union(found.values())
    if {"<|return|>", "<|call|>"} <= found.keys() or {"<|flush|>", "<|calls|>"} <= found.keys():
        ends -= {found.get("<|end|>")}  # harmony and the like: it ends a message, and another follows
    if not {"<s>", "</s>"}.intersection(own):
        ends -= {found.get("</s>")}  # HTML: Gemma and Qwen have it as a word
    return ends


def is_structure(text: str, template: str | None) -> bool:
    """Return whether an added token is part of the form of a conversation, such as the mark of a role.

    The token's declared kind does not matter. `template` is the model's chat template.
    """
    bare = text.strip()
    if len(bare) < 2 or bare in SWITCHES:
        return False
    written = template is not None and text in template
    tag = _TAG.fullmatch(bare)
    if tag and tag[1] in _TAGS:
        return written
    if any(character in bare for character in "<[｜|◁"):
        return True
    return written and not bare.isalnum() and any(character.isalpha() for character in bare)
