"""What models are trained to write around their thoughts, their answers and their calls of tools.

Tables alone: `thoughts.py` reads by them. A mark may be one control token, several, or letters.
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
"""What opens a thought at the beginning of an answer, and what closes it."""

PHRASES = {
    "Here is my thought process:": "Here is my response:",
    "Here's my thought process:": "Here's my response:",
    "Here are my reasoning steps:": "[BEGIN FINAL RESPONSE]",
}
"""The same in words. One of these alone closes nothing: anybody may write it."""

ALSO_CLOSE = {
    "<|think|>": ("<|end|>",),
    "Here is my thought process:": ("Here's my response:",),
    "Here's my thought process:": ("Here is my response:",),
}
"""Other ends of the same thoughts."""

ANSWERS = {
    "<|START_RESPONSE|>": "<|END_RESPONSE|>",
    "<|START_TEXT|>": "<|END_TEXT|>",
    "<|open|>response<|sep|>": "<|close|>response<|sep|>",
    "<|begin|>assistant<|content|>": "<|end|>",
    "<|content|>": "<|end|>",
}
"""What stands around an answer."""

ANSWERS_BEHIND_THOUGHTS = {"<response>": "</response>", "<answer>": "</answer>"}
"""What does so behind a thought. Elsewhere these may be what was asked for."""

STRAY = (
    *(closing for closing in ANSWERS.values() if closing != "<|end|>"),
    "[END FINAL RESPONSE]",
    "<|close|>message<|sep|>",
    "<|END_OF_TURN_TOKEN|>",
)
"""What belongs to no answer, wherever in it it stands."""

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
"""What stands around a call of a tool; where nothing closes it, it goes on to the end."""

HEADERS = ("<|start|>", "<|channel|>", "to=")
"""With these the head of a harmony message begins, ..."""
BODY = "<|message|>"
"""... with this it ends, ..."""
BORDERS = ("<|end|>", "<|return|>", "<|call|>", "<|eom|>", "<|eot|>", "<|start|>", "<|channel|>")
"""... and with one of these what it is the head of. https://cookbook.openai.com/articles/openai-harmony"""
ANALYSIS = "<|channel|>analysis<|message|>"
"""A whole head, with which a thought begins."""
_INSIDE_HEADS = ("<|constrain|>", BODY)

SWITCHES = ("/think", "/no_think", "/nothink")
"""What people write in a prompt to have a thought or none. Some vocabularies have them as control tokens."""

_ALL = tuple(
    text
    for table in (MARKS, PHRASES, ANSWERS, ANSWERS_BEHIND_THOUGHTS, CALLS)
    for text in (*table, *table.values())
)


def is_part_of_a_mark(text: str) -> bool:
    """Whether a mark is `text`, or made of it and of others."""
    tables = (*_ALL, *STRAY, *HEADERS, *BORDERS, *_INSIDE_HEADS)
    return bool(text) and any(text in mark for mark in tables)
