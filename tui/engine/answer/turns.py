"""Conversations in the shapes in which chat templates take them.

Some templates refuse a system prompt, or leave it out; some want content in parts; many want prompts and
answers in turn. What is said is never changed, only where it stands. It renders nothing.
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
"""A message as templates know it: role, content and, where there is one, the thought before the answer."""

_BETWEEN = "\n\n"
_MOVED = "This model's chat template takes no system prompt: yours stands in front of the first prompt."
_NO_WISHES = "This model's chat template does not take what thinking and effort are set to: it goes without."


_TOOLS: tuple[list[Any] | None, ...] = (None, [])
"""None, as Hugging Face has it; an empty list for templates that ask nothing before they go through it."""
_WORD = re.compile(r"\w+")
_SWITCH = re.compile("|".join(map(re.escape, SWITCHES)))


def wishes_of(thinking: Thinking, effort: Effort) -> dict[str, Any]:
    """What a person wants of thoughts, by all the names under which templates know it."""
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
class Shape:
    """One way to give a template a conversation."""

    values: dict[str, Any]
    """What it is rendered with."""
    notices: tuple[str, ...]
    """What is otherwise than it was asked for."""


def turns_of(messages: Sequence[Message], broken: Callable[[str], str]) -> list[Turn]:
    """The conversation as most templates take it; every text goes through `broken`.

    The thought before an answer stands apart from it: only the template knows what its model is used to. An
    answer that is nothing but a thought is left out, and so is an empty one. Prompts without an answer
    between them are one.
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


def shapes(turns: Sequence[Turn], wishes: Mapping[str, Any]) -> Iterator[Shape]:
    """Every shape to be tried, the usual one first: for templates that cannot take one, or leave out what
    somebody wrote."""
    moved = _without_system(turns)
    is_first = not any(turn["role"] == "assistant" for turn in turns)  # it is said once in a chat
    given = [(dict(wishes), "")] + [({}, _NO_WISHES)] * bool(wishes)
    for wished, unheard in given:
        for tools in _TOOLS:
            for in_parts in (frozenset[str](), {"system", "user", "assistant"}, {"system", "user"}):
                for each in (turns, moved) if moved else (turns,):
                    values = {"messages": _in_parts(each, in_parts), "tools": tools, **wished}
                    told = (_MOVED if each is moved else "", unheard)
                    yield Shape(values, tuple(filter(None, told)) if is_first else ())


def _without_system(turns: Sequence[Turn]) -> list[Turn]:
    """The system prompt in front of the first prompt; empty if there is none, or no prompt."""
    if len(turns) < 2 or turns[0]["role"] != "system" or turns[1]["role"] != "user":
        return []
    text = turns[0]["content"] + _BETWEEN + turns[1]["content"]
    return [turns[1] | {"content": text}, *turns[2:]]


def _in_parts(turns: Sequence[Turn], roles: frozenset[str] | set[str]) -> list[Turn]:
    """The content of `roles` as a list, as models want it that take pictures too."""
    return [
        turn | {"content": [{"type": "text", "text": turn["content"]}]} if turn["role"] in roles else turn
        for turn in turns
    ]


def holds(rendered: str, turns: Sequence[Turn]) -> bool:
    """Whether all that somebody wrote is in `rendered`: as it was, or as words where a template rewrites it.

    Tabs, say, or what switches thinking.
    """
    words: set[str] = set()
    for turn in turns:
        text = turn["content"].strip()
        escaped = json.dumps(text, ensure_ascii=False)[1:-1]
        if turn["role"] == "assistant" or text in rendered or escaped in rendered:
            continue
        words = words or set(_WORD.findall(rendered))
        found = _WORD.findall(_SWITCH.sub("", text))  # templates take these out once they have heard them
        if not words.issuperset(found) or not (found or _SWITCH.search(text)):
            return False
    return True
