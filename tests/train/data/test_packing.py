"""Packing: hardly a token left over, every document in one place, and in the model as if it were alone."""

import traceback
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
import transformers
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import modeling_flash_attention_utils as flash

from train.config import ModelConfig
from train.data.collate import Batch, TokenSet
from train.data.packing import pack_documents
from train.data.sampler import FILLER
from train.data.sequences import Sequences
from train.families import packable_types
from train.kernels.check import Heads, mismatches
from train.kernels.table import KERNELS, KernelChoice, Site, choose
from train.model.load import load_model

CPU = torch.device("cpu")
LENGTHS = (12, 1, 7, 15, 2, 9)
PACKS = [[0, 1, 2], [3, 4], [5, FILLER]]


def log_normal_lengths(number: int, longest: int) -> np.ndarray:
    """As instructions and answers have them: 150 tokens in the middle."""
    drawn = np.random.default_rng(0).lognormal(np.log(150), 0.8, number)
    return np.clip(drawn.round().astype(np.int64), 1, longest)


@pytest.mark.parametrize("capacity", [512, 2048])
def test_hardly_a_token_is_padding(capacity: int):
    lengths = log_normal_lengths(20_000, capacity)
    packs = pack_documents(lengths, capacity=capacity, seed=0)
    fill = packs.sums(lengths)
    assert fill.max() <= capacity
    assert fill.sum() / (len(packs) * capacity) >= 0.995
    assert sorted(packs.documents) == list(range(len(lengths)))
    assert all(lengths[packs[number]].sum() == fill[number] for number in range(0, len(packs), 97))


def test_small_cases_have_the_fewest_packs_possible():
    def number_of_packs(*lengths: int) -> int:
        return len(pack_documents(np.array(lengths), capacity=10, seed=0))

    assert number_of_packs(10) == number_of_packs(1) == 1
    assert number_of_packs(6, 6, 4, 4) == 2
    assert number_of_packs(7, 5, 3, 5) == 2
    assert number_of_packs(*[5] * 7) == 4
    assert number_of_packs(8, 7, 3, 2) == 2
    assert number_of_packs(*[1] * 30) == 3


def test_the_seed_and_the_lengths_alone_decide():
    lengths = log_normal_lengths(2000, 512)
    one, same, other = (pack_documents(lengths, capacity=512, seed=seed) for seed in (1, 1, 2))
    assert one.documents.tolist() == same.documents.tolist()
    assert one.documents.tolist() != other.documents.tolist()
    assert lengths[one.documents].tolist() == lengths[other.documents].tolist()


@pytest.mark.parametrize("lengths", [[3, 11], [0, 4], []])
def test_what_does_not_fit_is_an_error(lengths: list[int]):
    with pytest.raises(ValueError, match="must have 1 to 10 tokens"):
        pack_documents(np.array(lengths, dtype=np.int64), capacity=10, seed=0)


def documents_of(lengths: Sequence[int], changed: int | None = None) -> TokenSet:
    """Random tokens, all trained; one document may have others."""
    generator = np.random.default_rng(5)
    entries = []
    for number, length in enumerate(lengths):
        ids = generator.integers(3, 60, length)
        ids = (ids + 1) if number == changed else ids
        entries.append({"input_ids": ids, "labels": ids, "tokens": length, "trained_tokens": length - 1})
    return TokenSet(datasets.Dataset.from_list(entries), pad_id=1, labels_per_token=True)


def test_rows_hold_documents_that_start_at_0_and_are_not_trained_from_each_other():
    documents = documents_of(LENGTHS)
    batch = documents.collate_packs(PACKS, CPU)
    assert batch.position_ids_BT is not None
    assert batch.position_ids_BT[0].tolist() == [*range(12), *range(1), *range(7), *[0] * 4]
    assert batch.target_positions_N is not None
    assert batch.target_positions_N[:17].tolist() == [*range(11), *range(13, 19)]
    assert len(batch.labels) == len(batch.target_positions_N) == int(documents.trained_tokens.sum())
    assert batch.labels.tolist() == batch.input_ids_BT.flatten()[batch.target_positions_N + 1].tolist()
    assert batch.input_ids_BT.shape == (3, 24)
    assert documents.collate_packs(PACKS, CPU, flatten_packs=True).input_ids_BT.shape == (1, 48)
    assert set(batch.inputs) == {"input_ids", "position_ids"}, "a mask would hide the documents' limits"


