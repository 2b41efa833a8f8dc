"""How a meaning is said: what the two realisers, `English` and `Chinese`, have in common.

Both walk the same meaning, with one method per kind of node, named after it: `English.comparison` says a `Comparison`.
A realiser makes no choices of its own: where a language leaves one free, the meaning carries it (`Choice`). The result
is a list of tokens; a token is a word and its links, the parts of the meaning that it expresses. Words of the two
languages that share a link are aligned: "bought" expresses the verb and the tense, 买 the verb, 了 the tense.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from course_lib.microworld.lexicon import Lexicon, lexicon
from course_lib.microworld.meanings import Name, Pronoun, Sentence

Link = tuple[int, str]  # the identity of a node, and which aspect of it
Token = tuple[str, tuple[Link, ...]]


def tokens(words: str | tuple[str, ...], *links: Link) -> list[Token]:
    """Tokens that share their links; the words of a string are separated by spaces."""
    if isinstance(words, str):
        if " " not in words:  # most are single words: no list to build
            return [(words, links)] if words else []
        words = tuple(words.split())
    return [(word, links) for word in words]


@dataclass(frozen=True)
class Realisation:
    """A sentence: its tokens, its text as a person would write it, and the links of each token."""

    tokens: tuple[str, ...]
    text: str
    links: tuple[tuple[Link, ...], ...]


class Realiser(ABC):
    """Says meanings in one language."""

    def __init__(self, words: Lexicon | None = None) -> None:
        self.words = words or lexicon()

    def realise(self, meaning: Sentence) -> Realisation:
        """Say a meaning, with the wordings that its choices ask for."""
        said = self.say(meaning)
        words = tuple([word for word, _ in said])
        return Realisation(words, self.write(words), tuple([links for _, links in said]))

    def say(self, node: Any, *arguments: Any) -> list[Token]:
        """The tokens of a node, from the method that is named after its type."""
        said: list[Token] = getattr(self, type(node).__name__.lower())(node, *arguments)
        return said

    @abstractmethod
    def write(self, words: tuple[str, ...]) -> str:
        """The tokens as a person would write them."""

    def pronoun_for(self, node: Any) -> str:
        """The pronoun that stands for a single person who was just mentioned."""
        if isinstance(node, Pronoun):
            return node.pronoun
        word, table = (node.name, self.words.names) if isinstance(node, Name) else (node.noun, self.words.nouns)
        return "she" if table[word.lemma].gender == "f" else "he"
