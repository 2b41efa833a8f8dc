"""Answers to the exercises of notebook 4.2."""

import math

import numpy as np
import torch

from course_lib.batching import IGNORE
from tests.coursework.answers import right, wrong

# -------------------------------------------------------------------------------------------------- 4.2-a: two classes


@right("4.2-a")
def in_two_branches(x):
    return -math.log1p(math.exp(-x)) if x > 0 else x - math.log1p(math.exp(x))


@right("4.2-a")
def by_logaddexp(x):
    return -np.logaddexp(0.0, -x)


@wrong("4.2-a", "overflow at")
def as_written(x):
    return np.log(1 / (1 + np.exp(-np.float64(x))))


@wrong("4.2-a", "digits are lost")
def without_log1p(x):
    return min(x, 0.0) - math.log(1 + math.exp(-abs(x)))


@wrong("4.2-a", "is the probability at 0")
def the_probability(x):
    return 1 / (1 + math.exp(-max(-700.0, min(700.0, x))))


@wrong("4.2-a", "must grow with x")
def of_the_other_class(x):
    return in_two_branches(-x)


@wrong("4.2-a", "should be −ln 2")
def as_a_loss(x):
    return -in_two_branches(x)


@wrong("4.2-a", "which score is the larger one")
def forgets_the_shift(x):
    return -math.log1p(math.exp(-abs(x)))


@wrong("4.2-a", "expected −ln 2")
def in_bits(x):
    return in_two_branches(x) / math.log(2)


@wrong("4.2-a", "the probability underflowed")
def logarithm_of_zero(x):
    p = 1 / (1 + math.exp(min(700.0, -x))) if x > -700 else 0.0
    return math.log(p) if x < 30 else in_two_branches(x)


@wrong("4.2-a", "compare with −ln")
def scores_x_and_minus_x(x):
    return in_two_branches(2 * x)


@wrong("4.2-a", "right at 2, wrong at −2")
def clipped_against_overflow(x):
    return -math.log1p(math.exp(-max(x, 0.0)))


# ------------------------------------------------------------------------------------------------- 4.2-b: temperature


def bisect(
    name,
    low=1e-9,
    high=1e9,
    spread=True,
    shift=True,
    guard=True,
    steps=120,
    bits=False,
    inverse=False,
    wrong_half=False,
    counted_as_0=False,
):
    """Bisection with one thing changed."""

    def temperature_for(s, H):
        width = np.ptp(s) if spread else 1.0
        a, b = low * width, high * width
        for _ in range(steps):
            T = math.sqrt(a * b)
            z = (s - s.max() if shift else s) / T
            p = np.exp(z) / np.exp(z).sum()
            q = p[p > 0] if guard else p
            terms = q * (np.log2(q) if bits else np.log(q))
            entropy = -(np.nan_to_num(terms) if counted_as_0 else terms).sum()
            a, b = (T, b) if (entropy < H) != wrong_half else (a, T)
        return 1 / a if inverse else a

    temperature_for.__name__ = name
    return temperature_for


right("4.2-b")(bisect("plain"))
right("4.2-b")(bisect("nan_counts_as_0", guard=False, counted_as_0=True))


@right("4.2-b")
def by_newton(s, H):
    """In the logarithm of the temperature, with d entropy / d ln T = Var(s / T)."""
    z, log_t = torch.tensor(s) - s.max(), math.log(np.ptp(s))
    low, high = log_t - 25, log_t + 25
    for _ in range(200):
        p = (z / math.exp(log_t)).softmax(0)
        gap = torch.special.entr(p).sum().item() - H
        low, high = (log_t, high) if gap < 0 else (low, log_t)
        scaled = z / math.exp(log_t)
        variance = ((p * scaled**2).sum() - (p * scaled).sum() ** 2).item()
        step = log_t - gap / variance if variance > 1e-12 else low - 1
        log_t = step if low < step < high else (low + high) / 2
    return math.exp(log_t)


