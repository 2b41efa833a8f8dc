"""Attention views: no network, the same bytes each time, and every weight beside the right tokens."""

import configparser
import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import torch

from course_lib.models import CausalLM, MaskedLM, Model, ModelConfig, Seq2Seq
from course_lib.tokenizers import WordTokenizer
from course_lib.viz import attention
from course_lib.viz.attention import AttentionView, Part, head_view, model_view, neuron_view

ENGLISH, CHINESE = "the cat eats a fish in the park.", "猫在公园里吃鱼。"
WORDS = WordTokenizer.train([ENGLISH, CHINESE])
VIEWS = [head_view, model_view, neuron_view]


def build(family: type[Model], positions: str = "sinusoidal") -> Model:
    torch.manual_seed(0)
    sizes = {"d_model": 24, "n_heads": 3, "n_encoder_layers": 2, "n_decoder_layers": 2, "d_ff": 16}
    return family(ModelConfig(WORDS.vocab_size, positions=positions, **sizes))  # type: ignore[arg-type]


def page(view: AttentionView) -> str:
    """What the frame holds."""
    found = re.search(r'srcdoc="([^"]*)"', view.html)
    assert found is not None
    return unescape(found[1])


def shown(view: AttentionView) -> list[dict[str, Any]]:
    """The data that BertViz's script reads."""
    text = page(view)
    start = re.search(r"(?:const params = |window\.bertviz_params = )", text)
    assert start is not None
    data = json.JSONDecoder().raw_decode(text, start.end())[0]["attention"]
    return list(data.values()) if isinstance(data, dict) else data


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("family", [Seq2Seq, CausalLM, MaskedLM])
def test_a_view_is_whole_and_the_same_each_time(view: Any, family: type[Model]) -> None:
    first, again = (view(build(family), WORDS, ENGLISH) for _ in range(2))
    assert first.html == again.html
    assert len(first.html) <= attention.MOST_BYTES
    # Addresses may be named (BertViz configures RequireJS, which is replaced), but nothing is loaded from one.
    assert not re.search(r'(?:src|href)="?https?:', page(first))
    assert "title=" in first.html  # a frame without a name is silent in a screen reader


def test_planted_cross_attention_stands_beside_its_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    # Unequal lengths and weights that occur once: a swapped axis or a shifted token could not pass.
    queries, keys = ["<bos>", "猫", "吃"], ["the", "cat", "eats", "fish", "<eos>"]
    weights = (torch.arange(15.0).view(3, 5) / 1000)[None, None]
    parts = [
        Part("encoder", [torch.full((1, 1, 5, 5), 0.2)], keys, keys),
        Part("decoder", [torch.full((1, 1, 3, 3), 1 / 3)], queries, queries),
        Part("cross", [weights], queries, keys),
    ]
    monkeypatch.setattr(attention, "_parts", lambda *_: parts)
    for view in (head_view, model_view):
        cross = next(part for part in shown(view(build(Seq2Seq), WORDS, ENGLISH)) if part["name"] == "Cross")
        assert (cross["left_text"], cross["right_text"]) == (queries, keys)
        assert cross["attn"][0][0][2] == [0.01, 0.011, 0.012, 0.013, 0.014]


def test_the_weights_are_the_models_own() -> None:
    model = build(Seq2Seq)
    view = head_view(model, WORDS, ENGLISH, target=CHINESE)
    names = {part["name"]: part for part in shown(view)}
    assert names["Cross"]["left_text"] == ["<bos>", *WORDS.split(CHINESE)]
    assert names["Cross"]["right_text"] == [*WORDS.split(ENGLISH), "<eos>"]
    ids, target = WORDS.encode(ENGLISH), WORDS.encode(CHINESE)
    maps = model.eval().attention(torch.tensor([[*ids, 2]]), torch.tensor([[1, *target]]))  # type: ignore[operator]
    for name, layers in (("Encoder", maps.encoder), ("Decoder", maps.decoder), ("Cross", maps.cross)):
        for layer, weights in zip(names[name]["attn"], layers, strict=True):
            torch.testing.assert_close(torch.tensor(layer), weights[0], atol=6e-4, rtol=0)


@pytest.mark.parametrize("positions", ["sinusoidal", "rotary", "alibi"])
@pytest.mark.parametrize("family", [Seq2Seq, CausalLM, MaskedLM])
def test_queries_and_keys_of_the_neuron_view_give_the_weights(family: type[Model], positions: str) -> None:
    model = build(family, positions)
    view = neuron_view(model, WORDS, ENGLISH)
    (data,) = shown(view)
    query, key = torch.tensor(data["queries"][1]), torch.tensor(data["keys"][1])  # (heads, length, d_head)
    scores = query @ key.transpose(1, 2) / query.size(-1) ** 0.5
    length = scores.size(-1)
    if positions == "alibi":
        slopes = torch.tensor([0.0625, 0.00390625, 0.25])  # of three heads, as in tests/test_positions.py
        distance = (torch.arange(length)[:, None] - torch.arange(length)).abs()
        scores = scores - slopes[:, None, None] * distance
    if family is CausalLM:
        scores = scores.masked_fill(~torch.ones(length, length, dtype=torch.bool).tril(), -torch.inf)
    torch.testing.assert_close(scores.softmax(dim=-1), torch.tensor(data["attn"][1]), atol=0.02, rtol=0)
    bidirectional = '"bidirectional": true' in page(view)
    assert bidirectional == (family is not CausalLM)


