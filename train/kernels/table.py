"""Which kernel engages: what each one needs, what it replaces, and why another one was taken. Torch-free.

How each is applied: the loss head, RMSNorm, SwiGLU and RoPE in `apply.py`, AdamW in `adamw.py`, attention by
transformers when the model is opened (`train/model/load.py`). Cross entropy is part of the chunked loss head,
since a separate kernel, such as Liger's, needs the logits of all tokens, which the chunked head never makes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from train.families import liger_types

Device = Literal["cpu", "cuda"]
REFERENCE = "torch"
CHUNK_BYTES: dict[Device, int] = {"cpu": 128 * 2**20, "cuda": 2 * 2**30}
"""Most that the chunked loss head holds at once for its logits. GPUs need larger products to reach their
speed: on an H200, 8192 tokens and a vocabulary of 128,256 took 98 ms with 128 MiB and 36 ms with 2 GiB."""
FLASH_ATTENTION = "flash-attn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Implementation:
    """One way to compute something, faster or smaller than the reference."""

    kernel: str
    name: str
    """As the config names it."""
    replaces: str
    title: str | None = None
    """As the plan names it for people; None: the name."""
    device: Device | None = None
    """The only device that it runs on."""
    package: str | None = None
    """The distribution that holds it."""
    by_family: bool = False
    """Whether it serves only the model types that `train/families.py` names for this kernel."""
    task: str | None = None
    """The only task that it serves."""
    precisions: Sequence[str] | None = None
    """Those that it computes in; None: all."""
    offload: bool | None = None
    """The only zero.offload_optimizer that it serves."""
    sharded: bool = False
    """Whether it needs ZeRO stage 1, 2 or 3."""
    fused_by_compile: bool = False
    """Whether `torch.compile` fuses the reference by itself, and does not trace this."""
    op: str | None = None
    """What of DeepSpeed's has to be compiled for it (`ops.py`)."""
    left_by_auto: str | None = None
    """Why `auto` leaves it to those who name it."""
    auto_for_packs: bool = False
    """Whether `auto` takes it for packed rows only."""


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
    # Torch's comes first: it needs no compiler, and on hosts DeepSpeed's takes a tenth less at most.
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
        left_by_auto="does in one launch what torch's does too, and has to be compiled",
    ),
    Implementation(
        kernel="optimizer",
        name="cpu_adam",
        title="DeepSpeed's CPU AdamW",
        replaces="AdamW as one loop over parameters",
        offload=True,
        op="cpu_adam",
        left_by_auto="has to be compiled, and takes a tenth less than torch's at most",
    ),
)


def logit_bytes(width: int) -> int:
    """What the chunked loss head holds for a logit: its fp32 value, in fp32 models in the place of the logit.

    Args:
        width: Bytes of the model's dtype; narrower ones keep the logit besides, later its slope.
    """
    return 4 if width == 4 else 4 + width


KERNELS = tuple(dict.fromkeys(entry.kernel for entry in IMPLEMENTATIONS))


class KernelChoice(BaseModel):
    """What was decided about one kernel when the run was planned."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    """An implementation's name, or that of the reference."""
    why: str
    """In place of what, and why not by another; or why by the reference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """On what the kernels would run."""

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
    """Whether the optimizer's states lie on the host."""
    installed: Callable[[str], bool]
    """Whether a distribution is there."""
    why_not_buildable: Callable[[str], str | None] = lambda _: None
    """By DeepSpeed's op: what keeps it from being compiled."""
    elsewhere: bool = False
    """Whether the nodes' environment cannot be seen from here: what is named is believed to be there."""


def reference_of(kernel: str) -> str:
    """What a kernel is compared with: torch's own, and for attention transformers' plain one."""
    return "eager" if kernel == "attention" else REFERENCE


def title_of(kernel: str, name: str) -> str:
    """How the plan names an implementation, or the reference, for people."""
    titles = [entry.title for entry in IMPLEMENTATIONS if (entry.kernel, entry.name) == (kernel, name)]
    return next(filter(None, titles), name)


def config_key(kernel: str) -> str:
    """Where a kernel is chosen."""
    return "model.attention" if kernel == "attention" else f"kernels.{kernel}"


def choose(wanted: Mapping[str, str], site: Site) -> tuple[dict[str, KernelChoice], dict[str, str]]:
    """Decide each kernel.

    Args:
        wanted: By kernel: `auto`, the reference's name, or an implementation's.
        site: Device, model, packages and what the run does with them.

    Returns:
        The choices, and by kernel why what was asked for by name cannot be had.
    """
    choices: dict[str, KernelChoice] = {}
    refused: dict[str, str] = {}
    for kernel in KERNELS:
        asked = wanted[kernel]
        entries = [entry for entry in IMPLEMENTATIONS if entry.kernel == kernel]
        if asked == reference_of(kernel):
            choices[kernel] = KernelChoice(name=asked, why="asked for")
        elif asked == "auto":
            choices[kernel] = _first_that_fits(entries, site)
        else:
            [entry] = [entry for entry in entries if entry.name == asked]
            obstacle = _obstacle(entry, site, named=True)
            if obstacle is None:
                choices[kernel] = KernelChoice(name=asked, why=f"asked for, in place of {entry.replaces}")
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
    return KernelChoice(name=taken.name, why="; ".join([f"in place of {taken.replaces}", *left]))


def _obstacle(entry: Implementation, site: Site, *, named: bool) -> str | None:
    """Why an implementation cannot be had here, or is left alone by `auto`."""
    return (
        _misfit(entry, site) or _absence(entry, site, named=named) or (None if named else _left(entry, site))
    )


def _misfit(entry: Implementation, site: Site) -> str | None:
    if entry.device not in (None, site.device):
        return f"runs on {entry.device} only"
    if entry.task not in (None, site.task):
        return f"serves model.task={entry.task} only"
    if entry.precisions is not None and site.precision not in entry.precisions:
        return f"computes in {' or '.join(entry.precisions)}, and this is train.precision={site.precision}"
    if entry.by_family and site.family not in (known := liger_types(entry.kernel)):
        return f"knows {', '.join(known)}, and this is {site.family}"
    if entry.fused_by_compile and site.compiled:
        return "is not used with model.compile=true: torch.compile fuses these operations itself"
    if entry.offload not in (None, site.offload):
        return f"serves zero.offload_optimizer={str(entry.offload).lower()} only"
    if entry.sharded and site.zero_stage == 0:
        return "serves zero.stage 1 to 3 only"
    return None


def _absence(entry: Implementation, site: Site, *, named: bool) -> str | None:
    if site.elsewhere and named:
        return None
    if entry.package is not None and not site.installed(entry.package):
        return f"needs the package {entry.package}"
    return site.why_not_buildable(entry.op) if entry.op else None


def _left(entry: Implementation, site: Site) -> str | None:
    if entry.auto_for_packs and not site.packed:
        return "is taken for data.packing=true only, or by name"
    return entry.left_by_auto


def ops_of(choices: Mapping[str, KernelChoice]) -> list[str]:
    """What of DeepSpeed's has to be compiled for these choices."""
    return [
        entry.op
        for entry in IMPLEMENTATIONS
        if entry.op and entry.kernel in choices and choices[entry.kernel].name == entry.name
    ]
