"""Turns a conversation into the tokens before the answer, and finds the earlier answers in them.

It runs no model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from ...protocol import Generate
from ...protocol.thoughts import opened_by
from ..backends import LoadedModel, ModelError, Vocabulary, asking, prompt_form
from ..pair.pair import Pair
from ..pair.reading import loses
from .templates import TemplateRenderer, encode_conversation
from .turns import wishes_of

_CHARACTERS_PER_TOKEN = 16
"""Most characters per token of the context. A longer prompt is not even encoded."""

_MARK_TOKENS = 40
"""Tokens; more than any mark of a thought has, with the line break after it."""


@dataclass(frozen=True)
class EncodedPrompt:
    """A conversation as tokens, up to the first token of the answer."""

    tokens: tuple[int, ...]
    stays: int
    """Tokens at its start that the next prompt will share; 0 if no model needs the number."""
    answers: tuple[range, ...]
    """Ranges of the earlier answers. Only exact mode needs them; otherwise there are none."""


def encoded(
    command: Generate, pair: Pair, templates: TemplateRenderer, cancelled: Callable[[], bool],
    tell: Callable[[str], None] = lambda notice: None,
) -> EncodedPrompt:  # fmt: skip
    """Return the prompt of `command`. `tell` receives a notice for each deviation from the request.

    Raises the errors of `prompt_of`, and `GivenUp` if the answer is canceled while a long text is encoded.
    """
    main = pair.main
    with asking([main.vocabulary], lambda tokens: not cancelled()):
        context = prompt_of(command, main, templates, tell)
        stays = staying(context, command, pair.models, templates)
        answers = answers_in(context, command, main, templates) if pair.reader.rows else ()
    return EncodedPrompt(tuple(context), stays, answers)


def prompt_of(
    command: Generate, main: LoadedModel, templates: TemplateRenderer,
    tell: Callable[[str], None] = lambda notice: None,
) -> list[int]:  # fmt: skip
    """Return the context up to the first token of the answer, in a size that the cache of `main` can hold.

    `tell` receives a notice for each deviation from the request. Raises `ModelError` if it does not fit.
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
        wishes = wishes_of(command.thinking, command.effort)
        context = encode_conversation(vocabulary, templates, messages, limit, wishes, tell)
    if not context:
        raise ModelError("the prompt is empty", "Type something.")
    if len(context) > main.capacity:
        raise ModelError(f"the prompt has {len(context)} tokens; the context holds {main.capacity}", hint)
    return context


def continues(command: Generate, vocabulary: Vocabulary) -> bool:
    """Return whether the answer continues a text, rather than beginning a new one."""
    return command.raw or prompt_form(vocabulary) == "text"


def opening_of(command: Generate, main: LoadedModel, context: Sequence[int]) -> str:
    """Return the mark of a thought if the template opens one. It belongs to the answer's text."""
    if command.resume or prompt_form(main.vocabulary) == "text":
        return ""
    tail = b"".join(map(main.vocabulary.piece, context[-_MARK_TOKENS:])).decode("utf-8", "replace")
    mark = opened_by(tail)
    return f"{mark}\n" if mark else ""


def staying(
    context: Sequence[int], command: Generate, models: Sequence[LoadedModel], templates: TemplateRenderer
) -> int:
    """Return how many tokens at the start of `context`, a prompt, the next prompt of the chat will share.

    The last ones, which open the answer, may differ: some templates open a thought there and leave it out of
    the next prompt. `models` are the main model and perhaps a draft. 0 if no model needs the number.
    """
    main = models[0]
    if not any(map(loses, models)):
        return 0
    if command.raw or prompt_form(main.vocabulary) == "text":
        return len(context) - 1
    wishes = wishes_of(command.thinking, command.effort) | {"add_generation_prompt": False}
    limit = _CHARACTERS_PER_TOKEN * main.capacity + 10_000
    try:
        closed = encode_conversation(main.vocabulary, templates, command.messages, limit, wishes)
    except ModelError:
        return len(context) - 1
    pairs = enumerate(zip(context[:-1], closed, strict=False))
    return next((at for at, (ours, theirs) in pairs if ours != theirs), min(len(context) - 1, len(closed)))


def answers_in(
    context: Sequence[int], command: Generate, main: LoadedModel, templates: TemplateRenderer
) -> tuple[range, ...]:
    """Return the ranges of the earlier answers in `context`, its prompt, as rounds have run them.

    An answer follows the tokens that its model was given; its first round also ran the last of those. It
    lasts to a token that ends answers. If the template has since changed the text before an answer, it is not
    found.
    """
    if command.raw:
        return ()
    ends = main.vocabulary.end_tokens
    found: list[range] = []
    for turn, message in enumerate(command.messages):
        if message.role != "assistant" or not turn:
            continue
        before = prompt_of(replace(command, messages=command.messages[:turn]), main, templates)
        first = len(before)
        if list(context[:first]) != before or (found and first <= found[-1].stop):
            continue
        last = next((at for at in range(first, len(context)) if context[at] in ends), first)
        found.append(range(first - 1, last))
    return tuple(found)
