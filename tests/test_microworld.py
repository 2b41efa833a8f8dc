"""The micro-world: exact probabilities, sentences that are right in both languages, and a corpus without leaks."""

from __future__ import annotations

import math
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from course_lib.microworld import World, best, draw, draws, lexicon, outline, parallel_corpus, references, trace
from course_lib.microworld.chinese import Chinese
from course_lib.microworld.corpora import NATURAL_COLUMNS, ParallelCorpus, align, natural_pairs
from course_lib.microworld.english import English
from course_lib.microworld.grammar import Rule, S
from course_lib.microworld.lexicon import DATA, TableError, printed, read_lexicon, read_table
from course_lib.microworld.meanings import (
    USUAL,
    Asked,
    Because,
    Both,
    Choice,
    Comparison,
    Event,
    Existence,
    Identity,
    Location,
    Name,
    Place,
    Pronoun,
    Quality,
    Relative,
    Report,
    Sentence,
    Thing,
    Time,
    Word,
    children,
    depth,
    verb_noun_pairs,
)

# A world small enough to enumerate ---------------------------------------------------------------------------------


class SmallWorld(World):
    """The same clauses with few phrases, so that every sentence can be listed."""

    def third_person(self, c: int, d: int, relative: bool) -> list[Rule]:
        people = S("thing", ("class", "people", "role"), c, (("person", 1),), c, d, True, relative)
        return [Rule(2, Name, name=S("name", c, None)), Rule(1, part=people)]

    def one_person(self, c: int, d: int) -> list[Rule]:
        return [Rule(1, Name, name=S("name", c, None))]

    def owner(self, c: int, d: int) -> list[Rule]:
        rules = super().owner(c, d)
        return [rules[0], rules[-1]] if d > 0 else rules[:1]

    def form(self, counting: str, mix: Any, plural: bool) -> list[Rule]:
        return super().form(counting, mix, plural)[:1]

    def pronoun(self, c: int, others: bool) -> list[Rule]:
        return super().pronoun(c, others)[:1]

    def polarity(self, mood: str) -> tuple[tuple[int, bool], ...]:
        return super().polarity(mood)[:1]


SMALL_WORDS = (
    "book, newspaper, cup, English, table, park, teacher, doctor, cat, dog, friend, neighbour, sleep, read, break, "
    "put, teach, go to, like, have, say, want to, tall, tired, often, every day, yesterday, tomorrow, now, "
    "Anna, Tom, Mary, Peter"
)


@pytest.fixture(scope="module")
def small() -> SmallWorld:
    return SmallWorld(lexicon().only(SMALL_WORDS.split(", ")), max_depth=0)


@pytest.fixture(scope="module")
def world() -> World:
    return World(max_depth=1)


@pytest.fixture(scope="module")
def corpus() -> ParallelCorpus:
    return parallel_corpus()


def entropy(probabilities: Any) -> float:
    return -math.fsum(p * math.log(p) for p in probabilities)


def test_probabilities_and_entropies_are_those_of_the_listed_sentences(small: SmallWorld) -> None:
    # Summed over strings, not over derivations: two meanings with one English sentence, or two wordings that look the
    # same, would make the entropy of the strings smaller than that of the grammar.
    english, chinese = English(small.words), Chinese(small.words)
    pairs: Counter[tuple[str, str]] = Counter()
    en: Counter[str] = Counter()
    meanings: dict[str, Sentence] = {}
    for meaning, log_probs in small.enumerate(small.start):
        p, said = math.exp(sum(log_probs.values())), english.realise(meaning).text
        pairs[said, chinese.realise(meaning).text] += p
        en[said] += p
        assert meanings.setdefault(said, meaning) == meaning
    assert len(pairs) == small.count(small.start) > 30_000
    assert abs(math.fsum(pairs.values()) - 1) < 1e-9
    h_pair, h_en = entropy(pairs.values()), entropy(en.values())
    assert math.isclose(small.entropy(small.start), h_pair, abs_tol=1e-9)
    assert math.isclose(small.entropy_en(), h_en, abs_tol=1e-9)
    assert math.isclose(small.entropy_zh_given_en(), h_pair - h_en, abs_tol=1e-9)

    random = Random(3)
    for _ in range(200):  # and a draw knows its own probability
        pair = draw(small, random)
        assert math.isclose(math.exp(pair.log_prob), pairs[pair.en_text, pair.zh_text], rel_tol=1e-9)
        assert math.isclose(math.exp(pair.log_prob_en), en[pair.en_text], rel_tol=1e-9)


