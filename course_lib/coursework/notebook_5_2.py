"""Checks of the exercises of notebook 5.2."""

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from course_lib.attention import AttentionContext
from course_lib.coursework.engine import array, exercise, expect, same
from course_lib.layers import CrossBlock
from course_lib.models import ModelConfig, Seq2Seq
from course_lib.tokenizers import BOS, EOS, MASK, PAD


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# How the derivatives of all that fetches rows by an index are called.
INDEXING = ("Index", "Embedding", "Gather", "Take", "Select", "Unbind")


def _operations(result: Tensor) -> set[str]:
    """The names of the operations that led to a result."""
    waiting, seen = [result.grad_fn], set()
    while waiting:
        operation = waiting.pop()
        if operation is not None and operation not in seen:
            seen.add(operation)
            waiting += [before for before, _ in operation.next_functions]
    return {operation.name() for operation in seen}


@exercise("5.2-a")
def lookup(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """The shape, the factor, the rows; then an id that is the last, and the gradient."""
    ids = torch.tensor([[4, 2, 4], [0, 1, 2]])
    matrix = torch.randn(11, 5, dtype=torch.float64, generator=_generator(0))
    found = answer(ids, matrix)
    expect(isinstance(found, Tensor), "return a tensor")
    expect(tuple(found.shape) == (2, 3, 5), f"the shape should be (2, 3, 5), not {tuple(found.shape)}")
    rows = matrix[ids]
    expect(not same(found, rows), "the vectors are not scaled: where is the factor √d?")
    expect(not same(found, rows * 5), "the factor is d; it should be its square root")
    expect(not same(found, rows / 5**0.5), "divided by √d: the vectors are made larger, not smaller")
    expect(not same(found, rows * 11**0.5), "that factor is the root of the vocabulary's size; d is that of a vector")
    expect(same(found, rows * 5**0.5), "some vectors are not the rows of their tokens")
    weights = torch.randn(7, 3, requires_grad=True, generator=_generator(1))
    found = answer(torch.tensor([[6, 6]]), weights)
    expect(found.requires_grad, "no gradient flows back to the matrix: is it copied or detached?")
    expect(
        not any(name.startswith(INDEXING) for name in _operations(found)),
        "the rows are fetched by an index; here they should come out of a product with one-hot vectors",
    )
    (gradient,) = torch.autograd.grad(found.sum(), weights)
    expect(not gradient[:6].any(), "the gradient should reach only the rows that occur")
    expect(same(gradient[6], [2 * 3**0.5] * 3, 1e-6), "a token that occurs twice gets twice the gradient, √d times")


@exercise("5.2-b")
def decoder_mask(answer: Callable[[Tensor], Tensor]) -> None:
    """Shape and kind; without padding the triangle; then padding, on the right and on the left."""
    tokens = torch.tensor([[BOS, 9, 7, 8, 6], [BOS, 9, 7, PAD, PAD]])
    allowed = answer(tokens.clone())
    expect(isinstance(allowed, Tensor), "return a tensor")
    expect(allowed.shape != (2, 5, 5), "shape (2, 5, 5): the axis of the heads is missing")
    expect(allowed.shape == (2, 1, 5, 5), f"shape (B, 1, T, T) = (2, 1, 5, 5) expected, not {tuple(allowed.shape)}")
    expect(allowed.dtype == torch.bool, "the mask should be boolean: numbers would be added, not combined")
    full = allowed[0, 0]
    expect(not full.all(), "everything is allowed, the future too: is there a triangle?")
    first_only = full.diagonal()[1:].all() and not full[0, 0]
    expect(not first_only, "the first token may not even see itself: is BOS taken for padding?")
    expect(
        full.diagonal().all(), "a token may attend to itself: does the triangle include the diagonal, and mean «may»?"
    )
    expect(not full.triu(1).any(), "a query sees the future: is the triangle the lower one, and joined by «and»?")
    expect(
        full.tril().equal(torch.ones(5, 5, dtype=torch.bool).tril()), "without padding each query sees all that came"
    )
    expect(
        not allowed[1, 0, :, 3:].any(), "padding is attended to: does the padding mask stand on the key axis, by «and»?"
    )
    expect(allowed[1, 0, 3:, :3].all(), "padded queries see nothing: does the padding mask stand on the query axis?")
    ended = answer(torch.tensor([[BOS, 9, EOS, PAD]]))[0, 0]
    expect(ended[2:, 2].all(), "EOS is hidden: only PAD is padding")
    left = answer(torch.tensor([[PAD, PAD, BOS, 9]]))[0, 0].int().tolist()
    right = [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]
    expect(left == right, f"padding on the left: is it looked for where it stands? {left}")


@exercise("5.2-c")
def count_parameters(answer: Callable[[ModelConfig], int]) -> None:
    """The plain model, part by part where it is off; then each option."""
    base: dict[str, Any] = {
        "vocab_size": 101, "d_model": 14, "n_heads": 7, "d_ff": 31, "n_encoder_layers": 2, "n_decoder_layers": 3
    }  # fmt: skip

    def off(**options: Any) -> float:
        config = ModelConfig(**base | options)
        return float(array(answer(config), ())) - sum(p.numel() for p in Seq2Seq(config).parameters())

    plain = off()
    expect(plain != -101, "off by vocab_size: the output layer has a bias")
    expect(plain != 101 * 14, "off by V · d: the output layer shares its matrix with the embedding")
    expect(plain != -4 * 14, "off by 4 d: pre-norm models normalise once more after each stack")
    expect(plain != -3 * (4 * 14 * 14 + 4 * 14), "off by three attentions: a decoder block has two")
    expect(plain != -8 * 4 * 14, "the biases of the attentions are missing: each has four")
    expect(plain != -5 * (31 + 14), "the biases of the feed-forward networks are missing")
    expect(plain != -5 * 14 * 31, "a feed-forward network has two matrices")
    expect(plain != -8 * (14 * 14 + 14), "the attentions lack their output layers")
    expect(plain != 2 * 4 * (14 * 14 + 14), "an encoder block has one attention only")
    expect(plain != -15 * 14, "a normalisation has a gain *and* a bias")
    expect(plain != -3 * 2 * 14, "a decoder block has three normalisations")
    expect(plain == 0, f"the plain model is off by {plain:g}: check it part by part with count()")
    expect(off(tie_embeddings=False) == 0, "untied: the output layer has a matrix of its own, V · d")
    expect(off(norm="post") == 0, "post-norm has no last normalisations after the stacks")
    expect(off(positions="learned", max_length=29) == 0, "learned positions: one vector for each of max_length places")
    expect(off(positions="rotary", max_length=29) == 0, "rotary positions have no parameters")
    expect(off(n_encoder_layers=5, d_ff=8) == 0, "other numbers of layers: do encoder and decoder each use their own?")
    expect(off(n_heads=2) == 0, "the number of heads changes nothing")


@exercise("5.2-d")
def decoder_block(answer: Callable[..., Tensor]) -> None:
    """One token on each side: the value path; then masks, memory, axes."""

    def case(S: int, T: int, d: int = 14, heads: int = 7, speaks: str = "all") -> tuple[tuple[Any, ...], Tensor]:
        """Arguments and what should come out; only the sub-layer that ``speaks`` has an output other than zero."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(S + 31 * T)
            block = CrossBlock(d, heads, 11, dropout=0.0, norm="pre", activation="relu").double()
            for parameter in block.parameters():
                torch.nn.init.normal_(parameter, std=0.5)  # gains and biases too, so that none can be forgotten
            x, memory = torch.randn(2, T, d).double(), torch.randn(2, S, d).double()
        ends = {
            "self": block.attention.output, "cross": block.cross_attention.output, "feed": block.feed_forward.outer
        }  # fmt: skip
        for name, layer in ends.items():
            if speaks not in (name, "all"):
                torch.nn.init.zeros_(layer.weight)
                torch.nn.init.zeros_(layer.bias)
        target_mask = torch.ones(T, T, dtype=torch.bool).tril()
        source_mask = (torch.arange(S) < torch.tensor([[S], [max(1, S - 2)]]))[:, None, None]
        keys_values = block.cross_attention.keys_values(memory)
        expected = block(x, AttentionContext(target_mask), keys_values, AttentionContext(source_mask))
        return (block, x, memory, target_mask, source_mask), expected.detach()

    def right(S: int, T: int, message: str, **options: Any) -> None:
        arguments, expected = case(S, T, **options)
        block, x, memory = arguments[:3]
        found = answer(block, x.clone(), memory.clone(), *arguments[3:])
        expect(isinstance(found, Tensor), "return a tensor")
        shape = tuple(found.shape)
        expect(shape == expected.shape, f"S = {S}, T = {T}: shape {shape}, not {tuple(expected.shape)}")
        expect(same(found, expected, 1e-10), message)

    right(1, 1, "silent sub-layers should give x back: is each of the three added to what went into it?", speaks="none")
    right(1, 1, "the feed-forward network alone is wrong: its norm, with gain and bias, or its ReLU?", speaks="feed")
    right(1, 1, "one token, self-attention alone is wrong: its norm, its values or its output layer?", speaks="self")
    right(
        1, 1, "one token, cross-attention alone is wrong: values from the memory, which is not normed?", speaks="cross"
    )
    right(1, 1, "each sub-layer alone is right, all together are not: does each take what the one before it gave?")
    right(1, 3, "one source token: is the causal mask applied, before the softmax, and the scale √(d/h)?")
    right(5, 1, "one target token: do keys and values of the cross-attention come from the memory, with its mask?")
    right(5, 3, "S ≠ T: are the axes of query and key where they should be?")
    right(7, 5, "right for 7 heads of size 2, wrong for 3 of size 4: how is d split?", d=12, heads=3)


def _parrot(source: Tensor, target: Tensor) -> Tensor:
    """A model that is known: it says the source again, EOS included, and would rather say PAD, BOS or MASK."""
    logits = torch.zeros(*target.shape, 17)
    position = (target.size(1) - 1) % source.size(1)
    logits[:, -1].scatter_(1, source[:, position, None], 5.0)
    logits[:, -1, [PAD, BOS, MASK]] = 9.0
    return logits


@exercise("5.2-e")
def greedy_batch(answer: Callable[..., list[list[int]]]) -> None:
    """What is never written, where each row ends, how long it may be; then how the model is called."""
    inputs = [[5, 6, 7], [8], [9, 10, 11, 12, 13]]
    calls: list[list[list[int]]] = []

    def model(source: Tensor, target: Tensor) -> Tensor:
        calls.append(source.tolist())
        expect(source.dtype == target.dtype == torch.long, "the model is called with ids, integers of 64 bits")
        return _parrot(source, target)

    def written(function: Callable[..., Tensor], sources: Sequence[list[int]], longest: int) -> list[list[int]]:
        rows = answer(function, [list(source) for source in sources], longest)
        expect(rows is not None, "the result is None: is it returned?")
        return [[int(token) for token in row] for row in rows]

    found = written(model, inputs, 9)
    expect(len(found) == 3, f"one output for each source: 3, not {len(found)}")
    expect(len(calls[0]) == 3, "one call of the model a step, for all rows together")
    expect(
        all(len(row) == 6 and EOS in row for row in calls[0]),
        "the source is padded to the longest, with an EOS after each sentence",
    )
    expect(all(row[0] != PAD for row in calls[0]), "the source is padded on the left: the right is wanted")
    expect(
        not any({PAD, MASK} & set(row) for row in found),
        "PAD or MASK was written: whatever their logits, they may not win",
    )
    expect(not any(BOS in row[1:] for row in found), "BOS was written: its logit may not win")
    expect(not any(row[:1] == [BOS] for row in found), "BOS stands at the front: it is an input, not a result")
    expect(not any(EOS in row for row in found), "EOS ends an output and is not part of it")
    expect([len(row) for row in found] != [5, 5, 5], "all outputs have one length: each row ends at its own EOS")
    expect([len(row) for row in found] == [3, 1, 5], f"lengths 3, 1 and 5 expected, got {[len(row) for row in found]}")
    expect(found == inputs, f"the parrot says each source again: expected {inputs}, got {found}")
    expect(len(calls) <= 7, f"{len(calls)} calls: stop when every row has its EOS")
    short = written(_parrot, inputs, 2)
    expect(short == [[5, 6], [8], [9, 10]], f"at most max_length = 2 tokens without EOS: got {short}")
    negative = written(lambda s, t: _parrot(s, t) - 20.0, inputs, 9)
    expect(negative == inputs, "all logits negative: a logit of 0 does not rule a token out")

    def eager(source: Tensor, target: Tensor) -> Tensor:
        """After its EOS a row goes on with other tokens; they must not count."""
        logits = _parrot(source, target)
        ended = (target == EOS).any(dim=1)
        logits[ended, -1, EOS] = -math.inf
        logits[ended, -1, 6] = 20.0
        return logits

    expect(written(eager, inputs, 9) == inputs, "what a row writes after its first EOS must not count")


@exercise("5.2-f")
def train_sorter(answer: Callable[[], Callable[[Tensor, Tensor], Tensor]]) -> None:
    """What the model writes for new sequences, and if it is wrong, of which kind its mistakes are."""
    model = answer()
    expect(callable(model), f"return the trained model, not {type(model).__name__}")
    if isinstance(model, torch.nn.Module):
        model.eval()
    draw = random.Random(101)
    sources = [draw.sample(range(5, 17), draw.choice(range(3, 8))) for _ in range(200)]
    longest = max(map(len, sources))
    source = torch.tensor([[*row, EOS] + [PAD] * (longest - len(row)) for row in sources])
    target = torch.tensor([[BOS]] * len(sources))
    for _ in range(longest + 3):
        with torch.no_grad():
            logits = model(source, target)
        expect(isinstance(logits, Tensor), "the model should give logits, as a Seq2Seq does")
        expect(
            logits.shape[0] == 200 and logits.shape[-1] == 17, f"logits for 17 tokens are wanted: {tuple(logits.shape)}"
        )
        best = logits[:, -1].clone()
        best[:, [PAD, BOS, MASK]] = -torch.inf
        target = torch.cat([target, best.argmax(dim=-1, keepdim=True)], dim=1)
    rows = target[:, 1:].tolist()
    written = [row[: [*row, EOS].index(EOS)] for row in rows]
    right = [sorted(row) for row in sources]

    def share(wanted: list[list[int]]) -> float:
        return sum(w == r for w, r in zip(written, wanted, strict=True)) / len(sources)

    expect(share(sources) < 0.5, "it copies: the targets should be sorted")
    expect(share([row[::-1] for row in sources]) < 0.5, "it reverses: the targets should be sorted")
    expect(share([row[::-1] for row in right]) < 0.5, "it writes the largest first: ascending order is wanted")
    endless = sum(EOS not in row for row in rows) / len(rows)
    expect(endless < 0.2, f"{endless:.0%} of the outputs do not end: is EOS a target?")
    long = [w == r for w, r in zip(written, right, strict=True) if len(r) == longest]
    short = [w == r for w, r in zip(written, right, strict=True) if len(r) < longest]
    expect(
        sum(long) / len(long) > 0.5 or sum(short) / len(short) < 0.9,
        "right for short sequences, wrong for seven symbols: which lengths were trained?",
    )
    same_set = sum(sorted(w) == r for w, r in zip(written, right, strict=True)) / len(sources)
    expect(
        share(right) >= 0.95 or same_set < 0.95,
        f"the right symbols in a wrong order ({share(right):.0%} are sorted): more updates, or are positions missing?",
    )
    expect(share(right) >= 0.95, f"only {share(right):.0%} of 200 sequences are sorted; 95 % are wanted: train longer")
