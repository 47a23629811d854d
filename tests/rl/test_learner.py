from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from rewards.types import CallError, ErrorKind, Score
from rl.algorithms import Loss, Models, Prepared
from rl.algorithms.ppo import PPO
from rl.algorithms.sft import SFT
from rl.checkpoint import begin, commit
from rl.learner import Learner
from rl.models import Outputs, Role
from rl.sample import Batch, Sample, ScoredGroup
from rl.train_engine import LearnerConfig
from rollout.trajectory import Trajectory


def make_learner(path: Path, algorithm: object = None, resume: Path | None = None, **settings: object) -> Learner:
    config = LearnerConfig(**{"learning_rate": 1e-3, **settings})  # type: ignore[arg-type]
    return Learner(algorithm=algorithm or SFT(), model_path=path, config=config, resume=resume)  # type: ignore[arg-type]


def weights_of(learner: Learner, folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(learner.export(folder / "weights.safetensors"))


def test_sft_lowers_the_loss_and_reports(tiny_model_path: Path, make_samples: Callable) -> None:
    learner = make_learner(tiny_model_path, minibatches=2, epochs=2)
    samples = make_samples(8)
    history = [learner.update(samples, 0.0) for _ in range(8)]
    assert history[-1]["train/loss"] < history[0]["train/loss"] - 0.5
    assert learner.version == 8
    assert history[0]["train/samples"] == 8
    assert history[0]["train/trained_tokens"] == sum(sample.num_trained for sample in samples)
    assert {"train/entropy", "train/grad_norm", "train/learning_rate", "train/tokens"} <= history[0].keys()


def test_the_loss_is_the_mean_over_minibatches_of_the_weighted_mean(tiny_model_path: Path, make_samples) -> None:
    samples = make_samples(6)
    learner = make_learner(tiny_model_path, learning_rate=0.0)
    logprobs = learner.logprobs([sample.token_ids.tolist() for sample in samples])
    weights = [sample.streams["weights"] for sample in samples]
    expected = -sum((w * p).sum() for w, p in zip(weights, logprobs, strict=True)) / sum(w.sum() for w in weights)
    for micro_batch_tokens in (8, 10_000):
        learner = make_learner(tiny_model_path, learning_rate=0.0, micro_batch_tokens=micro_batch_tokens)
        assert learner.update(samples, 0.0)["train/loss"] == pytest.approx(expected, rel=1e-5)


def test_updates_follow_from_the_seed_and_not_from_the_micro_batches(
    tiny_model_path: Path, make_samples: Callable, tmp_path: Path
) -> None:
    results = []
    for micro_batch_tokens in (64, 64, 10_000):
        learner = make_learner(tiny_model_path, minibatches=3, micro_batch_tokens=micro_batch_tokens)
        learner.update(make_samples(9), 0.0)
        results.append(weights_of(learner, tmp_path))
    for name, weight in results[0].items():
        assert torch.equal(weight, results[1][name])
        torch.testing.assert_close(weight, results[2][name], atol=1e-4, rtol=1e-3)


def test_logprobs_come_back_in_order_and_agree_with_hugging_face(tiny_model_path: Path, make_samples) -> None:
    sequences = [sample.token_ids.tolist() for sample in make_samples(5)]
    found = make_learner(tiny_model_path, micro_batch_tokens=64).logprobs(sequences)
    model = AutoModelForCausalLM.from_pretrained(tiny_model_path)
    for sequence, logprobs in zip(sequences, found, strict=True):
        ids = torch.tensor([sequence])
        with torch.no_grad():
            everything = model(ids).logits[0, :-1].log_softmax(-1)
        expected = everything.gather(1, ids[0, 1:, None]).squeeze(1)
        assert logprobs.shape == (len(sequence),) and logprobs[0] == 0.0
        np.testing.assert_allclose(logprobs[1:], expected.numpy(), atol=1e-5)


@dataclass(frozen=True)
class Explosive(SFT):
    """SFT whose loss is not finite."""

    def loss(self, role: str, batch: Batch, outputs: Outputs) -> Loss:
        return Loss(total=outputs["logprobs"].sum() * float("nan"))


def test_a_loss_that_is_not_finite_stops_before_the_step(tiny_model_path: Path, make_samples, tmp_path: Path) -> None:
    learner = make_learner(tiny_model_path, Explosive())
    before = weights_of(learner, tmp_path)
    with pytest.raises(FloatingPointError, match="loss of role policy is nan"):
        learner.update(make_samples(2), 0.0)
    assert all(torch.equal(before[name], weight) for name, weight in weights_of(learner, tmp_path).items())


def test_an_update_without_samples_changes_nothing_but_the_version(tiny_model_path: Path, tmp_path: Path) -> None:
    learner = make_learner(tiny_model_path)
    before = weights_of(learner, tmp_path)
    assert learner.update([], 0.0)["train/samples"] == 0
    assert learner.version == 1
    assert all(torch.equal(before[name], weight) for name, weight in weights_of(learner, tmp_path).items())


def ppo_samples(num: int) -> list[Sample]:
    rng = np.random.default_rng(0)
    samples = []
    for index in range(num):
        length = int(rng.integers(8, 30))
        mask = rng.random(length) < 0.5
        mask[0], mask[-1] = False, True
        rewards = np.zeros(length, np.float32)
        rewards[-1] = rng.normal()
        samples.append(
            Sample(
                token_ids=rng.integers(0, 300, length).astype(np.int32),
                loss_mask=mask,
                streams={"rewards": rewards, "sampler_logprobs": np.where(mask, -5.7, 0.0).astype(np.float32)},
                group=str(index),
                oldest_version=0,
            )
        )
    return samples


@pytest.mark.parametrize("critic", ["shared", "separate"])
def test_ppo_updates_policy_and_critic(tiny_model_path: Path, tmp_path: Path, critic: str) -> None:
    algorithm = PPO(critic=critic, kl_coefficient=0.1, warmup_updates=1)  # type: ignore[arg-type]
    learner = make_learner(tiny_model_path, algorithm, minibatches=2)
    start = weights_of(learner, tmp_path)
    first = learner.update(ppo_samples(8), 0.0)
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(start[name], weights_of(learner, tmp_path)[name]), "only values learn in the warm-up"
    assert first["train/kl"] == pytest.approx(0.0, abs=1e-6)
    second = learner.update(ppo_samples(8), 0.0)
    assert not torch.equal(start[name], weights_of(learner, tmp_path)[name])
    assert second["train/explained_variance"] > first["train/explained_variance"]
    expected = {"policy_loss", "clip_fraction", "entropy", "importance_mean", "importance_max", "importance_capped"}
    expected |= {"sampler_learner_difference", "grad_norm", "learning_rate", "loss", "kl", "update_kl"}
    assert {f"train/{metric}" for metric in expected} <= second.keys()
    assert ("train/value_loss" if critic == "shared" else "train/critic_loss") in second


def test_ppo_makes_rewarded_tokens_likelier(tiny_model_path: Path) -> None:
    samples = ppo_samples(2)
    for sample, reward in zip(samples, (1.0, -1.0), strict=True):
        sample.streams["rewards"][-1] = reward
    learner = make_learner(tiny_model_path, PPO(gae_lambda=1.0))

    def likelihoods() -> list[float]:
        found = learner.logprobs([sample.token_ids.tolist() for sample in samples])
        return [float(p[sample.loss_mask].sum()) for p, sample in zip(found, samples, strict=True)]

    before = likelihoods()
    learner.update(samples, 0.0)
    after = likelihoods()
    assert after[0] > before[0] and after[1] < before[1]


def scored(make_trajectory: Callable[..., Trajectory], *per_turn: list[float]) -> ScoredGroup:
    return ScoredGroup(
        trajectories=tuple(make_trajectory() for _ in per_turn),
        scores=tuple(Score(per_turn=np.array(rewards, np.float32)) for rewards in per_turn),
    )


def test_a_group_in_which_all_earned_the_same_is_left_out_with_a_group_baseline(
    make_trajectory: Callable[..., Trajectory],
) -> None:
    groups = [scored(make_trajectory, [1.0, -2.0], [1.0, -2.0]), scored(make_trajectory, [1.0, -2.0], [1.0, 2.0])]
    assert len(PPO(group_baseline=True).samples(groups)) == 2
    assert len(PPO().samples(groups)) == 4
    assert len(PPO(group_baseline=True).samples([scored(make_trajectory, [1.0, -2.0])])) == 1, "nobody to compare with"


def test_a_group_baseline_is_what_advantages_are_measured_from(
    tiny_model_path: Path, make_trajectory: Callable[..., Trajectory]
) -> None:
    algorithm = PPO(group_baseline=True, gae_lambda=1.0, normalise_advantages=False)
    learner = make_learner(tiny_model_path, algorithm)
    metrics = learner.update(algorithm.samples([scored(make_trajectory, [1.0, -2.0], [1.0, 4.0])]), 0.0)
    # The critic starts at 0, and what one is above the other, the other is below it.
    assert metrics["train/advantage"] == pytest.approx(0.0, abs=1e-5)
    assert metrics["train/value"] == metrics["train/return"], "together they expect what was earned"
    assert metrics["train/return"] == pytest.approx((2 * (-1.0 + 5.0) + 3 * (-2.0 + 4.0)) / 10)


def test_ppo_puts_the_cost_of_an_error_where_its_credit_says(make_trajectory: Callable[..., Trajectory]) -> None:
    error = CallError(turn=1, call=0, kind=ErrorKind.WRONG_TOOL, start=7, end=8)
    score = Score(per_turn=np.array([1.0, -2.0], np.float32), errors=(error,), costs=(-1.5,))
    group = ScoredGroup(trajectories=(make_trajectory(),), scores=(score,))
    (by_turn,), (by_error,) = PPO().samples([group]), PPO(credit="error").samples([group])
    assert by_turn.streams["rewards"].tolist() == [0, 0, 0, 0, 1, 0, 0, 0, 0, -2]
    assert by_error.streams["rewards"].tolist() == [0, 0, 0, 0, 1, 0, 0, -1.5, 0, -0.5]


def test_a_group_baseline_and_a_discount_do_not_go_together() -> None:
    with pytest.raises(ValueError, match=r"gamma 0\.9: expected 1 with group_baseline"):
        PPO(group_baseline=True, gamma=0.9)


@pytest.mark.parametrize("algorithm", [SFT(), PPO(), PPO(critic="separate", kl_coefficient=0.1)])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_resumed_run_continues_exactly(
    tiny_model_path: Path, make_samples: Callable, tmp_path: Path, algorithm: SFT | PPO, optimizer: str
) -> None:
    samples = make_samples(6) if isinstance(algorithm, SFT) else ppo_samples(6)
    learner = make_learner(tiny_model_path, algorithm, optimizer=optimizer)
    learner.update(samples, 0.0)
    partial = begin(tmp_path, 1)
    learner.save(partial)
    folder = commit(partial, {"version": learner.version})
    resumed = make_learner(tiny_model_path, algorithm, resume=folder, optimizer=optimizer)
    assert resumed.version == 1
    expected, found = learner.update(samples, 0.1), resumed.update(samples, 0.1)
    assert expected == pytest.approx(found)
    ours, theirs = weights_of(learner, tmp_path), weights_of(resumed, tmp_path)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@dataclass(frozen=True)
class Recorder:
    """Keeps nothing but checks what the learner passes."""

    roles: tuple[Role, ...] = (Role(name="policy"), Role(name="reference", trained=False))

    def samples(self, groups: Sequence[ScoredGroup]) -> list[Sample]:
        return []

    def denominator(self, samples: Sequence[Sample]) -> float:
        return 1.0

    def prepare(self, batches: list[Batch], models: Models) -> Prepared:
        assert set(models) == {"policy", "reference"}
        prepared = []
        for batch in batches:
            policy, reference = models["policy"](batch)["logprobs"], models["reference"](batch)["logprobs"]
            assert not policy.requires_grad and not reference.requires_grad
            prepared.append(batch.with_streams(gap=policy - reference))
        return Prepared(batches=prepared, metrics={"seen": float(len(batches))})

    def loss(self, role: str, batch: Batch, outputs: Outputs) -> Loss:
        assert outputs["logprobs"].requires_grad
        return Loss(total=-outputs["logprobs"].sum(), metrics={"gap": batch.streams["gap"].abs().sum()})


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_prepared_streams_reach_the_loss_and_the_reference_stays(tiny_model_path: Path, make_samples, dtype) -> None:
    learner = make_learner(tiny_model_path, Recorder(), dtype=dtype)
    first, second = learner.update(make_samples(3), 0.0), learner.update(make_samples(3), 0.0)
    assert first["train/gap"] == 0.0 < second["train/gap"]
    assert first["train/seen"] == 1.0