wrong("4.2-b", "It is given in nats")(bisect("bits", bits=True))
wrong("4.2-b", "ln 9 is the inverse")(bisect("inverse_temperature", inverse=True))
wrong("4.2-b", "is the right half kept")(bisect("wrong_half", wrong_half=True))
wrong("4.2-b", "often enough")(bisect("too_few_steps", steps=12))
wrong("4.2-b", "does the interval fit their spread")(bisect("fixed_interval", low=1e-3, high=1e3, spread=False))
wrong("4.2-b", "a constant added to all scores")(bisect("not_shifted", shift=False, low=0.05, high=30.0))
wrong("4.2-b", "how is 0 · ln 0 counted")(bisect("zero_times_infinity", guard=False, low=0.05, high=30.0))
wrong("4.2-b", "at small T something is not a number")(bisect("zero_times_infinity_at_once", guard=False))


@wrong("4.2-b", "a temperature is positive")
def spread_turned_round(s, H):
    near, far = 1e-6 * (s.min() - s.max()), 1e3 * (s.min() - s.max())
    for _ in range(100):
        T = (near + far) / 2
        near, far = (T, far) if torch.special.entr(torch.tensor(s / T).softmax(0)).sum() < H else (near, T)
    return near


@wrong("4.2-b", "NaN: how is 0 · ln 0 counted")
def newton_from_below(s, H):
    T = 1e-3 * np.ptp(s)
    for _ in range(50):
        p = np.exp((s - s.max()) / T) / np.exp((s - s.max()) / T).sum()
        T += H + (p * np.log(p)).sum()
    return T


@wrong("4.2-b", "is the entropy that of all of them")
def of_the_two_largest(s, H):
    return bisect("")(np.sort(s)[-2:], H)


# ------------------------------------------------------------------------------------------------------- 4.2-c: z-loss


def loss_with(name, square=True, sign=1.0, mean=True, mean_gradient=True, onehot=True, chain=True, ignore=True,
              count="kept", count_gradient=None, shift=True, penalise_ignored=False):  # fmt: skip
    """The loss and its gradient with one thing changed."""

    def z_loss(s, targets, alpha):
        kept = targets != IGNORE if ignore else np.ones(len(targets), bool)
        top = s.max(axis=1, keepdims=True) if shift else 0.0
        log_z = top + np.log(np.exp(s - top).sum(axis=1, keepdims=True))
        p = np.exp(s - log_z)
        safe = np.where(targets == IGNORE, 0, targets)
        y = np.eye(s.shape[1])[safe] if onehot else 0.0
        picked = s[np.arange(len(s)), safe]
        penalty = log_z[:, 0] ** 2 if square else np.abs(log_z[:, 0])
        slope = 2 * log_z if chain else 1.0
        losses = (log_z[:, 0] - picked) * kept + sign * alpha * penalty * (1.0 if penalise_ignored else kept)
        gradient = (p - y) * kept[:, None] + sign * alpha * slope * p * (1.0 if penalise_ignored else kept[:, None])
        n, n_gradient = (kept.sum() if which == "kept" else len(s) for which in (count, count_gradient or count))
        return losses.sum() / (n if mean else 1), gradient / (n_gradient if mean_gradient else 1)

    z_loss.__name__ = name
    return z_loss


right("4.2-c")(loss_with("plain"))


@right("4.2-c")
def row_by_row(s, targets, alpha):
    total, gradient, n = 0.0, np.zeros_like(s), 0
    for i, target in enumerate(targets):
        if target == IGNORE:
            continue
        n += 1
        log_z = np.logaddexp.reduce(s[i])
        total += log_z - s[i, target] + alpha * log_z**2
        gradient[i] = np.exp(s[i] - log_z) * (1 + 2 * alpha * log_z)
        gradient[i, target] -= 1
    return total / n, gradient / n


