"""Explorers: every control works at both ends, the picture is valid, and the sentence agrees with the library."""

import re
import statistics
import time
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import ipywidgets
import pytest
import torch

from course_lib.decoding import beam_search
from course_lib.microworld import parallel_corpus
from course_lib.models import CausalLM, ModelConfig, Seq2Seq
from course_lib.tokenizers import EOS, BPETokenizer, WordTokenizer
from course_lib.viz import explorers, svg

CORPUS = parallel_corpus(train=300, valid=40, test=40)
TEXTS = [text for language in ("en", "zh") for text in CORPUS.texts("train", language)]
WORDS = WordTokenizer.train(TEXTS)
CONFIG = ModelConfig(WORDS.vocab_size, d_model=32, n_heads=2, n_encoder_layers=1, n_decoder_layers=2, d_ff=48)


def seq2seq() -> Seq2Seq:
    torch.manual_seed(0)
    return Seq2Seq(CONFIG)


def causal() -> CausalLM:
    torch.manual_seed(0)
    return CausalLM(CONFIG)


EXPLORERS: dict[str, Callable[[], explorers.Explorer]] = {
    "look_up": explorers.look_up,
    "temperature": explorers.temperature,
    "masks": explorers.masks,
    "positions": explorers.positions,
    "floating_point": explorers.floating_point,
    "normalisation": explorers.normalisation,
    "schedules": explorers.schedules,
    "smoothing": explorers.smoothing,
    "merges": lambda: explorers.merges(BPETokenizer.train(TEXTS, 500), "the unhappiest 猫"),
    "sampling": lambda: explorers.sampling(causal(), WORDS, "the"),
    "cache_cost": explorers.cache_cost,
    "beam_tree": lambda: explorers.beam_tree(seq2seq(), WORDS, CORPUS.test[0].en_text),
    "translator": lambda: explorers.translator(seq2seq(), WORDS, CORPUS.test[:5]),
    "dynamics": lambda: explorers.dynamics([(1, torch.full((2, 3), 1 / 3)), (9, torch.eye(3)[:2])], "ab", "xyz"),
}


def settings(widget: ipywidgets.Widget) -> list[Any]:
    """Values that a person can choose: the ends of a slider, every entry of a list, both states of a box."""
    if isinstance(widget, (ipywidgets.Dropdown, ipywidgets.SelectionSlider)):
        return [option[1] if isinstance(option, tuple) else option for option in widget.options]
    if isinstance(widget, ipywidgets.Checkbox):
        return [True, False]
    if isinstance(widget, (ipywidgets.IntSlider, ipywidgets.FloatSlider)):
        return [widget.min, widget.max]
    return ["a cat", "猫 <b>&"]


def test_every_explorer_is_tested() -> None:
    made = {
        name
        for name, value in vars(explorers).items()
        if getattr(value, "__module__", "") == explorers.__name__ and not name.startswith("_") and callable(value)
    }
    assert made - {"Explorer", "View"} == set(EXPLORERS)


@pytest.mark.parametrize("name", EXPLORERS)
def test_every_setting_gives_a_picture_and_changes_the_view(name: str) -> None:
    explorer = EXPLORERS[name]()
    assert explorer.question.endswith("?")
    for control in explorer.controls.values():
        assert len(control.description) >= 3  # its label, for the eye and for a screen reader
        start, seen = control.value, set()
        for value in settings(control):
            control.value = value
            picture, sentence = explorer.view()
            root = ElementTree.fromstring(picture)  # well-formed
            assert root.tag.endswith("svg")
            places = [float(n) for n in re.findall(r' (?:x|y|x1|y1|x2|y2|cx|cy)="([^"]*)"', picture)]
            _, _, width, height = map(float, root.attrib["viewBox"].split())
            assert all(-1 <= place <= max(width, height) + 1 for place in places)  # nothing far outside the card
            assert 'id="' not in picture
            assert len(sentence) > 30
            assert picture in explorer.output.value  # the panel shows it
            seen.add((picture, sentence))
        assert len(seen) > 1, f"{control.description} changes nothing"
        control.value = start


@pytest.mark.parametrize("name", EXPLORERS)
def test_a_setting_takes_less_than_a_tenth_of_a_second(name: str) -> None:
    explorer = EXPLORERS[name]()
    control = next(iter(explorer.controls.values()))
    seconds = []
    for value in (settings(control) * 6)[:11]:
        control.value = value
        start = time.process_time()  # not the clock on the wall: other tests run beside this one
        explorer._follow()
        seconds.append(time.process_time() - start)
    assert statistics.median(seconds) < 0.1


def test_the_stored_form_is_the_first_view_and_the_same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    stored: list[list[Any]] = []
    for _ in range(2):
        shown: list[Any] = []
        monkeypatch.setattr(explorers, "display", lambda thing, shown=shown, **_: shown.append(thing))
        explorer = explorers.masks()
        explorer._ipython_display_()
        assert shown[0] is explorer.panel
        stored.append(shown[1:])
    assert stored[0] == stored[1]
    (still,) = stored[0]
    sentence = explorers.masks().view().sentence
    assert sentence in still["text/plain"] and sentence in still["text/html"]
    assert 'alt="' in still["text/html"] and "http://" not in still["text/html"]


