"""Scores of translations and language models, each with what is needed to compare it.

BLEU and chrF are written out from their definitions. Only the rules that cut text into words, which are
conventions rather than ideas, are sacreBLEU's own, so that the values equal that library's and may be
compared with published ones.

Statistics are gathered per sentence and summed before a score is computed: the score of a corpus is *not* the
mean of the scores of its sentences. The sums are also all that :func:`bootstrap_interval` needs.
"""

import math
import re
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import sacrebleu
import torch
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
from sacrebleu.tokenizers.tokenizer_zh import TokenizerZh
from torch import Tensor, nn

from course_lib.batching import Batch
from course_lib.models import evaluating
from course_lib.training import cross_entropy

BLEU_ORDER = 4  # longest n-gram, in words
CHRF_ORDER = 6  # longest n-gram, in characters
CHRF_BETA = 2  # recall counts for twice as much as precision

References = Sequence[str] | Sequence[Sequence[str]]
Link = tuple[int, int]  # (source position, target position)

# One object each, because they remember what they cut: references that are scored again cost nothing.
_TOKENIZERS = {"en": Tokenizer13a(), "de": Tokenizer13a(), "zh": TokenizerZh()}
_CHINESE = re.compile("[\u4e00-\u9fff]")
_SPACED_PUNCTUATION = re.compile(r"\s[.,!?;:。，！？；：](\s|$)")
_LOOKS_TOKENISED = 0.1  # share of hypotheses; in clean English and German text it is 0.001 or less


@dataclass(frozen=True)
class Score:
    """A score and its signature: the settings without which the number means nothing."""

    name: str
    value: float
    signature: str

    def __str__(self) -> str:
        return f"{self.name} {self.value:.1f} ({self.signature})"


# BLEU -------------------------------------------------------------------------------------------------------


def bleu(hypotheses: Sequence[str], references: References, language: str = "en") -> Score:
    """Corpus BLEU, 0 to 100, against one or several references (Papineni et al., 2002, sections 2.1–2.3).

    Cased, on detokenised text, words cut by sacreBLEU's "13a" for English and German and "zh" for Chinese,
    which counts each Chinese character as a word. Equal to ``sacrebleu.corpus_bleu`` (Post, 2018).

    Args:
        hypotheses: one detokenised text per sentence.
        references: one entry per hypothesis, in the same order: a text, or a list of as many texts as there
            are (sacreBLEU wants them the other way round: one list per set of references).
        language: of the references: "en", "de" or "zh".

    Raises:
        TypeError: if a text stands where a list belongs, or an element is not text.
        ValueError: if the lists are empty or of unequal length, if the references look transposed, if
            ``language`` is unknown, or if the references are Chinese and ``language`` says otherwise.
    """
    references = _reference_lists(hypotheses, references)
    _warn_if_tokenised(hypotheses)
    statistics = bleu_statistics(hypotheses, references, language)
    signature = (
        f"nrefs:{_n_references(references)}|case:mixed|eff:no|tok:{_TOKENIZERS[language].signature()}|smooth:exp"
        f"|version:{sacrebleu.__version__}"
    )
    return Score("BLEU", bleu_from_statistics(statistics.sum(axis=0)), signature)


def bleu_statistics(hypotheses: Sequence[str], references: References, language: str = "en") -> np.ndarray:
    """The counts BLEU is made of, ``(sentences, 10)``; arguments and errors are those of :func:`bleu`.

    Columns: words in the hypothesis, words in the reference, matched n-grams (n = 1 to 4), n-grams in the
    hypothesis (n = 1 to 4).
    """
    references = _reference_lists(hypotheses, references)
    if language not in _TOKENIZERS:
        raise ValueError(f"language must be one of {', '.join(_TOKENIZERS)}, got {language!r}")
    n_chinese = sum(bool(_CHINESE.search(texts[0])) for texts in references)
    if language != "zh" and 2 * n_chinese > len(references):
        raise ValueError(
            f'the references are Chinese but language is {language!r}: pass language="zh". Chinese is written without '
            f"spaces, so the tokeniser for {language!r} would take a whole sentence for one word"
        )

    tokenizer = _TOKENIZERS[language]

    def words(text: str) -> tuple[str, ...]:
        return tuple(tokenizer(text.rstrip()).split())

    rows = []
    for hypothesis, texts in zip(hypotheses, references, strict=True):
        candidate = words(hypothesis)
        targets = [words(text) for text in texts]
        # A hypothesis may use an n-gram as often as the one reference that has it most often.
        allowed = _ngram_counts(targets[0], BLEU_ORDER)
        for target in targets[1:]:
            for ngram, count in _ngram_counts(target, BLEU_ORDER).items():
                if count > allowed[ngram]:
                    allowed[ngram] = count
        # Of references equally close in length, the shorter counts.
        closest = min(map(len, targets), key=lambda length: (abs(length - len(candidate)), length))
        matches = _matches(_ngram_counts(candidate, BLEU_ORDER), allowed, BLEU_ORDER)
        rows.append([len(candidate), closest, *matches, *_totals(candidate, BLEU_ORDER)])
    return np.array(rows)


