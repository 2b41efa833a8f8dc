"""Checks of the exercises of notebook 2.1."""

import math
from collections.abc import Callable, Hashable
from itertools import islice

import numpy as np

from course_lib.coursework.engine import array, exercise, expect, same
from course_lib.microworld import states
from course_lib.microworld.stories import Story, default_town, stories
from course_lib.tokenizers import EOS


@exercise("2.1-a")
def perplexity_of(answer: Callable[[list[list[float]]], float]) -> None:
    """One text, two of unequal length, one too long for a product, one that is impossible."""
    one = float(array(answer([[1 / 2, 1 / 4, 1 / 8]]), ()))
    expect(not same(one, math.log(4)), "1.386 is the mean loss in nats: the perplexity is e to that power")
    expect(not same(one, 64), "64 is the inverse of the whole product: take the mean over the tokens, too")
    expect(not same(one, 0.25), "0.25 is a mean probability: the perplexity is its inverse")
    expect(same(one, 4), f"½, ¼, ⅛: expected 4, got {one:.3f}; the logarithm and the power need the same base")
    two = float(array(answer([[1 / 2], [1 / 8, 1 / 8, 1 / 2]]), ()))
    expect(same(two, 4), f"two texts: expected 4, got {two:.3f}: is the mean over all tokens, not over texts?")
    try:
        long = float(array(answer([[0.5] * 5000]), ()))
    except (ZeroDivisionError, OverflowError):
        long = math.inf
    expect(
        same(long, 2, 1e-6), "5,000 tokens of probability ½ have perplexity 2: their product is too small for a float"
    )
    try:
        impossible = float(array(answer([[0.5, 0.0]]), ()))
    except (ValueError, ZeroDivisionError):
        impossible = math.nan
    expect(
        impossible == math.inf, "a token of probability 0 came: the perplexity is infinite, not an error or a number"
    )


@exercise("2.1-b")
def bits_per_byte(answer: Callable[[float, int, str], float]) -> None:
    """ASCII first, where characters are bytes; then Chinese."""
    found = float(array(answer(16, 3, "word"), ()))
    expect(not same(found, 3 * math.log(2)), "these are nats: a bit is ln 2 of them")
    expect(not same(found, 12), "12 bits are those of the whole text: divide by its bytes")
    expect(not same(found, 1), "1 is log₂ 16 divided by 4 bytes, as if there were one token: three came")
    expect(not same(found, 4), "4 bits are those of one token: how many tokens are there to a byte?")
    expect(same(found, 3), f"'word': 3 tokens of 4 bits for 4 bytes are 3 bits a byte, got {found:.3f}")
    chinese = float(array(answer(16, 3, "语言"), ()))
    expect(not same(chinese, 6), "'语言': 6 are bits per character: how many bytes of UTF-8 has a Chinese character?")
    expect(
        not same(chinese, 3), "'语言': 3 would be right for four bytes: is UTF-8 meant, and is there a mark in front?"
    )
    expect(same(chinese, 2), f"'语言' has 6 bytes in UTF-8: expected 2, got {chinese:.3f}")


@exercise("2.1-c")
def witten_bell(answer: Callable[[list[list[Hashable]], int], Callable[[Hashable, Hashable], float]]) -> None:
    """Unknown contexts show q(w) alone; then a known one; then the sums."""
    lines = [["red", "tea"], ["red", "tea"], ["hot", "tea"], ["hot", "pie"]]
    q = answer([list(line) for line in lines], 5)
    expect(callable(q), "return a function q(word, before)")
    unseen = float(array(q("pie", "cup"), ()))  # (1 + 5/5) / (12 + 5)
    expect(not same(unseen, 1 / 12), "a word before that was never seen: q(w) is smoothed, too, by T/V")
    expect(not same(unseen, 0.1), "a word before that was never seen: is BOS counted among the predicted words?")
    expect(not same(unseen, 0.15), "a word before that was never seen: is the end of each text counted?")
    expect(
        not same(unseen, 1 / 6), "a word before that was never seen: c(w) counts every time w came, not each pair once"
    )
    expect(same(unseen, 2 / 17), f"a word before that was never seen leaves q(pie) = 2/17, got {unseen:.4f}")
    expect(not same(q("tea", "pie"), q("tea", "cup")), "'pie' was followed by the end of a text: it is a known context")
    red = float(array(q("pie", "red"), ()))
    expect(not same(red, 1 / 17), "after 'red': T(h) counts *different* words that followed, not all")
    expect(not same(red, 0), "after 'red' came no 'pie', yet its probability is not 0: what is added above?")
    expect(
        same(red, 2 / 51),
        f"after 'red', seen twice with one successor, expected 2/51, got {red:.4f}: which part weighs more?",
    )
    for before in ("hot", "red", "cup", "tea"):
        total = sum(float(q(word, before)) for word in ("red", "tea", "hot", "pie", EOS))
        expect(
            same(total, 1),
            f"after '{before}' the probabilities add up to {total:.3f}: is T(h) the same above and below?",
        )


