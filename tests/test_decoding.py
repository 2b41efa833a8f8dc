"""Decoding against exhaustive search, hand-made tables, and searches without a cache that treat one input at a time."""

import itertools
import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from course_lib.decoding import (
    Hypothesis,
    _close_up,
    _largest,
    beam_search,
    greedy,
    sample,
    sampling_probabilities,
    stream,
    translate,
)
from course_lib.models import CausalLM, Generator, ModelConfig, Seq2Seq, evaluating
from course_lib.tokenizers import BOS, EOS, MASK, PAD, UNK, BPETokenizer, CharacterTokenizer, WordTokenizer

A, B, C = 5, 6, 7  # the first ids after the special tokens
Prefix = tuple[int, ...]


class TableState:
    """One prefix per row: the input and what has been written."""

    def __init__(self, prefixes: list[Prefix]) -> None:
        self.prefixes = prefixes
        self.first = torch.full((len(prefixes),), BOS)

    def expand(self, width: int) -> None:
        self.prefixes = [prefix for prefix in self.prefixes for _ in range(width)]

    def select(self, rows: Tensor) -> None:
        self.prefixes = [self.prefixes[row] for row in rows.tolist()]


class Table:
    """A "model" whose probabilities are given by hand, as a function of (input, BOS, tokens written)."""

    def __init__(self, probabilities: Callable[[Prefix], dict[int, float]], vocab_size: int = 8) -> None:
        self.probabilities = probabilities
        self.vocab_size = vocab_size
        self.rows: list[int] = []  # how many rows each step computed

    def start(self, inputs: Sequence[Sequence[int]]) -> TableState:
        return TableState([tuple(tokens) for tokens in inputs])

    def step(self, tokens: Tensor, state: TableState) -> Tensor:
        state.prefixes = [(*prefix, t) for prefix, t in zip(state.prefixes, tokens.tolist(), strict=True)]
        self.rows.append(len(state.prefixes))
        probabilities = torch.zeros(len(state.prefixes), self.vocab_size, dtype=torch.float64)
        for row, prefix in enumerate(state.prefixes):
            for token, probability in self.probabilities(prefix).items():
                probabilities[row, token] = probability
        return probabilities.log()


def written(prefix: Prefix) -> Prefix:
    return prefix[prefix.index(BOS) + 1 :]


def echo(prefix: Prefix) -> dict[int, float]:
    """The output is the input."""
    source, output = prefix[: prefix.index(BOS)], written(prefix)
    return {source[len(output)] if len(output) < len(source) else EOS: 1.0}


def random_table(seed: int) -> Table:
    """Each prefix has its own random distribution over all tokens, the never written ones included."""

    def probabilities(prefix: Prefix) -> dict[int, float]:
        generator = torch.Generator().manual_seed(hash((seed, *prefix)) % 2**31)  # integers hash the same everywhere
        return dict(enumerate((2 * torch.randn(8, generator=generator, dtype=torch.float64)).softmax(0).tolist()))

    return Table(probabilities)


# ---- greedy search --------------------------------------------------------------------------------------------------


# fault 75: EOS ends an output, and only that one. Outputs that have ended are no longer computed.
def test_each_output_ends_at_its_own_eos_and_leaves_the_batch() -> None:
    def probabilities(prefix: Prefix) -> dict[int, float]:
        length = prefix[0] - A + 1  # input [A] → 1 token, [B] → 2, [C] → 3
        return {prefix[0]: 0.9, EOS: 0.1} if len(written(prefix)) < length else {EOS: 1.0}

    model = Table(probabilities)
    assert greedy(model, [[C], [A], [B], [A]]) == [[C, C, C], [A], [B, B], [A]]
    assert model.rows == [4, 4, 2, 1]


def test_max_length_cuts() -> None:
    endless = Table(lambda prefix: {A: 1.0})
    assert greedy(endless, [[B], [B, B]], max_length=3) == [[A] * 3, [A] * 3]
    assert len(endless.rows) == 3
    assert [len(tokens) for tokens in greedy(endless, [[B] * 3, [], [B] * 20])] == [16, 10, 50]  # 2 n + 10


