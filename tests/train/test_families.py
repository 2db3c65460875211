"""The table of model families agrees with transformers, is the only list of types; a new type is a row."""

import ast
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from launcher.compose.roots import packaged
from launcher.compose.run import compose_run
from launcher.planning.estimate.shape import model_shape
from launcher.planning.preflight import examine
from train import families
from train.families import FAMILIES, Family, LigerNorm, SizeKeys, altered_logits, model_kind, positions_of
from train.kernels.table import Site, choose

ROOT = Path(__file__).resolve().parents[2]
TINY = packaged("examples") / "models" / "tiny-llama"
TYPES = [name for family in FAMILIES for name in family.model_types]
UNUSED_DROPOUT = {"summary_first_dropout", "summary_last_dropout", "qa_dropout"}
"""For heads that no task of ours has."""


def config_of(model_type: str, **sizes: object) -> dict[str, Any]:
    """config.json of a model type with all of transformers' defaults."""
    config = transformers.AutoConfig.for_model(model_type, **sizes)
    values: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    return values


def row_of(model_type: str) -> Family:
    found = families.family_of({"model_type": model_type})
    assert found is not None
    return found


def test_no_type_has_two_rows():
    assert len(TYPES) == len(set(TYPES))


@pytest.mark.parametrize("model_type", TYPES)
def test_a_row_names_every_dropout_probability_of_its_types(model_type: str):
    found = {key for key in config_of(model_type) if "drop" in key}
    assert found - UNUSED_DROPOUT == set(row_of(model_type).dropout_keys)


@pytest.mark.parametrize("model_type", TYPES)
def test_the_keys_of_a_row_are_those_of_transformers(model_type: str):
    config, row = config_of(model_type), row_of(model_type)
    assert all(row.size(config, name) for name in ("hidden", "layers", "heads", "positions"))
    assert set(row.logit_keys) <= set(config)


@pytest.mark.parametrize(
    "model_type", [name for family in FAMILIES if family.counted for name in family.model_types]
)
def test_parameters_of_counted_families_are_exact(model_type: str):
    sizes = {
        "vocab_size": 99,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 48,
        "max_position_embeddings": 64,
        "head_dim": 16,
    }
    known = transformers.AutoConfig.for_model(model_type)
    config = transformers.AutoConfig.for_model(
        model_type, **{key: value for key, value in sizes.items() if hasattr(known, key)}
    )
    decoder = row_of(model_type).kind == "decoder"
    build = transformers.AutoModelForCausalLM if decoder else transformers.AutoModel
    with torch.device("meta"):
        model = build.from_config(config)
    shape = model_shape(json.loads(config.to_json_string(use_diff=False)))
    assert shape is not None
    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "decoder"),
        ({"architectures": ["UnheardOfForCausalLM"], "model_type": "unheard_of"}, "decoder"),
        ({"architectures": ["BertForMaskedLM"], "model_type": "bert"}, "encoder"),
        ({"model_type": "qwen3"}, "decoder"),
        ({"architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True}, None),
        ({"architectures": ["BartForCausalLM"], "is_encoder_decoder": True}, None),
        ({"architectures": ["ViTModel"], "model_type": "vit"}, None),
        ({}, None),
    ],
)
def test_kinds(config: dict[str, Any], kind: str | None):
    assert model_kind(config) == kind


@pytest.mark.parametrize(
    ("config", "positions"),
    [
        ({"model_type": "llama", "max_position_embeddings": 4096}, 4096),
        ({"model_type": "roberta", "max_position_embeddings": 514}, 512),
        ({"model_type": "bert", "max_position_embeddings": 512}, 512),
        ({"model_type": "gpt2", "n_positions": 1024}, 1024),
        ({"model_type": "unheard_of", "n_positions": 2048}, 2048),
        ({"model_type": "roberta"}, None),
    ],
)
def test_positions(config: dict[str, Any], positions: int | None):
    assert positions_of(config) == positions


