"""Answers to the exercises of notebook 3.2."""

import numpy as np
import torch

from course_lib.positions import sinusoidal
from course_lib.tokenizers import BOS, EOS, MASK, PAD
from tests.coursework.answers import right, wrong

# ---------------------------------------------------------------------------------------------- 3.2-a: the mask


@right("3.2-a")
def by_positions(n_old, n_new):
    return np.arange(n_old, n_old + n_new)[:, None] >= np.arange(n_old + n_new)


@right("3.2-a")
def side_by_side(n_old, n_new):
    return np.hstack([np.ones((n_new, n_old), bool), np.tril(np.ones((n_new, n_new), bool))])


@right("3.2-a")
def as_a_tensor(n_old, n_new):
    return torch.ones(n_new, n_old + n_new, dtype=torch.bool).tril(n_old)


@wrong("3.2-a", "top left corner")
def at_the_top_left(n_old, n_new):
    return np.tri(n_new, n_old + n_new, dtype=bool)


@wrong("3.2-a", "a square")
def new_keys_only(n_old, n_new):
    return np.tri(n_new, dtype=bool)


@wrong("3.2-a", "only the new ones are queries")
def whole_mask(n_old, n_new):
    return np.tri(n_old + n_new, dtype=bool)


@wrong("3.2-a", "a token sees itself")
def strictly_before(n_old, n_new):
    return np.tri(n_new, n_old + n_new, k=n_old - 1, dtype=bool)


@wrong("3.2-a", "nothing above it")
def one_ahead(n_old, n_new):
    return np.tri(n_new, n_old + n_new, k=n_old + 1, dtype=bool)


@wrong("3.2-a", "this is the opposite")
def hides(n_old, n_new):
    return ~by_positions(n_old, n_new)


@wrong("3.2-a", "early rows see more")
def transposed(n_old, n_new):
    return by_positions(n_old, n_new)[::-1, ::-1] if n_old == 0 else by_positions(n_old, n_new)


@wrong("3.2-a", "rows are the 3 new tokens")
def keys_by_queries(n_old, n_new):
    return by_positions(n_old, n_new).T


@wrong("3.2-a", "should be boolean")
def in_numbers(n_old, n_new):
    return np.tri(n_new, n_old + n_new, k=n_old)


@wrong("3.2-a", "n_old + i + 1 keys")
def all_behind_a_cache(n_old, n_new):
    return by_positions(n_old, n_new) | (n_old > 0)


@wrong("3.2-a", "Do the cached ones come first")
def new_keys_in_front(n_old, n_new):
    return np.hstack([np.tri(n_new, dtype=bool), np.ones((n_new, n_old), bool)])


# ----------------------------------------------------------------------------------------------- 3.2-b: the leak


def detect(name, tolerance=0.0, only_last=False, neighbours=False, in_place=False, diagonal=False, swapped=False,
           step=1, wrap=True):  # fmt: skip
    """The search with one thing changed."""

    def leaks(decoder, tokens, V):
        before, pairs, changed = decoder(tokens).copy(), set(), tokens.copy()
        for j in [len(tokens) - 1] if only_last else range(len(tokens)):
            changed = changed if in_place else tokens.copy()
            changed[j] = (changed[j] + step) % V if wrap else changed[j] + step
            moved = np.abs(decoder(changed) - before).max(axis=1) > tolerance
            rows = range(max(0, j - 1), j) if neighbours else range(len(tokens) if diagonal else j)
            pairs |= {(j, i) if swapped else (i, j) for i in rows if moved[i]}
        return pairs

    leaks.__name__ = name
    return leaks


right("3.2-b")(detect("next_token"))


@right("3.2-b")
def by_exclusive_or(decoder, tokens, V):
    before, n = decoder(tokens), len(tokens)
    other = np.tile(tokens, (n, 1))
    other[np.arange(n), np.arange(n)] = np.where(tokens == 0, 1, 0)
    changed = np.array([(decoder(row) != before).any(axis=1) for row in other])  # (token, row)
    return {(int(i), int(j)) for j, i in np.argwhere(np.triu(changed.T, 1).T)}


wrong("3.2-b", "compare bits")(detect("with_tolerance", tolerance=1e-6))
wrong("3.2-b", "is every token changed")(detect("last_token_only", only_last=True))
wrong("3.2-b", "are all earlier rows compared")(detect("neighbours_only", neighbours=True))
wrong("3.2-b", "do changes pile up")(detect("changes_pile_up", in_place=True))
wrong("3.2-b", "only j > i is a leak")(detect("with_the_past", diagonal=True))
wrong("3.2-b", "i comes first")(detect("turned_round", swapped=True))
wrong("3.2-b", "one of the vocabulary")(detect("beyond_the_vocabulary", wrap=False))


