"""The words of the micro-world, read from the tables in `data/microworld/`.

To add a noun, add one line to `nouns.tsv`; its class decides which verbs and adjectives may go with it. The columns
are explained at the head of each table. A mistake in a table is reported with its file, line and column.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import TypeVar

Word = TypeVar("Word")
DATA = Path(__file__).resolve().parents[2] / "data" / "microworld"


class TableError(ValueError):
    """A table does not keep to its schema; the message names the file, the line and the column."""


@dataclass(frozen=True)
class Noun:
    """A noun: English singular (or plural-only) form, Chinese synonyms with the usual one first, and measure word."""

    lemma: str
    english: str
    plural: str
    chinese: tuple[str, ...]
    kind: str
    measure: str
    number: str  # "" countable, "mass", "plural" (a pair of shoes), "bare" (maths)
    unit: str
    gender: str  # "f" or "m" for relatives, otherwise ""
    preposition: str  # how something can be there: "in", "on", "at"; "" if it cannot
    localiser: str  # the word after the noun in Chinese: 里, 上; "" for none


@dataclass(frozen=True)
class Verb:
    """A verb: its English forms, its Chinese synonyms, its frame and what may stand beside it."""

    lemma: str
    forms: Mapping[str, str]  # "base", "present" (3rd person), "past", "participle", "ing": first word only
    rest: tuple[str, ...]  # the words that follow the first one and precede the object: ("care", "of")
    particle: tuple[str, ...]  # the words that follow the object: ("away",)
    chinese: tuple[str, ...]
    frame: str
    subject: tuple[str, ...]
    object: tuple[str, ...]
    place: tuple[str, ...]
    tenses: str

    @property
    def separable(self) -> bool:
        """Whether 了 may stand inside it, whichever synonym is used: 跑了步."""
        return self.frame == "intransitive" and all("+" in form for form in self.chinese)


@dataclass(frozen=True)
class Adjective:
    """An adjective: Chinese form as predicate and before a noun, and the classes it can describe."""

    lemma: str
    english: str
    chinese: tuple[str, ...]
    before_noun: tuple[str, ...]  # ("大",) or ("漂亮", "的")
    comparative: tuple[str, ...]  # ("bigger",) or ("more", "famous"); () if it is not compared
    classes: tuple[str, ...]
    uses: str  # some of "a" before a noun, "p" after "is", "c" in comparisons


@dataclass(frozen=True)
class Adverb:
    """An adverb or time phrase; `verbs` says which verbs an adverb of manner suits."""

    lemma: str
    chinese: tuple[str, ...]
    kind: str
    verbs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Name:
    """A given name, with the gender of the pronoun that stands for it."""

    lemma: str
    chinese: tuple[str, ...]
    gender: str


@dataclass(frozen=True)
class Reason:
    """A feeling and the verbs that it explains: what people do, or do not do, because of it."""

    adjective: str
    happened: bool
    verbs: tuple[str, ...]


@dataclass(frozen=True)
class Lexicon:
    """All words, by lemma, in the order of the tables (the more frequent first)."""

    nouns: dict[str, Noun]
    verbs: dict[str, Verb]
    adjectives: dict[str, Adjective]
    adverbs: dict[str, Adverb]
    names: dict[str, Name]
    reasons: tuple[Reason, ...]
    classes: dict[str, tuple[str, ...]] = field(init=False)  # class -> lemmas of its nouns, in order
    ranks: dict[str, int] = field(init=False)  # noun -> its place within its class, 0 is the most frequent

    def __post_init__(self) -> None:
        classes: dict[str, list[str]] = {}
        for noun in self.nouns.values():
            classes.setdefault(noun.kind, []).append(noun.lemma)
        object.__setattr__(self, "classes", {name: tuple(lemmas) for name, lemmas in classes.items()})
        ranks = {lemma: rank for lemmas in classes.values() for rank, lemma in enumerate(lemmas)}
        object.__setattr__(self, "ranks", ranks)

    @property
    def content_lemmas(self) -> int:
        """How many content words there are, names of people not counted."""
        return len(self.nouns) + len(self.verbs) + len(self.adjectives) + len(self.adverbs)

    def members(self, items: Iterable[str]) -> list[str]:
        """The nouns that `items` (classes or single nouns) stand for, without repeats; a class goes before a noun."""
        found: dict[str, None] = {}
        for item in items:
            for lemma in self.classes.get(item, (item,) if item in self.nouns else ()):
                found[lemma] = None
        return list(found)

    @cached_property
    def ambiguous_verbs(self) -> set[str]:
        """The verbs that look like another one in English: "finish" a book, a meal."""
        looks = Counter(printed(lemma) for lemma in self.verbs)
        return {lemma for lemma in self.verbs if looks[printed(lemma)] > 1}

    def only(self, lemmas: Iterable[str]) -> Lexicon:
        """A cut-down lexicon of these words (for worlds small enough to enumerate)."""
        keep = frozenset(lemmas)

        def cut(words: dict[str, Word]) -> dict[str, Word]:
            return {lemma: word for lemma, word in words.items() if lemma in keep}

        return Lexicon(
            nouns=cut(self.nouns),
            verbs=cut(self.verbs),
            adjectives=cut(self.adjectives),
            adverbs=cut(self.adverbs),
            names=cut(self.names),
            reasons=tuple(reason for reason in self.reasons if reason.adjective in keep),
        )


# Reading the tables ---------------------------------------------------------------------------------------------

ENGLISH = re.compile(r"[A-Za-zé]+(?:[ -](?:[A-Za-zé]+|\*))*(?:/[a-z]+)?")
CHINESE = re.compile(r"[\u4e00-\u9fff]+(?:\+[\u4e00-\u9fff]+)?(?:\|[\u4e00-\u9fff]+(?:\+[\u4e00-\u9fff]+)?)?")
ITEMS = re.compile(r"(?:[^,\t]+(?:, [^,\t]+)*)?")
FORM = re.compile(r"[a-zé ]*")

NOUN_COLUMNS = {
    "english": ENGLISH,
    "chinese": CHINESE,
    "class": re.compile(r"[a-z]+"),
    "measure": re.compile(r"[\u4e00-\u9fff]"),
    "number": re.compile(r"|mass|plural|bare"),
    "unit": FORM,
    "plural": FORM,
    "place": re.compile(r"(?:(?:in|on|at), (?:[里上]|-))?"),
    "gender": re.compile(r"[fm]?"),
}
VERB_COLUMNS = {
    "english": ENGLISH,
    "chinese": CHINESE,
    "frame": re.compile("intransitive|transitive|result|put|ditransitive|place|stative|have|report|modal"),
    "subject": ITEMS,
    "object": ITEMS,
    "place": ITEMS,
    "tenses": re.compile(r"[PEGFHMC]*"),
    "past": FORM,
    "participle": FORM,
    "ing": FORM,
}
ADJECTIVE_COLUMNS = {
    "english": ENGLISH,
    "chinese": CHINESE,
    "before_noun": re.compile(r"[\u4e00-\u9fff]+"),
    "comparative": FORM,
    "classes": ITEMS,
    "uses": re.compile(r"a?p?c?"),
}
ADVERB_COLUMNS = {
    "english": ENGLISH,
    "chinese": CHINESE,
    "kind": re.compile("frequency|habit|past|future|progressive|manner"),
    "verbs": ITEMS,
}
NAME_COLUMNS = {"english": ENGLISH, "chinese": CHINESE, "gender": re.compile("[fm]")}
REASON_COLUMNS = {"adjective": ENGLISH, "happened": re.compile("yes|no"), "verbs": ITEMS}


def read_table(path: Path, columns: Mapping[str, re.Pattern[str]]) -> list[dict[str, str]]:
    """Read a tab-separated table: comment lines (#), a header with the names of `columns`, then one row a line.

    Every cell must match the pattern of its column. Each row also has the key "line", for later error messages.

    Raises:
        TableError: for a wrong header, a missing cell or a cell that does not match; it names file, line, column.
        FileNotFoundError: if there is no such file.
    """
    rows: list[dict[str, str]] = []
    header: list[str] | None = None
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line or line.startswith("#"):
            continue
        cells = line.split("\t")
        if header is None:
            header = cells
            if header != list(columns):
                raise TableError(f"{path}, line {number}: the header is {header}, expected {list(columns)}")
            continue
        if len(cells) != len(header):
            raise TableError(f"{path}, line {number}: {len(cells)} cells, expected {len(header)} (tabs between them)")
        for name, cell in zip(header, cells, strict=True):
            if not columns[name].fullmatch(cell):
                raise table_error(path, number, name, f"{cell!r} does not match {columns[name].pattern!r}")
        rows.append(dict(zip(header, cells, strict=True), line=str(number)))
    if header is None:
        raise TableError(f"{path}: no header line; expected {list(columns)}")
    return rows


def table_error(path: Path, line: int | str, column: str, problem: str) -> TableError:
    """The error for one cell."""
    return TableError(f"{path}, line {line}, column {column!r}: {problem}")


def printed(lemma: str) -> str:
    """The English words of a lemma, without the name of its sense: "old/thing" -> "old"."""
    return lemma.partition("/")[0]


def _items(cell: str) -> tuple[str, ...]:
    return tuple(cell.split(", ")) if cell else ()


def plural(noun: str) -> str:
    """The regular plural of an English noun, also the third person of a verb: glass -> glasses."""
    if re.search(r"(?:s|x|ch|sh)$", noun):
        return noun + "es"
    if re.search(r"[^aeiou]y$", noun):
        return noun[:-1] + "ies"
    return noun + "s"


def _verb_forms(base: str, row: Mapping[str, str]) -> dict[str, str]:
    """Regular English verb forms, replaced by the irregular ones of the table."""
    if base.endswith("e") and not base.endswith("ee"):
        past, ing = base + "d", base[:-1] + "ing"
    elif re.search(r"[^aeiou]y$", base):
        past, ing = base[:-1] + "ied", base + "ing"
    elif re.fullmatch(r"[^aeiou]*[aeiou][^aeiouwxy]", base):
        past, ing = base + base[-1] + "ed", base + base[-1] + "ing"
    else:
        past, ing = base + "ed", base + "ing"
    past = row["past"] or past
    present = {"have": "has", "do": "does", "go": "goes"}.get(base) or plural(base)
    return {
        "base": base,
        "present": present,
        "past": past,
        "participle": row["participle"] or past,
        "ing": row["ing"] or ing,
    }


def _verb(row: Mapping[str, str]) -> Verb:
    first, *others = printed(row["english"]).split()
    cut = others.index("*") if "*" in others else len(others)
    return Verb(
        lemma=row["english"],
        forms=_verb_forms(first, row),
        rest=tuple(others[:cut]),
        particle=tuple(others[cut + 1 :]),
        chinese=tuple(row["chinese"].split("|")),
        frame=row["frame"],
        subject=_items(row["subject"]),
        object=_items(row["object"]),
        place=_items(row["place"]),
        tenses=row["tenses"],
    )


def _noun(row: Mapping[str, str]) -> Noun:
    english = printed(row["english"])
    preposition, localiser = _items(row["place"]) or ("", "")
    return Noun(
        lemma=row["english"],
        english=english,
        plural=row["plural"] or (english if row["number"] else plural(english)),
        chinese=tuple(row["chinese"].split("|")),
        kind=row["class"],
        measure=row["measure"],
        number=row["number"],
        unit=row["unit"],
        gender=row["gender"],
        preposition=preposition,
        localiser=localiser.replace("-", ""),
    )


def _adjective(row: Mapping[str, str]) -> Adjective:
    english, comparative = printed(row["english"]), row["comparative"]
    stem = row["before_noun"].removesuffix("的")
    return Adjective(
        lemma=row["english"],
        english=english,
        chinese=tuple(row["chinese"].split("|")),
        before_noun=(stem,) if stem == row["before_noun"] else (stem, "的"),
        comparative=("more", english) if comparative == "more" else tuple(comparative.split()),
        classes=_items(row["classes"]),
        uses=row["uses"],
    )


def read_lexicon(folder: Path = DATA) -> Lexicon:
    """Read and check the tables of `folder`.

    Raises:
        TableError: where a table does not keep to its schema, repeats a word or refers to an unknown one.
    """

    def by_lemma(name: str, columns: Mapping[str, re.Pattern[str]]) -> dict[str, dict[str, str]]:
        path = folder / f"{name}.tsv"
        table: dict[str, dict[str, str]] = {}
        for row in read_table(path, columns):
            if row["english"] in table:
                raise table_error(path, row["line"], "english", f"{row['english']!r} is there twice")
            table[row["english"]] = row
        return table

    nouns = by_lemma("nouns", NOUN_COLUMNS)
    verbs = by_lemma("verbs", VERB_COLUMNS)
    adjectives = by_lemma("adjectives", ADJECTIVE_COLUMNS)
    adverbs = by_lemma("adverbs", ADVERB_COLUMNS)
    names = by_lemma("names", NAME_COLUMNS)
    reasons = read_table(folder / "reasons.tsv", REASON_COLUMNS)

    things = set(nouns) | {row["class"] for row in nouns.values()} | {"person"}
    references = [("verbs", row, column, things) for row in verbs.values() for column in ("subject", "object", "place")]
    references += [("adjectives", row, "classes", things) for row in adjectives.values()]
    references += [("adverbs", row, "verbs", set(verbs)) for row in adverbs.values()]
    references += [("reasons", row, "verbs", set(verbs)) for row in reasons]
    references += [("reasons", row, "adjective", set(adjectives)) for row in reasons]
    for table, row, column, known in references:
        for item in _items(row[column]):
            if item not in known:
                raise table_error(folder / f"{table}.tsv", row["line"], column, f"{item!r} is not in the lexicon")

    return Lexicon(
        nouns={lemma: _noun(row) for lemma, row in nouns.items()},
        verbs={lemma: _verb(row) for lemma, row in verbs.items()},
        adjectives={lemma: _adjective(row) for lemma, row in adjectives.items()},
        adverbs={
            lemma: Adverb(lemma, tuple(row["chinese"].split("|")), row["kind"], _items(row["verbs"]))
            for lemma, row in adverbs.items()
        },
        names={lemma: Name(lemma, (row["chinese"],), row["gender"]) for lemma, row in names.items()},
        reasons=tuple(Reason(row["adjective"], row["happened"] == "yes", _items(row["verbs"])) for row in reasons),
    )


@cache
def lexicon() -> Lexicon:
    """The lexicon of the course, read once."""
    return read_lexicon()
