"""How likely each meaning is: the grammar that meanings are drawn from, one method per construction.

To add a construction: write its dataclass in `meanings.py`, a method here that returns its rules, the name of that
method in `World.clause`, and a method for each language in `realise.py`.

Two devices keep the world sensible without remembering what was said before. Every person and noun belongs to a
*circle*, 0 or 1 (`c` below); who acts comes from one circle and who is acted on from the other, so that nobody meets
herself. And every symbol carries a *depth* (`d`): how many clauses and possessors may still be nested inside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from course_lib.microworld.grammar import Grammar, Rule, S, Symbol
from course_lib.microworld.lexicon import Adjective, Lexicon, Verb, lexicon
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
)

# All numbers below are weights: only their ratios within a line count.
FRAMES = {"intransitive": 20, "transitive": 42, "result": 17, "put": 5, "ditransitive": 8, "place": 9}
TENSES = {  # affirmative, negative
    "past": (30, 8),
    "experience": (7, 3),
    "progressive": (14, 2),
    "future": (11, 3),
    "habit": (15, 4),
    "modal": (12, 3),
}
TENSE_LETTERS = {"past": "P", "experience": "E", "progressive": "G", "future": "F", "habit": "H", "modal": "MC"}
TIMED = {"past": 0.45, "future": 0.5, "progressive": 0.12}  # how often such an event has a time phrase
QUESTIONS = {
    "who": {"past": 2, "progressive": 1, "future": 1},
    "what": {"past": 3, "progressive": 1, "future": 1, "habit": 1},
    "where": {"past": 2, "habit": 1, "future": 1},
    "when": {"past": 2, "future": 2},
}
# How definite the object of a verb is: "new" (a, two, some), "known" (the, my), "general" (books). After a negation
# and in questions "new" becomes "any" (a book, books).
STYLES: dict[str, dict[str, float]] = {
    "past": {"new": 5, "known": 4},
    "experience": {"general": 2, "known": 1},
    "progressive": {"new": 3, "known": 3, "general": 2},
    "future": {"new": 4, "known": 4},
    "habit": {"general": 5, "known": 1},
    "modal": {"new": 3, "known": 4},
    "present": {"general": 3, "known": 4},
}
STATES: dict[str, dict[str, float]] = {
    "want": {"new": 3, "known": 2},
    "need": {"new": 3, "known": 1},
    "have": {"new": 1},
    "fear": {"general": 1},
    "hate": {"general": 1},
    "remember": {"known": 1},
    "understand": {"known": 1},
}
DEGREES = ((3, "very"), (1.2, "too"))
DOUBTED = ("think", "know/that", "believe/that")  # verbs of saying that are negated now and then
ASSERTED = ("never", "sometimes")  # adverbs of frequency that do not fit a question
PRONOUNS = (("I", "he", "we"), ("you", "she", "they"))  # by circle
PORTABLE = ("thing", "crockery", "toy", "print", "accessory", "pet", "fruit")
PLACES = ("room", "shop", "eatery", "building", "outdoors")
LANDMARKS = {  # relation -> what has such a side; "" is the noun's own preposition
    "": ("furniture", "container"),
    "under": ("table", "chair", "bed", "sofa", "desk", "tree"),
    "behind": ("sofa", "bookshelf", "door", "car", "tree"),
    "next to": ("bed", "table", "window", "fridge", "car"),
    "in front of": ("sofa", "door", "window", "cupboard", "car"),
}

# Determiners by how the noun is counted and how definite the phrase is: (weight, determiner, plural, count).
Forms = list[tuple[float, str, bool, int | None]]
BARE: Forms = [(1, "", False, None)]
COUNTED: Forms = [(2.5, "", True, 2), (1.5, "", True, 3), (0.7, "", True, 4), (0.7, "", True, 5), (0.4, "", True, 6)]
COUNTABLE: dict[str, Forms] = {
    "new": [(10, "a", False, None), *COUNTED, (2, "some", True, None), (1.2, "a lot of", True, None)],
    "known": [
        (8, "the", False, None),
        (1.5, "the", True, None),
        (2, "this", False, None),
        (0.7, "this", True, None),
        (1.2, "that", False, None),
        (0.5, "that", True, None),
        (0.5, "the", True, 2),
    ],
    "general": [(1, "", True, None)],
    "any": [(3, "a", False, None), (1, "", True, None)],
    "person": [(7, "the", False, None), (1, "the", True, None), (2, "that", False, None), (1, "this", False, None)],
}
UNCOUNTABLE: dict[str, Forms] = {"new": BARE, "known": BARE, "general": BARE, "any": BARE}
DETERMINERS: dict[str, dict[str, Forms]] = {
    "": COUNTABLE,
    "bare": UNCOUNTABLE,
    "mass": UNCOUNTABLE | {"known": [(1, "the", False, None)]},
    "unit": UNCOUNTABLE  # a cup of tea, two pairs of shoes
    | {
        "new": [
            (6, "a", False, None),
            (2, "", False, 2),
            (1, "", False, 3),
            (2, "some", False, None),
            (1, "a lot of", False, None),
        ],
        "known": [(6, "the", False, None), (1.5, "this", False, None), (0.7, "that", False, None)],
    },
}


class World(Grammar):
    """The grammar of the micro-world.

    Args:
        words: the lexicon, by default that of the course.
        max_depth: how deeply clauses and possessors may be nested.
        held_out: pairs (verb, noun), as lemmas, that are never drawn as a verb and its object.
    """

    start = S("sentence")

    def __init__(
        self, words: Lexicon | None = None, max_depth: int = 3, held_out: frozenset[tuple[str, str]] = frozenset()
    ) -> None:
        super().__init__()
        self.words = words or lexicon()
        self.max_depth, self.held_out = max_depth, held_out
        self._pools: dict[tuple[tuple[str, ...], int | None], list[str]] = {}

    # Sentences and clauses --------------------------------------------------------------------------------------

    def sentence(self) -> list[Rule]:
        """A statement, a question, or a statement with its reason; each circle acts in half of them."""
        d = self.max_depth
        return [
            rule
            for c in (0, 1)
            for rule in (
                Rule(67, Sentence, clause=S("clause", "statement", c, d)),
                Rule(12, Sentence, clause=S("clause", "yes-no", c, min(d, 1)), mood="yes-no"),
                Rule(11, Sentence, clause=S("asked", c), mood="asked"),
                Rule(8, Sentence, clause=S("because", c)),
            )
        ]

    def clause(self, mood: str, c: int, d: int) -> list[Rule]:
        """Any clause with its own subject; `mood` is "statement", "nested" (within a report) or "yes-no"."""
        kinds = {"event": 62, "state": 9, "have": 4, "quality": 12, "location": 4, "existence": 4, "identity": 4}
        rules = [Rule(weight, part=S(kind, mood, c, d)) for kind, weight in kinds.items()]
        if mood != "yes-no":
            rules.append(Rule(7, part=S("comparison", c, d)))
            if d > 0:
                rules.append(Rule(14, part=S("report", c, d)))
        return rules

    def event(self, mood: str, c: int, d: int) -> list[Rule]:
        """Somebody does something: the tense comes first, because not every verb is at home in every tense."""
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

    def predicate(self, lemma: str, tense: str, negative: bool, mood: str, c: int, d: int) -> list[Rule]:
        """Everything around a verb: who, what, to whom, where, when and how."""
        verb = self.words.verbs[lemma]
        rules = []
        for weight, parts in self.objects(verb, tense, negative, mood, c, d):
            plain = mood in ("relative", "reason") or parts.pop("plain", False)
            for share, when in self.times(tense, negative, mood, plain):
                fields: dict[str, Any] = {"verb": S("word", "verbs", lemma), "tense": tense, "negative": negative}
                fields |= parts | when
                if mood == "who":
                    fields["subject"] = Asked("who")
                elif mood not in ("relative", "reason"):
                    fields["subject"] = S("subject", lemma, c, d)
                if mood == "where":
                    fields["place"] = Asked("where")
                elif verb.place and verb.frame != "put" and not plain:
                    always = tense == "experience" and verb.frame == "intransitive"
                    often = 1.0 if always else 0.5 if verb.frame == "intransitive" else 0.25
                    fields["place"] = S("optional", often, S("place", lemma))
                if not plain and not negative and tense in ("past", "progressive", "future", "habit"):
                    fields["manner"] = S("manner", lemma)
                if tense == "modal":
                    fields["modal"] = S("modal", verb.tenses, negative, mood)
                if tense in ("past", "experience") and negative:
                    fields["wording"] = S("free", "zh not")
                elif tense == "progressive":
                    fields["wording"] = S("free", "zh not" if negative else "zh progressive")
                rules.append(Rule(weight * share, Event, **fields))
        return rules

    def state(self, mood: str, c: int, d: int) -> list[Rule]:
        """Anna likes dogs · 安娜喜欢狗."""
        return [
            Rule(weight * share, part=S("predicate", verb.lemma, "present", negative, mood, c, d))
            for weight, verb in self.verbs("stative")
            for share, negative in ((5, False), (0 if mood == "yes-no" else 1, True))
        ]

    def have(self, mood: str, c: int, d: int) -> list[Rule]:
        """Anna has two cats · 安娜有两只猫."""
        shares = ((5, False), (0 if mood == "yes-no" else 1, True))
        return [Rule(share, part=S("predicate", "have", "present", negative, mood, c, d)) for share, negative in shares]

    def quality(self, mood: str, c: int, d: int) -> list[Rule]:
        """The soup is too hot · 汤太烫了."""
        return [
            Rule(weight, part=S("quality_of", adjective.lemma, mood, c, d))
            for weight, adjective in self.adjectives("p")
            if self.describes(adjective)
        ]

    def quality_of(self, lemma: str, mood: str, c: int, d: int) -> list[Rule]:
        """The subject and the degree of one adjective."""
        adjective = self.words.adjectives[lemma]
        subject = S("described", lemma, c, d)
        word = S("word", "adjectives", lemma)
        if mood == "yes-no":
            return [Rule(1, Quality, subject=subject, adjective=word)]
        rules = [Rule(5, Quality, subject=subject, adjective=word)]
        rules += [Rule(weight, Quality, subject=subject, adjective=word, degree=degree) for weight, degree in DEGREES]
        rules.append(Rule(1.5, Quality, subject=subject, adjective=word, negative=True))
        if adjective.uses == "p" and "person" in adjective.classes:  # a passing state
            time = S("time", "past", mood == "statement")
            who = S("person", c, d, False)
            rules.append(Rule(2, Quality, subject=who, adjective=word, past=True, time=time))
        return rules

    def described(self, lemma: str, c: int, d: int) -> list[Rule]:
        """Somebody or something that an adjective can describe."""
        adjective = self.words.adjectives[lemma]
        person = "person" in adjective.classes
        rules = [Rule(4, part=S("person", c, d, True))] if person else []
        if self.words.members(adjective.classes):
            rules.append(Rule(1, part=S("thing", ("adjective", lemma), None, "known", c, d, True)))
        return rules

    def comparison(self, c: int, d: int) -> list[Rule]:
        """Anna is taller than Tom · 安娜比汤姆高. Both sides are of one class, and of different circles."""
        rules = []
        for weight, adjective in self.adjectives("c"):
            for kind in adjective.classes:
                if kind == "person":
                    pair = [S("person", side, 0, False) for side in (c, 1 - c)]
                elif len(self.words.classes.get(kind, ())) > 1:
                    pair = [S("thing", ("class", kind), side, "known", side, min(d, 1), False) for side in (c, 1 - c)]
                else:
                    continue
                for share, degree in ((5, "more"), (2, "much"), (2, "less")):
                    word = S("word", "adjectives", adjective.lemma)
                    share = share * weight * (4 if kind == "person" else 1)
                    rules.append(Rule(share, Comparison, subject=pair[0], adjective=word, than=pair[1], degree=degree))
        return rules

    def location(self, mood: str, c: int, d: int) -> list[Rule]:
        """My cat is under the table · 我的猫在桌子下面."""
        thing = S("thing", ("class", *PORTABLE), None, "known", c, d, False)
        person = S("person", c, d, False)
        return [
            Rule(weight * share, Location, subject=subject, place=place, negative=negative)
            for weight, subject, place in ((5, thing, S("landmark")), (3, person, S("place", "")))
            for share, negative in ((5, False), (0 if mood == "yes-no" else 1, True))
        ]

    def existence(self, mood: str, c: int, d: int) -> list[Rule]:
        """There is a cat under the table · 桌子下面有一只猫."""
        pool = ("class", *PORTABLE)
        if mood == "yes-no":
            return [Rule(1, Existence, thing=S("thing", pool, None, "any", c, 0, False), place=S("landmark"))]
        return [
            Rule(5, Existence, thing=S("thing", pool, None, "new", c, 0, False), place=S("landmark")),
            Rule(
                1, Existence, thing=S("thing", pool, None, "general", c, 0, False), place=S("landmark"), negative=True
            ),
        ]

    def identity(self, mood: str, c: int, d: int) -> list[Rule]:
        """Anna is a doctor · 安娜是医生; Tom is my friend · 汤姆是我的朋友."""
        one = S("one_person", c, d)
        role = S("noun", ("class", "social", "role"), None, "role")
        friend = S("owned", ("social",), 1 - c, min(d, 1))
        return [
            Rule(weight * share, Identity, subject=one, role=what, negative=negative)
            for weight, what in ((3, role), (1, friend))
            for share, negative in ((5, False), (0 if mood == "yes-no" else 1, True))
        ]

    def report(self, c: int, d: int) -> list[Rule]:
        """Anna says that Tom is ill · 安娜说汤姆病了."""
        rules = []
        for weight, verb in self.verbs("report"):
            inner = S("hoped", 1 - c, d - 1) if verb.tenses == "F" else S("clause", "nested", 1 - c, d - 1)
            for share, negative in ((9, False), (1 if verb.lemma in DOUBTED else 0, True)):
                word, subject = S("word", "verbs", verb.lemma), S("person", c, 0, False)
                rules.append(Rule(weight * share, Report, subject=subject, verb=word, clause=inner, negative=negative))
        return rules

    def hoped(self, c: int, d: int) -> list[Rule]:
        """What can be hoped: that something will happen."""
        return [
            Rule(weight, part=S("tensed", "future", negative, "nested", c, d))
            for weight, negative in ((4, False), (1, True))
        ]

    def because(self, c: int) -> list[Rule]:
        """Anna cried because she was sad · 因为安娜很难过，所以她哭了."""
        rules = []
        for reason in self.words.reasons:
            for rank, lemma in enumerate(reason.verbs):
                effect = S("predicate", lemma, "past", not reason.happened, "reason", c, 0)
                if self.suits(self.words.verbs[lemma], "past", "reason"):
                    cause, order = S("feeling", reason.adjective), S("free", "en because")
                    subject = S("one_person", c, 0)
                    rules.append(
                        Rule(1 / (rank + 3), Because, subject=subject, effect=effect, cause=cause, order=order)
                    )
        return rules

    def feeling(self, lemma: str) -> list[Rule]:
        """The cause in `because`."""
        return [Rule(1, Quality, adjective=S("word", "adjectives", lemma), past=True)]

    def asked(self, c: int) -> list[Rule]:
        """A question for who, what, where or when; the question word stands where the answer would."""
        rules = [
            Rule(weight, part=S("tensed", tense, False, question, c, 0))
            for question, tenses in QUESTIONS.items()
            for tense, weight in tenses.items()
        ]
        known = S("thing", ("class", *PORTABLE), None, "known", c, 1, False)
        for weight, subject in ((2, known), (2, S("person", c, 1, False))):
            rules.append(Rule(weight, Location, subject=subject, place=Asked("where")))
        return rules

    # Around the verb --------------------------------------------------------------------------------------------

    def objects(
        self, verb: Verb, tense: str, negative: bool, mood: str, c: int, d: int
    ) -> Iterator[tuple[float, dict[str, Any]]]:
        """What may follow a verb: (weight, fields of the event). "plain" marks an event without place and time."""
        other = 1 - c
        light = S("object", verb.lemma, "known", other, min(d, 1), False)
        if verb.frame == "intransitive":
            yield 1, {}
        elif verb.frame == "place":
            yield 1, {"object": S("place", verb.lemma)}
        elif mood == "what":
            yield 1, {"object": Asked("who" if verb.object == ("person",) else "what")}
        elif verb.frame == "put":
            yield 1, {"object": light, "goal": S("place", verb.lemma)}
        elif verb.frame == "ditransitive":
            to = {"recipient": S("person", other, 0, False), "dative": S("free", "en dative")}
            if not negative and mood != "yes-no":
                yield 4, {"object": S("object", verb.lemma, "new", other, 0, False), **to}
            if "subject" not in verb.object:
                yield 3, {"object": light, "order": S("free", "zh ba"), **to}
            elif negative or mood == "yes-no":
                yield 3, {"object": S("object", verb.lemma, "general", other, 0, False), **to}
        elif verb.frame == "result" and mood != "relative":
            yield 5, {"object": light, "order": S("free", "zh ba")}
            if d > 0 and mood == "statement" and not negative:
                heavy = S("object", verb.lemma, "known", other, d, True)
                yield 1, {"object": heavy, "order": S("free", "zh ba"), "plain": True}
            if not negative and mood in ("statement", "nested"):
                yield 1, {"object": S("object", verb.lemma, "new", other, 0, False)}
        else:
            doubtful = negative or mood in ("yes-no", "when", "where")
            for style, weight in self.styles(verb, tense).items():
                style = "any" if style == "new" and doubtful else style
                yield weight, {"object": S("object", verb.lemma, style, other, min(d, 1), False)}
            if d > 0 and mood == "statement" and not negative:
                yield 1.5, {"object": S("object", verb.lemma, "known", other, d, True), "plain": True}

    def styles(self, verb: Verb, tense: str) -> dict[str, float]:
        """How definite the object of a verb is, by tense; a few verbs of state have their own ways."""
        return STATES.get(verb.lemma) or STYLES[tense]

    def times(self, tense: str, negative: bool, mood: str, plain: bool) -> Iterator[tuple[float, dict[str, Any]]]:
        """When: a time phrase, or for habits an adverb of frequency (one of the two, so that tenses stay distinct)."""
        front = mood == "statement"
        if mood == "when":
            yield 1, {"time": Asked("when")}
        elif tense == "habit" and not negative:
            asked = mood in ("yes-no", "what", "where", "who")
            yield 6, {"frequency": S("frequency", asked)}
            if not plain and not asked:
                yield 3, {"time": S("time", "habit", front)}
            if asked and mood != "who":
                yield 6, {}
        elif plain or tense not in TIMED or mood in ("what", "where", "who"):
            yield 1, {}
        else:
            kind = {"modal": "future"}.get(tense, tense)
            yield TIMED[tense], {"time": S("time", kind, front)}
            yield 1 - TIMED[tense], {}

    def suits(self, verb: Verb, tense: str, mood: str) -> bool:
        """Whether a verb can be drawn: it has this tense, and the lexicon has what must go with it."""
        if not set(verb.tenses) & set(TENSE_LETTERS[tense]):
            return False
        if verb.object and not self.is_about_people(verb) and not self.pool(("verb", verb.lemma), None):
            return False
        if verb.frame in ("place", "put") and not self.words.members(verb.place):
            return False
        if mood == "what":
            return verb.frame in ("transitive", "result")
        if mood == "where":
            return bool(self.words.members(verb.place)) and verb.frame in ("transitive", "intransitive")
        if mood == "relative":
            return verb.frame in ("transitive", "intransitive") and not self.is_about_people(verb)
        return True

    @staticmethod
    def is_about_people(verb: Verb) -> bool:
        """Whether people can be the object of a verb."""
        return bool({"person", "kin", "social"} & set(verb.object))

    def subject(self, lemma: str, c: int, d: int) -> list[Rule]:
        """Who does it."""
        verb = self.words.verbs[lemma]
        people = [Rule(6, part=S("person", c, d, True))] if "person" in verb.subject else []
        animals = [kind for kind in verb.subject if kind != "person"]
        pets = [Rule(1, part=S("thing", ("class", *animals), None, "known", c, d, False))] if animals else []
        return people + pets

    def object(self, lemma: str, style: str, c: int, d: int, heavy: bool) -> list[Rule]:
        """Whom or what it is done to."""
        verb = self.words.verbs[lemma]
        rules = []
        people = tuple(kind for kind in verb.object if kind in ("kin", "social"))
        if "person" in verb.object:
            rules.append(Rule(1, part=S("person", c, d, heavy)))
        elif people:
            rules.append(Rule(2, part=S("owned", people, c, d)))
        pool = ("verb", lemma)
        if self.pool(pool, None):
            rules.append(Rule(4, part=S("thing", pool, None, style, c, d, heavy)))
            if not heavy and style != "any" and self.pool(pool, 0) and self.pool(pool, 1):
                first, second = (S("thing", pool, half, style, c, 0, False) for half in (0, 1))
                rules += [Rule(0.15, Both, first=first, second=second), Rule(0.15, Both, first=second, second=first)]
        return rules

    def place(self, lemma: str) -> list[Rule]:
        """Where a verb's event can happen; with no verb, anywhere people can be."""
        items = self.words.verbs[lemma].place or self.words.verbs[lemma].object if lemma else PLACES
        if lemma and self.words.verbs[lemma].frame == "place":
            items = self.words.verbs[lemma].object
        return [Rule(self.weight(noun), Place, noun=S("word", "nouns", noun)) for noun in self.words.members(items)]

    def landmark(self) -> list[Rule]:
        """On the table, under the table, ... · 桌子上、桌子下面."""
        rules = []
        for relation, items in LANDMARKS.items():
            for noun in self.words.members(items):
                word = S("word", "nouns", noun)
                weight = self.weight(noun) * (1 if relation else 3)
                rules.append(Rule(weight, Place, noun=word, relation=relation or None))
        return rules

    def time(self, kind: str, front: bool) -> list[Rule]:
        """Yesterday · 昨天. `front`: it may also open the sentence."""
        fronts = (
            {"front_en": S("free", "en time"), "front_zh": S("free", "zh time")}
            if front and kind != "progressive"
            else {}
        )
        return [Rule(weight, Time, when=S("word", "adverbs", lemma), **fronts) for weight, lemma in self.adverbs(kind)]

    def frequency(self, asked: bool) -> list[Rule]:
        """Often, always, never · 经常、总是、从不 (no "never" in a question)."""
        adverbs = [(weight, lemma) for weight, lemma in self.adverbs("frequency") if not (asked and lemma in ASSERTED)]
        return [Rule(weight, part=S("word", "adverbs", lemma)) for weight, lemma in adverbs]

    def manner(self, lemma: str) -> list[Rule]:
        """Quietly, slowly · 安静地、慢慢地, for the verbs that they suit."""
        adverbs = [
            (weight, adverb) for weight, adverb in self.adverbs("manner") if lemma in self.words.adverbs[adverb].verbs
        ]
        return [Rule(2), *(Rule(1 / len(adverbs), part=S("word", "adverbs", adverb)) for _, adverb in adverbs)]

    def modal(self, tenses: str, negative: bool, mood: str) -> list[Rule]:
        """Want to, should, can · 想、应该、会."""
        return [
            Rule(weight, part=S("word", "verbs", verb.lemma))
            for weight, verb in self.verbs("modal")
            if set(verb.tenses) & set(tenses) and not (verb.lemma == "must" and (negative or mood != "statement"))
        ]

    # People and things ------------------------------------------------------------------------------------------

    def person(self, c: int, d: int, heavy: bool) -> list[Rule]:
        """Anna, she, the doctor, Tom's mother · 安娜、她、那位医生、汤姆的妈妈."""
        return [
            Rule(36, Name, name=S("name", c, None)),
            Rule(20, part=S("pronoun", c)),
            Rule(20, part=S("thing", ("class", "social", "role"), c, "person", c, d, heavy)),
            Rule(20, part=S("owned", ("kin", "social"), c, d)),
            Rule(3, Both, first=S("named", c, 0), second=S("named", c, 1)),
        ]

    def one_person(self, c: int, d: int) -> list[Rule]:
        """Somebody whose pronoun is known: a name, a pronoun, or a relative."""
        return [
            Rule(5, Name, name=S("name", c, None)),
            Rule(2, part=S("single_pronoun", c)),
            Rule(2, part=S("owned", ("kin",), c, d)),
        ]

    def named(self, c: int, half: int) -> list[Rule]:
        """A name from one half of a circle, so that the two names of a pair differ."""
        return [Rule(1, Name, name=S("name", c, half))]

    def name(self, c: int, half: int | None) -> list[Rule]:
        """A given name; circles and halves hold both men and women."""
        names = enumerate(self.words.names)
        return [
            Rule(1 / (rank + 12), part=S("word", "names", name))
            for rank, name in names
            if rank // 2 % 2 == c and half in (None, rank // 4 % 2)
        ]

    def pronoun(self, c: int) -> list[Rule]:
        """I, he, we or you, she, they."""
        return [Rule(weight, Pronoun, pronoun=pronoun) for pronoun, weight in zip(PRONOUNS[c], (4, 4, 2), strict=True)]

    def single_pronoun(self, c: int) -> list[Rule]:
        """I, he or you, she."""
        return [Rule(1, Pronoun, pronoun=pronoun) for pronoun in PRONOUNS[c][:2]]

    def owner(self, c: int, d: int) -> list[Rule]:
        """My, Anna's, her mother's · 我的、安娜的、她妈妈的."""
        rules = [Rule(9, Pronoun, pronoun=pronoun) for pronoun in (*PRONOUNS[0], *PRONOUNS[1])]
        rules.append(Rule(30, Name, name=S("name", c, None)))
        if d > 0:
            rules.append(Rule(14, part=S("owned", ("kin", "social"), c, d - 1)))
        return rules

    def owned(self, kinds: tuple[str, ...], c: int, d: int) -> list[Rule]:
        """My mother, Tom's friend · 我妈妈、汤姆的朋友."""
        nouns = [noun for noun in self.words.members(kinds) if self.words.rank(noun) % 2 == c]
        return [
            Rule(self.weight(noun), Thing, noun=S("word", "nouns", noun), owner=S("owner", c, d))
            for noun in nouns or self.words.members(kinds)
        ]

    def thing(self, pool: tuple[str, ...], half: int | None, style: str, c: int, d: int, heavy: bool) -> list[Rule]:
        """A noun phrase: first its noun, from those that the verb or adjective allows."""
        nouns = self.pool(pool, half) or self.pool(pool, None)
        return [Rule(self.weight(noun), part=S("phrase", noun, style, c, d, heavy)) for noun in nouns]

    def phrase(self, noun: str, style: str, c: int, d: int, heavy: bool) -> list[Rule]:
        """What goes around a noun: determiner, number, adjective, owner or relative clause."""
        entry = self.words.nouns[noun]
        word, some_adjective = S("word", "nouns", noun), S("attribute", noun, False)
        number = "unit" if entry.unit else "mass" if entry.number == "mass" else entry.number
        rules = []
        for weight, determiner, plural, count in DETERMINERS[number][style]:
            plural = plural or entry.number == "plural"
            rules.append(
                Rule(
                    weight,
                    Thing,
                    noun=word,
                    determiner=determiner,
                    plural=plural,
                    count=count,
                    adjective=some_adjective,
                )
            )
        if style == "known" and entry.number != "bare":
            plural, short = entry.number == "plural", S("attribute", noun, True)
            rules.append(Rule(8, Thing, noun=word, owner=S("owner", c, d), plural=plural, adjective=short))
        if heavy and d > 0 and entry.number == "" and style in ("known", "person") and self.relative(noun, c, d - 1):
            rules.append(Rule(6, Thing, noun=word, determiner="the", relative=S("relative", noun, c, d - 1)))
        return rules

    def noun(self, pool: tuple[str, ...], half: int | None, style: str) -> list[Rule]:
        """A noun with its article and nothing else: a doctor."""
        return [
            Rule(self.weight(noun), Thing, noun=S("word", "nouns", noun), determiner="a")
            for noun in self.pool(pool, half)
        ]

    def attribute(self, noun: str, short: bool) -> list[Rule]:
        """Perhaps an adjective before the noun; `short` keeps to those that need no 的, since an owner has one."""
        suitable = [
            (weight, adjective)
            for weight, adjective in self.adjectives("a")
            if self.fits(adjective, noun) and not (short and len(adjective.before_noun) > 1)
        ]
        total = sum(weight for weight, _ in suitable)
        rules = [Rule(weight / total, part=S("word", "adjectives", word.lemma)) for weight, word in suitable]
        return [Rule(3 if suitable else 1), *rules]

    def relative(self, noun: str, c: int, d: int) -> list[Rule]:
        """The girl who likes dogs · 那个喜欢狗的女孩; the book that Anna bought · 安娜买的那本书."""
        if self.words.nouns[noun].kind in ("social", "role"):
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

    def gapped(self, lemma: str, c: int, d: int) -> list[Rule]:
        """(The book that) Anna bought · 安娜买（的那本书）."""
        return [Rule(1, Event, tense="past", verb=S("word", "verbs", lemma), subject=S("person", c, d, False))]

    # Words ------------------------------------------------------------------------------------------------------

    def word(self, table: str, lemma: str) -> list[Rule]:
        """A word of the lexicon; where Chinese has two for it, which one is free."""
        free = len(getattr(self.words, table)[lemma].chinese) > 1
        return [Rule(1, Word, lemma=lemma, synonym=S("free", "zh synonym"))] if free else [Rule(1, Word, lemma=lemma)]

    def free(self, name: str) -> list[Rule]:
        """A free choice of wording in one language."""
        rules = [Rule(USUAL[name], part=Choice(name, True)), Rule(1 - USUAL[name], part=Choice(name, False))]
        for rule in rules:
            rule.language = name[:2]
        return rules

    def optional(self, probability: float, symbol: Symbol) -> list[Rule]:
        """The symbol with this probability, otherwise nothing."""
        return [Rule(probability, part=symbol), Rule(1 - probability)]

    def weight(self, noun: str) -> float:
        """How often a noun is drawn, relative to others: falls with its rank in its class, as in Zipf's law."""
        return 1 / (self.words.rank(noun) + 8)

    def verbs(self, *frames: str) -> list[tuple[float, Verb]]:
        """The verbs of some frames with their weights."""
        found = []
        for frame in frames:
            verbs = [verb for verb in self.words.verbs.values() if verb.frame == frame]
            total = sum(1 / (rank + 10) for rank in range(len(verbs)))
            found += [(FRAMES.get(frame, 1) / (rank + 10) / total, verb) for rank, verb in enumerate(verbs)]
        return found

    def adjectives(self, use: str) -> list[tuple[float, Adjective]]:
        """The adjectives with one of the uses "a", "p", "c", with their weights."""
        words = enumerate(self.words.adjectives.values())
        return [(1 / (rank + 40), word) for rank, word in words if use in word.uses]

    def adverbs(self, kind: str) -> list[tuple[float, str]]:
        """The adverbs of one kind with their weights."""
        words = [word.lemma for word in self.words.adverbs.values() if word.kind == kind]
        return [(1 / (rank + 4), lemma) for rank, lemma in enumerate(words)]

    def pool(self, pool: tuple[str, ...], half: int | None) -> list[str]:
        """The nouns that a verb ("verb", lemma), an adjective or some classes allow, or every other one of them."""
        key = (pool, half)
        if key not in self._pools:
            source, *items = pool
            if source == "verb":
                items = [item for item in self.words.verbs[items[0]].object if item not in ("kin", "social", "person")]
            elif source == "adjective":
                items = [item for item in self.words.adjectives[items[0]].classes if item != "person"]
            nouns = [
                noun
                for noun in self.words.members(items)
                if half in (None, self.words.rank(noun) % 2)
                and not (source == "verb" and (pool[1], noun) in self.held_out)
            ]
            self._pools[key] = nouns
        return self._pools[key]

    def describes(self, adjective: Adjective) -> bool:
        """Whether the lexicon has anything that an adjective can describe."""
        return "person" in adjective.classes or bool(self.words.members(adjective.classes))

    def fits(self, adjective: Adjective, noun: str) -> bool:
        """Whether an adjective can stand before a noun."""
        kind = self.words.nouns[noun].kind
        person = "person" in adjective.classes and kind in ("social", "role")
        return person or noun in adjective.classes or kind in adjective.classes
