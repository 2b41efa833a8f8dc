"""BertViz's three interactive views of attention, made to work without the internet.

>>> head_view(model, tokenizer, "a cat eats fish")                       # doctest: +SKIP

BertViz (Vig, "A Multiscale Visualization of Attention in the Transformer Model", ACL demonstrations 2019) asks a server
for its scripts. Here they come from installed packages and are packed into one frame with the data: the view needs no
network, runs twice in one notebook, and is still there when the notebook is reopened, without a kernel too, or exported
to HTML. Under it stands a plain picture, for where no script may run.
"""

import base64
import gzip
import importlib.util
import re
from collections.abc import Callable, Sequence
from functools import cache
from html import escape
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from IPython.display import display
from torch import Tensor, nn

from course_lib.attention import MultiHeadAttention, masked_softmax
from course_lib.decoding import greedy
from course_lib.models import Model, Seq2Seq, evaluating
from course_lib.positions import rotate
from course_lib.tokenizers import BOS, EOS
from course_lib.viz.plots import heatmap, show

MOST_TOKENS = 40  # on a side: more cannot be read, and fill the notebook
MOST_BYTES = 300_000
WIDTHS = {"Head view": 360, "Model view": 990, "Neuron view": 1020}  # pixels that BertViz draws on
LIBRARIES = (("xstatic.pkg.jquery", "data/jquery.min.js"), ("mpld3", "js/d3.v5.min.js"))
START = """(async () => {
  const packed = document.getElementById("libraries").textContent;
  const bytes = Uint8Array.from(atob(packed), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  window.eval(await new Response(stream).text());
  window.require = {config: () => {}};
  window.requirejs = (names, use) => use(window.jQuery, window.d3);
  for (const script of document.querySelectorAll("script.view")) window.eval(script.textContent);
  const page = document.documentElement;
  const fit = () => {  // what is wider than the notebook is made smaller, not cut off
    document.body.style.zoom = Math.min(1, page.clientWidth / WIDTH);
    if (window.frameElement) window.frameElement.style.height = page.offsetHeight + 20 + "px";
  };
  new ResizeObserver(fit).observe(page);
  // VS Code scrolls its notebooks itself, by the wheel events of their page, and hears none from inside a frame.
  addEventListener("wheel", (event) => window.frameElement?.dispatchEvent(new WheelEvent("wheel", event)));
})();"""


class Part(NamedTuple):
    """One kind of attention: ``weights`` has ``(1, heads, query, key)`` for each layer."""

    name: str  # "self", or "encoder", "decoder", "cross"
    weights: list[Tensor]
    queries: list[str]
    keys: list[str]


class AttentionView:
    """A view that shows itself at the end of a cell: the frame, then a picture of its last part.

    Attributes:
        html: the frame.
        parts: what it shows.
    """

    def __init__(self, name: str, page: str, parts: Sequence[Part], text: str) -> None:
        self.parts, self.title = list(parts), f"{name} of «{text}»"
        self.html = _frame(page, self.title, WIDTHS[name])
        if len(self.html) > MOST_BYTES:
            raise ValueError(
                f"the view would take {len(self.html) // 1000} KB of the notebook, more than {MOST_BYTES // 1000}; "
                "take a shorter sentence, or fewer layers: layers=[0]"
            )

    def _ipython_display_(self) -> None:
        display({"text/html": self.html, "text/plain": self.title}, raw=True)
        part = self.parts[-1]
        picture = heatmap(
            part.weights[-1][0].mean(dim=0).clamp(0, 1),
            part.queries,
            part.keys,
            title=f"{part.name} attention, last layer shown, mean of the heads",
            row_label="token that looks (query)",
            column_label="token looked at (key)",
        )
        show(picture, f"Without scripts: the {part.name} attention of «{' '.join(part.queries)}», mean of the heads.")