NESTED = [
    (S("quality", "statement", 0, 1), "statement"),
    (S("have", "statement", 0, 1), "statement"),
    (S("described_object", "read", 0, 1), "object"),
    (S("owned", ("social", "teacher", "doctor"), 0, 1), "subject"),
]


@pytest.mark.parametrize(("symbol", "role"), NESTED, ids=[symbol[0] for symbol, _ in NESTED])
def test_nested_phrases_and_clauses_are_counted_exactly_too(small: SmallWorld, symbol: Any, role: str) -> None:
    nested = SmallWorld(small.words, max_depth=1)
    english, strings, size = English(nested.words), Counter[tuple[str, ...]](), 0
    for value, log_probs in nested.enumerate(symbol):
        strings[tuple(word for word, _ in english.say(value, role))] += math.exp(sum(log_probs.values()))
        size += 1
    assert size == nested.count(symbol)
    assert abs(math.fsum(strings.values()) - 1) < 1e-9
    h_en = nested.entropy(symbol, "") + nested.entropy(symbol, "en")
    assert math.isclose(entropy(strings.values()), h_en, abs_tol=1e-9)


def test_held_out_pairs_and_nesting_leave_a_probability_distribution(small: SmallWorld) -> None:
    held_out = frozenset({("read", "book"), ("like", "cat")})
    for favour in (0.0, 7.0):
        other = SmallWorld(small.words, max_depth=0, held_out=held_out, favour=favour, nesting=3)
        total, pairs = 0.0, 0.0
        for meaning, log_probs in other.enumerate(S("state", "statement", 0, 0)):
            p = math.exp(sum(log_probs.values()))
            total += p
            pairs += p * (not held_out.isdisjoint(verb_noun_pairs(meaning)))
        assert abs(total - 1) < 1e-9
        assert (pairs > 0) == (favour > 0)


# The whole world --------------------------------------------------------------------------------------------------


def test_the_mean_log_probability_of_draws_agrees_with_the_exact_entropy(world: World) -> None:
    # The interval is four standard errors of the mean: a correct program fails once in 16,000 seeds.
    random, size = Random(11), 4_000
    pairs = [draw(world, random) for _ in range(size)]
    for exact, values in (
        (world.entropy_en(), [-pair.log_prob_en for pair in pairs]),
        (world.entropy_zh_given_en(), [-pair.conditional_log_prob_zh for pair in pairs]),
    ):
        mean = math.fsum(values) / size
        error = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (size - 1) / size)
        assert abs(mean - exact) < 4 * error


def test_an_english_sentence_determines_its_meaning(world: World) -> None:
    english, random, seen, size = English(), Random(5), {}, 100_000
    counts: Counter[str] = Counter()
    for _ in range(size):
        log_probs = {"": 0.0, "en": 0.0, "zh": 0.0}
        meaning = world.draw(world.start, random, log_probs)
        said, p = english.realise(meaning).text, log_probs[""] + log_probs["en"]
        counts[said] += 1
        before = seen.setdefault(said, (meaning, p))
        assert before[0] == meaning, said
        assert math.isclose(before[1], p, abs_tol=1e-9), said
    # A second derivation of a meaning would make a sentence twice as frequent as its probability says. The expectation
    # is that of a Poisson count that is not zero, since only sentences that were seen are compared.
    observed: Counter[tuple[str, str]] = Counter()
    expected: Counter[tuple[str, str]] = Counter()
    for said, (meaning, p) in seen.items():
        mean = size * math.exp(p)
        if mean > 2:
            kind = type(meaning.clause).__name__, getattr(meaning.clause, "tense", meaning.mood)
            observed[kind] += counts[said]
            expected[kind] += mean / -math.expm1(-mean)
    assert sum(expected[kind] > 100 for kind in expected) >= 5
    for kind, mean in expected.items():
        assert abs(observed[kind] - mean) < 6 * math.sqrt(mean) + 1, kind


def test_verbs_that_look_the_same_are_told_apart_by_their_objects() -> None:
    # "finish" is 看完 with a book and 吃完 with a cake; a noun that is both would make the sentence ambiguous.
    words = lexicon()
    owners: dict[tuple[str, str, str], str] = {}
    for verb in words.verbs.values():
        for noun in words.members(verb.object):
            other = owners.setdefault((printed(verb.lemma), verb.frame, noun), verb.lemma)
            assert other == verb.lemma, f"{other} and {verb.lemma} both take {noun}"


