"""The loss by hand and against PyTorch; the loop against a single large batch, an interruption and a kill."""

import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib import training
from course_lib.batching import IGNORE, Batch, TokenBatches, causal_batch
from course_lib.checkpoints import CheckpointError, load_model
from course_lib.models import CausalLM, Model, ModelConfig, Seq2Seq
from course_lib.training import (
    SCHEDULES,
    Step,
    TrainConfig,
    Trainer,
    cosine,
    cross_entropy,
    evaluate,
    fused_linear_cross_entropy,
    inverse_sqrt,
    pick_device,
    warmup_linear,
)

VOCABULARY = 23


def sequences(n: int = 60, seed: int = 0) -> list[list[int]]:
    """Counting upwards from a random start: easy to learn."""
    generator = random.Random(seed)
    starts = [generator.randint(5, 12) for _ in range(n)]
    return [list(range(start, start + generator.randint(2, 10))) for start in starts]


def language_model(dropout: float = 0.1, seed: int = 0) -> CausalLM:
    config = ModelConfig(VOCABULARY, d_model=14, n_heads=7, n_decoder_layers=1, d_ff=11, dropout=dropout)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return CausalLM(config)


def trainer(config: TrainConfig, model: Model | None = None, **others: Any) -> Trainer:
    return Trainer(model or language_model(), TokenBatches(sequences(), 64), config, progress=False, **others)


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


# --- Loss ------------------------------------------------------------------------------------------------------------


def losses(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, smoothing: float) -> Iterator[Any]:
    """Value, count and gradients by both of our forms and by PyTorch."""
    for form in ("readable", "fused", "torch"):
        leaves = [x.clone().requires_grad_() for x in (hidden, weight, *([] if bias is None else [bias]))]
        h, w, b = (*leaves, None)[:3]
        if form == "fused":
            loss, n = fused_linear_cross_entropy(h, w, b, targets, smoothing)
        elif form == "readable":
            loss, n = cross_entropy(F.linear(h, w, b), targets, smoothing)
        else:
            logits = F.linear(h, w, b).flatten(0, -2)
            loss = F.cross_entropy(logits, targets.flatten(), label_smoothing=smoothing, reduction="sum")
            n = int((targets != IGNORE).sum())
        (loss * 0.7).backward()  # a factor, so that a gradient that ignores it is seen
        yield loss.detach(), n, *(x.grad for x in leaves)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("hidden_targets", [True, False])
