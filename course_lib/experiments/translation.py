"""Translators: ``python -m course_lib experiment translation --corpus multi30k --minutes 18``."""

import json
import random
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from course_lib import microworld
from course_lib.batching import TokenBatches
from course_lib.datasets import MICROWORLD, Corpus, load
from course_lib.decoding import translate
from course_lib.experiments import recording
from course_lib.metrics import Score, bleu, chrf, exact_match
from course_lib.models import ModelConfig, Seq2Seq
from course_lib.tokenizers import BPETokenizer, Tokenizer, WordTokenizer
from course_lib.training import TrainConfig, Trainer, evaluate

LENGTH_PENALTIES = (0.6, 1.0, 1.4)


@dataclass(frozen=True)
class Translation:
    """A recipe for a translator.

    Attributes:
        source: language translated from.
        target: language translated into.
        vocab_size: of the byte-level BPE trained on both sides of the training split; None: whole words of English
            and characters of Chinese, all that occur there.
        model: fields of :class:`ModelConfig`.
        max_tokens: token budget of a batch.
        train: fields of :class:`TrainConfig`.
        tests: splits that are scored.
        beam_size: the length penalty is the best of ``LENGTH_PENALTIES`` on the validation split.
        options: of :func:`course_lib.datasets.load`.
    """

    source: str
    target: str
    vocab_size: int | None
    model: dict[str, Any]
    max_tokens: int
    train: dict[str, Any]
    tests: tuple[str, ...] = ("test",)
    beam_size: int = 4
    options: dict[str, Any] = field(default_factory=dict)


def _multi30k(vocab_size: int, model: dict[str, Any], max_tokens: int, train: dict[str, Any]) -> Translation:
    return Translation("de", "en", vocab_size, model, max_tokens, train, ("test_2016_flickr",))


def _microworld(model: dict[str, Any], max_tokens: int, train: dict[str, Any], pairs: int = 20_000) -> Translation:
    # So many pairs cannot be learnt by heart by a model this small: no dropout.
    model = {"dropout": 0.0, "positions": "rotary", **model}
    tests = ("test", "test_composition", "test_natural")
    return Translation("en", "zh", None, model, max_tokens, train, tests, options={"train": pairs})


# (corpus, core-minutes) → recipe
TRANSLATIONS: dict[tuple[str, float], Translation] = {
    ("multi30k", 3.6): _multi30k(
        3000,
        {"d_model": 96, "d_ff": 384, "dropout": 0.0, "positions": "rotary"},
        256,
        {"steps": 3300, "lr": 3e-3, "label_smoothing": 0, "average_decay": 0.99},
    ),
    ("multi30k", 9): _multi30k(
        4000,
        {"d_model": 128, "d_ff": 512, "dropout": 0.0, "positions": "rotary"},
        256,
        {"steps": 5000, "lr": 2.5e-3, "label_smoothing": 0.05, "average_decay": 0.995},
    ),
    ("multi30k", 18): _multi30k(
        4000,
        {"d_model": 160, "d_ff": 640, "dropout": 0.0, "positions": "rotary"},
        256,
        {"steps": 7600, "lr": 2e-3, "label_smoothing": 0.05, "average_decay": 0.995},
    ),
    ("multi30k", 36): _multi30k(
        4000,
        {"d_model": 192, "d_ff": 768, "dropout": 0.1, "positions": "rotary"},
        256,
        {"steps": 14000, "lr": 1.8e-3, "label_smoothing": 0.1, "average_decay": 0.998},
    ),
    ("tatoeba-cmn", 18): Translation(
        "zh",
        "en",
        6000,
        {"d_model": 128, "d_ff": 512, "dropout": 0.1, "positions": "rotary"},
        256,
        {"steps": 9600, "lr": 2e-3, "average_decay": 0.998},
    ),
    (MICROWORLD, 1.5): _microworld(
        {"d_model": 64, "d_ff": 256}, 256, {"steps": 2000, "lr": 4e-3, "label_smoothing": 0.05, "average_decay": 0.99}
    ),
    # How near can a model come to the exact entropy? With twenty times the pairs, so that memory is not the limit.
    (MICROWORLD, 45): _microworld(
        {"d_model": 128, "d_ff": 512},
        384,
        {"steps": 60000, "lr": 2e-3, "label_smoothing": 0, "average_decay": 0.9995},
        pairs=400_000,
    ),
}


