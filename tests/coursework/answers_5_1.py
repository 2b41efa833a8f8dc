"""Answers to the exercises of notebook 5.1."""

import functools
import math
import unicodedata
from collections import Counter
from itertools import pairwise

import numpy as np

from course_lib.datasets import sentence_key
from course_lib.tokenizers import PIECE_PATTERN
from tests.coursework.answers import right, wrong

# ----------------------------------------------------------------------------------------------- 5.1-a: filling


@right("5.1-a")
def by_arrays(lengths, batches):
    lengths = np.array(lengths)
    positions = [lengths[batch].max() * len(batch) for batch in batches]
    return sum(lengths[batch].sum() for batch in batches) / sum(positions)


@right("5.1-a")
def by_padding(lengths, batches):
    tokens = padding = 0
    for batch in batches:
        longest = max(lengths[i] for i in batch)
        tokens += sum(lengths[i] for i in batch)
        padding += sum(longest - lengths[i] for i in batch)
    return tokens / (tokens + padding)


@wrong("5.1-a", "mean of the batches' fills")
def mean_of_fills(lengths, batches):
    fills = [sum(lengths[i] for i in b) / (len(b) * max(lengths[i] for i in b)) for b in batches]
    return sum(fills) / len(fills)


@wrong("5.1-a", "not its shortest")
def by_the_shortest(lengths, batches):
    return sum(lengths) / sum(len(b) * min(lengths[i] for i in b) for b in batches)


@wrong("5.1-a", "*its own* longest sentence")
def one_width(lengths, batches):
    return sum(lengths) / (len(lengths) * max(lengths))


@wrong("5.1-a", "the other way round")
def upside_down(lengths, batches):
    return 1 / by_padding(lengths, batches)


@wrong("5.1-a", "the share of padding")
def padding_share(lengths, batches):
    return 1 - by_padding(lengths, batches)


@wrong("5.1-a", "the batches hold *indices*")
def in_order(lengths, batches):
    start, positions = 0, 0
    for batch in batches:
        part = lengths[start : start + len(batch)]
        start, positions = start + len(batch), positions + len(part) * max(part)
    return sum(lengths) / positions


@right("5.1-a")
def in_float32(lengths, batches):
    return np.float32(by_arrays(lengths, batches))


@wrong("5.1-a", "is a percentage")
def percentage(lengths, batches):
    return 100 * by_arrays(lengths, batches)


@wrong("5.1-a", "has a height, too")
def one_row(lengths, batches):
    return sum(lengths) / sum(max(lengths[i] for i in b) for b in batches)


@wrong("5.1-a", "no share is above 1")
def largest_index(lengths, batches):
    return sum(lengths) / sum(len(b) * max(b) for b in batches)


@wrong("5.1-a", "expected 16/22")
def by_the_mean(lengths, batches):
    return sum(lengths) / sum(sum(lengths[i] for i in b) for b in batches)


# ---------------------------------------------------------------------------------------------- 5.1-b: cleaning


@right("5.1-b")
def by_replacing(text):
    for old, new in (("\u200b", ""), ("\ufeff", ""), ("\u00ad", ""), ("\u00a0", " "), ("\u3000", " ")):
        text = text.replace(old, new)
    return unicodedata.normalize("NFC", text)


@right("5.1-b")
def by_joining(text):
    kept = (" " if c in "\u00a0\u3000" else c for c in text if c not in "\u200b\ufeff\u00ad")
    return unicodedata.normalize("NFC", "".join(kept))


@wrong("5.1-b", "that is NFKC")
def compatibility(text):
    return unicodedata.normalize("NFKC", by_replacing(text))


@wrong("5.1-b", "e and an accent")
def not_normalised(text):
    return "".join(" " if c in "\u00a0\u3000" else c for c in text if c not in "\u200b\ufeff\u00ad")


@wrong("5.1-b", "before NFC")
def normalised_first(text):
    return not_normalised(unicodedata.normalize("NFC", text))


@wrong("5.1-b", "the wide space disappeared")
def drops_wide_spaces(text):
    return by_replacing(text.replace("\u3000", ""))


@wrong("5.1-b", "U+FEFF")
def strips_the_ends(text):
    return unicodedata.normalize("NFC", not_normalised(text.replace("\ufeff", "\u2060").strip("\u2060"))).replace(
        "\u2060", "\ufeff"
    )


