import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from envs.component import Component
from rl.__main__ import main
from rl.algorithms.dpo import DPO
from rl.algorithms.ppo import PPO
from rl.algorithms.sft import SFT
from rl.checkpoint import ADAPTER_WEIGHTS, base_and_adapter, begin, commit, latest
from rl.config import Config, Lora, Model, Source
from rl.errors import BadInput
from rl.learner import Learner
from rl.lora import merge, without_adapter
from rl.models import Role, load_model
from rl.parts import make_model
from rl.sample import Sample, pad
from rl.train_engine import LearnerConfig

LORA = Lora(rank=4)


def make_learner(path: Path, algorithm: Any = None, adapter: Lora = LORA, **settings: Any) -> Learner:
    resume = settings.pop("resume", None)
    config = LearnerConfig(**{"learning_rate": 1e-2, **settings})
    return Learner(algorithm=algorithm or SFT(), model_path=path, config=config, adapter=adapter, resume=resume)


def logprobs(model: Any, sequence: list[int]) -> np.ndarray:
    """[L - 1]: of all tokens but the first."""
    ids = torch.tensor([sequence])
    with torch.no_grad():
        everything = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
    return everything.gather(1, ids[0, 1:, None]).squeeze(1).numpy()


def base_model(path: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(path).eval()


@pytest.fixture
def ppo_samples(make_samples: Callable[..., list[Sample]]) -> list[Sample]:
    return [
        replace(
            sample,
            streams={"rewards": sample.streams["weights"], "sampler_logprobs": np.float32(-5.7) * sample.loss_mask},
        )
        for sample in make_samples(6)
    ]


SEQUENCES = [[5 + (7 * index + row) % 290 for index in range(30)] for row in range(3)]


@pytest.mark.parametrize("fixture", ["tiny_model_path", "untied_model_path"])
@pytest.mark.parametrize("adapter", [LORA, Lora(rank=2, alpha=16, target_modules=["q_proj", "v_proj"])])
def test_peft_and_the_merged_model_say_what_the_learner_says(
    request: pytest.FixtureRequest, make_samples: Callable, tmp_path: Path, fixture: str, adapter: Lora
) -> None:
    path: Path = request.getfixturevalue(fixture)
    learner = make_learner(path, adapter=adapter)
    for _ in range(3):
        learner.update(make_samples(6), 0.0)
    folder = learner.export(tmp_path / "adapter")
    assert base_and_adapter(folder) == (path, folder)
    peft_model = PeftModel.from_pretrained(base_model(path), str(folder)).eval()
    whole = base_model(merge(folder, tmp_path / "merged"))
    for sequence, found in zip(SEQUENCES, learner.logprobs(SEQUENCES), strict=True):
        np.testing.assert_allclose(found[1:], logprobs(peft_model, sequence), atol=1e-5)
        np.testing.assert_allclose(found[1:], logprobs(whole, sequence), atol=1e-4)
        assert np.abs(found[1:] - logprobs(base_model(path), sequence)).max() > 0.01
    assert (whole.get_output_embeddings().weight is whole.get_input_embeddings().weight) == ("untied" not in fixture)


def test_an_adapter_starts_as_its_base_and_leaves_it_as_it_is(tiny_model_path: Path, ppo_samples: list[Sample]) -> None:
    learner = make_learner(tiny_model_path, PPO())
    for sequence, found in zip(SEQUENCES, learner.logprobs(SEQUENCES), strict=True):
        np.testing.assert_allclose(found[1:], logprobs(base_model(tiny_model_path), sequence), atol=1e-5)
    for _ in range(2):
        learner.update(ppo_samples, 0.0)
    module = learner._engines["policy"].module
    trained = {name.partition(".lora_")[1] or name for name, _ in module.trained_parameters()}
    assert trained == {".lora_", "value_head.weight", "value_head.bias"}
    assert module.value_head.weight.any()
    kept = load_file(tiny_model_path / "model.safetensors")
    found = {name.replace("base_layer.", ""): weight for name, weight in module.model.named_parameters()}
    assert all(torch.equal(found[name], weight) for name, weight in kept.items())


def test_the_reference_is_the_policy_without_its_adapter_and_no_second_model(
    tiny_model_path: Path, make_samples: Callable, ppo_samples: list[Sample]
) -> None:
    learner = make_learner(tiny_model_path, PPO(kl_coefficient=0.1))
    kl = [learner.update(ppo_samples, 0.0)["train/kl"] for _ in range(3)]
    assert kl[0] == pytest.approx(0.0, abs=1e-6) and kl[2] > 1e-3
    batch = pad(make_samples(3))
    whole = load_model(tiny_model_path, Role(name="reference", trained=False), dtype=torch.float32)
    expected = whole(batch.token_ids, batch.loss_mask)["logprobs"]
    models = learner._models()
    torch.testing.assert_close(models["reference"](batch)["logprobs"], expected, atol=1e-6, rtol=0)
    assert (models["policy"](batch)["logprobs"] - expected).abs().max() > 0.01
    assert learner._frozen["reference"] == learner._without_adapter


def test_dpo_measures_from_the_base_and_keeps_what_it_said(tiny_model_path: Path, make_samples: Callable) -> None:
    sides = [
        replace(
            sample,
            unit=str(index // 2),
            streams={
                "weights": sample.loss_mask.astype(np.float32),
                "preference": sample.loss_mask * np.float32(1 - 2 * (index % 2)),
            },
        )
        for index, sample in enumerate(make_samples(6))
    ]
    adapted, whole = (make_learner(tiny_model_path, DPO(), adapter) for adapter in (LORA, Lora()))
    (first, *_, last) = (adapted.update(sides, 0.0) for _ in range(4))
    assert first["train/loss"] == pytest.approx(np.log(2), rel=1e-5)
    assert last["train/loss"] < 0.9 * first["train/loss"]
    whole.update(sides, 0.0)
    batch = pad(sides)
    kept, expected = (one._models()["reference"](batch)["logprobs"] for one in (adapted, whole))
    torch.testing.assert_close(kept, expected, atol=1e-6, rtol=0)
    assert (adapted._models()["policy"](batch)["logprobs"] - expected).abs().max() > 0.01


def test_without_its_adapter_a_model_is_back_in_training_afterwards(tiny_model_path: Path) -> None:
    model = load_model(tiny_model_path, Role(name="policy"), dtype=torch.float32, adapter=LORA)
    before = dict(model.trained_parameters())
    with pytest.raises(KeyError), without_adapter(model.model):
        raise KeyError
    assert dict(model.trained_parameters()) == before


SEPARATE = PPO(critic="separate", kl_coefficient=0.1)


@pytest.mark.parametrize("algorithm", [SFT(), PPO(), SEPARATE])
@pytest.mark.parametrize(("optimizer", "dropout"), [("adamw", 0.0), ("muon", 0.0), ("adamw", 0.3)])
def test_a_resumed_run_continues_exactly(
    tiny_model_path: Path,
    make_samples: Callable,
    ppo_samples: list[Sample],
    tmp_path: Path,
    algorithm: Any,
    optimizer: str,
    dropout: float,
) -> None:
    samples = make_samples(6) if isinstance(algorithm, SFT) else ppo_samples
    adapter = Lora(rank=4, dropout=dropout)
    learner = make_learner(tiny_model_path, algorithm, adapter, optimizer=optimizer)
    learner.update(samples, 0.0)
    partial = begin(tmp_path, 1)
    learner.save(partial)
    folder = commit(partial, {"version": learner.version})
    assert latest(tmp_path) == folder
    resumed = make_learner(tiny_model_path, algorithm, adapter, optimizer=optimizer, resume=folder)
    for _ in range(2):
        expected, found = learner.update(samples, 0.1), resumed.update(samples, 0.1)
        assert expected == found
    ours, theirs = (load_file(one.export(tmp_path / "out") / ADAPTER_WEIGHTS) for one in (learner, resumed))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_checkpoint_holds_the_adapter_and_no_weight_of_the_base(
    tiny_model_path: Path, ppo_samples: list[Sample], tmp_path: Path
) -> None:
    learner = make_learner(tiny_model_path, PPO())
    learner.update(ppo_samples, 0.0)
    partial = begin(tmp_path, 1)
    learner.save(partial)
    folder = commit(partial, {"version": 1})
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert names == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "generation_config.json",
        "learner/policy/model.safetensors",
        "learner/policy/optimizer.pt",
        "state.json",
        "tokenizer_config.json",
    }
    assert set(load_file(folder / "learner/policy/model.safetensors")) == {"value_head.weight", "value_head.bias"}
    assert all(".lora_" in name for name in load_file(folder / ADAPTER_WEIGHTS))
    # Any Hugging Face tool loads the folder as it is.
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    np.testing.assert_allclose(logprobs(model, SEQUENCES[0]), learner.logprobs(SEQUENCES)[0][1:], atol=1e-5)


def test_dropout_acts_on_losses_and_never_on_what_is_compared_with_the_engine(
    tiny_model_path: Path, make_samples: Callable
) -> None:
    learner = make_learner(tiny_model_path, adapter=Lora(rank=4, dropout=0.5))
    learner.update(make_samples(6), 0.0)
    first, second = learner.logprobs(SEQUENCES), learner.logprobs(SEQUENCES)
    assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))
    batch, engine = pad(make_samples(6)), learner._engines["policy"]
    dropped = [engine.forward(batch)["logprobs"] for _ in range(2)]
    assert not torch.equal(*dropped)
    with torch.no_grad():
        assert torch.equal(engine.forward(batch)["logprobs"], engine.forward(batch)["logprobs"])


