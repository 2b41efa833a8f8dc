"""Probabilistic grammars: drawing, counting, enumerating, and exact entropies.

A grammar says how each symbol may be expanded. `Rule(2, Event, verb="sleep", subject=S("person"))` reads: with weight
2, build an `Event` whose verb is "sleep" and whose subject is one expansion of the symbol `S("person")`. Every random
decision of the micro-world is such a choice among rules, and the choices are independent of each other. Probabilities
therefore multiply, and the entropy of a symbol is the entropy of its choice of rule plus the expected entropy of the
parts (Grenander, 1967; Soule, "Entropies of probabilistic grammars", 1974):

    H(X) = sum over rules r of p(r) * (-ln p(r) + sum over parts Y of r of H(Y))
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import accumulate, product
from random import Random
from typing import Any


class Symbol(tuple[Any, ...]):
    """The name of something to be expanded, and its features; made by `S`."""

    __slots__ = ()


def S(name: str, *features: Any) -> Symbol:
    """A symbol: S("person", 0) is expanded by the rules that the grammar's method `person(0)` returns."""
    return Symbol((name, *features))


def the_same(part: Any = None) -> Any:
    """Build nothing new: the value of a rule that only passes its part on."""
    return part


class Rule:
    """One way to expand a symbol: `build(**fields)`, where fields that are symbols are expanded first.

    `weight` is relative to the other rules of the same symbol. `language` says what the choice is about: "" for the
    meaning, "en" or "zh" for a free choice of wording in one language.
    """

    __slots__ = ("build", "constants", "expansions", "language", "log_p", "parts", "weight")

    def __init__(self, weight: float, build: Callable[..., Any] = the_same, **fields: Any) -> None:
        self.weight, self.build = weight, build
        self.language, self.log_p = "", 0.0
        self.parts = [item for item in fields.items() if type(item[1]) is Symbol]
        for name, _ in self.parts:
            del fields[name]
        self.constants = fields
        self.expansions: list[tuple[str, Expansion]] = []  # the parts again, looked up when first drawn


class Expansion:
    """The rules of one symbol, with weights turned into probabilities."""

    __slots__ = ("cumulative", "probabilities", "rules")

    def __init__(self, symbol: Symbol, rules: list[Rule]) -> None:
        self.rules = [rule for rule in rules if rule.weight > 0]
        if not self.rules:
            raise ValueError(f"no rule expands {symbol}: the lexicon has no word for it")
        total = sum(rule.weight for rule in self.rules)
        self.probabilities = [rule.weight / total for rule in self.rules]
        self.cumulative = list(accumulate(self.probabilities))[:-1]
        for rule, probability in zip(self.rules, self.probabilities, strict=True):
            rule.log_p = math.log(probability)


class Grammar:
    """A grammar whose subclass has one method per kind of symbol; the method returns the rules of that symbol."""

    def __init__(self) -> None:
        self._expansions: dict[Symbol, Expansion] = {}
        self._entropies: dict[tuple[Symbol, str | None], float] = {}
        self._counts: dict[Symbol, int] = {}

    def expand(self, symbol: Symbol) -> Expansion:
        """The rules of a symbol, worked out once."""
        found = self._expansions.get(symbol)
        if found is None:
            name, *features = symbol
            found = self._expansions[symbol] = Expansion(symbol, getattr(self, name)(*features))
        return found

    def draw(self, symbol: Symbol, random: Random, log_probs: dict[str, float]) -> Any:
        """Draw a value of `symbol`, and add the logarithm (natural) of each choice to `log_probs[language]`.

        Only `random.random()` is used, so that a seed gives the same draw in every version of Python.
        """
        return self._draw(self.expand(symbol), random.random, log_probs)

    def _draw(self, expansion: Expansion, chance: Callable[[], float], log_probs: dict[str, float]) -> Any:
        rules = expansion.rules
        rule = rules[0] if len(rules) == 1 else rules[bisect_right(expansion.cumulative, chance())]
        log_probs[rule.language] += rule.log_p
        if rule.parts and not rule.expansions:
            rule.expansions = [(name, self.expand(part)) for name, part in rule.parts]
        if rule.build is the_same:
            return self._draw(rule.expansions[0][1], chance, log_probs) if rule.parts else rule.constants.get("part")
        fields = rule.constants.copy()
        for name, part in rule.expansions:
            fields[name] = self._draw(part, chance, log_probs)
        return rule.build(**fields)

    def entropy(self, symbol: Symbol, language: str | None = None) -> float:
        """The exact entropy of `symbol` in nats; with `language`, of the choices about that language only."""
        key = (symbol, language)
        if key not in self._entropies:
            expansion, total = self.expand(symbol), 0.0
            for rule, probability in zip(expansion.rules, expansion.probabilities, strict=True):
                own = -rule.log_p if language is None or rule.language == language else 0.0
                total += probability * (own + sum(self.entropy(part, language) for _, part in rule.parts))
            self._entropies[key] = total
        return self._entropies[key]

    def count(self, symbol: Symbol) -> int:
        """How many different derivations `symbol` has."""
        if symbol not in self._counts:
            self._counts[symbol] = sum(
                math.prod(self.count(part) for _, part in rule.parts) for rule in self.expand(symbol).rules
            )
        return self._counts[symbol]

    def enumerate(self, symbol: Symbol) -> Iterator[tuple[Any, dict[str, float]]]:
        """Every value of `symbol`, with the logarithm of its probability by language. Only for small grammars."""
        for rule in self.expand(symbol).rules:
            names = [name for name, _ in rule.parts]
            for values in product(*(list(self.enumerate(part)) for _, part in rule.parts)):
                log_probs = {"": 0.0, "en": 0.0, "zh": 0.0}
                log_probs[rule.language] += rule.log_p
                for _, inner in values:
                    for language, log_p in inner.items():
                        log_probs[language] += log_p
                built = rule.build(**rule.constants, **dict(zip(names, (v for v, _ in values), strict=True)))
                yield built, log_probs
