"""Language models: ``python -m course_lib experiment language-model --corpus microworld/stories --minutes 150``.

Recipes whose models the notebooks use also ship them: ``pretrained("causal")`` loads the model and its tokeniser,
``pretrained("causal", minutes=150)`` the one that was trained longest.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from course_lib.batching import IGNORE, Batch, TokenBatches, causal_batch
from course_lib.checkpoints import load_model, save_model
from course_lib.datasets import STORIES, Corpus, load
from course_lib.experiments import recording
from course_lib.models import CausalLM, MaskedLM, Model, ModelConfig, Seq2Seq, evaluating
from course_lib.pretraining import Masking, SpanCorruption
from course_lib.tokenizers import (
    UNK,
    BPETokenizer,
    CharacterTokenizer,
    Tokenizer,
    WordTokenizer,
    load_tokenizer,
)
from course_lib.training import TrainConfig, Trainer, evaluate

OBJECTIVES: dict[str, type[Model]] = {"causal": CausalLM, "masked": MaskedLM, "span": Seq2Seq}


class Key(NamedTuple):
    """What names a recipe."""

    corpus: str
    language: str
    objective: str
    minutes: float  # core-minutes that it is meant for

    def __str__(self) -> str:
        return (
            f"--corpus {self.corpus} --language {self.language} --objective {self.objective} --minutes {self.minutes:g}"
        )


@dataclass(frozen=True)
class LanguageModel:
    """A recipe for a language model.

    Attributes:
        tokens: "words" (of Chinese: characters), "characters", or the vocabulary size of a byte-level BPE; learned from
            the training split.
        model: fields of :class:`ModelConfig`.
        max_tokens: token budget of a batch.
        train: fields of :class:`TrainConfig`.
        options: of :func:`course_lib.datasets.load`.
        ship: whether the model of seed 0 is kept in data/checkpoints.
    """

    tokens: str | int
    model: dict[str, Any]
    max_tokens: int
    train: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    ship: bool = False


def _stories(model: dict[str, Any], max_tokens: int, train: dict[str, Any], **others: Any) -> LanguageModel:
    # What can happen next in the town is exact, so smoothing would only teach what is false.
    model = {"dropout": 0.0, "positions": "rotary", **model}
    return LanguageModel("words", model, max_tokens, {"label_smoothing": 0, **train}, **others)


def _small(**layers: int) -> LanguageModel:
    train = {"steps": 3600, "lr": 4e-3, "average_decay": 0.99, "validate_every": 600}
    return _stories({"d_model": 64, "d_ff": 256, **layers}, 512, train, ship=True)


LANGUAGE_MODELS: dict[Key, LanguageModel] = {
    Key(STORIES, "en", "causal", 2): _small(n_decoder_layers=3),
    Key(STORIES, "zh", "causal", 2): _small(n_decoder_layers=3),
    Key(STORIES, "en", "masked", 2): _small(n_encoder_layers=3),
    Key(STORIES, "en", "span", 2): _small(n_encoder_layers=2, n_decoder_layers=2),
    # How near can a model come to the floor? With so many stories that none need be learned by heart.
    Key(STORIES, "en", "causal", 150): _stories(
        {"d_model": 128, "n_heads": 8, "n_decoder_layers": 4, "d_ff": 512},
        768,
        {"steps": 120_000, "lr": 3e-3, "average_decay": 0.9995, "validate_every": 5000},
        options={"train": 900_000},
        ship=True,
    ),
    # Batches hold the longest text, so that every one is learned from.
    Key("chinese-poetry", "zh", "causal", 4): LanguageModel(
        4096,
        {"d_model": 128, "n_decoder_layers": 2, "d_ff": 512, "dropout": 0.2, "positions": "rotary"},
        1536,
        {"steps": 850, "lr": 3e-3, "label_smoothing": 0, "average_decay": 0.99, "validate_every": 170},
    ),
    Key("tinyshakespeare", "en", "causal", 4): LanguageModel(
        1024,
        {"d_model": 128, "n_decoder_layers": 3, "d_ff": 512, "dropout": 0.1, "positions": "rotary"},
        1280,
        {"steps": 1250, "lr": 3e-3, "label_smoothing": 0, "average_decay": 0.99, "validate_every": 250},
    ),
}


@dataclass
class Run:
    """What one seed gave.

    ``scores`` holds, of the test split, "nats_per_token": of the tokens that are to be predicted. A causal model must
    predict all of them and the end of each text, so for it there are also "bits_per_character" and "bits_per_byte" (of
    UTF-8), which compare across tokenisers; and on the stories "floor", the exact value of nats_per_token that no model
    can beat but by luck, and "excess_percent", how far above it the model is. Of a causal model of real English there
    is also "blimp": see :func:`score_minimal_pairs`.
    """

    seed: int
    parameters: int
    updates: int
    core_minutes: float
    wall_minutes: float
    vocab_size: int
    scores: dict[str, float] = field(default_factory=dict)
    validations: list[tuple[int, float]] = field(default_factory=list)


def train_tokenizer(corpus: Corpus, language: str, tokens: str | int) -> Tokenizer:
    """The tokeniser of a recipe, learned from the training split."""
    texts = corpus.texts("train", language)
    if tokens == "words":
        return WordTokenizer.train(texts)
    if tokens == "characters":
        return CharacterTokenizer.train(texts)
    if isinstance(tokens, int):
        return BPETokenizer.train(texts, tokens)
    raise ValueError(f'tokens must be "words", "characters" or a vocabulary size, got {tokens!r}')


def batches(
    objective: str, sequences: Sequence[list[int]], max_tokens: int, vocab_size: int, seed: int | None = None
) -> TokenBatches:
    """What a model of this objective learns from, made of token ids without BOS and EOS.

    With a seed, it is the order of the batches, and what is hidden differs from epoch to epoch: for training. Without
    one, all is the same each time: for evaluation.
    """
    holes = 0 if seed is None else None
    collate: dict[str, Callable[[Any], Batch]] = {
        "causal": causal_batch,
        "masked": Masking(vocab_size, seed=holes),
        "span": SpanCorruption(seed=holes),
    }
    return TokenBatches(sequences, max_tokens, seed=seed or 0, collate=collate[objective])


def train_language_model(
    corpus: Corpus, key: Key, recipe: LanguageModel, seed: int, progress: bool = True
) -> tuple[Model, Tokenizer, Run]:
    """Train the recipe's model with one seed: initial weights, order of the data and dropout all follow from it.

    An interrupted training goes on where it was, from a checkpoint in the folder runs.
    """
    # The models that are shipped for one corpus and language share a tokeniser: that of the first.
    _, shared = checkpoint_paths(key.objective, key.corpus, key.language)
    if recipe.ship and shared.exists():
        tokenizer = load_tokenizer(shared)
    else:
        tokenizer = train_tokenizer(corpus, key.language, recipe.tokens)

    def encoded(split: str) -> list[list[int]]:
        return [tokenizer.encode(text) for text in corpus.texts(split, key.language)]

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = OBJECTIVES[key.objective](ModelConfig(tokenizer.vocab_size, **recipe.model))
    checkpoint = _unfinished(key, seed)
    checkpoint.parent.mkdir(exist_ok=True)
    trainer = Trainer(
        model,
        batches(key.objective, encoded("train"), recipe.max_tokens, tokenizer.vocab_size, seed),
        TrainConfig(**recipe.train, seed=seed, checkpoint_path=checkpoint),
        batches(key.objective, encoded("valid"), 4 * recipe.max_tokens, tokenizer.vocab_size),
        progress=progress,
    )
    history = trainer.run(resume=True)
    run = Run(
        seed=seed,
        parameters=sum(p.numel() for p in model.parameters()),
        updates=len(history.steps),
        core_minutes=round(history.steps[-1].cpu_seconds / 60, 2),
        wall_minutes=round(history.steps[-1].wall_seconds / 60, 2),
        vocab_size=tokenizer.vocab_size,
        validations=[(step, round(loss, 4)) for step, loss in history.validations],
    )
    return model, tokenizer, run


def score_language_model(
    model: Model, tokenizer: Tokenizer, corpus: Corpus, key: Key, max_tokens: int = 4096
) -> dict[str, float]:
    """The scores on the test split, see :class:`Run`.

    Raises:
        ValueError: if the tokeniser does not know all of the text. The model would not say which unknown word comes,
            only that one does, and its score would be too good.
    """
    texts = corpus.texts("test", key.language)
    sequences = [tokenizer.encode(text) for text in texts]
    unknown = sum(sequence.count(UNK) for sequence in sequences)
    if unknown:
        raise ValueError(f"{unknown} tokens of the test split are unknown to the tokeniser; use a byte-level BPE")
    nats = evaluate(model, batches(key.objective, sequences, max_tokens, tokenizer.vocab_size))
    scores = {"nats_per_token": nats}
    if key.objective == "causal":
        n_tokens = sum(len(sequence) + 1 for sequence in sequences)
        bits = nats * n_tokens / math.log(2)
        scores["bits_per_character"] = bits / sum(map(len, texts))
        scores["bits_per_byte"] = bits / sum(len(text.encode()) for text in texts)
        if key.corpus == STORIES:  # ln p of a whole text does not depend on the tokeniser
            exact = [getattr(story, f"log_prob_{key.language}") for story in corpus.stories("test")]
            scores["floor"] = -math.fsum(exact) / n_tokens
            scores["excess_percent"] = 100 * (nats / scores["floor"] - 1)
    return {name: round(score, 4) for name, score in scores.items()}


@torch.no_grad()
def score_minimal_pairs(model: CausalLM, tokenizer: Tokenizer, corpus: Corpus) -> dict[str, float]:
    """How often the model tells what can be said from what cannot: by giving it the higher total probability.

    Args:
        model: of real English; nothing is trained.
        tokenizer: of the model.
        corpus: ``load("blimp")`` (Warstadt et al. 2020); a coin would be right in half of its pairs.

    Returns:
        The share of pairs judged rightly, "blimp" of all and "blimp/…" of each paradigm.
    """

    def log_probs(texts: list[str]) -> Tensor:
        sequences = [tokenizer.encode(text) for text in texts]
        order = sorted(range(len(texts)), key=lambda i: len(sequences[i]))
        totals = torch.empty(len(texts), dtype=torch.float64)
        for start in range(0, len(order), 64):
            rows = order[start : start + 64]
            batch = causal_batch([sequences[i] for i in rows])
            log_q = model(*batch.inputs).log_softmax(dim=-1)
            chosen = log_q.gather(2, batch.targets.clamp(min=0)[:, :, None]).squeeze(2)
            totals[rows] = chosen.masked_fill(batch.targets == IGNORE, 0.0).double().sum(dim=1)
        return totals

    with evaluating(model):
        right = log_probs(corpus.texts("test", "en")) > log_probs(corpus.column("test", "unacceptable"))
    paradigms = corpus.column("test", "paradigm")
    scores = {"blimp": float(right.double().mean())}
    for paradigm in dict.fromkeys(paradigms):
        judged = right[torch.tensor([name == paradigm for name in paradigms])]
        scores[f"blimp/{paradigm}"] = float(judged.double().mean())
    return {name: round(score, 4) for name, score in scores.items()}


def result_path(key: Key) -> Path:
    """Where a result is recorded."""
    return recording.result_path("language-model", key.corpus, key.language, key.objective, f"{key.minutes:g}")


def _unfinished(key: Key, seed: int) -> Path:
    """The checkpoint of a training under way."""
    return recording.RUNS / f"{result_path(key).stem}-{seed}.safetensors"


def checkpoint_paths(
    objective: str, corpus: str = STORIES, language: str = "en", minutes: float = 2
) -> tuple[Path, Path]:
    """Where the shipped model and its tokeniser lie; all models of one corpus and language share the tokeniser."""
    name = f"{corpus.replace('/', '-')}-{language}"
    longer = "" if minutes <= 2 else f"-{minutes:g}"  # those trained in the time of a notebook need no number
    model = recording.CHECKPOINTS / f"{name}-{objective}{longer}.safetensors"
    return model, recording.CHECKPOINTS / f"{name}-tokenizer.json"


def pretrained(
    objective: str, corpus: str = STORIES, language: str = "en", minutes: float = 2
) -> tuple[Model, Tokenizer]:
    """A shipped model, ready to be used, and its tokeniser; ``minutes`` as in its recipe.

    Raises:
        ValueError: if there is none.
    """
    model_path, tokenizer_path = checkpoint_paths(objective, corpus, language, minutes)
    if not model_path.exists():
        known = ", ".join(path.stem for path in sorted(recording.CHECKPOINTS.glob("*.safetensors")))
        raise ValueError(f"no model {model_path.stem!r} is shipped; there is {known}")
    return load_model(model_path), load_tokenizer(tokenizer_path)


def describe(key: Key) -> dict[str, Any]:
    """A recipe as it stands in a result file.

    Raises:
        ValueError: if there is no such recipe.
    """
    if key not in LANGUAGE_MODELS:
        raise ValueError(f"no recipe for {key}; there is {'; '.join(map(str, LANGUAGE_MODELS))}")
    return recording.as_json(key._asdict() | asdict(LANGUAGE_MODELS[key]))


def run_language_model(key: Key, seeds: Sequence[int], progress: bool = True) -> dict[str, Any]:
    """Run a recipe for the seeds that its file does not hold yet, and return what the file then holds.

    Raises:
        ValueError: if there is no such recipe, or the file was recorded with another one.
    """
    described = describe(key)
    recipe = LANGUAGE_MODELS[key]
    corpus = load(key.corpus, **recipe.options)

    def run_seed(seed: int) -> recording.Run:
        model, tokenizer, run = train_language_model(corpus, key, recipe, seed, progress)
        run.scores = score_language_model(model, tokenizer, corpus, key)
        if isinstance(model, CausalLM) and key.language == "en" and key.corpus != STORIES:
            run.scores |= score_minimal_pairs(model, tokenizer, load("blimp"))
        if recipe.ship and seed == 0:
            model_path, tokenizer_path = checkpoint_paths(key.objective, key.corpus, key.language, key.minutes)
            model_path.parent.mkdir(parents=True, exist_ok=True)
            save_model(model_path, model)
            tokenizer.save(tokenizer_path)
        _unfinished(key, seed).unlink()
        if progress:
            print(f"seed {seed}: {run.core_minutes:.1f} core-minutes, {run.scores}")
        return asdict(run)

    def mean(runs: list[recording.Run]) -> dict[str, float]:
        return {name: round(statistics.mean(run["scores"][name] for run in runs), 4) for name in runs[0]["scores"]}

    return recording.record(result_path(key), "language-model", described, seeds, run_seed, mean)
