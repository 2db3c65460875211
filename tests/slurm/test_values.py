"""Values for Slurm: what could mean something to sbatch or a shell is refused, what is used is not."""

import pytest
from pydantic import ValidationError

from slurm.config import EnvironmentConfig, HardwareConfig, SlurmConfig

HOSTILE = (
    "x\n#SBATCH --wrap=touch /tmp/canary",
    "x\ntouch canary",
    "x; touch canary",
    "$(touch canary)",
    "`touch canary`",
    "x' --wrap='touch canary",
    'x" --wrap="touch canary',
    "x && touch canary",
    "x | touch canary",
    "--wrap=touch canary",
    "-x",
    "x\0y",
    "x\ty z\\",
    "%j",
    "../../x y",
    "x\x1b]0;y",
    "",
)
WHERE_TO_RUN = ("partition", "account", "qos", "constraint", "reservation", "nodelist", "exclude", "gpu_type")
TEXT_FIELDS = (*WHERE_TO_RUN, "dependency", "licenses", "comment", "mail_user")


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("field", TEXT_FIELDS)
def test_hostile_text_is_refused_or_harmless(field: str, value: str):
    try:
        config = SlurmConfig(**{field: value})
    except ValidationError as error:
        told = str(error)
    else:
        assert getattr(config, field) == value
        assert not set(value) & set("\n\0\x1b\"'`$\\%"), f"{field} took {value!r}"
        return
    assert "allowed here" in told


@pytest.mark.parametrize(
    "value",
    [
        {"extra": {"wrap": "touch canary"}},
        {"extra": {"output": "/tmp/x"}},
        {"extra": {"export": "ALL"}},
        {"extra": {"switches\n#SBATCH --wrap": "x"}},
        {"extra": {"switches": 'x" --wrap="y'}},
        {"variables": {"A B": "x"}},
        {"variables": {"A": "x\ny"}},
        {"variables": {"WANDB_API_KEY": "x"}},
        {"setup": ["true\ntouch canary"]},
        {"setup": ["export HF_TOKEN=abc"]},
        {"setup": [" "]},
        {"modules": ["cuda; touch canary"]},
        {"modules": ["-x"]},
        {"mail_type": ["SOMETIMES"]},
        {"nice": "10; ls"},
        {"time_min": "60"},
        {"environment": {"kind": "venv", "path": "/a b; ls"}},
        {"environment": {"kind": "docker"}},
        {"no_such_field": 1},
    ],
)
def test_hostile_structures_are_refused(value: dict[str, object]):
    with pytest.raises(ValidationError):
        SlurmConfig(**value)


@pytest.mark.parametrize(
    "value",
    [
        {"constraint": "[rack1*2&rack2*4]"},
        {"nodelist": "gpu[001-016,020],login1"},
        {"dependency": "afterany:1_2+10?afterok:3"},
        {"licenses": "nas@db:2,abaqus"},
        {"modules": ["cuda/12.4", "gcc/13.2.0-x86_64"]},
        {"setup": ['source "$HOME/.profile" && ulimit -n 4096']},
        {"variables": {"NCCL_IB_HCA": "^mlx5_1:1 'x' $y"}},
        {"comment": "project A (phase 2); a+b=c @ 50"},
        {"mail_user": "first.last+slurm@dept.example.org"},
        {"extra": {"switches": "1@10:00", "gres": "tmp:20", "contiguous": True, "mem-per-gpu": 4000}},
        {"environment": {"kind": "pyxis", "path": "/images/pytorch.sqsh", "mounts": ["/data", "/a:/b"]}},
    ],
)
def test_what_people_use_is_taken(value: dict[str, object]):
    if isinstance(value.get("environment"), dict):
        value = {"environment": EnvironmentConfig(**value["environment"])}
    assert SlurmConfig(**value)


def test_a_node_check_is_a_path():
    assert HardwareConfig(node_check="/site/check.sh").node_check == "/site/check.sh"
    with pytest.raises(ValidationError):
        HardwareConfig(node_check="check.sh; ls")
