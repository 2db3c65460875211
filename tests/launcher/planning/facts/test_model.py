"""What planning finds in a model's files."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from launcher.compose.roots import packaged
from launcher.compose.run import compose_run
from launcher.config import RunConfig
from launcher.planning.facts.model import look_at_model

TINY = packaged("examples") / "models" / "tiny-llama"


@pytest.fixture(scope="module")
def smoke() -> RunConfig:
    return compose_run(["experiment=smoke"]).config


def opening(config: RunConfig, folder: Path, **model: object) -> RunConfig:
    changes = {"source": f"path:{folder}", "init": "random", **model}
    return config.model_copy(update={"model": config.model.model_copy(update=changes)})


@pytest.mark.parametrize(
    ("changes", "model", "code", "part"),
    [
        ({}, {"task": "classification"}, "model.task", "is of type llama (decoder)"),
        ({"architectures": None, "model_type": "vit"}, {}, "model.kind", "unsupported model type 'vit'"),
        ({"architectures": None, "model_type": "bert"}, {}, "model.task", "is of type bert (encoder)"),
        ({"is_encoder_decoder": True}, {}, "model.kind", "neither a GPT-like decoder nor a BERT-like"),
        ({}, {"init": "pretrained"}, "model.weights", "no weights (*.safetensors) in"),
        ({"vocab_size": 10}, {}, "model.tokenizer", "only 10 embeddings"),
        ({"logit_scale": 0.5}, {}, "model.logits", "changes its logits (logit_scale)"),
        ({"final_logit_softcapping": 30.0}, {}, "model.logits", "final_logit_softcapping"),
        ({"logits_scaling": 1.0}, {}, None, None),
        ({"architectures": None}, {}, None, None),
    ],
)
def test_what_keeps_a_model_from_being_trained(
    smoke: RunConfig,
    tmp_path: Path,
    changes: dict[str, Any],
    model: dict[str, Any],
    code: str | None,
    part: str | None,
):
    folder = tmp_path / "model"
    shutil.copytree(TINY, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    files, problems = look_at_model(opening(smoke, folder, **model))
    assert files is not None
    assert [problem.code for problem in problems] == ([code] if code else [])
    assert all(part in problem.message for problem in problems if part)


def test_a_folder_without_a_tokenizer_and_one_that_is_gone(smoke: RunConfig, tmp_path: Path):
    (tmp_path / "config.json").write_text((TINY / "config.json").read_text())
    assert [problem.code for problem in look_at_model(opening(smoke, tmp_path))[1]] == ["model.tokenizer"]
    files, [problem] = look_at_model(opening(smoke, tmp_path / "gone"))
    assert files is None
    assert (problem.code, problem.field) == ("model.source", "model.source")
