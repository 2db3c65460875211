"""Rows, rendering, sampling, collating: which tokens are trained, and in what order rows come."""

import csv
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from launcher.compose.roots import packaged
from tests.conftest import conversation
from train.batch import BatchPlan, solve_batch
from train.config import DataConfig, Overlong, TrainConfig
from train.data.collate import TokenSet
from train.data.prepare import documents_of, prepare
from train.data.render import IGNORED, label_tokens
from train.data.rows import check_row, file_sha256, read_rows
from train.data.sampler import FILLER, Order, Sampler, assign_micro_batches, plan_sequences
from train.data.sequences import Sequences, report_on
from train.failures import DataError
from train.formats.base import Rendered
from train.formats.messages import render_messages
from train.formats.registry import format_named
from train.job import DataFile
from train.model.load import load_tokenizer

TINY = packaged("examples") / "models" / "tiny-llama"


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(TINY)


def data_file(path: Path) -> DataFile:
    return DataFile(path=str(path), sha256=file_sha256(path), rows=0)


def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path):
    import pyarrow
    from pyarrow import parquet

    rows = [{"text": "one"}, {"text": "two, and\nmore"}]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "r.json").write_text(json.dumps(rows))
    with (tmp_path / "r.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["text"])
        writer.writeheader()
        writer.writerows(rows)
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "r.parquet")
    for suffix in ("jsonl", "json", "csv", "parquet"):
        assert [row.value for row in read_rows(tmp_path / f"r.{suffix}")] == rows


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        ([{"role": "user", "content": "q"}], "the last turn must have the role assistant"),
        ([{"role": "assistant", "content": "a"}], "turn 1 (assistant) may not follow the start"),
        ([{"role": "user", "content": " "}], "turn 1: the field 'content' must be a non-empty string"),
        (
            [{"role": "bot", "content": "a"}],
            "turn 1 must be an object with a role; allowed roles: system, user, assistant",
        ),
        ([{"role": "user", "content": "a\0b"}], "turn 1: the field 'content' contains a NUL character"),
        ("text", "the field 'messages' must be a list of turns"),
    ],
)
def test_bad_conversations(messages: object, why: str, write_rows: Callable[..., Path]):
    [row] = read_rows(write_rows("r.jsonl", [{"messages": messages}]))
    assert (check_row(row, "messages") or "").startswith(why)


def test_exactly_the_assistants_words_are_trained(tokenizer):
    messages = conversation("How?", "So.")["messages"] + conversation("And?", "Thus.")["messages"]
    rendered = render_messages(messages, tokenizer)
    encoded = tokenizer(rendered.text, return_offsets_mapping=True, add_special_tokens=False)
    labels = label_tokens(encoded["input_ids"], encoded["offset_mapping"], rendered.trained)
    assert tokenizer.decode([label for label in labels if label != IGNORED]) == "So.<|end|>Thus.<|end|>"


def test_a_template_that_rewrites_history_is_refused():
    def forgetful(messages: list, **_: object) -> str:
        return messages[-1]["content"]

    with pytest.raises(DataError, match="rewrites earlier turns"):
        render_messages(conversation("q", "a")["messages"], SimpleNamespace(apply_chat_template=forgetful))


def test_prompts_are_read_and_completions_trained(tokenizer):
    row = {"prompt": "2+2=", "completion": "4"}
    rendered = format_named("prompt_completion").render(row, tokenizer)
    assert rendered == Rendered("2+2=4<|end|>", ((4, 12),))
    assert format_named("text").render({"text": "all"}, tokenizer) == Rendered("all<|end|>", ((0, 10),))


@pytest.mark.parametrize(("prompt", "completion"), [("Answer: ", "the node"), ("Answer:", " the node")])
def test_the_first_word_of_a_completion_is_trained(tokenizer, prompt: str, completion: str):
    """Its token begins with the space before it, wherever the row put that space."""
    row = {"prompt": prompt, "completion": completion}
    rendered = format_named("prompt_completion").render(row, tokenizer)
    encoded = tokenizer(rendered.text, return_offsets_mapping=True, add_special_tokens=False)
    labels = label_tokens(encoded["input_ids"], encoded["offset_mapping"], rendered.trained)
    assert tokenizer.decode([label for label in labels if label != IGNORED]).strip() == "the node<|end|>"


@pytest.mark.parametrize("name", ["plain", "chatml"])
def test_our_templates_only_append(tokenizer, name: str):
    import copy

    other = copy.deepcopy(tokenizer)
    other.chat_template = (packaged("examples") / "templates" / f"{name}.jinja").read_text()
    messages = conversation("How?", "the node")["messages"] + conversation("And?", "Thus.")["messages"]
    rendered = render_messages(messages, other)
    assert len(rendered.trained) == 2
    begin, end = rendered.trained[0]
    assert "the node" in rendered.text[begin:end]
    assert not other.apply_chat_template(messages[:1], tokenize=False, add_generation_prompt=True).endswith(
        " "
    )


