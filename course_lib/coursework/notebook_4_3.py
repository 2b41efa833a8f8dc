"""Checks of the exercises of notebook 4.3."""

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import torch

from course_lib.coursework.engine import array, exercise, expect, same

Array = np.ndarray
Triple = tuple[int, Any, Any]


@exercise("4.3-a")
def branch_factor(answer: Callable[[int, float, float], float]) -> None:
    """One branch, many branches, then another variance and another end."""
    one = float(array(answer(1, 1, 2), ()))
    expect(not same(one, 2**0.5), "√2: the state brings a mean square of 1 with it, so the branches add the rest only")
    expect(same(one, 1), f"one branch of mean square 1 makes 2 of 1 without any factor: expected 1, got {one:.3f}")
    many = float(array(answer(24, 1, 2), ()))
    expect(not same(many, 1 / 24), "24 branches: a factor c counts as c² in the mean square: is the root there?")
    expect(not same(many, 1), "24 branches: does their number enter?")
    expect(not same(many, 24**0.5), "√24 makes the branches larger: they should become smaller")
    expect(same(many, 24**-0.5), f"24 branches of mean square 1: expected 1/√24 = 0.204, got {many:.3f}")
    weak = float(array(answer(8, 0.5, 2), ()))
    expect(
        not same(weak, 0.0625**0.5),
        "v = 0.5: v makes branches larger, so it should make the factor smaller: it divides",
    )
    expect(not same(weak, 0.125**0.5), "v = 0.5 changes nothing: where does it belong?")
    expect(same(weak, 0.5), f"8 branches of 0.5, from 1 to 2: expected 1/2, got {weak:.3f}")
    far = float(array(answer(8, 0.5, 3), ()))
    expect(not same(far, weak), "a final mean square of 3 instead of 2 changes nothing: it should")
    expect(same(far, 0.5**0.5), f"8 branches of 0.5, from 1 to 3: expected 1/√2 = 0.707, got {far:.3f}")


def _frame(z: Array, gain: Array, bias: Array, W: Array, b: Array) -> Array:
    """(γ ⊙ x̂ + β) W + b, feature by feature."""
    rows = [
        [sum((g * x + c) * w for x, g, c, w in zip(row, gain, bias, column, strict=True)) for column in W.T]
        for row in z
    ]
    return np.array(rows) + b


@exercise("4.3-b")
def fold(answer: Callable[[Array, Array, Array, Array], tuple[Array, Array]]) -> None:
    """Nothing to fold, each of the two alone, both; then a matrix that is not square."""

    def holds(gain: Array, bias: Array, W: Array, b: Array) -> bool:
        kept = W.copy()
        both = answer(gain.copy(), bias.copy(), W, b.copy())
        expect(isinstance(both, tuple | list) and len(both) == 2, "return two arrays: the new weight and the new bias")
        expect(np.array_equal(W, kept), "W was changed in place: return a new one")
        new_w, new_b = array(both[0], W.shape, "the new weight"), array(both[1], b.shape, "the new bias")
        hat = np.random.default_rng(3).normal(size=(13, len(gain)))
        return same(hat @ new_w + new_b, _frame(hat, gain, bias, W, b), 1e-10)

    random = np.random.default_rng(1)
    one, zero, gain, bias, b = np.ones(5), np.zeros(5), *random.normal(size=(3, 5))
    W = random.normal(size=(5, 5))
    expect(holds(one, zero, W, b), "γ = 1, β = 0: nothing may change; is the old bias b kept?")
    expect(holds(gain, zero, W, b), "γ belongs to the *input* features: does it scale the rows of W, and not b?")
    expect(holds(one, bias, W, b), "β passes through the linear layer, too: what does it add to b?")
    expect(holds(gain, bias, W, b), "each alone is right, not both: β is not multiplied by γ, so which W does it meet?")
    expect(holds(gain, bias, random.normal(size=(5, 3)), random.normal(size=3)), "wrong for a W that is not square")


def _triple(x: Array) -> tuple[int, np.floating, np.floating]:
    return len(x), x.mean(), ((x - x.mean()) ** 2).sum()


@exercise("4.3-c")
def merge(answer: Callable[[Triple, Triple], Triple]) -> None:
    """Equal means, then unequal means, then unequal counts; then whether it is stable in float32."""

    def merged(a: list[float], b: list[float]) -> tuple[list[bool], Array]:
        found = answer(_triple(np.array(a)), _triple(np.array(b)))
        expect(isinstance(found, tuple | list) and len(found) == 3, "return a triple: count, mean, squared deviations")
        numbers = array(found, (3,))
        return [same(f, e) for f, e in zip(numbers, _triple(np.array(a + b)), strict=True)], numbers

    right, found = merged([1.0, 3, 8], [2.0, 4, 6])
    expect(right[0], f"two sets of 3 numbers have 6, not {found[0]:g}")
    expect(right[1], f"both means are 4, so that of all is 4, not {found[1]:g}")
    expect(right[2], f"equal means: the squared deviations just add up to 34, not {found[2]:g}")
    right, found = merged([1.0, 3, 8], [12.0, 14, 16])
    expect(right[1], f"means 4 and 14 of equally many: the mean of all is 9, not {found[1]:g}")
    expect(not same(found[2], 34), "the means differ: M needs a further term, with the square of their difference")
    expect(
        not same(found[2], 34 + 100),
        "the means differ: the squared difference has a weight of its own, from the counts",
    )
    expect(right[2], f"means 4 and 14: expected 34 + 10² · 3 · 3 / 6 = 184, got {found[2]:g}")
    right, found = merged([1.0, 3, 8], [5.0, 9])
    expect(right[1], "unequal counts: is the mean weighted by them, the right way round?")
    expect(right[2], "unequal counts: which share of δ² belongs to them?")
    right, found = merged([5.0], [9.0, 1, 2, 3])
    expect(all(right), "a single number has no deviation, yet it counts")
    numbers = (10_000 + np.random.default_rng(2).normal(size=512)).astype(np.float32)
    total: Triple = _triple(numbers[:32])
    for chunk in np.split(numbers[32:], 15):
        total = answer(total, _triple(chunk))
    error = abs(float(total[2]) / 512 / numbers.astype(np.float64).var() - 1)
    expect(error < 1e-3, "in float32 at a mean of 10,000 the digits are lost: are large squares subtracted?")


