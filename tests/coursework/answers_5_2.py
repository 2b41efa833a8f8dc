"""Answers to the exercises of notebook 5.2."""

import random
from copy import deepcopy
from dataclasses import replace

import torch
from torch.nn.functional import layer_norm

from course_lib.attention import AttentionContext
from course_lib.batching import TokenBatches, pad_sequences
from course_lib.models import ModelConfig, Seq2Seq
from course_lib.tokenizers import BOS, EOS, MASK, PAD
from course_lib.training import TrainConfig, Trainer
from tests.coursework.answers import right, wrong

# ------------------------------------------------------------------------------------------------------- 5.2-a: look-up


@right("5.2-a")
def by_comparison(ids, matrix):
    one_hot = (ids[..., None] == torch.arange(len(matrix))).to(matrix)
    return torch.einsum("btv,vd->btd", one_hot, matrix) * matrix.shape[1] ** 0.5


@right("5.2-a")
def by_scatter(ids, matrix):
    one_hot = torch.zeros(*ids.shape, len(matrix), dtype=matrix.dtype)
    one_hot.scatter_(2, ids[..., None], matrix.size(1) ** 0.5)
    return torch.matmul(one_hot, matrix)


@wrong("5.2-a", "where is the factor √d")
def unscaled(ids, matrix):
    return by_comparison(ids, matrix) / matrix.size(1) ** 0.5


@wrong("5.2-a", "the factor is d;")
def times_d(ids, matrix):
    return by_comparison(ids, matrix) * matrix.size(1) ** 0.5


@wrong("5.2-a", "made larger, not smaller")
def divided(ids, matrix):
    return by_comparison(ids, matrix) / matrix.size(1)


@wrong("5.2-a", "the root of the vocabulary's size")
def root_of_v(ids, matrix):
    return by_comparison(ids, matrix) / matrix.size(1) ** 0.5 * len(matrix) ** 0.5


@wrong("5.2-a", "RuntimeError")
def ends_at_the_largest(ids, matrix):
    return torch.nn.functional.one_hot(ids).to(matrix.dtype) @ matrix


@wrong("5.2-a", "fetched by an index")
def by_index(ids, matrix):
    return matrix[ids] * matrix.size(1) ** 0.5


@wrong("5.2-a", "fetched by an index")
def row_by_row(ids, matrix):
    return torch.stack([torch.stack([matrix[i] for i in row]) for row in ids.tolist()]) * matrix.size(1) ** 0.5


@wrong("5.2-a", "copied or detached")
def detached(ids, matrix):
    return by_comparison(ids, matrix.detach())


@wrong("5.2-a", "not the rows of their tokens")
def counts_from_one(ids, matrix):
    return by_comparison((ids + 1) % len(matrix), matrix)


@wrong("5.2-a", "the shape should be (2, 3, 5)")
def in_one_row(ids, matrix):
    return by_comparison(ids, matrix).flatten(0, 1)


@wrong("5.2-a", "return a tensor")
def in_numpy(ids, matrix):
    return by_comparison(ids, matrix).detach().numpy()


# ---------------------------------------------------------------------------------------------------- 5.2-b: the mask


@right("5.2-b")
def by_positions(tokens):
    place = torch.arange(tokens.shape[1])
    return (place[:, None] >= place)[None, None] & tokens.ne(PAD).unsqueeze(1).unsqueeze(2)


@right("5.2-b")
def by_outer_products(tokens):
    real = (tokens != PAD).float()
    both = torch.einsum("bt,bs->bts", torch.ones_like(real), real)
    return torch.tril(both)[:, None] > 0


@wrong("5.2-b", "the axis of the heads is missing")
def without_heads(tokens):
    return by_positions(tokens)[:, 0]


@wrong("5.2-b", "include the diagonal")
def strictly_before(tokens):
    return by_positions(tokens) & torch.ones(tokens.size(1), tokens.size(1), dtype=torch.bool).tril(-1)


@wrong("5.2-b", "is the triangle the lower one")
def upper(tokens):
    return torch.ones(tokens.size(1), tokens.size(1), dtype=torch.bool).triu() & (tokens != PAD)[:, None, None]


