"""The micro-world: a small bilingual world from which text is drawn, so that the best possible answer is known.

A meaning is drawn from a probabilistic grammar and then said in English and in Chinese:

    lexicon.py    the words, read from the tables in data/microworld/
    meanings.py   what can be meant: small trees of dataclasses
    world.py      how likely each meaning is (on grammar.py: drawing, enumerating, exact entropies)
    realise.py    how a meaning is said in each language
    corpora.py    the corpora drawn from it

To add a noun, add one line to nouns.tsv. To add a construction, see the head of world.py.
"""

from course_lib.microworld.corpora import (
    Draw,
    ParallelCorpus,
    best,
    draw,
    draws,
    natural_pairs,
    parallel_corpus,
    references,
    trace,
)
from course_lib.microworld.lexicon import lexicon
from course_lib.microworld.meanings import outline
from course_lib.microworld.world import World

__all__ = [
    "Draw",
    "ParallelCorpus",
    "World",
    "best",
    "draw",
    "draws",
    "lexicon",
    "natural_pairs",
    "outline",
    "parallel_corpus",
    "references",
    "trace",
]
