from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.detection.sentences import MAX_CHARACTERS, split


def texts(text):
    return [sentence.text for sentence in split(text)]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("It costs 3.50 dollars. Cheap.", ["It costs 3.50 dollars.", "Cheap."]),
        ("Dr. Smith met Mr. J. R. Jones, i.e. a friend. He left.", None),
        ("He works at Acme Inc. She does not.", ["He works at Acme Inc.", "She does not."]),
        ("Use apples, pears, etc. and water.", ["Use apples, pears, etc. and water."]),
        ("See version 2.0.1 of e.g. this. Done.", ["See version 2.0.1 of e.g. this.", "Done."]),
        ('He said "Stop." Then he left.', ['He said "Stop."', "Then he left."]),
        ("1. First thing\n2. Second thing", ["First thing", "Second thing"]),
        ("- one\n- two", ["one", "two"]),
        ("Visit www.example.com now. Thanks.", ["Visit www.example.com now.", "Thanks."]),
        ("Wait... what? Yes.", ["Wait...", "what?", "Yes."]),
        ("今天是晴天。明天呢？不知道！", ["今天是晴天。", "明天呢？", "不知道！"]),
        ("圆周率是3.14；约等于22/7。", ["圆周率是3.14；", "约等于22/7。"]),
        ("他说：“走吧。”然后走了", ["他说：“走吧。”", "然后走了"]),
        ("一、苹果\n二、梨", ["一、苹果", "二、梨"]),
        ("no end mark", ["no end mark"]),
        ("", []),
        ("...\n---", []),
        ("At 5 p.m. we left. It rained.", ["At 5 p.m. we left.", "It rained."]),
        ("The U.S. Army won. Good.", None),
    ],
)
def test_sentences_of_english_and_chinese(text, sentences):
    if sentences is None:
        assert len(split(text)) == 2
    else:
        assert texts(text) == sentences


def test_a_block_of_code_is_one_sentence():
    text = "Here it is.\n```python\nx = 1. \ny = 2; z = 3\n```\nDone."
    assert texts(text) == ["Here it is.", "```python\nx = 1. \ny = 2; z = 3\n```", "Done."]


@given(st.text(alphabet="aB1 .。!?；\n\"”'()-…三", max_size=60))
def test_sentences_are_in_order_and_lose_no_word(text):
    found = split(text)
    assert all(text[one.start : one.end] == one.text for one in found)
    assert all(before.end <= after.start for before, after in pairwise(found))
    kept = sum(character.isalpha() for one in found for character in one.text)
    assert kept == sum(character.isalpha() for character in text)


def test_too_long_a_text_is_refused():
    with pytest.raises(ValueError, match="expected at most"):
        split("a" * (MAX_CHARACTERS + 1))
