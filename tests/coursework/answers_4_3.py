"""Answers to the exercises of notebook 4.3."""

import math
from itertools import combinations_with_replacement

import numpy as np
import torch

from tests.coursework.answers import right, wrong

# -------------------------------------------------------------------------------------------------------- 4.3-a: growth


@right("4.3-a")
def by_logarithms(n, v, final):
    return math.exp((math.log(final - 1) - math.log(n) - math.log(v)) / 2)


@right("4.3-a")
def in_numpy(n, v, final):
    return np.sqrt(np.float64(final) - 1) / np.sqrt(n * v)


@wrong("4.3-a", "is the root there")
def without_root(n, v, final):
    return (final - 1) / (n * v)


@wrong("4.3-a", "brings a mean square of 1")
def forgets_the_state(n, v, final):
    return (final / (n * v)) ** 0.5


@wrong("4.3-a", "does their number enter")
def without_n(n, v, final):
    return ((final - 1) / v) ** 0.5


@wrong("4.3-a", "they should become smaller")
def upside_down(n, v, final):
    return (n * v / (final - 1)) ** 0.5


@wrong("4.3-a", "it divides")
def v_multiplies(n, v, final):
    return ((final - 1) * v / n) ** 0.5


@wrong("4.3-a", "where does it belong")
def without_v(n, v, final):
    return ((final - 1) / n) ** 0.5


@wrong("4.3-a", "without any factor")
def lengths_add(n, v, final):
    return (final**0.5 - 1) / (n * v**0.5)


@wrong("4.3-a", "expected 1/√24")
def grows_by_a_factor(n, v, final):
    return ((final ** (1 / n) - 1) / v) ** 0.5


@wrong("4.3-a", "from 1 to 2: expected 1/2")
def v_is_a_length(n, v, final):
    return ((final - 1) / n) ** 0.5 / v


@wrong("4.3-a", "3 instead of 2 changes nothing")
def always_doubles(n, v, final):
    return (n * v) ** -0.5


@wrong("4.3-a", "from 1 to 3: expected 1/√2")
def half_of_final(n, v, final):
    return (final / 2 / (n * v)) ** 0.5


# ------------------------------------------------------------------------------------------------------- 4.3-b: folding


@right("4.3-b")
def by_diagonal(gain, bias, W, b):
    return np.diag(gain) @ W, W.T @ bias + b


@right("4.3-b")
def by_loops(gain, bias, W, b):
    new, shift = np.empty_like(W), b.copy()
    for i in range(len(gain)):
        new[i] = gain[i] * W[i]
        shift = shift + bias[i] * W[i]
    return new, shift


@wrong("4.3-b", "does it scale the rows")
def scales_columns(gain, bias, W, b):
    return W * gain[: W.shape[1]], bias @ W + b


@wrong("4.3-b", "is the old bias b kept")
def drops_the_bias(gain, bias, W, b):
    return gain[:, None] * W, bias @ W


@wrong("4.3-b", "β passes through")
def adds_beta(gain, bias, W, b):
    return gain[:, None] * W, b + bias[: len(b)]


@wrong("4.3-b", "which W does it meet")
def beta_through_the_new(gain, bias, W, b):
    new = gain[:, None] * W
    return new, bias @ new + b


@wrong("4.3-b", "changed in place")
def in_place(gain, bias, W, b):
    shift = bias @ W + b
    W *= gain[:, None]
    return W, shift


@wrong("4.3-b", "β passes through")
def ignores_beta(gain, bias, W, b):
    return gain[:, None] * W, b


@wrong("4.3-b", "IndexError")
def square_only(gain, bias, W, b):
    d = len(gain)
    return np.array([[gain[i] * W[i, j] for j in range(d)] for i in range(d)]), bias @ W + b


@wrong("4.3-b", "return two arrays")
def weight_alone(gain, bias, W, b):
    return gain[:, None] * W


# ------------------------------------------------------------------------------------------------------- 4.3-c: merging


def merging(name, weighted=True, term="n1 n2 / n", swapped=False, squares=False):
    """Chan's formula with one thing changed."""

    def merge(first, second):
        (n1, m1, M1), (n2, m2, M2) = first, second
        n, delta = n1 + n2, m2 - m1
        mean = m1 + delta * ((n1 if swapped else n2) / n) if weighted else (m1 + m2) / 2
        if squares:
            return n, mean, (M1 + n1 * m1 * m1) + (M2 + n2 * m2 * m2) - n * mean * mean
        share = {"n1 n2 / n": n1 * n2 / n, "none": 0, "one": 1, "n": n, "quarter": n / 4}[term]
        return n, mean, M1 + M2 + delta * delta * type(delta)(share)

    merge.__name__ = name
    return merge


