"""Metrics: equality with sacreBLEU, values by hand, wrong input refused, invariance to batching and padding."""

import math
import warnings
from collections.abc import Sequence

import numpy as np
import pytest
import sacrebleu
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from course_lib.batching import IGNORE, Batch, causal_batch
from course_lib.metrics import (
    Perplexity,
    Score,
    alignment_error_rate,
    alignment_from_attention,
    bleu,
    bleu_from_statistics,
    bleu_statistics,
    bootstrap_interval,
    chrf,
    chrf_from_statistics,
    chrf_statistics,
    exact_match,
    perplexity,
)
from course_lib.tokenizers import WordTokenizer

ENGLISH = (
    [
        "The cat sat on the mat.",
        'He paid 1,250.50 dollars - "a lot" - for it.',
        "No.",
        "",
        "A well-known R&D man, or well-\n",
    ],
    [
        "The cat is on the mat.",
        'He paid 1,250 dollars, "a lot", for it.',
        "No, no.",
        "Gone.",
        "A known R&amp;D man, or well-",
    ],
)
GERMAN = (
    ["Zwei Männer stehen am Herd und kochen.", "Über 3,5 km läuft er täglich; heute nicht.", "Ein Hund rennt."],
    ["Zwei Männer stehen am Herd und bereiten Essen zu.", "Er läuft täglich 3,5 km - heute nicht.", "Ein Hund."],
)
CHINESE = (
    ["那只黑猫昨天在公园里吃了一条鱼。", "他没有看过这本书。", "我们2024年买了iPhone 15吗？", "好"],
    ["昨天那只黑猫在公园里吃了一条鱼。", "他没看过这本书。", "我们在2024年买iPhone 15了吗？", "很好。"],
)


def their_references(references: Sequence[str] | Sequence[Sequence[str]]) -> list[list[str | None]]:
    """One list per set of references, as sacreBLEU wants them, with None where a sentence has fewer."""
    lists = [[entry] if isinstance(entry, str) else list(entry) for entry in references]
    width = max(map(len, lists))
    return [[texts[i] if i < len(texts) else None for texts in lists] for i in range(width)]


def assert_equals_sacrebleu(hypotheses: list[str], references: list[str] | list[list[str]], language: str) -> None:
    for ours, theirs in (
        (bleu(hypotheses, references, language), sacrebleu.BLEU(trg_lang=language, force=True)),
        (chrf(hypotheses, references), sacrebleu.CHRF()),
    ):
        expected = theirs.corpus_score(hypotheses, their_references(references))
        assert ours.value == pytest.approx(expected.score, abs=1e-9)
        assert ours.name == expected.name
        assert ours.signature == str(theirs.get_signature())


@pytest.mark.parametrize(
    ("corpus", "language"), [(ENGLISH, "en"), (GERMAN, "de"), (CHINESE, "zh")], ids=["en", "de", "zh"]
)
def test_bleu_and_chrf_equal_sacrebleu(corpus: tuple[list[str], list[str]], language: str) -> None:
    hypotheses, references = corpus
    assert 10 < bleu(hypotheses, references, language).value < 90  # neither end, where anything agrees
    assert_equals_sacrebleu(hypotheses, references, language)
    several = [[text, other, "x " + text] for text, other in zip(references, reversed(references), strict=True)]
    assert_equals_sacrebleu(hypotheses, several, language)
    ragged = [texts[: 1 + i % 3] for i, texts in enumerate(several)]
    assert_equals_sacrebleu(hypotheses, ragged, language)


# Few characters, so that n-grams repeat (clipping), lengths tie, orders are missing and tokeniser rules fire.
TEXT = st.text(alphabet="ab aab .,-&;'1中国。\n", max_size=20)


