"""What layers keep for the backward pass: measured in bytes, and in products that are made twice."""

from functools import cache
from typing import Any

import pytest
import torch
from torch.distributed._tools.mem_tracker import MemTracker
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel, BertConfig, GPT2Config, LlamaConfig

from launcher.planning.estimate.shape import model_shape
from train.model.activation_checkpointing import checkpoint_layers

SIZES = {"vocab_size": 64, "bos_token_id": 0, "eos_token_id": 0}
CONFIGS = {
    "llama": LlamaConfig(
        hidden_size=64,
        intermediate_size=176,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        architectures=["LlamaForCausalLM"],
        **SIZES,
    ),
    "gpt2": GPT2Config(
        n_embd=64,
        n_layer=3,
        n_head=4,
        resid_pdrop=0.1,
        embd_pdrop=0.1,
        attn_pdrop=0.0,
        architectures=["GPT2LMHeadModel"],
        **SIZES,
    ),
    "bert": BertConfig(
        hidden_size=64,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        attention_probs_dropout_prob=0.0,
        architectures=["BertForSequenceClassification"],
        **SIZES,
    ),
}
B, T = 2, 128


@cache
def measured(kind: str, how: str, attention: str = "sdpa") -> "Pass":
    return Pass(kind, how, attention)


class Pass:
    """One forward and backward pass of a model, measured."""

    def __init__(self, kind: str, how: str, attention: str) -> None:
        torch.manual_seed(0)
        config = CONFIGS[kind]
        config.use_cache = False
        model: Any = AutoModel.from_config(config, attn_implementation=attention, dtype=torch.float32).train()
        if how != "none":
            checkpoint_layers(model, how)
        ids = torch.randint(SIZES["vocab_size"], (B, T))
        tracker = MemTracker()
        tracker.track_external(model)
        with tracker:
            hidden_BTD = model(input_ids=ids).last_hidden_state
            live = tracker.get_tracker_snapshot()[torch.device("cpu")]
        self.kept_bytes = sum(size for kind, size in live.items() if str(kind).endswith("ACT"))
        self.loss = hidden_BTD.square().sum()
        with FlopCounterMode(display=False) as counter:
            self.loss.backward()
        self.backward_flops = counter.get_total_flops()
        self.gradients = [p.grad for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", CONFIGS)
def test_each_way_keeps_less_and_computes_the_same(kind: str, attention: str):
    none, selective, full = (measured(kind, how, attention) for how in ("none", "selective", "full"))
    assert none.kept_bytes > 1.5 * selective.kept_bytes > 3 * full.kept_bytes
    for run in (selective, full):
        assert torch.equal(run.loss, none.loss)
        assert all(torch.equal(*pair) for pair in zip(run.gradients, none.gradients, strict=True))


@pytest.mark.parametrize("kind", CONFIGS)
def test_only_full_makes_products_twice(kind: str):
    none, selective, full = (measured(kind, how).backward_flops for how in ("none", "selective", "full"))
    assert none == selective
    assert full > 1.3 * none


def test_eager_attention_keeps_no_scores():
    """Tokens x tokens of every head: they would outweigh all that is kept on purpose."""
    scores = CONFIGS["llama"].num_attention_heads * B * T * T * 4
    eager, fused = (measured("llama", "selective", attention).kept_bytes for attention in ("eager", "sdpa"))
    assert eager - fused < scores


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_estimate_of_what_selective_keeps_is_right(kind: str):
    shape = model_shape(CONFIGS[kind].to_dict())
    assert shape is not None
    estimate = shape.layers * (shape.product_elements + shape.hidden) * 4 * B * T
    assert measured(kind, "selective").kept_bytes == pytest.approx(estimate, rel=0.12)
