"""Answers to the exercises of notebook 3.3."""

import copy
import math
import random
from itertools import cycle

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from course_lib import training
from course_lib.batching import IGNORE
from tests.coursework.answers import right, wrong

# ------------------------------------------------------------------------------------------------ 3.3-a: the signal


@right("3.3-a")
def by_the_variance(fan_in, kept):
    return math.sqrt(1 / fan_in / kept)


@right("3.3-a")
def in_numpy(fan_in, kept):
    return np.exp(-0.5 * np.log(np.float64(fan_in) * kept))


@right("3.3-a")
def in_float32(fan_in, kept):
    return torch.rsqrt(torch.tensor(fan_in * kept))


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


@wrong("3.3-a", "here the activation loses nothing")
def always_he(fan_in, kept):
    return math.sqrt(2 / fan_in)


@wrong("3.3-a", "or a limit")
def limit_of_uniform_weights(fan_in, kept):
    return math.sqrt(3 / (fan_in * kept))


@wrong("3.3-a", "must the mean square grow")
def adds_what_is_lost(fan_in, kept):
    return math.sqrt((1 + (1 - kept)) / fan_in)


@wrong("3.3-a", "what if an activation keeps a quarter")
def he_or_nothing(fan_in, kept):
    return math.sqrt((2 if kept < 1 else 1) / fan_in)


# ------------------------------------------------------------------------------------------------- 3.3-b: clipping


def clip(name, power=2.0, root=True, each=False, new=None, always=False, returns="before", stops=math.isfinite,
         late=False, error=FloatingPointError, compared="norm", target=None, eps=0.0, anew=False):  # fmt: skip
    """Clipping with one thing changed."""

    def norm_of(arrays):
        total = sum(np.abs(g.astype(float) ** power).sum() for g in arrays) + eps
        return total ** (1 / power) if root else total

    def clip_in_place(gradients, largest):
        norms, norm = [norm_of([g]) for g in gradients], norm_of(gradients)
        if not late and not stops(norm):
            raise error(norm)
        arrays = list(gradients)
        for k, g in enumerate(arrays):
            size = norms[k] if each else norm_of(arrays) if anew else norm
            limited = {"norm": size, "square": size**2, "own": norms[k]}[compared]
            if always or limited > largest or not math.isfinite(norm):
                factor = (target or largest) / (size or 1.0)
                if new is None:
                    g *= factor
                elif new == "in the list":
                    gradients[k] = g * factor
                else:
                    g = g * factor
        if not stops(norm):
            raise error(norm)
        return {"before": norm, "after": min(norm, largest), "square": norm**2}[returns]

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


@right("3.3-b")
def by_the_package(gradients, largest):
    """PyTorch's own, which adds 10⁻⁶ to the norm, on tensors that share the arrays' memory."""
    parameters = [torch.zeros_like(torch.from_numpy(g)) for g in gradients]
    for p, g in zip(parameters, gradients, strict=True):
        p.grad = torch.from_numpy(g)
    try:
        return torch.nn.utils.clip_grad_norm_(parameters, largest, error_if_nonfinite=True)
    except RuntimeError as error:
        raise FloatingPointError("not finite") from error


@right("3.3-b")
def in_single_precision(gradients, largest):
    norm = np.sqrt(np.float32(sum(np.vdot(g, g) for g in gradients)))
    if norm - norm != 0:
        raise FloatingPointError("inf or nan")
    for g in gradients:
        g /= max(np.float32(1), norm / np.float32(largest))
    return norm


