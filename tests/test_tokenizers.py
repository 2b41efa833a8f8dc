"""Tokenisers: nothing lost, nothing invented, and a BPE trainer that agrees with the definition."""

import doctest
import errno
import json
import os
import random
import subprocess
import sys
import unicodedata
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from course_lib import tokenizers
from course_lib.tokenizers import (
    BOS,
    EOS,
    MASK,
    PAD,
    SPECIAL_TOKENS,
    UNK,
    BPETokenizer,
    CharacterTokenizer,
    Tokenizer,
    WordTokenizer,
    load_tokenizer,
    show_bytes,
)

ENGLISH = [
    "Two young men are playing football near the old bridge.",
    "A woman in a red dress reads a book; her brother doesn't.",
    "The man's dog, a well-known thief, has eaten 1,250 (or more) sausages!",
    "Two men are reading near the bridge.",
]
GERMAN = ["Zwei junge Männer spielen Fußball.", "Die Frau liest ein Buch über Brücken.", "„Nein“, sagt der Mann."]
CHINESE = ["两个年轻人在桥边踢足球。", "那个女人在读一本书，她的弟弟不读。", "两个人在桥边读书。"]
TEXTS = ENGLISH + GERMAN + CHINESE

ALL_KINDS = [WordTokenizer, CharacterTokenizer, BPETokenizer]

# Text that tokenisers of other courses lost or changed, beside whatever hypothesis finds.
AWKWARD = [
    "line one\n\nline two\r\n\tindented",
    "three   spaces, and trailing ones   ",
    " leading",
    "family 👩‍👩‍👧 flag 🇨🇳 thumbs 👍🏽",
    "\u0301lone combining mark, e\u0301 and é",
    "ideographic\u3000space, no-break\u00a0space, zero\u200bwidth",
    "中文English混排123",
    "<eos> <pad> ‹0A› ▁ ‹",
    "\x00\x1c\x85\u2028\ufffd\U0010ffff",
    "x" * 1_000 + " " * 1_000 + "字" * 1_000,
]


@pytest.fixture(scope="module")
def bpe() -> BPETokenizer:
    return BPETokenizer.train(TEXTS * 3, vocab_size=400)


# --- the definition of BPE, computed anew at every step -----------------------------------------------------------


def naive_merges(texts: list[str], n_merges: int) -> list[tuple[bytes, bytes]]:
    """BPE by its definition: count all pairs, merge the best one everywhere, start again."""
    words = Counter(piece for text in texts for piece in tokenizers.PIECE_PATTERN.findall(text))
    corpus = [([bytes([value]) for value in word.encode()], count) for word, count in words.items()]
    merges: list[tuple[bytes, bytes]] = []
    while len(merges) < n_merges:
        counts: Counter[tuple[bytes, bytes]] = Counter()
        for symbols, count in corpus:
            for pair in pairwise(symbols):
                counts[pair] += count
        if not counts or max(counts.values()) < 2:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        corpus = [(apply_merge(symbols, best), count) for symbols, count in corpus]
    return merges


def apply_merge(symbols: list[bytes], pair: tuple[bytes, bytes]) -> list[bytes]:
    merged: list[bytes] = []
    for symbol in symbols:
        # `merged[-1]` may itself be the product of a merge just made; then it is longer than pair[0] and stays
        if merged and (merged[-1], symbol) == pair:
            merged[-1] += symbol
        else:
            merged.append(symbol)
    return merged


def test_golden_merges_by_hand():
    # fault 99. The example of Sennrich et al. (2016), counted on paper. Ties by the stated rule: at the start (e, s)
    # and (s, t) both occur 9 times, and (e, s) is the smaller pair; later (e, w) comes before (n, e), both 6.
    texts = ["low"] * 5 + ["lower"] * 2 + ["newest"] * 6 + ["widest"] * 3
    expected = "e s, es t, l o, lo w, e w, ew est, n ewest, d est, i dest, w idest, e r, low er"
    merges = [tuple(part.encode() for part in pair.split()) for pair in expected.split(", ")]
    assert BPETokenizer.train(texts, vocab_size=1_000).merges == tuple(merges)


