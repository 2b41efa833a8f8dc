"""Explorers: controls beside a picture and a sentence that follow them, each made to answer one question.

>>> temperature()                                                       # doctest: +SKIP

An explorer is shown by being the last line of a cell. With a kernel running it is a panel of sliders and fields, which
also work by keyboard; the picture is made anew in a few milliseconds by :mod:`course_lib.viz.svg`. The notebook also
stores the picture and the sentence as they are at the start, which is what remains when it is opened without a kernel,
on a web page, or where scripts are not allowed; while the panel is there, that stored form is hidden.
"""

import base64
import math
from collections.abc import Callable, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np
import torch
from IPython.display import display
from ipywidgets import (
    HTML,
    Box,
    Checkbox,
    Combobox,
    Dropdown,
    FloatSlider,
    IntSlider,
    Layout,
    SelectionSlider,
    Text,
    VBox,
    Widget,
)
from torch import Tensor

from course_lib.attention import causal_mask, masked_softmax, padding_mask
from course_lib.batching import seq2seq_batch
from course_lib.decoding import NEVER_WRITTEN, greedy, sample, sampling_probabilities
from course_lib.layers import layer_norm
from course_lib.metrics import alignment_error_rate, alignment_from_attention
from course_lib.microworld import Draw
from course_lib.models import CausalLM, Seq2Seq, evaluating
from course_lib.positions import alibi_slopes, rotary_angles, rotate, sinusoidal
from course_lib.tokenizers import BOS, EOS, BPETokenizer, Tokenizer
from course_lib.training import SCHEDULES, cross_entropy
from course_lib.viz import svg

# While the panel is there, the stored picture need not be (the first rule is Jupyter's, the second VS Code's); where
# the panel is not, neither is a message about that.
# A slider gets what ipywidgets does not give it: its name for screen readers, and the arrow keys, which the notebook
# would take for itself.
PAGE = """<style>
.jp-OutputArea-child:has(.course-panel) + .jp-OutputArea-child .course-still {display: none}
.cell_container:has(.course-panel) .course-still {display: none}
.jp-OutputArea-child:not(:has(.course-panel)):has(+ .jp-OutputArea-child .course-still) {display: none}
</style><script>
document.currentScript.closest(".jp-OutputArea")?.addEventListener("focusin", ({target}) => {
  if (target.getAttribute("role") !== "slider") return;
  target.setAttribute("aria-label", target.closest(".jupyter-widgets").querySelector("label").textContent);
  target.setAttribute("data-lm-suppress-shortcuts", "true");
});
</script>"""


class _Panel(VBox):
    """Where widgets cannot be shown (VS Code before the cell is run, GitHub), a sentence stands in their place."""

    def __repr__(self) -> str:
        return "Run this cell for the controls; until then, the picture is as it was when the notebook was saved."


class View(NamedTuple):
    """What an explorer shows for one setting: a picture, and what it says in words."""

    picture: str  # an <svg> element
    sentence: str


class Explorer:
    """Controls, and a picture and a sentence that follow them.

    Args:
        question: what the explorer answers.
        draw: makes the view from the values of the controls, which are its keyword arguments. A ``ValueError`` that it
            raises (an empty sentence, say) is shown in place of the view.
        controls: widgets by the name of that argument; each has a description, which is its label.
    """

    def __init__(self, question: str, draw: Callable[..., View], **controls: Widget) -> None:
        self.question, self.draw, self.controls = question, draw, controls
        self.output = HTML()
        for control in controls.values():
            control.style.description_width = "initial"
            # Room for the label (some 7 pixels a letter), and for a slider of one length, whatever the label.
            control.layout.width = (
                "auto" if isinstance(control, Checkbox) else f"{7 * len(control.description) + 220}px"
            )
            control.observe(self._follow, names="value")
        row = Box(list(controls.values()), layout=Layout(flex_flow="row wrap", grid_gap="2px 14px"))
        self.panel = _Panel([HTML(f"<strong>{escape(question)}</strong>"), row, self.output])
        self.panel.add_class("course-panel")
        self._follow()

    def view(self) -> View:
        """The view of the present values."""
        return self.draw(**{name: control.value for name, control in self.controls.items()})

    def _follow(self, _change: Any = None) -> None:
        try:
            picture, sentence = self.view()
        except ValueError as error:
            picture, sentence = "", f"⚠ {error}"
        room = "min-height: 2lh"  # so that the page does not jump where a longer sentence takes a second line
        self.output.value = f'{picture}<div role="status" aria-live="polite" style="{room}">{escape(sentence)}</div>'

    def _ipython_display_(self) -> None:
        picture, sentence = self.view()
        display(self.panel)
        source = "data:image/svg+xml;base64," + base64.b64encode(picture.encode()).decode()
        still = f'<p><strong>{escape(self.question)}</strong></p><img src="{source}" alt="{escape(sentence)}">'
        html = f'{PAGE}<div class="course-still">{still}<p><em>{escape(sentence)}</em></p></div>'
        display({"text/html": html, "text/plain": f"{self.question} {sentence}"}, raw=True)