@pytest.mark.parametrize("pieces", [1, 4])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_both_forms_equal_pytorch(
    smoothing: float,
    with_bias: bool,
    hidden_targets: bool,
    pieces: int,
    dtype: torch.dtype,
    tolerance: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(3, 5, 7, dtype=dtype, generator=generator)
    weight = torch.randn(11, 7, dtype=dtype, generator=generator) * 3
    bias = torch.randn(11, dtype=dtype, generator=generator) if with_bias else None
    targets = torch.randint(0, 11, (3, 5), generator=generator)
    if hidden_targets:
        targets[:, 2:4] = IGNORE
        targets[1] = IGNORE
    monkeypatch.setattr(training._LinearCrossEntropy, "MAX_LOGITS", 1000 if pieces == 1 else 4 * 11)
    readable, fused, reference = losses(hidden, weight, bias, targets, smoothing)
    for form in (readable, fused):
        for value, right in zip(form, reference, strict=True):
            torch.testing.assert_close(value, right, rtol=tolerance, atol=tolerance)


def test_label_smoothing_by_hand_on_three_classes() -> None:  # fault 77
    # ε = 0.3 over 3 classes: 0.1 each, and the other 0.7 on the right one. The mass is 1.
    distribution = torch.tensor([0.1, 0.8, 0.1], dtype=torch.float64)
    assert distribution.sum() == 1
    probabilities = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
    by_hand = 0.1 * math.log(2) + 0.8 * math.log(4) + 0.1 * math.log(4)
    loss, n = cross_entropy(probabilities.log()[None], torch.tensor([1]), label_smoothing=0.3)
    assert loss.item() == pytest.approx(by_hand, abs=1e-12)
    assert n == 1
    # The loss is smallest where the prediction is that very distribution: there its gradient is 0, in each class.
    for form in ("readable", "fused"):
        logits = distribution.log()[None].requires_grad_()
        if form == "readable":
            loss, _ = cross_entropy(logits, torch.tensor([1]), label_smoothing=0.3)
        else:
            eye = torch.eye(3, dtype=torch.float64)
            loss, _ = fused_linear_cross_entropy(logits, eye, None, torch.tensor([1]), label_smoothing=0.3)
        loss.backward()
        assert loss.item() == pytest.approx(-(distribution * distribution.log()).sum().item(), abs=1e-12)
        torch.testing.assert_close(logits.grad, torch.zeros(1, 3, dtype=torch.float64), atol=1e-12, rtol=0)


@pytest.mark.parametrize("scale", [1e3, 1e4])
def test_certain_predictions_keep_the_loss_finite(scale: float) -> None:  # fault 77
    # exp(1000) overflows and log(exp(−1000)) is log 0, unless the maximum is subtracted first.
    hidden = torch.tensor([[scale, 0.0], [0.0, scale]], requires_grad=True)
    weight = torch.eye(2)
    for smoothing, right, wrong in ((0.0, 0.0, scale), (0.1, 0.05 * scale, 0.95 * scale)):
        for targets, value in (([0, 1], 2 * right), ([1, 0], 2 * wrong)):
            loss, _ = fused_linear_cross_entropy(hidden, weight, None, torch.tensor(targets), smoothing)
            readable, _ = cross_entropy(hidden @ weight, torch.tensor(targets), smoothing)
            assert loss.item() == pytest.approx(value)
            assert readable.item() == pytest.approx(value)
            (gradient,) = torch.autograd.grad(loss, hidden)
            assert gradient.isfinite().all()


def test_without_valid_targets_the_sum_is_zero_with_finite_gradients() -> None:  # fault 74
    hidden, weight, bias = torch.randn(2, 3, 5), torch.randn(7, 5), torch.randn(7)
    for loss, n, *gradients in losses(hidden, weight, bias, torch.full((2, 3), IGNORE), 0.1):
        assert (loss.item(), n) == (0.0, 0)
        for gradient in gradients:
            assert torch.equal(gradient, torch.zeros_like(gradient))


# A bias of −∞ excludes a token: probability 0, gradient 0, and no NaN. With label smoothing, which wants it to be
# possible, the loss is infinite; so it is without, where the token is the right one.
def test_an_excluded_token_is_allowed_by_both_forms() -> None:
    generator = torch.Generator().manual_seed(3)
    hidden, weight = torch.randn(5, 7, generator=generator), torch.randn(11, 7, generator=generator)
    bias = torch.zeros(11).index_fill(0, torch.tensor(4), -torch.inf)
    for target, smoothing, finite in ((2, 0.0, True), (2, 0.1, False), (4, 0.0, False)):
        readable, fused, reference = losses(hidden, weight, bias, torch.tensor([1, 3, 0, 10, target]), smoothing)
        assert reference[0].isfinite() == finite
        for form in (readable, fused):
            for value, right in zip(form, reference, strict=True):
                torch.testing.assert_close(value, right, rtol=1e-5, atol=1e-5)
        assert (fused[-1][4] == 0) == finite


def test_padding_changes_nothing() -> None:  # faults 79 and 83
    generator = torch.Generator().manual_seed(2)
    hidden, weight = torch.randn(5, 7, generator=generator), torch.randn(11, 7, generator=generator)
    targets = torch.randint(0, 11, (5,), generator=generator)
    padded = torch.cat([hidden, torch.full((3, 7), 1e6)])
    padded_targets = F.pad(targets, (0, 3), value=IGNORE)
    for form in (fused_linear_cross_entropy, lambda h, w, b, *rest: cross_entropy(F.linear(h, w, b), *rest)):
        assert form(hidden, weight, None, targets, 0.1) == form(padded, weight, None, padded_targets, 0.1)


def test_ids_outside_the_vocabulary_are_an_error() -> None:
    # −1 must not silently mean the last token.
    for target in (-1, 11):
        with pytest.raises((IndexError, RuntimeError), match=r"out of (bounds|range)"):
            fused_linear_cross_entropy(torch.zeros(1, 7), torch.zeros(11, 7), None, torch.tensor([target]))
        with pytest.raises((IndexError, RuntimeError), match=r"out of (bounds|range)"):
            cross_entropy(torch.zeros(1, 11), torch.tensor([target]))


def test_the_fused_loss_refuses_a_second_derivative() -> None:
    hidden = torch.randn(2, 3, requires_grad=True)
    loss, _ = fused_linear_cross_entropy(hidden, torch.randn(5, 3), None, torch.tensor([1, 2]))
    # Nothing in the gradient depends on a graph: to go on silently would mean second derivatives of zero.
    with pytest.raises(RuntimeError, match="cannot be differentiated twice; use cross_entropy"):
        torch.autograd.grad(loss, hidden, create_graph=True)


def test_the_fused_loss_can_be_differentiated_again_if_retained() -> None:
    hidden = torch.randn(2, 3, requires_grad=True)
    loss, _ = fused_linear_cross_entropy(hidden, torch.randn(5, 3), None, torch.tensor([1, 2]))
    first, second = (torch.autograd.grad(loss * factor, hidden, retain_graph=True)[0] for factor in (1.0, 3.0))
    torch.testing.assert_close(second, 3 * first)


def test_the_fused_loss_is_exact_under_autocast_and_computes_no_gradients_in_vain() -> None:
    hidden, weight = torch.randn(3, 7), torch.randn(11, 7, requires_grad=True)
    targets = torch.tensor([1, 2, 3])
    exact, _ = fused_linear_cross_entropy(hidden, weight, None, targets)
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = fused_linear_cross_entropy(hidden, weight, None, targets)
        low = hidden.to(torch.bfloat16).requires_grad_()
        fused_linear_cross_entropy(low, weight, None, targets)[0].backward()
    assert loss.item() == exact.item()
    assert low.grad is not None and low.grad.dtype == torch.bfloat16
    with torch.no_grad():
        assert not fused_linear_cross_entropy(hidden, weight, None, targets)[0].requires_grad


def test_evaluation_does_not_depend_on_the_batches() -> None:  # fault 82
    model = language_model(dropout=0.5)
    values = []
    for size in (1, 3, 8):
        rows = sequences()
        values.append(evaluate(model, [causal_batch(rows[i : i + size]) for i in range(0, len(rows), size)]))
    assert values == pytest.approx([values[0]] * 3, abs=1e-6)
    assert model.training


def test_evaluation_keeps_frozen_parts_in_evaluation_mode() -> None:
    model = language_model(dropout=0.5)
    model.embedding.eval()
    modes = [module.training for module in model.modules()]
    evaluate(model, [causal_batch(sequences())])
    assert [module.training for module in model.modules()] == modes


def test_evaluation_of_a_uniform_model_gives_ln_v() -> None:  # fault 82
    model = language_model()
    nn.init.zeros_(model.head.weight)
    assert evaluate(model, TokenBatches(sequences(), 64)) == pytest.approx(math.log(VOCABULARY), abs=1e-6)


def test_evaluation_without_targets_is_an_error() -> None:  # fault 74
    batch = Batch((torch.tensor([[5, 6]]),), torch.tensor([[IGNORE, IGNORE]]), 0)
    for batches in ([], [batch]):
        with pytest.raises(ValueError, match="batches holds no valid target"):
            evaluate(language_model(), batches)


# --- Schedules -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(("total", "warmup"), [(100, 7), (13, 1), (5, 5), (1, 1)])
def test_schedules_rise_to_one_then_fall_and_stay_positive(name: str, total: int, warmup: int) -> None:
    factors = [SCHEDULES[name](step, total, warmup) for step in range(total)]
    assert factors[:warmup] == pytest.approx([(i + 1) / warmup for i in range(warmup)])
    assert factors[warmup - 1] == max(factors) == 1
    assert min(factors) > 0
    assert all(a >= b for a, b in zip(factors[warmup - 1 :], factors[warmup:], strict=False))


def test_schedules_have_their_closed_forms() -> None:
    # Half-way down: a half on the line, a half on the cosine; four times the warm-up: a half on the root.
    assert warmup_linear(60, 110, 10) == pytest.approx(0.5)
    assert cosine(60, 110, 10) == pytest.approx(0.5)
    assert cosine(35, 110, 10) == pytest.approx(0.5 + 0.5 * math.sqrt(0.5))
    assert inverse_sqrt(39, 1000, 10) == pytest.approx(0.5)
    # Vaswani et al. 2017, equation 3, up to its constant factor.
    paper = [min(step**-0.5, step * 10**-1.5) for step in range(1, 1000)]
    assert [inverse_sqrt(step, 999, 10) / math.sqrt(10) for step in range(999)] == pytest.approx(paper)


# --- The loop --------------------------------------------------------------------------------------------------------


def test_training_learns_and_records() -> None:
    valid = TokenBatches(sequences(seed=1), 64)
    seen: list[Step] = []
    config = TrainConfig(steps=60, lr=0.03, validate_every=25)
    run = trainer(config, language_model(dropout=0.0), valid=valid, on_step=seen.append)
    first = evaluate(run.model, valid)
    history = run.run()
    assert first == pytest.approx(math.log(VOCABULARY), rel=0.05)
    # Only the start and the length of a sequence cannot be predicted: about ln 8 + ln 9 nats in 7 tokens.
    assert history.validations[-1].loss < first / 2
    assert [v.step for v in history.validations] == [25, 50, 60]
    assert history.validations[-1].loss == evaluate(run.model, valid)
    assert seen == history.steps
    assert [s.step for s in seen] == list(range(1, 61))
    assert [s.lr for s in seen] == [config.lr_at(i) for i in range(60)]
    assert max(s.lr for s in seen) == 0.03
    batches = TokenBatches(sequences(), 64)
    assert [s.tokens for s in seen] == [batches.next_batch().n_targets for _ in range(60)]
    seconds = [(s.cpu_seconds, s.wall_seconds) for s in seen]
    assert seconds == sorted(seconds) and seconds[0] > (0.0, 0.0)
    assert not run.model.training


def test_the_first_step_is_the_one_adamw_makes() -> None:
    # Independent: PyTorch's plain AdamW, its own loss and clipping, one batch.
    config = TrainConfig(steps=10, lr=0.01, warmup=0.2, clip=0.05, weight_decay=0.3)
    mine, other = language_model(dropout=0.0).double(), language_model(dropout=0.0).double()
    run = trainer(config, mine)
    run._update()
    batch = TokenBatches(sequences(), 64).next_batch()
    matrices = [p for p in other.parameters() if p.dim() > 1]
    vectors = [p for p in other.parameters() if p.dim() == 1]
    groups = [{"params": matrices, "weight_decay": 0.3}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.01 / 2, betas=(0.9, 0.98), foreach=False)
    logits = other(*batch.inputs).flatten(0, 1)
    loss = F.cross_entropy(logits, batch.targets.flatten(), label_smoothing=0.1)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(other.parameters(), 0.05)
    optimizer.step()
    assert norm > 0.05
    assert run.history.steps[0].grad_norm == pytest.approx(norm.item())
    assert run.history.steps[0].loss == pytest.approx(loss.item())
    torch.testing.assert_close(weights(mine), weights(other))


def test_accumulation_equals_one_large_batch() -> None:  # fault 80
    # Ragged: the batches hold different numbers of tokens, so that a mean of their means would be another gradient.
    rows = [list(range(5, 5 + n)) for n in (1, 11, 2, 7, 13, 3)]
    whole = TokenBatches(rows, 1000, pool=1)
    parts = TokenBatches(rows, 28, pool=1)
    order = [i for batch in whole.plan(0) for i in batch]
    sizes = [len(parts._batch(plan).targets) for plan in parts.plan(0)]
    assert len(whole.plan(0)) == 1
    assert len({parts._batch(plan).n_targets for plan in parts.plan(0)}) > 1
    gradients = []
    for batches, accumulate in ((whole, 1), (parts, len(sizes))):
        model = language_model(dropout=0.0).double()
        config = TrainConfig(steps=1, accumulate=accumulate, clip=math.inf)
        run = Trainer(model, batches, config, progress=False)
        caught: list[Tensor] = []
        run.optimizer.step = lambda caught=caught, model=model: caught.extend(  # type: ignore[method-assign]
            p.grad.clone() for p in model.parameters()
        )
        run.run()
        assert run.history.steps[0].tokens == sum(map(len, rows)) + len(order)
        gradients.append(torch.cat([g.flatten() for g in caught]))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-6, atol=1e-9)