@dataclass
class Run:
    """What one seed gave.

    ``scores`` maps e.g. "test/bleu/beam" to a value and its signature. On the micro-world "test/bleu/best possible" is
    the score of a translator that always answers with the most probable translation, and ``nats_per_sentence`` puts the
    model's cross-entropy on the test split beside the exact floor: the mean of −ln p(target | source).
    """

    seed: int
    parameters: int
    updates: int
    core_minutes: float
    wall_minutes: float
    nats_per_token: float  # on the validation split
    length_penalty: float
    scores: dict[str, dict[str, Any]] = field(default_factory=dict)
    nats_per_sentence: dict[str, float] = field(default_factory=dict)
    validations: list[tuple[int, float]] = field(default_factory=list)

    def add(self, name: str, score: Score) -> None:
        """Record a score with its signature."""
        self.scores[name] = {"value": round(score.value, 2), "signature": score.signature}


def train_translator(
    corpus: Corpus, recipe: Translation, seed: int, progress: bool = True
) -> tuple[Seq2Seq, Tokenizer, Run]:
    """Train the recipe's model with one seed: initial weights, order of the data and dropout all follow from it."""
    pairs = corpus.pairs("train", recipe.source, recipe.target)
    texts = [text for pair in pairs for text in pair]
    tokenizer: Tokenizer
    if recipe.vocab_size is None:
        tokenizer = WordTokenizer.train(texts)
    else:
        tokenizer = BPETokenizer.train(texts, recipe.vocab_size)

    def batches(split: str, max_tokens: int) -> TokenBatches:
        encoded = [tuple(map(tokenizer.encode, pair)) for pair in corpus.pairs(split, recipe.source, recipe.target)]
        return TokenBatches(encoded, max_tokens, seed=seed)

    config = TrainConfig(**recipe.train, seed=seed)
    valid = batches("valid", 4096)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Seq2Seq(ModelConfig(tokenizer.vocab_size, **recipe.model))
    trainer = Trainer(model, batches("train", recipe.max_tokens), config, progress=progress)
    history = trainer.run()
    run = Run(
        seed=seed,
        parameters=sum(p.numel() for p in model.parameters()),
        updates=len(history.steps),
        core_minutes=round(history.steps[-1].cpu_seconds / 60, 2),
        wall_minutes=round(history.steps[-1].wall_seconds / 60, 2),
        nats_per_token=round(evaluate(model, valid), 4),
        length_penalty=1.0,
        validations=[(step, round(loss, 4)) for step, loss in history.validations],
    )
    return model, tokenizer, run


def score_translator(model: Seq2Seq, tokenizer: Tokenizer, corpus: Corpus, recipe: Translation, run: Run) -> None:
    """Choose the length penalty on the validation split, then score every test split with greedy and beam search."""

    def outputs(split: str, beam_size: int, length_penalty: float = 1.0) -> list[str]:
        sources = corpus.texts(split, recipe.source)
        return translate(model, tokenizer, tokenizer, sources, beam_size, length_penalty)

    valid = corpus.texts("valid", recipe.target)
    run.length_penalty = max(
        LENGTH_PENALTIES,
        key=lambda penalty: bleu(outputs("valid", recipe.beam_size, penalty), valid, recipe.target).value,
    )
    for split in recipe.tests:
        references = corpus.texts(split, recipe.target)
        searches = {"greedy": outputs(split, 1), "beam": outputs(split, recipe.beam_size, run.length_penalty)}
        for search, hypotheses in searches.items():
            run.add(f"{split}/bleu/{search}", bleu(hypotheses, references, recipe.target))
        run.add(f"{split}/chrf/beam", chrf(searches["beam"], references))


