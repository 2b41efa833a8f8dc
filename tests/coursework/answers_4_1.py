"""Answers to the exercises of notebook 4.1."""

import math

import numpy as np
import torch

from tests.coursework.answers import right, wrong

# ----------------------------------------------------------------------------------------------------- 4.1-a: the scale


@right("4.1-a")
def by_standard_deviations(d, var_q, var_k):
    return 1 / (math.sqrt(d) * math.sqrt(var_q) * math.sqrt(var_k))


@right("4.1-a")
def by_logarithms(d, var_q, var_k):
    return np.float64(math.exp(-(math.log(d) + math.log(var_q) + math.log(var_k)) / 2))


@wrong("4.1-a", "divides the score by d")
def one_over_d(d, var_q, var_k):
    return 1 / (d * var_q * var_k)


@wrong("4.1-a", "its inverse")
def upside_down(d, var_q, var_k):
    return math.sqrt(d * var_q * var_k)


@wrong("4.1-a", "the query changes nothing")
def ignores_variances(d, var_q, var_k):
    return d**-0.5


@wrong("4.1-a", "under the root")
def root_of_d_only(d, var_q, var_k):
    return d**-0.5 / (var_q * var_k)


@wrong("4.1-a", "smaller, not larger")
def multiplies(d, var_q, var_k):
    return (var_q * var_k / d) ** 0.5


@wrong("4.1-a", "both variances count")
def takes_the_larger(d, var_q, var_k):
    return (d * max(var_q, var_k)) ** -0.5


@wrong("4.1-a", "the key changes nothing")
def ignores_the_key(d, var_q, var_k):
    return (d * var_q) ** -0.5


@wrong("4.1-a", "half the factor is wanted")
def adds(d, var_q, var_k):
    return (d * (var_q + var_k) / 2) ** -0.5


# ------------------------------------------------------------------------------------------- 4.1-b: the masked gradient


def backward(name, scale_scores=True, scale_gradient=True, row_sum=True, renormalise=True, unmasked_output=False,
             guard=True, shift=True, swap=False):  # fmt: skip
    """The gradient with one step left out."""

    def masked(G, Q, K, V, mask):
        scale = Q.shape[1] ** -0.5
        scores = Q @ K.T * (scale if scale_scores else 1.0)
        top = np.where(mask, scores, -np.inf).max(axis=1, keepdims=True)
        top = np.where(np.isfinite(top), top, 0.0) if guard else top
        plain = np.exp(np.minimum(scores - top, 300.0)) if shift else np.exp(scores)
        weights = plain * mask if guard else np.where(mask, plain, 0.0)
        total = weights.sum(axis=1, keepdims=True) if renormalise else plain.sum(axis=1, keepdims=True)
        A = weights / np.where(total == 0, 1.0, total) if guard else weights / total
        out = (plain / plain.sum(axis=1, keepdims=True) if unmasked_output else A) @ V
        dA = G @ V.T
        D = A * (dA - (G * out).sum(axis=1, keepdims=True)) if row_sum else A * dA
        factor = scale if scale_gradient else 1.0
        gradients = factor * D @ K, factor * D.T @ Q, A.T @ G
        return (gradients[1], gradients[0], gradients[2]) if swap else gradients

    masked.__name__ = name
    return masked


@right("4.1-b")
def by_loops(G, Q, K, V, mask):
    dQ, dK, dV = np.zeros_like(Q), np.zeros_like(K), np.zeros_like(V)
    for t in range(len(Q)):
        seen = np.flatnonzero(mask[t])
        if len(seen):
            s = K[seen] @ Q[t] / math.sqrt(Q.shape[1])
            a = np.exp(s - s.max()) / np.exp(s - s.max()).sum()
            d = (np.diag(a) - np.outer(a, a)) @ (V[seen] @ G[t]) / math.sqrt(Q.shape[1])
            dQ[t] = d @ K[seen]
            dK[seen] += np.outer(d, Q[t])
            dV[seen] += np.outer(a, G[t])
    return dQ, dK, dV


right("4.1-b")(backward("all_steps"))
wrong("4.1-b", "is the scale there")(backward("no_scale", scale_scores=False, scale_gradient=False))
wrong("4.1-b", "is the scale there")(backward("gradient_not_scaled", scale_gradient=False))
wrong("4.1-b", "dQ = dK = 0")(backward("without_the_row_sum", row_sum=False))
wrong("4.1-b", "each row sum to 1")(backward("not_renormalised", renormalise=False))
wrong("4.1-b", "that of the *masked* attention")(backward("unmasked_output", unmasked_output=True))
wrong("4.1-b", "what is its row divided by")(backward("divides_by_zero", guard=False))  # fault 48
wrong("4.1-b", "large scores overflow")(backward("not_shifted", shift=False))
wrong("4.1-b", "dQ should have the shape")(backward("swapped", swap=True))