def test_prepared_rows_are_kept_and_a_changed_file_is_refused(tokenizer, write_rows: Callable[..., Path]):
    path = write_rows("r.jsonl", [conversation("q", "a b c")])
    config = DataConfig(train=str(path), format="messages", max_length=64)
    file = data_file(path)
    first = prepare(file, config, tokenizer, "key", [])
    assert first[0]["trained_tokens"] == sum(label != IGNORED for label in first[0]["labels"][1:])
    assert prepare(file, config, tokenizer, "key", []).cache_files == first.cache_files
    path.write_text(path.read_text() + "\n")
    with pytest.raises(DataError, match="changed since the run was planned"):
        prepare(file, config, tokenizer, "key", [])


def test_a_row_whose_answer_is_cut_away_is_named(tokenizer, write_rows: Callable[..., Path]):
    path = write_rows("r.jsonl", [conversation("q", "a"), conversation("long " * 50, "a")])
    config = DataConfig(train=str(path), format="messages", max_length=32)
    with pytest.raises(DataError, match=rf"1 rows have no trained token within data.max_length=32: {path}:2"):
        prepare(data_file(path), config, tokenizer, "key", [])


def test_each_epoch_holds_every_row_once_in_a_new_order():
    sampler = Sampler(Order(np.ones(10), seed=3), global_batch_size=4, total_sequences=25)
    assert sampler.total_steps == 7
    ids = [row for step in range(1, 8) for row in sampler.batch(step)]
    assert len(ids) == 25
    assert Counter(ids[:10]) == Counter(ids[10:20]) == Counter(range(10))
    assert ids[:10] != ids[10:20]
    assert Sampler(Order(np.ones(10), seed=4), 4, 25).batch(1) != sampler.batch(1)


def test_length_in_tokens_epochs_and_steps():
    order = Order(np.array([10] * 8), seed=0)
    assert plan_sequences(TrainConfig(max_tokens=75, global_batch_size=4), order) == 8
    assert plan_sequences(TrainConfig(max_tokens=81, global_batch_size=4), order) == 12
    assert plan_sequences(TrainConfig(epochs=1.5, global_batch_size=4), order) == 12
    assert plan_sequences(TrainConfig(epochs=9, max_steps=2, global_batch_size=4), order) == 8


@pytest.mark.parametrize("rows", [3, 44, 400, 1003])
def test_grouped_batches_hold_rows_of_like_length_and_every_row_once_an_epoch(rows: int):
    tokens = np.random.default_rng(0).integers(1, 500, rows)
    grouped, mixed = (
        Sampler(Order(tokens, seed=3, group_by=size), global_batch_size=8, total_sequences=5 * rows)
        for size in (8, None)
    )
    batches = [grouped.batch(step) for step in range(1, grouped.total_steps + 1)]
    ids = [row for batch in batches for row in batch]
    for epoch in range(5):
        assert Counter(ids[epoch * rows : (epoch + 1) * rows]) == Counter(range(rows))

    def padding(sampler: Sampler) -> int:
        steps = [tokens[sampler.batch(step)] for step in range(1, sampler.total_steps + 1)]
        return sum(int((step.max() - step).sum()) for step in steps)

    if rows >= 400:
        assert padding(grouped) < 0.2 * padding(mixed)
        assert sorted(map(sorted, batches[:50])) != sorted(map(sorted, batches[50:100]))
        means = [tokens[batch].mean() for batch in batches[:48]]
        assert abs(np.corrcoef(means, range(48))[0, 1]) < 0.5, "short rows first, or last"


@pytest.mark.parametrize("world_size", [1, 2, 4])
@pytest.mark.parametrize("micro", [1, 2])
def test_all_ranks_together_take_each_row_once(world_size: int, micro: int):
    batch = solve_batch(global_batch_size=8, micro_batch_size=micro, world_size=world_size)
    tokens = np.arange(100)
    shares = [assign_micro_batches([5, 90, 3, 40, 41, 7], tokens, batch, rank) for rank in range(world_size)]
    assert {len(share) for share in shares} == {batch.accumulation}
    assert {len(rows) for share in shares for rows in share} == {micro}
    rows = [row for share in shares for rows in share for row in rows]
    assert sorted(row for row in rows if row != FILLER) == [3, 5, 7, 40, 41, 90]
    assert rows.count(FILLER) == 2


def test_rows_of_like_length_share_a_forward_pass():
    batch = BatchPlan(global_batch_size=4, micro_batch_size=2, accumulation=2, world_size=1)
    assert assign_micro_batches([0, 1, 2, 3], np.array([9, 1, 8, 2]), batch, 0) == [[0, 2], [3, 1]]


