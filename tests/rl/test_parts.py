from pathlib import Path

import pytest

from envs.component import Component
from rl import parts
from rl.config import Config, Model, RolloutPool, Source


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
