"""An EAGLE-3 head in PyTorch, the same arithmetic that llama.cpp runs for `general.architecture = eagle3`.

A cell takes a token and the vector of the token before it, and predicts the next token. The vector is joined
from the inputs of three layers of the main model. When the head drafts on, its own output takes the place of
the joined vector, because the main model has not read that token yet. This module trains nothing and writes
no file.

Source: Li, Wei, Zhang, Zhang, "EAGLE-3: Scaling up inference acceleration of large language models via
training-time test", arXiv 2503.01840.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from .model import EPSILON, Llama, Shape, angles, rotate


@dataclass(frozen=True)
class EagleShape:
    """The size of one head."""

    layers: tuple[int, int, int]
    """The layers of the main model whose inputs it reads."""
    width: int
    """Values in a vector of its own. With the main model's width, it uses the embeddings of that model."""
    heads: int
    inner: int


class EagleNetwork(nn.Module):  # type: ignore[misc]
    """Tokens and the layer inputs of a main model in, scores of the tokens in `listed` out."""

    cos: Tensor
    sin: Tensor
    listed: Tensor

    def __init__(self, shape: EagleShape, main: Llama, listed: Sequence[int]) -> None:
        """`listed` are the tokens that it can draft. It starts with the tables of the main model, made
        narrower."""
        super().__init__()
        self.shape, width, joined = shape, shape.width, 3 * main.shape.width
        self.head_width = width // shape.heads
        self.joined_norm = nn.RMSNorm(joined, eps=EPSILON)
        self.join = nn.Linear(joined, width, bias=False)
        self.token_norm = nn.RMSNorm(width, eps=EPSILON)
        self.row_norm = nn.RMSNorm(width, eps=EPSILON)
        self.qkv = nn.Linear(2 * width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.feed_norm = nn.RMSNorm(width, eps=EPSILON)
        self.gate = nn.Linear(width, shape.inner, bias=False)
        self.up = nn.Linear(width, shape.inner, bias=False)
        self.down = nn.Linear(shape.inner, width, bias=False)
        self.norm = nn.RMSNorm(width, eps=EPSILON)
        turned = angles(Shape(width, 1, shape.heads, shape.inner, main.shape.vocabulary))
        self.register_buffer("cos", turned.cos(), persistent=False)
        self.register_buffer("sin", turned.sin(), persistent=False)
        self.register_buffer("listed", torch.tensor(listed), persistent=False)
        for weight in self.parameters():
            if weight.dim() == 2:
                nn.init.normal_(weight, 0.0, 0.02)
        self._begin_as(main)

    @property
    def borrows(self) -> bool:
        """Whether the embeddings are those of the main model, and no part of the head's file."""
        return not self.embedding.weight.requires_grad

    def steps(self, inputs: Tensor, tokens: Tensor, count: int) -> Iterator[Tensor]:
        """The vectors of all tokens but the first, `count` times.

        The first time, the main model has read all tokens before each of them. The second time, it has not
        read the last of these, which was drafted; the third time, not the last two, and so on. The first row
        of the second step, the first two of the third and so on have no meaning.
        """
        named = self.token_norm(self.embedding(tokens[:, 1:]))
        rows = self.join(self.joined_norm(inputs[:, :-1]))
        keys, values = list[Tensor](), list[Tensor]()
        for _ in range(count):
            rows = self._cell(named, rows, keys, values)
            yield rows
            rows = _moved(rows, 1)

    def scores(self, vectors: Tensor) -> Tensor:
        """Scores of the tokens in `listed`."""
        return self.output(self.norm(vectors))

    def _cell(self, named: Tensor, rows: Tensor, keys: list[Tensor], values: list[Tensor]) -> Tensor:
        count, length, width = rows.shape
        parts = self.qkv(torch.cat([named, self.row_norm(rows)], dim=-1))
        query, key, value = parts.view(count, length, 3, -1, self.head_width).permute(2, 0, 3, 1, 4)
        cos, sin = (each[1 : length + 1].to(query.dtype) for each in (self.cos, self.sin))
        keys.append(rotate(key, cos, sin))
        values.append(value)
        seen = _attend(rotate(query, cos, sin), keys, values)
        x = rows + self.out(seen.transpose(1, 2).reshape(count, length, width))
        y = self.feed_norm(x)
        return x + self.down(functional.silu(self.gate(y)) * self.up(y))

    def _begin_as(self, main: Llama) -> None:
        """Take over the main model's tables. A narrower head takes their main directions."""
        table, width = main.embedding.weight.detach().float(), self.shape.width
        narrow = torch.eye(width)
        if width < main.shape.width:
            narrow = torch.linalg.svd(table, full_matrices=False)[2][:width].T
        self.embedding = nn.Embedding.from_pretrained(table @ narrow, freeze=width == main.shape.width)
        self.output = nn.Linear(width, len(self.listed), bias=False)
        with torch.no_grad():
            self.output.weight.copy_((table * main.norm.weight)[self.listed] @ narrow)
            self.join.weight[:, -main.shape.width :] += narrow.T


def _attend(query: Tensor, keys: list[Tensor], values: list[Tensor]) -> Tensor:
    """Attention to the cells of all tokens that the main model has read, the first of `keys`, and to those of
    the tokens that were drafted behind them."""
    step, length = len(keys) - 1, query.shape[-2]
    read = torch.ones(length, length, dtype=torch.bool).tril(-step)
    places = [(query @ keys[0].transpose(-1, -2)).masked_fill(~read, -torch.inf)]
    for drafted in range(1, step + 1):
        places.append((query * _moved(keys[drafted], step - drafted)).sum(-1, keepdim=True))
    weights = (torch.cat(places, dim=-1) / query.shape[-1] ** 0.5).softmax(-1).to(query.dtype)
    seen = weights[..., :length] @ values[0]
    for drafted in range(1, step + 1):
        at = length + drafted - 1
        seen = seen + weights[..., at : at + 1] * _moved(values[drafted], step - drafted)
    return seen


def _moved(rows: Tensor, places: int) -> Tensor:
    """The rows, each so many places later; the first are zero."""
    return functional.pad(rows, (0, 0, places, 0))[..., : rows.shape[-2], :]
