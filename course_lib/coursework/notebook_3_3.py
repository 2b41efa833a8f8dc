"""Checks of the exercises of notebook 3.3."""

import math
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import torch

from course_lib.batching import TokenBatches
from course_lib.coursework.engine import array, exercise, expect, is_text, same
from course_lib.models import ModelConfig, Seq2Seq
from course_lib.training import TrainConfig, Trainer

Array = np.ndarray
TOLERANCE = 1e-5  # an answer may come in float32


@exercise("3.3-a")
def weight_std(answer: Callable[[int, float], float]) -> None:
    """Without an activation first; then what a ReLU loses; then what another one does."""
    plain = float(array(answer(100, 1.0), ()))
    expect(not same(plain, 0.01, TOLERANCE), "0.01 is the variance: the standard deviation is asked for")
    expect(not same(plain, 10, TOLERANCE), "10 is what the weights are divided by: the factor is its inverse")
    expect(
        not same(plain, 1, TOLERANCE), "the number of inputs changes nothing: a sum of 100 terms spreads more than one"
    )
    expect(not same(plain, 0.02**0.5, TOLERANCE), "that is for a ReLU: here the activation loses nothing")
    expect(
        same(plain, 0.1, TOLERANCE), f"100 inputs, nothing lost: 0.1, not {plain:.4f}. Is it the deviation, or a limit?"
    )
    relu = float(array(answer(50, 0.5), ()))
    expect(not same(relu, 0.1, TOLERANCE), "a layer that loses half needs larger weights, not smaller ones")
    expect(not same(relu, 50**-0.5, TOLERANCE), "`kept` changes nothing: what an activation loses must be made up for")
    expect(not same(relu, 2 * 50**-0.5, TOLERANCE), "twice as large makes up for a quarter: under the root with it")
    expect(
        same(relu, 0.2, TOLERANCE),
        f"50 inputs, half lost: 0.2, not {relu:.4f}. By which factor must the mean square grow to make up for it?",
    )
    quarter = float(array(answer(100, 0.25), ()))
    expect(same(quarter, 0.2, TOLERANCE), "right for a ReLU only: what if an activation keeps a quarter?")


@exercise("3.3-b")
def clip_in_place(answer: Callable[[list[Array], float], float]) -> None:
    """What is changed, by which norm, what is returned; the limit; then the cases in which nothing may happen."""
    gradients = [np.array([3.0, 0.0]), np.array([4.0])]
    given = list(gradients)
    norm = answer(given, 1.0)
    found = np.concatenate(gradients)
    if same(found, [3, 0, 4]):
        replaced = any(new is not old for new, old in zip(given, gradients, strict=False))
        expect(
            not replaced, "new arrays are in the list, but the model holds the old ones: change the arrays themselves"
        )
        expect(False, "nothing was changed: in place means g *= …, or g[...] = …")
    alone = [np.array([3.0, 4.0])]
    answer(alone, 1.0)
    expect(
        not same(alone[0], [1, 1], TOLERANCE),
        "(3, 4) became (1, 1): was each entry cut by itself? The gradient should keep its direction",
    )
    expect(not same(found[0], 1, TOLERANCE), "(3, 0) became (1, 0): the norm is that of all arrays together, 5")
    expect(not same(found[0], 3 / 7, TOLERANCE), "3 became 3/7: the norm is the root of the sum of squares, not a sum")
    expect(not same(found[0], 3 / 25, TOLERANCE), "3 became 3/25: the root of the sum of squares is missing")
    expect(
        not same(found[0], 0.6, TOLERANCE) or same(found[2], 0.8, TOLERANCE),
        f"the first array is right, but 4 became {found[2]:.4g}: was the norm computed anew after a change?",
    )
    expect(same(found, [0.6, 0, 0.8], TOLERANCE), f"expected 0.6, 0 and 0.8, got {found}: which norm is it?")
    returned = float(array(norm, (), "what is returned"))
    expect(not same(returned, 1, TOLERANCE), "return the norm *before* clipping: after it, it is always the limit")
    expect(same(returned, 5, TOLERANCE), f"the norm before clipping is 5; {returned:g} was returned")
    looser = [np.array([3.0, 0.0]), np.array([4.0])]
    answer(looser, 3.5)
    expect(
        looser[0][0] != 3.0, "norm 5, limit 3.5: 3 stayed as it was. Is each array compared with the limit by itself?"
    )
    right = same(np.concatenate(looser), [2.1, 0, 2.8], TOLERANCE)
    expect(right, "with the limit 3.5 the norm should become 3.5: does `largest` enter the factor?")
    square = [np.diag([3.0, 4.0])]
    norm = float(array(answer(square, 1.0), (), "what is returned"))
    expect(same(norm, 5, TOLERANCE), f"a matrix with 3 and 4 on its diagonal: all entries count, so 5, not {norm:g}")
    short = [np.array([0.3]), np.zeros((2, 2))]
    answer(short, 1.0)
    expect(short[0][0] == 0.3, "a gradient shorter than the limit must stay as it is: is the factor at most 1?")
    below = [np.array([3.0, 0.0]), np.array([4.0])]
    answer(below, 10.0)
    expect(below[0][0] == 3.0, "norm 5, limit 10, and yet something changed: is the norm compared, or its square?")
    zero = [np.zeros(3)]
    nothing = same(answer(zero, 1.0), 0, TOLERANCE) and not zero[0].any()
    expect(nothing, "all zero: the norm should be 0, with nothing added, and nothing divided by it")
    for bad in (math.inf, math.nan):
        spoilt = [np.array([1.0, bad]), np.array([2.0])]
        try:
            answer(spoilt, 1.0)
        except FloatingPointError:
            expect(spoilt[1][0] == 2.0, "the arrays were changed before the norm was found not to be finite")
        except Exception as error:
            expect(False, f"a gradient with {bad}: raise FloatingPointError, not {type(error).__name__}")
        else:
            expect(False, f"a gradient with {bad} must raise FloatingPointError: one NaN spoils all weights")


