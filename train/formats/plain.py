"""The formats `prompt_completion` and `text`: plain text that is trained in part or entirely. Torch-free."""

from typing import Any

from train.formats.base import Format, Rendered, Value, check_texts, end_of_text


def _render_completion(value: Value, tokenizer: Any) -> Rendered:
    text = value["prompt"] + value["completion"] + end_of_text(tokenizer)
    return Rendered(text, ((len(value["prompt"]), len(text)),))


def _render_text(value: Value, tokenizer: Any) -> Rendered:
    text = value["text"] + end_of_text(tokenizer)
    return Rendered(text, ((0, len(text)),))


PROMPT_COMPLETION = Format(
    name="prompt_completion",
    task="causal",
    trained="the completion",
    example={"prompt": "...", "completion": "..."},
    check=lambda value: check_texts(value, "prompt", "completion"),
    render=_render_completion,
    asked=lambda value: [value["prompt"]],
)
TEXT = Format(
    name="text",
    task="causal",
    trained="everything",
    example={"text": "..."},
    check=lambda value: check_texts(value, "text"),
    render=_render_text,
    asked=lambda value: [value["text"]],
)
