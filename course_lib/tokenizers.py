"""From text to token ids and back: words, characters, and byte-level byte-pair encoding (BPE).

All three tokenisers share one interface, and the same five special tokens have the same ids in each:

>>> tokenizer = BPETokenizer.train(["low low lower", "newest newest widest"], vocab_size=269)
>>> tokenizer.split("the lowest")
['t', 'h', 'e', '▁low', 'est']
>>> tokenizer.decode(tokenizer.encode("the lowest"))
'the lowest'

=====================  ==================================  =================================  ==================
class                  a token is                          unknown text                       decode(encode(x))
=====================  ==================================  =================================  ==================
WordTokenizer          a word or a punctuation mark        the whole word becomes `<unk>`     x with tidied spaces
CharacterTokenizer     one Unicode character               the character becomes `<unk>`      x
BPETokenizer           a frequent sequence of bytes        cannot occur: every byte is known  x, always
=====================  ==================================  =================================  ==================

Special tokens exist as ids only. Text that happens to contain the letters "<eos>" is text, and never becomes `EOS`.
No tokeniser lower-cases or normalises its input: whoever wants that (NFC, say) does it before training and encoding.
"""

import heapq
import json
import os
import random
import re
import sys
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, Self

PAD, BOS, EOS, UNK, MASK = range(5)
SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>", "<unk>", "<mask>")

_FORMAT = "course_lib tokenizer"
_VERSION = 1

# Chinese characters: 々 and 〇, the Unicode blocks CJK Ideographs, Extension A, Compatibility, and planes 2 and 3.
_HAN = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"


class Tokenizer(ABC):
    """What every tokeniser can do. `tokens[i]` is the readable form of id i; the special tokens come first."""

    kind: ClassVar[str]  # names the class in a saved file
    _saved_as: ClassVar[str]  # the key of the saved list: "tokens" or "merges"
    tokens: tuple[str, ...]

    @property
    def vocab_size(self) -> int:
        """Number of ids, the five special tokens included: ids run from 0 to `vocab_size - 1`."""
        return len(self.tokens)

    @classmethod
    @abstractmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> Self:
        """Build a vocabulary of at most `vocab_size` tokens. The result does not depend on the order of `texts`.

        Raises ValueError where `texts` holds nothing to learn from or `vocab_size` is too small, and TypeError
        where `texts` is a single string.
        """

    @abstractmethod
    def split(self, text: str) -> list[str]:
        """The pieces of `text` in readable form, for printing and plots; one for each id of `encode(text)`."""

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """The ids of `text`, without BOS or EOS: those are added when a batch is made."""

    @abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; special tokens (unknown words too) are dropped.

        Raises ValueError for an id outside the vocabulary.
        """

    @abstractmethod
    def _to_entries(self) -> list[str]:
        """What `save` writes, one string a line."""

    @classmethod
    @abstractmethod
    def _from_entries(cls, entries: list[str]) -> Self:
        """The tokeniser whose `_to_entries` gave `entries`; ValueError where that is impossible."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a JSON file that a person can read and `load_tokenizer` can load.

        The file appears whole or not at all: the text goes into a temporary file beside it, which then takes its
        name. A failure (no folder, no disk space) raises OSError and leaves an older file as it was.
        """
        content = {
            "format": _FORMAT,
            "version": _VERSION,
            "kind": self.kind,
            "special_tokens": list(SPECIAL_TOKENS),
            self._saved_as: self._to_entries(),
        }
        target = Path(path)
        if not target.parent.is_dir():
            raise FileNotFoundError(f"{path}: the folder {target.parent} does not exist; create it first")
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            with open(temporary, "w", encoding="utf-8", newline="\n") as file:
                json.dump(content, file, ensure_ascii=False, indent=1)
                file.write("\n")
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)

    def _check_ids(self, ids: Iterable[int]) -> list[int]:
        checked = list(ids)
        for i in checked:
            if not 0 <= i < self.vocab_size:  # a negative index would silently count from the end
                raise ValueError(f"ids: got {i}, expected 0 to {self.vocab_size - 1} (this tokeniser's vocabulary)")
        return checked

    def __repr__(self) -> str:
        return f"{type(self).__name__}(vocab_size={self.vocab_size})"


def load_tokenizer(path: str | os.PathLike[str]) -> Tokenizer:
    """Load a tokeniser that `save` wrote; its class is named in the file.

    Raises FileNotFoundError, or ValueError (which names the file and the fault) for any other content.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: there is no such tokeniser file; train a tokeniser and call .save('{path}')")
    try:
        return _from_json(json.loads(Path(path).read_text(encoding="utf-8")))
    except ValueError as error:  # bad UTF-8 and bad JSON are ValueErrors too
        raise ValueError(
            f"{path} is not a usable tokeniser file: {error}. Restore the file, or train a tokeniser and save it again."
        ) from error


