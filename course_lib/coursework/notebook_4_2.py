"""Checks of the exercises of notebook 4.2."""

import math
import tracemalloc
from collections.abc import Callable

import numpy as np
import torch

from course_lib.batching import IGNORE
from course_lib.coursework.engine import array, exercise, expect, same

Array = np.ndarray
Part = tuple[Array, Array, Array]


@exercise("4.2-a")
def log_sigmoid(answer: Callable[[float], float]) -> None:
    """In the middle; the sign; far out on either side; small results."""

    def at(x: float) -> float:
        try:
            with np.errstate(over="raise", divide="raise", invalid="raise"):
                return float(array(answer(x), ()))
        except (FloatingPointError, OverflowError):
            expect(False, f"overflow at {x:g}: the exponent should never be positive")
            raise
        except (ValueError, ZeroDivisionError):
            expect(False, f"at {x:g} the logarithm of 0 is taken: the probability underflowed before")
            raise

    expect(not same(at(0.0), 0.5), "1/2 is the probability at 0: its logarithm is wanted")
    expect(not same(at(0.0), math.log(2)), "at 0 the result should be −ln 2: is a sign wrong?")
    expect(same(at(0.0), -math.log(2)), "at 0 both classes have probability 1/2: expected −ln 2")
    expect(not same(at(2.0), at(-2.0)), "the same at 2 and at −2: which score is the larger one, and is it taken off?")
    expect(at(2.0) > at(-2.0), "the probability must grow with x: is a sign wrong?")
    expect(same(at(2.0), -math.log(1 + math.exp(-2)), 1e-12), "wrong at 2: compare with −ln(1 + e⁻²)")
    expect(
        same(at(-2.0), -2 - math.log(1 + math.exp(-2)), 1e-12),
        "right at 2, wrong at −2: which score is the larger one, and is it taken off?",
    )
    for x in (-1e4, 1e4):
        expect(abs(at(x) - min(x, 0)) < 1e-9, f"wrong at {x:g}: which score is subtracted before the exponential?")
    small = at(40.0) / -math.exp(-40)
    expect(abs(small - 1) < 1e-9, "digits are lost at 40: 1 + e⁻⁴⁰ rounds to 1 before its logarithm is taken")


def _entropy(s: Array, T: float) -> float:
    """Entropy of softmax(s / T) in nats, term by term."""
    z = [(x - max(s)) / T for x in s]
    total = sum(math.exp(x) for x in z)
    return -sum(math.exp(x) / total * (x - math.log(total)) for x in z)


@exercise("4.2-b")
def temperature_for(answer: Callable[[Array, float], float]) -> None:
    """Two scores by hand; more; other sizes; a shift; a probability that is 0."""

    invalid: list[str] = []

    def found(s: Array, H: float) -> float:
        with np.errstate(all="ignore", invalid="call", call=lambda kind, _: invalid.append(kind)):
            return float(array(answer(s.copy(), H), ()))

    s = np.array([1.0, 0.0])
    H = _entropy(s, 1 / math.log(9))
    T = found(s, H)
    expect(not math.isnan(T), "NaN: how is 0 · ln 0 counted?")
    expect(T > 0, "a temperature is positive: do the bounds begin above 0?")
    expect(not same(T, math.log(9), 1e-6), "ln 9 is the inverse temperature: scores are divided by T")
    expect(abs(_entropy(s, T) - H * math.log(2)) > 1e-4, "is the entropy in bits? It is given in nats")
    good = same(T, 1 / math.log(9), 1e-6)
    expect(
        good or not invalid, "at small T something is not a number: how is 0 · ln 0 counted, is the maximum taken off?"
    )
    expect(good, f"expected 1/ln 9 = 0.455, got {T:.4f}: is the right half kept, often enough?")
    s = np.random.default_rng(2).normal(size=11)
    for T in (0.3, 1.0, 7.0):
        expect(
            abs(found(s, _entropy(s, T)) / T - 1) < 1e-6,
            f"11 scores: expected T = {T}: is the entropy that of all of them, and is it halved often enough?",
        )
    H = _entropy(s, 1.0)
    for size in (1e-3, 1e3, 1e5):
        T = found(size * s, H)
        expect(
            abs(T / size - 1) < 1e-6, f"scores × {size:g}: T must grow likewise; does the interval fit their spread?"
        )
    expect(abs(found(s + 1e4, H) - 1) < 1e-6, "a constant added to all scores must not change T")
    s = np.array([1.0, 0.5, -1000.0])
    expect(abs(found(s, _entropy(s, 1.0)) - 1) < 1e-6, "a probability that is 0: how is 0 · ln 0 counted?")


