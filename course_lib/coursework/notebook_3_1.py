"""Checks of the exercises of notebook 3.1."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from course_lib.coursework.engine import array, exercise, expect, same
from course_lib.models import ModelConfig, Seq2Seq

Array = np.ndarray
TOLERANCE = 1e-5  # an answer may come in float32


@exercise("3.1-a")
def hidden_keys(answer: Callable[[Array], Array]) -> None:
    """Shape; a row without padding; hidden columns; a causal mask; faint weights; one head of two."""
    weights = np.full((2, 3, 5, 5), 0.2)
    weights[0, :, :, 3:] = 0
    weights[0, :, :, :3] = 1 / 3
    found = np.asarray(answer(weights.copy()))
    expect(found.shape == (2, 5), f"one answer per sentence and key is (2, 5), not {found.shape}: which axes remain?")
    expect(found.dtype == bool, f"the answers should be True or False, not {found.dtype}")
    expect(
        not found[1].any(),
        "no key of the second sentence is hidden, yet some are reported: is the weight compared with 0?",
    )
    expect(found[0].tolist() != [True] * 3 + [False] * 2, "the real keys are reported: True means hidden")
    expect(
        found[0].any(),
        "two keys get no weight at all and none is reported: did you look along the keys, which sum to 1?",
    )
    expect(found[0].tolist() == [False] * 3 + [True] * 2, f"keys 3 and 4 of the first sentence are hidden: {found[0]}")
    causal = np.tril(np.ones((5, 5))) / np.arange(1, 6)[:, None]
    expect(
        not np.asarray(answer(causal[None, None])).any(),
        "a key that only some queries see is not padding: all, not any",
    )
    faint = np.full((3, 2, 7, 7), 1e-9)
    expect(not np.asarray(answer(faint.copy())).any(), "a weight of 1e-9 is tiny, but not 0")
    faint[1, 0, :, 4] = 0
    expect(
        not np.asarray(answer(faint.copy())).any(),
        "one of two heads ignores a key: it is hidden only if every head does",
    )
    faint[1, 1, :, 4] = 0
    expect(
        np.argwhere(np.asarray(answer(faint))).tolist() == [[1, 4]],
        "sentence 1, key 4 is hidden in both heads, and nothing else: need padding stand at the end?",
    )


@exercise("3.1-b")
def sentence_vectors(answer: Callable[[Array, Array], Array]) -> None:
    """No padding; padding on either side; an empty row; padding that holds NaN."""
    states = np.random.default_rng(5).normal(size=(3, 7, 11))
    real = np.ones((3, 7), bool)
    plain = array(answer(states.copy(), real.copy()))
    expect(plain.shape == (3, 11), f"one vector per sentence is (3, 11), not {plain.shape}: which axis is averaged?")
    expect(not same(plain, states.sum(axis=1), TOLERANCE), "that is the sum: divide by the number of tokens")
    expect(
        same(plain, states.mean(axis=1), TOLERANCE),
        "without padding this should be the plain mean over the tokens: is it divided by their number?",
    )
    real[0, 4:], real[1, :2] = False, False
    found = array(answer(states.copy(), real.copy()), (3, 11))
    right = states[0, :4].mean(axis=0)
    expect(
        not same(found[0], right * 4 / 7, TOLERANCE),
        "4 of 7 tokens are real, and the mean is 4/7 as long as it should be: divided by S?",
    )
    expect(same(found[0], right, TOLERANCE), "padding on the right got into the mean")
    expect(
        same(found[1], states[1, 2:].mean(axis=0), TOLERANCE),
        "padding on the left got into the mean: slices are not enough",
    )
    real[2] = False
    found = array(answer(states.copy(), real.copy()), (3, 11))
    expect(np.isfinite(found).all(), "an empty row gives NaN: what is it divided by?")
    expect(not found[2].any(), "an empty row should give zeros")
    spoilt = np.where(real[..., None], states, np.nan)
    found = array(answer(spoilt, real.copy()), (3, 11))
    expect(np.isfinite(found).all(), "padding that holds NaN must be replaced, not multiplied: 0 · NaN is NaN")
    expect(same(found[0], right, TOLERANCE), "with NaN in the padding the mean changed: was it replaced after the sum?")


@exercise("3.1-c")
def layer_cost(answer: Callable[[list[int], int, int, bool], int]) -> None:
    """One term after the other for one sentence; then how sentences add up; then padding."""

    def cost(lengths: list[int], d: int = 3, f: int = 7, padded: bool = False) -> float:
        return float(array(answer(list(lengths), d, f, padded), ()))

    one = cost([5])
    grown = cost([5], f=8) - one
    expect(grown != 15, "with f one larger, both matrices of the feed-forward network grow, not one")
    expect(grown == 30, f"with f one larger, two matrices cost 2Sd = 30 more, not {grown:g}")
    square = cost([2]) - 2 * cost([1])
    expect(square != 6, "the part that grows with S² counts the scores, but not the mixtures (or the other way round)")
    expect(square == 12, f"the part that grows with the square of S should be 2S²d; yours is {square / 6:g}S²d")
    expect(one != 495, "there are four d × d matrices: queries, keys, values and the output")
    expect(
        one == 540, f"5 tokens, d = 3, f = 7 cost 540, not {one:g}: is each of the four d × d matrices counted once?"
    )
    expect(cost([5], padded=True) == one, "one sentence alone has no padding: both ways must agree; padded to what?")
    two = cost([5, 5])
    expect(two == 2 * one, f"two sentences cost twice as much as one, not {two:g}: is the square of a sum taken?")
    expect(cost([2, 5, 3]) != 3 * one, "one by one, short sentences should cost less: no padding")
    expect(cost([2, 5]) == one + 180, "one by one, 2 tokens cost 180 and 5 cost 540: has each sentence its own S?")
    mixed = cost([2, 5, 3], padded=True)
    expect(mixed == 3 * one, "padded, each of 3 sentences costs as much as the longest: do all parts count padding?")
    both = [cost([7, 12], 30, 70, padded) for padded in (True, False)]
    expect(both == [204_480, 159_780], f"the example of the task gives {both}")


@exercise("3.1-d")
def fold_norm(answer: Callable[[Array, Array, Array, Array], tuple[Array, Array]]) -> None:
    """Nothing to fold, each alone, both; then a matrix that is not square."""
    random = np.random.default_rng(8)
    W, b, gain, bias = random.normal(size=(5, 5)), *random.normal(size=(3, 5))
    normed = random.normal(size=(7, 5))

    def holds(W: Array, b: Array, gain: Array, bias: Array) -> bool:
        kept = W.copy()
        both = answer(W, b.copy(), gain.copy(), bias.copy())
        expect(isinstance(both, tuple | list) and len(both) == 2, "return two arrays: the new weight and the new bias")
        expect(np.array_equal(W, kept), "W was changed in place: return a new one")
        new_w, new_b = array(both[0], W.shape, "the new weight"), array(both[1], b.shape, "the new bias")
        right = [
            [sum((x * g + c) * w for x, g, c, w in zip(z, gain, bias, row, strict=True)) for row in W] for z in normed
        ]
        return same(normed @ new_w.T + new_b, np.array(right) + b, TOLERANCE)

    one, zero = np.ones(5), np.zeros(5)
    expect(holds(W, b, one, zero), "gain 1 and bias 0 change nothing: was b dropped?")
    expect(holds(W, b, gain, zero), "bias 0: the gain scales what goes *in*, the columns of W. Were rows scaled, or b?")
    expect(holds(W, b, one, bias), "gain 1: the bias must go through W before it is added to b")
    expect(holds(W, b, gain, bias), "each alone is right, both are not: did the bias go through the scaled W?")
    expect(
        holds(random.normal(size=(3, 5)), random.normal(size=3), gain, bias),
        "right for a square W, wrong for 3 outputs of 5 features",
    )


class _Counted(torch.nn.ModuleList):
    """Blocks that count how often somebody begins with the first of them."""

    passes = 0

    def __iter__(self) -> Iterator[torch.nn.Module]:
        self.passes += 1
        return super().__iter__()

    def __getitem__(self, index: Any) -> Any:
        self.passes += index == 0
        return super().__getitem__(index)


@exercise("3.1-e")
def encode_packed(answer: Callable[[list[list[int]], Seq2Seq], list[Array]]) -> None:
    """One token; one sentence; several; sentences that are alike; another model; then whether it is one row."""

    def model_of(activation: str, n_layers: int) -> Seq2Seq:
        options = {"d_model": 14, "n_heads": 7, "n_encoder_layers": n_layers, "n_decoder_layers": 1, "d_ff": 22}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(n_layers)
            model = Seq2Seq(ModelConfig(17, **options, dropout=0.0, activation=activation))  # type: ignore[arg-type]
            for parameter in model.parameters():
                torch.nn.init.normal_(parameter, std=0.4)
        return model.double().eval()

    def wrong(sentences: list[list[int]], model: Seq2Seq) -> list[int]:
        found = answer([list(sentence) for sentence in sentences], model)
        expect(len(found) == len(sentences), f"{len(sentences)} sentences should give as many arrays, not {len(found)}")
        with torch.no_grad():
            expected = [model.encode(torch.tensor([sentence]))[0][0].numpy() for sentence in sentences]
        lengths = [len(part) for part in found]
        right = [len(sentence) for sentence in sentences]
        expect(lengths == right, f"each sentence should get one vector per token: {right}, not {lengths}")
        return [i for i, (f, e) in enumerate(zip(found, expected, strict=True)) if not same(f, e, TOLERANCE)]

    model = model_of("relu", 2)
    rows = [[5, 6, 7, 8, 2], [9, 10, 2], [16, 6, 11, 12, 2]]
    expect(not wrong([[5]], model), "one token alone is wrong: embedding (√d), blocks, or the final norm")
    expect(
        not wrong(rows[:1], model),
        "one token is right, one sentence is not: positions, or does each token see all of its own sentence?",
    )
    several = wrong(rows, model)
    expect(several != [0, 1, 2], "all are wrong as soon as there are several: can the sentences see each other?")
    expect(
        several != [1, 2],
        "only the first is right: do positions start again at 0? Do later sentences see earlier ones?",
    )
    expect(several != [0, 1], "only the last is right: do earlier sentences see later ones?")
    expect(not several, f"sentences {several} are wrong: is the row cut in the right places?")
    alike = [[5, 6, 2], [5, 6, 2], [2]]
    expect(not wrong(alike, model), "sentences that are alike see each other: is each numbered on its own?")
    other = [[5, 6, 7, 8], [9, 2], [16] * 11]
    expect(not wrong(other, model_of("gelu", 3)), "another model: are activation and number of layers taken from it?")
    counts, sizes = [], list[int]()

    def watch(block: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        sizes.append(inputs[0].shape[:-1].numel())

    blocks = _Counted(model.encoder)
    model.encoder = blocks  # type: ignore[assignment]
    handle = blocks[0].register_forward_pre_hook(watch)
    for sentences in (rows[:1], rows):
        blocks.passes = 0
        answer([list(sentence) for sentence in sentences], model)
        counts.append(blocks.passes)
    handle.remove()
    once = counts[0] == counts[1] and len(sizes) in (0, 2)
    expect(once, "more passes through the blocks for more sentences: one row should hold them all")
    expect(sizes in ([], [5, 13]), "13 tokens, but the blocks are given more positions: one row needs no padding")
