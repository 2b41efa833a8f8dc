"""Fine-tuning: labels that are true, parts that stay frozen, and records that belong to their recipes."""

import json
from pathlib import Path
from random import Random

import pytest
import torch

from course_lib.batching import TokenBatches
from course_lib.experiments import RESULTS, finetuning
from course_lib.experiments.finetuning import TASKS, Classifier, accuracy, draw, fit, read
from course_lib.experiments.language_models import pretrained
from course_lib.microworld import states, stories
from course_lib.microworld.stories import default_town

MODEL, TOKENIZER = pretrained("causal")


@pytest.mark.parametrize("task", TASKS)
def test_examples_are_balanced_and_the_same_each_time(task: str) -> None:
    examples = draw(TASKS[task], 40, seed=3)
    assert [example.label for example in examples] == [0, 1] * 20
    assert examples == draw(TASKS[task], 40, seed=3) != draw(TASKS[task], 40, seed=4)
    assert len({example.text for example in examples}) > 35


def test_what_is_called_impossible_has_probability_zero() -> None:
    """And what is called possible can come: the town says so, whatever the task's own code thinks."""
    town, checked = default_town(), {0: 0, 1: 0}
    for _, story in zip(range(120), stories(7), strict=False):
        for text, label in TASKS["possible"](story, Random(1)):
            known = [k for k in range(len(story.lines)) if text.startswith(finetuning.told(story, k))]
            k = max(k for k in known if text != finetuning.told(story, k))
            last = text.removeprefix(finetuning.told(story, k)).strip()
            can_come = {way.text for way, _ in town.next_sentences(states(story)[k], "en")}
            assert (last in can_come) == bool(label)
            checked[label] += 1
    assert min(checked.values()) > 30


def test_the_holder_is_who_the_state_says() -> None:
    seen = set()
    for _, story in zip(range(40), stories(8), strict=False):
        for text, label in TASKS["holder"](story, Random(1)):
            k = max(k for k in range(1, len(story.lines) + 1) if text.startswith(finetuning.told(story, k) + " "))
            who, thing = text.removeprefix(finetuning.told(story, k)).strip().rstrip(".").split(" had ")
            holders = {
                " ".join(word for word, _ in default_town().speakers["en"].say(default_town().thing(noun))): has
                for noun, has in states(story)[k].things.items()
            }
            assert (holders[thing] == who) == bool(label)
            seen.add(label)
    assert seen == {0, 1}


@pytest.mark.parametrize("method", ["scratch", "frozen", "full", "lora"])
def test_a_method_trains_what_it_says(method: str) -> None:
    examples = draw(TASKS["sentiment"], 16, seed=2)
    before = {name: p.clone() for name, p in MODEL.named_parameters()}
    classifier = fit(MODEL, TOKENIZER, examples, method, steps=3)
    assert all(torch.equal(p, before[name]) for name, p in MODEL.named_parameters())  # the given model stays
    after = dict(classifier.model.named_parameters())
    same = {name: torch.equal(after[name], old) for name, old in before.items() if name in after}
    if method == "frozen":
        assert all(same.values()) and len(same) == len(before)
    elif method == "lora":
        assert all(same.values())
        assert any(name.endswith("up") and bool(p.abs().sum() > 0) for name, p in after.items())
    else:
        assert not any(moved for name, moved in same.items() if name.endswith("weight"))


def test_padding_does_not_change_an_answer() -> None:
    torch.manual_seed(0)
    classifier = Classifier(MODEL).eval()
    torch.nn.init.normal_(classifier.output.weight)
    examples = draw(TASKS["possible"], 6, seed=5)
    together = classifier(read(examples, TOKENIZER)[0])
    alone = torch.cat([classifier(read([example], TOKENIZER)[0]) for example in examples])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def test_thirty_examples_can_be_learned_by_heart_and_rehearsal_keeps_the_old_loss() -> None:
    examples = draw(TASKS["sentiment"], 30, seed=2)
    tuned = fit(MODEL, TOKENIZER, examples, "full", steps=60)
    assert accuracy(tuned, TOKENIZER, examples) > 0.9
    texts = [TOKENIZER.encode(story.en_text) for _, story in zip(range(40), stories(9), strict=False)]
    rehearsed = fit(MODEL, TOKENIZER, examples, "full", steps=60, rehearsal=TokenBatches(texts, 512))

    def loss(classifier: Classifier) -> float:
        batch = next(iter(TokenBatches(texts, 4096)))
        with torch.no_grad():
            return float(
                torch.nn.functional.cross_entropy(
                    classifier.model(*batch.inputs).flatten(0, 1), batch.targets.flatten()
                )
            )

    assert loss(rehearsed) < loss(tuned)


def test_an_unknown_method_or_task_is_named() -> None:
    with pytest.raises(ValueError, match="method must be one of scratch, frozen, full, lora, got 'half'"):
        fit(MODEL, TOKENIZER, draw(TASKS["sentiment"], 2, seed=1), "half")
    with pytest.raises(ValueError, match="no recipe for 'humour'; there is sentiment, possible, holder"):
        finetuning.run_finetuning("humour", [0])


@pytest.mark.parametrize("path", sorted(RESULTS.glob("finetuning-*.json")), ids=lambda path: path.stem)
def test_recorded_results_belong_to_the_recipes(path: Path) -> None:
    result = json.loads(path.read_text(encoding="utf-8"))
    task = result["recipe"]["task"]
    recipe = finetuning.RECIPES[task]
    assert result["recipe"] == {"task": task, "rates": finetuning.RATES, **json.loads(json.dumps(recipe._asdict()))}
    assert [run["seed"] for run in result["runs"]] == [0, 1, 2]
    for name, mean in result["mean"].items():
        assert mean == pytest.approx(sum(run["scores"][name] for run in result["runs"]) / 3, abs=6e-5)


def test_a_record_can_be_repeated() -> None:
    """One number of it, computed again: the labels, the model and the recipe are still those of the record."""
    result = json.loads((RESULTS / "finetuning-microworld-stories-sentiment.json").read_text(encoding="utf-8"))
    test = draw(TASKS["sentiment"], finetuning.RECIPES["sentiment"].test, finetuning.TEST_SEED)
    classifier = fit(MODEL, TOKENIZER, draw(TASKS["sentiment"], 10, seed=2), "frozen", seed=0)
    again = accuracy(classifier, TOKENIZER, test)
    assert again == pytest.approx(result["runs"][0]["scores"]["causal/frozen/10"], abs=0.03)