def _from_json(content: object) -> Tokenizer:
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ValueError(f'expected a JSON object with "format": "{_FORMAT}"')
    if content.get("version") != _VERSION:
        raise ValueError(f'"version" is {content.get("version")!r}, but this course_lib reads version {_VERSION}')
    if content.get("special_tokens") != list(SPECIAL_TOKENS):
        raise ValueError(f'"special_tokens" is {content.get("special_tokens")!r}, expected {list(SPECIAL_TOKENS)}')
    kinds: dict[str, type[Tokenizer]] = {cls.kind: cls for cls in (WordTokenizer, CharacterTokenizer, BPETokenizer)}
    kind = content.get("kind")
    if not isinstance(kind, str) or kind not in kinds:
        raise ValueError(f'"kind" is {kind!r}, expected one of {list(kinds)}')
    cls = kinds[kind]
    entries = content.get(cls._saved_as)
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise ValueError(f'"{cls._saved_as}" must be a list of strings')
    return cls._from_entries(entries)


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"text: character {error.start} is {text[error.start]!r}, half of a surrogate pair; read the text as UTF-8"
        ) from error


def _count_pieces(texts: Iterable[str], find_pieces: Callable[[str], Iterable[str]]) -> Counter[str]:
    """How often each piece occurs in all texts together."""
    if isinstance(texts, str):  # a string is an iterable of strings: its characters
        raise TypeError("texts: got one string, expected a list of strings; write [text]")
    counts: Counter[str] = Counter()
    for text in texts:
        _utf8(text)  # so that a vocabulary can always be saved
        counts.update(find_pieces(text))
    if not counts:
        raise ValueError("texts: there is nothing to learn from; expected at least one text that is not empty")
    return counts


# --- words and characters -------------------------------------------------------------------------------------