wrong("3.3-b", "of all arrays together")(clip("array_by_array", each=True))
wrong("3.3-b", "nothing was changed")(clip("thrown_away", new="nowhere"))
wrong("3.3-b", "change the arrays themselves")(clip("new_arrays", new="in the list"))
wrong("3.3-b", "is the factor at most 1")(clip("scales_up", always=True))
wrong("3.3-b", "*before* clipping")(clip("norm_after", returns="after"))
wrong("3.3-b", "25 was returned")(clip("square_of_the_norm", returns="square"))
wrong("3.3-b", "one NaN spoils all weights")(clip("unchecked", stops=lambda norm: True))
wrong("3.3-b", "a gradient with inf must")(clip("only_nan", stops=lambda norm: not math.isnan(norm)))
wrong("3.3-b", "a gradient with nan must")(clip("only_infinity", stops=lambda norm: not math.isinf(norm)))
wrong("3.3-b", "raise FloatingPointError, not ValueError")(clip("another_error", error=ValueError))
wrong("3.3-b", "changed before the norm was found")(clip("checked_late", late=True))
wrong("3.3-b", "not a sum")(clip("norm_of_ones", power=1.0))
wrong("3.3-b", "root of the sum of squares is missing")(clip("no_root", root=False))
wrong("3.3-b", "was the norm computed anew")(clip("norm_in_the_loop", anew=True))
wrong("3.3-b", "is the norm compared, or its square")(clip("compares_the_square", compared="square"))
wrong("3.3-b", "compared with the limit by itself")(clip("compares_array_by_array", compared="own"))
wrong("3.3-b", "does `largest` enter the factor")(clip("to_length_one", target=1.0))
wrong("3.3-b", "with nothing added")(clip("epsilon_under_the_root", eps=1e-6))


@wrong("3.3-b", "which norm is it")
def largest_entry(gradients, largest):
    norm = max(float(np.abs(g).max()) for g in gradients)
    if not math.isfinite(norm):
        raise FloatingPointError(norm)
    if norm > largest:
        for g in gradients:
            g *= largest / norm
    return norm


@wrong("3.3-b", "was each entry cut by itself")
def by_value(gradients, largest):
    norm = float(np.linalg.norm(np.concatenate([g.ravel() for g in gradients])))
    if not math.isfinite(norm):
        raise FloatingPointError(norm)
    for g in gradients:
        np.clip(g, -largest, largest, out=g)
    return norm


@wrong("3.3-b", "all entries count")
def norm_of_the_matrix(gradients, largest):
    """``np.linalg.norm(g, 2)`` is the largest singular value of a matrix."""
    if not all(np.isfinite(g).all() for g in gradients):
        raise FloatingPointError("not finite")
    norm = math.hypot(*(float(np.linalg.norm(g, 2)) for g in gradients))
    for g in gradients:
        g *= largest / max(norm, largest)
    return norm


@wrong("3.3-b", "ZeroDivisionError")
def factor_first(gradients, largest):
    norm = math.sqrt(sum(float((g**2).sum()) for g in gradients))
    if not math.isfinite(norm):
        raise FloatingPointError(norm)
    factor = min(1.0, largest / norm)
    for g in gradients:
        g *= factor
    return norm


# -------------------------------------------------------------------------------------------------- 3.3-c: buckets