@wrong("5.1-b", "two spaces should stay")
def joins_spaces(text):
    return " ".join(by_replacing(text).split(" ")) if "  " not in text else " ".join(by_replacing(text).split())


@wrong("5.1-b", "soft hyphen")
def keeps_hyphens(text):
    return "\u00ad".join(map(by_replacing, text.split("\u00ad")))


@wrong("5.1-b", "U+200B is still there")
def keeps_zero_width(text):
    return "\u200b".join(map(by_replacing, text.split("\u200b")))


@wrong("5.1-b", "U+3000 is still there")
def keeps_wide_spaces(text):
    return "\u3000".join(map(by_replacing, text.split("\u3000")))


@wrong("5.1-b", "expected '猫 好，'")
def space_for_zero_width(text):
    return by_replacing(text.replace("\u200b", " "))


@wrong("5.1-b", "wherever it stands")
def space_for_byte_order_mark(text):
    return by_replacing(text.replace("\ufeff", " "))


@wrong("5.1-b", "the no-break space U+00A0 becomes")
def drops_no_break_spaces(text):
    return by_replacing(text.replace("\u00a0", ""))


@wrong("5.1-b", "at the ends too")
def strips(text):
    return by_replacing(text).strip()


@wrong("5.1-b", "capitals should stay")
def lowers(text):
    return by_replacing(text).lower()


@wrong("5.1-b", "its joiner is invisible")
def drops_every_invisible_one(text):
    return "".join(c for c in by_replacing(text) if unicodedata.category(c) != "Cf")


# ------------------------------------------------------------------------------------------------- 5.1-c: leaks


@right("5.1-c")
def by_sets(train, test):
    seen = [set(map(sentence_key, side)) for side in zip(*train, strict=True)] or [set(), set()]
    return len([1 for pair in test if any(sentence_key(t) in s for t, s in zip(pair, seen, strict=True))])


@right("5.1-c")
def by_dictionary(train, test):
    seen = dict.fromkeys((i, sentence_key(text)) for pair in train for i, text in enumerate(pair))
    return sum(max((i, sentence_key(text)) in seen for i, text in enumerate(pair)) for pair in test)


@wrong("5.1-c", "neither raw texts nor whole pairs")
def raw_texts(train, test):
    return sum(en in {a for a, _ in train} or zh in {b for _, b in train} for en, zh in test)


@wrong("5.1-c", "neither raw texts nor whole pairs")
def whole_pairs(train, test):
    seen = {(sentence_key(en), sentence_key(zh)) for en, zh in train}
    return sum((sentence_key(en), sentence_key(zh)) in seen for en, zh in test)


@wrong("5.1-c", "a Chinese side that was seen")
def english_only(train, test):
    seen = {sentence_key(en) for en, _ in train}
    return sum(sentence_key(en) in seen for en, _ in test)


@wrong("5.1-c", "is one pair")
def sides_counted(train, test):
    en_seen, zh_seen = {sentence_key(en) for en, _ in train}, {sentence_key(zh) for _, zh in train}
    return sum(sentence_key(en) in en_seen for en, _ in test) + sum(sentence_key(zh) in zh_seen for _, zh in test)


@wrong("5.1-c", "count test pairs")
def different_sentences(train, test):
    return by_sets(train, list(dict.fromkeys(test)))


@wrong("5.1-c", "the same side")
def all_in_one_set(train, test):
    seen = {sentence_key(text) for pair in train for text in pair}
    return sum(sentence_key(en) in seen or sentence_key(zh) in seen for en, zh in test)


@wrong("5.1-c", "not their share")
def share_of_leaks(train, test):
    return by_sets(train, test) / len(test)


@wrong("5.1-c", "only *contains* one")
def parts_of_sentences(train, test):
    seen = [set(map(sentence_key, side)) for side in zip(*train, strict=True)] or [set(), set()]
    keys = [tuple(map(sentence_key, pair)) for pair in test]
    return sum(any(any(s in t for s in side) for t, side in zip(pair, seen, strict=True)) for pair in keys)


@wrong("5.1-c", "empty training set")
def counts_all_without_training(train, test):
    return by_sets(train, test) if train else len(test)


# ------------------------------------------------------------------------------------------------ 5.1-d: encoding