def test_training_is_a_function_of_weights_data_and_configuration() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = trainer(TrainConfig(steps=6, seed=3))
    first.run()
    assert torch.equal(torch.get_rng_state(), before), "the caller's random numbers were touched"
    torch.manual_seed(6)  # must make no difference
    second = trainer(TrainConfig(steps=6, seed=3))
    second.model.head.weight.grad = torch.ones_like(second.model.head.weight)  # nor must this
    second.run()
    assert torch.equal(weights(first.model), weights(second.model))
    other = trainer(TrainConfig(steps=6, seed=4))
    other.run()
    assert not torch.equal(weights(first.model), weights(other.model))


def test_averaged_weights_are_the_result_and_are_what_is_validated() -> None:
    valid = TokenBatches(sequences(seed=1), 64)
    steps = 3 * training.AVERAGE_EVERY + 1
    plain, averaged = language_model(), language_model()
    path: list[Tensor] = []
    trainer(TrainConfig(steps=steps), plain, on_step=lambda _: path.append(weights(plain))).run()
    history = trainer(TrainConfig(steps=steps, average_decay=0.7), averaged, valid=valid).run()
    expected = weights(language_model())
    for step in range(training.AVERAGE_EVERY, steps + 1, training.AVERAGE_EVERY):
        decay = min(0.7, (1 + step) / (10 + step)) ** training.AVERAGE_EVERY
        expected = decay * expected + (1 - decay) * path[step - 1]
    torch.testing.assert_close(weights(averaged), expected)
    assert not torch.equal(weights(averaged), weights(plain))
    assert history.validations[-1].loss == evaluate(averaged, valid)


