"""The kernel table: requirements of each kernel, and the choice for a run with its reasons. Torch-free.

The kernels are applied in `apply.py` (loss head, RMSNorm, SwiGLU, RoPE), in `adamw.py` (AdamW) and by
transformers when it loads the model (attention, `train/model/load.py`). Cross entropy is part of the chunked
loss head, since a separate kernel such as Liger's needs the logits of all tokens.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from train.families import liger_types

Device = Literal["cpu", "cuda"]
REFERENCE = "torch"
CHUNK_BYTES: dict[Device, int] = {"cpu": 128 * 2**20, "cuda": 2 * 2**30}
"""Memory of the chunked loss head for its logits. GPUs need larger products to reach their speed: on
an H200, 8192 tokens and a vocabulary of 128,256 took 98 ms with 128 MiB and 36 ms with 2 GiB."""
FLASH_ATTENTION = "flash-attn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Implementation:
    """An implementation of a kernel that is faster or needs less memory than the reference."""

    kernel: str
    name: str
    """Name in the config."""
    replaces: str
    title: str | None = None
    """Name in the printed plan; None uses `name`."""
    device: Device | None = None
    """The only device that it supports; None supports all."""
    package: str | None = None
    """The Python package that it needs."""
    by_family: bool = False
    """Whether it supports only the model types that `train/families.py` lists for this kernel."""
    task: str | None = None
    """The only task that it supports; None supports all."""
    precisions: Sequence[str] | None = None
    """The precisions that it supports; None supports all."""
    offload: bool | None = None
    """The only value of zero.offload_optimizer that it supports; None supports both."""
    sharded: bool = False
    """Whether it needs ZeRO stage 1, 2 or 3."""
    fused_by_compile: bool = False
    """Whether `torch.compile` fuses the reference by itself, and does not trace this."""
    op: str | None = None
    """DeepSpeed's op that has to be compiled for it (`ops.py`)."""
    left_by_auto: str | None = None
    """The reason why `auto` never chooses it."""
    auto_for_packs: bool = False
    """Whether `auto` chooses it for packed rows only."""


IMPLEMENTATIONS = (
    Implementation(
        kernel="loss_head",
        name="chunked",
        title="chunked cross entropy",
        replaces="logits of all tokens, then cross entropy",
        task="causal",
    ),
    *(
        Implementation(
            kernel=kernel,
            name="liger",
            title="Liger",
            replaces=replaces,
            device="cuda",
            package="liger-kernel",
            by_family=True,
            fused_by_compile=True,
        )
        for kernel, replaces in (
            ("rms_norm", "RMSNorm as five kernels"),
            ("swiglu", "gate, activation and product as three kernels"),
            ("rope", "the rotation of queries and keys as six kernels"),
        )
    ),
    Implementation(
        kernel="attention",
        name="flash_attention_2",
        title="FlashAttention 2",
        replaces="a mask over the whole square of a pack",
        device="cuda",
        package=FLASH_ATTENTION,
        precisions=("bf16", "fp16"),
        auto_for_packs=True,
    ),
    Implementation(
        kernel="attention",
        name="sdpa",
        title="PyTorch SDPA",
        replaces="scores of tokens x tokens kept in memory",
    ),
    # Torch's kernel is first: it needs no compiler, and on CPUs DeepSpeed's is at most a tenth faster.
    Implementation(
        kernel="optimizer", name="fused", title="fused AdamW", replaces="AdamW as one loop over parameters"
    ),
    Implementation(
        kernel="optimizer",
        name="fused_adam",
        title="DeepSpeed's fused AdamW",
        replaces="AdamW as one loop over parameters",
        device="cuda",
        offload=False,
        sharded=True,
        op="fused_adam",
        left_by_auto="is as fast as torch's fused AdamW, but has to be compiled",
    ),
    Implementation(
        kernel="optimizer",
        name="cpu_adam",
        title="DeepSpeed's CPU AdamW",
        replaces="AdamW as one loop over parameters",
        offload=True,
        op="cpu_adam",
        left_by_auto="has to be compiled and saves at most a tenth of the time of torch's fused AdamW",
    ),
)


def logit_bytes(width: int) -> int:
    """Return the bytes per logit in the chunked loss head: its fp32 value, and the logit if not in fp32.

    Args:
        width: Bytes of the model's dtype.
    """
    return 4 if width == 4 else 4 + width


KERNELS = tuple(dict.fromkeys(entry.kernel for entry in IMPLEMENTATIONS))