def test_the_world_is_large() -> None:
    assert lexicon().content_lemmas >= 450
    assert World().count(S("tensed", "past", False, "statement", 0, 0)) > 10**9  # one tense, half of the subjects


def test_every_free_choice_is_drawn_both_ways(corpus: ParallelCorpus) -> None:
    drawn: Counter[tuple[str, bool]] = Counter()

    def visit(node: Any) -> None:
        for item in node.__dataclass_fields__:
            value = getattr(node, item)
            if isinstance(value, Choice):
                drawn[value.name, value.usual] += 1
        for _, part in children(node):
            visit(part)

    for pair in corpus.train:
        visit(pair.meaning)
    assert {name for name, _ in drawn} == set(USUAL)
    for name, usual in USUAL.items():
        count = drawn[name, True] + drawn[name, False]
        assert abs(drawn[name, True] / count - usual) < 5 * math.sqrt(usual * (1 - usual) / count)


# What is said -----------------------------------------------------------------------------------------------------

W = Word
ANNA, TOM = Name(W("Anna")), Name(W("Tom"))
YESTERDAY = Time(W("yesterday"))
BA, NO_BA = Choice("zh ba", True), Choice("zh ba", False)


def thing(noun: str, determiner: str = "the", **fields: Any) -> Thing:
    return Thing(W(noun), determiner, **fields)


def event(tense: str, verb: str, subject: Any = ANNA, **fields: Any) -> Event:
    return Event(tense, W(verb), subject, **fields)


def noun_plural(noun: str, count: int | None = None) -> Thing:
    return Thing(W(noun), "", True, count)


PARK, TABLE = Place(W("park")), Place(W("table"))
CAT = thing("cat", "a")
BOUGHT_BOOK = thing("book", relative=Relative(event("past", "buy", TOM), "object"))
GIRL = thing(
    "girl",
    relative=Relative(
        Event("habit", W("read"), object=noun_plural("novel"), frequency=W("often")),
        "subject",
        Choice("zh relative", True),
    ),
)
MINE = Pronoun("I")