def bleu_from_statistics(statistics: np.ndarray) -> float:
    """BLEU from one row of :func:`bleu_statistics`, or from the sum of many.

    The geometric mean of the four n-gram precisions, times the brevity penalty. A precision of zero would
    make the score zero whatever the others are; instead the first is taken as 1/2 match, the second as 1/4
    and so on (Chen and Cherry, 2014, method 3). The score stays zero if nothing matches, or if no hypothesis
    has as many as four words.
    """
    length, reference_length, *counts = statistics.tolist()
    matches, totals = counts[:BLEU_ORDER], counts[BLEU_ORDER:]
    if not any(matches) or not all(totals):
        return 0.0
    log_precision = 0.0
    smoothed = 1.0
    for n_matches, total in zip(matches, totals, strict=True):
        if n_matches == 0:
            smoothed /= 2
            n_matches = smoothed
        log_precision += math.log(n_matches / total) / BLEU_ORDER
    brevity = min(0.0, 1 - reference_length / length)  # log of the penalty: nothing is gained by being longer
    return 100 * math.exp(brevity + log_precision)


# chrF -------------------------------------------------------------------------------------------------------


def chrf(hypotheses: Sequence[str], references: References) -> Score:
    """Corpus chrF2, 0 to 100: F-score of character n-grams, recall weighted double (Popović, 2015 and 2016).

    Needs no tokeniser, since spaces are ignored: it is the same for every language and for tokenised text.
    Equal to ``sacrebleu.corpus_chrf``. Arguments and errors are those of :func:`bleu`.
    """
    references = _reference_lists(hypotheses, references)
    signature = (
        f"nrefs:{_n_references(references)}|case:mixed|eff:yes|nc:{CHRF_ORDER}|nw:0|space:no"
        f"|version:{sacrebleu.__version__}"
    )
    totals = chrf_statistics(hypotheses, references).sum(axis=0)
    return Score(f"chrF{CHRF_BETA}", chrf_from_statistics(totals), signature)


def chrf_statistics(hypotheses: Sequence[str], references: References) -> np.ndarray:
    """The counts chrF is made of, ``(sentences, 18)``; arguments and errors are those of :func:`chrf`.

    Columns: n-grams in the hypothesis (n = 1 to 6), in the reference (the same), matched (the same). Of
    several references the one with the highest chrF of its own counts, the first one if there is a tie. A
    hypothesis that matches nothing ties with all of them, so their order can matter; sacreBLEU's does too.
    """
    references = _reference_lists(hypotheses, references)
    rows = []
    for hypothesis, texts in zip(hypotheses, references, strict=True):
        candidate = "".join(hypothesis.split())
        counts = _ngram_counts(candidate, CHRF_ORDER)
        totals = _totals(candidate, CHRF_ORDER)
        options = []
        for text in texts:
            target = "".join(text.split())
            target_totals = _totals(target, CHRF_ORDER)
            matches = _matches(counts, _ngram_counts(target, CHRF_ORDER), CHRF_ORDER)
            # An order for which the reference is too short takes no part, so it is not held against the
            # hypothesis.
            comparable = [total if other else 0 for total, other in zip(totals, target_totals, strict=True)]
            options.append(comparable + target_totals + matches)
        rows.append(options[0] if len(options) == 1 else max(options, key=chrf_from_statistics))
    return np.array(rows)


def chrf_from_statistics(statistics: np.ndarray | list[int]) -> float:
    """chrF2 from one row of :func:`chrf_statistics`, or from the sum of many.

    Precision and recall are means over the n-gram orders that both sides have.
    """
    precision = recall = 0.0
    n_orders = 0
    for n in range(CHRF_ORDER):
        n_candidate, n_target, matches = statistics[n::CHRF_ORDER]
        if n_candidate and n_target:
            precision += matches / n_candidate
            recall += matches / n_target
            n_orders += 1
    if recall == 0:
        return 0.0
    precision /= n_orders
    recall /= n_orders
    weight = CHRF_BETA**2
    return float((1 + weight) * precision * recall / (weight * precision + recall) * 100)


# What both share --------------------------------------------------------------------------------------------


def exact_match(hypotheses: Sequence[str], references: References) -> Score:
    """Share of hypotheses, 0 to 100, that are one of their references to the letter; arguments as for :func:`bleu`."""
    references = _reference_lists(hypotheses, references)
    hits = sum(hypothesis in texts for hypothesis, texts in zip(hypotheses, references, strict=True))
    signature = f"nrefs:{_n_references(references)}|case:mixed|space:yes"
    return Score("exact match", 100 * hits / len(hypotheses), signature)


