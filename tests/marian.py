"""A Hugging Face MarianMTModel as a model of ours: the outside implementation that ours is compared with."""

import torch
from torch import nn
from transformers import MarianConfig, MarianMTModel

from course_lib.attention import MultiHeadAttention
from course_lib.layers import CrossBlock, FeedForward
from course_lib.models import ModelConfig, Seq2Seq
from course_lib.tokenizers import BOS, EOS, PAD


def random_marian(seed: int = 0, **options: object) -> MarianMTModel:
    """A Marian model with random weights, our special ids, and every bias and gain drawn at random too.

    A fresh model has biases 0 and gains 1, which would hide a bias that was forgotten or a norm that was mixed up.
    """
    config = MarianConfig(
        pad_token_id=PAD,
        eos_token_id=EOS,
        bos_token_id=BOS,
        decoder_start_token_id=BOS,
        forced_eos_token_id=None,
        scale_embedding=True,
        **options,
    )
    # The caller's generator stays as it was: the model draws from torch's default one.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MarianMTModel(config).eval()
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                nn.init.normal_(parameter, std=0.1)
            elif "layer_norm" in name:
                nn.init.normal_(parameter, mean=1.0, std=0.1)
        nn.init.normal_(model.final_logits_bias, std=0.1)
    return model


def seq2seq_from_marian(marian: MarianMTModel) -> Seq2Seq:
    """The same function of source and target: post-norm, Marian's sinusoids in a table of learned positions.

    Marian puts all sines before all cosines where we alternate them, so its table is copied, not computed.

    Raises:
        ValueError: if the model has an option ours cannot express.
    """
    c = marian.config
    for name, expected in (
        ("pad_token_id", PAD),
        ("eos_token_id", EOS),
        ("decoder_start_token_id", BOS),
        ("scale_embedding", True),
        ("share_encoder_decoder_embeddings", True),
        ("tie_word_embeddings", True),
        ("decoder_attention_heads", c.encoder_attention_heads),
        ("decoder_ffn_dim", c.encoder_ffn_dim),
    ):
        if getattr(c, name) != expected:
            raise ValueError(f"the Marian model must have {name} = {expected}, got {getattr(c, name)}")
    activation = {"swish": "silu"}.get(c.activation_function, c.activation_function)
    model = Seq2Seq(
        ModelConfig(
            vocab_size=c.vocab_size,
            d_model=c.d_model,
            n_heads=c.encoder_attention_heads,
            n_encoder_layers=c.encoder_layers,
            n_decoder_layers=c.decoder_layers,
            d_ff=c.encoder_ffn_dim,
            dropout=c.dropout,
            norm="post",
            positions="learned",
            max_length=c.max_position_embeddings,
            activation=activation,  # type: ignore[arg-type]
        )
    ).to(marian.dtype)
    with torch.no_grad():
        model.embedding.tokens.weight.copy_(marian.model.shared.weight)
        model.embedding.positions.table.weight.copy_(marian.model.encoder.embed_positions.weight)
        model.head.bias.copy_(marian.final_logits_bias[0])
        stacks = ((model.encoder, marian.model.encoder.layers), (model.decoder, marian.model.decoder.layers))
        for blocks, layers in stacks:
            for block, layer in zip(blocks, layers, strict=True):
                _copy_attention(block.attention, layer.self_attn)
                block.attention_residual.norm.load_state_dict(layer.self_attn_layer_norm.state_dict())
                if isinstance(block, CrossBlock):
                    _copy_attention(block.cross_attention, layer.encoder_attn)
                    block.cross_residual.norm.load_state_dict(layer.encoder_attn_layer_norm.state_dict())
                _copy_feed_forward(block.feed_forward, layer)
                block.feed_forward_residual.norm.load_state_dict(layer.final_layer_norm.state_dict())
    return model.eval()


def _copy_attention(ours: MultiHeadAttention, theirs: nn.Module) -> None:
    inputs = (theirs.q_proj, theirs.k_proj, theirs.v_proj)
    ours.query_key_value.weight.copy_(torch.cat([linear.weight for linear in inputs]))
    ours.query_key_value.bias.copy_(torch.cat([linear.bias for linear in inputs]))
    ours.output.load_state_dict(theirs.out_proj.state_dict())


def _copy_feed_forward(ours: FeedForward, theirs: nn.Module) -> None:
    ours.inner.load_state_dict(theirs.fc1.state_dict())
    ours.outer.load_state_dict(theirs.fc2.state_dict())