def deal(name, shuffle=True, key="length", mix=True, last=True, size="rectangle", seeds=True, fill=1.0, full="begin",
         out="indices", descending=False, reset=True, strict=False):  # fmt: skip
    """Bucketing with one thing changed."""

    def bucket(lengths, budget, seed):
        first = {"only batches": 0, "zero": 0, None: None}.get(seeds, seed)
        second = {"only sentences": 0, "zero": 0, "not the batches": None, None: None}.get(seeds, seed)
        one, two = (np.random.default_rng(s if s is None else [s, k]) for k, s in enumerate((first, second)))
        order = one.permutation(len(lengths)).tolist() if shuffle else list(range(len(lengths)))
        if key is not None:
            order.sort(key=lambda i: lengths[i] // (8 if key == "coarse" else 1), reverse=descending)
        if out == "places":
            lengths, order = sorted(lengths), sorted(order)
        batches, batch, longest = [], [], 0
        for i in order:
            before, longest = longest, max(longest, lengths[i])
            positions = {
                "rectangle": (len(batch) + 1) * longest,
                "tokens": sum(lengths[j] for j in batch) + lengths[i],
                "old": len(batch) * longest,
                "old longest": (len(batch) + 1) * before,
                "count": (len(batch) + 1) * max(lengths),
            }[size]
            if positions >= fill * budget if strict else batch and positions > fill * budget:
                batches.append(batch)
                batch, longest = ([i] if full == "twice" else []), lengths[i] if reset else longest
                if full == "drop":
                    continue
            batch.append(i)
        batches += [batch] if last else []
        batches = [batches[i] for i in two.permutation(len(batches))] if mix else batches
        return [[lengths[i] for i in batch] for batch in batches] if out == "lengths" else batches

    bucket.__name__ = name
    return bucket


right("3.3-c")(deal("plain"))


@right("3.3-c")
def by_noise(lengths, budget, seed):
    generator = np.random.default_rng([seed, 5])
    order = np.argsort(np.array(lengths) + generator.uniform(0, 0.99, size=len(lengths)))
    batches, start = [], 0
    while start < len(order):
        end = start + 1
        while end < len(order) and (end + 1 - start) * lengths[order[end]] <= budget:
            end += 1
        batches.append(order[start:end].tolist())
        start = end
    generator.shuffle(batches)
    return batches


@right("3.3-c")
def by_pools(lengths, budget, seed):
    """Pools of 1000, each sorted, longest first; a tuple of arrays."""
    generator = np.random.RandomState(seed)
    lengths = np.array(lengths)
    batches = []
    for pool in np.split(generator.permutation(len(lengths)), range(1000, len(lengths), 1000)):
        pool = pool[np.argsort(-lengths[pool], kind="stable")]
        while len(pool):
            n = budget // lengths[pool[0]]
            batches.append(pool[:n])
            pool = pool[n:]
    return tuple(batches[i] for i in generator.permutation(len(batches)))


@right("3.3-c")
def one_length_to_a_batch(lengths, budget, seed):
    """No padding at all."""
    generator = random.Random(seed)
    groups = {}
    for i, n in enumerate(lengths):
        groups.setdefault(n, []).append(i)
    batches = []
    for n, group in groups.items():
        generator.shuffle(group)
        batches += [group[k : k + budget // n] for k in range(0, len(group), budget // n)]
    generator.shuffle(batches)
    return batches


wrong("3.3-c", "is the last batch there")(deal("drops_the_last", last=False))
wrong("3.3-c", "what did not fit into a full one")(deal("drops_what_does_not_fit", full="drop"))
wrong("3.3-c", "count the padding")(deal("counts_tokens", size="tokens"))
wrong("3.3-c", "the new one included")(deal("without_the_new_one", size="old"))
wrong("3.3-c", "the new one included")(deal("longest_before_the_new_one", size="old longest"))
wrong("3.3-c", "are neighbours of similar length")(deal("unsorted", key=None))
wrong("3.3-c", "are neighbours of similar length")(deal("in_steps_of_eight", key="coarse"))
wrong("3.3-c", "shuffle the batches")(deal("a_ramp", mix=False))
wrong("3.3-c", "shuffle before sorting")(deal("same_companions", shuffle=False))
wrong("3.3-c", "shuffle before sorting")(deal("sentences_shuffled_the_same", seeds="only batches"))
wrong("3.3-c", "are the batches shuffled by it, too")(deal("batches_shuffled_the_same", seeds="only sentences"))
wrong("3.3-c", "are all draws from one seed")(deal("no_seed", seeds=None))
wrong("3.3-c", "are all draws from one seed")(deal("half_a_seed", seeds="not the batches"))
wrong("3.3-c", "does it enter")(deal("seed_zero", seeds="zero"))
wrong("3.3-c", "as much as the budget allows")(deal("half_full", fill=0.5))
wrong("3.3-c", "as much as the budget allows")(deal("longest_of_all", size="count"))
wrong("3.3-c", "as much as the budget allows")(deal("longest_never_reset", descending=True, reset=False))
wrong("3.3-c", "what is dealt are lengths")(deal("lengths_out", out="lengths"))
wrong("3.3-c", "the indices fit the *sorted* lengths")(deal("places_in_the_sorted_list", out="places"))
wrong("3.3-c", "does it begin a batch and join it")(deal("begins_and_joins", full="twice"))
wrong("3.3-c", "one sentence may fill a batch")(deal("full_is_too_full", strict=True))


@wrong("3.3-c", "a batch is empty")
def one_group_for_each_number(lengths, budget, seed):
    """No sentence has 0, 1 or 2 tokens."""
    batches = one_length_to_a_batch(lengths, budget, seed)
    return batches + [[] for n in range(max(lengths)) if n not in lengths]


@wrong("3.3-c", "return a list of batches")
def one_after_the_other(lengths, budget, seed):
    yield from one_length_to_a_batch(lengths, budget, seed)


@wrong("3.3-c", "each batch should be a list of indices")
def in_one_row(lengths, budget, seed):
    return [i for batch in one_length_to_a_batch(lengths, budget, seed) for i in batch]


# ------------------------------------------------------------------------------------------------ 3.3-d: Adafactor


def moment(name, correction="all", divide="sum", power="squares", average="moving", result="product", sums="sum"):
    """The second moment with one thing changed."""

    def factored(gradients, beta):
        t, mean = len(gradients), 0.0
        for step, g in enumerate(gradients, 1):
            s = {"squares": np.square, "sizes": np.abs, "gradients": np.array, "in place": g.__imul__}[power](g)
            if average == "from the first" and step == 1:
                mean = s
            elif average == "plain":
                mean = mean + s / t
            elif average == "exchanged":
                mean = (1 - beta) * mean + beta * s
            elif average == "last":
                mean = (1 - beta) * s
            else:
                mean = beta * mean + (1 - beta) * s
            if correction == "again":
                mean = mean / (1 - beta**step)
        share = 1 - beta if average == "exchanged" else beta
        n = {"all": t, "one": 1, "from zero": t - 1, "one more": t + 1, "twice": t}.get(correction)
        mean = mean / (1 - share**n) if n is not None and average != "plain" else mean
        mean = mean / (1 - share**n) if correction == "twice" else mean
        mean = mean**2 if power == "gradients" else mean
        rows, columns = (getattr(mean, sums)(axis=axis) for axis in (1, 0))
        v = np.outer(rows, columns) / {"sum": rows.sum(), "largest": rows.max(), "not": 1.0}[divide]
        return {"product": v, "transposed": v.T, "all of it": mean, "root": np.sqrt(v)}[result]

    factored.__name__ = name
    return factored


right("3.3-d")(moment("plain"))


@right("3.3-d")
def by_weights(gradients, beta):
    t = len(gradients)
    weights = (1 - beta) * beta ** np.arange(t - 1, -1, -1)
    v = torch.tensor(np.tensordot(weights, np.array(gradients) ** 2, axes=1)) / (1 - beta**t)
    return v.sum(dim=1, keepdim=True) * v.sum(dim=0, keepdim=True) / v.sum()


@right("3.3-d")
def by_means(gradients, beta):
    """Means instead of sums, corrected first, in float32; the numbers of rows and columns cancel."""
    rows, columns = 0, 0
    for g in gradients:
        s = torch.tensor(g, dtype=torch.float32) ** 2
        rows, columns = beta * rows + (1 - beta) * s.mean(dim=1), beta * columns + (1 - beta) * s.mean(dim=0)
    rows, columns = (a / (1 - beta ** len(gradients)) for a in (rows, columns))
    return torch.outer(rows / rows.mean(), columns)


@right("3.3-d")
def in_lists(gradients, beta):
    """The average is corrected in each step, by a rate that changes; Python's own numbers."""
    v = np.zeros(gradients[0].shape)
    for step, g in enumerate(gradients):
        rate = (1 - beta) / (1 - beta ** (step + 1))
        v += rate * (g * g - v)
    return [[sum(v[i]) * sum(v[:, j]) / v.sum() for j in range(v.shape[1])] for i in range(v.shape[0])]


wrong("3.3-d", "is the bias correction missing")(moment("no_correction", correction="none"))
wrong("3.3-d", "applied once")(moment("twice_corrected", correction="twice"))
wrong("3.3-d", "does the average start at 0")(moment("starts_at_the_first_and_corrects", average="from the first"))
wrong("3.3-d", "the first gradient counts too much")(
    moment("starts_at_the_first", average="from the first", correction="none")
)
wrong("3.3-d", "is it divided out")(moment("not_divided", divide="not"))
wrong("3.3-d", "which axis does a row sum run over")(moment("transposed", result="transposed"))
wrong("3.3-d", "are *squares* averaged")(moment("absolute_values", power="sizes"))
wrong("3.3-d", "is no root taken")(moment("root_at_the_end", result="root"))
wrong("3.3-d", "newer gradients count more")(moment("plain_mean", average="plain"))
wrong("3.3-d", "it depends on their number")(moment("correction_of_one", correction="one"))
wrong("3.3-d", "averaged once more")(moment("corrects_the_average_itself", correction="again"))
wrong("3.3-d", "is it counted as step 1")(moment("counts_from_zero", correction="from zero"))
wrong("3.3-d", "how many steps were made")(moment("one_step_too_many", correction="one more"))
wrong("3.3-d", "are the squares averaged, or the gradients")(moment("squares_the_mean", power="gradients"))
wrong("3.3-d", "the share β of the old")(moment("beta_exchanged", average="exchanged"))
wrong("3.3-d", "was all of g² kept")(moment("everything_kept", result="all of it"))
wrong("3.3-d", "the gradient itself was changed")(moment("squares_in_place", power="in place"))
wrong("3.3-d", "are rows and columns *summed*")(moment("largest_of_each_row", sums="max", divide="largest"))


@wrong("3.3-d", "are sums divided by a sum")
def means_over_a_sum(gradients, beta):
    plain = moment("plain")(gradients, beta)
    return plain / len(plain)


@wrong("3.3-d", "or the sums squared")
def sums_squared(gradients, beta):
    rows, columns = 0.0, 0.0
    for g in gradients:
        rows = beta * rows + (1 - beta) * g.sum(axis=1) ** 2
        columns = beta * columns + (1 - beta) * g.sum(axis=0) ** 2
    return np.outer(rows, columns) / rows.sum() / (1 - beta ** len(gradients))


@wrong("3.3-d", "or were products averaged")
def product_in_each_step(gradients, beta):
    v = 0.0
    for g in gradients:
        s = g**2
        v = beta * v + (1 - beta) * np.outer(s.sum(axis=1), s.sum(axis=0)) / s.sum()
    return v / (1 - beta ** len(gradients))


# -------------------------------------------------------------------------------------------- 3.3-e: the whole step


def loop(name, clear="update", divisor="targets of all", smoothing="passed on", clip="update", decay="matrices",
         rate="update", rate_of="all", betas=True, fetch="next", copied=False, optimiser="one", kind="AdamW",
         padding=False, steps="per update", default_rate=1e-3):  # fmt: skip
    """The training loop with one thing changed."""

    def train(model, batches, config):
        model = copy.deepcopy(model) if copied else model
        matrices = [p for p in model.parameters() if p.dim() > 1]
        others = [p for p in model.parameters() if p.dim() <= 1]
        groups = [
            {"params": matrices, **({} if decay == "default" else {"weight_decay": config.weight_decay})},
            {"params": others, "weight_decay": config.weight_decay if decay == "all" else 0.0},
        ]
        if decay == "none":
            groups[0]["weight_decay"] = 0.0
        if decay == "first group":
            del groups[1]["weight_decay"]

        def new_optimiser():
            lr = config.lr if default_rate == "config" else default_rate
            copies = [dict(group) for group in groups]
            return getattr(torch.optim, kind)(copies, lr=lr, betas=config.betas if betas else (0.9, 0.999))

        def set_rate(step):
            for group in optimizer.param_groups[: 1 if rate_of == "first group" else 2]:
                group["lr"] = config.lr_at(step)

        def clip_all():
            if clip == "by value":
                torch.nn.utils.clip_grad_value_(model.parameters(), config.clip)
            elif clip == "each":
                for p in model.parameters():
                    torch.nn.utils.clip_grad_norm_(p, config.clip)
            elif clip != "none":
                torch.nn.utils.clip_grad_norm_(matrices if clip == "matrices" else [*matrices, *others], config.clip)

        def loss_of(batch):
            logits, targets = model(*batch.inputs).flatten(0, 1), batch.targets.flatten()
            epsilon = config.label_smoothing if smoothing == "passed on" else 0.0
            if padding:
                return cross_entropy(logits, targets.clamp(min=0), reduction="sum")
            loss = cross_entropy(logits, targets, ignore_index=IGNORE, reduction="sum", label_smoothing=epsilon)
            if smoothing == "others":
                logs = logits.log_softmax(dim=1)[targets != IGNORE]
                loss = loss * (1 - config.label_smoothing)
                rest = -(logs.sum() - logs.gather(1, targets[targets != IGNORE][:, None]).sum())
                loss = loss + config.label_smoothing / (logs.shape[1] - 1) * rest
            return loss

        optimizer = new_optimiser()
        walk = {"one pass": iter(batches), "cycle": cycle(batches)}.get(fetch)
        count = 0
        for update in range(config.steps):
            if optimiser == "new":
                optimizer = new_optimiser()
            if fetch == "next":
                micro = [batches.next_batch() for _ in range(config.accumulate)]
            else:
                micro = [next(walk or iter(batches)) for _ in range(config.accumulate)]
            total = sum(batch.n_targets for batch in micro)
            first = count
            for batch in micro:
                if clear == "micro-batch":
                    optimizer.zero_grad()
                share = {
                    "targets of all": total, "mean of means": batch.n_targets * config.accumulate, "none": 1,
                    "positions": sum(part.targets.numel() for part in micro),
                }[divisor]  # fmt: skip
                (loss_of(batch) / share).backward()
                count += 1
                if clip == "batch":
                    clip_all()
                if steps == "per micro-batch":
                    set_rate(update)
                    optimizer.step()
                    optimizer.zero_grad()
            if steps == "per micro-batch":
                continue
            if clip not in ("batch", "after the step"):
                clip_all()
            step = {"update": update, "next": update + 1, "last batch": count - 1, "first batch": first, "constant": 0}
            if rate in step:
                set_rate(step[rate])
            optimizer.step()
            if clip == "after the step":
                clip_all()
            if rate == "after the step":
                set_rate(update)
            if rate == "for the next":
                set_rate(update + 1)
            if clear == "update":
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


@right("3.3-e")
def with_a_scheduler(model, batches, config):
    """PyTorch's scheduler, the course's loss, and all micro-batches in one backward pass."""
    matrices, others = ([p for p in model.parameters() if (p.dim() > 1) == flag] for flag in (True, False))
    optimizer = torch.optim.AdamW([{"params": matrices}, {"params": others, "weight_decay": 0}],
                                  lr=config.lr, betas=config.betas, weight_decay=config.weight_decay)  # fmt: skip
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda update: config.lr_at(update) / config.lr)
    model.train()
    for _ in range(config.steps):
        optimizer.zero_grad()
        losses = []
        for _ in range(config.accumulate):
            batch = batches.next_batch()
            losses.append(training.cross_entropy(model(*batch.inputs), batch.targets, config.label_smoothing))
        loss, n = map(sum, zip(*losses, strict=True))
        (loss / n).backward()
        norm = math.sqrt(sum(float((p.grad**2).sum()) for p in model.parameters()))
        if norm > config.clip:
            for p in model.parameters():
                p.grad *= config.clip / norm
        optimizer.step()
        schedule.step()


@right("3.3-e")
def divided_afterwards(model, batches, config):
    """Sums first; the gradients are divided by the number of targets when it is known."""
    groups = [{"params": [p], "weight_decay": config.weight_decay * (p.dim() > 1)} for p in model.parameters()]
    optimizer = torch.optim.AdamW(groups, betas=config.betas)
    for update in range(config.steps):
        n = 0
        for _ in range(config.accumulate):
            batch = batches.next_batch()
            hidden, head = model.features(*batch.inputs), model.head
            loss, valid = training.fused_linear_cross_entropy(
                hidden, head.weight, head.bias, batch.targets, config.label_smoothing
            )
            loss.backward()
            n += valid
        for p in model.parameters():
            p.grad /= n
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        for group in optimizer.param_groups:
            group["lr"] = config.lr_at(update)
        optimizer.step()
        model.zero_grad()


@wrong("3.3-e", "that is the Trainer")
def by_the_trainer(model, batches, config):
    training.Trainer(model, batches, config, progress=False).run()


wrong("3.3-e", "not a copy of it")(loop("trains_a_copy", copied=True))
wrong("3.3-e", "but not for biases and gains")(loop("rate_of_one_group", rate_of="first group"))
wrong("3.3-e", "but not for biases and gains")(loop("decay_of_the_package_in_one_group", decay="first group"))
wrong("3.3-e", "weight decay that of config")(loop("decay_of_the_package", decay="default"))
wrong("3.3-e", "is the rate lr_at(0)")(loop("no_rate", rate="none"))
wrong("3.3-e", "is the rate lr_at(0)")(loop("rate_of_the_next", rate="next"))
wrong("3.3-e", "does it stay out of the loss")(loop("counts_padding", padding=True))
wrong("3.3-e", "is the gradient cleared")(loop("not_cleared", clear="never"))
wrong("3.3-e", "does the optimiser live on")(loop("an_optimiser_for_each_update", optimiser="new"))
wrong("3.3-e", "are β₁, β₂ those of config")(loop("betas_of_the_package", betas=False))
wrong("3.3-e", "is its batch the next one")(loop("always_the_first_batch", fetch="first"))
wrong("3.3-e", "the loss divided by its number of targets")(loop("not_divided", divisor="none"))
wrong("3.3-e", "out of the number that divides it")(loop("divided_by_positions", divisor="positions"))
wrong("3.3-e", "is the rate lr_at(update)")(loop("constant_rate", rate="constant"))
wrong("3.3-e", "in both groups")(loop("peak_rate_in_one_group", rate_of="first group", default_rate="config"))
wrong("3.3-e", "set before the step")(loop("rate_set_after_the_step", rate="after the step", default_rate="config"))
wrong("3.3-e", "wrong after the first epoch")(loop("the_same_epoch_again", fetch="cycle"))
wrong("3.3-e", "StopIteration")(loop("one_epoch", fetch="one pass"))
wrong("3.3-e", "the first one too")(loop("first_at_the_peak", rate="for the next", default_rate="config"))
wrong("3.3-e", "is it passed on")(loop("no_smoothing", smoothing="none"))
wrong("3.3-e", "the right one too")(loop("spread_over_the_others", smoothing="others"))
wrong("3.3-e", "the targets of *all*")(loop("mean_of_means", divisor="mean of means"))
wrong("3.3-e", "one step for all micro-batches")(loop("a_step_for_each_batch", steps="per micro-batch"))
wrong("3.3-e", "one step for all micro-batches")(loop("clears_each_batch", clear="micro-batch"))
wrong("3.3-e", "let the rate count updates")(loop("counts_batches", rate="last batch"))
wrong("3.3-e", "the schedule counts updates")(loop("counts_batches_before", rate="first batch"))
wrong("3.3-e", "clipping differs")(loop("no_clipping", clip="none"))
wrong("3.3-e", "clipping differs")(loop("clips_values", clip="by value"))
wrong("3.3-e", "clipping differs: all parameters")(loop("clips_matrices", clip="matrices"))
wrong("3.3-e", "clipping differs: all parameters")(loop("clips_each_parameter", clip="each"))
wrong("3.3-e", "before the step")(loop("clips_afterwards", clip="after the step"))
wrong("3.3-e", "not once per micro-batch")(loop("clips_each_batch", clip="batch"))
wrong("3.3-e", "matrices only")(loop("decays_everything", decay="all"))
wrong("3.3-e", "is it that of config")(loop("no_decay", decay="none"))
wrong("3.3-e", "no part of the gradient")(loop("decay_in_the_gradient", kind="Adam"))


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
wrong("3.3-f", "what do such batches hold much of")(
    named("rate_for_pad", "shifted", "mask", "mean", "rate", "pad", "seed")
)
wrong("3.3-f", "what differs at the first batch")(named("rate_twice", *RIGHT[:5], "rate"))
wrong("3.3-f", "the words are")(named("own_words", "shift", *RIGHT[1:]))
wrong("3.3-f", "are missing")(named("five_of_six", *RIGHT[:5]))


@wrong("3.3-f", "return a dictionary")
def a_list():
    return list(RIGHT)


@right("3.3-f")
def by_loop():
    return {np.int64(i): np.str_(word) for i, word in reversed(list(enumerate(RIGHT, 1)))}


@wrong("3.3-f", "the keys are the numbers")
def turned_round():
    return {word: i for i, word in enumerate(RIGHT, 1)}
