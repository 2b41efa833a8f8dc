"""BLEU and chrF, our own beside sacreBLEU's, in one run: ``python benchmarks/metrics.py``.

Both score the same 1,000 synthetic sentences, cut into words by the same tokenisers, whose memory is emptied before
each run. The four are run in turn, in an order drawn anew for each round, and compared by the median of their process
CPU time, so that a busy machine slows all of them alike. Ratios above 1 mean that ours is faster.
"""

import random
import time
from collections.abc import Callable
from statistics import median

import sacrebleu
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
from sacrebleu.tokenizers.tokenizer_re import TokenizerRegexp
from sacrebleu.tokenizers.tokenizer_zh import TokenizerZh

from course_lib.metrics import bleu, chrf

N_SENTENCES = 1000
ROUNDS = 11
LATIN = "etaoinshrdlucmfwypvbgk"
CHINESE = "的一是不了人我在有他这中大来上个国到说们为子和你地出道也时年得就那要下以生会自着去之过家学对可她里后"


def corpus(letters: str, space: str, stop: str, rng: random.Random) -> tuple[list[str], list[list[str]]]:
    """Hypotheses that got seven words in ten right, and two references for each; word frequencies are Zipf-like."""
    lengths = [1, 2, 2] if space == "" else [2, 3, 4, 5, 6, 8]
    words = ["".join(rng.choices(letters, k=rng.choice(lengths))) for _ in range(3000)]

    def word() -> str:
        return words[min(int(rng.paretovariate(0.7)), len(words)) - 1]

    def noisy(sentence: list[str]) -> str:
        return space.join(old if rng.random() < 0.7 else word() for old in sentence) + stop

    sentences = [[word() for _ in range(rng.randint(5, 22))] for _ in range(N_SENTENCES)]
    references = [[space.join(sentence) + stop, noisy(sentence)] for sentence in sentences]
    return [noisy(sentence) for sentence in sentences], references


def compare(title: str, hypotheses: list[str], references: list[list[str]], language: str) -> None:
    streams = [list(texts) for texts in zip(*references, strict=True)]
    tokenize = "zh" if language == "zh" else "13a"
    contenders: dict[str, Callable[[], float]] = {
        "BLEU": lambda: bleu(hypotheses, references, language).value,
        "BLEU of sacreBLEU": lambda: sacrebleu.corpus_bleu(hypotheses, streams, tokenize=tokenize).score,
        "chrF": lambda: chrf(hypotheses, references).value,
        "chrF of sacreBLEU": lambda: sacrebleu.corpus_chrf(hypotheses, streams).score,
    }
    values: dict[str, float] = {}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    order = list(contenders)
    for _ in range(ROUNDS):
        random.shuffle(order)
        for name in order:
            for tokenizer in (Tokenizer13a, TokenizerRegexp, TokenizerZh):
                tokenizer.__call__.cache_clear()
            start = time.process_time()
            values[name] = contenders[name]()
            seconds[name].append(time.process_time() - start)
    for metric in ("BLEU", "chrF"):
        theirs = f"{metric} of sacreBLEU"
        if abs(values[metric] - values[theirs]) > 1e-9:
            raise AssertionError(f"{title}: {metric} is {values[metric]}, sacreBLEU says {values[theirs]}")
        ours_ms, theirs_ms = 1e3 * median(seconds[metric]), 1e3 * median(seconds[theirs])
        print(
            f"{title:24}{metric:6}{values[metric]:6.1f}{ours_ms:12.0f} ms{theirs_ms:12.0f} ms{theirs_ms / ours_ms:9.2f}"
        )


def main() -> None:
    rng = random.Random(0)
    print(f"{N_SENTENCES} sentences, median process CPU time of {ROUNDS} rounds, sacreBLEU {sacrebleu.__version__}")
    print(f"{'corpus':24}{'metric':6}{'value':>6}{'ours':>15}{'sacreBLEU':>15}{'ratio':>9}")
    hypotheses, references = corpus(LATIN, " ", ".", rng)
    compare("Latin, 1 reference", hypotheses, [texts[:1] for texts in references], "en")
    compare("Latin, 2 references", hypotheses, references, "en")
    hypotheses, references = corpus(CHINESE, "", "。", rng)
    compare("Chinese, 1 reference", hypotheses, [texts[:1] for texts in references], "zh")


if __name__ == "__main__":
    main()
