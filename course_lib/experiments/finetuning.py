"""Fine-tuning a small pre-trained model: ``python -m course_lib experiment finetuning --task sentiment``.

The tasks ask about stories, and the state of the town gives every label: the best possible accuracy is 100 %. They are
drawn in equal numbers of "yes" and "no", so that guessing gives 50 %. A recorded run compares, for one seed,

* "scratch": the same network without pre-training;
* "frozen": the pre-trained network as it is, and a new output layer;
* "full": all weights trained;
* "lora": the weights frozen, low-rank matrices beside those of attention trained (Hu et al. 2022).
"""

import copy
import statistics
import time
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from course_lib.batching import TokenBatches, pad_sequences
from course_lib.datasets import STORIES
from course_lib.experiments import recording
from course_lib.experiments.language_models import pretrained
from course_lib.lora import add_lora
from course_lib.microworld import states
from course_lib.microworld.stories import Story, default_town, stories
from course_lib.models import Model, evaluating
from course_lib.tokenizers import BOS, PAD, Tokenizer, WordTokenizer

LONGEST = 8  # sentences of a story that are read: short texts, so that a fit takes seconds
PRONOUNS = {"He": "She", "She": "He", "him": "her", "her": "him"}


class Example(NamedTuple):
    """A text and what is true of it."""

    text: str
    label: int  # 1: yes, 0: no


Task = Callable[[Story, Random], list[Example]]


def told(story: Story, n: int) -> str:
    """The first n sentences of a story."""
    return " ".join(line.en_text for line in story.lines[:n])


def sentiment(story: Story, random: Random) -> list[Example]:
    """Is the last event good news? Somebody takes, finds or gets a thing: 1 if that fulfils a wish of theirs."""
    after = states(story)[1:]
    return [
        Example(told(story, k + 1), int("happy" in after[k].feelings.values()))
        for k, line in enumerate(story.lines[:LONGEST])
        if line.step.kind in ("take", "find", "give")
    ]


def possible(story: Story, random: Random) -> list[Example]:
    """Can the last sentence come here? 1: it did; 0: one word was exchanged, and its probability is exactly 0."""
    split, n_told = WordTokenizer([]).split, min(5, len(story.lines))
    k = 1 + int(random.random() * (n_told - 1))
    state = states(story)[k]
    can_come = {tuple(split(way.text)) for way, _ in default_town().next_sentences(state, "en")}
    words = tuple(split(story.lines[k].en_text))
    groups = [list(state.people), list(state.things), list(state.places)]
    changed = [
        (*words[:i], other, *words[i + 1 :])
        for i, word in enumerate(words)
        for others in [[PRONOUNS[word]] if word in PRONOUNS else [w for g in groups if word in g for w in g]]
        for other in others
    ]
    wrong = [sentence for sentence in changed if sentence not in can_come]
    if not wrong:
        return []
    false = " ".join(wrong[int(random.random() * len(wrong))]).replace(" .", ".")
    return [Example(told(story, k + 1), 1), Example(f"{told(story, k)} {false}", 0)]


def holder(story: Story, random: Random) -> list[Example]:
    """Who has the object? A story, then "Anna had the ball.": 1 if she has it now, 0 if somebody else has."""
    return [
        Example(f"{told(story, k)} {who} had {' '.join(noun)}.", int(who == has))
        for k, state in list(enumerate(states(story)))[3 : LONGEST + 1]
        for thing, has in state.things.items()
        if has in state.people
        for noun in [[word for word, _ in default_town().speakers["en"].say(default_town().thing(thing))]]
        for who in state.people
    ]


TASKS: dict[str, Task] = {"sentiment": sentiment, "possible": possible, "holder": holder}


def draw(task: Task, n: int, seed: int) -> list[Example]:
    """n examples, one a story, "no" and "yes" in turn. Seeds from 1 on give stories that no corpus was made of."""
    random, source, examples = Random(seed), stories(seed), []
    for i in range(n):
        fitting: list[Example] = []
        while not fitting:
            fitting = [example for example in task(next(source), random) if example.label == i % 2]
        examples.append(fitting[int(random.random() * len(fitting))])
    return examples


class Classifier(nn.Module):
    """A language model with a new output layer: yes or no, from the hidden state of the last token."""

    def __init__(self, model: Model, n_classes: int = 2) -> None:
        super().__init__()
        self.model = model
        self.output = nn.Linear(model.config.d_model, n_classes)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """``tokens (batch, length)``, starting with BOS, padded on the right → logits ``(batch, n_classes)``."""
        hidden = self.model.features(tokens)
        last = (tokens != PAD).sum(dim=1) - 1
        return self.output(hidden[torch.arange(len(tokens)), last])

    __call__ = cast("Callable[..., Tensor]", nn.Module.__call__)


def read(examples: Sequence[Example], tokenizer: Tokenizer) -> tuple[Tensor, Tensor]:
    """Token ids ``(batch, length)`` and labels ``(batch,)``."""
    ids = pad_sequences([[BOS, *tokenizer.encode(example.text)] for example in examples])
    return ids, torch.tensor([example.label for example in examples])