@given(st.lists(st.tuples(TEXT, st.lists(TEXT, min_size=1, max_size=3)), min_size=1, max_size=5))
@pytest.mark.filterwarnings("ignore:.*look tokenised")
def test_bleu_and_chrf_equal_sacrebleu_on_odd_text(corpus: list[tuple[str, list[str]]]) -> None:
    hypotheses, references = [h for h, _ in corpus], [r for _, r in corpus]
    assert_equals_sacrebleu(hypotheses, references, "zh")
    latin = str.maketrans("", "", "中国。")
    references = [[text.translate(latin) for text in texts] for texts in references]
    assert_equals_sacrebleu(hypotheses, references, "en")


def test_bleu_by_hand() -> None:
    # The example of Papineni et al. (2002, section 2.1): "the" counts twice, as often as the first reference has it.
    # Reference lengths 6 and 7: the hypothesis has 7 words, so 7 is the closer.
    references = ["the cat is on the mat", "there is a cat on the mat"]
    for texts in (references, references[::-1]):
        statistics = bleu_statistics(["the the the the the the the"], [texts])
        assert statistics.tolist() == [[7, 7, 2, 0, 0, 0, 7, 6, 5, 4]]
    # The orders without a match are given 1/2, 1/4 and 1/8 of one.
    precisions = [2 / 7, 1 / 2 / 6, 1 / 4 / 5, 1 / 8 / 4]
    assert bleu_from_statistics(statistics[0]) == pytest.approx(100 * math.prod(precisions) ** (1 / 4))


def test_closest_reference_length_breaks_ties_downwards() -> None:
    # 5 words against references of 3, 7 and 11: 3 and 7 are equally close, 3 counts, and nothing is too short.
    references = [["a b c", "a b c d e f g", "a b c d e f g h i j k"]]
    for order in (references, [references[0][::-1]]):
        assert bleu_statistics(["a b c d e"], order)[0, 1] == 3


def test_brevity_penalty_by_hand() -> None:
    # All precisions are 1; 5 words instead of 7 cost exp(1 - 7/5). Too long a text pays through its precisions only.
    assert bleu(["a b c d e"], ["a b c d e f g"]).value == pytest.approx(100 * math.exp(1 - 7 / 5))
    assert bleu(["a b c d e f g"], ["a b c d e"]).value == pytest.approx(
        100 * (5 / 7 * 4 / 6 * 3 / 5 * 2 / 4) ** (1 / 4)
    )


def test_corpus_score_is_not_the_mean_of_sentence_scores() -> None:
    hypotheses, references = ["a b c d e f g", "a b x"], ["a b c d e f g", "a b c d e"]
    for statistics, score in (
        (bleu_statistics(hypotheses, references), bleu_from_statistics),
        (chrf_statistics(hypotheses, references), chrf_from_statistics),
    ):
        mean = np.mean([score(row) for row in statistics])
        assert abs(score(statistics.sum(axis=0)) - mean) > 1


def test_order_of_sentences_and_of_references_does_not_matter() -> None:
    # fault 92: the reported symptom was a score that depends on the order of the sentences.
    hypotheses = ENGLISH[0]
    references = [[a, b] for a, b in zip(ENGLISH[1], [*ENGLISH[1][1:], "Gone away."], strict=True)]
    for metric in (bleu, chrf):
        value = metric(hypotheses, references).value
        assert metric(hypotheses[::-1], references[::-1]).value == pytest.approx(value, abs=1e-12)
    # The empty hypothesis is left out: it is the tie that the docstring of chrf_statistics speaks of.
    hypotheses, references = hypotheses[:3], references[:3]
    for metric in (bleu, chrf):
        value = metric(hypotheses, references).value
        assert metric(hypotheses, [texts[::-1] for texts in references]).value == pytest.approx(value, abs=1e-12)


def test_perfect_and_hopeless() -> None:
    hypotheses, references = ENGLISH
    for metric in (bleu, chrf):
        assert metric(references, references).value == pytest.approx(100)
        assert metric([""] * len(references), references).value == 0
        assert metric(["zzz qqq"] * len(references), references).value == 0
        # A set of references that contains the hypotheses gives 100, whatever else it contains.
        assert metric(references, [[h, r] for h, r in zip(hypotheses, references, strict=True)]).value == (
            pytest.approx(100)
        )


