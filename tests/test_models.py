"""The three model families: padding, leaks, initialisation, tying, and the readable against the fused path."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from course_lib.models import CausalLM, MaskedLM, Model, ModelConfig, Seq2Seq, evaluating
from course_lib.tokenizers import BOS, PAD

VOCABULARY = 101
SCHEMES = ["sinusoidal", "learned", "rotary", "alibi"]


def small(**changes: Any) -> ModelConfig:
    values: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "d_model": 6 * 7,
        "n_heads": 7,
        "n_encoder_layers": 2,
        "n_decoder_layers": 3,
        "d_ff": 31,
        "dropout": 0.0,
        "max_length": 29,
    }
    return ModelConfig(**(values | changes))


def build(kind: type[Model], **changes: Any) -> Model:
    torch.manual_seed(0)
    return kind(small(**changes)).double().eval()


def tokens(*shape: int, seed: int = 1) -> Tensor:
    return torch.randint(5, VOCABULARY, shape, generator=torch.Generator().manual_seed(seed))


def pad(x: Tensor, left: int, right: int) -> Tensor:
    return torch.nn.functional.pad(x, (left, right), value=PAD)


# fault 52, fault 58: padding on the left, on the right or not at all gives the same logits on the real tokens.
@pytest.mark.parametrize("positions", SCHEMES)
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_padding_changes_nothing(positions: str, norm: str) -> None:
    model = build(Seq2Seq, positions=positions, norm=norm)
    source, target = tokens(2, 5), tokens(2, 7, seed=2)
    expected = model(source, target)
    for left, right in ((3, 0), (0, 3), (2, 1)):
        found = model(pad(source, left, right), pad(target, right, left))
        torch.testing.assert_close(found[:, right : right + 7], expected, atol=1e-10, rtol=0)
    for kind in (CausalLM, MaskedLM):
        model = build(kind, positions=positions, norm=norm)
        expected = model(target)
        for left, right in ((3, 0), (0, 3), (2, 1)):
            found = model(pad(target, left, right))
            torch.testing.assert_close(found[:, left : left + 7], expected, atol=1e-10, rtol=0)


# fault 50: nothing leaks from the future: changing the token at t leaves every earlier output as it was – and changes
# the output at t, or the model would not read its input at all.
@pytest.mark.parametrize("positions", SCHEMES)
@pytest.mark.parametrize("kind", [Seq2Seq, CausalLM])
def test_no_leak_from_the_future(kind: type[Model], positions: str) -> None:
    model = build(kind, positions=positions)
    source, target = tokens(2, 5), tokens(2, 11, seed=2)
    inputs = (source,) if kind is Seq2Seq else ()
    before = model(*inputs, target)
    for t in (0, 4, 10):
        changed = target.clone()
        changed[:, t] = (changed[:, t] + 1 - 5) % (VOCABULARY - 5) + 5
        after = model(*inputs, changed)
        assert torch.equal(after[:, :t], before[:, :t])
        assert (after[:, t:] - before[:, t:]).abs().amax(-1).min() > 1e-6


def test_every_output_depends_on_every_source_token() -> None:
    model = build(Seq2Seq)
    source, target = tokens(1, 5), tokens(1, 7, seed=2)
    before = model(source, target)
    for s in range(5):
        changed = source.clone()
        changed[:, s] = (changed[:, s] + 1 - 5) % (VOCABULARY - 5) + 5
        assert (model(changed, target) - before).abs().amax(-1).min() > 1e-8


@pytest.mark.parametrize("window", [1, 3])
def test_window_limits_what_a_layer_sees(window: int) -> None:
    model = build(CausalLM, window=window, n_decoder_layers=1, positions="rotary")
    x = tokens(1, 11)
    before = model(x)
    changed = x.clone()
    changed[:, 4] = (changed[:, 4] + 1 - 5) % (VOCABULARY - 5) + 5
    moved = (model(changed) - before).abs().amax(-1)[0] > 1e-9
    assert moved.tolist() == [4 <= t < 4 + window for t in range(11)]


def test_an_empty_source_gives_finite_logits_and_gradients() -> None:
    model = build(Seq2Seq)
    source = torch.cat([tokens(1, 5), torch.full((1, 5), PAD)])
    logits = model(source, tokens(2, 7, seed=2))
    logits.logsumexp(-1).sum().backward()
    assert logits.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("positions", SCHEMES)
def test_attention_maps_come_from_the_same_computation(positions: str) -> None:
    model = build(Seq2Seq, positions=positions)
    source, target = pad(tokens(2, 5), 0, 2), tokens(2, 11, seed=2)
    maps = model.attention(source, target)
    assert [tuple(w.shape) for w in maps.encoder] == [(2, 7, 7, 7)] * 2
    assert [tuple(w.shape) for w in maps.decoder] == [(2, 7, 11, 11)] * 3
    assert [tuple(w.shape) for w in maps.cross] == [(2, 7, 11, 7)] * 3
    for weights in (*maps.encoder, *maps.decoder, *maps.cross):
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights.sum(-1)))
    assert all((w[..., 5:] == 0).all() for w in (*maps.encoder, *maps.cross))  # the padding of the source
    assert all((w.triu(1) == 0).all() for w in maps.decoder)
    # The readable path gives the same output as the fused one.
    readable = model._decode(target, *model.encode(source, []), record=[], cross_record=[])
    torch.testing.assert_close(readable, model.features(source, target), atol=1e-10, rtol=0)
    for kind in (CausalLM, MaskedLM):
        other = build(kind, positions=positions)
        found = other.attention(target)
        assert len(found.decoder) == (3 if kind is CausalLM else 0)
        assert len(found.encoder) == (0 if kind is CausalLM else 2)


# fault 85: an untrained model knows nothing, so its loss is ln V to within 2 %, for small and large vocabularies.
# (Below a hundred tokens a tied output layer shows: it slightly prefers the token it reads.)
@pytest.mark.parametrize("vocabulary", [499, 8000])
@pytest.mark.parametrize("kind", [Seq2Seq, CausalLM, MaskedLM])
@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("tie", [True, False])
def test_initial_loss_is_ln_v(kind: type[Model], vocabulary: int, norm: str, tie: bool) -> None:
    torch.manual_seed(0)
    model = kind(small(vocab_size=vocabulary, norm=norm, tie_embeddings=tie, d_model=70))
    generator = torch.Generator().manual_seed(3)
    target = torch.randint(5, vocabulary, (17, 13), generator=generator)
    inputs = (target, target) if kind is Seq2Seq else (target,)
    labels = torch.randint(5, vocabulary, (17, 13), generator=generator)
    loss = torch.nn.functional.cross_entropy(model(*inputs).flatten(0, 1), labels.flatten())
    assert loss.item() == pytest.approx(math.log(vocabulary), rel=0.02)


# fault 85: tied means one tensor, counted once. By hand, for V = 101, d = 42, f = 31: embedding V·d, output bias V;
# attention 4 d² + 4 d; feed-forward 2 d f + f + d; norm 2 d.
def test_parameter_count_and_tying() -> None:
    tied, untied = build(Seq2Seq), build(Seq2Seq, tie_embeddings=False)
    assert tied.head.weight is tied.embedding.tokens.weight
    d, f, v = 42, 31, VOCABULARY
    attention, feed_forward, norm = 4 * d * d + 4 * d, 2 * d * f + f + d, 2 * d
    encoder = 2 * (attention + feed_forward + 2 * norm) + norm
    decoder = 3 * (2 * attention + feed_forward + 3 * norm) + norm
    expected = v * d + v + encoder + decoder
    assert sum(p.numel() for p in tied.parameters()) == expected
    assert sum(p.numel() for p in untied.parameters()) == expected + v * d


def test_gradients_reach_every_parameter() -> None:
    for kind in (Seq2Seq, CausalLM, MaskedLM):
        model = build(kind, positions="learned")
        inputs = (tokens(2, 5), tokens(2, 7, seed=2)) if kind is Seq2Seq else (tokens(2, 7),)
        model(*inputs).square().sum().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_longer_than_the_model() -> None:
    model = build(CausalLM, positions="learned")
    assert model(tokens(1, 29)).shape == (1, 29, VOCABULARY)
    with pytest.raises(ValueError, match="30 tokens is longer than the model, which learned 29 positions"):
        model(tokens(1, 30))
    assert build(CausalLM, positions="sinusoidal")(tokens(1, 300)).isfinite().all()


def test_bos_is_not_padding() -> None:  # fault 86: if they were equal, the start of every output would be masked
    assert BOS != PAD


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_heads": 5}, "n_heads must divide d_model, got 5 and 42"),
        ({"norm": "middle"}, "norm must be one of pre, post, got 'middle'"),
        ({"positions": "none"}, "positions must be one of"),
        ({"activation": "tanh"}, "activation must be one of relu, gelu, silu"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"d_ff": 0}, "d_ff must be at least 1, got 0"),
        ({"window": 0}, "window must be at least 1 token"),
        ({"d_model": 21, "n_heads": 7, "positions": "sinusoidal"}, "d_model must be even, got 21"),
        ({"d_model": 42, "n_heads": 14, "positions": "rotary"}, "d_model / n_heads must be even, got 3"),
    ],
)
def test_impossible_configurations(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**changes)


def test_configuration_round_trip() -> None:
    config = small(window=3, norm="post")
    assert ModelConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ValueError, match="unknown fields in the model configuration: depth"):
        ModelConfig.from_dict(config.to_dict() | {"depth": 3})


# A frozen encoder is kept in evaluation mode while the rest trains: model.train() at the end would wake its dropout.
def test_evaluating_leaves_every_module_in_its_own_mode() -> None:
    model = build(Seq2Seq, dropout=0.5).train()
    for module in model.encoder:
        module.eval()
    modes = [module.training for module in model.modules()]
    assert len(set(modes)) == 2
    source, target = tokens(2, 5), tokens(2, 7, seed=2)
    with evaluating(model):
        logits = model(source, target)
        assert torch.equal(logits, model(source, target)), "dropout is active"
        assert not logits.requires_grad
    assert [module.training for module in model.modules()] == modes
    with pytest.raises(KeyError), evaluating(model):
        raise KeyError
    assert [module.training for module in model.modules()] == modes, "also after an error"
    assert model(source, target).requires_grad
    with evaluating(object()):  # not a module: a table of probabilities, say
        assert not torch.is_grad_enabled()