def bootstrap_interval(
    statistics: np.ndarray, score: Callable[[np.ndarray], float], seed: int, samples: int = 1000
) -> tuple[float, float]:
    """95 % interval of a corpus score under resampling of its sentences (Koehn, 2004, section 3).

    It tells how much the score hangs on these test sentences; not how much it would change with another
    training run.

    To compare two systems on the same sentences, resample both together and look at the difference::

        both = np.stack([bleu_statistics(a, references), bleu_statistics(b, references)], axis=1)
        bootstrap_interval(both, lambda s: bleu_from_statistics(s[0]) - bleu_from_statistics(s[1]), seed=0)

    Args:
        statistics: ``(sentences, ...)``, from :func:`bleu_statistics` or :func:`chrf_statistics`.
        score: the score from the sum of the statistics over sentences.
        seed: of the resampling; the same seed gives the same interval.
        samples: how many times a corpus of the same size is drawn.

    Raises:
        ValueError: if there is no sentence.
    """
    n = len(statistics)
    if n == 0:
        raise ValueError("statistics has no sentence: there is nothing to resample")
    rng = np.random.default_rng(seed)
    scores = [score(statistics[rng.integers(n, size=n)].sum(axis=0)) for _ in range(samples)]
    low, high = np.quantile(scores, [0.025, 0.975])
    return float(low), float(high)


def _ngram_counts(sequence: str | tuple[str, ...], longest: int) -> Counter[str | tuple[str, ...]]:
    """How often each n-gram of 1 to ``longest`` items occurs. One dictionary for all orders is faster than one each."""
    size = len(sequence)
    return Counter([sequence[i : i + n] for n in range(1, longest + 1) for i in range(size - n + 1)])


def _totals(sequence: str | tuple[str, ...], longest: int) -> list[int]:
    """How many n-grams of 1 to ``longest`` items there are."""
    return [max(len(sequence) - n + 1, 0) for n in range(1, longest + 1)]


def _matches(counts: Counter, allowed: Counter, longest: int) -> list[int]:
    """Matched n-grams of each order, clipped: each counts at most as often as ``allowed`` has it."""
    matches = [0] * longest
    for ngram, count in counts.items():
        if ngram in allowed:
            limit = allowed[ngram]
            matches[len(ngram) - 1] += count if count < limit else limit  # min() would double the time of this loop
    return matches


def _reference_lists(hypotheses: Sequence[str], references: References) -> list[list[str]]:
    """The references as one list per hypothesis, or an error that names what is wrong with either argument."""
    for name, argument in (("hypotheses", hypotheses), ("references", references)):
        if isinstance(argument, str) or not isinstance(argument, Sequence):
            kind = "one text" if isinstance(argument, str) else f"a {type(argument).__name__}"
            raise TypeError(f"{name} must be a list with one entry per sentence, got {kind}")
    if not hypotheses:
        raise ValueError("hypotheses is empty: there is nothing to score")
    for i, hypothesis in enumerate(hypotheses):
        if not isinstance(hypothesis, str):
            raise TypeError(
                f"hypotheses[{i}] must be detokenised text (str), got a {type(hypothesis).__name__}: decode it first"
            )

    n = len(hypotheses)
    lists = [[entry] if isinstance(entry, str) else entry for entry in references]
    for i, texts in enumerate(lists):
        if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
            raise TypeError(f"references[{i}] must be a text or a list of texts, got {texts!r:.80}")
        if not texts:
            raise ValueError(f"references[{i}] is an empty list: hypothesis {i} has nothing to be compared with")
    if len(lists) != n:
        if lists and all(len(texts) == n for texts in lists):
            raise ValueError(
                f"references look transposed: {len(lists)} lists of {n} texts for {n} hypotheses. Expected {n} lists, "
                f"one per hypothesis: pass [list(texts) for texts in zip(*references)]"
            )
        raise ValueError(f"there are {n} hypotheses but references for {len(lists)}; expected one entry each")
    return [list(texts) for texts in lists]


def _n_references(references: list[list[str]]) -> str:
    """References per sentence as sacreBLEU's signature writes it: a number, or "var"."""
    numbers = {len(texts) for texts in references}
    return str(numbers.pop()) if len(numbers) == 1 else "var"


def _warn_if_tokenised(hypotheses: Sequence[str]) -> None:
    spaced = [hypothesis for hypothesis in hypotheses if _SPACED_PUNCTUATION.search(hypothesis)]
    if len(spaced) > _LOOKS_TOKENISED * len(hypotheses):
        warnings.warn(
            f"{len(spaced)} of {len(hypotheses)} hypotheses have a space before a punctuation mark, as in "
            f"{spaced[0]!r:.80}: they look tokenised. BLEU expects text as a person writes it; detokenise it first",
            stacklevel=3,
        )