@pytest.mark.parametrize("average_decay", [None, 0.5])
def test_early_stopping_returns_the_best_weights(average_decay: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    values = iter([3.0, 2.0, 2.5, 2.0, 1.0])  # 2.0 again is no improvement

    def scripted(model: Model, batches: object) -> float:
        seen.append(weights(model))
        return next(values)

    monkeypatch.setattr(training, "evaluate", scripted)
    config = TrainConfig(steps=90, validate_every=8, patience=2, average_decay=average_decay)
    run = trainer(config, valid=[])
    history = run.run()
    assert [v.loss for v in history.validations] == [3.0, 2.0, 2.5, 2.0]
    assert (run.step, history.best()) == (32, history.validations[1])
    assert torch.equal(weights(run.model), seen[1])
    assert len({tuple(w[:9].tolist()) for w in seen}) == 4


def test_a_diverging_run_stops_with_the_cure(tmp_path: Path) -> None:
    path = tmp_path / "c"
    run = trainer(TrainConfig(steps=9, lr=0.0123, checkpoint_path=path, checkpoint_every=2))
    kept: list[bytes | Tensor] = []

    def poison(record: Step) -> None:
        if record.step == 3:
            kept.extend([path.read_bytes(), weights(run.model)])
            run.model.head.bias.data[7] = math.nan

    run.on_step = poison
    lr = f"{run.config.lr_at(3):.3g}"
    with pytest.raises(FloatingPointError, match=rf"step 4: loss nan, .* at learning rate {lr}\. Lower lr or lengthen"):
        run.run()
    assert path.read_bytes() == kept[0]
    assert (weights(run.model) != kept[1]).sum() == 1  # the poisoned one


def test_after_a_failure_in_the_first_step_the_same_trainer_can_go_on(tmp_path: Path) -> None:
    run = trainer(TrainConfig(steps=3, checkpoint_path=tmp_path / "c"))
    bias = run.model.head.bias
    with torch.no_grad():
        before = bias[7].item()
        bias[7] = math.nan
    with pytest.raises(FloatingPointError, match="step 1"):
        run.run()
    with torch.no_grad():
        bias[7] = before
    assert len(run.run().steps) == 3


@pytest.mark.parametrize("wrong", [VOCABULARY, -1])
def test_ids_of_another_tokeniser_are_named(wrong: int) -> None:
    examples = [[5, 6], [7, wrong, 8]]
    with pytest.raises(ValueError, match=f"example 1 holds the id {wrong}, but the model has {VOCABULARY} tokens"):
        Trainer(language_model(), TokenBatches(examples, 64), TrainConfig(steps=1), progress=False)


def test_a_checkpoint_names_the_device_that_auto_chose(tmp_path: Path) -> None:
    path = tmp_path / "c"
    config = TrainConfig(steps=3, checkpoint_path=path)
    trainer(replace(config, device="auto")).run()
    trainer(replace(config, device="cuda" if torch.cuda.is_available() else "cpu")).run(resume=True)


def test_sixteen_bits_are_summed_in_thirty_two() -> None:  # fault 82
    model = language_model(dropout=0.0).eval().to(torch.bfloat16)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    assert math.isclose(evaluate(model, TokenBatches(sequences(), 64)), math.log(VOCABULARY), rel_tol=1e-6)
    assert math.isclose(
        sum(cross_entropy(torch.zeros(1, 20, dtype=torch.bfloat16), torch.tensor([3]))[0].item() for _ in range(9)) / 9,
        math.log(20),
        rel_tol=1e-6,
    )


def test_bfloat16_trains_too() -> None:
    history = trainer(TrainConfig(steps=20, lr=0.02, autocast="bfloat16")).run()
    assert history.steps[-1].loss < history.steps[0].loss - 0.3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"lr": 0.0}, "lr must be positive, got 0.0"),
        ({"lr": math.nan}, "lr must be positive, got nan"),
        ({"schedule": "linear"}, "schedule must be one of warmup_linear, inverse_sqrt, cosine, got 'linear'"),
        ({"label_smoothing": 1.0}, r"label_smoothing must be in \[0, 1\), got 1.0"),
        ({"autocast": "float16"}, "autocast must be None or"),
        ({"patience": 0}, "patience must be at least 1"),
        ({"average_decay": 0.9}, "steps must be at least 8 with average_decay, got 5: before that step the average is"),
        ({"steps": 9, "average_decay": 0.9, "validate_every": 7}, "validate_every must be at least 8 with average_dec"),
    ],
)
def test_wrong_settings_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainConfig(**({"steps": 5} | changes))


