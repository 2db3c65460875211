"""Answers held-out questions with the current weights, by greedy decoding with a repetition penalty."""

from collections.abc import Sequence
from typing import Any

import torch

from train.dist import Group
from train.engine.engine import Engine
from train.formats.base import Turns

_REPETITION_PENALTY = 1.15
"""Prevents loops of small models in greedy decoding (Keskar et al., arXiv 1909.05858, use 1.2)."""


def answer(
    engine: Engine,
    tokenizer: Any,
    conversations: Sequence[Turns],
    group: Group,
    max_new_tokens: int,
    *,
    sharded: bool,
) -> list[str]:
    """Answer the last turn of all conversations at once.

    Args:
        engine: The engine that holds the model.
        tokenizer: A tokenizer with a chat template.
        conversations: Conversations that end with a question.
        group: All ranks. Each answers its share. With sharded parameters, each answers everything, because
            every forward pass is a collective.
        max_new_tokens: Maximum number of tokens per answer.
        sharded: Whether the parameters are sharded (ZeRO-3).

    Returns:
        One answer per conversation.
    """
    if sharded:
        return _generate(engine, tokenizer, conversations, group.env.device, max_new_tokens, sharded=True)
    ranks = group.env.world_size
    mine = conversations[group.env.rank :: ranks]
    shares = group.gather(
        _generate(engine, tokenizer, mine, group.env.device, max_new_tokens, sharded=False) if mine else []
    )
    return [shares[number % ranks][number // ranks] for number in range(len(conversations))]


def _generate(
    engine: Engine,
    tokenizer: Any,
    conversations: Sequence[Turns],
    device: torch.device,
    max_new_tokens: int,
    *,
    sharded: bool,
) -> list[str]:
    prompts = [
        tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
        for conversation in conversations
    ]
    encoded = tokenizer(
        prompts, add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt"
    ).to(device)
    model: Any = engine.module
    with engine.evaluating(), torch.inference_mode(mode=not sharded):
        generated = model.generate(
            **encoded,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            repetition_penalty=_REPETITION_PENALTY,
            temperature=None,
            top_p=None,
            top_k=None,
            use_cache=True,
            pad_token_id=tokenizer.pad_token_id,
            synced_gpus=sharded,
        )
    width = encoded["input_ids"].shape[1]
    return [text.strip() for text in tokenizer.batch_decode(generated[:, width:], skip_special_tokens=True)]