def test_words_never_merge_with_punctuation():
    # fault 99: "Hello," as one token means that "Hello" is a different word before a comma.
    tokenizer = BPETokenizer.train(["Hello, world. Hello, all! (Hello,) 'Hello,'"] * 100, vocab_size=1_000)
    assert tokenizer.split("Hello, world.") == ["Hello", ",", "▁world", "."]
    for left, right in tokenizer.merges:
        kinds = {"letter" if chr(byte).isalpha() else chr(byte) for byte in left + right} - {" ", "'"}
        assert "letter" not in kinds or kinds == {"letter"}, f"{left + right!r} mixes letters and punctuation"


@pytest.mark.parametrize("texts", [ENGLISH, GERMAN, CHINESE, TEXTS * 2], ids=["en", "de", "zh", "all"])
def test_merges_equal_the_naive_reference(texts):
    # The trainer keeps counts instead of counting anew; at every step the definition must give the same pair.
    assert list(BPETokenizer.train(texts, vocab_size=261 + 211).merges) == naive_merges(texts, 211)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text("ab", min_size=1, max_size=13), min_size=1, max_size=7))
@example(["aaaa", "aaa", "aaaaa"])  # overlapping pairs
@example(["abababab", "bababa"])
def test_merges_equal_the_naive_reference_on_repetitive_words(words):
    # Two letters only: pairs overlap, repeat within a word and tie all the time, where kept counts go wrong first.
    assert list(BPETokenizer.train(words, vocab_size=300).merges) == naive_merges(words, 39)


@settings(max_examples=200, deadline=None)
@given(st.text("abc", min_size=1, max_size=23))
@example("aaabaaa")  # an odd run is merged from the left: aa, a
def test_encoding_replays_the_merges_in_the_order_learned(word):
    tokenizer = BPETokenizer.train(["a" * 13, "abcabcab", "aabbaabb", "cabcaab"], vocab_size=300)
    assert tokenizer.merges[0] == (b"a", b"a")
    symbols = [bytes([value]) for value in word.encode()]
    for pair in tokenizer.merges:
        symbols = apply_merge(symbols, pair)
    assert tokenizer.split(word) == [symbol.decode() for symbol in symbols]


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_training_does_not_depend_on_the_order_of_the_corpus(kind):
    # Ties abound in TEXTS, and a dictionary remembers what came first: only a stated rule gives the same vocabulary.
    shuffled = random.Random(7).sample(TEXTS, len(TEXTS))
    assert shuffled != TEXTS
    assert kind.train(shuffled, vocab_size=300).tokens == kind.train(TEXTS, vocab_size=300).tokens


def test_merges_do_not_depend_on_the_hash_seed():
    # Python hashes strings with a random seed, so the order of a set differs between two runs of one program.
    program = (
        "import sys; from course_lib.tokenizers import BPETokenizer as B; print(B.train(eval(sys.argv[1]), 500).merges)"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program, repr(TEXTS)],
            env=os.environ | {"PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[1],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "4242")
    }
    assert outputs == {f"{BPETokenizer.train(TEXTS, 500).merges}\n"}


def test_merges_can_be_replayed(bpe):
    # A notebook shows training step by step: the tokeniser after k merges is the one with the first k merges.
    for k in (0, 17, 101):
        assert BPETokenizer.train(TEXTS * 3, vocab_size=261 + k).merges == bpe.merges[:k]
    assert BPETokenizer(bpe.merges).tokens == bpe.tokens
    for k, (left, right) in enumerate(bpe.merges):
        assert bpe.tokens[261 + k] == show_bytes(left + right)


# --- round trips --------------------------------------------------------------------------------------------------


def with_examples(test):
    for text in AWKWARD:
        test = example(text)(test)
    return test


@with_examples
@settings(max_examples=200, deadline=None)
@given(st.text())
def test_bpe_round_trip_on_any_text(bpe, text):
    # fault 100: newlines, repeated spaces, emoji and combining marks all come back, known from training or not.
    ids = bpe.encode(text)
    assert bpe.decode(ids) == text
    assert all(len(SPECIAL_TOKENS) <= i < bpe.vocab_size for i in ids)
    assert "".join(tokenizers.PIECE_PATTERN.findall(text)) == text
    assert len(bpe.split(text)) == len(ids)


