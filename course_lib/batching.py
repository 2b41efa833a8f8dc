"""From lists of token ids to padded tensors: padding, and batches of similar length under a token budget.

Everything runs in the calling process: making a batch takes a quarter of a millisecond, so that worker
processes would only add a way to hang.
"""

import random
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from course_lib.tokenizers import BOS, EOS, PAD

IGNORE = -100  # a target with this id takes no part in the loss; the value that torch's own losses use

Tokens = Sequence[int]
Example = Tokens | tuple[Tokens, ...]


@dataclass(frozen=True)
class Batch:
    """What one training step reads.

    Attributes:
        inputs: what ``model.features`` takes, each ``(batch, its length)``, padded with PAD.
        targets: ``(batch, length)``: at each position the token to predict, or IGNORE.
        n_targets: how many targets are not IGNORE; the loss per token is the sum divided by this.
    """

    inputs: tuple[Tensor, ...]
    targets: Tensor
    n_targets: int

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on ``device``."""
        return Batch(tuple(x.to(device) for x in self.inputs), self.targets.to(device), self.n_targets)


def pad_sequences(sequences: Sequence[Tokens], side: Literal["left", "right"] = "right", pad_id: int = PAD) -> Tensor:
    """Token ids of unequal length as one tensor ``(batch, longest)``, padded on ``side`` with ``pad_id``.

    Raises:
        ValueError: if there is no sequence, or ``side`` is neither "left" nor "right".
    """
    if not sequences:
        raise ValueError("sequences is empty: a batch needs at least one")
    lengths = np.fromiter(map(len, sequences), dtype=np.int64, count=len(sequences))
    longest = int(lengths.max())
    if side == "right":
        real = np.arange(longest) < lengths[:, None]
    elif side == "left":
        real = np.arange(longest) >= longest - lengths[:, None]
    else:
        raise ValueError(f'side must be "left" or "right", got {side!r}')
    ids = np.full(real.shape, pad_id, dtype=np.int64)
    # A boolean index is filled row by row: in the order of the chained sequences.
    ids[real] = np.fromiter(chain.from_iterable(sequences), dtype=np.int64, count=int(lengths.sum()))
    return torch.from_numpy(ids)


def seq2seq_batch(pairs: Sequence[tuple[Tokens, Tokens]]) -> Batch:
    """A batch for an encoder–decoder.

    The encoder reads ``source EOS``; the decoder reads ``BOS target`` and must predict ``target EOS``: at
    every position the token after the one it reads. EOS is a target like any other: a model that never had to
    predict it would never stop.
    """
    return Batch(
        inputs=(
            pad_sequences([[*source, EOS] for source, _ in pairs]),
            pad_sequences([[BOS, *target] for _, target in pairs]),
        ),
        targets=pad_sequences([[*target, EOS] for _, target in pairs], pad_id=IGNORE),
        n_targets=sum(len(target) + 1 for _, target in pairs),
    )


def causal_batch(sequences: Sequence[Tokens]) -> Batch:
    """A batch for a language model, which reads ``BOS x`` and must predict ``x EOS``."""
    return Batch(
        inputs=(pad_sequences([[BOS, *tokens] for tokens in sequences]),),
        targets=pad_sequences([[*tokens, EOS] for tokens in sequences], pad_id=IGNORE),
        n_targets=sum(len(tokens) + 1 for tokens in sequences),
    )


class TokenBatches:
    """Batches of similar length, as many sentences in each as a token budget allows.

    Each epoch shuffles the examples, sorts them by length within pools of ``pool`` examples, cuts them into
    batches and shuffles the batches. Sentences of one length meet in a new combination each time, and hardly
    any position is padding. With ``pool=1`` nothing is sorted: random batches, for comparison.

    ``for batch in batches`` is one pass over the current epoch, the same pass each time (for evaluation).
    ``next_batch()`` walks through epoch after epoch without end (for training). The order is a pure function
    of ``(seed, epoch)``; ``state_dict`` and ``load_state_dict`` restore the position exactly.

    Args:
        examples: pairs of token ids (for :func:`seq2seq_batch`) or single sequences (for
            :func:`causal_batch`), without BOS and EOS. None may be empty.
        max_tokens: the number of sentences in a batch times its longest sentence, on the longer side, is at
            most this. Counts what is computed: padding, BOS and EOS too. 256 to 512 trains best at the scale
            of this course.
        max_length: longest sentence the model can take, with its BOS or EOS; None if it has no limit.
        seed: of the shuffling.
        pool: examples sorted together.
        collate: makes the batch from a list of examples.

    Raises:
        ValueError: if there is no example, one has an empty sentence, or one is longer than ``max_length`` or
            ``max_tokens``. Nothing is dropped silently.
        TypeError: if an example is text.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        max_tokens: int,
        max_length: int | None = None,
        seed: int = 0,
        pool: int = 20_000,
        collate: Callable[[Any], Batch] | None = None,
    ) -> None:
        if not examples:
            raise ValueError("examples is empty: there is nothing to make batches of")
        if pool < 1:
            raise ValueError(f"pool must be at least 1 example, got {pool}")
        self.examples = examples
        self.max_tokens = max_tokens
        self.seed = seed
        self.pool = pool
        self.epoch = 0
        self.index = 0  # of the batch that next_batch will return, within the epoch
        self._collate: Callable[[Any], Batch] = collate or (
            seq2seq_batch if isinstance(examples[0], tuple) else causal_batch
        )
        self._lengths = _checked_lengths(examples, max_tokens, max_length)
        self._plan = self.plan(0)

    def plan(self, epoch: int) -> list[list[int]]:
        """The batches of an epoch, as indices into ``examples``."""
        generator = random.Random(f"{self.seed}, epoch {epoch}")
        order = list(range(len(self.examples)))
        generator.shuffle(order)
        # Longest last in one pool, longest first in the next: no batch holds the ends of two unlike pools.
        for pool, start in enumerate(range(0, len(order), self.pool)):
            part = order[start : start + self.pool]
            order[start : start + self.pool] = sorted(part, key=self._sort_key, reverse=pool % 2 == 1)
        batches = self._cut(order)
        generator.shuffle(batches)
        return batches

    def _sort_key(self, example: int) -> tuple[int, int]:
        # By target length, then by source length, which goes up and down in turn so as not to jump back where
        # the target grows by one. The sort is stable: examples of equal lengths stay shuffled.
        source, target = self._lengths[example][0], self._lengths[example][-1]
        return target, source if target % 2 else -source

    def _cut(self, order: list[int]) -> list[list[int]]:
        batches: list[list[int]] = []
        longest = 0
        for example in order:
            longest = max(longest, *self._lengths[example])
            if batches and (len(batches[-1]) + 1) * longest <= self.max_tokens:
                batches[-1].append(example)
            else:
                batches.append([example])
                longest = max(self._lengths[example])
        return batches

    def _batch(self, indices: list[int]) -> Batch:
        batch = self._collate([self.examples[i] for i in indices])
        if batch.n_targets == 0:
            raise ValueError(
                f"the batch of examples {indices} has no valid target: all are IGNORE ({IGNORE}), so there is "
                "nothing to learn from it; remove these examples or change the collate function"
            )
        return batch

    def __len__(self) -> int:
        """Number of batches in the current epoch; it differs a little from epoch to epoch."""
        return len(self._plan)

    def __iter__(self) -> Iterator[Batch]:
        """One pass over the current epoch, from its first batch; the position of ``next_batch`` stays."""
        return map(self._batch, self._plan)

    def next_batch(self) -> Batch:
        """The next batch of an endless walk through the epochs."""
        batch = self._batch(self._plan[self.index])
        self.index += 1
        if self.index == len(self._plan):
            self.epoch, self.index = self.epoch + 1, 0
            self._plan = self.plan(self.epoch)
        return batch

    def fill(self) -> tuple[float, ...]:
        """Share of the epoch's positions that hold a token and not padding, for each side (source, target)."""
        lengths = np.array(self._lengths)  # (example, side)
        padded = sum(len(batch) * lengths[batch].max(axis=0) for batch in self._plan)
        return tuple((lengths.sum(axis=0) / padded).tolist())

    def state_dict(self) -> dict[str, int]:
        """The position, and what it depends on."""
        return {"epoch": self.epoch, "index": self.index, **self.identity}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go to a position.

        Raises:
            ValueError: if it was saved for other examples or settings: the batches would be others.
        """
        identity = self.identity
        differing = [f"{k} ({state.get(k)}, now {now})" for k, now in identity.items() if state.get(k) != now]
        if differing:
            raise ValueError(f"this position was saved for batches that differ in {', '.join(differing)}")
        self.epoch, self.index = state["epoch"], state["index"]
        self._plan = self.plan(self.epoch)

    @cached_property
    def identity(self) -> dict[str, int]:
        """What decides the batches: the settings, and a checksum of the examples."""
        checksum = 0
        for example in self.examples:
            for tokens in _sides(example):
                checksum = zlib.crc32(np.array([len(tokens), *tokens], dtype=np.int64).tobytes(), checksum)
        return {
            "seed": self.seed,
            "max_tokens": self.max_tokens,
            "pool": self.pool,
            "examples": len(self.examples),
            "checksum of the examples": checksum,
        }


def _sides(example: Example) -> tuple[Tokens, ...]:
    return example if isinstance(example, tuple) else (example,)


def _checked_lengths(examples: Sequence[Example], max_tokens: int, max_length: int | None) -> list[tuple[int, ...]]:
    """Length of each side of each example, with its BOS or EOS."""
    lengths = []
    for index, example in enumerate(examples):
        sides = _sides(example)
        names = ("source", "target") if len(sides) == 2 else tuple(f"part {i}" for i in range(len(sides)))
        for name, tokens in zip(names, sides, strict=True):
            where = f"example {index}" if len(sides) == 1 else f"example {index}, {name}"
            if not hasattr(tokens, "__len__"):
                raise TypeError(f"{where}: expected a list of token ids, got {tokens!r}; a tuple holds lists, not ids")
            length = len(tokens) + 1
            if isinstance(tokens, str):
                raise TypeError(f"{where}: expected token ids, got the text {tokens[:40]!r}; encode it first")
            if length == 1:
                raise ValueError(f"{where}: empty sentence; remove the example")
            if not hasattr(tokens[0], "__index__"):
                raise TypeError(f"{where}: expected token ids, got {type(tokens[0]).__name__}; a pair must be a tuple")
            if max_length is not None and length > max_length:
                raise ValueError(
                    f"{where}: {length} tokens with BOS or EOS, max_length is {max_length}; remove the example "
                    "or raise max_length (of the model, too)"
                )
            if length > max_tokens:
                raise ValueError(
                    f"{where}: {length} tokens with BOS or EOS, more than a whole batch may hold (max_tokens "
                    f"is {max_tokens}); remove the example or raise max_tokens"
                )
        lengths.append(tuple(len(tokens) + 1 for tokens in sides))
    return lengths
