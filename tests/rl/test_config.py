import json
import os

import numpy as np
import pytest

from rl import config as configs
from rl.config import BadInput, Config, check, check_algorithm, load

RECIPE = """
[run]
steps = 5
[model]
path = "{model}"
[source]
tasks = {{factory = "envs.toolworld:ToolWorldTasks"}}
groups_per_step = 4
[reward]
factory = "rewards.error_reward:ErrorReward"
[algorithm]
factory = "rl.algorithms.ppo:PPO"
options = {{clip_low = 0.2}}
"""
CLUSTER = '[run]\ndirectory = "{runs}"\n[learner_group]\nnum_ranks = 2\n'


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_text("")
    return folder


@pytest.fixture
def files(tmp_path, model):
    recipe, cluster = tmp_path / "recipe.toml", tmp_path / "cluster.toml"
    recipe.write_text(RECIPE.format(model=model))
    cluster.write_text(CLUSTER.format(runs=tmp_path / "runs"))
    return str(recipe), str(cluster)


def error_of(*args, **kwargs) -> str:
    with pytest.raises(BadInput) as caught:
        load(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_recipe_cluster_and_overrides_merge_into_one_run(files):
    config = load(files[0], files[1], ["learner.learning_rate=1e-5", "run.seed=3", "evaluation.tasks=['real']"])
    assert config.learner_group.num_ranks == 2
    assert config.run.steps == 5
    assert config.learner.learning_rate == 1e-5
    assert config.run.seed == 3
    assert config.evaluation.tasks == ["real"]
    assert config.recipe == "recipe"


def test_a_value_that_is_not_toml_is_a_string(files):
    assert load(files[0], files[1], ["resume=runs/ppo-1"]).resume == "runs/ppo-1"


def test_an_override_reaches_into_options_and_keeps_the_others(files):
    options = load(files[0], files[1], ["algorithm.options.clip_high=0.28"]).algorithm.options
    assert options == {"clip_low": 0.2, "clip_high": 0.28}


def test_a_new_factory_drops_the_options_of_the_old_one(files):
    assert load(files[0], files[1], ["algorithm.factory=rl.algorithms.sft:SFT"]).algorithm.options == {}


def test_a_misspelt_override_names_the_nearest_key(files):
    message = error_of(*files, ["learner.learning_rat=1"])
    assert "unknown key learner.learning_rat; did you mean learner.learning_rate?" in message


def test_a_right_key_in_the_wrong_table_is_found(files):
    assert "did you mean learner.learning_rate?" in error_of(*files, ["adam.learning_rate=1"])


def test_a_misspelt_key_in_a_file_names_the_file(files, tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text("[rollout_pool]\nnum_worker = 2\n")
    message = error_of(files[0], str(path))
    assert "bad.toml" in message
    assert "did you mean rollout_pool.num_workers?" in message


def test_a_broken_file_says_where(files, tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text("[run\n")
    assert "line 1" in error_of(files[0], str(path))


def test_recipe_and_cluster_share_no_key(files, tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text("[learner]\nlearning_rate = 1e-3\n")
    assert "learner.learning_rate belongs into a recipe" in error_of(files[0], str(path))
    assert "belongs into a cluster file" in error_of(files[1], files[1])


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("run.steps=many", "run.steps: "),
        ("run.steps=-1", "greater than or equal to 0"),
        ("learner.optimizer=sgd", "'adamw' or 'muon'"),
        ("sampling.temperature='hot'", "sampling.temperature"),
        ("run.steps", "expected key=value"),
        ("source.tasks=''", "source.tasks: missing"),
        ("model.init.factory=a:b", "exactly one of"),
    ],
)
def test_a_bad_value_is_one_line_that_names_the_key(files, override, expected):
    assert expected in error_of(*files, [override])


def test_an_unknown_recipe_name_lists_those_shipped():
    message = error_of("ppo_tinny")
    assert message.startswith(
        "recipe 'ppo_tinny' is not shipped; did you mean ppo_tiny? (shipped: credit_ablation_tiny, "
    )


def test_a_missing_file_is_named(files):
    assert "./nowhere.toml: no such file" in error_of("./nowhere.toml", files[1])


def test_the_resolved_run_reads_back_as_it_was(files, tmp_path):
    config = load(files[0], files[1], ["algorithm.options.clip_high=0.3"])
    configs.write_resolved(config, tmp_path)
    assert configs.read_resolved(tmp_path) == config


def test_every_known_key_is_reachable():
    keys = set(configs.known_keys())
    assert {"run.directory", "source.env.factory", "learner.learning_rate", "ray.join"} <= keys
    assert Config.model_fields.keys() <= keys


def test_a_missing_model_folder_is_refused(files):
    with pytest.raises(BadInput, match=r"model\.path: /nowhere: no such folder"):
        check(load(files[0], files[1], ["model.path=/nowhere"]))


def test_a_folder_without_a_model_is_refused(files, tmp_path):
    with pytest.raises(BadInput, match=r"config\.json is missing"):
        check(load(files[0], files[1], [f"model.path={tmp_path}"]))


def test_an_unwritable_run_directory_is_refused(files, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(BadInput, match=r"run\.directory: cannot write"):
        check(load(files[0], files[1], [f"run.directory={blocked}/runs"]))


def test_a_relative_run_directory_is_refused_in_a_submitted_job(files, monkeypatch):
    monkeypatch.setitem(os.environ, "RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    with pytest.raises(BadInput, match="is relative"):
        check(load(files[0], files[1], ["run.directory=runs"]))


def test_a_factory_that_does_not_take_its_options_is_refused(files):
    with pytest.raises(BadInput, match=r"source\.env: .*bogus"):
        check(load(files[0], files[1], ["source.env.options.bogus=1"]))


def test_offline_runs_without_evaluation_ask_for_no_engine(files):
    online = load(files[0], files[1])
    offline = load(files[0], files[1], ["source.demonstrations.factory=envs.toolworld:Demonstrator"])
    assert online.resources()["CPU"] == 3
    assert offline.resources()["CPU"] == 2


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("learner.max_grad_norm=inf", "learner.max_grad_norm: Input should be a finite number, got inf"),
        ("learner.learning_rate=nan", "learner.learning_rate: "),
        ("learner.betas=[0.9, 1.0]", "learner.betas: "),
        ("rollout_pool.max_context=64", "greater than or equal to 128"),
        ("evaluation.tasks=[]", "evaluation.tasks: "),
        ("evaluation.temperatures=[-1.0]", "evaluation.temperatures: "),
    ],
)
def test_numbers_have_bounds(files, override, expected):
    assert expected in error_of(*files, [override])


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["reward.options.preset=x"], "reward: .*preset 'x': expected one of tl_released"),
        (["evaluation.tasks=['heldoutt']"], "evaluation.tasks: task set 'heldoutt': did you mean heldout"),
        (["source.tasks.options.kinds.singel=1"], "source.tasks: .*expected positive weights of single"),
        (["source.tasks.factory=envs.toolworld:Demonstrator"], "source.tasks: "),
        (["source.tasks.factory=envs.types:Message"], "source.tasks: "),
        (["sampling.max_tokens=5000"], "sampling.max_tokens: 5000 do not fit"),
        (
            [
                "source.demonstrations.factory=envs.toolworld:Demonstrator",
                "source.demonstrations.options.error_rates=1",
            ],
            "source.demonstrations: ",
        ),
    ],
)
def test_what_options_are_worth_shows_before_the_run(files, overrides, expected):
    with pytest.raises(BadInput, match=expected) as caught:
        check(load(files[0], files[1], overrides))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("config.json", "{", r"config\.json: not JSON"),
        ("config.json", "[]", "expected a JSON object"),
        ("model.safetensors", None, r"no \*\.safetensors file"),
    ],
)
def test_a_model_folder_that_cannot_be_loaded_is_refused(files, model, name, text, expected):
    if text is None:
        (model / name).unlink()
    else:
        (model / name).write_text(text)
    with pytest.raises(BadInput, match=expected):
        check(load(*files))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"messages": [', "line 2: invalid JSON"),
        ('{"messages": [{"role": "user", "content": "x"}]}', "line 2: messages: expected an assistant message"),
    ],
)
def test_a_corrupt_conversation_is_refused_with_file_and_line(files, tmp_path, line, expected):
    good = '{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}'
    path = tmp_path / "talk.jsonl"
    path.write_text(f"{good}\n{line}\n")
    recipe = tmp_path / "sft.toml"
    recipe.write_text(RECIPE.format(model=tmp_path / "model"))
    overrides = [f"source.conversations={path}", "source.tasks=''"]
    with pytest.raises(BadInput, match=f"source.conversations: {path}, {expected}"):
        check(load(str(recipe), files[1], overrides))
    path.write_text(good)
    check(load(str(recipe), files[1], overrides))