@with_examples
@settings(max_examples=200, deadline=None)
@given(st.text())
def test_character_round_trip_on_known_characters(text):
    # fault 100
    if text:
        tokenizer = CharacterTokenizer.train([text])
        assert tokenizer.decode(tokenizer.encode(text)) == text
        assert "".join(tokenizer.split(text)) == text


@settings(max_examples=300)
@given(st.binary(max_size=13))
@example("▁‹E4›".encode())
@example("猫".encode()[:2] + b" \n")
def test_shown_bytes_are_printable_and_can_be_read_back(data):
    shown = show_bytes(data)
    assert tokenizers._parse_bytes(shown) == data
    assert shown.isprintable() and " " not in shown  # so that one line of a file holds two of them


@pytest.mark.parametrize(
    "text",
    [
        "A man's dog doesn't like T-shirts, hats or 3.50 euros (or 1,000): why?",
        'She said "yes, of course" and left; he said “no” twice.',
        "Der Mann („Fritz“) fährt um 10:30 Uhr nach Köln – für 50% weniger!",
        "我们在桥边读《红楼梦》，你呢？我用Python写了2本书。",
        "The boys' team won and/or lost #1 for $5…",
    ],
)
def test_words_come_back_as_a_person_would_space_them(text):
    tokenizer = WordTokenizer.train([text])
    assert tokenizer.decode(tokenizer.encode(text)) == text
    spread = " ".join(tokenizer.split(text))  # the spaces of the original are not used: all spread out, same result
    assert tokenizer.decode(tokenizer.encode(spread)) == text


def test_words_of_each_language():
    split = WordTokenizer(["x"]).split
    assert split("The man's T-shirt costs 3.50, not 4.") == [
        "The",
        "man's",
        "T-shirt",
        "costs",
        "3.50",
        ",",
        "not",
        "4",
        ".",
    ]
    assert split("Zwölf Füße, 10:30 Uhr") == ["Zwölf", "Füße", ",", "10:30", "Uhr"]
    assert split("Yes,no.Really") == ["Yes", ",", "no", ".", "Really"]  # only between digits does a comma belong inside
    # Chinese has no spaces to go by: one token a character, while foreign words stay whole
    assert split("我用Python3写了2.5本书。") == ["我", "用", "Python3", "写", "了", "2.5", "本", "书", "。"]


def test_readable_pieces_of_bpe():
    split = BPETokenizer().split  # no merges: single bytes
    assert split("a b") == ["a", "▁", "b"]
    assert split("猫\n") == ["‹E7›", "‹8C›", "‹AB›", "‹0A›"]
    assert split("‹") == ["‹E2›", "‹80›", "‹B9›"]  # the sign itself cannot be mistaken for a byte
    whole = BPETokenizer([(b"\xe7", b"\x8c"), (b"\xe7\x8c", b"\xab"), (b" ", "猫".encode())])
    assert whole.split("猫 猫") == ["猫", "▁猫"]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Hello,  world!", ["Hello", ",", " ", " world", "!"]),
        ("the dog's in 1984", ["the", " dog", "'s", " in", " 198", "4"]),
        ("中文English混排 2024年", ["中文", "English", "混排", " 202", "4", "年"]),
        ("他说：“好。”", ["他说", "：“", "好", "。”"]),
        ("a\n\n b\n", ["a", "\n\n", " b", "\n"]),
        ("snake_case", ["snake", "_", "case"]),
    ],
)
def test_where_bpe_cuts_before_merging(text, pieces):
    assert tokenizers.PIECE_PATTERN.findall(text) == pieces


def test_time_stays_proportional_to_the_text():
    # Merging within a piece takes quadratic time, so no piece may be long, however long the word.
    for text in AWKWARD[-1], "ab" * 500, "!?" * 500, "\n" * 1_000:
        assert max(map(len, tokenizers.PIECE_PATTERN.findall(text))) <= 65  # 64 and a space


# --- special tokens and unknown text ------------------------------------------------------------------------------