@exercise("3.3-c")
def bucket(answer: Callable[[list[int], int, int], list[list[int]]]) -> None:
    """All there, within the budget, hardly any padding; then what is random and what is not."""

    def deal(lengths: list[int], budget: int, seed: int) -> list[list[int]]:
        batches = answer(list(lengths), budget, seed)
        expect(isinstance(batches, list | tuple), f"return a list of batches, not {type(batches).__name__}")
        expect(all(np.ndim(batch) == 1 for batch in batches), "each batch should be a list of indices")
        return [[int(i) for i in batch] for batch in batches]

    lengths = np.random.default_rng(4).integers(3, 31, size=4000).tolist()
    dealt = deal(lengths, 500, 1)
    expect(all(dealt), "a batch is empty: what if no sentence has some length, or the first does not fit?")
    counted = sorted(i for batch in dealt for i in batch)
    expect(counted != sorted(lengths), "what is dealt are lengths: indices into `lengths` are asked for")
    expect(
        len(counted) >= 4000,
        f"{4000 - len(counted)} sentences are missing: is the last batch there, and what did not fit into a full one?",
    )
    expect(counted == list(range(4000)), "a sentence occurs twice: does it begin a batch and join it, too?")

    def rectangles_of(lengths: list[int]) -> list[int]:
        return [len(batch) * max(lengths[i] for i in batch) for batch in dealt]

    rectangles = rectangles_of(lengths)
    expect(
        max(rectangles) <= 500 or max(rectangles_of(sorted(lengths))) > 500,
        "the indices fit the *sorted* lengths: which sentence does each stand for in the list that was given?",
    )
    expect(
        max(rectangles) <= 500,
        f"a batch has {max(rectangles)} positions: count the padding, sentences times longest, the new one included",
    )
    padding = 1 - sum(lengths) / sum(rectangles)
    expect(padding < 0.05, f"{padding:.0%} of the positions are padding: are neighbours of similar length?")
    expect(np.mean(rectangles) > 400, "the batches are small: does each take as much as the budget allows?")
    longest = [max(lengths[i] for i in batch) for batch in dealt]
    expect(
        abs(np.corrcoef(longest[:-1], longest[1:])[0, 1]) < 0.5,
        "the epoch is a ramp from short to long: shuffle the batches",
    )
    expect(deal(lengths, 500, 1) == dealt, "the same seed must give the same batches: are all draws from one seed?")
    other = deal(lengths, 500, 2)
    expect(other != dealt, "another seed gives the same batches: does it enter?")
    shared = {frozenset(batch) for batch in dealt} & {frozenset(batch) for batch in other}
    expect(len(shared) < 0.2 * len(dealt), "the same sentences meet in every epoch: shuffle before sorting, too")
    expect(
        longest != [max(lengths[i] for i in batch) for batch in other],
        "another seed gives the lengths in the same order: are the batches shuffled by it, too?",
    )
    expect(
        sorted(deal([7, 7], 7, 0)) == [[0], [1]],
        "a budget that just holds the longest sentence: one sentence may fill a batch, and none may be empty",
    )


