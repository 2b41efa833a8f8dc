"""Answers to the exercises of notebook 00."""

import numpy as np

from tests.coursework.answers import right, wrong

# ------------------------------------------------------------------------------------------------------- 0-a: a mean


@right("0-a")
def einsum(x):
    return np.einsum("blf->bf", x) / x.shape[1]


@right("0-a")
def loops(x):
    return np.array(
        [[sum(token[f] for token in sentence) / len(sentence) for f in range(x.shape[2])] for sentence in x]
    )


@wrong("0-a", "mean over the features")
def over_features(x):
    return x.mean(axis=-1)


@wrong("0-a", "mean over the batch")
def over_batch(x):
    return x.mean(axis=0)


@wrong("0-a", "this is a sum")
def a_sum(x):
    return x.sum(axis=1)


@wrong("0-a", "should disappear")
def keeps_the_axis(x):
    return x.mean(axis=1, keepdims=True)


@wrong("0-a", "not those of a mean")
def reshaped(x):
    return x.reshape(x.shape[0], x.shape[2], x.shape[1]).mean(axis=2)


@wrong("0-a", "the second is not")
def first_sentence_for_all(x):
    return np.repeat(x[:1].mean(axis=1), len(x), axis=0)


# ------------------------------------------------------------------------------------------------------ 0-b: softmax


@right("0-b")
def by_logarithms(scores):
    largest = scores.max(axis=-1, keepdims=True)
    return np.exp(scores - largest - np.log(np.exp(scores - largest).sum(axis=-1, keepdims=True)))


@right("0-b")
def row_by_row(scores):
    result = np.empty_like(scores)
    for index in np.ndindex(scores.shape[:-1]):
        e = np.exp(scores[index] - max(scores[index]))
        result[index] = e / sum(e)
    return result


@wrong("0-b", "overflow")
def naive(scores):
    e = np.exp(scores)
    return e / e.sum(axis=-1, keepdims=True)


@wrong("0-b", "all numbers together")
def over_everything(scores):
    e = np.exp(scores - scores.max())
    return e / e.sum()


@wrong("0-b", "the columns sum to 1")
def over_the_first_axis(scores):
    e = np.exp(scores - scores.max(axis=0))
    return e / e.sum(axis=0)


@wrong("0-b", "maximum of each row")
def one_maximum(scores):
    e = np.exp(scores - scores.max())
    return e / e.sum(axis=-1, keepdims=True)


@wrong("0-b", "power of the score")
def powers_of_two(scores):
    e = 2 ** (scores - scores.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


@wrong("0-b", "each row must sum to 1")
def not_divided(scores):
    return np.exp(scores - scores.max(axis=-1, keepdims=True))


@wrong("0-b", "have changed")
def in_place(scores):
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    return scores


# ------------------------------------------------------------------------------------------------- 0-c: loss per token


@right("0-c")
def in_one_list(batches):
    losses = [loss for batch in batches for loss in batch]
    return sum(losses) / len(losses)


@right("0-c")
def weighted(batches):
    n = sum(map(len, batches))
    return np.float32(sum(np.mean(batch) * len(batch) / n for batch in batches if batch))


@wrong("0-c", "mean of the batches' means")
def mean_of_means(batches):
    return sum(sum(b) / len(b) for b in batches) / len(batches)


@wrong("0-c", "number of batches")
def divided_by_batches(batches):
    return sum(map(sum, batches)) / len(batches)


@wrong("0-c", "not divided yet")
def only_summed(batches):
    return sum(map(sum, batches))


@wrong("0-c", "divide the sum over all tokens")
def last_batch(batches):
    return sum(batches[0]) / sum(map(len, batches))


@wrong("0-c", "ZeroDivisionError")
def stumbles_over_empty(batches):
    n = sum(map(len, batches))
    return sum(sum(b) / len(b) * len(b) / n for b in batches)


# ------------------------------------------------------------------------------------------------------ 0-d: look-up


@right("0-d")
def by_comparison(tokens, table):
    one_hot = (tokens[:, None] == np.arange(len(table))).astype(np.float32)
    return np.take(table, tokens, axis=0), one_hot @ table


@right("0-d")
def with_lists(tokens, table):
    one_hot = np.zeros((len(tokens), len(table)))
    for row, token in enumerate(tokens):
        one_hot[row, token] = 1
    return [table[token] for token in tokens], np.einsum("tv,vf->tf", one_hot, table)


@wrong("0-d", "return two arrays")
def only_the_first(tokens, table):
    return table[tokens]


@wrong("0-d", "not one column")
def columns(tokens, table):
    return table[tokens].T, (np.eye(len(table))[tokens] @ table).T


@wrong("0-d", "count from 0")
def counts_from_one(tokens, table):
    return table[tokens] - 3, np.eye(len(table))[tokens] @ table


@wrong("0-d", "in the column of its token")
def shifted(tokens, table):
    return table[tokens], np.eye(len(table))[tokens - 1] @ table


@wrong("0-d", "the product should be")
def one_hot_alone(tokens, table):
    return table[tokens], np.eye(len(table))[tokens]


@wrong("0-d", "number tokens[k]")
def sorted_tokens(tokens, table):
    return table[np.sort(tokens)], np.eye(len(table))[np.sort(tokens)] @ table


@wrong("0-d", "ValueError")
def one_hot_of_the_length(tokens, table):
    return table[tokens], np.eye(len(tokens) + 2)[tokens] @ table[:5]
