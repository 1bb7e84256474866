"""A small Llama in PyTorch, the same arithmetic that llama.cpp runs for `general.architecture = llama`.

Rotary positions turn neighbouring pairs of values, as llama.cpp does for this architecture, so weights
need no reordering on export. This module trains nothing and writes no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

EPSILON = 1e-5
ROPE_BASE = 10000.0
CONTEXT = 2048


@dataclass(frozen=True)
class Shape:
    """The size of one model."""

    width: int
    layers: int
    heads: int
    inner: int
    vocabulary: int
    kv_heads: int = 0
    """Heads of keys and values, which several attention heads share; 0 for one for each."""
    rope_base: float = ROPE_BASE

    @property
    def head_width(self) -> int:
        """Values per attention head."""
        return self.width // self.heads

    @property
    def parts(self) -> tuple[int, int, int]:
        """The widths of query, key and value."""
        shared = (self.kv_heads or self.heads) * self.head_width
        return self.width, shared, shared


def angles(shape: Shape) -> Tensor:
    """The angles of all positions of the context."""
    steps = torch.arange(0, shape.head_width, 2) / shape.head_width
    return torch.arange(CONTEXT)[:, None] / shape.rope_base**steps


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each neighbouring pair of values by the angle of its position."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


class Block(nn.Module):  # type: ignore[misc]
    """One layer: attention, then a gated feed-forward network."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.width
        self.parts, self.head_width = shape.parts, shape.head_width
        self.attention_norm = nn.RMSNorm(width, eps=EPSILON)
        self.qkv = nn.Linear(width, sum(shape.parts), bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.feed_norm = nn.RMSNorm(width, eps=EPSILON)
        self.gate = nn.Linear(width, shape.inner, bias=False)
        self.up = nn.Linear(width, shape.inner, bias=False)
        self.down = nn.Linear(shape.inner, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """The layer's output for rows of token vectors."""
        rows, length, width = x.shape
        parts = self.qkv(self.attention_norm(x)).split(self.parts, dim=-1)
        query, key, value = (part.view(rows, length, -1, self.head_width).transpose(1, 2) for part in parts)
        seen = functional.scaled_dot_product_attention(
            rotate(query, cos, sin), rotate(key, cos, sin), value, is_causal=True, enable_gqa=True
        )
        x = x + self.out(seen.transpose(1, 2).reshape(rows, length, width))
        y = self.feed_norm(x)
        return x + self.down(functional.silu(self.gate(y)) * self.up(y))


class Llama(nn.Module):  # type: ignore[misc]
    """Token numbers in, the final token vectors or the scores of the next token out."""

    cos: Tensor
    sin: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.width, eps=EPSILON)
        turned = angles(shape)
        self.register_buffer("cos", turned.cos(), persistent=False)
        self.register_buffer("sin", turned.sin(), persistent=False)
        for weight in self.parameters():
            if weight.dim() == 2:
                nn.init.normal_(weight, 0.0, 0.02)

    def forward(self, tokens: Tensor, dropout: float = 0.0) -> Tensor:
        """Final vectors for rows of tokens that start at position 0."""
        return self.read(tokens, (), dropout)[1]

    def read(self, tokens: Tensor, layers: Sequence[int], dropout: float = 0.0) -> tuple[Tensor, Tensor]:
        """The vectors that enter `layers`, side by side, and the final vectors."""
        length = tokens.shape[1]
        x = functional.dropout(self.embedding(tokens), dropout, self.training)
        cos, sin = self.cos[:length].to(x.dtype), self.sin[:length].to(x.dtype)
        entered = []
        for block in self.blocks:
            entered.append(x)
            x = block(x, cos, sin)
        return torch.cat([entered[layer] for layer in layers] or [x[..., :0]], dim=-1), self.norm(x)

    def scores(self, vectors: Tensor) -> Tensor:
        """Scores over the vocabulary; the table of the input tokens is used again."""
        return vectors @ self.embedding.weight.T
