"""Recorded experiments: a small one is run; the files in data/results are checked against the recipes."""

import json
import math
from collections import Counter
from pathlib import Path

import pytest
import torch

from course_lib import experiments
from course_lib.checkpoints import load_model
from course_lib.datasets import STORIES, Corpus, load
from course_lib.experiments import language_models, recording, translation
from course_lib.experiments.language_models import Key, LanguageModel
from course_lib.models import CausalLM, ModelConfig
from course_lib.tokenizers import BOS, EOS, CharacterTokenizer, WordTokenizer, load_tokenizer
from course_lib.training import Trainer, evaluate

WORDS = {"one": "eins", "two": "zwei", "three": "drei", "four": "vier", "five": "fünf"}


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A corpus of counting words and a recipe that takes a second; results go to a temporary folder."""
    english = [f"{a} {b} {c}" for a in WORDS for b in WORDS for c in WORDS]
    columns = {"en": english, "de": [" ".join(WORDS[word] for word in text.split()) for text in english]}
    splits = {"train": columns, **{split: {k: v[:13] for k, v in columns.items()} for split in ("valid", "test")}}
    corpus = Corpus("counting", ("en", "de"), "none", "none", "", splits)
    recipe = translation.Translation(
        "en", "de", 280, {"d_model": 16, "d_ff": 16, "n_heads": 2}, 128, {"steps": 5, "validate_every": 5}, beam_size=2
    )
    monkeypatch.setattr(recording, "RESULTS", tmp_path)
    monkeypatch.setattr(translation, "load", lambda name: corpus)
    monkeypatch.setattr(translation, "TRANSLATIONS", {("counting", 0.1): recipe})
    return tmp_path


def test_a_result_is_recorded_seed_by_seed(tiny: Path) -> None:
    first = experiments.run_translation("counting", 0.1, [3], progress=False)
    path = translation.result_path("counting", 0.1)
    assert json.loads(path.read_text(encoding="utf-8")) == first
    assert path.parent == tiny
    both = experiments.run_translation("counting", 0.1, [5, 3], progress=False)
    assert [run["seed"] for run in both["runs"]] == [3, 5]
    assert both["runs"][0] == first["runs"][0]  # not run again
    run = both["runs"][1]
    assert run["updates"] == 5
    assert run["scores"]["test/bleu/beam"]["signature"].startswith("nrefs:1|case:mixed")
    assert set(both["mean"]) == {"test/bleu/greedy", "test/bleu/beam", "test/chrf/beam"}
    assert {"processor", "cores", "gigaflops_per_core"} <= set(run["machine"])
    assert not list(tiny.glob("*.tmp"))


def test_another_recipe_does_not_overwrite(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiments.run_translation("counting", 0.1, [3], progress=False)
    before = translation.result_path("counting", 0.1).read_bytes()
    changed = translation.Translation("en", "de", 281, {}, 128, {"steps": 5})
    monkeypatch.setattr(translation, "TRANSLATIONS", {("counting", 0.1): changed})
    with pytest.raises(ValueError, match=r"counting-0\.1\.json was recorded with another recipe; delete it"):
        experiments.run_translation("counting", 0.1, [4], progress=False)
    assert translation.result_path("counting", 0.1).read_bytes() == before


def test_unknown_recipe_names_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        experiments.main(["translation", "--corpus", "multi30k", "--minutes", "5"])
    assert exit_.value.code == 2
    assert "no recipe for 'multi30k' at 5 core-minutes; there is multi30k at 3.6 minutes" in capsys.readouterr().err


def test_shuffled_source_breaks_the_pairs_and_nothing_else() -> None:
    pairs = [(f"s{i}", f"t{i}") for i in range(101)]
    shuffled = experiments.shuffled_source(pairs, seed=0)
    assert [target for _, target in shuffled] == [target for _, target in pairs]
    assert Counter(source for source, _ in shuffled) == Counter(source for source, _ in pairs)
    assert sum(a == b for a, b in zip(shuffled, pairs, strict=True)) < 5


@pytest.mark.parametrize("path", sorted(experiments.RESULTS.glob("translation-*.json")), ids=lambda path: path.stem)
def test_recorded_results_belong_to_the_recipes(path: Path) -> None:
    # A changed recipe makes its recorded numbers wrong; they have to be recorded again.
    result = json.loads(path.read_text(encoding="utf-8"))
    recipe = result["recipe"]
    assert path == translation.result_path(recipe["corpus"], recipe["minutes"])
    expected = translation.describe(recipe["corpus"], recipe["minutes"])
    assert recipe == expected
    for name, mean in result["mean"].items():
        values = [run["scores"][name]["value"] for run in result["runs"]]
        assert mean == pytest.approx(sum(values) / len(values), abs=0.006)
        signatures = {run["scores"][name]["signature"] for run in result["runs"]}
        assert len(signatures) == 1
        assert ("tok:zh" in signatures.pop()) == (recipe["target"] == "zh" and "/bleu" in name)  # fault 96


def test_the_readme_reports_what_was_recorded() -> None:
    results = [json.loads(path.read_text(encoding="utf-8")) for path in experiments.RESULTS.glob("translation-*.json")]
    rows = []
    for result in sorted(results, key=lambda result: (result["recipe"]["corpus"], result["recipe"]["minutes"])):
        recipe, test = result["recipe"], result["recipe"]["tests"][0]
        name = f"{recipe['corpus']} {recipe['source']}→{recipe['target']}, {test}"
        values = [run["scores"][f"{test}/bleu/beam"]["value"] for run in result["runs"]]
        score = f"{sum(values) / len(values):.1f}"  # as in notebook 5.3: the stored mean has been rounded once before
        if f"{test}/bleu/best possible" in result["mean"]:
            score += f" (best possible: {result['mean'][f'{test}/bleu/best possible']:.1f})"
        took = sum(run["core_minutes"] for run in result["runs"]) / len(values)
        rows.append(f"| {name} | {recipe['minutes']:g} | {took:.1f} | {len(values)} | {score} |")
    readme = (experiments.RESULTS.parent.parent / "README.md").read_text(encoding="utf-8")
    table = "\n".join(rows)
    assert table in readme, f"the table of README.md should be\n{table}"
    results = [
        json.loads(path.read_text(encoding="utf-8")) for path in experiments.RESULTS.glob("language-model-*.json")
    ]
    rows = []
    for result in sorted(results, key=lambda result: [str(result["recipe"][k]) for k in ("corpus", "language")]):
        recipe, scores = result["recipe"], result["mean"]
        if recipe["objective"] != "causal":
            continue
        score = f"{scores['bits_per_character']:.2f} bits a character"
        if "floor" in scores:
            score = f"{scores['nats_per_token']:.3f} nats a token (floor: {scores['floor']:.3f})"
        took = sum(run["core_minutes"] for run in result["runs"]) / len(result["runs"])
        rows.append(f"| {recipe['corpus']} {recipe['language']} | {recipe['minutes']:g} | {took:.1f} | {score} |")
    for row in rows:
        assert row in readme, "the second table of README.md should have the rows\n" + "\n".join(rows)
    live = json.loads(translation.result_path(translation.MICROWORLD, 1.5).read_text(encoding="utf-8"))["mean"]
    assert f"BLEU {live['test/bleu/beam']:.1f} (three seeds" in readme
    assert f"is {live['test/bleu/best possible']:.1f}.*" in readme


# Language models -------------------------------------------------------------------------------------------------

TINY = Key(STORIES, "en", "causal", 0.1)


@pytest.fixture
def tiny_stories(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A recipe for a language model that takes seconds; results and models go to a temporary folder."""
    recipe = LanguageModel(
        "characters",
        {"d_model": 16, "d_ff": 16, "n_heads": 2, "n_decoder_layers": 1, "n_encoder_layers": 1},
        1024,
        {"steps": 5, "validate_every": 2},
        options={"train": 61, "valid": 7, "test": 11},
        ship=True,
    )
    monkeypatch.setattr(recording, "RESULTS", tmp_path)
    monkeypatch.setattr(recording, "CHECKPOINTS", tmp_path / "checkpoints")
    monkeypatch.setattr(recording, "RUNS", tmp_path / "runs")
    recipes = {TINY._replace(objective=objective): recipe for objective in language_models.OBJECTIVES}
    monkeypatch.setattr(language_models, "LANGUAGE_MODELS", recipes)
    return tmp_path