def test_patience_needs_validation() -> None:
    with pytest.raises(ValueError, match="patience needs batches to validate on"):
        trainer(TrainConfig(steps=5, patience=1))


# --- Devices ---------------------------------------------------------------------------------------------------------


def test_devices_are_chosen_as_documented(monkeypatch: pytest.MonkeyPatch) -> None:  # faults 16 and 18
    assert TrainConfig(steps=1).device == "cpu"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == torch.device("cpu")  # never MPS unasked
    assert pick_device("mps") == torch.device("mps")
    with pytest.raises(ValueError, match="'cuda:1' is not available"):
        pick_device("cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("auto") == torch.device("cuda")
    assert pick_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ValueError, match=r"'cuda:2' does not exist: this machine has 2 CUDA device"):
        pick_device("cuda:2")
    assert pick_device("cpu") == torch.device("cpu")
    for name in ("gpu", "meta"):
        with pytest.raises(ValueError, match=name):
            pick_device(name)


# --- Progress bar ----------------------------------------------------------------------------------------------------


def test_the_progress_bar_can_be_seen_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:  # fault 35
    def output(progress: bool) -> str:
        Trainer(language_model(), TokenBatches(sequences(), 64), TrainConfig(steps=3), progress=progress).run()
        captured = capsys.readouterr()
        assert captured.out == ""
        return captured.err

    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    bar = output(True)
    assert "training" in bar
    assert bar.split("\r")[-2].strip() == "" and "\n" not in bar  # wiped out, on its one line
    assert output(False) == ""
    monkeypatch.setenv("TQDM_DISABLE", "1")  # where notebooks are executed to be stored
    assert output(True) == ""


