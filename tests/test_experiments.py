"""Recorded experiments: a small one is run; the files in data/results are checked against the recipes."""

import json
from collections import Counter
from pathlib import Path

import pytest

from course_lib import experiments
from course_lib.datasets import Corpus

WORDS = {"one": "eins", "two": "zwei", "three": "drei", "four": "vier", "five": "fünf"}


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A corpus of counting words and a recipe that takes a second; results go to a temporary folder."""
    english = [f"{a} {b} {c}" for a in WORDS for b in WORDS for c in WORDS]
    columns = {"en": english, "de": [" ".join(WORDS[word] for word in text.split()) for text in english]}
    splits = {"train": columns, **{split: {k: v[:13] for k, v in columns.items()} for split in ("valid", "test")}}
    corpus = Corpus("counting", ("en", "de"), "none", "none", "", splits)
    recipe = experiments.Translation(
        "en", "de", 280, {"d_model": 16, "d_ff": 16, "n_heads": 2}, 128, {"steps": 5, "validate_every": 5}, beam_size=2
    )
    monkeypatch.setattr(experiments, "RESULTS", tmp_path)
    monkeypatch.setattr(experiments, "load", lambda name: corpus)
    monkeypatch.setattr(experiments, "TRANSLATIONS", {("counting", 0.1): recipe})
    return tmp_path


def test_a_result_is_recorded_seed_by_seed(tiny: Path) -> None:
    first = experiments.run_translation("counting", 0.1, [3], progress=False)
    path = experiments.result_path("counting", 0.1)
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
    before = experiments.result_path("counting", 0.1).read_bytes()
    changed = experiments.Translation("en", "de", 281, {}, 128, {"steps": 5})
    monkeypatch.setattr(experiments, "TRANSLATIONS", {("counting", 0.1): changed})
    with pytest.raises(ValueError, match=r"counting-0\.1\.json was recorded with another recipe; delete it"):
        experiments.run_translation("counting", 0.1, [4], progress=False)
    assert experiments.result_path("counting", 0.1).read_bytes() == before


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
    assert path == experiments.result_path(recipe["corpus"], recipe["minutes"])
    expected = experiments.describe(recipe["corpus"], recipe["minutes"])
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
    live = json.loads(experiments.result_path(experiments.MICROWORLD, 1.5).read_text(encoding="utf-8"))["mean"]
    assert f"BLEU {live['test/bleu/beam']:.1f} (three seeds" in readme
    assert f"is {live['test/bleu/best possible']:.1f}.*" in readme