def test_special_ids_are_the_same_everywhere():
    assert (PAD, BOS, EOS, UNK, MASK) == (0, 1, 2, 3, 4)
    assert SPECIAL_TOKENS == ("<pad>", "<bos>", "<eos>", "<unk>", "<mask>")
    for kind in ALL_KINDS:
        tokenizer = kind.train(TEXTS, vocab_size=307)
        assert tokenizer.tokens[:5] == SPECIAL_TOKENS
        text = "Two men are reading"
        assert tokenizer.decode([BOS, *tokenizer.encode(text), MASK, EOS, PAD, PAD]) == text


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_special_tokens_written_in_a_text_are_text(kind):
    # Otherwise whoever writes "<eos>" into a sentence ends it.
    text = "An <eos> and a <pad> <mask>"
    tokenizer = kind.train([text * 50], vocab_size=500)
    ids = tokenizer.encode(text)
    assert not {PAD, BOS, EOS, UNK, MASK} & set(ids)
    assert tokenizer.decode(ids).replace(" ", "") == text.replace(" ", "")
    assert len(set(tokenizer.tokens)) == tokenizer.vocab_size


def test_unknown_pieces_become_unk_and_are_dropped_by_decode():
    words = WordTokenizer.train(["the cat sees the dog"])
    assert words.encode("the zebra sees") == [*words.encode("the"), UNK, *words.encode("sees")]
    assert words.split("the zebra sees") == ["the", "zebra", "sees"]
    assert words.decode(words.encode("the zebra sees")) == "the sees"
    characters = CharacterTokenizer.train(["猫看狗"])
    assert characters.encode("猫看马")[2] == UNK
    assert UNK not in BPETokenizer().encode("猫看马 zebra")


def test_vocabulary_keeps_the_most_frequent():
    # c occurs 3 times, a and b twice, d once: ranked by count, then by code point; five special tokens on top.
    tokenizer = CharacterTokenizer.train(["bca", "dcab", "c"], vocab_size=5 + 3)
    assert tokenizer.tokens == (*SPECIAL_TOKENS, "c", "a", "b")
    assert tokenizer.vocab_size == 8
    assert CharacterTokenizer.train(["bca", "dcab", "c"]).tokens[5:] == ("c", "a", "b", "d")


def test_vocabulary_size_of_bpe_counts_specials_and_bytes():
    assert BPETokenizer.train(TEXTS, vocab_size=261).vocab_size == 5 + 256
    assert BPETokenizer.train(TEXTS, vocab_size=277).vocab_size == 277
    assert BPETokenizer.train(["abc"], vocab_size=277).merges == ()  # no pair occurs twice: nothing to learn
    assert [BPETokenizer().tokens[5 + byte] for byte in b"A~"] == ["A", "~"]


def test_invalid_bytes_are_shown_not_hidden():
    # A model may stop in the middle of a character.
    tokenizer = BPETokenizer()
    assert tokenizer.decode(tokenizer.encode("a猫")[:-1]) == "a\ufffd"


# --- BPE-dropout --------------------------------------------------------------------------------------------------


def test_dropout_changes_the_pieces_but_not_the_text(bpe):
    text = "Two young men are reading near the bridge. 两个人在桥边读书。"
    rng = random.Random(3)
    versions = {tuple(bpe.encode(text, dropout=0.3, rng=rng)) for _ in range(50)}
    assert len(versions) > 10
    assert {bpe.decode(ids) for ids in versions} == {text}
    assert bpe.encode(text, dropout=1.0, rng=rng) == [5 + byte for byte in text.encode()]
    assert bpe.encode(text, dropout=1e-12, rng=rng) == bpe.encode(text, dropout=0.0, rng=rng) == bpe.encode(text)


def test_dropout_has_the_stated_probability():
    # Merges (a, b) and (ab, c). "abc" stays [abc] with (1-p)², becomes [ab, c] with (1-p)p, [a, b, c] with p.
    tokenizer = BPETokenizer([(b"a", b"b"), (b"ab", b"c")])
    rng, p, n = random.Random(11), 0.3, 20_000
    seen = Counter(len(tokenizer.encode("abc", dropout=p, rng=rng)) for _ in range(n))
    for pieces, expected in {1: 0.49, 2: 0.21, 3: 0.30}.items():
        assert seen[pieces] / n == pytest.approx(expected, abs=0.015)  # four standard deviations


