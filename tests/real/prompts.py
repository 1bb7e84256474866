"""Twenty prompts that people could have typed, one of them longer than what llama.cpp computes in one go."""

from __future__ import annotations

from tui.commands.bench.plan import read_prompts

_ASKED = read_prompts()
_LONG = "\n\n".join(prompt.text for prompt in _ASKED if prompt.category == "summary")
PROMPTS = (*(prompt.text for prompt in _ASKED if len(prompt.text) < 300), _LONG)