@pytest.mark.parametrize("n", [5, 64, 383, 384, 400, 1000])
def test_the_largest_by_blocks_are_those_of_topk(n: int) -> None:
    x = torch.randn(50, n, generator=torch.Generator().manual_seed(n))
    x[0], x[1], x[2] = -torch.inf, x[1].sort().values, x[2].sort(descending=True).values
    x[0, n // 2] = 0.0  # a row at its limit: one token is left
    values, indices = _largest(x, 5)
    torch.testing.assert_close(values, x.topk(5).values, rtol=0, atol=0)
    torch.testing.assert_close(x.gather(1, indices), values, rtol=0, atol=0)
    assert all(len(set(row)) == 5 for row in indices.tolist())


@pytest.mark.parametrize("batch_tokens", [1, 40, 8192])
def test_order_of_the_inputs_is_kept(batch_tokens: int) -> None:
    model = Table(echo)
    inputs = [[A, B], [C], [A, B, C, C, B], [], [B], [A, A, A], [C]]
    assert greedy(model, inputs, batch_tokens=batch_tokens) == inputs
    found = beam_search(model, inputs, beam_size=2, batch_tokens=batch_tokens)
    assert [hypotheses[0].tokens for hypotheses in found] == inputs
    generator = torch.Generator().manual_seed(0)
    assert sample(model, inputs, generator, batch_tokens=batch_tokens) == inputs


def test_padding_start_and_mask_are_never_written() -> None:
    model = Table(lambda prefix: {PAD: 0.3, BOS: 0.3, MASK: 0.3, UNK: 0.05, A: 0.03, EOS: 0.02})
    assert greedy(model, [[B]], max_length=2) == [[UNK, UNK]]
    (found,) = beam_search(model, [[B]], beam_size=7, length_penalty=0.0, max_length=2)
    # All there are, in the order of their probabilities 0.02, 0.05 · 0.02, 0.03 · 0.02, …
    assert [h.tokens for h in found] == [[], [UNK], [A], [UNK, UNK], [UNK, A], [A, UNK], [A, A]]
    assert math.exp(found[1].log_prob) == pytest.approx(0.05 * 0.02)  # probabilities are the model's, not rescaled
    drawn = sample(model, [[B]] * 50, torch.Generator().manual_seed(0), max_length=3)
    assert {token for tokens in drawn for token in tokens} == {UNK, A}


def test_no_inputs_no_outputs() -> None:
    model = random_table(0)
    assert greedy(model, []) == beam_search(model, []) == sample(model, [], torch.Generator()) == []


# ---- beam search ----------------------------------------------------------------------------------------------------


def exhaustive(model: Table, source: Sequence[int], max_length: int, length_penalty: float) -> list[Hypothesis]:
    """Every output of at most ``max_length`` tokens with its log-probability, best first."""
    outputs = []
    for length in range(max_length + 1):
        for tokens in itertools.product((UNK, A, B, C), repeat=length):
            log_prob = 0.0
            for position, token in enumerate((*tokens, EOS)):
                log_prob += math.log(model.probabilities((*source, BOS, *tokens[:position]))[token])
            outputs.append(Hypothesis(list(tokens), log_prob, log_prob / (length + 1) ** length_penalty))
    return sorted(outputs, key=lambda hypothesis: -hypothesis.score)


def assert_same(found: list[Hypothesis], expected: list[Hypothesis]) -> None:
    assert [hypothesis.tokens for hypothesis in found] == [hypothesis.tokens for hypothesis in expected]
    for name in ("log_prob", "score"):
        values = [[getattr(hypothesis, name) for hypothesis in hypotheses] for hypotheses in (found, expected)]
        assert values[0] == pytest.approx(values[1], abs=1e-10)


# A beam as wide as there are outputs (1 + 4 + 16 + 64 = 85) forgets none: it must rank all of them as enumeration does.
@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 1.0, 2.0])
def test_a_wide_beam_is_exhaustive(length_penalty: float) -> None:
    model = random_table(1)
    inputs = [[A], [B, C], []]
    found = beam_search(model, inputs, beam_size=85, length_penalty=length_penalty, max_length=3)
    for source, hypotheses in zip(inputs, found, strict=True):
        assert_same(hypotheses, exhaustive(model, source, 3, length_penalty))


# A narrow beam may miss the best output, but a wider one must do better on average, and none can beat the optimum.
def test_wider_beams_come_closer_to_the_best() -> None:
    model = random_table(2)
    inputs = [[A] * n for n in range(30)]
    optimum = [exhaustive(model, source, 3, 1.0)[0].score for source in inputs]
    means = []
    for beam_size in (1, 2, 4, 16):
        found = beam_search(model, inputs, beam_size, max_length=3)
        scores = [hypotheses[0].score for hypotheses in found]
        assert all(score <= best + 1e-10 for score, best in zip(scores, optimum, strict=True))
        means.append(sum(scores) / len(scores))
    assert means == sorted(means)
    assert means[0] < means[1] < means[2]