def test_dropout_leaves_no_trace_in_the_cache(bpe):
    tokenizer = BPETokenizer(bpe.merges)
    tokenizer.encode("the bridge", dropout=1.0, rng=random.Random(0))
    assert tokenizer.encode("the bridge") == bpe.encode("the bridge")
    tokenizer.encode("the bridge").append(99)  # nor does a caller who changes what came back
    assert tokenizer.encode("the bridge") == bpe.encode("the bridge")


def test_dropout_is_reproducible_and_refuses_hidden_chance(bpe):
    text = "Two young men are playing football"
    assert bpe.encode(text, 0.5, random.Random(5)) == bpe.encode(text, 0.5, random.Random(5))
    with pytest.raises(ValueError, match="rng"):
        bpe.encode(text, dropout=0.1)
    for wrong in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match=f"dropout: got {wrong}"):
            bpe.encode(text, dropout=wrong, rng=random.Random(5))


def test_a_full_cache_changes_nothing(monkeypatch, bpe):
    monkeypatch.setattr(BPETokenizer, "_CACHE_SIZE", 3)
    tokenizer = BPETokenizer(bpe.merges)
    assert [tokenizer.encode(text) for text in TEXTS] == [bpe.encode(text) for text in TEXTS]
    assert len(tokenizer._cache) <= 3


# --- saving and loading -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_save_and_load(kind, tmp_path):
    # fault 102: tokens that hold newlines, spaces and quotes survive the file.
    texts = [*TEXTS, *AWKWARD[:-1], "\n\n\n" * 7, 'a "quoted\\" text\n']
    tokenizer = kind.train(texts, vocab_size=400)
    if kind is not WordTokenizer:
        assert any("\n" in token or "‹0A›‹0A›" in token for token in tokenizer.tokens)
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = load_tokenizer(tmp_path / "tokenizer.json")
    assert type(loaded) is kind
    assert loaded.tokens == tokenizer.tokens
    for text in texts:
        assert loaded.encode(text) == tokenizer.encode(text)
    assert os.listdir(tmp_path) == ["tokenizer.json"]


def test_saved_file_can_be_read_by_a_person(tmp_path):
    BPETokenizer.train(["猫 猫 the the"], vocab_size=300).save(tmp_path / "tokenizer.json")
    lines = (tmp_path / "tokenizer.json").read_text(encoding="utf-8").splitlines()
    assert [line.strip() for line in lines[2:4]] == ['"version": 1,', '"kind": "bpe",']
    assert '  "‹8C› ‹AB›"' in [line.rstrip(",") for line in lines]  # one merge a line
    json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch, bpe):
    path = tmp_path / "tokenizer.json"
    CharacterTokenizer.train(["old"]).save(path)
    before = path.read_bytes()

    def disk_full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for module, name in ((json, "dump"), (os, "replace")):  # while writing, and at the last step
        with monkeypatch.context() as patch:
            patch.setattr(module, name, disk_full)
            with pytest.raises(OSError, match="No space left"):
                bpe.save(path)
        assert path.read_bytes() == before
        assert os.listdir(tmp_path) == ["tokenizer.json"]
    with pytest.raises(FileNotFoundError, match=r"folder .*nowhere does not exist"):
        bpe.save(tmp_path / "nowhere" / "tokenizer.json")


