import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rl.algorithms import Loss
from rl.algorithms.dpo import DPO
from rl.algorithms.sft import SFT
from rl.checkpoint import begin, commit
from rl.learner import Learner
from rl.losses import preference_loss
from rl.sample import Batch, ScoredGroup, collate, empty_batch, minibatches, pad, shard, split
from rl.train_engine import LearnerConfig

Groups = Callable[..., list[ScoredGroup]]
Pair = Callable[..., ScoredGroup]


def make_learner(path: Path, algorithm: DPO | SFT, **settings: object) -> Learner:
    places = {name: settings.pop(name) for name in ("resume", "kept") if name in settings}
    config = LearnerConfig(**{"learning_rate": 1e-3, **settings})  # type: ignore[arg-type]
    return Learner(algorithm=algorithm, model_path=path, config=config, **places)  # type: ignore[arg-type]


def loss_of(algorithm: DPO, batch: Batch, logprobs: torch.Tensor, reference: torch.Tensor) -> Loss:
    return algorithm.loss("policy", batch.with_streams(reference_logprobs=reference), {"logprobs": logprobs})


def test_the_better_of_a_group_is_chosen_and_both_sides_are_one_unit(make_pair: Pair) -> None:
    chosen, rejected = DPO().samples([make_pair([1, 2], [3, 4], [5])])
    assert chosen.token_ids.tolist() == [1, 2, 3, 4] and rejected.token_ids.tolist() == [1, 2, 5]
    assert chosen.streams["preference"].tolist() == [0, 0, 1, 1]
    assert rejected.streams["preference"].tolist() == [0, 0, -1]
    assert chosen.unit == rejected.unit != ""


def test_the_best_of_a_large_group_stands_against_the_worst_and_equals_against_nobody(make_group: Pair) -> None:
    chosen, rejected = DPO().samples([make_group([1], ([2], 0.5), ([3], 2.0), ([4], -1.0))])
    assert (chosen.token_ids[-1], rejected.token_ids[-1]) == (3, 4)
    assert DPO().samples([make_group([1], ([2], 1.0), ([3], 1.0))]) == []


def test_a_pair_that_leaves_nothing_to_learn_is_left_out(make_group: Pair) -> None:
    assert DPO().samples([make_group([1], ([2], 1.0), ([3], 0.0), train=False)]) == []


def test_the_same_pair_twice_is_two_units(make_pair: Pair) -> None:
    samples = DPO().samples([make_pair([1], [2], [3])] * 2)
    assert len({sample.unit for sample in samples}) == 2


def test_the_loss_is_the_weighted_mean_of_the_formula(make_pair: Pair) -> None:
    algorithm = DPO(beta=0.5)
    samples = algorithm.samples([make_pair([1], [2, 3], [4], weight=2.0), make_pair([1], [5], [6, 7], weight=1.0)])
    batch = pad(samples)
    logprobs = torch.where(batch.loss_mask, -batch.token_ids.float(), 9.0)
    reference = torch.where(batch.loss_mask, -2.0, 9.0)
    # h of the chosen [2, 3]: (-2 + 2) + (-3 + 2) = -1, of the rejected [4]: -4 + 2 = -2. And -3 against -4 - 5.
    first, second = -math.log(1 / (1 + math.exp(-0.5 * 1))), -math.log(1 / (1 + math.exp(-0.5 * 6)))
    found = loss_of(algorithm, batch, logprobs, reference)
    denominator = algorithm.denominator(samples)
    assert denominator == 3.0
    assert found.total.item() / denominator == pytest.approx((2 * first + second) / 3, rel=1e-5)
    metrics = {name: value.item() / denominator for name, value in found.metrics.items()}
    assert metrics["margin"] == pytest.approx((2 * 1 + 6) / 3)
    assert metrics["preferred"] == 1.0
    assert metrics["chosen_ratio"] == pytest.approx((2 * -1 + -3) / 3)
    assert metrics["rejected_ratio"] == pytest.approx((2 * -2 + -9) / 3)
    normalised = loss_of(DPO(beta=0.5, length_normalised=True), batch, logprobs, reference)
    assert normalised.metrics["margin"].item() / denominator == pytest.approx((2 * (-0.5 + 2) + (-3 + 4.5)) / 3)


def test_the_supervised_term_is_a_mean_over_the_chosen_tokens(make_pair: Pair) -> None:
    algorithm = DPO(sft_coefficient=0.3)
    samples = algorithm.samples([make_pair([1], [2, 3], [4]), make_pair([1], [5], [6, 7])])
    batch = pad(samples)
    logprobs = torch.where(batch.loss_mask, -batch.token_ids.float(), 9.0)
    found = loss_of(algorithm, batch, logprobs, logprobs)
    assert found.metrics["sft_loss"].item() / 2 == pytest.approx((2 + 3 + 5) / 3)
    assert found.total.item() / 2 == pytest.approx(math.log(2) + 0.3 * (2 + 3 + 5) / 3)


