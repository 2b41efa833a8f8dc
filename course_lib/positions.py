"""Positional information: sinusoidal, learned, rotary and ALiBi.

Positions are integers ``(batch, length)`` that count the *real* tokens of a row from 0. A row padded on the left, on
the right or not at all therefore gives the same numbers to the same tokens.
"""

import torch
from torch import Tensor, nn


def count_positions(real: Tensor) -> Tensor:
    """Position of each token among the real ones; padding gets the position of its nearest earlier real token, or 0.

    Args:
        real: boolean ``(batch, length)``, True at real tokens.

    Returns:
        int64 ``(batch, length)``.
    """
    return (real.cumsum(dim=1) - 1).clamp(min=0)


def sinusoidal(positions: Tensor, d_model: int) -> Tensor:
    """PE(p, 2i) = sin(p / 10000^(2i/d)), PE(p, 2i+1) = cos of the same (Vaswani et al. 2017, section 3.5).

    Args:
        positions: any shape ``(...)``.
        d_model: even number of dimensions.

    Returns:
        float32 ``(..., d_model)``.
    """
    if d_model % 2:
        raise ValueError(f"d_model must be even for sinusoidal positions (a sine and a cosine each), got {d_model}")
    # Angles in float64: at position 10,000 float32 would already be wrong in the fourth decimal.
    device = "cpu" if positions.device.type == "mps" else positions.device  # Apple's GPUs have no float64
    frequencies = 10000.0 ** (-torch.arange(0, d_model, 2, dtype=torch.float64, device=device) / d_model)
    angles = positions.to(device).unsqueeze(-1) * frequencies
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2).float().to(positions.device)


class SinusoidalPositions(nn.Module):
    """Sinusoidal vectors looked up in a table that grows when a longer sentence comes: there is no longest one."""

    table: Tensor

    def __init__(self, d_model: int, initial_length: int = 256) -> None:
        super().__init__()
        self.register_buffer("table", sinusoidal(torch.arange(initial_length), d_model), persistent=False)

    def forward(self, positions: Tensor, longest: int) -> Tensor:
        """``(batch, length)`` → ``(batch, length, d_model)``; every position must be below ``longest``."""
        if longest > len(self.table):
            grown = sinusoidal(torch.arange(2 * longest), self.table.size(1))
            self.table = grown.to(self.table)
        return self.table[positions]


class LearnedPositions(nn.Module):
    """One trained vector per position (Gehring et al. 2017; BERT and GPT-2 use it). It ends at ``max_length``."""

    def __init__(self, max_length: int, d_model: int) -> None:
        super().__init__()
        self.table = nn.Embedding(max_length, d_model)
        nn.init.normal_(self.table.weight, std=0.02)

    def forward(self, positions: Tensor, longest: int) -> Tensor:
        """``(batch, length)`` → ``(batch, length, d_model)``.

        Raises:
            ValueError: if ``longest`` exceeds the number of vectors.
        """
        if longest > self.table.num_embeddings:
            raise ValueError(
                f"a sentence of {longest} tokens is longer than the model, which learned {self.table.num_embeddings} "
                "positions; shorten it, or build the model with a larger max_length or positions='sinusoidal'"
            )
        return self.table(positions)


def rotary_angles(positions: Tensor, d_head: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of p · 10000^(−2i/d) (Su et al., "RoFormer", 2021, section 3.2.2).

    Args:
        positions: ``(batch, length)``.
        d_head: even size of a head.

    Returns:
        Two float32 tensors ``(batch, 1, length, d_head / 2)``; the axis of size 1 stands for the heads.
    """
    table = sinusoidal(positions, d_head)[:, None]
    return table[..., 1::2], table[..., 0::2]


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn each pair of *adjacent* dimensions of ``x`` ``(batch, heads, length, d_head)`` by its angle.

    Adjacent are (0, 1), (2, 3), …: the pairing of the RoFormer paper. LLaMA-style weights pair dimension i with
    i + d/2 instead: the two agree only after a permutation of the dimensions, so weights of one must not be loaded
    into the other.

    A pair (a, b) is taken as the complex number a + bi. To turn it by θ is to multiply it by cos θ + i sin θ: one
    multiplication, half the time of writing out a cos θ − b sin θ and a sin θ + b cos θ.
    """
    wide = x if x.dtype == torch.float64 else x.float()  # there are no complex numbers of two bfloat16
    turn = torch.complex(cosine.to(wide.dtype), sine.to(wide.dtype))
    turned = torch.view_as_complex(wide.unflatten(-1, (-1, 2))) * turn
    return torch.view_as_real(turned).flatten(-2).to(x.dtype)


def alibi_slopes(n_heads: int) -> Tensor:
    """Slopes of the heads: the sequence 2^(−8/n), 2^(−16/n), … (Press et al., "Train Short, Test Long", 2022).

    For a number of heads that is no power of two the paper's published code interleaves two such sequences; so do we.
    """

    def powers(n: int) -> list[float]:
        return [2.0 ** (-8.0 * (head + 1) / n) for head in range(n)]

    below = 2 ** (n_heads.bit_length() - 1)  # the largest power of two that is not above n_heads
    return torch.tensor(powers(below) + powers(2 * below)[0::2][: n_heads - below])


def alibi_bias(query_positions: Tensor, key_positions: Tensor, n_heads: int) -> Tensor:
    """−slope · |distance|, to be added to the scores: the farther a key, the less it counts.

    Args:
        query_positions: ``(batch, query)``.
        key_positions: ``(batch, key)``.
        n_heads: number of heads.

    Returns:
        float32 ``(batch, heads, query, key)``.
    """
    distance = (query_positions[:, :, None] - key_positions[:, None, :]).abs()
    return -alibi_slopes(n_heads).to(distance.device)[None, :, None, None] * distance[:, None]