def test_an_adapter_of_another_shape_is_refused(tiny_model_path: Path, tmp_path: Path) -> None:
    partial = begin(tmp_path, 1)
    make_learner(tiny_model_path).save(partial)
    folder = commit(partial, {"version": 0})
    for other in (Lora(rank=8), Lora(rank=4, target_modules=["q_proj"])):
        with pytest.raises(ValueError, match="the adapter is another one than the run's"):
            make_learner(tiny_model_path, adapter=other, resume=folder)


def test_merging_rounds_only_where_it_is_asked_to(
    tiny_model_path: Path, make_samples: Callable, tmp_path: Path
) -> None:
    learner = make_learner(tiny_model_path)
    for _ in range(2):
        learner.update(make_samples(6), 0.0)
    folder = learner.export(tmp_path / "adapter")
    merge(folder, tmp_path / "half", dtype=torch.bfloat16)
    assert {weight.dtype for weight in load_file(tmp_path / "half" / "model.safetensors").values()} == {torch.bfloat16}
    assert '"bfloat16"' in (tmp_path / "half" / "config.json").read_text()
    with pytest.raises(ValueError, match="expected a folder with an adapter"):
        merge(tiny_model_path, tmp_path / "nothing")
    assert {path.name for path in tmp_path.iterdir()} == {"adapter", "half"}