def merged(pieces, pair, once=False):
    result, i = [], 0
    done = False
    while i < len(pieces):
        if tuple(pieces[i : i + 2]) == pair and not (once and done):
            result.append(pair[0] + pair[1])
            i, done = i + 2, True
        else:
            result.append(pieces[i])
            i += 1
    return result


def cut(name, split=True, order="learned", once=False, characters=False, repeat=False):
    """Encoding with one thing changed."""

    def encode(text, merges):
        result = []
        for word in PIECE_PATTERN.findall(text) if split else [text]:
            pieces = [c.encode() for c in word] if characters else [bytes([b]) for b in word.encode()]
            if order == "leftmost":
                while pair := next((p for p in pairwise(pieces) if p in merges), None):
                    pieces = merged(pieces, pair, once=True)
            else:
                for _ in range(4 if repeat else 1):
                    for pair in merges if order == "learned" else reversed(merges):
                        pieces = merged(pieces, pair, once)
            result += pieces
        return result

    encode.__name__ = name
    return encode


right("5.1-d")(cut("in_order"))


@right("5.1-d")
def lowest_rank_first(text, merges):
    """As GPT-2's encoder does: among the pairs that are there, the one learned first, never going back in rank."""
    ranks, result = {pair: k for k, pair in enumerate(merges)}, []
    for word in PIECE_PATTERN.findall(text):
        pieces, last = [bytes([b]) for b in word.encode()], -1
        while True:
            there = [r for p in pairwise(pieces) if (r := ranks.get(p, -1)) > last]
            if not there:
                break
            last = min(there)
            pieces = merged(pieces, merges[last])
        result.extend(pieces)
    return result


wrong("5.1-d", "*learned first*")(cut("leftmost_first", order="leftmost"))
wrong("5.1-d", "*learned first*")(cut("last_learned_first", order="reversed"))
wrong("5.1-d", "before merging")(cut("across_words", split=False))
wrong("5.1-d", "every *byte* is a token")(cut("characters", characters=True))
wrong("5.1-d", "not only once")(cut("merges_once", once=True))
wrong("5.1-d", "has its turn once")(cut("until_nothing_changes", repeat=True))


@wrong("5.1-d", "return a list of byte strings")
def nested(text, merges):
    return [cut("")(word, merges) for word in PIECE_PATTERN.findall(text)]


@wrong("5.1-d", "the bytes of the text should come out, all of them")
def words_without_spaces(text, merges):
    return [piece for word in text.split() for piece in cut("")(word, merges)]


@wrong("5.1-d", "expected a + bc")
def second_half_stays(text, merges):
    result = []
    for word in PIECE_PATTERN.findall(text):
        pieces = [bytes([b]) for b in word.encode()]
        for a, b in merges:
            pieces = [a + b if p == a and q == b else p for p, q in zip(pieces, [*pieces[1:], b""], strict=True)]
        result += pieces
    return result


@wrong("5.1-d", "from left to right")
def from_the_right(text, merges):
    turned = [(b[::-1], a[::-1]) for a, b in merges]
    words = []
    for word in PIECE_PATTERN.findall(text):
        pieces = [bytes([b]) for b in reversed(word.encode())]
        for pair in turned:
            pieces = merged(pieces, pair)
        words += [piece[::-1] for piece in reversed(pieces)]
    return words


@wrong("5.1-d", "what earlier merges made")
def bytes_only(text, merges):
    return cut("")(text, [pair for pair in merges if max(map(len, pair)) == 1])


# -------------------------------------------------------------------------------------------- 5.1-e: segmenting


def segment(text, log_p):
    """By recursion with memory, from the front."""

    @functools.cache
    def best(start):
        if start == len(text):
            return 0.0, ()
        ways = []
        for end in range(start + 1, len(text) + 1):
            if text[start:end] in log_p:
                score, rest = best(end)
                ways.append((log_p[text[start:end]] + score, (text[start:end], *rest)))
        return max(ways, default=(-math.inf, ()))

    score, pieces = best(0)
    if score == -math.inf:
        raise ValueError("no cut")
    return list(pieces), score


def longest_match(text, log_p):
    pieces = []
    while text:
        pieces.append(next((text[:n] for n in range(len(text), 0, -1) if text[:n] in log_p), None))
        if pieces[-1] is None:
            raise ValueError("no cut")
        text = text[len(pieces[-1]) :]
    return pieces, sum(log_p[piece] for piece in pieces)


