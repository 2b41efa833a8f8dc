"""Corpora drawn from the micro-world: every pair with its meaning, its word alignment and its exact probability."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random

from course_lib.microworld.chinese import Chinese
from course_lib.microworld.english import English
from course_lib.microworld.lexicon import DATA, Lexicon, read_table
from course_lib.microworld.meanings import Node, Sentence, children, depth, variants, verb_noun_pairs
from course_lib.microworld.realise import Realisation, Realiser
from course_lib.microworld.world import World

LANGUAGES = ("en", "zh")


@dataclass(frozen=True, slots=True)
class Draw:
    """A sentence pair drawn from the world.

    `alignment` holds pairs (English index, Chinese index) of tokens that express the same part of the meaning.
    `log_prob` is ln p(en, zh) and `conditional_log_prob_zh` is ln p(zh | en), both in nats and exact: an English
    sentence determines its meaning, so that p(zh | en) is the probability of the Chinese wording alone. No model can
    do better, on average, than these.
    """

    en: tuple[str, ...]
    zh: tuple[str, ...]
    en_text: str
    zh_text: str
    meaning: Sentence
    alignment: tuple[tuple[int, int], ...]
    log_prob: float
    conditional_log_prob_zh: float

    @property
    def log_prob_en(self) -> float:
        """ln p(en), in nats: what a language model of English cannot beat."""
        return self.log_prob - self.conditional_log_prob_zh


def draw(world: World, random: Random) -> Draw:
    """Draw a meaning and its two sentences."""
    log_probs = {"": 0.0, "en": 0.0, "zh": 0.0}
    meaning = world.draw(world.start, random, log_probs)
    return _pair(meaning, log_probs, English(world.words), Chinese(world.words))


def draws(seed: int = 0, world: World | None = None) -> Iterator[Draw]:
    """An endless stream of independent draws."""
    world, random = world or World(), Random(seed)
    while True:
        yield draw(world, random)


def _pair(meaning: Sentence, log_probs: dict[str, float], english: English, chinese: Chinese) -> Draw:
    en, zh = english.realise(meaning), chinese.realise(meaning)
    return Draw(
        en=en.tokens,
        zh=zh.tokens,
        en_text=en.text,
        zh_text=zh.text,
        meaning=meaning,
        alignment=align(en, zh),
        log_prob=log_probs[""] + log_probs["en"] + log_probs["zh"],
        conditional_log_prob_zh=log_probs["zh"],
    )


def align(en: Realisation, zh: Realisation) -> tuple[tuple[int, int], ...]:
    """The pairs of token positions whose words share a link, in order."""
    positions: dict[tuple[int, str], list[int]] = {}
    for j, links in enumerate(zh.links):
        for link in links:
            positions.setdefault(link, []).append(j)
    return tuple(
        sorted({(i, j) for i, links in enumerate(en.links) for link in links for j in positions.get(link, ())})
    )


def realiser(language: str, words: Lexicon | None = None) -> Realiser:
    """The realiser of "en" or "zh".

    Raises:
        ValueError: for another language.
    """
    if language not in LANGUAGES:
        raise ValueError(f"language is {language!r}, expected one of {LANGUAGES}")
    return English(words) if language == "en" else Chinese(words)


def references(meaning: Sentence, language: str) -> list[tuple[str, float]]:
    """Every way to say a meaning, as (text, probability given the meaning); the most probable comes first."""
    speaker = realiser(language)
    said = [(speaker.realise(variant).text, probability) for variant, probability in variants(meaning, language)]
    return sorted(said, key=lambda item: -item[1])


def best(meaning: Sentence, language: str) -> str:
    """The most probable way to say a meaning: what the best possible translator answers."""
    return references(meaning, language)[0][0]


def trace(meaning: Sentence) -> str:
    """How a meaning becomes two sentences: every part of it, with the English and Chinese words that express it."""
    sides = [realiser(language).realise(meaning) for language in LANGUAGES]
    lines: list[str] = []

    def visit(name: str, node: Node, indent: int) -> set[int]:
        line = len(lines)
        lines.append("")
        inside = {id(node)}.union(*[visit(field, part, indent + 1) for field, part in children(node)])
        label = "  " * indent + (f"{name}: " if name else "") + type(node).__name__
        said = [
            " ".join(
                word
                for word, links in zip(side.tokens, side.links, strict=True)
                if any(node in inside for node, _ in links)
            )
            for side in sides
        ]
        lines[line] = f"{label:<28} {said[0]}  ·  {said[1]}"
        return inside

    visit("", meaning, 0)
    return "\n".join(lines)


# The parallel corpus ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ParallelCorpus:
    """English and Chinese sentence pairs. No sentence of train is in another split, in either language.

    `test_composition` shows combinations that train never does: verb–noun pairs held out of train, and clauses or
    possessors nested one level deeper. `test_natural` is hand-written.
    """

    train: tuple[Draw, ...]
    valid: tuple[Draw, ...]
    test: tuple[Draw, ...]
    test_composition: tuple[Draw, ...]
    held_out: frozenset[tuple[str, str]]

    splits = ("train", "valid", "test", "test_composition", "test_natural")

    @cached_property
    def test_natural(self) -> tuple[tuple[str, str], ...]:
        """Hand-written pairs outside the grammar, as (English, Chinese) texts."""
        return natural_pairs()

    def texts(self, split: str, language: str) -> list[str]:
        """The sentences of a split in "en" or "zh", in order."""
        if split not in self.splits:
            raise ValueError(f"split is {split!r}, expected one of {self.splits}")
        if language not in LANGUAGES:
            raise ValueError(f"language is {language!r}, expected one of {LANGUAGES}")
        if split == "test_natural":
            return [pair[LANGUAGES.index(language)] for pair in self.test_natural]
        return [pair.en_text if language == "en" else pair.zh_text for pair in getattr(self, split)]


def held_out_pairs(words: Lexicon | None = None) -> frozenset[tuple[str, str]]:
    """Every twelfth (verb, noun) pair of the lexicon, among verbs that go with eight nouns or more."""
    world = World(words)
    pairs = set()
    for index, verb in enumerate(world.words.verbs.values()):
        nouns = world.pool(("verb", verb.lemma), None)
        if len(nouns) >= 8 and verb.frame in ("transitive", "result", "ditransitive", "stative"):
            pairs |= {(verb.lemma, noun) for rank, noun in enumerate(nouns) if (5 * index + rank) % 12 == 0}
    return frozenset(pairs)


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Draws are many small objects that all stay: to look for garbage among them costs a quarter of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@no_garbage_collection()
def parallel_corpus(
    seed: int = 0, train: int = 20_000, valid: int = 1_000, test: int = 1_000, composition: int = 1_000
) -> ParallelCorpus:
    """The parallel corpus: the same seed gives the same corpus everywhere.

    Test is drawn first, then valid, then train, so that dropping repeated sentences hardly touches the test set: its
    mean log-probabilities estimate the entropies of the world. Train, valid and test come from a world that is nested
    at most two deep and lacks the held-out pairs; `log_prob` is exact for that world. `test_composition` comes from a
    world that favours both, and its `log_prob` belongs to that one; p(zh | en) is the same in every world.
    """
    held_out = held_out_pairs()
    random = Random(seed)
    shown = World(max_depth=2, held_out=held_out)
    composed = World(max_depth=3, held_out=held_out, favour=20, nesting=10)
    english, chinese = English(), Chinese()
    seen: set[str] = set()

    def fresh(world: World, size: int, wanted: Callable[[Sentence], bool] | None = None) -> tuple[Draw, ...]:
        found: list[Draw] = []
        while len(found) < size:
            log_probs = {"": 0.0, "en": 0.0, "zh": 0.0}
            meaning = world.draw(world.start, random, log_probs)
            if wanted and not wanted(meaning):
                continue
            pair = _pair(meaning, log_probs, english, chinese)
            if pair.en_text not in seen and pair.zh_text not in seen:
                found.append(pair)
                seen.update((pair.en_text, pair.zh_text))
        return tuple(found)

    def deeper(meaning: Sentence) -> bool:
        return depth(meaning) > shown.max_depth

    def unseen(meaning: Sentence) -> bool:
        return not held_out.isdisjoint(verb_noun_pairs(meaning))

    tested = fresh(shown, test)
    combined = fresh(composed, composition // 2, deeper) + fresh(composed, composition - composition // 2, unseen)
    return ParallelCorpus(
        test=tested,
        test_composition=combined,
        valid=fresh(shown, valid),
        train=fresh(shown, train),
        held_out=held_out,
    )


# Hand-written pairs ----------------------------------------------------------------------------------------------

NATURAL_COLUMNS = {
    "en": re.compile(r"\S[^\t]*[.?!\"]"),
    "zh": re.compile(r"[^\sA-Za-z][^\s]*[。？！”]"),
}


def natural_pairs(path: Path = DATA / "natural.tsv") -> tuple[tuple[str, str], ...]:
    """Read the hand-written (English, Chinese) pairs.

    Raises:
        FileNotFoundError: if the file is not there.
        TableError: if a line does not keep to the schema; the message names file, line and column.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is missing: it should hold hand-written pairs, columns {list(NATURAL_COLUMNS)}"
        )
    return tuple((row["en"], row["zh"]) for row in read_table(path, NATURAL_COLUMNS))
