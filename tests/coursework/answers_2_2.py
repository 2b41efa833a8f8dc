"""Answers to the exercises of notebook 2.2."""

import math

import numpy as np

from tests.coursework.answers import right, wrong


def attention(Q, K, V):
    """What the notebook calls attention: outputs and weights."""
    scores = Q @ K.T
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    weights = e / e.sum(axis=1, keepdims=True)
    return weights @ V, weights


# -------------------------------------------------------------------------------------------------- 2.2-a: the gap


@right("2.2-a")
def by_logits(n, w):
    return math.log(w) - math.log1p(-w) + math.log(n - 1)


@right("2.2-a")
def by_bisection(n, w):
    low, high = -50.0, 50.0
    for _ in range(100):
        g = (low + high) / 2
        low, high = (g, high) if math.exp(g) / (math.exp(g) + n - 1) < w else (low, g)
    return np.float64(low)


@wrong("2.2-a", "count the *other* keys")
def counts_all(n, w):
    return math.log(n * w / (1 - w))


@wrong("2.2-a", "upside down")
def inverted(n, w):
    return math.log((1 - w) / w / (n - 1))


@wrong("2.2-a", "does n enter")
def without_n(n, w):
    return math.log(w / (1 - w))


@wrong("2.2-a", "base two")
def in_bits(n, w):
    return math.log2((n - 1) * w / (1 - w))


@wrong("2.2-a", "the ratio of the two exponentials")
def the_ratio(n, w):
    return (n - 1) * w / (1 - w)


@wrong("2.2-a", "base ten")
def in_tens(n, w):
    return math.log10((n - 1) * w / (1 - w))


@wrong("2.2-a", "the weight of the others counts")
def without_the_others(n, w):
    return math.log(w)


@wrong("2.2-a", "two keys with equal scores share equally")
def the_weight(n, w):
    return math.exp(w) / (math.exp(w) + n - 1)


@wrong("2.2-a", "two keys, weight 0.9")
def above_an_equal_share(n, w):
    return n * w - 1


@wrong("2.2-a", "with your gap the weight among")
def divides_by_n(n, w):
    return math.log(w / (1 - w) / (n - 1))


# ------------------------------------------------------------------------------------------------- 2.2-b: to order


def judge(name, orders, tolerance=1e-9, equal_rows=False, relative=True, inverse=False):
    """Try some orders."""

    def blind(f, T=7, d=5):
        random = np.random.default_rng(1)
        X = np.ones((T, d)) if equal_rows else random.normal(size=(T, d))
        for order in orders(random, T):
            a, b = f(X[order]), f(X)[np.argsort(order) if inverse else order]
            scale = max(1.0, np.abs(b).max()) if relative else 1.0
            if np.abs(a - b).max() > tolerance * scale:
                return False
        return True

    blind.__name__ = name
    return blind


def random_orders(random, T):
    return [random.permutation(T) for _ in range(20)]


right("2.2-b")(judge("twenty_orders", random_orders))


@right("2.2-b")
def every_swap(f, T=7, d=5):
    X = np.random.default_rng(3).normal(size=(T, d))
    for i in range(T):
        for j in range(i):
            order = np.arange(T)
            order[[i, j]] = order[[j, i]]
            if not np.allclose(f(X[order]), f(X)[order], rtol=1e-6, atol=1e-9):
                return False
    return True


wrong("2.2-b", "only the reversed order is tried")(judge("only_reversed", lambda r, T: [np.arange(T)[::-1]]))
wrong("2.2-b", "only shifts are tried")(judge("only_shifts", lambda r, T: [np.roll(np.arange(T), k) for k in range(T)]))
wrong("2.2-b", "is the order that you try the identity")(judge("identity", lambda r, T: [np.arange(T)]))
wrong("2.2-b", "compare to a tolerance")(judge("exact", random_orders, tolerance=0.0))
wrong("2.2-b", "rounding grows with the numbers")(judge("absolute", random_orders, tolerance=1e-12, relative=False))
wrong("2.2-b", "each vector moves to its new place")(judge("inverse_order", random_orders, inverse=True))
wrong("2.2-b", "move the last vector")(
    judge("first_six", lambda r, T: [[*r.permutation(T - 1), T - 1] for _ in range(20)])
)


@wrong("2.2-b", "return True or False")
def how_different(f, T=7, d=5):
    random = np.random.default_rng(1)
    X, order = random.normal(size=(T, d)), random.permutation(T)
    return float(np.abs(f(X[order]) - f(X)[order]).max())


@wrong("2.2-b", "compare f(X[order]) with f(X)[order]")
def invariant(f, T=7, d=5):
    X = np.random.default_rng(1).normal(size=(T, d))
    return bool(np.allclose(f(X[::-1]), f(X)))