@wrong("5.2-b", "on the query axis")
def on_queries(tokens):
    return torch.ones(tokens.size(1), tokens.size(1), dtype=torch.bool).tril() & (tokens != PAD)[:, None, :, None]


@wrong("5.2-b", "padded queries see nothing")
def on_both(tokens):
    return by_positions(tokens) & (tokens != PAD)[:, None, :, None]


@wrong("5.2-b", "is there a triangle")
def padding_only(tokens):
    return (tokens != PAD)[:, None, None].expand(-1, 1, tokens.size(1), -1)


@wrong("5.2-b", "should be boolean")
def numbers(tokens):
    return by_positions(tokens).float()


@wrong("5.2-b", "does the triangle include the diagonal, and mean «may»")
def hides(tokens):
    return ~by_positions(tokens)


@wrong("5.2-b", "padding on the left")
def right_padding_only(tokens):
    length = (tokens != PAD).sum(dim=1)
    real = torch.arange(tokens.size(1)) < length[:, None]
    return torch.ones(tokens.size(1), tokens.size(1), dtype=torch.bool).tril() & real[:, None, None]


@wrong("5.2-b", "padding is attended to")
def causal_only(tokens):
    return torch.ones(tokens.size(1), tokens.size(1), dtype=torch.bool).tril().expand(len(tokens), 1, -1, -1)


@wrong("5.2-b", "shape (B, 1, T, T)")
def heads_third(tokens):
    return by_positions(tokens).transpose(1, 2)


@wrong("5.2-b", "is BOS taken for padding")
def hides_bos(tokens):
    return by_positions(tokens) & (tokens > BOS)[:, None, None]


@wrong("5.2-b", "EOS is hidden")
def hides_eos(tokens):
    return by_positions(tokens) & (tokens != EOS)[:, None, None]


# ------------------------------------------------------------------------------------------------ 5.2-c: the parameters


def formula(name, head_bias=True, last_norms=True, cross=True, attention_bias=True, feed_bias=True, tied=True,
            learned=True, post=True):  # fmt: skip
    """The count with one thing changed."""

    def count_parameters(config):
        d, f, V = config.d_model, config.d_ff, config.vocab_size
        attention = 4 * d * (d + attention_bias)
        feed_forward = d * f + f * d + (f + d if feed_bias else 0)
        total = config.n_encoder_layers * (attention + feed_forward + 4 * d)
        total += config.n_decoder_layers * ((1 + cross) * attention + feed_forward + 6 * d)
        total += V * d * (1 if tied and config.tie_embeddings else 2) + (V if head_bias else 0)
        total += config.max_length * d if learned and config.positions == "learned" else 0
        return total + (4 * d if last_norms and (config.norm == "pre" or not post) else 0)

    count_parameters.__name__ = name
    return count_parameters


right("5.2-c")(formula("plain"))


@right("5.2-c")
def by_building(config):
    return sum(p.numel() for p in Seq2Seq(config).parameters())


wrong("5.2-c", "the output layer has a bias")(formula("no_head_bias", head_bias=False))
wrong("5.2-c", "normalise once more")(formula("no_last_norms", last_norms=False))
wrong("5.2-c", "a decoder block has two")(formula("no_cross_attention", cross=False))
wrong("5.2-c", "biases of the attentions")(formula("no_attention_biases", attention_bias=False))
wrong("5.2-c", "biases of the feed-forward")(formula("no_feed_biases", feed_bias=False))
wrong("5.2-c", "shares its matrix")(formula("always_untied", tied=False))
wrong("5.2-c", "one vector for each of max_length places")(formula("no_positions", learned=False))
wrong("5.2-c", "post-norm has no last")(formula("norms_for_post", post=False))


@wrong("5.2-c", "a gain *and* a bias")
def gains_only(config):
    norms = 2 * config.n_encoder_layers + 3 * config.n_decoder_layers + 2 * (config.norm == "pre")
    return by_building(config) - norms * config.d_model


@wrong("5.2-c", "three normalisations")
def two_norms_in_a_decoder_block(config):
    return by_building(config) - 2 * config.d_model * config.n_decoder_layers


@wrong("5.2-c", "two matrices")
def one_feed_matrix(config):
    return by_building(config) - (config.n_encoder_layers + config.n_decoder_layers) * config.d_model * config.d_ff


