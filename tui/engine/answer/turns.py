"""Puts conversations into the shapes that chat templates accept.

Some templates reject a system prompt, or leave it out. Some want content in parts. Many want prompts and
answers in turn. Only the place of a text changes, never its words. This module renders nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...protocol import Effort, Message, Thinking
from ...protocol.marks import SWITCHES
from ...protocol.thoughts import apart

Turn = dict[str, Any]
"""A message as templates know it: role, content and, if there is one, the thought before the answer."""

_BETWEEN = "\n\n"
_MOVED = "This model's chat template takes no system prompt: yours stands in front of the first prompt."
_NO_WISHES = "This model's chat template rejects your settings for thinking and effort: they are left out."


_TOOLS: tuple[list[Any] | None, ...] = (None, [])
"""None, as in Hugging Face; an empty list for templates that loop over it without a check."""
_WORD = re.compile(r"\w+")
_SWITCH = re.compile("|".join(map(re.escape, SWITCHES)))


def wishes_of(thinking: Thinking, effort: Effort) -> dict[str, Any]:
    """Return the wanted kind of thoughts, by all names that templates use for it."""
    wishes: dict[str, Any] = (
        {} if effort == "auto" else {"reasoning_effort": effort, "thinking_effort": effort}
    )
    if thinking == "auto":
        return wishes
    on = thinking == "on"
    wishes |= dict.fromkeys(("enable_thinking", "thinking", "reasoning"), on)
    wishes["thinking_mode"] = "enabled" if on else "disabled"
    return wishes if on else wishes | {"thinking_budget": 0}


@dataclass(frozen=True)
class TemplateShape:
    """One way to give a template a conversation."""

    values: dict[str, Any]
    """The values for rendering."""
    notices: tuple[str, ...]
    """Notices on deviations from the request."""


def turns_of(messages: Sequence[Message], broken: Callable[[str], str]) -> list[Turn]:
    """Return the conversation in the form of most templates. Every text goes through `broken`.

    The thought before an answer stays separate, because only the template knows the format of its model.
    Empty answers, and answers with only a thought, are left out. Prompts without an answer between them
    become one.
    """
    turns: list[Turn] = []
    for message in messages:
        turn: Turn = {"role": message.role, "content": broken(message.content)}
        if message.role == "assistant":
            thought, answer = map(broken, apart(message.content))
            turn["content"] = answer
            if not answer.strip():
                continue
            if thought:
                turn |= {"reasoning_content": thought, "thinking": thought}
        if turns and turns[-1]["role"] == turn["role"] == "user":
            turn["content"] = turns.pop()["content"] + _BETWEEN + turn["content"]
        turns.append(turn)
    return turns


def shapes(turns: Sequence[Turn], wishes: Mapping[str, Any]) -> Iterator[TemplateShape]:
    """Yield every shape to try, the usual one first. Some templates reject a shape, or leave out a text."""
    moved = _without_system(turns)
    is_first = not any(turn["role"] == "assistant" for turn in turns)  # said only once in a chat
    given = [(dict(wishes), "")] + [({}, _NO_WISHES)] * bool(wishes)
    for wished, unheard in given:
        for tools in _TOOLS:
            for in_parts in (frozenset[str](), {"system", "user", "assistant"}, {"system", "user"}):
                for each in (turns, moved) if moved else (turns,):
                    values = {"messages": _in_parts(each, in_parts), "tools": tools, **wished}
                    told = (_MOVED if each is moved else "", unheard)
                    yield TemplateShape(values, tuple(filter(None, told)) if is_first else ())


def _without_system(turns: Sequence[Turn]) -> list[Turn]:
    """Return the turns with the system prompt joined to the first prompt; empty if one is missing."""
    if len(turns) < 2 or turns[0]["role"] != "system" or turns[1]["role"] != "user":
        return []
    text = turns[0]["content"] + _BETWEEN + turns[1]["content"]
    return [turns[1] | {"content": text}, *turns[2:]]


def _in_parts(turns: Sequence[Turn], roles: frozenset[str] | set[str]) -> list[Turn]:
    """Return the turns with the content of `roles` as a list, the form of models that also take pictures."""
    return [
        turn | {"content": [{"type": "text", "text": turn["content"]}]} if turn["role"] in roles else turn
        for turn in turns
    ]


def holds(rendered: str, turns: Sequence[Turn]) -> bool:
    """Return whether `rendered` has all texts of the user, unchanged or at least all their words.

    Templates may rewrite tabs, or the words that switch thinking.
    """
    words: set[str] = set()
    for turn in turns:
        text = turn["content"].strip()
        escaped = json.dumps(text, ensure_ascii=False)[1:-1]
        if turn["role"] == "assistant" or text in rendered or escaped in rendered:
            continue
        words = words or set(_WORD.findall(rendered))
        found = _WORD.findall(_SWITCH.sub("", text))  # templates remove these after reading them
        if not words.issuperset(found) or not (found or _SWITCH.search(text)):
            return False
    return True
