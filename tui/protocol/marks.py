"""The marks that models are trained to write around thoughts, answers and tool calls.

This module has only tables; `spans.py` and `thoughts.py` read by them. A mark may be one control token,
several, or plain letters.
"""

from __future__ import annotations

MARKS = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "<reasoning>": "</reasoning>",
    "<seed:think>": "</seed:think>",
    "<mm:think>": "</mm:think>",
    "<think:opensource>": "</think:opensource>",
    "[THINK]": "[/THINK]",
    "◁think▷": "◁/think▷",
    "<|channel>thought": "<channel|>",
    "<|inner_prefix|>": "<|inner_suffix|>",
    "<|START_THINKING|>": "<|END_THINKING|>",
    "<|think|>": "<|/think|>",
    "<|open|>think<|sep|>": "<|close|>think<|sep|>",
}
"""Marks that open a thought at the beginning of an answer, each with the mark that closes it."""

PHRASES = {
    "Here is my thought process:": "Here is my response:",
    "Here's my thought process:": "Here's my response:",
    "Here are my reasoning steps:": "[BEGIN FINAL RESPONSE]",
}
"""The same in words. A closing phrase alone closes nothing: anybody may write it."""

ALSO_CLOSE = {
    "<|think|>": ("<|end|>",),
    "Here is my thought process:": ("Here's my response:",),
    "Here's my thought process:": ("Here is my response:",),
}
"""Further marks that close a thought, by its opening mark."""

ANSWERS = {
    "<|START_RESPONSE|>": "<|END_RESPONSE|>",
    "<|START_TEXT|>": "<|END_TEXT|>",
    "<|open|>response<|sep|>": "<|close|>response<|sep|>",
    "<|begin|>assistant<|content|>": "<|end|>",
    "<|content|>": "<|end|>",
}
"""Marks around an answer."""

ANSWERS_BEHIND_THOUGHTS = {"<response>": "</response>", "<answer>": "</answer>"}
"""Marks around an answer that follows a thought. Elsewhere they may belong to the answer."""

STRAY = (
    *(closing for closing in ANSWERS.values() if closing != "<|end|>"),
    "[END FINAL RESPONSE]",
    "<|close|>message<|sep|>",
    "<|END_OF_TURN_TOKEN|>",
)
"""Marks that are never part of an answer, at any place in it."""

CALLS = {
    "<tool_call>": "</tool_call>",
    "<tool_calls>": "</tool_calls>",
    "<function_call>": "</function_call>",
    "<function=": "</function>",
    "<TOOLCALL>": "</TOOLCALL>",
    "<seed:tool_call>": "</seed:tool_call>",
    "<minimax:tool_call>": "</minimax:tool_call>",
    "<atem:function_calls>": "</atem:function_calls>",
    "<｜DSML｜function_calls>": "</｜DSML｜function_calls>",
    "<｜tool▁calls▁begin｜>": "<｜tool▁calls▁end｜>",
    "<|tool_calls_section_begin|>": "<|tool_calls_section_end|>",
    "<|tool_call_start|>": "<|tool_call_end|>",
    "<|tool_call>": "<tool_call|>",
    "<|tools_prefix|>": "<|tools_suffix|>",
    "<|START_ACTION|>": "<|END_ACTION|>",
    "<|open|>tools<|sep|>": "<|close|>tools<|sep|>",
    "<|begin|>assistant<|tool_calls|>": "<|calls|>",
    "<|tool_calls|>": "<|calls|>",
    "<|tool_call|>": "",
    "<|python_tag|>": "",
    "[TOOL_CALLS]": "",
}
"""Marks around a tool call. A call without a closing mark goes on to the end."""

HEADERS = ("<|start|>", "<|channel|>", "to=")
"""Marks that begin the head of a harmony message. https://cookbook.openai.com/articles/openai-harmony"""
BODY = "<|message|>"
"""The mark that ends the head; the body follows."""
BORDERS = ("<|end|>", "<|return|>", "<|call|>", "<|eom|>", "<|eot|>", "<|start|>", "<|channel|>")
"""Marks that end the body of a harmony message."""
ANALYSIS = "<|channel|>analysis<|message|>"
"""A whole head that begins a thought."""
_INSIDE_HEADS = ("<|constrain|>", BODY)

SWITCHES = ("/think", "/no_think", "/nothink")
"""Switches that people write in a prompt to turn thinking on or off. In some vocabularies they are control
tokens."""

_ALL = tuple(
    text
    for table in (MARKS, PHRASES, ANSWERS, ANSWERS_BEHIND_THOUGHTS, CALLS)
    for text in (*table, *table.values())
)


def is_part_of_a_mark(text: str) -> bool:
    """Whether `text` is a mark or a part of one."""
    tables = (*_ALL, *STRAY, *HEADERS, *BORDERS, *_INSIDE_HEADS)
    return bool(text) and any(text in mark for mark in tables)
