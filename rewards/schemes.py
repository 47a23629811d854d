"""The scoring schemes by the names that users give them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from envs.component import Component
from rewards.replies import Scheme

DEFAULT_SCHEME = "tl_monotone"

SCHEMES: Mapping[str, Component] = {
    "tl_released": Component(factory="rewards.error_reward:ErrorReward", options={"preset": "tl_released"}),
    "tl_monotone": Component(factory="rewards.error_reward:ErrorReward", options={"preset": "tl_monotone"}),
    "esm_released": Component(factory="rewards.esm_released:EsmReleased"),
    "esm": Component(factory="rewards.esm:Esm"),
    "relign": Component(factory="rewards.relign:RelignReward"),
    "utility": Component(factory="rewards.utility:Utility"),
}


def scheme(name: str = DEFAULT_SCHEME, **options: Any) -> Scheme:
    """A scheme by name, for `tether score` and for recipes: `reward.factory = "rewards.schemes:scheme"`.

    Args:
        name: one of SCHEMES.
        options: of the scheme, beside its own: severities of the tl schemes, weights of esm.

    Raises:
        ValueError: there is no such scheme, or it does not take these options.
    """
    if name not in SCHEMES:
        raise ValueError(f"scheme {name!r}: expected one of {', '.join(SCHEMES)}")
    found = SCHEMES[name]
    component = found.model_copy(update={"options": found.options | options})
    component.check()
    return component.build()
