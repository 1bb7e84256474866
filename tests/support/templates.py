"""Chat templates of well-known kinds, and the folder of those in llama.cpp's sources."""

from __future__ import annotations

import sys
from pathlib import Path

SHIPPED = Path(sys.prefix) / "llama.cpp" / "models"

LLAMA_3 = """{% set loop_messages = messages %}{% for message in loop_messages %}\
{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] \
| trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}\
{{ content }}{% endfor %}{% if add_generation_prompt %}\
{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"""


GEMMA = """{{ bos_token }}
{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{% for message in messages %}
    {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
    {% endif %}
    {% if message['role'] == 'assistant' %}
        {% set role = 'model' %}
    {% else %}
        {% set role = message['role'] %}
    {% endif %}
{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>' }}
{% endfor %}
{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"""


MISTRAL = """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set ns = namespace(index=0) %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\n\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"] | trim + eos_token }}
    {%- endif %}
    {%- set ns.index = ns.index + 1 %}
{%- endfor %}"""


REASONING = """{%- if tools %}{{- 'tools: ' ~ (tools | tojson) }}{%- endif %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if message.role == "assistant" %}
        {%- if '</think>' in content %}
            {%- set content = content.split('</think>')[-1].lstrip('\n') %}
        {%- endif %}
        {%- generation %}{{- '<|im_start|>assistant\n' + content + '<|im_end|>\n' }}{%- endgeneration %}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>\n' }}
        {%- if loop.first %}{%- continue %}{%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %}"""


class WordVocabulary:
    """Control tokens above 900, every other character as itself; counts how often it encodes."""

    end_tokens = frozenset({901})
    bos_text = "<s>"
    eos_text = "<|im_end|>"

    def __init__(
        self, controls: tuple[str, ...], template: str | None = None, start: tuple[int, ...] = ()
    ) -> None:
        self.control_texts = controls
        self.chat_template = template
        self.encoded: list[str] = []
        self._start = list(start)

    def encode(self, text: str) -> list[int]:
        self.encoded.append(text)
        tokens: list[int] = []
        while text:
            known = [c for c in sorted(self.control_texts, key=len, reverse=True) if text.startswith(c)]
            tokens.append(-1 - self.control_texts.index(known[0]) if known else ord(text[0]))
            text = text[len(known[0]) if known else 1 :]
        return tokens

    def encode_start(self) -> list[int]:
        return self._start

    def piece(self, token: int) -> bytes:
        raise NotImplementedError
