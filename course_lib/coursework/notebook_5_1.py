"""Checks of the exercises of notebook 5.1."""

import math
from collections.abc import Callable
from itertools import combinations, pairwise

from course_lib.coursework.engine import array, exercise, expect, same

Pair = tuple[str, str]


@exercise("5.1-a")
def fill(answer: Callable[[list[int], list[list[int]]], float]) -> None:
    """Unequal rectangles tell a share of sums from a mean of shares."""
    found = float(array(answer([2, 2, 3, 9], [[0, 1], [2, 3]]), ()))
    tolerance = 1e-6  # an answer may come in float32
    expect(
        not same(found, 5 / 6, tolerance), "5/6 is the mean of the batches' fills: larger rectangles should count more"
    )
    expect(not same(found, 22 / 16, tolerance), "above 1: positions over tokens; the share is the other way round")
    expect(not same(found, 16 / 36, tolerance), "16/36: every rectangle is as wide as *its own* longest sentence")
    expect(not same(found, 1 - 16 / 22, tolerance), "that is the share of padding: the rest holds tokens")
    expect(not same(found, 1600 / 22, tolerance), "that is a percentage: a share is at most 1")
    expect(not same(found, 16 / 11, tolerance), "above 1: a rectangle has a height, too, the number of its sentences")
    expect(
        not same(found, 16 / 10, tolerance), "above 1: a rectangle is as wide as its longest sentence, not its shortest"
    )
    expect(found <= 1 + tolerance, f"{found:.3f}: no share is above 1; how large is the rectangle of each batch?")
    expect(same(found, 16 / 22, tolerance), f"16 tokens in 4 + 18 positions: expected 16/22 = 0.727, got {found:.3f}")
    expect(same(answer([5, 5, 5], [[0, 1], [2]]), 1, tolerance), "sentences of equal length need no padding")
    other = answer([2, 7, 11], [[2, 0], [1]])
    expect(
        same(other, 20 / 29, tolerance), "the batches hold *indices*, in any order: are the right lengths looked up?"
    )


@exercise("5.1-b")
def clean(answer: Callable[[str], str]) -> None:
    """One kind of character after the other; what must stay; cleaning twice."""
    found = answer("猫\u200b\u3000好，")
    expect(isinstance(found, str), f"return a text, not {type(found).__name__}")
    expect(
        "," not in found, "the Chinese comma became a half-width one: that is NFKC, which changes more than you want"
    )
    expect("\u200b" not in found, "the zero-width space U+200B is still there")
    expect("\u3000" not in found, "the ideographic space U+3000 is still there: it becomes a plain one")
    expect(found != "猫好，", "the wide space disappeared: it becomes a plain space")
    expect(found == "猫 好，", f"expected '猫 好，', got {found!r}")
    expect(answer("cafe\u0301") == "caf\u00e9", "e and an accent should become one character: NFC")
    expect("\ufeff" not in answer("a\ufeffb"), "the byte order mark U+FEFF is still there")
    expect(answer("\ufeffa") == "a" and answer("a\ufeffb") == "ab", "a byte order mark disappears, wherever it stands")
    expect(answer("a\u00a0cat") == "a cat", "the no-break space U+00A0 becomes a plain one")
    expect(answer("co\u00adop") == "coop", "the soft hyphen U+00AD disappears")
    expect(answer("x²  ½ ﬁ") == "x²  ½ ﬁ", "x², ½, ﬁ and two spaces should stay as they are")
    expect(answer("Ab") == "Ab", "capitals should stay")
    expect(answer("\ta\tb ") == "\ta\tb ", "tabs and plain spaces should stay, at the ends too")
    expect(answer("👩\u200d🚀") == "👩\u200d🚀", "an emoji broke: its joiner is invisible, but none of those listed")
    once = answer("e\u200b\u0301")
    expect(once == answer(once) == "\u00e9", "cleaning twice differs from once: remove the invisible ones before NFC")
    expect(answer("") == "", "an empty text stays empty")


