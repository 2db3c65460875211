"""Tokenises rows once per file content; ranks, attempts and runs share the prepared set.

This runs before the process group exists, so a long tokenisation cannot exceed the time-out of a collective.
"""

from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from train.cache import cache_dir, key_of, made_once
from train.config import DataConfig
from train.data.render import IGNORED, label_tokens
from train.data.rows import Row, check_row, file_sha256, read_rows
from train.failures import DataError
from train.formats.registry import format_named
from train.job import DataFile

_LAYOUT_VERSION = 2
_BATCH_ROWS = 512
_SHOWN_PROBLEMS = 5


def prepare(
    file: DataFile, data: DataConfig, tokenizer: Any, tokenizer_key: str, labels: list[str]
) -> datasets.Dataset:
    """Tokenise a data file, or load the result from the cache.

    Args:
        file: The planned data file.
        data: Format, length and policy for overlong rows.
        tokenizer: The tokenizer of the model.
        tokenizer_key: Hash of the tokenizer and chat template, part of the cache key.
        labels: Class names by id; empty for decoders.

    Returns:
        A memory-mapped set of documents: `input_ids`, `tokens` (their number), `trained_tokens`, `labels`
        (per token for decoders, the class id for classification), `row` (its number in the file) and
        `overlong` (whether the row had more tokens than `max_length`). Each row is one document, unless it is
        split. Documents to be dropped are included, so that row numbers do not change.

    Raises:
        DataError: The file changed since the run was planned, or a row has no trained token.
    """
    path = Path(file.path)
    if not path.exists():
        raise DataError(
            f"{path} does not exist, but the run was planned with it; restore the file, or submit a new run"
        )
    found = file_sha256(path)
    if found != file.sha256:
        raise DataError(
            f"{path} changed since the run was planned (sha256 {file.sha256[:12]} then, {found[:12]} now); "
            "restore the old content, or submit a new run"
        )
    recipe = [_LAYOUT_VERSION, found, data.format, data.max_length, data.overlong, tokenizer_key, labels]
    directory = made_once(
        cache_dir() / "data" / key_of(recipe), lambda out: _write(out, path, data, tokenizer, labels)
    )
    return datasets.load_from_disk(str(directory))


def documents_of(dataset: datasets.Dataset, rows: np.ndarray | None, *, drop_overlong: bool) -> np.ndarray:
    """Return the numbers of the documents that come from the given rows.

    Args:
        dataset: The dataset returned by `prepare`.
        rows: Numbers of the rows; None for all.
        drop_overlong: Exclude documents of overlong rows.
    """
    row_of_document = column(dataset, "row")
    wanted = np.ones(len(row_of_document), dtype=bool) if rows is None else np.isin(row_of_document, rows)
    if drop_overlong:
        wanted &= ~column(dataset, "overlong")
    return np.flatnonzero(wanted)


def column(dataset: datasets.Dataset, name: str) -> np.ndarray:
    """Return one column as an array: iterating over a column of `datasets` takes 0.1 ms per document."""
    values: np.ndarray = dataset.data.column(name).to_numpy()
    return values


def _write(directory: Path, path: Path, data: DataConfig, tokenizer: Any, labels: list[str]) -> None:
    row_format = format_named(data.format)
    encode = _encode_labelled if row_format.label else _encode_causal
    problems: list[str] = []

    def documents() -> Iterator[dict[str, Any]]:
        checked = _checked_rows(path, data.format)
        numbers = count()
        while group := tuple(islice(checked, _BATCH_ROWS)):
            for row, entries in zip(group, encode(group, data, tokenizer, labels), strict=True):
                useful = [entry for entry in entries if entry["trained_tokens"]]
                dropped = data.overlong == "drop" and any(entry["overlong"] for entry in entries)
                if not (useful or dropped):
                    problems.append(row.location)
                number = next(numbers)
                yield from ({**entry, "row": number} for entry in (entries if dropped else useful))

    encoded = list(documents())
    if problems:
        shown = ", ".join(problems[:_SHOWN_PROBLEMS])
        raise DataError(
            f"{len(problems)} rows have no trained token within data.max_length={data.max_length}: {shown}; "
            "raise data.max_length, set data.overlong=split or drop, or remove these rows"
        )
    token = datasets.Value("int32")
    per_token = datasets.List(token)
    features = datasets.Features(
        input_ids=per_token,
        labels=token if row_format.label else per_token,
        tokens=token,
        trained_tokens=token,
        row=token,
        overlong=datasets.Value("bool"),
    )
    datasets.Dataset.from_list(encoded, features=features).save_to_disk(str(directory))


def _checked_rows(path: Path, format_name: str) -> Iterator[Row]:
    for row in read_rows(path):
        problem = check_row(row, format_name)
        if problem:
            raise DataError(f"{row.location}: {problem}")
        yield row


def _encode_causal(
    rows: tuple[Row, ...], data: DataConfig, tokenizer: Any, _labels: list[str]
) -> list[list[dict[str, Any]]]:
    row_format = format_named(data.format)
    rendered = [row_format.render(row.value, tokenizer) for row in rows]
    encoded = tokenizer(
        [item.text for item in rendered],
        # A chat template contains the start token; for plain text the tokenizer adds it.
        add_special_tokens=not row_format.uses_chat_template,
        return_offsets_mapping=True,
        return_attention_mask=False,
    )
    return [
        _pieces(ids, label_tokens(ids, offsets, item.trained), data)
        for item, ids, offsets in zip(rendered, encoded["input_ids"], encoded["offset_mapping"], strict=True)
    ]


def _pieces(ids: list[int], labels: list[int], data: DataConfig) -> list[dict[str, Any]]:
    """Return the documents of a decoder's row."""
    length = data.max_length
    stop = len(ids) if data.overlong == "split" else min(len(ids), length)
    return [
        {
            "input_ids": ids[start : min(start + length, stop)],
            "labels": labels[start : min(start + length, stop)],
            "tokens": min(length, stop - start),
            # The first token is not predicted, as no token precedes it.
            "trained_tokens": sum(label != IGNORED for label in labels[start + 1 : start + length]),
            "overlong": len(ids) > length,
        }
        for start in range(0, stop, length)
    ]


def _encode_labelled(
    rows: tuple[Row, ...], data: DataConfig, tokenizer: Any, labels: list[str]
) -> list[list[dict[str, Any]]]:
    row_format = format_named(data.format)
    assert row_format.label is not None
    class_id = {label: number for number, label in enumerate(labels)}
    texts = [row_format.render(row.value, tokenizer).text for row in rows]
    classes = [class_id[row_format.label(row.value)] for row in rows]
    # The tokenizer truncates, because it must keep the special tokens at the end of a text.
    cut = tokenizer(texts, truncation=True, max_length=data.max_length, return_attention_mask=False)

    def overlong(text: str, ids: list[int]) -> bool:
        return len(ids) == data.max_length and len(tokenizer(text)["input_ids"]) > data.max_length

    return [
        [
            {
                "input_ids": ids,
                "labels": label,
                "tokens": len(ids),
                "trained_tokens": 1,
                "overlong": overlong(text, ids),
            }
        ]
        for text, label, ids in zip(texts, classes, cut["input_ids"], strict=True)
    ]
