import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from envs.component import Component
from envs.types import Message, Task
from rl import parts
from rl.config import Config, Lora, Model, RolloutPool, Source
from rl.errors import BadInput
from rl.sample import ScoredGroup
from rollout.demonstrations import from_messages


@pytest.mark.parametrize(("asked", "expected"), [(150, 150), (4096, 1024)])
def test_engine_and_renderer_have_the_smaller_limit_of_model_and_pool(tmp_path, asked, expected):
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 1024}')
    config = Config(
        model=Model(path=str(tmp_path)),
        source=Source(tasks=Component(factory="envs.toolworld:ToolWorldTasks")),
        algorithm=Component(factory="rl.algorithms.ppo:PPO"),
        rollout_pool=RolloutPool(max_context=asked),
    )
    found = parts.pool_config(config, tmp_path, Path("runs"))
    assert found.engine.options["max_context"] == expected
    assert found.renderer.options == {"max_context": expected}


def test_engines_take_adapters_of_the_run_or_serve_one_from_the_start(tmp_path):
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 1024}')
    config = Config(
        model=Model(path=str(tmp_path), lora=Lora(rank=12)),
        source=Source(tasks=Component(factory="envs.toolworld:ToolWorldTasks")),
        algorithm=Component(factory="rl.algorithms.ppo:PPO"),
    )
    layer = {f"model.layers.0.mlp.{name}.weight": np.zeros((4, 2)) for name in ("up_proj", "down_proj")}
    save_file({**layer, "lm_head.weight": np.zeros((9, 2))}, tmp_path / "model.safetensors")
    trained = parts.pool_config(config, tmp_path, Path("runs")).engine.options
    assert (trained["lora_rank"], trained["lora_modules"]) == (12, ["down_proj", "up_proj"])
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(
        '{"r": 4, "rank_pattern": {"q_proj": 6}, "target_modules": ["q_proj", "v_proj"]}'
    )
    served = parts.pool_config(config, tmp_path, Path("runs"), adapter).engine.options
    assert (served["lora_rank"], served["lora_modules"]) == (6, ["q_proj", "v_proj"])
    assert served["adapter"] == str(adapter)
    plain = config.model_copy(update={"model": Model(path=str(tmp_path))})
    assert "lora_rank" not in parts.pool_config(plain, tmp_path, Path("runs")).engine.options
    on_gpu = plain.model_copy(update={"rollout_pool": RolloutPool(num_gpus_per_worker=1)})
    with pytest.raises(BadInput, match="bf16 and fp16 only"):
        parts.pool_config(on_gpu, tmp_path, Path("runs"), adapter)


def test_the_renderer_of_the_recipe_writes_for_engine_and_demonstrations(tmp_path):
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 1024}')
    named = Component(factory="rollout.family_renderer:load_qwen3_renderer", options={"enable_thinking": True})
    config = Config(
        model=Model(path=str(tmp_path), renderer=named),
        source=Source(
            tasks=Component(factory="envs.toolworld:ToolWorldTasks"),
            demonstrations=Component(factory="envs.toolworld:Demonstrator"),
        ),
        algorithm=Component(factory="rl.algorithms.sft:SFT"),
    )
    expected = Component(factory=named.factory, options={"max_context": 1024, "enable_thinking": True})
    assert parts.pool_config(config, tmp_path, Path("runs")).renderer == expected
    with pytest.raises(BadInput, match="cannot load a tokenizer"):
        parts.build_renderer(config, tmp_path)


def test_recorded_files_are_bounded_by_the_model_alone_and_what_does_not_fit_is_said(
    tmp_path, tokenizer, capsys
) -> None:
    model = tmp_path / "model"
    tokenizer.save_pretrained(model)
    (model / "config.json").write_text('{"max_position_embeddings": 700}')
    rows = [
        {
            "prompt": [{"role": "user", "content": "go " * num}],
            "chosen": [{"role": "assistant", "content": "yes"}],
            "rejected": [{"role": "assistant", "content": "no"}],
        }
        for num in (1, 200, 600)
    ]
    path = tmp_path / "pairs.jsonl"

    def source(num: int):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows[-num:]))
        config = Config(
            model=Model(path=str(model)),
            source=Source(preferences=str(path)),
            algorithm=Component(factory="rl.algorithms.dpo:DPO"),
            rollout_pool=RolloutPool(max_context=128),
        )
        return parts.build_source(config, model, None, 0)

    groups = asyncio.run(source(3).next(2))
    assert sorted(len(group.trajectories[0].token_ids) > 128 for group in groups) == [False, True]
    assert "pairs.jsonl: 1 of 3 pairs do not fit into 700 tokens and are left out" in capsys.readouterr().err
    with pytest.raises(BadInput, match="1 of 1 pairs do not fit into 700 tokens"):
        source(1)


def test_an_algorithm_that_reads_tokens_is_given_those_of_the_model(tmp_path, tokenizer, renderer) -> None:
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    config = Config(
        model=Model(path=str(tmp_path)),
        source=Source(conversations="talk.jsonl"),
        algorithm=Component(factory="rl.algorithms.sft:SFT", options={"key_tokens": {}}),
    )
    call = {"function": {"name": "get_weather", "arguments": {"city": "Oslo"}}}
    messages = [{"role": "user", "content": "go"}, {"role": "assistant", "tool_calls": [call]}]
    task = Task(task_id="t", prompt=(Message(role="user", content="go"),), tools=())
    trajectory = from_messages(task, messages, (), renderer, trajectory_id="t", group_id="g")
    (sample,) = parts.build_algorithm(config, tmp_path).samples([ScoredGroup(trajectories=(trajectory,))])
    assert (sample.streams["weights"] > 1).sum() == 1