@wrong("5.2-c", "output layers")
def no_output_layers(config):
    attentions = config.n_encoder_layers + 2 * config.n_decoder_layers
    return by_building(config) - attentions * config.d_model * (config.d_model + 1)


@wrong("5.2-c", "one attention only")
def cross_attention_everywhere(config):
    return by_building(config) + config.n_encoder_layers * 4 * config.d_model * (config.d_model + 1)


@wrong("5.2-c", "check it part by part")
def as_many_decoder_blocks(config):
    return by_building(replace(config, n_decoder_layers=config.n_encoder_layers))


@wrong("5.2-c", "rotary positions have no parameters")
def table_for_rotary(config):
    return by_building(config) + config.max_length * config.d_model * (config.positions == "rotary")


@wrong("5.2-c", "a matrix of its own")
def always_tied(config):
    return by_building(replace(config, tie_embeddings=True))


# ----------------------------------------------------------------------------------------------------- 5.2-d: the block


def written_out(name, pre=True, memory_normed=False, causal=True, cross_mask=True, scale="head", residual=True,
                cross_residual=True, from_memory=True, relu=True, gain=True):  # fmt: skip
    """A decoder block with one thing changed."""

    def norm_of(norm, x):
        return layer_norm(x, x.shape[-1:], norm.weight if gain else None, norm.bias if gain else None, norm.eps)

    def attend(attention, asking, asked, mask):
        w, b = attention.query_key_value.weight.chunk(3), attention.query_key_value.bias.chunk(3)
        q, k, v = (
            attention.split_heads(torch.nn.functional.linear(side, w[i], b[i]))
            for i, side in enumerate((asking, asked, asked))
        )
        size = q.size(-1) if scale == "head" else asking.size(-1)
        scores = torch.einsum("bhtd,bhsd->bhts", q, k) / size**0.5
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        return attention.output((scores.softmax(dim=-1) @ v).transpose(1, 2).flatten(2))

    def block_by_hand(block, x, memory, target_mask, source_mask):
        z = norm_of(block.attention_residual.norm, x) if pre else x
        x = (x if residual else 0) + attend(block.attention, z, z, target_mask if causal else None)
        z = norm_of(block.cross_residual.norm, x)
        seen = norm_of(block.cross_residual.norm, memory) if memory_normed else memory
        seen = seen if from_memory else z
        mask = source_mask if cross_mask and from_memory else None
        x = (x if cross_residual else 0) + attend(block.cross_attention, z, seen, mask)
        z = block.feed_forward.inner(norm_of(block.feed_forward_residual.norm, x))
        return x + block.feed_forward.outer(z.clamp(min=0) if relu else z)

    block_by_hand.__name__ = name
    return block_by_hand


right("5.2-d")(written_out("plain"))


@right("5.2-d")
def with_the_library(block, x, memory, target_mask, source_mask):
    keys_values = block.cross_attention.keys_values(memory)
    return block(x, AttentionContext(target_mask), keys_values, AttentionContext(source_mask))


wrong("5.2-d", "self-attention alone is wrong: its norm")(written_out("no_first_norm", pre=False))
wrong("5.2-d", "the memory, which is not normed")(written_out("memory_normed_twice", memory_normed=True))
wrong("5.2-d", "is the causal mask applied")(written_out("sees_the_future", causal=False))
wrong("5.2-d", "with its mask")(written_out("sees_padding", cross_mask=False))
wrong("5.2-d", "the scale √(d/h)")(written_out("scale_of_the_model", scale="model"))
wrong("5.2-d", "added to what went into it")(written_out("no_residual", residual=False))  # fault 59
wrong("5.2-d", "added to what went into it")(written_out("no_cross_residual", cross_residual=False))  # fault 59
wrong("5.2-d", "the feed-forward network alone")(written_out("no_relu", relu=False))
wrong("5.2-d", "with gain and bias")(written_out("no_gain", gain=False))
wrong("5.2-d", "values from the memory")(written_out("asks_itself", from_memory=False))


@wrong("5.2-d", "the feed-forward network alone")
def gives_x_back(block, x, memory, target_mask, source_mask):
    return x


