"""The micro-world: a small bilingual world from which text is drawn, so that the best possible answer is known.

A meaning is drawn from a probabilistic grammar and then said in English and in Chinese:

    lexicon.py                 the words, read from the tables in data/microworld/
    meanings.py                what can be meant: small trees of dataclasses
    world.py, phrases.py       how likely each clause and each phrase is
      grammar.py                 (on this: drawing, counting, enumerating, exact entropies of any such grammar)
    english.py, chinese.py     how a meaning is said in each language
      realise.py                 (what the two have in common: tokens and the parts of the meaning they express)
    corpora.py                 the parallel corpus drawn from it
    events.py, stories.py      what happens in a small town, and the stories told of it in the same two languages

To add a noun, add one line to nouns.tsv. To add a construction, say what it means (a dataclass in meanings.py), how
likely it is (a method in world.py) and how it is said (a method in english.py and one in chinese.py).
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
from course_lib.microworld.stories import (
    Story,
    Town,
    key_lines,
    questions,
    states,
    stories,
    story_corpus,
    token_log_probs,
)
from course_lib.microworld.world import World

__all__ = [
    "Draw",
    "ParallelCorpus",
    "Story",
    "Town",
    "World",
    "best",
    "draw",
    "draws",
    "key_lines",
    "lexicon",
    "natural_pairs",
    "outline",
    "parallel_corpus",
    "questions",
    "references",
    "states",
    "stories",
    "story_corpus",
    "token_log_probs",
    "trace",
]