@exercise("3.3-d")
def factored_second_moment(answer: Callable[[list[Array], float], Array]) -> None:
    """One step of a product, whose estimate is exact; more of the same; signs; changing sizes; sums that must agree."""
    row, column = np.array([1.0, 2.0, 3.0]), np.array([5.0, 0.5, 2.0, 1.0, 4.0])
    g = np.outer(row, column)
    given = g.copy()
    one = array(answer([given], 0.9))
    expect(one.shape == g.shape, f"expected the shape {g.shape}, got {one.shape}: which axis does a row sum run over?")
    expect((given == g).all(), "the gradient itself was changed: it is still needed, so square a copy")
    expect(np.isfinite(one).all(), "not finite after one step: is it counted as step 1?")
    expect(not same(one, 0.1 * g**2, TOLERANCE), "a tenth of what it should be: is the bias correction missing?")
    expect(
        not same(one, 10 * g**2, TOLERANCE),
        "ten times too large after one step: is the correction applied once, and does the average start at 0?",
    )
    expect(not same(one, g**2 * (g**2).sum(), TOLERANCE), "too large by the sum of all squares: is it divided out?")
    expect(not same(one, g, TOLERANCE), "that is the size of |g|: are *squares* averaged, and is no root taken?")
    squared_sums = [g**2 * side.sum() ** 2 / (side**2).sum() for side in (row, column)]
    expect(
        not any(same(one, sums, TOLERANCE) for sums in squared_sums),
        "are the squares summed here, or the sums squared?",
    )
    ratio = (one / g**2).mean()
    expect(
        same(one, g**2, TOLERANCE),
        f"one product of a row and a column factor should give g² itself, yours is {ratio:.3g} times that: "
        "are sums divided by a sum, and does the correction know how many steps were made?",
    )

    def holds(sizes: list[float]) -> tuple[Array, bool]:
        """The estimate for gradients of these sizes, and whether it is right."""
        t = len(sizes)
        weights = 0.1 * 0.9 ** np.arange(t - 1, -1, -1) / (1 - 0.9**t)
        found = array(answer([size * g for size in sizes], 0.9), g.shape)
        return found, same(found, (weights * np.square(sizes)).sum() * g**2, TOLERANCE)

    steady, right = holds([1, 1, 1])
    expect(
        not same(steady, (1 - 0.9**3) / 0.1 * g**2, TOLERANCE),
        "the correction is that of one step: it depends on their number",
    )
    expect(right, "three equal gradients should give g² again: was an average that is corrected averaged once more?")
    expect(holds([1, -1, 1])[1], "signs must not matter: are the squares averaged, or the gradients?")
    sizes = np.array([1.0, 3.0, 0.2, 2.0])
    found, right = holds(sizes.tolist())
    expect(not same(found, (sizes**2).mean() * g**2, TOLERANCE), "that is a plain mean: newer gradients count more")
    from_first = (sizes**2 * [0.9**3, 0.1 * 0.9**2, 0.1 * 0.9, 0.1]).sum() * g**2
    expect(not same(found, from_first, TOLERANCE), "the first gradient counts too much: does the average start at 0?")
    expect(right, "gradients of changing size: is the average a moving one, which keeps the share β of the old?")
    random = np.random.default_rng(5)
    noisy = [random.normal(size=(7, 11)) for _ in range(30)]
    v = array(answer([h.copy() for h in noisy], 0.98), (7, 11))
    full = np.average([h**2 for h in noisy], axis=0, weights=0.98 ** np.arange(29, -1, -1))
    sums = same(v.sum(axis=1), full.sum(axis=1), TOLERANCE) and same(v.sum(axis=0), full.sum(axis=0), TOLERANCE)
    expect(sums, "right for products only: are rows and columns *summed*, so that the estimate has Adam's sums?")
    values = np.linalg.svd(v, compute_uv=False)
    expect(
        values[1] < 1e-4 * values[0],
        "the estimate should be one product of a row and a column: was all of g² kept, or were products averaged?",
    )


