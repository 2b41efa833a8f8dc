"""Batches: what is a target, what is padding, and in which order everything comes."""

import ast
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import course_lib
from course_lib.batching import IGNORE, Batch, TokenBatches, causal_batch, pad_sequences, seq2seq_batch
from course_lib.tokenizers import BOS, EOS, PAD


def pairs(n: int, seed: int = 0) -> list[tuple[list[int], list[int]]]:
    """Pairs whose two lengths are alike, as in translation; each holds a token that names it."""
    generator = random.Random(seed)
    result = []
    for i in range(n):
        target = generator.randint(3, 40)
        source = max(1, target + generator.randint(-4, 4))
        result.append(([100 + i] * source, [100 + i] * target))
    return result


def tokens_of(batch: Batch) -> list[list[int]]:
    """The targets of each row, without EOS and padding."""
    return [[i for i in row if i not in (IGNORE, EOS)] for row in batch.targets.tolist()]


sequences = st.lists(st.lists(st.integers(5, 10**6), max_size=7), min_size=1, max_size=11)


@given(sequences)
def test_padding_adds_and_takes_nothing(rows: list[list[int]]) -> None:
    right, left = pad_sequences(rows), pad_sequences(rows, side="left")
    longest = max(map(len, rows))
    assert right.dtype == left.dtype == torch.int64
    assert right.tolist() == [row + [PAD] * (longest - len(row)) for row in rows]
    assert left.tolist() == [[PAD] * (longest - len(row)) + row for row in rows]


def test_padding_takes_other_ids_and_arrays() -> None:
    padded = pad_sequences([np.array([7, 8]), np.array([9])], pad_id=IGNORE)
    assert padded.tolist() == [[7, 8], [9, IGNORE]]


def test_padding_errors_name_the_argument() -> None:
    with pytest.raises(ValueError, match="sequences is empty"):
        pad_sequences([])
    with pytest.raises(ValueError, match="side must be"):
        pad_sequences([[5]], side="centre")


def test_targets_are_the_inputs_moved_by_one() -> None:  # faults 71 and 72
    # The decoder predicts at each position the token that it reads at the next: moved once, not twice, not zero times.
    for batch in (seq2seq_batch([([11, 12], [21, 22, 23]), ([13], [24])]), causal_batch([[21, 22, 23], [24]])):
        read = batch.inputs[-1]
        assert read.tolist() == [[BOS, 21, 22, 23], [BOS, 24, PAD, PAD]]
        assert batch.targets.tolist() == [[21, 22, 23, EOS], [24, EOS, IGNORE, IGNORE]]
        assert batch.n_targets == int((batch.targets != IGNORE).sum()) == 6
        inside = read[:, 1:] != PAD
        assert torch.equal(batch.targets[:, :-1][inside], read[:, 1:][inside])


def test_the_encoder_reads_the_source_with_its_end() -> None:
    batch = seq2seq_batch([([11, 12], [21]), ([13], [22])])
    assert batch.inputs[0].tolist() == [[11, 12, EOS], [13, EOS, PAD]]


def test_every_sentence_has_its_end_among_the_targets() -> None:  # fault 75
    # Padding and EOS are different tokens, so that hiding the one does not hide the other.
    assert PAD != EOS
    batch = seq2seq_batch(pairs(13))
    assert (batch.targets == EOS).sum(dim=1).tolist() == [1] * 13


@given(st.integers(1, 60), st.integers(50, 400), st.integers(1, 70), st.integers(0, 5))
def test_an_epoch_is_every_example_once_within_the_budget(n: int, max_tokens: int, pool: int, epoch: int) -> None:
    examples = pairs(n)
    batches = TokenBatches(examples, max_tokens, pool=pool)
    plan = batches.plan(epoch)
    assert sorted(i for batch in plan for i in batch) == list(range(n))
    for batch in plan:
        made = seq2seq_batch([examples[i] for i in batch])
        assert max(made.inputs[0].numel(), made.inputs[1].numel()) <= max_tokens


def test_examples_come_back_as_they_were() -> None:
    examples = pairs(97)
    seen = [row for batch in TokenBatches(examples, 256) for row in tokens_of(batch)]
    assert sorted(seen) == sorted(target for _, target in examples)
    alone = [target for _, target in examples]
    seen = [row for batch in TokenBatches(alone, 256) for row in tokens_of(batch)]
    assert sorted(seen) == sorted(alone)


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    examples = pairs(300)
    batches = TokenBatches(examples, 128, seed=3)
    first = batches.plan(0)
    random.seed(99)
    torch.manual_seed(99)
    for _ in range(20):
        batches.next_batch()
    assert batches.plan(0) == first == TokenBatches(examples, 128, seed=3).plan(0)
    assert batches.plan(1) != first
    assert TokenBatches(examples, 128, seed=4).plan(0) != first


def test_making_batches_leaves_the_global_generators_alone() -> None:
    random_state, torch_state = random.getstate(), torch.get_rng_state()
    batches = TokenBatches(pairs(50), 128)
    for _ in range(len(batches) + 1):
        batches.next_batch()
    assert random.getstate() == random_state
    assert torch.equal(torch.get_rng_state(), torch_state)


def test_epochs_mix_neighbours_anew() -> None:
    # Sentences of equal length must not travel in the same batch for ever, or shuffling would be for show.
    examples = [([100 + i] * 5, [100 + i] * 5) for i in range(200)]
    batches = TokenBatches(examples, 60)

    def together(epoch: int) -> set[tuple[int, int]]:
        return {(a, b) for batch in batches.plan(epoch) for a in batch for b in batch if a < b}

    assert len(together(0) & together(1)) < 0.2 * len(together(0))