def head_view(
    model: nn.Module, tokenizer: Any, text: str, target: str | None = None, layers: Sequence[int] | None = None
) -> AttentionView:
    """Lines from each token to those it attends to, one colour a head; hover a token to see its lines alone.

    Args:
        model: a model of ``course_lib``, or one of Hugging Face loaded with ``attn_implementation="eager"``.
        tokenizer: of the model.
        text: the sentence; for an encoder–decoder the source.
        target: for an encoder–decoder the output to look at; None: what the model writes.
        layers: numbers from 0 of the layers to show; None: all.

    Raises:
        ValueError: for an empty text, one of more than 40 tokens, a view of more than 300 KB, or a Hugging Face model
            that returns no attention weights.
    """
    from bertviz import head_view as draw

    return _view(draw, "Head view", model, tokenizer, text, target, layers)


def model_view(
    model: nn.Module, tokenizer: Any, text: str, target: str | None = None, layers: Sequence[int] | None = None
) -> AttentionView:
    """All heads of all layers at once, as small pictures; click one to see it large. Arguments as :func:`head_view`."""
    from bertviz import model_view as draw

    return _view(draw, "Model view", model, tokenizer, text, target, layers, display_mode="light")


def neuron_view(model: nn.Module, tokenizer: Any, text: str) -> AttentionView:
    """How one weight comes about: query and key number by number, their products, the sum. Hover a token, then click +.

    It shows self-attention: of an encoder–decoder that of the encoder. Arguments and errors as :func:`head_view`;
    besides, a ``ValueError`` for a Hugging Face model whose queries and keys, found by the names of their layers, do
    not give its attention weights.
    """
    from bertviz.neuron_view import show as draw

    part = _parts(model, tokenizer, text, None)[0]
    queries_keys = _queries_keys(model, tokenizer, text, part)
    layers = [
        {
            "attn": weights.double().round(decimals=3),
            "queries": query.double().round(decimals=2),
            "keys": key.double().round(decimals=2),
        }
        for weights, (query, key) in zip(part.weights, queries_keys, strict=True)
    ]

    class Recorded:
        """What BertViz takes for a model: it returns what has been computed."""

        def eval(self) -> None:
            """Nothing to do."""

        def __call__(self, _tokens: Tensor) -> tuple[list[dict[str, Tensor]]]:
            return (layers,)

    words = SimpleNamespace(
        tokenize=lambda _: list(part.queries), convert_tokens_to_ids=lambda tokens: list(range(len(tokens)))
    )
    # "gpt2" is the one type to whose tokens nothing is added; whether later tokens are seen is a matter of its own.
    page = draw(Recorded(), "gpt2", words, text, display_mode="light", html_action="return").data
    if not _is_causal(part):
        page = page.replace('"bidirectional": false', '"bidirectional": true')
    return AttentionView("Neuron view", page, [part], text)


def _view(
    draw: Callable[..., Any],
    name: str,
    model: nn.Module,
    tokenizer: Any,
    text: str,
    target: str | None,
    layers: Sequence[int] | None,
    **options: Any,
) -> AttentionView:
    parts = _parts(model, tokenizer, text, target)
    # Through float64, so that the page says 0.113 and not 0.11299999803304672.
    rounded = {part.name: [weights.double().round(decimals=3) for weights in part.weights] for part in parts}
    arguments: dict[str, Any]
    if len(parts) == 1:
        arguments = {"attention": rounded["self"], "tokens": list(parts[0].queries)}
    else:
        arguments = {f"{kind}_attention": weights for kind, weights in rounded.items()}
        arguments |= {"encoder_tokens": list(parts[0].queries), "decoder_tokens": list(parts[1].queries)}
    if layers is not None:
        arguments["include_layers"] = list(layers)
    page = draw(**arguments, html_action="return", **options).data
    return AttentionView(name, page, parts, text)


