"""Checks of the exercises of notebook 2.3."""

import math
from collections.abc import Callable

import numpy as np

from course_lib.coursework.engine import array, exercise, expect, same

Array = np.ndarray


@exercise("2.3-a")
def n_targets(answer: Callable[..., int]) -> None:
    """Each objective, then a text so short that 15 % of it are nothing."""
    masked = float(array(answer(40, "masked"), ()))
    expect(masked != 7, "the masked objective has no end sign to predict: it fills holes of a text that is there")
    expect(masked == 6, f"masked: 15 % of 40 tokens are 6, got {masked:g}")
    expect(answer(2, "masked") != 0, "a text of two tokens must still hide one, or it teaches nothing")
    expect(answer(2, "masked") == 1, f"a text of two tokens hides one, got {answer(2, 'masked')}")
    causal = float(array(answer(40, "causal"), ()))
    expect(causal != 40, "the causal objective has a target at every token, and must predict the end, too")
    expect(causal != 39, "the first token is predicted as well, from BOS; and so is the end")
    expect(causal == 41, f"causal: 40 tokens and the end sign, got {causal:g}")
    one = float(array(answer(40, "span"), ()))
    expect(one != 6, "span: the decoder writes more than the hidden words: a sign for each span, and the end sign")
    expect(one != 7, "span: 6 hidden words, a sign for the span, *and* the end sign")
    expect(one == 8, f"span: 6 hidden words, one sign and the end sign, got {one:g}")
    expect(answer(40, "span", n_spans=2) == 9, "span: two spans need two signs: does n_spans enter, once?")
    expect(answer(2, "span") == 3, "span: a text of two tokens must still hide one")
    expect(answer(10, "masked") == 2, "15 % of 10 are 1.5: round half to even, as Python does")


@exercise("2.3-b")
def t_interval(answer: Callable[[list[float]], tuple[float, float]]) -> None:
    """The mean; then the half-width, whose usual mistakes each have a value of their own."""
    found = answer([0.7, 0.8, 0.9])
    expect(isinstance(found, tuple | list) and len(found) == 2, "return two numbers: the mean and the half-width")
    middle, half = (float(x) for x in array(found, (2,)))
    expect(same(middle, 0.8), f"the first number should be the mean of the runs, 0.8, got {middle:.3f}")
    expect(abs(half - 0.1) > 1e-6, "0.1 is the standard deviation: where are t and √n?")
    expect(abs(half - 0.1 / math.sqrt(3)) > 1e-6, "that is the standard error: it is multiplied by t")
    expect(abs(half - 0.43) > 1e-3, "0.43 = 4.30 · 0.1: the interval of a *mean* shrinks with √n")
    expect(
        abs(half - 0.2027) > 1e-3, "0.203: divide the squares by n − 1, since the mean was estimated from the same runs"
    )
    expect(
        abs(half - 3.18 * 0.1 / math.sqrt(3)) > 1e-3, "that t belongs to four runs: look it up by the number of runs"
    )
    expect(
        abs(half - 1.96 * 0.1 / math.sqrt(3)) > 1e-3,
        "1.96 is right for a known spread: with few runs it is t, from the table",
    )
    expect(abs(half - 2 * 0.2483) > 1e-3, "that is the whole width: half of it goes to each side")
    expect(
        abs(half - 0.2483) < 1e-3, f"expected 0.248, got {half:.3f}: which n stands under the root, and which t is it?"
    )
    expect(abs(answer([0.5, 0.5, 0.5, 0.5])[1]) < 1e-9, "equal runs have no spread: the half-width is 0")
    expect(abs(answer([0.2, 0.4])[1] - 1.271) < 1e-3, "two runs: t is 12.71, and the half-width 1.27")


