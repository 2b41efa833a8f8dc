"""Low-rank adaptation: the same function at first, few parameters, and a plain model in the end."""

from pathlib import Path

import pytest
import torch
from torch import nn

from course_lib.batching import TokenBatches
from course_lib.checkpoints import load_model, save_model
from course_lib.lora import add_lora, merge_lora
from course_lib.models import CausalLM, ModelConfig, Seq2Seq
from course_lib.training import TrainConfig, Trainer

CONFIG = ModelConfig(53, d_model=12, n_heads=3, n_encoder_layers=2, n_decoder_layers=2, d_ff=20)
SOURCE, TARGET = torch.tensor([[7, 8, 9, 2]]), torch.tensor([[1, 10, 11]])
PAIRS = [([7 + i % 5, 8, 9], [10 + i % 7, 11, 12 + i % 3]) for i in range(40)]


def adapted(rank: int = 2, **options: object) -> tuple[Seq2Seq, int]:
    torch.manual_seed(0)
    model = Seq2Seq(CONFIG).eval()
    return model, add_lora(model, rank, **options)  # type: ignore[arg-type]


def train(model: nn.Module, steps: int = 20) -> None:
    batches = TokenBatches(PAIRS, max_tokens=64, seed=1)
    Trainer(model, batches, TrainConfig(steps=steps, lr=0.02, seed=1), progress=False).run()  # type: ignore[arg-type]


def test_nothing_changes_at_first_to_the_bit() -> None:
    torch.manual_seed(0)
    plain = Seq2Seq(CONFIG).eval()
    model, _ = adapted()
    assert torch.equal(plain(SOURCE, TARGET), model(SOURCE, TARGET))


def test_the_number_of_trained_parameters_is_r_times_the_sides() -> None:
    _, trained = adapted(rank=2)
    d = CONFIG.d_model
    n_attentions = 2 + 2 * 2  # one an encoder block, two a decoder block
    assert trained == n_attentions * 2 * ((3 * d + d) + (d + d))
    _, more = adapted(rank=2, names=("query_key_value", "output", "inner", "outer"))
    assert more == trained + 4 * 2 * 2 * (d + CONFIG.d_ff)


def test_training_moves_the_adaptations_and_nothing_else() -> None:
    model, _ = adapted()
    before = {name: p.clone() for name, p in model.named_parameters()}
    output = model(SOURCE, TARGET)
    train(model)
    for name, p in model.named_parameters():
        moved = not torch.equal(p, before[name])
        assert moved == (name.endswith(("down", "up"))), name
    assert not torch.allclose(output, model.eval()(SOURCE, TARGET), atol=1e-3)


def test_queries_keys_and_values_of_cross_attention_are_all_adapted() -> None:
    # They are slices of one weight: an adapter of modules, not of weights, would miss keys and values.
    model, _ = adapted()
    memory = torch.randn(1, 5, CONFIG.d_model)
    attention = model.decoder[0].cross_attention
    keys, values = attention.keys_values(memory)
    low_rank = attention.query_key_value.parametrizations["weight"][0]  # type: ignore[index, union-attr]
    nn.init.normal_(low_rank.up)
    changed_keys, changed_values = attention.keys_values(memory)
    assert not torch.allclose(keys, changed_keys) and not torch.allclose(values, changed_values)


def test_the_adaptation_has_the_stated_rank_and_scale() -> None:
    model, _ = adapted(rank=2, alpha=6.0)
    linear = model.encoder[0].attention.output
    original, low_rank = linear.parametrizations["weight"].original, linear.parametrizations["weight"][0]
    nn.init.normal_(low_rank.up)
    change = linear.weight - original
    assert torch.linalg.matrix_rank(change, atol=1e-5) == 2
    torch.testing.assert_close(change, 3.0 * low_rank.up @ low_rank.down)


def test_merged_it_is_a_plain_model_with_the_same_outputs(tmp_path: Path) -> None:
    model, _ = adapted()
    train(model)
    expected = model.eval()(SOURCE, TARGET)
    merge_lora(model)
    assert torch.equal(model(SOURCE, TARGET), expected)
    assert set(model.state_dict()) == set(Seq2Seq(CONFIG).state_dict())
    assert all(p.requires_grad for p in model.parameters())
    assert model.head.weight is model.embedding.tokens.weight  # still tied
    save_model(tmp_path / "merged.safetensors", model)
    assert torch.equal(load_model(tmp_path / "merged.safetensors", Seq2Seq).eval()(SOURCE, TARGET), expected)
    train(model, steps=2)


def test_a_decoder_only_model_writes_the_same_with_and_without_cache() -> None:
    torch.manual_seed(0)
    model = CausalLM(CONFIG).eval()
    add_lora(model, 3)
    for module in model.modules():
        if hasattr(module, "up"):
            nn.init.normal_(module.up, std=0.3)
    state = model.start([[7, 8, 9]])
    cached = model.step(state.first, state)
    torch.testing.assert_close(cached[0], model(torch.tensor([[1, 7, 8, 9]]))[0, -1])


def test_misuse_is_named() -> None:
    model, _ = adapted()
    with pytest.raises(ValueError, match="adapted already; call merge_lora first"):
        add_lora(model, 2)
    with pytest.raises(ValueError, match="adapted already"):  # it would freeze the first adaptation
        add_lora(model, 2, names=("inner", "outer"))
    with pytest.raises(ValueError, match="no linear layer named nothing"):
        add_lora(Seq2Seq(CONFIG), 2, names=("nothing",))
    with pytest.raises(ValueError, match="the weight of head is that of the embedding"):
        add_lora(Seq2Seq(CONFIG), 2, names=("head",))
    with pytest.raises(ValueError, match="rank must be from 1 to 11"):
        add_lora(Seq2Seq(CONFIG), 12)
    with pytest.raises(ValueError, match="no adaptation to merge"):
        merge_lora(Seq2Seq(CONFIG))
    plain = Seq2Seq(CONFIG)
    for wrong in ({"rank": 12}, {"names": ("head",)}):
        with pytest.raises(ValueError):
            add_lora(plain, **wrong)  # type: ignore[arg-type]
        assert all(p.requires_grad for p in plain.parameters())  # nothing was frozen on the way to the error
