"""Objectives without labels: what is hidden, what is never hidden, and that everything can be put back."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.batching import IGNORE, TokenBatches, causal_batch
from course_lib.models import MaskedLM, ModelConfig, Seq2Seq
from course_lib.pretraining import Masking, SpanCorruption, fill_spans
from course_lib.tokenizers import BOS, EOS, MASK, PAD, SPECIAL_TOKENS, UNK
from course_lib.training import TrainConfig, Trainer

FIRST, V = len(SPECIAL_TOKENS), 97
ORDINARY = st.lists(st.integers(FIRST, V - 1), min_size=2, max_size=40)


@settings(deadline=None, max_examples=60)
@given(sequences=st.lists(ORDINARY, min_size=1, max_size=7), share=st.floats(0.05, 0.9))
def test_masking_hides_the_stated_share_and_nothing_else(sequences: list[list[int]], share: float) -> None:
    batch = Masking(V, share)(sequences)
    (inputs,) = batch.inputs
    assert inputs.shape == batch.targets.shape
    assert batch.n_targets == int((batch.targets != IGNORE).sum())
    for tokens, read, target in zip(sequences, inputs, batch.targets, strict=True):
        hidden = target != IGNORE
        assert int(hidden.sum()) == max(1, round(share * len(tokens)))
        original = torch.tensor([BOS, *tokens])
        n = len(original)
        assert torch.equal(torch.where(hidden, target, read)[:n], original)  # faults: labels shifted, or of the input
        assert read[0] == BOS and target[0] == IGNORE
        assert (read[n:] == PAD).all() and (target[n:] == IGNORE).all()  # padding is neither hidden nor predicted
        assert set(read[hidden].tolist()).isdisjoint({PAD, BOS, EOS, UNK})


def test_of_the_hidden_80_percent_are_mask_10_random_10_unchanged() -> None:
    torch.manual_seed(0)
    sequences = [[FIRST + (7 * i + k) % (V - FIRST) for k in range(50)] for i in range(400)]
    batch = Masking(V, 0.5)(sequences)
    hidden = batch.targets != IGNORE
    read, target = batch.inputs[0][hidden], batch.targets[hidden]
    n = len(target)  # 10,000: three standard deviations are 0.012
    assert (read == MASK).float().mean().item() == pytest.approx(0.8, abs=0.012)
    unchanged = 0.1 + 0.1 / (V - FIRST)  # a random token may be the right one
    assert (read == target).float().mean().item() == pytest.approx(unchanged, abs=0.010)
    others = read[(read != MASK) & (read != target)]
    assert len(others.unique()) == V - FIRST  # every ordinary token is drawn, and no special one
    assert n == 10_000


def test_special_tokens_are_never_hidden() -> None:
    batch = Masking(V, 0.9)([[UNK, 11, UNK, 12, EOS]] * 50)
    assert set(batch.targets.unique().tolist()) <= {IGNORE, 11, 12}


def test_every_position_is_hidden_equally_often() -> None:
    torch.manual_seed(0)
    batch = Masking(V, 0.15)([list(range(FIRST, FIRST + 20))] * 4000)  # 3 of 20
    often = (batch.targets != IGNORE).float().mean(dim=0)[1:]
    assert often.sub(0.15).abs().max().item() < 0.023  # four standard deviations


@settings(deadline=None, max_examples=100)
@given(tokens=ORDINARY, share=st.floats(0.05, 0.9), mean_span=st.floats(1, 6))
def test_spans_go_back_into_their_holes(tokens: list[int], share: float, mean_span: float) -> None:
    batch = SpanCorruption(share, mean_span)([tokens])
    source, target = (x[0].tolist() for x in batch.inputs)
    assert source[-1] == EOS and target[0] == BOS
    assert batch.targets[0].tolist() == [*target[1:], EOS]  # the target ends, so that a model learns to stop
    source, target = source[:-1], target[1:]
    assert fill_spans(source, target) == tokens
    lost = sum(token != MASK for token in target)
    assert lost == min(max(1, round(share * len(tokens))), len(tokens) - 1)
    assert source.count(MASK) == target.count(MASK) == min(max(1, round(lost / mean_span)), len(tokens) - lost)
    assert all(pair != (MASK, MASK) for pair in pairwise(source))  # two holes are two holes


def test_spans_have_the_stated_mean_length() -> None:
    torch.manual_seed(0)
    batch = SpanCorruption(0.15, 3.0)([list(range(FIRST, FIRST + 60))] * 200)  # 9 tokens in 3 spans
    lengths: dict[int, int] = {}
    for row in batch.targets.tolist():
        spans = " ".join("|" if t == MASK else "x" for t in row if t not in (EOS, IGNORE)).split("|")[1:]
        assert len(spans) == 3
        for span in spans:
            lengths[span.count("x")] = lengths.get(span.count("x"), 0) + 1
    assert sum(k * n for k, n in lengths.items()) / 600 == 3
    assert set(lengths) == set(range(1, 8))  # all ways to cut 9 into 3, from 1 + 1 + 7 on


@pytest.mark.parametrize("collate", [Masking, SpanCorruption])
def test_a_seed_hides_the_same_and_leaves_the_generator_alone(collate: type) -> None:
    options = {"vocab_size": V} if collate is Masking else {}
    sequences = [list(range(10, 40)), list(range(20, 45))]
    state = torch.get_rng_state()
    first, again = (collate(**options, seed=3)(sequences) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first.inputs, again.inputs, strict=True))
    others = [collate(**options, seed=4)(sequences), collate(**options, seed=3)([s[::-1] for s in sequences])]
    assert all(not torch.equal(first.targets, other.targets) for other in others)


@pytest.mark.parametrize("objective", ["masked", "span"])
def test_a_resumed_run_hides_what_the_uninterrupted_one_hides(objective: str, tmp_path: Path) -> None:
    sequences = [list(range(FIRST + i, FIRST + i + 9 + i % 5)) for i in range(30)]
    collate = Masking(V) if objective == "masked" else SpanCorruption()
    family = MaskedLM if objective == "masked" else Seq2Seq
    config = ModelConfig(V, d_model=8, n_heads=2, n_encoder_layers=1, n_decoder_layers=1, d_ff=8)

    def trainer(steps: int, path: Path | None) -> Trainer:
        torch.manual_seed(5)
        batches = TokenBatches(sequences, max_tokens=64, seed=1, collate=collate)
        train = TrainConfig(steps=6, checkpoint_path=path, checkpoint_every=steps, seed=2)
        return Trainer(family(config), batches, train, progress=False)

    whole = trainer(6, None)
    whole.run()
    path = tmp_path / "run.safetensors"
    interrupted = trainer(3, path)

    class Stop(Exception):
        pass

    def stop_at_4(batch: object) -> None:
        if len(interrupted.history.steps) == 4:
            raise Stop

    interrupted.model.register_forward_pre_hook(lambda *_: stop_at_4(None))
    original = interrupted.model.features

    def features(*inputs: torch.Tensor) -> torch.Tensor:
        stop_at_4(None)
        return original(*inputs)

    interrupted.model.features = features  # type: ignore[method-assign]
    with pytest.raises(Stop):
        interrupted.run()
    resumed = trainer(3, path)
    torch.manual_seed(99)  # another state of the generator: the checkpoint's must count
    resumed.run(resume=True)
    for (name, a), b in zip(whole.model.named_parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(a, b), name


def test_what_cannot_be_hidden_is_refused() -> None:
    with pytest.raises(ValueError, match="sequence 1 of the batch holds no ordinary token"):
        Masking(V)([[10, 11], [EOS, UNK]])
    with pytest.raises(ValueError, match="sequence 1 of the batch must be two or more ordinary tokens"):
        SpanCorruption()([[10, 11], [10]])
    with pytest.raises(ValueError, match="share must be above 0 and below 1, got 1"):
        Masking(V, share=1)
    with pytest.raises(ValueError, match="mean_span must be at least 1"):
        SpanCorruption(mean_span=0.5)
    with pytest.raises(ValueError, match="above 5 special tokens"):
        Masking(5)
    with pytest.raises(ValueError, match="source has 1 holes, target 2 spans"):
        fill_spans([10, MASK], [MASK, 11, MASK, 12])
    with pytest.raises(ValueError, match="target must begin with MASK"):
        fill_spans([10, MASK], [11])


def test_the_end_is_a_target_of_a_causal_model_and_padding_is_not() -> None:
    # Where PAD and EOS are one id, masking padding in the loss masks the end, too, and a model never stops.
    batch = causal_batch([[10, 11, 12], [13]])
    assert PAD != EOS
    assert batch.targets.tolist() == [[10, 11, 12, EOS], [13, EOS, IGNORE, IGNORE]]


def test_the_number_of_holes_is_rounded_from_the_exact_share() -> None:
    share = 0.15  # 0.15 · 190 is 28.5, which becomes the even 28; in float32 it is a little more
    for n in range(2, 400):
        batch = Masking(V, share)([[FIRST] * n])
        assert batch.n_targets == max(1, round(share * n)), n


def test_seeded_holes_do_not_depend_on_the_kind_of_number() -> None:
    tokens = list(range(FIRST, FIRST + 31))
    once = Masking(V, 0.3, seed=4)([tokens])
    again = Masking(V, 0.3, seed=4)([np.array(tokens)])  # type: ignore[list-item]
    assert torch.equal(once.inputs[0], again.inputs[0])
