"""Blocks: equality with torch.nn, and which norm stands where."""

import pytest
import torch
from torch import Tensor, nn

from course_lib.attention import AttentionContext, causal_mask, padding_mask
from course_lib.layers import Block, CrossBlock, Dropout, Norm, Residual, layer_norm
from tests.test_attention import DTYPES, TOLERANCE, randomised

BATCH, SOURCE, TARGET, D_MODEL, HEADS, D_FF = 2, 5, 7, 33, 3, 13


def copy_attention(reference: nn.MultiheadAttention, ours: nn.Module) -> None:
    with torch.no_grad():
        reference.in_proj_weight.copy_(ours.query_key_value.weight)
        reference.in_proj_bias.copy_(ours.query_key_value.bias)
    reference.out_proj.load_state_dict(ours.output.state_dict())


def inputs(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    memory = torch.randn(BATCH, SOURCE, D_MODEL, dtype=dtype, generator=generator)
    x = torch.randn(BATCH, TARGET, D_MODEL, dtype=dtype, generator=generator)
    real = torch.tensor([[True] * SOURCE, [True] * 2 + [False] * (SOURCE - 2)])
    return memory, x, real


# fault 61: the norms of a block have distinct random gains, so using the wrong one would show.
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_encoder_block_equals_torch(dtype: torch.dtype, norm: Norm, activation: str) -> None:
    ours = randomised(Block(D_MODEL, HEADS, D_FF, 0.0, norm, activation), dtype)
    reference = nn.TransformerEncoderLayer(
        D_MODEL, HEADS, D_FF, 0.0, activation, batch_first=True, norm_first=norm == "pre", dtype=dtype
    )
    copy_attention(reference.self_attn, ours.attention)
    reference.linear1.load_state_dict(ours.feed_forward.inner.state_dict())
    reference.linear2.load_state_dict(ours.feed_forward.outer.state_dict())
    reference.norm1.load_state_dict(ours.attention_residual.norm.state_dict())
    reference.norm2.load_state_dict(ours.feed_forward_residual.norm.state_dict())
    x, _, real = inputs(dtype)
    found = ours(x, AttentionContext(padding_mask(real)))
    expected = reference(x, src_key_padding_mask=~real)
    torch.testing.assert_close(found[real], expected[real], atol=TOLERANCE[dtype], rtol=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_decoder_block_equals_torch(dtype: torch.dtype, norm: Norm) -> None:
    ours = randomised(CrossBlock(D_MODEL, HEADS, D_FF, 0.0, norm, "relu"), dtype)
    reference = nn.TransformerDecoderLayer(
        D_MODEL, HEADS, D_FF, 0.0, batch_first=True, norm_first=norm == "pre", dtype=dtype
    )
    copy_attention(reference.self_attn, ours.attention)
    copy_attention(reference.multihead_attn, ours.cross_attention)
    reference.linear1.load_state_dict(ours.feed_forward.inner.state_dict())
    reference.linear2.load_state_dict(ours.feed_forward.outer.state_dict())
    reference.norm1.load_state_dict(ours.attention_residual.norm.state_dict())
    reference.norm2.load_state_dict(ours.cross_residual.norm.state_dict())
    reference.norm3.load_state_dict(ours.feed_forward_residual.norm.state_dict())
    memory, x, real = inputs(dtype)
    found = ours(
        x,
        AttentionContext(causal_mask(TARGET)),
        ours.cross_attention.keys_values(memory),
        AttentionContext(padding_mask(real)),
    )
    expected = reference(x, memory, tgt_mask=~causal_mask(TARGET), memory_key_padding_mask=~real)
    torch.testing.assert_close(found, expected, atol=TOLERANCE[dtype], rtol=0)


# fault 59: the residual must add the input itself, not the normalised input: with f = 0 the pre-norm frame is the
# identity, and the post-norm frame is the norm. fault 60: which of the two it is shows in the output.
def test_residual_adds_the_input() -> None:
    x = torch.randn(2, 3, 5) * 7 + 2
    assert torch.equal(Residual(5, "pre", 0.0)(x, torch.zeros_like), x)
    post = Residual(5, "post", 0.0)(x, torch.zeros_like)
    torch.testing.assert_close(post.mean(-1), torch.zeros(2, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(post.std(-1, correction=0), torch.ones(2, 3), atol=1e-4, rtol=0)


def test_layer_norm_equals_torch() -> None:
    x, gain, bias = (torch.randn(shape, dtype=torch.float64) for shape in ((2, 3, 5), (5,), (5,)))
    expected = nn.functional.layer_norm(x, (5,), gain, bias, eps=0.5)  # a large ε shows whether it stands in the root
    torch.testing.assert_close(layer_norm(x, gain, bias, eps=0.5), expected, atol=1e-12, rtol=0)


# --- Dropout ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("dtype", DTYPES)
def test_dropout_has_the_stated_probability_and_keeps_the_mean(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    n = 400_001  # not a multiple of the four that share a draw
    dropped = Dropout(p)(torch.ones(n, dtype=dtype))
    assert dropped.dtype == dtype
    values = dropped.unique()
    torch.testing.assert_close(values, torch.tensor([0, 1 / (1 - p)], dtype=dtype), atol=0, rtol=1e-4)
    is_dropped = dropped == 0
    for start in range(4):  # each of the four
        share = is_dropped[start::4].double().mean().item()
        assert abs(share - p) < 5 * (p * (1 - p) / (n / 4)) ** 0.5
    for distance in (1, 2, 3, 4, 5):  # and any two of them together
        both = (is_dropped[distance:] & is_dropped[:-distance]).double().mean().item()
        assert abs(both - p * p) < 5 * (p * p * (1 - p * p) / n) ** 0.5


def test_dropout_and_its_gradient_drop_the_same() -> None:
    x = torch.randn(3, 5, 7, requires_grad=True)
    dropped = Dropout(0.5)(x)
    dropped.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(dropped, x * x.grad)
    assert 0 < int((x.grad == 0).sum()) < x.numel()


def test_dropout_follows_the_seed_and_does_nothing_in_evaluation() -> None:
    x = torch.randn(11, 13)
    layer = Dropout(0.3)
    first, again, other = (layer(x) for seed in (1, 1, 2) if torch.manual_seed(seed))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(layer.eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)
    assert layer(torch.empty(0, 4)).shape == Dropout(0.3)(torch.empty(0, 4)).shape == (0, 4)
    with pytest.raises(ValueError, match=r"dropout must be in \[0, 1\), got 1"):
        Dropout(1)
