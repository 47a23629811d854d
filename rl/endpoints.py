"""Models behind an OpenAI-compatible endpoint, as the commands name them. Imports nothing heavy."""

from __future__ import annotations

from importlib.util import find_spec

from rl.errors import BadInput


def is_endpoint(name: str | None) -> bool:
    """Whether a model is named by the URL of an endpoint."""
    return name is not None and name.startswith(("http://", "https://"))


def expect_openai() -> None:
    """Refuse to ask an endpoint without the package that asks.

    Raises:
        BadInput: openai is not installed.
    """
    if find_spec("openai") is None:
        raise BadInput("endpoints need the package openai: pip install tether[endpoint]")
