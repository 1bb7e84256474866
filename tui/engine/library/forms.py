"""The form in which a model is given a conversation: its own chat template, ChatML, or plain text.

Decides it by what a file holds. It renders nothing and knows no tokens.
"""

from __future__ import annotations

from collections.abc import Callable

from ...protocol import PromptForm

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""For models whose file holds no template, but ChatML's tokens."""

CHATML_MARKS = ("<|im_start|>", "<|im_end|>")
"""With these a turn begins and ends. A model whose vocabulary lacks them never learned ChatML: it would read
them letter by letter, and write them for ever."""


def form_of(template: str | None, is_token: Callable[[str], bool]) -> PromptForm:
    """`template` is the model's own; `is_token` says whether a text is one token of its vocabulary."""
    if template:
        return "template"
    return "chatml" if all(map(is_token, CHATML_MARKS)) else "text"
