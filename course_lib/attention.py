"""Scaled dot-product and multi-head attention, masks, and the key–value cache.

Conventions, used by every module of the course:

* tensors are batch-first: hidden states ``(batch, length, d_model)``, heads ``(batch, heads, length, d_head)``;
* a mask is boolean, **True means "may attend"**, and broadcasts to ``(batch, heads, query, key)``;
* a query that may attend to nothing gets weights 0 and output 0 (not NaN, not a uniform average), and its gradients
  are finite.

Source: Vaswani et al., "Attention Is All You Need", NeurIPS 2017, section 3.2.
"""

import math
from collections.abc import Callable
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.positions import rotate


def masked_softmax(scores: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax over the last axis, restricted to the entries where ``mask`` is True.

    The forbidden scores become the smallest finite number rather than −∞: a row of −∞ alone would be 0/0. The last
    line turns the uniform weights of such a row into zeros.

    Args:
        scores: ``(..., query, key)``.
        mask: boolean, broadcastable to ``scores``; None allows everything.

    Returns:
        Weights of the shape of ``scores``: each row sums to 1, or is all zero where nothing may be attended to.
    """
    if mask is None:
        return scores.softmax(dim=-1)
    weights = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim=-1)
    return weights.masked_fill(~mask, 0.0)


def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, bias: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Attention in its readable form: softmax(Q Kᵀ / √d) V (Vaswani et al. 2017, equation 1).

    Args:
        query: ``(..., query, d_head)``.
        key: ``(..., key, d_head)``.
        value: ``(..., key, d_value)``.
        mask: boolean, True = may attend, broadcastable to ``(..., query, key)``.
        bias: added to the scaled scores before the softmax (ALiBi), broadcastable likewise.

    Returns:
        ``(output, weights)`` of shapes ``(..., query, d_value)`` and ``(..., query, key)``.
    """
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    if bias is not None:
        scores = scores + bias
    weights = masked_softmax(scores, mask)
    return weights @ value, weights


def fused_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """The output of :func:`scaled_dot_product_attention` from PyTorch's fused kernel, which stores no weights."""
    if bias is not None:
        mask = bias if mask is None else bias.masked_fill(~mask, -torch.inf)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def causal_mask(length: int, device: torch.device | None = None) -> Tensor:
    """``(length, length)``: position i may attend to positions 0 … i."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()


def padding_mask(real: Tensor) -> Tensor:
    """Turn ``real`` ``(batch, key)``, True at real tokens, into a mask ``(batch, 1, 1, key)``: no key is padding."""
    return real[:, None, None, :]


class AttentionContext(NamedTuple):
    """What attention must know besides the hidden states; computed once and shared by all layers.

    Attributes:
        mask: boolean, broadcastable to ``(batch, heads, query, key)``, or None.
        bias: added to the scores, broadcastable likewise (ALiBi), or None.
        rotation: cosines and sines, each ``(batch, 1, query, d_head / 2)``, for queries and new keys (rotary), or None.
            In encoder–decoder attention it is that of the queries.
    """

    mask: Tensor | None = None
    bias: Tensor | None = None
    rotation: tuple[Tensor, Tensor] | None = None


def move_rows(x: Tensor, rows: Tensor, dim: int = 0) -> Tensor:
    """Row i of ``x`` becomes, in place, what row ``rows[i]`` was; returns the first ``len(rows)`` rows, a view.

    Only rows that change their place are copied: when few outputs of a batch have ended, that is far less than all.

    Raises:
        ValueError: if there are more ``rows`` than ``x`` has.
    """
    if len(rows) > x.size(dim):
        raise ValueError(f"{x.size(dim)} rows can be kept and reordered, not made {len(rows)}; expand makes more")
    moved = (rows != torch.arange(len(rows), device=rows.device)).nonzero().squeeze(1)
    x.index_copy_(dim, moved, x.index_select(dim, rows[moved]))  # all are read before any is written
    return x.narrow(dim, 0, len(rows))


class KeyValueCache:
    """Keys and values of one self-attention layer for the tokens seen so far, each ``(rows, heads, length, d_head)``.

    With a ``window`` no more than the last ``window`` tokens stay visible. When room runs out, what is still visible
    moves to twice the room: n steps copy O(n) vectors and not O(n²).

    Attributes:
        length: number of places kept, one for each token until :meth:`widen`.
    """

    def __init__(self, window: int | None = None) -> None:
        self.window = window
        self.length = 0
        self._width = 1  # places per token
        self._room: Tensor | None = None  # (2, rows, heads, capacity, d_head): keys, then values
        self._end = 0  # places filled so far

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add the keys and values of new tokens; return all that the new tokens may look at, in order."""
        rows, heads, new, d_head = keys.shape
        # The first new token is itself one of the ``window`` tokens it sees.
        earlier = self.length if self.window is None else min(self.length, (self.window - 1) * self._width)
        if self._room is None or self._end + new > self._room.size(3):
            bigger = keys.new_empty(2, rows, heads, max(2 * (earlier + new), 16), d_head)
            if self._room is not None:
                bigger[:, :, :, :earlier] = self._room[:, :, :, self._end - earlier : self._end]
            self._room, self._end = bigger, earlier
        start, end = self._end - earlier, self._end + new
        self._room[0, :, :, self._end : end] = keys
        self._room[1, :, :, self._end : end] = values
        self._end = end
        self.length = earlier + new if self.window is None else min(earlier + new, self.window * self._width)
        return self._room[0, :, :, start:end], self._room[1, :, :, start:end]

    def widen(self, width: int) -> None:
        """From now on every token comes in ``width`` versions, a place for each (the beams of one sentence)."""
        self._width = width

    def select(self, rows: Tensor) -> None:
        """Keep and reorder rows: row i becomes what row ``rows[i]`` was (those of unfinished sentences)."""
        if self._room is not None:
            filled = slice(self._end - self.length, self._end)  # the rest of the room need not be copied
            move_rows(self._room[:, :, :, filled], rows, dim=1)
            self._room = self._room[:, : len(rows)]


class MultiHeadAttention(nn.Module):
    """Attention by ``n_heads`` heads of size ``d_model / n_heads`` (Vaswani et al. 2017, section 3.2.2).

    The three input projections are one matrix of shape ``(3 d_model, d_model)``: self-attention then needs one
    multiplication instead of three. There is no dropout on the weights: at the sizes of this course it costs a tenth of
    the speed and buys nothing.
    """

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        if d_model % n_heads:
            raise ValueError(f"n_heads must divide d_model, but {d_model} / {n_heads} leaves {d_model % n_heads}")
        self.d_model = d_model
        self.n_heads = n_heads
        self.query_key_value = nn.Linear(d_model, 3 * d_model)
        self.output = nn.Linear(d_model, d_model)
        for block in (*self.query_key_value.weight.chunk(3), self.output.weight):
            nn.init.xavier_uniform_(block)  # each d_model × d_model block by itself: together they would look wider
        nn.init.zeros_(self.query_key_value.bias)
        nn.init.zeros_(self.output.bias)

    def split_heads(self, x: Tensor) -> Tensor:
        """``(batch, length, d_model)`` → ``(batch, heads, length, d_head)``."""
        batch, length, _ = x.shape
        return x.view(batch, length, self.n_heads, -1).transpose(1, 2)

    def keys_values(self, memory: Tensor, rotation: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Keys and values ``(batch, heads, key, d_head)`` of an encoder's output ``(batch, key, d_model)``.

        ``rotation`` is that of the source's positions: a decoder with rotary positions then sees how far a source word
        stands before or after the word to be written, which is a good first guess between languages of similar order.
        """
        weight, bias = self.query_key_value.weight, self.query_key_value.bias
        keys, values = F.linear(memory, weight[self.d_model :], bias[self.d_model :]).chunk(2, dim=-1)
        keys, values = self.split_heads(keys), self.split_heads(values)
        return (keys if rotation is None else rotate(keys, *rotation)), values

    def forward(
        self,
        x: Tensor,
        context: AttentionContext,
        keys_values: tuple[Tensor, Tensor] | None = None,
        cache: KeyValueCache | None = None,
        record: list[Tensor] | None = None,
    ) -> Tensor:
        """Attend from ``x`` to itself, or to ``keys_values``.

        Args:
            x: ``(batch, query, d_model)``.
            context: mask, bias and rotation.
            keys_values: of an encoder's output (encoder–decoder attention).
            cache: earlier keys and values; the new ones are added to it (self-attention only).
            record: if a list is given, the readable path runs and appends its weights ``(batch, heads, query, key)``.

        Returns:
            ``(batch, query, d_model)``.
        """
        if keys_values is None:
            query, keys, values = (self.split_heads(part) for part in self.query_key_value(x).chunk(3, dim=-1))
            if context.rotation is not None:
                query, keys = rotate(query, *context.rotation), rotate(keys, *context.rotation)
            if cache is not None:
                keys, values = cache.append(keys, values)
        else:
            keys, values = keys_values
            weight, bias = self.query_key_value.weight, self.query_key_value.bias
            query = self.split_heads(F.linear(x, weight[: self.d_model], bias[: self.d_model]))
            if context.rotation is not None:
                query = rotate(query, *context.rotation)
        if record is None:
            mixed = fused_attention(query, keys, values, context.mask, context.bias)
        else:
            mixed, weights = scaled_dot_product_attention(query, keys, values, context.mask, context.bias)
            record.append(weights)
        # (batch, heads, query, d_head) → (batch, query, d_model)
        return self.output(mixed.transpose(1, 2).flatten(2))

    # nn.Module types calls as Any; this keeps the type of forward.
    __call__ = cast("Callable[..., Tensor]", nn.Module.__call__)
