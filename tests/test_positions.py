"""Positions: closed forms, rotation properties, counting under padding."""

import math

import pytest
import torch

from course_lib.positions import (
    LearnedPositions,
    SinusoidalPositions,
    alibi_bias,
    alibi_slopes,
    count_positions,
    rotary_angles,
    rotate,
    sinusoidal,
)


# fault 58: padding on either side leaves the numbers of the real tokens alone.
def test_positions_count_real_tokens() -> None:
    real = torch.tensor([[True, True, True], [False, True, True], [True, True, False], [False, False, False]])
    assert count_positions(real).tolist() == [[0, 1, 2], [0, 0, 1], [0, 1, 1], [0, 0, 0]]


# fault 63: the exponent, at its first and last pair of dimensions.
def test_sinusoidal_closed_form() -> None:
    d_model, position = 14, 29
    table = sinusoidal(torch.tensor([position]), d_model)[0]
    for i in (0, d_model // 2 - 1):
        angle = position / 10000 ** (2 * i / d_model)
        assert table[2 * i].item() == pytest.approx(math.sin(angle), abs=1e-6)
        assert table[2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)


def test_shift_of_sinusoids_is_a_rotation() -> None:
    # PE(p + k) is PE(p) turned by an angle that depends on k only.
    d_model, k = 10, 7
    before = sinusoidal(torch.tensor([3, 19]), d_model).double()
    after = sinusoidal(torch.tensor([3 + k, 19 + k]), d_model).double()
    angles = k * 10000.0 ** (-torch.arange(0, d_model, 2, dtype=torch.float64) / d_model)
    sine, cosine = before[:, 0::2], before[:, 1::2]
    torch.testing.assert_close(after[:, 0::2], sine * angles.cos() + cosine * angles.sin(), atol=1e-6, rtol=0)
    torch.testing.assert_close(after[:, 1::2], cosine * angles.cos() - sine * angles.sin(), atol=1e-6, rtol=0)


def test_sinusoidal_table_grows() -> None:
    module = SinusoidalPositions(6, initial_length=5)
    positions = torch.tensor([[0, 4, 23]])
    torch.testing.assert_close(module(positions, longest=24), sinusoidal(positions, 6))


def test_odd_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"d_model must be even.*7"):
        sinusoidal(torch.tensor([0]), 7)


def test_learned_positions_end() -> None:
    module = LearnedPositions(5, 3)
    assert module(torch.tensor([[4]]), longest=5).shape == (1, 1, 3)
    with pytest.raises(ValueError, match=r"6 tokens is longer than the model, which learned 5"):
        module(torch.tensor([[5]]), longest=6)


# fault 64: if angles and rotation used different pairings, q·k would depend on more than the distance.
def test_rotary_product_depends_on_the_distance_only() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 1, 1, 1, 14, dtype=torch.float64, generator=generator)
    products = []
    for start in (0, 5, 61):
        q = rotate(query, *rotary_angles(torch.tensor([[start + 13]]), 14))
        k = rotate(key, *rotary_angles(torch.tensor([[start]]), 14))
        products.append((q * k).sum().item())
    assert products == pytest.approx([products[0]] * 3, abs=1e-5)
    farther = (rotate(query, *rotary_angles(torch.tensor([[29]]), 14)) * key).sum().item()
    assert abs(products[0] - farther) > 0.1  # and it does depend on the distance


# fault 65: shift invariance cannot tell the two pairings apart; the values at a position ≥ 5 can. Reference: a rotation
# matrix for each pair of adjacent dimensions (RoFormer, equation 13).
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-6), (torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
def test_rotary_turns_adjacent_dimensions(dtype: torch.dtype, atol: float) -> None:
    d_head, position = 6, 17
    x = torch.rand(1, 1, 1, d_head, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).to(dtype)
    expected = []
    for i in range(0, d_head, 2):
        angle = position * 10000.0 ** (-i / d_head)
        matrix = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        expected += (matrix.double() @ x[0, 0, 0, i : i + 2].double()).tolist()
    found = rotate(x, *rotary_angles(torch.tensor([[position]]), d_head))
    assert found.dtype == dtype
    assert found.flatten().tolist() == pytest.approx(expected, abs=atol)


def test_alibi_slopes_of_the_paper() -> None:
    # Press et al. 2022, section 3: for 8 heads the slopes are 1/2, 1/4, …, 1/256.
    assert alibi_slopes(8).tolist() == [2.0**-i for i in range(1, 9)]
    assert alibi_slopes(3).tolist() == pytest.approx([2**-4.0, 2**-8.0, 2**-2.0])
    bias = alibi_bias(torch.tensor([[4, 5]]), torch.tensor([[4, 1, 6]]), 8)
    assert bias.shape == (1, 8, 2, 3)
    assert bias[0, 1].tolist() == [[0.0, -0.75, -0.5], [-0.25, -1.0, -0.25]]
