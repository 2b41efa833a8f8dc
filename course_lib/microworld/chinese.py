"""How a meaning is said in Chinese, one method per kind of node."""

from __future__ import annotations

from typing import Any

from course_lib.microworld.lexicon import Noun
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
    unusual,
)
from course_lib.microworld.realise import Realiser, Token, tokens

PRONOUNS = {"I": "我", "you": "你", "he": "他", "she": "她", "we": "我们", "they": "他们"}
NUMBERS = {2: "两", 3: "三", 4: "四", 5: "五", 6: "六"}
ASKED = {"who": "谁", "what": "什么", "where": "哪里", "when": "什么时候"}
RELATIONS = {"under": "下面", "behind": "后面", "next to": "旁边", "in front of": "前面"}


class Chinese(Realiser):
    """Says meanings in Chinese."""

    def write(self, words: tuple[str, ...]) -> str:
        """The sentence as a person would write it."""
        return "".join(words)

    def sentence(self, node: Sentence) -> list[Token]:
        """The clause, 吗 after a yes–no question, and the final mark."""
        end = tokens("。" if node.mood == "statement" else "？", (id(node), "end"))
        ask = tokens("吗", (id(node), "end")) if node.mood == "yes-no" else []
        return self.say(node.clause, "statement" if node.mood == "statement" else "question") + ask + end

    # Noun phrases

    def name(self, node: Name) -> list[Token]:
        """安娜."""
        return tokens(self.words.names[node.name.lemma].chinese[0], (id(node.name), ""))

    def pronoun(self, node: Pronoun) -> list[Token]:
        """我."""
        return tokens(PRONOUNS[node.pronoun], (id(node), ""))

    def asked(self, node: Asked) -> list[Token]:
        """谁, 什么."""
        return tokens(ASKED[node.question], (id(node), ""))

    def both(self, node: Both) -> list[Token]:
        """一个苹果和两个蛋糕."""
        joined = tokens("跟" if unusual(node.wording) else "和", (id(node), "and"))
        return self.say(node.first) + joined + self.say(node.second)

    def thing(self, node: Thing, bare: bool = False, inner: bool = False) -> list[Token]:
        """Owner or relative clause, determiner, number, measure word, adjective, noun: 那两只大猫.

        `bare` leaves out what the context makes needless: "the" after 把, "a" after a negation and in questions.
        `inner` is a phrase that is itself an owner: 我老师的书.
        """
        entry = self.words.nouns[node.noun.lemma]
        owner = self.owner(node, entry, inner) if node.owner else []
        determiner = [] if bare and not node.relative and self.needless(node) else self.determiner(node, entry)
        head = self.attribute(node.adjective) + self.word(node.noun, entry.chinese)
        if node.relative is None:
            return owner + determiner + head
        clause, order = self.relative(node.relative), node.relative.order
        return determiner + clause + head if order and order.usual else clause + determiner + head

    @staticmethod
    def needless(node: Thing) -> bool:
        """Whether 把 or a question makes the determiner needless."""
        return node.determiner == "a" or (node.determiner == "the" and not node.plural)

    def determiner(self, node: Thing, entry: Noun) -> list[Token]:
        """一只, 那两只, 这些, 很多: determiner, number and measure word."""
        link, counted = (id(node), "determiner"), (id(node), "count")
        measure = tokens(entry.measure, (id(node), "unit"), counted if node.count else link)
        if node.determiner in ("some", "a lot of"):
            return tokens({"some": "一些", "a lot of": "很多"}[node.determiner], link)
        if node.determiner == "a":
            return tokens("一", link) + measure
        if node.determiner == "the" and entry.number in ("mass", "plural") and entry.unit != "pair":
            return []
        pointer = {"this": "这", "that": "那", "the": "那"}.get(node.determiner)
        start = tokens(pointer, link) if pointer else []
        if node.count:
            return start + tokens(NUMBERS[node.count], counted) + measure
        if start and node.plural and not entry.unit:
            return start + tokens("些", link)
        return start + measure if start else []

    def owner(self, node: Thing, entry: Noun, inner: bool) -> list[Token]:
        """我妈妈, but 我的书 and 安娜的妈妈."""
        close = isinstance(node.owner, Pronoun) and (entry.kind == "kin" or inner)
        owner = self.thing(node.owner, inner=True) if isinstance(node.owner, Thing) else self.say(node.owner)
        return owner + ([] if close else tokens("的", (id(node), "owner")))

    def attribute(self, word: Word | None) -> list[Token]:
        """大, 漂亮的."""
        return tokens(self.words.adjectives[word.lemma].before_noun, (id(word), "")) if word else []

    def word(self, word: Word, forms: tuple[str, ...]) -> list[Token]:
        """One of the synonyms of a word."""
        return tokens(forms[unusual(word.synonym)], (id(word), ""))

    def adverb(self, word: Word | None) -> list[Token]:
        """经常, 慢慢地."""
        return self.word(word, self.words.adverbs[word.lemma].chinese) if word else []

    def relative(self, node: Relative) -> list[Token]:
        """喜欢狗的, 安娜买的."""
        return self.event(node.clause, "relative") + tokens("的", (id(node), "relative"))

    def place(self, node: Place, bare: bool = False) -> list[Token]:
        """公园里 (without 在); as an object (去公园) without the last word."""
        entry = self.words.nouns[node.noun.lemma]
        side = RELATIONS[node.relation] if node.relation else entry.localiser
        bare = bare or unusual(node.inside)
        return self.word(node.noun, entry.chinese) + ([] if bare else tokens(side, (id(node), "relation")))

    def time(self, node: Any) -> list[Token]:
        """昨天, 什么时候."""
        return self.adverb(node.when) if isinstance(node, Time) else self.say(node) if node else []

    # Clauses: `mood` is "statement", "question" or "relative"

    def event(self, node: Event, mood: str, subject: list[Token] | None = None) -> list[Token]:
        """[When] subject [when] [how often] [not] [aspect] [where] [how] [把 object] verb [了] [object]."""
        subject = self.say(node.subject) if node.subject else subject or []
        when = self.time(node.time)
        if isinstance(node.time, Time) and unusual(node.time.front_zh):
            start = when + subject
        else:
            start = subject + when
        asked = isinstance(node.place, Asked) or isinstance(node.time, Asked)
        if node.tense == "past" and asked:  # 安娜是什么时候买那本书的？
            focus = tokens("是", (id(node), "tense"))
            where = self.where(node)
            return subject + focus + when + where + self.action(node, "focus") + tokens("的", (id(node), "tense"))
        middle = self.adverb(node.frequency) + self.negation(node) + self.aspect(node) + self.where(node)
        return start + middle + self.adverb(node.manner) + self.action(node, mood)

    def where(self, node: Event) -> list[Token]:
        """在公园里; after 正在 or 在 without its own 在."""
        if node.place is None:
            return []
        at = tokens("在", (id(node.place), "relation"), (id(node.place), "")) if node.tense != "progressive" else []
        return at + self.say(node.place)

    def negation(self, node: Event) -> list[Token]:
        """没 or 没有 for what did not happen, 不 for the rest."""
        link = (id(node), "not")
        if not node.negative:
            return []
        if node.tense in ("past", "experience", "progressive"):
            done = [(id(node), "tense")] if node.tense == "past" else []
            no = tokens("没有" if unusual(node.wording) else "没", link, *done)
            return tokens("从来", link) + no if node.tense == "experience" else no
        if node.tense in ("habit", "present"):  # it stands for "do not", which has the tense
            return tokens("没" if node.verb.lemma == "have" else "不", link, (id(node), "tense"))
        return tokens("不", link)

    def aspect(self, node: Event) -> list[Token]:
        """正在 or 在, 会 or 要, or a word such as 想."""
        link = (id(node), "tense")
        if node.tense == "progressive":
            now = "在" if node.negative or unusual(node.wording) else "正在"
            return tokens(now, link, *([(id(node.place), "relation")] if node.place else []))
        if node.tense == "future":
            return tokens("要" if unusual(node.wording) else "会", link)
        return self.word(node.modal, self.words.verbs[node.modal.lemma].chinese) if node.modal else []

    def action(self, node: Event, mood: str) -> list[Token]:
        """The verb with its objects and 了 or 过: 把门关上了, 买了一本书, 跑了步, 游过泳; asked: 买书了（吗）."""
        verb, act, tense = self.words.verbs[node.verb.lemma], (id(node.verb), ""), (id(node), "tense")
        head, _, tail = self.word(node.verb, verb.chinese)[0][0].partition("+")
        if node.tense == "experience":
            return tokens(head, act) + tokens("过", tense) + tokens(tail, act) + self.objects(node, mood)
        # 了 is left out after a negation, in 是…的, and before 的 where no object stands between
        finished = node.tense == "past" and not node.negative and mood != "focus"
        finished = finished and not (mood == "relative" and node.object is None)
        done = tokens("了", tense) if finished else []
        if finished and unusual(node.wording):
            return tokens(head, act) + done + tokens(tail, act)
        said = tokens(head + tail, act)
        if node.goal or (node.order and node.order.usual):
            what = self.thing(node.object, bare=True) if isinstance(node.object, Thing) else self.say(node.object)
            said = tokens("把", (id(node), "ba")) + what + said
            if node.goal:
                said, after = said + tokens("在", (id(node.goal), "relation")), self.place(node.goal)
            else:
                after = self.say(node.recipient) if node.recipient else []
            late = True
        else:
            after, late = self.objects(node, mood), self.is_bare(node, mood) and node.recipient is None
        return said + (after + done if late and mood == "question" else done + after)

    def objects(self, node: Event, mood: str) -> list[Token]:
        """The recipient and the object after the verb: （送给）汤姆一本书."""
        to = self.say(node.recipient) if node.recipient else []
        if node.object is None:
            return to
        return to + (self.say(node.object, True) if self.is_bare(node, mood) else self.say(node.object))

    @staticmethod
    def is_bare(node: Event, mood: str) -> bool:
        """Whether the object is a noun alone, as when nothing says that there is one: 没买书, 买书了吗, 去公园."""
        thing = node.object
        if isinstance(thing, Place):
            return True
        if not isinstance(thing, Thing) or thing.determiner not in ("", "a") or thing.count or thing.owner:
            return False
        return node.negative or mood == "focus" or (mood == "question" and not (thing.determiner and thing.adjective))

    def quality(self, node: Quality, mood: str, subject: list[Token] | None = None) -> list[Token]:
        """汤很烫; 很 says no more than "is"."""
        subject = self.say(node.subject) if node.subject else subject or []
        forms = self.words.adjectives[node.adjective.lemma].chinese
        adjective, degree = self.word(node.adjective, forms), (id(node), "degree")
        when = self.time(node.time)
        if node.negative:
            adjective = tokens("没" if adjective[0][0].startswith("有") else "不", (id(node), "not")) + adjective
        elif node.degree == "too":
            adjective = tokens("太", degree) + adjective + tokens("了", degree)
        elif node.degree == "very":
            adjective = tokens("非常", degree) + adjective
        elif mood == "statement":
            adjective = tokens("很", (id(node), "be")) + adjective
        if node.time and unusual(node.time.front_zh):
            return when + subject + adjective
        return subject + when + adjective

    def comparison(self, node: Comparison, mood: str) -> list[Token]:
        """安娜比汤姆高; 安娜没有汤姆高."""
        adjective = self.word(node.adjective, self.words.adjectives[node.adjective.lemma].chinese)
        than = tokens("没有" if node.degree == "less" else "比", (id(node), "than"))
        much = tokens("得多", (id(node), "degree")) if node.degree == "much" else []
        return self.say(node.subject) + than + self.say(node.than) + adjective + much

    def location(self, node: Location, mood: str) -> list[Token]:
        """我的钥匙在桌子下面."""
        no = tokens("不", (id(node), "not")) if node.negative else []
        at = tokens("在", (id(node), "be"), (id(node.place), "relation"))
        return self.say(node.subject) + no + at + self.say(node.place)

    def existence(self, node: Existence, mood: str) -> list[Token]:
        """花园里有一只猫."""
        no = tokens("没", (id(node), "not")) if node.negative else []
        has = tokens("有", (id(node), "be"))
        return self.place(node.place) + no + has + self.thing(node.thing, bare=mood == "question")

    def identity(self, node: Identity, mood: str) -> list[Token]:
        """安娜是医生."""
        no = tokens("不", (id(node), "not")) if node.negative else []
        return self.say(node.subject) + no + tokens("是", (id(node), "be")) + self.thing(node.role, bare=True)

    def report(self, node: Report, mood: str) -> list[Token]:
        """安娜说汤姆很累."""
        no = tokens("不", (id(node), "not")) if node.negative else []
        said = self.word(node.verb, self.words.verbs[node.verb.lemma].chinese)
        return self.say(node.subject) + no + said + self.say(node.clause, "statement")

    def because(self, node: Because, mood: str) -> list[Token]:
        """The reason always comes first, and has the full subject."""
        again = tokens(PRONOUNS[self.pronoun_for(node.subject)], (id(node), "again"))
        because = (id(node), "because")
        cause = self.quality(node.cause, "statement", self.say(node.subject))
        effect = self.event(node.effect, "statement", again)
        so = [] if unusual(node.wording) else tokens("所以", because)
        return tokens("因为", because) + cause + tokens("，", (id(node), "comma")) + so + effect