@wrong("4.1-b", "only dK is wrong")
def keys_not_scaled(G, Q, K, V, mask):
    dQ, dK, dV = backward("")(G, Q, K, V, mask)
    return dQ, dK * math.sqrt(Q.shape[1]), dV


@wrong("4.1-b", "it is a product of the weights with G")
def weights_of_each_key_sum_to_1(G, Q, K, V, mask):
    dQ, dK, dV = backward("")(G, Q, K, V, mask)
    column_sums = backward("")(np.ones_like(G), Q, K, V, mask)[2][:, :1]
    return dQ, dK, dV / np.where(column_sums == 0, 1.0, column_sums)


@wrong("4.1-b", "with a mask dV is wrong")  # fault 54
def ignores_the_mask(G, Q, K, V, mask):
    return backward("plain")(G, Q, K, V, np.ones_like(mask))


# ---------------------------------------------------------------------------------------------- 4.1-c: the two pairings


@right("4.1-c")
def even_then_odd(W, n_heads):
    heads = np.split(W, n_heads, axis=1)
    return np.concatenate([part for head in heads for part in (head[:, 0::2], head[:, 1::2])], axis=1)


@right("4.1-c")
def by_a_matrix(W, n_heads):
    d = W.shape[1] // n_heads
    P = np.zeros((W.shape[1], W.shape[1]))
    for head in range(n_heads):
        for i in range(d):
            P[head * d + i, head * d + (i // 2 if i % 2 == 0 else d // 2 + i // 2)] = 1
    return W @ P


@wrong("4.1-c", "the inverse")  # fault 64
def inverse(W, n_heads):
    size = W.shape[1] // n_heads
    return W.reshape(len(W), n_heads, 2, size // 2).swapaxes(2, 3).reshape(W.shape)


@wrong("4.1-c", "the columns keep their places")
def reorders_rows(W, n_heads):
    return np.concatenate([W[0::2], W[1::2]])


@wrong("4.1-c", "within each head")
def across_heads(W, n_heads):
    return np.concatenate([W[:, 0::2], W[:, 1::2]], axis=1)


@wrong("4.1-c", "every column should occur")
def repeats(W, n_heads):
    return np.repeat(W[:, 0::2], 2, axis=1)


@wrong("4.1-c", "should become the pair (0, 4)")
def reverses_the_second_half(W, n_heads):
    heads = np.split(W, n_heads, axis=1)
    return np.concatenate([p for h in heads for p in (h[:, 0::2], h[:, 1::2][:, ::-1])], axis=1)


@wrong("4.1-c", "the columns keep their places")
def does_nothing(W, n_heads):
    return W


# ------------------------------------------------------------------------------------------------- 4.1-d: looking back


def looking_back(name, sign=-1.0, length=200.0, rate=10_000.0, one_rate=False, turn="query", key=(1.0, 0.0)):
    """Query and key with one thing changed."""

    def vectors(k, d):
        angles = k * rate ** (-np.arange(0, d, 2) / d)
        if one_rate:
            angles = np.full(d // 2, float(k))
        turned = np.empty(d)
        turned[0::2], turned[1::2] = np.cos(angles), sign * np.sin(angles)
        still = np.tile(key, d // 2)
        return (length * turned, still) if turn == "query" else (length * still, turned)

    vectors.__name__ = name
    return vectors


right("4.1-d")(looking_back("as_derived"))
right("4.1-d")(looking_back("turns_the_key", sign=1.0, turn="key", length=500.0))
right("4.1-d")(looking_back("longer", length=10_000.0))
wrong("4.1-d", "places ahead")(looking_back("other_sign", sign=1.0))
wrong("4.1-d", "make the query longer, much longer")(looking_back("unit_length", length=1.0))
wrong("4.1-d", "less than 99 %")(looking_back("not_long_enough", length=12.0))
wrong("4.1-d", "does each pair turn at its own rate")(looking_back("one_rate_for_all", one_rate=True))
wrong("4.1-d", "does each pair turn at its own rate")(looking_back("exponent_doubled", rate=1e8))  # fault 63
wrong("4.1-d", "its own place")(looking_back("not_turned", sign=0.0, rate=1e300))


@wrong("4.1-d", "the query should have the shape")
def half_as_long(k, d):
    return looking_back("")(k, d // 2)


@wrong("4.1-d", "`rotate` turns neighbours")  # fault 64
def half_split(k, d):
    return tuple(np.concatenate([vector[0::2], vector[1::2]]) for vector in looking_back("")(k, d))


@wrong("4.1-d", "return two vectors")
def one_vector(k, d):
    return looking_back("")(k, d)[0]


# ------------------------------------------------------------------------------------------------- 4.1-e: a whole layer


def layer(name, paths="QKV", through_output=True, mixed_output=True, head_scale=True, cut="columns", swap=False):
    """The gradient of multi-head attention with one thing changed."""

    def gradients(G, X, W_Q, W_K, W_V, W_O, n_heads):
        d = X.shape[1]
        cuts = (
            np.split(np.arange(d), n_heads) if cut == "columns" else [np.arange(h, d, n_heads) for h in range(n_heads)]
        )
        scale = (d // n_heads if head_scale else d) ** -0.5
        Q, K, V = X @ W_Q, X @ W_K, X @ W_V
        mixed, dQ, dK, dV = (np.zeros_like(X) for _ in range(4))
        dO = G @ W_O.T if through_output else G
        for c in cuts:
            e = np.exp(Q[:, c] @ K[:, c].T * scale)
            A = e / e.sum(axis=1, keepdims=True)
            mixed[:, c] = A @ V[:, c] if mixed_output else V[:, c]
            dA = dO[:, c] @ V[:, c].T
            D = A * (dA - (A * dA).sum(axis=1, keepdims=True)) * scale
            dQ[:, c], dK[:, c], dV[:, c] = D @ K[:, c], D.T @ Q[:, c], A.T @ dO[:, c]
        dX = sum(dZ @ W.T for p, dZ, W in (("Q", dQ, W_Q), ("K", dK, W_K), ("V", dV, W_V)) if p in paths)
        dQ, dK = (dK, dQ) if swap else (dQ, dK)
        return dX, X.T @ dQ, X.T @ dK, X.T @ dV, mixed.T @ G

    gradients.__name__ = name
    return gradients


right("4.1-e")(layer("head_by_head"))


@right("4.1-e")
def all_heads_at_once(G, X, W_Q, W_K, W_V, W_O, n_heads):
    def heads(Z):
        return Z.reshape(len(Z), n_heads, -1).transpose(1, 0, 2)

    def joined(Z):
        return Z.transpose(1, 0, 2).reshape(X.shape)

    q, k, v, o = heads(X @ W_Q), heads(X @ W_K), heads(X @ W_V), heads(G @ W_O.T)
    s = q.shape[2] ** -0.5
    a = torch.softmax(torch.tensor(s * q @ k.transpose(0, 2, 1)), dim=2).numpy()
    p = o @ v.transpose(0, 2, 1)
    z = s * a * (p - np.einsum("hts,hts->ht", a, p)[:, :, None])
    dq, dk, dv = joined(z @ k), joined(z.transpose(0, 2, 1) @ q), joined(a.transpose(0, 2, 1) @ o)
    return dq @ W_Q.T + dk @ W_K.T + dv @ W_V.T, X.T @ dq, X.T @ dk, X.T @ dv, joined(a @ v).T @ G


wrong("4.1-e", "only values pass a gradient on to X")(layer("x_from_queries_only", paths="Q"))
wrong("4.1-e", "only values pass a gradient on to X")(layer("x_without_values", paths="QK"))
wrong("4.1-e", "three gradients add up")(layer("x_without_keys", paths="QV"))
wrong("4.1-e", "pass through W_O first")(layer("forgets_the_output_matrix", through_output=False))
wrong("4.1-e", "mixed by the weights")(layer("unmixed_values", mixed_output=False))
wrong("4.1-e", "what is the scale")(layer("scale_of_the_model", head_scale=False))
wrong("4.1-e", "how are columns cut")(layer("interleaved_heads", cut="interleaved"))
wrong("4.1-e", "W_Q and W_K are wrong")(layer("queries_and_keys_swapped", swap=True))


@wrong("4.1-e", "only W_K is wrong")
def keys_not_scaled_in_the_layer(G, X, W_Q, W_K, W_V, W_O, n_heads):
    dX, dW_Q, dW_K, dW_V, dW_O = layer("")(G, X, W_Q, W_K, W_V, W_O, n_heads)
    return dX, dW_Q, dW_K * math.sqrt(len(W_K) / n_heads), dW_V, dW_O


@wrong("4.1-e", "what does W_O multiply")
def output_matrix_from_x(G, X, W_Q, W_K, W_V, W_O, n_heads):
    return (*layer("")(G, X, W_Q, W_K, W_V, W_O, n_heads)[:4], X.T @ G)


@wrong("4.1-e", "the gradient of W_K is turned over")
def transposed(G, X, W_Q, W_K, W_V, W_O, n_heads):
    dX, dW_Q, dW_K, dW_V, dW_O = layer("")(G, X, W_Q, W_K, W_V, W_O, n_heads)
    return dX, dW_Q, dW_K.T, dW_V, dW_O


@wrong("4.1-e", "the right way round")
def output_matrix_turned_over(G, X, W_Q, W_K, W_V, W_O, n_heads):
    turned = layer("")(G, X, W_Q, W_K, W_V, W_O.T, n_heads)
    return (*turned[:4], layer("")(G, X, W_Q, W_K, W_V, W_O, n_heads)[4])
