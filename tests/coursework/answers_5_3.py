"""Answers to the exercises of notebook 5.3."""

import math

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from course_lib.batching import IGNORE, TokenBatches, seq2seq_batch
from course_lib.models import evaluating
from course_lib.training import evaluate
from tests.coursework.answers import right, wrong

# -------------------------------------------------------------------------------------------- 5.3-a: perplexity


@right("5.3-a")
def weighted_mean(nats, tokens):
    means = [total / n for total, n in zip(nats, tokens, strict=True) if n]
    return float(np.exp(np.average(means, weights=[n for n in tokens if n])))


@right("5.3-a")
def in_tensors(nats, tokens):
    return torch.exp(torch.tensor(nats).double().sum() / torch.tensor(tokens).sum())


@wrong("5.3-a", "mean of the machines' means")
def mean_of_means(nats, tokens):
    return math.exp(sum(a / b for a, b in zip(nats, tokens, strict=True)) / len(nats))


@wrong("5.3-a", "mean of the perplexities")
def mean_of_perplexities(nats, tokens):
    return sum(math.exp(a / b) for a, b in zip(nats, tokens, strict=True)) / len(nats)


@wrong("5.3-a", "is the mean loss")
def the_loss(nats, tokens):
    return sum(nats) / sum(tokens)


@wrong("5.3-a", "the base is e")
def base_two(nats, tokens):
    return 2 ** (sum(nats) / sum(tokens))


@wrong("5.3-a", "so the sign is there")
def twice_negative(nats, tokens):
    return math.exp(-sum(nats) / sum(tokens))


@wrong("5.3-a", "ZeroDivisionError")
def divides_each(nats, tokens):
    return math.exp(sum(n * (a / n) for a, n in zip(nats, tokens, strict=True)) / sum(tokens))


@right("5.3-a")
def in_float32(nats, tokens):
    return torch.exp(torch.tensor(nats).sum() / torch.tensor(tokens).sum())


@wrong("5.3-a", "not of machines")
def per_machine(nats, tokens):
    return math.exp(sum(nats) / len(nats))


@wrong("5.3-a", "if a weighted one")
def weighted_perplexities(nats, tokens):
    return sum(n * math.exp(a / n) for a, n in zip(nats, tokens, strict=True) if n) / sum(tokens)


@wrong("5.3-a", "expected exp(19/13)")
def not_divided(nats, tokens):
    return math.exp(sum(nats))


@wrong("5.3-a", "a part without tokens should change nothing")
def at_least_one_token(nats, tokens):
    return math.exp(sum(nats) / sum(max(1, n) for n in tokens))


# ------------------------------------------------------------------------------------------ 5.3-b: early stopping


def stop(name, strictly=True, off=0, keep_last=False, reset=True, rises=False, from_one=False):
    """The rule with one thing changed."""

    def early_stop(losses, patience):
        best, bad, i = 0, 0, 0
        for i, loss in enumerate(losses):
            better = loss < losses[best] if strictly else loss <= losses[best]
            if i == 0:
                continue
            if better:
                best, bad = i, (0 if reset else bad)
            elif rises and loss < losses[i - 1]:
                bad = 0
            else:
                bad += 1
            if bad == patience + off:
                break
        return i + 1, (i if keep_last else best) + from_one

    early_stop.__name__ = name
    return early_stop


right("5.3-b")(stop("by_counting"))


@right("5.3-b")
def by_minima(losses, patience):
    for n in range(patience + 1, len(losses) + 1):
        if min(losses[: n - patience]) <= min(losses[n - patience : n]):
            return n, int(np.argmin(losses[:n]))
    return len(losses), int(np.argmin(losses))


wrong("5.3-b", "an equal loss is no improvement")(stop("equal_is_better", strictly=False))
wrong("5.3-b", "after the *second* validation")(stop("too_early", off=-1))
wrong("5.3-b", "the next does not take place")(stop("too_late", off=1))
wrong("5.3-b", "not of the last")(stop("keeps_the_last", keep_last=True))
wrong("5.3-b", "starts the count anew")(stop("never_reset", reset=False))
wrong("5.3-b", "falling, but not below the best")(stop("counts_rises", rises=True))
wrong("5.3-b", "the index counts from 0")(stop("from_one", from_one=True))


@right("5.3-b")
def in_an_array(losses, patience):
    return np.array(by_minima(losses, patience))


def telling(name, message, change):
    def early_stop(losses, patience):
        return change(losses, *by_minima(losses, patience))

    early_stop.__name__ = name
    wrong("5.3-b", message)(early_stop)


telling("swapped", "the two numbers are swapped", lambda losses, n, best: (best, n))
telling("index_of_the_last", "not the index of the last", lambda losses, n, best: (n - 1, best))
telling("the_loss_itself", "not its loss", lambda losses, n, best: (n, losses[best]))
telling("best_of_all", "never takes place", lambda losses, n, best: (n, int(np.argmin(losses))))
telling("last_one_missed", "only fall never stop", lambda losses, n, best: (n - (n == 3 == len(losses)), best))


# --------------------------------------------------------------------------------------------- 5.3-c: accumulation


def collect(name, by="all", clear_between=False, clear_first=True, only_sum=False):
    """Accumulation with one thing changed."""

    def accumulate(model, batches):
        if clear_first:
            model.zero_grad()
        total = sum(batch.n_targets for batch in batches)
        for batch in batches:
            if clear_between:
                model.zero_grad()
            logits = model(*batch.inputs)
            loss = cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORE, reduction="sum")
            share = {"all": total, "own": batch.n_targets, "mean": batch.n_targets * len(batches)}[by]
            (loss if only_sum else loss / share).backward()

    accumulate.__name__ = name
    return accumulate