def test_chrf_ignores_spaces() -> None:
    # So the segmentation of Chinese, or tokenised punctuation, cannot change it.
    spaced = [" ".join(text) for text in CHINESE[0]]
    assert chrf(spaced, CHINESE[1]).value == chrf(*CHINESE).value


def test_exact_match_counts_any_allowed_reference() -> None:
    score = exact_match(["a b", "c", "D"], [["x", "a b"], ["c"], ["d", "e"]])
    assert score == Score("exact match", pytest.approx(100 * 2 / 3), "nrefs:var|case:mixed|space:yes")


# Wrong input ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", [bleu, chrf, exact_match])
class TestWrongInput:
    def test_transposed_references(self, metric) -> None:
        # fault 92: three hypotheses, two sets of references. zip() would silently score two hypotheses.
        hypotheses = ["a b c d", "e f g h", "i j k l"]
        two_sets = [["a b c d", "e f g h", "x"], ["y", "e f g h", "z"]]
        with pytest.raises(ValueError, match=r"transposed: 2 lists of 3 texts for 3 hypotheses.*zip\(\*references\)"):
            metric(hypotheses, two_sets)
        with pytest.raises(ValueError, match="transposed: 1 lists of 3 texts"):
            metric(hypotheses, two_sets[:1])
        assert metric(hypotheses, [list(texts) for texts in zip(*two_sets, strict=True)]).value > 0

    def test_text_in_place_of_a_list(self, metric) -> None:
        # fault 94: a string is a sequence of strings too, and would be scored character by character.
        with pytest.raises(TypeError, match=r"hypotheses must be a list .* got one text"):
            metric("the cat", ["the cat"])
        with pytest.raises(TypeError, match=r"references must be a list .* got one text"):
            metric(["the cat"], "the cat")

    def test_elements_that_are_not_text(self, metric) -> None:
        with pytest.raises(TypeError, match=r"hypotheses\[1\] must be detokenised text .* got a list"):
            metric(["the cat", ["the", "dog"]], ["the cat", "the dog"])
        with pytest.raises(TypeError, match=r"references\[1\] must be a text or a list of texts, got \[7, 3\]"):
            metric(["the cat", "the dog"], ["the cat", [7, 3]])
        with pytest.raises(TypeError, match=r"references\[0\] must be .* got None"):
            metric(["the cat"], [None])

    def test_lengths(self, metric) -> None:
        with pytest.raises(ValueError, match="3 hypotheses but references for 2"):
            metric(["a", "b", "c"], ["a", "b"])
        with pytest.raises(ValueError, match="1 hypotheses but references for 0"):
            metric(["a"], [])
        with pytest.raises(ValueError, match="hypotheses is empty"):
            metric([], [])
        with pytest.raises(ValueError, match=r"references\[1\] is an empty list"):
            metric(["a", "b"], [["a"], []])


def test_tokenised_hypotheses_warn() -> None:
    # fault 91: the tokeniser would run over tokenised text, "do n't" stays two words, and the score falls.
    natural = ["I don't know.", "Well, he's gone!", "It costs 1,250 dollars."]
    tokenised = ["I do n't know .", "Well , he 's gone !", "It costs 1 , 250 dollars ."]
    with pytest.warns(UserWarning, match=r"3 of 3 hypotheses .* look tokenised") as caught:
        assert bleu(tokenised, natural).value < 90
    assert caught[0].filename == __file__, "the warning points to the line that called bleu"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bleu(natural, tokenised).value < 90  # tokenised references do the same harm; hypotheses are natural
        assert bleu([*natural * 10, tokenised[0]], natural * 10 + natural[:1]).value > 90  # one slip is no pattern


def test_decoded_text_is_detokenised() -> None:
    # fault 91, from the other end: what our word tokeniser decodes is text as a person writes it.
    texts = ["The cat sleeps, but the dog runs.", "Who gave it to them?"]
    tokenizer = WordTokenizer.train(texts)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bleu([tokenizer.decode(tokenizer.encode(text)) for text in texts], texts).value == pytest.approx(100)


