"""Checks of the exercises of notebook 2.2."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from course_lib.coursework.engine import array, exercise, expect, same

Array = np.ndarray


@exercise("2.2-a")
def needed_gap(answer: Callable[[int, float], float]) -> None:
    """Equal shares, the sign, the logarithm, then the number of keys."""
    equal = float(array(answer(2, 0.5), ()))
    expect(not same(equal, math.log(2)), "two keys that share equally have no gap: count the *other* keys, n − 1")
    expect(not same(equal, 1), "1 is the ratio of the two exponentials: the gap is between the scores")
    expect(not same(equal, math.log(0.5)), "that is ln w alone: the weight of the others counts as well")
    expect(same(equal, 0), f"two keys with equal scores share equally: expected a gap of 0, got {equal:.3f}")
    two = float(array(answer(2, 0.9), ()))
    expect(not same(two, -math.log(9)), "more than an equal share needs a positive gap: is w/(1 − w) upside down?")
    expect(not same(two, math.log10(9)), "that is a logarithm to the base ten: the softmax has e")
    expect(not same(two, math.log2(9)), "that is a logarithm to the base two: the softmax has e")
    expect(same(two, math.log(9)), f"two keys, weight 0.9: solve eᵍ/(eᵍ + 1) = 0.9 for g; got {two:.3f}")
    many = float(array(answer(43, 0.9), ()))
    expect(not same(many, two), "more keys need a larger gap: does n enter?")
    for n, w in ((43, 0.9), (5, 0.2), (1000, 0.5)):
        gap = float(array(answer(n, w), ()))
        reached = math.exp(gap) / (math.exp(gap) + n - 1) if gap < 500 else 1.0
        expect(abs(reached - w) < 1e-9, f"with your gap the weight among {n} keys is {reached:.3f}, not {w}")


def _causal_mean(x: Array) -> Array:
    return np.cumsum(x, axis=0) / np.arange(1, len(x) + 1)[:, None]


def _mixed(x: Array) -> Array:
    """Attention without projections."""
    e = np.exp(x @ x.T / math.sqrt(x.shape[1]))
    return e / e.sum(axis=1, keepdims=True) @ x


@exercise("2.2-b")
def blind_to_order(answer: Callable[..., bool]) -> None:
    """Functions that are blind, then functions that are blind to some orders only."""
    blind: dict[str, tuple[Callable[[Array], Array], str]] = {
        "the identity": (
            lambda x: x.copy(),
            "compare f(X[order]) with f(X)[order]: each vector moves to its new place",
        ),
        "attention": (_mixed, "differences of rounding are no difference: compare to a tolerance"),
        "the mean of all, at every place": (lambda x: x * 0 + x.mean(axis=0), "see (2.2-3)"),
        "a sum of large numbers": (lambda x: 1e6 * (x + x.sum(axis=0)), "rounding grows with the numbers"),
    }
    sees: dict[str, tuple[Callable[[Array], Array], str]] = {
        "positions added": (lambda x: x + np.arange(len(x))[:, None], "is the order that you try the identity?"),
        "reversal": (
            lambda x: x[::-1].copy(),
            "it passes if only the reversed order is tried, or all rows of X are equal",
        ),
        "a shift by one": (lambda x: np.roll(x, 1, axis=0), "a shift passes if only shifts are tried"),
        "a causal mean": (_causal_mean, "the first vector sees one, the last sees all: try orders that move them"),
        "a mark on the last place": (
            lambda x: x + (np.arange(len(x)) == len(x) - 1)[:, None],
            "try orders that move the last vector, too",
        ),
        "the first vector, added to all": (lambda x: x + x[:1], "try orders that move the first vector"),
        "the middle vector, doubled": (
            lambda x: x * (1 + (np.arange(len(x)) == len(x) // 2))[:, None],
            "try orders that move the middle: one reversal does not",
        ),
    }
    for right, functions in ((True, blind), (False, sees)):
        for name, (function, hint) in functions.items():
            found = answer(function)
            expect(isinstance(found, bool | np.bool_), f"return True or False, not {type(found).__name__}")
            expect(bool(found) is right, f"{name}: should be {right}. {hint}")


@exercise("2.2-c")
def write_memory(answer: Callable[..., tuple[Array, Array, Array]]) -> None:
    """Shapes, one line, then all pairs, known and unknown."""
    n_people, n_things, n_places = 5, 4, 7
    known = [(0, 3, 1), (0, 1, 6), (4, 1, 2), (2, 0, 6)]
    got = answer(list(known), n_people, n_things, n_places)
    expect(isinstance(got, tuple | list) and len(got) == 3, "return three arrays: keys, biases and values")
    keys, biases = array(got[0], (4, 9), "the keys"), array(got[1], (4,), "the biases")
    values = array(got[2], (4, 7), "the values")

    def recall(person: int, thing: int) -> Array:
        pattern = np.concatenate([np.eye(n_people)[person], np.eye(n_things)[thing]])
        return np.maximum(0, pattern @ keys.T + biases) @ values

    for person, thing, place in known:
        found = recall(person, thing)
        expect(
            found.any(),
            f"nothing fires for person {person} with thing {thing}: is the bias too low, or the thing not moved "
            "behind the people?",
        )
        expect(found.argmax() == place, f"person {person} with thing {thing} is at place {place}, not {found.argmax()}")
    for person in range(n_people):
        for thing in range(n_things):
            places = [p for a, b, p in known if (a, b) == (person, thing)]
            found = recall(person, thing)
            if places:
                expect(
                    same(found.max(), 1),
                    f"the right place gets {found.max():.2f}, not 1: by how much does a unit fire?",
                )
                expect(same(found.sum(), 1), f"person {person} with thing {thing}: other places answer, too")
            else:
                expect(
                    not found.any(),
                    f"person {person} with thing {thing} is not in the table, yet something answers: does a unit "
                    "fire for half of its pattern?",
                )
    twice = answer([(1, 1, 0), (1, 0, 0)], 2, 2, 1)
    expect(np.shape(twice[0]) == (2, 4), "another table: the sizes come from the arguments")


@exercise("2.2-d")
def continue_text(answer: Callable[[list[int], int], int]) -> None:
    """Short texts that tell the look-ups apart, then the number of calls, then long texts."""
    space: dict[str, Any] = getattr(answer, "__globals__", {})
    plain, calls = space.get("attention"), [0]

    def counted(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        return plain(*arguments, **options)  # type: ignore[misc]  # it is there, or this is not called

    if plain is not None:
        space["attention"] = counted
    try:
        found = int(array(answer([4, 5, 7, 1, 3, 5], 8), ()))
    finally:
        if plain is not None:
            space["attention"] = plain
    expect(
        found != 5,
        "that is the last word itself: are the keys of the second look-up the fetched words, and is it sharp?",
    )
    expect(found != 3, "that is the word before the last: does the first look-up point one place back?")
    expect(found != 2, "2 is the place at which the answer stands: which word stands there?")
    expect(found == 7, f"after 5 came 7, not {found}: does the first look-up fetch the word one place back?")
    expect(plain is None or calls[0] == 2, f"two calls of attention are wanted, you made {calls[0]}")
    expect(int(answer([3, 1, 3], 8)) == 1, "the pair may stand at the very beginning, where place 0 has no word before")
    expect(int(answer([4, 0, 6, 0], 8)) == 6, "0 was followed by 6: it is a word like any other")
    frequent = [1, 1, 1, 1, 5, 7, *[1] * 20, 5]
    expect(int(answer(frequent, 8)) == 7, "a frequent word wins by number: make both look-ups sharper")
    draw = np.random.default_rng(3)
    for _ in range(30):
        text = draw.integers(1, 30, size=40).tolist()
        where = int(draw.integers(0, 38))
        text[where], text[-1] = 0, 0
        expect(int(answer(text, 30)) == text[where + 1], "wrong in a longer text: does a word get in from elsewhere?")