def test_a_run_on_an_adapter_starts_from_both_in_one_and_a_resumed_one_from_the_same(
    tiny_model_path: Path, tmp_path: Path
) -> None:
    adapter = make_learner(tiny_model_path).export(tmp_path / "adapter")
    config = Config(
        model=Model(path=str(adapter), lora=LORA),
        source=Source(tasks=Component(factory="envs.toolworld:ToolWorldTasks")),
        algorithm=Component(factory="rl.algorithms.ppo:PPO"),
    )
    folder = make_model(config, tmp_path)
    assert folder == tmp_path / "base" and base_and_adapter(folder) == (folder, None)
    (folder / "mark").touch()
    assert make_model(config.model_copy(update={"resume": "run"}), tmp_path) == folder
    assert (folder / "mark").exists()
    make_model(config, tmp_path)
    assert not (folder / "mark").exists(), "what came first may have gone on meanwhile"


def test_a_model_that_is_made_for_the_run_has_the_modules_of_the_adapter(tmp_path: Path, tiny_model_path: Path) -> None:
    config = Config(
        model=Model(
            init=Component(factory="rl.tiny:build"),
            lora=Lora(rank=2, target_modules=["c_attn"]),
        ),
        source=Source(tasks=Component(factory="envs.toolworld:ToolWorldTasks")),
        algorithm=Component(factory="rl.algorithms.ppo:PPO"),
    )
    shutil.copytree(tiny_model_path, tmp_path / "init")
    with pytest.raises(BadInput, match="'c_attn' is no linear layer"):
        make_model(config, tmp_path)


def test_merge_makes_a_new_folder_and_never_writes_over_one(
    tiny_model_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = make_learner(tiny_model_path).export(tmp_path / "adapter")
    words = ["merge", str(adapter), "--out", str(tmp_path / "merged")]
    assert main(words) == 0
    assert {path.name for path in tiny_model_path.iterdir()} == {path.name for path in (tmp_path / "merged").iterdir()}
    assert main(words) == 2
    assert "merged: exists already; expected a new folder" in capsys.readouterr().err