def _slider(label: str, value: float, low: float, high: float, step: float) -> FloatSlider:
    return FloatSlider(value=value, min=low, max=high, step=step, description=label, readout_format=".2f")


def _entropy(weights: Tensor) -> float:
    """−Σ p ln p in nats, over the last axis of one distribution."""
    return float(torch.special.entr(weights).sum())


def _sign(value: float) -> str:
    """A number with two decimals and a proper minus sign."""
    return f"{value:.2f}".replace("-", "−") if round(value, 2) else "0.00"


# --- 2 and 4: attention and positions --------------------------------------------------------------------------------


def look_up() -> Explorer:
    """Attention as a soft look-up: a query that you turn, four keys, and what comes back."""
    angles = torch.tensor([90.0, 30.0, 210.0, 300.0]).deg2rad()
    keys = torch.stack((angles.cos(), angles.sin()), dim=1)  # (4, 2)
    values = torch.tensor([10.0, 20.0, 30.0, 40.0])

    def draw(angle: float, length: float) -> View:
        turned = math.radians(angle)
        query = length * torch.tensor([math.cos(turned), math.sin(turned)])
        weights = (keys @ query / math.sqrt(2)).softmax(dim=0)
        vectors = {"query": (float(query[0]), float(query[1]))}
        for i, (x, y) in enumerate(keys.tolist(), start=1):
            vectors[f"key {i}: {weights[i - 1]:.2f}"] = (x, y)
        picture = svg.arrows(vectors, title="query and keys, with their weights", reach=4.0)
        found = f"{float(weights @ values):.1f}"
        return View(
            picture,
            f"Key {int(weights.argmax()) + 1} points most nearly where the query does and gets the weight "
            f"{float(weights.max()):.2f}. The values of the keys are 10, 20, 30 and 40; the look-up returns {found}.",
        )

    return Explorer(
        "Where must a query point, and how far, to fetch one value and not a mixture?",
        draw,
        angle=IntSlider(value=75, min=0, max=355, step=5, description="direction of the query (degrees)"),
        length=_slider("length of the query", 2.0, 0.0, 4.0, 0.1),
    )


def temperature() -> Explorer:
    """Scaling by √d and temperature: how sharp the softmax of eight random products is."""
    numbers = torch.from_numpy(np.random.default_rng(0).standard_normal((9, 512)))  # a query and eight keys

    def draw(d: int, scaled: bool, temperature: float) -> View:
        scores = numbers[1:, :d] @ numbers[0, :d] / (math.sqrt(d) if scaled else 1.0) / temperature
        weights = scores.softmax(dim=0)
        labels = [f"key {i}" for i in range(1, 9)]
        picture = svg.bars({"weight": weights.tolist()}, labels, title=f"d = {d}", y_label="attention weight")
        return View(
            picture,
            f"{'Divided by √d' if scaled else 'Not divided by √d'}, temperature {temperature:.2f}: the scores have "
            f"standard deviation {float(scores.std()):.1f}; the largest weight is {float(weights.max()):.2f}, and the "
            f"entropy {_entropy(weights):.2f} of at most {math.log(8):.2f} nats.",
        )

    return Explorer(
        "What does dividing by √d prevent, and what does the temperature change?",
        draw,
        d=SelectionSlider(value=64, options=[2**k for k in range(1, 10)], description="dimensions d"),
        scaled=Checkbox(value=False, description="divide by √d", indent=False),
        temperature=_slider("temperature", 1.0, 0.1, 5.0, 0.1),
    )