# fault 87: a search that stops when the best finished hypothesis beats the best unfinished one. After two steps "A" has
# finished: log(0.5 · 0.9) / 2 = −0.40. The beam "B C" stands at log(0.4) / 2 = −0.46, worse – but it goes on with
# certainty, and three steps are worth log(0.4) / 3 = −0.31.
def test_a_later_beam_wins() -> None:
    table: dict[Prefix, dict[int, float]] = {
        (): {A: 0.5, B: 0.4, EOS: 0.1},
        (A,): {EOS: 0.9, A: 0.1},
        (B,): {C: 1.0},
        (B, C): {EOS: 1.0},
    }
    model = Table(lambda prefix: table.get(written(prefix), {A: 1.0}))
    (found,) = beam_search(model, [[A]], beam_size=2, length_penalty=1.0)
    expected = [
        Hypothesis([B, C], math.log(0.4), math.log(0.4) / 3),
        Hypothesis([A], math.log(0.45), math.log(0.45) / 2),
    ]
    assert_same(found, expected)
    (unnormalised,) = beam_search(model, [[A]], beam_size=2, length_penalty=0.0)
    assert [hypothesis.tokens for hypothesis in unnormalised] == [[A], [B, C]]


# A search ends when beam_size hypotheses have finished: here after two steps, although more could be found.
def test_the_search_ends_when_enough_have_finished() -> None:
    model = Table(lambda prefix: {EOS: 0.4, A: 0.3, B: 0.2, C: 0.1})
    (found,) = beam_search(model, [[]], beam_size=2, length_penalty=0.0, max_length=10)
    assert_same(found, [Hypothesis([], math.log(0.4), math.log(0.4)), Hypothesis([A], math.log(0.12), math.log(0.12))])
    assert model.rows == [1, 2]  # one row while there is one beam


# At max_length the only continuation is EOS, at its own probability: no hypothesis is incomplete.
def test_max_length_forces_the_end() -> None:
    model = Table(lambda prefix: {A: 0.6, B: 0.3, EOS: 0.1})
    (found,) = beam_search(model, [[]], beam_size=2, length_penalty=0.0, max_length=2)
    # The beams are first A and B, then A A and a tie of A B and B A; "" and "A" were never among the two likeliest.
    assert found[0].tokens == [A, A]
    assert sorted(found[1].tokens) == [A, B]
    assert [math.exp(h.log_prob) for h in found] == pytest.approx([0.36 * 0.1, 0.18 * 0.1])


def test_a_larger_length_penalty_never_prefers_a_shorter_output() -> None:
    model = random_table(4)
    inputs = [[A] * n for n in range(10)]
    lengths = []
    for length_penalty in (-1.0, 0.0, 0.5, 1.0, 2.0):  # over all outputs, so that only the ranking changes
        found = beam_search(model, inputs, beam_size=85, length_penalty=length_penalty, max_length=3)
        lengths.append([len(hypotheses[0].tokens) for hypotheses in found])
    for shorter, longer in itertools.pairwise(lengths):
        assert all(a <= b for a, b in zip(shorter, longer, strict=True))
    assert sum(lengths[0]) < sum(lengths[-1])


def test_an_input_whose_outputs_are_all_impossible_is_named() -> None:
    broken = Table(lambda prefix: {A: math.nan} if prefix[0] == B else {EOS: 1.0})
    with pytest.raises(ValueError, match=r"inputs\[1\].*finite"):
        beam_search(broken, [[A], [B], [A]], beam_size=2)


# ---- sampling -------------------------------------------------------------------------------------------------------


# fault 89: temperature 0 must not divide by zero; it is the limit, the most probable token. So are the others here.
@pytest.mark.parametrize(
    "options",
    [{"temperature": 0.0}, {"temperature": 1e-320}, {"top_k": 1}, {"top_p": 1e-9}, {"temperature": 0.0, "top_k": 3}],
)
def test_limits_of_sampling_are_greedy(options: dict[str, Any]) -> None:
    model = random_table(5)
    inputs = [[A] * n for n in range(20)]
    expected = greedy(model, inputs, max_length=7)
    assert sample(model, inputs, torch.Generator().manual_seed(0), max_length=7, **options) == expected
    assert sample(model, inputs, torch.Generator().manual_seed(0), max_length=7) != expected


