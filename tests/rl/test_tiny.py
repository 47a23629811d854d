import json

import pytest
import torch
from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

from rl import tiny
from rollout.renderer import load_renderer, prove_prefix_property

TEXTS = [
    "find_hotel_room(city: string)\nfind the hotel room in Paris with 12 nights",
    '{"city": "Paris", "nights": 12}',
] * 50


def small_model(num_heads: int = 4, num_kv_heads: int = 1) -> Qwen2ForCausalLM:
    return tiny.make_model(
        vocab_size=300,
        hidden_size=64,
        num_layers=2,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        intermediate_size=96,
        max_context=128,
        pad_token_id=0,
        eos_token_id=2,
        seed=0,
    )


def test_a_value_is_the_same_tokens_in_request_and_call():
    tokenizer = tiny.train_tokenizer(iter(TEXTS), 400)
    (city,) = tokenizer.encode("Paris")
    for text in ("in Paris with", '{"city": "Paris"}', "city: Paris.", "Paris"):
        assert city in tokenizer.encode(text)


def test_no_token_of_a_number_has_more_than_two_digits():
    tokenizer = tiny.train_tokenizer(iter(["123456 2026 2026 2026"] * 100), 400)
    assert max(len(tokenizer.decode([token])) for token in tokenizer.encode("2026")) == 2
    assert all(len(tokenizer.decode([token])) <= 2 for token in tokenizer.encode("123456789"))


@pytest.mark.parametrize("text", ['x = {"a": [1, 2.5], "b": "caf\u00e9"}\n', "getFilmInfo (now!)", "  \t\n"])
def test_any_text_survives_the_tokenizer(text):
    tokenizer = tiny.train_tokenizer(iter(TEXTS), 400)
    assert tokenizer.decode(tokenizer.encode(text), clean_up_tokenization_spaces=False) == text


@pytest.mark.parametrize(("num_heads", "num_kv_heads"), [(4, 1), (4, 2)])
def test_heads_of_the_first_layer_look_one_two_and_three_positions_back(num_heads, num_kv_heads):
    model = small_model(num_heads, num_kv_heads)
    model.set_attn_implementation("eager")
    token_ids = torch.randint(7, 300, (1, 40), generator=torch.Generator().manual_seed(1))
    weights = model.model(input_ids=token_ids, output_attentions=True).attentions[0][0]  # [H, T, T]
    for head, distance in enumerate((1, 2, 3)):
        assert (weights[head, 10:].argmax(-1) == torch.arange(10, 40) - distance).float().mean() > 0.9


def test_copied_tokens_repeat_an_earlier_span():
    token_ids, copied = tiny.copy_batch(torch.Generator().manual_seed(0), rows=8, length=64, vocab_size=100_000)
    assert copied.any()
    for row, position in copied.nonzero().tolist():
        pair = token_ids[row, position - 1 : position + 1].tolist()
        earlier = token_ids[row, : position - 1].tolist()
        assert any(earlier[i : i + 2] == pair for i in range(len(earlier)))


def test_the_built_model_loads_with_its_own_tokenizer_and_its_template_is_append_only(tmp_path):
    tiny.build(tmp_path, num_layers=2, hidden_size=64, num_heads=2, intermediate_size=64, num_texts=50, priming_steps=2)
    renderer = load_renderer(str(tmp_path))
    prove_prefix_property(renderer)
    trained = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    text = 'find the hotel_room for 2026-10-30: {"city": "Paris"}\n'
    assert renderer.encode(text) == trained.encode(text)
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "config.json").stat().st_mode
    assert renderer.max_context == json.loads((tmp_path / "config.json").read_text())["max_position_embeddings"]


def test_a_chinese_character_is_one_token_whatever_stands_beside_it():
    texts = ["一共有三个苹果。", "苹果三个。一共。", '{"sentences":{"1":"一共三个苹果。"}}'] * 50
    tokenizer = tiny.train_tokenizer(iter(texts), 500)
    for text in ("一共", "共一", '"苹果"'):
        tokens = [str(tokenizer.decode([token])) for token in tokenizer.encode(text)]
        assert [token for token in tokens if token >= "\u4e00"] == [letter for letter in text if letter >= "\u4e00"]


DETECTION = {
    "tasks": {"factory": "envs.detection.tasks:DetectionTasks", "options": {"kinds": {"dates": 1.0}}},
    "env": {"factory": "envs.detection.env:DetectionEnv"},
    "demonstrations": {"factory": "envs.detection.demonstrator:Demonstrator"},
}


def test_the_corpus_says_what_the_tokenizer_is_made_for():
    texts = "".join(tiny.texts_of(DETECTION, 8, seed=0))
    assert "calculator(sentence?: integer)" in texts and "星期" in texts and "get_answer" in texts
    assert "get_answer" not in "".join(tiny.texts_of(tiny.CORPUS, 2, seed=0))


def test_a_corpus_that_lacks_a_part_is_refused():
    with pytest.raises(ValueError, match="expected tasks, env, demonstrations"):
        list(tiny.texts_of({"tasks": DETECTION["tasks"]}, 1, seed=0))
