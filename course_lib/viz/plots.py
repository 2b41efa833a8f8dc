"""One look for every picture of the course, a text alternative for each, and the two plots used most.

Figures are drawn on an opaque white card with dark text, so they read the same on a light and on a dark page.
"""

import base64
import importlib.util
import io
import random
import warnings
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import matplotlib as mpl
import matplotlib.font_manager
import numpy as np
import torch
from cycler import cycler
from IPython.display import display
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

# Six colours with a contrast of at least 3:1 on white (WCAG 2.2, 1.4.11) that stay apart for readers with
# any of the common colour-vision deficiencies; the lines also differ in their dashes.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#332288", "#A65628", "#111111")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)))
MISSING_GLYPH = r"Glyph .* missing from"


def chinese_font() -> Path:
    """The file of Noto Sans CJK that the package ``mplfonts`` brings; the package itself is not imported.

    Raises:
        FileNotFoundError: if the package or its font file is not there.
    """
    package = importlib.util.find_spec("mplfonts")
    folders = (package.submodule_search_locations or []) if package else []
    for folder in folders:
        font = Path(folder) / "fonts" / "NotoSansCJKsc-Regular.otf"
        if font.is_file():
            return font
    raise FileNotFoundError("no font with Chinese glyphs: run `pip install --force-reinstall mplfonts`")


def setup(seed: int = 0) -> None:
    """Make a notebook repeatable and its pictures alike: the first line of every notebook.

    Seeds ``random``, NumPy and PyTorch; gives PyTorch one thread, which is the fastest for models of this size
    and makes sums come out in the same order everywhere; prints arrays with three decimals; sets the style of
    plots, including a Chinese font; and turns matplotlib's warning about a missing glyph into an error.
    """
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    np.set_printoptions(precision=3, suppress=True)
    torch.set_printoptions(precision=3, sci_mode=False)
    warnings.filterwarnings("error", message=MISSING_GLYPH)
    use_style()


def use_style() -> None:
    """Set the course's matplotlib style; ``setup`` does it for a notebook."""
    font = chinese_font()
    mpl.font_manager.fontManager.addfont(str(font))
    mpl.rcParams.update(
        {
            # a glyph that the first font lacks is taken from the second
            "font.family": ["DejaVu Sans", mpl.font_manager.FontProperties(fname=str(font)).get_name()],
            "font.size": 10,
            "axes.titlesize": 11,
            "axes.titlelocation": "left",
            "axes.prop_cycle": cycler(color=COLOURS, linestyle=DASHES),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": "#E3E3E3",
            "axes.axisbelow": True,
            "text.color": "#111111",
            "axes.labelcolor": "#111111",
            "xtick.color": "#111111",
            "ytick.color": "#111111",
            "figure.facecolor": "white",
            "axes.facecolor": "white",
            "savefig.facecolor": "white",
            "figure.figsize": (6.4, 3.4),
            "figure.constrained_layout.use": True,
            "savefig.dpi": 110,
        }
    )


def show(figure: Figure, alt: str) -> None:
    """Put a figure into the notebook as a picture with a text alternative, and close it.

    The text goes along as the picture's ``alt`` (which the notebook file keeps and nbconvert's "classic" template
    writes into its pages), as its plain form (which the tests compare, since they cannot compare pixels) and as a
    caption below it, because JupyterLab and nbconvert's other templates give pictures no ``alt`` of ours.

    Args:
        figure: any matplotlib figure.
        alt: one or two sentences that say what is to be seen, for a reader who cannot see it.

    Raises:
        ValueError: if the text is shorter than 20 characters.
    """
    if len(alt.strip()) < 20:
        raise ValueError(f"alt must say in a sentence what the figure shows; it is {alt!r}")
    png = io.BytesIO()
    figure.savefig(png, format="png")
    plt.close(figure)
    picture = {"image/png": base64.b64encode(png.getvalue()).decode(), "text/plain": alt}
    display(picture, raw=True, metadata={"image/png": {"alt": alt}})
    display({"text/html": f"<p><em>{escape(alt)}</em></p>", "text/plain": alt}, raw=True)


def lines(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, title: str, x_label: str, y_label: str
) -> Figure:
    """Plot named curves, each as a pair (x values, y values); the title states what they show."""
    figure = Figure()
    axes = figure.subplots()
    for name, (x, y) in series.items():
        axes.plot(x, y, label=name)
    axes.set(title=title, xlabel=x_label, ylabel=y_label)
    if len(series) > 1:
        axes.legend(frameon=False)
    return figure


def heatmap(
    weights: "np.ndarray | torch.Tensor | Sequence[Sequence[float]]",
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    title: str,
    row_label: str = "query",
    column_label: str = "key",
    value_label: str = "attention weight",
    limits: tuple[float, float] = (0.0, 1.0),
) -> Figure:
    """Draw a matrix with a token beside each row and above each column, such as an attention map.

    Args:
        weights: (rows, columns), every value within ``limits``: what lies outside would be drawn as if it did not.
        rows: the tokens down the side, one per row (the queries).
        columns: the tokens along the top, one per column (the keys).
        title: what the picture shows.
        row_label: what the rows are.
        column_label: what the columns are.
        value_label: what the colour means.
        limits: the values of the lightest and the darkest colour.

    Raises:
        ValueError: if the shape does not match the tokens, or a value is not finite or outside ``limits``.
    """
    matrix = np.asarray(weights.detach().cpu() if isinstance(weights, torch.Tensor) else weights, dtype=float)
    if matrix.shape != (len(rows), len(columns)):
        raise ValueError(f"weights must have shape (rows, columns) = ({len(rows)}, {len(columns)}), not {matrix.shape}")
    low, high = limits
    tolerance = 1e-6 * (high - low)  # a softmax may exceed 1 by a rounding error
    if not ((matrix >= low - tolerance) & (matrix <= high + tolerance)).all():
        raise ValueError(f"weights must lie within {limits}; they span {matrix.min():.3g} to {matrix.max():.3g}")
    width = max(4.0, 1.8 + 0.34 * len(columns), 0.09 * len(title))  # inches: wide enough for the title, too
    figure = Figure(figsize=(width, 1.5 + 0.30 * len(rows)))
    axes = figure.subplots()
    image = axes.imshow(matrix, vmin=low, vmax=high, cmap="Blues", aspect="auto")
    axes.grid(visible=False)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    upright = all(len(token) <= 2 for token in columns)  # Chinese characters stay upright
    axes.set_xticks(range(len(columns)), labels=columns, rotation=0 if upright else 90)
    axes.set_yticks(range(len(rows)), labels=rows)
    axes.set(xlabel=column_label, ylabel=row_label)
    figure.suptitle(title, x=0.01, horizontalalignment="left", fontsize=11)
    figure.colorbar(image, label=value_label)
    return figure
