"""Checks of the exercises of notebook 5.3."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from course_lib.batching import Batch, seq2seq_batch
from course_lib.coursework.engine import array, exercise, expect, same
from course_lib.models import ModelConfig, Seq2Seq
from course_lib.tokenizers import CharacterTokenizer, Tokenizer, WordTokenizer
from course_lib.training import cross_entropy


@exercise("5.3-a")
def merged_perplexity(answer: Callable[[list[float], list[int]], float]) -> None:
    """Unequal parts; then a part without tokens."""
    found = float(array(answer([9.0, 10.0], [3, 10]), ()))
    tolerance = 1e-6  # an answer may come in float32
    expect(not same(found, 19 / 13, tolerance), "19/13 is the mean loss: the perplexity is e to that power")
    expect(
        not same(found, math.exp(2), tolerance),
        "e² comes from the mean of the machines' means: every *token* should count the same",
    )
    expect(not same(found, math.exp(9.5), tolerance), "divide by the number of tokens, not of machines")
    weighted = (3 * math.exp(3) + 10 * math.e) / 13
    expect(
        not same(found, weighted, tolerance), "that is a mean of perplexities, if a weighted one: merge the sums first"
    )
    expect(
        not same(found, (math.exp(3) + math.e) / 2, tolerance),
        "that is the mean of the perplexities: merge the sums first",
    )
    expect(not same(found, 2 ** (19 / 13), tolerance), "the sums are in nats: the base is e, not 2")
    expect(
        not same(found, math.exp(-19 / 13), tolerance), "below 1: the sums are of −ln p already, so the sign is there"
    )
    expect(
        same(found, math.exp(19 / 13), tolerance),
        f"9 nats over 3 tokens and 10 over 10: expected exp(19/13) = 4.31, got {found:.3f}",
    )
    expect(same(answer([9.0, 0.0], [3, 0]), math.exp(3), tolerance), "a part without tokens should change nothing")


@exercise("5.3-b")
def early_stop(answer: Callable[[list[float], int], tuple[int, int]]) -> None:
    """One, worse ones in a row, a new count after an improvement, equal losses, a fall that is no improvement."""

    def stopped(losses: list[float], patience: int) -> tuple[int, int]:
        found = array(answer(list(losses), patience), (2,), "the pair (number of validations, index of the best)")
        return int(found[0]), int(found[1])

    one = stopped([7.0], 1)
    expect(one != (1, 7), "the *index* of the best validation is wanted, not its loss")
    expect(one != (0, 1), "the two numbers are swapped: first how many validations take place")
    expect(one != (0, 0), "first comes the *number* of validations, not the index of the last")
    expect(one != (1, 1), "the index counts from 0")
    expect(one == (1, 0), "one validation: it takes place and is the best")
    worse = stopped([5.0, 4.0, 6.0, 7.0, 1.0], 2)
    expect(worse != (3, 1), "patience 2: it stops after the *second* validation that is not better")
    expect(worse != (5, 4) and worse[0] != 5, "patience 2: after two worse ones the next does not take place")
    expect(worse != (4, 4), "the best index is that of a validation that never takes place")
    expect(worse != (4, 3), "the weights of the best validation are kept, not of the last")
    expect(worse == (4, 1), f"expected (4, 1) for 5, 4, 6, 7, 1 with patience 2, got {worse}")
    again = stopped([5.0, 6.0, 4.0, 6.0, 3.0], 2)
    expect(again == (5, 4), f"5, 6, 4, 6, 3 with patience 2: an improvement starts the count anew; got {again}")
    bumps = stopped([5.0, 3.0, 4.0, 3.5, 3.2, 1.0], 3)
    expect(bumps == (5, 1), f"falling, but not below the best, is no improvement: expected (5, 1), got {bumps}")
    equal = stopped([5.0, 4.0, 4.5, 4.0, 3.0], 2)
    expect(equal == (4, 1), f"an equal loss is no improvement: expected (4, 1), got {equal}")
    expect(stopped([3.0, 2.0, 1.0], 1) == (3, 2), "losses that only fall never stop the run")


def _model(vocab_size: int, dropout: float = 0.0) -> Seq2Seq:
    config = ModelConfig(vocab_size, 8, 2, n_encoder_layers=1, n_decoder_layers=1, d_ff=16, dropout=dropout)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        return Seq2Seq(config)


@exercise("5.3-c")
def accumulate(answer: Callable[[Seq2Seq, list[Batch]], None]) -> None:
    """One piece, then unequal ones; the size of the gradient before its direction; what was there before."""
    random = np.random.default_rng(5)
    lengths = sorted(random.integers(2, 12, size=14).tolist())
    pairs = [(random.integers(6, 19, size=5).tolist(), random.integers(6, 19, size=n).tolist()) for n in lengths]
    teacher = _model(19)
    whole = seq2seq_batch(pairs)
    loss, n_targets = cross_entropy(teacher(*whole.inputs), whole.targets)
    (loss / n_targets).backward()
    wanted = torch.cat([p.grad.flatten() for p in teacher.parameters() if p.grad is not None])

    def gradient(pieces: list[Batch], before: float = 0.0) -> torch.Tensor:
        model = _model(19)
        if before:
            for parameter in model.parameters():
                parameter.grad = torch.full_like(parameter, before)
        weights = [p.detach().clone() for p in model.parameters()]
        answer(model, pieces)
        kept = all(p.equal(w) for p, w in zip(model.parameters(), weights, strict=True))
        expect(kept, "the weights changed: only gradients are wanted, the update comes later")
        grads = [p.grad for p in model.parameters()]
        expect(all(g is not None for g in grads), "no gradient at all: is backward called?")
        return torch.cat([g.flatten() for g in grads if g is not None])

    def size(found: torch.Tensor) -> float:
        return float(found.norm() / wanted.norm())

    one = gradient([whole])
    expect(
        abs(size(one) / n_targets - 1) > 0.01,
        "one piece: the gradient is that of the sum; divide by the number of targets",
    )
    expect(torch.allclose(one, wanted, atol=1e-6), "one piece: this should be the gradient of the mean loss per token")
    pieces = [seq2seq_batch(pairs[:3]), seq2seq_batch(pairs[3:])]
    two = gradient(pieces)
    along = float(torch.cosine_similarity(two, gradient(pieces[:1]), dim=0))
    expect(along < 0.9999, "two pieces: that is the direction of the first one alone: does the loop reach all?")
    expect(
        size(two) < 1.6,
        f"two pieces: the gradient is {size(two):.1f} times too large: is each divided by its own tokens?",
    )
    last = gradient(pieces[1:])
    along = float(torch.cosine_similarity(two, last, dim=0))
    expect(along < 0.9999, "two pieces: that is the direction of the last one alone: is it cleared between?")
    close = torch.allclose(two, wanted, atol=1e-6)
    expect(close, "two pieces: close, but each *token* must count the same: divide by the targets of all pieces")
    many = gradient([seq2seq_batch([pair]) for pair in pairs])
    expect(
        torch.allclose(many, wanted, atol=1e-6), "14 pieces of one sentence should give the gradient of one batch of 14"
    )
    expect(
        torch.allclose(gradient(pieces, before=3.0), wanted, atol=1e-6), "gradients that were there before are added"
    )


@exercise("5.3-d")
def nats_per_sentence(answer: Callable[[Seq2Seq, Tokenizer, list[tuple[str, str]]], float]) -> None:
    """A model that is uniform, for two tokenisers; then one that is not: sentences count the same."""
    pairs = [
        ("the red cat sleeps", "红猫睡觉"),
        ("he reads books", "他读书"),
        ("they drink tea in the garden", "他们在花园里喝茶"),
    ]
    texts = [text for pair in pairs for text in pair]
    tokenizers: list[Any] = [WordTokenizer.train(texts), CharacterTokenizer.train(texts)]
    for tokenizer in tokenizers:
        model = _model(tokenizer.vocab_size)
        even = _model(tokenizer.vocab_size)
        torch.nn.init.zeros_(even.head.weight)
        torch.nn.init.zeros_(even.head.bias)
        lengths = [len(tokenizer.encode(target)) for _, target in pairs]
        ln_v, mean = math.log(tokenizer.vocab_size), sum(lengths) / len(lengths)
        found = float(array(answer(even, tokenizer, list(pairs)), ()))
        expect(
            abs(found - ln_v) > 1e-3,
            "ln V for a uniform model: that is a loss per token; a sentence is the sum of its tokens",
        )
        expect(abs(found - mean * ln_v) > 1e-3, "too small by ln V for a uniform model: EOS is a target, too")
        expect(
            abs(found - (mean + 1) * ln_v * len(pairs)) > 1e-3,
            "that is the sum over all pairs: divide by the number of sentences",
        )
        sources = sum(len(tokenizer.encode(source)) for source, _ in pairs) / len(pairs)
        expect(
            abs(found - (sources + 1) * ln_v) > 1e-3, "that counts the tokens of the sources: the targets are predicted"
        )
        whole = (mean + 1) * ln_v
        expect(abs(found + whole) > 1e-3, "negative: −ln q is wanted")
        expect(abs(found - whole / math.log(2)) > 1e-3, "that is in bits: a nat is a logarithm to base e")
        expect(
            abs(found - (max(lengths) + 1) * ln_v) > 1e-3, "every sentence costs as much as the longest: padding counts"
        )
        expect(
            abs(found - whole) < 1e-2,
            f"a uniform model needs ln V for each of {mean + 1:.2f} tokens, EOS included; got {found:.2f} nats",
        )
        alone = [float(array(answer(model, tokenizer, [pair]), ())) for pair in pairs]
        together = float(array(answer(model, tokenizer, list(pairs)), ()))
        expect(abs(together - sum(alone) / 3) < 1e-3, "each sentence should count the same, whatever its length")
    noisy = _model(tokenizers[0].vocab_size, dropout=0.5)
    twice = [float(array(answer(noisy.train(), tokenizers[0], list(pairs)), ())) for _ in range(2)]
    expect(abs(twice[0] - twice[1]) < 1e-4, "two calls differ: is dropout off while you measure?")
    training = _model(tokenizers[0].vocab_size)
    answer(training, tokenizers[0], list(pairs))
    expect(all(p.grad is None for p in training.parameters()), "measuring a loss should not leave gradients behind")