def test_a_corrupt_preference_is_refused_with_file_and_line(files, tmp_path):
    row = {"prompt": [{"role": "user", "content": "x"}]}
    row |= {side: [{"role": "assistant", "content": side}] for side in ("chosen", "rejected")}
    path = tmp_path / "pairs.jsonl"
    overrides = [f"source.preferences={path}", "source.tasks=''"]
    config = load(files[0], files[1], overrides)
    assert config.source.offline
    for text, expected in (
        (json.dumps(row) + "\n" + json.dumps(row | {"rejected": []}), f"{path}, line 2: rejected: expected messages"),
        ("", f"{path}: the file holds no preferences"),
    ):
        path.write_text(text)
        with pytest.raises(BadInput, match=f"source.preferences: {expected}"):
            check(config)
    path.write_text(json.dumps(row))
    check(config)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["source.preferences=a"], "source.preferences: stands alone, without source.tasks"),
        (["source.preferences=a", "source.conversations=b", "source.tasks=''"], "without source.conversations"),
    ],
)
def test_preferences_stand_alone(files, overrides, message):
    assert message in error_of(*files, overrides)


def test_checking_a_run_directory_leaves_nothing_there(tmp_path):
    configs.check_directory(tmp_path / "new" / "runs")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def layered(model):
    """The model folder with weights of one layer."""
    from safetensors.numpy import save_file

    names = ("embed_tokens", "layers.0.self_attn.q_proj", "layers.0.self_attn.v_proj", "layers.0.mlp.up_proj")
    weights = {f"model.{name}.weight": np.zeros((4, 2), np.float32) for name in names}
    save_file({**weights, "model.layers.0.norm.weight": np.zeros(4, np.float32)}, model / "model.safetensors")
    return model


