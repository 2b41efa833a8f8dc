"""Low-rank adaptation: fine-tune a model by a few small matrices and leave its weights alone.

Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022, section 4.1: a weight W₀ becomes
W₀ + (α / r) B A with A of shape (r, in) random and B of shape (out, r) zero, so that training starts from the very
model that was given. Only A and B are trained: r · (in + out) numbers in place of in · out.

The sum is a *parametrisation* of the weight (``torch.nn.utils.parametrize``): whoever reads ``linear.weight`` gets the
adapted one. So it also works for :class:`~course_lib.attention.MultiHeadAttention`, which multiplies by slices of one
matrix for queries, keys and values: the three share A, and each has its own rows of B.
"""

import math
from collections.abc import Collection

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

ATTENTION = ("query_key_value", "output")  # the matrices of every attention layer


class LowRank(nn.Module):
    """W ↦ W + (α / r) B A."""

    def __init__(self, weight: Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        n_out, n_in = weight.shape
        self.down = nn.Parameter(torch.randn(rank, n_in).to(weight) / math.sqrt(n_in))  # A
        self.up = nn.Parameter(torch.zeros(n_out, rank).to(weight))  # B
        self.scale = alpha / rank

    def forward(self, weight: Tensor) -> Tensor:
        """``(out, in)`` → the adapted weight of the same shape."""
        return torch.addmm(weight, self.up, self.down, alpha=self.scale)


def add_lora(model: nn.Module, rank: int = 4, alpha: float = 8.0, names: Collection[str] = ATTENTION) -> int:
    """Freeze a model and adapt its linear layers of these names; its outputs are at first exactly what they were.

    Args:
        model: changed in place.
        rank: r, of every matrix.
        alpha: the adaptation is scaled by α / r.
        names: the last part of the names of the ``nn.Linear`` layers to adapt, such as "inner" and "outer" of the
            feed-forward network.

    Returns:
        The number of parameters that are trained.

    Raises:
        ValueError: if the model has been adapted already, has no such layer, or ``rank`` is not below the smaller side
            of a weight (it would save nothing).
    """
    if any(parametrize.is_parametrized(module, "weight") for module in model.modules()):
        raise ValueError("the model is adapted already; call merge_lora first")
    chosen = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.rsplit(".", 1)[-1] in names
    }
    if not chosen:
        raise ValueError(f"the model has no linear layer named {' or '.join(names)}")
    shared = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    for name, module in chosen.items():
        if id(module.weight) in shared:
            raise ValueError(f"the weight of {name} is that of the embedding, too; to adapt one would part them")
        if not 1 <= rank < min(module.weight.shape):
            raise ValueError(f"rank must be from 1 to {min(module.weight.shape) - 1} for {name}, got {rank}")
    model.requires_grad_(False)
    for module in chosen.values():
        parametrize.register_parametrization(module, "weight", LowRank(module.weight, rank, alpha))
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def merge_lora(model: nn.Module) -> None:
    """Fold the adaptations into the weights: a plain model again, all of it trainable, with the same outputs.

    Raises:
        ValueError: if nothing is adapted.
    """
    adapted = [module for module in model.modules() if parametrize.is_parametrized(module, "weight")]
    if not adapted:
        raise ValueError("the model has no adaptation to merge")
    for module in adapted:
        parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
    model.requires_grad_(True)