def test_bad_input_is_named_and_the_panel_goes_on() -> None:
    explorer = EXPLORERS["beam_tree"]()
    explorer.controls["typed"].value = " "
    assert "⚠ type a sentence" in explorer.output.value
    explorer.controls["typed"].value = "the cat"
    assert "<svg" in explorer.output.value


def test_text_that_a_reader_types_is_text() -> None:
    explorer = EXPLORERS["sampling"]()
    explorer.controls["prompt"].value = "<script>alert(1)</script>"
    assert "<script>" not in explorer.output.value


def test_masks_leave_no_weight_where_they_forbid_it() -> None:
    explorer = explorers.masks()
    assert "0% goes to padding and 0% to later words" in explorer.view().sentence
    explorer.controls["causal"].value = False
    assert "0% goes to padding and 0% to later" not in explorer.view().sentence
    explorer.controls["causal"].value, explorer.controls["padding"].value = True, False
    assert "0% goes to padding" in explorer.view().sentence  # padding is at the end: the causal mask hides it, too


def test_float16_overflows_first() -> None:
    explorer = explorers.floating_point()
    failed = {}
    for dtype in explorer.controls["dtype"].options:
        explorer.controls["dtype"].value = dtype
        for largest in explorer.controls["largest"].options:
            explorer.controls["largest"].value = largest
            if "no number" in explorer.view().sentence:
                failed.setdefault(dtype, largest)
    # exp(10) < 65,504 < exp(12) for float16; exp(50) < 3.4e38 < exp(90) for the two with eight bits of exponent
    assert failed == {"float16": 12.0, "float32": 90.0, "bfloat16": 90.0}


def test_the_beam_tree_finds_what_beam_search_finds() -> None:
    model = seq2seq()
    torch.manual_seed(1)
    with torch.no_grad():  # an untrained model would never end: let the end be as likely as the best words
        model.head.bias[EOS] += 1.5
    text = CORPUS.test[0].en_text
    for beams in (1, 2, 3):
        explorer = explorers.beam_tree(model, WORDS, text)
        explorer.controls["beams"].value, explorer.controls["steps"].value = beams, 16
        best = beam_search(model, [WORDS.encode(text)], beams, length_penalty=1.0)[0][0]
        found = re.search(r"finished: (.*) \((.*) nats a token", explorer.view().sentence)
        assert found is not None
        assert found[1] == WORDS.decode(best.tokens)
        assert float(found[2].replace("−", "-")) == pytest.approx(best.score, abs=0.006)


def test_the_translator_puts_target_tokens_on_rows() -> None:
    # Unequal lengths, and a model whose weights we read ourselves: swapped axes could not pass.
    draw = next(d for d in CORPUS.test if len(WORDS.split(d.en_text)) not in {len(d.zh_text), len(d.zh_text) + 1})
    model = seq2seq()
    picture = explorers.translator(model, WORDS, [draw]).view().picture
    root = ElementTree.fromstring(picture)
    cells = [element for element in root if element.tag.endswith("rect") and element.get("stroke") == svg.FAINT]
    assert len({cell.get("y") for cell in cells}) == len(WORDS.split(draw.zh_text)) + 1
    assert len({cell.get("x") for cell in cells}) == len(WORDS.split(draw.en_text)) + 1


@pytest.mark.parametrize(
    ("limits", "expected"), [((0, 1), [0, 0.2, 0.4, 0.6, 0.8, 1]), ((-16, 0.5), [-15, -10, -5, 0])]
)
def test_ticks_are_round_numbers_within_the_limits(limits: tuple[float, float], expected: list[float]) -> None:
    assert svg.ticks(limits) == pytest.approx(expected)


def test_a_picture_of_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="y limits must be finite"):
        svg.lines({"a": ([0, 1], [0, 1])}, title="t", x_label="x", y_label="y", y_limits=(1, 1))
    with pytest.raises(ValueError, match="2 values for 3 labels"):
        svg.bars({"a": [1, 2]}, ["x", "y", "z"], title="t", y_label="y")
    with pytest.raises(ValueError, match="2 rows of 1 values"):
        svg.grid([[1.0]], ["a", "b"], ["x"], title="t", row_label="r", column_label="c")


def test_the_value_in_a_cell_can_be_read_on_every_shade() -> None:
    row = [k / 200 for k in range(201)]
    picture = svg.grid([row], ["query"], [""] * 201, title="t", row_label="r", column_label="c")
    papers = re.findall(r'fill="(#[0-9A-F]{6})" stroke="#D5D5D5"', picture)
    inks = re.findall(r'fill="(#[0-9A-F]{6})">[01]\.\d\d<', picture)
    assert len(papers) == len(inks) == 201
    for paper, ink in zip(papers, inks, strict=True):
        dark, light = sorted((luminance(paper), luminance(ink)))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (paper, ink)  # WCAG 2.2, 1.4.3


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2) of a colour such as #FF0000."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
