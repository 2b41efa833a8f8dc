"""Answers to the exercises of notebook 2.3."""

import statistics

import numpy as np

from tests.coursework.answers import right, wrong

T = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}

# ------------------------------------------------------------------------------------------------------ 2.3-a: targets


def count(name, end=1, first=0, masked_end=0, at_least=1, sign=1, span_end=1, by=round, share=0.15,
          span_at_least=1):  # fmt: skip
    """The number of targets with one thing changed."""

    def n_targets(n_tokens, objective, n_spans=1):
        hidden = max(span_at_least if objective == "span" else at_least, by(share * n_tokens))
        if objective == "causal":
            return n_tokens + end - first
        return hidden + masked_end if objective == "masked" else hidden + sign * n_spans + span_end

    n_targets.__name__ = name
    return n_targets


right("2.3-a")(count("plain"))


@right("2.3-a")
def with_branches(n_tokens, objective, n_spans=1):
    hidden = np.maximum(1, np.rint(0.15 * n_tokens))
    if objective == "masked":
        return int(hidden)
    return int({"causal": n_tokens, "span": hidden + n_spans}[objective] + 1)


wrong("2.3-a", "must predict the end, too")(count("no_end", end=0))
wrong("2.3-a", "from BOS")(count("first_not_predicted", end=0, first=1))
wrong("2.3-a", "no end sign to predict")(count("masked_with_end", masked_end=1))
wrong("2.3-a", "must still hide one")(count("hides_nothing", at_least=0))
wrong("2.3-a", "*and* the end sign")(count("span_without_end", span_end=0))
wrong("2.3-a", "a sign for each span")(count("words_only", sign=0, span_end=0))
wrong("2.3-a", "does n_spans enter")(lambda n, objective, n_spans=1: count("")(n, objective, 1))
wrong("2.3-a", "round half to even")(count("cuts_off", by=int))
wrong("2.3-a", "15 % of 40 tokens are 6")(count("those_that_are_seen", share=0.85))
wrong("2.3-a", "hides one, got 2")(count("hides_two", at_least=2))
wrong("2.3-a", "40 tokens and the end sign")(count("bos_and_end", end=2))
wrong("2.3-a", "one sign and the end sign")(count("closes_twice", span_end=2))
wrong("2.3-a", "span: a text of two tokens must still hide one")(count("span_hides_nothing", span_at_least=0))


# ----------------------------------------------------------------------------------------------- 2.3-b: an interval


@right("2.3-b")
def with_statistics(values):
    return statistics.mean(values), T[len(values)] * statistics.stdev(values) / len(values) ** 0.5


@right("2.3-b")
def in_numpy(values):
    x = np.array(values)
    return x.mean(), T[len(x)] * x.std(ddof=1) / np.sqrt(len(x))


@wrong("2.3-b", "where are t and √n")
def deviation(values):
    return statistics.mean(values), statistics.stdev(values)


@wrong("2.3-b", "it is multiplied by t")
def standard_error(values):
    return statistics.mean(values), statistics.stdev(values) / len(values) ** 0.5


@wrong("2.3-b", "shrinks with √n")
def without_root_n(values):
    return statistics.mean(values), T[len(values)] * statistics.stdev(values)


@wrong("2.3-b", "divide the squares by n − 1")
def biased(values):
    return statistics.mean(values), T[len(values)] * statistics.pstdev(values) / len(values) ** 0.5


@wrong("2.3-b", "that t belongs to four runs")
def next_row(values):
    return statistics.mean(values), T[min(5, len(values) + 1)] * statistics.stdev(values) / len(values) ** 0.5


@wrong("2.3-b", "the whole width")
def both_sides(values):
    return statistics.mean(values), 2 * T[len(values)] * statistics.stdev(values) / len(values) ** 0.5


@wrong("2.3-b", "should be the mean")
def from_to(values):
    half = T[len(values)] * statistics.stdev(values) / len(values) ** 0.5
    return statistics.mean(values) - half, statistics.mean(values) + half


@wrong("2.3-b", "return two numbers")
def only_the_half_width(values):
    return with_statistics(values)[1]


@wrong("2.3-b", "1.96 is right for a known spread")
def normal(values):
    return statistics.mean(values), 1.96 * statistics.stdev(values) / len(values) ** 0.5


@wrong("2.3-b", "which n stands under the root")
def one_run_less(values):
    return statistics.mean(values), T[len(values)] * statistics.stdev(values) / (len(values) - 1) ** 0.5


@wrong("2.3-b", "equal runs have no spread")
def never_sure(values):
    return statistics.mean(values), with_statistics(values)[1] or 0.01


@wrong("2.3-b", "two runs: t is 12.71")
def one_t_for_all(values):
    return statistics.mean(values), T[3] * statistics.stdev(values) / len(values) ** 0.5


# --------------------------------------------------------------------------------------------------- 2.3-c: merging


def merged(name, scale=None, base=True, sign=1, saving="both", in_place=False):
    """The merged weight with one thing changed."""

    def merge(W0, A, B, alpha):
        factor = alpha / len(A) if scale is None else scale(alpha, *A.shape)
        W = W0 if in_place else np.array(W0)
        W *= 1 if base else 0
        W += sign * factor * (B @ A)
        both = A.size + B.size
        factors = {"both": W0.size / both, "one": W0.size / A.size, "with W0": W0.size / (both + W0.size),
                   "share": both / W0.size, "difference": W0.size - both, "square": len(W0) / (2 * len(A))}  # fmt: skip
        return W, factors[saving]

    merge.__name__ = name
    return merge


right("2.3-c")(merged("in_steps"))