def valid_content(kind: str) -> dict[str, object]:
    entries = {"bpe": {"merges": ["a b", "ab c"]}, "word": {"tokens": ["the", "cat"]}}[kind]
    return {
        "format": "course_lib tokenizer",
        "version": 1,
        "kind": kind,
        "special_tokens": list(SPECIAL_TOKENS),
        **entries,
    }


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("bpe", {"format": "something else"}, '"format"'),
        ("bpe", {"version": 2}, '"version" is 2'),
        ("bpe", {"kind": "unigram"}, "\"kind\" is 'unigram'"),
        ("bpe", {"kind": ["bpe"]}, "\"kind\" is ['bpe']"),
        ("bpe", {"special_tokens": ["<s>"]}, '"special_tokens"'),
        ("bpe", {"merges": None}, '"merges" must be a list'),
        ("word", {"tokens": ["the", 7]}, '"tokens" must be a list of strings'),
        ("word", {"tokens": ["the", "cat", "the"]}, "'the' stands 2 times"),
        ("word", {"tokens": ["the", "<pad>"]}, "'<pad>' stands 2 times"),
        ("bpe", {"merges": ["a b", "abx c"]}, "number 1 uses 'abx'"),
        ("bpe", {"merges": ["ab c", "a b"]}, "number 0 uses 'ab'"),
        ("bpe", {"merges": ["a b", "b c", "ab c", "a bc"]}, "number 3 makes 'abc' for the second time"),
        ("bpe", {"merges": ["ab"]}, "number 0 is 'ab'"),
        ("bpe", {"merges": ["a b c"]}, "number 0 is 'a b c'"),
        ("bpe", {"merges": ["a ‹"]}, "number 0 uses"),
    ],
)
def test_load_names_the_file_and_the_fault(tmp_path, kind, change, message):
    path = tmp_path / "tokenizer.json"
    content = valid_content(kind)
    path.write_text(json.dumps(content), encoding="utf-8")
    load_tokenizer(path)  # valid before the change
    path.write_text(json.dumps(content | change), encoding="utf-8")
    with pytest.raises(ValueError, match=r"tokenizer\.json is not a usable tokeniser file") as caught:
        load_tokenizer(path)
    assert message in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'"format"'])
def test_load_refuses_what_is_not_a_tokeniser(tmp_path, data):
    (tmp_path / "broken.json").write_bytes(data)
    with pytest.raises(ValueError, match=r"broken\.json is not a usable tokeniser file"):
        load_tokenizer(tmp_path / "broken.json")


def test_load_of_a_missing_file_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.json: there is no such tokeniser file"):
        load_tokenizer(tmp_path / "missing.json")


# --- bad arguments ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_training_refuses_nonsense(kind):
    for nothing in ([], ["", ""]):
        with pytest.raises(ValueError, match="texts: there is nothing to learn from"):
            kind.train(nothing, vocab_size=300)
    with pytest.raises(TypeError, match="one string, expected a list"):  # fault 94: a string is not a list of texts
        kind.train("one string", vocab_size=300)
    with pytest.raises(ValueError, match="vocab_size: got 5, expected"):
        kind.train(TEXTS, vocab_size=5)
    with pytest.raises(ValueError, match="surrogate"):
        kind.train(["half a \ud83d character"], vocab_size=300)
    with pytest.raises(ValueError, match="vocab_size: got 260, expected at least 261"):
        BPETokenizer.train(TEXTS, vocab_size=260)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_decode_refuses_ids_outside_the_vocabulary(kind):
    tokenizer: Tokenizer = kind.train(TEXTS, vocab_size=300)
    for wrong in (-100, -1, tokenizer.vocab_size):  # -100 marks ignored targets; -1 would be the last token
        with pytest.raises(ValueError, match=f"ids: got {wrong}, expected 0 to"):
            tokenizer.decode([7, wrong])
    assert tokenizer.decode([]) == ""
    assert tokenizer.encode("") == []


def test_half_a_surrogate_pair_is_refused(bpe):
    with pytest.raises(ValueError, match="surrogate"):
        bpe.encode("half a \ud83d character")


def test_tokenisers_leave_normalisation_to_the_caller():
    # é in one code point or two looks the same and is not: who wants them equal normalises before training.
    composed = "é"
    decomposed = unicodedata.normalize("NFD", composed)
    tokenizer = CharacterTokenizer.train([composed])
    assert tokenizer.encode(composed) != tokenizer.encode(decomposed)
    assert tokenizer.encode(unicodedata.normalize("NFC", decomposed)) == tokenizer.encode(composed)


def test_the_examples_in_the_docstrings_are_true():
    result = doctest.testmod(tokenizers)
    assert result.attempted > 0 and result.failed == 0