def masks() -> Explorer:
    """Padding mask, causal mask and both: who may look at whom."""
    tokens = ("BOS", "the", "cat", "eats", "fish", ".")
    scores = torch.from_numpy(np.random.default_rng(1).standard_normal((6, 6)))

    def draw(real: int, causal: bool, padding: bool) -> View:
        is_real = torch.arange(6) < real
        mask = torch.ones(6, 6, dtype=torch.bool)
        if causal:
            mask &= causal_mask(6)
        if padding:
            mask = mask & padding_mask(is_real[None])[0, 0]
        weights = masked_softmax(scores, mask)
        names = [token if i < real else "PAD" for i, token in enumerate(tokens)]
        future = float(weights[:real].triu(1)[:, :real].sum())
        picture = svg.grid(
            weights.tolist(), names, names, title="attention weights", row_label="query", column_label="key"
        )
        return View(
            picture,
            f"Of the weight of the {real} real queries, {float(weights[:real, real:].sum()) / real:.0%} goes to "
            f"padding and {future / real:.0%} to later words; every row still sums to 1.",
        )

    return Explorer(
        "Which weights does each mask remove, and where do they go?",
        draw,
        real=IntSlider(value=4, min=1, max=6, description="real tokens"),
        causal=Checkbox(value=True, description="causal mask", indent=False),
        padding=Checkbox(value=True, description="padding mask", indent=False),
    )


def positions() -> Explorer:
    """What each scheme makes of distance: from one position to all others."""
    places = torch.arange(64)

    def draw(scheme: str, position: int) -> View:
        distance = (places - position).abs()
        limits, label = (-0.5, 1.05), "similarity (1 at distance 0)"
        if scheme == "sinusoidal":
            table = sinusoidal(places, 64)
            series = {"cosine of the two vectors": (table @ table[position] / 32).tolist()}
        elif scheme == "rotary":
            vector = torch.ones(1, 1, 64, 64)
            turned = rotate(vector, *rotary_angles(places[None], 64))[0, 0]
            series = {"q·k for equal q and k, before the rotation": (turned @ turned[position] / 64).tolist()}
        else:
            slopes, limits, label = alibi_slopes(4), (-16.0, 0.5), "added to the score"
            series = {f"slope {slope:.4g}": (-slope * distance).tolist() for slope in slopes.tolist()}
        near = next(iter(series.values()))
        picture = svg.lines(
            {name: (places.tolist(), values) for name, values in series.items()},
            title=f"{scheme}, seen from position {position}",
            x_label="position of the other token",
            y_label=label,
            y_limits=limits,
            marks=[(position, near[position])],
        )
        step = 1 if position < 63 else -1
        return View(
            picture,
            f"{scheme}: at distance 1 the value is {_sign(near[position + step])}, at distance 10 "
            f"{_sign(near[position + 10 * (1 if position < 54 else -1)])}, wherever the position is.",
        )

    return Explorer(
        "What does a scheme of positions say about distance, and does it depend on where you stand?",
        draw,
        scheme=Dropdown(value="sinusoidal", options=["sinusoidal", "rotary", "ALiBi"], description="scheme"),
        position=IntSlider(value=20, min=0, max=63, description="position"),
    )


