"""Answers to the exercises of notebook 2.1."""

import math
from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import torch

from course_lib.microworld import states
from course_lib.microworld.stories import default_town
from course_lib.tokenizers import BOS, EOS
from tests.coursework.answers import right, wrong

# ------------------------------------------------------------------------------------------------- 2.1-a: perplexity


@right("2.1-a")
def by_base_two(texts):
    with np.errstate(divide="ignore"):
        return float(2 ** -np.log2(np.concatenate([np.array(text) for text in texts])).mean())


@right("2.1-a")
def by_roots(texts):
    n, result = sum(map(len, texts)), 1.0
    for text in texts:
        for p in text:
            result *= math.inf if p == 0 else p ** (-1 / n)
    return result


def log(p, base=math.e):
    """The logarithm, also of 0, so that each answer below makes one mistake only."""
    return math.log(p, base) if p else -math.inf


@wrong("2.1-a", "mean loss in nats")
def the_loss(texts):
    losses = [-log(p) for text in texts for p in text]
    return sum(losses) / len(losses)


@wrong("2.1-a", "not over texts")
def mean_of_the_texts(texts):
    return math.exp(sum(-sum(map(log, text)) / len(text) for text in texts) / len(texts))


@wrong("2.1-a", "the same base")
def mixed_bases(texts):
    losses = [-log(p, 2) for text in texts for p in text]
    return math.exp(sum(losses) / len(losses))


@wrong("2.1-a", "too small for a float")
def a_product(texts):
    probabilities = [p for text in texts for p in text]
    return math.inf if 0 in probabilities else math.prod(probabilities) ** (-1 / len(probabilities))


@wrong("2.1-a", "inverse of the whole product")
def without_the_mean(texts):
    return math.exp(min(700, sum(-log(p) for text in texts for p in text)))


@wrong("2.1-a", "the perplexity is its inverse")
def geometric_mean(texts):
    logarithms = [log(p) for text in texts for p in text]
    return math.exp(sum(logarithms) / len(logarithms))


@wrong("2.1-a", "the perplexity is infinite")
def hides_the_impossible(texts):
    probabilities = [max(p, 1e-9) for text in texts for p in text]
    return math.exp(-sum(map(math.log, probabilities)) / len(probabilities))


# --------------------------------------------------------------------------------------------------- 2.1-b: bits a byte


@right("2.1-b")
def by_nats(perplexity, n_tokens, text):
    return n_tokens * math.log(perplexity) / math.log(2) / len(bytes(text, "utf-8"))


@right("2.1-b")
def in_numpy(perplexity, n_tokens, text):
    return np.float32(np.log2(perplexity) * n_tokens / np.frombuffer(text.encode(), dtype=np.uint8).size)


@wrong("2.1-b", "these are nats")
def nats(perplexity, n_tokens, text):
    return n_tokens * math.log(perplexity) / len(text.encode())


@wrong("2.1-b", "bits per character")
def characters(perplexity, n_tokens, text):
    return n_tokens * math.log2(perplexity) / len(text)


@wrong("2.1-b", "those of the whole text")
def undivided(perplexity, n_tokens, text):
    return n_tokens * math.log2(perplexity)


@wrong("2.1-b", "those of one token")
def one_token(perplexity, n_tokens, text):
    return math.log2(perplexity)


@wrong("2.1-b", "as if there were one token")
def forgets_the_tokens(perplexity, n_tokens, text):
    return math.log2(perplexity) / len(text.encode())


@wrong("2.1-b", "is UTF-8 meant")
def utf_16(perplexity, n_tokens, text):
    return n_tokens * math.log2(perplexity) / (len(text) if text.isascii() else len(text.encode("utf-16-le")))


@wrong("2.1-b", "3 bits a byte")
def upside_down(perplexity, n_tokens, text):
    return len(text.encode()) * math.log2(perplexity) / n_tokens


@wrong("2.1-b", "has 6 bytes in UTF-8")
def escaped(perplexity, n_tokens, text):
    return n_tokens * math.log2(perplexity) / len(text.encode("unicode_escape"))


# ---------------------------------------------------------------------------------------------- 2.1-c: Witten–Bell