def _model() -> Seq2Seq:
    config = ModelConfig(23, d_model=8, n_heads=2, n_encoder_layers=1, n_decoder_layers=1, d_ff=16, dropout=0.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Seq2Seq(config).double()


@exercise("3.3-e")
def train_by_hand(answer: Callable[[Seq2Seq, TokenBatches, TrainConfig], None]) -> None:
    """One plain update; several; then one setting after the other."""
    random = np.random.default_rng(3)

    def pairs_of(lengths: Array) -> list[tuple[list[int], ...]]:
        return [tuple(random.integers(6, 23, size=n).tolist() for n in both) for both in lengths]

    pairs = pairs_of(random.integers(2, 9, size=(120, 2)))

    def differ(data: list[tuple[list[int], ...]] = pairs, budget: int = 90, **settings: Any) -> tuple[bool, bool]:
        """Whether matrices differ from the trainer's, and whether other parameters do."""
        plain = {"steps": 1, "lr": 0.01, "warmup": 0.0, "clip": math.inf, "weight_decay": 0.0, "label_smoothing": 0.0}
        config = TrainConfig(**plain | settings)
        ours, theirs, before = _model(), _model(), _model()
        with mock.patch.object(Trainer, "run", lambda *_, **__: expect(False, "that is the Trainer: write its loop")):
            answer(ours, TokenBatches(data, max_tokens=budget), config)
        moved = any(not torch.equal(a, b) for a, b in zip(ours.parameters(), before.parameters(), strict=True))
        expect(moved, "no weight has changed: train the model that is given, not a copy of it")
        Trainer(theirs, TokenBatches(data, max_tokens=budget), config, progress=False).run()
        both = list(zip(ours.parameters(), theirs.parameters(), strict=True))
        return tuple(  # type: ignore[return-value]
            any(not torch.allclose(a, b, atol=1e-7) for a, b in both if (a.dim() > 1) == matrices)
            for matrices in (True, False)
        )

    def equal(*data: Any, **settings: Any) -> bool:
        return not any(differ(*data, **settings))

    unpadded = pairs_of(np.full((8, 2), 5))
    matrices, others = differ(unpadded, schedule="inverse_sqrt")  # not 0 after the last update
    expect(
        matrices or not others,
        "one update is right for matrices, but not for biases and gains: do they get the rate, and no weight decay? "
        "(AdamW has a rate and a weight decay of its own)",
    )
    expect(
        not matrices,
        "one plain update differs: is the rate lr_at(0), the loss divided by its number of targets, and weight decay "
        "that of config? (AdamW has its own)",
    )
    expect(
        equal(pairs_of(np.array([[8, 20], *[[2, 2]] * 9])), 1000),
        "right without padding, wrong with it: does it stay out of the loss, and out of the number that divides it?",
    )
    two: dict[str, Any] = {"steps": 2, "betas": (0.9, 0.999)}
    expect(
        equal(unpadded, **two),
        "the second update differs, with the same batch: is the gradient cleared, and does the optimiser live on?",
    )
    expect(equal(unpadded, steps=2), "the second update differs: are β₁, β₂ those of config?")
    expect(
        equal(steps=2),
        "the second update differs: is its batch the next one?",
    )
    expect(
        equal(steps=3, schedule="inverse_sqrt"),
        "several updates differ: is the rate lr_at(update), in both groups, and set before the step?",
    )
    expect(equal(pairs[:12], 30, steps=8), "wrong after the first epoch: does next_batch() give each batch?")
    expect(equal(steps=4, warmup=0.5), "with warm-up it differs: is the rate set before each step, the first one too?")
    expect(
        equal(steps=3, label_smoothing=0.2),
        "label smoothing differs: is it passed on, and is ε spread over all tokens, the right one too?",
    )
    expect(
        equal(accumulate=3),
        "accumulation differs: one step for all micro-batches, each divided by the targets of *all*, and let the rate "
        "count updates",
    )
    expect(equal(steps=4, accumulate=2, warmup=0.5), "accumulation with warm-up differs: the schedule counts updates")
    expect(equal(steps=3, clip=0.3), "clipping differs: all parameters, after the backward pass and before the step")
    expect(equal(steps=3, accumulate=2, clip=0.03), "clip once per update, not once per micro-batch")
    matrices, others = differ(weight_decay=0.5)
    expect(not others, "biases and gains should not decay: matrices only")
    expect(not matrices, "weight decay differs: is it that of config, and AdamW's, which is no part of the gradient?")


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