def fewest_pieces(text, log_p):
    pieces, _ = segment(text, dict.fromkeys(log_p, -1.0))
    return pieces, sum(log_p[piece] for piece in pieces)


def probability(text, log_p):
    pieces, score = segment(text, log_p)
    return pieces, math.exp(score)


def from_the_end(text, log_p):
    pieces, score = segment(text, log_p)
    return pieces[::-1], score


def never_raises(text, log_p):
    try:
        return segment(text, log_p)
    except ValueError:
        return [text], -math.inf


@right("5.1-e", segment)
def refit(texts, log_p):
    counts = Counter()
    for text in texts:
        counts.update(segment(text, log_p)[0])
    total = math.log(sum(counts.values()))
    return {piece: math.log(n) - total for piece, n in counts.items()}


@right("5.1-e", lambda text, log_p: tuple(segment(text, log_p)))
def refit_in_numpy(texts, log_p):
    pieces, counts = np.unique([p for text in texts for p in segment(text, log_p)[0]], return_counts=True)
    return dict(zip(pieces.tolist(), np.log(counts / counts.sum()).tolist(), strict=True))


def refitting(name):
    def same_refit(texts, log_p):
        return refit(texts, log_p)

    same_refit.__name__ = name
    return same_refit


wrong("5.1-e", "or the longest", longest_match)(refitting("with_longest_match"))
wrong("5.1-e", "the fewest pieces", fewest_pieces)(refitting("with_fewest_pieces"))
wrong("5.1-e", "the *logarithm* of the product", probability)(refitting("with_a_probability"))
wrong("5.1-e", "from the end", from_the_end)(refitting("turned_round"))
wrong("5.1-e", "should raise ValueError", never_raises)(refitting("without_error"))


def none_if_impossible(text, log_p):
    pieces, score = never_raises(text, log_p)
    return None if score == -math.inf else (pieces, score)


def score_first(text, log_p):
    return segment(text, log_p)[::-1]


def forgets_to_return(text, log_p):
    segment(text, log_p)


def mean_score(text, log_p):
    pieces, score = segment(text, log_p)
    return pieces, score / max(1, len(pieces))


def in_arrays(text, log_p):
    pieces, score = segment(text, log_p)
    return [tuple(pieces), np.float32(score)]


right("5.1-e", in_arrays)(refitting("in_float32_and_tuples"))
wrong("5.1-e", "should raise ValueError", none_if_impossible)(refitting("none_for_an_error"))
wrong("5.1-e", "should return two things", score_first)(refitting("with_the_score_first"))
wrong("5.1-e", "returned None", forgets_to_return)(refitting("without_return"))
wrong("5.1-e", "the sum of the logarithms", mean_score)(refitting("with_a_mean_score"))


@wrong("5.1-e", "base e is wanted", segment)
def base_two(texts, log_p):
    return {piece: value / math.log(2) for piece, value in refit(texts, log_p).items()}


@wrong("5.1-e", "uses a twice", segment)
def once_a_text(texts, log_p):
    counts = Counter(piece for text in texts for piece in set(segment(text, log_p)[0]))
    return {piece: math.log(n / counts.total()) for piece, n in counts.items()}


@wrong("5.1-e", "comes twice counts twice", segment)
def different_texts(texts, log_p):
    return refit(dict.fromkeys(texts), log_p)


@wrong("5.1-e", "cuts by the longest match", segment)
def refit_by_longest_match(texts, log_p):
    counts = Counter(piece for text in texts for piece in longest_match(text, log_p)[0])
    return {piece: math.log(n / counts.total()) for piece, n in counts.items()}


@wrong("5.1-e", "divide by the sum of all counts", segment)
def divides_by_texts(texts, log_p):
    counts = Counter(p for text in texts for p in segment(text, log_p)[0])
    return {piece: math.log(n / len(texts)) for piece, n in counts.items()}


@wrong("5.1-e", "their logarithms are wanted", segment)
def not_logarithms(texts, log_p):
    return {piece: math.exp(value) for piece, value in refit(texts, log_p).items()}


@wrong("5.1-e", "of the *best* cuts", segment)
def counts_every_piece(texts, log_p):
    counts = Counter(p for text in texts for p in log_p for i in range(len(text)) if text.startswith(p, i))
    return {piece: math.log(n / counts.total()) for piece, n in counts.items()}