def test_batches_are_full() -> None:
    examples = pairs(20_000)
    source, target = TokenBatches(examples, 384).fill()
    assert source > 0.97
    assert target > 0.97
    source, target = TokenBatches(examples, 384, pool=1).fill()  # what sorting is good for
    assert source < 0.7
    assert target < 0.7


def test_fill_counts_what_the_tensors_hold() -> None:
    batches = TokenBatches(pairs(211), 384, pool=50)
    made = list(batches)
    real = [sum(int((batch.inputs[side] != PAD).sum()) for batch in made) for side in (0, 1)]
    positions = [sum(batch.inputs[side].numel() for batch in made) for side in (0, 1)]
    assert batches.fill() == pytest.approx((real[0] / positions[0], real[1] / positions[1]), abs=1e-12)


def test_a_pass_for_evaluation_is_whole_and_moves_nothing() -> None:
    batches = TokenBatches(pairs(60), 128)
    first = [tokens_of(batch) for batch in batches]
    assert len(first) == len(batches)
    assert sum(map(len, first)) == 60
    assert tokens_of(batches.next_batch()) == first[0]
    next(iter(batches))  # a pass that is given up
    assert [tokens_of(batch) for batch in batches] == first
    assert batches.index == 1
    assert [tokens_of(batches.next_batch()) for _ in first[1:]] == first[1:]
    assert (batches.epoch, batches.index) == (1, 0)


@given(st.integers(0, 40))
def test_a_restored_position_continues_exactly(steps: int) -> None:
    examples = pairs(60)
    batches = TokenBatches(examples, 128, seed=1)
    for _ in range(steps):
        batches.next_batch()
    state = batches.state_dict()
    rest = [tokens_of(batches.next_batch()) for _ in range(25)]
    again = TokenBatches(examples, 128, seed=1)
    again.load_state_dict(state)
    assert [tokens_of(again.next_batch()) for _ in range(25)] == rest


def test_a_position_of_other_batches_is_refused() -> None:
    examples = pairs(60)
    state = TokenBatches(examples, 128).state_dict()
    changed = [*examples[:-1], (examples[-1][0], [*examples[-1][1][:-1], 7])]  # one token is another
    for other, name in (
        (TokenBatches(examples, 128, seed=1), "seed"),
        (TokenBatches(examples, 129), "max_tokens"),
        (TokenBatches(examples, 128, pool=7), "pool"),
        (TokenBatches(changed, 128), "checksum of the examples"),
    ):
        with pytest.raises(ValueError, match=f"differ in {name} "):
            other.load_state_dict(state)
        assert (other.epoch, other.index) == (0, 0)


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ([([5], [5]), ([5], [])], "example 1, target: empty sentence"),
        ([([5], [5]), ([], [5])], "example 1, source: empty sentence"),
        ([[5], []], "example 1: empty sentence"),
        ([([5], [5]), ([5], [5] * 17)], r"example 1, target: 18 tokens with BOS or EOS, max_length is 17; remove"),
        ([([5] * 17, [5])], "example 0, source: 18 tokens"),
        ([], "examples is empty"),
    ],
)
def test_unusable_examples_are_named(examples: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TokenBatches(examples, 64, max_length=17)


def test_the_longest_sentence_allowed_is_allowed() -> None:
    batches = TokenBatches([([5] * 16, [5] * 16)], max_tokens=17, max_length=17)
    assert [x.shape for x in batches.next_batch().inputs] == [(1, 17), (1, 17)]


def test_a_sentence_longer_than_a_batch_is_named() -> None:
    with pytest.raises(ValueError, match=r"example 1, source: 20 tokens .*max_tokens is 19\); .* raise max_tokens"):
        TokenBatches([([5], [5]), ([5] * 19, [5])], max_tokens=19)


def test_text_is_not_taken_for_token_ids() -> None:
    with pytest.raises(TypeError, match=r"example 0, source: expected token ids, got the text 'Hello'; encode"):
        TokenBatches([("Hello", "你好")], 64)
    with pytest.raises(TypeError, match="example 0: expected token ids, got list; a pair must be a tuple"):
        TokenBatches([[[5, 6], [7, 8]]], 64)  # type: ignore[list-item]
    with pytest.raises(TypeError, match="example 0, source: expected a list of token ids, got 5"):
        TokenBatches([(5, 6)], 64)  # type: ignore[list-item]


def test_a_batch_without_valid_target_is_an_error() -> None:  # fault 74
    def hide_all(examples: list[list[int]]) -> Batch:
        tokens = pad_sequences(examples)
        return Batch((tokens,), torch.full_like(tokens, IGNORE), 0)

    batches = TokenBatches([[5, 6], [7, 8]], 64, collate=hide_all)
    with pytest.raises(ValueError, match=r"batch of examples \[[01], [01]\] has no valid target.*IGNORE.*collate"):
        batches.next_batch()


def test_nothing_is_left_to_worker_processes() -> None:  # fault 19
    # Workers of a DataLoader hang in notebooks and on Windows: the course has no DataLoader at all.
    for path in Path(course_lib.__file__).parent.rglob("*.py"):
        names = {node.id for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Name)}
        assert not names & {"DataLoader"}, path
        assert not re.search(r"num_workers\s*=", path.read_text("utf-8")), path


def test_a_batch_moves_as_a_whole() -> None:
    batch = seq2seq_batch(pairs(3)).to("meta")
    assert {x.device.type for x in (*batch.inputs, batch.targets)} == {"meta"}
    assert batch.n_targets == seq2seq_batch(pairs(3)).n_targets