def _parts(model: nn.Module, tokenizer: Any, text: str, target: str | None) -> list[Part]:
    """The attention weights of a model that reads a text, with the tokens that they belong to."""
    if not text.strip():
        raise ValueError("text is empty: there is nothing to look at; write a sentence")
    with evaluating(model):
        parts = (_our_parts if isinstance(model, Model) else _their_parts)(model, tokenizer, text, target)
    for part in parts:
        longest = max(len(part.queries), len(part.keys))
        if longest > MOST_TOKENS:
            raise ValueError(f"{longest} tokens are more than can be read, {MOST_TOKENS}; take a shorter sentence")
    return parts


def _our_parts(model: Any, tokenizer: Any, text: str, target: str | None) -> list[Part]:
    ids = tokenizer.encode(text)
    if isinstance(model, Seq2Seq):
        written = greedy(model, [ids])[0] if target is None else tokenizer.encode(target)
        source, output = [*ids, EOS], [BOS, *written]
        maps = model.attention(torch.tensor([source]), torch.tensor([output]))
        read, wrote = [tokenizer.tokens[i] for i in source], [tokenizer.tokens[i] for i in output]
        return [
            Part("encoder", maps.encoder, read, read),
            Part("decoder", maps.decoder, wrote, wrote),
            Part("cross", maps.cross, wrote, read),
        ]
    tokens = [tokenizer.tokens[i] for i in (BOS, *ids)]
    maps = model.attention(torch.tensor([[BOS, *ids]]))
    return [Part("self", maps.encoder or maps.decoder, tokens, tokens)]


def _their_parts(model: Any, tokenizer: Any, text: str, target: str | None) -> list[Part]:
    """The same of a Hugging Face model."""
    inputs = tokenizer(text, return_tensors="pt")
    if model.config.is_encoder_decoder:
        if target is None:
            output = model.generate(**inputs, max_new_tokens=MOST_TOKENS - 1)
        else:
            output = tokenizer(text_target=target, return_tensors="pt").input_ids
            start = torch.tensor([[model.config.decoder_start_token_id]])
            output = torch.cat((start, output), dim=1)
        found = model(**inputs, decoder_input_ids=output, output_attentions=True)
        weights = {
            "encoder": found.encoder_attentions,
            "decoder": found.decoder_attentions,
            "cross": found.cross_attentions,
        }
        read, wrote = (tokenizer.convert_ids_to_tokens(ids[0].tolist()) for ids in (inputs.input_ids, output))
        sides = {"encoder": (read, read), "decoder": (wrote, wrote), "cross": (wrote, read)}
    else:
        tokens = tokenizer.convert_ids_to_tokens(inputs.input_ids[0].tolist())
        weights = {"self": model(**inputs, output_attentions=True).attentions}
        sides = {"self": (tokens, tokens)}
    for name, layers in weights.items():
        if not layers or any(layer is None for layer in layers):
            raise ValueError(
                f'the model returned no {name} attention: load it with attn_implementation="eager", since the fused '
                "implementations do not keep the weights"
            )
    return [Part(name, list(layers), *sides[name]) for name, layers in weights.items()]


