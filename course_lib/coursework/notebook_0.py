"""Checks of the exercises of notebook 00."""

from collections.abc import Callable

import numpy as np

from course_lib.coursework.engine import array, exercise, expect, same

Array = np.ndarray


@exercise("0-a")
def mean_over_length(answer: Callable[[Array], Array]) -> None:
    """The axis first, by unequal sizes; then mean against sum."""
    x = np.arange(30.0).reshape(2, 3, 5)
    found = array(answer(x))
    expect(found.shape != (2, 3), "shape (2, 3): that is a mean over the features, the last axis")
    expect(found.shape != (3, 5), "shape (3, 5): that is a mean over the batch, the first axis")
    expect(found.shape == (2, 5), f"the axis of the length should disappear: (2, 3, 5) to (2, 5), not {found.shape}")
    expect(not same(found[0], [15, 18, 21, 24, 27]), "the axis is right, but this is a sum: divide by the length")
    expect(same(found[0], [5, 6, 7, 8, 9]), "the shape is right, the values are not those of a mean over the tokens")
    expect(same(found[1], [20, 21, 22, 23, 24]), "the first sentence is right, the second is not")


@exercise("0-b")
def softmax(answer: Callable[[Array], Array]) -> None:
    """Small scores first: the axis, then the values; then scores that overflow."""
    rows = np.array([[0.0, np.log(3), 0.0], [5.0, 5.0, 5.0]])
    found = array(answer(rows.copy()), rows.shape)
    expect(not same(found.sum(), 1), "all numbers together sum to 1: sum over the last axis only, and keep it")
    expect(not same(found.sum(axis=0), np.ones(3)), "the columns sum to 1: the sum must run over the last axis")
    expect(same(found.sum(axis=-1), np.ones(2)), "each row must sum to 1: divide by the sum of the row's exponentials")
    expect(same(found[0], [1 / 5, 3 / 5, 1 / 5]), "the rows sum to 1 but are wrong: is it e to the power of the score?")
    large = array(answer(1e4 * rows[:1]), (1, 3))
    expect(np.isfinite(large).all(), "scores of 10,000 overflow: subtract each row's largest score first")
    apart = array(answer(np.array([[1e4, 1e4], [-1e4, -1e4]])), (2, 2))
    expect(
        same(apart, np.full((2, 2), 0.5)),
        "a row far below the others goes wrong: subtract the maximum of each row, not of the whole array",
    )
    kept = rows.copy()
    answer(kept)
    expect(same(kept, rows), "the scores that were given have changed: work on a copy")


@exercise("0-c")
def loss_per_token(answer: Callable[[list[list[float]]], float]) -> None:
    """Batches of unequal size tell a mean of means from a mean."""
    found = float(array(answer([[1, 1, 1], [5]]), ()))
    expect(not same(found, 3), "3 is the mean of the batches' means: the lone token counts three times as much")
    expect(not same(found, 4), "4 is the sum divided by the number of batches: divide by the number of tokens")
    expect(not same(found, 8), "8 is the sum over all tokens: it is not divided yet")
    expect(same(found, 2), "divide the sum over all tokens by the number of all tokens")
    expect(same(answer([[2, 4], [], [6]]), 4), "an empty batch has no tokens and should change nothing")


@exercise("0-d")
def embed(answer: Callable[[Array, Array], tuple[Array, Array]]) -> None:
    """The look-up by known rows, then the product."""
    table = np.arange(21.0).reshape(7, 3)
    tokens = np.array([6, 0, 2, 6, 1])
    both = answer(tokens, table)
    expect(isinstance(both, tuple | list) and len(both) == 2, "return two arrays: the look-up, and the product")
    looked_up = array(both[0], what="the look-up")
    expect(looked_up.shape != (3, 5), "the look-up has shape (3, 5): one row per token is wanted, not one column")
    expect(looked_up.shape == (5, 3), f"the look-up should be (tokens, features) = (5, 3), but is {looked_up.shape}")
    expect(not same(looked_up[:, 0], [15, -3, 3, 15, 0]), "token k is row k: the rows count from 0")
    expect(same(looked_up[:, 0], [18, 0, 6, 18, 3]), "row k of the look-up should be the table's row number tokens[k]")
    product = array(both[1], what="the product")
    expect(product.shape == (5, 3), f"the product should be (tokens, features) = (5, 3), but is {product.shape}")
    expect(same(product, looked_up), "the two differ: is the 1 of each one-hot row in the column of its token?")
