"""Training speed of our Seq2Seq beside torch.nn.Transformer and Hugging Face BART: ``python benchmarks/training.py``.

All have the same shape and see the same batches; optimiser, label smoothing and dropout are the same. They take turns
in random order within one run, so that a busy machine slows all alike; the figures are medians over the rounds, in
target tokens per second of *process CPU time*. The floor is the time of the matrix multiplications alone (forward and
backward), which no implementation can beat.
"""

import argparse
import math
import random
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BartConfig, BartForConditionalGeneration

from course_lib.batching import IGNORE, Batch, TokenBatches
from course_lib.models import ModelConfig, Seq2Seq
from course_lib.tokenizers import BOS, EOS, PAD
from course_lib.training import fused_linear_cross_entropy

VOCABULARY, D_MODEL, HEADS, LAYERS, D_FF, DROPOUT, SMOOTHING = 8000, 256, 8, 3, 512, 0.1, 0.1
CONFIG = ModelConfig(VOCABULARY, D_MODEL, HEADS, LAYERS, LAYERS, D_FF, DROPOUT)


def random_batches(random_order: bool, seed: int = 0) -> TokenBatches:
    """Sentences of random tokens with lengths like those of Multi30k; bucketed, or in random order."""
    rng = random.Random(seed)
    examples = []
    for _ in range(4000):
        length = max(4, round(rng.gauss(14, 5)))
        sides = (length, max(4, length + round(rng.gauss(0, 2))))
        examples.append(tuple([rng.randrange(5, VOCABULARY) for _ in range(n)] for n in sides))
    return TokenBatches(examples, max_tokens=512, seed=seed, **({"pool": 1} if random_order else {}))


class TorchModel(nn.Module):
    """torch.nn.Transformer (pre-norm) with tied embeddings and sinusoidal positions."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = Seq2Seq(CONFIG).embedding
        self.transformer = nn.Transformer(
            D_MODEL, HEADS, LAYERS, LAYERS, D_FF, DROPOUT, batch_first=True, norm_first=True
        )

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        def embed(tokens: Tensor) -> Tensor:
            positions = torch.arange(tokens.size(1)).expand_as(tokens)
            return self.embedding(tokens, positions, tokens.size(1))

        padding, causal = source == PAD, nn.Transformer.generate_square_subsequent_mask(target.size(1))
        hidden = self.transformer(
            embed(source),
            embed(target),
            tgt_mask=causal,
            tgt_is_causal=True,
            src_key_padding_mask=padding,
            memory_key_padding_mask=padding,
        )
        return F.linear(hidden, self.embedding.tokens.weight)


def bart() -> nn.Module:
    """Hugging Face BART of the same shape (its attention dropout is off by default)."""
    config = BartConfig(
        vocab_size=VOCABULARY, d_model=D_MODEL, encoder_layers=LAYERS, decoder_layers=LAYERS,
        encoder_attention_heads=HEADS, decoder_attention_heads=HEADS, encoder_ffn_dim=D_FF, decoder_ffn_dim=D_FF,
        dropout=DROPOUT, max_position_embeddings=256, pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS,
        decoder_start_token_id=BOS, forced_eos_token_id=EOS, use_cache=False,
    )  # fmt: skip
    return BartForConditionalGeneration(config)


def plain_loss(logits: Tensor, batch: Batch) -> Tensor:
    return F.cross_entropy(
        logits.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORE, label_smoothing=SMOOTHING
    )


def our_loss(model: Seq2Seq, batch: Batch) -> Tensor:
    total, count = fused_linear_cross_entropy(
        model.features(*batch.inputs), model.head.weight, model.head.bias, batch.targets, SMOOTHING
    )
    return total / count


def bart_loss(model: nn.Module, batch: Batch) -> Tensor:
    source, target = batch.inputs
    output = model(input_ids=source, attention_mask=(source != PAD).long(), decoder_input_ids=target)
    return plain_loss(output.logits, batch)


def trainer(model: nn.Module, loss: Callable[[Batch], Tensor]) -> Callable[[Batch], None]:
    """One training step of a model."""
    parameters = list(model.parameters())
    optimiser = torch.optim.AdamW(parameters, lr=1e-4, fused=True)
    model.train()

    def step(batch: Batch) -> None:
        loss(batch).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0, foreach=True)
        optimiser.step()
        optimiser.zero_grad()

    return step


NUMBERS = torch.rand(20_000_000)


def matrix(*shape: int) -> Tensor:
    """Numbers that lie ready: making them must not count."""
    return NUMBERS[: math.prod(shape)].view(shape)


def floor(batch: Batch) -> None:
    """The matrix multiplications of one training step, and nothing else."""
    source, target = batch.inputs
    d, f, v = D_MODEL, D_FF, VOCABULARY
    s, t = source.numel(), target.numel()
    encoder = [(s, d, 3 * d), (s, d, d), (s, d, f), (s, f, d)]
    decoder = [(t, d, 3 * d), (t, d, d), (t, d, d), (s, d, 2 * d), (t, d, d), (t, d, f), (t, f, d)]
    for rows, inner, outer in LAYERS * (encoder + decoder) + [(batch.n_targets, d, v)]:
        x, weight, gradient = matrix(rows, inner), matrix(outer, inner), matrix(rows, outer)
        x @ weight.T
        gradient @ weight
        gradient.T @ x
    for queries, keys in LAYERS * [(source, source), (target, target), (target, source)]:
        # Attention products: Q Kᵀ and A V, and the four products of their gradients.
        heads = len(queries) * HEADS
        q, k = (matrix(heads, tokens.size(1), d // HEADS) for tokens in (queries, keys))
        a = matrix(heads, queries.size(1), keys.size(1))
        for _ in range(2):
            q @ k.transpose(1, 2)
            a @ k
            a.transpose(1, 2) @ q


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batches", type=int, default=4, help="training steps of each contestant in a round")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    ours, theirs, hugging_face = Seq2Seq(CONFIG), TorchModel(), bart()
    steps = {
        "matrix multiplications alone": floor,
        "course_lib Seq2Seq": trainer(ours, lambda batch: our_loss(ours, batch)),
        "torch.nn.Transformer, pre-norm": trainer(theirs, lambda batch: plain_loss(theirs(*batch.inputs), batch)),
        "Hugging Face BART": trainer(hugging_face, lambda batch: bart_loss(hugging_face, batch)),
    }
    batches = random_batches(random_order=False)
    speeds: dict[str, list[float]] = {name: [] for name in steps}
    rng = random.Random(0)
    for round_number in range(arguments.rounds + 1):
        work = [batches.next_batch() for _ in range(arguments.batches)]
        for name in rng.sample(list(steps), len(steps)):
            start = time.process_time()
            for batch in work:
                steps[name](batch)
            seconds = time.process_time() - start
            if round_number:  # the first round warms up
                speeds[name].append(sum(batch.n_targets for batch in work) / seconds)
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    mine, best = medians["course_lib Seq2Seq"], medians["matrix multiplications alone"]
    print(f"d_model {D_MODEL}, {LAYERS}+{LAYERS} layers, {VOCABULARY} tokens; {arguments.threads} thread(s)")
    for name, speed in medians.items():
        ratios = [a / b for a, b in zip(speeds["course_lib Seq2Seq"], speeds[name], strict=True)]
        spread = statistics.stdev(ratios) / math.sqrt(len(ratios))
        print(
            f"{name:32} {speed:7.0f} target tokens per CPU second   {speed / best:4.0%} of the floor   "
            f"ours is {mine / speed:.2f}× (± {spread:.2f})"
        )


if __name__ == "__main__":
    main()