def test_chinese_is_never_scored_by_the_rules_for_english() -> None:
    # fault 96: "13a" takes a Chinese sentence for one word, and every imperfect sentence for a complete miss.
    assert "|tok:zh|" in bleu(*CHINESE, language="zh").signature
    assert "|tok:13a|" in bleu(*ENGLISH).signature
    assert "|tok:13a|" in bleu(*GERMAN, language="de").signature
    with pytest.raises(ValueError, match=r'references are Chinese .* language="zh"'):
        bleu(*CHINESE)
    # Chinese *hypotheses* for an English reference are bad, not wrong: a baseline that copies the source.
    assert bleu(CHINESE[0], ENGLISH[1][:4]).value < 10
    with pytest.raises(ValueError, match="language must be one of en, de, zh, got 'fr'"):
        bleu(*ENGLISH, language="fr")


def test_signature_is_printed_with_every_score() -> None:
    # fault 97: a number without its settings cannot be compared with any other.
    for score in (bleu(*ENGLISH), chrf(*ENGLISH), exact_match(*ENGLISH)):
        assert score.signature.startswith("nrefs:1|case:mixed|")
        assert str(score) == f"{score.name} {score.value:.1f} ({score.signature})"


# Intervals --------------------------------------------------------------------------------------------------


def test_bootstrap_interval_of_a_mean() -> None:
    # For a mean of n zeros and ones the interval is known: 1.96 standard errors to either side.
    n, hits = 499, 199
    statistics = np.array([[1, 1]] * hits + [[0, 1]] * (n - hits))
    low, high = bootstrap_interval(statistics, lambda s: s[0] / s[1], seed=5, samples=3000)
    p = hits / n
    half = 1.96 * math.sqrt(p * (1 - p) / n)
    assert low == pytest.approx(p - half, abs=half / 8)
    assert high == pytest.approx(p + half, abs=half / 8)


def test_bootstrap_interval_is_a_function_of_its_seed() -> None:
    statistics = bleu_statistics(*ENGLISH)
    first = bootstrap_interval(statistics, bleu_from_statistics, seed=3)
    state = np.random.get_state()[1].tolist()  # type: ignore[index]
    assert bootstrap_interval(statistics, bleu_from_statistics, seed=3) == first
    assert bootstrap_interval(statistics, bleu_from_statistics, seed=4) != first
    assert np.random.get_state()[1].tolist() == state, "the caller's generator is left alone"  # type: ignore[index]
    assert first[0] < bleu(*ENGLISH).value < first[1]