def test_an_adapter_is_for_linear_layers_that_the_model_has(files, layered):
    check(load(files[0], files[1], ["model.lora.rank=4", "model.lora.target_modules=['q_proj', 'up_proj']"]))
    with pytest.raises(BadInput) as caught:
        check(load(files[0], files[1], ["model.lora.rank=4", "model.lora.target_modules=['q_proj', 'qv_proj']"]))
    assert str(caught.value) == (
        f"model.lora.target_modules: 'qv_proj' is no linear layer of {layered}; did you mean v_proj? "
        "(its layers: q_proj, up_proj, v_proj)"
    )
    with pytest.raises(BadInput, match="'norm' is no linear layer"):
        check(load(files[0], files[1], ["model.lora.rank=4", "model.lora.target_modules=['norm']"]))


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("model.lora.rank=-1", "model.lora.rank: "),
        ("model.lora.rank=513", "model.lora.rank: "),
        ("model.lora.dropout=1.0", "model.lora.dropout: "),
        ("model.lora.target_modules=q_proj", "model.lora.target_modules: "),
        ("model.lora.rnak=4", "did you mean model.lora.rank?"),
    ],
)
def test_settings_of_an_adapter_are_checked(files, override, expected):
    assert expected in error_of(*files, [override])


def test_engines_on_accelerators_serve_adapters_in_half_precision_only(files, layered):
    words = ["model.lora.rank=4", "rollout_pool.num_gpus_per_worker=1"]
    with pytest.raises(BadInput, match=r"rollout_pool\.dtype: fp32"):
        check(load(files[0], files[1], words))
    check(load(files[0], files[1], [*words, "rollout_pool.dtype=bf16"]))