def floating_point() -> Explorer:
    """Softmax with and without the shift by the maximum, in three number formats."""
    formats = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

    def draw(dtype: str, largest: float) -> View:
        kind = formats[dtype]
        logits = (torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0]) * largest).to(kind)
        exp = logits.exp()
        naive = (exp / exp.sum()).double()
        shifted = (logits - logits.max()).exp()
        stable = (shifted / shifted.sum()).double()
        exact = logits.double().softmax(dim=0)
        picture = svg.bars(
            {"exp(z) / Σ exp(z)": naive.tolist(), "after z − max z": stable.tolist()},
            [f"{value:g}" for value in logits.double().tolist()],
            title=f"softmax in {dtype}",
            y_label="probability",
            x_label="logit",
        )
        error = "no number (inf / inf)" if naive.isnan().any() else f"wrong by up to {(naive - exact).abs().max():.1g}"
        return View(
            picture,
            f"{dtype}, logits up to {float(logits.max()):g}: the plain formula is {error}; with the shift it is wrong "
            f"by up to {float((stable - exact).abs().max()):.1g}. The largest number of the format is "
            f"{torch.finfo(kind).max:.3g}.",
        )

    return Explorer(
        "From which size of logits on does the plain softmax fail, and in which format first?",
        draw,
        dtype=Dropdown(value="float16", options=list(formats), description="format"),
        largest=SelectionSlider(
            value=12.0,
            options=[0.01, 0.1, 1.0, 3.0, 10.0, 12.0, 20.0, 50.0, 90.0, 100.0, 1000.0, 10000.0],
            description="largest logit",
        ),
    )


def normalisation() -> Explorer:
    """LayerNorm and RMSNorm of a vector whose offset and scale you choose."""
    vector = torch.from_numpy(np.random.default_rng(2).standard_normal(8))

    def draw(offset: float, scale: float, gain: float) -> View:
        x = offset + scale * vector
        layer = layer_norm(x, torch.full((8,), gain, dtype=x.dtype), torch.zeros(8, dtype=x.dtype))
        rms = gain * x / (x.pow(2).mean() + 1e-5).sqrt()
        picture = svg.bars(
            {"x": x.tolist(), "LayerNorm": layer.tolist(), "RMSNorm": rms.tolist()},
            [f"x{i}" for i in range(1, 9)],
            title="a vector before and after normalisation",
            y_label="value",
            y_limits=(-6.0, 6.0),
        )
        return View(
            picture,
            f"x has mean {_sign(float(x.mean()))} and standard deviation {float(x.std(correction=0)):.2f}; after "
            f"LayerNorm {_sign(float(layer.mean()))} and {float(layer.std(correction=0)):.2f}; after RMSNorm, which "
            f"does not subtract the mean, {_sign(float(rms.mean()))} and {float(rms.std(correction=0)):.2f}.",
        )

    return Explorer(
        "Which changes of its input does each normalisation undo?",
        draw,
        offset=_slider("offset", 1.0, -4.0, 4.0, 0.25),
        scale=_slider("scale", 1.0, 0.0, 4.0, 0.1),
        gain=_slider("gain", 1.0, 0.1, 3.0, 0.1),
    )


# --- 3: training and writing -----------------------------------------------------------------------------------------


def schedules() -> Explorer:
    """Learning-rate schedules and their warm-up."""

    def draw(schedule: str, warmup: int, steps: int) -> View:
        rates = [SCHEDULES[schedule](step, steps, warmup) for step in range(steps)]
        picture = svg.lines(
            {schedule: (list(range(1, steps + 1)), rates)},
            title=f"{schedule}, {warmup} steps of warm-up",
            x_label="step",
            y_label="share of the peak learning rate",
            y_limits=(0.0, 1.05),
        )
        return View(
            picture,
            f"The first step has {rates[0]:.3f} of the peak, step {warmup} has {rates[warmup - 1]:.3f}, the last "
            f"{rates[-1]:.3f}; on average the rate is {sum(rates) / steps:.2f} of the peak.",
        )

    return Explorer(
        "How do the schedules differ, and what does a longer warm-up cost?",
        draw,
        schedule=Dropdown(value="warmup_linear", options=list(SCHEDULES), description="schedule"),
        warmup=IntSlider(value=60, min=1, max=400, description="warm-up steps"),
        steps=IntSlider(value=1000, min=500, max=2000, step=100, description="steps in all"),
    )