wrong("4.2-c", "is the loss a mean")(loss_with("summed", mean=False, mean_gradient=False))
wrong("4.2-c", "and so is its gradient")(loss_with("gradient_summed", mean_gradient=False))
wrong("4.2-c", "is the one-hot y taken off")(loss_with("no_one_hot", onehot=False))
wrong("4.2-c", "is ln Z squared")(loss_with("not_squared", square=False))
wrong("4.2-c", "added with a plus")(loss_with("subtracted", sign=-1.0))
wrong("4.2-c", "what does the chain rule give")(loss_with("no_chain_rule", chain=False))
wrong("4.2-c", "not in the number that divides")(loss_with("divides_by_all", count="all"))  # fault 79
wrong("4.2-c", "the loss is right, the gradient is not")(loss_with("gradient_divided_by_all", count_gradient="all"))
wrong("4.2-c", "of the penalty neither")(loss_with("penalty_for_ignored", penalise_ignored=True))
wrong("4.2-c", "is the maximum subtracted")(loss_with("not_shifted", shift=False))


@wrong("4.2-c", "the loss is the cross-entropy")
def log_likelihood(s, targets, alpha):
    loss, gradient = loss_with("")(s, targets, alpha)
    return -loss, gradient


@wrong("4.2-c", "return two things")
def without_gradient(s, targets, alpha):
    return loss_with("")(s, targets, alpha)[0]


# ------------------------------------------------------------------------------------------------------ 4.2-d: merging


def merging(name, rescale="both", sign=1.0, o_too=True, difference=True, guard=True, larger=True):
    """The merge with one thing changed."""

    def merge(a, b):
        m = np.maximum(a[0], b[0]) if larger else a[0]
        reference = np.where(np.isinf(m), 0.0, m) if guard else m
        if not difference:
            left, right_ = np.exp(a[0]) / np.exp(m), np.exp(b[0]) / np.exp(m)
        else:
            left, right_ = np.exp(sign * (a[0] - reference)), np.exp(sign * (b[0] - reference))
        if rescale == "none":
            left = right_ = np.ones_like(left)
        if rescale == "second":
            left = np.ones_like(left)
        z = a[1] * left + b[1] * right_
        return m, z, a[2] * left + b[2] * right_ if o_too else a[2] + b[2]

    merge.__name__ = name
    return merge


right("4.2-d")(merging("plain"))


@right("4.2-d")
def by_logarithms(a, b):
    """Through ln of the whole sum, as FlashAttention keeps it."""
    with np.errstate(divide="ignore", invalid="ignore"):
        m = np.maximum(a[0], b[0])
        shares = [np.where(np.isneginf(x[0]), 0.0, np.exp(x[0] - m)) for x in (a, b)]
    return [m, *(sum(x[i] * share for x, share in zip((a, b), shares, strict=True)) for i in (1, 2))]


wrong("4.2-d", "which side must be rescaled")(merging("only_added", rescale="none"))
wrong("4.2-d", "which side must be rescaled")(merging("only_the_second", rescale="second"))
wrong("4.2-d", "by which sign")(merging("other_sign", sign=-1.0))
wrong("4.2-d", "the factor that z gets")(merging("o_not_rescaled", o_too=False))
wrong("4.2-d", "only differences may be exponentiated")(merging("exponentials_divided", difference=False))
wrong("4.2-d", "−∞ − (−∞)")(merging("unguarded", guard=False))
wrong("4.2-d", "the larger maximum")(merging("maximum_of_the_first", larger=False))


@wrong("4.2-d", "m should be what both have")
def adds_everything(a, b):
    return tuple(x + y for x, y in zip(a, b, strict=True))


@wrong("4.2-d", "who divides by z")
def already_divided(a, b):
    m, z, o = merging("")(a, b)
    return m, z, o / np.where(z == 0, 1.0, z)


@wrong("4.2-d", "the sums z are simply added")
def larger_of_both(a, b):
    m, _, o = merging("")(a, b)
    return m, np.maximum(a[1], b[1]), o


@wrong("4.2-d", "keys of one part only, or none")  # fault 48
def a_large_number_for_infinity(a, b):
    return merging("")((np.maximum(a[0], -1e9), *a[1:]), (np.maximum(b[0], -1e9), *b[1:]))


