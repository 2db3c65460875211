"""Composition: what a valid config becomes, and every kind of mistake with its message."""

from pathlib import Path

import pytest

from launcher.compose.run import compose_run
from launcher.errors import Problem, Refused
from train.config_names import RENAMED_KEYS


def problems_of(*overrides: str, conf_dirs: tuple[Path, ...] = ()) -> list[Problem]:
    with pytest.raises(Refused) as refused:
        compose_run(overrides, conf_dirs)
    assert refused.value.exit_code == 2
    return refused.value.problems


def test_experiment_chooses_groups_and_the_command_line_wins():
    config = compose_run(["experiment=smoke", "train.max_steps=7", "optim.lr=0.5"]).config
    assert config.model.init == "random"
    assert config.train.max_steps == 7
    assert config.optim.lr == 0.5
    assert config.name == "smoke"


def test_later_overrides_replace_earlier_ones():
    assert compose_run(["experiment=smoke", "seed=1", "seed=2"]).config.seed == 2


@pytest.mark.parametrize(
    "model", ["gpt2", "bert-base", "llama-3.1-8b", "llama-3.1-70b", "qwen3-8b", "minilm", "smollm2-135m"]
)
def test_every_model_config_composes(model: str):
    config = compose_run(["experiment=smoke", f"model={model}"]).config
    assert config.model.source.split(":")[0] in ("hub", "package")


@pytest.mark.parametrize("hardware", ["local", "h100x8", "a100x8", "a100x4", "l40sx4"])
@pytest.mark.parametrize("zero", ["stage0", "stage1", "stage2", "stage3", "stage2-offload", "stage3-offload"])
def test_every_hardware_and_zero_config_composes(hardware: str, zero: str):
    compose_run(["experiment=smoke", f"hardware={hardware}", f"zero={zero}"])


def test_unknown_key_names_the_nearest():
    [problem] = problems_of("experiment=smoke", "optim.learning_rat=1")
    assert problem.code == "config.unknown_key"
    assert problem.message == "unknown key 'optim.learning_rat' (command line)"
    [problem] = problems_of("experiment=smoke", "train.max_step=1")
    assert problem.fix == "did you mean train.max_steps?"


def test_unknown_group_and_option_name_the_nearest():
    [problem] = problems_of("experiment=smoke", "modle=tiny")
    assert problem.message == "unknown key or group 'modle' (command line)"
    assert problem.fix == "did you mean model?"
    [problem] = problems_of("experiment=smoke", "model=smolm2")
    assert problem.message == "unknown option 'smolm2' of group 'model'"
    assert problem.fix == "did you mean smollm2-135m?"
    [problem] = problems_of("experiment=demoo")
    assert problem.fix == "did you mean demo?"


def test_wrong_type_and_value_say_what_is_allowed():
    found = {
        p.field: p.message
        for p in problems_of("experiment=smoke", "seed=-1", "train.max_steps=many", "train.precision=fp8")
    }
    assert found == {
        "seed": "seed=-1 (command line): input should be greater than or equal to 0",
        "train.max_steps": "train.max_steps='many' (command line): input should be a valid integer",
        "train.precision": "train.precision='fp8' (command line): input should be 'bf16', 'fp16' or 'fp32'",
    }


def test_all_problems_come_at_once():
    codes = [
        p.code
        for p in problems_of("modle=tiny", "model=nope", "optim.lr=fast", "train.foo=1", "no equals sign")
    ]
    assert sorted(codes) == [
        "config.syntax",
        "config.unknown_key",
        "config.unknown_key",
        "config.unknown_option",
        "config.value",
    ]


def test_sweep_syntax_is_refused_by_name():
    [problem] = problems_of("experiment=smoke", "seed=1,2")
    assert problem.message == "several values for a single run: 'seed=1,2'"
    assert "add -m" in problem.fix


def test_settings_of_a_sweep_are_refused_for_a_single_run():
    problems = problems_of("experiment=smoke", "sweep.n=3", "sweep=lr")
    assert [problem.code for problem in problems] == ["config.sweep", "config.sweep"]