SENTENCES: list[tuple[Any, str, str]] = [
    # tense and aspect, place and time before the verb, measure words by noun
    (
        event("past", "buy", object=noun_plural("car", 2), time=YESTERDAY),
        "Anna bought two cars yesterday.",
        "安娜昨天买了两辆汽车。",
    ),
    (event("past", "buy", object=noun_plural("cat", 2)), "Anna bought two cats.", "安娜买了两只猫。"),
    (event("past", "swim", place=Place(W("river"))), "Anna swam in the river.", "安娜在河里游泳了。"),
    (event("experience", "swim", place=Place(W("river"))), "Anna has swum in the river before.", "安娜在河里游过泳。"),
    (event("progressive", "sleep", place=PARK), "Anna is sleeping in the park.", "安娜正在公园里睡觉。"),
    (
        event("future", "go to", object=PARK, time=Time(W("tomorrow"))),
        "Anna will go to the park tomorrow.",
        "安娜明天会去公园。",
    ),
    (
        event("habit", "eat", object=noun_plural("apple"), frequency=W("often")),
        "Anna often eats apples.",
        "安娜经常吃苹果。",
    ),
    (event("modal", "drive", modal=W("can")), "Anna can drive.", "安娜会开车。"),
    # negation: 没 without 了, 不, 没有, 从来没……过
    (event("past", "buy", object=thing("book", "a"), negative=True), "Anna did not buy a book.", "安娜没买书。"),
    (
        event("habit", "drink", object=thing("coffee", ""), negative=True),
        "Anna does not drink coffee.",
        "安娜不喝咖啡。",
    ),
    (event("present", "have", object=CAT, negative=True), "Anna does not have a cat.", "安娜没有猫。"),
    (
        event("experience", "see", object=noun_plural("panda"), negative=True),
        "Anna has never seen pandas.",
        "安娜从来没看见过熊猫。",
    ),
    (event("progressive", "cry", negative=True), "Anna is not crying.", "安娜没在哭。"),
    (event("modal", "leave", modal=W("want to"), negative=True), "Anna does not want to leave.", "安娜不想离开。"),
    # 把 with a result or a place; two objects
    (event("past", "close", object=thing("door"), order=BA), "Anna closed the door.", "安娜把门关上了。"),
    (event("past", "close", object=thing("door"), order=NO_BA), "Anna closed the door.", "安娜关上了那扇门。"),
    (event("past", "wake * up", object=Pronoun("he"), order=BA), "Anna woke him up.", "安娜把他叫醒了。"),
    (
        event("past", "put", object=thing("cup"), goal=TABLE),
        "Anna put the cup on the table.",
        "安娜把杯子放在了桌子上。",
    ),
    (event("past", "give", object=thing("book", "a"), recipient=TOM), "Anna gave Tom a book.", "安娜给了汤姆一本书。"),
    (
        event("past", "give", object=thing("book"), recipient=TOM, order=BA, dative=Choice("en dative", False)),
        "Anna gave the book to Tom.",
        "安娜把书给了汤姆。",
    ),
    # noun phrases: 的, kinship, units, pairs, coordination, relative clauses
    (event("present", "love", object=Thing(W("mother"), owner=MINE)), "Anna loves my mother.", "安娜爱我妈妈。"),
    (
        event("present", "like", object=Thing(W("car"), adjective=W("new"), owner=MINE)),
        "Anna likes my new car.",
        "安娜喜欢我的新汽车。",
    ),
    (
        event("present", "like", object=Thing(W("car"), owner=Thing(W("mother"), owner=TOM))),
        "Anna likes Tom's mother's car.",
        "安娜喜欢汤姆的妈妈的汽车。",
    ),
    (
        event("present", "like", object=thing("flower", "this", plural=True, adjective=W("beautiful"))),
        "Anna likes these beautiful flowers.",
        "安娜喜欢这些漂亮的花。",
    ),
    (event("past", "drink", object=Thing(W("tea"), "", False, 2)), "Anna drank two cups of tea.", "安娜喝了两杯茶。"),
    (event("past", "buy", object=thing("shoes", "a", plural=True)), "Anna bought a pair of shoes.", "安娜买了一双鞋。"),
    (
        event("past", "eat", object=Both(thing("apple", "a"), noun_plural("pear", 3))),
        "Anna ate an apple and three pears.",
        "安娜吃了一个苹果和三个梨。",
    ),
    (event("past", "read", object=BOUGHT_BOOK), "Anna read the book that Tom bought.", "安娜看了汤姆买的那本书。"),
    (
        event("past", "see", object=GIRL),
        "Anna saw the girl who often reads novels.",
        "安娜看见了那个经常看小说的女孩。",
    ),
    # other clauses
    (Quality(W("hot"), thing("soup", "this")), "This soup is hot.", "这碗汤很烫。"),
    (Quality(W("hot"), thing("tea"), "too"), "The tea is too hot.", "茶太烫了。"),
    (Quality(W("tall"), Pronoun("they"), negative=True), "They are not tall.", "他们不高。"),
    (Quality(W("tired"), Pronoun("I"), past=True, time=YESTERDAY), "I was tired yesterday.", "我昨天很累。"),
    (Comparison(ANNA, W("tall"), TOM, "more"), "Anna is taller than Tom.", "安娜比汤姆高。"),
    (Comparison(ANNA, W("tall"), Pronoun("he"), "much"), "Anna is much taller than him.", "安娜比他高得多。"),
    (Comparison(ANNA, W("tall"), TOM, "less"), "Anna is not as tall as Tom.", "安娜没有汤姆高。"),
    (Location(Thing(W("key"), owner=MINE), Place(W("bed"), "under")), "My key is under the bed.", "我的钥匙在床下面。"),
    (Existence(CAT, Place(W("garden"))), "There is a cat in the garden.", "花园里有一只猫。"),
    (Identity(ANNA, thing("engineer", "a")), "Anna is an engineer.", "安娜是工程师。"),
    (Report(ANNA, W("think"), Quality(W("busy"), TOM)), "Anna thinks that Tom is busy.", "安娜觉得汤姆很忙。"),
    (
        Because(ANNA, Event("past", W("cry")), Quality(W("sad"), past=True)),
        "Anna cried because she was sad.",
        "因为安娜很难过，所以她哭了。",
    ),
    # questions: the word order changes in English only
    (Sentence(event("past", "buy", object=thing("book", "a")), "yes-no"), "Did Anna buy a book?", "安娜买书了吗？"),
    (
        Sentence(event("past", "close", object=thing("door"), order=BA), "yes-no"),
        "Did Anna close the door?",
        "安娜把门关上了吗？",
    ),
    (
        Sentence(event("experience", "go to", object=PARK), "yes-no"),
        "Has Anna ever been to the park?",
        "安娜去过公园吗？",
    ),
    (Sentence(Quality(W("tall"), TOM), "yes-no"), "Is Tom tall?", "汤姆高吗？"),
    (
        Sentence(event("past", "buy", Asked("who"), object=thing("book")), "asked"),
        "Who bought the book?",
        "谁买了那本书？",
    ),
    (Sentence(event("past", "buy", object=Asked("what")), "asked"), "What did Anna buy?", "安娜买了什么？"),
    (Sentence(event("past", "sleep", place=Asked("where")), "asked"), "Where did Anna sleep?", "安娜是在哪里睡觉的？"),
    (Sentence(event("future", "leave", time=Asked("when")), "asked"), "When will Anna leave?", "安娜什么时候会离开？"),
    # the less usual wording, where Chinese leaves a choice
    (
        event("future", "go to", object=PARK, wording=Choice("zh future", False)),
        "Anna will go to the park.",
        "安娜要去公园。",
    ),
    (event("past", "run", wording=Choice("zh split", False)), "Anna ran.", "安娜跑了步。"),
    (
        event("progressive", "sleep", place=Place(W("park"), inside=Choice("zh inside", False))),
        "Anna is sleeping in the park.",
        "安娜正在公园睡觉。",
    ),
    (
        event("past", "run", Both(ANNA, TOM, Choice("zh and", False))),
        "Anna and Tom ran.",
        "安娜跟汤姆跑步了。",
    ),
    (
        Because(ANNA, event("past", "cry", None), Quality(W("sad"), past=True), wording=Choice("zh so", False)),
        "Anna cried because she was sad.",
        "因为安娜很难过，她哭了。",
    ),
]


