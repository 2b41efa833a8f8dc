"""Pictures: the same look everywhere, readable colours, Chinese glyphs, and a text alternative for each."""

import base64
import io
import itertools
import random
import warnings

import matplotlib as mpl
import matplotlib.colors
import numpy as np
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from matplotlib import pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg

from course_lib.viz import plots


@pytest.fixture(autouse=True)
def restored_settings():
    """Whatever a test sets is set back: the style, the threads, the way arrays are printed."""
    threads, numpy_print = torch.get_num_threads(), np.get_printoptions()
    with mpl.rc_context(), warnings.catch_warnings():
        yield
    torch.set_num_threads(threads)
    np.set_printoptions(**numpy_print)
    torch.set_printoptions(profile="default")


def test_setup_makes_all_three_generators_repeat():
    def draws():
        return random.random(), np.random.random(), torch.rand(1).item()

    plots.setup(seed=7)
    first = draws()
    plots.setup(seed=7)
    assert draws() == first
    plots.setup(seed=8)
    assert all(a != b for a, b in zip(draws(), first, strict=True))
    assert torch.get_num_threads() == 1


def draw(text):
    figure = plots.lines({"a": ([0, 1], [0, 1])}, title=text, x_label="step", y_label="loss")
    figure.savefig(io.BytesIO())


def test_chinese_is_drawn_and_a_missing_glyph_is_an_error():  # fault 33
    plots.setup()
    draw("注意力权重 · the cat 猫 → 94 %")
    with pytest.raises(UserWarning, match="missing from"):
        draw("\U00013000")  # an Egyptian hieroglyph, which neither font has


def linear(colour):
    srgb = np.array(mpl.colors.to_rgb(colour))
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    """CIE L*a*b* of a linear RGB colour (D65), in which distances are roughly what the eye sees."""
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ rgb
    f = np.cbrt(np.maximum(xyz, 0) / [0.9505, 1.0, 1.089])
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


# Machado, Oliveira and Fernandes (2009): what a fully colour-blind eye makes of a linear RGB colour.
EYES = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}  # fmt: skip


@pytest.mark.parametrize("eye", EYES)
def test_any_two_colours_can_be_told_apart(eye):
    seen = {c: lab(np.clip(np.array(EYES[eye]) @ linear(c), 0, 1)) for c in plots.COLOURS}
    distance = {(a, b): np.linalg.norm(seen[a] - seen[b]) for a, b in itertools.combinations(seen, 2)}
    pair = min(distance, key=distance.get)
    assert distance[pair] > 15, f"{pair} look alike with {eye}: {distance[pair]:.1f}"


@pytest.mark.parametrize("colour", plots.COLOURS)
def test_every_colour_stands_out_from_the_card(colour):  # fault 34
    luminance = linear(colour) @ [0.2126, 0.7152, 0.0722]
    assert 1.05 / (luminance + 0.05) >= 3


def test_the_card_is_opaque_so_that_a_dark_page_does_not_shine_through():  # fault 34
    plots.setup()
    shown = shown_outputs(plots.lines({"a": ([0, 1], [0, 1])}, title="t", x_label="x", y_label="y"))
    pixels = plt.imread(png_of(shown[0]))
    assert (pixels[..., 3] == 1).all()
    assert (pixels[0, 0, :3] == 1).all()


def png_of(output):
    return io.BytesIO(base64.b64decode(output.data["image/png"]))


ALT = "A line that rises from 0 at step 0 to 1 at step 1."


def shown_outputs(figure, alt=ALT):
    InteractiveShell.instance()  # outside a notebook, `display` would print instead of publishing
    with capture_output() as captured:
        plots.show(figure, alt)
    return captured.outputs


def test_show_gives_the_text_to_every_reader_and_to_the_comparison():
    figure, axes = plt.subplots()
    axes.plot([0, 1])
    picture, caption = shown_outputs(figure, 'Loss falls: "a < b" after 100 steps.')
    assert picture.data["image/png"]
    assert picture.metadata["image/png"]["alt"] == picture.data["text/plain"] == 'Loss falls: "a < b" after 100 steps.'
    assert "a &lt; b" in caption.data["text/html"]
    assert not plt.fignum_exists(figure.number), "an open figure would be drawn a second time"


def test_show_is_the_same_to_the_byte_when_repeated():
    def once():
        plots.setup()
        return shown_outputs(plots.lines({"a": ([0, 1], [0, 1])}, title="t", x_label="x", y_label="y"))[0].data

    assert once() == once()


def test_show_refuses_a_missing_text():
    with pytest.raises(ValueError, match="alt must say"):
        plots.show(plt.figure(), "plot")


def test_lines_names_axes_and_curves():
    figure = plots.lines(
        {"train": ([1, 2, 3], [5.0, 2.0, 1.0]), "valid": ([2, 3], [3.0, 2.5])},
        title="Loss falls", x_label="step", y_label="loss (nats)",
    )  # fmt: skip
    (axes,) = figure.axes
    assert (axes.get_title(loc="left") or axes.get_title(), axes.get_xlabel(), axes.get_ylabel()) == (
        "Loss falls", "step", "loss (nats)",
    )  # fmt: skip
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["train", "valid"]
    assert axes.lines[1].get_xdata().tolist() == [2, 3]


def test_heatmap_puts_queries_down_the_side_and_keys_along_the_top():
    plots.setup()
    rows, columns = ["the", "cat", "sat"], ["猫", "坐", "着", "了", "。"]  # 3 and 5: a swapped axis cannot pass
    weights = np.zeros((3, 5))
    weights[2, 4] = 1.0  # planted: the third query attends to the fifth key
    figure = plots.heatmap(torch.tensor(weights, requires_grad=True), rows, columns, title="t")
    axes, bar = figure.axes
    assert [t.get_text() for t in axes.get_yticklabels()] == rows
    assert [t.get_text() for t in axes.get_xticklabels()] == columns
    assert (axes.get_ylabel(), axes.get_xlabel(), bar.get_ylabel()) == ("query", "key", "attention weight")
    drawn = axes.images[0]
    assert drawn.get_array()[2, 4] == 1.0 and drawn.get_array().sum() == 1.0
    # the pixel below the label "。" and beside "sat" is the dark one
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())
    x, y = axes.transData.transform((4, 2))
    assert pixels[pixels.shape[0] - int(y), int(x), 0] < 20 < 200 < pixels[pixels.shape[0] - int(y), int(x) - 40, 0]


def test_a_title_that_is_longer_than_the_matrix_is_wide_is_not_cut():
    title = "Much of the cross-attention lies on the true alignment (circles)"
    figure = plots.heatmap(np.eye(3), ["a", "b", "c"], ["a", "b", "c"], title=title)
    FigureCanvasAgg(figure).draw()
    assert figure._suptitle.get_window_extent().x1 <= figure.bbox.x1


@pytest.mark.parametrize(
    "weights, message",
    [
        (np.zeros((5, 3)), r"= \(3, 5\), not \(5, 3\)"),
        (np.full((3, 5), -0.5), "lie within"),
        (np.full((3, 5), np.nan), "lie within"),
    ],
)
def test_heatmap_refuses_what_it_would_draw_wrongly(weights, message):
    with pytest.raises(ValueError, match=message):
        plots.heatmap(weights, list("abc"), list("vwxyz"), title="t")
