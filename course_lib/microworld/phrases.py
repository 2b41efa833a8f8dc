"""How likely each phrase is: people and things, places and times, and the words themselves.

One method per kind of phrase, each with an example in both languages. `world.py` builds clauses from these phrases.

Two devices keep the world sensible without remembering what was said before. Every person and noun belongs to a
*circle*, 0 or 1 (`c` below): who acts comes from one circle, who is acted on from the other, so that nobody meets
herself. And every symbol carries a *depth* (`d`): how many clauses and possessors may still be nested inside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

from course_lib.microworld.grammar import Grammar, Rule, S, Symbol
from course_lib.microworld.lexicon import Adjective, Lexicon, Verb, lexicon
from course_lib.microworld.meanings import (
    USUAL,
    Both,
    Choice,
    Name,
    Place,
    Pronoun,
    Thing,
    Time,
    Word,
)

# All numbers below are weights: only their ratios within a line count.
FRAMES = {"intransitive": 20, "transitive": 42, "result": 17, "put": 5, "ditransitive": 8, "place": 9}
PRONOUNS = (("I", "he", "we"), ("you", "she", "they"))  # by circle
FAMILIAR = ("kin", "social", "teacher", "doctor", "student")  # people who are somebody's
PEOPLE = ("person", "kin", "social")  # objects that are phrases for people rather than nouns
UNOWNED = ("wild", "waters", "outdoors", "building", "store", "eatery")  # things that are nobody's
ASSERTED = ("never", "sometimes")  # adverbs of frequency that do not fit a question
PLACES = ("room", "workroom", "store", "eatery", "building", "outdoors")
LANDMARKS = {  # relation -> what has such a side; "" is the noun's own preposition
    "": ("furniture", "container"),
    "under": ("table", "chair", "bed", "sofa", "desk", "tree"),
    "behind": ("sofa", "bookshelf", "door", "car", "tree"),
    "next to": ("bed", "table", "window", "fridge", "car"),
    "in front of": ("sofa", "door", "window", "cupboard", "car"),
}

OWNED = 0.35  # how many known things have an owner instead of a determiner

# Determiners, by how a noun is counted and how definite the phrase is: (determiner, plural, number) with weights.
# "new" (a, two, some), "one" (a, some), "known" (the, this), "general" (books), "any" (a book, books: "new" after a
# negation and in questions), "person" (that teacher). A phrase may mix these: (("new", 3), ("known", 4)).
Form = tuple[str, bool, int | None]
Mix = tuple[tuple[str, float], ...]
BARE: dict[Form, float] = {("", False, None): 1}
UNCOUNTED = {"new": BARE, "one": BARE, "known": BARE, "general": BARE, "any": BARE}
DETERMINERS: dict[str, dict[str, dict[Form, float]]] = {
    "": {  # countable
        "new": {
            ("a", False, None): 10,
            ("", True, 2): 2.5,
            ("", True, 3): 1.5,
            ("", True, 4): 0.7,
            ("", True, 5): 0.7,
            ("", True, 6): 0.4,
            ("some", True, None): 2,
            ("a lot of", True, None): 1.2,
        },
        "known": {
            ("the", False, None): 8,
            ("the", True, None): 1.5,
            ("this", False, None): 2,
            ("this", True, None): 0.7,
            ("that", False, None): 1.2,
            ("that", True, None): 0.5,
            ("the", True, 2): 0.5,
        },
        "one": {("a", False, None): 5, ("some", True, None): 1},
        "general": {("", True, None): 1},
        "any": {("a", False, None): 3, ("", True, None): 1},
        "person": {("the", False, None): 7, ("the", True, None): 1, ("that", False, None): 2, ("this", False, None): 1},
    },
    "unit": {  # a cup of tea, two pairs of shoes
        **UNCOUNTED,
        "new": {
            ("a", False, None): 6,
            ("", False, 2): 2,
            ("", False, 3): 1,
            ("some", False, None): 2,
            ("a lot of", False, None): 1,
        },
        "one": {("a", False, None): 5, ("some", False, None): 1},
        "known": {("the", False, None): 6, ("this", False, None): 1.5, ("that", False, None): 0.7},
    },
    "mass": {**UNCOUNTED, "known": {("the", False, None): 1}},  # homework
    "bare": UNCOUNTED,  # maths
}
NEW: Mix = (("new", 1),)
ONE: Mix = (("one", 1),)
KNOWN: Mix = (("known", 1),)
GENERAL: Mix = (("general", 1),)
ANY: Mix = (("any", 1),)
PERSON: Mix = (("person", 1),)


def determined(noun: Word, form: Form, adjective: Word | None) -> Thing:
    """A thing with the determiner and number of a `Form`."""
    return Thing(noun, *form, adjective)


class Phrases(Grammar):
    """The rules of phrases and words.

    Args:
        words: the lexicon, by default that of the course.
        max_depth: how deeply clauses and possessors may be nested.
        held_out: pairs (verb, noun), as lemmas, whose weight as a verb and its object is multiplied by `favour`.
        favour: 0, so that they are never drawn, or a number above 1 to draw them more often.
        nesting: how likely nesting is, as a multiple of its usual weight.
    """

    def __init__(
        self,
        words: Lexicon | None = None,
        max_depth: int = 3,
        held_out: frozenset[tuple[str, str]] = frozenset(),
        favour: float = 0.0,
        nesting: float = 1.0,
    ) -> None:
        super().__init__()
        self.words = words or lexicon()
        self.max_depth, self.held_out, self.favour, self.nesting = max_depth, held_out, favour, nesting
        self._pools: dict[tuple[tuple[str, ...], int | None], list[str]] = {}
        self._frames: dict[str, list[tuple[float, Verb]]] = {}

    # People and things ------------------------------------------------------------------------------------------

    def person(self, c: int, d: int, relative: bool, others: bool = False) -> list[Rule]:
        """Anna, she, the doctor, Tom's mother · 安娜、她、那位医生、汤姆的妈妈. `others`: neither I nor we."""
        return [Rule(20, part=S("pronoun", c, others)), Rule(79, part=S("third_person", c, d, relative))]

    def third_person(self, c: int, d: int, relative: bool) -> list[Rule]:
        """Anna, the doctor, Tom's mother, Anna and Tom · 安娜、那位医生、汤姆的妈妈、安娜和汤姆."""
        return [
            Rule(36, Name, name=S("name", c, None)),
            Rule(20, part=S("thing", ("class", "people", "role"), c, PERSON, c, d, True, relative)),
            Rule(20, part=S("owned", FAMILIAR, c, d)),
            Rule(3, Both, first=S("named", c, 0), second=S("named", c, 1), wording=S("free", "zh and")),
        ]

    def one_person(self, c: int, d: int) -> list[Rule]:
        """Somebody whose pronoun is known: a name, a pronoun or a relative · 安娜、她、我妈妈."""
        return [
            Rule(5, Name, name=S("name", c, None)),
            *(Rule(1, Pronoun, pronoun=pronoun) for pronoun in PRONOUNS[c][:2]),
            Rule(2, part=S("owned", ("kin",), c, d)),
        ]

    def named(self, c: int, half: int) -> list[Rule]:
        """A name from one half of a circle, so that the two names of a pair differ."""
        return [Rule(1, Name, name=S("name", c, half))]

    def name(self, c: int, half: int | None) -> list[Rule]:
        """A given name; circles, and their halves, hold both women and men."""
        return [
            Rule(1 / (rank + 12), part=S("word", "names", name))
            for rank, name in enumerate(self.words.names)
            if rank // 2 % 2 == c and half in (None, rank // 4 % 2)
        ]

    def pronoun(self, c: int, others: bool) -> list[Rule]:
        """I, he, we or you, she, they."""
        words = zip(PRONOUNS[c], (4, 4, 2), strict=True)
        return [Rule(weight, Pronoun, pronoun=word) for word, weight in words if not (others and word in ("I", "we"))]

    def owner(self, c: int, d: int) -> list[Rule]:
        """My, Anna's, her mother's · 我的、安娜的、她妈妈的."""
        rules = [Rule(9, Pronoun, pronoun=pronoun) for circle in PRONOUNS for pronoun in circle]
        rules.append(Rule(30, Name, name=S("name", c, None)))
        if d > 0:
            rules.append(Rule(18 * self.nesting, part=S("owned", FAMILIAR, c, d - 1)))
        return rules

    def owned(self, kinds: tuple[str, ...], c: int, d: int) -> list[Rule]:
        """My mother, Tom's friends · 我妈妈、汤姆的朋友."""
        nouns = self.pool(("class", *kinds), c)
        return [
            Rule(self.weight(noun) * share, Thing, noun=S("word", "nouns", noun), owner=S("owner", c, d), plural=plural)
            for noun in nouns
            for share, plural in ((6, False), (0 if self.words.nouns[noun].kind == "kin" else 1, True))
        ]

    def thing(
        self, pool: tuple[str, ...], half: int | None, mix: Mix, c: int, d: int, adjective: bool, relative: bool
    ) -> list[Rule]:
        """A noun phrase: first its noun, one of those that the verb or adjective allows (from a circle, if given)."""
        if not relative and "known" not in dict(mix):  # nothing inside has a circle or a depth
            c = d = 0
        rules = []
        for noun in self.pool(pool, half):
            weight = self.weight(noun) * (self.favour if (pool[1], noun) in self.held_out else 1)
            rules.append(Rule(weight, part=S("phrase", noun, mix, c, d, adjective, relative)))
        return rules

    def phrase(self, noun: str, mix: Mix, c: int, d: int, adjective: bool, relative: bool) -> list[Rule]:
        """What goes around a noun: determiner and number, adjective, owner, relative clause · 那两只大猫、我的新书."""
        entry, word, owned = self.words.nouns[noun], S("word", "nouns", noun), self.owned_share(noun, mix)
        plain, short = (S("attribute", noun, short) if adjective else None for short in (False, True))
        form, plural = S("form", self.counting(noun), mix, entry.number == "plural"), entry.number == "plural"
        rules = [Rule(1 - owned, determined, noun=word, form=form, adjective=plain)]
        rules.append(Rule(owned, Thing, noun=word, owner=S("owner", c, d), plural=plural, adjective=short))
        if relative and d > 0 and noun in self.relative_nouns:
            rules.append(Rule(0.5 * self.nesting, part=S("described_noun", noun, c, d)))
        return rules

    def counting(self, noun: str) -> str:
        """How a noun is counted: a key of `DETERMINERS`."""
        entry = self.words.nouns[noun]
        return "unit" if entry.unit else entry.number

    def owned_share(self, noun: str, mix: Mix) -> float:
        """How often a noun phrase has an owner: only if it is known, and never somebody's tiger."""
        nobodys = self.words.nouns[noun].kind in UNOWNED or self.counting(noun) == "bare"
        return 0.0 if nobodys else OWNED * dict(mix).get("known", 0) / sum(share for _, share in mix)

    def form(self, counting: str, mix: Mix, plural: bool) -> list[Rule]:
        """Determiner, whether plural, and number: the two ... · 那两……."""
        weights: dict[Form, float] = {}
        for style, share in mix:
            share *= 1 - OWNED if style == "known" else 1
            table = DETERMINERS[counting][style]
            for form, weight in table.items():
                weights[form] = weights.get(form, 0.0) + share * weight / sum(table.values())
        return [Rule(w, part=(word, more or plural, count)) for (word, more, count), w in weights.items()]

    def described_noun(self, noun: str, c: int, d: int) -> list[Rule]:
        """The girl who likes dogs, the book that Anna bought · 那个喜欢狗的女孩、安娜买的那本书."""
        relative = S("relative", noun, c, d - 1)
        return [Rule(1, Thing, noun=S("word", "nouns", noun), determiner="the", relative=relative)]

    @cached_property
    def relative_nouns(self) -> set[str]:
        """The nouns that a relative clause can describe: see `World`."""
        raise NotImplementedError

    def attribute(self, noun: str, short: bool) -> list[Rule]:
        """Perhaps an adjective; `short` keeps to those that need no 的, where an owner already has one."""
        suitable = [
            (weight * (6 if word.uses == "a" else 1), word)
            for weight, word in (self.adjectives("a") if self.words.nouns[noun].number != "bare" else ())
            if self.fits(word, noun) and not (short and len(word.before_noun) > 1)
        ]
        total = sum(weight for weight, _ in suitable)
        return [Rule(3), *(Rule(weight / total, Word, lemma=word.lemma) for weight, word in suitable)]

    def role(self) -> list[Rule]:
        """A doctor, as what somebody is · （是）医生."""
        nouns = self.words.members(["role"])
        return [Rule(self.weight(noun), Thing, noun=S("word", "nouns", noun), determiner="a") for noun in nouns]

    # Places, times, manners -------------------------------------------------------------------------------------

    def place(self, items: tuple[str, ...], scene: bool = False) -> list[Rule]:
        """In the park · 在公园里. `scene`: where something happens; there, what has room for people needs no 里."""
        rules = []
        for noun in self.words.members(items):
            word, entry = S("word", "nouns", noun), self.words.nouns[noun]
            free = scene and entry.kind in PLACES and entry.localiser == "里"
            rules.append(Rule(self.weight(noun), Place, noun=word, inside=S("free", "zh inside") if free else None))
        return rules

    def landmark(self) -> list[Rule]:
        """On the table, under the table · 桌子上、桌子下面."""
        rules = []
        for relation, items in LANDMARKS.items():
            for noun in self.words.members(items):
                weight, word = self.weight(noun) * (1 if relation else 3), S("word", "nouns", noun)
                rules.append(Rule(weight, Place, noun=word, relation=relation or None))
        return rules

    def time(self, kind: str, front: bool) -> list[Rule]:
        """Yesterday · 昨天. `front`: it may also open the sentence."""
        free = {"front_en": S("free", "en time"), "front_zh": S("free", "zh time")} if front else {}
        return [Rule(weight, Time, when=S("word", "adverbs", lemma), **free) for weight, lemma in self.adverbs(kind)]

    def frequency(self, asked: bool) -> list[Rule]:
        """Often, always, never · 经常、总是、从不 (no "never" in a question)."""
        return [
            Rule(weight, part=S("word", "adverbs", lemma))
            for weight, lemma in self.adverbs("frequency")
            if not (asked and lemma in ASSERTED)
        ]

    def manner(self, verb: str) -> list[Rule]:
        """Quietly, slowly · 安静地、慢慢地, now and then, for the verbs that they suit."""
        suitable = [lemma for _, lemma in self.adverbs("manner") if verb in self.words.adverbs[lemma].verbs]
        return [Rule(1), *(Rule(1 / len(suitable), part=S("word", "adverbs", lemma)) for lemma in suitable)]

    # Words ------------------------------------------------------------------------------------------------------

    def word(self, table: str, lemma: str) -> list[Rule]:
        """A word of the lexicon; where Chinese has two words for it, either may be used."""
        free = len(getattr(self.words, table)[lemma].chinese) > 1
        return [Rule(1, Word, lemma=lemma, synonym=S("free", "zh synonym") if free else None)]

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
        """How often a noun is drawn, relative to others: it falls with its rank, as in Zipf's law, but gently."""
        return 1 / (self.words.ranks[noun] + 16)

    def verbs(self, *frames: str) -> Iterable[tuple[float, Verb]]:
        """The verbs of some frames with their weights."""
        for frame in frames:
            if frame not in self._frames:
                verbs = [verb for verb in self.words.verbs.values() if verb.frame == frame]
                total = sum(1 / (rank + 30) for rank in range(len(verbs)))
                share = FRAMES.get(frame, 1)
                self._frames[frame] = [(share / (rank + 30) / total, verb) for rank, verb in enumerate(verbs)]
            yield from self._frames[frame]

    def adjectives(self, use: str) -> list[tuple[float, Adjective]]:
        """The adjectives with one of the uses "a", "p", "c", with their weights."""
        words = enumerate(self.words.adjectives.values())
        return [(1 / (rank + 60), word) for rank, word in words if use in word.uses]

    def adverbs(self, kind: str) -> list[tuple[float, str]]:
        """The adverbs of one kind with their weights."""
        words = [word.lemma for word in self.words.adverbs.values() if word.kind == kind]
        return [(1 / (rank + 4), lemma) for rank, lemma in enumerate(words)]

    def pool(self, pool: tuple[str, ...], half: int | None) -> list[str]:
        """The nouns allowed by a verb ("verb", lemma), an adjective or some classes; with `half`, every other one."""
        if (pool, half) not in self._pools:
            source, *items = pool
            if source == "verb":
                items = items[1:] or [item for item in self.words.verbs[pool[1]].object if item not in PEOPLE]
            elif source == "adjective":
                items = [item for item in self.words.adjectives[pool[1]].classes if item != "person"]
            self._pools[pool, half] = [
                noun
                for noun in self.words.members(items)
                if half in (None, self.words.ranks[noun] % 2) and (self.favour or (pool[1], noun) not in self.held_out)
            ]
        return self._pools[pool, half]

    def fits(self, adjective: Adjective, noun: str) -> bool:
        """Whether an adjective can stand before a noun."""
        kind = self.words.nouns[noun].kind
        person = "person" in adjective.classes and kind in ("people", "role")
        return person or noun in adjective.classes or kind in adjective.classes