def test_a_language_model_is_recorded_and_shipped(tiny_stories: Path) -> None:
    first = language_models.run_language_model(TINY, [0], progress=False)
    path = tiny_stories / "language-model-microworld-stories-en-causal-0.1.json"
    assert json.loads(path.read_text(encoding="utf-8")) == first
    both = language_models.run_language_model(TINY, [5, 0], progress=False)
    assert [run["seed"] for run in both["runs"]] == [0, 5]
    assert both["runs"][0] == first["runs"][0]  # not run again
    run = both["runs"][0]
    assert run["updates"] == 5 and [step for step, _ in run["validations"]] == [2, 4, 5]
    scores = run["scores"]
    assert scores["floor"] < scores["nats_per_token"]
    assert scores["excess_percent"] == pytest.approx(100 * (scores["nats_per_token"] / scores["floor"] - 1), rel=1e-3)
    values = [run["scores"]["nats_per_token"] for run in both["runs"]]
    assert both["mean"]["nats_per_token"] == pytest.approx(sum(values) / 2, abs=6e-5)

    # The shipped model is that of seed 0, and its file and the tokeniser's are all that is needed to use it.
    model, tokenizer = language_models.pretrained("causal")
    corpus = load(STORIES, train=61, valid=7, test=11)
    assert language_models.score_language_model(model, tokenizer, corpus, TINY) == scores