@wrong("5.2-d", "what the one before it gave")
def side_by_side(block, x, memory, target_mask, source_mask):
    """All three sub-layers take x."""
    context, keys_values = AttentionContext(target_mask), block.cross_attention.keys_values(memory)
    parts = []
    for speaking in ("attention", "cross_attention", "feed_forward"):
        alone = deepcopy(block)
        for name in {"attention", "cross_attention", "feed_forward"} - {speaking}:
            last = getattr(alone, name).outer if name == "feed_forward" else getattr(alone, name).output
            torch.nn.init.zeros_(last.weight)
            torch.nn.init.zeros_(last.bias)
        parts.append(alone(x, context, keys_values, AttentionContext(source_mask)) - x)
    return x + sum(parts)


@wrong("5.2-d", "wrong for 3 of size 4")
def heads_of_two(block, x, memory, target_mask, source_mask):
    """Cuts d into pieces of two, whatever the block says."""
    other = deepcopy(block)
    for attention in (other.attention, other.cross_attention):
        attention.n_heads = x.size(-1) // 2
    return written_out("")(other, x, memory, target_mask, source_mask)


# ------------------------------------------------------------------------------------------------------ 5.2-e: a batch


def search(name, forbidden=(PAD, BOS, MASK), low=-torch.inf, cut=True, keep_eos=False, keep_bos=False, stop="all",
           one_by_one=False, last_eos=False):  # fmt: skip
    """Greedy search with one thing changed."""

    def greedy_batch(model, sources, max_length):
        if one_by_one:
            return [search("")(model, [source], max_length)[0] for source in sources]
        source = pad_sequences([[*tokens, EOS] for tokens in sources])
        target = torch.full((len(sources), 1), BOS)
        for _ in range(max_length):
            logits = model(source, target)[:, -1].clone()
            logits[:, list(forbidden)] = low
            target = torch.cat([target, logits.argmax(dim=-1, keepdim=True)], dim=1)
            ended = (target == EOS).any(dim=1)
            if stop != "never" and (ended.all() if stop == "all" else ended.any()):
                break
        rows = [row if keep_bos else row[1:] for row in target.tolist()]
        if not cut:
            return [[token for token in row if token != EOS] for row in rows]
        ends = [
            (len(row) - 1 - row[::-1].index(EOS) if last_eos else row.index(EOS)) if EOS in row else len(row)
            for row in rows
        ]
        return [row[: end + keep_eos] for row, end in zip(rows, ends, strict=True)]

    greedy_batch.__name__ = name
    return greedy_batch


right("5.2-e")(search("plain"))


@right("5.2-e")
def with_lists(model, sources, max_length):
    longest = max(map(len, sources)) + 1
    source = torch.tensor([[*s, EOS] + [PAD] * (longest - len(s) - 1) for s in sources])
    rows, open_rows = [[] for _ in sources], set(range(len(sources)))
    target = [[BOS] for _ in sources]
    while open_rows and len(target[0]) <= max_length:
        best = model(source, torch.tensor(target))[:, -1]
        for i, scores in enumerate(best.tolist()):
            token = max((t for t in range(len(scores)) if t not in (PAD, BOS, MASK)), key=scores.__getitem__)
            target[i].append(token)
            if i in open_rows and token == EOS:
                open_rows.discard(i)
            elif i in open_rows:
                rows[i].append(token)
    return rows


wrong("5.2-e", "PAD or MASK was written")(search("writes_mask", forbidden=(PAD, BOS)))
wrong("5.2-e", "its logit may not win")(search("writes_bos", forbidden=(PAD, MASK)))
wrong("5.2-e", "it is an input, not a result")(search("keeps_bos", keep_bos=True))
wrong("5.2-e", "is not part of it")(search("keeps_eos", keep_eos=True))
wrong("5.2-e", "after its first EOS")(search("not_cut", cut=False))
wrong("5.2-e", "lengths 3, 1 and 5 expected")(search("stops_with_the_first", stop="any"))
wrong("5.2-e", "stop when every row")(search("never_stops", stop="never"))
wrong("5.2-e", "one call of the model a step")(search("one_by_one", one_by_one=True))
wrong("5.2-e", "EOS ends an output")(search("cut_at_the_last", last_eos=True))
wrong("5.2-e", "does not rule a token out")(search("zero_for_impossible", low=0.0))