right("4.3-c")(merging("plain"))


@right("4.3-c")
def from_the_new_mean(first, second):
    (n1, m1, M1), (n2, m2, M2) = first, second
    n = n1 + n2
    mean = m1 * (n1 / n) + m2 * (n2 / n)
    return [n, mean, M1 + M2 + n1 * (m1 - mean) ** 2 + n2 * (m2 - mean) ** 2]


@wrong("4.3-c", "just add up to 34")
def variance_for_m(first, second):
    n, mean, M = merging("")(first, second)
    return n, mean, M / n


wrong("4.3-c", "M needs a further term")(merging("only_adds", term="none"))
wrong("4.3-c", "a weight of its own")(merging("without_weight", term="one"))
wrong("4.3-c", "weighted by them")(merging("mean_of_means", weighted=False))
wrong("4.3-c", "the right way round")(merging("weights_swapped", swapped=True))
wrong("4.3-c", "which share of δ²")(merging("quarter_of_all", term="quarter"))
wrong("4.3-c", "expected 34 + 10²")(merging("times_all", term="n"))
wrong("4.3-c", "are large squares subtracted")(merging("by_squares", squares=True))


@wrong("4.3-c", "have 6, not 3")
def keeps_the_count(first, second):
    return first[0], *merging("")(first, second)[1:]


@wrong("4.3-c", "both means are 4")
def adds_means(first, second):
    n, _, M = merging("")(first, second)
    return n, first[1] + second[1], M


@wrong("4.3-c", "the mean of all is 9")
def keeps_the_mean(first, second):
    n, _, M = merging("")(first, second)
    return n, first[1], M


@wrong("4.3-c", "a single number has no deviation")
def passes_over_single_numbers(first, second):
    return second if first[0] == 1 else merging("")(first, second)


@wrong("4.3-c", "return a triple")
def deviations_alone(first, second):
    return merging("")(first, second)[2]


# --------------------------------------------------------------------------------------------------------- 4.3-d: paths


@right("4.3-d")
def by_recursion(v):
    shares = [1.0]
    for factor in v:
        shares = [a + factor * b for a, b in zip([*shares, 0.0], [0.0, *shares], strict=True)]
    return [share / sum(shares) for share in shares]


@right("4.3-d")
def by_roots(v):
    shares = np.poly([-factor for factor in v]) if len(v) else np.ones(1)
    return torch.tensor(np.atleast_1d(shares) / np.atleast_1d(shares).sum())


@wrong("4.3-d", "divide by the whole")
def not_divided(v):
    return np.array(by_recursion(v)) * np.prod([1 + factor for factor in v])


@wrong("4.3-d", "the order is turned round")
def reversed_order(v):
    return by_recursion(v)[::-1]


@wrong("4.3-d", "through it 3")
def squares_v(v):
    return by_recursion([factor**2 for factor in v])


@wrong("4.3-d", "a product of *its* v")
def mean_factor(v):
    return by_recursion([sum(v) / len(v)] * len(v)) if v else [1.0]


@wrong("4.3-d", "*two* paths have length 1")
def one_path_a_length(v):
    shares = np.cumprod([1.0, *v])
    return shares / shares.sum()


@wrong("4.3-d", "two shares, not")
def without_length_0(v):
    return np.array(by_recursion(v)[1:])


@wrong("4.3-d", "IndexError")
def starts_with_the_first(v):
    shares = np.array([1.0, v[0]])
    for factor in v[1:]:
        shares = np.convolve(shares, [1.0, factor])
    return shares / shares.sum()


@wrong("4.3-d", "two equal blocks: expected")
def the_same_block_twice(v):
    ways = [sum(map(math.prod, combinations_with_replacement(v, k))) for k in range(len(v) + 1)]
    return np.array(ways) / sum(ways)


@wrong("4.3-d", "blocks of 1 and 3")
def geometric_mean(v):
    return by_recursion([math.prod(v) ** (1 / len(v))] * len(v)) if v else [1.0]


@wrong("4.3-d", "the sum over all 16 paths")
def neighbours_only(v):
    ways = [1.0] + [sum(math.prod(v[i : i + k]) for i in range(len(v) - k + 1)) for k in range(1, len(v) + 1)]
    return np.array(ways) / sum(ways)