def smoothing() -> Explorer:
    """The smoothed loss as a function of the probability given to the right token."""
    shares = np.linspace(0.02, 0.998, 100)

    def losses(epsilon: float, n_tokens: int, p: np.ndarray) -> np.ndarray:
        wrong = np.repeat((1 - p)[:, None] / (n_tokens - 1), n_tokens - 1, axis=1)
        logits = torch.from_numpy(np.log(np.concatenate((p[:, None], wrong), axis=1)))
        each = [cross_entropy(row[None], torch.tensor([0]), epsilon)[0].item() for row in logits]
        return np.array(each)

    def draw(epsilon: float, n_tokens: int) -> View:
        loss = losses(epsilon, n_tokens, shares)
        best = min(1 - epsilon + epsilon / n_tokens, 0.998)
        lowest = losses(epsilon, n_tokens, np.array([best]))[0]
        picture = svg.lines(
            {"loss": (shares.tolist(), loss.tolist())},
            title=f"label smoothing {epsilon:.2f}",
            x_label="probability given to the right token",
            y_label="loss (nats)",
            y_limits=(0.0, 4.0),
            marks=[(best, lowest)],
        )
        if not epsilon:
            return View(picture, "Without smoothing the loss falls for ever: the surer, the better (0.998 is drawn).")
        return View(
            picture,
            f"The loss is lowest, {lowest:.2f} nats, where the right token gets {best:.3f} (at most 0.998 is drawn); "
            f"to be surer than that is punished. Without smoothing it would fall to 0.",
        )

    return Explorer(
        "How sure should a model be when it is trained with label smoothing?",
        draw,
        epsilon=_slider("label smoothing ε", 0.1, 0.0, 0.5, 0.01),
        n_tokens=SelectionSlider(value=10, options=[2, 3, 5, 10, 30, 100], description="tokens V"),
    )


def merges(tokenizer: BPETokenizer, typed: str) -> Explorer:
    """Byte-pair encoding step by step on a text that you type."""
    known = {n: BPETokenizer(tokenizer.merges[:n]) for n in (0, len(tokenizer.merges))}

    def draw(typed: str, n: int) -> View:
        if not typed.strip():
            raise ValueError("type a word or a sentence")
        if n not in known:
            known[n] = BPETokenizer(tokenizer.merges[:n])
        pieces = known[n].split(typed[:80])
        fewest = len(known[len(tokenizer.merges)].split(typed[:80]))
        picture = svg.boxes(pieces, title=f"after {n:,} of {len(tokenizer.merges):,} merges")
        return View(
            picture,
            f"{len(typed[:80].encode())} bytes are {len(pieces)} tokens after {n:,} merges; with all merges there are "
            f"{fewest}.",
        )

    every = len(tokenizer.merges)
    steps = sorted({0, every, *(n for n in (round(10 ** (k / 8)) for k in range(48)) if n < every)})
    return Explorer(
        "Which merges make a word of your own from its bytes, and when do rare words stay in pieces?",
        draw,
        typed=Text(value=typed, description="text"),
        n=SelectionSlider(value=len(tokenizer.merges), options=steps, description="merges"),
    )


def sampling(model: CausalLM, tokenizer: Tokenizer, prompt: str, length: int = 16) -> Explorer:
    """Temperature, top-k and top-p: what they do to the next word, and to a text."""

    def draw(prompt: str, temperature: float, top_k: int, top_p: float, seed: int) -> View:
        ids = tokenizer.encode(prompt)
        with evaluating(model):
            logits = model(torch.tensor([[BOS, *ids]]))[0, -1:]
        plain = sampling_probabilities(logits)[0]
        cut = sampling_probabilities(logits, temperature, top_k, top_p)[0]
        ranked = plain.topk(min(10, len(plain))).indices.tolist()
        picture = svg.bars(
            {"model": plain[ranked].tolist(), "after the settings": cut[ranked].tolist()},
            [tokenizer.tokens[i][:9] for i in ranked],
            title="the ten likeliest next tokens",
            y_label="probability",
        )
        generator = torch.Generator().manual_seed(seed)
        written = sample(model, [ids], generator, temperature, top_k, top_p, max_length=length)[0]
        text = tokenizer.decode([*ids, *written])
        return View(picture, f"{int((cut > 0).sum())} tokens are left to choose from. One text: {text}")

    return Explorer(
        "What do temperature, top-k and top-p do to the next word, and to the text?",
        draw,
        prompt=Text(value=prompt, description="beginning"),
        temperature=_slider("temperature", 1.0, 0.0, 3.0, 0.1),
        top_k=IntSlider(value=50, min=1, max=50, description="top-k"),
        top_p=_slider("top-p", 1.0, 0.05, 1.0, 0.05),
        seed=IntSlider(value=0, min=0, max=20, description="seed"),
    )