@exercise("2.3-c")
def merge(answer: Callable[[Array, Array, Array, float], tuple[Array, float]]) -> None:
    """Unequal sizes; the scale; the saving of a square matrix and of another."""
    random = np.random.default_rng(3)
    weight, down, up = random.normal(size=(7, 5)), random.normal(size=(2, 5)), random.normal(size=(7, 2))
    kept = weight.copy()
    both = answer(weight, down.copy(), up.copy(), 6.0)
    expect(np.array_equal(weight, kept), "W0 was changed in place: every task would lose the model it started from")
    expect(isinstance(both, tuple | list) and len(both) == 2, "return two things: the merged weight and the factor")
    merged = array(both[0], (7, 5), "the merged weight")
    product = np.einsum("ir,rj->ij", up, down)
    expect(not same(merged, 3 * product), "that is the adaptation alone: it is added to W0")
    expect(not same(merged, weight + product), "α and the rank are missing: by what is B A multiplied?")
    expect(not same(merged, weight + 6 * product), "α must be divided by the rank")
    expect(not same(merged, weight - 3 * product), "the adaptation is added, not taken off")
    expect(
        not same(merged, weight + 6 / 5 * product), "α was divided by the width of A: which of its sizes is the rank?"
    )
    expect(
        same(merged, weight + 3 * product),
        "the merged weight is wrong for α = 6 and rank 2: which sizes tell the rank, and where does α stand?",
    )
    saving = float(array(answer(np.ones((64, 64)), np.ones((4, 64)), np.ones((64, 4)), 1.0)[1], ()))
    expect(not same(saving, 1 / 8), "one eighth is LoRA's share: by which factor are there *fewer*?")
    expect(not same(saving, 16), "16 counts one of the two small matrices: both are trained")
    expect(not same(saving, 4096 / 4608), "W0 is frozen: it is not among the numbers that LoRA trains")
    expect(same(saving, 8), f"64 × 64 numbers against 4 · (64 + 64): expected 8, got {saving:.3f}")
    expect(same(both[1], 35 / 24), f"7 × 5 with rank 2: expected 35/24 = 1.458, got {float(both[1]):.3f}")


@exercise("2.3-d")
def corrupt_t5(answer: Callable[..., tuple[list[int], list[int]]]) -> None:
    """One span in the middle, then spans at both ends, neighbours, and none."""
    text = [11, 12, 13, 14, 15, 16]

    def corrupted(spans: list[tuple[int, int]], vocab_size: int) -> tuple[list[int], list[int]]:
        given = list(text)
        both = answer(given, spans, vocab_size)
        expect(isinstance(both, tuple | list) and len(both) == 2, "return two lists: what is read and what is written")
        expect(given == text, "the text was changed in place")
        return [int(x) for x in both[0]], [int(x) for x in both[1]]

    source, target = corrupted([(1, 3)], 100)
    expect(source != [11, 99, 99, 14, 15, 16], "one sign stands for a whole span, however long")
    expect(
        source != [11, 100, 14, 15, 16], "the ids count from 0, so the largest is one below the size of the vocabulary"
    )
    expect(source != [11, 14, 15, 16], "where the span was there should be a sign")
    expect(source != [11, 99, 15, 16], "the end of a span does not belong to it, as in a slice")
    expect(source != [11, 99], "what follows the last span is read, too")
    expect(source == [11, 99, 14, 15, 16], f"to be read: expected [11, 99, 14, 15, 16], got {source}")
    expect(target != [99, 12, 13], "the target closes with one sign more, so that the model knows where to stop")
    expect(target != [12, 13, 98], "each span in the target begins with its sign")
    expect(target != [99, 12, 13, 99], "the closing sign is the next one, below those of the spans")
    expect(target == [99, 12, 13, 98], f"to be written: expected [99, 12, 13, 98], got {target}")
    source, target = corrupted([(0, 1), (4, 6)], 50)
    expect(source != [49, 12, 13, 14, 49], "each span has its own sign, or nobody knows which is which")
    expect(source != [49, 12, 13, 14, 50], "the signs go down from the largest, not up")
    expect(source == [49, 12, 13, 14, 48], f"two spans, at both ends: expected [49, 12, 13, 14, 48], got {source}")
    expect(target == [49, 11, 48, 15, 16, 47], f"two spans: expected [49, 11, 48, 15, 16, 47], got {target}")
    source, target = corrupted([], 50)
    expect(
        (source, target) == (text, [49]), f"no span: the text is read, one sign is written; got {source} and {target}"
    )
    source, target = corrupted([(1, 2), (2, 3)], 50)
    expect(source == [11, 49, 48, 14, 15, 16], f"two spans side by side have two signs: got {source}")
