"""Our encoder–decoder against a Hugging Face Marian model by copied weights: an implementation by other people."""

import pytest
import torch

from course_lib.batching import pad_sequences
from course_lib.decoding import beam_search, greedy
from course_lib.tokenizers import BOS, EOS, PAD
from tests.marian import random_marian, seq2seq_from_marian

VOCABULARY = 101
SIZES = {
    "vocab_size": VOCABULARY,
    "d_model": 6 * 7,
    "encoder_layers": 3,
    "decoder_layers": 2,
    "encoder_attention_heads": 7,
    "decoder_attention_heads": 7,
    "encoder_ffn_dim": 31,
    "decoder_ffn_dim": 31,
    "max_position_embeddings": 37,
    "activation_function": "silu",
}


def sentences(lengths: list[int]) -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(5, VOCABULARY, (n,), generator=generator).tolist() for n in lengths]


# The sentences differ in length on both sides, so that positions, padding masks and their interplay are compared too.
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("activation", ["silu", "swish", "relu", "gelu"])
def test_logits_equal(dtype: torch.dtype, tolerance: float, activation: str) -> None:
    marian = random_marian(**(SIZES | {"activation_function": activation})).to(dtype)
    model = seq2seq_from_marian(marian)
    source = pad_sequences([[*tokens, EOS] for tokens in sentences([11, 2, 5, 0])])
    target = pad_sequences([[BOS, *tokens] for tokens in sentences([3, 13, 7, 1])])
    with torch.no_grad():
        expected = marian(
            input_ids=source,
            attention_mask=(source != PAD).long(),
            decoder_input_ids=target,
        ).logits
        found = model(source, target)
    assert found.dtype == dtype
    real = target != PAD
    torch.testing.assert_close(found[real], expected[real], atol=tolerance, rtol=0)


def test_options_we_cannot_express_are_refused() -> None:
    marian = random_marian(**(SIZES | {"decoder_ffn_dim": 29}))
    with pytest.raises(ValueError, match="decoder_ffn_dim = 31, got 29"):
        seq2seq_from_marian(marian)


# Not only the network but the searches agree with Hugging Face's: the same outputs, and for the beam the same scores.
# EOS gets a bonus, so that outputs end after different numbers of steps and the rule for stopping matters.
@pytest.mark.parametrize("beam_size", [1, 3])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0])
def test_searches_equal(beam_size: int, length_penalty: float) -> None:
    marian = random_marian(seed=3, **SIZES).double()
    marian.final_logits_bias[0, EOS] += 3.0
    marian.final_logits_bias[0, [PAD, BOS, 4]] = -1e9  # never written; MASK has id 4
    model = seq2seq_from_marian(marian)
    inputs = sentences([3, 9, 4, 6, 1, 13, 2])
    for source in inputs:  # one by one: to Hugging Face a longer sentence of the batch is not always indifferent
        generated = marian.generate(
            input_ids=torch.tensor([[*source, EOS]]),
            num_beams=beam_size,
            num_return_sequences=beam_size,
            do_sample=False,
            early_stopping=beam_size > 1,  # stop when num_beams hypotheses have finished: our rule
            length_penalty=length_penalty,
            max_new_tokens=30,
            return_dict_in_generate=True,
            output_scores=True,
        )
        expected = [[t for t in row if t not in (BOS, EOS, PAD)] for row in generated.sequences.tolist()]
        assert all(EOS in row for row in generated.sequences.tolist()), "an output was cut: the comparison is void"
        if beam_size == 1:
            assert greedy(model, [source], 30) == expected
        else:
            (found,) = beam_search(model, [source], beam_size, length_penalty, 30)
            assert [hypothesis.tokens for hypothesis in found] == expected
            scores = [hypothesis.score for hypothesis in found]  # theirs are kept in float32
            assert scores == pytest.approx(generated.sequences_scores.tolist(), abs=1e-5)
