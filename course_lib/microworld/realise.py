"""How a meaning is said: one realiser for English and one for Chinese.

Both walk the same meaning, each with one method per kind of node, named after it. A realiser makes no choices of its
own: where a language leaves one free, the meaning carries it (`Choice`). The result is a list of tokens; a token is a
word and its links, the parts of the meaning that it expresses. Words of the two languages that share a link are
aligned: "bought" expresses the verb and the tense, 买 the verb, 了 the tense.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from course_lib.microworld.lexicon import Lexicon, Noun, printed
from course_lib.microworld.meanings import (
    Asked,
    Because,
    Both,
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

Link = tuple[int, str]  # the identity of a node, and which aspect of it
Token = tuple[str, tuple[Link, ...]]

PRONOUNS = {  # subject: (object, possessive, Chinese)
    "I": ("me", "my", "我"),
    "you": ("you", "your", "你"),
    "he": ("him", "his", "他"),
    "she": ("her", "her", "她"),
    "we": ("us", "our", "我们"),
    "they": ("them", "their", "他们"),
}
NUMBERS = {2: ("two", "两"), 3: ("three", "三"), 4: ("four", "四"), 5: ("five", "五"), 6: ("six", "六")}
ASKED = {"who": "谁", "what": "什么", "where": "哪里", "when": "什么时候"}
RELATIONS = {"under": "下面", "behind": "后面", "next to": "旁边", "in front of": "前面"}


def say(words: str | tuple[str, ...], *links: Link) -> list[Token]:
    """Tokens that share their links."""
    return [(word, links) for word in (words.split() if isinstance(words, str) else words)]


def pronoun_for(node: Any, words: Lexicon) -> str:
    """The pronoun that stands for a single person who was just mentioned."""
    if isinstance(node, Pronoun):
        return node.pronoun
    gender = words.names[node.name.lemma].gender if isinstance(node, Name) else words.nouns[node.noun.lemma].gender
    return "she" if gender == "f" else "he"


def is_bare(node: Any) -> bool:
    """Whether a noun phrase is a noun alone in Chinese when nothing asserts that it exists (没买书)."""
    return isinstance(node, Place) or (
        isinstance(node, Thing) and node.determiner in ("", "a") and not node.count and not node.owner
    )


class English:
    """Says meanings in English."""

    def __init__(self, words: Lexicon) -> None:
        self.words = words

    def tokens(self, node: Any, *arguments: Any) -> list[Token]:
        """The tokens of any node: calls the method that is named after its type."""
        return getattr(self, type(node).__name__.lower())(node, *arguments)  # type: ignore[no-any-return]

    def text(self, words: tuple[str, ...]) -> str:
        """The sentence as a person would write it."""
        text = " ".join(words)
        for mark in (" .", " ?", " ,", " 's"):
            text = text.replace(mark, mark[1:])
        return text[0].upper() + text[1:]

    def sentence(self, node: Sentence) -> list[Token]:
        mood = "statement" if node.mood == "statement" else "question"
        return self.tokens(node.clause, mood) + say("." if mood == "statement" else "?", (id(node), "end"))

    # Noun phrases

    def name(self, node: Name, case: str = "subject") -> list[Token]:
        return say(node.name.lemma, (id(node.name), ""))

    def pronoun(self, node: Pronoun, case: str = "subject") -> list[Token]:
        forms = {"subject": node.pronoun, "object": PRONOUNS[node.pronoun][0], "owner": PRONOUNS[node.pronoun][1]}
        return say(forms[case], (id(node), ""))

    def asked(self, node: Asked, case: str = "subject") -> list[Token]:
        return say(node.question, (id(node), ""))

    def both(self, node: Both, case: str = "subject") -> list[Token]:
        return self.tokens(node.first, case) + say("and", (id(node), "and")) + self.tokens(node.second, case)

    def thing(self, node: Thing, case: str = "subject") -> list[Token]:
        """Determiner, number, unit, adjective, noun, relative clause: two cups of hot tea."""
        entry, link = self.words.nouns[node.noun.lemma], (id(node), "determiner")
        count = say(NUMBERS[node.count][0], (id(node), "count")) if node.count else []
        unit: list[Token] = []
        if entry.unit and (node.determiner == "a" or node.count):
            unit = say((entry.unit + ("s" if node.count else ""), "of"), (id(node), "unit"))
        head = unit + self.word(node.adjective) + self.noun(node.noun, node.plural)
        if node.owner:
            before = self.tokens(node.owner, "owner")
            if not isinstance(node.owner, Pronoun):
                before += say("'s", (id(node), "owner"))
        elif node.determiner == "a":
            before = say("an" if head[0][0][0] in "aeiou" and head[0][0][:3] not in ("uni", "use") else "a", link)
        elif node.determiner in ("this", "that") and node.plural:
            before = say({"this": "these", "that": "those"}[node.determiner], link)
        else:
            before = say(node.determiner, link)
        after = self.relative(node.relative, node) if node.relative else []
        return before + count + head + after

    def noun(self, word: Word, plural: bool) -> list[Token]:
        entry = self.words.nouns[word.lemma]
        *first, last = entry.english.split()
        return say((*first, *entry.plural.split()[-1:]) if plural else (*first, last), (id(word), ""))

    def word(self, word: Word | None) -> list[Token]:
        """An adjective or adverb as it stands in the lexicon."""
        return say(printed(word.lemma), (id(word), "")) if word else []

    def relative(self, node: Relative, head: Thing) -> list[Token]:
        """Who likes dogs; that Anna bought."""
        link = (id(node), "relative")
        if node.gap == "subject":
            return say("who", link) + self.event(node.clause, "relative", head)
        return say("that", link) + self.event(node.clause, "statement")

    def place(self, node: Place, case: str = "") -> list[Token]:
        """In the park; as an object (visit the museum) without the preposition."""
        entry = self.words.nouns[node.noun.lemma]
        preposition = say(node.relation or entry.preposition, (id(node), "relation")) if case != "object" else []
        return preposition + say("the", (id(node), "determiner")) + self.noun(node.noun, False)

    def time(self, node: Time) -> list[Token]:
        return self.word(node.when)

    def agreement(self, node: Any) -> str:
        """The verb form that a subject takes: that of "I", "he" or "they"."""
        if isinstance(node, Pronoun):
            return {"I": "I", "he": "he", "she": "he"}.get(node.pronoun, "they")
        if isinstance(node, Both):
            return "they"
        if isinstance(node, Thing):
            pair = self.words.nouns[node.noun.lemma].unit and node.determiner == "a"
            return "they" if (node.plural and not pair) or node.count else "he"
        return "he"

    def be(self, subject: Any, past: bool = False) -> str:
        """Am, is, are, was, were."""
        forms = {"I": ("am", "was"), "he": ("is", "was"), "they": ("are", "were")}
        return forms[self.agreement(subject)][past]

    # Clauses: `mood` is "statement", "question" or "relative" (the subject is the noun before)

    def event(self, node: Event, mood: str, subject: Any = None) -> list[Token]:
        """[When] [auxiliary] subject [auxiliary] [not] verb, objects, how, where, when."""
        subject = node.subject or subject
        verb, singular = self.words.verbs[node.verb.lemma], self.agreement(subject) == "he"
        tense, no, act = (id(node), "tense"), (id(node), "not"), (id(node.verb), "")
        asked = next((part for part in (node.object, node.place, node.time) if isinstance(part, Asked)), None)
        inverted = mood == "question" and not isinstance(subject, Asked)

        auxiliary, form = "", {"past": "past", "experience": "participle", "progressive": "ing"}.get(node.tense, "base")
        modal = self.words.verbs[node.modal.lemma] if node.modal else None
        if node.tense == "experience":
            auxiliary = "has" if singular else "have"
        elif node.tense == "progressive":
            auxiliary = self.be(subject)
        elif node.tense == "future":
            auxiliary = "will"
        elif modal and not modal.rest:  # can, should, must
            auxiliary = modal.lemma
        elif node.negative or inverted:
            auxiliary, form = "did" if node.tense == "past" else "does" if singular else "do", "base"
        elif node.tense in ("habit", "present") and singular:
            form = "present"

        links = [tense, (id(node.modal), "")] if node.modal else [tense]
        helper = say(auxiliary, *links)
        if node.negative:
            adverb = say("never" if node.tense == "experience" else "not", no)
        elif node.tense == "experience" and mood == "question":
            adverb = say("ever", tense)
        else:
            adverb = self.word(node.frequency)
        if modal and modal.rest:  # want to, plan to
            first = modal.forms["present" if singular and not auxiliary else "base"]
            adverb = adverb + say((first, *modal.rest), (id(node.modal), ""))
        action = say(verb.forms[form], *([act] if auxiliary else [act, tense])) + say(verb.rest, act)

        known = [] if mood == "relative" else self.tokens(subject)
        early = say(asked.question, (id(asked), "")) if asked else []
        late: list[Token] = []
        if isinstance(node.time, Time):
            if node.time.front_en and not node.time.front_en.usual:
                early = self.time(node.time)
            else:
                late = self.time(node.time)
        before = say("before", tense) if node.tense == "experience" and mood != "question" and not node.negative else []
        where = self.place(node.place) if isinstance(node.place, Place) else []
        start = early + (helper + known if inverted else known + helper)
        return start + adverb + action + self.complements(node) + self.word(node.manner) + where + before + late

    def complements(self, node: Event) -> list[Token]:
        """What follows the verb: a book to Tom; the cup on the table; the book away."""
        verb = self.words.verbs[node.verb.lemma]
        done = self.tokens(node.object, "object") if node.object and not isinstance(node.object, Asked) else []
        done = done + say(verb.particle, (id(node.verb), ""))
        if node.recipient:
            to = self.tokens(node.recipient, "object")
            if node.dative and not node.dative.usual:
                return done + say("to", (id(node), "to")) + to
            return to + done
        return done + (self.place(node.goal) if node.goal else [])

    def quality(self, node: Quality, mood: str, subject: Any = None) -> list[Token]:
        subject = node.subject or subject
        be = say(self.be(subject, node.past), (id(node), "be"))
        about = say("not", (id(node), "not")) if node.negative else say(node.degree, (id(node), "degree"))
        when = self.time(node.time) if node.time else []
        front = when if node.time and node.time.front_en and not node.time.front_en.usual else []
        known = be + self.tokens(subject) if mood == "question" else self.tokens(subject) + be
        return front + known + about + self.word(node.adjective) + ([] if front else when)

    def comparison(self, node: Comparison, mood: str) -> list[Token]:
        start = self.tokens(node.subject) + say(self.be(node.subject), (id(node), "be"))
        adjective, act = self.words.adjectives[node.adjective.lemma], (id(node.adjective), "")
        than = self.tokens(node.than, "object")
        if node.degree == "less":
            link = (id(node), "than")
            return start + say("not as", link) + say(adjective.english, act) + say("as", link) + than
        degree = say("much", (id(node), "degree")) if node.degree == "much" else []
        return start + degree + say(adjective.comparative, act) + say("than", (id(node), "than")) + than

    def location(self, node: Location, mood: str) -> list[Token]:
        be, no = say(self.be(node.subject), (id(node), "be")), say("not", (id(node), "not")) if node.negative else []
        subject, place = self.tokens(node.subject), self.tokens(node.place)
        if isinstance(node.place, Asked):
            return place + be + subject
        return (be + subject if mood == "question" else subject + be) + no + place

    def existence(self, node: Existence, mood: str) -> list[Token]:
        there, be = say("there", (id(node), "be")), say(self.be(node.thing), (id(node), "be"))
        no = say("no", (id(node), "not")) if node.negative else []
        return (
            (be + there if mood == "question" else there + be) + no + self.tokens(node.thing) + self.place(node.place)
        )

    def identity(self, node: Identity, mood: str) -> list[Token]:
        subject, be = self.tokens(node.subject), say(self.be(node.subject), (id(node), "be"))
        no = say("not", (id(node), "not")) if node.negative else []
        return (be + subject if mood == "question" else subject + be) + no + self.tokens(node.role)

    def report(self, node: Report, mood: str) -> list[Token]:
        verb, singular = self.words.verbs[node.verb.lemma], self.agreement(node.subject) == "he"
        no = say("does not" if singular else "do not", (id(node), "not")) if node.negative else []
        said = say(verb.forms["present" if singular and not no else "base"], (id(node.verb), ""))
        that = say("that", (id(node), "that"))
        return self.tokens(node.subject) + no + said + that + self.tokens(node.clause, "statement")

    def because(self, node: Because, mood: str) -> list[Token]:
        """The second clause has a pronoun for the subject."""
        again = say(pronoun_for(node.subject, self.words), (id(node), "again"))
        whole = self.tokens(node.subject)
        effect = self.event(node.effect, "statement", node.subject)[len(whole) :]
        cause = self.quality(node.cause, "statement", node.subject)[len(whole) :]
        why = say("because", (id(node), "because"))
        if node.order and not node.order.usual:
            return why + whole + cause + say(",", (id(node), "comma")) + again + effect
        return whole + effect + why + again + cause


class Chinese:
    """Says meanings in Chinese."""

    def __init__(self, words: Lexicon) -> None:
        self.words = words

    def tokens(self, node: Any, *arguments: Any) -> list[Token]:
        """The tokens of any node: calls the method that is named after its type."""
        return getattr(self, type(node).__name__.lower())(node, *arguments)  # type: ignore[no-any-return]

    def text(self, words: tuple[str, ...]) -> str:
        """The sentence as a person would write it."""
        return "".join(words)

    def sentence(self, node: Sentence) -> list[Token]:
        end = say("。" if node.mood == "statement" else "？", (id(node), "end"))
        ask = say("吗", (id(node), "end")) if node.mood == "yes-no" else []
        return self.tokens(node.clause, "statement" if node.mood == "statement" else "question") + ask + end

    # Noun phrases

    def name(self, node: Name) -> list[Token]:
        return say(self.words.names[node.name.lemma].chinese[0], (id(node.name), ""))

    def pronoun(self, node: Pronoun) -> list[Token]:
        return say(PRONOUNS[node.pronoun][2], (id(node), ""))

    def asked(self, node: Asked) -> list[Token]:
        return say(ASKED[node.question], (id(node), ""))

    def both(self, node: Both) -> list[Token]:
        return self.tokens(node.first) + say("和", (id(node), "and")) + self.tokens(node.second)

    def thing(self, node: Thing, bare: bool = False) -> list[Token]:
        """Owner or relative clause, determiner, number, measure word, adjective, noun: 那两只大猫.

        `bare` leaves out what the context makes needless: "the" after 把, "a" after a negation and in questions.
        """
        entry = self.words.nouns[node.noun.lemma]
        owner = self.owner(node, entry) if node.owner else []
        determiner = [] if bare and not node.relative and self.needless(node) else self.determiner(node, entry)
        head = self.attribute(node.adjective) + self.word(node.noun, entry.chinese)
        if node.relative is None:
            return owner + determiner + head
        clause = self.relative(node.relative)
        usual = node.relative.gap == "subject" and node.relative.order and node.relative.order.usual
        return determiner + clause + head if usual else clause + determiner + head

    @staticmethod
    def needless(node: Thing) -> bool:
        return node.determiner == "a" or (node.determiner == "the" and not node.plural)

    def determiner(self, node: Thing, entry: Noun) -> list[Token]:
        link, counted = (id(node), "determiner"), (id(node), "count")
        measure = say(entry.measure, (id(node), "unit"), counted if node.count else link)
        if node.determiner in ("some", "a lot of"):
            return say({"some": "一些", "a lot of": "很多"}[node.determiner], link)
        if node.determiner == "a":
            return say("一", link) + measure
        if node.determiner == "the" and entry.number in ("mass", "plural") and entry.unit != "pair":
            return []
        pointer = {"this": "这", "that": "那", "the": "那"}.get(node.determiner)
        start = say(pointer, link) if pointer else []
        if node.count:
            return start + say(NUMBERS[node.count][1], counted) + measure
        if start and node.plural and not entry.unit:
            return start + say("些", link)
        return start + measure if start else []

    def owner(self, node: Thing, entry: Noun) -> list[Token]:
        """我妈妈, but 我的书 and 安娜的妈妈."""
        close = entry.kind == "kin" and isinstance(node.owner, Pronoun)
        return self.tokens(node.owner) + ([] if close else say("的", (id(node), "owner")))

    def attribute(self, word: Word | None) -> list[Token]:
        return say(self.words.adjectives[word.lemma].before_noun, (id(word), "")) if word else []

    def word(self, word: Word, forms: tuple[str, ...]) -> list[Token]:
        """One of the synonyms of a word."""
        return say(forms[bool(word.synonym) and not word.synonym.usual], (id(word), ""))

    def adverb(self, word: Word | None) -> list[Token]:
        return self.word(word, self.words.adverbs[word.lemma].chinese) if word else []

    def relative(self, node: Relative) -> list[Token]:
        """喜欢狗的, 安娜买的."""
        return self.event(node.clause, "relative") + say("的", (id(node), "relative"))

    def place(self, node: Place, bare: bool = False) -> list[Token]:
        """公园里 (without 在); as an object (去公园) without the last word."""
        entry = self.words.nouns[node.noun.lemma]
        side = RELATIONS[node.relation] if node.relation else entry.localiser
        return self.word(node.noun, entry.chinese) + ([] if bare else say(side, (id(node), "relation")))

    def time(self, node: Any) -> list[Token]:
        return self.adverb(node.when) if isinstance(node, Time) else self.tokens(node) if node else []

    # Clauses: `mood` is "statement", "question" or "relative"

    def event(self, node: Event, mood: str, subject: list[Token] | None = None) -> list[Token]:
        """[When] subject [when] [how often] [not] [aspect] [where] [how] [把 object] verb [了] [object]."""
        subject = self.tokens(node.subject) if node.subject else subject or []
        when = self.time(node.time)
        if isinstance(node.time, Time) and node.time.front_zh and not node.time.front_zh.usual:
            start = when + subject
        else:
            start = subject + when
        asked = isinstance(node.place, Asked) or isinstance(node.time, Asked)
        if node.tense == "past" and asked:  # 安娜是什么时候买那本书的？
            focus = say("是", (id(node), "tense"))
            where = self.where(node)
            return subject + focus + when + where + self.action(node, "focus") + say("的", (id(node), "tense"))
        middle = self.adverb(node.frequency) + self.negation(node) + self.aspect(node) + self.where(node)
        return start + middle + self.adverb(node.manner) + self.action(node, mood)

    def where(self, node: Event) -> list[Token]:
        """在公园里; after 正在 or 在 without its own 在."""
        if node.place is None:
            return []
        merged = node.tense == "progressive"
        at = say("在", (id(node.place), "relation")) if not merged else []
        return at + self.tokens(node.place)

    def negation(self, node: Event) -> list[Token]:
        link = (id(node), "not")
        if not node.negative:
            return []
        if node.tense in ("past", "experience", "progressive"):
            no = say("没有" if node.wording and not node.wording.usual else "没", link)
            return say("从来", link) + no if node.tense == "experience" else no
        return say("没" if node.verb.lemma == "have" else "不", link)

    def aspect(self, node: Event) -> list[Token]:
        """正在, 会, or a word such as 想."""
        link = (id(node), "tense")
        if node.tense == "progressive":
            now = "正在" if not node.negative and node.wording and node.wording.usual else "在"
            return say(now, link, *([(id(node.place), "relation")] if node.place else []))
        if node.tense == "future":
            return say("会", link)
        return self.word(node.modal, self.words.verbs[node.modal.lemma].chinese) if node.modal else []

    def action(self, node: Event, mood: str) -> list[Token]:
        """The verb, its objects and 了 or 过: 把门关上了, 买了一本书, 游过泳, 买书了（吗）."""
        verb, act, tense = self.words.verbs[node.verb.lemma], (id(node.verb), ""), (id(node), "tense")
        chosen = self.word(node.verb, verb.chinese)[0][0]
        head, _, tail = chosen.partition("+")
        done = say("了", tense) if node.tense == "past" and not node.negative and mood != "focus" else []
        if node.tense == "experience":
            return say(head, act) + say("过", tense) + say(tail, act) + self.objects(node, mood)
        said = say(head + tail, act)
        if mood == "relative" and not node.object:  # the noun that follows is the object, or there is none
            done = []
        if node.goal:  # 把杯子放在桌子上
            moved = say("把", (id(node), "ba")) + self.thing_after_ba(node.object)
            return moved + said + say("在", (id(node.goal), "relation")) + done + self.place(node.goal)
        if node.order and node.order.usual:
            moved = say("把", (id(node), "ba")) + self.thing_after_ba(node.object)
            return moved + said + done + (self.tokens(node.recipient) if node.recipient else [])
        objects = self.objects(node, mood)
        if mood == "question" and is_bare(node.object) and not node.recipient:
            return said + objects + done
        return said + done + objects

    def thing_after_ba(self, node: Any) -> list[Token]:
        return self.thing(node, bare=True) if isinstance(node, Thing) else self.tokens(node)

    def objects(self, node: Event, mood: str) -> list[Token]:
        to = self.tokens(node.recipient) if node.recipient else []
        if node.object is None:
            return to
        bare = isinstance(node.object, Place) or (
            is_bare(node.object) and (node.negative or mood in ("question", "focus"))
        )
        return to + (self.tokens(node.object, bare) if bare else self.tokens(node.object))

    def quality(self, node: Quality, mood: str, subject: list[Token] | None = None) -> list[Token]:
        subject = self.tokens(node.subject) if node.subject else subject or []
        forms = self.words.adjectives[node.adjective.lemma].chinese
        adjective, degree = self.word(node.adjective, forms), (id(node), "degree")
        when = self.time(node.time)
        if node.negative:
            adjective = say("没" if adjective[0][0].startswith("有") else "不", (id(node), "not")) + adjective
        elif node.degree == "too":
            adjective = say("太", degree) + adjective + say("了", degree)
        elif node.degree == "very":
            adjective = say("非常", degree) + adjective
        elif mood == "statement":
            adjective = say("很", (id(node), "be")) + adjective
        if node.time and node.time.front_zh and not node.time.front_zh.usual:
            return when + subject + adjective
        return subject + when + adjective

    def comparison(self, node: Comparison, mood: str) -> list[Token]:
        adjective = self.word(node.adjective, self.words.adjectives[node.adjective.lemma].chinese)
        than = say("没有" if node.degree == "less" else "比", (id(node), "than"))
        much = say("得多", (id(node), "degree")) if node.degree == "much" else []
        return self.tokens(node.subject) + than + self.tokens(node.than) + adjective + much

    def location(self, node: Location, mood: str) -> list[Token]:
        no = say("不", (id(node), "not")) if node.negative else []
        at = say("在", (id(node), "be"), (id(node.place), "relation"))
        return self.tokens(node.subject) + no + at + self.tokens(node.place)

    def existence(self, node: Existence, mood: str) -> list[Token]:
        no = say("没", (id(node), "not")) if node.negative else []
        has = say("有", (id(node), "be"))
        return self.place(node.place) + no + has + self.thing(node.thing, bare=mood == "question")

    def identity(self, node: Identity, mood: str) -> list[Token]:
        no = say("不", (id(node), "not")) if node.negative else []
        return self.tokens(node.subject) + no + say("是", (id(node), "be")) + self.thing(node.role, bare=True)

    def report(self, node: Report, mood: str) -> list[Token]:
        no = say("不", (id(node), "not")) if node.negative else []
        said = self.word(node.verb, self.words.verbs[node.verb.lemma].chinese)
        return self.tokens(node.subject) + no + said + self.tokens(node.clause, "statement")

    def because(self, node: Because, mood: str) -> list[Token]:
        """The reason always comes first, and has the full subject."""
        again = say(PRONOUNS[pronoun_for(node.subject, self.words)][2], (id(node), "again"))
        because = (id(node), "because")
        cause = self.quality(node.cause, "statement", self.tokens(node.subject))
        effect = self.event(node.effect, "statement", again)
        return say("因为", because) + cause + say("，", (id(node), "comma")) + say("所以", because) + effect


@dataclass(frozen=True)
class Realisation:
    """One way to say a meaning: tokens, text, the links of each token, and how likely the wording is."""

    words: tuple[str, ...]
    text: str
    links: tuple[tuple[Link, ...], ...]


def realise(meaning: Sentence, language: str, words: Lexicon) -> Realisation:
    """Say a meaning in "en" or "zh", with the wordings that its choices ask for."""
    speaker: English | Chinese = English(words) if language == "en" else Chinese(words)
    tokens = speaker.tokens(meaning)
    plain = tuple(word for word, _ in tokens)
    return Realisation(plain, speaker.text(plain), tuple(links for _, links in tokens))
