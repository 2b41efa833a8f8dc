"""Checks of the exercises of notebook 3.3."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from course_lib.batching import TokenBatches
from course_lib.coursework.engine import array, exercise, expect, is_text, same
from course_lib.models import ModelConfig, Seq2Seq
from course_lib.training import TrainConfig, Trainer

Array = np.ndarray


@exercise("3.3-a")
def weight_std(answer: Callable[[int, float], float]) -> None:
    """Without an activation first; then what it loses."""
    plain = float(array(answer(100, 1.0), ()))
    expect(not same(plain, 0.01), "0.01 is the variance: the standard deviation is asked for")
    expect(not same(plain, 10), "10 is what the weights are divided by: the factor is its inverse")
    expect(not same(plain, 1), "the number of inputs changes nothing: a sum of 100 terms spreads more than one")
    expect(same(plain, 0.1), f"100 inputs, nothing lost: expected 0.1, got {plain:.4f}")
    relu = float(array(answer(50, 0.5), ()))
    expect(not same(relu, 0.1), "a layer that loses half needs larger weights, not smaller ones")
    expect(not same(relu, 50**-0.5), "`kept` changes nothing: what an activation loses must be made up for")
    expect(not same(relu, 2 * 50**-0.5), "twice as large makes up for a quarter: under the root with it")
    expect(same(relu, 0.2), f"50 inputs, half lost: expected 0.2, got {relu:.4f}")


@exercise("3.3-b")
def clip_in_place(answer: Callable[[list[Array], float], float]) -> None:
    """What is changed, by which norm, what is returned; then the cases in which nothing may happen."""
    gradients = [np.array([3.0, 0.0]), np.array([4.0])]
    norm = answer(gradients, 1.0)
    expect(gradients[0][0] != 3.0, "nothing was changed: in place means g *= …, or g[...] = …")
    expect(not same(gradients[0][0], 1.0), "(3, 0) became (1, 0): the norm is that of all arrays together, 5")
    expect(not same(gradients[0][0], 3 / 7), "3 became 3/7: the norm is the root of the sum of squares, not a sum")
    expect(not same(gradients[0][0], 3 / 25), "3 became 3/25: the root of the sum of squares is missing")
    expect(same(np.concatenate(gradients), [0.6, 0, 0.8]), f"expected 0.6, 0 and 0.8, got {np.concatenate(gradients)}")
    returned = float(array(norm, (), "what is returned"))
    expect(not same(returned, 1), "return the norm *before* clipping: after it, it is always the limit")
    expect(same(returned, 5), f"the norm before clipping is 5, got {returned:g}")
    short = [np.array([0.3]), np.zeros((2, 2))]
    answer(short, 1.0)
    expect(short[0][0] == 0.3, "a gradient shorter than the limit must stay as it is: is the factor at most 1?")
    zero = [np.zeros(3)]
    expect(same(answer(zero, 1.0), 0) and not zero[0].any(), "all zero: the norm is 0, and nothing is divided by it")
    for bad in (math.inf, math.nan):
        spoilt = [np.array([1.0, bad]), np.array([2.0])]
        try:
            answer(spoilt, 1.0)
        except FloatingPointError:
            expect(spoilt[1][0] == 2.0, "the arrays were changed before the norm was found not to be finite")
        else:
            expect(False, f"a gradient with {bad} must raise FloatingPointError: one NaN spoils all weights")


@exercise("3.3-c")
def bucket(answer: Callable[[list[int], int, int], list[list[int]]]) -> None:
    """All there, within the budget, hardly any padding; then what is random and what is not."""
    lengths = np.random.default_rng(4).integers(3, 31, size=4000).tolist()
    dealt = answer(list(lengths), 500, 1)
    expect(
        isinstance(dealt, list) and all(len(batch) for batch in dealt), "return a list of batches, none of them empty"
    )
    counted = sorted(int(i) for batch in dealt for i in batch)
    expect(len(counted) >= 4000, f"{4000 - len(counted)} sentences are missing: is the last batch there?")
    expect(counted == list(range(4000)), "a sentence occurs twice, or what is dealt are lengths and not indices")
    rectangles = [len(batch) * max(lengths[i] for i in batch) for batch in dealt]
    expect(
        max(rectangles) <= 500, f"a batch has {max(rectangles)} positions: count the padding, sentences times longest"
    )
    padding = 1 - sum(lengths) / sum(rectangles)
    expect(padding < 0.05, f"{padding:.0%} of the positions are padding: are neighbours of similar length?")
    expect(np.mean(rectangles) > 400, "the batches are small: does each take as much as the budget allows?")
    first = np.array([lengths[batch[0]] for batch in dealt])
    expect(
        abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 0.5,
        "the epoch is a ramp from short to long: shuffle the batches",
    )
    expect(
        answer(list(lengths), 500, 1) == dealt, "the same seed must give the same batches: are all draws from one seed?"
    )
    other = answer(list(lengths), 500, 2)
    expect(other != dealt, "another seed gives the same batches: does it enter?")

    shared = {frozenset(batch) for batch in dealt} & {frozenset(batch) for batch in other}
    expect(len(shared) < 0.2 * len(dealt), "the same sentences meet in every epoch: shuffle before sorting, too")
    expect(sorted(map(tuple, answer([7, 3], 7, 0))) == [(0,), (1,)], "a budget that just holds the longest sentence")


@exercise("3.3-d")
def factored_second_moment(answer: Callable[[list[Array], float], Array]) -> None:
    """One step of a product, whose estimate is exact; signs; sizes that change; sums that must agree."""
    row, column = np.array([1.0, 2.0, 3.0]), np.array([5.0, 0.5, 2.0, 1.0, 4.0])
    g = np.outer(row, column)
    one = array(answer([g.copy()], 0.9))
    expect(one.shape == g.shape, f"expected the shape {g.shape}, got {one.shape}: which axis does a row sum run over?")
    expect(not same(one, 0.1 * g**2), "a tenth of what it should be after one step: is the bias correction missing?")
    expect(not same(one, 10 * g**2), "ten times too large after one step: is the correction applied once, not twice?")
    expect(not same(one, g**2 * (g**2).sum()), "too large by the sum of all squares: is it divided out?")
    expect(not same(one, g), "that is the estimate of |g|: are the *squares* averaged?")
    expect(same(one, g**2), "for one product of a row and a column factor the estimate should be exactly g²")
    history = [size * g for size in (1.0, 3.0, 0.2, 2.0)]
    weights = 0.1 * 0.9 ** np.arange(3, -1, -1) / (1 - 0.9**4)
    right = sum(w * h**2 for w, h in zip(weights, history, strict=True))
    found = array(answer([h.copy() for h in history], 0.9), g.shape)
    expect(
        not same(found, np.mean([h**2 for h in history], axis=0)), "that is a plain mean: newer gradients count more"
    )
    expect(
        not same(found, right * (1 - 0.9**4) / 0.1), "the correction is that of one step: it depends on their number"
    )
    expect(
        same(found, right), "gradients of changing size: is the average a moving one, and its correction of all steps?"
    )
    expect(
        same(answer([g, -g, g], 0.9), g**2),
        "signs must not matter: are the squares averaged, before anything is summed?",
    )
    random = np.random.default_rng(5)
    noisy = [random.normal(size=(7, 11)) for _ in range(30)]
    v = array(answer([h.copy() for h in noisy], 0.98), (7, 11))
    full = np.average([h**2 for h in noisy], axis=0, weights=0.98 ** np.arange(29, -1, -1))
    expect(
        same(v.sum(axis=1), full.sum(axis=1)), "the row sums of the estimate should be those of Adam's second moment"
    )
    expect(np.linalg.matrix_rank(v) == 1, "the estimate should be a product of a row and a column: was all of g² kept?")


def _model() -> Seq2Seq:
    config = ModelConfig(23, d_model=8, n_heads=2, n_encoder_layers=1, n_decoder_layers=1, d_ff=16, dropout=0.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Seq2Seq(config).double()


@exercise("3.3-e")
def train_by_hand(answer: Callable[[Seq2Seq, TokenBatches, TrainConfig], None]) -> None:
    """One plain update; several; then one setting after the other."""
    random = np.random.default_rng(3)
    lengths = random.integers(2, 9, size=(120, 2))
    pairs = [tuple(random.integers(6, 23, size=n).tolist() for n in both) for both in lengths]

    def equal(**settings: Any) -> bool:
        plain = {"steps": 1, "lr": 0.01, "warmup": 0.0, "clip": math.inf, "weight_decay": 0.0, "label_smoothing": 0.0}
        config = TrainConfig(**plain | settings)
        ours, theirs = _model(), _model()
        answer(ours, TokenBatches(pairs, max_tokens=90), config)
        Trainer(theirs, TokenBatches(pairs, max_tokens=90), config, progress=False).run()
        both = zip(ours.parameters(), theirs.parameters(), strict=True)
        return all(torch.allclose(a, b, atol=1e-7) for a, b in both)

    expect(
        equal(), "one plain update differs: is the loss divided by its targets, and the rate lr_at(0) in all groups?"
    )
    expect(equal(steps=2), "the second update differs: is the gradient cleared, and are β₁, β₂ those of config?")
    expect(
        equal(steps=3, schedule="inverse_sqrt"),
        "several updates differ: is the rate lr_at(update)?",
    )
    expect(equal(steps=4, warmup=0.5), "with warm-up it differs: set the rate of every group, before each step")
    expect(equal(steps=3, label_smoothing=0.2), "label smoothing differs: is it passed on?")
    expect(
        equal(accumulate=3),
        "accumulation differs: divide by the targets of *all* micro-batches, and let the rate count updates",
    )
    expect(equal(steps=4, accumulate=2, warmup=0.5), "accumulation with warm-up differs: the schedule counts updates")
    expect(equal(steps=3, clip=0.3), "clipping differs: all parameters, after the backward pass and before the step")
    expect(equal(steps=3, accumulate=2, clip=0.03), "clip once per update, not once per micro-batch")
    expect(equal(steps=3, weight_decay=0.5), "weight decay differs: matrices only, biases and gains not")


# Of each symptom: the fingerprint of its fault, and what to think about if another was named.
SYMPTOMS = {
    1: ("a077b62c6278", "attention plays no part in it: what can a position copy from its own input?"),
    2: ("1d13435d81b0", "it needs attention: from where does a position read its answer?"),
    3: ("19ec6dd01944", "the model is the same in both: only what is reported differs"),
    4: ("eba69b58aca0", "what do such batches hold much of, that is easy to predict?"),
    5: ("da6f8080ad6c", "four times too fast: what is counted?"),
    6: ("d035e9a52386", "nothing has been learned yet: what differs at the first batch?"),
}
FAULTS = {"mask", "mean", "pad", "rate", "seed", "shifted"}


@exercise("3.3-f")
def diagnosis(answer: Callable[[], dict[int, str]]) -> None:
    """Whether the words are those of the list, then symptom by symptom."""
    found = answer()
    expect(isinstance(found, dict), f"return a dictionary from 1 … 6 to words, not {type(found).__name__}")
    missing = sorted(set(SYMPTOMS) - set(found))
    expect(not missing, f"symptoms {missing} are missing: the keys are the numbers 1 to 6")
    words = {str(word).strip().casefold() for word in found.values()}
    expect(words <= FAULTS, f"{', '.join(sorted(words - FAULTS))}: the words are {', '.join(sorted(FAULTS))}")
    for symptom, (fingerprint, thought) in SYMPTOMS.items():
        right = is_text(found[symptom], fingerprint, f"3.3-f {symptom}")
        expect(right, f"symptom {symptom} has another fault: {thought}")
