"""What can be meant in the micro-world.

A meaning is a small tree of frozen dataclasses. It says nothing about the words or the word order of one language,
except that a few nodes carry a `Choice`: which of two wordings to use, where a language leaves that free. How likely
each meaning is stands in `world.py`, how it is said in `realise.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from itertools import product
from math import prod
from typing import Any

# How often the usual wording is used, where a language leaves a choice.
USUAL = {
    "zh synonym": 0.80,  # 看见 | 看到
    "zh time": 0.80,  # 安娜昨天… | 昨天安娜…
    "zh ba": 0.80,  # 把门关上了 | 关上了门
    "zh not": 0.80,  # 没 | 没有
    "zh progressive": 0.80,  # 正在 | 在
    "zh future": 0.80,  # 会 | 要
    "zh split": 0.80,  # 跑步了 | 跑了步
    "zh inside": 0.80,  # 在公园里 | 在公园
    "zh and": 0.80,  # 和 | 跟
    "zh so": 0.80,  # 因为……，所以…… | 因为……，……
    "zh relative": 0.80,  # 那个喜欢狗的女孩 | 喜欢狗的那个女孩
    "en time": 0.80,  # … yesterday | Yesterday …
    "en dative": 0.70,  # gave Tom a book | gave a book to Tom
    "en because": 0.75,  # A because B | Because B, A
}


@dataclass(frozen=True, slots=True)
class Choice:
    """A free choice of wording. Not part of the meaning: fields that hold one take no part in comparisons."""

    name: str
    usual: bool


def unusual(choice: Choice | None) -> bool:
    """Whether there is a choice here, and it fell on the less usual wording."""
    return choice is not None and not choice.usual


@dataclass(frozen=True, slots=True, repr=False)
class Node:
    """A part of a meaning; prints as its fields that are not at their defaults."""

    def __repr__(self) -> str:
        shown = [(item.name, getattr(self, item.name), item.default) for item in fields(self) if item.repr]
        inner = ", ".join(f"{name}={value!r}" for name, value, default in shown if value != default)
        return f"{type(self).__name__}({inner})"


@dataclass(frozen=True, slots=True, repr=False)
class Word(Node):
    """A word of the lexicon, by lemma."""

    lemma: str
    synonym: Choice | None = field(default=None, compare=False, repr=False)

    def __repr__(self) -> str:
        return repr(self.lemma)


@dataclass(frozen=True, slots=True, repr=False)
class Name(Node):
    """Anna · 安娜."""

    name: Word


@dataclass(frozen=True, slots=True, repr=False)
class Pronoun(Node):
    """I, you, he, she, we or they, whatever its case."""

    pronoun: str


@dataclass(frozen=True, slots=True, repr=False)
class Asked(Node):
    """What a question asks for: "who", "what", "where" or "when"."""

    question: str


@dataclass(frozen=True, slots=True, repr=False)
class Thing(Node):
    """A noun phrase. `determiner` is "a", "the", "this", "that", "some", "a lot of" or "" (none, or the owner's)."""

    noun: Word
    determiner: str = ""
    plural: bool = False
    count: int | None = None
    adjective: Word | None = None
    owner: Any = None
    relative: Relative | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Both(Node):
    """An apple and two cakes · 一个苹果和两个蛋糕."""

    first: Any
    second: Any
    wording: Choice | None = field(default=None, compare=False, repr=False)  # 跟


@dataclass(frozen=True, slots=True, repr=False)
class Place(Node):
    """In the park · 在公园里. `relation` is None where the noun has its own preposition."""

    noun: Word
    relation: str | None = None
    inside: Choice | None = field(default=None, compare=False, repr=False)  # without 里


@dataclass(frozen=True, slots=True, repr=False)
class Time(Node):
    """Yesterday · 昨天."""

    when: Word
    front_en: Choice | None = field(default=None, compare=False, repr=False)
    front_zh: Choice | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True, repr=False)
class Event(Node):
    """Somebody does something. `subject` is None where it is said elsewhere (relative clauses, reasons)."""

    tense: str  # "past", "experience", "progressive", "future", "habit", "present", "past state", "modal"
    verb: Word
    subject: Any = None
    negative: bool = False
    object: Any = None
    recipient: Any = None
    goal: Place | None = None
    place: Any = None
    time: Any = None
    frequency: Word | None = None
    manner: Word | None = None
    modal: Word | None = None
    order: Choice | None = field(default=None, compare=False, repr=False)  # 把
    dative: Choice | None = field(default=None, compare=False, repr=False)
    wording: Choice | None = field(default=None, compare=False, repr=False)  # 没有, 在, 要, 跑了步


