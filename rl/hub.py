"""Models of the Hugging Face Hub, named `hub:OWNER/NAME` or `hub:OWNER/NAME@REVISION`; fetched once into its cache."""

from __future__ import annotations

import re
from pathlib import Path

from rl.errors import BadInput

PREFIX = "hub:"

_NAME = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")

_FILES = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]
"""What a model folder is made of: weights in the one format that is read, configuration, tokenizer, template."""


def is_hub(name: str) -> bool:
    """Whether a model is named as one of the Hub."""
    return name.startswith(PREFIX)


def cached(name: str) -> Path | None:
    """The model's folder in the local cache; None if it was not fetched.

    Raises:
        BadInput: the name is none.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    owner_and_name, revision = _parse(name)
    try:
        return Path(snapshot_download(owner_and_name, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        return None


def fetch(name: str) -> Path:
    """The model's folder in the local cache, fetched before if need be, with bars of the Hub's own.

    Raises:
        BadInput: the name is none, or the Hub does not give the model.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    owner_and_name, revision = _parse(name)
    try:
        return Path(snapshot_download(owner_and_name, revision=revision, allow_patterns=_FILES))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BadInput(f"model {name}: cannot be fetched from the Hugging Face Hub: {reason}") from error


def _parse(name: str) -> tuple[str, str | None]:
    match = _NAME.fullmatch(name.removeprefix(PREFIX))
    if match is None:
        raise BadInput(f"model {name}: expected hub:OWNER/NAME or hub:OWNER/NAME@REVISION")
    return match[1], match[2]