# --- Interruption and resumption -------------------------------------------------------------------------------------

FULL = TrainConfig(steps=30, lr=0.01, average_decay=0.9, validate_every=8, patience=4, checkpoint_every=3, accumulate=2)


def full_run(path: Path | None, **others: Any) -> Trainer:
    config = replace(FULL, checkpoint_path=path)
    batches = TokenBatches(sequences(), 64, seed=2)
    valid = TokenBatches(sequences(17, seed=1), 64)
    return Trainer(language_model(), batches, config, valid, progress=False, **others)


def outcome(run: Trainer) -> dict[str, Any]:
    """All that two equal runs must share, to the bit."""
    training_weights = [x for values in run.optimizer.state.values() for x in values.values()]
    assert run._average is not None and run._best is not None
    return {
        "model": weights(run.model),
        "optimizer": torch.cat([x.flatten() for x in training_weights]),
        "average": torch.cat([x.flatten() for x in run._average]),
        "best": torch.cat([x.flatten() for x in run._best]),
        "random": run._random["cpu"],
        "position": torch.tensor([run.train.epoch, run.train.index]),
        "steps": torch.tensor([step[:5] for step in run.history.steps], dtype=torch.float64),
        "validations": torch.tensor(run.history.validations, dtype=torch.float64),
    }