@pytest.mark.parametrize(("meaning", "en", "zh"), SENTENCES, ids=[en for _, en, _ in SENTENCES])
def test_each_construction_is_said_as_a_native_speaker_would(meaning: Any, en: str, zh: str) -> None:
    sentence = meaning if isinstance(meaning, Sentence) else Sentence(meaning)
    assert English().realise(sentence).text == en
    assert Chinese().realise(sentence).text == zh


def test_draws_keep_the_rules_of_both_languages(corpus: ParallelCorpus) -> None:
    for pair in corpus.train[:5_000]:
        assert re.fullmatch(r"[A-Z][A-Za-zé' ,-]+[.?]", pair.en_text), pair.en_text
        assert re.fullmatch(r"[\u4e00-\u9fff，]+[。？]", pair.zh_text), pair.zh_text
        assert pair.en_text.endswith("?") == pair.zh_text.endswith("？")
        for article, word in re.findall(r"\b(an?) (\w+)", pair.en_text.lower()):
            assert (article == "an") == (
                (word[0] in "aeiou" and word not in ("uniform", "university", "useful")) or word == "hour"
            ), pair
        assert "二" not in pair.zh_text  # two of something is 两
        if pair.meaning.mood == "statement" and isinstance(pair.meaning.clause, Event) and depth(pair.meaning) == 0:
            clause = pair.meaning.clause
            assert ("了" in pair.zh) == (clause.tense == "past" and not clause.negative), pair
            if clause.goal or (
                clause.order and clause.order.usual
            ):  # 把: only definite objects; the verb has a result, a place or a recipient
                things = [part for _, part in children(clause.object)] if isinstance(clause.object, Both) else []
                for what in things or [clause.object]:
                    assert not isinstance(what, Thing) or what.determiner in ("the", "this", "that") or what.owner


def test_aligned_words_mean_the_same() -> None:
    meaning = Sentence(event("past", "buy", object=noun_plural("book", 2), place=Place(W("shop")), time=YESTERDAY))
    en, zh = English().realise(meaning), Chinese().realise(meaning)
    pairs = {(en.tokens[i], zh.tokens[j]) for i, j in align(en, zh)}
    assert pairs == {
        ("Anna", "安娜"), ("bought", "买"), ("bought", "了"), ("two", "两"), ("two", "本"), ("books", "书"),
        ("in", "在"), ("in", "里"), ("shop", "商店"), ("yesterday", "昨天"), (".", "。"),
    }  # fmt: skip


