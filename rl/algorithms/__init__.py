"""What an algorithm is: which models it needs, what it learns from, and its loss. One small file each.

The learner knows this protocol and no algorithm's name. Objects must be picklable and keep no state between calls:
one lives on the driver and one on every rank.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import torch

from rl.models import Outputs, Role
from rl.sample import Batch, Sample, ScoredGroup
from rollout.renderer import Renderer

LearnsFrom = Literal["anything", "scores", "rollouts"]
"""What a source must give: any trajectories; scored ones, such as preferences; ones that our engines sampled."""

Models = Mapping[str, Callable[[Batch], Outputs]]
"""The models of an algorithm's roles by name, without gradient."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """The loss of one micro-batch."""

    total: torch.Tensor
    """A sum over trained tokens; the learner divides it by the denominator of the whole minibatch."""
    metrics: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """Sums too, reported after the same division."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Batches with everything the loss needs, and what was seen on the way."""

    batches: list[Batch]
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Over all batches of all ranks."""


@runtime_checkable
class ReadsTokens(Protocol):
    """An algorithm whose samples depend on how the model writes words as tokens."""

    def with_renderer(self, renderer: Renderer) -> Algorithm:
        """The same, ready to make samples."""
        ...


class Algorithm(Protocol):
    """Turns scored trajectories into a loss."""

    @property
    def learns_from(self) -> LearnsFrom:
        """What the source must give."""
        ...

    @property
    def roles(self) -> Sequence[Role]:
        """The models; the first is the policy, which is exported."""
        ...

    def samples(self, groups: Sequence[ScoredGroup]) -> list[Sample]:
        """What to learn from; on the driver, in numpy. Failed and unscored trajectories never come through."""
        ...

    def denominator(self, samples: Sequence[Sample]) -> float:
        """What the loss of one minibatch, summed over all its samples on all ranks, is divided by."""
        ...

    def prepare(self, batches: list[Batch], models: Models) -> Prepared:
        """Add streams that need a model, on every rank with that rank's batches."""
        ...

    def loss(self, role: str, batch: Batch, outputs: Outputs) -> Loss:
        """The loss of one trained role on one micro-batch, with gradient."""
        ...
