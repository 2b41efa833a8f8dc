"""Layer normalisation, dropout, the feed-forward network, and the encoder and decoder blocks made of them.

Source: Vaswani et al. 2017, sections 3.1 and 3.3; pre-norm: Xiong et al., "On Layer Normalization in the Transformer
Architecture", ICML 2020.
"""

from collections.abc import Callable
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.attention import AttentionContext, KeyValueCache, MultiHeadAttention

Norm = Literal["pre", "post"]
Activation = Literal["relu", "gelu", "silu"]
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu, "silu": F.silu}


def layer_norm(x: Tensor, gain: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    """Layer normalisation in its readable form (Ba, Kiros & Hinton 2016): (x − mean) / √(variance + ε) · gain + bias.

    Mean and *biased* variance are taken over the last axis; ε stands inside the root. The model uses
    ``torch.nn.LayerNorm``, which computes the same in one pass.
    """
    mean = x.mean(dim=-1, keepdim=True)
    variance = (x - mean).pow(2).mean(dim=-1, keepdim=True)
    return (x - mean) / (variance + eps).sqrt() * gain + bias


class Dropout(nn.Module):
    """While training, each number becomes 0 with probability p, and the others are divided by 1 − p.

    ``nn.Dropout`` spends most of its time on a CPU drawing a random number for each element. Here four elements share
    the 64 bits of one, which rounds p to a multiple of 2⁻¹⁶. On other devices PyTorch's own kernel runs.

    Source: Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", JMLR 2014.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"dropout must be in [0, 1), got {p}")
        self.p = p

    def extra_repr(self) -> str:
        """What ``print(model)`` shows of it."""
        return f"p={self.p}"

    def forward(self, x: Tensor) -> Tensor:
        """Any shape → the same shape."""
        if x.device.type != "cpu" or not self.training or self.p == 0:
            return F.dropout(x, self.p, self.training)
        n_dropped = min(round(self.p * 2**16), 2**16 - 1)  # of the 2¹⁶ numbers that 16 bits can be
        bits = torch.empty((x.numel() + 3) // 4, dtype=torch.int64, device=x.device).random_(-(2**63), None)
        numbers = bits.view(torch.int16)[: x.numel()].view(x.shape)  # each from −2¹⁵ to 2¹⁵ − 1
        kept = (numbers >= n_dropped - 2**15).to(x.dtype)
        return x * kept.mul_(2**16 / (2**16 - n_dropped))

    __call__ = cast("Callable[..., Tensor]", nn.Module.__call__)


class Residual(nn.Module):
    """The frame around every sub-layer f: residual connection, normalisation and dropout.

    * pre-norm: ``x + dropout(f(norm(x)))`` – the path from input to output stays free of normalisations;
    * post-norm: ``norm(x + dropout(f(x)))`` – as in the 2017 paper.
    """

    def __init__(self, d_model: int, norm: Norm, dropout: float) -> None:
        super().__init__()
        self.pre = norm == "pre"
        self.norm = nn.LayerNorm(d_model)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """``(batch, length, d_model)`` → the same shape."""
        if self.pre:
            return x + self.dropout(sublayer(self.norm(x)))
        return self.norm(x + self.dropout(sublayer(x)))

    __call__ = cast("Callable[..., Tensor]", nn.Module.__call__)


class FeedForward(nn.Module):
    """Two linear maps with a non-linearity between, applied to each position alone (Vaswani et al. 2017, 3.3)."""

    def __init__(self, d_model: int, d_ff: int, activation: Activation) -> None:
        super().__init__()
        self.inner = nn.Linear(d_model, d_ff)
        self.outer = nn.Linear(d_ff, d_model)
        self.activation = ACTIVATIONS[activation]
        for linear in (self.inner, self.outer):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, length, d_model)`` → the same shape."""
        return self.outer(self.activation(self.inner(x)))

    __call__ = cast("Callable[..., Tensor]", nn.Module.__call__)


class Block(nn.Module):
    """Self-attention and feed-forward: an encoder block, or, under a causal mask, a block of a decoder-only model."""

    def __init__(
        self, d_model: int, n_heads: int, d_ff: int, dropout: float, norm: Norm, activation: Activation
    ) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(d_model, n_heads)
        self.feed_forward = FeedForward(d_model, d_ff, activation)
        self.attention_residual = Residual(d_model, norm, dropout)
        self.feed_forward_residual = Residual(d_model, norm, dropout)

    def forward(
        self,
        x: Tensor,
        context: AttentionContext,
        cache: KeyValueCache | None = None,
        record: list[Tensor] | None = None,
    ) -> Tensor:
        """``(batch, length, d_model)`` → the same shape; ``cache`` and ``record`` as in :class:`MultiHeadAttention`."""
        x = self.attention_residual(x, lambda y: self.attention(y, context, cache=cache, record=record))
        return self.feed_forward_residual(x, self.feed_forward)

    __call__ = cast("Callable[..., Tensor]", nn.Module.__call__)


class CrossBlock(nn.Module):
    """A block of an encoder–decoder's decoder: causal self-attention, attention to the encoder, feed-forward."""

    def __init__(
        self, d_model: int, n_heads: int, d_ff: int, dropout: float, norm: Norm, activation: Activation
    ) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(d_model, n_heads)
        self.cross_attention = MultiHeadAttention(d_model, n_heads)
        self.feed_forward = FeedForward(d_model, d_ff, activation)
        self.attention_residual = Residual(d_model, norm, dropout)
        self.cross_residual = Residual(d_model, norm, dropout)
        self.feed_forward_residual = Residual(d_model, norm, dropout)

    def forward(
        self,
        x: Tensor,
        context: AttentionContext,
        keys_values: tuple[Tensor, Tensor],
        cross_context: AttentionContext,
        cache: KeyValueCache | None = None,
        record: list[Tensor] | None = None,
        cross_record: list[Tensor] | None = None,
    ) -> Tensor:
        """One block.

        Args:
            x: ``(batch, target, d_model)``.
            context: causal mask and positions of the target.
            keys_values: ``self.cross_attention.keys_values(memory)``.
            cross_context: padding mask of the source, and the rotation of the target's positions.
            cache: earlier keys and values of the self-attention.
            record: receives the self-attention's weights ``(batch, heads, target, target)``.
            cross_record: receives the weights ``(batch, heads, target, source)``.
        """
        x = self.attention_residual(x, lambda y: self.attention(y, context, cache=cache, record=record))
        x = self.cross_residual(
            x,
            lambda y: self.cross_attention(y, cross_context, keys_values=keys_values, record=cross_record),
        )
        return self.feed_forward_residual(x, self.feed_forward)

    __call__ = cast("Callable[..., Tensor]", nn.Module.__call__)
