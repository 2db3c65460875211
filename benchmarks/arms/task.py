"""The input and the result of an arm."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.harness import Precision, host_precision
from train.config import DataConfig
from train.data.prepare import prepare
from train.data.rows import file_sha256
from train.data.sampler import Order, Sampler
from train.job import DataFile

VOCABULARY = 8192
_SPECIAL = 2
"""Number of special tokens, end of text and padding, which precede the words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A training task, the same for all arms."""

    folder: Path
    """Folder for the arms' files."""
    model: Path
    """A transformers directory with weights and tokenizer."""
    train: Path
    """File of training rows (text)."""
    held_out: Path
    """File of rows for the loss at the end."""
    length: int
    """Maximum tokens of a sequence."""
    micro_batch_size: int
    """Sequences per rank and step, without accumulation."""
    steps: int
    stage: int
    """ZeRO stage."""
    ranks: int = 2
    lr: float = 1e-3
    arranged: Literal["as they come", "grouped", "packed"] = "as they come"
    """How documents are arranged in sequences."""
    device: Literal["cpu", "cuda"] = "cpu"
    precision: Precision = field(default_factory=host_precision)
    attention: str = "sdpa"
    liger: bool = False
    """Whether the Trainers use Liger's kernels; Shardline uses them if they are installed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """The course of a training, recorded by rank 0."""

    begun_s: float
    """Time at which the ranks started, after their imports, in seconds since the epoch."""
    ends_s: list[float]
    """Time at which each step ended, in seconds since the epoch."""
    losses: list[float]
    """Mean loss of each step."""
    tokens: list[int]
    """Tokens of each step over all ranks, without padding."""
    held_out_loss: float | None = None
    peak_gb: float = 0.0
    """Peak memory of a rank: of its GPU, or resident memory."""

    def write(self, path: Path) -> None:
        """Write the trace to a file, which the parent process reads."""
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> "Trace":
        """Return the trace that a rank wrote."""
        return cls(**json.loads(path.read_text()))

    def tokens_per_s(self, warm_up: int) -> float:
        """Return tokens per second after `warm_up` steps, without padding, with the time between steps."""
        return sum(self.tokens[warm_up:]) / (self.ends_s[-1] - self.ends_s[warm_up - 1])

    @property
    def first_step_s(self) -> float:
        """Seconds from the start of the ranks to the end of the first step."""
        return self.ends_s[0] - self.begun_s


@contextmanager
def cached_in(folder: Path) -> Iterator[None]:
    """Keep prepared and compiled files in a folder, separate from the user's caches."""
    before = dict(os.environ)
    os.environ |= {
        "SHARDLINE_CACHE": str(folder / "cache"),
        # DeepSpeed's extensions take half a minute to compile, so benchmarks that run together share them.
        "TORCH_EXTENSIONS_DIR": os.environ.get("TORCH_EXTENSIONS_DIR", str(folder / "extensions")),
        "HF_HUB_OFFLINE": "1",
    }
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def documents_of(task: Task, path: Path) -> list[list[int]]:
    """Return the token ids of a file's documents, tokenized by Shardline."""
    from train.model.load import load_tokenizer, tokenizer_key

    data = data_config(task)
    file = DataFile(path=str(path), sha256=file_sha256(path), rows=0)
    prepared = prepare(file, data, load_tokenizer(task.model), tokenizer_key(task.model), [])
    ids: list[list[int]] = prepared["input_ids"][:]
    return ids


def in_order(task: Task, documents: list[list[int]]) -> list[list[int]]:
    """Return the documents of all steps in Shardline's order, with equal batches."""
    size = task.micro_batch_size * task.ranks
    steps = range(1, task.steps + 1)
    return [documents[number] for step in steps for number in rows_of_step(step, len(documents), size)]


def rows_of_step(step: int, rows: int, global_batch_size: int) -> list[int]:
    """Return the numbers of the rows of a step in Shardline, without grouping and packing."""
    order = Order(np.ones(rows, np.int64), seed=0)
    return Sampler(order, global_batch_size, step * global_batch_size).batch(step)


def held_out_loss(model: Any, task: Task) -> float:
    """Return the mean loss per predicted token of the held-out documents, computed one by one."""
    import torch

    model.eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for ids in documents_of(task, task.held_out):
            row = torch.tensor([ids], device=task.device)
            loss = model(input_ids=row, labels=row, use_cache=False).loss
            total += float(loss) * (len(ids) - 1)
            count += len(ids) - 1
    return total / count


def data_config(task: Task) -> DataConfig:
    """Return the data section of Shardline's arm."""
    return DataConfig(train=str(task.train), format="text", max_length=task.length)


SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
}
"""About 9M parameters."""


def write_model(folder: Path, *, length: int, shape: dict[str, Any] = SMALL) -> Path:
    """Write a Llama with random weights and a word tokenizer, and return its folder.

    Args:
        folder: Folder to write to.
        length: Maximum sequence length.
        shape: Settings of `LlamaConfig`, with a vocabulary of at least `VOCABULARY`.
    """
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["<end>", "<pad>", *(f"w{number}" for number in range(VOCABULARY - _SPECIAL))]
    split = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, "<pad>"))
    split.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=split, eos_token=words[0], pad_token=words[1]
    ).save_pretrained(folder)
    torch.manual_seed(0)
    settings = transformers.LlamaConfig(
        **shape, max_position_embeddings=length, pad_token_id=1, bos_token_id=None, eos_token_id=0
    )
    transformers.LlamaForCausalLM(settings).save_pretrained(folder)
    return folder


def write_documents(path: Path, lengths: np.ndarray, *, seed: int) -> Path:
    """Write documents of the given lengths, in which every second word is a function of the one before."""
    draw = np.random.default_rng(seed)
    follows = np.random.default_rng(0).permutation(VOCABULARY - _SPECIAL)
    with path.open("w") as file:
        for length in lengths.tolist():
            # The tokenizer adds the last token, which is the end of text.
            ids = np.minimum(draw.zipf(1.3, length - 1) - 1, VOCABULARY - _SPECIAL - 1)
            ids[1::2] = follows[ids[0::2][: len(ids[1::2])]]
            file.write(json.dumps({"text": " ".join(f"w{number}" for number in ids)}) + "\n")
    return path


def write_plain_text(path: Path, lengths: Sequence[int]) -> Path:
    """Write rows with the given numbers of English words; each word is at least one token."""
    draw = np.random.default_rng(0)
    known = ["the", "model", "learns", "from", "what", "people", "write", "about", "music", "and", "travel"]
    with path.open("w") as file:
        for words in lengths:
            file.write(json.dumps({"text": " ".join(draw.choice(known, words))}) + "\n")
    return path