@pytest.mark.parametrize("objective", ["masked", "span"])
def test_other_objectives_are_recorded_too(tiny_stories: Path, objective: str) -> None:
    key = TINY._replace(objective=objective)
    result = language_models.run_language_model(key, [0], progress=False)
    (run,) = result["runs"]
    model, tokenizer = language_models.pretrained(objective)
    assert type(model) is language_models.OBJECTIVES[objective]
    corpus = load(STORIES, train=61, valid=7, test=11)
    # What is hidden is the same each time, or the score would be of something else.
    assert language_models.score_language_model(model, tokenizer, corpus, key) == run["scores"]
    assert set(run["scores"]) == {"nats_per_token"}  # of the hidden tokens: no bits per character, no floor


@pytest.mark.parametrize("objective", ["masked", "span"])
def test_training_hides_something_else_each_time(objective: str) -> None:
    sequences = [[5 + (i * k) % 53 for k in range(61)] for i in range(1, 8)]

    def inputs(seed: int | None) -> list[list[int]]:
        batches = language_models.batches(objective, sequences, 4096, 58, seed)
        return [batch.inputs[0].tolist() for _ in range(2) for batch in batches]

    first, second = inputs(seed=0)
    assert first != second
    first, second = inputs(seed=None)
    assert first == second


