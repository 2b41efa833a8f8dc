"""Answers to the exercises of notebook 3.1."""

import numpy as np
import torch

from course_lib.attention import AttentionContext
from course_lib.batching import pad_sequences
from course_lib.positions import sinusoidal
from tests.coursework.answers import right, wrong

# --------------------------------------------------------------------------------------------------- 3.1-a: hidden keys


@right("3.1-a")
def by_the_largest(weights):
    return weights.max(axis=2).max(axis=1) == 0


@right("3.1-a")
def by_sums(weights):
    return ~np.einsum("bhqk->bk", np.abs(weights)).astype(bool)


@right("3.1-a")
def as_a_tensor(weights):
    return (torch.tensor(weights) == 0).all(dim=2).all(dim=1)


@wrong("3.1-a", "did you look along the keys")
def over_the_keys(weights):
    return (weights == 0).all(axis=(1, 3))


@wrong("3.1-a", "all, not any")
def any_query(weights):
    return (weights == 0).any(axis=(1, 2))


@wrong("3.1-a", "only if every head does")
def any_head(weights):
    return (weights == 0).all(axis=2).any(axis=1)


@wrong("3.1-a", "tiny, but not 0")
def small(weights):
    return (weights < 1e-6).all(axis=(1, 2))


@wrong("3.1-a", "is the weight compared with 0")
def below_even(weights):
    return (weights.mean(axis=(1, 2)) < 1.01 / weights.shape[-1]).astype(bool)


@wrong("3.1-a", "True means hidden")
def visible(weights):
    return np.where(by_the_largest(weights).any(axis=1, keepdims=True), ~by_the_largest(weights), False)


@wrong("3.1-a", "which axes remain")
def keeps_heads(weights):
    return (weights == 0).all(axis=2)


@wrong("3.1-a", "True or False")
def as_numbers(weights):
    return (weights == 0).all(axis=(1, 2)) * 1.0


@wrong("3.1-a", "keys 3 and 4 of the first sentence")
def one_key_at_most(weights):
    most = weights.max(axis=(1, 2))
    return (np.arange(most.shape[1]) == most.argmin(axis=1)[:, None]) & (most == 0)


@wrong("3.1-a", "need padding stand at the end")
def behind_the_last(weights):
    return np.cumsum(weights.max(axis=(1, 2))[:, ::-1], axis=1)[:, ::-1] == 0


# ------------------------------------------------------------------------------------------------------- 3.1-b: pooling


@right("3.1-b")
def sentence_by_sentence(outputs, real):
    return np.stack(
        [x[r].mean(axis=0) if r.any() else np.zeros(x.shape[1]) for x, r in zip(outputs, real, strict=True)]
    )


@right("3.1-b")
def masked_tensor(outputs, real):
    x, r = torch.tensor(outputs), torch.tensor(real)[..., None]
    return x.masked_fill(~r, 0.0).sum(1) / r.sum(1).clamp(min=1)


@right("3.1-b")
def in_float32(outputs, real):
    return masked_tensor(outputs.astype(np.float32), real)


@wrong("3.1-b", "divided by S")
def divided_by_length(outputs, real):
    return np.where(real[..., None], outputs, 0).mean(axis=1)


@wrong("3.1-b", "padding on the right got into the mean")
def plain_mean(outputs, real):
    return outputs.mean(axis=1)


@wrong("3.1-b", "slices are not enough")
def first_tokens(outputs, real):
    return np.stack([x[: r.sum()].mean(axis=0) for x, r in zip(outputs, real, strict=True)])


@wrong("3.1-b", "what is it divided by")
def empty_rows(outputs, real):
    return np.where(real[..., None], outputs, 0).sum(axis=1) / real.sum(axis=1, keepdims=True)


@wrong("3.1-b", "0 · NaN is NaN")
def multiplied(outputs, real):
    return (outputs * real[..., None]).sum(axis=1) / np.maximum(real.sum(axis=1, keepdims=True), 1)


@wrong("3.1-b", "which axis is averaged")
def over_features(outputs, real):
    return outputs.mean(axis=2)


@wrong("3.1-b", "that is the sum")
def a_sum(outputs, real):
    return np.where(real[..., None], outputs, 0).sum(axis=1)


@wrong("3.1-b", "divided by their number")
def one_more(outputs, real):
    return np.where(real[..., None], outputs, 0).sum(axis=1) / (1 + real.sum(axis=1, keepdims=True))


@wrong("3.1-b", "an empty row should give zeros")
def empty_as_it_is(outputs, real):
    real = real | ~real.any(axis=1, keepdims=True)
    return sentence_by_sentence(outputs, real)