def _queries_keys(model: nn.Module, tokenizer: Any, text: str, part: Part) -> list[tuple[Tensor, Tensor]]:
    """Queries and keys ``(1, heads, length, d_head)`` of each layer of self-attention, as the model computes them."""
    found: list[tuple[Tensor, Tensor]] = []
    outputs: dict[str, Tensor] = {}
    hooks = []
    if isinstance(model, Model):
        blocks: Any = model.encoder if isinstance(model, Seq2Seq) else model.blocks

        def ours(attention: Any, inputs: tuple[Any, ...]) -> None:
            x, context = inputs[:2]
            query, key, _ = (attention.split_heads(p) for p in attention.query_key_value(x).chunk(3, dim=-1))
            if context.rotation is not None:
                query, key = rotate(query, *context.rotation), rotate(key, *context.rotation)
            found.append((query, key))
            scores = query @ key.transpose(-2, -1) / query.size(-1) ** 0.5
            scores = scores if context.bias is None else scores + context.bias
            outputs[str(len(found))] = masked_softmax(scores, context.mask)

        for block in blocks:
            attention: MultiHeadAttention = block.attention
            hooks.append(attention.register_forward_pre_hook(ours))
    else:
        kinds = {"query": "q", "q_proj": "q", "q_lin": "q", "key": "k", "k_proj": "k", "k_lin": "k", "c_attn": "qkv"}
        order: list[tuple[str, Tensor]] = []
        for name, module in model.named_modules():
            kind = kinds.get(name.rsplit(".", 1)[-1])
            if kind and "decoder" not in name:
                hooks.append(module.register_forward_hook(lambda _m, _i, out, kind=kind: order.append((kind, out))))
    try:
        _parts(model, tokenizer, text, None)
    finally:
        for hook in hooks:
            hook.remove()
    n, n_heads = len(part.weights), part.weights[0].size(1)
    if isinstance(model, Model):
        found = found[:n]
        ours_again = list(outputs.values())[:n]
    else:
        flat = [half for kind, out in order for half in (out.chunk(3, dim=-1)[:2] if kind == "qkv" else (out,))]
        heads = [x.unflatten(-1, (n_heads, -1)).transpose(1, 2) for x in flat[: 2 * n]]
        found = list(zip(heads[0::2], heads[1::2], strict=False))
        scores = [q @ k.transpose(-2, -1) / q.size(-1) ** 0.5 for q, k in found]
        mask = torch.ones(scores[0].shape[-2:], dtype=torch.bool).tril() if scores and _is_causal(part) else None
        ours_again = [masked_softmax(s, mask) for s in scores]
    same = [torch.allclose(a, b, atol=1e-4) for a, b in zip(ours_again, part.weights, strict=False)]
    if len(same) < n or not all(same):
        raise ValueError("the queries and keys found in this model do not give its attention weights; use head_view")
    return found


def _is_causal(part: Part) -> bool:
    return all(float(weights.triu(1).abs().max()) == 0.0 for weights in part.weights)


@cache
def _libraries() -> str:
    """jQuery and d3 from the packages that bring them, which are not imported; compressed, as base64."""
    texts = []
    for package, path in LIBRARIES:
        spec = importlib.util.find_spec(package)
        folders = (spec.submodule_search_locations or []) if spec else []
        files = [file for folder in folders if (file := Path(folder) / path).is_file()]
        if not files:
            raise FileNotFoundError(
                f"{path} of {package} is missing: run `pip install --force-reinstall XStatic-jQuery mpld3`"
            )
        texts.append(files[0].read_text(encoding="utf-8"))
    return base64.b64encode(gzip.compress("\n;\n".join(texts).encode(), 9, mtime=0)).decode()


def _frame(page: str, title: str, width: int) -> str:
    """BertViz's page with its scripts inside, as one frame; the same bytes for the same view."""
    page = re.sub(r'<script src="https://[^"]*"></script>', "", page)
    page = re.sub(r"'https://cdnjs\.[^']*'", "''", page)  # where RequireJS, which is replaced above, would look
    page = re.sub(r"bertviz-[0-9a-f]{32}", "bertviz-view", page)
    page = page.replace('<script type="text/javascript">', '<script type="text/plain" class="view">')
    start = START.replace("WIDTH", str(width))
    document = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<body style="margin:4px;background:#fff;color:#111">{page}'
        f'<script type="text/plain" id="libraries">{_libraries()}</script><script>{start}</script></body></html>'
    )
    style = "width:100%;height:420px;border:0;background:#fff"
    # The <div> keeps IPython from warning that an IFrame object would do; by "<iframe srcdoc=" nbval.cfg knows a view.
    return f'<div><iframe srcdoc="{escape(document)}" title="{escape(title)}" style="{style}"></iframe></div>'