def distribution(*probabilities: float, **options: Any) -> list[float]:
    # in float32 as from a model, the most probable neither first nor last
    logits = torch.tensor([probabilities]).log()
    return sampling_probabilities(logits, **options)[0].tolist()


def test_sampling_probabilities_by_hand() -> None:
    p = (0.3, 0.6, 0.1)
    approx = lambda values: pytest.approx(values, abs=1e-6)  # noqa: E731
    assert distribution(*p) == approx([0.3, 0.6, 0.1])
    assert distribution(*p, temperature=0.5) == approx([0.09 / 0.46, 0.36 / 0.46, 0.01 / 0.46])  # squared
    assert distribution(*p, temperature=1e9) == approx([1 / 3] * 3)
    assert distribution(*p, temperature=0) == [0, 1, 0]
    assert distribution(*p, top_k=2) == approx([1 / 3, 2 / 3, 0])
    assert distribution(*p, top_k=99) == approx([0.3, 0.6, 0.1])
    # The smallest set that has at least top_p: at the boundary the next token is not needed any more …
    assert distribution(*p, top_p=0.6) == approx([0, 1, 0])
    assert distribution(*p, top_p=0.9) == approx([1 / 3, 2 / 3, 0])
    assert distribution(0.25, 0.5, 0.25, top_p=0.75) == approx([1 / 3, 2 / 3, 0])
    # … just above it, it is.
    assert distribution(*p, top_p=0.61) == approx([1 / 3, 2 / 3, 0])
    assert distribution(*p, top_p=0.91) == approx([0.3, 0.6, 0.1])
    assert distribution(*p, top_p=0.01) == approx([0, 1, 0])  # at least one
    # First top_k, then top_p of what is left: 0.6 of 0.9 is not yet 0.67 … but 0.66 it is.
    assert distribution(*p, top_k=2, top_p=0.66) == approx([0, 1, 0])
    assert distribution(*p, top_k=2, top_p=0.67) == approx([1 / 3, 2 / 3, 0])
    assert distribution(0.0, 1.0, 0.0, top_p=0.5) == [0, 1, 0]


# Drawn frequencies agree with the softmax: Pearson's χ² over 5 tokens has 4 degrees of freedom, and exceeds 18.47 with
# probability 0.001. The seed is fixed, so that the test passes or fails for good.
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_follow_the_distribution(temperature: float) -> None:
    probabilities = {EOS: 0.1, UNK: 0.05, A: 0.4, B: 0.25, C: 0.2}
    n = 20_000
    model = Table(lambda prefix: probabilities)
    drawn = sample(model, [[]] * n, torch.Generator().manual_seed(7), temperature=temperature, max_length=1)
    weights = {token: p ** (1 / temperature) for token, p in probabilities.items()}
    chi_square = 0.0
    for token, weight in weights.items():
        expected = n * weight / sum(weights.values())
        observed = sum(tokens == ([] if token == EOS else [token]) for tokens in drawn)
        chi_square += (observed - expected) ** 2 / expected
    assert chi_square < 18.47


# fault 18: random numbers of CPU and GPU differ, so all come from the CPU, before the model runs. The outputs are a
# function of the seed alone: not of the batches, nor of torch's global generator, which is left alone.
def test_sampling_depends_on_the_seed_alone() -> None:
    model = random_table(6)
    inputs = [[A] * (n % 7) for n in range(20)]
    state = torch.get_rng_state()

    def draw(seed: int, **options: Any) -> list[list[int]]:
        return sample(model, inputs, torch.Generator().manual_seed(seed), **options)

    assert draw(1) == draw(1, batch_tokens=1) == draw(1, batch_tokens=50)
    assert draw(1) != draw(2)
    # A larger max_length continues the same outputs.
    assert [tokens[:3] for tokens in draw(1, max_length=9)] == draw(1, max_length=3)
    # Equal inputs are independent draws.
    drawn = sample(model, [[A]] * 9, torch.Generator().manual_seed(0), temperature=5, max_length=5)
    assert len({tuple(tokens) for tokens in drawn}) > 5
    assert torch.equal(torch.get_rng_state(), state)
    on_gpu: Any = SimpleNamespace(device=torch.device("cuda"))
    with pytest.raises(ValueError, match="generator must be one of the CPU, got one of cuda"):
        sample(model, inputs, on_gpu)


