"""Checks of the exercises of notebook 3.2."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from course_lib.batching import pad_sequences
from course_lib.coursework.engine import array, exercise, expect, same
from course_lib.decoding import greedy
from course_lib.models import ModelConfig, Seq2Seq
from course_lib.tokenizers import BOS, EOS, MASK, PAD

Array = np.ndarray
TOLERANCE = 1e-5  # an answer may come in float32


@exercise("3.2-a")
def new_token_mask(answer: Callable[[int, int], Array]) -> None:
    """Shape and kind; nothing cached; one new token; both."""
    found = np.asarray(answer(4, 3))
    expect(found.shape != (3, 3), "a square: the keys are the cached tokens *and* the new ones")
    expect(found.shape != (7, 7), "the cached tokens ask no more: only the new ones are queries")
    expect(found.shape == (3, 7), f"shape {found.shape}: rows are the 3 new tokens, columns all 7")
    expect(found.dtype == bool, "the mask should be boolean")
    plain = np.asarray(answer(0, 5))
    expect(not np.array_equal(plain, np.tri(5, dtype=bool).T), "transposed: early rows see more than late ones")
    expect(not np.array_equal(plain, ~np.tri(5, dtype=bool)), "True means *may see*: this is the opposite")
    expect(plain.diagonal().all(), "a token sees itself, too")
    expect(plain.sum() == 15, "nothing cached: a triangle is expected, with the diagonal and nothing above it")
    expect(
        np.asarray(answer(4, 1)).all(), "one new token sees all keys: does the triangle hang at the top left corner?"
    )
    counts = np.asarray(answer(2, 3)).sum(axis=1).tolist()
    expect(counts == [3, 4, 5], f"2 cached, 3 new: query i sees n_old + i + 1 keys, not {counts}")
    for n_old, n_new in ((7, 2), (1, 11), (5, 5)):
        rows = [[key <= n_old + query for key in range(n_old + n_new)] for query in range(n_new)]
        expect(
            np.asarray(answer(n_old, n_new)).tolist() == rows,
            f"{n_old} cached, {n_new} new: as many keys as should be, but others. Do the cached ones come first?",
        )


def _toy_decoder(M: Array) -> Callable[[Array], Array]:
    """A decoder whose row i is the sum of the tokens' vectors, weighted by row i of M (T, T)."""
    return lambda y: sum(M[:, j, None] * np.cos(np.outer(y + 1, np.arange(1, 14)))[j] for j in range(len(y)))


@exercise("3.2-b")
def leaks(answer: Callable[[Callable[[Array], Array], Array, int], set[tuple[int, int]]]) -> None:
    """An honest decoder; leaks in one place; a faint one; whether the ids stay in the vocabulary."""
    ids, honest = np.array([5, 12, 7, 7, 9, 6, 11]), np.tri(7)

    def found(M: Array) -> set[tuple[int, int]]:
        given = ids.copy()
        pairs = answer(_toy_decoder(M), given, 13)
        expect(np.array_equal(given, ids), "the given ids were changed: work on a copy")
        expect(isinstance(pairs, set), f"return a set of pairs, not {type(pairs).__name__}")
        return {(int(i), int(j)) for i, j in pairs}

    pairs = found(honest)
    expect(not any(j <= i for i, j in pairs), "a row may depend on tokens up to its own: only j > i is a leak")
    expect(pairs == set(), f"this decoder is causal, but {sorted(pairs)[:3]} was reported: do changes pile up?")
    late = honest.copy()
    late[0, 6] = 1
    expect(found(late) != {(6, 0)}, "the pair is (row, token): i comes first")
    expect(found(late) == {(0, 6)}, "row 0 sees the last token: are all earlier rows compared?")
    shifted = found(np.tri(7, k=1))
    expect(
        shifted == {(i, i + 1) for i in range(6)},
        "a mask that is off by one leaks at every place: is every token changed?",
    )
    faint = honest.copy()
    faint[2, 4] = 1e-9
    expect(found(faint) == {(2, 4)}, "a leak of 1e-9 was missed: compare bits, not with a tolerance")
    expect(len(found(np.ones((7, 7)))) == 21, "without any mask there are 21 leaks: one for each pair j > i")
    seen: list[Array] = []

    def watched(y: Array) -> Array:
        seen.append(np.array(y))
        return _toy_decoder(np.tri(3))(y)

    answer(watched, np.array([12, 12, 0]), 13)
    expect(np.min(seen) >= 0 and np.max(seen) < 13, "the other token must be one of the vocabulary, 0 to V − 1")


