"""How the weights get from their file to the ranks: under ZeRO-3 none of them ever holds the model whole."""

import ctypes
import re
import threading
import time
from pathlib import Path

import pytest

from tests.multiprocess.ranks import load_on_rank, run_ranks

RANKS = 2
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of mallopt(3)."""
PARAMETERS_M = 120
WHOLE_MB = PARAMETERS_M * 4
"""In fp32, from a file in bf16, so that nothing can be mapped as it is."""


def private_mb() -> float:
    """Memory of this process that is not that of a file."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1e3


def load(_rank: int, folder: str) -> float:
    """On every rank: how much its memory grew at most while the model was loaded, in MB."""
    # What is freed goes back at once, so that memory tells what is held.
    libc = ctypes.CDLL(None)
    assert libc.mallopt(M_MMAP_THRESHOLD, 65_536)
    assert libc.mallopt(M_TRIM_THRESHOLD, 0)
    import transformers.modeling_utils  # noqa: F401 - before anything is counted

    from train.dist import DistEnv, Group

    group = Group(DistEnv.from_environ("cpu"))
    before_mb = peak_mb = private_mb()
    loaded = threading.Event()

    def watch() -> None:
        nonlocal peak_mb
        while not loaded.is_set():
            peak_mb = max(peak_mb, private_mb())
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    kept = load_on_rank(folder, "train.precision=fp32", "zero=stage3", global_batch_size=8, world_size=RANKS)
    loaded.set()
    watcher.join()
    del kept
    group.close()
    return peak_mb - before_mb


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    import transformers

    shape = transformers.LlamaConfig(
        vocab_size=8192,
        hidden_size=1024,
        intermediate_size=2816,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=8,
    )
    model = transformers.LlamaForCausalLM(shape).to(torch.bfloat16)
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(
        PARAMETERS_M * 1e6, rel=0.01
    )
    folder = tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    return folder


def test_under_stage_three_no_rank_ever_holds_the_model_whole(folder: Path):
    for grown_mb in run_ranks(load, RANKS, str(folder)):
        assert WHOLE_MB / RANKS <= grown_mb < 0.8 * WHOLE_MB
