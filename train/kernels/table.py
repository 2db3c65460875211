"""Which kernel engages: what each one needs, what it replaces, and why another one was taken. Torch-free."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

Device = Literal["cpu", "cuda"]
REFERENCE = "torch"
CHUNK_BYTES = 128 * 2**20
"""Of all that the chunked loss head holds at once for its logits."""
_LIGER_FAMILIES = ("llama", "mistral", "qwen2", "qwen3")


@dataclass(frozen=True, slots=True, kw_only=True)
class Implementation:
    """One way to compute something, faster or smaller than the reference."""

    kernel: str
    name: str
    replaces: str
    device: Device | None = None
    """The only device that it runs on."""
    package: str | None = None
    """The distribution that holds it."""
    families: Sequence[str] | None = None
    """Model types of transformers that it knows; None: all."""
    task: str | None = None
    """The only task that it serves."""


IMPLEMENTATIONS = (
    Implementation(
        kernel="loss_head",
        name="chunked",
        replaces="logits of all tokens, then cross entropy",
        task="causal",
    ),
    *(
        Implementation(
            kernel=kernel,
            name="liger",
            replaces=replaces,
            device="cuda",
            package="liger-kernel",
            families=_LIGER_FAMILIES,
        )
        for kernel, replaces in (
            ("rms_norm", "RMSNorm as five kernels"),
            ("swiglu", "gate, activation and product as three kernels"),
            ("rope", "the rotation of queries and keys as six kernels"),
        )
    ),
    Implementation(kernel="optimizer", name="fused", replaces="AdamW as one loop over parameters"),
)


def logit_bytes(width: int) -> int:
    """What the chunked loss head holds for a logit: its fp32 value, in fp32 models in the place of the logit.

    Args:
        width: Bytes of the model's dtype; narrower ones keep the logit and its slope besides.
    """
    return 4 if width == 4 else 4 + 2 * width


KERNELS = tuple(dict.fromkeys(entry.kernel for entry in IMPLEMENTATIONS))


class KernelChoice(BaseModel):
    """What was decided about one kernel when the run was planned."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    """An implementation's name, or `torch` for the reference."""
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """On what the kernels would run."""

    device: Device
    family: str
    """transformers' model_type."""
    task: str
    installed: Callable[[str], bool]
    """Whether a distribution is there."""


def choose(wanted: Mapping[str, str], site: Site) -> tuple[dict[str, KernelChoice], dict[str, str]]:
    """Decide each kernel.

    Args:
        wanted: By kernel: `auto`, `torch`, or an implementation's name.
        site: Device, model and packages.

    Returns:
        The choices, and by kernel why what was asked for by name cannot be had.
    """
    choices: dict[str, KernelChoice] = {}
    refused: dict[str, str] = {}
    for kernel in KERNELS:
        asked = wanted[kernel]
        if asked == REFERENCE:
            choices[kernel] = KernelChoice(name=REFERENCE, why="asked for")
            continue
        [entry] = [entry for entry in IMPLEMENTATIONS if entry.kernel == kernel]
        obstacle = _obstacle(entry, site)
        if obstacle is None:
            why = f"in place of {entry.replaces}"
            choices[kernel] = KernelChoice(name=entry.name, why=why)
        else:
            choices[kernel] = KernelChoice(name=REFERENCE, why=f"{entry.name} {obstacle}")
            if asked == entry.name:
                refused[kernel] = obstacle
    return choices, refused


def _obstacle(entry: Implementation, site: Site) -> str | None:
    if entry.device not in (None, site.device):
        return f"runs on {entry.device} only"
    if entry.task not in (None, site.task):
        return f"serves model.task={entry.task} only"
    if entry.families is not None and site.family not in entry.families:
        return f"knows {', '.join(entry.families)}, and this is {site.family}"
    if entry.package is not None and not site.installed(entry.package):
        return f"needs the package {entry.package}"
    return None
