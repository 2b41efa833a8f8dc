"""Answers to the exercises of notebook 3.1."""

import numpy as np
import torch

from course_lib.attention import AttentionContext
from course_lib.positions import sinusoidal
from tests.coursework.answers import right, wrong

# --------------------------------------------------------------------------------------------------- 3.1-a: hidden keys


@right("3.1-a")
def by_the_largest(weights):
    return weights.max(axis=2).max(axis=1) == 0


@right("3.1-a")
def by_sums(weights):
    return ~np.einsum("bhqk->bk", np.abs(weights)).astype(bool)


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


# ------------------------------------------------------------------------------------------------------- 3.1-d: folding


@right("3.1-d")
def by_diagonal(W, b, gain, bias):
    return W @ np.diag(gain), W @ bias + b


@right("3.1-d")
def by_einsum(W, b, gain, bias):
    return np.einsum("od,d->od", W, gain), np.einsum("od,d->o", W, bias) + b


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


# ------------------------------------------------------------------------------------------------------- 3.1-e: packing


def packed(name, restart=True, apart=True, scale=True, norm=True, shift=0, causal=False, last_block=True):
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
        if causal:
            mask = torch.ones_like(mask).tril()
        x = x[None]
        for block in list(model.encoder)[: None if last_block else -1]:
            x = block(x, AttentionContext(mask))
        x = (model.encoder_norm(x) if norm else x)[0].numpy()
        return np.split(np.roll(x, shift, axis=0), np.cumsum(lengths)[:-1])

    encode_packed.__name__ = name
    return encode_packed


right("3.1-e")(packed("by_owner"))


@right("3.1-e")
@torch.no_grad()
def one_by_one(sentences, model):
    return [model.encode(torch.tensor([sentence]))[0][0].numpy() for sentence in sentences]


wrong("3.1-e", "do positions start again at 0")(packed("positions_go_on", restart=False))
wrong("3.1-e", "can the sentences see each other")(packed("no_walls", apart=False))
wrong("3.1-e", "embedding (√d)")(packed("not_scaled", scale=False))
wrong("3.1-e", "or the final norm")(packed("no_final_norm", norm=False))
wrong("3.1-e", "blocks, or the final norm")(packed("one_block_too_few", last_block=False))


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
