"""One rank of a test: a few updates by plain SGD with each engine, so that the change of the weights is the gradient.

Run as a program, because ranks are processes: RANK NUM_RANKS PORT MODEL SAMPLES OUT RUN ..., where a run is
engine:zero_stage:algorithm:optimizer:dtype; "ppo+lora" trains an adapter, "ppo+again" recomputes activations.
"""

import importlib
import pickle
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from rl.algorithms.dpo import DPO
from rl.algorithms.grpo import GRPO
from rl.algorithms.ppo import PPO
from rl.algorithms.sft import SFT
from rl.checkpoint import ADAPTER_WEIGHTS
from rl.config import Lora
from rl.learner import Learner
from rl.optimizers import build_optimizer
from rl.sample import Sample
from rl.train_engine import LearnerConfig, join_ranks

RATE = 0.1


def plain_sgd(model: torch.nn.Module, config: LearnerConfig) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        [{"params": [weight for weight in model.parameters() if weight.requires_grad], "lr": RATE, "base_lr": RATE}]
    )


ALGORITHMS = {
    "sft": SFT(),
    "grpo": GRPO(kl_coefficient=0.1),
    "dpo": DPO(sft_coefficient=0.5, beta=0.5),
    "ppo": PPO(kl_coefficient=0.1, warmup_updates=1),
    "separate": PPO(critic="separate", kl_coefficient=0.1),
}


def run(name: str, model: Path, samples: list[Sample], out: Path) -> dict:
    """Metrics and gradients of the updates, for a run named as "deepspeed:2:ppo:sgd:fp32"."""
    engine, stage, algorithm, optimizer, dtype = name.split(":")
    algorithm, *marks = algorithm.split("+")
    lora = "lora" in marks
    module = importlib.import_module(f"rl.{engine}_engine")
    vars(module)["build_optimizer"] = plain_sgd if optimizer == "sgd" else build_optimizer
    config = LearnerConfig(
        engine=engine,  # type: ignore[arg-type]
        zero_stage=int(stage),
        optimizer="muon" if optimizer == "muon" else "adamw",
        learning_rate=RATE,
        adamw_learning_rate=RATE / 10,
        dtype=dtype,  # type: ignore[arg-type]
        max_grad_norm=1e6,
        micro_batch_tokens=64,
        recompute_activations="again" in marks,
    )
    adapter = Lora(rank=4 if lora else 0)
    learner = Learner(algorithm=ALGORITHMS[algorithm], model_path=model, config=config, adapter=adapter)

    def weights() -> dict[str, torch.Tensor]:
        path = learner.export(out.with_name("weights"), dtype="fp32")
        return load_file(path / ADAPTER_WEIGHTS if lora else path)

    before, updates = weights(), []
    # The first half of an adapter gets a gradient once the second has moved, and the policy learns after a warm-up.
    for _ in range(3 if lora else 2):
        metrics = learner.update(samples, 0.0)
        after = weights()
        gradients = {name: (before[name] - after[name]) / RATE for name in before}
        updates.append({"metrics": metrics, "gradients": gradients})
        before = after
    return {"updates": updates, "kept": [len(model._known) for model in learner._kept]}


def main() -> None:
    rank, num_ranks, port = (int(argument) for argument in sys.argv[1:4])
    model, samples, out = (Path(argument) for argument in sys.argv[4:7])
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    join_ranks(rank=rank, num_ranks=num_ranks, address="127.0.0.1", port=port, backend=backend)
    results = [
        {name: run(name, model, part, out) for name in sys.argv[7:]} for part in pickle.loads(samples.read_bytes())
    ]
    if rank == 0:
        torch.save(results, out)


if __name__ == "__main__":
    main()