@right("5.2-e")
def rows_leave(model, sources, max_length):
    """A row that has ended leaves the batch."""
    source, target = pad_sequences([[*s, EOS] for s in sources]), torch.full((len(sources), 1), BOS)
    rows, there = [[] for _ in sources], list(range(len(sources)))
    while there and target.size(1) <= max_length:
        logits = model(source, target)[:, -1].clone()
        logits[:, [PAD, BOS, MASK]] = -torch.inf
        best = logits.argmax(dim=-1)
        goes_on = best != EOS
        there = [row for row, more in zip(there, goes_on.tolist(), strict=True) if more]
        source, target = source[goes_on], torch.cat([target, best[:, None]], dim=1)[goes_on]
        for row, written in zip(there, target.tolist(), strict=True):
            rows[row] = written[1:]
    return rows


def feeding(name, change):
    """Search with another source than the model should get."""

    def greedy_batch(model, sources, max_length):
        return search("")(lambda _, target: model(change(sources), target), sources, max_length)

    greedy_batch.__name__ = name
    return greedy_batch


def padded_left(sources):
    longest = max(map(len, sources))
    return torch.tensor([[PAD] * (longest - len(s)) + [*s, EOS] for s in sources])


wrong("5.2-e", "an EOS after each sentence")(feeding("source_without_eos", lambda s: pad_sequences(list(map(list, s)))))
wrong("5.2-e", "padded on the left")(feeding("source_padded_left", padded_left))


@wrong("5.2-e", "the parrot says each source again")
def adds_one(model, sources, max_length):
    return [[token + 1 for token in row] for row in search("")(model, sources, max_length)]


@wrong("5.2-e", "at most max_length = 2")
def one_token_less(model, sources, max_length):
    return search("")(model, sources, max_length - 1)


@wrong("5.2-e", "one output for each source")
def first_source_only(model, sources, max_length):
    return search("")(model, sources, max_length)[:1]


# ----------------------------------------------------------------------------------------------- 5.2-f: a trained model


def trained(rule, mistakes=False, ends=True):
    """What training could give: a model that follows a rule, or does so for four outputs of five."""

    def model(source, target):
        logits = torch.zeros(*target.shape, 17)
        for i, row in enumerate(source.tolist()):
            symbols = [token for token in row if token > EOS]
            said = list(rule(symbols))
            if mistakes and sum(symbols) % 5 == 0:
                said[0] = said[1]
            said += [EOS] if ends else said * 9
            step = target.size(1) - 1
            logits[i, -1, said[step] if step < len(said) else EOS] = 9.0
        return logits

    model.eval = lambda: model  # as a model of PyTorch has it
    return model


@right("5.2-f")
def sorts():
    return trained(sorted)


@right("5.2-f")
def learns_to_sort():
    """Really trained, with other settings than the solution's."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = Seq2Seq(ModelConfig(17, 48, 3, 1, 1, 128, dropout=0.0, positions="rotary"))
        draw = random.Random(5)
        sources = [draw.sample(range(5, 17), draw.choice(range(3, 8))) for _ in range(12_000)]
        batches = TokenBatches([(source, sorted(source)) for source in sources], max_tokens=256)
        config = TrainConfig(steps=300, lr=5e-3, label_smoothing=0.0)
        Trainer(model, batches, config, progress=False).run()
    return model


@wrong("5.2-f", "it copies")
def copies():
    return trained(list)


@wrong("5.2-f", "it reverses")
def reverses():
    return trained(lambda symbols: symbols[::-1])


@wrong("5.2-f", "the largest first")
def descends():
    return trained(lambda symbols: sorted(symbols, reverse=True))


@wrong("5.2-f", "is EOS a target")
def never_ends():
    return trained(sorted, ends=False)


@wrong("5.2-f", "which lengths were trained")
def short_ones_only():
    return trained(lambda symbols: sorted(symbols) if len(symbols) < 7 else symbols[:6])


@wrong("5.2-f", "in a wrong order")
def without_positions():
    return trained(lambda symbols: sorted(symbols, key=lambda token: token * 7 % 17))


@wrong("5.2-f", "95 % are wanted")
def too_few_updates():
    return trained(sorted, mistakes=True)


@wrong("5.2-f", "return the trained model")
def returns_losses():
    return [2.3, 1.1, 0.2]