def assert_same(a: dict[str, Any], b: dict[str, Any]) -> None:
    for name in a:
        assert torch.equal(a[name], b[name]), name


@pytest.fixture(scope="module")
def uninterrupted() -> dict[str, Any]:
    run = full_run(None)
    run.run()
    return outcome(run)


@pytest.mark.parametrize("step", [1, 8, 29])
def test_ctrl_c_leaves_a_checkpoint_from_which_training_goes_on(
    step: int, tmp_path: Path, uninterrupted: dict[str, Any]
) -> None:
    path = tmp_path / "c"

    def press_ctrl_c(record: Step) -> None:
        if record.step == step:
            os.kill(os.getpid(), signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    run = full_run(path, on_step=press_ctrl_c)
    with pytest.raises(KeyboardInterrupt, match=f"after step {step}$"):
        run.run()
    assert signal.getsignal(signal.SIGINT) is handler
    assert len(run.history.steps) == step
    assert isinstance(load_model(path), CausalLM)

    resumed = full_run(path)
    resumed.run(resume=True)
    assert_same(outcome(resumed), uninterrupted)
    seconds = [(s.cpu_seconds, s.wall_seconds) for s in resumed.history.steps]
    assert seconds == sorted(seconds)

    run.on_step = None  # the interrupted trainer itself can go on, too
    run.run()
    assert_same(outcome(run), uninterrupted)


def test_a_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    path = tmp_path / "c"

    def press_twice(record: Step) -> None:
        if record.step == 5:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)  # interrupted
            raise AssertionError("the second Ctrl-C was ignored")

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        full_run(path, on_step=press_twice).run()
    assert signal.getsignal(signal.SIGINT) is handler
    resumed = full_run(path)
    resumed._load(path)
    assert resumed.step == 3  # the last regular checkpoint


def test_training_works_outside_the_main_thread(uninterrupted: dict[str, Any]) -> None:
    run = full_run(None)
    thread = threading.Thread(target=run.run)  # signal handlers cannot be set there
    thread.start()
    thread.join()
    assert_same(outcome(run), uninterrupted)


def test_a_checkpoint_holds_the_weights_to_use(tmp_path: Path) -> None:
    run = full_run(tmp_path / "c")
    run.run()
    assert torch.equal(weights(load_model(tmp_path / "c")), weights(run.model))
    again = full_run(tmp_path / "c")  # nothing is left to do
    again.run(resume=True)
    assert_same(outcome(again), outcome(run))


