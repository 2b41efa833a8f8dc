"""Answers to the exercises of notebook 3.3."""

import math

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from course_lib.batching import IGNORE
from tests.coursework.answers import right, wrong

# ------------------------------------------------------------------------------------------------ 3.3-a: the signal


@right("3.3-a")
def by_the_variance(fan_in, kept):
    return math.sqrt(1 / fan_in / kept)


@right("3.3-a")
def in_numpy(fan_in, kept):
    return np.exp(-0.5 * np.log(np.float64(fan_in) * kept))


@wrong("3.3-a", "is the variance")
def variance(fan_in, kept):
    return 1 / (fan_in * kept)


@wrong("3.3-a", "larger weights, not smaller ones")
def kept_above(fan_in, kept):
    return math.sqrt(kept / fan_in)


@wrong("3.3-a", "`kept` changes nothing")
def xavier(fan_in, kept):
    return fan_in**-0.5


@wrong("3.3-a", "under the root")
def kept_outside(fan_in, kept):
    return fan_in**-0.5 / kept


@wrong("3.3-a", "the factor is its inverse")
def upside_down(fan_in, kept):
    return math.sqrt(fan_in * kept)


@wrong("3.3-a", "the number of inputs changes nothing")
def without_inputs(fan_in, kept):
    return kept**-0.5


# ------------------------------------------------------------------------------------------------- 3.3-b: clipping


def clip(name, power=2.0, root=True, each=False, new=False, always=False, before=True, check=True, late=False):
    """Clipping with one thing changed."""

    def clip_in_place(gradients, largest):
        norms = [np.abs(g.astype(float) ** power).sum() for g in gradients]
        norm = sum(norms) ** (1 / power if root else 1.0)
        if check and not late and not math.isfinite(norm):
            raise FloatingPointError(norm)
        for k, g in enumerate(gradients):
            mine = norms[k] ** (1 / power) if each else norm
            if always or mine > largest or not math.isfinite(mine):
                if new:
                    gradients[k] = gradients[k]
                    g = g * (largest / mine)
                else:
                    g *= largest / (mine or 1.0)
        if check and not math.isfinite(norm):
            raise FloatingPointError(norm)
        return norm if before else min(norm, largest)

    clip_in_place.__name__ = name
    return clip_in_place


right("3.3-b")(clip("plain"))


@right("3.3-b")
def by_concatenation(gradients, largest):
    norm = np.linalg.norm(np.concatenate([g.ravel() for g in gradients]))
    if not np.isfinite(norm):
        raise FloatingPointError("not finite")
    for g in gradients:
        g[...] = g * min(1.0, largest / max(norm, 1e-30))
    return norm


wrong("3.3-b", "of all arrays together")(clip("array_by_array", each=True))
wrong("3.3-b", "nothing was changed")(clip("new_arrays", new=True))
wrong("3.3-b", "is the factor at most 1")(clip("scales_up", always=True))
wrong("3.3-b", "*before* clipping")(clip("norm_after", before=False))
wrong("3.3-b", "one NaN spoils all weights")(clip("unchecked", check=False))
wrong("3.3-b", "changed before the norm was found")(clip("checked_late", late=True))
wrong("3.3-b", "not a sum")(clip("norm_of_ones", power=1.0))
wrong("3.3-b", "root of the sum of squares is missing")(clip("no_root", root=False))


# -------------------------------------------------------------------------------------------------- 3.3-c: buckets


def deal(name, shuffle=True, sort=True, mix=True, last=True, padded=True, seeded=True, fill=1.0, lengths_out=False):
    """Bucketing with one thing changed."""

    def bucket(lengths, budget, seed):
        random = np.random.default_rng(seed if seeded else None)
        order = random.permutation(len(lengths)).tolist() if shuffle else list(range(len(lengths)))
        order = sorted(order, key=lambda i: lengths[i]) if sort else order
        batches, batch = [], []
        for i in order:
            longest = max([lengths[j] for j in batch] + [lengths[i]])
            size = (len(batch) + 1) * longest if padded else sum(lengths[j] for j in batch) + lengths[i]
            if batch and size > fill * budget:
                batches.append(batch)
                batch = []
            batch.append(i)
        batches += [batch] if last else []
        batches = [batches[i] for i in random.permutation(len(batches))] if mix else batches
        return [[lengths[i] for i in batch] for batch in batches] if lengths_out else batches

    bucket.__name__ = name
    return bucket


right("3.3-c")(deal("plain"))


