"""The finished model as a transformers directory."""

import shutil
from pathlib import Path
from typing import Any

from train.dist import Group
from train.engine import Engine


def export_model(engine: Engine, tokenizer: Any, group: Group, out: Path) -> None:
    """Write model and tokenizer so that `from_pretrained(out)` opens them; whole or not at all."""
    weights = engine.full_state_dict()
    if group.env.is_main:
        staging = out.with_name(f".{out.name}.staging")
        shutil.rmtree(staging, ignore_errors=True)
        model: Any = engine.module
        model.config.use_cache = True
        model.save_pretrained(staging, state_dict=weights)
        tokenizer.save_pretrained(staging)
        shutil.rmtree(out, ignore_errors=True)
        staging.rename(out)
    group.barrier()
