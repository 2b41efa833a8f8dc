"""The three families of Transformer, built from one set of blocks.

* :class:`Seq2Seq` – encoder and decoder, for translation and summarisation (Vaswani et al. 2017);
* :class:`CausalLM` – decoder only, predicts the next token (GPT: Radford et al. 2018);
* :class:`MaskedLM` – encoder only, predicts hidden tokens (BERT: Devlin et al. 2019).

Each has ``features`` (hidden states before the output layer), ``head`` (the output layer), ``forward`` (their
composition, the logits) and ``attention`` (the same computation by the readable path, returning every weight). The two
that generate also have ``start`` and ``step``: decoding token by token with cached keys and values.

Padding is recognised by its token id: a position is real if it is not ``PAD``.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self, TypeVar, cast

import torch
from torch import Tensor, nn

from course_lib.attention import AttentionContext, KeyValueCache, causal_mask, move_rows, padding_mask
from course_lib.batching import pad_sequences
from course_lib.layers import ACTIVATIONS, Activation, Block, CrossBlock, Dropout, Norm
from course_lib.positions import (
    LearnedPositions,
    SinusoidalPositions,
    alibi_bias,
    count_positions,
    rotary_angles,
)
from course_lib.tokenizers import BOS, EOS, PAD

Positions = Literal["sinusoidal", "learned", "rotary", "alibi"]
B = TypeVar("B", Block, CrossBlock)


@dataclass(frozen=True)
class ModelConfig:
    """Everything that decides the shape of a model.

    Attributes:
        vocab_size: number of tokens, the special ones included.
        d_model: size of a hidden state.
        n_heads: attention heads per layer; divides ``d_model``.
        n_encoder_layers: blocks of the encoder (of a masked model: all blocks).
        n_decoder_layers: blocks of the decoder (of a causal model: all blocks).
        d_ff: inner size of the feed-forward networks.
        dropout: probability after the embedding and after each sub-layer.
        norm: "pre" or "post" (see :class:`course_lib.layers.Residual`).
        positions: "sinusoidal" and "learned" are added to the embeddings, "rotary" and "alibi" act in self-attention.
        max_length: longest sentence in tokens with "learned" positions; the others have no limit.
        activation: "relu", "gelu" or "silu".
        tie_embeddings: input and output layer share one matrix (Press & Wolf 2017).
        window: each token of a causal model sees only the last ``window`` tokens, itself included; None: all.
    """

    vocab_size: int
    d_model: int = 128
    n_heads: int = 4
    n_encoder_layers: int = 2
    n_decoder_layers: int = 2
    d_ff: int = 512
    dropout: float = 0.1
    norm: Norm = "pre"
    positions: Positions = "sinusoidal"
    max_length: int = 256
    activation: Activation = "relu"
    tie_embeddings: bool = True
    window: int | None = None

    def __post_init__(self) -> None:
        for name in ("vocab_size", "d_model", "n_heads", "n_encoder_layers", "n_decoder_layers", "d_ff", "max_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name, allowed in (
            ("norm", ("pre", "post")),
            ("positions", ("sinusoidal", "learned", "rotary", "alibi")),
            ("activation", tuple(ACTIVATIONS)),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        if self.d_model % self.n_heads:
            raise ValueError(f"n_heads must divide d_model, got {self.n_heads} and {self.d_model}")
        sized = {"sinusoidal": self.d_model, "rotary": self.d_model // self.n_heads}
        if sized.get(self.positions, 0) % 2:
            of = "d_model" if self.positions == "sinusoidal" else "d_model / n_heads"
            raise ValueError(
                f"{self.positions} positions turn pairs of features: {of} must be even, got {sized[self.positions]}"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        if self.window is not None and self.window < 1:
            raise ValueError(f"window must be at least 1 token, or None for no window, got {self.window}")

    def to_dict(self) -> dict[str, Any]:
        """The configuration as plain values, for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`.

        Raises:
            ValueError: if a field is unknown.
        """
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise ValueError(f"unknown fields in the model configuration: {', '.join(unknown)}")
        return cls(**values)


@dataclass
class AttentionMaps:
    """Attention weights of one forward pass, a tensor ``(batch, heads, query, key)`` per layer in each list.

    Attributes:
        encoder: source to source (empty for a causal model).
        decoder: target to target (empty for a masked model).
        cross: target (queries) to source (keys); only :class:`Seq2Seq` has it.
    """

    encoder: list[Tensor]
    decoder: list[Tensor]
    cross: list[Tensor]


class Embedding(nn.Module):
    """Token vectors, scaled by √d_model, plus positions if the scheme adds them, then dropout.

    The scaled vectors start with variance 1, about that of the positions (1/2): smaller ones would be drowned by them,
    and learn far more slowly.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.tokens = nn.Embedding(config.vocab_size, config.d_model)
        nn.init.normal_(self.tokens.weight, std=1 / math.sqrt(config.d_model))
        self.scale = math.sqrt(config.d_model)
        self.positions: SinusoidalPositions | LearnedPositions | None = None
        if config.positions == "sinusoidal":
            self.positions = SinusoidalPositions(config.d_model, config.max_length)
        elif config.positions == "learned":
            self.positions = LearnedPositions(config.max_length, config.d_model)
        self.dropout = Dropout(config.dropout)

    def forward(self, tokens: Tensor, positions: Tensor, longest: int) -> Tensor:
        """Token ids and positions ``(batch, length)`` → ``(batch, length, d_model)``."""
        x = self.tokens(tokens) * self.scale
        if self.positions is not None:
            x = x + self.positions(positions, longest)
        return self.dropout(x)

    __call__ = cast("Callable[..., Tensor]", nn.Module.__call__)


class Model(nn.Module):
    """What the three families share: the configuration, the embedding, the output layer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = Embedding(config)
        self.head = nn.Linear(config.d_model, config.vocab_size)
        nn.init.zeros_(self.head.bias)
        if config.tie_embeddings:
            self.head.weight = self.embedding.tokens.weight
        else:
            nn.init.normal_(self.head.weight, std=1 / math.sqrt(config.d_model))

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.head.weight.device

    def forward(self, *inputs: Tensor) -> Tensor:
        """Logits ``(batch, length, vocab_size)``; the inputs are those of ``features``."""
        return self.head(self.features(*inputs))

    def features(self, *inputs: Tensor) -> Tensor:
        """Hidden states ``(batch, length, d_model)`` before the output layer."""
        raise NotImplementedError

    def _final_norm(self) -> nn.Module:
        # Nothing normalises the residual path of a pre-norm stack but this; a post-norm block ends normalised.
        return nn.LayerNorm(self.config.d_model) if self.config.norm == "pre" else nn.Identity()

    def _start_undecided(self, final_norm: nn.Module, blocks: Sequence[Block] | Sequence[CrossBlock]) -> None:
        """Make the first predictions nearly uniform, so that the first loss is ln V.

        The gain of the last normalisation before the output layer starts at 0.3: the logits have variance 0.09, not 1.
        """
        norm = final_norm if self.config.norm == "pre" else blocks[-1].feed_forward_residual.norm
        nn.init.constant_(cast("nn.LayerNorm", norm).weight, 0.3)

    def _stack(self, block: type[B], n_layers: int) -> Sequence[B]:
        c = self.config
        layers = [block(c.d_model, c.n_heads, c.d_ff, c.dropout, c.norm, c.activation) for _ in range(n_layers)]
        return cast("Sequence[B]", nn.ModuleList(layers))  # a ModuleList does not know the type of its members

    def _embed(self, tokens: Tensor, causal: bool) -> tuple[Tensor, AttentionContext]:
        """Embedded tokens ``(batch, length, d_model)`` and the context of their self-attention."""
        real = tokens != PAD
        positions = count_positions(real)
        length = tokens.size(1)
        mask = None if bool(real.all()) else padding_mask(real)
        if causal:
            ahead = causal_mask(length, tokens.device)
            mask = ahead if mask is None else mask & ahead
            if self.config.window is not None and length > self.config.window:
                distance = positions[:, None, :, None] - positions[:, None, None, :]
                mask = mask & (distance < self.config.window)
        return self._embed_at(tokens, positions, positions, length, mask)

    def _embed_at(
        self, tokens: Tensor, positions: Tensor, key_positions: Tensor, longest: int, mask: Tensor | None
    ) -> tuple[Tensor, AttentionContext]:
        bias = rotation = None
        if self.config.positions == "alibi":
            bias = alibi_bias(positions, key_positions, self.config.n_heads).to(self.head.weight.dtype)
        elif self.config.positions == "rotary":
            rotation = rotary_angles(positions, self.config.d_model // self.config.n_heads)
        return self.embedding(tokens, positions, longest), AttentionContext(mask, bias, rotation)

    __call__ = cast("Callable[..., Tensor]", nn.Module.__call__)


@contextmanager
def evaluating(model: object) -> Iterator[None]:
    """No dropout and no gradients inside the block; afterwards each module is in the mode it had, frozen parts too.

    What is no ``nn.Module`` (a table of probabilities) has no mode.
    """
    training = [module for module in model.modules() if module.training] if isinstance(model, nn.Module) else []
    for module in training:
        module.training = False
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


class DecodingState:
    """Where a batch of unfinished outputs stands: one row per output, rows of one input next to each other.

    The beams of one input are stored as a tree. Each step adds a place for every beam to one cache, which all of them
    share, and ``ancestors`` says which places are a beam's own past. When beams are dropped and doubled, only that mask
    changes; to give each beam a cache of its own would copy all of it at every step.

    Attributes:
        first: ``(rows,)`` token ids to feed to the first ``step``.
        width: rows per input: 1 until :meth:`expand` (the beams of a sentence).
    """

    def __init__(self, first: Tensor, position: Tensor, caches: list[KeyValueCache], padded: bool = False) -> None:
        self.first = first
        self.width = 1
        self.position = position  # (inputs,): position of the token to come
        self.caches = caches  # one per layer
        self.padded = padded  # whether prompts of unequal lengths were padded, on the left
        self.back = torch.arange(caches[0].length, 0, -1, device=first.device)  # (places,): how far before that token
        self.ancestors: Tensor | None = None  # (inputs, width, places), once there are beams
        self.memory: list[tuple[Tensor, Tensor]] = []  # per layer: keys and values of the encoder's output
        self.memory_mask: Tensor | None = None

    def expand(self, width: int) -> None:
        """Give each input ``width`` rows instead of one."""
        if self.width != 1:
            raise ValueError(f"the rows were expanded before, by {self.width}")
        self.width = width
        self.first = self.first.repeat_interleave(width)
        self.ancestors = self.back.new_ones(len(self.position), width, len(self.back), dtype=torch.bool)
        for cache in self.caches:
            cache.widen(width)

    def select(self, rows: Tensor) -> None:
        """Row i becomes what row ``rows[i]`` was. Rows stay grouped by input, ``width`` for each input kept."""
        self.first = self.first[rows]
        inputs = rows[:: self.width] // self.width
        if self.ancestors is not None:
            self.ancestors = self.ancestors[inputs[:, None], rows.view(-1, self.width) % self.width]
        if torch.equal(inputs, torch.arange(len(self.position), device=rows.device)):
            return
        self.position = self.position[inputs]
        for cache in self.caches:
            cache.select(inputs)
        self.memory = [(move_rows(keys, inputs), move_rows(values, inputs)) for keys, values in self.memory]
        if self.memory_mask is not None:
            self.memory_mask = self.memory_mask[inputs]

    def grow(self, window: int | None) -> Tensor | None:
        """Make a place for the next token of each row; return which places it sees, ``(inputs, 1, width, places)``."""
        width = self.width
        kept = len(self.back) if window is None else min(len(self.back), (window - 1) * width)
        self.back = torch.cat([self.back[len(self.back) - kept :], self.back.new_zeros(width)])
        mask = None
        if self.ancestors is not None:
            itself = torch.eye(width, dtype=torch.bool, device=self.back.device).expand(len(self.position), -1, -1)
            earlier = self.ancestors[:, :, self.ancestors.size(2) - kept :]
            self.ancestors = mask = torch.cat([earlier, itself], dim=2)
            if window is not None:  # a prompt has one place per token: more tokens may be kept than are in sight
                mask = mask & (self.back < window)
        if self.padded:  # places before the first token
            real = (self.back <= self.position[:, None])[:, None, :]
            mask = real if mask is None else mask & real
        return None if mask is None else mask[:, None]


class Generator(Model):
    """A model that writes one token after another. No gradients flow through ``start`` and ``step``."""

    def start(self, inputs: Sequence[Sequence[int]]) -> DecodingState:
        """Read the inputs (token ids without BOS, EOS and padding) and get ready to write."""
        raise NotImplementedError

    @torch.no_grad()
    def step(self, tokens: Tensor, state: DecodingState) -> Tensor:
        """Append one token to each row and say what may come next.

        Args:
            tokens: ``(rows,)``: ``state.first``, later the tokens chosen last.
            state: updated in place.

        Returns:
            Logits ``(rows, vocab_size)``.
        """
        mask = state.grow(self.config.window)
        positions = state.position[:, None]
        longest = int(state.position.max()) + 1
        # The beams of an input are so many queries to the keys that they share.
        x = tokens.view(len(positions), -1)
        x, context = self._embed_at(x, positions.expand_as(x), positions - state.back, longest, mask)
        logits = self.head(self._run_step(x, context, state)).flatten(0, 1)
        state.position = state.position + 1
        state.back = state.back + 1
        return logits

    def _run_step(self, x: Tensor, context: AttentionContext, state: DecodingState) -> Tensor:
        raise NotImplementedError


def _check_ids(inputs: Sequence[Sequence[int]], vocab_size: int) -> None:
    for i, tokens in enumerate(inputs):
        wrong = [token for token in tokens if token == PAD or not 0 <= token < vocab_size]
        if wrong:
            raise ValueError(
                f"inputs[{i}] holds the id {wrong[0]}: ids are from 0 to {vocab_size - 1} and not PAD ({PAD}); pass "
                "those of the model's own tokeniser, without padding"
            )


class Seq2Seq(Generator):
    """Encoder and decoder with one shared vocabulary and embedding."""

    encoder: Sequence[Block]
    decoder: Sequence[CrossBlock]

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.encoder = self._stack(Block, config.n_encoder_layers)
        self.decoder = self._stack(CrossBlock, config.n_decoder_layers)
        self.encoder_norm = self._final_norm()
        self.decoder_norm = self._final_norm()
        self._start_undecided(self.decoder_norm, self.decoder)

    def encode(self, source: Tensor, record: list[Tensor] | None = None) -> tuple[Tensor, AttentionContext]:
        """Run the encoder.

        Args:
            source: token ids ``(batch, source)``, each row ended by EOS.
            record: receives the attention weights of each layer.

        Returns:
            The memory ``(batch, source, d_model)``, and its padding mask and rotation.
        """
        x, context = self._embed(source, causal=False)
        for block in self.encoder:
            x = block(x, context, record=record)
        return self.encoder_norm(x), AttentionContext(context.mask, rotation=context.rotation)

    def features(self, *inputs: Tensor) -> Tensor:
        """``source (batch, source)``, ``target (batch, target)`` starting with BOS → ``(batch, target, d_model)``."""
        source, target = inputs
        return self._decode(target, *self.encode(source))

    def attention(self, source: Tensor, target: Tensor) -> AttentionMaps:
        """Attention weights of every layer, by the readable path; ``source`` and ``target`` as for ``features``."""
        maps = AttentionMaps([], [], [])
        self._decode(target, *self.encode(source, maps.encoder), record=maps.decoder, cross_record=maps.cross)
        return maps

    def _decode(
        self,
        target: Tensor,
        memory: Tensor,
        memory_context: AttentionContext,
        record: list[Tensor] | None = None,
        cross_record: list[Tensor] | None = None,
    ) -> Tensor:
        x, context = self._embed(target, causal=True)
        cross_context = AttentionContext(memory_context.mask, rotation=context.rotation)
        for block in self.decoder:
            keys_values = block.cross_attention.keys_values(memory, memory_context.rotation)
            x = block(x, context, keys_values, cross_context, record=record, cross_record=cross_record)
        return self.decoder_norm(x)

    @torch.no_grad()
    def start(self, inputs: Sequence[Sequence[int]]) -> DecodingState:
        """Encode the sources; each output starts with BOS."""
        _check_ids(inputs, self.config.vocab_size)
        source = pad_sequences([[*tokens, EOS] for tokens in inputs]).to(self.device)
        memory, context = self.encode(source)
        rows = torch.zeros(len(inputs), dtype=torch.long, device=self.device)
        state = DecodingState(rows + BOS, rows, [KeyValueCache(self.config.window) for _ in self.decoder])
        for block in self.decoder:
            keys, values = block.cross_attention.keys_values(memory, context.rotation)
            state.memory.append((keys.contiguous(), values.contiguous()))  # read at every step: let it be in order
        state.memory_mask = context.mask
        return state

    def _run_step(self, x: Tensor, context: AttentionContext, state: DecodingState) -> Tensor:
        cross_context = AttentionContext(state.memory_mask, rotation=context.rotation)
        for block, cache, keys_values in zip(self.decoder, state.caches, state.memory, strict=True):
            x = block(x, context, keys_values, cross_context, cache=cache)
        return self.decoder_norm(x)


class CausalLM(Generator):
    """Decoder only: each position predicts the token after it."""

    blocks: Sequence[Block]

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.blocks = self._stack(Block, config.n_decoder_layers)
        self.norm = self._final_norm()
        self._start_undecided(self.norm, self.blocks)

    def features(self, *inputs: Tensor) -> Tensor:
        """``tokens (batch, length)``, starting with BOS → ``(batch, length, d_model)``."""
        return self._run(*self._embed(inputs[0], causal=True))

    def attention(self, tokens: Tensor) -> AttentionMaps:
        """Attention weights of every layer, by the readable path."""
        maps = AttentionMaps([], [], [])
        self._run(*self._embed(tokens, causal=True), record=maps.decoder)
        return maps

    def _run(
        self,
        x: Tensor,
        context: AttentionContext,
        caches: list[KeyValueCache] | None = None,
        record: list[Tensor] | None = None,
    ) -> Tensor:
        for layer, block in enumerate(self.blocks):
            x = block(x, context, cache=None if caches is None else caches[layer], record=record)
        return self.norm(x)

    @torch.no_grad()
    def start(self, inputs: Sequence[Sequence[int]]) -> DecodingState:
        """Read the prompts (an empty one is allowed): BOS and all their tokens but the last fill the cache."""
        _check_ids(inputs, self.config.vocab_size)
        prompts = pad_sequences([[BOS, *tokens] for tokens in inputs], side="left").to(self.device)
        lengths = (prompts != PAD).sum(dim=1)
        caches = [KeyValueCache(self.config.window) for _ in self.blocks]
        if prompts.size(1) > 1:
            self._run(*self._embed(prompts[:, :-1], causal=True), caches=caches)
        return DecodingState(prompts[:, -1], lengths - 1, caches, padded=bool((prompts == PAD).any()))

    def _run_step(self, x: Tensor, context: AttentionContext, state: DecodingState) -> Tensor:
        return self._run(x, context, caches=state.caches)


class MaskedLM(Model):
    """Encoder only: each position sees the whole sentence; the hidden tokens are predicted."""

    blocks: Sequence[Block]

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.blocks = self._stack(Block, config.n_encoder_layers)
        self.norm = self._final_norm()
        self._start_undecided(self.norm, self.blocks)

    def features(self, *inputs: Tensor) -> Tensor:
        """``tokens (batch, length)`` → ``(batch, length, d_model)``."""
        return self._run(inputs[0])

    def attention(self, tokens: Tensor) -> AttentionMaps:
        """Attention weights of every layer, by the readable path."""
        maps = AttentionMaps([], [], [])
        self._run(tokens, record=maps.encoder)
        return maps

    def _run(self, tokens: Tensor, record: list[Tensor] | None = None) -> Tensor:
        x, context = self._embed(tokens, causal=False)
        for block in self.blocks:
            x = block(x, context, record=record)
        return self.norm(x)