@right("2.3-c")
def by_einsum(W0, A, B, alpha):
    (m, n), r = W0.shape, B.shape[1]
    return W0 + np.einsum("mr,rn->mn", B * alpha, A) / r, m * n / (r * (m + n))


wrong("2.3-c", "divided by the rank")(merged("alpha_only", scale=lambda a, r, n: a))
wrong("2.3-c", "by what is B A multiplied")(merged("no_scale", scale=lambda a, r, n: 1.0))
wrong("2.3-c", "it is added to W0")(merged("adaptation_alone", base=False))
wrong("2.3-c", "changed in place")(merged("in_place", in_place=True))
wrong("2.3-c", "not taken off")(merged("other_sign", sign=-1))
wrong("2.3-c", "by which factor are there *fewer*")(merged("the_share", saving="share"))
wrong("2.3-c", "both are trained")(merged("one_matrix", saving="one"))
wrong("2.3-c", "W0 is frozen")(merged("with_w0", saving="with W0"))
wrong("2.3-c", "by the width of A")(merged("the_other_size", scale=lambda a, r, n: a / n))
wrong("2.3-c", "the merged weight is wrong")(merged("root_of_the_rank", scale=lambda a, r, n: a / r**0.5))
wrong("2.3-c", "expected 8, got 3584")(merged("how_many_fewer", saving="difference"))
wrong("2.3-c", "7 × 5 with rank 2")(merged("as_if_square", saving="square"))


@wrong("2.3-c", "return two things")
def weight_alone(W0, A, B, alpha):
    return W0 + alpha / len(A) * B @ A


# ------------------------------------------------------------------------------------------------ 2.3-d: T5's signs


def corrupt(name, top=-1, step=-1, closing=True, per_token=False, sign_in_target=True, rest=True, sign=True,
            inclusive=0, close_by=0, too_far=0, sign_last=False, last_first=False, closing_id=None, joins=False,
            takes=False):  # fmt: skip
    """Span corruption with one thing changed."""

    def corrupt_t5(tokens, spans, vocab_size):
        source, target, at = [], [], 0
        if joins and len(spans) > 1 and spans[0][1] == spans[1][0]:
            spans = [(spans[0][0], spans[1][1]), *spans[2:]]
        for k, (start, end) in enumerate(spans):
            end += inclusive
            mark = [vocab_size + top + step * (len(spans) - 1 - k if last_first else k)] if sign else []
            source += tokens[at : start + too_far] + mark * (end - start if per_token else 1)
            words = tokens[start:end] + (mark if sign_last else [])
            target += (mark if sign_in_target and not sign_last else []) + words
            at = end
        closing_sign = [vocab_size + (top + step * (len(spans) - close_by) if closing_id is None else closing_id)]
        rest_of_it = tokens[at:] if rest else []
        if takes:
            del tokens[at:]
        return source + rest_of_it, target + (closing_sign if closing else [])

    corrupt_t5.__name__ = name
    return corrupt_t5


right("2.3-d")(corrupt("in_lists"))


@right("2.3-d")
def token_by_token(tokens, spans, vocab_size):
    source, target, sign = [], [], vocab_size
    starts, inside = dict(spans), -1
    for i, token in enumerate(tokens):
        if i in starts:
            inside, sign = starts[i], sign - 1
            source.append(sign)
            target.append(sign)
        (target if i < inside else source).append(token)
    return np.array(source), [*target, sign - 1]


wrong("2.3-d", "one sign stands for a whole span")(corrupt("a_sign_a_token", per_token=True))
wrong("2.3-d", "the ids count from 0")(corrupt("too_large", top=0))
wrong("2.3-d", "closes with one sign more")(corrupt("not_closed", closing=False))
wrong("2.3-d", "begins with its sign")(corrupt("target_without_signs", sign_in_target=False))
wrong("2.3-d", "is read, too")(corrupt("drops_the_rest", rest=False))
wrong("2.3-d", "there should be a sign")(corrupt("no_sign", sign=False))
wrong("2.3-d", "as in a slice")(corrupt("inclusive", inclusive=1))
wrong("2.3-d", "each span has its own sign")(lambda t, s, v: (corrupt("")(t, s, v)[0] if len(s) < 2 else
    [x if x < 40 else v - 1 for x in corrupt("")(t, s, v)[0]], corrupt("")(t, s, v)[1]))  # fmt: skip
wrong("2.3-d", "the closing sign is the next one")(corrupt("closes_with_the_last", close_by=1))
wrong("2.3-d", "to be read: expected [11, 99, 14, 15, 16]")(corrupt("first_word_stays", too_far=1))
wrong("2.3-d", "to be written: expected")(corrupt("signs_after_the_words", sign_last=True))
wrong("2.3-d", "two spans, at both ends")(corrupt("numbered_from_the_end", last_first=True))
wrong("2.3-d", "two spans: expected")(corrupt("one_closing_sign_for_all", closing_id=-2))
wrong("2.3-d", "two spans side by side")(corrupt("neighbours_joined", joins=True))
wrong("2.3-d", "changed in place")(corrupt("takes_the_rest_away", takes=True))


@wrong("2.3-d", "no span: the text is read, one sign is written")
def nothing_to_write(tokens, spans, vocab_size):
    source, target = corrupt("")(tokens, spans, vocab_size)
    return source, target if spans else []


@wrong("2.3-d", "return two lists")
def source_alone(tokens, spans, vocab_size):
    return corrupt("")(tokens, spans, vocab_size)[0]


@wrong("2.3-d", "not up")
def upwards(tokens, spans, vocab_size):
    source, target = corrupt("")(tokens, spans, vocab_size)
    flip = {vocab_size - 1 - k: vocab_size - 1 + k for k in range(1, len(spans))}
    return [flip.get(x, x) for x in source], [flip.get(x, x) for x in target]