@wrong("3.2-b", "work on a copy")
def changes_the_ids(decoder, tokens, V):
    before, pairs = decoder(tokens), set()
    for j in range(len(tokens)):
        tokens[j] = (tokens[j] + 1) % V
        pairs |= {(i, j) for i in range(j) if (decoder(tokens) != before)[i].any()}
    return pairs


@wrong("3.2-b", "return a set of pairs")
def as_a_list(decoder, tokens, V):
    return sorted(by_exclusive_or(decoder, tokens, V))


@wrong("3.2-b", "one for each pair")
def first_of_each_row(decoder, tokens, V):
    return {(i, min(j for k, j in by_exclusive_or(decoder, tokens, V) if k == i))
            for i in {i for i, _ in by_exclusive_or(decoder, tokens, V)}}  # fmt: skip


# -------------------------------------------------------------------------------------------- 3.2-c: shared heads


def grouped(name, share="repeat", scale="head", after=False, hides=False):
    """Grouped attention with one thing changed."""

    def attention(q, k, v, mask):
        h, g = len(q), len(k)
        index = {
            "repeat": np.arange(h) // (h // g), "tile": np.arange(h) % g, "first": np.zeros(h, int),
            "threes": np.arange(h) // (3 if g < h else 1),
        }[share]  # fmt: skip
        k, v = k[index], v[index]
        size = q.shape[2]
        scores = (
            q @ k.transpose(0, 2, 1) / {"head": size, "model": size * h, "group": size * h / g, "none": 1}[scale] ** 0.5
        )
        allowed = ~mask if hides and not mask.all() else mask
        if after:
            e = np.exp(scores)
            return e / e.sum(axis=2, keepdims=True) * allowed @ v
        e = np.exp(scores) * allowed
        return e / np.maximum(e.sum(axis=2, keepdims=True), 1e-30) @ v

    attention.__name__ = name
    return attention


right("3.2-c")(grouped("by_index"))