def test_an_interrupted_language_model_goes_on(tiny_stories: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as interrupted:
        interrupted.setattr(language_models, "score_language_model", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            language_models.run_language_model(TINY, [0], progress=False)
    assert not language_models.result_path(TINY).exists()
    with monkeypatch.context() as trained:
        trained.setattr(Trainer, "_update", lambda _: 1 / 0)  # all steps were taken: there is nothing to train
        first = language_models.run_language_model(TINY, [0], progress=False)
    assert not list((tiny_stories / "runs").iterdir())
    language_models.result_path(TINY).unlink()
    again = language_models.run_language_model(TINY, [0], progress=False)
    assert again["mean"] == first["mean"]


def test_bits_do_not_depend_on_the_tokeniser() -> None:
    """The floor is ln p(text): in nats per token it depends on the tokens, in bits per character it does not."""
    corpus = load(STORIES, train=61, valid=7, test=11)
    for language, tokens in (("en", "words"), ("en", 300), ("zh", "characters")):
        texts = corpus.texts("test", language)
        n_characters, n_bytes = sum(map(len, texts)), sum(len(text.encode()) for text in texts)
        exact = -sum(getattr(story, f"log_prob_{language}") for story in corpus.stories("test"))
        tokenizer = language_models.train_tokenizer(corpus, language, tokens)
        model = CausalLM(ModelConfig(tokenizer.vocab_size, d_model=16, d_ff=16, n_decoder_layers=1))
        scores = language_models.score_language_model(model, tokenizer, corpus, Key(STORIES, language, "causal", 1))
        ends_too = sum(len(tokenizer.encode(text)) + 1 for text in texts)
        assert scores["floor"] == pytest.approx(exact / ends_too, abs=6e-5)
        bits = scores["bits_per_character"] * scores["floor"] / scores["nats_per_token"]
        assert bits == pytest.approx(exact / math.log(2) / n_characters, rel=1e-3)
        assert scores["bits_per_byte"] * n_bytes == pytest.approx(scores["bits_per_character"] * n_characters, rel=1e-3)


def test_what_the_tokeniser_does_not_know_is_no_score() -> None:
    corpus = Corpus("two", ("en",), "none", "none", "", {"test": {"en": ["one two", "two three four"]}})
    tokenizer = WordTokenizer(["one", "two"])
    model = CausalLM(ModelConfig(tokenizer.vocab_size, d_model=16, d_ff=16))
    with pytest.raises(ValueError, match="2 tokens of the test split are unknown to the tokeniser; use a byte-level"):
        language_models.score_language_model(model, tokenizer, corpus, Key("two", "en", "causal", 1))


def test_minimal_pairs_are_judged_by_the_total_of_each_text() -> None:
    texts = ["ab", "ba", "abab", "b"]
    tokenizer = CharacterTokenizer.train(texts)
    torch.manual_seed(3)
    model = CausalLM(ModelConfig(tokenizer.vocab_size, d_model=8, n_heads=2, d_ff=8, n_decoder_layers=1)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)

    def total(text: str) -> float:  # token by token, each text alone
        tokens = [BOS, *tokenizer.encode(text), EOS]
        with torch.no_grad():
            steps = model(torch.tensor([tokens[:-1]])).double().log_softmax(dim=-1)[0]
        return sum(float(step[token]) for step, token in zip(steps, tokens[1:], strict=True))

    better, worse = (["ab", "b", "abab"], ["ba", "ab", "b"])
    columns = {"test": {"en": better, "unacceptable": worse, "paradigm": ["x", "y", "x"]}}
    found = language_models.score_minimal_pairs(model, tokenizer, Corpus("pairs", ("en",), "", "", "", columns))
    right = [total(a) > total(b) for a, b in zip(better, worse, strict=True)]
    assert 0 < sum(right) < 3  # or nothing would be tested
    assert found == {
        "blimp": round(sum(right) / 3, 4), "blimp/x": (right[0] + right[2]) / 2, "blimp/y": float(right[1])
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--minutes", "7"], f"no recipe for --corpus {STORIES} --language en --objective causal --minutes 7; there"),
        (["--language", "zh"], f"no recipe for --corpus {STORIES} --language zh --objective causal --minutes 0; there"),
        (["--corpus", "none"], "no recipe for --corpus none --language en --objective causal --minutes 0; there"),
    ],
)
@pytest.mark.usefixtures("tiny_stories")
def test_unknown_language_models_are_answered_with_the_known_ones(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiments, "LANGUAGE_MODELS", language_models.LANGUAGE_MODELS)
    with pytest.raises(SystemExit) as exit_:
        experiments.main(["language-model", *arguments])
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert message in error and error.rstrip().endswith("; ".join(map(str, language_models.LANGUAGE_MODELS)))


@pytest.mark.usefixtures("tiny_stories")
def test_a_model_that_is_not_shipped_is_named() -> None:
    with pytest.raises(ValueError, match="no model 'microworld-stories-en-masked' is shipped; there is"):
        language_models.pretrained("masked")


MODELS = sorted(recording.RESULTS.glob("language-model-*.json"))


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_recorded_language_models_belong_to_the_recipes(path: Path) -> None:
    result = json.loads(path.read_text(encoding="utf-8"))
    key = Key(*(result["recipe"][name] for name in Key._fields))
    assert path == language_models.result_path(key)
    assert result["recipe"] == language_models.describe(key)
    for run in result["runs"]:
        assert run["updates"] == result["recipe"]["train"]["steps"]
        if key.corpus == STORIES and key.objective == "causal":
            assert run["scores"]["excess_percent"] > 0
    for name, mean in result["mean"].items():
        values = [run["scores"][name] for run in result["runs"]]
        assert mean == pytest.approx(sum(values) / len(values), abs=6e-5)


SHIPPED = [key for key, recipe in language_models.LANGUAGE_MODELS.items() if recipe.ship]


def shipped_paths(key: Key) -> tuple[Path, Path]:
    return language_models.checkpoint_paths(key.objective, key.corpus, key.language, key.minutes)


def test_one_recipe_for_each_shipped_model() -> None:
    assert len({shipped_paths(key)[0] for key in SHIPPED}) == len(SHIPPED)
    files = {path for key in SHIPPED for path in shipped_paths(key)}
    assert files == set(recording.CHECKPOINTS.iterdir())
    assert max(path.stat().st_size for path in files) < 4e6


@pytest.mark.parametrize("key", SHIPPED, ids=str)
def test_shipped_models_score_what_was_recorded(key: Key) -> None:
    """The model of another run or recipe would not."""
    result = json.loads(language_models.result_path(key).read_text(encoding="utf-8"))
    model_path, tokenizer_path = shipped_paths(key)
    model, tokenizer = load_model(model_path), load_tokenizer(tokenizer_path)
    recipe = language_models.LANGUAGE_MODELS[key]
    assert model.config == ModelConfig(tokenizer.vocab_size, **recipe.model)
    corpus = load(key.corpus, **recipe.options | {"train": 0, "valid": 0})
    sequences = [tokenizer.encode(text) for text in corpus.texts("test", key.language)]
    nats = evaluate(model, language_models.batches(key.objective, sequences, 4096, tokenizer.vocab_size))
    assert nats == pytest.approx(result["runs"][0]["scores"]["nats_per_token"], abs=1e-3)