# ---- models: cached and batched equals uncached and one by one ------------------------------------------------------

VOCABULARY = 23
KINDS: list[type[Generator]] = [Seq2Seq, CausalLM]
SCHEMES = ["sinusoidal", "learned", "rotary", "alibi"]
# Inputs of unequal lengths, an empty one among them; a window of 3 is shorter, one of 11 longer than most prompts.
INPUTS = [
    torch.randint(5, VOCABULARY, (n,), generator=torch.Generator().manual_seed(n)).tolist() for n in (4, 13, 0, 1, 7, 4)
]


def build(kind: type[Generator], **changes: Any) -> Generator:
    values: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "d_model": 6 * 7,
        "n_heads": 7,
        "n_encoder_layers": 1,
        "n_decoder_layers": 2,
        "d_ff": 31,
        "max_length": 41,
        "tie_embeddings": False,
    }
    torch.manual_seed(0)
    model = kind(ModelConfig(**(values | changes))).double()
    # A fresh model is undecided, and a tied one repeats what it reads. This one writes something, and comes to an end.
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.weight.fill_(1.0)
        model.head.bias[EOS] += 1.0 if kind is Seq2Seq else 2.0
    return model  # in training mode, with dropout: decoding has to see to that


def log_probs(model: Generator, source: Sequence[int], outputs: Sequence[Sequence[int]]) -> Tensor:
    """Log-probabilities ``(outputs, length + 1, vocab_size)`` of the token after each prefix of each output.

    From one pass without cache and without padding: the outputs have one length.
    """
    training = model.training
    model.eval()
    with torch.no_grad():
        if isinstance(model, Seq2Seq):
            sources = torch.tensor([[*source, EOS]] * len(outputs))
            logits = model(sources, torch.tensor([[BOS, *output] for output in outputs]))
        else:
            logits = model(torch.tensor([[BOS, *source, *output] for output in outputs]))[:, len(source) :]
    model.train(training)
    return logits.log_softmax(dim=-1)


def writable(log_probs: Tensor) -> Tensor:
    return log_probs.index_fill(-1, torch.tensor([PAD, BOS, MASK]), -torch.inf)


def assert_greedy(model: Generator, source: Sequence[int], output: list[int], max_length: int) -> None:
    """Each token of ``output``, and EOS at its end, is the most probable one after those before it."""
    best = writable(log_probs(model, source, [output]))[0].argmax(dim=-1).tolist()
    assert [*output, EOS][:max_length] == best[:max_length]


def beam_uncached(model: Generator, source: Sequence[int], beam_size: int, max_length: int) -> list[Hypothesis]:
    """Beam search for one input in plain lists."""
    beams: list[tuple[list[int], float]] = [([], 0.0)]
    finished: list[Hypothesis] = []
    for length in range(1, max_length + 2):
        following = writable(log_probs(model, source, [output for output, _ in beams])[:, -1]).tolist()
        continuations = [
            (log_prob + next_log_prob, token, output)
            for (output, log_prob), next_log_probs in zip(beams, following, strict=True)
            for token, next_log_prob in enumerate(next_log_probs)
            if length <= max_length or token == EOS
        ]
        continuations.sort(reverse=True)
        for log_prob, token, output in continuations[:beam_size]:
            if token == EOS:
                finished.append(Hypothesis(output, log_prob, log_prob / length))
        if len(finished) >= beam_size:
            break
        beams = [([*output, token], log_prob) for log_prob, token, output in continuations if token != EOS][:beam_size]
    return sorted(finished, key=lambda h: -h.score)[:beam_size]


# fault 56, fault 58, fault 66, fault 68, fault 70: cache, left padding of prompts, positions and windows. In a mixed
# batch, the logits of *every* step equal those of a pass over the same tokens alone, without cache and padding.
@pytest.mark.parametrize("window", [None, 1, 3, 11])
@pytest.mark.parametrize("positions", SCHEMES)
@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("kind", KINDS)
def test_cached_logits_equal_uncached(kind: type[Generator], norm: str, positions: str, window: int | None) -> None:
    model = build(kind, norm=norm, positions=positions, window=window).eval()
    steps = 19
    outputs = torch.randint(5, VOCABULARY, (len(INPUTS), steps), generator=torch.Generator().manual_seed(3))
    state = model.start(INPUTS)
    tokens = state.first
    found = []
    for step in range(steps):
        found.append(model.step(tokens, state).log_softmax(dim=-1))
        tokens = outputs[:, step]
    for row, source in enumerate(INPUTS):
        expected = log_probs(model, source, [outputs[row, : steps - 1].tolist()])[0]
        torch.testing.assert_close(torch.stack(found, dim=1)[row], expected, atol=1e-10, rtol=0)