RATES = {"scratch": 1e-3, "frozen": 1e-2, "full": 1e-3, "lora": 5e-3}


def fit(
    model: Model,
    tokenizer: Tokenizer,
    examples: Sequence[Example],
    method: str,
    seed: int = 0,
    steps: int = 120,
    lr: float | None = None,
    rehearsal: TokenBatches | None = None,
) -> Classifier:
    """Fine-tune a copy of a model on labelled examples.

    Args:
        model: pre-trained; it stays as it is.
        tokenizer: that of the model.
        examples: with their labels; 16 are read at each step.
        method: "scratch", "frozen", "full" or "lora".
        seed: of the new weights and the order of the examples.
        steps: number of updates.
        lr: highest learning rate, after ten steps; it then falls linearly to 0. None: that of ``RATES``.
        rehearsal: batches of the pre-training, one of which is learned from, too, at each step.

    Raises:
        ValueError: for another method.
    """
    if method not in RATES:
        raise ValueError(f"method must be one of {', '.join(RATES)}, got {method!r}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = Classifier(type(model)(model.config) if method == "scratch" else copy.deepcopy(model))
        if method == "frozen":
            classifier.model.requires_grad_(False)
        if method == "lora":
            add_lora(classifier.model)
        parameters = [p for p in classifier.parameters() if p.requires_grad]
        peak = RATES[method] if lr is None else lr
        optimizer = torch.optim.AdamW(parameters, lr=peak, weight_decay=0.01)
        order: list[int] = []
        classifier.train()
        for step in range(steps):
            if len(order) < min(16, len(examples)):
                order = torch.randperm(len(examples)).tolist()
            chosen, order = order[:16], order[16:]
            tokens, labels = read([examples[i] for i in chosen], tokenizer)
            loss = cross_entropy(classifier(tokens), labels)
            if rehearsal is not None:
                batch = rehearsal.next_batch()
                loss = loss + cross_entropy(classifier.model(*batch.inputs).flatten(0, 1), batch.targets.flatten())
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.param_groups[0]["lr"] = peak * min(1.0, (step + 1) / 10) * (1 - step / steps)
            optimizer.step()
            optimizer.zero_grad()
    return classifier.eval()


def accuracy(classifier: Classifier, tokenizer: Tokenizer, examples: Sequence[Example]) -> float:
    """The share of right answers."""
    right, in_order = 0, sorted(examples, key=lambda example: len(example.text))
    with evaluating(classifier):
        for start in range(0, len(in_order), 50):
            tokens, labels = read(in_order[start : start + 50], tokenizer)
            right += int((classifier(tokens).argmax(dim=1) == labels).sum())
    return right / len(examples)


class Recipe(NamedTuple):
    """What is compared on a task."""

    labels: list[int]
    methods: list[str]
    objectives: list[str]  # how the model was pre-trained
    steps: int = 120
    test: int = 500  # examples


RECIPES = {
    "sentiment": Recipe([10, 30, 100, 300, 1000], ["scratch", "frozen", "full", "lora"], ["causal"]),
    "possible": Recipe([1000], ["scratch", "full"], ["causal"]),
    "holder": Recipe([1000], ["scratch", "full"], ["causal"]),
}
TEST_SEED = 1


def run_finetuning(task: str, seeds: Sequence[int], progress: bool = True) -> dict[str, Any]:
    """Run the recipe of a task for the seeds that its file does not hold yet, and return what the file then holds.

    Raises:
        ValueError: if there is no such task, or the file was recorded with another recipe.
    """
    if task not in RECIPES:
        raise ValueError(f"no recipe for {task!r}; there is {', '.join(RECIPES)}")
    recipe = RECIPES[task]
    test = draw(TASKS[task], recipe.test, TEST_SEED)

    def run_seed(seed: int) -> recording.Run:
        start, scores = time.process_time(), {}
        labelled = draw(TASKS[task], max(recipe.labels), TEST_SEED + 1 + seed)
        for objective in recipe.objectives:
            model, tokenizer = pretrained(objective)
            for n in recipe.labels:
                for method in recipe.methods:
                    classifier = fit(model, tokenizer, labelled[:n], method, seed, recipe.steps)
                    name = f"{objective}/{method}/{n}"
                    scores[name] = round(accuracy(classifier, tokenizer, test), 4)
                    if progress:
                        print(f"{task}, seed {seed}: {name} {scores[name]:.3f}", flush=True)
        return {"seed": seed, "core_minutes": round((time.process_time() - start) / 60, 2), "scores": scores}

    def mean(runs: list[recording.Run]) -> dict[str, float]:
        return {name: round(statistics.mean(run["scores"][name] for run in runs), 4) for name in runs[0]["scores"]}

    described = recording.as_json({"task": task, "rates": RATES, **recipe._asdict()})
    path = recording.result_path("finetuning", STORIES, task)
    return recording.record(path, "finetuning", described, seeds, run_seed, mean)