def model(name, token_weighted_kinds=False, with_bos=False, with_end=True, alone_plain=False, denominator="own",
          backs_off=True, guard=True, spread=True, pairs_once=False, end_follows=True, exchanged=False):  # fmt: skip
    """A bigram model with one thing changed."""

    def train(sequences, vocab_size):
        followers, single = defaultdict(Counter), Counter()
        for ids in sequences:
            padded = [BOS, *ids, *([EOS] if with_end else [])]
            single.update(padded if with_bos else padded[1:])
            for before, word in pairwise(padded):
                if word != EOS or end_follows:
                    followers[before][word] += 1
        kinds = len(single)
        if pairs_once:
            single = Counter(word for seen in followers.values() for word in seen)

        def q(word, before):
            alone = (single[word] + (kinds / vocab_size if spread else kinds)) / (single.total() + kinds)
            if alone_plain:
                alone = single[word] / single.total()
            seen = followers[before] if before in followers else Counter()
            if guard and not seen:
                return alone
            types = seen.total() if token_weighted_kinds else len(seen)
            below = seen.total() + (types if denominator == "own" else 1)
            if exchanged:
                return (types * seen[word] / seen.total() + seen.total() * alone) / below
            return (seen[word] + (types * alone if backs_off else 0)) / below

        return q

    train.__name__ = name
    return train


right("2.1-c")(model("by_followers"))


@right("2.1-c")
def as_interpolation(sequences, vocab_size):
    pairs = [p for ids in sequences for p in zip([BOS, *ids], [*ids, EOS], strict=True)]
    words = [word for _, word in pairs]
    kinds = len(set(words))

    def q(word, before):
        plain = (words.count(word) + kinds / vocab_size) / (len(words) + kinds)
        after = [w for b, w in pairs if b == before]
        if not after:
            return plain
        share = len(after) / (len(after) + len(set(after)))
        return share * after.count(word) / len(after) + (1 - share) * plain

    return q


wrong("2.1-c", "*different* words")(model("counts_all_followers", token_weighted_kinds=True))
wrong("2.1-c", "is BOS counted")(model("bos_is_a_word", with_bos=True))
wrong("2.1-c", "is the end of each text counted")(model("no_end", with_end=False))
wrong("2.1-c", "q(w) is smoothed, too")(model("plain_unigrams", alone_plain=True))
wrong("2.1-c", "what is added above")(model("nothing_added", backs_off=False))
wrong("2.1-c", "is T(h) the same above and below")(model("one_below", denominator="one"))
wrong("2.1-c", "ZeroDivisionError")(model("unseen_context", guard=False))
wrong("2.1-c", "leaves q(pie) = 2/17")(model("not_divided_by_v", spread=False))
wrong("2.1-c", "not each pair once")(model("as_kneser_ney", pairs_once=True))
wrong("2.1-c", "it is a known context")(model("end_follows_nothing", end_follows=False))
wrong("2.1-c", "which part weighs more")(model("shares_exchanged", exchanged=True))


@wrong("2.1-c", "return a function")
def a_table(sequences, vocab_size):
    q = model("")(sequences, vocab_size)
    return {(word, before): q(word, before) for ids in sequences for before, word in pairwise([BOS, *ids, EOS])}


# -------------------------------------------------------------------------------------------------- 2.1-d: openness


def open_choice(
    name, base=math.e, after=False, all_words=False, with_end=True, surprise=False, sign=1.0, last=-1, number=None
):
    """The entropies of a story with one thing changed; ``number`` stands for the entropy of a list of probabilities."""
    if number is None:
        number = lambda ways: sum(-p * math.log(p, base) for p in ways)  # noqa: E731

    def openness(story):
        town, told, found = default_town(), states(story), []
        for k, line in enumerate(story.lines):
            for i, word in enumerate(line.en):
                ways = town.next_tokens(told[k + after], "en", () if all_words else line.en[:i])
                came = -math.log(ways.get(word, 1.0)) if surprise else None
                found.append(sign * (number(ways.values()) if came is None else came))
        ways = town.next_tokens(told[last], "en")
        return [*found, sign * number(ways.values())] if with_end else found

    openness.__name__ = name
    return openness


right("2.1-d")(open_choice("plain"))


@right("2.1-d")
def with_tensors(story):
    town, told, found = default_town(), states(story), []
    for line, state in zip(story.lines, told, strict=False):
        found += [list(town.next_tokens(state, "en", line.en[:i]).values()) for i in range(len(line.en))]
    found.append(list(town.next_tokens(told[-1], "en").values()))
    return [torch.special.entr(torch.tensor(ways, dtype=torch.float64)).sum().item() for ways in found]