@right("3.2-c")
def in_five_axes(q, k, v, mask):
    h, T, size = q.shape
    q5 = torch.tensor(q).reshape(len(k), h // len(k), T, size)
    scores = torch.einsum("gitd,gsd->gits", q5, torch.tensor(k)) * size**-0.5
    weights = scores.masked_fill(~torch.tensor(mask), -torch.inf).softmax(dim=-1)
    return torch.einsum("gits,gsd->gitd", weights, torch.tensor(v)).reshape(h, T, size)


@right("3.2-c")
def in_float32(q, k, v, mask):
    return grouped("")(*(a.astype(np.float32) for a in (q, k, v)), mask)


wrong("3.2-c", "which heads are neighbours")(grouped("every_gth", share="tile"))
wrong("3.2-c", "has every head its own")(grouped("first_for_all", share="first"))
wrong("3.2-c", "is the scale that of one head")(grouped("no_scale", scale="none"))
wrong("3.2-c", "whatever h")(grouped("scale_of_the_model", scale="model"))
wrong("3.2-c", "before the softmax")(grouped("mask_after", after=True))
wrong("3.2-c", "True = may see")(grouped("mask_hides", hides=True))
wrong("3.2-c", "the scale is √d_h")(grouped("scale_of_a_group", scale="group"))
wrong("3.2-c", "how large is a group")(grouped("groups_of_three", share="threes"))


@wrong("3.2-c", "each keeps its own query")
def one_query_a_group(q, k, v, mask):
    g, h = len(k), len(q)
    return grouped("")(q.reshape(g, h // g, *q.shape[1:]).mean(axis=1).repeat(h // g, axis=0), k, v, mask)


# ------------------------------------------------------------------------------------------------- 3.2-d: window


def forgetful(name, keep=0, newest=True, values=True, scale=True, itself=True, front=False):
    """One step with one thing changed."""

    def step(q, k, v, cache, window):
        room = max(1, window + keep)
        for key, new in (("k", k), ("v", v)):
            old = cache.get(key, new[:, :0]) if values or key == "k" else new[:, :0]
            both = [new, old] if front and key == "k" else [old, new]
            whole = np.concatenate(both, axis=1)
            cache[key] = whole[:, -room:] if newest else whole[:, :room]
        ks, vs = cache["k"], cache["v"]
        if not itself:
            ks, vs = ks[:, :-1], vs[:, :-1]
        s = q @ ks.transpose(0, 2, 1) / (q.shape[2] ** 0.5 if scale else 1)
        e = np.exp(s - s.max(axis=-1, keepdims=True, initial=-1e30))
        weights = e / np.maximum(e.sum(axis=-1, keepdims=True), 1e-30)
        return weights[..., : vs.shape[1]] @ vs

    step.__name__ = name
    return step


right("3.2-d")(forgetful("by_slices"))


@right("3.2-d")
def ring(q, k, v, cache, window):
    """A ring of fixed size: the newest takes the place of the oldest."""
    if not cache:
        cache["k"], cache["v"] = np.zeros((len(k), window, k.shape[2])), np.zeros((len(v), window, v.shape[2]))
    n = cache["steps"].shape[0] if "steps" in cache else 0
    cache["k"][:, n % window], cache["v"][:, n % window] = k[:, 0], v[:, 0]
    cache["steps"] = np.zeros((n + 1, 0))
    used = min(n + 1, window)
    s = np.einsum("hqd,hsd->hqs", q, cache["k"][:, :used]) / q.shape[2] ** 0.5
    e = np.exp(s)
    return np.einsum("hqs,hsd->hqd", e / e.sum(axis=2, keepdims=True), cache["v"][:, :used])


@right("3.2-d")
def tensors(q, k, v, cache, window):
    """PyTorch, in float32."""
    q, k, v = (torch.tensor(a, dtype=torch.float32) for a in (q, k, v))
    for name, new in (("k", k), ("v", v)):
        cache[name] = torch.cat([*cache.get(name, torch.zeros(len(q), 0, q.shape[2])).split(1, dim=1), new], dim=1)
        cache[name] = cache[name][:, -window:]
    return torch.nn.functional.scaled_dot_product_attention(q, cache["k"], cache["v"])


wrong("3.2-d", "one is missing")(forgetful("one_too_few", keep=-1))
wrong("3.2-d", "drop the *oldest*")(forgetful("one_too_many", keep=1))
wrong("3.2-d", "drop the *oldest*")(forgetful("keeps_the_oldest", newest=False))
wrong("3.2-d", "as key *and* as value")(forgetful("values_forgotten", values=False))
wrong("3.2-d", "Is the scale √d_h")(forgetful("no_scale", scale=False))
wrong("3.2-d", "does it see itself")(forgetful("not_itself", itself=False))
wrong("3.2-d", "as key *and* as value")(forgetful("keys_in_front", front=True))


@wrong("3.2-d", "with room left")
def newest_two(q, k, v, cache, window):
    return forgetful("")(q, k, v, cache, 2)


@wrong("3.2-d", "does the oldest go each time")
def always_the_first_place(q, k, v, cache, window):
    """A full cache gets the new token where the first one was, again and again."""
    if cache and cache["k"].shape[1] == window > 1:
        cache["k"], cache["v"] = cache["k"][:, 1:], cache["v"][:, 1:]
        mixed = forgetful("")(q, k, v, cache, window)
        cache["k"], cache["v"] = (np.roll(cache[name], 1, axis=1) for name in ("k", "v"))
        return mixed
    return forgetful("")(q, k, v, cache, window)


@wrong("3.2-d", "a window of 1")
def last_without_the_new(q, k, v, cache, window):
    """Cuts before it adds: with a window of 1, -(window - 1) is 0, and nothing is cut."""
    for name in cache:
        cache[name] = cache[name][:, -(window - 1) :]
    return forgetful("")(q, k, v, cache, 99)


@wrong("3.2-d", "are enough")
def keeps_everything(q, k, v, cache, window):
    for name, new in (("k", k), ("v", v)):
        cache[name] = np.concatenate([cache.get(name, new[:, :0]), new], axis=1)
    return forgetful("")(q, cache["k"][:, -1:], cache["v"][:, -1:], {"k": cache["k"][:, -window:-1] if window > 1 else
        cache["k"][:, :0], "v": cache["v"][:, -window:-1] if window > 1 else cache["v"][:, :0]}, window)  # fmt: skip


# --------------------------------------------------------------------------------------------- 3.2-e: a batch


def linear(x, W, name):
    return x @ W[f"{name}.weight"].T + W[f"{name}.bias"]


def norm(x, W, name):
    x = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5)
    return x * W[f"{name}.weight"] + W[f"{name}.bias"]


def attend(q, k, v, mask):
    B, T, d = q.shape
    heads = d // 16  # as in the notebook, whose heads have 16 features
    q, k, v = (a.reshape(B, a.shape[1], heads, d // heads).transpose(0, 2, 1, 3) for a in (q, k, v))
    s = np.where(mask, q @ k.transpose(0, 1, 3, 2) / (d // heads) ** 0.5, -np.inf)
    e = np.exp(s - s.max(axis=-1, keepdims=True))
    return (e / e.sum(axis=-1, keepdims=True) @ v).transpose(0, 2, 1, 3).reshape(B, T, d)


def step(W, token, place, memory, mask, cache):
    """Logits (B, V) for the newest tokens; ``cache`` maps a layer to the inputs of its self-attention so far."""
    d = memory.shape[2]
    x = (W["embedding.tokens.weight"][token] * d**0.5)[:, None]
    x = x + sinusoidal(torch.tensor([[float(place)]]).double(), d).numpy()
    for layer in ("decoder.0.", "decoder.1."):
        for part, frame in (("attention", "attention"), ("cross_attention", "cross")):
            y = norm(x, W, f"{layer}{frame}_residual.norm")
            if part == "attention":
                cache[layer] = np.concatenate([cache[layer], y], axis=1) if layer in cache else y
            seen = cache[layer] if part == "attention" else memory
            w = np.split(W[f"{layer}{part}.query_key_value.weight"], 3)
            b = np.split(W[f"{layer}{part}.query_key_value.bias"], 3)
            q, k, v = (side @ w[i].T + b[i] for i, side in enumerate((y, seen, seen)))
            mixed = attend(q, k, v, np.True_ if part == "attention" else mask)
            x = x + linear(mixed, W, f"{layer}{part}.output")
        inner = np.maximum(linear(norm(x, W, f"{layer}feed_forward_residual.norm"), W, f"{layer}feed_forward.inner"), 0)
        x = x + linear(inner, W, f"{layer}feed_forward.outer")
    return norm(x, W, "decoder_norm")[:, 0] @ W["embedding.tokens.weight"].T + W["head.bias"]


def writing(name, cache_follows=True, memory_follows=True, mask_follows=True, forbidden=(PAD, BOS, MASK),
            keep_eos=False, in_order=True, place=0, cut=0, use_mask=True, stale=False, leave=True):  # fmt: skip
    """A batch that shrinks, with one thing changed."""

    def write_batch(W, memory, source_real, max_length):
        mask, cache = source_real[:, None, None, :] | (not use_mask), {}
        written = [[] for _ in memory]
        rows, newest = np.arange(len(memory)), np.full(len(memory), BOS)
        for t in range(max_length + cut):
            logits = step(W, newest, t + place, memory, mask, {} if stale else cache)
            logits[:, list(forbidden)] = -np.inf
            newest = logits.argmax(axis=1)
            if keep_eos:
                for row in rows[newest == EOS]:
                    written[row].append(EOS)
            keep = newest != EOS if leave is True else newest >= 0
            for row, token in zip(rows[keep] if in_order else range(keep.sum()), newest[keep], strict=True):
                if token != EOS:
                    written[row].append(int(token))
            rows, newest = rows[keep], newest[keep]
            if not len(rows):
                break
            memory = memory[keep] if memory_follows else memory[: keep.sum() if memory_follows is False else None]
            mask = mask[keep] if mask_follows else mask[: keep.sum()]
            cache = {k: v[keep] if cache_follows else v[: keep.sum()] for k, v in cache.items()}
        return written

    write_batch.__name__ = name
    return write_batch


right("3.2-e")(writing("all_follow"))


@right("3.2-e")
def one_after_the_other(W, memory, source_real, max_length):
    return [writing("")(W, memory[i : i + 1], source_real[i : i + 1], max_length)[0] for i in range(len(memory))]


wrong("3.2-e", "do cache, source keys and values")(writing("cache_by_place", cache_follows=False))
wrong("3.2-e", "do cache, source keys and values")(writing("memory_by_place", memory_follows=False))
wrong("3.2-e", "and mask follow them")(writing("mask_by_place", mask_follows=False))
wrong("3.2-e", "must never be written")(writing("writes_anything", forbidden=()))
wrong("3.2-e", "EOS ends a row")(writing("keeps_eos", keep_eos=True))
wrong("3.2-e", "and the order")(writing("order_lost", in_order=False))
wrong("3.2-e", "position t")(writing("positions_from_one", place=1))
wrong("3.2-e", "cut after max_length")(writing("one_too_many", cut=1))
wrong("3.2-e", "has each its own source, mask")(writing("padding_seen", use_mask=False))
wrong("3.2-e", "the cache handed on")(writing("no_cache", stale=True))
wrong("3.2-e", "goes on after its EOS")(writing("nobody_leaves", leave=False))
wrong("3.2-e", "what kept its old number of rows")(writing("memory_stays", memory_follows=None))


@wrong("3.2-e", "all rows have one length")
def a_padded_block(W, memory, source_real, max_length):
    rows = one_after_the_other(W, memory, source_real, max_length)
    return [row + [PAD] * (max(map(len, rows)) - len(row)) for row in rows]


@wrong("3.2-e", "should give as many lists")
def only_the_finished(W, memory, source_real, max_length):
    return [row for row in one_after_the_other(W, memory, source_real, max_length) if len(row) < max_length]


@wrong("3.2-e", "return a list of lists")
def by_row_number(W, memory, source_real, max_length):
    return dict(enumerate(one_after_the_other(W, memory, source_real, max_length)))


@wrong("3.2-e", "rows that end at once")
def marks_empty_rows(W, memory, source_real, max_length):
    rows = one_after_the_other(W, memory, source_real, max_length)
    return rows if any(rows) else [[EOS] for _ in rows]
