"""Checks the sampling settings of a `Generate` command and makes a sampling chain of them.

Raises `ModelError` for every senseless value. It runs no model.
"""

from __future__ import annotations

from math import inf

from ...choices import LONGEST_DRAFT, MOST_BIAS, SAMPLING
from ...protocol import Generate
from ..backends import LoadedModel, ModelError, Vocabulary
from ..backends.grammars import of_gbnf, of_schema
from ..speculation.sampling import Chain


def check(command: Generate, main: LoadedModel) -> None:
    """Reject senseless values."""
    if not command.messages:
        raise ModelError("there is no message to answer")
    length = command.draft_length
    if isinstance(length, int) and not 0 <= length <= LONGEST_DRAFT:
        raise ModelError(f"the draft length must be 0 to {LONGEST_DRAFT}, not {length}")
    if command.max_tokens < 0:
        raise ModelError(f"max_tokens must be 0 or more, not {command.max_tokens}")
    if any(not 0 <= token < main.vocabulary.size for token in command.resume):
        raise ModelError("another model began this answer", "Load that one, or ask again.")
    for name, (low, high, _) in SAMPLING.items():
        if not low <= (value := getattr(command.sampling, name)) <= high:
            raise ModelError(f"{name.replace('_', '-')} must be {low} to {high}, not {value}")
    for _, bias in command.sampling.logit_bias:
        if bias is not None and not -MOST_BIAS <= bias <= MOST_BIAS:
            raise ModelError(f"a logit-bias must be {-MOST_BIAS} to {MOST_BIAS}, not {bias}")
    if command.grammar and command.json_schema:
        raise ModelError("an answer cannot follow both a grammar and a JSON schema", "Leave out one of them.")
    if command.ignore_eos and (command.grammar or command.json_schema):
        raise ModelError(
            "an answer that follows a grammar or a JSON schema must end where that does",
            "Leave out one of them, or ignore_eos.",
        )


def grammar_of(command: Generate) -> str:
    """Return the grammar of the answer; empty if there is none."""
    if not command.grammar and not command.json_schema:
        return ""
    return of_schema(command.json_schema) if command.json_schema else of_gbnf(command.grammar)


def bias_of(command: Generate, main: LoadedModel) -> dict[int, float]:
    """Return the bias of logits by token. If a token is named twice, the last counts."""
    bias: dict[int, float] = {}
    for name, value in command.sampling.logit_bias:
        token = name if isinstance(name, int) else _token(name, main.vocabulary)
        if not 0 <= token < main.vocabulary.size:
            raise ModelError(
                f"token {token} of a logit-bias is not among the {main.vocabulary.size} of {main.facts.name}"
            )
        bias[token] = -inf if value is None else value
    if not command.ignore_eos:
        return bias
    wanted = {token for text in command.stop for token in main.vocabulary.encode(text)}  # these still end it
    return bias | dict.fromkeys(main.vocabulary.end_tokens - wanted, -inf)


def chain_of(command: Generate, bias: dict[int, float], model: LoadedModel) -> Chain:
    """Return the sampling chain of a model. It may have fewer tokens than `bias` names."""
    sampling = {name: getattr(command.sampling, name) for name in SAMPLING}
    return Chain(**sampling, bias={token: by for token, by in bias.items() if token < model.vocabulary.size})


def _token(text: str, vocabulary: Vocabulary) -> int:
    tokens = vocabulary.encode(text)
    if len(tokens) != 1:
        raise ModelError(
            f"{text[:40]!r} of a logit-bias is {len(tokens)} tokens, and must be one",
            "Give a token's number.",
        )
    return tokens[0]