def test_paired_interval_is_narrower_than_the_systems_own() -> None:
    # Two systems that differ by the same small slip in every sentence: hard sentences are hard for both, so their
    # difference varies far less than their scores.
    rng = np.random.default_rng(7)
    references = [" ".join(rng.choice(list("abcdefg"), size=rng.integers(5, 19))) for _ in range(101)]
    good = [text if i % 3 else text[: len(text) // 2] for i, text in enumerate(references)]
    worse = [text[:-1] + "z" for text in good]
    a, b = bleu_statistics(good, references), bleu_statistics(worse, references)
    low, high = bootstrap_interval(
        np.stack([a, b], axis=1), lambda s: bleu_from_statistics(s[0]) - bleu_from_statistics(s[1]), seed=0
    )
    own_low, own_high = bootstrap_interval(a, bleu_from_statistics, seed=0)
    assert 0 < low < high
    assert high - low < (own_high - own_low) / 3
    with pytest.raises(ValueError, match="no sentence"):
        bootstrap_interval(a[:0], bleu_from_statistics, seed=0)


# Perplexity -------------------------------------------------------------------------------------------------

VOCAB = 13


class TableLM(nn.Module):
    """Predicts the next token from the current one by a fixed table: nothing but the token itself can matter."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = nn.Parameter(table)
        self.dropout = nn.Dropout(0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.dropout(self.table[tokens])


def random_corpus(seed: int, n: int = 17) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(5, VOCAB, size=length).tolist() for length in rng.integers(1, 12, size=n)]


def batches_of(sequences: list[list[int]], size: int) -> list[Batch]:
    return [causal_batch(sequences[i : i + size]) for i in range(0, len(sequences), size)]


def test_uniform_model_has_perplexity_v() -> None:
    # fault 82: e to the nats, not 2 to the nats.
    model = TableLM(torch.zeros(VOCAB, VOCAB, dtype=torch.float64))
    result = perplexity(model, batches_of(random_corpus(0), 3))
    assert result.perplexity == pytest.approx(VOCAB, rel=1e-12)
    assert result.bits_per_token == pytest.approx(math.log2(VOCAB), rel=1e-12)


def test_perplexity_by_hand() -> None:
    # Two targets with probability 1/2 and 1/8, one with probability 1/4: nats (1 + 3 + 2) ln 2 / 3, perplexity 4.
    logits = torch.full((VOCAB, VOCAB), -1e4, dtype=torch.float64)
    logits[1, [5, 6]] = math.log(1 / 2)
    logits[5, [6, 7]] = torch.tensor([1 / 8, 7 / 8], dtype=torch.float64).log()
    logits[6, [2, 7]] = torch.tensor([1 / 4, 3 / 4], dtype=torch.float64).log()
    result = perplexity(TableLM(logits), [causal_batch([[5, 6]])])  # BOS 5 6 -> 5 6 EOS
    assert result.tokens == 3
    assert result.nats_per_token == pytest.approx(2 * math.log(2))
    assert result.perplexity == pytest.approx(4)
    assert result.bits_per_token == pytest.approx(2)
    assert str(result) == "perplexity 4.00 (1.386 nats, 2.000 bits per token, 3 tokens)"


def test_perplexity_does_not_depend_on_batch_size() -> None:
    # fault 82: the mean over tokens, not the mean of the batches' means, which would weigh short batches too much.
    sequences = random_corpus(1)
    model = TableLM(torch.randn(VOCAB, VOCAB, dtype=torch.float64, generator=torch.Generator().manual_seed(2)))
    results = [perplexity(model, batches_of(sequences, size)) for size in (1, 3, 8, len(sequences))]
    for result in results:
        assert result.tokens == sum(len(sequence) + 1 for sequence in sequences)
        assert result.nats_per_token == pytest.approx(results[0].nats_per_token, rel=1e-12)


def test_padding_does_not_change_perplexity() -> None:
    # faults 79, 83: neither the sum nor the denominator may see padding.
    model = TableLM(torch.randn(VOCAB, VOCAB, dtype=torch.float64, generator=torch.Generator().manual_seed(3)))
    batch = causal_batch(random_corpus(4))
    padded = Batch(
        inputs=(nn.functional.pad(batch.inputs[0], (0, 19)),),
        targets=nn.functional.pad(batch.targets, (0, 19), value=IGNORE),
        n_targets=batch.n_targets,
    )
    bare, with_padding = perplexity(model, [batch]), perplexity(model, [padded])
    assert with_padding.tokens == bare.tokens
    assert with_padding.nats_per_token == pytest.approx(bare.nats_per_token, rel=1e-12)


def test_perplexity_without_targets() -> None:
    model = TableLM(torch.zeros(VOCAB, VOCAB))
    nothing = Batch((torch.ones(2, 3, dtype=torch.long),), torch.full((2, 3), IGNORE), n_targets=0)
    for batches in ([], [nothing]):
        with pytest.raises(ValueError, match="batches holds no target"):
            perplexity(model, batches)
    # Among others, a batch without targets adds nothing.
    some = causal_batch(random_corpus(5))
    assert perplexity(model, [nothing, some, nothing]) == perplexity(model, [some])


def test_perplexity_leaves_the_model_as_it_was() -> None:
    model = nn.Sequential(TableLM(torch.randn(VOCAB, VOCAB)), nn.Dropout(0.5))
    model.train()
    model[1].eval()  # a part that is kept in evaluation mode, such as a frozen encoder
    batches = batches_of(random_corpus(6), 5)
    assert perplexity(model, batches) == perplexity(model, batches), "dropout is off"
    assert [module.training for module in model.modules()] == [True, True, True, False]
    with pytest.raises(IndexError):
        perplexity(model, [Batch((torch.tensor([[VOCAB]]),), torch.tensor([[5]]), n_targets=1)])
    assert model.training, "also after an error"
    assert model[0].table.grad is None


def test_perplexity_builds_no_graph() -> None:
    class Watching(TableLM):
        def forward(self, tokens: Tensor) -> Tensor:
            logits = super().forward(tokens)
            assert not logits.requires_grad
            return logits

    perplexity(Watching(torch.zeros(VOCAB, VOCAB)), batches_of(random_corpus(7), 5))


def test_perplexity_of_a_diverged_model_is_infinite() -> None:
    assert Perplexity(nats_per_token=800.0, tokens=1).perplexity == math.inf


# Word alignment ---------------------------------------------------------------------------------------------


def test_alignment_error_rate_by_hand() -> None:
    # A has 4 links; 2 of the 3 sure ones are found; a third is possible; (3, 3) is wrong.
    predicted, sure, possible = {(0, 0), (1, 2), (2, 1), (3, 3)}, {(0, 0), (1, 2), (4, 4)}, {(2, 1), (4, 5)}
    expected = 1 - (2 + 3) / (4 + 3)
    assert alignment_error_rate([predicted], [sure], [possible]) == pytest.approx(expected)
    # Sure links are possible ones whether or not they are listed twice.
    assert alignment_error_rate([predicted], [sure], [possible | sure]) == pytest.approx(expected)
    assert alignment_error_rate([predicted], [sure]) == pytest.approx(1 - 2 * 2 / (4 + 3))


def test_alignment_error_rate_properties() -> None:
    sure, possible = [{(0, 1), (2, 3)}, {(1, 0)}], [{(4, 4)}, {(2, 2), (3, 3)}]
    assert alignment_error_rate(sure, sure) == 0
    assert alignment_error_rate([s | p for s, p in zip(sure, possible, strict=True)], sure, possible) == 0
    assert alignment_error_rate([set(), set()], sure) == 1
    # The axes matter: source first.
    assert alignment_error_rate([{(t, s) for s, t in links} for links in sure], sure) == 1
    # Links, not sentences, have equal weight: 2 of 3 found, while the mean over sentences would be 1/2.
    assert alignment_error_rate([sure[0], {(5, 5)}], sure) == pytest.approx(1 / 3)


def test_alignment_error_rate_refuses_wrong_input() -> None:
    with pytest.raises(ValueError, match="one entry per sentence, got 1, 2 and 2"):
        alignment_error_rate([{(0, 0)}], [{(0, 0)}, {(1, 1)}])
    with pytest.raises(ValueError, match="no link"):
        alignment_error_rate([set()], [set()])
    with pytest.raises(TypeError, match="sentence 0: a link must be a pair"):
        alignment_error_rate([(0, 0), (1, 1)], [(0, 0), (1, 1)])  # the links of one sentence, not in a list


def test_alignment_from_attention_finds_planted_links() -> None:
    # 5 target tokens, 3 source tokens: a swapped axis would give 3 links, or positions that do not exist.
    source_of = [2, 0, 0, 1, 2]
    weights = torch.full((5, 3), 0.2)
    weights[range(5), source_of] = 0.6
    links = alignment_from_attention(weights)
    assert links == {(2, 0), (0, 1), (0, 2), (1, 3), (2, 4)}
    assert alignment_error_rate([links], [{(s, t) for t, s in enumerate(source_of)}]) == 0
    with pytest.raises(ValueError, match="a row of weights sums to more than 1"):
        alignment_from_attention(weights.T)
    for shape in ((2, 5, 3), (5, 0)):
        with pytest.raises(ValueError, match=r"shape \(target, source\)"):
            alignment_from_attention(torch.zeros(shape))