def test_sequences_count_their_documents():
    documents = documents_of(LENGTHS)
    packs = pack_documents(documents.tokens, capacity=16, seed=0)
    packed, alone = Sequences(documents, packs), Sequences(documents)
    assert packed.tokens.sum() == alone.tokens.sum() == sum(LENGTHS)
    assert packed.trained_tokens.sum() == alone.trained_tokens.sum() == sum(LENGTHS) - len(LENGTHS)
    assert sorted(packed.documents(range(len(packed)))) == alone.documents(range(6)) == [*range(6)]


def tiny_model(model_type: str, attention: str, folder: Path) -> Any:
    """As a run opens it, of two layers, with a window of eight tokens where the architecture has one."""
    sizes = {
        "vocab_size": 64,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
        "head_dim": 8,
        "sliding_window": 8,
    }
    tokens = {"pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 2}
    known = transformers.AutoConfig.for_model(model_type)
    config = transformers.AutoConfig.for_model(
        model_type, **tokens, **{key: value for key, value in sizes.items() if hasattr(known, key)}
    )
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    settings = ModelConfig(source=f"path:{folder}", dropout=0.0)
    site = Site(device="cpu", family=config.model_type, task="causal", installed=lambda _: False)
    choices, _ = choose({**dict.fromkeys(KERNELS, "auto"), "attention": attention}, site)
    model, _ = load_model(
        folder, settings, choices, precision="fp32", deepspeed={"zero_optimization": {"stage": 0}}
    )
    return model.eval()


def loss_of(model: Any, batch: Batch, *, each_row: bool = False) -> torch.Tensor:
    loss: torch.Tensor = model(
        **batch.inputs, labels=batch.labels, target_positions=batch.target_positions_N, each_row=each_row
    )
    return loss


def hidden_of(model: Any, batch: Batch) -> torch.Tensor:
    with torch.no_grad():
        hidden_BTD: torch.Tensor = model.base_model(**batch.inputs).last_hidden_state
    return hidden_BTD


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("model_type", packable_types())
def test_a_document_has_the_loss_that_it_has_alone(model_type: str, attention: str, tmp_path: Path):
    model = tiny_model(model_type, attention, tmp_path)
    documents = documents_of(LENGTHS)
    packed = documents.collate_packs(PACKS, CPU)
    alone = documents.collate(range(len(LENGTHS)), CPU)
    with torch.no_grad():
        losses = loss_of(model, alone, each_row=True)
        total = loss_of(model, packed)
        by_pack = loss_of(model, packed, each_row=True)
    assert float(total) == pytest.approx(float(losses.sum()), abs=1e-4)
    expected = [float(losses[[n for n in pack if n != FILLER]].sum()) for pack in PACKS]
    assert by_pack.tolist() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("model_type", packable_types())
def test_a_document_changes_no_other(model_type: str, attention: str, tmp_path: Path):
    model = tiny_model(model_type, attention, tmp_path)
    pack = [[2, 0, 5]]
    before = hidden_of(model, documents_of(LENGTHS).collate_packs(pack, CPU))
    after = hidden_of(model, documents_of(LENGTHS, changed=0).collate_packs(pack, CPU))
    touched = (before != after).any(dim=-1)[0].nonzero()[:, 0]
    assert touched.tolist() == list(range(7, 19)), "of the documents of 7, 12 and 9 tokens only the second"


@pytest.fixture
def flash_attention(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """flash_attn's two functions, computed by torch: what transformers gives them is what a GPU would get.

    Returns:
        The limits between documents of every call that had some.
    """
    calls: list[list[int]] = []

    def one(q, k, v, dropout_p=0.0, softmax_scale=None, causal=False, window_size=(-1, -1)):
        """Tensors are B, T, heads, head size."""
        assert causal
        assert dropout_p == 0
        place = torch.arange(q.shape[1])
        distance = place[:, None] - place
        seen = (distance >= 0) & ((distance <= window_size[0]) if window_size[0] >= 0 else True)
        by_head_q, by_head_k, by_head_v = (x.transpose(1, 2) for x in (q, k, v))
        return torch.nn.functional.scaled_dot_product_attention(
            by_head_q, by_head_k, by_head_v, attn_mask=seen, scale=softmax_scale, enable_gqa=True
        ).transpose(1, 2)

    def several(
        q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k,
        dropout_p=0.0, softmax_scale=None, causal=False, window_size=(-1, -1),
    ):  # fmt: skip
        """Tensors are T, heads, head size."""
        assert max_seqlen_q == max_seqlen_k == int(cu_seqlens_q.diff().max())
        limits = cu_seqlens_q.tolist()
        calls.append(limits)
        parts = [[x[None, start:stop] for x in (q, k, v)] for start, stop in pairwise(limits)]
        return torch.cat(
            [
                one(part[0], part[1], part[2], dropout_p, softmax_scale, causal, window_size)[0]
                for part in parts
            ]
        )

    monkeypatch.setattr(flash, "_loaded_implementation", None)
    monkeypatch.setattr(flash, "_lazy_imports", lambda *_, **__: (one, several, None, None, None))
    return calls


@pytest.mark.parametrize("model_type", packable_types())
def test_flash_attention_is_told_where_documents_end(
    model_type: str, tmp_path: Path, flash_attention: list[list[int]]
):
    """Without its kernel, which needs a GPU: what is given to it, and that the losses come out as alone."""
    model = tiny_model(model_type, "eager", tmp_path)
    documents = documents_of(LENGTHS)
    alone = documents.collate(range(len(LENGTHS)), CPU)
    packed = documents.collate_packs(PACKS, CPU, flatten_packs=True)
    with torch.no_grad():
        losses = loss_of(model, alone, each_row=True)
        # transformers would convert fp32, which the kernel does not know.
        model.double().config._attn_implementation = "flash_attention_2"
        total = loss_of(model, packed)
    assert [limits[:7] for limits in flash_attention] == [[0, 12, 13, 20, 35, 37, 46]] * 2
    assert float(total) == pytest.approx(float(losses.sum()), abs=1e-4)


def test_flash_attention_is_checked_as_it_is_used(flash_attention: list[list[int]]):
    heads = Heads(queries=4, keys=2, size=8, causal=True)
    choice = {"attention": KernelChoice(name="flash_attention_2", why="")}
    assert mismatches(choice, CPU, torch.bfloat16, heads) == {}
    assert flash_attention == [[0, 67], [0, 40, 67]]


class Questions(TorchDispatchMode):
    """What the host wants to know of tensors, for which it would wait for a GPU: the files that ask."""

    _ASKING = ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::equal")

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        if operator.name().partition(".")[0] in self._ASKING:
            files = [Path(frame.filename) for frame in traceback.extract_stack()[:-1]]
            self.asked.append(next(file.name for file in reversed(files) if "torch" not in file.parts))
        return operator(*args, **(kwargs or {}))


@pytest.mark.parametrize("form", ["alone", "packed", "flash"])
@pytest.mark.parametrize("model_type", packable_types())
def test_neither_the_loss_nor_a_layer_asks_the_device_for_anything(
    model_type: str, form: str, tmp_path: Path, flash_attention: list[list[int]]
):
    """Forward and backward; transformers looks once at each mask, and never in a layer."""
    model = tiny_model(model_type, "eager" if form == "flash" else "sdpa", tmp_path)
    documents = documents_of(LENGTHS)
    if form == "alone":
        batch = documents.collate(range(len(LENGTHS)), CPU)
    else:
        batch = documents.collate_packs(PACKS, CPU, flatten_packs=form == "flash")
    if form == "flash":
        model.double().config._attn_implementation = "flash_attention_2"
    with Questions() as questions:
        loss_of(model, batch).backward()
    by_others = [file for file in questions.asked if file != Path(__file__).name]
    assert set(by_others) <= {"masking_utils.py", "modeling_utils.py"}
    assert len(by_others) <= 2
