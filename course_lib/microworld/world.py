"""How likely each meaning is: sentences and clauses, one method per construction.

To add a construction: write its dataclass in `meanings.py`, a method here that returns its rules, the name of that
method in `World.clause`, and a method named after the dataclass in `english.py` and in `chinese.py`. The circles `c`
and the depths `d` are explained in `phrases.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

from course_lib.microworld.grammar import Rule, S, Symbol
from course_lib.microworld.lexicon import Verb
from course_lib.microworld.meanings import (
    Asked,
    Because,
    Both,
    Comparison,
    Event,
    Existence,
    Identity,
    Location,
    Quality,
    Relative,
    Report,
    Sentence,
)
from course_lib.microworld.phrases import ANY, FRAMES, GENERAL, KNOWN, NEW, ONE, PEOPLE, PLACES, Mix, Phrases

# All numbers below are weights: only their ratios within a line count.
CLAUSES = {"event": 62, "state": 10, "have": 4, "quality": 17, "location": 4, "existence": 4, "identity": 4}
TENSES = {  # affirmative, negative
    "past": (30, 8),
    "experience": (7, 3),
    "progressive": (14, 2),
    "future": (11, 3),
    "habit": (15, 4),
    "modal": (12, 3),
}
TENSE_LETTERS = {"past": "P", "experience": "E", "progressive": "G", "future": "F", "habit": "H", "modal": "MC"}
TIMED = {"past": 0.45, "future": 0.5, "progressive": 0.12, "modal": 0.15}  # how often it is said when
MANNERED = ("past", "progressive", "future")  # tenses in which it may be said how
QUESTIONS = {
    "who": {"past": 4, "progressive": 2, "future": 2},
    "what": {"past": 3, "progressive": 1, "future": 1, "habit": 1},
    "where": {"past": 2, "habit": 1, "future": 1},
    "when": {"past": 2, "future": 2},
}
OBJECTS: dict[str, Mix] = {  # how definite the object of a verb is, by tense, or by verb for verbs of state
    "past": (("new", 5), ("known", 4)),
    "experience": (("general", 3), ("known", 1)),
    "progressive": (("one", 3), ("known", 3), ("general", 2)),
    "future": (("new", 4), ("known", 4)),
    "habit": (("general", 8), ("known", 1)),
    "modal": (("new", 3), ("known", 4)),
    "present": (("general", 3), ("known", 4)),
    "want": (("new", 3), ("known", 2)),
    "need": (("new", 3), ("known", 1)),
    "have": NEW,
    "fear": GENERAL,
    "hate": GENERAL,
    "remember": KNOWN,
    "understand": KNOWN,
}
DEGREES = ((3, "very"), (1.2, "too"))
DOUBTED = ("think", "know/that", "believe")  # verbs of saying that are negated now and then
SAID = ("say", "guess")  # verbs of saying whose subject is somebody else
PORTABLE = ("class", "thing", "crockery", "toy", "print", "accessory", "fruit")
ANIMALS = {"pet": ("garden", "farm", "park", "street"), "wild": ("zoo", "forest")}  # and where they are


class World(Phrases):
    """The grammar of the micro-world. Its arguments are those of `Phrases`."""

    start = S("sentence")

    def entropy_en(self) -> float:
        """H(English) in nats a sentence: the expected loss of the best language model of English."""
        return self.entropy(self.start, "") + self.entropy(self.start, "en")

    def entropy_zh_given_en(self) -> float:
        """H(Chinese | English) in nats a sentence: the expected loss of the best translator."""
        return self.entropy(self.start, "zh")

    def sentence(self) -> list[Rule]:
        """A statement, a question, or a statement with its reason; each circle acts in half of them."""
        d = self.max_depth
        return [
            rule
            for c in (0, 1)
            for rule in (
                Rule(67, Sentence, clause=S("clause", "statement", c, d)),
                Rule(12, Sentence, clause=S("clause", "yes-no", c, min(d, 1)), mood="yes-no"),
                Rule(11, Sentence, clause=S("asked", c, min(d, 1)), mood="asked"),
                Rule(8, Sentence, clause=S("because", c)),
            )
        ]

    def clause(self, mood: str, c: int, d: int) -> list[Rule]:
        """Any clause with its own subject; `mood` is "statement", "nested" (within a report) or "yes-no"."""
        rules = [Rule(weight, part=S(kind, mood, c, d)) for kind, weight in CLAUSES.items()]
        if mood != "yes-no":
            rules.append(Rule(7, part=S("comparison", c, d)))
            if d > 0:
                rules.append(Rule(18 * self.nesting, part=S("report", c, d)))
        return rules

    # Events -----------------------------------------------------------------------------------------------------

    def event(self, mood: str, c: int, d: int) -> list[Rule]:
        """Somebody does something. The tense comes first, because not every verb is at home in every tense."""
        return [
            Rule(weight, part=S("tensed", tense, negative, mood, c, d))
            for tense, (affirmative, negated) in TENSES.items()
            for weight, negative in ((affirmative, False), (0 if mood == "yes-no" else negated, True))
        ]

    def tensed(self, tense: str, negative: bool, mood: str, c: int, d: int) -> list[Rule]:
        """The verb, among those that can have this tense in this kind of clause."""
        return [
            Rule(weight, part=S("predicate", verb.lemma, tense, negative, mood, c, d))
            for weight, verb in self.verbs(*FRAMES)
            if self.suits(verb, tense, mood)
        ]

    def suits(self, verb: Verb, tense: str, mood: str) -> bool:
        """Whether a verb can be drawn: it has this tense, and the lexicon has what must go with it."""
        people = not set(PEOPLE).isdisjoint(verb.object)
        if set(verb.tenses).isdisjoint(TENSE_LETTERS[tense]):
            return False
        if verb.object and not people and not self.pool(("verb", verb.lemma), None):
            return False
        if verb.frame == "put" and not self.words.members(verb.place):
            return False
        if mood in ("relative", "reason", "who", "where") and "person" not in verb.subject:
            return False
        if mood == "what":  # the object would tell the sense of "finish": 吃完, 看完
            return verb.frame in ("transitive", "result") and verb.lemma not in self.words.ambiguous_verbs
        if mood == "where":
            return bool(self.words.members(verb.place)) and verb.frame in ("transitive", "intransitive")
        return mood != "relative" or (verb.frame in ("transitive", "intransitive") and not people)

    def predicate(self, lemma: str, tense: str, negative: bool, mood: str, c: int, d: int) -> list[Rule]:
        """Everything around one verb: who, whom or what, where, when and how.

        `mood` is that of `clause`, or "relative" (the subject is the noun before), "reason" (a clause of `because`),
        "who", "what", "where" or "when" (what a question asks for).
        """
        verb, word = self.words.verbs[lemma], S("word", "verbs", lemma)
        asserted, inner = mood in ("statement", "nested"), mood in ("relative", "reason")
        fixed: dict[str, Any] = {"verb": word, "tense": tense, "negative": negative}
        if tense == "modal":
            fixed["modal"] = S("modal", verb.tenses, negative or not asserted)
        elif tense == "progressive" and not negative:
            fixed["wording"] = S("free", "zh progressive")
        elif negative and tense in ("past", "experience", "progressive"):
            fixed["wording"] = S("free", "zh not")
        elif tense == "future" and not negative and mood != "nested":  # no 要 after "hope"
            fixed["wording"] = S("free", "zh future")
        elif tense == "past" and verb.separable and mood in ("statement", "nested", "reason"):
            fixed["wording"] = S("free", "zh split")
        rules = []
        for weight, who, person in self.subjects(verb, mood, c, d):
            for share, what in self.objects(verb, tense, negative, mood, c, d):
                plain = what.pop("plain", inner)
                for part, when in self.times(verb, tense, negative, mood, plain):
                    around: dict[str, Any] = {}
                    if mood == "where":
                        around["place"] = Asked("where")
                    elif person and not plain and verb.frame != "put" and self.words.members(verb.place):
                        often = 0.25 if verb.object else 1.0 if tense == "experience" else 0.5
                        around["place"] = S("optional", often, S("place", verb.place, True))
                    if person and not plain and asserted and not negative and tense in MANNERED:
                        around["manner"] = S("manner", lemma)
                    rules.append(Rule(weight * share * part, Event, **fixed, **who, **what, **when, **around))
        return rules

    def subjects(self, verb: Verb, mood: str, c: int, d: int) -> Iterator[tuple[float, dict[str, Any], bool]]:
        """Who does it, as weights and fields of the event, and whether it is a person."""
        animals = tuple(kind for kind in verb.subject if kind != "person")
        if mood in ("relative", "reason"):  # it is said elsewhere
            yield 1, {}, True
        elif mood == "who":
            yield 1, {"subject": Asked("who")}, True
        elif "person" in verb.subject:
            yield 6, {"subject": S("person", c, d, True, mood not in ("statement", "nested"))}, True
        if self.pool(("class", *animals), c) and mood not in ("relative", "reason", "who", "where"):
            yield 1, {"subject": S("thing", ("class", *animals), c, KNOWN, c, d, True, False)}, False

    def objects(
        self, verb: Verb, tense: str, negative: bool, mood: str, c: int, d: int
    ) -> Iterator[tuple[float, dict[str, Any]]]:
        """What may follow a verb, as weights and fields of the event; "plain" is an event without place and time."""
        doubtful = negative or mood in ("yes-no", "when", "where")
        described = {"object": S("described_object", verb.lemma, 1 - c, d), "plain": True}
        possible = d > 0 and mood == "statement" and not negative and bool(self.described_object(verb.lemma, 1 - c, d))
        nested = self.nesting if possible else 0

        def what(mix: Mix) -> Symbol:
            return S("object", verb.lemma, mix, 1 - c, min(d, 1))

        if verb.frame == "intransitive":
            yield 1, {}
        elif verb.frame == "place":
            yield 1, {"object": S("place", verb.object)}
        elif mood == "what":
            yield 1, {"object": Asked("who" if verb.object == ("person",) else "what")}
        elif verb.frame == "put":
            yield 1, {"object": what(KNOWN), "goal": S("place", verb.place)}
        elif verb.frame == "ditransitive":
            to = {"recipient": S("person", 1 - c, 0, False), "dative": S("free", "en dative")}
            if "subject" in verb.object:  # teach somebody English
                yield 1, {"object": what(GENERAL), **to}
            else:
                yield 3, {"object": what(KNOWN), "order": S("free", "zh ba"), **to}
                yield 4 if not doubtful else 0, {"object": what(NEW), **to}
        elif verb.frame == "result":
            yield 5, {"object": what(KNOWN), "order": S("free", "zh ba")}
            yield nested, {"order": S("free", "zh ba"), **described}
            yield 1 if not doubtful else 0, {"object": what(ONE)}
        else:
            mix = OBJECTS.get(verb.lemma) or OBJECTS[tense]
            if doubtful and mix[0][0] in ("new", "one"):
                mix = tuple(("any" if style in ("new", "one") else style, w) for style, w in mix if style != "general")
            yield 8, {"object": what(mix)}
            yield 1.5 * nested if "known" in dict(mix) else 0, described.copy()

    def times(
        self, verb: Verb, tense: str, negative: bool, mood: str, plain: bool
    ) -> Iterator[tuple[float, dict[str, Any]]]:
        """When. Habits have a time phrase or an adverb of frequency, so that no tense looks like another."""
        asked, front = mood in ("yes-no", "who", "what", "where"), mood == "statement"
        able = tense == "modal" and "C" in verb.tenses  # can swim, at any time
        if mood == "when":
            yield 1, {"time": Asked("when")}
        elif tense == "habit" and not negative:
            yield 6, {"frequency": S("frequency", asked)}
            yield 0 if plain or asked else 4, {"time": S("time", "habit", front)}
            yield 6 if asked and mood != "who" else 0, {}
        elif plain or able or tense not in TIMED or mood in ("who", "what", "where"):
            yield 1, {}
        else:
            kind, often = "future" if tense == "modal" else tense, TIMED[tense]
            yield often, {"time": S("time", kind, front and tense != "progressive")}
            yield 1 - often, {}

    def object(self, lemma: str, mix: Mix, c: int, d: int) -> list[Rule]:
        """Whom or what it is done to; now and then two of a kind (an apple and two pears)."""
        verb, pool, rules = self.words.verbs[lemma], ("verb", lemma), []
        people = tuple(kind for kind in verb.object if kind in ("kin", "social"))
        if "person" in verb.object:
            rules.append(Rule(1, part=S("person", c, d, False)))
        elif people:
            rules.append(Rule(2, part=S("owned", people, c, d)))
        if self.pool(pool, None):
            rules.append(Rule(4, part=S("thing", pool, None, mix, c, d, True, False)))
        pairs = [(*pool, kind) for kind in verb.object if kind not in PEOPLE]
        pairs = [pair for pair in pairs if self.pool(pair, 0) and self.pool(pair, 1)]
        if "any" not in dict(mix):
            joined = S("free", "zh and")
            for pair in pairs:
                first, second = (S("thing", pair, half, mix, c, 0, True, False) for half in (0, 1))
                rules.append(Rule(0.15 / len(pairs), Both, first=first, second=second, wording=joined))
                rules.append(Rule(0.15 / len(pairs), Both, first=second, second=first, wording=joined))
        return rules

    def described_object(self, lemma: str, c: int, d: int) -> list[Rule]:
        """An object with a relative clause: (Tom read) the book that Anna bought."""
        people = self.words.members(("people", "role")) if "person" in self.words.verbs[lemma].object else []
        nouns = people + [noun for noun in self.pool(("verb", lemma), None) if noun in self.relative_nouns]
        return [Rule(self.weight(noun), part=S("described_noun", noun, c, d)) for noun in nouns]

    def modal(self, tenses: str, doubtful: bool) -> list[Rule]:
        """Want to, should, can · 想、应该、会."""
        return [
            Rule(weight * (4 if verb.tenses == "C" else 1), part=S("word", "verbs", verb.lemma))
            for weight, verb in self.verbs("modal")
            if not set(verb.tenses).isdisjoint(tenses) and not (doubtful and verb.lemma == "must")
        ]

    def relative(self, noun: str, c: int, d: int) -> list[Rule]:
        """The girl who likes dogs · 那个喜欢狗的女孩; the book that Anna bought · 安娜买的那本书."""
        if self.words.nouns[noun].kind in ("people", "role"):
            order = S("free", "zh relative")
            return [
                Rule(weight, Relative, clause=S("tensed", tense, False, "relative", c, d), gap="subject", order=order)
                for tense, weight in (("past", 5), ("progressive", 3), ("habit", 2))
            ]
        return [
            Rule(weight, Relative, clause=S("gapped", verb.lemma, c, d), gap="object")
            for weight, verb in self.verbs("transitive", "result")
            if "P" in verb.tenses and noun in self.pool(("verb", verb.lemma), None)
        ]

    @cached_property
    def relative_nouns(self) -> set[str]:
        """The nouns that a relative clause can describe: people act, countable things have something done to them."""
        nouns = set(self.words.members(("people", "role")))
        for _, verb in self.verbs("transitive", "result"):
            if "P" in verb.tenses:
                nouns.update(self.pool(("verb", verb.lemma), None))
        return {noun for noun in nouns if not self.words.nouns[noun].number}

    def gapped(self, lemma: str, c: int, d: int) -> list[Rule]:
        """(The book that) Anna bought · 安娜买（的那本书）."""
        subject = S("person", c, d, False)
        return [Rule(1, Event, tense="past", verb=S("word", "verbs", lemma), subject=subject)]

    # Other clauses ----------------------------------------------------------------------------------------------

    def state(self, mood: str, c: int, d: int) -> list[Rule]:
        """Anna likes dogs · 安娜喜欢狗."""
        return [
            Rule(weight * share, part=S("predicate", verb.lemma, "present", negative, mood, c, d))
            for weight, verb in self.verbs("stative")
            for share, negative in self.polarity(mood)
            if not set(PEOPLE).isdisjoint(verb.object) or self.pool(("verb", verb.lemma), None)
        ]

    def have(self, mood: str, c: int, d: int) -> list[Rule]:
        """Anna has two cats · 安娜有两只猫."""
        return [
            Rule(share, part=S("predicate", "have", "present", negative, mood, c, d))
            for share, negative in self.polarity(mood)
        ]

    @staticmethod
    def polarity(mood: str) -> tuple[tuple[int, bool], ...]:
        """Weights of affirmative and negative; questions are affirmative."""
        return ((5, False), (0 if mood == "yes-no" else 1, True))

    def quality(self, mood: str, c: int, d: int) -> list[Rule]:
        """The soup is too hot · 汤太烫了."""
        return [
            Rule(weight, part=S("quality_of", word.lemma, mood, c, d))
            for weight, word in self.adjectives("p")
            if "person" in word.classes or self.pool(("adjective", word.lemma), c)
        ]

    def quality_of(self, lemma: str, mood: str, c: int, d: int) -> list[Rule]:
        """The subject and the degree of one adjective."""
        adjective = self.words.adjectives[lemma]
        subject, word = S("described", lemma, c, d, mood == "yes-no"), S("word", "adjectives", lemma)
        rules = [Rule(5, Quality, subject=subject, adjective=word)]
        if mood != "yes-no":
            rules += [Rule(w, Quality, subject=subject, adjective=word, degree=degree) for w, degree in DEGREES]
            rules.append(Rule(1.5, Quality, subject=subject, adjective=word, negative=True))
            if adjective.uses == "p" and "person" in adjective.classes:  # a passing state
                when, who = S("time", "past", mood == "statement"), S("person", c, d, False)
                rules.append(Rule(2, Quality, subject=who, adjective=word, past=True, time=when))
        return rules

    def described(self, lemma: str, c: int, d: int, others: bool) -> list[Rule]:
        """Somebody or something that an adjective can describe."""
        classes = self.words.adjectives[lemma].classes
        rules = [Rule(4, part=S("person", c, d, True, others))] if "person" in classes else []
        if self.pool(("adjective", lemma), c):
            rules.append(Rule(1, part=S("thing", ("adjective", lemma), c, KNOWN, c, d, False, True)))
        return rules

    def comparison(self, c: int, d: int) -> list[Rule]:
        """Anna is taller than Tom · 安娜比汤姆高. Both sides are of one class, and of different circles."""
        rules = []
        for weight, adjective in self.adjectives("c"):
            word = S("word", "adjectives", adjective.lemma)
            for kind in adjective.classes:
                if kind == "person":
                    weight, sides = weight * 4, [S("person", side, 0, False) for side in (c, 1 - c)]
                elif self.pool(("class", kind), 0) and self.pool(("class", kind), 1):
                    pool, inner = ("class", kind), min(d, 1)
                    sides = [S("thing", pool, side, KNOWN, side, inner, False, False) for side in (c, 1 - c)]
                else:
                    continue
                for share, degree in ((5, "more"), (2, "much"), (2, "less")):
                    fields = {"subject": sides[0], "adjective": word, "than": sides[1], "degree": degree}
                    rules.append(Rule(weight * share, Comparison, **fields))
        return rules

    def location(self, mood: str, c: int, d: int) -> list[Rule]:
        """My key is under the table · 我的钥匙在桌子下面; Anna is in the park · 安娜在公园里."""
        others = mood == "yes-no"
        return [
            Rule(weight * share, Location, subject=subject, place=place, negative=negative)
            for weight, subject, place in (
                (3, S("person", c, d, False, others), S("place", PLACES, True)),
                *((weight, thing, place) for weight, thing, place in self.things_in_places(KNOWN, c, d)),
            )
            for share, negative in self.polarity(mood)
        ]

    def existence(self, mood: str, c: int, d: int) -> list[Rule]:
        """There is a cat in the garden · 花园里有一只猫."""
        mixes = ((ANY, 1, False),) if mood == "yes-no" else ((NEW, 5, False), (GENERAL, 1, True))
        return [
            Rule(share * weight, Existence, thing=thing, place=place, negative=negative)
            for mix, share, negative in mixes
            for weight, thing, place in self.things_in_places(mix, c, 0)
        ]

    def things_in_places(self, mix: Mix, c: int, d: int) -> Iterator[tuple[float, Symbol, Symbol]]:
        """What can be where: things on and beside furniture, animals outdoors."""
        yield 5, S("thing", PORTABLE, c, mix, c, d, True, False), S("landmark")
        for kind, places in ANIMALS.items():
            if self.pool(("class", kind), c) and self.words.members(places):
                yield 1.5, S("thing", ("class", kind), c, mix, c, d, True, False), S("place", places)

    def identity(self, mood: str, c: int, d: int) -> list[Rule]:
        """Anna is a doctor · 安娜是医生; Tom is my friend · 汤姆是我的朋友."""
        return [
            Rule(weight * share, Identity, subject=S("one_person", c, d), role=role, negative=negative)
            for weight, role in ((3, S("role")), (1, S("friend", 1 - c, min(d, 1))))
            for share, negative in self.polarity(mood)
        ]

    def friend(self, c: int, d: int) -> list[Rule]:
        """My friend · 我的朋友, as what somebody is."""
        return [rule for rule in self.owned(("social",), c, d) if not rule.constants["plural"]]

    def report(self, c: int, d: int) -> list[Rule]:
        """Anna says that Tom is tired · 安娜说汤姆很累."""
        rules = []
        for weight, verb in self.verbs("report"):
            inner = S("hoped", 1 - c, d - 1) if verb.tenses == "F" else S("clause", "nested", 1 - c, d - 1)
            subject = S("third_person" if verb.lemma in SAID else "person", c, 0, False)
            for share, negative in ((9, False), (1 if verb.lemma in DOUBTED else 0, True)):
                fields = {"subject": subject, "verb": S("word", "verbs", verb.lemma), "clause": inner}
                rules.append(Rule(weight * share, Report, negative=negative, **fields))
        return rules

    def hoped(self, c: int, d: int) -> list[Rule]:
        """What can be hoped: that something will happen."""
        return [
            Rule(4 - 3 * negative, part=S("tensed", "future", negative, "nested", c, d)) for negative in (False, True)
        ]

    def because(self, c: int) -> list[Rule]:
        """Anna cried because she was sad · 因为安娜很难过，所以她哭了."""
        rules = []
        for reason in self.words.reasons:
            fields = {"subject": S("one_person", c, 0), "cause": S("feeling", reason.adjective)}
            fields |= {"order": S("free", "en because"), "wording": S("free", "zh so")}
            for rank, lemma in enumerate(reason.verbs):
                if lemma in self.words.verbs and self.suits(self.words.verbs[lemma], "past", "reason"):
                    effect = S("predicate", lemma, "past", not reason.happened, "reason", c, 0)
                    rules.append(Rule(1 / (rank + 3), Because, effect=effect, **fields))
        return rules

    def feeling(self, lemma: str) -> list[Rule]:
        """(Because) she was sad · （因为）她很难过."""
        return [Rule(1, Quality, adjective=S("word", "adjectives", lemma), past=True)]

    def asked(self, c: int, d: int) -> list[Rule]:
        """A question for who, what, where or when; in Chinese the question word stands where the answer would."""
        rules = [
            Rule(weight, part=S("tensed", tense, False, question, c, d))
            for question, tenses in QUESTIONS.items()
            for tense, weight in tenses.items()
            if c == 0 or question != "who"  # "who" is of no circle: once is enough
        ]
        for subject in (S("thing", PORTABLE, c, KNOWN, c, d, True, False), S("person", c, d, False, True)):
            rules.append(Rule(2, Location, subject=subject, place=Asked("where")))
        return rules