def compare_with_truth(model: Seq2Seq, tokenizer: Tokenizer, corpus: Corpus, recipe: Translation, run: Run) -> None:
    """Micro-world only: what is the best that any model could do, and how far from it is this one?"""
    draws = corpus.draws("test")
    pairs = corpus.pairs("test", recipe.source, recipe.target)
    encoded = [tuple(map(tokenizer.encode, pair)) for pair in pairs]
    targets = sum(len(target) + 1 for _, target in encoded)
    run.nats_per_sentence = {
        "model": round(evaluate(model, TokenBatches(encoded, 4096)) * targets / len(draws), 4),
        "floor": round(-sum(draw.conditional_log_prob_zh for draw in draws) / len(draws), 4),
    }
    one = [target for _, target in pairs]
    every = [[text for text, _ in microworld.references(draw.meaning, "zh")] for draw in draws]
    sources = [source for source, _ in pairs]
    hypotheses = translate(model, tokenizer, tokenizer, sources, recipe.beam_size, run.length_penalty)
    best = [microworld.best(draw.meaning, "zh") for draw in draws]
    run.add("test/bleu/best possible", bleu(best, one, "zh"))
    run.add("test/bleu of all references/beam", bleu(hypotheses, every, "zh"))
    run.add("test/bleu of all references/best possible", bleu(best, every, "zh"))
    run.add("test/exact match of all references/beam", exact_match(hypotheses, every))


def result_path(corpus: str, minutes: float) -> Path:
    """Where a result is recorded."""
    return recording.result_path("translation", corpus, f"{minutes:g}")


def describe(corpus: str, minutes: float) -> dict[str, Any]:
    """A recipe as it stands in a result file.

    Raises:
        ValueError: if there is no such recipe.
    """
    if (corpus, minutes) not in TRANSLATIONS:
        known = ", ".join(f"{name} at {m:g} minutes" for name, m in TRANSLATIONS)
        raise ValueError(f"no recipe for {corpus!r} at {minutes:g} core-minutes; there is {known}")
    return recording.as_json({"corpus": corpus, "minutes": minutes, **asdict(TRANSLATIONS[corpus, minutes])})


def run_translation(corpus_name: str, minutes: float, seeds: Sequence[int], progress: bool = True) -> dict[str, Any]:
    """Run a recipe for the seeds that its file does not hold yet, and return what the file then holds.

    Raises:
        ValueError: if there is no such recipe, or the file was recorded with another one.
    """
    described = describe(corpus_name, minutes)
    recipe = TRANSLATIONS[corpus_name, minutes]
    corpus = load(corpus_name, **recipe.options)

    def run_seed(seed: int) -> recording.Run:
        model, tokenizer, run = train_translator(corpus, recipe, seed, progress)
        score_translator(model, tokenizer, corpus, recipe, run)
        if corpus_name == MICROWORLD:
            compare_with_truth(model, tokenizer, corpus, recipe, run)
        if progress:
            print(f"seed {seed}: {run.core_minutes:.1f} core-minutes, " + json.dumps(run.scores, ensure_ascii=False))
        return asdict(run)

    def mean(runs: list[recording.Run]) -> dict[str, float]:
        return {
            name: round(statistics.mean(run["scores"][name]["value"] for run in runs), 2) for name in runs[0]["scores"]
        }

    path = result_path(corpus_name, minutes)
    return recording.record(path, "translation", described, seeds, run_seed, mean)


def shuffled_source(pairs: Sequence[tuple[Any, Any]], seed: int) -> list[tuple[Any, Any]]:
    """The control of every translator: each target with the source of another pair.

    A model trained on these learns the target language and nothing about translation. If it scores well, the score does
    not measure translation (or the evaluation leaks the target).
    """
    sources = [source for source, _ in pairs]
    random.Random(seed).shuffle(sources)
    return [(source, target) for source, (_, target) in zip(sources, pairs, strict=True)]