wrong("2.1-d", "in bits")(open_choice("bits", base=2))
wrong("2.1-d", "whether to stop is a choice")(open_choice("no_end", with_end=False))
wrong("2.1-d", "are only its own words begun")(open_choice("nothing_begun", all_words=True))
wrong("2.1-d", "the first number is negative")(open_choice("negative", sign=-1.0))
wrong("2.1-d", "an entropy is a mean over what could come")(open_choice("surprise", surprise=True))
wrong("2.1-d", "is p ln p summed over all")(open_choice("number_of_ways", number=len))
wrong("2.1-d", "not all that can come is equally likely")(open_choice("all_alike", number=lambda ways: log(len(ways))))
wrong("2.1-d", "is it a mean, weighted by p")(open_choice("the_likeliest", number=lambda ways: -log(max(ways))))
wrong("2.1-d", "which state is it")(open_choice("state_before_the_last", last=-2))


@wrong("2.1-d", "one number for each position")
def the_mean(story):
    return sum(open_choice("")(story))


@wrong("2.1-d", "one for each word and one for the end")
def one_a_sentence(story):
    return [open_choice("")(story)[0] for _ in story.lines]


# --------------------------------------------------------------------------------------------- 2.1-e: Shannon's game


def bounds(name, log=math.log, first=1, factor=True, differences=True, guard=True, exchanged=False, last=True):
    """The two bounds with one thing changed."""

    def shannon(guesses):
        top = max(guesses)
        q = [sum(g == i for g in guesses) / len(guesses) for i in range(1, top + 1)] + [0.0]
        low = 0.0
        for i in range(1, top + (1 if last else 0)):
            step = q[i - 1] - q[i] if differences else q[i - 1]
            low += (i if factor else 1) * step * log(i + first - 1 or 1)
        parts = [p * log(p) for p in q[:-1] if p or not guard]
        both = (low, -sum(parts))
        return both[::-1] if exchanged else both

    shannon.__name__ = name
    return shannon


right("2.1-e")(bounds("by_loops"))


@right("2.1-e")
def in_tensors(guesses):
    q = torch.bincount(torch.tensor(guesses)).double()[1:] / len(guesses)
    i = torch.arange(1, len(q) + 1).double()
    following = torch.cat([q[1:], torch.zeros(1).double()])
    return (i * (q - following) * i.log()).sum().item(), torch.special.entr(q).sum().item()


wrong("2.1-e", "nats are wanted")(bounds("bits", log=math.log2))
wrong("2.1-e", "is the first guess number 1")(bounds("numbers_from_two", first=2))
wrong("2.1-e", "is i a factor")(bounds("without_the_factor", factor=False))
wrong("2.1-e", "is i a factor")(bounds("forgets_the_last", last=False))
wrong("2.1-e", "are exchanged")(bounds("upper_first", exchanged=True))
wrong("2.1-e", "ValueError")(bounds("logarithm_of_zero", guard=False))


def upper(name, of):
    """The right lower bound, and an upper one made of the shares and their numbers."""

    def shannon(guesses):
        q = np.bincount(guesses)[1:] / len(guesses)
        return bounds("")(guesses)[0], float(of(q, np.arange(1, len(q) + 1)))

    shannon.__name__ = name
    return shannon


wrong("2.1-e", "always right at once gives")(
    upper("also_of_the_last", lambda q, i: -(np.append(q, 0) * np.log(np.append(q, 0))).sum())
)
wrong("2.1-e", "shares ¾, 0, ¼ give")(upper("also_of_the_missing", lambda q, i: -(q * np.log(q)).sum()))
wrong("2.1-e", "the upper bound is ln 4")(upper("mean_of_ln_i", lambda q, i: (q * np.log(i)).sum()))
wrong("2.1-e", "the upper bound should be")(upper("as_if_even", lambda q, i: np.log(i[-1])))


@wrong("2.1-e", "return two numbers")
def only_the_upper(guesses):
    return bounds("")(guesses)[1]


@wrong("2.1-e", "the missing second guess")
def skips_missing_guesses(guesses):
    kinds = sorted(set(guesses))
    q = np.array([guesses.count(i) for i in kinds] + [0]) / len(guesses)
    low = sum(i * (a - b) * math.log(i) for i, a, b in zip(kinds, q, q[1:], strict=False))
    return low, float(-(q[:-1] * np.log(q[:-1])).sum())
