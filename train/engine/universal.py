"""Universal checkpoints, which can be loaded with another number of ranks or another ZeRO stage.

DeepSpeed's converter splits the shards into one folder per parameter. Loading them does not depend on how
they were saved, so a run can change from any stage to any other.
"""

import io
import itertools
from argparse import Namespace
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from deepspeed.checkpoint.constants import (
    UNIVERSAL_CHECKPOINT_INFO,
    UNIVERSAL_CHECKPOINT_VERSION_KEY,
    UNIVERSAL_CHECKPOINT_VERSION_VALUE,
)

OPTIMIZER_ORDER = "optimizer_order"
"""Key of the parameters' names, in the order of the optimizer's groups."""
MOMENTS = ("exp_avg", "exp_avg_sq")
CONVERTIBLE: dict[str, Any] = {
    UNIVERSAL_CHECKPOINT_INFO: {UNIVERSAL_CHECKPOINT_VERSION_KEY: UNIVERSAL_CHECKPOINT_VERSION_VALUE}
}
"""Entries that a checkpoint needs so that DeepSpeed can convert it."""


def to_universal(shards: Path, out: Path, *, unsharded: bool) -> None:
    """Write `out/zero/PARAMETER/{fp32,exp_avg,exp_avg_sq}.pt`.

    Args:
        shards: DeepSpeed's directory of one checkpoint.
        out: Directory to create.
        unsharded: Whether it was saved without ZeRO, so that the states of the optimizer are not sharded.
    """
    out.mkdir(parents=True)
    if unsharded:
        _unsharded_to_universal(shards, out)
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
    # The converter's banners and progress bars would clutter the rank's log.
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        ds_to_universal.main(arguments)


def _unsharded_to_universal(shards: Path, out: Path) -> None:
    # Unpickling is safe: the manifest's hashes were verified, so Shardline wrote this file.
    state = torch.load(shards / "mp_rank_00_model_states.pt", map_location="cpu", weights_only=False)
    optimizer = state["optimizer"]
    masters = itertools.chain.from_iterable(optimizer.get("fp32_groups", []))
    moments = optimizer.get("optimizer_state_dict", optimizer)["state"]
    weights = dict(state["module"]) | dict(zip(state[OPTIMIZER_ORDER], masters, strict=False))
    for number, name in enumerate(state[OPTIMIZER_ORDER]):
        folder = out / "zero" / name
        folder.mkdir(parents=True)
        for key, tensor in {"fp32": weights[name], **{key: moments[number][key] for key in MOMENTS}}.items():
            torch.save(tensor, folder / f"{key}.pt")


def load_universal(engine: Any, folder: Path, optimizer_step: float) -> None:
    """Load each rank's part of the states in `folder`. Collective.

    Args:
        engine: DeepSpeed's engine, just initialized.
        folder: Directory that `to_universal` wrote.
        optimizer_step: AdamW's count of applied steps.
    """
    stage = engine.zero_optimization_stage()
    optimizer = engine.optimizer
    if stage == 3:
        _fill_stage_3(engine, folder, optimizer_step)
    elif stage == 0:
        _fill_unsharded(engine, folder, optimizer_step)
    else:
        _fill_flat(engine, optimizer.single_partition_of_fp32_groups, folder, optimizer_step)


def read_weights(folder: Path, name: str) -> torch.Tensor:
    """Return a parameter's flat fp32 weights from a directory that `to_universal` wrote."""
    return _read(folder, name, "fp32")


def _read(folder: Path, name: str, key: str) -> torch.Tensor:
    path = folder / "zero" / name / f"{key}.pt"
    state: Any = torch.load(path, map_location="cpu", weights_only=False)
    # DeepSpeed's converter wraps what came from stages 1 and 2, and not what came from stage 3.
    tensor: torch.Tensor = state["param"] if isinstance(state, dict) else state
    return tensor.flatten().float()


def _new_state(flat: torch.Tensor, optimizer_step: float) -> dict[str, torch.Tensor]:
    """Return a state in the format that fused AdamW creates at its first step."""
    step = torch.tensor(float(optimizer_step), dtype=torch.float32, device=flat.device)
    return {"step": step, **{key: torch.zeros_like(flat.data) for key in MOMENTS}}


def _fill_unsharded(engine: Any, folder: Path, optimizer_step: float) -> None:
    """Fill stage 0, where every rank has all states; mixed precision has a list of fp32 master weights."""
    optimizer = engine.optimizer
    inner = getattr(optimizer, "optimizer", optimizer)
    pairs = zip(
        itertools.chain.from_iterable(getattr(optimizer, "fp16_groups", [])),
        itertools.chain.from_iterable(getattr(optimizer, "fp32_groups", [])),
        strict=True,
    )
    masters = {id(weight): master for weight, master in pairs}
    for name, parameter in engine.module.named_parameters():
        master = masters.get(id(parameter), parameter)
        state = _new_state(master, optimizer_step)
        for key, target in {"fp32": master.data, **{key: state[key] for key in MOMENTS}}.items():
            target.copy_(_read(folder, name, key).view_as(master))
        parameter.data.copy_(master.data)
        inner.state[master] = state


def _fill_flat(engine: Any, flats: list[torch.Tensor], folder: Path, optimizer_step: float) -> None:
    """Fill stages 1 and 2, which have one flat fp32 tensor per group and rank."""
    states = {id(flat): _new_state(flat, optimizer_step) for flat in flats}
    for name, parameter in engine.module.named_parameters():
        mapping = getattr(parameter, "_hp_mapping", None)
        if mapping is None:
            # This rank has no part of this parameter.
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
    """Fill stage 3, where each parameter is split into equal parts and the last one is padded."""
    optimizer = engine.optimizer
    rank = engine.global_rank
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