@right("3.3-c")
def by_noise(lengths, budget, seed):
    random = np.random.default_rng([seed, 5])
    order = np.argsort(np.array(lengths) + random.uniform(0, 0.99, size=len(lengths)))
    batches, start = [], 0
    while start < len(order):
        end = start + 1
        while end < len(order) and (end + 1 - start) * lengths[order[end]] <= budget:
            end += 1
        batches.append(order[start:end].tolist())
        start = end
    random.shuffle(batches)
    return batches


wrong("3.3-c", "is the last batch there")(deal("drops_the_last", last=False))
wrong("3.3-c", "count the padding")(deal("counts_tokens", padded=False))
wrong("3.3-c", "are neighbours of similar length")(deal("unsorted", sort=False))
wrong("3.3-c", "shuffle the batches")(deal("a_ramp", mix=False))
wrong("3.3-c", "shuffle before sorting")(deal("same_companions", shuffle=False))
wrong("3.3-c", "are all draws from one seed")(deal("no_seed", seeded=False))
wrong("3.3-c", "as much as the budget allows")(deal("half_full", fill=0.5))
wrong("3.3-c", "lengths and not indices")(deal("lengths_out", lengths_out=True))


# ------------------------------------------------------------------------------------------------ 3.3-d: Adafactor


def moment(name, correction="all", divide=True, squares=True, moving=True, transposed=False, full=False):
    """The second moment with one thing changed."""

    def factored(gradients, beta):
        rows, columns, whole = 0.0, 0.0, 0.0
        for g in gradients:
            s = g**2 if squares else np.abs(g)
            share = 1 - beta if moving else 1 / len(gradients)
            decay = beta if moving else 1.0
            rows, columns = decay * rows + share * s.sum(axis=1), decay * columns + share * s.sum(axis=0)
            whole = decay * whole + share * s
        v = whole if full else np.outer(rows, columns) / (rows.sum() if divide else 1.0)
        n = {"all": len(gradients), "one": 1}.get(correction)
        v = v / (1 - beta**n) if n and moving else v
        v = v / (1 - beta ** len(gradients)) if correction == "twice" else v
        v = v / (1 - beta ** len(gradients)) if correction == "twice" else v
        v = v / (1 - beta ** len(gradients)) if not divide and moving else v
        return v.T if transposed else v

    factored.__name__ = name
    return factored


right("3.3-d")(moment("plain"))


@right("3.3-d")
def by_weights(gradients, beta):
    t = len(gradients)
    weights = (1 - beta) * beta ** np.arange(t - 1, -1, -1)
    v = torch.tensor(np.tensordot(weights, np.array(gradients) ** 2, axes=1)) / (1 - beta**t)
    return v.sum(dim=1, keepdim=True) * v.sum(dim=0, keepdim=True) / v.sum()


wrong("3.3-d", "is the bias correction missing")(moment("no_correction", correction="none"))
wrong("3.3-d", "applied once, not twice")(moment("twice_corrected", correction="twice"))
wrong("3.3-d", "is it divided out")(moment("not_divided", divide=False))
wrong("3.3-d", "which axis does a row sum run over")(moment("transposed", transposed=True))
wrong("3.3-d", "are the *squares* averaged")(moment("absolute_values", squares=False))
wrong("3.3-d", "newer gradients count more")(moment("plain_mean", moving=False))
wrong("3.3-d", "it depends on their number")(moment("correction_of_one", correction="one"))
wrong("3.3-d", "was all of g² kept")(moment("everything_kept", full=True))


# -------------------------------------------------------------------------------------------- 3.3-e: the whole step


