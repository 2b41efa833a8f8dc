"""Checks of the exercises of notebook 4.1."""

from collections.abc import Callable

import numpy as np
import torch

from course_lib.coursework.engine import array, exercise, expect, same

Array = np.ndarray


@exercise("4.1-a")
def score_scale(answer: Callable[[int, float, float], float]) -> None:
    """Unit variances first, then one at a time, then both."""
    plain = float(array(answer(64, 1, 1), ()))
    expect(not same(plain, 1 / 64), "1/64: that divides the score by d; by how much does a sum of d terms spread?")
    expect(not same(plain, 8), "8 is what the score is to be divided by: the factor is its inverse")
    expect(same(plain, 0.125), "with variances 1 the factor should be 1/8 for 64 features")
    query = float(array(answer(64, 4, 1), ()))
    expect(not same(query, 0.125), "the variance of the query changes nothing: it should")
    expect(
        not same(query, 0.03125), "a query of variance 4 is twice as long, not four times: all belongs under the root"
    )
    expect(query < 0.125, "a longer query makes scores larger: the factor should become smaller, not larger")
    expect(same(query, 0.0625), "a query of variance 4 is twice as long: half the factor is wanted")
    expect(not same(answer(64, 1, 4), 0.125), "the variance of the key changes nothing: it should")
    both = float(array(answer(64, 4, 4), ()))
    expect(same(both, 0.03125), "both variances count: how does that of a product of independent numbers arise?")
    expect(same(answer(11, 9, 0.04), (11 * 0.36) ** -0.5), "right for 64 features only: is d used?")


def _attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Masked attention by multiplication with −∞ avoided: rows without keys give 0."""
    scores = (q @ k.T / q.shape[1] ** 0.5).masked_fill(~mask, -torch.inf)
    return torch.nan_to_num(scores.softmax(dim=1)) @ v


def _gradients(mask: Array, stretch: float = 1.0) -> tuple[list[Array], list[Array]]:
    """Arguments of a backward pass with this mask (T, S), and what autograd gives."""
    (n_queries, n_keys), random = mask.shape, np.random.default_rng(7)
    q, k = stretch * random.normal(size=(n_queries, 3)), random.normal(size=(n_keys, 3))
    v, g = random.normal(size=(n_keys, 2)), random.normal(size=(n_queries, 2))
    q_, k_, v_ = leaves = [torch.tensor(x, requires_grad=True) for x in (q, k, v)]
    seen = torch.tensor(mask.any(axis=1, keepdims=True))
    safe = torch.tensor(mask | ~mask.any(axis=1, keepdims=True))  # autograd through a row of −∞ gives NaN
    output = _attention(q_, k_, v_, safe) * seen
    expected = torch.autograd.grad((output * torch.tensor(g)).sum(), leaves)
    return [g, q, k, v, mask], [gradient.numpy() for gradient in expected]


@exercise("4.1-b")
def masked_backward(answer: Callable[..., tuple[Array, Array, Array]]) -> None:
    """One key: the value path. No mask: the scale. A causal mask. A row without keys. Large scores."""

    def wrong(mask: Array, stretch: float = 1.0) -> str:
        """The names of the gradients that differ from autograd's."""
        arguments, expected = _gradients(mask, stretch)
        with np.errstate(all="ignore"):
            found = answer(*[argument.copy() for argument in arguments])
        expect(isinstance(found, tuple | list) and len(found) == 3, "return three gradients: of Q, K and V")
        names = ("dQ", "dK", "dV")
        finite = [np.isfinite(array(f, e.shape, n)).all() for f, e, n in zip(found, expected, names, strict=True)]
        if not all(finite):
            return "not finite"
        return " and ".join(n for f, e, n in zip(found, expected, names, strict=True) if not same(f, e, 1e-9, n))

    one = wrong(np.ones((1, 1), bool))
    expect(not one, f"one key has weight 1, so dQ = dK = 0 and dV = G; here {one} differs")
    plain = wrong(np.ones((5, 7), bool))
    expect(
        plain != "dV", "without a hidden key dV is wrong: it is a product of the weights with G, of shape (keys, d_v)"
    )
    expect(plain not in ("dQ", "dK"), f"without a hidden key only {plain} is wrong: compare its factor and its partner")
    expect(not plain, f"without a hidden key {plain} is wrong: is the scale there, and the row sum taken off?")
    causal = np.tril(np.ones((5, 7), bool))
    masked = wrong(causal)
    expect("dV" not in masked, "with a mask dV is wrong: do the masked weights of each row sum to 1?")
    expect(masked != "not finite", "with a mask something is not a number: −∞ minus −∞, or ∞ times 0?")
    expect(not masked, f"with a mask {masked} is wrong: is the output in g·o that of the *masked* attention?")
    hidden = causal.copy()
    hidden[2] = False
    expect(not wrong(hidden), "a query that may see nothing should have gradient 0: what is its row divided by?")
    expect(not wrong(causal, 1e4), "large scores overflow: subtract the largest score that is *allowed* in the row")


