"""Engine and learner on an accelerator, on the shipped model; all are skipped where there is none."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("vllm")

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator"),
]

TOKENS = [[20 + (7 * i + 13 * row) % 3000 for i in range(40 + 9 * row)] for row in range(6)]


@pytest.fixture(scope="module")
def shipped() -> Path:
    from rl.config import find_model

    return find_model("package:tiny")


def test_new_weights_are_live_in_the_engine_after_an_update(shipped: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file
    from transformers import Qwen2ForCausalLM

    from rollout.engine import Sampling
    from rollout.vllm_engine import VllmEngine

    changed = {name: weight * 1.1 for name, weight in load_file(shipped / "model.safetensors").items()}
    save_file(changed, tmp_path / "changed.safetensors")
    model = Qwen2ForCausalLM.from_pretrained(shipped).float().eval()
    model.load_state_dict(changed, strict=False)

    async def scenario() -> float:
        engine = VllmEngine(str(shipped), dtype="fp32", max_context=256, max_num_seqs=8, gpu_memory_utilization=0.2)
        await engine.load(1, str(tmp_path / "changed.safetensors"))
        completion = await engine.generate(TOKENS[0], Sampling(temperature=0.0, max_tokens=16), "parity")
        await engine.close()
        ids = torch.tensor([[*TOKENS[0], *completion.token_ids.tolist()]])
        with torch.no_grad():
            logprobs = model(ids).logits.log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])[:, 0].numpy()
        return float(np.abs(completion.logprobs - logprobs[len(TOKENS[0]) - 1 :]).max())

    assert asyncio.run(scenario()) < 1e-3


def test_learner_and_engine_share_one_accelerator(tmp_path: Path) -> None:
    overrides = [
        "first.run.steps=2",
        "run.steps=2",
        "source.groups_per_step=4",
        "evaluation.num=8",
        "evaluation.num_others=4",
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    subprocess.run(
        [sys.executable, "-m", "rl", "train", "ppo_tiny", "one_gpu", *overrides],
        cwd=tmp_path,
        env=environment,
        check=True,
        timeout=900,
    )
    (run,) = (tmp_path / "runs").iterdir()
    assert {"before", "after"} <= json.loads((run / "summary.json").read_text()).keys()
