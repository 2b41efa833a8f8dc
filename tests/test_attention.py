"""Attention: equality with torch.nn, masks, all-masked rows, caches. All dimensions are different primes."""

import pytest
import torch
from torch import Tensor, nn

from course_lib.attention import (
    AttentionContext,
    KeyValueCache,
    MultiHeadAttention,
    causal_mask,
    fused_attention,
    masked_softmax,
    move_rows,
    padding_mask,
    scaled_dot_product_attention,
)
from course_lib.positions import rotary_angles

BATCH, HEADS, QUERY, KEY, D_HEAD = 2, 3, 5, 7, 11
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
DTYPES = list(TOLERANCE)


def tensors(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((BATCH, HEADS, QUERY, D_HEAD), (BATCH, HEADS, KEY, D_HEAD), (BATCH, HEADS, KEY, D_HEAD))
    query, key, value = (torch.randn(s, generator=generator, dtype=dtype, requires_grad=True) for s in shapes)
    return query, key, value


def random_mask() -> Tensor:
    mask = torch.rand(BATCH, 1, QUERY, KEY, generator=torch.Generator().manual_seed(1)) < 0.5
    mask[..., 0] = True  # no row is empty
    return mask


def torch_attention(ours: MultiHeadAttention) -> nn.MultiheadAttention:
    """A torch.nn.MultiheadAttention with the weights of ours."""
    reference = nn.MultiheadAttention(ours.d_model, ours.n_heads, batch_first=True).to(ours.output.weight.dtype)
    with torch.no_grad():
        reference.in_proj_weight.copy_(ours.query_key_value.weight)
        reference.in_proj_bias.copy_(ours.query_key_value.bias)
        reference.out_proj.load_state_dict(ours.output.state_dict())
    return reference


def randomised(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The module with all parameters, biases and gains too, drawn at random: zeros and ones would hide mistakes."""
    module = module.to(dtype)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=dtype) * 0.3)
    return module


@pytest.mark.parametrize("dtype", DTYPES)
def test_self_attention_equals_torch(dtype: torch.dtype) -> None:
    ours = randomised(MultiHeadAttention(HEADS * D_HEAD, HEADS), dtype)
    x = torch.randn(BATCH, QUERY, HEADS * D_HEAD, dtype=dtype, generator=torch.Generator().manual_seed(3))
    real = torch.tensor([[True] * QUERY, [True] * 3 + [False] * (QUERY - 3)])
    mask = padding_mask(real) & causal_mask(QUERY)
    expected, expected_weights = torch_attention(ours)(
        x, x, x, key_padding_mask=~real, attn_mask=~causal_mask(QUERY), average_attn_weights=False
    )
    record: list[Tensor] = []
    readable = ours(x, AttentionContext(mask), record=record)
    fused = ours(x, AttentionContext(mask))
    for found in (readable, fused):
        torch.testing.assert_close(found, expected, atol=TOLERANCE[dtype], rtol=0)
    torch.testing.assert_close(record[0], expected_weights, atol=TOLERANCE[dtype], rtol=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_attention_equals_torch(dtype: torch.dtype) -> None:
    ours = randomised(MultiHeadAttention(HEADS * D_HEAD, HEADS), dtype)
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(BATCH, QUERY, HEADS * D_HEAD, dtype=dtype, generator=generator)
    memory = torch.randn(BATCH, KEY, HEADS * D_HEAD, dtype=dtype, generator=generator)
    real = torch.tensor([[True] * KEY, [True] * 2 + [False] * (KEY - 2)])
    expected, _ = torch_attention(ours)(x, memory, memory, key_padding_mask=~real)
    found = ours(x, AttentionContext(padding_mask(real)), keys_values=ours.keys_values(memory))
    torch.testing.assert_close(found, expected, atol=TOLERANCE[dtype], rtol=0)


@pytest.mark.parametrize("with_mask", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
def test_fused_equals_readable_with_its_gradients(with_mask: bool, with_bias: bool) -> None:
    mask = random_mask() if with_mask else None
    bias = torch.randn(BATCH, HEADS, QUERY, KEY, dtype=torch.float64) if with_bias else None
    inputs = tensors()
    readable, _ = scaled_dot_product_attention(*inputs, mask, bias)
    fused = fused_attention(*inputs, mask, bias)
    torch.testing.assert_close(fused, readable, atol=1e-10, rtol=0)
    direction = torch.randn_like(readable)
    for a, b in zip(
        torch.autograd.grad(readable, inputs, direction), torch.autograd.grad(fused, inputs, direction), strict=True
    ):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=0)


# fault 48, fault 49: a row that may attend to nothing is defined – zero, not NaN and not uniform – on both paths, in
# every precision, and its gradients are finite.
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("with_bias", [False, True])
def test_row_that_may_attend_to_nothing(dtype: torch.dtype, with_bias: bool) -> None:
    mask = random_mask()
    mask[1, 0, 3] = False
    bias = torch.zeros(BATCH, HEADS, QUERY, KEY, dtype=dtype) if with_bias else None
    inputs = tensors(dtype)
    readable, weights = scaled_dot_product_attention(*inputs, mask, bias)
    assert torch.equal(weights[1, :, 3], torch.zeros(HEADS, KEY, dtype=dtype))
    sums = weights.sum(-1)
    assert torch.allclose(sums[mask.any(-1).expand_as(sums)], torch.ones((), dtype=dtype))
    for output in (readable, fused_attention(*inputs, mask, bias)):
        assert torch.equal(output[1, :, 3], torch.zeros(HEADS, D_HEAD, dtype=dtype))
        for gradient in torch.autograd.grad(output.sum(), inputs, retain_graph=True):
            assert gradient.isfinite().all()


# fault 51: the truth table of (key is padding, key lies ahead): only "real and not ahead" may be attended to.
def test_padding_and_causal_masks_combine() -> None:
    real = torch.tensor([[True, True, False], [False, True, True]])
    mask = padding_mask(real) & causal_mask(3)
    assert mask.shape == (2, 1, 3, 3)
    for row in range(2):
        for query in range(3):
            for key in range(3):
                assert mask[row, 0, query, key] == (real[row, key] and key <= query)


# fault 54: a mask that is computed but not used. A forbidden key may hold anything.
@pytest.mark.parametrize("value_of_masked_key", [1e6, -1e6])
def test_masked_key_has_no_influence(value_of_masked_key: float) -> None:
    query, key, value = (tensor.detach() for tensor in tensors())
    mask = torch.ones(BATCH, 1, 1, KEY, dtype=torch.bool)
    mask[0, ..., 4] = False
    changed_key, changed_value = key.clone(), value.clone()
    changed_key[0, :, 4] = value_of_masked_key
    changed_value[0, :, 4] = value_of_masked_key
    for attend in (lambda *a: scaled_dot_product_attention(*a)[0], fused_attention):
        expected, found = attend(query, key, value, mask), attend(query, changed_key, changed_value, mask)
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def test_softmax_of_huge_scores_is_finite() -> None:
    scores = torch.tensor([[1e4, -1e4, 0.0]])
    assert torch.equal(masked_softmax(scores), torch.tensor([[1.0, 0.0, 0.0]]))
    assert torch.equal(masked_softmax(scores, torch.tensor([False, True, True])), torch.tensor([[0.0, 0.0, 1.0]]))


# fault 56, fault 70: with a cache, the value at *every* position equals the full causal pass.
@pytest.mark.parametrize("window", [None, 1, 3, 50])
@pytest.mark.parametrize("prompt", [0, 1, 5])
def test_cached_equals_full(window: int | None, prompt: int) -> None:
    length = 41  # beyond the first allocation of the cache
    attention = randomised(MultiHeadAttention(HEADS * 2, HEADS), torch.float64)
    x = torch.randn(BATCH, length, HEADS * 2, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    mask = causal_mask(length)
    if window is not None:
        mask = mask & ~causal_mask(length).tril(-window)
    expected = attention(x, AttentionContext(mask))
    cache = KeyValueCache(window)
    parts = []
    if prompt:
        parts.append(attention(x[:, :prompt], AttentionContext(mask[:prompt, :prompt]), cache=cache))
    parts += [attention(x[:, t : t + 1], AttentionContext(), cache=cache) for t in range(prompt, length)]
    torch.testing.assert_close(torch.cat(parts, dim=1), expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("rows", [[0, 1, 2, 3, 4], [0, 4, 2, 3], [4, 3], [1, 0, 3, 2], [2, 2, 2]])
@pytest.mark.parametrize("dim", [0, 1])
def test_move_rows_is_a_selection_in_place(rows: list[int], dim: int) -> None:
    x = torch.randn(5, 5)
    selected = x.index_select(dim, torch.tensor(rows, dtype=torch.long))
    moved = move_rows(x, torch.tensor(rows, dtype=torch.long), dim)
    assert torch.equal(moved, selected)
    assert moved.data_ptr() == x.data_ptr()  # no copy of what stays


def test_rows_are_not_made_by_moving() -> None:
    with pytest.raises(ValueError, match="2 rows can be kept and reordered, not made 4"):
        move_rows(torch.randn(2, 3), torch.tensor([0, 0, 1, 1]))


def test_cache_rows_can_be_reordered() -> None:
    cache = KeyValueCache()
    keys = torch.arange(6.0).view(3, 1, 1, 2).expand(3, 1, 1, 2)
    cache.append(keys, -keys)
    cache.select(torch.tensor([2, 0]))
    kept_keys, kept_values = cache.append(keys[:2] + 10, -keys[:2] - 10)
    assert kept_keys[:, 0, :, 0].tolist() == [[4.0, 10.0], [0.0, 12.0]]
    assert torch.equal(kept_values, -kept_keys)


def test_heads_must_divide() -> None:
    with pytest.raises(ValueError, match=r"n_heads must divide d_model.*13 / 4"):
        MultiHeadAttention(13, 4)


def test_rotated_cross_attention_sees_distances_only() -> None:
    torch.manual_seed(0)
    layer = MultiHeadAttention(22, 1)
    x, memory = torch.randn(3, 5, 22), torch.randn(3, 7, 22)

    def attend(target_start: int, source_start: int) -> Tensor:
        target = rotary_angles(torch.arange(5)[None] + target_start, 22)
        source = rotary_angles(torch.arange(7)[None] + source_start, 22)
        return layer(x, AttentionContext(rotation=target), layer.keys_values(memory, source))

    torch.testing.assert_close(attend(13, 13), attend(0, 0), rtol=0, atol=1e-5)
    assert (attend(13, 0) - attend(0, 0)).abs().max() > 1e-2, "moving one side alone must change the result"