def _head_by_head(q: Array, k: Array, v: Array, mask: Array) -> Array:
    """One head at a time, with loops over queries and keys."""
    group, out = len(q) // len(k), np.zeros(q.shape)
    for i in range(len(q)):
        for t in range(q.shape[1]):
            scores = np.array([q[i, t] @ key for key in k[i // group]]) / q.shape[2] ** 0.5
            weights = np.where(mask[t], np.exp(scores), 0.0)
            out[i, t] = weights / weights.sum() @ v[i // group]
    return out


@exercise("3.2-c")
def grouped_attention(answer: Callable[[Array, Array, Array, Array], Array]) -> None:
    """One head; as many as before; one for all; groups; a mask."""

    def holds(h: int, g: int, T: int, S: int, size: int, mask: Array | None = None) -> bool:
        random = np.random.default_rng(h + 7 * g)
        q, k, v = random.normal(size=(h, T, size)), random.normal(size=(g, S, size)), random.normal(size=(g, S, size))
        allowed = np.ones((T, S), bool) if mask is None else mask
        found = array(answer(q.copy(), k.copy(), v.copy(), allowed.copy()), q.shape)
        return same(found, _head_by_head(q, k, v, allowed), TOLERANCE)

    expect(holds(1, 1, 3, 5, 7), "one head, no mask: softmax(q·k / √d_h) v; is the scale that of one head?")
    expect(holds(3, 3, 3, 5, 7), "g = h: has every head its own keys and values, and is the scale √d_h, whatever h?")
    expect(
        holds(3, 1, 3, 5, 7), "g = 1: all heads share keys and values; each keeps its own query, and the scale is √d_h"
    )
    expect(holds(6, 2, 3, 5, 7), "g = 2, h = 6: heads 0, 1, 2 form the first group: which heads are neighbours?")
    expect(
        holds(6, 2, 5, 5, 7, np.tri(5, dtype=bool)), "with a mask: does it act before the softmax, with True = may see?"
    )
    other = holds(10, 5, 2, 11, 3) and holds(6, 3, 4, 7, 5, np.tri(4, 7, 3, dtype=bool))
    expect(other, "right for groups of three, wrong for groups of two: how large is a group?")


@exercise("3.2-d")
def window_step(answer: Callable[..., Array]) -> None:
    """The first step; with room; where the window is full; how much is kept."""

    def steps(window: int, n: int = 13, h: int = 3, size: int = 5) -> tuple[int | None, int]:
        """The first step that is wrong (None if all are right), and the most numbers that the cache held."""
        random, cache, most = np.random.default_rng(window), dict[str, Any](), 0
        q, k, v = random.normal(size=(3, h, n, size))
        distance = np.arange(n)[:, None] - np.arange(n)
        expected = np.stack([
            _head_by_head(q[i : i + 1], k[i : i + 1], v[i : i + 1], (distance >= 0) & (distance < window))[0]
            for i in range(h)
        ])  # fmt: skip
        for t in range(n):
            now = slice(t, t + 1)
            found = array(answer(q[:, now], k[:, now], v[:, now], cache, window), (h, 1, size))
            most = max(most, sum(math.prod(np.shape(a)) for a in cache.values()))
            if not same(found, expected[:, now], TOLERANCE):
                return t, most
        return None, most

    first, _ = steps(window=20)
    expect(first != 0, "step 0: a token that is alone must return its own value; does it see itself?")
    expect(first != 1, "step 1: is the first token still in the cache, as key *and* as value? Is the scale √d_h?")
    expect(first is None, f"wrong at step {first}, with room left: are all keys and values kept, in order?")
    first, most = steps(window=4)
    expect(first != 3, "wrong at step 3: a window of 4 holds the new token and 3 others; one is missing")
    expect(
        first != 4, "wrong at step 4, where the window is full: does it hold 4 with the new one, and drop the *oldest*?"
    )
    expect(first is None, f"right when the window was first full, wrong at step {first}: does the oldest go each time?")
    expect(most <= 2 * 3 * 4 * 5, f"the cache held {most} numbers; 4 keys and 4 values of 3 heads of size 5 are enough")
    expect(steps(window=1)[0] is None, "a window of 1: each token sees itself alone")


def _model() -> Seq2Seq:
    """Large random weights: what it writes depends on every detail."""
    options = {"d_model": 32, "n_heads": 2, "n_encoder_layers": 1, "n_decoder_layers": 2, "d_ff": 20, "dropout": 0.0}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(6)
        model = Seq2Seq(ModelConfig(29, **options)).double().requires_grad_(False)  # type: ignore[arg-type]
        for parameter in model.parameters():
            if parameter.dim() == 2:
                torch.nn.init.normal_(parameter, std=0.5)
        model.embedding.tokens.weight.mul_(0.2)  # small, or each token, EOS too, would only be repeated
    return model.eval()


@exercise("3.2-e")
def write_batch(answer: Callable[[dict[str, Array], Array, Array, int], list[list[int]]]) -> None:
    """One sentence; rows that never end; rows that leave; what is never written; the cut."""
    model = _model()
    random = np.random.default_rng(9)
    sources = [random.integers(5, 29, size=n).tolist() for n in (3, 5, 2, 7, 4, 6, 3, 5, 4, 2, 6, 5)]

    def write(sentences: list[list[int]], longest: int, lift: dict[int, float]) -> list[list[int]]:
        """Write with the logits of some tokens lifted."""
        weights = {name: p.numpy().copy() for name, p in model.named_parameters()}
        for token, by in lift.items():
            weights["head.bias"][token] += by
        padded = pad_sequences([[*tokens, EOS] for tokens in sentences])
        try:
            rows = answer(weights, model.encode(padded)[0].numpy(), (padded != PAD).numpy(), longest)
        except (ValueError, IndexError) as error:
            one, leaving = len(sentences) == 1, lift.get(EOS, 0.0) > -100
            expect(one or not leaving, f"an error when a row leaves: what kept its old number of rows? ({error})")
            expect(one, f"an error with several rows, before any leaves: has each array an entry per row? ({error})")
            raise
        expect(isinstance(rows, list | tuple), f"return a list of lists, not {type(rows).__name__}")
        expect(len(rows) == len(sentences), f"{len(sentences)} rows should give as many lists, not {len(rows)}")
        return [[int(token) for token in row] for row in rows]

    def library(sentences: list[list[int]], longest: int, lift: dict[int, float]) -> list[list[int]]:
        bias = model.head.bias
        kept = bias.clone()
        for token, by in lift.items():
            bias[token] += by
        written = greedy(model, sentences, longest)
        bias.copy_(kept)
        return written

    never = {EOS: -1e3}
    tempted = write(sources[:1], 5, {PAD: 99.0, BOS: 99.0, MASK: 99.0} | never)
    expect(not any({PAD, BOS, MASK} & set(row) for row in tempted), "PAD, BOS and MASK must never be written")
    alone = write(sources[:1], 9, never)
    expect(len(alone[0]) <= 9, f"{len(alone[0])} tokens were written: a row is cut after max_length = 9")
    expect(
        alone == library(sources[:1], 9, never), "one sentence alone: position t, the cache handed on, the newest token"
    )
    together = write(sources, 9, never)
    expect(
        together == library(sources, 9, never), "several rows that do not end: has each its own source, mask and cache?"
    )
    sometimes = {EOS: 0.25}  # some rows end at once, some after a few steps, some never
    right = library(sources, 12, sometimes)
    found = write(sources, 12, sometimes)
    expect(not any(EOS in row for row in found), "EOS ends a row and is not part of it")
    lengths = [len(row) for row in found]
    expect(lengths != [max(lengths)] * len(lengths), "all rows have one length: each ends at its own EOS")
    begun_right = all(row[: len(wanted)] == wanted for row, wanted in zip(found, right, strict=True))
    expect(not begun_right or found == right, "a row goes on after its EOS: it should leave the batch")
    expect(
        found == right, "wrong when rows leave: do cache, source keys and values, and mask follow them, and the order?"
    )
    expect(write(sources[:2], 1, {EOS: 1e3}) == [[], []], "rows that end at once are empty")