@dataclass(frozen=True, slots=True, repr=False)
class Relative(Node):
    """A clause that describes a noun; `gap` says what the noun is in it, "subject" or "object"."""

    clause: Event
    gap: str
    order: Choice | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True, repr=False)
class Quality(Node):
    """The soup is very hot · 汤很烫. `degree` is "", "very" or "too"."""

    adjective: Word
    subject: Any = None
    degree: str = ""
    negative: bool = False
    past: bool = False
    time: Time | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Comparison(Node):
    """Anna is taller than Tom · 安娜比汤姆高. `degree` is "more", "much" or "less" (not as tall as)."""

    subject: Any
    adjective: Word
    than: Any
    degree: str


@dataclass(frozen=True, slots=True, repr=False)
class Location(Node):
    """My cat is under the table · 我的猫在桌子下面."""

    subject: Any
    place: Any
    negative: bool = False
    past: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class Existence(Node):
    """There is a cat under the table · 桌子下面有一只猫."""

    thing: Thing
    place: Place
    negative: bool = False
    past: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class Identity(Node):
    """Anna is a doctor · 安娜是医生."""

    subject: Any
    role: Thing
    negative: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class Report(Node):
    """Anna says that ... · 安娜说……."""

    subject: Any
    verb: Word
    clause: Any
    negative: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class Because(Node):
    """Anna cried because she was sad · 因为安娜很难过，所以她哭了. One subject for both clauses."""

    subject: Any
    effect: Event
    cause: Quality
    order: Choice | None = field(default=None, compare=False, repr=False)
    wording: Choice | None = field(default=None, compare=False, repr=False)  # without 所以


@dataclass(frozen=True, slots=True, repr=False)
class Sentence(Node):
    """A clause with its mood: "statement", "yes-no" or "asked" (one of its parts is `Asked`)."""

    clause: Any
    mood: str = "statement"


# Looking at meanings ---------------------------------------------------------------------------------------------


def children(node: Node) -> Iterator[tuple[str, Node]]:
    """The parts of a node that are nodes themselves, with their field names."""
    for name in node.__dataclass_fields__:
        value = getattr(node, name)
        if isinstance(value, Node):
            yield name, value


def depth(node: Any) -> int:
    """How deeply clauses and possessors are nested in each other: 0 for "Anna's cat slept"."""
    deepest = 0
    for name, part in children(node):
        nested = name in ("relative", "owner") and not isinstance(part, Name | Pronoun)
        nested = nested or (isinstance(node, Report) and name == "clause")
        deepest = max(deepest, depth(part) + nested)
    return deepest


def verb_noun_pairs(node: Any) -> Iterator[tuple[str, str]]:
    """The (verb, noun) pairs of a meaning: each verb with the things that are its object."""
    if isinstance(node, Event):
        for thing in (node.object.first, node.object.second) if isinstance(node.object, Both) else (node.object,):
            if isinstance(thing, Thing):
                yield node.verb.lemma, thing.noun.lemma
    if isinstance(node, Thing) and node.relative and node.relative.gap == "object":
        yield node.relative.clause.verb.lemma, node.noun.lemma
    for _, part in children(node):
        yield from verb_noun_pairs(part)


def variants(node: Any, language: str) -> list[tuple[Any, float]]:
    """Every way to make the free choices about `language`, as (node, probability); the usual one comes first."""
    names, options = [], []
    for item in fields(node):
        value = getattr(node, item.name)
        if isinstance(value, Choice) and value.name.startswith(language):
            usual = USUAL[value.name]
            names.append(item.name)
            options.append([(Choice(value.name, True), usual), (Choice(value.name, False), 1 - usual)])
        elif isinstance(value, Node):
            names.append(item.name)
            options.append(variants(value, language))
    return [
        (replace(node, **dict(zip(names, (value for value, _ in chosen), strict=True))), prod(p for _, p in chosen))
        for chosen in product(*options)
    ]


def outline(node: Node, name: str = "", indent: int = 0) -> str:
    """A meaning as an indented tree, one part a line."""
    start = "  " * indent + (f"{name}: " if name else "")
    if isinstance(node, Word):
        return start + node.lemma
    shown = [(item.name, getattr(node, item.name), item.default) for item in fields(node) if item.repr]
    own = [f"{label}={value}" for label, value, default in shown if value != default and not isinstance(value, Node)]
    below = [outline(part, label, indent + 1) for label, part in children(node)]
    return "\n".join([start + " ".join([type(node).__name__, *own]), *below])
