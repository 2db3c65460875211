"""The table of model types and their properties, with one row per architecture. Torch-free.

A type outside the table can still be trained if its class names show its kind (`ForCausalLM`). Its memory is
not estimated, its documents cannot be packed, and kernels that depend on the architecture are not used.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

ModelKind = Literal["decoder", "encoder"]
_DECODER_ENDINGS = ("ForCausalLM", "LMHeadModel")


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeKeys:
    """The keys of a model's sizes in config.json; the defaults are the most common names in transformers."""

    hidden: str = "hidden_size"
    layers: str = "num_hidden_layers"
    heads: str = "num_attention_heads"
    ffn: str = "intermediate_size"
    positions: str = "max_position_embeddings"


@dataclass(frozen=True, slots=True, kw_only=True)
class LigerNorm:
    """How Liger's RMSNorm kernel computes a family's norm."""

    offset: float = 0.0
    """Added to the weight before the multiplication."""
    casting: str = "llama"
    """Liger's name for the set of operations that are computed in fp32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """The properties of model types with the same architecture."""

    model_types: tuple[str, ...]
    """The values of `model_type` in config.json."""
    kind: ModelKind
    packable: bool = False
    """Whether documents in one sequence neither attend to each other nor shift each other's positions;
    `tests/train/data/test_packing.py` has to pass for each model type of the row."""
    gated: bool = False
    """Whether the feed-forward multiplies a gate (three matrices) or not (two)."""
    positions: Literal["learned", "rotary", "relative"] = "rotary"
    padding_positions: int = 0
    """Number of learned positions, at the start, that are reserved for padding."""
    keys: SizeKeys = SizeKeys()
    counted: bool = False
    """Whether `launcher/planning/estimate/shape.py` counts its parameters and activations from config.json;
    `tests/train/test_families.py` compares the number with the real module's."""
    qkv_bias: bool = False
    """Whether queries, keys and values have biases that config.json does not mention."""
    query_key_norm: bool = False
    """Whether queries and keys are normalised before attention."""
    experts: bool = False
    """Whether each token goes through some of several feed-forwards (a mixture of experts)."""
    logit_keys: tuple[str, ...] = ()
    """Keys of config.json that alter logits after the projection, unless null or 1. The loss head does not
    apply them, so such models are refused for model.task=causal."""
    liger: tuple[str, ...] = ()
    """Kernels that Liger's patch of this architecture replaces exactly."""
    liger_norm: LigerNorm = LigerNorm()
    dropout_keys: tuple[str, ...] = ()
    """Keys of config.json that hold dropout probabilities, which `model.dropout` sets."""
    gguf_class: str | None = None
    """The transformers class for GGUF files of this architecture; None if they are not supported."""

    def __post_init__(self) -> None:
        """Check that the properties of a row are consistent.

        Raises:
            ValueError: Two properties contradict each other.
        """
        name = self.model_types[0]
        if self.packable and self.kind == "encoder":
            raise ValueError(
                f"{name}: packable=True is not allowed for encoders, which have one label per sequence"
            )
        if self.counted and self.experts:
            raise ValueError(f"{name}: counted=True is not supported with experts=True")
        if "swiglu" in self.liger and not self.gated:
            raise ValueError(f"{name}: Liger's swiglu requires gated=True")
        if self.padding_positions and self.positions != "learned":
            raise ValueError(f"{name}: padding_positions requires positions='learned'")

    def size(self, config: Mapping[str, Any], name: str) -> int | None:
        """Return a size from config.json by its field in `SizeKeys`; None if it is missing, null or 0."""
        return first_of(config, getattr(SizeKeys(), name), getattr(self.keys, name))


_LIGER_LLAMA = ("rms_norm", "swiglu", "rope")
_BERT_DROPOUT = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")