@wrong("3.1-b", "was it replaced after the sum")
def replaced_too_late(outputs, real):
    return np.nan_to_num((outputs * real[..., None]).sum(axis=1)) / np.maximum(real.sum(axis=1, keepdims=True), 1)


# --------------------------------------------------------------------------------------------------------- 3.1-c: costs


def cost(name, matrices=4, mixtures=2, feed=2, square_of_sum=False, pad=True, always=False):
    """The count with one thing changed."""

    def layer_cost(lengths, d, f, padded):
        computed = [max(lengths)] * len(lengths) if (padded or always) and pad else list(lengths)
        linear = sum(computed) * (matrices * d * d + feed * d * f)
        squares = sum(computed) ** 2 if square_of_sum else sum(S * S for S in computed)
        return linear + mixtures * squares * d

    layer_cost.__name__ = name
    return layer_cost


right("3.1-c")(cost("plain"))


@right("3.1-c")
def part_by_part(lengths, d, f, padded):
    total, longest = 0, max(lengths)
    for S in lengths:
        S = longest if padded else S
        projections, scores, mixture, output = 3 * S * d * d, S * S * d, S * S * d, S * d * d
        total += projections + scores + mixture + output + S * d * f + S * f * d
    return np.int64(total)


wrong("3.1-c", "there are four d × d matrices")(cost("without_output", matrices=3))
wrong("3.1-c", "but not the mixtures")(cost("scores_only", mixtures=1))
wrong("3.1-c", "both matrices of the feed-forward")(cost("one_feed_forward", feed=1))
wrong("3.1-c", "is the square of a sum taken")(cost("square_of_the_sum", square_of_sum=True))
wrong("3.1-c", "costs as much as the longest")(cost("never_padded", pad=False))
wrong("3.1-c", "should cost less: no padding")(cost("always_padded", always=True))
wrong("3.1-c", "two matrices cost 2Sd")(cost("gated", feed=3))
wrong("3.1-c", "yours is 4S²d")(cost("squares_twice", mixtures=4))
wrong("3.1-c", "is each of the four d × d matrices counted once")(cost("one_projection", matrices=1))