@wrong("4.3-d", "two shares, not")
def one_length_too_many(v):
    return [*by_recursion(v), 0.0]


# ------------------------------------------------------------------------------------------------------ 4.3-e: a block


def backward(name, around=True, through=True, gate=True, gained=True, norm_first=True, norm_input=True, summed=True):
    """The gradient of a block with one thing changed."""

    def norm_back(g, x, gain, eps=1e-5):
        mean, var = x.mean(axis=1, keepdims=True), x.var(axis=1, keepdims=True)
        hat = (x - mean) / np.sqrt(var + eps)
        dh = g * gain
        dx = (dh - dh.mean(axis=1, keepdims=True) - hat * (dh * hat).mean(axis=1, keepdims=True)) / np.sqrt(var + eps)
        total = (lambda z: z.sum(axis=0)) if summed else (lambda z: z.mean(axis=0))
        return dx, total(g * hat), total(g), hat

    def f_back(dF, z, W1, W2):
        inner = z @ W1
        d_inner = dF @ W2.T * ((inner > 0) if gate else 1.0)
        return d_inner @ W1.T, z.T @ d_inner, np.maximum(inner, 0).T @ dF

    def block(G, x, gain, bias, W1, W2, norm):
        if norm == "pre":
            hat = norm_back(G, x, gain)[3]
            z = gain * hat + bias if gained else hat
            dz, dW1, dW2 = f_back(G, z, W1, W2)
            dx, d_gain, d_bias, _ = norm_back(dz, x, gain)
            return (G if around else 0) + (dx if through else 0), d_gain, d_bias, dW1, dW2
        inside = x + np.maximum(x @ W1, 0) @ W2 if norm_input else x
        S, d_gain, d_bias, _ = norm_back(G, inside, gain)
        dx, dW1, dW2 = f_back(S if norm_first else G, x, W1, W2)
        S = S if norm_first else G
        return S + (dx if through else 0), d_gain, d_bias, dW1, dW2

    block.__name__ = name
    return block


right("4.3-e")(backward("plain"))


@right("4.3-e")
def by_jacobians(G, x, gain, bias, W1, W2, norm):
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, gain, bias, W1, W2)]
    x_, g_, b_, a_, c_ = leaves

    def normed(z):
        return g_ * (z - z.mean(1, keepdim=True)) / torch.sqrt(z.var(1, unbiased=False, keepdim=True) + 1e-5) + b_

    y = x_ + (normed(x_) @ a_).clamp(min=0) @ c_ if norm == "pre" else normed(x_ + (x_ @ a_).clamp(min=0) @ c_)
    y.backward(torch.tensor(G))
    return tuple(leaf.grad.numpy() for leaf in leaves)


wrong("4.3-e", "is the way around f there")(backward("no_way_around", around=False))
wrong("4.3-e", "are both added")(backward("only_around", through=False))
wrong("4.3-e", "where its input was negative")(backward("no_gate", gate=False))
wrong("4.3-e", "has its input gain and bias")(backward("bare_input", gained=False))
wrong("4.3-e", "does G pass it first")(backward("norm_not_passed", norm_first=False))
wrong("4.3-e", "did G pass the norm first")(backward("norm_of_x", norm_input=False))
wrong("4.3-e", "are rows summed")(backward("means_of_rows", summed=False))


@wrong("4.3-e", "post-norm with f = 0")  # fault 60
def always_pre(G, x, gain, bias, W1, W2, norm):
    return backward("")(G, x, gain, bias, W1, W2, "pre")


@wrong("4.3-e", "is the way around f there")  # fault 59
def around_from_the_normed(G, x, gain, bias, W1, W2, norm):
    dx, *rest = backward("")(G, x, gain, bias, W1, W2, norm)
    if norm == "pre":
        around = backward("")(G, x, gain, bias, W1, 0 * W2, "post")[0]  # what G becomes on its way through the norm
        dx = dx - G + around
    return dx, *rest


@wrong("4.3-e", "should have the shape (1, 11)")
def loses_a_single_row(G, x, gain, bias, W1, W2, norm):
    dx, *rest = backward("")(G, x, gain, bias, W1, W2, norm)
    return dx.squeeze(), *rest


@wrong("4.3-e", "return five gradients")
def without_gain_and_bias(G, x, gain, bias, W1, W2, norm):
    dx, _, _, dW1, dW2 = backward("")(G, x, gain, bias, W1, W2, norm)
    return dx, dW1, dW2