def test_a_checkpoint_is_not_overwritten_unasked(tmp_path: Path) -> None:
    path = tmp_path / "c"
    full_run(path).run()
    content = path.read_bytes()
    with pytest.raises(FileExistsError, match=r"there is a checkpoint; use run\(resume=True\), delete it"):
        full_run(path).run()
    assert path.read_bytes() == content


def test_resuming_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c"
    full_run(path).run()
    config = replace(FULL, checkpoint_path=path)
    for changed, batches, message in (
        (replace(config, lr=0.02), TokenBatches(sequences(), 64, seed=2), "lr is 0.01 in the file, 0.02 here"),
        (config, TokenBatches(sequences(), 64, seed=3), "data settings differ: seed is 2 in the file, 3 here"),
        (config, TokenBatches(sequences(59), 64, seed=2), "examples is 60 in the file, 59 here"),
    ):
        run = Trainer(language_model(), batches, changed, TokenBatches(sequences(17), 64), progress=False)
        with pytest.raises(CheckpointError, match=message):
            run.run(resume=True)
        assert torch.equal(weights(run.model), weights(language_model()))
        assert run.step == 0


def test_a_missing_folder_is_found_out_at_once(tmp_path: Path) -> None:
    run = full_run(tmp_path / "no" / "c")
    with pytest.raises(FileNotFoundError, match="could not write"):
        run.run()
    assert run.step == 0


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.test_training import full_run
full_run(Path(sys.argv[2]), on_step=lambda record: print(record.step, flush=True)).run()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no kill -9 there")
def test_kill_minus_9_at_a_random_step_changes_nothing(tmp_path: Path, uninterrupted: dict[str, Any]) -> None:
    # Killed without warning, wherever it happens to be: in a step, a validation, or half-way through a checkpoint.
    generator = random.Random()
    kill_after = generator.randint(1, FULL.steps - 2)
    command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parents[1]), str(tmp_path / "c")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while process.stdout.readline().strip() != str(kill_after):
            assert process.poll() is None, "training ended by itself"
        time.sleep(generator.random() * 0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    resumed_with: list[int] = []
    run = full_run(tmp_path / "c", on_step=lambda record: resumed_with.append(record.step))
    run.run(resume=True)
    print(f"killed after step {kill_after}, resumed with step {resumed_with[0]}")
    assert resumed_with[0] >= kill_after + 1 - FULL.checkpoint_every
    assert_same(outcome(run), uninterrupted)


def test_a_translator_trains_and_resumes_as_well(tmp_path: Path) -> None:
    # Encoder–decoder, tied weights, learned positions: all kinds of parameters pass through the checkpoint.
    pairs = [(row, row[::-1]) for row in sequences()]
    config = ModelConfig(VOCABULARY, 14, 7, 1, 1, 11, positions="learned", max_length=17)
    results = []
    for interrupt in (False, True):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = Seq2Seq(config)
        train = TrainConfig(steps=12, checkpoint_path=tmp_path / str(interrupt))
        run = Trainer(model, TokenBatches(pairs, 64), train, progress=False)
        if interrupt:
            run.on_step = lambda record: os.kill(os.getpid(), signal.SIGINT) if record.step == 5 else None
            with pytest.raises(KeyboardInterrupt):
                run.run()
            run = Trainer(Seq2Seq(config), TokenBatches(pairs, 64), train, progress=False)
        run.run(resume=True)
        results.append(weights(run.model))
    assert torch.equal(*results)


# fault 77: log 0. A token that is ruled out (−∞) must not spoil the loss of the others.
def test_an_impossible_token_is_no_obstacle_without_smoothing() -> None:
    logits = torch.tensor([[0.0, 0.0, -math.inf]])
    loss, n_targets = cross_entropy(logits, torch.tensor([1]))
    assert (loss.item(), n_targets) == (pytest.approx(math.log(2)), 1)
    assert cross_entropy(logits, torch.tensor([2]))[0].item() == math.inf
