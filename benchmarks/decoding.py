"""Decoding speed of our searches beside Hugging Face Marian's ``generate``: ``python -m benchmarks.decoding``.

Both have the same shape and the same random weights, and translate the same sentences of the micro-world. Such a model
does not know when to stop, so each output is made to end where the sentence's translation in the corpus ends: all take
the same steps, and the lengths are those of real pairs. The contestants take turns in random order within one run, so
that a busy machine slows all alike; the figures are sentences per second of *process CPU time*, and ratios are taken
within each round.

Ours run with their defaults. Hugging Face gets the sources sorted by length and the fastest of several batch sizes;
its ``early_stopping=True`` is our rule: a beam search ends when as many hypotheses have finished as there are beams.
The loop without cache runs the whole model over all that is written so far for each new token of one sentence; it does
so for every twentieth source in the order of their lengths.

All must write the same: ours and Hugging Face every sentence, the searches without cache those of the loop. Where two
outputs differ they must be equally probable but for rounding; such near-ties are counted.
"""

import argparse
import copy
import random
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LogitsProcessor, MarianMTModel

from course_lib.batching import pad_sequences
from course_lib.datasets import load
from course_lib.decoding import State, Writer, beam_search, greedy
from course_lib.models import Seq2Seq
from course_lib.tokenizers import BOS, EOS, MASK, PAD, WordTokenizer
from tests.marian import random_marian, seq2seq_from_marian

BEAMS = 4
SHAPE: dict[str, Any] = {
    "vocab_size": 8000,
    "d_model": 256,
    "encoder_layers": 3,
    "decoder_layers": 3,
    "encoder_attention_heads": 8,
    "decoder_attention_heads": 8,
    "encoder_ffn_dim": 512,
    "decoder_ffn_dim": 512,
    "activation_function": "relu",
    "max_position_embeddings": 128,
}
BATCH_SIZES = (64, 128, 256)  # tried for Hugging Face
STRIDE = 20  # of the sample that is decoded without a cache
ROUNDING = 1e-3  # nats: more than float32 loses in a sum of log-probabilities, far less than a wrong token costs

Outputs = list[list[int]]


class Sentences:
    """Encoded sources, and how many tokens the translation of each has."""

    def __init__(self, n: int) -> None:
        pairs = load("microworld/parallel").pairs("train", "en", "zh")
        tokenizer = WordTokenizer.train(text for pair in pairs for text in pair)
        lengths = {tuple(tokenizer.encode(source)): len(tokenizer.encode(target)) for source, target in pairs[:n]}
        self._lengths = lengths
        self.sources = sorted(map(list, lengths), key=len)

    def lengths(self, sources: Sequence[Sequence[int]]) -> Tensor:
        return torch.tensor([self._lengths[tuple(source)] for source in sources])


def end(logits: Tensor, ended: Tensor) -> Tensor:
    """Where a row has ended, EOS is certain."""
    rows = ended.nonzero().squeeze(1)
    logits[rows] = -torch.inf
    logits[rows, EOS] = 0.0
    return logits


class EndingState:
    def __init__(self, state: State, left: Tensor) -> None:
        self.state, self.left, self.first = state, left, state.first

    def expand(self, width: int) -> None:
        self.state.expand(width)
        self.left = self.left.repeat_interleave(width)

    def select(self, rows: Tensor) -> None:
        self.state.select(rows)
        self.left = self.left[rows]


class Ending(nn.Module):
    """A model of ours whose outputs end when they are as long as they should be."""

    def __init__(self, model: Writer, sentences: Sentences) -> None:
        super().__init__()
        self.model, self.sentences = model, sentences

    def start(self, inputs: Sequence[Sequence[int]]) -> EndingState:
        return EndingState(self.model.start(inputs), self.sentences.lengths(inputs))

    def step(self, tokens: Tensor, state: EndingState) -> Tensor:
        logits = end(self.model.step(tokens, state.state), state.left == 0)
        state.left = state.left - 1
        return logits


class UncachedState:
    def __init__(self, source: Tensor) -> None:
        self.source, self.written = source, source[:, :0]
        self.first = torch.full((len(source),), BOS)

    def expand(self, width: int) -> None:
        self.select(torch.arange(len(self.source)).repeat_interleave(width))

    def select(self, rows: Tensor) -> None:
        self.source, self.written = self.source[rows], self.written[rows]


class Uncached(nn.Module):
    """The textbook's way: the whole model runs over all that is written, for each new token."""

    def __init__(self, model: Seq2Seq) -> None:
        super().__init__()
        self.model = model

    def start(self, inputs: Sequence[Sequence[int]]) -> UncachedState:
        return UncachedState(pad_sequences([[*tokens, EOS] for tokens in inputs]))

    def step(self, tokens: Tensor, state: UncachedState) -> Tensor:
        state.written = torch.cat([state.written, tokens[:, None]], dim=1)
        return self.model(state.source, state.written)[:, -1]


class EndingProcessor(LogitsProcessor):
    """The same for Hugging Face."""

    def __init__(self, lengths: Tensor, beams: int) -> None:
        self.lengths = lengths.repeat_interleave(beams)

    def __call__(self, written: Tensor, scores: Tensor) -> Tensor:
        return end(scores, self.lengths == written.size(1) - 1)  # BOS is written too


