"""Objectives that need no labels: text with a part hidden, and the hidden part as the target.

Each is a callable that makes a :class:`~course_lib.batching.Batch` of token sequences without BOS and EOS, to be handed
to ``TokenBatches(sequences, max_tokens, collate=…)``. The third objective, predicting every next token, is
:func:`course_lib.batching.causal_batch`.

Where something is hidden is drawn anew each time, from PyTorch's generator, whose state is part of a checkpoint: a
resumed run hides the same tokens as one that was never interrupted. For evaluation give a ``seed``: the same sequences
then always get the same holes.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from course_lib.batching import IGNORE, Batch, Tokens, pad_sequences, seq2seq_batch
from course_lib.tokenizers import BOS, MASK, SPECIAL_TOKENS


@dataclass(frozen=True)
class Masking:
    """Masked language modelling (Devlin et al., "BERT", 2019, section 3.1), for ``MaskedLM``.

    Of each sequence the share ``share`` of the ordinary tokens, but at least one, becomes a target. Of the targets
    80 % are replaced by MASK, 10 % by a random ordinary token, and 10 % stay as they are, so that the model cannot
    rely on seeing MASK, which no later task contains. Special tokens are never hidden and never put in.

    The model reads ``BOS x``: BOS takes the place of BERT's [CLS], and there is no [SEP], since each text stands alone.

    Attributes:
        vocab_size: of the tokeniser; random tokens are drawn from it.
        share: of the ordinary tokens of a sequence.
        seed: None for training; a number makes the holes a function of the sequences.
    """

    vocab_size: int
    share: float = 0.15
    seed: int | None = None

    def __post_init__(self) -> None:
        _check_share(self.share)
        if self.vocab_size <= len(SPECIAL_TOKENS):
            raise ValueError(f"vocab_size must be above {len(SPECIAL_TOKENS)} special tokens, got {self.vocab_size}")

    def __call__(self, sequences: Sequence[Tokens]) -> Batch:
        """``inputs`` is one tensor ``(batch, length)``; ``targets`` has the tokens that were hidden, else IGNORE.

        Raises:
            ValueError: if a sequence has no ordinary token: there is nothing to hide.
        """
        tokens = pad_sequences([[BOS, *sequence] for sequence in sequences])
        ordinary = tokens >= len(SPECIAL_TOKENS)
        counts = ordinary.sum(dim=1)
        if (counts == 0).any():
            raise ValueError(f"sequence {int(counts.argmin())} of the batch holds no ordinary token: nothing to hide")
        generator = _generator(self.seed, sequences)
        wanted = (self.share * counts.double()).round().clamp(min=1)  # float32 rounds 0.15 · 190 up
        # Ordinary tokens in random order: the first ``wanted`` of each row.
        order = torch.rand(tokens.shape, device="cpu", generator=generator).masked_fill(~ordinary, 2.0)
        hidden = order.argsort(dim=1).argsort(dim=1) < wanted[:, None]
        fate = torch.rand(tokens.shape, device="cpu", generator=generator)
        others = torch.randint(len(SPECIAL_TOKENS), self.vocab_size, tokens.shape, device="cpu", generator=generator)
        inputs = tokens.masked_fill(hidden & (fate < 0.8), MASK)
        inputs = torch.where(hidden & (fate >= 0.8) & (fate < 0.9), others, inputs)
        return Batch((inputs,), tokens.masked_fill(~hidden, IGNORE), int(hidden.sum()))


@dataclass(frozen=True)
class SpanCorruption:
    """Span corruption (Raffel et al., "T5", 2020, section 3.1.4), for ``Seq2Seq``.

    Spans of ``mean_span`` tokens on average, ``share`` of all tokens together, are each replaced by one MASK. The
    target lists the spans in order, each after a MASK. T5 numbers its sentinels; ours are all MASK, of which a
    vocabulary has one: what they stand for follows from their order, as :func:`fill_spans` shows.

    Attributes:
        share: of the tokens of a sequence that are hidden, at least one.
        mean_span: average length of a span.
        seed: as in :class:`Masking`.
    """

    share: float = 0.15
    mean_span: float = 3.0
    seed: int | None = None

    def __post_init__(self) -> None:
        _check_share(self.share)
        if self.mean_span < 1:
            raise ValueError(f"mean_span must be at least 1 token, got {self.mean_span}")

    def __call__(self, sequences: Sequence[Tokens]) -> Batch:
        """A batch as of :func:`~course_lib.batching.seq2seq_batch`: holes to the encoder, spans to the decoder.

        Raises:
            ValueError: if a sequence has fewer than two tokens, or holds a special one.
        """
        generator = _generator(self.seed, sequences)
        return seq2seq_batch([self._corrupt(i, list(tokens), generator) for i, tokens in enumerate(sequences)])

    def _corrupt(self, i: int, tokens: list[int], generator: torch.Generator | None) -> tuple[list[int], list[int]]:
        if len(tokens) < 2 or min(tokens) < len(SPECIAL_TOKENS):
            raise ValueError(f"sequence {i} of the batch must be two or more ordinary tokens, got {tokens[:10]}")
        n_hidden = min(max(1, round(self.share * len(tokens))), len(tokens) - 1)
        n_spans = min(max(1, round(n_hidden / self.mean_span)), len(tokens) - n_hidden)
        hidden = _parts(n_hidden, n_spans, generator)
        # n_spans + 1 stretches that are kept; the last may be empty, so that a text can end in a hole.
        kept = _parts(len(tokens) - n_hidden + 1, n_spans + 1, generator)
        kept[-1] -= 1
        source, target, start = [], [], 0
        for n_kept, n_lost in zip(kept, hidden, strict=False):
            middle, end = start + n_kept, start + n_kept + n_lost
            source += [*tokens[start:middle], MASK]
            target += [MASK, *tokens[middle:end]]
            start = end
        return source + tokens[start:], target


def fill_spans(source: Sequence[int], target: Sequence[int]) -> list[int]:
    """Put the spans of ``target`` back into the holes of ``source``; both without BOS and EOS.

    Raises:
        ValueError: if ``target`` does not begin with MASK or has another number of spans than ``source`` has holes.
    """
    spans: list[list[int]] = []
    for token in target:
        if token == MASK:
            spans.append([])
        elif spans:
            spans[-1].append(token)
        else:
            raise ValueError(f"target must begin with MASK ({MASK}), got {list(target)[:10]}")
    holes = sum(token == MASK for token in source)
    if holes != len(spans):
        raise ValueError(f"source has {holes} holes, target {len(spans)} spans")
    fillings = iter(spans)
    return [token for piece in source for token in (next(fillings) if piece == MASK else [piece])]


def _parts(total: int, n: int, generator: torch.Generator | None) -> list[int]:
    """``total`` cut at random into ``n`` parts of at least 1: every way is as likely as every other."""
    cuts = (torch.randperm(total - 1, device="cpu", generator=generator)[: n - 1] + 1).sort().values.tolist()
    return [end - start for start, end in zip([0, *cuts], [*cuts, total], strict=True)]


def _check_share(share: float) -> None:
    if not 0 < share < 1:
        raise ValueError(f"share must be above 0 and below 1, got {share}")


def _generator(seed: int | None, sequences: Sequence[Tokens]) -> torch.Generator | None:
    """None, which is PyTorch's own generator, or one that depends on the seed and on the tokens."""
    if seed is None:
        return None
    # 32 bits are all that PyTorch's generator of the CPU takes of a seed, so the seed is part of the checksum.
    plain = [[int(token) for token in tokens] for tokens in sequences]
    return torch.Generator().manual_seed(zlib.crc32(repr([seed, *plain]).encode()))