def test_smoothed_and_robust_losses_are_those_of_their_papers() -> None:
    margins = torch.tensor([-1.0, 0.0, 2.0])
    right, wrong = torch.log1p(torch.exp(-margins)), torch.log1p(torch.exp(margins))
    torch.testing.assert_close(preference_loss(margins), right)
    torch.testing.assert_close(preference_loss(margins, label_smoothing=0.1), 0.9 * right + 0.1 * wrong)
    robust = preference_loss(margins, label_smoothing=0.1, robust=True)
    torch.testing.assert_close(robust, (0.9 * right - 0.1 * wrong) / 0.8)
    # What makes it robust: its mean over pairs of which a tenth are turned round is the loss of the right ones.
    turned = preference_loss(-margins, label_smoothing=0.1, robust=True)
    torch.testing.assert_close(0.9 * robust + 0.1 * turned, right)


def test_differing_tokens_weigh_more_and_common_ends_do_not(make_pair: Pair) -> None:
    chosen, rejected = DPO(differing_weight=2.0).samples([make_pair([1], [2, 9, 3, 4], [2, 8, 8, 3, 4])])
    assert chosen.streams["weights"].tolist() == [0, 1, 2, 1, 1]
    assert rejected.streams["weights"].tolist() == [0, 1, 2, 2, 1, 1]
    # One is the other and more: nothing of the shorter side differs.
    chosen, rejected = DPO(differing_weight=2.0).samples([make_pair([1], [2, 3, 3, 4], [2, 3, 4])])
    assert chosen.streams["weights"].tolist() == [0, 1, 1, 2, 1]
    assert rejected.streams["weights"].tolist() == [0, 1, 1, 1]


