"""Our byte-level BPE beside Hugging Face `tokenizers`, in one run: ``python benchmarks/bpe.py``.

Both learn 8,000 merges from the German and English training texts of multi30k, cut into the same pieces before
merging, and then encode those texts. They take turns in random order; the figures are medians over the rounds of
*process CPU time*, in which the threads of the Rust library are switched off. Ratios are ours over theirs: above 1
means that ours takes longer. The merges differ from some point on, since the two break ties by different rules, so
the number of tokens is printed too: nearly equal vocabularies cut the texts into nearly as many.
"""

import os
import random
import time
from collections.abc import Callable
from statistics import median

os.environ["TOKENIZERS_PARALLELISM"] = "false"

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from course_lib.datasets import load
from course_lib.tokenizers import PIECE_PATTERN, SPECIAL_TOKENS, BPETokenizer

VOCAB_SIZE = 8000 + 256 + len(SPECIAL_TOKENS)
ROUNDS = 5


def train_hugging_face(texts: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    # The flag (?x), as in our verbose pattern, makes white space in the pattern a matter of layout.
    pieces = pre_tokenizers.Split(Regex("(?x)" + PIECE_PATTERN.pattern), behavior="isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pieces, to_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        min_frequency=2,
        show_progress=False,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def take_turns(contenders: dict[str, Callable[[], object]]) -> tuple[dict[str, float], dict[str, object]]:
    """Median CPU seconds and last result of each."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    results: dict[str, object] = {}
    for _ in range(ROUNDS):
        for name in random.sample(list(contenders), len(contenders)):
            start = time.process_time()
            results[name] = contenders[name]()
            seconds[name].append(time.process_time() - start)
    return {name: median(values) for name, values in seconds.items()}, results


def count_tokens(encodings: list[list[int]]) -> int:
    return sum(map(len, encodings))


def main() -> None:
    corpus = load("multi30k")
    texts = corpus.texts("train", "de") + corpus.texts("train", "en")
    n_words = sum(len(text.split()) for text in texts)
    print(f"multi30k de+en train: {len(texts):,} sentences, {n_words:,} words; CPU seconds, medians of {ROUNDS}")

    training, trained = take_turns(
        {
            "ours": lambda: BPETokenizer.train(texts, VOCAB_SIZE),
            "Hugging Face": lambda: train_hugging_face(texts),
        }
    )
    mine, theirs = trained["ours"], trained["Hugging Face"]
    assert isinstance(mine, BPETokenizer) and isinstance(theirs, Tokenizer)
    assert mine.vocab_size == theirs.get_vocab_size() == VOCAB_SIZE
    merges = mine.merges

    def hugging_face(tokenizer: Tokenizer) -> list[list[int]]:
        return [encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]

    def ours_with(tokenizer: BPETokenizer, dropout: float = 0.0) -> list[list[int]]:
        rng = random.Random(0) if dropout else None
        return [tokenizer.encode(text, dropout, rng) for text in texts]

    encoding, encoded = take_turns(
        {
            "ours, cache empty": lambda: ours_with(BPETokenizer(merges)),
            "ours, cache warm": lambda: ours_with(mine),
            "ours, dropout 0.1": lambda: ours_with(mine, dropout=0.1),
            "Hugging Face": lambda: hugging_face(theirs),
        }
    )
    assert all(mine.decode(ids) == text for ids, text in zip(encoded["ours, cache warm"], texts, strict=True))
    assert all(theirs.decode(ids) == text for ids, text in zip(encoded["Hugging Face"], texts, strict=True))

    for title, seconds in (("train, 8,000 merges", training), ("encode", encoding)):
        print(f"\n{title}")
        for name, value in seconds.items():
            line = f"  {name:<18} {value:6.2f} s   ratio {value / seconds['Hugging Face']:5.2f}"
            if title == "encode":
                n_tokens = count_tokens(encoded[name])
                line += f"   {n_tokens:,} tokens, {n_tokens / value / 1e6:5.2f} million a second"
            print(line)


if __name__ == "__main__":
    main()
