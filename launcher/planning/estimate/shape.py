"""A model's shape from its config.json: enough to count parameters and activations. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

Kind = Literal["decoder", "encoder"]

_DECODER_ENDINGS = ("ForCausalLM", "LMHeadModel")
_ENCODER_TYPES = {
    "bert",
    "roberta",
    "distilbert",
    "xlm-roberta",
    "deberta-v2",
    "electra",
    "camembert",
    "mpnet",
    "modernbert",
}
_GATED_TYPES = {"llama", "mistral", "qwen2", "qwen3"}
_PLAIN_TYPES = {"gpt2", "bert", "roberta", "xlm-roberta", "camembert"}
_SHIFTED_TYPES = {"roberta", "xlm-roberta", "camembert"}
_DECODER_TYPES = {
    "llama",
    "gpt2",
    "qwen2",
    "qwen3",
    "mistral",
    "gpt_neox",
    "phi3",
    "gemma",
    "gemma2",
    "olmo2",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """What memory and time depend on."""

    kind: Kind
    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    vocab: int
    embedding_parameters: int
    """Input embeddings: read, never multiplied."""
    other_parameters: int
    tied_parameters: int
    """Of the embeddings, those that are the output projection too, and so multiplied."""
    product_elements: int
    """What the matrix products and the attention of one layer give for one token."""

    @property
    def parameters(self) -> int:
        """All of them."""
        return self.embedding_parameters + self.other_parameters


def model_kind(config: Mapping[str, Any]) -> Kind | None:
    """Decoder (GPT-like), encoder (BERT-like) or neither."""
    if config.get("is_encoder_decoder"):
        return None
    names = config.get("architectures") or []
    if any(name.endswith(_DECODER_ENDINGS) for name in names):
        return "decoder"
    model_type = config.get("model_type")
    if model_type in _ENCODER_TYPES:
        return "encoder"
    return "decoder" if model_type in _DECODER_TYPES else None


def positions_of(config: Mapping[str, Any]) -> int | None:
    """Longest sequence that the model has positions for; RoBERTa's first two stand for padding."""
    positions = _first(config, "max_position_embeddings", "n_positions")
    return positions - 2 if positions and config.get("model_type") in _SHIFTED_TYPES else positions


def model_shape(config: Mapping[str, Any]) -> ModelShape | None:
    """Count parameters from config.json: exactly (tested against the real modules), or not at all.

    Returns:
        None for a layout that this project cannot count, such as a mixture of experts.
    """
    kind = model_kind(config)
    hidden = _first(config, "hidden_size", "n_embd", "dim")
    layers = _first(config, "num_hidden_layers", "n_layer", "n_layers")
    heads = _first(config, "num_attention_heads", "n_head", "n_heads")
    vocab = config.get("vocab_size")
    gated = config.get("model_type") in _GATED_TYPES
    known = gated or config.get("model_type") in _PLAIN_TYPES
    if kind is None or not known or not (hidden and layers and heads and vocab):
        return None
    shape = ModelShape(
        kind=kind,
        layers=layers,
        hidden=hidden,
        ffn=_first(config, "intermediate_size", "n_inner", "hidden_dim") or 4 * hidden,
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        vocab=vocab,
        embedding_parameters=(vocab + (0 if gated else _position_rows(config))) * hidden,
        other_parameters=0,
        tied_parameters=vocab * hidden if kind == "decoder" and _is_tied(config, gated=gated) else 0,
        product_elements=0,
    )
    return replace(
        shape,
        other_parameters=(_gated if gated else _plain)(config, shape),
        product_elements=_product_elements(config, shape, gated=gated),
    )


def _is_tied(config: Mapping[str, Any], *, gated: bool) -> bool:
    """Llama and its relatives say so; GPT-2 ties always, as `_plain` counts it."""
    return bool(config.get("tie_word_embeddings")) if gated else True


def _first(config: Mapping[str, Any], *keys: str) -> int | None:
    return next((int(config[key]) for key in keys if config.get(key)), None)


def _position_rows(config: Mapping[str, Any]) -> int:
    """Rows of learned embeddings beside the vocabulary's."""
    positions = _first(config, "max_position_embeddings", "n_positions") or 0
    return positions + int(config.get("type_vocab_size") or 0)


def _head_size(config: Mapping[str, Any], shape: ModelShape) -> int:
    return int(config.get("head_dim") or shape.hidden // shape.heads)


def _product_elements(config: Mapping[str, Any], shape: ModelShape, *, gated: bool) -> int:
    """Queries, keys, values, what attention makes of them, its projection; up and down the feed-forward."""
    queries_keys_values = _head_size(config, shape) * (shape.heads + 2 * shape.kv_heads)
    attention = _head_size(config, shape) * shape.heads
    return queries_keys_values + attention + shape.hidden + (2 if gated else 1) * shape.ffn + shape.hidden


def _gated(config: Mapping[str, Any], shape: ModelShape) -> int:
    """Llama and its relatives: RMSNorm, grouped-query attention, SwiGLU."""
    hidden, heads, kv_heads = shape.hidden, shape.heads, shape.kv_heads
    head = _head_size(config, shape)
    attention = hidden * head * (heads + 2 * kv_heads) + heads * head * hidden
    if config.get("attention_bias") or config.get("model_type") == "qwen2":
        attention += head * (heads + 2 * kv_heads)
    if config.get("model_type") == "qwen3":
        attention += 2 * head
    layer = attention + 3 * hidden * shape.ffn + 2 * hidden
    output = 0 if config.get("tie_word_embeddings") else shape.vocab * hidden
    return int(shape.layers * layer + hidden + output)


def _plain(_config: Mapping[str, Any], shape: ModelShape) -> int:
    """GPT-2 and BERT: LayerNorm, full attention, two-matrix MLP, biases everywhere."""
    hidden, ffn = shape.hidden, shape.ffn
    layer = 4 * hidden * hidden + 4 * hidden + 2 * hidden * ffn + hidden + ffn + 4 * hidden
    final = 2 * hidden + (hidden * hidden + hidden if shape.kind == "encoder" else 0)
    return shape.layers * layer + final
