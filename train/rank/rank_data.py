"""The data of a rank: token sets by role, and the training set as ordered sequences."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from train.config import DataRole
from train.data.collate import TokenSet
from train.data.packing import pack_documents
from train.data.parts import parts_by_role
from train.data.prepare import documents_of, prepare
from train.data.sampler import Order, Sampler, plan_sequences
from train.data.sequences import Sequences, report_on
from train.failures import DataError
from train.job import TrainJob
from train.journal.events import DataPrepared
from train.journal.parts import DataReport
from train.journal.reading import of_kind, read_journal
from train.model.load import tokenizer_key


@dataclass(frozen=True, slots=True)
class RankData:
    """The data of one run, which is equal on all ranks."""

    sets: dict[DataRole, TokenSet]
    """Token sets by role; the config determines which roles exist."""
    sequences: Sequences
    """The training set as sequences: single documents or packs."""
    sampler: Sampler


def prepare_data(job: TrainJob, directory: Path, tokenizer: Any) -> RankData:
    """Tokenise the planned data, or open it from the cache. Not collective.

    Args:
        job: The planned run.
        directory: Directory of the tokenizer's files.
        tokenizer: The tokenizer loaded from `directory`.

    Raises:
        DataError: No training row is left under data.max_length and data.overlong.
    """
    sets = _prepare_sets(job, directory, tokenizer)
    sequences = _form_sequences(job, sets["train"])
    return RankData(sets, sequences, _build_sampler(job, sequences))


def report_data(job: TrainJob, data: RankData, attempt: int | None) -> DataReport:
    """Return how the rows are used; a rank with an `attempt` journals it, once for all attempts."""
    report = report_on(data.sequences, data.sets["train"], job.config.data, job.plan.data["train"].rows)
    if attempt is not None and not of_kind(read_journal(job.run_dir.events), DataPrepared):
        job.run_dir.log(DataPrepared(attempt=attempt, **asdict(report)))
    return report


def _prepare_sets(job: TrainJob, directory: Path, tokenizer: Any) -> dict[DataRole, TokenSet]:
    key = tokenizer_key(directory, job.plan.chat_template)
    parts = parts_by_role(job)
    sets: dict[DataRole, TokenSet] = {}
    for role, file in job.plan.data.items():
        # Sets that are only scored keep all rows, whichever policy training uses.
        policy = job.config.data.overlong if role == "train" else "truncate"
        data = job.config.data.model_copy(update={"overlong": policy})
        dataset = prepare(file, data, tokenizer, key, job.plan.labels)
        sets[role] = TokenSet(
            dataset,
            pad_id=tokenizer.pad_token_id,
            labels_per_token=job.config.model.task == "causal",
            numbers=_assessed(
                role,
                documents_of(dataset, parts.get(role), drop_overlong=policy == "drop"),
                job.config.eval.max_rows,
            ),
        )
    return sets


def _assessed(role: DataRole, numbers: np.ndarray, max_rows: int | None) -> np.ndarray:
    """The documents of a role that are used: all, or for the sets of the assessment at most `max_rows`."""
    if role not in ("test", "general") or max_rows is None or len(numbers) <= max_rows:
        return numbers
    return numbers[np.linspace(0, len(numbers) - 1, num=max_rows, dtype=int)]


def _form_sequences(job: TrainJob, documents: TokenSet) -> Sequences:
    data = job.config.data
    if not len(documents):
        raise DataError(
            f"every training row has more than data.max_length={data.max_length} tokens, and"
            " data.overlong=drop removes them; raise data.max_length, or set data.overlong=truncate or split"
        )
    if not data.packing:
        return Sequences(documents)
    lengths = documents.tokens[documents.numbers]
    packs = pack_documents(lengths, capacity=data.max_length, seed=job.config.seed)
    return Sequences(
        documents, packs, flatten_packs=job.plan.kernels["attention"].name == "flash_attention_2"
    )


def _build_sampler(job: TrainJob, sequences: Sequences) -> Sampler:
    train = job.config.train
    group_by = train.global_batch_size if job.config.data.group_by_length else None
    order = Order(sequences.tokens, job.config.seed, group_by)
    return Sampler(order, train.global_batch_size, plan_sequences(train, order))
