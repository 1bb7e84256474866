"""A conversation -> the tokens that a model is given before it answers, and what of them it holds already.

It runs no model.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..protocol import Generate
from ..protocol.thoughts import opened_by
from .backends import LoadedModel, ModelError
from .templates import TemplateRenderer, encode_conversation, prompt_form

_CHARACTERS_PER_TOKEN = 16
"""A prompt with more characters than this, for each token of the context, is not even encoded."""

_MARK_TOKENS = 16
"""More than any mark of a thought has, with the line break behind it."""


def prompt_of(command: Generate, main: LoadedModel, templates: TemplateRenderer) -> list[int]:
    """The context up to the first token of the answer, in a size that the cache of `main` can hold.

    Raises `ModelError` for one that it cannot.
    """
    vocabulary, messages = main.vocabulary, command.messages
    limit = _CHARACTERS_PER_TOKEN * main.capacity + 10_000
    length = sum(len(message.content) for message in messages)
    hint = "Shorten it, start a new chat, or load with a longer context."
    if length > limit:
        raise ModelError(
            f"the prompt has {length} characters; the context holds {main.capacity} tokens", hint
        )
    if command.raw:
        context = vocabulary.encode(messages[-1].content)
        start = vocabulary.encode_start()
        context = context if context[: len(start)] == start else start + context
    else:
        context = encode_conversation(vocabulary, templates, messages, limit)
    if not context:
        raise ModelError("the prompt is empty", "Type something.")
    if len(context) > main.capacity:
        raise ModelError(f"the prompt has {len(context)} tokens; the context holds {main.capacity}", hint)
    return context


def opening_of(command: Generate, main: LoadedModel, context: Sequence[int]) -> str:
    """The mark of a thought with which the template begins the answer: it belongs to its text."""
    if command.raw or command.resume or prompt_form(main.vocabulary) == "text":
        return ""
    tail = b"".join(map(main.vocabulary.piece, context[-_MARK_TOKENS:])).decode("utf-8", "replace")
    mark = opened_by(tail)
    return f"{mark}\n" if mark else ""


def reuse(model: LoadedModel, context: Sequence[int]) -> int:
    """Cut the cache back to what it shares with `context`, its last token excepted; how many that are."""
    common = 0
    for cached, wanted in zip(model.tokens, context[:-1], strict=False):
        if cached != wanted:
            break
        common += 1
    if common < model.length and model.rewinds != "anywhere":
        common = 0  # it would compute them all again, without progress and deaf to a cancel
    model.rewind(common)
    return common
