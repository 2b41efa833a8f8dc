"""Writing with a trained model, one token at a time: greedy search, beam search, sampling.

The three functions take token ids without BOS and EOS and return them likewise, in the order of the inputs. Inside,
inputs of similar length share a batch, earlier keys and values are cached, and an output that has ended leaves its
batch, so that nothing is computed for it any more. PAD, BOS and MASK are never written.

What comes out does not depend on how the inputs were batched (but for near-ties of two tokens: the last bits of a
matrix product depend on its size).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from course_lib.models import Seq2Seq, evaluating
from course_lib.tokenizers import BOS, EOS, MASK, PAD, Tokenizer

NEVER_WRITTEN = (PAD, BOS, MASK)


class State(Protocol):
    """Where a batch of unfinished outputs stands (see :class:`course_lib.models.DecodingState`)."""

    first: Tensor  # (rows,): the tokens to feed to the first step

    def expand(self, width: int) -> None:
        """Give each input ``width`` rows instead of one."""

    def select(self, rows: Tensor) -> None:
        """Row i becomes what row ``rows[i]`` was."""


class Writer(Protocol):
    """What can be decoded: ``Seq2Seq``, ``CausalLM``, or a table of probabilities in a test."""

    def start(self, inputs: Sequence[Sequence[int]]) -> Any:
        """Read the inputs and return a :class:`State` with one row for each."""

    def step(self, tokens: Tensor, state: Any) -> Tensor:
        """Append ``tokens (rows,)``; return the next logits ``(rows, vocab_size)``, which may be changed."""


@dataclass(frozen=True)
class Hypothesis:
    """One complete output found by :func:`beam_search`.

    Attributes:
        tokens: its token ids, without EOS.
        log_prob: log-probability of the tokens *and* EOS under the model, in nats.
        score: ``log_prob / (len(tokens) + 1) ** length_penalty``, by which hypotheses are ranked.
    """

    tokens: list[int]
    log_prob: float
    score: float


def greedy(
    model: Writer, inputs: Sequence[Sequence[int]], max_length: int | None = None, batch_tokens: int = 16384
) -> list[list[int]]:
    """Take the most probable token at each step until it is EOS.

    Args:
        model: ``Seq2Seq`` (the inputs are source sentences) or ``CausalLM`` (prompts; the outputs continue them).
        inputs: token ids, without BOS and EOS.
        max_length: outputs are cut after this many tokens; None: after 2 n + 10, where n is the length of the input.
        batch_tokens: how many token positions, of inputs and longest possible outputs, a batch may hold. It bounds
            the memory.

    Returns:
        The tokens written for each input.

    Raises:
        ValueError: if no token has a finite logit.
    """

    def choose(logits: Tensor, *_: object) -> Tensor:
        values, tokens = logits.max(dim=-1)
        _check_finite(values)
        return tokens

    return _write(model, inputs, choose, max_length, batch_tokens)


def sample(
    model: Writer,
    inputs: Sequence[Sequence[int]],
    generator: torch.Generator,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    max_length: int | None = None,
    batch_tokens: int = 16384,
) -> list[list[int]]:
    """Draw each token at random from :func:`sampling_probabilities`, until it is EOS.

    All random numbers are drawn on the CPU before the model runs, one for each input and step. So a seed gives the same
    outputs on every device and however the inputs are batched. For several outputs of one input, repeat it.

    Args:
        model: as in :func:`greedy`; so are ``inputs``, ``max_length`` and ``batch_tokens``.
        inputs: token ids, without BOS and EOS.
        generator: a generator of the CPU; the only source of randomness.
        temperature: see :func:`sampling_probabilities`; so are ``top_k`` and ``top_p``.

    Returns:
        The tokens written for each input.
    """
    if generator.device.type != "cpu":
        raise ValueError(f"generator must be one of the CPU, got one of {generator.device}; use torch.Generator()")
    _check_sampling(temperature, top_k, top_p)
    if temperature == 0:
        return greedy(model, inputs, max_length, batch_tokens)
    longest = max(_limits(inputs, max_length), default=0)
    # Step by step, so that a larger max_length leaves the numbers of the first steps as they were.
    uniform = torch.rand(longest, len(inputs), dtype=torch.float64, device="cpu", generator=generator)

    def choose(logits: Tensor, indices: Tensor, step: int) -> Tensor:
        probabilities = sampling_probabilities(logits.cpu(), temperature, top_k, top_p)
        return _draw(probabilities, uniform[step, indices.cpu()]).to(logits.device)

    return _write(model, inputs, choose, max_length, batch_tokens)


def stream(
    model: Writer,
    tokenizer: Tokenizer,
    prompt: str,
    generator: torch.Generator,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    max_length: int | None = None,
) -> Iterator[str]:
    """Continue a text as :func:`sample` does, and hand out each piece as soon as it is written.

    ``for piece in stream(…): print(piece, end="", flush=True)`` shows a text as it grows. The pieces together are what
    ``tokenizer.decode`` makes of prompt and output less the prompt itself; no piece ends within a character, of which a
    byte-level token may hold a part.

    Args:
        model: as in :func:`sample`; so are ``generator`` (a seed gives the same text) and the settings.
        tokenizer: of the model.
        prompt: the beginning; for ``Seq2Seq`` the source, in whose language nothing is continued.
    """
    ids = tokenizer.encode(prompt)
    before = [] if isinstance(model, Seq2Seq) else ids
    given = tokenizer.decode(before)
    if generator.device.type != "cpu":
        raise ValueError(f"generator must be one of the CPU, got one of {generator.device}; use torch.Generator()")
    _check_sampling(temperature, top_k, top_p)
    (limit,) = _limits([ids], max_length)
    uniform = torch.rand(
        limit, 1, dtype=torch.float64, device="cpu", generator=generator
    )  # the numbers that ``sample`` draws
    written: list[int] = []
    shown = len(given)
    # Not around the loop: between two pieces the caller's own code runs, which may want gradients.
    with evaluating(model):
        state = model.start([ids])
        tokens = state.first
    for step in range(limit):
        with evaluating(model):
            logits = model.step(tokens, state)
        logits[:, NEVER_WRITTEN] = -torch.inf
        tokens = _draw(sampling_probabilities(logits.cpu(), temperature, top_k, top_p), uniform[step]).to(logits.device)
        if (token := int(tokens)) == EOS:
            break
        written.append(token)
        text = tokenizer.decode([*before, *written])
        # U+FFFD stands for part of a character; a special token adds nothing.
        if len(text) > shown and not text.endswith("\ufffd"):
            yield text[shown:]
            shown = len(text)
    if rest := tokenizer.decode([*before, *written])[shown:]:
        yield rest


def _draw(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """The first token of each row whose cumulative probability exceeds its number in [0, 1): never one of 0."""
    cumulative = probabilities.cumsum(dim=-1)
    return torch.searchsorted(cumulative, uniform[:, None] * cumulative[:, -1:], right=True).squeeze(1)


def sampling_probabilities(
    logits: Tensor, temperature: float = 1.0, top_k: int | None = None, top_p: float = 1.0
) -> Tensor:
    """The distribution :func:`sample` draws from: softmax(logits / temperature), cut to the likeliest tokens.

    Args:
        logits: ``(rows, vocab_size)``.
        temperature: below 1 sharpens the distribution, above 1 flattens it; 0 leaves only the most probable token.
        top_k: keep the k most probable tokens (Fan et al., "Hierarchical Neural Story Generation", 2018); None: all.
        top_p: of those, keep the smallest set of most probable tokens that together have at least this probability
            (Holtzman et al., "The Curious Case of Neural Text Degeneration", 2020); at least one is kept.

    Returns:
        float64 ``(rows, vocab_size)``; each row sums to 1.

    Raises:
        ValueError: if ``temperature`` is negative or not finite, ``top_k`` below 1 or ``top_p`` outside (0, 1], or if a
            row has no finite logit.
    """
    _check_sampling(temperature, top_k, top_p)
    logits = (logits.cpu() if logits.device.type == "mps" else logits).double()  # Apple's GPUs have no float64
    best, most_probable = logits.max(dim=-1, keepdim=True)
    _check_finite(best)
    if temperature == 0:
        return torch.zeros_like(logits).scatter(-1, most_probable, 1.0)
    # The largest becomes 0 before the division: however small the temperature, nothing overflows to +∞.
    probabilities = ((logits - best) / temperature).softmax(dim=-1)
    if top_k is None and top_p == 1:
        return probabilities
    ranked, order = probabilities.sort(dim=-1, descending=True, stable=True)
    if top_k is not None:
        ranked[:, top_k:] = 0.0
        ranked /= ranked.sum(dim=-1, keepdim=True)
    if top_p < 1:
        before = ranked.cumsum(dim=-1).roll(1, dims=-1)  # what the more probable tokens have together
        before[:, 0] = -1.0  # the most probable token always stays
        # 0.6 + 0.3 falls short of 0.9 by a rounding error, in float32 logits of up to 1e-7.
        ranked[before > top_p - 1e-6] = 0.0
        ranked /= ranked.sum(dim=-1, keepdim=True)
    return torch.zeros_like(probabilities).scatter(-1, order, ranked)


def beam_search(
    model: Writer,
    inputs: Sequence[Sequence[int]],
    beam_size: int = 4,
    length_penalty: float = 1.0,
    max_length: int | None = None,
    batch_tokens: int = 16384,
) -> list[list[Hypothesis]]:
    """Keep the ``beam_size`` most probable unfinished outputs at each step, instead of one.

    At each step the unfinished outputs ("beams") of an input are continued by every token. Continuations by EOS that
    are among the ``beam_size`` most probable of all become finished hypotheses; the ``beam_size`` most probable others
    are the next beams.

    The search for an input ends when ``beam_size`` hypotheses have finished, and not before. To stop as soon as the
    best finished one is better than the best beam would favour short outputs: a beam has a low log-probability until
    its length is taken into account. At ``max_length`` the only continuation is EOS, at its own probability. A
    ``beam_size`` as large as the number of possible outputs therefore finds the best of all.

    The length penalty divides by length^α: 0 ranks by log-probability, 1 by log-probability per token. (Wu et al.,
    "Google's Neural Machine Translation System", 2016, equation 14, divide by ((5 + length) / 6)^α, which rewards
    length less while outputs are short.)

    Args:
        model: as in :func:`greedy`; so are ``inputs``, ``max_length`` and ``batch_tokens``.
        inputs: token ids, without BOS and EOS.
        beam_size: number of beams; with 1, the search is greedy.
        length_penalty: the exponent α; larger values favour longer outputs.

    Returns:
        For each input one to ``beam_size`` hypotheses, best first.
    """
    if beam_size < 1:
        raise ValueError(f"beam_size must be at least 1, got {beam_size}")
    limits = _limits(inputs, max_length)
    results: list[list[Hypothesis]] = [[] for _ in inputs]
    with evaluating(model):
        for batch in _batches(inputs, limits, beam_size, batch_tokens):
            found = _search(model, [inputs[i] for i in batch], [limits[i] for i in batch], beam_size, length_penalty)
            for i, hypotheses in zip(batch, found, strict=True):
                if not hypotheses:
                    raise ValueError(f"inputs[{i}]: no output has a finite log-probability; are the weights finite?")
                results[i] = sorted(hypotheses, key=lambda h: h.score, reverse=True)[:beam_size]
    return results


def translate(
    model: Seq2Seq,
    source_tokenizer: Tokenizer,
    target_tokenizer: Tokenizer,
    texts: Sequence[str],
    beam_size: int = 1,
    length_penalty: float = 1.0,
    max_length: int | None = None,
) -> list[str]:
    """Translate sentences: greedily, or with ``beam_size`` above 1 by the best hypothesis of :func:`beam_search`.

    Raises:
        TypeError: if ``texts`` is a single string.
        ValueError: if a text is empty, or if a tokeniser has more tokens than the model.
    """
    if isinstance(texts, str):
        raise TypeError("texts must be a list of sentences, got a single string; put it in a list: [text]")
    for name, tokenizer in (("source_tokenizer", source_tokenizer), ("target_tokenizer", target_tokenizer)):
        if tokenizer.vocab_size > model.config.vocab_size:
            raise ValueError(
                f"{name} has {tokenizer.vocab_size} tokens, but the model was built for {model.config.vocab_size}; "
                "use the tokeniser the model was trained with"
            )
    inputs = [source_tokenizer.encode(text) for text in texts]
    for i, (text, tokens) in enumerate(zip(texts, inputs, strict=True)):
        if not text.strip() or not tokens:
            raise ValueError(f"texts[{i}] is {text!r}: there is nothing to translate; write a sentence or leave it out")
    if beam_size == 1:
        outputs = greedy(model, inputs, max_length)
    else:
        found = beam_search(model, inputs, beam_size, length_penalty, max_length)
        outputs = [hypotheses[0].tokens for hypotheses in found]
    return [target_tokenizer.decode(tokens) for tokens in outputs]


def _check_sampling(temperature: float, top_k: int | None, top_p: float) -> None:
    if not 0 <= temperature < math.inf:
        raise ValueError(
            f"temperature must be finite and not negative, got {temperature}; 0 takes the most probable token"
        )
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be at least 1, or None for no limit, got {top_k}")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p must be above 0 and at most 1 (no limit), got {top_p}")


def _check_finite(largest: Tensor) -> None:
    """``largest``: of the logits of each row."""
    if not largest.isfinite().all():
        raise ValueError("no token has a finite logit: are the weights of the model finite?")


def _limits(inputs: Sequence[Sequence[int]], max_length: int | None) -> list[int]:
    """The longest output allowed for each input, in tokens without EOS."""
    if isinstance(inputs, str) or any(isinstance(tokens, str) for tokens in inputs):
        raise TypeError("inputs must be lists of token ids, got text; encode it first: [tokenizer.encode(text)]")
    if max_length is not None and max_length < 1:
        raise ValueError(f"max_length must be at least 1 token, or None for 2 n + 10, got {max_length}")
    return [2 * len(tokens) + 10 if max_length is None else max_length for tokens in inputs]


def _batches(
    inputs: Sequence[Sequence[int]], limits: Sequence[int], width: int, batch_tokens: int
) -> Iterator[list[int]]:
    """Indices of inputs of similar length, the longest first: if something is too long, that shows at once."""
    sizes = [(len(tokens) + limit) * width for tokens, limit in zip(inputs, limits, strict=True)]
    order = sorted(range(len(inputs)), key=lambda i: -sizes[i])
    start = 0
    while start < len(order):
        end = start + max(1, batch_tokens // sizes[order[start]])
        yield order[start:end]
        start = end


def _write(
    model: Writer,
    inputs: Sequence[Sequence[int]],
    choose: Callable[[Tensor, Tensor, int], Tensor],
    max_length: int | None,
    batch_tokens: int,
) -> list[list[int]]:
    """Greedy search and sampling: they differ in ``choose(logits, index of each row's input, step) -> tokens``."""
    limits = _limits(inputs, max_length)
    outputs: list[list[int]] = [[] for _ in inputs]
    with evaluating(model):
        for batch in _batches(inputs, limits, 1, batch_tokens):
            state: State = model.start([inputs[i] for i in batch])
            tokens = state.first
            indices = torch.tensor(batch, device=tokens.device)
            limit = torch.tensor([limits[i] for i in batch], device=tokens.device)
            rows = torch.arange(len(batch), device=tokens.device)  # of ``written``, for those not finished
            written = torch.full((len(batch), int(limit.max())), PAD, device=tokens.device)
            for step in range(written.size(1)):
                logits = model.step(tokens, state)
                logits[:, NEVER_WRITTEN] = -torch.inf
                tokens = choose(logits, indices[rows], step)
                written[rows, step] = tokens
                unfinished = (tokens != EOS) & (limit[rows] > step + 1)
                if not unfinished.all():
                    kept = _close_up(unfinished)
                    if len(kept) == 0:
                        break
                    rows, tokens = rows[kept], tokens[kept]
                    state.select(kept)
            for i, row in zip(batch, written.tolist(), strict=True):
                outputs[i] = [token for token in row if token not in (EOS, PAD)]
    return outputs


def _close_up(unfinished: Tensor) -> Tensor:
    """The indices where ``unfinished (rows,)`` is True: the last ones take the places that have become free.

    So most rows stay where they are, and few keys and values move.
    """
    n = int(unfinished.sum())
    kept = torch.arange(n, device=unfinished.device)
    kept[~unfinished[:n]] = n + unfinished[n:].nonzero().squeeze(1)
    return kept


def _search(
    model: Writer, inputs: list[Sequence[int]], limits: list[int], beam_size: int, length_penalty: float
) -> list[list[Hypothesis]]:
    """Beam search for one batch; every finished hypothesis of each input, in no particular order."""
    finished: list[list[Hypothesis]] = [[] for _ in inputs]
    state: State = model.start(inputs)
    logits = model.step(state.first, state)  # the beams of an input do not differ yet: one row is enough
    state.expand(beam_size)
    logits = logits.repeat_interleave(beam_size, dim=0)

    device = logits.device
    live = torch.arange(len(inputs), device=device)  # the inputs still searched
    limit = torch.tensor(limits, device=device)
    n_finished = torch.zeros_like(live)
    written = torch.empty(len(inputs), beam_size, max(limits), dtype=torch.long, device=device)
    # log-probability of each beam (live, beam_size); at first there is one.
    log_probs = torch.full((len(inputs), beam_size), -torch.inf, device=device).to(logits.dtype)
    log_probs[:, 0] = 0.0

    for step in range(max(limits) + 1):
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # 16 bits are too few for a sum
        at_limit = limit == step
        totals, parents, tokens = _continuations(logits, log_probs, at_limit)
        is_end = (tokens == EOS) & totals.isfinite()

        ended, rank = is_end[:, :beam_size].nonzero().unbind(dim=1)
        for i, log_prob, output in zip(
            live[ended].tolist(),
            totals[ended, rank].tolist(),
            written[ended, parents[ended, rank], :step].tolist(),
            strict=True,
        ):
            finished[i].append(Hypothesis(output, log_prob, log_prob / (step + 1) ** length_penalty))
        n_finished = n_finished + is_end[:, :beam_size].sum(dim=1)

        kept = _close_up((n_finished < beam_size) & ~at_limit)
        if len(kept) == 0:
            break
        # A stable sort puts the continuations by EOS last and leaves the others in the order of their probability.
        order = (tokens[kept] == EOS).byte().argsort(dim=1, stable=True)[:, :beam_size]
        log_probs, parents, tokens = (x[kept].gather(1, order) for x in (totals, parents, tokens))
        live, limit, n_finished = live[kept], limit[kept], n_finished[kept]
        written = written[kept[:, None], parents]
        written[:, :, step] = tokens
        state.select((kept[:, None] * beam_size + parents).flatten())
        logits = model.step(tokens.flatten(), state)
    return finished


def _continuations(logits: Tensor, log_probs: Tensor, at_limit: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The 2 k most probable continuations of the k beams of each input, best first.

    At most k of them end, one for each beam; at least k go on.

    Args:
        logits: ``(inputs · k, vocab_size)``; changed.
        log_probs: ``(inputs, k)``.
        at_limit: ``(inputs,)``: where EOS is the only continuation.

    Returns:
        log-probability, beam and token of each, ``(inputs, 2 k)``.
    """
    n_inputs, k = log_probs.shape
    # Log-probabilities are logits − log Σ exp(logits): the subtraction can wait until few candidates are left.
    # In pieces that stay in the processor's cache between one pass over them and the next.
    normaliser = torch.cat([rows.logsumexp(dim=-1, keepdim=True) for rows in logits.split(16)])
    logits[:, NEVER_WRITTEN] = -torch.inf
    if at_limit.any():
        rows = at_limit.repeat_interleave(k)
        end = logits[rows, EOS]
        logits[rows] = -torch.inf
        logits[rows, EOS] = end
    # Of one beam, no more than k tokens besides EOS can be among those that go on.
    n_tokens = min(k + 1, logits.size(1))
    best, tokens = _largest(logits, n_tokens)
    totals = (best - normaliser).view(n_inputs, k, n_tokens) + log_probs[:, :, None]
    totals, order = totals.flatten(1).topk(2 * k, dim=-1)
    return totals, order // n_tokens, tokens.view(n_inputs, -1).gather(1, order)


def _largest(x: Tensor, k: int, block: int = 64) -> tuple[Tensor, Tensor]:
    """``x.topk(k)`` of rows ``(rows, n)``, in half the time: the largest lie in the k blocks of largest maximum."""
    n_blocks = x.size(1) // block
    if n_blocks <= k:
        return x.topk(k, dim=-1)
    whole = n_blocks * block
    blocks = x[:, :whole].unflatten(1, (n_blocks, block)).amax(dim=2).topk(k, dim=-1).indices
    inside = torch.arange(block, device=x.device)
    rest = torch.arange(whole, x.size(1), device=x.device).expand(len(x), -1)
    indices = torch.cat([(blocks[:, :, None] * block + inside).flatten(1), rest], dim=1)
    values, order = x.gather(1, indices).topk(k, dim=-1)
    return values, indices.gather(1, order)
