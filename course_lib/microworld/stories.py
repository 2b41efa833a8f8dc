"""Stories: what happens in the town, told in two languages, with the exact probability of every word.

All that a `State` holds follows from the sentences told so far, in either language. Whoever has read them therefore
knows the distribution of the next sentence exactly, and with it that of the next word: no language model can have a
lower expected loss. The sentences are meanings like those of the parallel corpus, said by the same realisers.

>>> story = next(stories(seed=1))
>>> story.lines[0].en_text, story.lines[0].zh_text
('Frank was in the theatre.', '弗兰克在剧院里。')
>>> len(token_log_probs(story, "en")) == len(story.en) + 1  # one for each word, one for the end
True
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from random import Random
from typing import Any, NamedTuple, TypeVar

from course_lib.microworld.chinese import Chinese
from course_lib.microworld.corpora import LANGUAGES, no_garbage_collection
from course_lib.microworld.english import English
from course_lib.microworld.events import NEW, SLOTS, Plot, State, Step
from course_lib.microworld.meanings import (
    USUAL,
    Asked,
    Choice,
    Event,
    Existence,
    Location,
    Name,
    Place,
    Pronoun,
    Quality,
    Sentence,
    Thing,
    Word,
)

END = "<eos>"  # what follows the last word of a story, written as in `course_lib.tokenizers`
PRONOUNS = ("he", "she")
SUBJECT_PRONOUN, OBJECT_PRONOUN = 0.85, 0.5  # how often "she" is said for Anna where it can only be Anna
VERBS = {
    "have": "have",
    "go": "go to",
    "meet": "meet",
    "take": "take * away",
    "find": "find",
    "give": "give",
    "leave": "leave/thing",
    "lose": "lose",
    "hide": "hide",
    "want": "want",
    "thank": "thank",
}


class Wording(NamedTuple):
    """One way to say a meaning in one language, and how likely it is given the meaning."""

    tokens: tuple[str, ...]
    text: str
    probability: float


class Line(NamedTuple):
    """One sentence of a story.

    `log_prob` is ln p(meaning and both wordings | the story so far) in nats; `wording_en` and `wording_zh` are the
    logarithms of the probabilities of the wordings alone, given the meaning.
    """

    step: Step
    meaning: Sentence
    en: tuple[str, ...]
    zh: tuple[str, ...]
    en_text: str
    zh_text: str
    log_prob: float
    wording_en: float
    wording_zh: float

    @property
    def log_prob_en(self) -> float:
        """ln p(English sentence | the story so far)."""
        return self.log_prob - self.wording_zh

    @property
    def log_prob_zh(self) -> float:
        """ln p(Chinese sentence | the story so far)."""
        return self.log_prob - self.wording_en


@dataclass(frozen=True, slots=True)
class Story:
    """A story in two languages. `log_prob_end` is ln p(that it ends here), which is part of every total."""

    lines: tuple[Line, ...]
    log_prob_end: float

    @property
    def en(self) -> tuple[str, ...]:
        """The English tokens."""
        return tuple(token for line in self.lines for token in line.en)

    @property
    def zh(self) -> tuple[str, ...]:
        """The Chinese tokens."""
        return tuple(token for line in self.lines for token in line.zh)

    @property
    def en_text(self) -> str:
        """The English text."""
        return " ".join([line.en_text for line in self.lines])

    @property
    def zh_text(self) -> str:
        """The Chinese text."""
        return "".join([line.zh_text for line in self.lines])

    @property
    def log_prob(self) -> float:
        """ln p(the story in both languages), in nats."""
        return math.fsum(line.log_prob for line in self.lines) + self.log_prob_end

    @property
    def log_prob_en(self) -> float:
        """ln p(the English story): what a language model of English cannot beat on average."""
        return math.fsum(line.log_prob_en for line in self.lines) + self.log_prob_end

    @property
    def log_prob_zh(self) -> float:
        """ln p(the Chinese story)."""
        return math.fsum(line.log_prob_zh for line in self.lines) + self.log_prob_end


class Town(Plot):
    """The town that stories are drawn from. Its arguments are those of `Plot`."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.pronouns = {name: "she" if entry.gender == "f" else "he" for name, entry in self.words.names.items()}
        self.speakers = {"en": English(self.words), "zh": Chinese(self.words)}
        # What has been said once: sentences repeat, and stories share them.
        self._meanings: dict[tuple[Step, str, bool, bool], Sentence] = {}
        self._wordings: dict[tuple[Step, str, str], tuple[Wording, ...]] = {}
        self._filled: dict[tuple[Step, str, str], list[tuple[tuple[str, ...], tuple[Wording, ...]]]] = {}

    # How a step is told -----------------------------------------------------------------------------------------

    def tellings(self, step: Step, last: Step) -> list[tuple[Step, float]]:
        """A step with "she" or "he" in the place of names, or not, and how likely each is.

        A pronoun stands for somebody in the sentence before, if nobody else there is of the same gender; and an
        object must not be taken for the subject.
        """
        before = {name: self.pronouns[name] for name in (last.who, last.whom) if name}
        if len(set(before.values())) < len(before):  # two women, or two men
            return [(step, 1.0)]
        tellings, she, him = [(step, 1.0)], before.get(step.who), before.get(step.whom)
        if him and him != self.pronouns[step.who]:
            tellings = [(step, 1 - OBJECT_PRONOUN), (step._replace(whom=him), OBJECT_PRONOUN)]
        if she:
            tellings = [
                (told._replace(who=who), p * q)
                for told, p in tellings
                for who, q in ((she, SUBJECT_PRONOUN), (step.who, 1 - SUBJECT_PRONOUN))
            ]
        return tellings

    def verb(self, step: Step, state: State) -> str:
        """The verb of a step. What lies in a shop and was nobody's is bought; a book in a library is borrowed."""
        if step.kind == "take" and step.what in state.unused:
            place = state.things[step.what]
            if place in self.stores:
                return "buy"
            if place == "library" and self.words.nouns[step.what].kind == "print":
                return "borrow"
        return VERBS.get(step.kind, "")

    @staticmethod
    def person(name: str) -> Name | Pronoun | None:
        """Anna, or she; None for ""."""
        return (Pronoun(name) if name in PRONOUNS else Name(Word(name))) if name else None

    def meaning(self, told: Step, verb: str, en: bool = True, zh: bool = True) -> Sentence:
        """What a step means; `en` and `zh`: whether the usual wording is used, where the language has a choice."""
        key = told, verb, en, zh
        if key not in self._meanings:
            self._meanings[key] = Sentence(self._clause(told, verb, en, zh))
        return self._meanings[key]

    def _clause(self, told: Step, verb: str, en: bool, zh: bool) -> Any:
        kind, who, what, where, whom = told
        subject, other = self.person(who), self.person(whom)
        there = Place(Word(where)) if where else None
        if kind == "be":
            return Location(subject, there, past=True)
        if kind == "feel":
            return Quality(Word(what, Choice("zh synonym", zh)), subject, past=True)
        if kind == "go":
            return Event("past", Word(verb), subject, object=there)
        if kind == "meet":
            return Event("past", Word(verb, Choice("zh synonym", zh)), subject, object=other)
        if kind == "thank":
            return Event("past", Word(verb), subject, object=other)
        thing = self.thing(what, "a" if kind in ("there", "have") else "the")
        if kind == "there":
            return Existence(thing, Place(Word(where)), past=True)
        if kind in ("have", "want"):
            return Event("past state", Word(verb), subject, object=thing)
        if kind in ("leave", "hide"):
            return Event("past", Word(verb), subject, object=thing, goal=there)
        order = Choice("zh ba", zh) if "zh" in self.usual(told, verb) else None
        if kind == "give":
            dative = Choice("en dative", en)
            return Event("past", Word(verb), subject, False, thing, other, order=order, dative=dative)
        return Event("past", Word(verb), subject, object=thing, place=there, order=order)

    def thing(self, noun: str, determiner: str = "the") -> Thing:
        """The ball, a pair of gloves."""
        return Thing(Word(noun), determiner, self.words.nouns[noun].number == "plural")

    @staticmethod
    def usual(told: Step, verb: str) -> dict[str, float]:
        """How likely the usual wording is, for the languages that have a choice."""
        if told.kind == "give":
            return {"en": USUAL["en dative"], "zh": USUAL["zh ba"]}
        if verb in ("take * away", "lose"):
            return {"zh": USUAL["zh ba"]}
        return {"zh": USUAL["zh synonym"]} if told.kind in ("feel", "meet") else {}

    def wordings(self, told: Step, verb: str, language: str) -> tuple[Wording, ...]:
        """The ways to say a step in one language, the usual one first."""
        key = told, verb, language
        if key not in self._wordings:
            usual = self.usual(told, verb).get(language, 1.0)
            ways = []
            for choice, p in ((True, usual), (False, 1 - usual)):
                if p > 0:
                    said = self.speakers[language].realise(self.meaning(told, verb, **{language: choice}))
                    ways.append(Wording(said.tokens, said.text, p))
            self._wordings[key] = tuple(ways)
        return self._wordings[key]

    # Stories and their probabilities ----------------------------------------------------------------------------

    def draw(self, random: Random) -> Story:
        """Draw a story. Only `random.random()` is used, so that a seed gives the same story everywhere."""
        chance, state = random.random, State()
        lines: list[Line] = []
        while True:
            ending = self.ending(state)
            if ending > 0 and chance() < ending:
                return Story(tuple(lines), math.log(ending))
            step, p = _pick(self.options(state), chance())
            for slot, kind in SLOTS if NEW in step else ():
                if getattr(step, slot) == NEW:
                    words = self.unmentioned(state, kind)
                    step = step._replace(**{slot: words[int(chance() * len(words))]})
                    p /= len(words)
            told, q = _pick(self.tellings(step, state.last), chance())
            verb = self.verb(step, state)
            ways_en, ways_zh = self.wordings(told, verb, "en"), self.wordings(told, verb, "zh")
            en, zh = (ways[chance() >= ways[0].probability] for ways in (ways_en, ways_zh))
            lines.append(
                Line(
                    step=step,
                    meaning=self.meaning(told, verb, en is ways_en[0], zh is ways_zh[0]),
                    en=en.tokens,
                    zh=zh.tokens,
                    en_text=en.text,
                    zh_text=zh.text,
                    log_prob=math.log((1 - ending) * p * q * en.probability * zh.probability),
                    wording_en=math.log(en.probability),
                    wording_zh=math.log(zh.probability),
                )
            )
            state = state.after(step)

    def next_sentences(self, state: State, language: str) -> list[tuple[Wording, float]]:
        """Every sentence that can come next, and p(sentence | the story so far); what lacks to 1 is the end."""
        sentences: list[tuple[Wording, float]] = []
        going_on, known = 1 - self.ending(state), {*state.people, *state.things, *state.places}
        for step, p in self.options(state) if going_on else ():
            verb = self.verb(step, state)
            for told, q in self.tellings(step, state.last):
                if NEW not in told:
                    ways = self.wordings(told, verb, language)
                else:
                    filled = [new for words, new in self._completions(told, verb, language) if known.isdisjoint(words)]
                    ways, q = tuple(way for new in filled for way in new), q / len(filled)
                p_told = going_on * p * q
                sentences += [(way, p_told * way.probability) for way in ways]
        return sentences

    def _completions(self, told: Step, verb: str, language: str) -> list[tuple[tuple[str, ...], tuple[Wording, ...]]]:
        """Every way to fill in what is new in a step: the words, and how the step is said with them."""
        key = told, verb, language
        if key not in self._filled:
            slots = [(slot, self.new[kind]) for slot, kind in SLOTS if getattr(told, slot) == NEW]
            self._filled[key] = [
                (
                    words,
                    self.wordings(
                        told._replace(**{s: w for (s, _), w in zip(slots, words, strict=True)}), verb, language
                    ),
                )
                for words in product(*(words for _, words in slots))
            ]
        return self._filled[key]

    def next_tokens(self, state: State, language: str, begun: Sequence[str] = ()) -> dict[str, float]:
        """The exact distribution of the next token after a story in this state and the first words of a sentence."""
        _check(language)
        begun, masses = tuple(begun), {}
        if not begun and (ending := self.ending(state)):
            masses[END] = ending
        for way, p in self.next_sentences(state, language):
            if way.tokens[: len(begun)] == begun:
                word = way.tokens[len(begun)]
                masses[word] = masses.get(word, 0.0) + p
        if not masses:
            raise ValueError(f"no sentence that can come next begins with {begun}")
        total = math.fsum(masses.values()) if begun else 1.0
        return {word: mass / total for word, mass in masses.items()}