# --------------------------------------------------------------------------------------------------- 2.2-c: a memory


def memory(name, bias=-1.0, offset=True, value=1.0, half=False, transposed=False, background=0.0, backwards=False,
           sizes=None):  # fmt: skip
    """Weights with one thing changed."""

    def write(table, n_people, n_things, n_places):
        n_people, n_things, n_places = sizes or (n_people, n_things, n_places)
        keys, values = np.zeros((len(table), n_people + n_things)), np.full((len(table), n_places), background)
        for i, (person, thing, place) in enumerate(table):
            keys[i, person] = 1
            if not half:
                keys[i, n_people + thing if offset else thing] = 1
            values[i, -1 - place if backwards else place] = value
        return (keys.T if transposed else keys), np.full(len(table), bias), values

    write.__name__ = name
    return write


right("2.2-c")(memory("plain"))


@right("2.2-c")
def steeper(table, n_people, n_things, n_places):
    one_hot = [np.concatenate([np.eye(n_people)[p], np.eye(n_things)[t]]) for p, t, _ in table]
    return 2 * np.array(one_hot), [-3.0] * len(table), np.array([np.eye(n_places)[place] for *_, place in table])


wrong("2.2-c", "half of its pattern")(memory("no_bias", bias=0.0))
wrong("2.2-c", "is the bias too low")(memory("bias_too_low", bias=-2.0))
wrong("2.2-c", "the thing not moved behind the people")(memory("no_offset", offset=False))
wrong("2.2-c", "by how much does a unit fire")(memory("half_values", value=0.5))
wrong("2.2-c", "the keys should have the shape")(memory("transposed_keys", transposed=True))
wrong("2.2-c", "half of its pattern")(memory("bias_of_a_half", bias=-0.5, value=2 / 3))
wrong("2.2-c", "is the bias too low")(memory("people_only", half=True))
wrong("2.2-c", "is at place")(memory("places_backwards", backwards=True))
wrong("2.2-c", "other places answer, too")(memory("everywhere_a_little", background=0.1))
wrong("2.2-c", "the sizes come from the arguments")(memory("sizes_by_heart", sizes=(5, 4, 7)))


@wrong("2.2-c", "return three arrays")
def no_biases(table, n_people, n_things, n_places):
    keys, _, values = memory("")(table, n_people, n_things, n_places)
    return keys, values


# ------------------------------------------------------------------------------------------------ 2.2-d: induction


def induction(name, shift=-1, sharp=100.0, fetched=True, place=False, window=None, zero=True):
    """Two look-ups with one thing changed."""

    def continued(text, n_words):
        text = text if window is None else text[-window:]
        words = np.eye(n_words)[text] * ([zero] + [1] * (n_words - 1))
        T = len(text)
        before, _ = attention(sharp * np.eye(T, k=shift), np.eye(T), words)
        answer, weights = attention(sharp * words[-1:], before if fetched else words, words)
        return int((weights if place else answer).argmax())

    continued.__name__ = name
    return continued


right("2.2-d")(induction("sharper", sharp=1000.0))


@right("2.2-d")
def as_matrices(text, n_words):
    one_hot = np.zeros((len(text), n_words))
    one_hot[np.arange(len(text)), text] = 1
    places = np.eye(len(text))
    queries = 80 * np.vstack([np.zeros(len(text)), places[:-1]])
    previous = attention(queries, places, one_hot)[0]
    return attention(80 * one_hot[-1:], previous, one_hot)[0].argmax()


wrong("2.2-d", "last word itself")(induction("words_as_keys", fetched=False))
wrong("2.2-d", "word before the last")(induction("points_forwards", shift=1))
wrong("2.2-d", "make both look-ups sharper")(induction("too_soft", sharp=3.0))
wrong("2.2-d", "the last word itself")(induction("own_place", shift=0))
wrong("2.2-d", "one place back")(induction("two_places_back", shift=-2))
wrong("2.2-d", "which word stands there")(induction("the_place", place=True))
wrong("2.2-d", "it is a word like any other")(induction("zero_is_padding", zero=False))
wrong("2.2-d", "wrong in a longer text")(induction("sees_thirty", window=30))


@wrong("2.2-d", "you made 3")
def three_calls(text, n_words):
    attention(np.eye(n_words), np.eye(n_words), np.eye(n_words))
    return induction("")(text, n_words)


@wrong("2.2-d", "you made 0")
def by_a_loop(text, n_words):
    return text[text.index(text[-1]) + 1]


@wrong("2.2-d", "where place 0 has no word before")
def drops_the_first(text, n_words):
    words = np.eye(n_words)[text]
    T = len(text)
    before, _ = attention(100 * np.eye(T, k=-1), np.eye(T), words)
    before[:2] = 0
    answer, _ = attention(100 * words[-1:], before, words)
    return int(answer.argmax())