@exercise("4.3-d")
def path_shares(answer: Callable[[list[float]], Array]) -> None:
    """One block, two equal ones, two unequal ones, then all paths of four."""
    one = array(answer([3.0]))
    expect(one.shape == (2,), f"one block has paths of length 0 and 1: two shares, not {one.shape}")
    expect(not same(one, [1, 3]), "shares sum to 1: divide by the whole")
    expect(
        not same(one, [3 / 4, 1 / 4]),
        "the order is turned round: the first share is that of length 0, around the block",
    )
    expect(same(one, [1 / 4, 3 / 4]), f"one block: around it 1, through it 3, got {one}")
    two = array(answer([1.0, 1.0]), (3,))
    expect(not same(two, [1 / 3] * 3), "two equal blocks: *two* paths have length 1")
    expect(same(two, [1 / 4, 1 / 2, 1 / 4]), f"two equal blocks: expected ¼, ½, ¼, got {two}")
    unequal = array(answer([1.0, 3.0]), (3,))
    expect(
        not same(unequal, [1 / 9, 4 / 9, 4 / 9]),
        "a mean v for all is not enough: a path's share is a product of *its* v",
    )
    expect(same(unequal, [1 / 8, 4 / 8, 3 / 8]), f"blocks of 1 and 3: expected ⅛, 4/8, ⅜, got {unequal}")
    factors = [0.2, 1.5, 0.7, 2.0]
    brute = np.zeros(5)
    for way in product((0, 1), repeat=4):
        brute[sum(way)] += np.prod([factor for factor, through in zip(factors, way, strict=True) if through])
    expect(same(answer(factors), brute / brute.sum()), "four blocks: compare with the sum over all 16 paths")
    expect(same(array(answer([])), [1.0]), "no block: one path, of length 0")


def _norm(x: torch.Tensor, gain: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.layer_norm(x, x.shape[-1:], gain, bias, 1e-5)


@exercise("4.3-e")
def block_backward(answer: Callable[..., tuple[Array, ...]]) -> None:
    """f = 0 shows the way around; then the gradients from the outside in, for either frame."""
    names = ("x", "γ", "β", "W1", "W2")

    def wrong(norm: str, T: int = 3, d: int = 5, m: int = 7, zero: bool = False) -> list[str]:
        random = np.random.default_rng(13)
        arrays = [random.normal(size=shape) for shape in ((T, d), (d,), (d,), (d, m), (m, d))]
        arrays[4] *= not zero
        g = random.normal(size=(T, d))
        x, gain, bias, w1, w2 = leaves = [torch.tensor(a, requires_grad=True) for a in arrays]
        if norm == "pre":
            y = x + torch.relu(_norm(x, gain, bias) @ w1) @ w2
        else:
            y = _norm(x + torch.relu(x @ w1) @ w2, gain, bias)
        expected = torch.autograd.grad((y * torch.tensor(g)).sum(), leaves)
        found = answer(g.copy(), *[a.copy() for a in arrays], norm)
        expect(isinstance(found, tuple | list) and len(found) == 5, "return five gradients: of x, γ, β, W1 and W2")
        triples = zip(names, found, expected, strict=True)
        return [n for n, f, e in triples if not same(f, e.numpy(), 1e-8, f"the gradient of {n}")]

    expect("x" not in wrong("pre", zero=True), "pre-norm with f = 0: y = x, so ∂L/∂x is G; is the way around f there?")
    zero = wrong("post", zero=True)
    expect("x" not in zero, "post-norm with f = 0: both ways end in the norm; does G pass it first?")
    for norm in ("pre", "post"):
        few = wrong(norm)
        expect(
            "W2" not in few,
            f"{norm}-norm: W2 is wrong: it meets the features after the ReLU; has its input gain and bias (pre), did G "
            "pass the norm first (post)?",
        )
        expect("W1" not in few, f"{norm}-norm: W1 is wrong: is the ReLU's gradient 0 where its input was negative?")
        expect(
            not set(few) - {"x"},
            f"{norm}-norm: {', '.join(few)} wrong: is the norm's input x or (post) x + f(x), and are rows summed?",
        )
        expect(not few, f"{norm}-norm: only x is wrong: it reaches y around f and through f; are both added?")
    expect(not wrong("pre", 1, 11, 2) and not wrong("post", 7, 3, 13), "wrong for other sizes")