T = TypeVar("T")


def _pick(options: Sequence[tuple[T, float]], chance: float) -> tuple[T, float]:
    """The option that `chance`, uniform in [0, 1), falls on."""
    for option in options:
        chance -= option[1]
        if chance < 0:
            return option
    return options[-1]  # the probabilities add up to a little less than 1


@cache
def default_town() -> Town:
    """The town of the course."""
    return Town()


def stories(seed: int = 0, town: Town | None = None) -> Iterator[Story]:
    """An endless stream of independent stories."""
    town, random = town or default_town(), Random(seed)
    while True:
        yield town.draw(random)


def token_log_probs(
    story: Story, language: str, town: Town | None = None, split: Callable[[str], Sequence[str]] | None = None
) -> list[float]:
    """ln p(token | all earlier tokens) of every token of a story, then that of its end: exact, in nats.

    Args:
        story: a story of `town` (by default that of the course).
        language: "en" or "zh".
        split: how a text is cut into tokens, e.g. `tokenizer.split`, if not into `story.en` or `story.zh`. It must cut
            a story at the ends of its sentences, whatever follows (words, characters, BPE that keeps within words).

    Raises:
        ValueError: for another language, a story that this town cannot tell, or a token across two sentences.
    """
    _check(language)
    town, state, log_probs, cut = town or default_town(), State(), [], []
    known: dict[str, Sequence[str]] = {}  # the tokens of a text, since most sentences are possible more than once

    def tokens(words: tuple[str, ...], text: str) -> Sequence[str]:
        if split is None:
            return words
        text = " " + text if language == "en" and state.length else text
        if text not in known:
            known[text] = split(text)
        return known[text]

    for line in story.lines:
        words, text = (line.en, line.en_text) if language == "en" else (line.zh, line.zh_text)
        left = [(tokens(way.tokens, way.text), p) for way, p in town.next_sentences(state, language)]
        before = 1.0
        for i, token in enumerate(tokens(words, text)):
            left = [(other, p) for other, p in left if len(other) > i and other[i] == token]
            if not left:
                raise ValueError(f"sentence {state.length + 1}, {text!r}, cannot come here in this town")
            mass = math.fsum([p for _, p in left])
            log_probs.append(math.log(mass / before))
            before = mass
            cut.append(token)
        state = state.after(line.step)
    if split is not None and cut != list(split(story.en_text if language == "en" else story.zh_text)):
        raise ValueError(f"{split} cuts the story across two sentences; use one that keeps within a sentence")
    ending = town.ending(state)
    if not ending:
        raise ValueError(f"a story cannot end after {state.length} sentences in this town")
    return [*log_probs, math.log(ending)]


