from pathlib import Path

import pytest

from envs.component import Component
from rl import parts
from rl.config import Config, Model, RolloutPool, Source
from rl.errors import BadInput


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