def generate(marian: MarianMTModel, sentences: Sentences, beams: int, batch_size: int) -> Outputs:
    """Hugging Face's search, in batches of sources of similar length."""
    outputs: Outputs = []
    for start in range(0, len(sentences.sources), batch_size):
        batch = sentences.sources[start : start + batch_size]
        source = pad_sequences([[*tokens, EOS] for tokens in batch])
        with torch.inference_mode():
            generated = marian.generate(
                input_ids=source,
                attention_mask=(source != PAD).long(),
                num_beams=beams,
                do_sample=False,
                early_stopping=beams > 1,
                length_penalty=1.0,
                max_new_tokens=100,
                logits_processor=[EndingProcessor(sentences.lengths(batch), beams)],
            )
        outputs += [[token for token in row if token not in (PAD, BOS, EOS)] for row in generated.tolist()]
    return outputs


def best(model: Writer, sources: Outputs) -> Outputs:
    """The first hypotheses of our beam search."""
    return [hypotheses[0].tokens for hypotheses in beam_search(model, sources, BEAMS)]


def near_ties(model: Seq2Seq, sources: Outputs, ours: Outputs, others: Outputs, beams: int) -> int:
    """How many outputs differ.

    Raises:
        AssertionError: if two differ by more than rounding. Two outputs of a greedy search are compared up to the first
            token that differs, those of a beam search as a whole.
    """
    n = 0
    for source, *outputs in zip(sources, ours, others, strict=True):
        if outputs[0] == outputs[1]:
            continue
        n += 1
        written = torch.tensor(outputs)  # both are as long as they were made to be
        target = torch.cat([torch.full((2, 1), BOS), written[:, :-1]], dim=1)
        log_probs = model(torch.tensor([[*source, EOS]] * 2), target).log_softmax(dim=-1)
        log_probs = log_probs.gather(2, written[:, :, None]).squeeze(2)
        if beams == 1:
            log_probs = log_probs[:, : int((written[0] != written[1]).nonzero()[0]) + 1]
        first, second = log_probs.sum(dim=1).tolist()
        if abs(first - second) > ROUNDING:
            raise AssertionError(f"outputs differ: {outputs}, of log-probability {first} and {second}")
    return n


def cpu_seconds(work: Callable[[], Outputs]) -> tuple[float, Outputs]:
    start = time.process_time()
    outputs = work()
    return time.process_time() - start, outputs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    sentences = Sentences(arguments.sentences)
    sources = sentences.sources
    sample = sources[STRIDE // 2 :: STRIDE]
    marian = random_marian(**SHAPE)
    marian.final_logits_bias[0, [PAD, BOS, MASK, EOS]] = -1e9  # never written, and EOS only where it is due
    model = seq2seq_from_marian(marian)
    cached, uncached = Ending(model, sentences), Ending(Uncached(model), sentences)

    # A first pass warms up, finds the fastest batches for Hugging Face, and compares what is written.
    precise = copy.deepcopy(model).double()
    sizes = {}
    for beams, search in ((1, greedy), (BEAMS, best)):
        outputs = search(cached, sources)
        assert [len(output) for output in outputs] == sentences.lengths(sources).tolist()
        ties = near_ties(precise, sample, outputs[STRIDE // 2 :: STRIDE], search(uncached, sample), beams)
        seconds = {}
        for size in BATCH_SIZES:
            seconds[size], theirs = cpu_seconds(partial(generate, marian, sentences, beams, size))
            ties += near_ties(precise, sources, outputs, theirs, beams)
        sizes[beams] = min(BATCH_SIZES, key=lambda size: seconds[size])
        print(f"{beams} beam(s): all outputs are equal, but for {ties} near-ties", flush=True)

    ours, hugging_face, loop = "course_lib greedy", "Hugging Face greedy", "loop without cache, one sentence at a time"
    our_beam, hugging_face_beam = f"course_lib beam {BEAMS}", f"Hugging Face beam {BEAMS}"
    contestants: dict[str, tuple[int, Callable[[], Outputs]]] = {
        ours: (len(sources), lambda: greedy(cached, sources)),
        hugging_face: (len(sources), lambda: generate(marian, sentences, 1, sizes[1])),
        loop: (len(sample), lambda: greedy(uncached, sample, batch_tokens=1)),
        our_beam: (len(sources), lambda: best(cached, sources)),
        hugging_face_beam: (len(sources), lambda: generate(marian, sentences, BEAMS, sizes[BEAMS])),
    }
    speeds: dict[str, list[float]] = {name: [] for name in contestants}
    rng = random.Random(0)
    for _ in range(arguments.rounds):
        for name in rng.sample(list(contestants), len(contestants)):
            n, work = contestants[name]
            speeds[name].append(n / cpu_seconds(work)[0])

    print(f"{len(sources)} sentences, medians of {arguments.rounds} rounds, {arguments.threads} thread(s)")
    print(f"batches of {sizes[1]} (greedy) and {sizes[BEAMS]} (beam) for Hugging Face")
    for name, values in speeds.items():
        print(f"{name:44}{statistics.median(values):8.1f} sentences per CPU second")
    print("ratio of speeds, median (lowest to highest of the rounds)")
    for name, peer in ((ours, hugging_face), (our_beam, hugging_face_beam), (ours, loop)):
        ratios = [a / b for a, b in zip(speeds[name], speeds[peer], strict=True)]
        print(
            f"{name} / {peer}".ljust(64) + f"{statistics.median(ratios):6.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