def test_wrong_queries_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "rotate", lambda x, *_: x)  # as if the rotation were forgotten
    with pytest.raises(ValueError, match="do not give its attention weights"):
        neuron_view(build(MaskedLM, "rotary"), WORDS, ENGLISH)


class Spaces:
    """A Hugging Face tokeniser in what the views use of it: words are numbers of their first letters."""

    def __call__(self, text: str = "", text_target: str = "", return_tensors: str = "pt") -> Any:
        from transformers import BatchEncoding

        ids = torch.tensor([[ord(word[0]) % 50 + 3 for word in (text or text_target).split()]])
        return BatchEncoding({"input_ids": ids, "attention_mask": torch.ones_like(ids)})

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return [f"t{i}" for i in ids]


def hugging_face(kind: str, implementation: str = "eager") -> Any:
    import transformers

    torch.manual_seed(0)
    small = {"vocab_size": 60, "attn_implementation": implementation}
    if kind == "bert":
        sizes = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 12}
        config = transformers.BertConfig(**sizes, **small)
        return transformers.BertModel(config).eval()
    if kind == "gpt2":
        config = transformers.GPT2Config(n_embd=12, n_layer=2, n_head=3, **small)
        return transformers.GPT2LMHeadModel(config).eval()
    sizes = {"d_model": 12, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 12, "decoder_ffn_dim": 12}
    heads = {"encoder_attention_heads": 3, "decoder_attention_heads": 3, "pad_token_id": 0, "decoder_start_token_id": 0}
    return transformers.MarianMTModel(transformers.MarianConfig(**sizes, **heads, eos_token_id=1, **small)).eval()


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("kind", ["bert", "gpt2", "marian"])
def test_hugging_face_models_are_shown_too(view: Any, kind: str) -> None:
    model = hugging_face(kind)
    target = {"target": "we can see it"} if kind == "marian" and view is not neuron_view else {}
    made = view(model, Spaces(), "a bird can dance every day", **target)
    first = shown(made)[0]
    assert first["left_text"][0] == f"t{ord('a') % 50 + 3}"
    assert torch.tensor(first["attn"]).sum(-1).sub(1).abs().max() < 0.01  # rows of weights


def test_a_model_that_keeps_no_weights_is_named() -> None:
    with pytest.raises(ValueError, match='attn_implementation="eager"'):
        head_view(hugging_face("bert", "sdpa"), Spaces(), "a bird can")


def test_what_cannot_be_shown_is_refused() -> None:
    model = build(CausalLM)
    with pytest.raises(ValueError, match="text is empty"):
        head_view(model, WORDS, "  ")
    with pytest.raises(ValueError, match="46 tokens are more than can be read, 40"):
        head_view(model, WORDS, "cat " * 45)
    wide = ModelConfig(WORDS.vocab_size, d_model=64, n_heads=8, n_decoder_layers=8, d_ff=16)
    with pytest.raises(ValueError, match="KB of the notebook, more than 300"):
        head_view(CausalLM(wide), WORDS, "cat " * 25)
    assert head_view(CausalLM(wide), WORDS, "cat " * 25, layers=[0]).html


def test_a_picture_stands_under_the_view(monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Any] = []
    monkeypatch.setattr(attention, "display", lambda *_, **__: None)
    monkeypatch.setattr(attention, "show", lambda figure, alt: figures.append((figure, alt)))
    view = head_view(build(Seq2Seq), WORDS, ENGLISH, target=CHINESE)
    view._ipython_display_()
    ((figure, alt),) = figures
    assert "cross attention" in alt
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == view.parts[-1].queries
    assert [label.get_text() for label in axes.get_xticklabels()] == view.parts[-1].keys


def test_the_comparison_of_notebooks_passes_over_a_view() -> None:
    # Its libraries are compressed, and the bytes of that depend on the zlib of the machine.
    configuration = configparser.RawConfigParser()
    configuration.read(Path(__file__).parent / "nbval.cfg", encoding="utf-8")
    rule = next(section for name, section in configuration.items() if name.startswith("self-contained views"))
    html = head_view(build(CausalLM), WORDS, ENGLISH).html
    assert re.sub(rule["regex"], rule["replace"], html) == "<div>VIEW</div>"