@exercise("4.2-c")
def z_loss(answer: Callable[[Array, Array, float], tuple[float, Array]]) -> None:
    """Cross-entropy alone; the mean; the penalty; its gradient; ignored targets; large scores."""

    def compare(
        N: int, V: int, alpha: float, ignored: tuple[int, ...] = (), size: float = 1.0
    ) -> tuple[bool, bool, Array]:
        """Whether loss and gradient are PyTorch's, and the gradient."""
        random = np.random.default_rng(6)
        s, targets = size * random.normal(size=(N, V)), random.integers(V, size=N)
        targets[list(ignored)] = IGNORE
        leaf, kept = torch.tensor(s, requires_grad=True), torch.tensor(targets != IGNORE)
        loss = torch.nn.functional.cross_entropy(leaf, torch.tensor(targets), ignore_index=IGNORE)
        loss = loss + alpha * leaf.logsumexp(dim=1)[kept].square().mean()
        (slope,) = torch.autograd.grad(loss, leaf)
        both = answer(s.copy(), targets.copy(), alpha)
        expect(isinstance(both, tuple | list) and len(both) == 2, "return two things: the loss and its gradient")
        found, gradient = float(array(both[0], ())), array(both[1], (N, V), "the gradient")
        return same(found, loss.item(), 1e-9), same(gradient, slope.numpy(), 1e-9), gradient

    right = compare(1, 5, 0.0)
    expect(right[0], "alpha 0, one target: the loss is the cross-entropy, ln Z − s[target]")
    expect(right[1], "alpha 0, one target: the gradient is p − y; is the one-hot y taken off?")
    right = compare(3, 5, 0.0)
    expect(right[0], "three targets: is the loss a mean?")
    expect(right[1], "three targets: the loss is a mean, and so is its gradient")
    expect(compare(1, 5, 0.1)[0], "one target, alpha 0.1: is ln Z squared, and added with a plus?")
    expect(compare(1, 5, 0.1)[1], "only the gradient with alpha is wrong: what does the chain rule give for (ln Z)²?")
    right = compare(7, 5, 0.1, ignored=(0, 3))
    expect(not right[2][[0, 3]].any(), "IGNORE: such a row has no gradient, of the penalty neither")
    expect(right[0], "IGNORE: such a row has no loss, no penalty, and is not in the number that divides")
    expect(right[1], "IGNORE: the loss is right, the gradient is not: by what is it divided?")
    expect(
        compare(3, 5, 0.1, size=1e3)[:2] == (True, True),
        "large scores: is the maximum subtracted before the exponential?",
    )


def _part(s: Array, v: Array) -> Part:
    """(m, z, o) of scores s (T, S), where −∞ is forbidden, and values v (S, d_v)."""
    m = s.max(axis=1, keepdims=True)
    e = np.exp(s - np.where(np.isinf(m), 0.0, m))
    return m, e.sum(axis=1, keepdims=True), e @ v


