"""The shape of a model, read from its config.json to count parameters and activations. Pure functions."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from train.families import Family, ModelKind, family_of, model_kind


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """Sizes of a model that determine memory and time."""

    kind: ModelKind
    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    vocab: int
    embedding_parameters: int
    """Parameters of the input embeddings, which are looked up and not multiplied."""
    other_parameters: int
    tied_parameters: int
    """Embedding parameters that are also the output projection, and are therefore multiplied."""
    product_elements: int
    """Number of elements per token in the results of one layer's matrix products and attention."""

    @property
    def parameters(self) -> int:
        """Number of parameters of the model."""
        return self.embedding_parameters + self.other_parameters


def model_shape(config: Mapping[str, Any]) -> ModelShape | None:
    """Count the parameters of a model from its config.json.

    Returns:
        The exact shape (tested against the real modules), or None for an unknown layout, such as a mixture of
        experts.
    """
    kind, family = model_kind(config), family_of(config)
    if kind is None or family is None or not family.counted:
        return None
    hidden, layers, heads = (family.size(config, name) for name in ("hidden", "layers", "heads"))
    vocab = config.get("vocab_size")
    if not (hidden and layers and heads and vocab):
        return None
    shape = ModelShape(
        kind=kind,
        layers=layers,
        hidden=hidden,
        ffn=family.size(config, "ffn") or 4 * hidden,
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        vocab=vocab,
        embedding_parameters=(vocab + _position_rows(config, family)) * hidden,
        other_parameters=0,
        tied_parameters=vocab * hidden if kind == "decoder" and _is_tied(config, family) else 0,
        product_elements=0,
    )
    return replace(
        shape,
        other_parameters=_gated(config, family, shape) if family.gated else _ungated(shape),
        product_elements=_product_elements(config, family, shape),
    )


def _is_tied(config: Mapping[str, Any], family: Family) -> bool:
    """Return whether the output projection is the embedding: as configured if gated, always in GPT-2."""
    return bool(config.get("tie_word_embeddings")) if family.gated else True


def _position_rows(config: Mapping[str, Any], family: Family) -> int:
    """Return the rows of learned embeddings for positions and segment types."""
    if family.positions != "learned":
        return 0
    return (family.size(config, "positions") or 0) + int(config.get("type_vocab_size") or 0)


def _head_size(config: Mapping[str, Any], shape: ModelShape) -> int:
    return int(config.get("head_dim") or shape.hidden // shape.heads)


def _product_elements(config: Mapping[str, Any], family: Family, shape: ModelShape) -> int:
    """Count the elements of queries, keys, values, attention output and projection, and feed-forward."""
    queries_keys_values = _head_size(config, shape) * (shape.heads + 2 * shape.kv_heads)
    attention = _head_size(config, shape) * shape.heads
    feed_forward = (2 if family.gated else 1) * shape.ffn + shape.hidden
    return queries_keys_values + attention + shape.hidden + feed_forward


def _gated(config: Mapping[str, Any], family: Family, shape: ModelShape) -> int:
    """Count the parameters of Llama-like models: RMSNorm, grouped-query attention, gated feed-forward."""
    hidden, heads, kv_heads = shape.hidden, shape.heads, shape.kv_heads
    head = _head_size(config, shape)
    attention = hidden * head * (heads + 2 * kv_heads) + heads * head * hidden
    if config.get("attention_bias") or family.qkv_bias:
        attention += head * (heads + 2 * kv_heads)
    if family.query_key_norm:
        attention += 2 * head
    layer = attention + 3 * hidden * shape.ffn + 2 * hidden
    output = 0 if config.get("tie_word_embeddings") else shape.vocab * hidden
    return int(shape.layers * layer + hidden + output)


def _ungated(shape: ModelShape) -> int:
    """Count the parameters of GPT-2 and BERT: LayerNorm, full attention, two-matrix feed-forward, biases."""
    hidden, ffn = shape.hidden, shape.ffn
    layer = 4 * hidden * hidden + 4 * hidden + 2 * hidden * ffn + hidden + ffn + 4 * hidden
    final = 2 * hidden + (hidden * hidden + hidden if shape.kind == "encoder" else 0)
    return shape.layers * layer + final