@wrong("4.2-d", "return a triple")
def attention_alone(a, b):
    _, z, o = merging("")(a, b)
    return o / z


# ------------------------------------------------------------------------------------------------------- 4.2-e: blocks


def in_blocks(
    name, rescale=True, onehot=True, repeated=True, whole_z=True, start=-np.inf, shift=True, last=True, everything=False
):
    """The loss in blocks with one thing changed."""

    def loss_in_blocks(H, W, targets, block):
        block = len(W) if everything else block
        end = len(W) if last else len(W) - len(W) % block
        m, z = np.full(len(H), start), np.zeros(len(H))
        for a in range(0, end, block):
            s = H @ W[a : a + block].T
            new = np.maximum(m, s.max(axis=1)) if shift else np.zeros(len(H))
            z = z * (np.exp(m - new) if rescale and shift else 1.0) + np.exp(s - new[:, None]).sum(axis=1)
            m = new
        log_z = m + np.log(z)
        dH, dW = np.zeros_like(H), np.zeros_like(W)
        for a in range(0, end, block):
            s = H @ W[a : a + block].T
            p = np.exp(s - (log_z[:, None] if whole_z else np.logaddexp.reduce(s, axis=1)[:, None]))
            dH += p @ W[a : a + block]
            dW[a : a + block] = p.T @ H
        if onehot:
            dH -= W[targets]
            if repeated:
                for i, target in enumerate(targets):
                    dW[target] -= H[i]
            else:
                dW[targets] -= H
        return (log_z - (H * W[targets]).sum(axis=1)).sum(), dH, dW

    loss_in_blocks.__name__ = name
    return loss_in_blocks


right("4.2-e")(in_blocks("plain"))


@right("4.2-e")
def by_logaddexp_of_blocks(H, W, targets, block):
    cuts = [W[a : a + block] for a in range(0, len(W), block)]
    log_z = np.full(len(H), -np.inf)
    for w in cuts:
        log_z = np.logaddexp(log_z, np.logaddexp.reduce(H @ w.T, axis=1))
    dH, dW = -W[targets], []
    for w in cuts:
        p = np.exp(H @ w.T - log_z[:, None])
        dH = dH + p @ w
        dW.append(p.T @ H)
    result = np.concatenate(dW)
    np.add.at(result, targets, -H)
    return float(log_z.sum() - np.einsum("nd,nd->", H, W[targets])), dH, result


@wrong("4.2-e", "summed over the rows")
def mean_of_the_rows(H, W, targets, block):
    return tuple(part / len(H) for part in in_blocks("")(H, W, targets, block))


wrong("4.2-e", "is the running sum rescaled")(in_blocks("not_rescaled", rescale=False))
wrong("4.2-e", "is the one-hot y taken off")(in_blocks("no_one_hot", onehot=False))
wrong("4.2-e", "are the rows of all of them subtracted")(in_blocks("equal_targets_once", repeated=False))
wrong("4.2-e", "is ln Z that of the whole row")(in_blocks("z_of_the_block", whole_z=False))
wrong("4.2-e", "where does the running maximum begin")(in_blocks("starts_at_zero", start=0.0))
wrong("4.2-e", "exponentiate differences")(in_blocks("not_shifted", shift=False))
wrong("4.2-e", "the last block is shorter")(in_blocks("drops_the_last", last=False))
wrong("4.2-e", "too much memory")(in_blocks("all_at_once", everything=True))


@wrong("4.2-e", "one block: dH wrong")
def one_hot_in_dw_only(H, W, targets, block):
    loss, dH, dW = in_blocks("")(H, W, targets, block)
    return loss, dH + W[targets], dW


@wrong("4.2-e", "ln Z − s[target]")
def without_the_targets_logit(H, W, targets, block):
    loss, dH, dW = in_blocks("")(H, W, targets, block)
    return loss + (H * W[targets]).sum(), dH, dW


@wrong("4.2-e", "return three things")
def loss_alone(H, W, targets, block):
    return in_blocks("")(H, W, targets, block)[0]