right("5.3-c")(collect("sums"))


@right("5.3-c")
def weighted_means(model, batches):
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    total = sum(batch.n_targets for batch in batches)
    for batch in batches:
        mean = cross_entropy(model(*batch.inputs).transpose(1, 2), batch.targets, ignore_index=IGNORE)
        for parameter, g in zip(model.parameters(), torch.autograd.grad(mean, list(model.parameters())), strict=True):
            parameter.grad += g * batch.n_targets / total


wrong("5.3-c", "is each divided by its own tokens")(collect("sum_of_means", by="own"))
wrong("5.3-c", "each *token* must count the same")(collect("mean_of_means", by="mean"))
wrong("5.3-c", "is it cleared between")(collect("clears_between", clear_between=True))
wrong("5.3-c", "divide by the number of targets")(collect("undivided", only_sum=True))
wrong("5.3-c", "that were there before")(collect("not_cleared", clear_first=False))


@wrong("5.3-c", "is backward called")
def no_backward(model, batches):
    model.zero_grad()
    sum(model(*batch.inputs).sum() for batch in batches)


@wrong("5.3-c", "the weights changed")
def updates_too(model, batches):
    collect("")(model, batches)
    torch.optim.SGD(model.parameters(), lr=0.1).step()


@wrong("5.3-c", "does the loop reach all")
def first_piece_only(model, batches):
    collect("")(model, batches[:1])


@wrong("5.3-c", "should be the gradient of the mean loss per token")
def by_positions(model, batches):
    """Padding counts in the denominator."""
    collect("", only_sum=True)(model, batches)  # fault 79
    for parameter in model.parameters():
        parameter.grad /= sum(batch.targets.numel() for batch in batches)


# ------------------------------------------------------------------------------------------- 5.3-d: nats a sentence


def nats(name, per="sentence", eos=True, side=1, weigh=False, grad=False):
    """The loss of a sentence with one thing changed."""

    def nats_per_sentence(model, tokenizer, pairs):
        encoded = [tuple(map(tokenizer.encode, pair)) for pair in pairs]
        losses, lengths = [], []
        with torch.set_grad_enabled(grad):
            model.eval()
            for pair in encoded:
                batch = seq2seq_batch([pair if side else (pair[1], pair[0])])
                loss = cross_entropy(model(*batch.inputs).transpose(1, 2), batch.targets, reduction="none")[0]
                losses.append((loss if eos else loss[:-1]).sum())
                lengths.append(batch.n_targets)
        if grad:
            sum(losses).backward()
        if weigh:
            return float(sum(x * n for x, n in zip(losses, lengths, strict=True)) / sum(lengths))
        n = {"sentence": len(pairs), "token": sum(lengths), "all": 1}[per]
        return float(sum(losses)) / n

    nats_per_sentence.__name__ = name
    return nats_per_sentence


right("5.3-d")(nats("sentence_by_sentence"))


@right("5.3-d")
def in_one_batch(model, tokenizer, pairs):
    batch = seq2seq_batch([tuple(map(tokenizer.encode, pair)) for pair in pairs])
    with evaluating(model):
        log_q = model(*batch.inputs).double().log_softmax(dim=-1)
    picked = log_q.gather(2, batch.targets.clamp(min=0)[..., None])[..., 0]
    return -(picked * (batch.targets != IGNORE)).sum().item() / len(pairs)


@wrong("5.3-d", "a loss per token")
def per_token(model, tokenizer, pairs):
    return evaluate(model, TokenBatches([tuple(map(tokenizer.encode, pair)) for pair in pairs], 4096))


wrong("5.3-d", "EOS is a target, too")(nats("without_eos", eos=False))
wrong("5.3-d", "divide by the number of sentences")(nats("total", per="all"))
wrong("5.3-d", "counts the tokens of the sources")(nats("the_other_side", side=0))
wrong("5.3-d", "leave gradients behind")(nats("with_gradients", grad=True))


@wrong("5.3-d", "each sentence should count the same")
def mean_length_times_mean_loss(model, tokenizer, pairs):
    encoded = [tuple(map(tokenizer.encode, pair)) for pair in pairs]
    mean_length = sum(len(target) + 1 for _, target in encoded) / len(pairs)
    alone = [evaluate(model, TokenBatches([pair], 4096)) for pair in encoded]
    return mean_length * sum(alone) / len(alone)


@wrong("5.3-d", "is dropout off while you measure")
def dropout_on(model, tokenizer, pairs):
    batch = seq2seq_batch([tuple(map(tokenizer.encode, pair)) for pair in pairs])
    with torch.no_grad():
        logits = model(*batch.inputs).transpose(1, 2)
    return cross_entropy(logits, batch.targets, ignore_index=IGNORE, reduction="sum").item() / len(pairs)


def changed(name, message, change):
    def nats_per_sentence(model, tokenizer, pairs):
        return change(in_one_batch(model, tokenizer, pairs), tokenizer)

    nats_per_sentence.__name__ = name
    wrong("5.3-d", message)(nats_per_sentence)


changed("in_bits", "that is in bits", lambda found, tokenizer: found / math.log(2))
changed("without_minus", "−ln q is wanted", lambda found, tokenizer: -found)
changed("with_bos", "EOS included", lambda found, tokenizer: found + math.log(tokenizer.vocab_size))


@wrong("5.3-d", "padding counts")
def with_padding(model, tokenizer, pairs):  # fault 83
    batch = seq2seq_batch([tuple(map(tokenizer.encode, pair)) for pair in pairs])
    with evaluating(model):
        log_q = model(*batch.inputs).log_softmax(dim=-1)
    return -log_q.gather(2, batch.targets.clamp(min=0)[..., None]).sum().item() / len(pairs)
