"""Recorded experiments: ``python -m course_lib experiment NAME --corpus … --minutes …``.

A recipe fixes the data, the model and the number of updates; running it trains one model per seed, evaluates it and
writes ``data/results/NAME-CORPUS-….json``: the scores, the CPU time, the machine and the versions. ``minutes`` is the
CPU time that the recipe is meant for ("core-minutes": the time of all threads of the process added up, so that a busy
machine does not count). The number of updates is fixed, not the time: a recipe gives the same model on a slow machine,
later.

* :mod:`~course_lib.experiments.translation`: ``translation``
* :mod:`~course_lib.experiments.language_models`: ``language-model``
* :mod:`~course_lib.experiments.finetuning`: ``finetuning``
* :mod:`~course_lib.experiments.reviews`: ``reviews``
"""

import argparse
import json
from collections.abc import Sequence

import torch

from course_lib.datasets import MICROWORLD, STORIES
from course_lib.experiments.finetuning import RECIPES, run_finetuning
from course_lib.experiments.language_models import LANGUAGE_MODELS, Key, run_language_model
from course_lib.experiments.recording import CHECKPOINTS, RESULTS
from course_lib.experiments.reviews import run_reviews
from course_lib.experiments.translation import TRANSLATIONS, run_translation, shuffled_source

__all__ = [
    "CHECKPOINTS",
    "RESULTS",
    "main",
    "run_finetuning",
    "run_language_model",
    "run_reviews",
    "run_translation",
    "shuffled_source",
]


def main(arguments: Sequence[str]) -> int:
    """The command line of ``python -m course_lib experiment``."""
    parser = argparse.ArgumentParser(
        prog="python -m course_lib experiment",
        description="Repeat a recorded experiment; the result is written to data/results.",
    )
    experiments = parser.add_subparsers(dest="name", required=True, metavar="NAME")
    translation = experiments.add_parser(
        "translation",
        help="train a translator",
        epilog="recipes: " + "; ".join(f"--corpus {corpus} --minutes {m:g}" for corpus, m in TRANSLATIONS),
    )
    translation.add_argument("--corpus", default=MICROWORLD)
    translation.set_defaults(seeds=[0, 1, 2])
    language_model = experiments.add_parser(
        "language-model",
        help="train a language model",
        epilog="recipes: " + "; ".join(map(str, LANGUAGE_MODELS)),
    )
    language_model.add_argument("--corpus", default=STORIES)
    language_model.add_argument("--language", help="of a corpus that has several (default: the first with a recipe)")
    language_model.add_argument("--objective", default="causal", help="causal, masked or span (default: causal)")
    language_model.set_defaults(seeds=[0])
    finetuning = experiments.add_parser("finetuning", help="fine-tune a small pre-trained model on a task")
    finetuning.add_argument("--task", choices=list(RECIPES), default="sentiment")
    finetuning.set_defaults(seeds=[0, 1, 2])
    reviews = experiments.add_parser("reviews", help="fine-tune a real encoder on film reviews")
    reviews.set_defaults(seeds=[0, 1, 2])
    for command in (translation, language_model):
        command.add_argument("--minutes", type=float, help="core-minutes of training (default: the longest recipe)")
    for command in (translation, language_model, finetuning, reviews):
        command.add_argument("--seeds", type=int, nargs="+", help="one model each")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # the fastest, in core-minutes, for models of this size
    try:
        if options.name == "translation":
            lengths = [minutes for corpus, minutes in TRANSLATIONS if corpus == options.corpus]
            minutes = options.minutes if options.minutes is not None else max(lengths, default=0.0)
            result = run_translation(options.corpus, minutes, options.seeds)
        elif options.name == "finetuning":
            result = run_finetuning(options.task, options.seeds)
        elif options.name == "reviews":
            result = run_reviews(options.seeds)
        else:
            same = [key for key in LANGUAGE_MODELS if key.corpus == options.corpus]
            language = options.language or (same[0].language if same else "en")
            lengths = [key.minutes for key in same if key[1:3] == (language, options.objective)]
            minutes = options.minutes if options.minutes is not None else max(lengths, default=0.0)
            result = run_language_model(Key(options.corpus, language, options.objective, minutes), options.seeds)
    except ValueError as error:
        parser.error(str(error))
    print(json.dumps(result["mean"], indent=1))
    return 0