class KernelChoice(BaseModel):
    """The choice of one kernel, made when the run is planned."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    """Name of an implementation or of the reference."""
    why: str
    """The operation that it replaces, and why other implementations were not chosen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The conditions under which the kernels would run."""

    device: Device
    family: str
    """transformers' model_type."""
    task: str
    precision: str = "bf16"
    packed: bool = False
    """Whether several documents share a sequence."""
    compiled: bool = False
    """Whether layers are compiled (`model.compile`)."""
    zero_stage: int = 2
    offload: bool = False
    """Whether the optimizer's states are on the host."""
    installed: Callable[[str], bool]
    """Returns whether a package is installed."""
    why_not_buildable: Callable[[str], str | None] = lambda _: None
    """Returns why one of DeepSpeed's ops cannot be compiled, or None."""
    elsewhere: bool = False
    """Whether the nodes have another environment than this one; packages of requested kernels are then
    assumed to be installed."""


def reference_of(kernel: str) -> str:
    """Return the name of a kernel's reference: torch's, or for attention transformers' eager one."""
    return "eager" if kernel == "attention" else REFERENCE


def title_of(kernel: str, name: str) -> str:
    """Return the name of an implementation or the reference for the printed plan."""
    titles = [entry.title for entry in IMPLEMENTATIONS if (entry.kernel, entry.name) == (kernel, name)]
    return next(filter(None, titles), name)


def config_key(kernel: str) -> str:
    """Return the config key that chooses a kernel."""
    return "model.attention" if kernel == "attention" else f"kernels.{kernel}"


def choose(wanted: Mapping[str, str], site: Site) -> tuple[dict[str, KernelChoice], dict[str, str]]:
    """Choose an implementation of each kernel.

    Args:
        wanted: Requested value of each kernel: `auto`, or the name of the reference or of an implementation.
        site: Device, model, packages and settings of the run.

    Returns:
        The choices, and for each kernel that was requested by name but cannot be used, the reason.
    """
    choices: dict[str, KernelChoice] = {}
    refused: dict[str, str] = {}
    for kernel in KERNELS:
        asked = wanted[kernel]
        entries = [entry for entry in IMPLEMENTATIONS if entry.kernel == kernel]
        if asked == reference_of(kernel):
            choices[kernel] = KernelChoice(name=asked, why="requested")
        elif asked == "auto":
            choices[kernel] = _first_that_fits(entries, site)
        else:
            [entry] = [entry for entry in entries if entry.name == asked]
            obstacle = _obstacle(entry, site, named=True)
            if obstacle is None:
                choices[kernel] = KernelChoice(name=asked, why=f"requested, replaces {entry.replaces}")
            else:
                choices[kernel] = KernelChoice(name=reference_of(kernel), why=f"{asked} {obstacle}")
                refused[kernel] = obstacle
    return choices, refused


def _first_that_fits(entries: Sequence[Implementation], site: Site) -> KernelChoice:
    taken: Implementation | None = None
    left = []
    for entry in entries:
        obstacle = _obstacle(entry, site, named=False)
        if taken is None and obstacle is None:
            taken = entry
        elif obstacle is not None:
            left.append(f"{entry.name} {obstacle}")
    if taken is None:
        return KernelChoice(name=reference_of(entries[0].kernel), why="; ".join(left))
    return KernelChoice(name=taken.name, why="; ".join([f"replaces {taken.replaces}", *left]))


def _obstacle(entry: Implementation, site: Site, *, named: bool) -> str | None:
    """Return why an implementation cannot be used here, or why `auto` does not choose it."""
    return (
        _misfit(entry, site) or _absence(entry, site, named=named) or (None if named else _left(entry, site))
    )


def _misfit(entry: Implementation, site: Site) -> str | None:
    if entry.device not in (None, site.device):
        return f"runs only on {entry.device}"
    if entry.task not in (None, site.task):
        return f"needs model.task={entry.task}"
    if entry.precisions is not None and site.precision not in entry.precisions:
        return f"supports {' and '.join(entry.precisions)}, not train.precision={site.precision}"
    if entry.by_family and site.family not in (known := liger_types(entry.kernel)):
        return f"supports {', '.join(known)}, not {site.family}"
    if entry.fused_by_compile and site.compiled:
        return "is not used with model.compile=true: torch.compile fuses these operations itself"
    if entry.offload not in (None, site.offload):
        return f"needs zero.offload_optimizer={str(entry.offload).lower()}"
    if entry.sharded and site.zero_stage == 0:
        return "needs zero.stage 1, 2 or 3"
    return None


def _absence(entry: Implementation, site: Site, *, named: bool) -> str | None:
    if site.elsewhere and named:
        return None
    if entry.package is not None and not site.installed(entry.package):
        return f"needs the package {entry.package}"
    return site.why_not_buildable(entry.op) if entry.op else None


def _left(entry: Implementation, site: Site) -> str | None:
    if entry.auto_for_packs and not site.packed:
        return "is chosen only with data.packing=true or by name"
    return entry.left_by_auto


def ops_of(choices: Mapping[str, KernelChoice]) -> list[str]:
    """Return DeepSpeed's ops that have to be compiled for these choices."""
    return [
        entry.op
        for entry in IMPLEMENTATIONS
        if entry.op and entry.kernel in choices and choices[entry.kernel].name == entry.name
    ]