@exercise("4.2-d")
def merge(answer: Callable[[Part, Part], Part]) -> None:
    """Equal maxima; either side the larger; large scores; queries without keys."""

    def agrees(s: Array, v: Array, cut: int) -> list[bool]:
        """Whether m, z, o of two merged parts are those of all keys."""
        both = answer(_part(s[:, :cut], v[:cut]), _part(s[:, cut:], v[cut:]))
        expect(isinstance(both, tuple | list) and len(both) == 3, "return a triple: m, z and o")
        expected = _part(s, v)
        found = [array(f, e.shape, name) for f, e, name in zip(both, expected, "mzo", strict=True)]
        return [np.allclose(f, e, rtol=1e-9, atol=0) for f, e in zip(found, expected, strict=True)]

    random = np.random.default_rng(12)
    s, v = random.normal(size=(5, 13)), random.normal(size=(13, 3))
    even = np.where(np.arange(13) % 6 == 0, 4.0, s)  # the same maximum on both sides
    found = agrees(even, v, 6)
    expect(found[0], "equal maxima: m should be what both have")
    expect(found[1], "equal maxima: the sums z are simply added")
    expect(found[2], "equal maxima: o is the sum of the numerators; who divides by z, and when?")
    for low, high in ((s - 9 * (np.arange(13) < 6), "second"), (s - 9 * (np.arange(13) >= 6), "first")):
        found = agrees(low, v, 6)
        expect(found[0], "m should be the larger maximum of each query")
        expect(found[1], f"z is wrong if the {high} part is larger: which side must be rescaled, by which sign?")
        expect(found[2], f"o is wrong if the {high} part is larger: it needs the factor that z gets")
    shifted = s + 1e4 * (np.arange(13) < 6)
    expect(agrees(shifted, v, 6) == [True] * 3, "large scores: only differences may be exponentiated")
    s[1, :6], s[2, 6:], s[3] = -np.inf, -np.inf, -np.inf
    none = answer(_part(s[3:4, :6], v[:6]), _part(s[3:4, 6:], v[6:]))
    expect(not np.isnan(array(none[1])).any(), "NaN: −∞ − (−∞) for a query without keys")
    expect(agrees(s, v, 6) == [True] * 3, "wrong for a query that sees keys of one part only, or none")


@exercise("4.2-e")
def loss_in_blocks(answer: Callable[[Array, Array, Array, int], tuple[float, Array, Array]]) -> None:
    """One block; equal targets; several blocks; a short last one; size of the logits; memory."""

    def wrong(
        N: int, V: int, d: int, block: int, size: float = 1.0, distinct: bool = False, below: float = 0.0
    ) -> list[str]:
        """Names of what differs from autograd through PyTorch's loss."""
        random = np.random.default_rng(13)
        H, W = size * random.normal(size=(N, d)), random.normal(size=(V, d))
        if below:
            H[:, 0], W[:, 0] = -below, 1.0  # moves all logits down
        targets = random.permutation(V)[:N] if distinct else random.integers(2, size=N)
        leaves = [torch.tensor(x, requires_grad=True) for x in (H, W)]
        loss = torch.nn.functional.cross_entropy(leaves[0] @ leaves[1].T, torch.tensor(targets), reduction="sum")
        expected = (loss.detach().numpy(), *[g.numpy() for g in torch.autograd.grad(loss, leaves)])
        found = answer(H.copy(), W.copy(), targets.copy(), block)
        expect(isinstance(found, tuple | list) and len(found) == 3, "return three things: the loss, dH and dW")
        triples = zip(("loss", "dH", "dW"), found, expected, strict=True)
        return [name for name, f, e in triples if not same(f, e, 1e-9, name)]

    one = wrong(3, 7, 2, 7, distinct=True)
    expect("loss" not in one, "one block: the loss of a row is ln Z − s[target], summed over the rows")
    expect(not one, f"one block: {' and '.join(one)} wrong: is the one-hot y taken off, and is p = exp(s − ln Z)?")
    equal = wrong(5, 7, 2, 7)
    expect(equal != ["dW"], "equal targets: only dW is wrong; are the rows of all of them subtracted?")
    several = wrong(5, 6, 2, 2)
    expect("loss" not in several, "several blocks: is the running sum rescaled when the maximum grows?")
    expect(not several, f"several blocks: {' and '.join(several)} wrong: is ln Z that of the whole row?")
    expect(not wrong(5, 7, 2, 3), "7 words in blocks of 3: the last block is shorter")
    expect(not wrong(5, 7, 2, 3, size=1e3), "large logits: exponentiate differences to the running maximum only")
    expect(not wrong(5, 7, 2, 3, below=1e3), "all logits far below 0: where does the running maximum begin?")
    H, W = np.ones((64, 3)), np.ones((4096, 3))
    tracemalloc.start()
    answer(H, W, np.zeros(64, dtype=int), 64)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    expect(peak < 64 * 4096 * 8 / 2, "too much memory: all logits, or a one-hot matrix, stand at once")
