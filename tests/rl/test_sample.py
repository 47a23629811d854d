from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rewards.types import Score
from rl.sample import Sample, ScoredGroup, collate, empty_batch, micro_batches, minibatches, pad, shard
from rollout.trajectory import Ending, Trajectory

lengths_strategy = st.lists(st.integers(1, 200), min_size=1, max_size=40)


@given(lengths_strategy, st.integers(8, 500))
def test_micro_batches_hold_every_row_once_within_the_bound(lengths: list[int], limit: int) -> None:
    chunks = micro_batches(lengths, limit)
    assert sorted(index for chunk in chunks for index in chunk) == list(range(len(lengths)))
    for chunk in chunks:
        longest = max(lengths[index] for index in chunk)
        assert len(chunk) == 1 or len(chunk) * (-(-longest // 8) * 8) <= limit


@given(lengths_strategy, st.integers(1, 5))
def test_shards_hold_every_sample_once_and_differ_by_at_most_the_longest(lengths: list[int], ranks: int) -> None:
    samples = [Sample(token_ids=np.zeros(n, np.int32), loss_mask=np.zeros(n, bool)) for n in lengths]
    shards = shard(samples, ranks)
    assert sorted(len(sample) for part in shards for sample in part) == sorted(lengths)
    loads = [sum(len(sample) for sample in part) for part in shards]
    assert max(loads) - min(loads) <= max(lengths)


def test_padding_is_right_to_a_multiple_of_eight_and_zero(make_samples: Callable[..., list[Sample]]) -> None:
    samples = make_samples(3)
    batch = pad(samples)
    assert batch.token_ids.shape[1] % 8 == 0
    for row, sample in enumerate(samples):
        assert batch.token_ids[row, : len(sample)].tolist() == sample.token_ids.tolist()
        assert not batch.loss_mask[row, len(sample) :].any()
        assert not batch.streams["weights"][row, len(sample) :].any()
    assert batch.num_tokens == sum(len(sample) for sample in samples)


def test_minibatches_are_seeded_and_complete(make_samples: Callable[..., list[Sample]]) -> None:
    samples = make_samples(10)
    parts = minibatches(samples, 4, seed=1)
    assert [len(part) for part in parts] == [3, 3, 2, 2]
    assert {sample.group for part in parts for sample in part} == {sample.group for sample in samples}
    again = minibatches(samples, 4, seed=1)
    assert [[s.group for s in part] for part in parts] == [[s.group for s in part] for part in again]
    assert len(minibatches(samples[:2], 4, seed=1)) == 2


def test_a_sample_refuses_wrong_lengths_a_trained_first_token_and_nan() -> None:
    ids = np.zeros(3, np.int32)
    with pytest.raises(ValueError, match="loss_mask is"):
        Sample(token_ids=ids, loss_mask=np.zeros(2, bool))
    with pytest.raises(ValueError, match="first token"):
        Sample(token_ids=ids, loss_mask=np.ones(3, bool))
    with pytest.raises(ValueError, match="stream weights is not finite"):
        Sample(token_ids=ids, loss_mask=np.zeros(3, bool), streams={"weights": np.full(3, np.nan, np.float32)})


def test_different_streams_do_not_go_into_one_batch(make_samples: Callable[..., list[Sample]]) -> None:
    with pytest.raises(ValueError, match="same streams"):
        pad([*make_samples(1), *make_samples(1, streams=("rewards",))])


def test_the_empty_batch_trains_nothing() -> None:
    batch = empty_batch(["weights"])
    assert not batch.loss_mask.any() and set(batch.streams) == {"weights"}
    with pytest.raises(ValueError, match="expected"):
        batch.with_streams(more=torch.zeros(2, 2))


def test_failed_and_unscored_trajectories_are_never_trained_on(make_trajectory: Callable[..., Trajectory]) -> None:
    good, failed = make_trajectory(), make_trajectory(ending=Ending.ENV_FAILED)
    score = Score(per_turn=np.zeros(2, np.float32))
    unscored = Score(per_turn=np.zeros(2, np.float32), unscored="judge gave up")
    group = ScoredGroup(trajectories=(good, failed, good), scores=(score, score, unscored))
    assert group.scored() == [(good, score)]
    assert group.usable() == [good]
    assert ScoredGroup(trajectories=(good, failed)).usable() == [good]
    with pytest.raises(ValueError, match="no scores"):
        ScoredGroup(trajectories=(good,)).scored()


def test_collate_returns_the_fewest_batches_when_everything_fits(make_samples: Callable[..., list[Sample]]) -> None:
    assert len(collate(make_samples(6), 10_000)) == 1