# The whole searches, where rows also leave the batch and beams change places.
@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("positions", SCHEMES)
@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("kind", KINDS)
def test_searches_equal_uncached(kind: type[Generator], norm: str, positions: str, window: int | None) -> None:
    model = build(kind, norm=norm, positions=positions, window=window)
    max_length = 9
    for source, output in zip(INPUTS, greedy(model, INPUTS, max_length), strict=True):
        assert_greedy(model, source, output, max_length)
    found = beam_search(model, INPUTS, beam_size=3, max_length=max_length)
    for source, hypotheses in zip(INPUTS, found, strict=True):
        assert_same(hypotheses, beam_uncached(model, source, 3, max_length))


# Without learned positions there is no longest output: beyond max_length of the configuration (here 5) all still agree.
@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("positions", ["sinusoidal", "rotary", "alibi"])
@pytest.mark.parametrize("kind", KINDS)
def test_beyond_max_length(kind: type[Generator], positions: str, window: int | None) -> None:
    model = build(kind, positions=positions, window=window, max_length=5)
    with torch.no_grad():
        model.head.bias[EOS] -= 100  # never ends by itself
    outputs = greedy(model, INPUTS, max_length=30)
    assert [len(output) for output in outputs] == [30] * len(INPUTS)
    for source, output in zip(INPUTS, outputs, strict=True):
        assert_greedy(model, source, output, 30)


def test_beyond_learned_positions_is_an_error() -> None:
    model = build(CausalLM, positions="learned", max_length=12)
    with torch.no_grad():
        model.head.bias[EOS] -= 100
    prompt = INPUTS[4][:5]
    assert len(greedy(model, [prompt], max_length=7)[0]) == 7  # BOS, 5 tokens and 6 of those written: 12 positions
    for decode in (greedy, lambda *args: beam_search(*args[:2], 2, 1.0, args[2])):
        with pytest.raises(ValueError, match="longer than the model, which learned 12 positions"):
            decode(model, [prompt], 8)
    source = build(Seq2Seq, positions="learned", max_length=12)
    with pytest.raises(ValueError, match="a sentence of 13 tokens is longer than the model"):
        greedy(source, [[A], [A] * 12])


@pytest.mark.parametrize("kind", KINDS)
def test_results_do_not_depend_on_the_batches(kind: type[Generator]) -> None:
    model = build(kind)
    inputs = INPUTS * 2 + [[A, B, C] * 3]
    results = [
        (
            greedy(model, inputs, 11, batch_tokens=n),
            [[h.tokens for h in found] for found in beam_search(model, inputs, 3, max_length=11, batch_tokens=n)],
            sample(model, inputs, torch.Generator().manual_seed(0), max_length=11, batch_tokens=n),
        )
        for n in (1, 100, 10_000)
    ]
    assert all(result == results[0] for result in results)
    assert len({len(output) for output in results[0][0]}) > 2  # of different lengths, so that rows did leave


def test_beam_of_one_is_greedy() -> None:
    model = build(Seq2Seq)
    found = beam_search(model, INPUTS, beam_size=1)
    assert [[h.tokens for h in hypotheses] for hypotheses in found] == [[output] for output in greedy(model, INPUTS)]


# Decoding switches dropout off, and nothing that the caller had set is lost, even where it fails.
def test_the_model_is_left_as_it_was() -> None:
    model = build(Seq2Seq, dropout=0.5)
    model.train()
    model.encoder.eval()  # as when a part is frozen
    modes = [module.training for module in model.modules()]
    assert greedy(model, INPUTS) == greedy(model, INPUTS), "dropout was active"
    assert [module.training for module in model.modules()] == modes
    with pytest.raises(ValueError, match=r"inputs\[0\] holds the id"):
        greedy(model, [[VOCABULARY]])
    assert [module.training for module in model.modules()] == modes
    assert torch.is_grad_enabled()


# Decoding beyond the sinusoids computed so far enlarges their table; the model must still train afterwards.
def test_training_goes_on_after_decoding() -> None:
    model = build(Seq2Seq, max_length=3)
    greedy(model, INPUTS)
    model(torch.tensor([[A, B, C, EOS]]), torch.tensor([[BOS, A, B, C]])).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