@exercise("5.1-c")
def leaks(answer: Callable[[list[Pair], list[Pair]], int]) -> None:
    """The English side, the Chinese side, what is counted, and how fast."""
    shown = [("it is late", "很晚了。")]
    tests = [("It is late!", "现在很晚。"), ("Good night.", "晚安")]
    found = float(array(answer(list(shown), list(tests)), ()))
    expect(found.is_integer(), "the *number* of pairs that leak is wanted, not their share")
    expect(found != 0, "0: compare the keys of the sentences, neither raw texts nor whole pairs")
    expect(found == 1, f"one of the two test pairs leaks, not {found:g}")
    expect(answer(shown, [("Late.", "很晚了！")]) == 1, "a Chinese side that was seen is a leak, too")
    expect(answer(shown, [("IT IS LATE", "很晚了？")]) == 1, "a pair that leaks on both sides is one pair")
    expect(answer(shown, [("It is late.", "很晚了。")] * 2) == 2, "count test pairs, not different sentences")
    longer = [("It is late already.", "已经很晚了，走吧。")]
    expect(answer(shown, longer) == 0, "a sentence that only *contains* one that was seen is no leak")
    expect(answer([], shown) == 0, "nothing leaks from an empty training set")
    expect(
        answer([("很晚了", "it is late")], shown) == 0, "each side is compared with the same side of the training set"
    )
    many = [(f"sentence number {i}", f"第{i}句") for i in range(20_000)]
    found = answer(many, many[:10_000])  # sets that are made anew for each pair would need minutes, and are stopped
    expect(found == 10_000, f"10,000 of 10,000 pairs were seen, not {found}")


@exercise("5.1-d")
def encode(answer: Callable[[str, list[tuple[bytes, bytes]]], list[bytes]]) -> None:
    """Bytes, the order of the merges, the borders of words, repeated letters."""
    plain = answer("a 猫 🎸", [])
    expect(isinstance(plain, list) and all(isinstance(p, bytes) for p in plain), "return a list of byte strings")
    expect(b"".join(plain) == "a 猫 🎸".encode(), "without merges the bytes of the text should come out, all of them")
    expect(all(len(piece) == 1 for piece in plain), "without merges every *byte* is a token: 猫 has three")
    found = answer("abc", [(b"b", b"c"), (b"a", b"b")])
    expect(found != [b"ab", b"c"], "ab + c: the merge that was *learned first* comes first, not the leftmost one")
    expect(found == [b"a", b"bc"], f"expected a + bc, got {found}")
    expect(answer("abab", [(b"a", b"b")]) == [b"ab", b"ab"], "a pair is merged wherever it stands, not only once")
    found = answer("abcd", [(b"a", b"b"), (b"c", b"d"), (b"ab", b"cd")])
    expect(found == [b"abcd"], "a merge can join what earlier merges made")
    found = answer("abcabc", [(b"ab", b"c"), (b"a", b"b")])
    expect(found != [b"abc", b"abc"], "each merge has its turn once: (ab, c) was learned before there was any ab")
    found = answer("aaaaa", [(b"a", b"a"), (b"aa", b"aa")])
    expect(found == [b"aaaa", b"a"], f"merge from left to right, without overlap: expected aaaa + a, got {found}")
    found = answer("a a", [(b"a", b" ")])
    expect(found == [b"a", b" ", b"a"], "a token spans two words: cut by PIECE_PATTERN before merging")