def test_what_comes_before_the_first_difference_has_no_gradient(
    make_pair: Pair, tiny_model_path: Path, tmp_path: Path
) -> None:
    gradients = []
    for weight in (1.0, 50.0):
        algorithm = DPO()
        samples = algorithm.samples([make_pair([1], [20, 30, 40, 3], [20, 30, 50, 4])])
        for sample in samples:
            sample.streams["weights"][1:3] *= weight
        learner = make_learner(tiny_model_path, algorithm, max_grad_norm=1e6)
        gradients.append(learner.update(samples, 0.0)["train/grad_norm"])
    assert gradients[0] == pytest.approx(gradients[1], rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": 0.0}, "beta 0.0: expected a positive number"),
        ({"label_smoothing": 0.5}, "label_smoothing 0.5: expected 0 or more and less than 0.5"),
        ({"sft_coefficient": -1.0}, "sft_coefficient"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DPO(**options)


@given(st.integers(1, 12), st.integers(8, 200), st.integers(1, 4), st.integers(1, 4))
def test_the_two_sides_of_a_pair_stay_together(
    random_pairs: Groups, num: int, limit: int, ranks: int, parts: int
) -> None:
    samples = DPO().samples(random_pairs(num))
    together = [
        sorted(batch_units)
        for part in minibatches(samples, parts, seed=1)
        for rank in shard(part, ranks)
        for batch_units in ([sample.unit for sample in rows] for rows in split(rank, limit))
    ]
    assert all(units.count(unit) == 2 for units in together for unit in units)
    assert sum(map(len, together)) == 2 * num


@given(st.integers(1, 9), st.integers(8, 300), st.sampled_from([{}, {"sft_coefficient": 0.5, "robust": True}]))
def test_any_split_into_micro_batches_gives_the_same_loss_and_gradient(
    random_pairs: Groups, num: int, limit: int, options: dict
) -> None:
    algorithm = DPO(differing_weight=2.0, length_normalised=bool(options), label_smoothing=0.1, **options)
    samples = algorithm.samples(random_pairs(num))
    table, reference = torch.randn(300), torch.randn(300)
    losses, gradients = [], []
    for batches in ([pad(samples)], collate(samples, limit)):
        logits = table.clone().requires_grad_()
        total = torch.zeros(())
        for batch in batches:
            logprobs = torch.where(batch.loss_mask, logits[batch.token_ids], 0.0)
            total = total + loss_of(algorithm, batch, logprobs, reference[batch.token_ids]).total
        total.backward()
        losses.append(total.detach())
        gradients.append(logits.grad)
    torch.testing.assert_close(losses[0], losses[1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("algorithm", [DPO(), DPO(sft_coefficient=1.0, length_normalised=True)])
def test_a_rank_without_pairs_adds_nothing(make_pair: Pair, algorithm: DPO) -> None:
    (sample, _) = algorithm.samples([make_pair([1], [2], [3])])
    batch = empty_batch(sample.streams)
    logprobs = torch.zeros(batch.token_ids.shape, requires_grad=True)
    found = loss_of(algorithm, batch, logprobs, torch.zeros_like(logprobs))
    found.total.backward()
    assert found.total.item() == 0.0 and not logprobs.grad.any()  # type: ignore[union-attr]
    assert not any(value.item() for value in found.metrics.values())


def test_training_starts_at_log_two_and_raises_the_margin(random_pairs: Groups, tiny_model_path: Path) -> None:
    algorithm = DPO(beta=0.5)
    learner = make_learner(tiny_model_path, algorithm, minibatches=2)
    samples = algorithm.samples(random_pairs(6))
    history = [learner.update(samples, 0.0) for _ in range(8)]
    assert history[0]["train/preference_loss"] == pytest.approx(math.log(2), abs=0.2)
    assert history[-1]["train/margin"] > history[1]["train/margin"] > 0
    assert history[-1]["train/preferred"] == pytest.approx(1.0)
    assert history[-1]["train/preference_loss"] < 0.2


def test_the_first_loss_of_all_is_log_two(random_pairs: Groups, tiny_model_path: Path) -> None:
    learner = make_learner(tiny_model_path, algorithm := DPO())
    first = learner.update(algorithm.samples(random_pairs(3)), 0.0)
    assert first["train/loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert first["train/margin"] == pytest.approx(0.0, abs=1e-5)


def test_with_the_supervised_term_the_chosen_side_does_not_lose_likelihood(
    make_pair: Pair, tiny_model_path: Path
) -> None:
    ratios = {}
    for coefficient in (0.0, 5.0):
        algorithm = DPO(sft_coefficient=coefficient)
        learner = make_learner(tiny_model_path, algorithm)
        samples = algorithm.samples([make_pair([5, 6, 7], [8, 9, 10, 11], [8, 9, 12, 11])])
        for _ in range(6):
            metrics = learner.update(samples, 0.0)
        ratios[coefficient] = metrics["train/chosen_ratio"]
    assert ratios[5.0] > max(ratios[0.0], 0.0)


def test_sft_learns_from_the_chosen_side_of_a_preference(make_pair: Pair) -> None:
    (sample,) = SFT().samples([make_pair([1, 2], [3, 4], [5])])
    assert sample.token_ids.tolist() == [1, 2, 3, 4]


class Counting:
    """Counts how many sequences go through the reference."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from rl import learner

        self.loaded = self.sequences = 0
        original = learner._frozen_model

        def frozen(*args: object) -> Callable[[Batch], dict]:
            self.loaded += 1
            model = original(*args)  # type: ignore[arg-type]

            def forward(batch: Batch) -> dict:
                self.sequences += len(batch.token_ids)
                return model(batch)

            return forward

        monkeypatch.setattr(learner, "_frozen_model", frozen)


def test_reference_logprobs_are_computed_once_in_a_run_and_its_resumption(
    random_pairs: Groups, tiny_model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting, algorithm = Counting(monkeypatch), DPO()
    samples = algorithm.samples(random_pairs(5))
    learner = make_learner(tiny_model_path, algorithm, kept=tmp_path / "kept", micro_batch_tokens=64)
    assert counting.loaded == 0, "nothing is loaded before it is needed"
    learner.update(samples[:4], 0.0)
    assert (counting.loaded, counting.sequences) == (1, 4)
    first = learner.update(samples, 0.0)
    assert (counting.loaded, counting.sequences) == (1, 10)
    (kept,) = learner._kept
    assert kept.is_loaded
    learner.update(samples, 0.0)
    assert not kept.is_loaded, "an update that missed nothing lets go of the model"
    partial = begin(tmp_path, 3)
    learner.save(partial)
    folder = commit(partial, {"version": learner.version})
    resumed = make_learner(tiny_model_path, algorithm, kept=tmp_path / "kept", resume=folder)
    assert resumed.update(samples, 0.0)["train/margin"] > first["train/margin"]
    assert (counting.loaded, counting.sequences) == (1, 10)


def test_kept_logprobs_are_those_of_the_model(random_pairs: Groups, tiny_model_path: Path, tmp_path: Path) -> None:
    algorithm = DPO()
    samples = algorithm.samples(random_pairs(4))
    learner = make_learner(tiny_model_path, algorithm, kept=tmp_path)
    learner.update(samples, 0.0)
    again = make_learner(tiny_model_path, algorithm, kept=tmp_path)
    expected = again.logprobs([sample.token_ids.tolist() for sample in samples])
    found = again._kept[0](pad(samples))["logprobs"].numpy()
    assert not again._kept[0].is_loaded
    for row, (sample, logprobs) in enumerate(zip(samples, expected, strict=True)):
        np.testing.assert_allclose(found[row, : len(sample)], logprobs * sample.loss_mask, atol=1e-5)


def test_another_model_or_arithmetic_is_not_given_what_was_kept(
    random_pairs: Groups, tiny_model_path: Path, untied_model_path: Path, tmp_path: Path
) -> None:
    algorithm = DPO()
    samples = algorithm.samples(random_pairs(2))
    for path, dtype in ((tiny_model_path, "fp32"), (untied_model_path, "fp32"), (tiny_model_path, "bf16")):
        make_learner(path, algorithm, kept=tmp_path, dtype=dtype).update(samples, 0.0)
    assert len(list(tmp_path.glob("reference-*.sqlite"))) == 3