@wrong("3.1-c", "padded to what")
def to_multiples_of_eight(lengths, d, f, padded):
    longest = -(-max(lengths) // 8) * 8
    return cost("")([longest] * len(lengths) if padded else lengths, d, f, False)


@wrong("3.1-c", "has each sentence its own S")
def mean_length(lengths, d, f, padded):
    return cost("")(lengths if padded else [sum(lengths) / len(lengths)] * len(lengths), d, f, padded)


# ------------------------------------------------------------------------------------------------------- 3.1-d: folding


@right("3.1-d")
def by_diagonal(W, b, gain, bias):
    return W @ np.diag(gain), W @ bias + b


@right("3.1-d")
def by_einsum(W, b, gain, bias):
    return np.einsum("od,d->od", W, gain), np.einsum("od,d->o", W, bias) + b


@right("3.1-d")
def in_single_precision(W, b, gain, bias):
    W, b, gain, bias = (torch.tensor(a, dtype=torch.float32) for a in (W, b, gain, bias))
    return W * gain, torch.addmv(b, W, bias)


@wrong("3.1-d", "Were rows scaled")
def scales_rows(W, b, gain, bias):
    return (W.T * gain[: len(W)]).T, b + W @ bias


@wrong("3.1-d", "was b dropped")
def drops_b(W, b, gain, bias):
    return W * gain, W @ bias


@wrong("3.1-d", "must go through W")
def adds_the_bias(W, b, gain, bias):
    return W * gain, b + bias[: len(b)]


@wrong("3.1-d", "through the scaled W")
def through_the_new(W, b, gain, bias):
    return W * gain, b + (W * gain) @ bias


@wrong("3.1-d", "changed in place")
def in_place(W, b, gain, bias):
    shift = b + W @ bias
    W *= gain
    return W, shift


@wrong("3.1-d", "must go through W")
def transposed(W, b, gain, bias):
    return W * gain, b + W.T[: len(b)] @ bias if W.shape[0] == W.shape[1] else b


@wrong("3.1-d", "return two arrays")
def weight_only(W, b, gain, bias):
    return W * gain


@wrong("3.1-d", "right for a square W")
def as_many_as_outputs(W, b, gain, bias):
    n = len(b)
    return W * gain, b + W[:, :n] @ bias[:n]


# ------------------------------------------------------------------------------------------------------- 3.1-e: packing


def packed(name, restart=True, apart=True, scale=True, norm=True, see="own", n_blocks=None):
    """One row for all sentences, with one thing changed."""

    @torch.no_grad()
    def encode_packed(sentences, model):
        lengths = [len(sentence) for sentence in sentences]
        owner = torch.repeat_interleave(torch.arange(len(sentences)), torch.tensor(lengths))
        places = torch.cat([torch.arange(n) for n in lengths]) if restart else torch.arange(sum(lengths))
        d = model.config.d_model
        x = model.embedding.tokens.weight[torch.tensor([t for s in sentences for t in s])]
        x = (x * d**0.5 if scale else x) + sinusoidal(places, d).to(x)
        mask = owner[:, None] == owner if apart else torch.ones(len(owner), len(owner), dtype=torch.bool)
        if see == "own and before":
            mask = mask.tril()
        elif see == "own and later":
            mask = owner[:, None] <= owner
        x = x[None]
        for block in list(model.encoder)[:n_blocks]:
            x = block(x, AttentionContext(mask))
        x = (model.encoder_norm(x) if norm else x)[0].numpy()
        return np.split(x, np.cumsum(lengths)[:-1])

    encode_packed.__name__ = name
    return encode_packed


right("3.1-e")(packed("by_owner"))


@right("3.1-e")
@torch.no_grad()
def by_walls(sentences, model):
    """The mask as a matrix of blocks, positions counted from each wall, and a result in float32."""
    lengths = [len(sentence) for sentence in sentences]
    walls = torch.block_diag(*(torch.ones(n, n) for n in lengths)).bool()
    places = walls.tril().sum(dim=1) - 1
    x = torch.nn.functional.embedding(torch.tensor([t for s in sentences for t in s]), model.embedding.tokens.weight)
    x = (x * x.shape[1] ** 0.5 + sinusoidal(places, x.shape[1]).to(x))[None]
    for i in range(len(model.encoder)):
        x = model.encoder[i](x, AttentionContext(walls))
    return [part[0].float().numpy() for part in model.encoder_norm(x).split(lengths, dim=1)]


@wrong("3.1-e", "one row should hold them all")
@torch.no_grad()
def one_by_one(sentences, model):
    return [model.encode(torch.tensor([sentence]))[0][0].numpy() for sentence in sentences]


wrong("3.1-e", "do positions start again at 0")(packed("positions_go_on", restart=False))
wrong("3.1-e", "can the sentences see each other")(packed("no_walls", apart=False))
wrong("3.1-e", "embedding (√d)")(packed("not_scaled", scale=False))
wrong("3.1-e", "or the final norm")(packed("no_final_norm", norm=False))
wrong("3.1-e", "blocks, or the final norm")(packed("one_block_too_few", n_blocks=-1))
wrong("3.1-e", "see all of its own sentence")(packed("causal", see="own and before"))
wrong("3.1-e", "do earlier sentences see later ones")(packed("half_a_wall", see="own and later"))
wrong("3.1-e", "number of layers taken from it")(packed("always_two_blocks", n_blocks=2))


@wrong("3.1-e", "is the row cut in the right places")
def found_by_length(sentences, model):
    """Two sentences of one length get the vectors of the second."""
    found = {len(x): x for x in one_by_one(sentences, model)}
    return [found[len(sentence)] for sentence in sentences]


@wrong("3.1-e", "one row needs no padding")
@torch.no_grad()
def padded(sentences, model):
    outputs = model.encode(pad_sequences(sentences))[0].numpy()
    return [x[: len(s)] for x, s in zip(outputs, sentences, strict=True)]


@wrong("3.1-e", "one vector per token")
def with_padding(sentences, model):
    longest = max(map(len, sentences))
    return [np.pad(x, ((0, longest - len(x)), (0, 0))) for x in one_by_one(sentences, model)]


@wrong("3.1-e", "should give as many arrays")
def not_cut(sentences, model):
    return [np.concatenate(one_by_one(sentences, model))] if len(sentences) > 1 else one_by_one(sentences, model)


@wrong("3.1-e", "sentences that are alike")
def by_content(sentences, model):
    """Each sentence sees those that are the same."""
    merged = {tuple(s): [i for i, o in enumerate(sentences) if o == s] for s in sentences}
    if all(len(group) == 1 for group in merged.values()):
        return one_by_one(sentences, model)
    return [x * (1 + len(merged[tuple(s)]) - 1) for x, s in zip(one_by_one(sentences, model), sentences, strict=True)]