def test_every_word_of_the_lexicon_is_aligned(corpus: ParallelCorpus) -> None:
    # Function words may go without a partner; nouns, names, verbs, adjectives and adverbs may not.
    function_words = {"the", "a", "an", "that", "is", "are", "am", "was", "were", "do", "does", "did", "to", "of"}
    for pair in corpus.train[:3_000]:
        assert pair.alignment == tuple(sorted(set(pair.alignment)))
        assert all(i < len(pair.en) and j < len(pair.zh) for i, j in pair.alignment)
        alone = {word for i, word in enumerate(pair.en) if i not in {i for i, _ in pair.alignment}}
        assert alone <= function_words | {",", "cup", "bowl", "glass", "piece", "bottle", "pair"}, (alone, pair)
        alone = {word for j, word in enumerate(pair.zh) if j not in {j for _, j in pair.alignment}}
        assert alone <= {"把", "，"}, (alone, pair)


def test_references_are_all_the_wordings_with_their_probabilities(corpus: ParallelCorpus) -> None:
    for pair in corpus.test[:300]:
        for language, text, log_p in (
            ("zh", pair.zh_text, pair.conditional_log_prob_zh),
            ("en", pair.en_text, None),
        ):
            wordings = dict(references(pair.meaning, language))
            assert len(wordings) == len(references(pair.meaning, language))  # no two look the same
            assert math.isclose(math.fsum(wordings.values()), 1, abs_tol=1e-9)
            assert best(pair.meaning, language) == max(wordings, key=lambda said: wordings[said])
            assert text in wordings
            if log_p is not None:
                assert math.isclose(wordings[text], math.exp(log_p), rel_tol=1e-9)
    with pytest.raises(ValueError, match=r"language is 'de', expected one of \('en', 'zh'\)"):
        references(corpus.test[0].meaning, "de")


def test_a_meaning_can_be_read_and_traced() -> None:
    meaning = Sentence(event("past", "buy", object=noun_plural("book", 2)))
    assert repr(meaning) == (
        "Sentence(clause=Event(tense='past', verb='buy', subject=Name(name='Anna'), "
        "object=Thing(noun='book', plural=True, count=2)))"
    )
    assert outline(meaning).splitlines()[1:3] == ["  clause: Event tense=past", "    verb: buy"]
    assert re.split(r"\s{2,}", trace(meaning).splitlines()[-2].strip()) == [
        "object: Thing",
        "two books",
        "·",
        "两 本 书",
    ]


# The corpus --------------------------------------------------------------------------------------------------------


def test_no_sentence_is_in_two_splits_in_either_language(corpus: ParallelCorpus) -> None:
    drawn = {"train": 20_000, "valid": 1_000, "test": 1_000, "test_composition": 1_000}
    for language in ("en", "zh"):
        texts = [text for split in drawn for text in corpus.texts(split, language)]
        assert len(set(texts)) == len(texts) == sum(drawn.values())


def test_composition_shows_only_what_train_never_does(corpus: ParallelCorpus) -> None:
    for split in (corpus.train, corpus.valid, corpus.test):
        for pair in split:
            assert depth(pair.meaning) <= 2
            assert corpus.held_out.isdisjoint(verb_noun_pairs(pair.meaning))
    assert len(corpus.held_out) > 100
    for pair in corpus.test_composition[:500]:
        assert depth(pair.meaning) == 3
    for pair in corpus.test_composition[500:]:
        assert not corpus.held_out.isdisjoint(verb_noun_pairs(pair.meaning))
    known = {word for pair in corpus.train for word in pair.en}  # the words are known, only the combination is new
    assert len({word for pair in corpus.test_composition for word in pair.en} - known) <= 5


def test_every_word_is_frequent_enough_to_learn_and_sentences_are_short(corpus: ParallelCorpus) -> None:
    counts: Counter[str] = Counter()

    def visit(node: Any) -> None:
        if isinstance(node, Word):
            counts[node.lemma] += 1
        for _, part in children(node):
            visit(part)

    for pair in corpus.train:
        visit(pair.meaning)
    words = lexicon()
    for table in (words.nouns, words.verbs, words.adjectives, words.adverbs, words.names):
        for lemma in table:
            assert counts[lemma] >= 25, lemma
    assert 7 <= sum(len(pair.en) for pair in corpus.train) / len(corpus.train) <= 12