# Language models --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Perplexity:
    """Cross-entropy of a model on a text, per token.

    Values compare only between models with the same tokens: a tokeniser with longer tokens has fewer, harder
    ones.

    Attributes:
        nats_per_token: minus the mean natural log of the probability that the model gave to the token that
            came.
        tokens: how many tokens the mean is over.
    """

    nats_per_token: float
    tokens: int

    @property
    def perplexity(self) -> float:
        """e to the nats per token: as uncertain as a fair choice between so many tokens.

        Infinite where a float cannot hold it.
        """
        return math.exp(self.nats_per_token) if self.nats_per_token < 700 else math.inf

    @property
    def bits_per_token(self) -> float:
        """The same cross-entropy with logarithms to base 2."""
        return self.nats_per_token / math.log(2)

    def __str__(self) -> str:
        return (
            f"perplexity {self.perplexity:.2f} ({self.nats_per_token:.3f} nats, "
            f"{self.bits_per_token:.3f} bits per token, {self.tokens:,} tokens)"
        )


def perplexity(model: nn.Module, batches: Iterable[Batch]) -> Perplexity:
    """Perplexity of ``model(*batch.inputs)`` on the targets of one pass over ``batches``.

    The mean is over all targets that are not IGNORE, never over batches: it does not depend on how the
    sentences are batched or padded. The model is in evaluation mode meanwhile, and back in its own mode
    afterwards.

    Raises:
        ValueError: if there is no target at all.
    """
    device = next(model.parameters(), torch.empty(0)).device
    nats, tokens = 0.0, 0
    with evaluating(model):
        for batch in batches:
            batch = batch.to(device)
            loss, n_targets = cross_entropy(model(*batch.inputs), batch.targets)
            nats += float(loss)
            tokens += int(n_targets)
    if tokens == 0:
        raise ValueError("batches holds no target: it is empty, or used up, or every target is IGNORE")
    return Perplexity(nats / tokens, tokens)


# Word alignment ---------------------------------------------------------------------------------------------


def alignment_error_rate(
    predicted: Sequence[Collection[Link]],
    sure: Sequence[Collection[Link]],
    possible: Sequence[Collection[Link]] | None = None,
) -> float:
    """Alignment error rate, 0 (best) to 1, over all sentences together (Och and Ney, 2003, section 5.1).

    ``1 - (|A ∩ S| + |A ∩ P|) / (|A| + |S|)`` for predicted links A, sure links S and possible links P. Every
    sure link is a possible one too, whether or not it is listed as such; without ``possible`` the two are the
    same.

    Args:
        predicted: for each sentence its links, pairs ``(source position, target position)``.
        sure: links that must be found, in the same form.
        possible: links that may be found without penalty, in the same form.

    Raises:
        ValueError: if the numbers of sentences differ, or there is no link at all.
        TypeError: if a link is not a pair of positions.
    """
    possible = sure if possible is None else possible
    if not len(predicted) == len(sure) == len(possible):
        raise ValueError(
            f"predicted, sure and possible must have one entry per sentence, "
            f"got {len(predicted)}, {len(sure)} and {len(possible)}"
        )
    hits = size = 0
    for i, sentence in enumerate(zip(predicted, sure, possible, strict=True)):
        for link in (link for links in sentence for link in links):
            if not (isinstance(link, tuple) and len(link) == 2):
                raise TypeError(f"sentence {i}: a link must be a pair (source, target), got {link!r}")
        a, s, p = map(set, sentence)
        hits += len(a & s) + len(a & (s | p))
        size += len(a) + len(s)
    if size == 0:
        raise ValueError("there is no link, predicted or sure: the rate is undefined")
    return 1 - hits / size


def alignment_from_attention(weights: Tensor) -> set[Link]:
    """Links from cross-attention: each target token with the source token it attends to most.

    Args:
        weights: ``(target, source)``, that is (query, key), of one sentence and one head (or a mean of
            heads), cut to the tokens that alignments number: without padding and EOS on either side. The row
            that belongs to a target token is the one where the decoder *predicts* it and reads the token
            before: row t for token t where the decoder's input begins with BOS.

    Returns:
        Pairs ``(source position, target position)``, one for each target token.

    Raises:
        ValueError: if ``weights`` is not a matrix with at least one source token, or a row sums to more than
            1, as happens when the axes are swapped.
    """
    if weights.ndim != 2 or weights.shape[1] == 0:
        raise ValueError(f"weights must have shape (target, source), source at least 1, got {tuple(weights.shape)}")
    if (weights.sum(dim=1) > 1.001).any():
        raise ValueError(
            "a row of weights sums to more than 1: rows must be target tokens (queries), not source tokens"
        )
    return {(source, target) for target, source in enumerate(weights.argmax(dim=1).tolist())}
