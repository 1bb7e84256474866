"""The form of a model's prompts: its own chat template, ChatML, or plain text.

The contents of the file decide. This module renders nothing and knows no tokens.
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
"""Template for models whose file holds ChatML's tokens but no template."""

CHATML_MARKS = ("<|im_start|>", "<|im_end|>")
"""The tokens at the start and the end of a turn.

A model whose vocabulary lacks them never learned ChatML. It would read them letter by letter, and never write
the end.
"""


def form_of(template: str | None, is_token: Callable[[str], bool]) -> PromptForm:
    """Return the form. `template` is the model's own; `is_token` looks up a text in its vocabulary."""
    if template:
        return "template"
    return "chatml" if all(map(is_token, CHATML_MARKS)) else "text"