def cache_cost() -> Explorer:
    """Memory and work of the key–value cache."""

    def draw(layers: int, d_model: int, batch: int, bytes_each: int) -> View:
        lengths = [2**k for k in range(5, 14)]
        gigabytes = [2 * layers * d_model * n * batch * bytes_each / 1e9 for n in lengths]
        with_cache = [math.log10(n) for n in lengths]
        without = [math.log10(n * (n + 1) / 2) for n in lengths]
        x = [math.log2(n) for n in lengths]
        picture = svg.lines(
            {"positions computed, no cache": (x, without), "positions computed, cache": (x, with_cache)},
            title="work to write n tokens",
            x_label="log₂ of the number of tokens n",
            y_label="log₁₀ of the positions",
            y_limits=(0.0, 8.0),
        )
        return View(
            picture,
            f"For 8,192 tokens the cache takes {gigabytes[-1]:.2f} GB (2 · layers · d · n · batch · bytes) and saves a "
            f"factor of {(lengths[-1] + 1) / 2:,.0f} in positions computed.",
        )

    return Explorer(
        "What does the key–value cache cost in memory, and what does it save?",
        draw,
        layers=SelectionSlider(value=6, options=[1, 2, 4, 6, 12, 24, 48, 96], description="layers"),
        d_model=SelectionSlider(value=512, options=[64, 128, 256, 512, 1024, 4096, 12288], description="d_model"),
        batch=SelectionSlider(value=1, options=[1, 2, 4, 8, 16, 32, 64], description="texts at a time"),
        bytes_each=Dropdown(value=4, options=[("float32: 4", 4), ("float16: 2", 2)], description="bytes a number"),
    )


# --- 5: the translator -----------------------------------------------------------------------------------------------


def beam_tree(model: Seq2Seq, tokenizer: Tokenizer, typed: str) -> Explorer:
    """Beam search as a tree: what is kept at each step, and what is dropped."""
    known: dict[tuple[int, ...], Tensor] = {}

    def next_log_probs(source: tuple[int, ...], written: tuple[int, ...]) -> Tensor:
        key = (*source, -1, *written)
        if key not in known:
            logits = model(torch.tensor([[*source, EOS]]), torch.tensor([[BOS, *written]]))
            log_probs = logits[0, -1].double().log_softmax(dim=-1)
            log_probs[list(NEVER_WRITTEN)] = -torch.inf
            known[key] = log_probs
        return known[key]

    def draw(typed: str, beams: int, steps: int) -> View:
        source = tuple(tokenizer.encode(typed))
        if not source:
            raise ValueError("type a sentence")
        nodes: list[tuple[int, str, bool]] = [(-1, "BOS", True)]
        live: list[tuple[tuple[int, ...], float, int]] = [((), 0.0, 0)]  # what is written, ln p, node
        finished: list[tuple[float, tuple[int, ...]]] = []  # ln p per token, what is written
        computed = 0
        with evaluating(model):
            for _ in range(steps):
                computed += len(live)
                candidates = []
                for written, total, node in live:
                    best = next_log_probs(source, written).topk(beams + 1)
                    for log_prob, token in zip(best.values.tolist(), best.indices.tolist(), strict=True):
                        candidates.append((total + log_prob, written, token, node))
                candidates.sort(key=lambda candidate: -candidate[0])
                live, dropped = [], 0
                for rank, (total, written, token, parent) in enumerate(candidates):
                    ends = token == EOS and rank < beams
                    goes_on = token != EOS and len(live) < beams
                    if not (ends or goes_on):
                        dropped += 1
                        if dropped > 2:
                            continue
                    nodes.append((parent, f"{tokenizer.tokens[token][:6]} {_sign(total)}", ends or goes_on))
                    if ends:
                        finished.append((total / (len(written) + 1), written))
                    elif goes_on:
                        live.append(((*written, token), total, len(nodes) - 1))
                if len(finished) >= beams:
                    break
        picture = svg.tree(nodes, title="ln p of each beginning; the two best that were dropped are grey")
        if not finished:
            return View(picture, f"After {steps} steps nothing has ended yet; the model was asked {computed} times.")
        score, best_ids = max(finished)
        return View(
            picture,
            f"Best of {len(finished)} finished: {tokenizer.decode(best_ids)} ({_sign(score)} nats a token); the model "
            f"was asked {computed} times.",
        )

    return Explorer(
        "What does a wider beam keep, and does it find anything better?",
        draw,
        typed=Text(value=typed, description="English sentence", continuous_update=False),
        beams=IntSlider(value=2, min=1, max=5, description="beams"),
        steps=IntSlider(value=6, min=1, max=16, description="steps"),
    )