def test_a_secret_may_not_reach_the_run_directory(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MY_API_KEY", "canary")
    [problem] = problems_of("experiment=smoke", "tracking.entity=${oc.env:MY_API_KEY}")
    assert problem.code == "config.secret"
    assert "canary" not in problem.message


def test_own_groups_come_first_and_their_mistakes_name_the_file(tmp_path: Path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.yaml").write_text("train: rows.jsonl\nformat: messages\nmax_lenght: 5\n")
    [problem] = problems_of("experiment=smoke", "data=mine", conf_dirs=(tmp_path,))
    assert (
        problem.message == "unknown key 'data.max_lenght' (conf/data/mine.yaml or conf/experiment/smoke.yaml)"
    )
    assert problem.fix == "did you mean data.max_length?"
    (tmp_path / "data" / "mine.yaml").write_text("train: rows.jsonl\nformat: messages\n")
    train = compose_run(["experiment=smoke", "data=mine"], [tmp_path]).config.data.train
    assert train == str(Path("rows.jsonl").resolve()), "a job starts in another folder"


def test_an_own_file_replaces_the_one_of_the_same_name(tmp_path: Path):
    (tmp_path / "zero").mkdir()
    (tmp_path / "zero" / "stage2.yaml").write_text("stage: 1\n")
    assert compose_run(["experiment=smoke", "zero=stage2"], [tmp_path]).config.zero.stage == 1
    assert compose_run(["experiment=smoke", "zero=stage2"]).config.zero.stage == 2


@pytest.mark.parametrize(
    "override", ["train.epochs=inf", "train.epochs=1e308", f"seed={2**64}", "optim.beta1=1"]
)
def test_numbers_that_no_run_can_use(override: str):
    [problem] = problems_of("experiment=smoke", override)
    assert problem.code == "config.value"


def test_only_whole_words_name_a_secret(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TOKENIZER_DIR", "fast")
    assert compose_run(["experiment=smoke", "name=${oc.env:TOKENIZER_DIR}"]).config.name == "fast"


def test_a_missing_value_names_the_key():
    [problem] = problems_of("experiment=smoke", "data=custom")
    assert (problem.code, problem.field) == ("config.missing", "data.train")


def test_a_folder_of_groups_that_is_not_there(tmp_path: Path):
    [problem] = problems_of("experiment=smoke", conf_dirs=(tmp_path / "none",))
    assert problem.message == f"no such folder: {tmp_path}/none"


def test_broken_yaml_is_one_problem(tmp_path: Path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "bad.yaml").write_text("train: [unclosed\n")
    [problem] = problems_of("data=bad", conf_dirs=(tmp_path,))
    assert problem.code == "config.compose"


def test_yaml_tags_run_nothing(tmp_path: Path):
    (tmp_path / "data").mkdir()
    canary = tmp_path / "canary"
    (tmp_path / "data" / "evil.yaml").write_text(
        f"train: !!python/object/apply:os.system ['touch {canary}']\n"
    )
    problems_of("data=evil", conf_dirs=(tmp_path,))
    assert not canary.exists()


def test_identity_depends_on_what_is_trained_only():
    base = compose_run(["experiment=smoke"]).config
    assert (
        compose_run(
            ["experiment=smoke", "slurm.time_min=5", "tracking=online", "runs_dir=/x"]
        ).config.identity
        == base.identity
    )
    assert compose_run(["experiment=smoke", "seed=1"]).config.identity != base.identity


def test_a_wrong_key_deep_in_a_file_is_named_with_the_nearest(tmp_path: Path):
    (tmp_path / "slurm").mkdir()
    (tmp_path / "slurm" / "mine.yaml").write_text("environment:\n  knd: conda\n")
    with pytest.raises(Refused) as refusal:
        compose_run(["experiment=smoke", "slurm=mine"], [tmp_path])
    [problem] = refusal.value.problems
    assert (problem.code, problem.field) == ("config.unknown_key", "slurm.environment.knd")
    assert problem.fix == "did you mean slurm.environment.kind?"


def test_a_mapping_of_ones_own_takes_any_name():
    config = compose_run(
        ["experiment=smoke", "slurm.variables.NCCL_IB_HCA=mlx5", "slurm.extra.switches='1'"]
    ).config
    assert config.slurm.variables == {"NCCL_IB_HCA": "mlx5"}
    assert config.slurm.extra == {"switches": "1"}
    with pytest.raises(Refused, match=r"unknown key 'slurm\.environment\.knd' \(command line\)"):
        compose_run(["experiment=smoke", "slurm.environment.knd=conda"])
    with pytest.raises(Refused, match="unknown key"):
        compose_run(["experiment=smoke", "optim.lr.x=1"])


@pytest.mark.parametrize(("former", "current"), sorted(RENAMED_KEYS.items()))
def test_a_key_that_was_renamed_is_unknown_and_its_new_name_is_the_hint(former: str, current: str):
    with pytest.raises(Refused) as caught:
        compose_run(["experiment=smoke", f"{former}=1"])
    [problem] = caught.value.problems
    assert (problem.code, problem.fix) == ("config.unknown_key", f"did you mean {current}?")