FAMILIES: tuple[Family, ...] = (
    Family(
        model_types=("llama",),
        kind="decoder",
        packable=True,
        gated=True,
        counted=True,
        liger=_LIGER_LLAMA,
        dropout_keys=("attention_dropout",),
        gguf_class="LlamaForCausalLM",
    ),
    Family(
        model_types=("mistral",),
        kind="decoder",
        packable=True,
        gated=True,
        counted=True,
        liger=_LIGER_LLAMA,
        dropout_keys=("attention_dropout",),
    ),
    Family(
        model_types=("qwen2",),
        kind="decoder",
        packable=True,
        gated=True,
        counted=True,
        qkv_bias=True,
        liger=_LIGER_LLAMA,
        dropout_keys=("attention_dropout",),
    ),
    Family(
        model_types=("qwen3",),
        kind="decoder",
        packable=True,
        gated=True,
        counted=True,
        query_key_norm=True,
        liger=_LIGER_LLAMA,
        dropout_keys=("attention_dropout",),
    ),
    Family(
        model_types=("gpt2",),
        kind="decoder",
        packable=True,
        positions="learned",
        keys=SizeKeys(
            hidden="n_embd", layers="n_layer", heads="n_head", ffn="n_inner", positions="n_positions"
        ),
        counted=True,
        dropout_keys=("attn_pdrop", "embd_pdrop", "resid_pdrop"),
    ),
    Family(
        model_types=("gpt_neox",),
        kind="decoder",
        packable=True,
        dropout_keys=("attention_dropout", "hidden_dropout", "classifier_dropout"),
    ),
    Family(
        model_types=("phi3",),
        kind="decoder",
        packable=True,
        gated=True,
        dropout_keys=("resid_pdrop", "embd_pdrop", "attention_dropout"),
    ),
    Family(
        model_types=("gemma", "olmo2"),
        kind="decoder",
        packable=True,
        gated=True,
        dropout_keys=("attention_dropout",),
    ),
    Family(
        model_types=("gemma2",),
        kind="decoder",
        gated=True,
        logit_keys=("final_logit_softcapping",),
        dropout_keys=("attention_dropout",),
    ),
    Family(
        model_types=("cohere",),
        kind="decoder",
        gated=True,
        logit_keys=("logit_scale",),
        dropout_keys=("attention_dropout",),
    ),
    Family(
        model_types=("granite",),
        kind="decoder",
        gated=True,
        logit_keys=("logits_scaling",),
        dropout_keys=("attention_dropout",),
    ),
    Family(
        model_types=("mixtral",),
        kind="decoder",
        gated=True,
        experts=True,
        dropout_keys=("attention_dropout",),
    ),
    Family(
        model_types=("bert",),
        kind="encoder",
        positions="learned",
        counted=True,
        dropout_keys=_BERT_DROPOUT,
    ),
    Family(
        model_types=("roberta", "xlm-roberta", "camembert"),
        kind="encoder",
        positions="learned",
        padding_positions=2,
        counted=True,
        dropout_keys=_BERT_DROPOUT,
    ),
    Family(
        model_types=("electra",),
        kind="encoder",
        positions="learned",
        dropout_keys=_BERT_DROPOUT,
    ),
    Family(
        model_types=("mpnet",),
        kind="encoder",
        positions="learned",
        dropout_keys=("hidden_dropout_prob", "attention_probs_dropout_prob"),
    ),
    Family(
        model_types=("distilbert",),
        kind="encoder",
        positions="learned",
        keys=SizeKeys(hidden="dim", layers="n_layers", heads="n_heads", ffn="hidden_dim"),
        dropout_keys=("dropout", "attention_dropout", "seq_classif_dropout"),
    ),
    Family(
        model_types=("deberta-v2",),
        kind="encoder",
        positions="relative",
        dropout_keys=("hidden_dropout_prob", "attention_probs_dropout_prob", "pooler_dropout"),
    ),
    Family(
        model_types=("modernbert",),
        kind="encoder",
        gated=True,
        dropout_keys=("attention_dropout", "embedding_dropout", "mlp_dropout", "classifier_dropout"),
    ),
)


def family_of(config: Mapping[str, Any]) -> Family | None:
    """Return the row for a model's config.json; None if its type is not in the table."""
    name = config.get("model_type")
    return next((family for family in FAMILIES if name in family.model_types), None)


def model_kind(config: Mapping[str, Any]) -> ModelKind | None:
    """Return whether a model is a decoder (GPT-like), an encoder (BERT-like) or neither, by class or type."""
    if config.get("is_encoder_decoder"):
        return None
    names = config.get("architectures") or []
    if any(name.endswith(_DECODER_ENDINGS) for name in names):
        return "decoder"
    family = family_of(config)
    return family.kind if family else None


def positions_of(config: Mapping[str, Any]) -> int | None:
    """Return the maximum sequence length by the model's positions; None if config.json does not have it."""
    keys = _all_of(family.keys.positions for family in FAMILIES)
    family = family_of(config)
    positions = first_of(config, SizeKeys().positions, *keys)
    return positions - family.padding_positions if positions and family else positions


def packable_types() -> tuple[str, ...]:
    """Return the model types that support packing, sorted."""
    return _types(family for family in FAMILIES if family.packable)


def liger_types(kernel: str) -> tuple[str, ...]:
    """Return the model types in which Liger replaces a kernel, sorted."""
    return _types(family for family in FAMILIES if kernel in family.liger)


def liger_norms() -> tuple[LigerNorm, ...]:
    """Return the distinct settings of Liger's RMSNorm."""
    return tuple(dict.fromkeys(family.liger_norm for family in FAMILIES if "rms_norm" in family.liger))


def altered_logits(config: Mapping[str, Any]) -> list[str]:
    """Return the keys of config.json that alter the logits, for any model type."""
    keys = _all_of(key for family in FAMILIES for key in family.logit_keys)
    return [key for key in keys if config.get(key) not in (None, 1, 1.0)]


def dropout_keys() -> tuple[str, ...]:
    """Return the dropout keys of all families, as types outside the table use the same names."""
    return _all_of(key for family in FAMILIES for key in family.dropout_keys)


def gguf_class(architecture: str) -> str | None:
    """Return the transformers class for GGUF files of an architecture; None if they are not supported."""
    family = family_of({"model_type": architecture})
    return family.gguf_class if family else None


def gguf_types() -> tuple[str, ...]:
    """Return the model types that support GGUF files, sorted."""
    return _types(family for family in FAMILIES if family.gguf_class)


def first_of(config: Mapping[str, Any], *keys: str) -> int | None:
    """Return the value of the first key that is not missing, null or 0, as an integer."""
    return next((int(config[key]) for key in keys if config.get(key)), None)


def _types(families: Iterable[Family]) -> tuple[str, ...]:
    return tuple(sorted(name for family in families for name in family.model_types))


def _all_of(keys: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(keys))