def translator(model: Seq2Seq, tokenizer: Tokenizer, draws: Sequence[Draw]) -> Explorer:
    """The attention of a translator, head by head, for a sentence that you type or take from ``draws``.

    The tokeniser must cut English into the words and Chinese into the characters that the alignments count
    (``WordTokenizer``). Only for a sentence of ``draws`` is the true alignment known.
    """
    sentences = {draw.en_text: draw for draw in draws}
    heads = ["mean", *range(1, model.config.n_heads + 1)]

    def draw(typed: str, layer: int, head: str | int) -> View:
        source = tokenizer.encode(typed)
        if not source:
            raise ValueError("type a sentence")
        drawn = sentences.get(typed)
        written = greedy(model, [source])[0] if drawn is None else tokenizer.encode(drawn.zh_text)
        with evaluating(model):
            maps = model.attention(*seq2seq_batch([(source, written)]).inputs).cross[layer - 1][0].double()
        weights = maps.mean(dim=0) if head == "mean" else maps[int(head) - 1]
        rows = [tokenizer.tokens[i] for i in (*written, EOS)]
        columns = [tokenizer.tokens[i] for i in (*source, EOS)]
        picture = svg.grid(
            weights.tolist(),
            rows,
            columns,
            title=f"cross-attention, layer {layer}, head {head}",
            row_label="to be written",
            column_label="English word read",
        )
        entropy = sum(_entropy(row) for row in weights) / len(weights)
        sentence = f"{tokenizer.decode(written)} – entropy of a row {entropy:.2f} nats"
        if drawn is None or len(drawn.en) != len(source):
            return View(picture, sentence + " (the true alignment of this sentence is not known).")
        word_of = [k for k, word in enumerate(drawn.zh) for _ in word]
        true = {(i, j) for i, word in drawn.alignment for j, k in enumerate(word_of) if k == word}
        found = alignment_from_attention(weights[:-1, :-1])
        error = alignment_error_rate([found], [true])
        return View(picture, sentence + f", alignment error rate {error:.2f} (0 is perfect).")

    names = list(sentences)
    return Explorer(
        "Which head looks at the word that it translates?",
        draw,
        typed=Combobox(value=names[0], options=names, description="English", continuous_update=False),
        layer=IntSlider(
            value=model.config.n_decoder_layers, min=1, max=model.config.n_decoder_layers, description="layer"
        ),
        head=Dropdown(value="mean", options=heads, description="head"),
    )


def dynamics(maps: Sequence[tuple[int, Tensor]], rows: Sequence[str], columns: Sequence[str]) -> Explorer:
    """The attention of one sentence across training.

    Args:
        maps: (step, weights ``(query, key)``) in the order of training.
        rows: the tokens of the queries.
        columns: the tokens of the keys.
    """
    weights = dict(maps)

    def draw(step: int) -> View:
        picture = svg.grid(
            weights[step].tolist(),
            rows,
            columns,
            title=f"attention after {step:,} updates",
            row_label="query",
            column_label="key",
        )
        entropy = sum(_entropy(row.double()) for row in weights[step]) / len(rows)
        return View(
            picture,
            f"After {step:,} updates a row has {entropy:.2f} nats of entropy on average, of at most "
            f"{math.log(len(columns)):.2f}: the lower, the more it looks at one token.",
        )

    steps = list(weights)
    return Explorer(
        "When in training does attention find its words?",
        draw,
        step=SelectionSlider(value=steps[-1], options=steps, description="updates"),
    )