@exercise("2.1-d")
def openness(answer: Callable[[Story], list[float]]) -> None:
    """How many numbers, the very first, what the state allows; then the difference from the surprise."""
    town = default_town()
    for story in islice(stories(seed=11), 2):
        found = answer(story)
        n = sum(len(line.en) for line in story.lines) + 1
        expect(hasattr(found, "__len__"), "return a list with one number for each position")
        expect(
            len(found) != n - 1, f"{n} numbers are wanted, one for the end as well: whether to stop is a choice, too"
        )
        expect(len(found) == n, f"expected {n} numbers, one for each word and one for the end, got {len(found)}")
        numbers = array(found, (n,))
        first = town.next_tokens(states(story)[0], "en")
        right = math.fsum(-p * math.log(p) for p in first.values())
        expect(not same(numbers[0], right / math.log(2)), "the first number is in bits: nats are wanted")
        expect(not same(numbers[0], -right), "the first number is negative: what is the sign of a logarithm below 1?")
        expect(
            same(numbers[0], right),
            f"the first word: expected {right:.3f}, got {numbers[0]:.3f}: is p ln p summed over all?",
        )
        choices = [
            (town.next_tokens(state, "en", line.en[:i]), line.en[i])
            for line, state in zip(story.lines, states(story), strict=False)
            for i in range(len(line.en))
        ]
        came = [-math.log(ways[word]) for ways, word in choices]
        expect(
            not same(numbers[:-1], came), "this is the surprise at what came; an entropy is a mean over what could come"
        )
        for place, (ways, _) in enumerate(choices):
            likely, most = -math.log(max(ways.values())), math.log(len(ways))
            expect(
                likely - 1e-9 <= numbers[place] <= most + 1e-9,
                f"word {place + 1}: {len(ways)} words can come, so the entropy is from {likely:.3f} to {most:.3f}, not "
                f"{numbers[place]:.3f}: is the state the one before the sentence, and are only its own words begun?",
            )
            right = math.fsum(-p * math.log(p) for p in ways.values())
            if not same(right, most):
                expect(not same(numbers[place], most), f"word {place + 1}: not all that can come is equally likely")
            expect(
                same(numbers[place], right),
                f"word {place + 1}: expected {right:.3f}, got {numbers[place]:.3f}: is it a mean, weighted by p?",
            )
        ways = town.next_tokens(states(story)[-1], "en")
        right = math.fsum(-p * math.log(p) for p in ways.values())
        expect(
            same(numbers[-1], right),
            "the last number: after the last sentence the story may end or go on; which state is it?",
        )


@exercise("2.1-e")
def shannon_bounds(answer: Callable[[list[int]], tuple[float, float]]) -> None:
    """A sure guesser, an even one, then a share of 0, each bound for itself."""
    sure = answer([1] * 9)
    expect(isinstance(sure, tuple | list) and len(sure) == 2, "return two numbers: the lower and the upper bound")
    expect(np.isfinite(array(sure, (2,))).all(), f"always right at once gives {sure}: how does 0 ln 0 count?")
    expect(same(sure, (0, 0)), f"always right at once: both bounds are 0, got {sure}; is the first guess number 1?")
    even = array(answer([1, 2, 3, 4]), (2,))
    expect(not same(even, (2, 2)), "four numbers equally often: 2 bits, but nats are wanted")
    expect(
        same(even[1], math.log(4)), f"four numbers equally often: the upper bound is ln 4 = 1.386, got {even[1]:.3f}"
    )
    expect(
        same(even[0], math.log(4)),
        f"the lower bound is ln 4, too, got {even[0]:.3f}: is i a factor, and q after the last 0?",
    )
    skew = array(answer([1, 1, 1, 3]), (2,))
    expect(np.isfinite(skew).all(), f"shares ¾, 0, ¼ give {skew}: how does 0 ln 0 count?")
    low, high = -0.5 * math.log(2) + 0.75 * math.log(3), 0.75 * math.log(4 / 3) + 0.25 * math.log(4)
    expect(not same(skew, (high, low)), "the two bounds are exchanged")
    expect(same(skew[1], high), f"shares ¾, 0, ¼: the upper bound should be {high:.3f}, got {skew[1]:.3f}")
    expect(
        same(skew[0], low),
        f"shares ¾, 0, ¼: is the term of the missing second guess there? {low:.3f}, got {skew[0]:.3f}",
    )
    guesses, entropy = _guessing_town()
    low, high = array(answer(guesses), (2,))
    expect(low <= entropy <= high, f"the town plays: its {entropy:.2f} nats are not between {low:.2f} and {high:.2f}")


def _guessing_town() -> tuple[list[int], float]:
    """The guesses that the town needs for each token of 20 of its stories, and its mean entropy in nats."""
    town, guesses, entropies = default_town(), [], []
    for story in islice(stories(seed=5), 20):
        *before, last = states(story)
        begun = [
            (state, line.en[:i]) for state, line in zip(before, story.lines, strict=True) for i in range(len(line.en))
        ]
        told = [*(word for line in story.lines for word in line.en), "<eos>"]
        for (state, words), word in zip([*begun, (last, ())], told, strict=True):
            ways = town.next_tokens(state, "en", words)
            guesses.append(sorted(ways, key=lambda token: -ways[token]).index(word) + 1)
            entropies.append(-math.fsum(p * math.log(p) for p in ways.values()))
    return guesses, math.fsum(entropies) / len(entropies)