def test_a_run_is_resumed_with_its_own_adapter(files, layered, tmp_path):
    configs.write_resolved(load(files[0], files[1], ["model.lora.rank=4"]), tmp_path)
    with pytest.raises(BadInput, match=r"model\.lora\.rank: 8, but the run to resume began with 4"):
        check(configs.load_resumed(tmp_path, "", ["model.lora.rank=8"]))
    with pytest.raises(BadInput, match=r"model\.lora\.rank: 0, but"):
        check(configs.load_resumed(tmp_path, "", ["model.lora.rank=0"]))
    check(configs.load_resumed(tmp_path, "", ["model.lora.dropout=0.1", "learner.learning_rate=1e-5"]))


@pytest.fixture
def adapter(tmp_path, layered):
    folder = tmp_path / "adapter"
    folder.mkdir()
    config = {"peft_type": "LORA", "r": 4, "base_model_name_or_path": str(layered)}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "adapter_model.safetensors").write_text("")
    return folder


def test_a_run_may_start_from_an_adapter_and_one_on_top_is_for_the_layers_of_its_base(files, adapter):
    check(
        load(files[0], files[1], [f"model.path={adapter}", "model.lora.rank=2", "model.lora.target_modules=['q_proj']"])
    )
    assert configs.for_model(str(adapter)).model.path == str(adapter)
    with pytest.raises(BadInput, match="'x' is no linear layer"):
        check(
            load(files[0], files[1], [f"model.path={adapter}", "model.lora.rank=2", "model.lora.target_modules=['x']"])
        )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"base_model_name_or_path": "/nowhere"}, "'/nowhere': no such folder; name the one"),
        ({"base_model_name_or_path": None}, "None: no such folder"),
        ({"peft_type": "IA3"}, "peft_type 'IA3': expected 'LORA'"),
        ({"peft_type": ...}, "expected peft's JSON with"),
    ],
)
def test_an_adapter_without_its_base_is_refused(files, adapter, change, expected):
    path = adapter / "adapter_config.json"
    config = json.loads(path.read_text()) | change
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not ...}))
    with pytest.raises(BadInput, match=expected) as caught:
        configs.for_model(str(adapter))
    assert "\n" not in str(caught.value)


def test_an_adapter_without_weights_is_refused(adapter):
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(BadInput, match=r"the adapter has no adapter_model\.safetensors"):
        configs.for_model(str(adapter))


@pytest.mark.parametrize(
    ("algorithm", "message"),
    [
        ("ppo:PPO", "learns from rollouts; expected rollouts, got source.demonstrations"),
        ("grpo:GRPO", "learns from rollouts; expected rollouts, got source.demonstrations"),
        ("dpo:DPO", "learns from scores; expected rollouts or source.preferences, got source.demonstrations"),
    ],
)
def test_an_algorithm_that_cannot_learn_from_the_source_is_refused(files, algorithm, message):
    demonstrations = "source.demonstrations.factory=envs.toolworld:Demonstrator"
    with pytest.raises(BadInput, match=message):
        check_algorithm(load(files[0], files[1], [demonstrations, f"algorithm.factory=rl.algorithms.{algorithm}"]))


def test_sft_learns_from_anything(files):
    for words in ([], ["source.demonstrations.factory=envs.toolworld:Demonstrator"]):
        check_algorithm(load(files[0], files[1], [*words, "algorithm.factory=rl.algorithms.sft:SFT"]))
