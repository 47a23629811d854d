"""The one way to name and build a pluggable part: an import path and options."""

from __future__ import annotations

import difflib
import importlib
import inspect
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Component(BaseModel):
    """`factory = "pkg.mod:Name"` plus keyword options. Works unchanged in every process."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    factory: str
    options: dict[str, Any] = Field(default_factory=dict)

    def load(self) -> Any:
        """Import the factory.

        Raises:
            ValueError: the path is malformed, or does not lead to a callable.
        """
        module_name, separator, attribute = self.factory.partition(":")
        if not separator or not module_name or not attribute:
            raise ValueError(f"factory {self.factory!r}: expected 'package.module:Name'")
        try:
            module = importlib.import_module(module_name)
        except ImportError as error:
            raise ValueError(f"factory {self.factory!r}: cannot import {module_name}: {error}") from error
        factory = vars(module).get(attribute)
        if not callable(factory):
            near = difflib.get_close_matches(attribute, list(vars(module)), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"factory {self.factory!r}: {module_name} has no callable {attribute!r}{hint}")
        return factory

    def build(self, *args: Any, **kwargs: Any) -> Any:
        """Call the factory with `args`, `kwargs` and the options."""
        return self.load()(*args, **kwargs, **self.options)

    def check(self, *args: str, **kwargs: Any) -> None:
        """Check on the driver that the factory exists and takes the options.

        Args:
            args: names of the positional arguments that `build` will be given.
            kwargs: keyword arguments that `build` will be given.

        Raises:
            ValueError: the factory cannot be imported or does not take these arguments.
        """
        try:
            inspect.signature(self.load()).bind(*args, **kwargs, **self.options)
        except TypeError as error:
            raise ValueError(f"factory {self.factory!r}: options {self.options}: {error}") from error