@pytest.mark.parametrize(
    ("config", "keys"),
    [
        ({"model_type": "gemma2", "final_logit_softcapping": 30.0}, ["final_logit_softcapping"]),
        ({"model_type": "gemma2", "final_logit_softcapping": None}, []),
        ({"model_type": "cohere", "logit_scale": 0.0625}, ["logit_scale"]),
        ({"model_type": "granite", "logits_scaling": 1.0}, []),
        ({"model_type": "unheard_of", "logits_scaling": 8}, ["logits_scaling"]),
    ],
)
def test_altered_logits(config: dict[str, Any], keys: list[str]):
    assert altered_logits(config) == keys


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"kind": "encoder", "packable": True}, "packable=True is not allowed for encoders"),
        (
            {"kind": "decoder", "counted": True, "experts": True},
            "counted=True is not supported with experts=True",
        ),
        ({"kind": "decoder", "liger": ("swiglu",)}, "requires gated=True"),
        ({"kind": "decoder", "padding_positions": 2}, "requires positions='learned'"),
    ],
)
def test_a_row_that_contradicts_itself_is_refused(facts: dict[str, Any], why: str):
    with pytest.raises(ValueError, match=why):
        Family(model_types=("made_up",), **facts)


def test_no_other_file_names_a_model_type():
    """As a text of its own or as the beginning of a dotted key."""
    for path in sorted((ROOT / "train").rglob("*.py")) + sorted((ROOT / "launcher").rglob("*.py")):
        if path.name == "families.py":
            continue
        texts = [
            node.value
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        named = [text for text in texts if text.split(".", maxsplit=1)[0] in TYPES]
        assert not named, f"{path.relative_to(ROOT)} names {named}: ask train/families.py"


MADE_UP = Family(
    model_types=("made_up",),
    kind="decoder",
    packable=True,
    gated=True,
    counted=True,
    keys=SizeKeys(hidden="width", positions="reach"),
    qkv_bias=True,
    logit_keys=("loudness",),
    liger=("rms_norm",),
    liger_norm=LigerNorm(offset=1.0, casting="gemma"),
    dropout_keys=("forgetting",),
    gguf_class="MadeUpForCausalLM",
)


@pytest.fixture
def made_up_model(tmp_path: Path) -> Path:
    """The tiny model under a made-up type, with made-up names for two sizes, and with no class that tells."""
    folder = tmp_path / "model"
    shutil.copytree(TINY, folder)
    config = json.loads((folder / "config.json").read_text())
    del config["architectures"]
    config["model_type"] = "made_up"
    config["width"] = config.pop("hidden_size")
    config["reach"] = config.pop("max_position_embeddings")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_one_row_is_all_that_a_new_type_needs(made_up_model: Path, monkeypatch: pytest.MonkeyPatch):
    config = json.loads((made_up_model / "config.json").read_text())
    run = compose_run(["experiment=smoke", f"model.source=path:{made_up_model}", "data.packing=true"])
    before = {problem.code for problem in examine(run)[1]}
    assert before == {"model.kind", "data.packing"}
    monkeypatch.setattr(families, "FAMILIES", (*FAMILIES, MADE_UP))
    plan, problems = examine(run)
    assert not problems
    assert plan is not None
    assert plan.shape is not None
    assert plan.shape.kind == "decoder"
    tiny = model_shape(json.loads((TINY / "config.json").read_text()))
    assert tiny is not None
    head = tiny.hidden // tiny.heads
    biases = tiny.layers * head * (tiny.heads + 2 * tiny.kv_heads)
    assert plan.shape.parameters == tiny.parameters + biases
    assert plan.memory is not None
    assert plan.memory.weights_gb > 0
    assert positions_of(config) == config["reach"]
    assert "forgetting" in families.dropout_keys()
    assert families.gguf_class("made_up") == "MadeUpForCausalLM"
    [problem] = examine(compose_run([*run_with_long_rows(made_up_model, config["reach"])]))[1]
    assert problem.code == "data.max_length"


def run_with_long_rows(folder: Path, positions: int) -> list[str]:
    return ["experiment=smoke", f"model.source=path:{folder}", f"data.max_length={positions + 1}"]


def test_kernels_and_logits_follow_the_row(made_up_model: Path, monkeypatch: pytest.MonkeyPatch):
    config = json.loads((made_up_model / "config.json").read_text())
    site = Site(device="cuda", family="made_up", task="causal", installed=lambda _: True)
    wanted = {**compose_run(["experiment=smoke"]).config.wanted_kernels, "rms_norm": "auto", "swiglu": "auto"}
    assert choose(wanted, site)[0]["rms_norm"].name == "torch"
    monkeypatch.setattr(families, "FAMILIES", (*FAMILIES, MADE_UP))
    choices, _ = choose(wanted, site)
    assert (choices["rms_norm"].name, choices["swiglu"].name) == ("liger", "torch")
    assert "not made_up" in choices["swiglu"].why
    assert families.liger_norms() == (LigerNorm(), MADE_UP.liger_norm)
    assert altered_logits({**config, "loudness": 2}) == ["loudness"]
