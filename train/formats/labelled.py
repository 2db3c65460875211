"""The format `labelled`: a text and its class, for encoders. Torch-free."""

from train.formats.base import Format, Rendered, Value, check_texts, missing


def _check(value: Value) -> str | None:
    problem = check_texts(value, "text")
    if problem:
        return problem
    if "label" not in value:
        return missing(value, "label")
    if not isinstance(value["label"], str | int) or isinstance(value["label"], bool):
        return "the field 'label' must be a string or an integer"
    if not str(value["label"]).strip():
        return "the field 'label' is empty"
    return None


LABELLED = Format(
    name="labelled",
    task="classification",
    trained="the class (encoders)",
    example={"text": "...", "label": "..."},
    check=_check,
    render=lambda value, _tokenizer: Rendered(value["text"], ()),
    asked=lambda value: [value["text"]],
    label=lambda value: str(value["label"]),
)