def test_rows_are_padded_and_a_filler_is_not_trained():
    import datasets

    rows = datasets.Dataset.from_list(
        [
            {"input_ids": [5, 6, 7], "labels": [IGNORED, 6, 7], "tokens": 3, "trained_tokens": 2},
            {"input_ids": [5, 8], "labels": [IGNORED, 8], "tokens": 2, "trained_tokens": 1},
        ]
    )
    batch = TokenSet(rows, pad_id=1, labels_per_token=True).collate([0, FILLER, 1], torch.device("cpu"))
    assert batch.input_ids_BT.tolist() == [[5, 6, 7, 1, 1, 1, 1, 1], [1] * 8, [5, 8, 1, 1, 1, 1, 1, 1]]
    assert batch.target_positions_N is not None
    assert batch.labels.tolist() == [6, 7, 8]
    assert batch.target_positions_N.tolist() == [0, 1, 16]
    assert batch.inputs["attention_mask"].all(), "padding comes last, where no token of a decoder sees it"


def test_padding_is_hidden_from_an_encoder():
    import datasets

    rows = datasets.Dataset.from_list(
        [{"input_ids": [5, 6, 7], "labels": 2, "tokens": 3, "trained_tokens": 1}]
    )
    batch = TokenSet(rows, pad_id=1, labels_per_token=False).collate([0, FILLER], torch.device("cpu"))
    assert batch.inputs["attention_mask"].tolist() == [[1, 1, 1, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0]]
    assert batch.labels.tolist() == [2, IGNORED]


@pytest.mark.parametrize("policy", ["truncate", "split", "drop"])
def test_what_becomes_of_rows_that_are_too_long(policy: Overlong, tokenizer, write_rows: Callable[..., Path]):
    """The second of three rows has 40 tokens, of which 16 fit; it is the only one that is too long."""
    texts = ["a b c", " a" * 39, "c b a"]
    path = write_rows("r.jsonl", [{"text": text} for text in texts])
    whole = [tokenizer(text + tokenizer.eos_token)["input_ids"] for text in texts]
    config = DataConfig(train=str(path), format="text", max_length=16, overlong=policy)
    dataset = prepare(data_file(path), config, tokenizer, "key", [])
    numbers = documents_of(dataset, None, drop_overlong=policy == "drop")
    documents = TokenSet(dataset, pad_id=1, labels_per_token=True, numbers=numbers)
    found = [dataset[int(number)]["input_ids"] for number in numbers]
    long = whole[1]
    assert len(long) == 40
    assert (
        found
        == {
            "truncate": [whole[0], long[:16], whole[2]],
            "split": [whole[0], long[:16], long[16:32], long[32:], whole[2]],
            "drop": [whole[0], whole[2]],
        }[policy]
    )
    assert [dataset[int(number)]["row"] for number in numbers] == {
        "truncate": [0, 1, 2],
        "split": [0, 1, 1, 1, 2],
        "drop": [0, 2],
    }[policy]
    assert documents.trained_tokens[numbers].tolist() == [len(ids) - 1 for ids in found]
    report = report_on(Sequences(documents), documents, config, rows=3)
    assert (report.overlong_rows, report.documents) == (1, len(found))
    if policy != "split":
        assert numbers.tolist() == [dataset[int(number)]["row"] for number in numbers]
    assert documents_of(dataset, np.array([0, 2]), drop_overlong=policy == "drop").tolist() == [
        number for number in numbers.tolist() if dataset[number]["row"] != 1
    ]


def test_a_long_question_needs_no_place_where_rows_are_split_or_dropped(
    tokenizer, write_rows: Callable[..., Path]
):
    """Its answer is cut away; pieces of the question alone would train nothing."""
    path = write_rows("r.jsonl", [conversation("q", "a"), conversation("long " * 50, "a b c d")])
    split, dropped = (
        prepare(
            data_file(path),
            DataConfig(train=str(path), format="messages", max_length=32, overlong=policy),
            tokenizer,
            "key",
            [],
        )
        for policy in ("split", "drop")
    )
    assert all(split["trained_tokens"])
    assert set(split["row"]) == {0, 1}
    assert documents_of(dropped, None, drop_overlong=True).tolist() == [0]


def test_long_texts_keep_their_end_mark_and_are_counted(tokenizer, write_rows: Callable[..., Path]):
    path = write_rows("r.jsonl", [{"text": "a b", "label": "x"}, {"text": " a" * 40, "label": "y"}])
    config = DataConfig(train=str(path), format="labelled", max_length=16)
    dataset = prepare(data_file(path), config, tokenizer, "key", ["x", "y"])
    assert list(dataset["overlong"]) == [False, True]
    assert list(dataset["tokens"])[1] == 16


def test_a_part_of_a_file_keeps_the_numbers_of_its_rows():
    import datasets

    rows = datasets.Dataset.from_list(
        [{"input_ids": [n] * n, "labels": 0, "tokens": n, "trained_tokens": 1} for n in range(1, 6)]
    )
    part = TokenSet(rows, pad_id=0, labels_per_token=False, numbers=np.array([1, 4]))
    assert len(part) == 2
    assert part.tokens[part.numbers].tolist() == [2, 5]
    assert part.collate([4], torch.device("cpu")).input_ids_BT[0].tolist() == [5] * 5 + [0] * 3