def test_the_best_translator_scores_high_against_one_reference(corpus: ParallelCorpus) -> None:
    import sacrebleu

    answers = [best(pair.meaning, "zh") for pair in corpus.test]
    score = sacrebleu.corpus_bleu(answers, [corpus.texts("test", "zh")], tokenize="zh").score
    assert 92 < score < 100


SHA = "15ccdce29b7f12a9589072d81abfd58e6c4f0ff22c122c460ca97f2d4ddd8b40"
SCRIPT = """
import hashlib
from course_lib.microworld import parallel_corpus
corpus = parallel_corpus(seed=7, train=211, valid=31, test=37, composition=41)
pairs = [p for s in ("train", "valid", "test", "test_composition") for p in getattr(corpus, s)]
text = "".join(f"{p.en_text}\\t{p.zh_text}\\t{p.log_prob:.9f}\\t{p.alignment}\\n" for p in pairs)
print(hashlib.sha256(text.encode()).hexdigest())
"""


@pytest.mark.parametrize("hash_seed", ["0", "4711"])
def test_a_seed_gives_the_same_corpus_everywhere(hash_seed: str) -> None:
    # The order of a set of strings depends on PYTHONHASHSEED; the stored digest also spans machines and versions.
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == SHA, "the corpus has changed: if that was meant, store the new digest"


def test_draws_stream_and_can_be_stored() -> None:
    stream, again = draws(seed=2), draws(seed=2)
    first = next(stream)
    assert first == next(again)
    assert pickle.loads(pickle.dumps(first)) == first
    assert next(stream) != first


def test_a_wrong_split_or_language_is_named(corpus: ParallelCorpus) -> None:
    with pytest.raises(ValueError, match="split is 'dev', expected one of"):
        corpus.texts("dev", "en")
    with pytest.raises(ValueError, match="language is 'de', expected one of"):
        corpus.texts("train", "de")


# The tables --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "old", "new", "message"),
    [
        ("nouns", "cat\t猫\tpet\t只", "cat\t猫\tpet\t2", r"nouns.tsv, line \d+, column 'measure': '2' does not match"),
        ("nouns", "dog\t狗", "cat\t狗", r"nouns.tsv, line \d+, column 'english': 'cat' is there twice"),
        ("nouns", "english\tchinese", "english\tzh", r"nouns.tsv, line \d+: the header is .*, expected"),
        ("verbs", "sleep\t睡+觉\tintransitive", "sleep\t睡+觉", r"verbs.tsv, line \d+: 9 cells, expected 10"),
        ("verbs", "\tfruit, dish\t", "\tfruit, dishes\t", r"verbs.tsv, line \d+, column 'object': 'dishes' is not in"),
        (
            "reasons",
            "hungry\t",
            "hangry\t",
            r"reasons.tsv, line \d+, column 'adjective': 'hangry' is not in the lexicon",
        ),
    ],
)
def test_a_mistake_in_a_table_is_reported_with_its_place(
    tmp_path: Path, table: str, old: str, new: str, message: str
) -> None:
    folder = tmp_path / "microworld"
    shutil.copytree(DATA, folder)
    path = folder / f"{table}.tsv"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(TableError, match=message):
        read_lexicon(folder)


def test_the_tables_have_a_licence_line() -> None:
    for path in sorted(DATA.glob("*.tsv")):
        assert "CC0" in path.read_text(encoding="utf-8").splitlines()[0], path.name


def test_hand_written_pairs_are_checked_and_lie_outside_the_grammar(tmp_path: Path, corpus: ParallelCorpus) -> None:
    with pytest.raises(FileNotFoundError, match=r"natural.tsv is missing.*\['en', 'zh'\]"):
        natural_pairs(tmp_path / "natural.tsv")
    bad = tmp_path / "natural.tsv"
    bad.write_text("# CC0\nen\tzh\nIt is raining.\t下雨了。\nIt is raining.\tIt is raining.\n", encoding="utf-8")
    with pytest.raises(TableError, match=r"natural.tsv, line 4, column 'zh'"):
        natural_pairs(bad)
    assert len(corpus.test_natural) >= 300
    assert read_table(DATA / "natural.tsv", NATURAL_COLUMNS)
    assert set(corpus.texts("test_natural", "en")).isdisjoint(corpus.texts("train", "en"))