def _check(language: str) -> None:
    if language not in LANGUAGES:
        raise ValueError(f"language is {language!r}, expected one of {LANGUAGES}")


# What is true in a story ------------------------------------------------------------------------------------------


def states(story: Story) -> list[State]:
    """What is the case before the first sentence, and after each: `states(story)[k]` is what k sentences tell."""
    found = [State()]
    for line in story.lines:
        found.append(found[-1].after(line.step))
    return found


def key_lines(story: Story) -> list[int]:
    """The numbers, from 0, of the sentences that a summary must keep.

    They are those that tell of a wish, and those after which something that anybody wishes for has changed hands, or
    is lost, forgotten or hidden.
    """
    found = states(story)
    return [
        i
        for i, (line, before, after) in enumerate(zip(story.lines, found, found[1:], strict=False))
        if line.step.kind == "want"
        or (line.step.what in before.things and before.things != after.things and _wished(line.step.what, after))
    ]


def _wished(thing: str, state: State) -> bool:
    return any(what == thing for _, what in state.wishes)


class Question(NamedTuple):
    """A question about a state and its answer: a lemma, and in the words of both languages."""

    meaning: Sentence
    en: str
    zh: str
    answer: str
    answer_en: str
    answer_zh: str


def questions(state: State, town: Town | None = None) -> list[Question]:
    """What can be asked in a state: where everybody and everything is, who has what, who wants what.

    Who has a thing is asked if somebody has it; where it is, also while somebody carries it. What somebody wants is
    asked if it is one thing, and she knows that she does not have it.
    """
    town = town or default_town()
    asked: list[tuple[Any, Any, str]] = []  # the question's clause, what answers it, and the lemma of the answer
    for person, place in state.people.items():
        who = Name(Word(person))
        asked.append((Location(who, Asked("where")), Place(Word(place)), place))
        wanted = [what for name, what in state.wants if name == person and (name, what) not in state.missed]
        if len(wanted) == 1:
            want = Event("present", Word("want"), who, object=Asked("what"))
            asked.append((want, town.thing(wanted[0]), wanted[0]))
    for lemma, holder in state.things.items():
        thing, place = town.thing(lemma), state.where(lemma)
        asked.append((Location(thing, Asked("where")), Place(Word(place)), place))
        if holder in state.people:
            have = Event("present", Word("have"), Asked("who"), object=thing)
            asked.append((have, Name(Word(holder)), holder))

    def answer(language: str, node: Any) -> str:
        words = [word for word, _ in town.speakers[language].say(node)]
        return " ".join(words) if language == "en" else ("在" if isinstance(node, Place) else "") + "".join(words)

    return [
        Question(
            meaning := Sentence(clause, "asked"),
            town.speakers["en"].realise(meaning).text,
            town.speakers["zh"].realise(meaning).text,
            lemma,
            answer("en", node),
            answer("zh", node),
        )
        for clause, node, lemma in asked
    ]


# The corpus -------------------------------------------------------------------------------------------------------


@no_garbage_collection()
def story_corpus(
    seed: int = 0, train: int = 8_000, valid: int = 500, test: int = 500, town: Town | None = None
) -> dict[str, tuple[Story, ...]]:
    """Stories by split: the same seed gives the same stories everywhere, and no story is there twice.

    The default is about 2 MB of English; 40,000 stories are about 10 MB. Test is drawn first, then valid, then train:
    test does not depend on the sizes of the others, and its mean log-probability estimates the entropy of the town.

    Raises:
        ValueError: for a negative size.
    """
    sizes = {"test": test, "valid": valid, "train": train}
    for split, size in sizes.items():
        if size < 0:
            raise ValueError(f"{split} is {size}, expected a number of stories, 0 or more")
    source, corpus = stories(seed, town), {}
    seen: set[str] = set()
    for split, size in sizes.items():
        found: list[Story] = []
        while len(found) < size:
            story = next(source)
            texts = {story.en_text, story.zh_text}
            if seen.isdisjoint(texts):
                found.append(story)
                seen |= texts
        corpus[split] = tuple(found)
    return {split: corpus[split] for split in ("train", "valid", "test")}
