"""The format `messages`: conversations with trained assistant turns. Torch-free."""

from typing import Any

from train.failures import DataError
from train.formats.base import Format, Rendered, Span, Turns, Value, check_texts, missing

ROLES = ("system", "user", "assistant")


def _check(value: Value) -> str | None:
    if "messages" not in value:
        return missing(value, "messages")
    messages = value["messages"]
    if not isinstance(messages, list) or not messages:
        return "the field 'messages' must be a list of turns"
    previous = None
    for number, message in enumerate(messages, 1):
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            return f"turn {number} must be an object with a role; allowed roles: {', '.join(ROLES)}"
        problem = check_texts(message, "content")
        if problem:
            return f"turn {number}: {problem}"
        role = message["role"]
        if (
            role == previous
            or (role == "system" and number > 1)
            or (role == "assistant" and previous != "user")
        ):
            return f"turn {number} ({role}) may not follow {previous or 'the start'}"
        previous = role
    return None if previous == "assistant" else "the last turn must have the role assistant, which is trained"


def render_messages(messages: Turns, tokenizer: Any) -> Rendered:
    """Apply the chat template and locate each assistant turn by the text that precedes it.

    Works for any template that only appends, with or without generation marks. The end-of-turn mark is
    trained, white space after it is not.

    Raises:
        DataError: The template rewrites earlier turns, so assistant turns cannot be located.
    """
    text = _apply(tokenizer, messages)
    spans: list[Span] = []
    for number, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = _apply(tokenizer, messages[:number], add_generation_prompt=True)
        through = _apply(tokenizer, messages[: number + 1])
        if not (text.startswith(through) and through.startswith(before)):
            raise DataError(
                "the tokenizer's chat template rewrites earlier turns, so assistant turns cannot be located;"
                " set model.chat_template to a template that only appends"
            )
        spans.append((len(before), len(through.rstrip())))
    return Rendered(text, tuple(spans))


def _apply(tokenizer: Any, messages: Turns, *, add_generation_prompt: bool = False) -> str:
    text: str = tokenizer.apply_chat_template(
        list(messages), tokenize=False, add_generation_prompt=add_generation_prompt
    )
    return text


def _first_question(value: Value) -> tuple[Turns, str]:
    """Return the turns up to the first question, with a system turn if any, and its answer."""
    turns = value["messages"]
    first_answer = next(number for number, turn in enumerate(turns) if turn["role"] == "assistant")
    return turns[:first_answer], turns[first_answer]["content"]


MESSAGES = Format(
    name="messages",
    task="causal",
    trained="the assistant's turns",
    example={"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]},
    check=_check,
    render=lambda value, tokenizer: render_messages(value["messages"], tokenizer),
    asked=lambda value: [turn["content"] for turn in value["messages"] if turn["role"] != "assistant"],
    uses_chat_template=True,
    question=_first_question,
)