def loop(name, clear=True, per_batch=False, smoothing=True, clip="update", decay="matrices", rate="update", betas=True,
         divide=True, mean_of_means=False):  # fmt: skip
    """The training loop with one thing changed."""

    def train(model, batches, config):
        matrices = [p for p in model.parameters() if p.dim() > 1]
        others = [p for p in model.parameters() if p.dim() <= 1]
        groups = [
            {"params": matrices, "weight_decay": config.weight_decay if decay != "none" else 0.0},
            {"params": others, "weight_decay": config.weight_decay if decay == "all" else 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, betas=config.betas if betas else (0.9, 0.999))
        count = 0
        for update in range(config.steps):
            micro = [batches.next_batch() for _ in range(config.accumulate)]
            total = sum(batch.n_targets for batch in micro)
            for batch in micro:
                loss = cross_entropy(
                    model(*batch.inputs).flatten(0, 1),
                    batch.targets.flatten(),
                    ignore_index=IGNORE,
                    reduction="sum",
                    label_smoothing=config.label_smoothing if smoothing else 0.0,
                )
                share = batch.n_targets * config.accumulate if mean_of_means else total
                (loss / (share if divide else 1.0)).backward()
                count += 1
                if clip == "batch":
                    torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
            if clip == "update":
                torch.nn.utils.clip_grad_norm_([*matrices, *others], config.clip)
            step = {"update": update, "next": update + 1, "batches": count - 1, "constant": 0}[rate]
            for group in optimizer.param_groups[: 1 if rate == "first group" else 2]:
                group["lr"] = config.lr_at(step)
            optimizer.step()
            if clear:
                optimizer.zero_grad()

    train.__name__ = name
    return train


right("3.3-e")(loop("plain"))


@right("3.3-e")
def parameter_by_parameter(model, batches, config):
    """AdamW written out (Loshchilov and Hutter 2019)."""
    parameters = list(model.parameters())
    first, second = [torch.zeros_like(p) for p in parameters], [torch.zeros_like(p) for p in parameters]
    for t in range(config.steps):
        micro = [batches.next_batch() for _ in range(config.accumulate)]
        loss = sum(
            cross_entropy(model(*b.inputs).flatten(0, 1), b.targets.flatten(), ignore_index=IGNORE, reduction="sum",
                          label_smoothing=config.label_smoothing)
            for b in micro
        ) / sum(b.n_targets for b in micro)  # fmt: skip
        gradients = torch.autograd.grad(loss, parameters)
        norm = torch.sqrt(sum((g**2).sum() for g in gradients))
        factor = min(1.0, config.clip / (float(norm) + 1e-6))
        lr, (b1, b2) = config.lr_at(t), config.betas
        with torch.no_grad():
            for p, g, m, v in zip(parameters, gradients, first, second, strict=True):
                g = g * factor
                m.mul_(b1).add_(g, alpha=1 - b1)
                v.mul_(b2).addcmul_(g, g, value=1 - b2)
                if p.dim() > 1:
                    p.mul_(1 - lr * config.weight_decay)
                p.sub_(lr * (m / (1 - b1 ** (t + 1))) / ((v / (1 - b2 ** (t + 1))).sqrt() + 1e-8))


wrong("3.3-e", "is the gradient cleared")(loop("not_cleared", clear=False))
wrong("3.3-e", "of *all* micro-batches")(loop("mean_of_means", mean_of_means=True))
wrong("3.3-e", "is it passed on")(loop("no_smoothing", smoothing=False))
wrong("3.3-e", "clipping differs")(loop("no_clipping", clip="none"))
wrong("3.3-e", "not once per micro-batch")(loop("clips_each_batch", clip="batch"))
wrong("3.3-e", "matrices only")(loop("decays_everything", decay="all"))
wrong("3.3-e", "weight decay differs")(loop("no_decay", decay="none"))
wrong("3.3-e", "let the rate count updates")(loop("counts_batches", rate="batches"))
wrong("3.3-e", "is the rate lr_at(update)")(loop("constant_rate", rate="constant"))
wrong("3.3-e", "are β₁, β₂ those of config")(loop("betas_of_the_package", betas=False))


# -------------------------------------------------------------------------------------------------- 3.3-f: in words

RIGHT = ("shifted", "mask", "mean", "pad", "rate", "seed")


def named(name, *words):
    def diagnosis():
        return dict(enumerate(words, 1))

    diagnosis.__name__ = name
    return diagnosis


right("3.3-f")(named("in_order", *RIGHT))
right("3.3-f")(named("with_capitals", *(f" {word.upper()} " for word in RIGHT)))
wrong("3.3-f", "what can a position copy from its own input")(
    named("cheating_exchanged", "mask", "shifted", *RIGHT[2:])
)
wrong("3.3-f", "only what is reported differs")(
    named("sums_exchanged", "shifted", "mask", "pad", "mean", "rate", "seed")
)
wrong("3.3-f", "from where does a position read")(
    named("pad_for_mask", "shifted", "pad", "mean", "mask", "rate", "seed")
)
wrong("3.3-f", "what is counted")(named("seed_for_rate", "shifted", "mask", "mean", "pad", "seed", "rate"))
wrong("3.3-f", "the words are")(named("own_words", "shift", *RIGHT[1:]))
wrong("3.3-f", "are missing")(named("five_of_six", *RIGHT[:5]))


@wrong("3.3-f", "return a dictionary")
def a_list():
    return list(RIGHT)