@exercise("5.1-e")
def unigrams(
    segment: Callable[[str, dict[str, float]], tuple[list[str], float]],
    refit: Callable[[list[str], dict[str, float]], dict[str, float]],
) -> None:
    """The best cut against all cuts; then whether re-estimating never lowers the total."""
    few = {"ab": math.log(0.01), "a": math.log(0.5), "b": math.log(0.49)}
    both = segment("ab", dict(few))
    expect(both is not None, "segment returned None: does it return something on every path?")
    pair = isinstance(both, tuple | list) and len(both) == 2 and isinstance(both[0], tuple | list)
    expect(pair, "segment should return two things: the list of pieces, and then their log-probability")
    first = list(both[0])
    expect(first != ["b", "a"], "the pieces come out from the end: turn them round")
    expect(first == ["a", "b"], "the fewest pieces, or the longest, are not always the most probable cut")
    shares = {"研究": 0.3, "生命": 0.2, "起源": 0.2, "研究生": 0.1, "命": 0.1, "生": 0.1}
    log_p = {piece: math.log(share) for piece, share in shares.items()}
    both = segment("研究生命起源", dict(log_p))
    pieces, score = list(both[0]), float(array(both[1], (), "the log-probability"))
    expect(pieces[0] != "研究生", "longest match takes 研究生 first: compare whole cuts instead")
    expect(pieces == ["研究", "生命", "起源"], f"expected 研究 / 生命 / 起源, got {' / '.join(pieces)}")
    expect(not same(score, 0.3 * 0.2 * 0.2, 1e-6), "the score is the *logarithm* of the product")
    expect(
        same(score, math.log(0.3 * 0.2 * 0.2), 1e-6), "the score should be the sum of the logarithms of the pieces used"
    )
    weights = {text: -1.0 - 0.37 * k % 1.9 for k, text in enumerate(["a", "b", "ab", "ba", "aba", "bb", "abb", "bab"])}
    for text in ("abbabab", "bbaabba", "ababbab"):
        cuts = [(0, *cut, len(text)) for n in range(len(text)) for cut in combinations(range(1, len(text)), n)]
        parts = [[text[i:j] for i, j in pairwise(cut)] for cut in cuts]
        most = max(sum(weights[part] for part in way) for way in parts if all(part in weights for part in way))
        found = segment(text, dict(weights))
        expect("".join(found[0]) == text, f"the pieces of {text} do not make up the text")
        expect(
            same(found[1], most, 1e-6),
            f"{text}: there is a cut of log-probability {most:.3f}, yours has {float(found[1]):.3f}",
        )
    try:
        segment("xyz", {"x": -1.0, "z": -1.0})
        raised = False
    except ValueError:
        raised = True
    expect(raised, "a text that cannot be cut should raise ValueError")
    nothing = segment("", dict(few))
    expect(list(nothing[0]) == [] and same(nothing[1], 0), "an empty text has no pieces and the log-probability 0")
    whole = refit(["abab"], {"ab": math.log(0.6), "a": math.log(0.2), "b": math.log(0.2)})
    expect(
        set(whole) == {"ab"}, "refit: only the pieces of the *best* cuts are counted, here ab twice and nothing else"
    )
    texts = ["abab", "ab", "aab", "bbab", "abba"]
    start = {text: math.log(1 / 8) for text in ("a", "b", "ab", "ba", "aba", "bb", "abb", "bab")}
    totals, now = [], dict(start)
    for _ in range(4):
        totals.append(sum(segment(text, now)[1] for text in texts))
        now = refit(list(texts), now)
        expect(isinstance(now, dict) and now, "refit should return a dictionary of log-probabilities")
        total = sum(math.exp(value) for value in now.values())
        halves = sum(2 ** float(value) for value in now.values())
        expect(not same(halves, 1, 1e-6), "refit takes logarithms to base 2: base e is wanted")
        expect(not same(sum(now.values()), 1, 1e-6), "refit returns probabilities: their logarithms are wanted")
        expect(
            same(total, 1, 1e-6), f"the probabilities of refit add up to {total:.3f}: divide by the sum of all counts"
        )
    falls = [later - earlier for earlier, later in pairwise(totals)]
    expect(min(falls) > -1e-9, "refit lowered the total log-probability: are the pieces of the *best* cuts counted?")
    counts = refit(["aab"], {"a": -1.0, "b": -1.0})
    expect(same(counts["a"], math.log(2 / 3), 1e-6), "aab uses a twice: expected ln(2/3) for it")
    counts = refit(["a", "b", "a"], {"a": -1.0, "b": -1.0})
    expect(same(counts["a"], math.log(2 / 3), 1e-6), "a text that comes twice counts twice")
    counts = refit(["研究生命起源"], dict(log_p))
    expect(
        "研究生" not in counts,
        "refit cuts by the longest match: the *most probable* cut is wanted, as segment finds it",
    )
