"""Types of the values for Slurm; each is validated, so that none needs quoting in a batch script."""

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator

EXTRA_OPTIONS = frozenset(
    [
        "acctg-freq",
        "batch",
        "bb",
        "begin",
        "clusters",
        "cluster-constraint",
        "contiguous",
        "core-spec",
        "cores-per-socket",
        "cpu-freq",
        "deadline",
        "delay-boot",
        "distribution",
        "gpu-bind",
        "gpu-freq",
        "gres",
        "gres-flags",
        "hint",
        "hold",
        "mcs-label",
        "mem-bind",
        "mem-per-cpu",
        "mem-per-gpu",
        "mincpus",
        "network",
        "no-kill",
        "ntasks-per-core",
        "oversubscribe",
        "power",
        "prefer",
        "priority",
        "profile",
        "reboot",
        "segment",
        "sockets-per-node",
        "spread-job",
        "switches",
        "thread-spec",
        "threads-per-core",
        "tmp",
        "use-min-nodes",
        "wckey",
    ]
)
"""Options that slurm.extra may set: long options of sbatch without a field here and without side effects."""
SECRET_NAME = re.compile(r"(?<![A-Za-z])(API_?KEY|KEY|TOKEN|SECRET|PASS|PASSWORD)(?![A-Za-z])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class MadeOf:
    """A check that a value needs no quoting in an sbatch script or a shell."""

    pattern: str
    allowed: str
    """The allowed values in words, for messages and for the documentation."""

    def __call__(self, value: str) -> str:
        """Return the value if it is allowed.

        Raises:
            ValueError: The value is not allowed.
        """
        if not re.fullmatch(self.pattern, value, flags=re.ASCII):
            raise ValueError(f"allowed here: {self.allowed}")
        return value


def _word(characters: str, allowed: str, longest: int = 200) -> object:
    pattern = rf"[A-Za-z0-9_][A-Za-z0-9_{characters}]{{0,{longest - 1}}}"
    return AfterValidator(MadeOf(pattern, f"letters, digits, {allowed}; {longest} characters at most"))


def _setup_line(line: str) -> str:
    if not line.strip() or not line.isprintable():
        raise ValueError("allowed here: one command on one line, without control characters")
    if SECRET_NAME.search(line.partition("=")[0]) and "=" in line:
        raise ValueError(
            "the job's script would contain a secret: set it in your environment, which jobs inherit"
        )
    return line


def _variable(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,99}", name, flags=re.ASCII):
        raise ValueError("allowed here: letters, digits and underscore")
    if SECRET_NAME.search(name):
        raise ValueError(
            "the job's script would contain a secret: set it in your environment, which jobs inherit"
        )
    return name


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("control characters are not allowed")
    return value


def _extra(options: dict[str, str | int | bool]) -> dict[str, str | int | bool]:
    check = MadeOf(r"[A-Za-z0-9_.,:=+@/*&|()\[\]-]+", "letters, digits, _.,:=+@/*&|()[]-")
    for name, value in options.items():
        if name not in EXTRA_OPTIONS:
            raise ValueError(f"{name!r} cannot be set here; allowed: {', '.join(sorted(EXTRA_OPTIONS))}")
        if isinstance(value, str):
            check(value)
    return options


Name = Annotated[str, _word(".-", "_ . -", 100)]
Names = Annotated[str, _word(".,-", "_ . - and commas between names")]
NodeList = Annotated[str, _word(r".,\[\]-", "_ . - , [ ]", 2000)]
Features = Annotated[
    str,
    AfterValidator(MadeOf(r"[A-Za-z0-9_.,:&|*()\[\]-]{1,200}", "letters, digits, _ . , : & | * ( ) [ ] -")),
]
_CONDITION = r"(singleton|(after|afterany|afterok|afternotok|aftercorr)(:\d+(_\d+)?(\+\d+)?)+)"
Dependency = Annotated[
    str,
    AfterValidator(
        MadeOf(
            rf"{_CONDITION}([,?]{_CONDITION})*",
            "singleton, or after|afterany|afterok|afternotok|aftercorr with job ids, such as afterok:123:124",
        )
    ),
]
Comment = Annotated[
    str,
    AfterValidator(
        MadeOf(
            r"[A-Za-z0-9 _.,:;=+@/#()\[\]-]{1,200}", "letters, digits, spaces, _ . , : ; = + @ / # ( ) [ ] -"
        )
    ),
]
Mail = Annotated[
    str, AfterValidator(MadeOf(r"[A-Za-z0-9_.+-]{1,64}(@[A-Za-z0-9.-]{1,200})?", "a mail address"))
]
SharedPath = Annotated[
    str,
    AfterValidator(
        MadeOf(r"[A-Za-z0-9_/.~][A-Za-z0-9_/.+@=:#~-]{0,999}", "letters, digits, _ / . + @ = : # ~ -")
    ),
]
MailEvent = Literal["BEGIN", "END", "FAIL", "REQUEUE", "TIME_LIMIT", "TIME_LIMIT_90", "ALL", "NONE"]


Licenses = Annotated[str, _word(".,:@+-", "_ . , : @ + -")]
Module = Annotated[str, _word("./+-", "_ . / + -")]
Variables = dict[Annotated[str, AfterValidator(_variable)], Annotated[str, AfterValidator(_printable)]]
SetupLine = Annotated[str, AfterValidator(_setup_line)]
Extra = Annotated[dict[str, str | int | bool], AfterValidator(_extra)]
