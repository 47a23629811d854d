"""From scored trajectories to padded tensors: ScoredGroup, Sample, Batch, and how samples are shared out.

Shapes: L tokens of a sample, B rows, T padded length. Position t of every array speaks about token t.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from rewards.types import Score
from rl.errors import BadInput
from rollout.trajectory import Trajectory

PAD_MULTIPLE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredGroup:
    """Trajectories of one task and what each was worth."""

    trajectories: tuple[Trajectory, ...]
    scores: tuple[Score, ...] = ()
    """One per trajectory; empty for demonstrations that nobody scored."""
    weight: float = 1.0
    """How much a preference within the group counts beside those of other groups."""

    def __post_init__(self) -> None:
        if self.scores and len(self.scores) != len(self.trajectories):
            raise ValueError(f"{len(self.trajectories)} trajectories but {len(self.scores)} scores")

    def usable(self) -> list[Trajectory]:
        """The trajectories that neither failed nor are left unscored by a reward."""
        if not self.scores:
            return [trajectory for trajectory in self.trajectories if not trajectory.ending.is_failure]
        return [trajectory for trajectory, _ in self.scored()]

    def best(self) -> list[Trajectory]:
        """Those that nobody scored higher: the chosen one of a preference, all where nothing was scored."""
        if not self.scores:
            return self.usable()
        scored = self.scored()
        highest = max((score.total for _, score in scored), default=0.0)
        return [trajectory for trajectory, score in scored if score.total == highest]

    def scored(self) -> list[tuple[Trajectory, Score]]:
        """The pairs that may be trained on by reward: no failure, and a score.

        Raises:
            BadInput: the group was never scored.
        """
        if self.trajectories and not self.scores:
            raise BadInput("algorithm: this one learns from scores, and the source gives no scores")
        return [
            (trajectory, score)
            for trajectory, score in zip(self.trajectories, self.scores, strict=True)
            if not trajectory.ending.is_failure and not score.unscored
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One row to learn from. L tokens."""

    token_ids: np.ndarray
    """int32 [L]."""
    loss_mask: np.ndarray
    """bool [L]: true for the tokens whose prediction is trained; never the first token."""
    streams: Mapping[str, np.ndarray] = field(default_factory=dict)
    """float32 [L] each: weights, rewards, sampler_logprobs, ..."""
    group: str = ""
    unit: str = ""
    """Samples of one unit go through the model in one micro-batch, as the two sides of a preference must; "": alone."""
    oldest_version: int = -1

    def __post_init__(self) -> None:
        length = len(self.token_ids)
        for name, array in {"loss_mask": self.loss_mask, **self.streams}.items():
            if array.shape != (length,):
                raise ValueError(f"sample {self.group!r}: {name} is {array.shape}, expected ({length},)")
        for name, array in self.streams.items():
            if not np.isfinite(array).all():
                raise ValueError(f"sample {self.group!r}: stream {name} is not finite")
        if length == 0 or self.loss_mask[0]:
            raise ValueError(f"sample {self.group!r}: needs a first token, which nothing predicts")

    def __len__(self) -> int:
        return len(self.token_ids)

    @property
    def num_trained(self) -> int:
        """How many tokens are trained."""
        return int(self.loss_mask.sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Rows padded on the right to one length. B rows, T tokens."""

    token_ids: torch.Tensor
    """int64 [B, T]; padding is token 0."""
    attention_mask: torch.Tensor
    """bool [B, T]: true for real tokens. Causal models need it for nothing but counting."""
    loss_mask: torch.Tensor
    """bool [B, T]."""
    streams: Mapping[str, torch.Tensor]
    """float32 [B, T] each, 0 in the padding."""
    units: torch.Tensor
    """int64 [B]: rows of one unit (`Sample.unit`) have the same number, counted from 0."""

    @property
    def num_tokens(self) -> int:
        """Real tokens, padding excluded."""
        return int(self.attention_mask.sum())

    def with_streams(self, **streams: torch.Tensor) -> Batch:
        """The same rows with more streams."""
        for name, stream in streams.items():
            if stream.shape != self.token_ids.shape:
                raise ValueError(f"stream {name} is {stream.shape}, expected {self.token_ids.shape}")
        return replace(self, streams={**self.streams, **streams})

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`."""
        return Batch(
            token_ids=self.token_ids.to(device),
            attention_mask=self.attention_mask.to(device),
            loss_mask=self.loss_mask.to(device),
            streams={name: stream.to(device) for name, stream in self.streams.items()},
            units=self.units.to(device),
        )


def padded_length(length: int) -> int:
    """`length` rounded up to the padding multiple."""
    return -(-length // PAD_MULTIPLE) * PAD_MULTIPLE


def in_units(keys: Sequence[str]) -> list[list[int]]:
    """Indices of `keys` that stay together, in the order in which each key comes first; "" stays alone."""
    units: dict[str | int, list[int]] = {}
    for index, key in enumerate(keys):
        units.setdefault(key or index, []).append(index)
    return list(units.values())


def micro_batches(lengths: Sequence[int], micro_batch_tokens: int, keys: Sequence[str] = ()) -> list[list[int]]:
    """Indices of the rows of each micro-batch.

    Rows are sorted by length, so little is padded, and a micro-batch holds at most `micro_batch_tokens`
    padded tokens. A unit larger than that is a micro-batch of its own.

    Args:
        lengths: tokens of each row.
        micro_batch_tokens: the bound.
        keys: units of the rows, as of `in_units`; none: every row stands alone.
    """
    units = in_units(keys or [""] * len(lengths))
    longest_of = [max(lengths[index] for index in unit) for unit in units]
    chunks: list[list[int]] = []
    longest = 0
    for place in sorted(range(len(units)), key=lambda place: -longest_of[place]):
        if not chunks or (len(chunks[-1]) + len(units[place])) * longest > micro_batch_tokens:
            chunks.append([])
            longest = padded_length(longest_of[place])
        chunks[-1].extend(units[place])
    return chunks


def split(samples: Sequence[Sample], micro_batch_tokens: int) -> list[list[Sample]]:
    """The samples of each micro-batch."""
    lengths, keys = [len(sample) for sample in samples], [sample.unit for sample in samples]
    return [[samples[index] for index in chunk] for chunk in micro_batches(lengths, micro_batch_tokens, keys)]


def collate(samples: Sequence[Sample], micro_batch_tokens: int) -> list[Batch]:
    """Pad `samples` into micro-batches of at most `micro_batch_tokens` padded tokens each."""
    return [pad(chunk) for chunk in split(samples, micro_batch_tokens)]


def pad(samples: Sequence[Sample]) -> Batch:
    """Pad `samples` on the right into one batch; they must carry the same streams."""
    names = set(samples[0].streams)
    if any(set(sample.streams) != names for sample in samples):
        raise ValueError("samples of one batch must carry the same streams")
    shape = (len(samples), padded_length(max(len(sample) for sample in samples)))
    token_ids = np.zeros(shape, dtype=np.int64)
    attention_mask = np.zeros(shape, dtype=bool)
    loss_mask = np.zeros(shape, dtype=bool)
    streams = {name: np.zeros(shape, dtype=np.float32) for name in names}
    for row, sample in enumerate(samples):
        length = len(sample)
        token_ids[row, :length] = sample.token_ids
        attention_mask[row, :length] = True
        loss_mask[row, :length] = sample.loss_mask
        for name, stream in sample.streams.items():
            streams[name][row, :length] = stream
    units = np.zeros(len(samples), dtype=np.int64)
    for number, rows in enumerate(_units(samples)):
        units[rows] = number
    return Batch(
        token_ids=torch.from_numpy(token_ids),
        attention_mask=torch.from_numpy(attention_mask),
        loss_mask=torch.from_numpy(loss_mask),
        streams={name: torch.from_numpy(stream) for name, stream in streams.items()},
        units=torch.from_numpy(units),
    )


def empty_batch(names: Iterable[str]) -> Batch:
    """One row that trains nothing: keeps the ranks in step where one has fewer micro-batches."""
    shape = (1, PAD_MULTIPLE)
    return Batch(
        token_ids=torch.zeros(shape, dtype=torch.int64),
        attention_mask=torch.zeros(shape, dtype=torch.bool),
        loss_mask=torch.zeros(shape, dtype=torch.bool),
        streams={name: torch.zeros(shape) for name in names},
        units=torch.zeros(1, dtype=torch.int64),
    )


def shard(samples: Sequence[Sample], num_ranks: int) -> list[list[Sample]]:
    """Share samples out, units whole, so that every rank has about the same number of tokens.

    The largest unit goes first, always to the rank with the fewest tokens, so every rank computes the same shards.
    """
    shards: list[list[Sample]] = [[] for _ in range(num_ranks)]
    loads = [0] * num_ranks
    sizes = [(sum(len(samples[index]) for index in unit), unit) for unit in _units(samples)]
    for size, unit in sorted(sizes, key=lambda pair: -pair[0]):
        rank = loads.index(min(loads))
        shards[rank] += [samples[index] for index in unit]
        loads[rank] += size
    return shards


def minibatches(samples: Sequence[Sample], num: int, seed: int) -> list[list[Sample]]:
    """Deal `samples`, units whole, in a seeded order into `num` parts of nearly equal size; none is empty."""
    units = _units(samples)
    order = np.random.default_rng(seed).permutation(len(units))
    parts = [[samples[index] for place in part for index in units[place]] for part in np.array_split(order, num)]
    return [part for part in parts if part]


def _units(samples: Sequence[Sample]) -> list[list[int]]:
    return in_units([sample.unit for sample in samples])