# ---- text -----------------------------------------------------------------------------------------------------------


def test_translate() -> None:
    english = WordTokenizer.train(["a cat sees a dog"], vocab_size=20)
    chinese = CharacterTokenizer.train(["猫看见狗"], vocab_size=20)
    model = build(Seq2Seq, positions="learned")
    texts = ["a dog sees a cat", "a cat", "a dog"]
    inputs = [english.encode(text) for text in texts]
    with torch.no_grad():
        model.head.bias[max(chinese.vocab_size, A) :] = -100  # the model is untrained; keep to the Chinese ids
    assert translate(model, english, chinese, texts) == [chinese.decode(ids) for ids in greedy(model, inputs)]
    found = beam_search(model, inputs, beam_size=3, length_penalty=0.5)
    expected = [chinese.decode(hypotheses[0].tokens) for hypotheses in found]
    assert translate(model, english, chinese, texts, beam_size=3, length_penalty=0.5) == expected
    assert translate(model, english, chinese, []) == []


def test_translate_names_what_is_wrong() -> None:
    tokenizer = WordTokenizer.train(["a cat sees a dog"], vocab_size=20)
    model: Any = build(Seq2Seq, positions="learned", max_length=7)
    for empty in ("", "  \n"):
        with pytest.raises(ValueError, match=r"texts\[1\].*nothing to translate"):
            translate(model, tokenizer, tokenizer, ["a cat", empty])
    with pytest.raises(TypeError, match=r"\[text\]"):
        translate(model, tokenizer, tokenizer, "a cat")
    with pytest.raises(ValueError, match="longer than the model, which learned 7 positions"):
        translate(model, tokenizer, tokenizer, ["a cat sees a dog a cat"])
    small: Any = build(Seq2Seq, vocab_size=8)
    with pytest.raises(ValueError, match="source_tokenizer has 9 tokens, but the model was built for 8"):
        translate(small, tokenizer, tokenizer, ["a cat"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: greedy(model, [[A]], max_length=0), "max_length must be at least 1"),
        (lambda model: beam_search(model, [[A]], beam_size=0), "beam_size must be at least 1"),
        (lambda model: sample(model, [[A]], torch.Generator(), temperature=-1), "temperature must be finite"),
        (lambda model: sample(model, [[A]], torch.Generator(), temperature=math.inf), "temperature must be finite"),
        (lambda model: sample(model, [[A]], torch.Generator(), temperature=math.nan), "temperature must be finite"),
        (lambda model: sample(model, [[A]], torch.Generator(), top_k=0), "top_k must be at least 1"),
        (lambda model: sample(model, [[A]], torch.Generator(), top_p=0), "top_p must be above 0"),
        (lambda model: sample(model, [[A]], torch.Generator(), top_p=1.1), "top_p must be above 0"),
    ],
)
def test_impossible_options(call: Callable[[Table], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(random_table(0))


@pytest.mark.parametrize("inputs", ["a cat", ["a cat"]])
def test_text_instead_of_ids(inputs: Any) -> None:
    with pytest.raises(TypeError, match="encode it first"):
        greedy(random_table(0), inputs)


# Streaming ---------------------------------------------------------------------------------------------------


def streaming_model(tokenizer: BPETokenizer | WordTokenizer, window: int | None = None) -> CausalLM:
    torch.manual_seed(0)
    config = ModelConfig(tokenizer.vocab_size, d_model=16, n_heads=2, n_decoder_layers=1, d_ff=16, window=window)
    return CausalLM(config).eval()


@pytest.mark.parametrize("prompt", ["the cat", "猫在", ""])
@pytest.mark.parametrize("window", [None, 3])
def test_a_stream_is_the_sampled_text_piece_by_piece(prompt: str, window: int | None) -> None:
    tokenizer = BPETokenizer.train(["the cat sat on the mat 猫在公园里 狗在图书馆"], 275)
    model = streaming_model(tokenizer, window)
    settings = {"temperature": 1.5, "top_k": 200, "top_p": 0.95, "max_length": 40}
    for seed in range(3):
        ids = tokenizer.encode(prompt)
        written = sample(model, [ids], torch.Generator().manual_seed(seed), **settings)[0]
        pieces = list(stream(model, tokenizer, prompt, torch.Generator().manual_seed(seed), **settings))
        assert prompt + "".join(pieces) == tokenizer.decode([*ids, *written])
        assert all(pieces)  # no empty piece


def test_no_piece_of_a_stream_ends_within_a_character() -> None:
    tokenizer = BPETokenizer()  # bytes: each Chinese character is three tokens

    class Writes猫:
        """Writes the bytes of 猫猫, one a step, then ends."""

        def start(self, inputs: Sequence[Sequence[int]]) -> SimpleNamespace:
            return SimpleNamespace(first=torch.tensor([BOS]), step=0)

        def step(self, tokens: Tensor, state: SimpleNamespace) -> Tensor:
            target = [*tokenizer.encode("猫猫"), EOS][state.step]
            state.step += 1
            return torch.full((1, tokenizer.vocab_size), -50.0).index_fill(1, torch.tensor([target]), 50.0)

    assert list(stream(Writes猫(), tokenizer, "", torch.Generator(), max_length=10)) == ["猫", "猫"]
    # Cut off within the second character: what there is comes out, marked.
    assert list(stream(Writes猫(), tokenizer, "", torch.Generator(), max_length=5)) == ["猫", "\ufffd"]


def test_a_stream_leaves_gradients_and_modes_as_they_are_between_its_pieces() -> None:
    tokenizer = WordTokenizer.train(["the cat sat"])
    model = streaming_model(tokenizer).train()
    for _ in stream(model, tokenizer, "the", torch.Generator().manual_seed(1), max_length=3):
        assert torch.is_grad_enabled() and model.training


def test_words_of_a_stream_are_spaced_from_the_prompt_on() -> None:
    tokenizer = WordTokenizer.train(["the cat sat ."])
    model, pieces = streaming_model(tokenizer), []
    for seed in range(5):
        pieces += stream(model, tokenizer, "the", torch.Generator().manual_seed(seed), max_length=6)
    assert len(pieces) > 5 and all(piece.startswith(" ") or piece == "." for piece in pieces)


def test_a_stream_refuses_what_sample_refuses() -> None:
    tokenizer = WordTokenizer.train(["the cat"])
    with pytest.raises(ValueError, match="temperature must be finite and not negative"):
        next(stream(streaming_model(tokenizer), tokenizer, "the", torch.Generator(), temperature=-1))


@pytest.mark.parametrize(
    ("unfinished", "kept"),
    [
        ([1, 1, 1], [0, 1, 2]),
        ([1, 0, 1, 1, 1], [0, 4, 2, 3]),
        ([0, 1, 0, 1, 1], [3, 1, 4]),
        ([0, 0, 1], [2]),
        ([1, 1, 0, 0], [0, 1]),
        ([0, 0], []),
    ],
)
def test_few_rows_move_when_others_end(unfinished: list[int], kept: list[int]) -> None:
    assert _close_up(torch.tensor(unfinished, dtype=torch.bool)).tolist() == kept


@pytest.mark.parametrize("kind", [Seq2Seq, CausalLM])
@pytest.mark.parametrize("wrong", [PAD, -1, VOCABULARY])
def test_padding_and_ids_of_another_tokeniser_are_named(kind: type[Generator], wrong: int) -> None:
    with pytest.raises(ValueError, match=rf"inputs\[1\] holds the id {wrong}: ids are from 0 to {VOCABULARY - 1}"):
        build(kind).start([[A], [B, wrong]])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_named(value: float) -> None:
    model = build(CausalLM)
    with torch.no_grad():
        model.head.bias[A] = value
    for write in (greedy, lambda model, inputs: sample(model, inputs, torch.Generator())):
        with pytest.raises(ValueError, match="no token has a finite logit: are the weights of the model finite"):
            write(model, [[B, A]])


def test_beams_of_a_bfloat16_model_are_summed_in_float32() -> None:
    model = build(Seq2Seq).to(torch.bfloat16)
    with torch.no_grad():
        model.head.bias[EOS] = -20.0  # a long output, of a large sum
    found = beam_search(model, INPUTS[:2], beam_size=3, max_length=40)[1]
    for hypothesis in found:
        with evaluating(model):
            source, target = torch.tensor([[*INPUTS[1], EOS]]), torch.tensor([[BOS, *hypothesis.tokens]])
            steps = model(source, target)[0].float().log_softmax(dim=-1)
        total = sum(steps[t, token].item() for t, token in enumerate([*hypothesis.tokens, EOS]))
        assert abs(total - hypothesis.log_prob) < 0.3
