"""A checkpoint for another number of ranks or another ZeRO stage: by parameter, then dealt out anew.

DeepSpeed's own converter takes the shards apart; how they are put together again does not depend on what they
came from, so every stage can follow every other.
"""

import os
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from deepspeed.checkpoint.constants import (
    UNIVERSAL_CHECKPOINT_INFO,
    UNIVERSAL_CHECKPOINT_VERSION_KEY,
    UNIVERSAL_CHECKPOINT_VERSION_VALUE,
)

MOMENTS = ("exp_avg", "exp_avg_sq")
CONVERTIBLE: dict[str, Any] = {
    UNIVERSAL_CHECKPOINT_INFO: {UNIVERSAL_CHECKPOINT_VERSION_KEY: UNIVERSAL_CHECKPOINT_VERSION_VALUE}
}
"""What a save must carry so that its shards can be taken apart."""


def take_apart(shards: Path, out: Path, *, plain: bool) -> None:
    """Write `out/zero/PARAMETER/{fp32,exp_avg,exp_avg_sq}.pt`.

    Args:
        shards: DeepSpeed's directory of one checkpoint.
        out: A new directory.
        plain: Written without ZeRO, in fp32: there are no shards, only the optimizer's own states.
    """
    out.mkdir(parents=True)
    if plain:
        _take_apart_plain(shards, out)
        return
    from deepspeed.checkpoint import ds_to_universal

    arguments = Namespace(
        input_folder=str(shards),
        output_folder=str(out),
        num_extract_workers=1,
        num_merge_workers=1,
        keep_temp_folder=False,
        strict=True,
        inject_missing_state=True,
    )
    with redirect_stdout(sys.stderr), _quiet_bars():
        ds_to_universal.main(arguments)


def _take_apart_plain(shards: Path, out: Path) -> None:
    # The manifest's hash was checked before: these are the bytes that we wrote.
    state = torch.load(shards / "mp_rank_00_model_states.pt", map_location="cpu", weights_only=False)
    moments = state["optimizer"]["state"]
    for number, name in enumerate(state["parameter_order"]):
        folder = out / "zero" / name
        folder.mkdir(parents=True)
        torch.save({"param": state["module"][name]}, folder / "fp32.pt")
        for key in MOMENTS:
            torch.save({"param": moments[number][key]}, folder / f"{key}.pt")


@contextmanager
def _quiet_bars() -> Iterator[None]:
    """The converter draws a progress bar per phase into the rank's log."""
    before = os.environ.get("TQDM_DISABLE")
    os.environ["TQDM_DISABLE"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["TQDM_DISABLE"]
        else:
            os.environ["TQDM_DISABLE"] = before


def share_out_states(engine: Any, folder: Path, optimizer_step: float) -> None:
    """Give every rank its part of the states in `folder`. Collective.

    Args:
        engine: DeepSpeed's engine, fresh from `initialize`.
        folder: What `take_apart` wrote.
        optimizer_step: AdamW's own count of applied steps.
    """
    stage = engine.zero_optimization_stage()
    optimizer = engine.optimizer
    if stage == 3:
        _fill_stage_3(engine, folder, optimizer_step)
    elif isinstance(optimizer, torch.optim.Optimizer):
        _fill_plain(engine, folder, optimizer_step)
    else:
        flats = getattr(optimizer, "single_partition_of_fp32_groups", None)
        _fill_flat(engine, flats or optimizer.fp32_groups_flat_partition, folder, optimizer_step)


def _read(folder: Path, name: str, key: str) -> torch.Tensor:
    state: dict[str, torch.Tensor] = torch.load(
        folder / "zero" / name / f"{key}.pt", map_location="cpu", weights_only=False
    )
    return state["param"].flatten().float()


def _new_state(flat: torch.Tensor, optimizer_step: float) -> dict[str, torch.Tensor]:
    """As fused AdamW makes it at its first step."""
    step = torch.tensor(float(optimizer_step), dtype=torch.float32, device=flat.device)
    return {"step": step, **{key: torch.zeros_like(flat.data) for key in MOMENTS}}


def _fill_plain(engine: Any, folder: Path, optimizer_step: float) -> None:
    for name, parameter in engine.module.named_parameters():
        parameter.data.copy_(_read(folder, name, "fp32").view_as(parameter))
        state = _new_state(parameter, optimizer_step)
        for key in MOMENTS:
            state[key].copy_(_read(folder, name, key).view_as(parameter))
        engine.optimizer.state[parameter] = state


def _fill_flat(engine: Any, flats: list[torch.Tensor], folder: Path, optimizer_step: float) -> None:
    """Stages 1 and 2, and bf16 without ZeRO: one flat fp32 tensor per group and rank."""
    states = {id(flat): _new_state(flat, optimizer_step) for flat in flats}
    for name, parameter in engine.module.named_parameters():
        mapping = getattr(parameter, "_hp_mapping", None)
        if mapping is None:
            # Nothing of this parameter lies on this rank.
            continue
        there, here = mapping.lp_fragment_address, mapping.hp_fragment_address
        flat = next(flat for flat in flats if _holds(flat, mapping.hp_fragment))
        targets = {"fp32": flat.data, **{key: states[id(flat)][key] for key in MOMENTS}}
        for key, target in targets.items():
            part = _read(folder, name, key).narrow(0, there.start, there.numel)
            target.narrow(0, here.start, here.numel).copy_(part)
    for flat in flats:
        engine.optimizer.optimizer.state[flat] = states[id(flat)]
    engine.optimizer.update_lp_params()


def _holds(flat: torch.Tensor, fragment: torch.Tensor) -> bool:
    start = flat.data_ptr()
    return start <= fragment.data_ptr() < start + flat.nbytes


def _fill_stage_3(engine: Any, folder: Path, optimizer_step: float) -> None:
    """Each parameter is cut into equal parts, the last one padded."""
    optimizer = engine.optimizer
    rank = torch.distributed.get_rank()
    flats = optimizer.fp32_partitioned_groups_flat
    for flat in flats:
        optimizer.optimizer.state[flat] = _new_state(flat, optimizer_step)
    for name, parameter in engine.module.named_parameters():
        group, offset, numel = optimizer.grad_position[optimizer.get_param_id(parameter)]
        flat = flats[group]
        state = optimizer.optimizer.state[flat]
        targets = {"fp32": flat.data, **{key: state[key] for key in MOMENTS}}
        for key, target in targets.items():
            whole = _read(folder, name, key)
            part = whole[rank * numel : (rank + 1) * numel]
            target.narrow(0, offset, part.numel()).copy_(part)
    for group in range(len(flats)):
        optimizer._reassign_or_swap_out_partitioned_parameters(group)
    if optimizer.persistent_parameters:
        optimizer.persistent_parameters[0].partition(optimizer.persistent_parameters)
        optimizer.persistent_parameters[0].all_gather(optimizer.persistent_parameters)