class _ListTokenizer(Tokenizer):
    """A tokeniser whose vocabulary is a plain list of pieces; everything else is UNK."""

    _saved_as = "tokens"

    def __init__(self, pieces: Iterable[str]) -> None:
        self.tokens = (*SPECIAL_TOKENS, *pieces)
        self._ids = {token: i for i, token in enumerate(self.tokens)}
        if len(self._ids) < len(self.tokens):
            token, count = Counter(self.tokens).most_common(1)[0]
            raise ValueError(f"tokens: {token!r} stands {count} times in the vocabulary, expected once")

    @staticmethod
    @abstractmethod
    def _find_pieces(text: str) -> list[str]:
        """Cut `text` into pieces."""

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int | None = None) -> Self:
        """Keep the most frequent pieces, at most `vocab_size` with the five special tokens; all, if it is None.

        Among equally frequent pieces, the smallest string (by code point) comes first.
        """
        n_special = len(SPECIAL_TOKENS)
        if vocab_size is not None and vocab_size <= n_special:
            raise ValueError(f"vocab_size: got {vocab_size}, expected more than {n_special} (the special tokens)")
        counts = _count_pieces(texts, cls._find_pieces)
        by_frequency = sorted(counts, key=lambda piece: (-counts[piece], piece))
        return cls(by_frequency if vocab_size is None else by_frequency[: vocab_size - n_special])

    def split(self, text: str) -> list[str]:
        """The pieces as they stand in `text`, whether the vocabulary knows them or not."""
        return self._find_pieces(text)

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, without BOS or EOS; pieces outside the vocabulary become UNK."""
        return [self._ids.get(piece, UNK) for piece in self._find_pieces(text)]

    def _known_pieces(self, ids: Iterable[int]) -> list[str]:
        return [self.tokens[i] for i in self._check_ids(ids) if i >= len(SPECIAL_TOKENS)]

    def _to_entries(self) -> list[str]:
        return list(self.tokens[len(SPECIAL_TOKENS) :])

    @classmethod
    def _from_entries(cls, entries: list[str]) -> Self:
        return cls(entries)


class CharacterTokenizer(_ListTokenizer):
    """One token for each Unicode character (code point), spaces and newlines among them.

    The usual choice for Chinese, whose words are short and not separated by spaces. Text of known characters comes
    back from `decode` exactly as it was.
    """

    kind = "character"

    @staticmethod
    def _find_pieces(text: str) -> list[str]:
        return list(text)

    def decode(self, ids: Iterable[int]) -> str:
        """The characters of `ids`; special tokens (unknown characters too) are dropped."""
        return "".join(self._known_pieces(ids))


class WordTokenizer(_ListTokenizer):
    """One token for each word or punctuation mark, for languages that put spaces between words.

    A word is a run of letters and digits. An apostrophe or hyphen within it belongs to it (don't, T-Shirt), and so
    does a point, comma or colon between two digits (3,50). Any other visible character is a token of its own; white
    space is not kept.

    Chinese does not mark its words, and this class does not look for them: each Chinese character is a token, as
    in CharacterTokenizer, while Latin words and numbers within Chinese text stay whole.
    """

    kind = "word"

    _WORD = re.compile(
        rf"""[{_HAN}]
           | [^\W{_HAN}]+ (?: (?: ['’-] | (?<=\d)[.,:](?=\d) ) [^\W{_HAN}]+ )*
           | \S""",
        re.VERBOSE,
    )
    _NO_SPACE_BEFORE = frozenset(".,;:!?%)]}…'’/")
    _NO_SPACE_AFTER = frozenset("([{#$£€¿¡/")
    _QUOTES = frozenset('"“”„«»')
    _NO_SPACE_AROUND = re.compile(rf"[{_HAN}\u3000-\u303f\uff00-\uffef]")  # Chinese characters and punctuation

    @staticmethod
    def _find_pieces(text: str) -> list[str]:
        return WordTokenizer._WORD.findall(text)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`, spaced by rule, since the spaces of the original are not in the ids.

        One space between two tokens, but none before closing and after opening punctuation, and none beside
        Chinese characters and punctuation. Quotation marks open and close in turn.
        """
        parts: list[str] = []
        inside_quotes, space_wanted = False, False
        for word in self._known_pieces(ids):
            is_quote = word in self._QUOTES
            no_space_around = bool(self._NO_SPACE_AROUND.match(word))
            closes = word in self._NO_SPACE_BEFORE or (is_quote and inside_quotes)
            opens = word in self._NO_SPACE_AFTER or (is_quote and not inside_quotes)
            if space_wanted and not closes and not no_space_around:
                parts.append(" ")
            parts.append(word)
            inside_quotes ^= is_quote
            space_wanted = not opens and not no_space_around
        return "".join(parts)


# --- byte-pair encoding ---------------------------------------------------------------------------------------

# BPE never merges across the borders of these pieces, which together are the whole text, character by character:
PIECE_PATTERN = re.compile(
    rf"""[ ]?     [{_HAN}]{{1,64}}           # a run of Chinese characters
       | [ '’]?   [^\W\d_{_HAN}]{{1,64}}     # a run of other letters: " dog", and of "dog's" first "dog", then "'s"
       | [ ]?     \d{{1,3}}                  # up to three digits: "1984" is "198" and "4"
       | [ ]?     (?: [^\w\s] | _ ){{1,64}}  # a run of anything else that can be seen (combining marks too)
       | \s{{1,64}} (?=[ ]\S) | \s{{1,64}}   # white space, less the one space that belongs to the next piece
    """,  # no run is longer than 64, so that time grows in proportion to the text, whatever the text
    re.VERBOSE,
)
_NEVER = sys.maxsize  # stands for the id that a pair would be merged into, where no such merge was learned
_BYTES = [bytes([value]) for value in range(256)]
_N_BASE = len(SPECIAL_TOKENS) + len(_BYTES)  # ids 0-4 are special, 5-260 the bytes, from 261 on merges in order
_SHOWN_BYTE = re.compile("‹([0-9A-F]{2})›")


def show_bytes(piece: bytes) -> str:
    """Bytes in a readable form that no two byte strings share.

    A space is shown as ▁, a printable character as itself, and every other byte (part of a character, a newline, a
    control character, or the signs ▁ and ‹ themselves) by its value, such as ‹0A›.

    >>> show_bytes(" 猫".encode()), show_bytes("猫".encode()[:2]), show_bytes(b"\\n")
    ('▁猫', '‹E7›‹8C›', '‹0A›')
    """
    shown = []
    for character in piece.decode("utf-8", errors="surrogateescape"):
        if character == " ":
            shown.append("▁")
        elif character.isprintable() and character not in "▁‹":
            shown.append(character)
        else:
            shown += [f"‹{value:02X}›" for value in character.encode("utf-8", errors="surrogateescape")]
    return "".join(shown)


def _parse_bytes(shown: str) -> bytes:
    """The inverse of `show_bytes`."""
    parts = _SHOWN_BYTE.split(shown)  # text and byte values in turn
    return b"".join(bytes.fromhex(part) if k % 2 else part.replace("▁", " ").encode() for k, part in enumerate(parts))


class BPETokenizer(Tokenizer):
    """Byte-level byte-pair encoding (Sennrich et al. 2016, ACL; on bytes as in Radford et al. 2019, GPT-2).

    Text is cut into pieces by `PIECE_PATTERN` (words with the space before them, runs of Chinese characters, up to
    three digits, punctuation, white space); the UTF-8 bytes of each piece are then merged, pair by pair, in the
    order in which the merges were learned. As all 256 bytes are tokens, nothing is unknown and every text comes back
    exactly. The price is that "dog" at the start of a text and " dog" within it are two different pieces.

    `merges` holds the pairs in that order, so that training can be replayed: `BPETokenizer(merges[:k])` is the
    tokeniser after k steps. The k-th merge (from 0) has id 261 + k.
    """

    kind = "bpe"
    _saved_as = "merges"
    _CACHE_SIZE = 100_000  # pieces; some 30 MB when full

    def __init__(self, merges: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Raises ValueError for a merge of a token that no earlier merge made, or one that makes a token twice."""
        self.merges = tuple(merges)
        ids = {byte: len(SPECIAL_TOKENS) + value for value, byte in enumerate(_BYTES)}
        self._merged: dict[tuple[int, int], int] = {}  # ids of a pair -> id of their union; smaller = learned earlier
        for k, (left, right) in enumerate(self.merges):
            for part in (left, right):
                if part not in ids:
                    raise ValueError(f"merges: number {k} uses {show_bytes(part)!r}, which no earlier merge makes")
            if left + right in ids:
                raise ValueError(f"merges: number {k} makes {show_bytes(left + right)!r} for the second time")
            self._merged[ids[left], ids[right]] = ids[left + right] = _N_BASE + k
        self._token_bytes = [b""] * len(SPECIAL_TOKENS) + list(ids)
        self.tokens = SPECIAL_TOKENS + tuple(show_bytes(token) for token in ids)
        self._cache: dict[str, list[int]] = {}

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> Self:
        """Learn `vocab_size - 261` merges (261 = 5 special tokens + 256 bytes) from `texts`.

        Each step merges the pair of neighbours that occurs most often; among equals, the smallest pair of byte
        strings in lexicographic order. So the result depends on nothing but the texts, in whatever order. Training
        stops early, with a smaller vocabulary, when no pair occurs twice any more.
        """
        if vocab_size < _N_BASE:
            raise ValueError(
                f"vocab_size: got {vocab_size}, expected at least {_N_BASE} (5 special tokens and 256 bytes)"
            )
        return cls(_learn_merges(_count_pieces(texts, PIECE_PATTERN.findall), vocab_size - _N_BASE))

    def split(self, text: str) -> list[str]:
        """The pieces of `text` in the notation of `show_bytes`: a space is ▁, part of a character such as ‹E7›."""
        return [self.tokens[i] for i in self.encode(text)]

    def encode(self, text: str, dropout: float = 0.0, rng: random.Random | None = None) -> list[int]:
        """The ids of `text`, without BOS or EOS.

        With BPE-dropout (Provilkov et al. 2020, ACL), each possible merge is left out with probability `dropout`
        at each step, so that a model meets several spellings of a word: for training texts only, with an `rng` of
        the caller's. At 0 the result is the plain one, at 1 the bytes. Pieces are not cached then, so it is slower.
        """
        if not 0.0 <= dropout <= 1.0:
            raise ValueError(f"dropout: got {dropout}, expected a probability from 0 to 1")
        if dropout and rng is None:
            raise ValueError("rng: got None, but dropout needs a source of chance; pass rng=random.Random(seed)")
        ids: list[int] = []
        for piece in PIECE_PATTERN.findall(text):
            if dropout:
                ids += self._merge(piece, dropout, rng)
            elif (known := self._cache.get(piece)) is not None:
                ids += known
            else:
                if len(self._cache) >= self._CACHE_SIZE:
                    self._cache.clear()
                self._cache[piece] = self._merge(piece)
                ids += self._cache[piece]
        return ids

    def _merge(self, piece: str, dropout: float = 0.0, rng: random.Random | None = None) -> list[int]:
        ids = [len(SPECIAL_TOKENS) + value for value in _utf8(piece)]
        unions = [self._merged.get(pair, _NEVER) for pair in pairwise(ids)]  # unions[i]: what ids[i], ids[i + 1] become
        while unions:
            possible = unions
            if rng is not None:
                possible = [_NEVER if rng.random() < dropout else union for union in unions]
            union = min(possible)  # the merge learned first
            if union == _NEVER:
                break
            i = possible.index(union)  # of several occurrences, the leftmost
            ids[i : i + 2] = [union]
            del unions[i]
            if i > 0:
                unions[i - 1] = self._merged.get((ids[i - 1], union), _NEVER)
            if i < len(unions):
                unions[i] = self._merged.get((union, ids[i + 1]), _NEVER)
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; special tokens are dropped, and bytes that form no character become U+FFFD."""
        return b"".join([self._token_bytes[i] for i in self._check_ids(ids)]).decode("utf-8", errors="replace")

    def _to_entries(self) -> list[str]:
        return [f"{show_bytes(left)} {show_bytes(right)}" for left, right in self.merges]

    @classmethod
    def _from_entries(cls, entries: list[str]) -> Self:
        merges = []
        for k, entry in enumerate(entries):
            left, _, right = entry.partition(" ")
            if not (left and right) or " " in right:
                raise ValueError(f"merges: number {k} is {entry!r}, expected two tokens with one space between them")
            merges.append((_parse_bytes(left), _parse_bytes(right)))
        return cls(merges)


def _learn_merges(counts: Mapping[str, int], n_merges: int) -> list[tuple[bytes, bytes]]:
    """At most `n_merges` pairs in the order learned, from pieces of text and how often each occurs.

    The textbook loop counts all pairs anew for each merge. Here the counts are kept: a merge changes only the pairs
    beside it. `found_in` says which pieces to visit, and a heap yields the most frequent pair. A count on the heap
    may be out of date, but only too high, since a pair gains occurrences only in the step that first makes one of
    its tokens, and is pushed after that step. So a pair whose count is out of date goes back with its present one.
    """
    pieces = [[_BYTES[value] for value in piece.encode()] for piece in counts]
    frequencies = list(counts.values())
    pair_counts: defaultdict[tuple[bytes, bytes], int] = defaultdict(int)
    found_in: defaultdict[tuple[bytes, bytes], list[int]] = defaultdict(list)  # may name a piece twice, or in vain
    for p, (piece, frequency) in enumerate(zip(pieces, frequencies, strict=True)):
        for pair in pairwise(piece):
            pair_counts[pair] += frequency
            found_in[pair].append(p)
    heap = [(-count, pair) for pair, count in pair_counts.items()]  # equal counts: the smallest pair first
    heapq.heapify(heap)

    merges: list[tuple[bytes, bytes]] = []
    while heap and len(merges) < n_merges:
        negative_count, pair = heapq.heappop(heap)
        count = pair_counts[pair]
        if count < 2:
            continue
        if count != -negative_count:
            heapq.heappush(heap, (-count, pair))
            continue
        merges.append(pair)
        left, right = pair
        merged = left + right
        new_pairs = set()
        for p in found_in.pop(pair):
            piece, frequency = pieces[p], frequencies[p]
            i = 0
            while i < len(piece) - 1:
                if piece[i] == left and piece[i + 1] == right:
                    piece[i : i + 2] = [merged]
                    changes = []
                    if i > 0:
                        changes.append(((piece[i - 1], left), (piece[i - 1], merged)))
                    if i + 1 < len(piece):
                        changes.append(((right, piece[i + 1]), (merged, piece[i + 1])))
                    for old_pair, new_pair in changes:
                        pair_counts[old_pair] -= frequency
                        pair_counts[new_pair] += frequency
                        found_in[new_pair].append(p)
                        new_pairs.add(new_pair)
                i += 1
        del pair_counts[pair]
        for new_pair in new_pairs:
            heapq.heappush(heap, (-pair_counts[new_pair], new_pair))
    return merges