def _turned(x: Array, neighbours: bool, n_heads: int) -> Array:
    """Rotate each pair of each head of x (T, d) by its position, as complex numbers: (heads, T, pairs)."""
    positions, size = np.arange(len(x)), x.shape[1] // n_heads
    heads = x.reshape(len(x), n_heads, size).transpose(1, 0, 2)
    if neighbours:
        pairs = heads[..., 0::2] + 1j * heads[..., 1::2]
    else:
        pairs = heads[..., : size // 2] + 1j * heads[..., size // 2 :]
    rates = 10_000.0 ** (-2 * np.arange(size // 2) / size)
    return pairs * np.exp(1j * positions[:, None] * rates)


def _rotary_scores(q: Array, k: Array, neighbours: bool, n_heads: int) -> Array:
    turned = [_turned(x, neighbours, n_heads) for x in (q, k)]
    return np.einsum("htp,hsp->hts", turned[0], turned[1].conj()).real


@exercise("4.1-c")
def to_half_split(answer: Callable[[Array, int], Array]) -> None:
    """One head, then several; columns against rows, the permutation against its inverse."""
    labels = np.tile(np.arange(8.0), (8, 1))
    one = array(answer(labels.copy(), 1), (8, 8))
    expect(
        not same(one, labels), "the columns keep their places: rows are input features, columns are those of the head"
    )
    expect(same(np.sort(one[0]), np.arange(8.0)), "every column should occur exactly once")
    expect(
        not same(one[0], [0, 4, 1, 5, 2, 6, 3, 7]), "this is the inverse: it leads from half-split pairs to neighbours"
    )
    expect(same(one[0], one[5]), "all rows should be reordered in the same way")

    def same_scores(n_heads: int, size: int) -> bool:
        random = np.random.default_rng(3)
        d = n_heads * size
        x, (w_q, w_k) = random.normal(size=(11, d)), random.normal(size=(2, d, d))
        before = _rotary_scores(x @ w_q, x @ w_k, True, n_heads)
        after = [x @ array(answer(w.copy(), n_heads), (d, d)) for w in (w_q, w_k)]
        return same(_rotary_scores(after[0], after[1], False, n_heads), before, 1e-8)

    expect(same_scores(1, 8), "one head: the pair (0, 1) should become the pair (0, 4), (2, 3) should become (1, 5)")
    expect(same_scores(3, 6), "one head is right, three are not: the order must be found within each head")
    expect(same_scores(5, 2) and same_scores(2, 14), "wrong for heads of size 2 or 14")


@exercise("4.1-d")
def look_back_vectors(answer: Callable[[int, int], tuple[Array, Array]]) -> None:
    """Where the head looks, then how sharply, at several distances, sizes and lengths."""

    def weights(k: int, d: int, length: int, neighbours: bool = True) -> Array:
        both = answer(k, d)
        expect(isinstance(both, tuple | list) and len(both) == 2, "return two vectors: the query and the key")
        query, key = (array(x, (d,), name) for x, name in zip(both, ("the query", "the key"), strict=True))
        scores = _rotary_scores(np.tile(query, (length, 1)), np.tile(key, (length, 1)), neighbours, 1)[0] / d**0.5
        e = np.exp(scores - scores.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    a = weights(3, 64, 40)
    back = 20 - int(a[20].argmax())
    expect(back != -3, "the head looks 3 places ahead: which of query and key is turned, and by which sign?")
    expect(back != 0, "the head looks at its own place: query and key should differ by the turn that k places make")
    halves = 20 - int(weights(3, 64, 40, neighbours=False)[20].argmax())
    expect(
        back == 3 or halves != 3, "right for half-split pairs, but `rotate` turns neighbours: where does pair i lie?"
    )
    expect(back == 3, f"at position 20 the head looks {back} places back, not 3: does each pair turn at its own rate?")
    expect(
        a[20].max() > 0.2, f"the right place gets {a[20].max():.2f} of the weight: make the query longer, much longer"
    )
    expect(np.diagonal(a, offset=-3).min() > 0.99, "the right place gets less than 99 %: make the query longer")
    expect(np.diagonal(weights(0, 64, 40)).min() > 0.99, "k = 0: the head should look at its own place")
    for k, d, length in ((1, 32, 50), (7, 64, 300), (29, 64, 300)):
        sharp = np.diagonal(weights(k, d, length), offset=-k).min()
        expect(
            sharp > 0.99, f"k = {k}, d = {d}, {length} positions: only {sharp:.2f} of the weight is on the right place"
        )


@exercise("4.1-e")
def layer_backward(answer: Callable[..., tuple[Array, ...]]) -> None:
    """One word: the value path. One head: which gradients. Several heads: how they are cut."""
    names = ("X", "W_Q", "W_K", "W_V", "W_O")

    def wrong(length: int, d: int, n_heads: int) -> list[str]:
        random = np.random.default_rng(11)
        arrays = [random.normal(size=(length, d)), *random.normal(size=(4, d, d))]
        g = random.normal(size=(length, d))
        x, *w = (torch.tensor(a, requires_grad=True) for a in arrays)
        everything = torch.ones(length, length, dtype=torch.bool)
        q, k, v = ((x @ matrix).chunk(n_heads, dim=1) for matrix in w[:3])
        mixed = [_attention(a, b, c, everything) for a, b, c in zip(q, k, v, strict=True)]
        y = torch.cat(mixed, dim=1) @ w[3]
        expected = torch.autograd.grad((y * torch.tensor(g)).sum(), [x, *w])
        found = answer(g.copy(), *[a.copy() for a in arrays], n_heads)
        expect(
            isinstance(found, tuple | list) and len(found) == 5, "return five gradients: of X, W_Q, W_K, W_V and W_O"
        )
        differ = []
        for n, f, e in zip(names, found, expected, strict=True):
            right = e.numpy()
            if not same(f, right, 1e-9, f"the gradient of {n}"):
                turned = right.shape == (d, d) and same(array(f).T, right)
                expect(not turned, f"the gradient of {n} is turned over: the rows of {n} belong to its input")
                differ.append(n)
        return differ

    one = wrong(1, 6, 1)
    expect("W_O" not in one, "one word: all weights are 1, yet W_O's gradient is wrong: what does W_O multiply?")
    expect(
        "W_V" not in one,
        "one word: all weights are 1, yet W_V's gradient is wrong: does G pass through W_O first, the right way round?",
    )
    expect(not one, "one word: only values pass a gradient on to X: is their part there, and which way round is W_V?")
    few = wrong(5, 6, 1)
    expect(
        "W_V" not in few and "W_O" not in few,
        "several words: W_V or W_O is wrong: are the outputs mixed by the weights?",
    )
    expect(
        not {"W_Q", "W_K"} <= set(few),
        "one head: W_Q and W_K are wrong: is the scale that of the head, forwards and backwards?",
    )
    expect(
        not {"W_Q", "W_K"} & set(few), f"one head: only {', '.join(few)} is wrong: which of dQ and dK belongs to it?"
    )
    expect(
        not few, "only X is wrong: it feeds queries and keys, too: three gradients add up, each W the right way round"
    )
    many = wrong(5, 6, 3)
    expect(
        not many,
        f"one head is right; three are wrong for {', '.join(many)}: how are columns cut, and what is the scale?",
    )
